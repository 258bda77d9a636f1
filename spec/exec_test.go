package spec

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/internal/fail"
)

// execBase is the process of a container of root with two capabilities.
func execBase() *specs.Process {
	caps := []string{"CAP_CHOWN", "CAP_NET_BIND_SERVICE"}
	return &specs.Process{
		Args: []string{"/app"}, Cwd: "/srv",
		Env:  []string{"PATH=/bin", "HOSTNAME=h", "A=1", "NOTIFY_SOCKET=/run/n", "LISTEN_FDS=1", "HOME=/root"},
		User: specs.User{AdditionalGids: []uint32{0}},
		Capabilities: &specs.LinuxCapabilities{
			Bounding: caps, Effective: caps, Permitted: caps, Inheritable: []string{}, Ambient: []string{},
		},
		NoNewPrivileges: true, ApparmorProfile: "safe-run", SelinuxLabel: "l",
		Rlimits:     []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}, {Type: "RLIMIT_NOFILE", Soft: 10, Hard: 20}},
		OOMScoreAdj: new(100), Scheduler: &specs.Scheduler{Policy: "SCHED_BATCH"},
	}
}

// execBaseAs is the same of a container of another user.
func execBaseAs(uid uint32) *specs.Process {
	p := execBase()
	p.User = specs.User{UID: uid, GID: uid, AdditionalGids: []uint32{uid}}
	p.Capabilities.Inheritable = slices.Clone(p.Capabilities.Bounding)
	p.Capabilities.Ambient = slices.Clone(p.Capabilities.Bounding)
	return p
}

func TestExecProcess(t *testing.T) {
	two := []string{"CAP_CHOWN", "CAP_NET_BIND_SERVICE"}
	for _, c := range []struct {
		name  string
		base  *specs.Process
		rq    Exec
		check func(p *specs.Process) bool
	}{
		{"keeps what confines", execBase(), Exec{}, func(p *specs.Process) bool {
			return p.NoNewPrivileges && p.ApparmorProfile == "safe-run" && p.SelinuxLabel == "l" && len(p.Rlimits) == 2 && *p.OOMScoreAdj == 100 && p.Scheduler.Policy == "SCHED_BATCH"
		}},
		{"the container's directory", execBase(), Exec{}, func(p *specs.Process) bool { return p.Cwd == "/srv" }},
		{"a directory", execBase(), Exec{Workdir: "/a/../b/"}, func(p *specs.Process) bool { return p.Cwd == "/b" }},
		{"environment", execBase(), Exec{Env: []EnvVar{{"A", new("2")}, {"B", new("")}, {"HOSTNAME", nil}}}, func(p *specs.Process) bool {
			return slices.Equal(p.Env, []string{"PATH=/bin", "A=2", "HOME=/root", "B="})
		}},
		{"a terminal", execBase(), Exec{TTY: true, ConsoleSize: &specs.Box{Width: 3}}, func(p *specs.Process) bool {
			return p.Terminal && p.ConsoleSize.Width == 3 && slices.Contains(p.Env, "TERM=xterm")
		}},
		{"no terminal, though the container has one", &specs.Process{Terminal: true, ConsoleSize: &specs.Box{}, Cwd: "/", Capabilities: &specs.LinuxCapabilities{}}, Exec{}, func(p *specs.Process) bool {
			return !p.Terminal && p.ConsoleSize == nil
		}},
		{"the same user", execBase(), Exec{}, func(p *specs.Process) bool {
			return slices.Equal(p.Capabilities.Effective, two) && len(p.Capabilities.Ambient)+len(p.Capabilities.Inheritable) == 0
		}},
		{"root to another", execBase(), Exec{User: &User{UID: 7, GID: 8, Additional: []uint32{9, 8}}}, func(p *specs.Process) bool {
			return p.User.UID == 7 && p.User.GID == 8 && slices.Equal(p.User.AdditionalGids, []uint32{8, 9}) &&
				slices.Equal(p.Capabilities.Ambient, two) && slices.Equal(p.Capabilities.Inheritable, two) && slices.Equal(p.Capabilities.Effective, two)
		}},
		{"another to root", execBaseAs(5), Exec{User: &User{}}, func(p *specs.Process) bool {
			return p.User.UID == 0 && slices.Equal(p.Capabilities.Effective, two) && slices.Equal(p.Capabilities.Bounding, two) &&
				len(p.Capabilities.Ambient)+len(p.Capabilities.Inheritable) == 0
		}},
		{"another group only", execBaseAs(5), Exec{User: &User{UID: 5, GID: 6}}, func(p *specs.Process) bool {
			return p.User.GID == 6 && slices.Equal(p.Capabilities.Ambient, two)
		}},
	} {
		c.rq.Args = []string{"id", ""}
		before, _ := json.Marshal(c.base)
		p, err := ExecProcess(c.base, c.rq)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !c.check(p) {
			t.Errorf("%s: %+v %+v", c.name, p, p.Capabilities)
		}
		for _, set := range [][]string{p.Capabilities.Bounding, p.Capabilities.Effective, p.Capabilities.Permitted} {
			for i := range set {
				set[i] = "CAP_SYS_ADMIN"
			}
		}
		for i := range p.Rlimits {
			p.Rlimits[i].Hard = 1 << 40
		}
		if after, _ := json.Marshal(c.base); string(after) != string(before) {
			t.Errorf("%s: the container's own process was changed to %s", c.name, after)
		}
	}
}

func TestExecProcessErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		rq   Exec
		kind fail.Kind
	}{
		{"no words", Exec{}, fail.Usage},
		{"empty program", Exec{Args: []string{""}}, fail.CmdNotFound},
		{"NUL", Exec{Args: []string{"a", "b\x00"}}, fail.Usage},
		{"relative directory", Exec{Args: []string{"a"}, Workdir: "a"}, fail.Usage},
		{"directory of procfs", Exec{Args: []string{"a"}, Workdir: "/a/../proc/self/fd/7"}, fail.Refused},
		{"control character in directory", Exec{Args: []string{"a"}, Workdir: "/a\n"}, fail.Usage},
		{"name of a variable", Exec{Args: []string{"a"}, Env: []EnvVar{{"A=B", nil}}}, fail.Usage},
		{"NUL in a variable", Exec{Args: []string{"a"}, Env: []EnvVar{{"A", new("\x00")}}}, fail.Usage},
		{"id outside", Exec{Args: []string{"a"}, User: &User{UID: 65536}}, fail.HostCannot},
		{"group outside", Exec{Args: []string{"a"}, User: &User{Additional: []uint32{1 << 31}}}, fail.HostCannot},
	} {
		if _, err := ExecProcess(execBase(), c.rq); err == nil || fail.KindOf(err) != c.kind {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := ExecProcess(nil, Exec{Args: []string{"a"}}); err == nil {
		t.Error("no process: no error")
	}
}

// The first process could hand the sockets it has of the host to a process
// that is not kept from using them.
func TestExecFenced(t *testing.T) {
	for name, first := range map[string][]string{
		"alone":     {ActivatePath, activateFenced, "/app"},
		"with init": {initPath, "--", ActivatePath, activateFenced, "/app"},
	} {
		base := execBase()
		base.Args = first
		p, err := ExecProcess(base, Exec{Args: []string{"id", "-u"}})
		if err != nil || !slices.Equal(p.Args, []string{ActivatePath, activateFurther, "id", "-u"}) {
			t.Errorf("%s: %v, %+v", name, err, p)
			continue
		}
		for _, args := range [][]string{{"id"}, {ActivatePath, "id", "-u"}, {ActivatePath, activateFurther}} {
			if p.Args = args; VerifyExec(p, base) == nil {
				t.Errorf("%s: %q is taken", name, args)
			}
		}
		if _, err := ExecProcess(base, Exec{Args: []string{""}}); fail.KindOf(err) != fail.CmdNotFound {
			t.Errorf("%s: empty program: %v", name, err)
		}
	}
	base := execBase()
	base.Args = []string{ActivatePath, "/app"} // UNIX sockets only
	if p, err := ExecProcess(base, Exec{Args: []string{"id"}}); err != nil || len(p.Args) != 1 {
		t.Errorf("without a fence: %v, %q", err, p.Args)
	}
}

// Every way to have more than the container is found in the result alone.
func TestVerifyExec(t *testing.T) {
	for name, widen := range map[string]func(p *specs.Process){
		"bounding":      func(p *specs.Process) { p.Capabilities.Bounding = append(p.Capabilities.Bounding, "CAP_SYS_ADMIN") },
		"permitted":     func(p *specs.Process) { p.Capabilities.Permitted = append(p.Capabilities.Permitted, "CAP_SYS_ADMIN") },
		"effective":     func(p *specs.Process) { p.Capabilities.Effective = append(p.Capabilities.Effective, "CAP_SYS_ADMIN") },
		"inheritable":   func(p *specs.Process) { p.Capabilities.Inheritable = []string{"CAP_CHOWN"} },
		"ambient":       func(p *specs.Process) { p.Capabilities.Ambient = []string{"CAP_CHOWN"} },
		"other user":    func(p *specs.Process) { p.User.UID = 9; p.Capabilities.Ambient = []string{"CAP_KILL"} },
		"no sets":       func(p *specs.Process) { p.Capabilities = nil },
		"nnp":           func(p *specs.Process) { p.NoNewPrivileges = false },
		"apparmor":      func(p *specs.Process) { p.ApparmorProfile = "unconfined" },
		"selinux":       func(p *specs.Process) { p.SelinuxLabel = "" },
		"soft limit":    func(p *specs.Process) { p.Rlimits[1].Soft = 11 },
		"hard limit":    func(p *specs.Process) { p.Rlimits[1].Hard = 21 },
		"limit missing": func(p *specs.Process) { p.Rlimits = p.Rlimits[:1] },
		"limit added": func(p *specs.Process) {
			p.Rlimits = append(p.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_NICE", Hard: 40})
		},
		"oom":          func(p *specs.Process) { p.OOMScoreAdj = new(99) },
		"oom missing":  func(p *specs.Process) { p.OOMScoreAdj = nil },
		"scheduler":    func(p *specs.Process) { p.Scheduler.Policy = "SCHED_FIFO" },
		"io priority":  func(p *specs.Process) { p.IOPriority = &specs.LinuxIOPriority{Class: "IOPRIO_CLASS_RT"} },
		"affinity":     func(p *specs.Process) { p.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0"} },
		"cwd":          func(p *specs.Process) { p.Cwd = "/proc/1/cwd" },
		"relative cwd": func(p *specs.Process) { p.Cwd = "x" },
		"unclean cwd":  func(p *specs.Process) { p.Cwd = "/a/.." },
		"env":          func(p *specs.Process) { p.Env = append(p.Env, "NOVALUE") },
		"command line": func(p *specs.Process) { p.CommandLine = "x" },
		"no args":      func(p *specs.Process) { p.Args = nil },
	} {
		p, err := ExecProcess(execBase(), Exec{Args: []string{"id"}})
		if err != nil {
			t.Fatal(err)
		}
		if widen(p); VerifyExec(p, execBase()) == nil {
			t.Errorf("%s: not found", name)
		}
	}
	if VerifyExec(nil, execBase()) == nil || VerifyExec(execBase(), nil) == nil {
		t.Error("a missing process: not found")
	}
}

func FuzzExec(f *testing.F) {
	f.Add("id", "A=1", "/srv", uint32(0), uint32(0), uint32(0), true, byte(3))
	f.Add("a\x00b", "=", "../proc", uint32(1000), uint32(7), uint32(1<<31), false, byte(0xff))
	f.Fuzz(func(t *testing.T, arg, env, dir string, from, uid, gid uint32, tty bool, sets byte) {
		base := execBaseAs(from % blockSize)
		for i, s := range []*[]string{&base.Capabilities.Bounding, &base.Capabilities.Permitted, &base.Capabilities.Effective, &base.Capabilities.Inheritable, &base.Capabilities.Ambient} {
			if sets&(1<<i) == 0 {
				*s = nil
			}
		}
		base.NoNewPrivileges = sets&0x20 != 0
		name, value, _ := strings.Cut(env, "=")
		p, err := ExecProcess(base, Exec{
			Args: []string{arg}, Env: []EnvVar{{name, &value}}, Workdir: dir, TTY: tty, User: &User{UID: uid, GID: gid},
		})
		if err != nil {
			return
		}
		if err := VerifyExec(p, base); err != nil {
			t.Fatalf("not verified: %v", err)
		}
		for _, s := range [][]string{p.Capabilities.Permitted, p.Capabilities.Effective, p.Capabilities.Inheritable, p.Capabilities.Ambient} {
			for _, c := range s {
				if uid != base.User.UID && !slices.Contains(base.Capabilities.Bounding, c) {
					t.Fatalf("%s out of nothing", c)
				}
			}
		}
		if base.NoNewPrivileges != p.NoNewPrivileges || kernelPath(p.Cwd) || strings.ContainsRune(p.Args[0], 0) || p.Args[0] == "" {
			t.Fatalf("%+v", p)
		}
	})
}
