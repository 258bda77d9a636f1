package spec

import (
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func clean(p string) string { return path.Clean(p) }

func boundedRlimits(s *specs.Spec, v VerifyInput) (bad []string) {
	seen := map[string]bool{}
	for _, l := range s.Process.Rlimits {
		bad = append(bad, violation(seen[l.Type], "%s is there twice", l.Type)...)
		seen[l.Type] = true
		bad = append(bad, violation(l.Soft > l.Hard, "%s: soft limit above the hard one", l.Type)...)
		switch l.Type {
		case "RLIMIT_CORE", "RLIMIT_NOFILE":
			bad = append(bad, violation(l.Hard == math.MaxUint64, "%s is unlimited", l.Type)...)
		}
		if l.Type == "RLIMIT_NOFILE" && v.Limits.MaxNofile > 0 {
			bad = append(bad, violation(l.Hard > uint64(v.Limits.MaxNofile), "RLIMIT_NOFILE %d is above the maximum", l.Hard)...)
		}
	}
	for _, name := range []string{"RLIMIT_CORE", "RLIMIT_NOFILE"} {
		bad = append(bad, violation(!seen[name], "%s is not set", name)...)
	}
	return bad
}

func cgroupLimits(s *specs.Spec, v VerifyInput) (bad []string) {
	r, g := s.Linux.Resources, v.Grants
	if m := r.Memory; m == nil || m.Limit == nil {
		bad = append(bad, violation(!g.UnlimitedMemory, "no memory limit")...)
	} else {
		bad = append(bad, violation(*m.Limit <= 0, "memory limit %d", *m.Limit)...)
		bad = append(bad, violation(m.Swap == nil || *m.Swap < *m.Limit, "swap is not limited")...)
		if most := v.Limits.MaxMemory; most > 0 {
			bad = append(bad, violation(*m.Limit > most || m.Swap != nil && *m.Swap > most, "memory or swap above the maximum of %d", most)...)
		}
		bad = append(bad, violation(m.DisableOOMKiller != nil && *m.DisableOOMKiller, "the OOM killer is off")...)
	}
	if p := r.Pids; p == nil || p.Limit == nil {
		bad = append(bad, violation(!g.UnlimitedPids, "no limit of processes")...)
	} else {
		most := v.Limits.MaxPids
		bad = append(bad, violation(*p.Limit <= 0 || most > 0 && *p.Limit > most, "limit of processes %d", *p.Limit)...)
	}
	if c := r.CPU; c != nil {
		bad = append(bad, violation(c.RealtimePeriod != nil || c.RealtimeRuntime != nil, "real-time CPU time")...)
		if c.Quota != nil {
			bad = append(bad, violation(*c.Quota <= 0, "CPU quota %d", *c.Quota)...)
		}
	}
	adj := s.Process.OOMScoreAdj
	bad = append(bad, violation(adj == nil || *adj < 0, "the host's programs would be killed before the container's")...)
	for file, value := range r.Unified {
		bad = append(bad, violation(file != oomGroup || value != "1", "cgroup file %.64q", file)...)
	}
	return append(bad, violation(len(r.HugepageLimits)+len(r.Rdma) > 0 || r.Network != nil, "cgroup settings nothing here makes")...)
}

// explicitDevices: all is denied, then named character devices are permitted.
func explicitDevices(s *specs.Spec, v VerifyInput) (bad []string) {
	rules := s.Linux.Resources.Devices
	if len(rules) == 0 || rules[0].Allow || rules[0].Access != "rwm" || rules[0].Type != "" && rules[0].Type != "a" || rules[0].Major != nil || rules[0].Minor != nil {
		return []string{"the first rule does not deny all devices"}
	}
	for _, r := range rules[1:] {
		bad = append(bad, violation(r.Allow && !permittedDevice(r, v.Grants), "device rule %s %s:%s %s", r.Type, number(r.Major), number(r.Minor), r.Access)...)
	}
	return bad
}

func number(n *int64) string {
	if n == nil {
		return "*"
	}
	return strconv.FormatInt(*n, 10)
}

func permittedDevice(r specs.LinuxDeviceCgroup, g Grants) bool {
	if r.Type != "c" || r.Major == nil {
		return false
	}
	for _, d := range defaultDevices {
		if *r.Major == d[0] && (d[1] < 0 || r.Minor != nil && *r.Minor == d[1]) {
			return true
		}
	}
	return slices.ContainsFunc(g.Devices, func(d specs.LinuxDevice) bool {
		return d.Type == "c" && d.Major == *r.Major && r.Minor != nil && d.Minor == *r.Minor &&
			strings.Trim(r.Access, devicePerms(g, d.Path)) == ""
	})
}

func ownCgroup(s *specs.Spec, v VerifyInput) []string {
	return violation(!verifiedCgroup(s.Linux.CgroupsPath, v), "cgroup %q", s.Linux.CgroupsPath)
}

func cgroupReadonly(s *specs.Spec, _ VerifyInput) (bad []string) {
	for _, m := range s.Mounts {
		if m.Type == "cgroup" || m.Type == "cgroup2" || within(clean(m.Destination), "/sys/fs/cgroup") {
			bad = append(bad, violation(optionsOf(m).writable(), "cgroups at %q are writable", m.Destination)...)
		}
	}
	return bad
}

func allowedSysctls(s *specs.Spec, v VerifyInput) (bad []string) {
	own := map[specs.LinuxNamespaceType]bool{} // not joined
	for _, n := range s.Linux.Namespaces {
		own[n.Type] = n.Path == ""
	}
	for name, value := range s.Linux.Sysctl {
		// What nestedUserNS may be is looked at below.
		ok := sysctlName(name) && NamespacedSysctl(name, own[specs.IPCNamespace], own[specs.NetworkNamespace]) ||
			grantedSysctl(name, v.Grants, own[specs.UserNamespace]) ||
			own[specs.UserNamespace] && (name == nestedUserNS || value != "" && value == sharedCounts[name])
		bad = append(bad, violation(!ok, "sysctl %.64q", name)...)
	}
	if own[specs.NetworkNamespace] {
		for _, name := range routeSysctls(v.Host) {
			bad = append(bad, violation(s.Linux.Sysctl[name] != "0" && !slices.Contains(v.Grants.Sysctls, name), "%s is not 0", name)...)
		}
	}
	for name, value := range sharedCounts {
		free := own[specs.UserNamespace] && s.Linux.Sysctl[name] != value && !slices.Contains(v.Grants.Sysctls, name)
		bad = append(bad, violation(free, "%s is not %s", name, value)...)
	}
	nested := own[specs.UserNamespace] && s.Linux.Sysctl[nestedUserNS] != "0" && !slices.Contains(v.Grants.Sysctls, nestedUserNS)
	return append(bad, violation(nested, "%s is not 0", nestedUserNS)...)
}

// networkModeIn says whose network namespace a spec has.
func networkModeIn(s *specs.Spec) networkMode {
	i := slices.IndexFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
	switch {
	case i < 0:
		return hostNetwork
	case s.Linux.Namespaces[i].Path != "":
		return joinedNetwork
	}
	return ownNetwork
}

func pathsMasked(s *specs.Spec, v VerifyInput) (bad []string) {
	sysIsHosts := slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool {
		return m.Destination == "/sys" && m.Type != "sysfs" && !joinedSys(s, m, v)
	})
	for _, p := range masks(v.Host, sysIsHosts) {
		bad = append(bad, violation(!slices.Contains(s.Linux.MaskedPaths, p), "%s is not masked", p)...)
	}
	for _, p := range readonly(v.Host) {
		bad = append(bad, violation(!slices.Contains(s.Linux.ReadonlyPaths, p), "%s is not read-only", p)...)
	}
	return bad
}
