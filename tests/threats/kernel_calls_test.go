package threats

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/profiles"
)

// filters are finished ones: the built-in filter for all sorts of containers,
// and those of the profiles that come along.
func filters(t *testing.T) map[string]*specs.LinuxSeccomp {
	t.Helper()
	of := map[string]*specs.LinuxSeccomp{}
	for _, flags := range [][]string{
		nil, {"-u", "1000"}, {"--cap-add", "NET_RAW", "--cap-add", "SYS_CHROOT", "--cap-add", "SETFCAP"}, {"-v", here.Dir + "/f-src:/src"}, {"-t"},
	} {
		if err := os.MkdirAll(filepath.Join(here.Dir, "f-src"), 0o755); err != nil {
			t.Fatal(err)
		}
		s, _ := drySpec(t, flags...)
		of[fmt.Sprint(flags)] = s.Linux.Seccomp
	}
	for _, arch := range []string{"amd64", "arm64", "riscv64", "s390x", "ppc64le", "loong64"} {
		of[arch] = profiles.Seccomp(profiles.Options{Arch: arch, Kernel: [2]int{6, 18}})
	}
	for name, f := range of {
		if f == nil || len(f.Syscalls) == 0 {
			t.Fatalf("%s: no filter", name)
		}
	}
	return of
}

// permitted are the rules of a filter that let a call through.
func permitted(f *specs.LinuxSeccomp, call string) (rules []specs.LinuxSyscall) {
	for _, r := range f.Syscalls {
		if slices.Contains(r.Names, call) && r.Action != specs.ActErrno && r.Action != specs.ActKill &&
			r.Action != specs.ActKillProcess && r.Action != specs.ActKillThread && r.Action != specs.ActTrap {
			rules = append(rules, r)
		}
	}
	return rules
}

// seccompFile makes a filter in docker's form: what the built-in one permits,
// without its conditions, and then changed.
func seccompFile(t *testing.T, change func(*specs.LinuxSeccomp)) string {
	t.Helper()
	s, _ := drySpec(t)
	f := s.Linux.Seccomp
	f.Architectures = nil
	all := specs.LinuxSyscall{Action: specs.ActAllow}
	for _, r := range f.Syscalls {
		if r.Action == specs.ActAllow {
			all.Names = append(all.Names, r.Names...)
		}
	}
	slices.Sort(all.Names)
	all.Names = slices.Compact(all.Names)
	f.Syscalls = []specs.LinuxSyscall{all}
	if change != nil {
		change(f)
	}
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	return wrote(t, "seccomp.json", string(b))
}

func TestK11(t *testing.T) {
	row(t, "K11")
	for name, f := range filters(t) {
		for _, r := range f.Syscalls {
			same := r.Action == f.DefaultAction && (r.ErrnoRet == nil || f.DefaultErrnoRet != nil && *r.ErrnoRet == *f.DefaultErrnoRet)
			if same {
				t.Errorf("%s: a rule of %q that the runtime leaves out", name, r.Names)
			}
		}
	}
	eperm := uint(unix.EPERM)
	vsock := []specs.LinuxSeccompArg{{Index: 0, Value: unix.AF_VSOCK, Op: specs.OpEqualTo}}
	deny := specs.LinuxSyscall{Names: []string{"socket"}, Action: specs.ActErrno, ErrnoRet: &eperm, Args: vsock}
	// All sockets permitted, one family denied with the default's own errno:
	// the denial would be lost.
	contradicting := seccompFile(t, func(f *specs.LinuxSeccomp) {
		f.Syscalls = append(f.Syscalls, deny)
	})
	refused(t, "seccomp-profile", []string{"--security-opt", "seccomp=" + contradicting})
	// Without the denial it is still the built-in list of families.
	wide := seccompFile(t, func(f *specs.LinuxSeccomp) {
		f.Syscalls = append(f.Syscalls, specs.LinuxSyscall{Names: []string{"socketcall"}, Action: specs.ActAllow})
	})
	of := verdicts(t, "--security-opt", "seccomp="+wide)
	verdictIs(t, "a file that permits all sockets", of, "blocked", "socket-families", "socketpair-families", "netlink-protocols", "tiocsti", "clone-user", "abi-int80")
}

func TestK12(t *testing.T) {
	row(t, "K12")
	stopped(t, "netlink-protocols", "socket-key", "socket-rxrpc", "add_key")
	inModes(t, nil, "ip -o addr show dev lo | grep -c 127.0.0.1/8; ip route | grep -c default", prints("1\n1\n"))
}

func TestK13(t *testing.T) {
	row(t, "K13")
	probed(t, "socket-vsock") // the filter answers before the kernel says whether it has the family
	if out := outside(t)["socket-vsock"]; out.Verdict == "blocked" {
		t.Errorf("outside it is blocked too: %+v", out)
	}
}

func TestK14(t *testing.T) {
	row(t, "K14")
	stopped(t, "io_uring", "io_uring_register", "io_uring_enter")
	for _, call := range []string{"io_uring_setup", "io_uring_enter", "io_uring_register"} {
		file := seccompFile(t, func(f *specs.LinuxSeccomp) {
			f.Syscalls = append(f.Syscalls, specs.LinuxSyscall{Names: []string{call}, Action: specs.ActAllow})
		})
		refused(t, "seccomp-profile", []string{"--security-opt", "seccomp=" + file})
	}
}

