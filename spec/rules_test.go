package spec

import (
	"math"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// ruleCase changes a good spec, or what the last gate is told of it. One rule
// is asked, and has to find something or nothing.
type ruleCase struct {
	rule, name string
	change     func(s *specs.Spec, v *VerifyInput)
	bad        bool
}

// ask gives what one rule finds.
func ask(t *testing.T, rule string, s *specs.Spec, v VerifyInput) []string {
	t.Helper()
	for _, inv := range invariants {
		if inv.Name == rule {
			return inv.Check(s, v)
		}
	}
	t.Fatalf("no rule %s", rule)
	return nil
}

func runRules(t *testing.T, in Input, cases []ruleCase) {
	t.Helper()
	good, err := Build(in)
	must(t, err)
	v := VerifyFor(in)
	must(t, Verify(good, v))
	for _, c := range cases {
		t.Run(c.rule+"/"+c.name, func(t *testing.T) {
			s, v := deepCopy(t, good), v
			c.change(s, &v)
			found := ask(t, c.rule, s, v)
			if (len(found) > 0) != c.bad {
				t.Errorf("%q, want something: %v", found, c.bad)
			}
			if strings.Contains(strings.Join(found, " "), " 0x") {
				t.Errorf("%q tells where a value is instead of what it is", found)
			}
		})
	}
}

func TestLimitRules(t *testing.T) {
	in := testInput()
	in.Limits.MaxMemory, in.Limits.MaxPids = 1<<30, 1000
	limit := func(s *specs.Spec, name string) *specs.POSIXRlimit {
		i := slices.IndexFunc(s.Process.Rlimits, func(l specs.POSIXRlimit) bool { return l.Type == name })
		return &s.Process.Rlimits[i]
	}
	drop := func(s *specs.Spec, name string) {
		s.Process.Rlimits = slices.DeleteFunc(s.Process.Rlimits, func(l specs.POSIXRlimit) bool { return l.Type == name })
	}
	memory := func(most, swap int64) func(*specs.Spec, *VerifyInput) {
		return func(s *specs.Spec, _ *VerifyInput) {
			s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &most, Swap: &swap}
		}
	}
	pids := func(n int64) func(*specs.Spec, *VerifyInput) {
		return func(s *specs.Spec, _ *VerifyInput) { s.Linux.Resources.Pids = &specs.LinuxPids{Limit: &n} }
	}
	cpu := func(c specs.LinuxCPU) func(*specs.Spec, *VerifyInput) {
		return func(s *specs.Spec, _ *VerifyInput) { s.Linux.Resources.CPU = &c }
	}
	adj := func(n int) func(*specs.Spec, *VerifyInput) {
		return func(s *specs.Spec, _ *VerifyInput) { s.Process.OOMScoreAdj = &n }
	}
	runRules(t, in, []ruleCase{
		{"rlimits", "no core", func(s *specs.Spec, _ *VerifyInput) { drop(s, "RLIMIT_CORE") }, true},
		{"rlimits", "no nofile", func(s *specs.Spec, _ *VerifyInput) { drop(s, "RLIMIT_NOFILE") }, true},
		{"rlimits", "unlimited core", func(s *specs.Spec, _ *VerifyInput) { limit(s, "RLIMIT_CORE").Hard = math.MaxUint64 }, true},
		{"rlimits", "unlimited nofile", func(s *specs.Spec, v *VerifyInput) {
			limit(s, "RLIMIT_NOFILE").Hard, v.Limits.MaxNofile = math.MaxUint64, 0
		}, true},
		{"rlimits", "nearly unlimited core", func(s *specs.Spec, _ *VerifyInput) { limit(s, "RLIMIT_CORE").Hard = math.MaxUint64 - 1 }, false},
		{"rlimits", "unlimited stack", func(s *specs.Spec, _ *VerifyInput) {
			s.Process.Rlimits = append(s.Process.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_STACK", Soft: math.MaxUint64, Hard: math.MaxUint64})
		}, false},
		{"rlimits", "soft above hard", func(s *specs.Spec, _ *VerifyInput) { limit(s, "RLIMIT_NOFILE").Soft++ }, true},
		{"rlimits", "files at the maximum", func(s *specs.Spec, v *VerifyInput) { v.Limits.MaxNofile = int64(limit(s, "RLIMIT_NOFILE").Hard) }, false},
		{"rlimits", "files above the maximum", func(s *specs.Spec, v *VerifyInput) { v.Limits.MaxNofile = int64(limit(s, "RLIMIT_NOFILE").Hard) - 1 }, true},
		{"rlimits", "a maximum of one", func(_ *specs.Spec, v *VerifyInput) { v.Limits.MaxNofile = 1 }, true},
		{"rlimits", "no maximum", func(_ *specs.Spec, v *VerifyInput) { v.Limits.MaxNofile = 0 }, false},
		{"rlimits", "another above it", func(s *specs.Spec, v *VerifyInput) {
			v.Limits.MaxNofile = int64(limit(s, "RLIMIT_NOFILE").Hard)
			limit(s, "RLIMIT_CORE").Hard = limit(s, "RLIMIT_NOFILE").Hard + 1
		}, false},
		{"rlimits", "twice", func(s *specs.Spec, _ *VerifyInput) {
			s.Process.Rlimits = append(s.Process.Rlimits, *limit(s, "RLIMIT_CORE"))
		}, true},

		{"limits", "no memory, given", func(s *specs.Spec, v *VerifyInput) { s.Linux.Resources.Memory, v.Grants.UnlimitedMemory = nil, true }, false},
		{"limits", "memory without a limit", func(s *specs.Spec, _ *VerifyInput) { s.Linux.Resources.Memory.Limit = nil }, true},
		{"limits", "memory without a limit, given", func(s *specs.Spec, v *VerifyInput) {
			s.Linux.Resources.Memory.Limit, v.Grants.UnlimitedMemory = nil, true
		}, false},
		{"limits", "memory 0", memory(0, 0), true},
		{"limits", "memory 1", memory(1, 1), false},
		{"limits", "memory at the maximum", memory(1<<30, 1<<30), false},
		{"limits", "memory above", memory(1<<30+1, 1<<30+1), true},
		{"limits", "swap above", memory(1<<20, 1<<30+1), true},
		{"limits", "swap below memory", memory(1<<20, 1<<20-1), true},
		{"limits", "memory of a maximum of one", func(_ *specs.Spec, v *VerifyInput) { v.Limits.MaxMemory = 1 }, true},
		{"limits", "memory without a maximum", func(s *specs.Spec, v *VerifyInput) { memory(1<<40, 1<<40)(s, v); v.Limits.MaxMemory = 0 }, false},
		{"limits", "OOM killer on", func(s *specs.Spec, _ *VerifyInput) { s.Linux.Resources.Memory.DisableOOMKiller = new(false) }, false},
		{"limits", "OOM killer off", func(s *specs.Spec, _ *VerifyInput) { s.Linux.Resources.Memory.DisableOOMKiller = new(true) }, true},
		{"limits", "no pids, given", func(s *specs.Spec, v *VerifyInput) { s.Linux.Resources.Pids, v.Grants.UnlimitedPids = nil, true }, false},
		{"limits", "pids without a limit", func(s *specs.Spec, _ *VerifyInput) { s.Linux.Resources.Pids.Limit = nil }, true},
		{"limits", "pids 0", pids(0), true},
		{"limits", "pids 1", pids(1), false},
		{"limits", "pids at the maximum", pids(1000), false},
		{"limits", "pids above", pids(1001), true},
		{"limits", "pids of a maximum of one", func(s *specs.Spec, v *VerifyInput) { pids(2)(s, v); v.Limits.MaxPids = 1 }, true},
		{"limits", "pids without a maximum", func(s *specs.Spec, v *VerifyInput) { pids(1<<20)(s, v); v.Limits.MaxPids = 0 }, false},
		{"limits", "real-time period", cpu(specs.LinuxCPU{RealtimePeriod: new(uint64(1))}), true},
		{"limits", "real-time run time", cpu(specs.LinuxCPU{RealtimeRuntime: new(int64(1))}), true},
		{"limits", "no quota", cpu(specs.LinuxCPU{}), false},
		{"limits", "quota 0", cpu(specs.LinuxCPU{Quota: new(int64(0))}), true},
		{"limits", "quota -1", cpu(specs.LinuxCPU{Quota: new(int64(-1))}), true},
		{"limits", "quota 1", cpu(specs.LinuxCPU{Quota: new(int64(1))}), false},
		{"limits", "score 0", adj(0), false},
		{"limits", "score -1", adj(-1), true},
		{"limits", "huge pages", func(s *specs.Spec, _ *VerifyInput) { s.Linux.Resources.HugepageLimits = []specs.LinuxHugepageLimit{{}} }, true},
		{"limits", "rdma", func(s *specs.Spec, _ *VerifyInput) { s.Linux.Resources.Rdma = map[string]specs.LinuxRdma{"a": {}} }, true},
		{"limits", "network classes", func(s *specs.Spec, _ *VerifyInput) { s.Linux.Resources.Network = &specs.LinuxNetwork{} }, true},
		{"limits", "killed one by one", func(s *specs.Spec, _ *VerifyInput) {
			s.Linux.Resources.Unified = map[string]string{oomGroup: "0"}
		}, true},
		{"limits", "a file of the cgroup", func(s *specs.Spec, _ *VerifyInput) {
			s.Linux.Resources.Unified = map[string]string{"memory.max": "1"}
		}, true},
	})
}

// Memory above the maximum is told, whatever is wrong with swap.
func TestMemoryAboveMaximum(t *testing.T) {
	in := testInput()
	in.Limits.MaxMemory = 1 << 30
	s, err := Build(in)
	must(t, err)
	s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: new(int64(1<<30 + 1))}
	if found := strings.Join(ask(t, "limits", s, VerifyFor(in)), "\n"); !strings.Contains(found, "above the maximum") {
		t.Errorf("%s", found)
	}
}

