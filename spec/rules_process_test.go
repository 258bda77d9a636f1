package spec

import (
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func setsOf(s *specs.Spec) map[string]*[]string {
	c := s.Process.Capabilities
	return map[string]*[]string{"bounding": &c.Bounding, "effective": &c.Effective, "permitted": &c.Permitted, "inheritable": &c.Inheritable, "ambient": &c.Ambient}
}

func TestCapabilityRule(t *testing.T) {
	var cases []ruleCase
	for name := range setsOf(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}}) {
		cases = append(
			cases,
			ruleCase{"capabilities", "none given: " + name, func(s *specs.Spec, _ *VerifyInput) { *setsOf(s)[name] = nil }, true},
			ruleCase{"capabilities", "one nobody gave: " + name, func(s *specs.Spec, _ *VerifyInput) {
				s.Process.Capabilities.Bounding = append(s.Process.Capabilities.Bounding, "CAP_SYS_PTRACE")
				*setsOf(s)[name] = append(*setsOf(s)[name], "CAP_SYS_PTRACE")
			}, true},
			ruleCase{"capabilities", "a free one beyond the bounding set: " + name, func(s *specs.Spec, _ *VerifyInput) {
				*setsOf(s)[name] = append(*setsOf(s)[name], "CAP_CHOWN")
			}, name != "bounding"},
		)
	}
	root := func(s *specs.Spec) {
		s.Process.User.UID = 0
		s.Process.Capabilities.Inheritable, s.Process.Capabilities.Ambient = []string{}, []string{}
	}
	cases = append(
		cases,
		ruleCase{"capabilities", "of root", func(s *specs.Spec, _ *VerifyInput) { root(s) }, false},
		ruleCase{"capabilities", "an inheritable one of root", func(s *specs.Spec, _ *VerifyInput) {
			root(s)
			s.Process.Capabilities.Inheritable = []string{"CAP_NET_ADMIN"}
		}, true},
		ruleCase{"capabilities", "an ambient one of root", func(s *specs.Spec, _ *VerifyInput) {
			root(s)
			s.Process.Capabilities.Ambient = []string{"CAP_NET_ADMIN"}
		}, true},
	)
	runRules(t, rich(), cases)
	// Each set is looked at, one by one.
	good, err := Build(rich())
	must(t, err)
	for name := range setsOf(good) {
		s := deepCopy(t, good)
		*setsOf(s)[name] = []string{"CAP_SYS_BOOT"}
		found := strings.Join(ask(t, "capabilities", s, VerifyFor(rich())), "\n")
		if !strings.Contains(found, "CAP_SYS_BOOT in the "+name+" set") {
			t.Errorf("%s: %s", name, found)
		}
	}
}

