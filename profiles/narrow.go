package profiles

import (
	"math"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/internal/fail"
)

// narrow gives the intersection of a file's rules with the built-in profile.
// Each rule in names one syscall.
func narrow(rules []specs.LinuxSyscall, o Options) ([]specs.LinuxSyscall, error) {
	g := guards(o)
	plain := map[string]bool{}
	for _, name := range ordinary(o, g) {
		plain[name] = true
	}
	fallBack := noSys(o).Names

	var forbidden, allowAll, logAll []string
	var conditional, denials []specs.LinuxSyscall
	kinds := map[string]ruleKinds{}
	for _, r := range rules {
		name := r.Names[0]
		if slices.Contains(fallBack, name) {
			if permits(r.Action) && name == "clone3" && !slices.Contains(o.Capabilities, "CAP_SYS_ADMIN") {
				forbidden = append(forbidden, name)
			}
			continue // fails with ENOSYS in any case
		}
		kinds[name] = kinds[name].with(r)
		if !permits(r.Action) {
			denials = append(denials, r)
			continue
		}
		if needs, listed := never[name]; listed && (needs == "" || !slices.Contains(o.Capabilities, needs)) {
			forbidden = append(forbidden, name)
			continue
		}
		guarded, isGuarded := g[name]
		switch {
		case isGuarded:
			for _, ours := range guarded {
				args, possible, err := intersect(name, ours, r.Args)
				if err != nil {
					return nil, err
				}
				if possible {
					conditional = append(conditional, specs.LinuxSyscall{Names: r.Names, Action: r.Action, Args: args})
				}
			}
		case !plain[name]:
			// Not in the built-in profile either: stays denied.
		case len(r.Args) > 0:
			conditional = append(conditional, specs.LinuxSyscall{Names: r.Names, Action: r.Action, Args: r.Args})
		case r.Action == specs.ActLog:
			logAll = append(logAll, name)
		default:
			allowAll = append(allowAll, name)
		}
	}
	if len(forbidden) > 0 {
		slices.Sort(forbidden)
		return nil, fail.New(fail.Refused, "seccomp profile: permits %s, which no container is given", strings.Join(slices.Compact(forbidden), ", ")).
			Hint("take these names out of the profile")
	}
	for _, name := range sortedNames(kinds) {
		if kinds[name].unclear() {
			return nil, fail.New(fail.Usage, "seccomp profile: syscall %q has rules with different actions, one of them without conditions; the runtime would keep only one", name).
				Hint("write only permitting rules, with conditions")
		}
	}
	if len(allowAll)+len(logAll)+len(conditional) == 0 {
		return nil, fail.New(fail.Usage, "seccomp profile: no rule permits anything that the built-in profile permits; nothing could run")
	}
	var out []specs.LinuxSyscall
	for _, group := range []specs.LinuxSyscall{
		{Names: allowAll, Action: specs.ActAllow},
		{Names: logAll, Action: specs.ActLog},
	} {
		if len(group.Names) > 0 {
			slices.Sort(group.Names)
			group.Names = slices.Compact(group.Names)
			out = append(out, group)
		}
	}
	return append(append(out, needed(conditional)...), denials...), nil
}

// needed leaves out rules that permit nothing that another one of them does
// not: joining the alternatives of a file with our own makes many.
func needed(rules []specs.LinuxSyscall) (out []specs.LinuxSyscall) {
	of := map[string][]int{}
	for i, r := range rules {
		of[r.Names[0]] = append(of[r.Names[0]], i)
	}
	for i, r := range rules {
		spare := slices.ContainsFunc(of[r.Names[0]], func(j int) bool {
			o := rules[j]
			return i != j && o.Action == r.Action && within(r.Args, o.Args) && (j < i || !within(o.Args, r.Args))
		})
		if !spare {
			out = append(out, r)
		}
	}
	return out
}

// within says whether all that meets the conditions a meets b; false may also
// mean that it is not known.
func within(a, b []specs.LinuxSeccompArg) bool {
	return !slices.ContainsFunc(b, func(want specs.LinuxSeccompArg) bool {
		return !slices.ContainsFunc(a, func(has specs.LinuxSeccompArg) bool { return has.Index == want.Index && implies(has, want) })
	})
}

// ruleKinds are the kinds of rules a file has for one syscall.
type ruleKinds struct {
	allow, log, deny int
	bareAllow        bool // one that permits has no conditions
	bareDeny         bool
}

func (k ruleKinds) with(r specs.LinuxSyscall) ruleKinds {
	bare := len(r.Args) == 0
	switch {
	case r.Action == specs.ActLog:
		k.log++
		k.bareAllow = k.bareAllow || bare
	case permits(r.Action):
		k.allow++
		k.bareAllow = k.bareAllow || bare
	default:
		k.deny++
		k.bareDeny = k.bareDeny || bare
	}
	return k
}