func TestK15(t *testing.T) {
	row(t, "K15")
	stopped(t, "userfaultfd")
	probed(t, "dev-userfaultfd")
	refused(t, "", []string{"--device", "/dev/userfaultfd"})
}

func TestK16(t *testing.T) {
	row(t, "K16")
	stopped(t, "bpf", "perf")
	refused(t, "cap-host-only", []string{"--cap-add", "BPF"}, []string{"--cap-add", "PERFMON"})
	refused(t, "capability", []string{"--cap-add", "SYS_ADMIN"})
	// What a site can grant of them brings neither back.
	granted(t, "capabilities: [SYS_ADMIN]")
	of := verdicts(t, "--cap-add", "SYS_ADMIN")
	verdictIs(t, "with SYS_ADMIN", of, "OPEN", "capabilities")
	verdictIs(t, "with SYS_ADMIN", of, "blocked", "bpf", "perf", "io_uring", "keyctl", "userfaultfd", "clone-user", "unshare-user", "finit_module", "kexec_load", "mknod-block", "core_pattern", "cgroup-mkdir")
}

func TestK17(t *testing.T) {
	row(t, "K17")
	stopped(t, "keyctl", "add_key", "request_key")
	inModes(t, nil, "cat /proc/keys /proc/key-users", prints(""))
	// A keyring counts for the container's own user on the host, and is gone with it.
	detached(t, "k17-key", denImage, "sleep", "600")
	if uid := strings.Fields(here.Run("exec", "k17-key", "cat", "/proc/self/uid_map").Stdout)[1]; keyUsers(t)[uid] == 0 {
		t.Errorf("user %s has no keys: whose is the session keyring?", uid)
	}
	used := map[string]int{}
	const launches = 4
	for range launches {
		before := keyUsers(t)
		a := here.Run("run", "--rm", "busybox", "cat", "/proc/self/uid_map")
		f := strings.Fields(a.Stdout)
		if a.Code != 0 || len(f) != 3 {
			t.Fatal(a)
		}
		if _, again := used[f[1]]; !again {
			used[f[1]] = before[f[1]]
		}
	}
	// Containers of other engines on this machine may have the same ids.
	const others = 2
	patient(t, func() error {
		now, more := keyUsers(t), 0
		for uid, before := range used {
			more += max(0, now[uid]-before)
		}
		if more > others {
			return fmt.Errorf("%d keys more after %d containers", more, launches)
		}
		return nil
	})
}

// keyUsers is how many keys each user of the host has.
func keyUsers(t *testing.T) map[string]int {
	t.Helper()
	b, err := os.ReadFile("/proc/key-users")
	if err != nil {
		t.Fatal(err)
	}
	of := map[string]int{}
	for _, l := range lines(string(b)) {
		uid, rest, _ := strings.Cut(strings.TrimSpace(l), ":")
		if f := strings.Fields(rest); len(f) > 0 {
			of[uid], _ = strconv.Atoi(f[0])
		}
	}
	return of
}