func TestProcessRules(t *testing.T) {
	in := rich()
	runRules(t, in, []ruleCase{
		{"rootfs-readonly", "given", func(s *specs.Spec, v *VerifyInput) { s.Root.Readonly, v.Grants.WritableRootfs = false, true }, false},
		{"rootfs-readonly", "given, elsewhere", func(s *specs.Spec, v *VerifyInput) { s.Root.Path, v.Grants.WritableRootfs = "/", true }, true},
		{"no-new-privileges", "given", func(s *specs.Spec, v *VerifyInput) { s.Process.NoNewPrivileges, v.Grants.NewPrivileges = false, true }, false},
		{"seccomp", "none, given", func(s *specs.Spec, v *VerifyInput) { s.Linux.Seccomp, v.Grants.UnconfinedSeccomp = nil, true }, false},
		{"seccomp", "a weak one, none given", func(s *specs.Spec, v *VerifyInput) {
			s.Linux.Seccomp.DefaultAction, v.Grants.UnconfinedSeccomp = specs.ActAllow, true
		}, true},
		{"seccomp", "without capability sets", func(s *specs.Spec, _ *VerifyInput) { s.Process.Capabilities = nil }, false},

		{"lsm", "no AppArmor profile", func(_ *specs.Spec, v *VerifyInput) { v.Host.AppArmor = true }, true},
		{"lsm", "no AppArmor profile, given", func(_ *specs.Spec, v *VerifyInput) { v.Host.AppArmor, v.Grants.UnconfinedAppArmor = true, true }, false},
		{"lsm", "ours", func(s *specs.Spec, v *VerifyInput) { s.Process.ApparmorProfile, v.AppArmorProfile = "a", "a" }, false},
		{"lsm", "another", func(s *specs.Spec, v *VerifyInput) { s.Process.ApparmorProfile, v.AppArmorProfile = "b", "a" }, true},
		{"lsm", "unconfined", func(s *specs.Spec, v *VerifyInput) {
			s.Process.ApparmorProfile, v.AppArmorProfile = "unconfined", "unconfined"
		}, true},
		{"lsm", "one that was not loaded for it", func(_ *specs.Spec, v *VerifyInput) { v.AppArmorProfile = "a" }, false},
		{"lsm", "no label", func(_ *specs.Spec, v *VerifyInput) { v.Host.SELinux = true }, true},
		{"lsm", "no label, given", func(_ *specs.Spec, v *VerifyInput) { v.Host.SELinux, v.Grants.LabelDisable = true, true }, false},
		{"lsm", "our label", func(s *specs.Spec, v *VerifyInput) { s.Process.SelinuxLabel, v.SELinuxLabel = "a", "a" }, false},
		{"lsm", "another label", func(s *specs.Spec, v *VerifyInput) { s.Process.SelinuxLabel, v.SELinuxLabel = "b", "a" }, true},
		{"lsm", "a label that was not used", func(_ *specs.Spec, v *VerifyInput) { v.SELinuxLabel = "a" }, false},

		{"lsm", "our label of mounts", func(s *specs.Spec, v *VerifyInput) { s.Linux.MountLabel, v.SELinuxMountLabel = "a", "a" }, false},
		{"lsm", "another label of mounts", func(s *specs.Spec, v *VerifyInput) { s.Linux.MountLabel, v.SELinuxMountLabel = "b", "a" }, true},
		{"lsm", "a label of mounts that was not used", func(_ *specs.Spec, v *VerifyInput) { v.SELinuxMountLabel = "a" }, false},

		{"user-namespace", "none, given", func(s *specs.Spec, v *VerifyInput) {
			dropNamespace(s, specs.UserNamespace)
			s.Linux.UIDMappings, s.Linux.GIDMappings, v.Grants.HostUserNS = nil, nil, true
		}, false},
		{"user-namespace", "none", func(s *specs.Spec, _ *VerifyInput) {
			dropNamespace(s, specs.UserNamespace)
			s.Linux.UIDMappings, s.Linux.GIDMappings = nil, nil
		}, true},
		{"user-namespace", "uids without one", func(s *specs.Spec, v *VerifyInput) {
			dropNamespace(s, specs.UserNamespace)
			s.Linux.GIDMappings, v.Grants.HostUserNS = nil, true
		}, true},
		{"user-namespace", "gids without one", func(s *specs.Spec, v *VerifyInput) {
			dropNamespace(s, specs.UserNamespace)
			s.Linux.UIDMappings, v.Grants.HostUserNS = nil, true
		}, true},
		{"user-namespace", "the host's ids", func(s *specs.Spec, v *VerifyInput) {
			v.IDs.HostUID = 0
			s.Linux.UIDMappings[0].HostID = 0
		}, true},
		{"user-namespace", "other gids", func(s *specs.Spec, _ *VerifyInput) { s.Linux.GIDMappings = nil }, true},

		{"user", "last uid", func(s *specs.Spec, _ *VerifyInput) { s.Process.User.UID = 65535 }, false},
		{"user", "uid outside", func(s *specs.Spec, _ *VerifyInput) { s.Process.User.UID = 65536 }, true},
		{"user", "gid outside", func(s *specs.Spec, _ *VerifyInput) { s.Process.User.GID = 65536 }, true},
		{"user", "further gid outside", func(s *specs.Spec, _ *VerifyInput) { s.Process.User.AdditionalGids = []uint32{1, 65536} }, true},
		{"user", "without mappings", func(s *specs.Spec, _ *VerifyInput) { s.Linux.UIDMappings, s.Process.User.UID = nil, maxID }, false},
		{"user", "without mappings, none's", func(s *specs.Spec, _ *VerifyInput) { s.Linux.UIDMappings, s.Process.User.UID = nil, maxID+1 }, true},

		{"hooks", "none", func(*specs.Spec, *VerifyInput) {}, false},
		{"hooks", "an empty list", func(s *specs.Spec, _ *VerifyInput) { s.Hooks = &specs.Hooks{} }, true},
		{"cwd", "relative", func(s *specs.Spec, _ *VerifyInput) { s.Process.Cwd = "a" }, true},
		{"cwd", "control character", func(s *specs.Spec, _ *VerifyInput) { s.Process.Cwd = "/a\n" }, true},
		{"cwd", "unclean", func(s *specs.Spec, _ *VerifyInput) { s.Process.Cwd = "/a/" }, true},
		{"cwd", "kernel", func(s *specs.Spec, _ *VerifyInput) { s.Process.Cwd = "/proc/1" }, true},
		{"cwd", "sysfs", func(s *specs.Spec, _ *VerifyInput) { s.Process.Cwd = "/sys" }, true},
		{"cwd", "devices", func(s *specs.Spec, _ *VerifyInput) { s.Process.Cwd = "/dev/fd/3" }, true},
		{"cwd", "plain", func(s *specs.Spec, _ *VerifyInput) { s.Process.Cwd = "/a/b" }, false},
		{"args", "none", func(s *specs.Spec, _ *VerifyInput) { s.Process.Args = nil }, true},
		{"args", "one", func(s *specs.Spec, _ *VerifyInput) { s.Process.Args = []string{"a"} }, false},
		{"args", "NUL in a word", func(s *specs.Spec, _ *VerifyInput) { s.Process.Args = []string{"a", "b\x00"} }, true},
		{"args", "NUL in a variable", func(s *specs.Spec, _ *VerifyInput) { s.Process.Env = []string{"A=\x00"} }, true},
		{"args", "NUL in the name", func(s *specs.Spec, _ *VerifyInput) { s.Hostname = "a\x00" }, true},
		{"args", "variable without a name", func(s *specs.Spec, _ *VerifyInput) { s.Process.Env = []string{"=b"} }, true},
		{"args", "variable of one letter", func(s *specs.Spec, _ *VerifyInput) { s.Process.Env = []string{"A=b"} }, false},
		{"args", "variable without a value", func(s *specs.Spec, _ *VerifyInput) { s.Process.Env = []string{"A"} }, true},
		{"args", "host name", func(s *specs.Spec, _ *VerifyInput) { s.Hostname = "a b" }, true},
		{"args", "domain name", func(s *specs.Spec, _ *VerifyInput) { s.Domainname = "a b" }, true},
		{"args", "no host name", func(s *specs.Spec, _ *VerifyInput) { s.Hostname, s.Domainname = "", "" }, false},
		{"annotations", "given", func(s *specs.Spec, v *VerifyInput) {
			s.Annotations, v.Grants.Annotations = map[string]string{"a": "b"}, []string{"a"}
		}, false},
		{"annotations", "another given", func(s *specs.Spec, v *VerifyInput) {
			s.Annotations, v.Grants.Annotations = map[string]string{"a": "b"}, []string{"b"}
		}, true},
	})
	// Both the words of the two names are told apart: NUL and what is no name.
	s, err := Build(in)
	must(t, err)
	for _, field := range []*string{&s.Hostname, &s.Domainname} {
		was := *field
		*field = "a\x00"
		if found := ask(t, "args", s, VerifyFor(in)); len(found) != 2 {
			t.Errorf("%q", found)
		}
		*field = was
	}
}

