package learn

import (
	"runtime"
	"slices"
	"testing"

	"github.com/safe-run/safe-run/profiles"
)

// list is what Candidate makes of a recording.
func list(rec Recording) []string {
	return Candidate(rec, profiles.Profile{}, Options{}).Profile.Seccomp.Allow
}

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
	calls := list(rec)
	for _, name := range []string{"read", "chown", "splice", "socket", "execve", "exit_group", "rt_sigreturn", "futex", "clock_gettime"} {
		if !slices.Contains(calls, name) {
			t.Errorf("%s is missing", name)
		}
	}
	for _, name := range []string{"mount", "keyctl", "clone3", "x\"}]", "tee", "vmsplice", "sendfile", "unshare"} {
		if slices.Contains(calls, name) {
			t.Errorf("%s is there", name)
		}
	}
	if !slices.IsSorted(calls) || len(slices.Compact(slices.Clone(calls))) != len(calls) {
		t.Errorf("not a sorted set: %q", calls)
	}
	rec.Capabilities[1].Refused = false
	if !slices.Contains(list(rec), "mount") {
		t.Error("mount is missing with CAP_SYS_ADMIN")
	}
}

// The runtime's calls must all be ones that the built-in filter permits: else
// they would be missing from every list.
func TestRuntimeCalls(t *testing.T) {
	calls := runtimeCalls()
	if got := permittedCalls(calls, nil); !slices.Equal(got, calls) {
		t.Errorf("%d of %d are permitted: %q", len(got), len(calls), got)
	}
}

// What a list becomes is as tight as the built-in filter, and permits all of
// the list and nothing else.
func TestSyscallListIsAFilter(t *testing.T) {
	calls := list(Recording{Syscalls: []SyscallUse{{Name: "read"}, {Name: "socket", Arg: 2}}})
	text, err := profiles.Profile{Seccomp: &profiles.SeccompUse{Allow: calls}}.SeccompJSON("", nil)
	if err != nil {
		t.Fatal(err)
	}
	o := profiles.Options{Arch: runtime.GOARCH, Kernel: [2]int{6, 1}}
	f, err := profiles.ParseSeccomp(text, o)
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
	for _, name := range calls {
		if !permitted[name] {
			t.Errorf("%s was lost", name)
		}
	}
	if permitted["chown"] || permitted["splice"] {
		t.Error("permits what is not on the list")
	}
}
