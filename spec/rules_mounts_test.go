package spec

import (
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// at changes the mount at a target.
func changed(target string, change func(m *specs.Mount)) func(*specs.Spec, *VerifyInput) {
	return func(s *specs.Spec, _ *VerifyInput) {
		for i := range s.Mounts {
			if s.Mounts[i].Destination == target {
				change(&s.Mounts[i])
				return
			}
		}
		panic("no mount at " + target)
	}
}

func replaced(target string, m specs.Mount) func(*specs.Spec, *VerifyInput) {
	return changed(target, func(at *specs.Mount) {
		m.Destination = target
		*at = m
	})
}

func added(m specs.Mount) func(*specs.Spec, *VerifyInput) {
	return func(s *specs.Spec, _ *VerifyInput) { s.Mounts = append(s.Mounts, m) }
}

func lacks(target string, options ...string) func(*specs.Spec, *VerifyInput) {
	return changed(target, func(m *specs.Mount) {
		m.Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool {
			name, _, _ := strings.Cut(o, "=")
			return slices.Contains(options, name)
		})
	})
}

func says(target string, options ...string) func(*specs.Spec, *VerifyInput) {
	return changed(target, func(m *specs.Mount) { m.Options = append(slices.Clone(m.Options), options...) })
}

func gone(target string) func(*specs.Spec, *VerifyInput) {
	return func(s *specs.Spec, _ *VerifyInput) {
		s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == target })
	}
}

func together(all ...func(*specs.Spec, *VerifyInput)) func(*specs.Spec, *VerifyInput) {
	return func(s *specs.Spec, v *VerifyInput) {
		for _, f := range all {
			f(s, v)
		}
	}
}

func granted(f func(*Grants)) func(*specs.Spec, *VerifyInput) {
	return func(_ *specs.Spec, v *VerifyInput) { f(&v.Grants) }
}

// swapped changes the places of two mounts in the order.
func swapped(a, b string) func(*specs.Spec, *VerifyInput) {
	return func(s *specs.Spec, _ *VerifyInput) {
		i := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == a })
		j := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == b })
		s.Mounts[i], s.Mounts[j] = s.Mounts[j], s.Mounts[i]
	}
}

func boundAt(target, source string, options ...string) specs.Mount {
	return specs.Mount{Destination: target, Type: "bind", Source: source, Options: append([]string{"bind"}, options...)}
}

func nothing(*specs.Spec, *VerifyInput) {}

func fuse(g *Grants) {
	g.Devices = []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}}
}

