package launcher

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what a container uses of the host at one moment.
type Usage struct {
	At          time.Time
	CPU         time.Duration // of all CPUs, since the container was started
	Memory      uint64        // bytes, without the page cache that can go at once
	MemoryLimit uint64        // bytes; the host's memory if there is no lower limit

	NetReceived, NetSent  uint64 // bytes since it was started, all interfaces but lo; 0 in the host's network
	BlockRead, BlockWrite uint64 // bytes since it was started
	PIDs                  uint64 // processes and threads
}

// Measure reads the usage of the container with a cgroup (store.Record.Cgroup)
// from the kernel. ok is false if it does not run.
func Measure(cgroup string) (u Usage, ok bool) {
	if dirs, err := cgroupDirs(cgroup); err != nil || len(dirs) == 0 {
		return u, false
	}
	u.At = time.Now()
	var procs []byte
	if exists(filepath.Join(cgroupfs, "cgroup.controllers")) {
		dir := filepath.Join(cgroupfs, cgroup)
		u.unified(dir)
		procs, _ = os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	} else {
		u.hierarchies(cgroupfs, cgroup)
		procs, _ = os.ReadFile(filepath.Join(cgroupfs, "pids", cgroup, "cgroup.procs"))
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		u.MemoryLimit = min(u.MemoryLimit, uint64(info.Totalram)*uint64(info.Unit))
	}
	u.network(string(procs))
	return u, u.PIDs > 0
}

// unified reads the files of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst).
func (u *Usage) unified(dir string) {
	read := func(name string) string {
		b, _ := os.ReadFile(filepath.Join(dir, name))
		return string(b)
	}
	u.CPU = time.Duration(keyed(read("cpu.stat"), "usage_usec")) * time.Microsecond
	u.Memory = number(read("memory.current"))
	u.Memory -= min(u.Memory, keyed(read("memory.stat"), "inactive_file"))
	u.MemoryLimit = limitOf(read("memory.max"))
	u.PIDs = number(read("pids.current"))
	for f := range strings.FieldsSeq(read("io.stat")) {
		if v, ok := strings.CutPrefix(f, "rbytes="); ok {
			u.BlockRead += number(v)
		} else if v, ok := strings.CutPrefix(f, "wbytes="); ok {
			u.BlockWrite += number(v)
		}
	}
}

// hierarchies reads the files of cgroup v1 (Documentation/admin-guide/cgroup-v1).
func (u *Usage) hierarchies(root, cgroup string) {
	read := func(controller, name string) string {
		b, _ := os.ReadFile(filepath.Join(root, controller, cgroup, name))
		return string(b)
	}
	u.CPU = time.Duration(number(read("cpuacct", "cpuacct.usage")))
	u.Memory = number(read("memory", "memory.usage_in_bytes"))
	u.Memory -= min(u.Memory, keyed(read("memory", "memory.stat"), "total_inactive_file"))
	u.MemoryLimit = limitOf(read("memory", "memory.limit_in_bytes"))
	u.PIDs = number(read("pids", "pids.current"))
	// The first is there only with some I/O schedulers.
	for _, name := range []string{"blkio.bfq.io_service_bytes_recursive", "blkio.io_service_bytes_recursive", "blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"} {
		for line := range strings.Lines(read("blkio", name)) {
			switch f := strings.Fields(line); {
			case len(f) != 3:
			case f[1] == "Read":
				u.BlockRead += number(f[2])
			case f[1] == "Write":
				u.BlockWrite += number(f[2])
			}
		}
		if u.BlockRead+u.BlockWrite > 0 {
			return
		}
	}
}

// network reads the counters of the network namespace of one of the
// container's processes.
func (u *Usage) network(procs string) {
	host, _ := os.Readlink("/proc/thread-self/ns/net")
	tries := 0
	for pid := range strings.FieldsSeq(procs) {
		if tries++; tries > 4 { // it may just end, but not all of them
			return
		}
		own, err := os.Readlink(fmt.Sprintf("/proc/%.20s/ns/net", pid))
		if err != nil {
			continue
		}
		if own == host {
			return
		}
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%.20s/net/dev", pid)); err == nil {
			u.interfaces(string(b))
			return
		}
	}
}

// interfaces adds up the lines of /proc/PID/net/dev.
func (u *Usage) interfaces(dev string) {
	for line := range strings.Lines(dev) {
		name, counters, ok := strings.Cut(line, ":")
		f := strings.Fields(counters)
		if !ok || len(f) < 9 || strings.TrimSpace(name) == "lo" {
			continue
		}
		u.NetReceived += number(f[0])
		u.NetSent += number(f[8])
	}
}

func number(s string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimSpace(s), 10, 64)
	return n
}

// limitOf reads a limit; "max" and what is missing are none.
func limitOf(s string) uint64 {
	if n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 64); err == nil {
		return n
	}
	return math.MaxUint64
}

// keyed gives the value of a line "key value".
func keyed(text, key string) uint64 {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, key+" "); ok {
			return number(v)
		}
	}
	return 0
}

// Processes are the numbers on the host of all processes in a container's
// cgroup (store.Record.Cgroup) and those below it; nil if there are none.
func Processes(cgroup string) []int {
	dirs, err := cgroupDirs(cgroup)
	if err != nil {
		return nil
	}
	var pids []int
	for _, d := range dirs {
		_ = filepath.WalkDir(d, func(p string, e fs.DirEntry, err error) error {
			if err != nil || !e.IsDir() {
				return nil // a file, or a group that has just been removed
			}
			b, _ := os.ReadFile(filepath.Join(p, "cgroup.procs"))
			for f := range strings.FieldsSeq(string(b)) {
				if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
					pids = append(pids, pid)
				}
			}
			return nil
		})
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}
