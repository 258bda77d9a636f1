package profiles

import (
	"fmt"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Lint says in what a filter is weaker than the built-in one for the same
// options; nothing is the good answer. It looks at the finished filter,
// wherever it came from.
func Lint(f *specs.LinuxSeccomp, o Options) []string {
	if f == nil {
		return []string{"there is no filter"}
	}
	var bad []string
	say := func(format string, args ...any) { bad = append(bad, fmt.Sprintf(format, args...)) }

	if permits(f.DefaultAction) {
		say("default action %q permits", f.DefaultAction)
	}
	if f.DefaultAction == specs.ActErrno && f.DefaultErrnoRet != nil && *f.DefaultErrnoRet == 0 {
		say("default errno 0 is success")
	}
	if arch := Arch(o.Arch); arch == "" || !slices.Equal(f.Architectures, []specs.Arch{arch}) {
		say("architectures are %q, not only the native %q", f.Architectures, arch)
	}
	if f.ListenerPath != "" || f.ListenerMetadata != "" {
		say("a listener is set")
	}
	for _, flag := range f.Flags {
		if flag != specs.LinuxSeccompFlagLog && flag != "SECCOMP_FILTER_FLAG_TSYNC" {
			say("flag %q is set", flag)
		}
	}

	g := guards(o)
	plain := ordinary(o, g)
	permitting := 0
	for _, r := range f.Syscalls {
		if !permits(r.Action) {
			continue
		}
		if r.Action != specs.ActAllow && r.Action != specs.ActLog {
			say("action %q of %q", r.Action, r.Names)
		}
		permitting++
		if repeatsArgument(r.Args) {
			say("two conditions on one argument of %q", r.Names)
			continue
		}
		for _, name := range r.Names {
			if guarded, ok := g[name]; ok {
				if !guarded.covers(r.Args) {
					say("%s is permitted beyond the built-in conditions", name)
				}
			} else if _, ok := slices.BinarySearch(plain, name); !ok {
				say("%s is permitted", name)
			}
		}
	}
	if permitting == 0 {
		say("it has no rule that permits")
	}
	return bad
}

// covers says whether every call that meets args is permitted by the guard.
func (g guard) covers(args []specs.LinuxSeccompArg) bool {
	return slices.ContainsFunc(g, func(ours []specs.LinuxSeccompArg) bool {
		return !slices.ContainsFunc(ours, func(o specs.LinuxSeccompArg) bool {
			return !slices.ContainsFunc(args, func(a specs.LinuxSeccompArg) bool { return a.Index == o.Index && implies(a, o) })
		})
	})
}

func repeatsArgument(args []specs.LinuxSeccompArg) bool {
	var seen uint64
	for _, a := range args {
		bit := uint64(1) << (a.Index & 63)
		if seen&bit != 0 {
			return true
		}
		seen |= bit
	}
	return false
}