// The filter beside binds: only a directory of the host that can be written to
// makes it deny set-ID bits.
func TestFilterRule(t *testing.T) {
	volume := with(func(in *Input) {
		in.Mounts = []ResolvedMount{
			{Mount: Mount{Origin: "-v", Type: MountVolume, Source: "data", Target: "/data"}, HostPath: "/var/lib/safe-run/volumes/data/_data"},
			{Mount: Mount{Origin: "-v", Type: MountBind, Target: "/conf", ReadOnly: true}, HostPath: "/proc/4711/fd/10"},
		}
	})
	runRules(t, volume, []ruleCase{
		{"seccomp", "a volume, and a bind that is only read", func(*specs.Spec, *VerifyInput) {}, false},
		{"seccomp", "a writable bind", func(_ *specs.Spec, v *VerifyInput) { v.HostSources = append(v.HostSources, v.OwnSources...) }, true},
	})
}

func TestNamespaceRule(t *testing.T) {
	var cases []ruleCase
	give := map[specs.LinuxNamespaceType]func(*Grants){
		specs.UserNamespace: func(g *Grants) { g.HostUserNS = true }, specs.PIDNamespace: func(g *Grants) { g.HostPID = true },
		specs.IPCNamespace: func(g *Grants) { g.HostIPC = true }, specs.UTSNamespace: func(g *Grants) { g.HostUTS = true },
		specs.NetworkNamespace: func(g *Grants) { g.HostNetwork = true }, specs.MountNamespace: func(*Grants) {}, specs.CgroupNamespace: func(*Grants) {},
	}
	all := Grants{HostUserNS: true, HostPID: true, HostIPC: true, HostUTS: true, HostNetwork: true}
	for typ, grant := range give {
		never := typ == specs.MountNamespace || typ == specs.CgroupNamespace
		cases = append(
			cases,
			ruleCase{"namespaces", "none: " + string(typ), func(s *specs.Spec, _ *VerifyInput) { dropNamespace(s, typ) }, true},
			ruleCase{"namespaces", "none, given: " + string(typ), func(s *specs.Spec, v *VerifyInput) { dropNamespace(s, typ); grant(&v.Grants) }, never},
			ruleCase{"namespaces", "none, all others given: " + string(typ), func(s *specs.Spec, v *VerifyInput) {
				dropNamespace(s, typ)
				v.Grants = all
				switch typ {
				case specs.UserNamespace:
					v.Grants.HostUserNS = false
				case specs.PIDNamespace:
					v.Grants.HostPID = false
				case specs.IPCNamespace:
					v.Grants.HostIPC = false
				case specs.UTSNamespace:
					v.Grants.HostUTS = false
				case specs.NetworkNamespace:
					v.Grants.HostNetwork = false
				}
			}, true},
			ruleCase{"namespaces", "two: " + string(typ), func(s *specs.Spec, _ *VerifyInput) {
				s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: typ})
			}, true},
			ruleCase{"namespaces", "joined: " + string(typ), func(s *specs.Spec, v *VerifyInput) {
				v.Grants = all
				for i := range s.Linux.Namespaces {
					if s.Linux.Namespaces[i].Type == typ {
						s.Linux.Namespaces[i].Path = "/proc/1/ns/x"
					}
				}
			}, true},
		)
	}
	join := func(s *specs.Spec, v *VerifyInput, p string) {
		v.JoinNetwork = p
		networkNamespace(s).Path = p
	}
	cases = append(
		cases,
		ruleCase{"namespaces", "a network that is held", func(s *specs.Spec, v *VerifyInput) { join(s, v, "/proc/1/fd/2") }, false},
		ruleCase{"namespaces", "a network that is not held", func(s *specs.Spec, v *VerifyInput) { join(s, v, "/proc/1/ns/net") }, true},
		ruleCase{"namespaces", "another network than asked for", func(_ *specs.Spec, v *VerifyInput) { v.JoinNetwork = "/proc/1/fd/2" }, true},
		ruleCase{"namespaces", "none, where one was to be joined", func(s *specs.Spec, v *VerifyInput) {
			dropNamespace(s, specs.NetworkNamespace)
			v.JoinNetwork, v.Grants.HostNetwork = "/proc/1/fd/2", true
		}, true},
	)
	runRules(t, testInput(), cases)
}