func TestDeviceRule(t *testing.T) {
	first := func(change func(r *specs.LinuxDeviceCgroup)) func(*specs.Spec, *VerifyInput) {
		return func(s *specs.Spec, _ *VerifyInput) { change(&s.Linux.Resources.Devices[0]) }
	}
	more := func(r specs.LinuxDeviceCgroup) func(*specs.Spec, *VerifyInput) {
		return func(s *specs.Spec, v *VerifyInput) {
			v.Grants.Devices = []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}, {Path: "/dev/loop0", Type: "b", Major: 7}}
			v.Grants.DevicePerms = map[string]string{"/dev/fuse": "r"}
			s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, r)
		}
	}
	n := func(i int64) *int64 { return &i }
	type rule = specs.LinuxDeviceCgroup
	runRules(t, testInput(), []ruleCase{
		{"devices", "none", func(s *specs.Spec, _ *VerifyInput) { s.Linux.Resources.Devices = nil }, true},
		{"devices", "first allows", first(func(r *rule) { r.Allow = true }), true},
		{"devices", "first denies reading", first(func(r *rule) { r.Access = "r" }), true},
		{"devices", "first denies all", first(func(r *rule) { r.Type = "a" }), false},
		{"devices", "first denies characters", first(func(r *rule) { r.Type = "c" }), true},
		{"devices", "first denies a major", first(func(r *rule) { r.Major = n(1) }), true},
		{"devices", "first denies a minor", first(func(r *rule) { r.Minor = n(1) }), true},
		{"devices", "a further denial", more(rule{Access: "rwm"}), false},
		{"devices", "what was given", more(rule{Allow: true, Type: "c", Major: n(10), Minor: n(229), Access: "r"}), false},
		{"devices", "more than was given", more(rule{Allow: true, Type: "c", Major: n(10), Minor: n(229), Access: "rw"}), true},
		{"devices", "another minor", more(rule{Allow: true, Type: "c", Major: n(10), Minor: n(1), Access: "r"}), true},
		{"devices", "another major", more(rule{Allow: true, Type: "c", Major: n(11), Minor: n(229), Access: "r"}), true},
		{"devices", "all minors of it", more(rule{Allow: true, Type: "c", Major: n(10), Access: "r"}), true},
		{"devices", "a disk, given", more(rule{Allow: true, Type: "b", Major: n(7), Minor: n(0), Access: "r"}), true},
		{"devices", "the characters of a disk's number", more(rule{Allow: true, Type: "c", Major: n(7), Minor: n(0), Access: "r"}), true},
		{"devices", "null as a disk", more(rule{Allow: true, Type: "b", Major: n(1), Minor: n(3), Access: "rwm"}), true},
		{"devices", "null", more(rule{Allow: true, Type: "c", Major: n(1), Minor: n(3), Access: "rwm"}), false},
		{"devices", "no major", more(rule{Allow: true, Type: "c", Minor: n(3), Access: "r"}), true},
		{"devices", "a terminal", more(rule{Allow: true, Type: "c", Major: n(136), Minor: n(7), Access: "rwm"}), false},
		{"devices", "all of the first major", more(rule{Allow: true, Type: "c", Major: n(1), Access: "r"}), true},
		{"devices", "all of the terminals' major", more(rule{Allow: true, Type: "c", Major: n(5), Minor: n(77), Access: "r"}), true},
		{"devices", "kmsg", more(rule{Allow: true, Type: "c", Major: n(1), Minor: n(11), Access: "r"}), true},
	})
	if number(nil) != "*" || number(n(-7)) != "-7" {
		t.Error("numbers of devices")
	}
}