// unclear: libseccomp lets a rule without conditions swallow the others of
// the same syscall, whatever they say.
func (k ruleKinds) unclear() bool {
	kinds := 0
	for _, n := range []int{k.allow, k.log, k.deny} {
		if n > 0 {
			kinds++
		}
	}
	return kinds > 1 && (k.bareAllow || k.bareDeny)
}

// permits says whether an action lets the syscall through.
func permits(a specs.LinuxSeccompAction) bool {
	switch a {
	case specs.ActErrno, specs.ActKill, specs.ActKillProcess, specs.ActKillThread, specs.ActTrap:
		return false
	}
	return true
}

// intersect gives the conditions under which both lists hold; possible is
// false if they never can. A rule has at most one condition per argument,
// since runc reads two as alternatives; what would need two is an error.
func intersect(name string, ours, theirs []specs.LinuxSeccompArg) (args []specs.LinuxSeccompArg, possible bool, err error) {
	args = slices.Clone(ours)
	for _, t := range theirs {
		i := slices.IndexFunc(args, func(a specs.LinuxSeccompArg) bool { return a.Index == t.Index })
		switch {
		case i < 0:
			args = append(args, t)
		case implies(args[i], t):
		case implies(t, args[i]):
			args[i] = t
		case excludes(args[i], t):
			return nil, false, nil
		case args[i].Op == specs.OpMaskedEqual && t.Op == specs.OpMaskedEqual:
			args[i].Value |= t.Value
			args[i].ValueTwo |= t.ValueTwo
		default:
			return nil, false, fail.New(fail.Usage,
				"seccomp profile: the condition on argument %d of %s cannot be joined with the built-in one", t.Index, name).
				Hint("permit %s without conditions, or for exact values", name)
		}
	}
	return args, true, nil
}

// implies says whether every value that meets a meets b; false may also mean
// that it is not known.
func implies(a, b specs.LinuxSeccompArg) bool {
	switch {
	case a.Op == specs.OpEqualTo:
		return meets(b, a.Value)
	case a.Op == specs.OpMaskedEqual && b.Op == specs.OpMaskedEqual:
		return b.Value&^a.Value == 0 && a.ValueTwo&b.Value == b.ValueTwo
	case a.Op == b.Op && a.Value == b.Value && a.ValueTwo == b.ValueTwo:
		return true
	}
	low, high, is := interval(a)
	if !is {
		return false
	}
	if b.Op == specs.OpNotEqual {
		return b.Value < low || b.Value > high
	}
	l, h, is := interval(b)
	return is && l <= low && high <= h
}

// interval gives the values that meet an ordering condition, which are low to
// high; is tells that it is one, and that there are any.
func interval(c specs.LinuxSeccompArg) (low, high uint64, is bool) {
	low, high = 0, math.MaxUint64
	switch c.Op {
	case specs.OpEqualTo:
		low, high = c.Value, c.Value
	case specs.OpLessThan:
		if c.Value == 0 {
			return 0, 0, false
		}
		high = c.Value - 1
	case specs.OpLessEqual:
		high = c.Value
	case specs.OpGreaterThan:
		if c.Value == math.MaxUint64 {
			return 0, 0, false
		}
		low = c.Value + 1
	case specs.OpGreaterEqual:
		low = c.Value
	default:
		return 0, 0, false
	}
	return low, high, true
}

// excludes says whether no value meets both.
func excludes(a, b specs.LinuxSeccompArg) bool {
	switch {
	case a.Op == specs.OpEqualTo:
		return !meets(b, a.Value)
	case b.Op == specs.OpEqualTo:
		return !meets(a, b.Value)
	case a.Op == specs.OpMaskedEqual && b.Op == specs.OpMaskedEqual:
		common := a.Value & b.Value
		return a.ValueTwo&common != b.ValueTwo&common
	}
	low, high, is := interval(a)
	l, h, are := interval(b)
	return is && are && (high < l || h < low)
}

// meets evaluates a condition as the filter does, in 64 bits.
func meets(c specs.LinuxSeccompArg, v uint64) bool {
	switch c.Op {
	case specs.OpEqualTo:
		return v == c.Value
	case specs.OpNotEqual:
		return v != c.Value
	case specs.OpLessThan:
		return v < c.Value
	case specs.OpLessEqual:
		return v <= c.Value
	case specs.OpGreaterThan:
		return v > c.Value
	case specs.OpGreaterEqual:
		return v >= c.Value
	case specs.OpMaskedEqual:
		return v&c.Value == c.ValueTwo
	}
	return false
}
