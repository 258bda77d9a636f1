package learn

import (
	"runtime"
	"slices"
	"testing"

	"github.com/safe-run/safe-run/profiles"
)

func TestSyscallList(t *testing.T) {
	rec := Recording{
		Capabilities: []CapabilityUse{{Name: "CAP_CHOWN"}, {Name: "CAP_SYS_ADMIN", Refused: true}},
		Syscalls: []SyscallUse{
			{Name: "read"},
			{Name: "chown"},
			{Name: "splice"},
			{Name: "mount"},  // needs CAP_SYS_ADMIN
			{Name: "keyctl"}, // is never permitted
			{Name: "clone3"}, // fails with ENOSYS in any container
			{Name: "x\"}]"},  // is none
			{Name: "socket", Arg: 2},
		},
	}
	list := SyscallList(rec, RuntimeCalls())
	for _, name := range []string{"read", "chown", "splice", "socket", "execve", "exit_group", "rt_sigreturn", "futex"} {
		if !slices.Contains(list, name) {
			t.Errorf("%s is missing", name)
		}
	}
	for _, name := range []string{"mount", "keyctl", "clone3", "x\"}]", "tee", "vmsplice", "sendfile", "unshare"} {
		if slices.Contains(list, name) {
			t.Errorf("%s is there", name)
		}
	}
	if !slices.IsSorted(list) || len(slices.Compact(slices.Clone(list))) != len(list) {
		t.Errorf("not a sorted set: %q", list)
	}
	rec.Capabilities[1].Refused = false
	if !slices.Contains(SyscallList(rec, nil), "mount") {
		t.Error("mount is missing with CAP_SYS_ADMIN")
	}
}

// The runtime's calls must all be ones that the built-in filter permits: else
// they would be missing from every list.
func TestRuntimeCalls(t *testing.T) {
	calls := RuntimeCalls()
	if got := PermittedCalls(calls, nil); !slices.Equal(got, calls) {
		t.Errorf("%d of %d are permitted: %q", len(got), len(calls), got)
	}
}

func TestSeccompJSON(t *testing.T) {
	list := SyscallList(Recording{Syscalls: []SyscallUse{{Name: "read"}, {Name: "socket", Arg: 2}}}, RuntimeCalls())
	o := profiles.Options{Arch: runtime.GOARCH, Kernel: [2]int{6, 1}}
	f, err := profiles.ParseSeccomp(SeccompJSON(list), o)
	if err != nil {
		t.Fatal(err)
	}
	if bad := profiles.Lint(f, o); len(bad) > 0 {
		t.Errorf("weaker than the built-in filter: %q", bad)
	}
	permitted := map[string]bool{}
	for _, r := range f.Syscalls {
		for _, name := range r.Names {
			permitted[name] = permitted[name] || r.Action == "SCMP_ACT_ALLOW"
		}
	}
	for _, name := range list {
		if !permitted[name] {
			t.Errorf("%s was lost", name)
		}
	}
	if permitted["chown"] || permitted["splice"] {
		t.Error("permits what is not on the list")
	}
}
