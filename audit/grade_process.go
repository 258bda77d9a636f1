package audit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/policy"
	"github.com/safe-run/safe-run/spec"
)

const bySafeRun = "run it with safe-run"

func (g *grader) userNamespace() []Finding {
	u := &g.f.User
	switch {
	case g.f.Namespaces["user"] == "own" && !u.RootIsHostRoot:
		return ok("its own: its ids are %s of the host", rangesText(u.UIDMap))
	case g.f.Namespaces["user"] == "own":
		return finding(High, bySafeRun+": its ids are never those of the host's users",
			"its own, but an id in it is uid 0 of the host (%s)", rangesText(u.UIDMap))
	case u.UID == 0:
		return finding(High, bySafeRun+": root inside is nobody outside", "the host's: root inside is root of the host")
	}
	return finding(Medium, bySafeRun+": its ids are never those of the host's users", "the host's: uid %d inside is uid %d of the host", u.UID, u.UID)
}

func rangesText(all []IDRange) string {
	var out []string
	for _, r := range all {
		if r.Count == 1 {
			out = append(out, fmt.Sprint(r.Host))
		} else if r.Count > 0 {
			out = append(out, fmt.Sprintf("%d-%d", r.Host, r.Host+r.Count-1))
		}
	}
	return some(out)
}

func (g *grader) user() []Finding {
	u := &g.f.User
	switch {
	case u.UID == 0:
		return finding(High, bySafeRun+", or as a user: -u 1000:1000", "its first process is uid 0 of the host")
	case slices.Contains(u.Groups, 0) || u.GID == 0:
		return finding(Low, bySafeRun+", or in a group of its own: -u 1000:1000", "its first process is uid %d of the host, in the host's group 0", u.UID)
	case u.InsideUID == 0 && g.f.Namespaces["user"] == "own":
		return finding(Info, "add -u 1000:1000 if the program does not need to be root inside", "root inside, uid %d of the host", u.UID)
	}
	return ok("uid %d of the host", u.UID)
}

// hostWide are capabilities with which root of the host's user namespace is
// root of the host, the first list directly, the second by a step more
// (capabilities(7)).
func hostWide() (direct, step []string) {
	direct = []string{
		"CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_DAC_READ_SEARCH", "CAP_BPF", "CAP_SYS_BOOT", "CAP_MAC_ADMIN", "CAP_MAC_OVERRIDE",
	}
	step = []string{
		"CAP_SYS_PTRACE", "CAP_NET_ADMIN", "CAP_PERFMON", "CAP_SYSLOG", "CAP_SYS_TIME", "CAP_AUDIT_CONTROL", "CAP_AUDIT_READ",
		"CAP_SYS_RESOURCE", "CAP_SYS_TTY_CONFIG", "CAP_CHECKPOINT_RESTORE", "CAP_LINUX_IMMUTABLE", "CAP_SYS_PACCT", "CAP_IPC_OWNER",
	}
	return direct, step
}

// small are capabilities that do little even on the host's side.
func small() []string {
	return []string{
		"CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_AUDIT_WRITE", "CAP_KILL", "CAP_FSETID", "CAP_SYS_CHROOT", "CAP_LEASE",
		"CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_SYS_NICE", "CAP_IPC_LOCK", "CAP_SETPCAP",
	}
}

// weigh says how bad capabilities are for a container whose ids are apart from
// the host's, or not, and names those that make it so.
func weigh(names []string, apart bool) (s Severity, worst []string) {
	direct, step := hostWide()
	for _, name := range names {
		var one Severity
		_, noEffect := policy.HostCapability(name)
		switch {
		case apart && (spec.FreeCapability(name) || noEffect):
			one = Info
		case apart && slices.Contains([]string{"CAP_SYS_ADMIN", "CAP_NET_ADMIN"}, name):
			one = Medium
		case apart, slices.Contains(small(), name):
			one = Low
		case slices.Contains(direct, name):
			one = Critical
		case slices.Contains(step, name):
			one = High
		default:
			one = Medium
		}
		if one > s {
			s, worst = one, nil
		}
		if one == s {
			worst = append(worst, name)
		}
	}
	return s, worst
}