func TestMountPlaceRule(t *testing.T) {
	const rule = "mount-order"
	late := func(target string) func(*specs.Spec, *VerifyInput) {
		return func(s *specs.Spec, _ *VerifyInput) {
			i := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == target })
			m := s.Mounts[i]
			s.Mounts = append(slices.Delete(s.Mounts, i, i+1), m)
		}
	}
	cases := []ruleCase{
		{rule, "relative", added(tmpfsAt("a")), true},
		{rule, "unclean", added(tmpfsAt("/a/")), true},
		{rule, "control character", added(tmpfsAt("/a\n")), true},
		{rule, "the root", added(tmpfsAt("/")), true},
		{rule, "the root first", together(gone("/dev/shm"), func(s *specs.Spec, _ *VerifyInput) {
			s.Mounts = append([]specs.Mount{tmpfsAt("/")}, s.Mounts...)
		}), true},
		{rule, "elsewhere", added(tmpfsAt("/a")), false},
		{rule, "twice", together(added(tmpfsAt("/a")), added(tmpfsAt("/a"))), true},
		{rule, "in /proc", added(tmpfsAt("/proc/x")), true},
		{rule, "in /sys", added(tmpfsAt("/sys/x")), true},
		{rule, "in /dev", added(tmpfsAt("/dev/x")), true},
		{rule, "in shared memory", added(tmpfsAt("/dev/shm/x")), false},
		{rule, "a device", added(boundAt("/dev/fuse", "/proc/1/fd/9")), true},
		{rule, "a device that was given", together(granted(fuse), added(boundAt("/dev/fuse", "/proc/1/fd/9"))), false},
		{rule, "another than the device that was given", together(granted(fuse), added(boundAt("/dev/kvm", "/proc/1/fd/9"))), true},
		{rule, "without shared memory", gone("/dev/shm"), false},
		{rule, "without message queues", gone("/dev/mqueue"), false},
		{rule, "shared memory below another", together(added(tmpfsAt("/a/b")), added(tmpfsAt("/a"))), true},
		{rule, "another below", together(added(tmpfsAt("/a")), added(tmpfsAt("/a/b"))), false},
		{rule, "a neighbour of a like name", together(added(tmpfsAt("/ab")), added(tmpfsAt("/a"))), false},
	}
	for _, d := range []string{"/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup"} {
		cases = append(cases, ruleCase{rule, "without " + d, gone(d), true}, ruleCase{rule, "after the others: " + d, late(d), true})
	}
	for _, pair := range [][2]string{{"/dev", "/dev/pts"}, {"/dev", "/dev/shm"}, {"/dev", "/dev/mqueue"}, {"/sys", "/sys/fs/cgroup"}} {
		cases = append(cases, ruleCase{rule, pair[1] + " before " + pair[0], swapped(pair[0], pair[1]), true})
	}
	runRules(t, testInput(), cases)
	// Each of the trees stands before the seventh place, which is the first of
	// all others.
	in := testInput()
	s, err := Build(in)
	must(t, err)
	for i := range kernelTypes {
		if i := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == i }); i >= len(kernelTypes) {
			t.Errorf("%s is at place %d", s.Mounts[i].Destination, i)
		}
	}
	if len(kernelTypes) != 7 {
		t.Errorf("%d trees", len(kernelTypes))
	}
	// Another place in the order that hides nothing is told by its own words.
	swapped("/dev", "/dev/pts")(s, nil)
	if found := strings.Join(ask(t, rule, s, VerifyFor(in)), "\n"); !strings.Contains(found, `"/dev" hides the mount at "/dev/pts"`) {
		t.Errorf("%s", found)
	}
	s, err = Build(in)
	must(t, err)
	extra := append(slices.Clone(s.Mounts[:6]), tmpfsAt("/a"))
	s.Mounts = append(extra, s.Mounts[6:]...)
	if found := ask(t, rule, s, VerifyFor(in)); len(found) != 1 || !strings.Contains(found[0], "/sys/fs/cgroup is not mounted before all others") {
		t.Errorf("the seventh tree at the eighth place: %q", found)
	}
}

