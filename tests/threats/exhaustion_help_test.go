package threats

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/host"
	"github.com/safe-run/safe-run/spec"
)

// unified says whether the host has cgroup v2 alone.
func unified() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// cgroupOf is the directory of a process's cgroup of a controller (v1; with v2
// there is one for all).
func cgroupOf(t *testing.T, pid, controller string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines(string(b)) {
		f := strings.SplitN(l, ":", 3)
		switch {
		case unified() && f[0] == "0":
			return filepath.Join("/sys/fs/cgroup", f[2])
		case !unified() && f[1] == controller:
			return filepath.Join("/sys/fs/cgroup", controller, f[2])
		}
	}
	t.Fatalf("process %s has no cgroup of %s: %s", pid, controller, b)
	return ""
}

// limitOf is what a file of a process's cgroup says, of which v1 and v2 have
// different names.
func limitOf(t *testing.T, pid, controller, v1, v2 string) string {
	t.Helper()
	file := v1
	if unified() {
		file = v2
	}
	b, err := os.ReadFile(filepath.Join(cgroupOf(t, pid, controller), file))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// memoryLimits are those in force: of memory, and of swap beyond it.
func memoryLimits(t *testing.T, pid string) (memory, swap string) {
	t.Helper()
	memory = limitOf(t, pid, "memory", "memory.limit_in_bytes", "memory.max")
	swap = limitOf(t, pid, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max")
	if !unified() && swap == memory {
		swap = "0" // v1 counts both together
	}
	return memory, swap
}

// stateOf is a field of inspect's State.
func stateOf(name, field string) string {
	return strings.TrimSpace(here.Run("inspect", "--format", "{{.State."+field+"}}", name).Stdout)
}

// ended waits for the end of a container.
func ended(t *testing.T, name string) {
	t.Helper()
	patient(t, func() error {
		if s := stateOf(name, "Status"); s != "exited" {
			return fmt.Errorf("%s is %q", name, s)
		}
		return nil
	})
}

// anonymousKiB is the memory of a process that is in no file.
func anonymousKiB(pid int) int {
	n, _ := strconv.Atoi(strings.TrimSuffix(statusOf(strconv.Itoa(pid), "RssAnon"), " kB"))
	return n
}

// supervisorOf is the process that has a container in the background: it
// holds the container's lock.
func supervisorOf(t *testing.T, id string) (pid int) {
	t.Helper()
	patient(t, func() error {
		lock, err := os.Stat(filepath.Join(here.State, "live", id))
		if err != nil {
			return err
		}
		all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, c := range all {
			if b, err := os.ReadFile(c); err != nil || !strings.HasPrefix(string(b), "safe-run\x00__supervise") {
				continue
			}
			fds, _ := filepath.Glob(filepath.Dir(c) + "/fd/*")
			for _, f := range fds {
				if st, err := os.Stat(f); err == nil && os.SameFile(st, lock) {
					pid, err = strconv.Atoi(filepath.Base(filepath.Dir(c)))
					return err
				}
			}
		}
		return fmt.Errorf("nobody supervises %s", id)
	})
	return pid
}

// sizeOf the files below a directory, in bytes.
func sizeOf(dir string) (n int64) {
	_ = filepath.Walk(dir, func(_ string, st os.FileInfo, err error) error {
		if err == nil && st.Mode().IsRegular() {
			n += st.Size()
		}
		return nil
	})
	return n
}

// input is what a specification is built from, on this host.
func input() spec.Input {
	return spec.Input{
		ID:     strings.Repeat("0123456789abcdef", 4),
		Image:  spec.Image{Name: "docker.io/library/busybox:latest", OS: "linux", Cmd: []string{"true"}},
		IDs:    spec.IDBlock{HostUID: 10_000_000, HostGID: 10_000_000, Size: 65536},
		Host:   host.Probe(),
		Limits: spec.DefaultLimits(),
		Files:  spec.HostFiles{Hosts: "/x/hosts", Hostname: "/x/hostname", ResolvConf: "/x/resolv.conf"},

		AppArmorProfile: "safe-run-x", // nothing is started with it
	}
}
