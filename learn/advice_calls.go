package learn

import (
	"fmt"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// callAdvice is about calls that nothing explains but the filter, a limit, or
// the kernel itself.
func callAdvice(all advices, rec Recording, w Context) {
	if len(rec.Refused) == 0 {
		return
	}
	filter, with := builtinRules(w.Capabilities), filterKeys()
	for _, r := range rec.Refused {
		a := advice{rank: rankFilter, what: shown(r.Name), why: "refused by the system call filter", next: "it cannot be given", count: r.Count}
		rules, permitted := filter[r.Name]
		argument := ""
		if permitted && !permitsArgument(rules, r) {
			argument = argumentWords(r)
			a.what += " " + argument
		}
		switch {
		case r.Errno == unix.ENOSYS:
			if tolerated(r.Name) {
				continue
			}
			a.rank, a.why, a.next = rankProbe, "the kernel or the filter has no such call", ""
		case argument != "" || !permitted:
			if name := with.unlocks(r); name != "" {
				a.next = w.capabilityFor(name)
			} else if r.Name == "socket" && r.Arg == unix.AF_PACKET {
				a.next = "--cap-add NET_RAW and NET_ADMIN, which the site's policy must grant"
			}
			if flag := nameFlag(r.Name); flag != "" {
				a.next = flag
			}
			if !permitted && tolerated(r.Name) {
				a.rank = rankProbe
			}
		case w.OwnSeccomp:
			a.why, a.next = "refused, perhaps by the profile's own list of system calls", "add "+shown(r.Name)+" to the list (seccomp: allow)"
		default:
			if r.Name == "epoll_ctl" || r.Name == "setpgid" {
				continue // a regular file is always ready; a session's leader stays in its group
			}
			a.rank, a.why, a.next = rankMode, "refused by the kernel", ""
			if setsLimit(r.Name) {
				a.why, a.next = "the limit cannot be raised", raiseLimit
			}
		}
		all.add("call "+a.what, a, r.Process)
	}
}

// filtered moves calls with a path that the built-in filter refused, as mount,
// from the paths to the refused calls: no file's mode is the reason.
func filtered(rec Recording, w Context) ([]PathUse, []RefusedCall) {
	if !slices.ContainsFunc(rec.Paths, func(p PathUse) bool { return p.Errno == unix.EPERM }) {
		return rec.Paths, rec.Refused
	}
	filter, calls := builtinRules(w.Capabilities), slices.Clone(rec.Refused)
	paths := slices.DeleteFunc(slices.Clone(rec.Paths), func(p PathUse) bool {
		_, permitted := filter[p.Syscall]
		if permitted || p.Errno != unix.EPERM {
			return false
		}
		calls = append(calls, RefusedCall{Name: p.Syscall, Errno: p.Errno, Process: p.Process, Count: p.Count})
		return true
	})
	return paths, calls
}

// capabilityFor is the flag that gives a capability, or why none does.
func (w Context) capabilityFor(name string) string {
	if w.HostOnly != nil {
		if gives, only := w.HostOnly(name); only {
			return hostsOwn(name, gives)
		}
	}
	return addCapability(name, w)
}

// nameFlag is the flag that does what a call was to do.
func nameFlag(call string) string {
	switch call {
	case "sethostname":
		return "--hostname NAME"
	case "setdomainname":
		return "--domainname NAME"
	}
	return ""
}

// setsLimit says whether a call sets what --ulimit sets.
func setsLimit(call string) bool { return call == "prlimit64" || call == "setrlimit" }

const raiseLimit = "--ulimit NAME=NUMBER, as far as the site's policy lets you"

// tolerated are calls that libraries and programs try and do without.
func tolerated(name string) bool {
	return slices.Contains([]string{
		"add_key", "cachestat", "clone3", "close_range", "epoll_pwait2", "faccessat2", "fchmodat2", "futex_waitv", "get_mempolicy",
		"getrandom", "io_uring_setup", "kcmp", "keyctl", "landlock_create_ruleset", "mbind", "membarrier", "memfd_secret", "move_pages",
		"name_to_handle_at", "openat2", "perf_event_open", "personality", "pidfd_open", "preadv2", "pwritev2", "request_key", "rseq",
		"set_mempolicy", "statmount", "statx", "syslog", "userfaultfd",
	}, name)
}

// permitsArgument says whether a call with the recorded argument may meet one
// of the rules. Of other arguments nothing is known.
func permitsArgument(rules [][]specs.LinuxSeccompArg, r RefusedCall) bool {
	index, recorded := uint(0), true
	switch r.Name {
	case "socket":
		if r.Arg == unix.AF_NETLINK {
			return false // ROUTE would not have been refused
		}
	case "socketpair", "clone", "unshare", "personality":
	case "ioctl":
		index = 1
	default:
		recorded = false
	}
	return !recorded || slices.ContainsFunc(rules, func(conditions []specs.LinuxSeccompArg) bool {
		return !slices.ContainsFunc(conditions, func(c specs.LinuxSeccompArg) bool {
			switch {
			case c.Index != index:
				return false
			case c.Op == specs.OpEqualTo:
				return r.Arg != c.Value
			case c.Op == specs.OpMaskedEqual:
				return r.Arg&c.Value != c.ValueTwo
			}
			return false
		})
	})
}

// argumentWords tells the recorded argument of a call.
func argumentWords(r RefusedCall) string {
	switch r.Name {
	case "clone", "unshare":
		return "of new namespaces"
	case "ioctl":
		return fmt.Sprintf("%#x", r.Arg)
	case "socket", "socketpair":
		families := map[uint64]string{
			unix.AF_PACKET: "AF_PACKET", unix.AF_NETLINK: "AF_NETLINK (protocols other than ROUTE)", unix.AF_INET: "AF_INET", unix.AF_INET6: "AF_INET6",
			unix.AF_ALG: "AF_ALG", unix.AF_VSOCK: "AF_VSOCK", unix.AF_BLUETOOTH: "AF_BLUETOOTH", unix.AF_CAN: "AF_CAN", unix.AF_KEY: "AF_KEY",
			unix.AF_TIPC: "AF_TIPC", unix.AF_RDS: "AF_RDS", unix.AF_XDP: "AF_XDP", unix.AF_UNIX: "AF_UNIX",
		}
		if name, known := families[r.Arg]; known {
			return name
		}
		return fmt.Sprintf("of family %d", r.Arg)
	}
	return fmt.Sprintf("with %#x", r.Arg)
}

// keys are the capabilities the built-in filter has conditions on, and what it
// permits with each.
type keys []struct {
	name  string
	rules map[string][][]specs.LinuxSeccompArg
}

// filterKeys gives them, those that need no grant first.
func filterKeys() (k keys) {
	for _, name := range []string{
		"CAP_NET_RAW", "CAP_SYS_CHROOT", "CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_SYS_NICE",
		"CAP_DAC_READ_SEARCH", "CAP_SYS_TTY_CONFIG", "CAP_SYS_TIME", "CAP_SYSLOG", "CAP_SYS_PACCT", "CAP_SYS_RAWIO", "CAP_SYS_MODULE",
		"CAP_SYS_BOOT", "CAP_PERFMON", "CAP_BPF",
	} {
		k = append(k, struct {
			name  string
			rules map[string][][]specs.LinuxSeccompArg
		}{name, builtinRules([]string{name})})
	}
	return k
}

// unlocks gives the capability with which the built-in filter would permit a
// call; "" if there is none.
func (k keys) unlocks(r RefusedCall) string {
	for _, key := range k {
		if rules, ok := key.rules[r.Name]; ok && permitsArgument(rules, r) {
			return key.name
		}
	}
	return ""
}