func TestUnusedFields(t *testing.T) {
	for name, change := range map[string]func(s *specs.Spec){
		"propagation": func(s *specs.Spec) { s.Linux.RootfsPropagation = "private" }, "devices": func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{}} },
		"intelRdt": func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{} }, "personality": func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{} },
		"network devices": func(s *specs.Spec) { s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"a": {}} },
		"memory policy":   func(s *specs.Spec) { s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{} },
		"time offsets":    func(s *specs.Spec) { s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {}} },
		"scheduler":       func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{} }, "io priority": func(s *specs.Spec) { s.Process.IOPriority = &specs.LinuxIOPriority{} },
		"affinity": func(s *specs.Spec) { s.Process.ExecCPUAffinity = &specs.CPUAffinity{} }, "solaris": func(s *specs.Spec) { s.Solaris = &specs.Solaris{} },
		"windows": func(s *specs.Spec) { s.Windows = &specs.Windows{} }, "vm": func(s *specs.Spec) { s.VM = &specs.VM{} },
		"z/OS": func(s *specs.Spec) { s.ZOS = &specs.ZOS{} }, "freebsd": func(s *specs.Spec) { s.FreeBSD = &specs.FreeBSD{} },
	} {
		s, err := Build(testInput())
		must(t, err)
		change(s)
		if found := ask(t, "unused-fields", s, VerifyFor(testInput())); len(found) != 1 {
			t.Errorf("%s: %q", name, found)
		}
	}
}