func TestSysctlRule(t *testing.T) {
	set := func(name, value string) func(*specs.Spec, *VerifyInput) {
		return func(s *specs.Spec, _ *VerifyInput) { s.Linux.Sysctl[name] = value }
	}
	// host takes a namespace out, and what the container would set in it.
	host := func(typ specs.LinuxNamespaceType, prefix string) func(*specs.Spec, *VerifyInput) {
		return func(s *specs.Spec, _ *VerifyInput) {
			dropNamespace(s, typ)
			for name := range s.Linux.Sysctl {
				if strings.HasPrefix(name, prefix) {
					delete(s.Linux.Sysctl, name)
				}
			}
		}
	}
	join := func(s *specs.Spec, v *VerifyInput) {
		host("", "net.")(s, v)
		networkNamespace(s).Path = "/proc/1/fd/2"
	}
	both := func(all ...func(*specs.Spec, *VerifyInput)) func(*specs.Spec, *VerifyInput) {
		return func(s *specs.Spec, v *VerifyInput) {
			for _, f := range all {
				f(s, v)
			}
		}
	}
	given := func(names ...string) func(*specs.Spec, *VerifyInput) {
		return func(_ *specs.Spec, v *VerifyInput) { v.Grants.Sysctls = names }
	}
	cases := []ruleCase{
		{"sysctls", "net", set("net.core.somaxconn", "1"), false},
		{"sysctls", "net, badly spelled", set("net.core.somax conn", "1"), true},
		{"sysctls", "ipc", set("kernel.sem", "1"), false},
		{"sysctls", "ipc of the host", both(host(specs.IPCNamespace, "kernel."), set("kernel.sem", "1")), true},
		{"sysctls", "net of the host", both(host(specs.NetworkNamespace, "net."), set("net.core.somaxconn", "1")), true},
		{"sysctls", "net of another", both(join, set("net.core.somaxconn", "1")), true},
		{"sysctls", "none in the host's network", host(specs.NetworkNamespace, "net."), false},
		{"sysctls", "none in another's network", join, false},
		{"sysctls", "host", set("vm.overcommit_memory", "1"), true},
		{"sysctls", "users", set("user.max_pid_namespaces", "1"), true},
		{"sysctls", "users, given", both(set("user.max_pid_namespaces", "1"), given("user.max_pid_namespaces")), false},
		{"sysctls", "users, given, of the host", both(host(specs.UserNamespace, "user."), set("user.max_pid_namespaces", "1"), given("user.max_pid_namespaces")), true},
		{"sysctls", "nested users of the host", both(host(specs.UserNamespace, "user."), set(nestedUserNS, "0")), true},
		{"sysctls", "none of the host's users", host(specs.UserNamespace, "user."), false},
		{"sysctls", "nested users", set(nestedUserNS, "1"), true},
		{"sysctls", "nested users, given", both(set(nestedUserNS, "1"), given(nestedUserNS)), false},
		{"sysctls", "nested users not said", func(s *specs.Spec, _ *VerifyInput) { delete(s.Linux.Sysctl, nestedUserNS) }, true},
	}
	for _, name := range slices.Concat(routeSysctls4, routeSysctls6) {
		cases = append(
			cases,
			ruleCase{"sysctls", name + " 1", set(name, "1"), true},
			ruleCase{"sysctls", name + " 1, given", both(set(name, "1"), given(name)), false},
			ruleCase{"sysctls", name + " not said", func(s *specs.Spec, _ *VerifyInput) { delete(s.Linux.Sysctl, name) }, true},
		)
	}
	for name, value := range sharedCounts {
		cases = append(
			cases,
			ruleCase{"sysctls", name + " more", set(name, value+"0"), true},
			ruleCase{"sysctls", name + " more, given", both(set(name, value+"0"), given(name)), false},
			ruleCase{"sysctls", name + " not said", func(s *specs.Spec, _ *VerifyInput) { delete(s.Linux.Sysctl, name) }, true},
			ruleCase{"sysctls", name + " of the host", both(host(specs.UserNamespace, "user."), set(name, value)), true},
		)
	}
	runRules(t, testInput(), cases)
}

