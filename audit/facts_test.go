package audit

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// strict is hardened with nothing left to object to.
func strict(bind string, args ...string) *specs.Spec {
	s := hardened(bind, args...)
	s.Process.Capabilities = &specs.LinuxCapabilities{}
	s.Process.OOMScoreAdj = ref(0)
	s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Type == "bind" })
	s.Linux.ReadonlyPaths = []string{cgroupTmpfs, "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
	s.Linux.MaskedPaths = []string{
		"/proc/kcore", "/proc/keys", "/proc/acpi", "/proc/scsi", "/proc/sched_debug", "/proc/latency_stats",
		"/sys/firmware", "/proc/timer_list", "/proc/timer_stats",
	}
	var names []string
	for _, c := range blockedCalls() {
		name, _, _ := strings.Cut(c.name, "(")
		names = append(names, name)
	}
	// clone is needed by the shell; the harmful use of it is told by a flag.
	names = slices.DeleteFunc(names, func(n string) bool { return n == "clone" })
	newUser := []specs.LinuxSeccompArg{{Index: 0, Value: unix.CLONE_NEWUSER, ValueTwo: unix.CLONE_NEWUSER, Op: specs.OpMaskedEqual}}
	s.Linux.Seccomp = &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Syscalls: []specs.LinuxSyscall{
			{Names: names, Action: specs.ActErrno},
			{Names: []string{"clone"}, Action: specs.ActErrno, Args: newUser},
		},
	}
	return s
}

// running makes a container of a spec and starts it.
func running(tb testing.TB, dir string, s *specs.Spec) *container {
	tb.Helper()
	c := create(tb, dir, s)
	c.start(tb)
	until(tb, "the program runs", func() bool {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", c.pid))
		return strings.Contains(string(b), s.Process.Args[0])
	})
	return c
}

func until(tb testing.TB, what string, is func() bool) {
	tb.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("waited in vain until %s", what)
		}
	}
}

func looked(tb testing.TB, pid int) *Facts {
	tb.Helper()
	f, err := Look(pid)
	must(tb, err)
	return f
}

// A hardened container has nothing above a remark, and the facts are those of
// /proc, read here in another way.
func TestLookHardened(t *testing.T) {
	dir, bind := bundle(t)
	c := running(t, dir, strict(bind, "/bin/busybox", "sleep", "100"))
	f := looked(t, c.pid)
	findings, score := Grade(f, c.spec, []Neighbour{{ID: "other", PID: 1, UIDMap: []IDRange{{0, 5, 1}}}})
	for _, x := range findings {
		if x.Severity > Info {
			t.Errorf("%s: %s: %s", x.ID, x.Severity, x.Fact)
		}
	}
	if score != 100 {
		t.Errorf("score %d", score)
	}

	read := func(name string) string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", c.pid, name))
		must(t, err)
		return string(b)
	}
	status := map[string]string{}
	for line := range strings.Lines(read("status")) {
		k, v, _ := strings.Cut(line, ":")
		status[k] = strings.Join(strings.Fields(v), " ")
	}
	grp := strings.Trim(fmt.Sprint(f.User.Groups), "[]")
	for _, eq := range [][2]string{
		{fmt.Sprintf("%[1]d %[1]d %[1]d %[1]d", f.User.UID), status["Uid"]},
		{fmt.Sprintf("%[1]d %[1]d %[1]d %[1]d", f.User.GID), status["Gid"]},
		{grp, status["Groups"]},
		{map[bool]string{true: "1"}[f.NoNewPrivileges], status["NoNewPrivs"]},
		{strconv.Itoa(f.Seccomp.Filters), status["Seccomp_filters"]},
		{strconv.Itoa(f.OOMScoreAdj), strings.TrimSpace(read("oom_score_adj"))},
		{fmt.Sprintf("0 %d 65536", f.User.UIDMap[0].Host), strings.Join(strings.Fields(read("uid_map")), " ")},
		{strconv.FormatInt(*f.Limits.Pids, 10), strings.TrimSpace(cgroupValue(t, c.pid, "pids", "pids.max"))},
		{strconv.FormatInt(*f.Limits.Memory, 10), strings.TrimSpace(cgroupValue(t, c.pid, "memory", "memory.limit_in_bytes", "memory.max"))},
	} {
		if eq[0] != eq[1] {
			t.Errorf("%q, but /proc says %q", eq[0], eq[1])
		}
	}
	if len(f.Capabilities.Bounding) != 0 || status["CapBnd"] != "0000000000000000" {
		t.Errorf("bounding %v", f.Capabilities.Bounding)
	}
	for kind, where := range f.Namespaces {
		if kind != "time" && where != "own" {
			t.Errorf("namespace %s: %s", kind, where)
		}
	}
	if f.User.InsideUID != 0 || f.Root.FileSystem == "" || f.Mounts.Count < 10 || f.Processes.Count != 1 || *f.Limits.Core != 0 {
		t.Errorf("%+v", f)
	}
	if f.Seccomp.Calls["reboot"] != "blocked" || f.Seccomp.Calls["clone(CLONE_NEWUSER)"] != "blocked" {
		t.Errorf("calls %v, unknown: %s", f.Seccomp.Calls, f.Seccomp.Unknown)
	}
	b, err := json.Marshal(f)
	must(t, err)
	if strings.Contains(string(b), ":null,\"filters") || !strings.Contains(string(b), `"no_new_privileges":true`) {
		t.Errorf("%s", b)
	}
}

