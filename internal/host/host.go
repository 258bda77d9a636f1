// Package host asks the host, once, what it can do.
package host

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/spec"
)

// Probe gives the features of this host. It reads some twenty small files of
// procfs and sysfs and never fails: what cannot be read is a feature that is
// not there, which the caller refuses to do without.
func Probe() spec.Features {
	f := At("/")
	f.NofileHard = nofileHard()
	f.HasResource = hasCapability(unix.CAP_SYS_RESOURCE)
	if !f.HasResource {
		n, _ := strconv.Atoi(reader("/").line("proc/self/oom_score_adj"))
		f.OOMScoreAdj = max(n, 0)
	}
	return f
}

// At is Probe for the procfs and sysfs below root, without what only the
// kernel says of this process (NofileHard, HasResource, OOMScoreAdj).
func At(root string) spec.Features {
	r := reader(root)
	f := spec.Features{
		Arch:     runtime.GOARCH,
		Kernel:   kernel(r.line("proc/sys/kernel/osrelease")),
		CPUSet:   r.line("sys/devices/system/cpu/online"),
		MemSet:   r.line("sys/devices/system/node/online"),
		AppArmor: r.line("sys/module/apparmor/parameters/enabled") == "Y",
		// selinuxfs is mounted there on every system that has SELinux on.
		SELinux: r.exists("sys/fs/selinux/enforce"),
		Seccomp: r.exists("proc/sys/kernel/seccomp/actions_avail"),
		TimeNS:  r.exists("proc/self/ns/time"),
		IPv6:    r.exists("proc/sys/net/ipv6"), // not with ipv6.disable=1
	}
	f.CPUs = len(List(f.CPUSet))
	if f.CPUs == 0 {
		f.CPUs = runtime.NumCPU()
		f.CPUSet = "0-" + strconv.Itoa(f.CPUs-1)
	}
	if len(List(f.MemSet)) == 0 {
		f.MemSet = "0" // a kernel without NUMA has no such directory
	}
	f.CgroupV2 = r.exists("sys/fs/cgroup/cgroup.controllers")
	if f.CgroupV2 {
		f.Controllers, f.SwapLimit = r.unified()
	} else {
		f.Controllers, f.SwapLimit = r.legacy()
	}
	f.MaskPaths = r.thermal()
	return f
}

// reader reads below a directory.
type reader string

func (r reader) path(p string) string { return filepath.Join(string(r), p) }

func (r reader) exists(p string) bool {
	var st unix.Stat_t
	return unix.Stat(r.path(p), &st) == nil
}