func (g *grader) capabilities() []Finding {
	c := &g.f.Capabilities
	var all []string
	for _, set := range [][]string{c.Permitted, c.Bounding, c.Effective, c.Ambient} {
		for _, name := range set {
			if !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	if len(all) == 0 {
		return ok("none")
	}
	s, worst := weigh(all, g.apart())
	where := "on the host"
	if g.apart() {
		where = "in its own user namespace"
	}
	fix := bySafeRun + ", without --privileged: it gives none; add back what is needed, as --cap-add " + strings.TrimPrefix(worst[0], "CAP_")
	if slices.Contains([]Severity{Critical, High}, s) {
		fix = bySafeRun + ", without --privileged and without --cap-add " + strings.TrimPrefix(worst[0], "CAP_") + "; it gives none"
	}
	if s == Info {
		fix = ""
	}
	return finding(s, fix, "%d %s: %s", len(all), where, some(worst))
}

func (g *grader) processes() (out []Finding) {
	for _, p := range g.f.Processes.Wider {
		s, worst := weigh(p.Capabilities, g.apart() && !slices.Contains(p.Lacks, "user_namespace"))
		s = max(s, Low)
		var what []string
		if len(worst) > 0 {
			what = append(what, some(worst))
		}
		for _, lack := range p.Lacks {
			words, one := lackOf(lack)
			what, s = append(what, words), max(s, one)
		}
		out = append(out, finding(s, "end it, and use safe-run exec, which gives what the container has and not more",
			"process %d (%s) has more than the first one: %s", p.PID, p.Command, strings.Join(what, ", "))...)
	}
	if len(out) > 0 {
		return out
	}
	return ok("%d looked at, none has more than the first", g.f.Processes.Count)
}

// lackOf says in words what a process has not, and how bad that is.
func lackOf(name string) (string, Severity) {
	kind, namespace := strings.CutSuffix(name, "_namespace")
	switch {
	case name == "no_new_privileges":
		return "not " + name, Low
	case name == "seccomp":
		return "no system call filter", High
	case name == "user_namespace":
		return "it is outside of the user namespace", High
	case namespace && slices.Contains([]string{"uts", "cgroup", "time"}, kind):
		return "it is in the host's " + kind + " namespace", Low
	case namespace:
		return "it is in the host's " + kind + " namespace", High
	}
	return "no " + name, High
}

func (g *grader) noNewPrivileges() []Finding {
	const fix = bySafeRun + ", or docker's --security-opt no-new-privileges"
	switch {
	case g.f.NoNewPrivileges:
		return ok("set: no program gets more by being executed")
	case g.apart() || len(g.f.Capabilities.Bounding) == 0:
		return finding(Low, fix, "not set: set-user-ID programs change their user")
	}
	return finding(Medium, fix, "not set: a set-user-ID program gets all of the bounding set")
}

func (g *grader) seccomp() []Finding {
	switch s := &g.f.Seccomp; s.Mode {
	case "filter":
		if s.Filters < 2 {
			return ok("there is one")
		}
		return ok("there are %d, one upon the other", s.Filters)
	case "strict":
		return ok("only read, write and exit")
	}
	return finding(High, bySafeRun+", without --security-opt seccomp=unconfined", "none: all system calls of the kernel can be tried")
}

func (g *grader) seccompCalls() []Finding {
	s := &g.f.Seccomp
	switch {
	case s.Mode == "disabled":
		return finding(Info, "", "there is no filter to ask")
	case s.Mode == "strict":
		return ok("all")
	case len(s.Calls) == 0:
		return finding(Info, "", "not known: %s", s.Unknown)
	}
	var allowed, others []string
	for name, verdict := range s.Calls {
		switch verdict {
		case "allowed":
			allowed = append(allowed, name)
		case "supervised":
			others = append(others, name)
		}
	}
	slices.Sort(allowed)
	slices.Sort(others)
	sev := Medium
	switch {
	case len(allowed) == 0 && len(others) > 0:
		return finding(Info, "", "not known: another program decides on %s", some(others))
	case len(allowed) == 0:
		return ok("all %d that no container needs", len(s.Calls))
	case len(allowed) <= 3:
		sev = Low
	case 2*len(allowed) > len(s.Calls):
		sev = High
	}
	return finding(sev, bySafeRun+": its filter blocks them", "it lets through %s", some(allowed))
}

func (g *grader) lsm() []Finding {
	switch m := &g.f.LSM; {
	case m.Module == "":
		return finding(Info, "turn on AppArmor or SELinux on this host", "this host has none")
	case m.Mode == "enforce":
		return ok("%s: %s", m.Module, m.Label)
	case m.Mode == "unconfined":
		return finding(Medium, bySafeRun+", without --security-opt "+m.Module+"=unconfined", "%s leaves it alone (%s)", m.Module, m.Label)
	default:
		return finding(Medium, "set the profile to enforce (aa-enforce, setenforce 1)", "%s: %s is in mode %s", m.Module, m.Label, m.Mode)
	}
}