// cgroupValue reads a file of the process's cgroup by way of findmnt's source:
// the directories of both versions are tried.
func cgroupValue(t *testing.T, pid int, controller string, names ...string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	must(t, err)
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		for _, root := range []string{"/sys/fs/cgroup/" + controller, "/sys/fs/cgroup"} {
			for _, name := range names {
				if f[1] != controller && f[1] != "" {
					continue
				}
				if v, err := os.ReadFile(filepath.Join(root, f[2], name)); err == nil {
					return string(v)
				}
			}
		}
	}
	t.Fatalf("no %v", names)
	return ""
}

// hostUsers takes the user namespace out of a spec.
func hostUsers(s *specs.Spec) {
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
	s.Linux.UIDMappings, s.Linux.GIDMappings = nil, nil
}

func without(kind specs.LinuxNamespaceType) func(*specs.Spec) {
	return func(s *specs.Spec) {
		s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
	}
}

// hostNetwork: a sysfs cannot be mounted anew with it.
func hostNetwork(s *specs.Spec) {
	without(specs.NetworkNamespace)(s)
	*at(s, "/sys") = specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys", Options: []string{"rbind", "rprivate", "rro", "rnosuid", "rnodev", "rnoexec"}}
	s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/sys/fs/cgroup" })
}

func bindOf(source, target string, options ...string) func(*specs.Spec) {
	return func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: target, Type: "bind", Source: source, Options: append([]string{"rbind", "rprivate"}, options...)})
	}
}

func caps(names ...string) func(*specs.Spec) {
	return func(s *specs.Spec) {
		s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: names, Effective: names, Permitted: names}
	}
}

