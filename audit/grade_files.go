package audit

import (
	"fmt"
	"slices"
	"strings"
)

func (g *grader) rootFS() []Finding {
	r := &g.f.Root
	switch {
	case r.HostPath != "":
		return finding(Critical, bySafeRun+" with an image of its own", "it is the root of the host")
	case r.ReadOnly:
		return ok("read-only")
	}
	return finding(Medium, bySafeRun+", or docker's --read-only with --tmpfs for what must be written", "writable: the program can replace its own code")
}

func (g *grader) writeExecute() []Finding {
	if all := g.f.Mounts.WritableExecutable; len(all) > 0 {
		return finding(Low, bySafeRun+", without exec for these mounts", "what is written there can be executed: %s", some(all))
	}
	return ok("none")
}

// concernSeverity says how bad it is to have such a file of the host. Sockets
// are a check of their own.
func concernSeverity(id string, writable bool) Severity {
	for _, c := range []struct {
		id              string
		readOnly, write Severity
	}{
		{"bind-root", High, Critical},
		{"bind-device", High, High},
		{"bind-kernel", Medium, Critical},
		{"bind-container-store", High, Critical},
		{"bind-secret", High, Critical},
		{"bind-home", Medium, High},
		{"bind-startup", Low, High},
		{"bind-system", Low, Critical},
		{"bind-fifo", Low, Low},
	} {
		switch {
		case c.id != id:
		case writable:
			return c.write
		default:
			return c.readOnly
		}
	}
	return OK
}

func (g *grader) hostFiles() (out []Finding) {
	plain := 0
	for _, m := range g.f.Mounts.Host {
		s, how := concernSeverity(m.Concern, m.Writable), "read-only"
		if s == OK {
			plain++
			continue
		}
		if m.Writable {
			how = "writable"
		}
		// Ids apart from the host's own no file of it, unless the mount maps them.
		if g.apart() && !m.IDMapped {
			s = lower(s)
		}
		out = append(out, finding(s, "leave out -v "+m.Source+":"+m.Target+", or bind the one file or directory it needs, with :ro",
			"%s of the host is at %s, %s: %s", m.Source, m.Target, how, m.GivesAway)...)
	}
	switch {
	case len(out) > 0:
		return out
	case plain > 0:
		return ok("%s, none of what the host needs to keep", plural(plain, "bind"))
	}
	return ok("none")
}

func (g *grader) controlSockets() (out []Finding) {
	for _, m := range g.f.Mounts.Host {
		switch m.Concern {
		case "engine-socket":
			out = append(out, finding(Critical, "leave out -v "+m.Source+":"+m.Target+": let a program outside talk to the engine",
				"%s (%s): %s", m.Target, m.Source, m.GivesAway)...)
		case "socket":
			out = append(out, finding(Medium, "leave out -v "+m.Source+":"+m.Target+", or bind a directory without the socket",
				"%s (%s): %s", m.Target, m.Source, m.GivesAway)...)
		}
	}
	if len(out) > 0 {
		return out
	}
	return ok("none of the host's in its file systems")
}

func (g *grader) abstractSockets() []Finding {
	all := g.f.AbstractSockets
	if len(all) == 0 {
		return ok("none can be reached")
	}
	s := Low
	// Shims of containerd before 1.3.9 and 1.4.3 took commands there
	// (CVE-2020-15257).
	if slices.ContainsFunc(all, func(n string) bool { return strings.HasPrefix(n, "@/containerd-shim/") }) {
		s = High
	}
	return finding(s, "leave --network host out: publish ports with -p", "%d services of the host: %s", len(all), some(all))
}

func (g *grader) propagation() []Finding {
	m := &g.f.Mounts
	switch {
	case len(m.Shared) > 0 && slices.Contains(g.f.Capabilities.Bounding, "CAP_SYS_ADMIN") && !g.apart():
		return finding(High, "leave shared out of the mounts' options", "what it mounts appears on the host: %s", some(m.Shared))
	case len(m.Shared) > 0:
		return finding(Medium, "leave shared out of the mounts' options", "mounts made there would appear on the host: %s", some(m.Shared))
	case len(m.Receiving) > 0:
		return finding(Info, "", "what the host mounts appears in it: %s", some(m.Receiving))
	}
	return ok("private")
}

func (g *grader) kernelFiles() []Finding {
	all := g.f.Mounts.WritableKernel
	if len(all) == 0 {
		return ok("none")
	}
	s := High
	switch {
	case g.apart():
		s = Low
	// core_pattern and uevent_helper name programs the kernel runs as root.
	case slices.ContainsFunc(all, func(p string) bool { return slices.Contains([]string{"/proc/sys", "/sys", "/sys/kernel"}, p) }):
		s = Critical
	}
	return finding(s, bySafeRun+", without --privileged", "%s", some(all))
}

func (g *grader) kernelMasks() []Finding {
	all := g.f.Mounts.Unmasked
	if len(all) == 0 {
		return ok("hidden")
	}
	s := Medium
	if g.apart() {
		s = Low
	}
	return finding(s, bySafeRun+", without --privileged and without systempaths=unconfined", "not hidden: %s", some(all))
}

func (g *grader) devices() (out []Finding) {
	const most = 10
	type group struct {
		s     Severity
		what  string
		nodes []string
	}
	var groups []group
	for _, d := range g.f.Devices.Nodes {
		what, s := d.risk()
		if g.apart() {
			s = lower(s) // the nodes belong to the host's root
		}
		if d.Denied {
			what, s = what+", which may not be opened", min(s, Low)
		}
		i := slices.IndexFunc(groups, func(x group) bool { return x.what == what })
		if i < 0 {
			groups, i = append(groups, group{s: s, what: what}), len(groups)
		}
		groups[i].nodes = append(groups[i].nodes, fmt.Sprintf("%s (%d:%d)", d.Path, d.Major, d.Minor))
	}
	slices.SortStableFunc(groups, func(a, b group) int { return int(b.s) - int(a.s) })
	for _, x := range groups[:min(len(groups), most)] {
		out = append(out, finding(x.s, bySafeRun+", without --privileged; --device for the one it needs", "%s: %s", x.what, some(x.nodes))...)
	}
	if len(out) > 0 {
		return out
	}
	return ok("only those every container has")
}

func (g *grader) deviceRules() []Finding {
	d := &g.f.Devices
	const fix = bySafeRun + ", without --privileged; --device for the one it needs"
	switch {
	case d.Rules == "all" && g.apart():
		return finding(Low, fix, "any device it finds a node of may be opened")
	case d.Rules == "all" && slices.Contains(g.f.Capabilities.Bounding, "CAP_MKNOD"):
		return finding(Critical, fix, "all devices of the host may be opened, and it can make their nodes")
	case d.Rules == "all":
		return finding(High, fix, "all devices of the host may be opened")
	case d.Rules != "listed":
		return finding(Info, "", "not known")
	case len(d.Allowed) > 0 && slices.ContainsFunc(d.Allowed, func(r string) bool { return strings.HasPrefix(r, "b ") || strings.Contains(r, " *:*") }):
		return finding(High, fix, "beyond what every container may use: %s", some(d.Allowed))
	case len(d.Allowed) > 0:
		return finding(Low, fix, "beyond what every container may use: %s", some(d.Allowed))
	}
	return ok("only those every container has")
}

func (g *grader) unread() []Finding {
	if all := g.f.Unread; len(all) > 0 {
		s := Low
		if g.f.MountsUnread {
			s = High
		}
		return finding(s, "look at it by hand: what cannot be looked at may be hidden on purpose", "%s", some(all))
	}
	return ok("all was read")
}