func TestK18(t *testing.T) {
	row(t, "K18")
	stopped(t, "ptrace-parent", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp", "process_madvise")
	refused(t, "capability", []string{"--cap-add", "SYS_PTRACE"})
	refused(t, "pid-host", []string{"--pid", "host"})
	refused(t, "pid-join", []string{"--pid", "container:k18-other"})
	// Another user's process in the same container.
	detached(t, "k18-two", "--cap-add", "SETUID", denImage, "sleep", "600")
	if a := here.Run("exec", "-u", "1000", "k18-two", "head", "-c1", "/proc/1/mem"); !strings.Contains(a.Stderr, "Permission denied") {
		t.Errorf("the memory of a process of root: %s", a)
	}
	for _, file := range []string{"environ", "maps", "root/etc/passwd", "fd/0"} {
		if a := here.Run("exec", "-u", "1000", "k18-two", "cat", "/proc/1/"+file); a.Code == 0 {
			t.Errorf("/proc/1/%s of root: %s", file, a)
		}
	}
}

func TestK19(t *testing.T) {
	row(t, "K19")
	stopped(t, "mount", "mount-proc", "mount-bind", "remount-rw", "umount-mask", "pivot_root", "chroot",
		"fsopen", "fspick", "fsconfig", "fsmount", "open_tree", "open_tree_attr", "move_mount", "mount_setattr")
	inModes(t, nil, "mount -t tmpfs x /tmp; mount -o remount,rw /; umount /proc/keys; chroot / true; pivot_root / /tmp; mount -o bind / /tmp", func(t *testing.T, _, out string) {
		if n := strings.Count(strings.ToLower(out), "permi"); n != 6 {
			t.Errorf("%d of 6 were denied: %q", n, out)
		}
	})
	// The free capability for chroot gives that, and no mount.
	of := verdicts(t, "--cap-add", "SYS_CHROOT")
	verdictIs(t, "with SYS_CHROOT", of, "blocked", "mount", "mount-bind", "pivot_root", "fsopen", "open_tree", "unshare-mount", "pid1-root")
}

// useless are calls that no container is given, by nobody.
var useless = []string{
	"_sysctl", "add_key", "clone3", "create_module", "get_kernel_syms", "io_uring_enter", "io_uring_register", "io_uring_setup",
	"kexec_file_load", "kexec_load", "keyctl", "lookup_dcookie", "nfsservctl", "pivot_root", "query_module", "quotactl", "quotactl_fd",
	"request_key", "swapoff", "swapon", "sysfs", "uselib", "userfaultfd", "ustat", "vm86", "vm86old",
}

// rare are calls of a capability that only a site can grant.
var rare = []string{
	"acct", "bpf", "clock_settime", "delete_module", "finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "init_module", "ioperm",
	"iopl", "mount", "mount_setattr", "move_mount", "open_by_handle_at", "open_tree", "perf_event_open", "reboot", "setns", "settimeofday",
	"stime", "syslog", "umount", "umount2", "unshare",
}

func TestK20(t *testing.T) {
	row(t, "K20")
	stopped(t, "kexec_load", "init_module", "finit_module", "delete_module", "reboot", "settimeofday", "clock_settime", "swapon", "swapoff",
		"quotactl", "quotactl_fd", "acct", "syslog", "iopl", "ioperm", "obsolete-syscalls", "sysfs", "kcmp", "pidfd_getfd", "personality",
		"modify_ldt", "fanotify_init")
	for name, f := range filters(t) {
		for _, call := range slices.Concat(useless, rare, []string{"kcmp", "pidfd_getfd", "modify_ldt", "process_vm_readv", "ptrace", "socketcall"}) {
			if r := permitted(f, call); len(r) > 0 {
				t.Errorf("%s permits %s", name, call)
			}
		}
		for _, r := range permitted(f, "personality") {
			if len(r.Args) == 0 {
				t.Errorf("%s permits any personality", name)
			}
		}
	}
	// A profile that asks for one, as a recorded one could, is refused.
	for _, call := range slices.Concat(useless, rare) {
		if _, err := profiles.Parse([]byte("version: 1\nseccomp:\n  allow: ["+call+"]\n"), "k20.yaml"); err == nil {
			t.Errorf("a profile that permits %s passes", call)
		}
	}
	file := wrote(t, "k20.yaml", "version: 1\nseccomp:\n  allow: [read, write, kexec_load]\n")
	refused(t, "", []string{"--profile", file})
	all := seccompFile(t, func(f *specs.LinuxSeccomp) {
		f.Syscalls = append(f.Syscalls, specs.LinuxSyscall{Names: []string{"kcmp", "modify_ldt", "pidfd_getfd", "ptrace", "personality"}, Action: specs.ActAllow})
	})
	of := verdicts(t, "--security-opt", "seccomp="+all)
	verdictIs(t, "a file that permits what docker does", of, "blocked", "kcmp", "modify_ldt", "pidfd_getfd", "ptrace-parent", "personality")
}

func TestK23(t *testing.T) {
	row(t, "K23")
	const works, fails = "splice <nil>\ntee <nil>\nvmsplice <nil>\n", "splice operation not permitted\ntee operation not permitted\nvmsplice operation not permitted\n"
	if a := here.Run("run", "--rm", denImage, "/probe", "splice"); a.Stdout != works {
		t.Errorf("the built-in filter: %s", a)
	}
	// What learn writes is a list of what was used; one without them.
	s, _ := drySpec(t)
	var used []string
	for _, r := range s.Linux.Seccomp.Syscalls {
		for _, name := range r.Names {
			if r.Action == specs.ActAllow && !slices.Contains(used, name) && !slices.Contains([]string{"splice", "tee", "vmsplice"}, name) {
				used = append(used, name)
			}
		}
	}
	file := wrote(t, "k23.yaml", "version: 1\nseccomp:\n  allow: ["+strings.Join(used, ", ")+"]\n")
	if a := here.Run("run", "--rm", "--profile", file, denImage, "/probe", "splice"); a.Stdout != fails {
		t.Errorf("a profile without them: %s", a)
	}
}

func TestK24(t *testing.T) {
	row(t, "K24")
	probed(t, "unknown-syscall", "future-syscalls", "clone3", "open_tree_attr")
	check := func(about string, of map[string]attempt) {
		t.Helper()
		for _, id := range []string{"unknown-syscall", "future-syscalls", "clone3"} {
			if x := of[id]; x.Errno != "ENOSYS" {
				t.Errorf("%s: %s is %s", about, id, x.Errno)
			}
		}
		for _, id := range []string{"bpf", "keyctl", "mount", "io_uring"} {
			if x := of[id]; x.Errno != "EPERM" {
				t.Errorf("%s: %s is %s", about, id, x.Errno)
			}
		}
	}
	check("the built-in filter", verdicts(t))
	file := seccompFile(t, nil)
	check("a user's", verdicts(t, "--security-opt", "seccomp="+file))
}