// Each weakness gives its finding, and nothing is drift, because the spec asks
// for it.
func TestWeaknesses(t *testing.T) {
	sockets := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(sockets, "docker.sock"))
	must(t, err)
	defer l.Close()
	abstract, err := net.Listen("unix", "@safe-run-audit-test")
	must(t, err)
	defer abstract.Close()
	type want struct {
		id   string
		s    Severity
		says string
	}
	for _, tc := range []struct {
		name   string
		weaken []func(*specs.Spec)
		wants  []want
	}{
		{
			"the host's ids",
			[]func(*specs.Spec){
				hostUsers, caps("CAP_CHOWN"), without(specs.PIDNamespace), without(specs.IPCNamespace), func(s *specs.Spec) {
					bindOf(bindShared(t), "/data")(s)
					s.Mounts[len(s.Mounts)-1].Options = []string{"rbind", "rshared"}
					s.Linux.RootfsPropagation = "rshared"
					s.Linux.ReadonlyPaths, s.Linux.MaskedPaths = nil, nil
					s.Linux.Devices = []specs.LinuxDevice{
						{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229},
						{Path: "/dev/sub/disk", Type: "b", Major: 8, Minor: 0},
					}
					s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
				},
			},
			[]want{
				{"user-namespace", High, "root of the host"},
				{"user", High, "uid 0"},
				{"id-overlap", Low, "other"},
				{"capabilities", Medium, "CAP_CHOWN"},
				{"namespace-pid", High, "the host's"},
				{"namespace-ipc", Medium, "the host's"},
				{"mount-propagation", Medium, "/data"},
				{"kernel-files", Critical, "/proc/sys"},
				{"kernel-masks", Medium, "/proc/"},
				{"devices", Low, "/dev/fuse (10:229)"},
				{"devices", Critical, "/dev/sub/disk (8:0)"},
				{"device-rules", High, "all devices"},
			},
		},
		{
			"files of the host",
			[]func(*specs.Spec){
				hostUsers, caps("CAP_SYS_ADMIN", "CAP_CHOWN"), bindOf("/", "/tree"), bindOf("/etc", "/data"), bindOf("/proc", "/varrun"),
			},
			[]want{
				{"capabilities", Critical, "CAP_SYS_ADMIN"},
				{"host-files", Critical, "/ of the host is at /tree, writable"},
				{"host-files", Critical, "/etc of the host is at /data, writable"},
				{"host-files", Critical, "/proc of the host is at /run"}, // a link
			},
		},
		{
			"its own ids",
			[]func(*specs.Spec){
				caps("CAP_SYS_ADMIN"), without(specs.UTSNamespace), without(specs.CgroupNamespace), bindOf(sockets, "/data"), bindOf("/etc", "/tree", "rro"),
				func(s *specs.Spec) {
					s.Process.NoNewPrivileges, s.Root.Readonly = false, false
					s.Linux.Seccomp.Syscalls[0].Names = []string{"acct"}
					at(s, "/tmp").Options = []string{"nosuid", "nodev", "size=1m"}
					s.Linux.Resources.Memory, s.Linux.Resources.Pids, s.Linux.MaskedPaths = nil, nil, nil
				},
			},
			[]want{
				{"capabilities", Medium, "CAP_SYS_ADMIN"},
				{"namespace-uts", Low, "the host's"},
				{"namespace-cgroup", Low, "the host's"},
				{"control-sockets", Critical, "docker.sock"},
				{"host-files", Low, "/etc of the host is at /tree, read-only"},
				{"no-new-privileges", Low, "not set"},
				{"root-filesystem", Medium, "writable"},
				{"seccomp-calls", High, "add_key"},
				{"write-execute", Low, "/tmp"},
				{"memory-limit", Medium, "none"},
				{"pids-limit", Medium, "none"},
				{"kernel-masks", Low, "/proc/"},
			},
		},
		{
			"network of the host",
			[]func(*specs.Spec){
				hostNetwork, func(s *specs.Spec) {
					s.Linux.Seccomp = nil
					s.Linux.Resources.Memory.Swap = ref(int64(-1))
					s.Process.Args = []string{"/bin/busybox", "nc", "-l", "-p", "47631"}
				},
			},
			[]want{
				{"namespace-network", High, "the host's"},
				{"abstract-sockets", Low, "@safe-run-audit-test"},
				{"seccomp", High, "none"},
				{"swap-limit", Low, "none"},
				{"ports", Low, "47631"},
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, bind := bundle(t)
			s := strict(bind, "/bin/busybox", "sleep", "100")
			for _, w := range tc.weaken {
				w(s)
			}
			c := running(t, dir, s)
			f := looked(t, c.pid)
			if s.Process.Args[1] == "nc" {
				until(t, "it listens", func() bool { f = looked(t, c.pid); return len(f.Ports) > 0 })
			}
			// Nothing is drift: the specification asks for all of it.
			found, _ := Grade(f, s, []Neighbour{{ID: "other", PID: 1, UIDMap: []IDRange{{0, 0, 1 << 32}}}})
			for _, x := range found {
				if x.Drift {
					t.Errorf("drift: %s", x.Fact)
				}
			}
			for _, w := range tc.wants {
				if !slices.ContainsFunc(found, func(x Finding) bool {
					return x.ID == w.id && x.Severity == w.s && strings.Contains(x.Fact, w.says) && x.Fix != ""
				}) {
					t.Errorf("no %s of severity %s with %q", w.id, w.s, w.says)
					for _, x := range found {
						if x.ID == w.id {
							t.Logf("%s: %s", x.Severity, x.Fact)
						}
					}
				}
			}
		})
	}
}

// bindShared makes a directory that is a shared mount.
func bindShared(t *testing.T) string {
	dir, err := os.MkdirTemp("", "audit-shared")
	must(t, err)
	must(t, unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	must(t, unix.Mount("", dir, "", unix.MS_SHARED, ""))
	t.Cleanup(func() {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		_ = os.Remove(dir)
	})
	return dir
}
