package profiles

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

func amd64(caps ...string) Options {
	return Options{Arch: "amd64", Kernel: [2]int{6, 18}, Capabilities: caps}
}

// permitted evaluates a filter for one call, by the rules alone.
func permitted(f *specs.LinuxSeccomp, name string, args ...uint64) bool {
	for _, r := range f.Syscalls {
		if !permits(r.Action) || !slices.Contains(r.Names, name) {
			continue
		}
		holds := true
		for _, c := range r.Args {
			var v uint64
			if int(c.Index) < len(args) {
				v = args[c.Index]
			}
			holds = holds && meets(c, v)
		}
		if holds {
			return true
		}
	}
	return false
}

func TestSeccompCalls(t *testing.T) {
	for _, tc := range []struct {
		o    Options
		name string
		args []uint64
		want bool
	}{
		{amd64(), "read", nil, true},
		{amd64(), "execve", nil, true},
		{amd64(), "arch_prctl", nil, true},
		{amd64(), "io_uring_setup", nil, false},
		{amd64(), "userfaultfd", nil, false},
		{amd64(), "keyctl", nil, false},
		{amd64(), "ptrace", nil, false},
		{amd64("CAP_SYS_PTRACE"), "ptrace", nil, true},
		{amd64(), "modify_ldt", nil, false},
		{amd64(), "chroot", nil, false},
		{amd64("CAP_SYS_CHROOT"), "chroot", nil, true},
		{amd64(), "mount", nil, false},
		{amd64("CAP_SYS_ADMIN"), "mount", nil, true},
		{amd64("CAP_SYS_ADMIN"), "bpf", nil, false},
		{amd64("CAP_SYS_ADMIN"), "perf_event_open", nil, false},
		{amd64("CAP_SYS_ADMIN"), "pivot_root", nil, false},
		{amd64("CAP_SYS_ADMIN"), "clone3", nil, false},
		{amd64(), "clone3", nil, false},
		{amd64(), "socketcall", nil, false},
		{amd64(), "clone", []uint64{unix.CLONE_VM | unix.CLONE_THREAD}, true},
		{amd64(), "clone", []uint64{unix.CLONE_NEWUSER}, false},
		{amd64(), "clone", []uint64{unix.CLONE_NEWNET | uint64(unix.SIGCHLD)}, false},
		{amd64("CAP_SYS_ADMIN"), "clone", []uint64{unix.CLONE_NEWNET}, true},
		{amd64("CAP_SYS_ADMIN"), "clone", []uint64{unix.CLONE_NEWUSER | unix.CLONE_NEWNET}, false},
		{amd64(), "unshare", []uint64{0}, false},
		{amd64("CAP_SYS_ADMIN"), "unshare", []uint64{unix.CLONE_NEWNS}, true},
		{amd64("CAP_SYS_ADMIN"), "unshare", []uint64{unix.CLONE_NEWUSER}, false},
		{amd64(), "personality", []uint64{0xffffffff}, true},
		{amd64(), "personality", []uint64{0x40000}, false}, // ADDR_NO_RANDOMIZE
		{amd64(), "socketpair", []uint64{unix.AF_UNIX}, true},
		{amd64(), "socketpair", []uint64{unix.AF_TIPC}, false},
		{amd64(), "socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE}, true},
		{amd64(), "socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_XFRM}, false},
		{amd64(), "socket", []uint64{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP}, true},
		{amd64(), "chmod", []uint64{0, 0o4755}, true},
	} {
		if got := permitted(Seccomp(tc.o), tc.name, tc.args...); got != tc.want {
			t.Errorf("%v %s%#x: %v", tc.o.Capabilities, tc.name, tc.args, got)
		}
	}
	f := Seccomp(amd64())
	for family := range uint64(64) {
		want := slices.Contains([]uint64{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK}, family)
		if permitted(f, "socket", family) != want {
			t.Errorf("socket family %d", family)
		}
	}
}

// The request is cut to 32 bits by the kernel, whatever the upper half holds.
func TestIoctlGuard(t *testing.T) {
	f := Seccomp(amd64())
	for low := range uint64(1 << 16) {
		want := low != unix.TIOCSTI && low != unix.TIOCLINUX
		for _, high := range []uint64{0, 1 << 32, 0xffffffff << 32, 1 << 63} {
			if permitted(f, "ioctl", 0, high|low) != want {
				t.Fatalf("ioctl %#x", high|low)
			}
		}
	}
	for _, request := range []uint64{0x80045430, 0xffffffff80045430, 0x5401} { // TIOCGPTN, as musl passes it, TCGETS
		if !permitted(f, "ioctl", 0, request) {
			t.Errorf("ioctl %#x", request)
		}
	}
}

func TestWritableBind(t *testing.T) {
	o := amd64()
	o.WritableBind = true
	f := Seccomp(o)
	for _, tc := range []struct {
		name string
		args []uint64
		want bool
	}{
		{"chmod", []uint64{0, 0o755}, true},
		{"chmod", []uint64{0, 0o1777}, true},
		{"chmod", []uint64{0, 0o4755}, false},
		{"chmod", []uint64{0, 0o2755}, false},
		{"chmod", []uint64{0, 1<<16 | 0o4755}, false},
		{"fchmod", []uint64{0, 0o2755}, false},
		{"fchmodat", []uint64{0, 0, 0o6755}, false},
		{"fchmodat2", []uint64{0, 0, 0o4755}, false},
		{"creat", []uint64{0, 0o4755}, false},
		{"open", []uint64{0, unix.O_RDONLY, 0o4755}, true},
		{"open", []uint64{0, unix.O_RDWR | unix.O_CREAT, 0o644}, true},
		{"open", []uint64{0, unix.O_RDWR | unix.O_CREAT, 0o4644}, false},
		{"openat", []uint64{0, 0, unix.O_DIRECTORY, 0o4644}, true},
		{"openat", []uint64{0, 0, unix.O_TMPFILE | unix.O_RDWR, 0o2644}, false},
		{"openat", []uint64{0, 0, unix.O_CREAT, 0o2644}, false},
		{"openat2", nil, false},
		{"mkdir", []uint64{0, 0o2755}, false},
		{"mkdirat", []uint64{0, 0, 0o2755}, false},
		{"mknod", []uint64{0, unix.S_IFREG | 0o4755}, false},
		{"mknodat", []uint64{0, 0, unix.S_IFIFO | 0o644}, true},
	} {
		if got := permitted(f, tc.name, tc.args...); got != tc.want {
			t.Errorf("%s%#o: %v", tc.name, tc.args, got)
		}
	}
}

// On a writable bind CAP_SETFCAP would give programs capabilities that hold for
// the host's users.
func TestFileCapabilitiesOfBinds(t *testing.T) {
	for _, tc := range []struct {
		writable, capable, want bool
	}{
		{false, false, true},
		{false, true, true},
		{true, false, true},
		{true, true, false},
	} {
		o := amd64()
		o.WritableBind = tc.writable
		if tc.capable {
			o.Capabilities = append(o.Capabilities, "CAP_SETFCAP")
		}
		ours := Seccomp(o)
		theirs, err := ParseSeccomp([]byte(`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read","setxattr","lsetxattr","fsetxattr","setxattrat"],"action":"SCMP_ACT_ALLOW"}]}`), o)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range []*specs.LinuxSeccomp{ours, theirs} {
			for _, name := range []string{"setxattr", "lsetxattr", "fsetxattr"} {
				if permitted(f, name) != tc.want {
					t.Errorf("%+v: %s", tc, name)
				}
			}
			if !tc.want && permitted(f, "setxattrat") {
				t.Errorf("%+v: setxattrat", tc)
			}
		}
	}
}

// Nothing of the tables is permitted without the capability it needs, on any
// architecture, and the filter passes its own lint.
func TestNeverPermitted(t *testing.T) {
	for arch := range arches {
		for _, writable := range []bool{false, true} {
			o := Options{Arch: arch, Kernel: [2]int{6, 1}, WritableBind: writable}
			f := Seccomp(o)
			if bad := Lint(f, o); bad != nil {
				t.Errorf("%s: %q", arch, bad)
			}
			if !slices.Equal(f.Architectures, []specs.Arch{Arch(arch)}) {
				t.Errorf("%s: %v", arch, f.Architectures)
			}
			for _, table := range []map[string]string{never, dropped} {
				for name := range table {
					if permitted(f, name) {
						t.Errorf("%s: %s is permitted", arch, name)
					}
				}
			}
		}
	}
	if Seccomp(Options{Arch: "mips"}) != nil {
		t.Error("a filter for an architecture nobody looked at")
	}
}

// TestAgainstMoby: whatever is permitted here is permitted by docker's
// default too, given the same capabilities.
func TestAgainstMoby(t *testing.T) {
	theirs := map[string]bool{}
	for _, r := range seccomp.DefaultProfile().Syscalls {
		for _, name := range r.Names {
			theirs[name] = true
		}
	}
	theirs["socketpair"] = true
	for _, r := range Seccomp(amd64()).Syscalls {
		for _, name := range r.Names {
			if permits(r.Action) && !theirs[name] {
				t.Errorf("%s is not in docker's profile", name)
			}
		}
	}
}

const header = `"defaultAction":"SCMP_ACT_ERRNO","syscalls":`

func profile(rules string) []byte { return []byte("{" + header + "[" + rules + "]}") }

func TestParseSeccomp(t *testing.T) {
	allow := func(names ...string) string {
		data, err := json.Marshal(map[string]any{"names": names, "action": "SCMP_ACT_ALLOW"})
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	f, err := ParseSeccomp(profile(allow("read", "write", "socket", "clone", "ioctl", "ptrace", "personality", "socketpair", "open_by_handle_at2")), amd64())
	if err != nil {
		t.Fatal(err)
	}
	if bad := Lint(f, amd64()); bad != nil {
		t.Errorf("%q", bad)
	}
	for _, tc := range []struct {
		name string
		args []uint64
		want bool
	}{
		{"read", nil, true},
		{"execve", nil, false},
		{"ptrace", nil, false},
		{"open_by_handle_at2", nil, false},
		{"socket", []uint64{unix.AF_INET}, true},
		{"socket", []uint64{unix.AF_VSOCK}, false},
		{"socket", []uint64{unix.AF_NETLINK, 3, unix.NETLINK_XFRM}, false},
		{"clone", []uint64{unix.CLONE_NEWUSER}, false},
		{"clone", []uint64{uint64(unix.SIGCHLD)}, true},
		{"ioctl", []uint64{0, unix.TIOCSTI}, false},
		{"ioctl", []uint64{0, unix.TCGETS}, true},
	} {
		if got := permitted(f, tc.name, tc.args...); got != tc.want {
			t.Errorf("%s%#x: %v", tc.name, tc.args, got)
		}
	}

	// One family only: the file is the narrower one.
	f, err = ParseSeccomp(profile(allow("read")+`,{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]},
		{"names":["ioctl"],"action":"SCMP_ACT_ALLOW","args":[{"index":1,"value":21505,"op":"SCMP_CMP_EQ"}]}`), amd64())
	if err != nil {
		t.Fatal(err)
	}
	if permitted(f, "socket", unix.AF_INET) || !permitted(f, "socket", unix.AF_UNIX) {
		t.Error("socket of one family")
	}
	if permitted(f, "ioctl", 0, unix.TCSETS) || !permitted(f, "ioctl", 0, unix.TCGETS) {
		t.Error("ioctl of one request")
	}
}

// docker's own default, in the form people copy it, is the built-in profile.
func TestParseDockerDefault(t *testing.T) {
	data, err := json.Marshal(seccomp.DefaultProfile())
	if err != nil {
		t.Fatal(err)
	}
	for _, caps := range [][]string{nil, {"CAP_SYS_CHROOT", "CAP_SYS_PTRACE"}, {"CAP_SYS_ADMIN", "CAP_BPF", "CAP_PERFMON"}} {
		o := amd64(caps...)
		f, err := ParseSeccomp(data, o)
		if err != nil {
			// docker gives bpf and others with SYS_ADMIN; here each has a
			// capability of its own.
			if slices.Contains(caps, "CAP_SYS_ADMIN") && fail.KindOf(err) == fail.Refused {
				continue
			}
			t.Fatalf("%v: %v", caps, err)
		}
		if bad := Lint(f, o); bad != nil {
			t.Errorf("%v: %q", caps, bad)
		}
		ours := Seccomp(o)
		for _, name := range []string{"read", "execve", "chroot", "ptrace", "futex", "openat", "mknod"} {
			if permitted(f, name) != permitted(ours, name) {
				t.Errorf("%v: %s", caps, name)
			}
		}
		for family := range uint64(48) {
			if permitted(f, "socket", family) != permitted(ours, "socket", family) {
				t.Errorf("%v: socket family %d", caps, family)
			}
		}
	}
}

func TestParseSeccompErrors(t *testing.T) {
	for _, tc := range []struct {
		name, data string
		kind       fail.Kind
		text       string
	}{
		{"empty", "", fail.Usage, "EOF"},
		{"empty object", "{}", fail.Usage, "no defaultAction"},
		{"null", "null", fail.Usage, "null"},
		{"list", "[]", fail.Usage, "cannot unmarshal"},
		{"empty action", `{"defaultAction":""}`, fail.Usage, "no defaultAction"},
		{"allow", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO"}]}`, fail.Refused, "permits whatever"},
		{"log", `{"defaultAction":"SCMP_ACT_LOG"}`, fail.Refused, "permits whatever"},
		{"trace", `{"defaultAction":"SCMP_ACT_TRACE"}`, fail.Refused, "permits whatever"},
		{"notify", `{"defaultAction":"SCMP_ACT_NOTIFY"}`, fail.Refused, "permits whatever"},
		{"no action", `{"defaultAction":"x\u001b"}`, fail.Usage, `"x\x1b"`},
		{"no rules", "{" + header + "[]}", fail.Usage, "no rules"},
		{"only denies", string(profile(`{"names":["read"],"action":"SCMP_ACT_ERRNO"}`)), fail.Usage, "nothing could run"},
		{"unknown key", `{` + header + `[],"foo":1}`, fail.Usage, "foo"},
		{"unknown key in rule", string(profile(`{"names":["read"],"action":"SCMP_ACT_ALLOW","foo":1}`)), fail.Usage, "foo"},
		{"key twice", `{"defaultAction":"SCMP_ACT_ERRNO","defaultAction":"SCMP_ACT_ALLOW"}`, fail.Usage, "twice"},
		{"key twice in another case", `{"defaultAction":"SCMP_ACT_ERRNO","DEFAULTACTION":"SCMP_ACT_ALLOW"}`, fail.Usage, "twice"},
		{"byte order mark", "\xef\xbb\xbf" + string(profile("")), fail.Usage, "byte order mark"},
		{"trailing", string(profile(`{"names":["read"],"action":"SCMP_ACT_ALLOW"}`)) + "{}", fail.Usage, "after the JSON"},
		{"too large", strings.Repeat(" ", maxProfileBytes+1), fail.Usage, "larger"},
		{"null rule", string(profile("null")), fail.Usage, "null"},
		{"no names", string(profile(`{"action":"SCMP_ACT_ALLOW"}`)), fail.Usage, "names no syscall"},
		{"not a name", string(profile(`{"names":["a b"],"action":"SCMP_ACT_ALLOW"}`)), fail.Usage, "not a syscall name"},
		{"both names", string(profile(`{"name":"read","names":["write"],"action":"SCMP_ACT_ALLOW"}`)), fail.Usage, "both"},
		{"rule notify", string(profile(`{"names":["read"],"action":"SCMP_ACT_NOTIFY"}`)), fail.Refused, "another program"},
		{"rule trace", string(profile(`{"names":["read"],"action":"SCMP_ACT_TRACE"}`)), fail.Refused, "another program"},
		{"rule action", string(profile(`{"names":["read"],"action":"ALLOW"}`)), fail.Usage, "unknown action"},
		{"argument 6", string(profile(`{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}`)), fail.Usage, "argument 6"},
		{"two conditions", string(profile(`{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":0,"op":"SCMP_CMP_GE"},{"index":0,"value":9,"op":"SCMP_CMP_LE"}]}`)), fail.Usage, "two conditions"},
		{"operator", string(profile(`{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":0,"op":"EQ"}]}`)), fail.Usage, "operator"},
		{"never", string(profile(`{"names":["read","bpf","kexec_load","io_uring_setup"],"action":"SCMP_ACT_ALLOW"}`)), fail.Refused, "bpf, io_uring_setup, kexec_load"},
		{"never, with conditions", string(profile(`{"names":["mount"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":0,"op":"SCMP_CMP_EQ"}]}`)), fail.Refused, "mount"},
		{"never, logged", string(profile(`{"names":["keyctl"],"action":"SCMP_ACT_LOG"}`)), fail.Refused, "keyctl"},
		{"clone3", string(profile(`{"names":["clone3"],"action":"SCMP_ACT_ALLOW"}`)), fail.Refused, "clone3"},
		{"deny swallowed", string(profile(`{"names":["read"],"action":"SCMP_ACT_ALLOW"},{"names":["read"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":3,"op":"SCMP_CMP_EQ"}]}`)), fail.Usage, "different actions"},
		{"cannot be joined", string(profile(`{"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":3,"op":"SCMP_CMP_NE"}]}`)), fail.Usage, "joined"},
		{"flags", `{` + header + `[{"names":["read"],"action":"SCMP_ACT_ALLOW"}],"flags":["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]}`, fail.Refused, "SPEC_ALLOW"},
		{"listener", `{` + header + `[{"names":["read"],"action":"SCMP_ACT_ALLOW"}],"listenerPath":"/x"}`, fail.Refused, "listenerPath"},
		{"errno 0", `{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":0,"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}`, fail.Usage, "errno"},
		{"two architecture lists", `{` + header + `[{"names":["read"],"action":"SCMP_ACT_ALLOW"}],"architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}`, fail.Usage, "both"},
		{"kernel", string(profile(`{"names":["read"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"x"}}`)), fail.Usage, "kernel version"},
	} {
		_, err := ParseSeccomp([]byte(tc.data), amd64())
		if err == nil || fail.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: kind %d: %v", tc.name, fail.KindOf(err), err)
		}
	}
}

func TestArchitecturesAreNative(t *testing.T) {
	f, err := ParseSeccomp([]byte(`{"defaultAction":"SCMP_ACT_KILL_PROCESS","architectures":["SCMP_ARCH_X86","SCMP_ARCH_X32"],"syscalls":[{"name":"read","action":"SCMP_ACT_ALLOW"}]}`), amd64())
	if err != nil || !slices.Equal(f.Architectures, []specs.Arch{specs.ArchX86_64}) || f.DefaultAction != specs.ActKillProcess {
		t.Errorf("%+v, %v", f, err)
	}
}

// Conditions of a rule hold by capability, architecture and kernel.
func TestConditions(t *testing.T) {
	rules := `{"names":["read"],"action":"SCMP_ACT_ALLOW"},
		{"names":["write"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"9.1"}},
		{"names":["close"],"action":"SCMP_ACT_ALLOW","excludes":{"minKernel":"4.8"}},
		{"names":["dup"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["arm64"]}},
		{"names":["dup2"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["amd64"],"minKernel":"6.1"}},
		{"names":["pipe"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_CHOWN"]}},
		{"names":["stat"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_KILL"]}}`
	f, err := ParseSeccomp(profile(rules), amd64("CAP_KILL"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"read": true, "write": false, "close": false, "dup": false, "dup2": true, "pipe": false, "stat": false} {
		if permitted(f, name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

func FuzzParseSeccomp(f *testing.F) {
	data, err := json.Marshal(seccomp.DefaultProfile())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data, false)
	f.Add(profile(`{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2,"op":"SCMP_CMP_LE"}]}`), true)
	f.Add(profile(`{"names":["open","ioctl"],"action":"SCMP_ACT_LOG","args":[{"index":1,"value":255,"valueTwo":1,"op":"SCMP_CMP_MASKED_EQ"}]}`), true)
	f.Fuzz(func(t *testing.T, data []byte, writable bool) {
		o := amd64()
		o.WritableBind = writable
		out, err := ParseSeccomp(data, o)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\x00\x1b\n\r") {
				t.Errorf("raw control character in %q", err)
			}
			return
		}
		if bad := Lint(out, o); bad != nil {
			t.Errorf("%s\n%q", data, bad)
		}
		for _, family := range []uint64{unix.AF_ALG, unix.AF_VSOCK, unix.AF_PACKET} {
			if permitted(out, "socket", family) {
				t.Errorf("%s\nsocket family %d", data, family)
			}
		}
		if permitted(out, "ioctl", 0, 1<<32|unix.TIOCSTI) || permitted(out, "clone", unix.CLONE_NEWUSER) || permitted(out, "keyctl") {
			t.Errorf("%s\na hole", data)
		}
	})
}

func BenchmarkSeccomp(b *testing.B) {
	for b.Loop() {
		_ = Seccomp(amd64())
	}
}

func ExampleLint() {
	for _, bad := range Lint(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow}, Options{Arch: "amd64"}) {
		fmt.Println(bad)
	}
	// Output:
	// default action "SCMP_ACT_ALLOW" permits
	// architectures are [], not only the native "SCMP_ARCH_X86_64"
	// it has no rule that permits
}