// text reads the beginning of a file; these files are small.
func (r reader) text(p string) string {
	fd, err := unix.Open(r.path(p), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer func() { _ = unix.Close(fd) }()
	buf := make([]byte, 8192)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

func (r reader) line(p string) string { return strings.TrimSpace(r.text(p)) }

// kernel parses "6.18.5-amd64" into 6, 18.
func kernel(s string) (v [2]int) {
	for i := range v {
		end := 0
		for end < len(s) && s[end] >= '0' && s[end] <= '9' {
			end++
		}
		n, err := strconv.Atoi(s[:end])
		if err != nil {
			return v
		}
		v[i] = n
		s = strings.TrimPrefix(s[end:], ".")
	}
	return v
}

// controllers are those a container's limits need, by their names in both
// versions of the cgroup interface; blkio became io, and devices a BPF program.
var controllers = struct{ v1, v2 []string }{
	v1: []string{"memory", "pids", "cpu", "cpuset", "blkio", "devices"},
	v2: []string{"memory", "pids", "cpu", "cpuset", "io"},
}

// unified looks at a cgroup v2 host.
func (r reader) unified() (usable map[string]bool, swap bool) {
	usable = map[string]bool{"devices": true}
	have := strings.Fields(r.text("sys/fs/cgroup/cgroup.controllers"))
	for _, c := range controllers.v2 {
		usable[c] = slices.Contains(have, c)
	}
	// The root cgroup has no memory.swap.max. A cgroup with the memory
	// controller has one if the kernel accounts swap: look at our own, or at
	// one systemd always makes.
	own := ""
	for l := range strings.Lines(r.text("proc/self/cgroup")) {
		if p, ok := strings.CutPrefix(strings.TrimSpace(l), "0::/"); ok && !slices.Contains(strings.Split(p, "/"), "..") {
			own = p
		}
	}
	for dir := own; dir != "" && dir != "."; dir = filepath.Dir(dir) {
		if r.exists("sys/fs/cgroup/" + dir + "/memory.max") {
			return usable, usable["memory"] && r.exists("sys/fs/cgroup/"+dir+"/memory.swap.max")
		}
	}
	for _, dir := range []string{"system.slice", "init.scope", "user.slice"} {
		if r.exists("sys/fs/cgroup/" + dir + "/memory.max") {
			return usable, usable["memory"] && r.exists("sys/fs/cgroup/"+dir+"/memory.swap.max")
		}
	}
	// No cgroup to look at: swap is accounted unless the command line says
	// otherwise (Documentation/admin-guide/kernel-parameters.txt).
	args := strings.Fields(r.text("proc/cmdline"))
	off := slices.Contains(args, "swapaccount=0") || slices.Contains(args, "cgroup.memory=noswap")
	return usable, usable["memory"] && r.exists("proc/swaps") && !off
}

// legacy looks at a cgroup v1 (or hybrid) host. A controller counts if it is
// mounted where runtimes look for it.
func (r reader) legacy() (usable map[string]bool, swap bool) {
	usable = map[string]bool{}
	mounted := map[string]bool{}
	for l := range strings.Lines(r.text("proc/self/cgroup")) {
		if f := strings.SplitN(l, ":", 3); len(f) == 3 {
			for c := range strings.SplitSeq(f[1], ",") {
				mounted[c] = true
			}
		}
	}
	for _, c := range controllers.v1 {
		usable[c] = mounted[c] && r.exists("sys/fs/cgroup/"+c+"/cgroup.procs")
	}
	return usable, usable["memory"] && r.exists("sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
}

// thermal gives the per-CPU counters of thermal events, which tell one
// container what the others compute (moby GHSA-6fw5-f8r9-fgfm). Either all
// CPUs have them or none, so mostly one look is enough.
func (r reader) thermal() []string {
	const dir = "sys/devices/system/cpu/cpu"
	if !r.exists(dir + "0/thermal_throttle") {
		return nil
	}
	var out []string
	for _, n := range List(r.line("sys/devices/system/cpu/possible")) {
		p := dir + strconv.Itoa(n) + "/thermal_throttle"
		if r.exists(p) {
			out = append(out, "/"+p)
		}
	}
	return out
}

// List parses the kernel's list form of CPUs or memory nodes ("0-3,8"). It is
// nil if s is not such a list or names a number above 65535.
func List(s string) []int {
	if s == "" {
		return nil
	}
	var out []int
	for part := range strings.SplitSeq(s, ",") {
		lo, hi, isRange := strings.Cut(part, "-")
		a, err := strconv.ParseUint(lo, 10, 16)
		if err != nil {
			return nil
		}
		b := a
		if isRange {
			if b, err = strconv.ParseUint(hi, 10, 16); err != nil || b < a {
				return nil
			}
		}
		if len(out)+int(b-a) > 1<<16 {
			return nil
		}
		for n := a; n <= b; n++ {
			out = append(out, int(n))
		}
	}
	return out
}

func nofileHard() uint64 {
	// syscall.Getrlimit would do; Prlimit does not go through the Go runtime's
	// own idea of the soft limit.
	var lim unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &lim); err != nil {
		return 0
	}
	return lim.Max
}

func hasCapability(c int) bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3, Pid: int32(os.Getpid())}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return false
	}
	return data[c/32].Effective&(1<<(c%32)) != 0
}
