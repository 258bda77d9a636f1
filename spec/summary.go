package spec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Summary says in words what a container's spec does otherwise than docker's
// defaults would, one line each: "subject  what". It is for people.
func Summary(in Input, s *specs.Spec) string {
	var lines [][2]string
	say := func(subject, format string, args ...any) {
		lines = append(lines, [2]string{subject, fmt.Sprintf(format, args...)})
	}

	if m := s.Linux.UIDMappings; len(m) > 0 {
		say("ids", "0-%d inside are %d-%d on the host (docker: the host's own)", m[0].Size-1, m[0].HostID, m[0].HostID+m[0].Size-1)
	} else {
		say("ids", "the host's own, by grant")
	}
	say("user", "%s", userWords(s))
	say("capabilities", "%s", capabilityWords(s))
	say("privileges", "%s", pick(s.Process.NoNewPrivileges, "no program can raise them (docker: set-user-ID programs can)", "set-user-ID programs can raise them, by grant"))
	say("seccomp", "%s", seccompWords(in, s))
	if p := s.Process.ApparmorProfile; p != "" {
		say("apparmor", "profile %s", p)
	} else if in.Host.AppArmor {
		say("apparmor", "none, by grant")
	}
	if l := s.Process.SelinuxLabel; l != "" {
		say("selinux", "%s", l)
	} else if in.Host.SELinux {
		say("selinux", "none, by grant")
	}
	say("root files", "%s", pick(s.Root.Readonly, "read-only (docker: writable)", "writable, by grant"))
	say("writable", "%s", strings.Join(mountWords(s, func(o mountOptions) bool { return o.writable() }), ", "))
	if shown := mountWords(s, func(o mountOptions) bool { return o.bind && o.readonly }); len(shown) > 0 {
		say("read-only", "%s", strings.Join(shown, ", "))
	}
	if both := mountWords(s, func(o mountOptions) bool { return o.writable() && !o.noexec }); len(both) > 0 {
		say("exec", "%s: writable and executable, as asked", strings.Join(both, ", "))
	}
	say("limits", "%s (docker: none of these)", strings.Join(limitWords(s), ", "))
	say("namespaces", "%s", namespaceWords(s))
	lines = append(lines, networkLines(in, s)...)
	lines = append(lines, supervisionLines(in)...)
	if extra := sysctlWords(s); extra != "" {
		say("sysctls", "%s", extra)
	}
	if d := in.Grants.Devices; len(d) > 0 {
		var names []string
		for _, dev := range d {
			names = append(names, shown(dev.Path)+" "+devicePerms(in.Grants, dev.Path))
		}
		say("devices", "%s, by grant", strings.Join(names, ", "))
	}
	if ids := in.Grants.IDs; len(ids) > 0 {
		say("granted", "%s", strings.Join(ids, ", "))
	}

	width := 0
	for _, l := range lines {
		width = max(width, len(l[0]))
	}
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%-*s  %s\n", width, l[0], l[1])
	}
	return b.String()
}

func pick(first bool, yes, no string) string {
	if first {
		return yes
	}
	return no
}

// shown keeps control characters of hostile names out of a terminal.
func shown(s string) string {
	if len(s) > 128 {
		s = s[:128] + "..."
	}
	if q := strconv.Quote(s); q[1:len(q)-1] != s {
		return q
	}
	return s
}

func userWords(s *specs.Spec) string {
	u := s.Process.User
	words := fmt.Sprintf("%d:%d", u.UID, u.GID)
	if u.UID == 0 {
		words += ", root of the container only"
	}
	if len(u.AdditionalGids) > 1 {
		words += ", groups " + strings.Trim(fmt.Sprint(u.AdditionalGids), "[]")
	}
	return words
}