func TestMountTypeRule(t *testing.T) {
	const rule = "mount-types"
	proc := specs.Mount{Type: "proc", Source: "proc", Options: []string{"nosuid", "nodev", "noexec"}}
	var cases []ruleCase
	for target, typ := range map[string]string{"/proc": "proc", "/dev": "tmpfs", "/dev/pts": "devpts", "/dev/mqueue": "mqueue", "/sys": "sysfs", "/sys/fs/cgroup": "cgroup"} {
		other := "tmpfs"
		if typ == "tmpfs" {
			other = "devpts"
		}
		cases = append(
			cases,
			ruleCase{rule, target + " of another type", changed(target, func(m *specs.Mount) { m.Type = other }), true},
			ruleCase{rule, target + " bound", changed(target, func(m *specs.Mount) { m.Options = append(m.Options, "bind") }), true},
			ruleCase{rule, target + " of the host", replaced(target, boundAt(target, target, "ro")), true},
			ruleCase{rule, typ + " elsewhere", added(specs.Mount{Destination: "/x", Type: typ}), typ != "tmpfs"},
		)
	}
	cases = append(
		cases,
		ruleCase{rule, "as built", nothing, false},
		ruleCase{rule, "bind elsewhere", added(boundAt("/x", "/proc/1/fd/9")), false},
		ruleCase{rule, "bind that is none", added(specs.Mount{Destination: "/x", Type: "bind", Options: []string{"ro"}}), true},
		ruleCase{rule, "tmpfs that is a bind", added(specs.Mount{Destination: "/x", Type: "tmpfs", Options: []string{"bind"}}), true},
		ruleCase{rule, "another file system", added(specs.Mount{Destination: "/x", Type: "overlay"}), true},
		ruleCase{rule, "shared memory of a volume", replaced("/dev/shm", boundAt("", "/v")), false},
		ruleCase{rule, "shared memory of a bind that is none", replaced("/dev/shm", specs.Mount{Type: "bind"}), true},
		ruleCase{rule, "shared memory of another type", replaced("/dev/shm", proc), true},
		ruleCase{rule, "an option that undoes one", says("/tmp", "exec"), true},
		ruleCase{rule, "/proc of the host, given", together(granted(func(g *Grants) { g.HostPID = true }), replaced("/proc", boundAt("", "/proc"))), false},
		ruleCase{rule, "/proc of the host, given, not bound", together(granted(func(g *Grants) { g.HostPID = true }), replaced("/proc", specs.Mount{Type: "bind", Source: "/proc"})), true},
		ruleCase{rule, "/proc of the host, given, as another type", together(granted(func(g *Grants) { g.HostPID = true }), replaced("/proc", specs.Mount{Type: "x", Source: "/proc", Options: []string{"bind"}})), true},
		ruleCase{rule, "/proc of another place, given", together(granted(func(g *Grants) { g.HostPID = true }), replaced("/proc", boundAt("", "/srv"))), true},
		ruleCase{rule, "message queues of the host, given", together(granted(func(g *Grants) { g.HostIPC = true }), replaced("/dev/mqueue", boundAt("", "/dev/mqueue"))), false},
	)
	runRules(t, testInput(), cases)
	for target, typ := range map[string]string{"/proc": "proc", "/dev": "tmpfs", "/dev/pts": "devpts", "/dev/shm": "tmpfs", "/dev/mqueue": "mqueue", "/sys": "sysfs", "/sys/fs/cgroup": "cgroup"} {
		if kernelTypes[target] != typ {
			t.Errorf("%s is %s", target, kernelTypes[target])
		}
	}
}