func TestMaskRule(t *testing.T) {
	var cases []ruleCase
	for _, p := range slices.Concat(maskedPaths, testFeatures().MaskPaths) {
		cases = append(cases, ruleCase{"masked-paths", p, func(s *specs.Spec, _ *VerifyInput) {
			s.Linux.MaskedPaths = slices.DeleteFunc(s.Linux.MaskedPaths, func(have string) bool { return have == p })
		}, true})
	}
	for _, p := range readonlyPaths {
		cases = append(cases, ruleCase{"masked-paths", p, func(s *specs.Spec, _ *VerifyInput) {
			s.Linux.ReadonlyPaths = slices.DeleteFunc(s.Linux.ReadonlyPaths, func(have string) bool { return have == p })
		}, true})
	}
	hostSys := func(s *specs.Spec, v *VerifyInput) {
		for i := range s.Mounts {
			if s.Mounts[i].Destination == "/sys" {
				s.Mounts[i].Type, s.Mounts[i].Source = "bind", "/sys"
			}
		}
	}
	cases = append(
		cases,
		ruleCase{"masked-paths", "the host's sysfs", hostSys, true},
		ruleCase{"masked-paths", "the host's sysfs, masked", func(s *specs.Spec, v *VerifyInput) {
			hostSys(s, v)
			s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, hostSysMaskedPaths...)
		}, false},
		ruleCase{"masked-paths", "a bind elsewhere", func(s *specs.Spec, _ *VerifyInput) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/s", Type: "bind", Source: "/sys", Options: []string{"bind"}})
		}, false},
	)
	runRules(t, testInput(), cases)
	in := testInput()
	in.Host.CgroupV2 = false
	in.Host.Controllers = map[string]bool{"memory": true, "pids": true, "devices": true}
	runRules(t, in, []ruleCase{{"masked-paths", "the tmpfs of cgroup v1", func(s *specs.Spec, _ *VerifyInput) {
		s.Linux.ReadonlyPaths = slices.DeleteFunc(s.Linux.ReadonlyPaths, func(have string) bool { return have == cgroupTmpfs })
	}, true}})
	runRules(t, with(joins), []ruleCase{
		{"masked-paths", "another's sysfs", func(*specs.Spec, *VerifyInput) {}, false},
		{"masked-paths", "another's sysfs nobody prepared", func(_ *specs.Spec, v *VerifyInput) { v.JoinSysfs = "/other" }, true},
	})
}