func capabilityWords(s *specs.Spec) string {
	caps := s.Process.Capabilities.Bounding
	if len(caps) == 0 {
		return "none (docker: 14)"
	}
	names := make([]string, 0, len(caps))
	for _, c := range caps {
		names = append(names, strings.TrimPrefix(c, "CAP_"))
	}
	words := strings.Join(names, " ")
	if len(s.Process.Capabilities.Ambient) > 0 {
		words += " (also without being root, otherwise than docker)"
	}
	return words
}

func seccompWords(in Input, s *specs.Spec) string {
	switch f := s.Linux.Seccomp; {
	case f == nil:
		return "no filter, by grant"
	case in.Workload.Seccomp != nil:
		return "your file, narrowed to the built-in filter"
	case writableBind(in):
		return "built-in, tighter than docker's; no set-ID bits, since a host directory is writable"
	}
	return "built-in, tighter than docker's"
}

func mountWords(s *specs.Spec, pick func(mountOptions) bool) []string {
	var out []string
	for _, m := range s.Mounts {
		o := optionsOf(m)
		if kernelTypes[m.Destination] != "" && m.Destination != "/dev/shm" || !pick(o) {
			continue
		}
		words := shown(m.Destination)
		if m.Type == "tmpfs" {
			words += " " + units.BytesSize(float64(o.size))
		}
		out = append(out, words)
	}
	return out
}

func limitWords(s *specs.Spec) []string {
	var out []string
	r := s.Linux.Resources
	if m := r.Memory; m != nil && m.Limit != nil {
		words := "memory " + units.BytesSize(float64(*m.Limit))
		if m.Swap != nil && *m.Swap > *m.Limit {
			words += ", swap " + units.BytesSize(float64(*m.Swap-*m.Limit))
		} else {
			words += " without swap"
		}
		out = append(out, words)
	} else {
		out = append(out, "memory unlimited, by grant")
	}
	if p := r.Pids; p != nil && p.Limit != nil {
		out = append(out, fmt.Sprintf("%d processes", *p.Limit))
	} else {
		out = append(out, "processes unlimited, by grant")
	}
	for _, l := range s.Process.Rlimits {
		switch l.Type {
		case "RLIMIT_NOFILE":
			out = append(out, fmt.Sprintf("%d open files", l.Hard))
		case "RLIMIT_CORE":
			out = append(out, pick(l.Hard == 0, "no core dumps", "core dumps up to "+units.BytesSize(float64(l.Hard))))
		}
	}
	if c := r.CPU; c != nil && c.Quota != nil && c.Period != nil {
		out = append(out, fmt.Sprintf("%g CPUs", float64(*c.Quota)/float64(*c.Period)))
	}
	return out
}

func namespaceWords(s *specs.Spec) string {
	all := []specs.LinuxNamespaceType{
		specs.UserNamespace, specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace,
		specs.NetworkNamespace, specs.MountNamespace, specs.CgroupNamespace,
	}
	var own, joined, hosts []string
	for _, typ := range all {
		i := slices.IndexFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == typ })
		switch {
		case i < 0:
			hosts = append(hosts, string(typ))
		case s.Linux.Namespaces[i].Path != "":
			joined = append(joined, string(typ))
		default:
			own = append(own, string(typ))
		}
	}
	words := "own: " + strings.Join(own, " ")
	if len(joined) > 0 {
		words += "; another container's: " + strings.Join(joined, " ")
	}
	if len(hosts) > 0 {
		words += "; the host's, by grant: " + strings.Join(hosts, " ")
	}
	return words
}

func sysctlWords(s *specs.Spec) string {
	var out []string
	guarded := 0
	for _, name := range sortedKeys(s.Linux.Sysctl) {
		if value := s.Linux.Sysctl[name]; GuardedSysctl(name) && value == "0" {
			guarded++
		} else {
			out = append(out, name+"="+shown(value))
		}
	}
	if guarded > 0 {
		out = append(out, "no redirects, no router advertisements")
	}
	return strings.Join(out, ", ")
}