// TestHostTrees: which of the kernel's trees may be the host's, and when.
func TestHostTrees(t *testing.T) {
	own, err := Build(testInput())
	must(t, err)
	onHost := deepCopy(t, own)
	dropNamespace(onHost, specs.NetworkNamespace)
	joined := deepCopy(t, own)
	networkNamespace(joined).Path = "/proc/1/fd/2"
	all := Grants{HostPID: true, HostIPC: true, HostNetwork: true}
	for _, c := range []struct {
		name string
		s    *specs.Spec
		m    specs.Mount
		g    Grants
		want bool
	}{
		{"/proc", own, boundAt("/proc", "/proc"), all, true},
		{"/proc, not given", own, boundAt("/proc", "/proc"), Grants{HostIPC: true, HostNetwork: true}, false},
		{"/proc from elsewhere", own, boundAt("/proc", "/srv"), all, false},
		{"/sys", onHost, boundAt("/sys", "/sys", "ro"), all, true},
		{"/sys, not given", onHost, boundAt("/sys", "/sys", "ro"), Grants{HostIPC: true, HostPID: true}, false},
		{"/sys, writable", onHost, boundAt("/sys", "/sys"), all, false},
		{"/sys beside a network of its own", own, boundAt("/sys", "/sys", "ro"), all, false},
		{"/sys beside another's network", joined, boundAt("/sys", "/sys", "ro"), all, false},
		{"shared memory", own, boundAt("/dev/shm", "/dev/shm"), all, true},
		{"message queues", own, boundAt("/dev/mqueue", "/dev/mqueue"), all, true},
		{"shared memory, not given", own, boundAt("/dev/shm", "/dev/shm"), Grants{HostPID: true, HostNetwork: true}, false},
		{"message queues, not given", own, boundAt("/dev/mqueue", "/dev/mqueue"), Grants{HostPID: true, HostNetwork: true}, false},
		{"another", own, boundAt("/dev", "/dev"), all, false},
	} {
		if hostTree(c.s, c.m, c.g) != c.want {
			t.Errorf("%s: want %v", c.name, c.want)
		}
	}
	alone := &specs.Spec{Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.NetworkNamespace}}}}
	if networkModeIn(alone) != ownNetwork || networkModeIn(own) != ownNetwork || networkModeIn(onHost) != hostNetwork || networkModeIn(joined) != joinedNetwork {
		t.Error("whose network it is")
	}
	sys := func(change func(m *specs.Mount)) specs.Mount {
		m := boundAt("/sys", "/held", "ro")
		change(&m)
		return m
	}
	v := VerifyInput{JoinSysfs: "/held"}
	for _, c := range []struct {
		name string
		s    *specs.Spec
		m    specs.Mount
		v    VerifyInput
		want bool
	}{
		{"as prepared", joined, sys(func(*specs.Mount) {}), v, true},
		{"network of its own", own, sys(func(*specs.Mount) {}), v, false},
		{"nothing prepared", joined, sys(func(m *specs.Mount) { m.Source = "" }), VerifyInput{}, false},
		{"another source", joined, sys(func(m *specs.Mount) { m.Source = "/other" }), v, false},
		{"elsewhere", joined, sys(func(m *specs.Mount) { m.Destination = "/s" }), v, false},
		{"another type", joined, sys(func(m *specs.Mount) { m.Type = "sysfs" }), v, false},
		{"no bind", joined, sys(func(m *specs.Mount) { m.Options = []string{"ro"} }), v, false},
		{"writable", joined, sys(func(m *specs.Mount) { m.Options = []string{"bind"} }), v, false},
		{"with what is below", joined, sys(func(m *specs.Mount) { m.Options = []string{"rbind", "rro"} }), v, false},
	} {
		if joinedSys(c.s, c.m, c.v) != c.want {
			t.Errorf("%s: want %v", c.name, c.want)
		}
	}
}

func TestMountSourceRule(t *testing.T) {
	const rule = "mount-sources"
	theirs := func(p string) func(*specs.Spec, *VerifyInput) {
		return func(_ *specs.Spec, v *VerifyInput) { v.HostSources = append(slices.Clone(v.HostSources), p) }
	}
	runRules(t, rich(), []ruleCase{
		{rule, "of the host", together(theirs("/srv/x"), added(boundAt("/x", "/srv/x"))), false},
		{rule, "our own", added(boundAt("/x", "/var/lib/safe-run/volumes/data/_data")), false},
		{rule, "nobody's", added(boundAt("/x", "/srv/x")), true},
		{rule, "what is never bound", together(theirs("/etc"), added(boundAt("/x", "/etc"))), true},
		{rule, "a bind by its type alone", added(specs.Mount{Destination: "/x", Type: "bind", Source: "/srv/x"}), true},
		{rule, "a bind by its option alone", added(specs.Mount{Destination: "/x", Type: "tmpfs", Source: "/srv/x", Options: []string{"bind"}}), true},
		{rule, "a relative bind by its type alone", added(specs.Mount{Destination: "/x", Type: "bind", Source: "x"}), true},
		{rule, "a relative bind by its option alone", added(specs.Mount{Destination: "/x", Type: "tmpfs", Source: "x", Options: []string{"bind"}}), true},
		{rule, "a path of a tmpfs", added(specs.Mount{Destination: "/x", Type: "tmpfs", Source: "/srv/x"}), true},
		{rule, "a word of a tmpfs", added(specs.Mount{Destination: "/x", Type: "tmpfs", Source: "x"}), false},
		{rule, "the host's /proc, given", together(granted(func(g *Grants) { g.HostPID = true }), replaced("/proc", boundAt("", "/proc"))), false},
		{rule, "the host's /proc", replaced("/proc", boundAt("", "/proc")), true},
	})
}
