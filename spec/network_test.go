package spec

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/internal/fail"
)

func TestParsePortRange(t *testing.T) {
	for _, tc := range []struct {
		s    string
		want PortRange
	}{
		{"80", PortRange{80, 80, TCP}},
		{"80-90/UDP", PortRange{80, 90, UDP}},
		{"1-65535/sctp", PortRange{1, 65535, SCTP}},
	} {
		if got, err := ParsePortRange(tc.s); err != nil || got != tc.want {
			t.Errorf("%q: %+v, %v", tc.s, got, err)
		}
	}
	for _, s := range []string{"", "0", "65536", "9-8", "80/icmp", "80/", "-", "80-", "+80", " 80", "8 0", "80-90-99", "80\x1b", "80/tcp/udp"} {
		if got, err := ParsePortRange(s); err == nil || strings.ContainsAny(err.Error(), "\x1b\n") {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
}

func FuzzParsePortRange(f *testing.F) {
	f.Add("80-90/udp")
	f.Add("0")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePortRange(s)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\x00\x1b\n\r") || len(err.Error()) > 500 {
				t.Errorf("%q", err)
			}
			return
		}
		if again, err := ParsePortRange(p.words()); p.First == 0 || p.First > p.Last || err != nil || again != p {
			t.Errorf("%q is %+v, and that is %+v, %v", s, p, again, err)
		}
	})
}

const (
	heldNS    = "/proc/4711/fd/12"
	heldSysfs = "/run/safe-run/io/x/sys"
)

// joins makes an input join another container's network.
func joins(in *Input) {
	in.Workload.Networks = networks("container:web")
	in.JoinNetwork, in.JoinSysfs = heldNS, heldSysfs
}

func onHost(in *Input) {
	in.Workload.Networks = networks("host")
	in.Grants.HostNetwork = true
}

func networkNamespace(s *specs.Spec) *specs.LinuxNamespace {
	for i := range s.Linux.Namespaces {
		if s.Linux.Namespaces[i].Type == specs.NetworkNamespace {
			return &s.Linux.Namespaces[i]
		}
	}
	return nil
}

func TestNetworkNamespace(t *testing.T) {
	for _, tc := range []struct {
		name string
		f    func(*Input)
		path string // of the namespace; "own", "host"
		sys  string
		unix bool // socket(AF_UNIX) is permitted
	}{
		{"nothing asked", func(*Input) {}, "own", "sysfs", true},
		{"bridge", func(in *Input) { in.Workload.Networks = networks("bridge") }, "own", "sysfs", true},
		{"none", func(in *Input) { in.Workload.Networks = networks("none") }, "own", "sysfs", true},
		{"two networks", func(in *Input) { in.Workload.Networks = networks("a", "b") }, "own", "sysfs", true},
		{"granted, not asked", func(in *Input) { in.Grants.HostNetwork = true }, "own", "sysfs", true},
		{"host", onHost, "host", "/sys rbind", false},
		{"host and its user namespace", func(in *Input) {
			onHost(in)
			in.Workload.UserNSMode, in.Grants.HostUserNS = "host", true
		}, "host", "sysfs", false},
		{"joined", joins, heldNS, heldSysfs + " bind", true},
		{"joined, in the host's user namespace", func(in *Input) {
			joins(in)
			in.Workload.UserNSMode, in.Grants.HostUserNS = "host", true
		}, heldNS, heldSysfs + " bind", true},
		{"joined, host granted", func(in *Input) { joins(in); in.Grants.HostNetwork = true }, heldNS, heldSysfs + " bind", true},
	} {
		s := build(t, tc.f)
		path := "host"
		if n := networkNamespace(s); n != nil {
			if path = n.Path; path == "" {
				path = "own"
			}
		}
		m := mountAt(t, s, "/sys")
		sys := m.Source
		if m.Type == "bind" {
			sys += " " + m.Options[0]
		}
		if path != tc.path || sys != tc.sys || !optionsOf(*m).readonly {
			t.Errorf("%s: namespace %s, /sys is %s %v", tc.name, path, sys, m.Options)
		}
		if hidden := slices.Contains(s.Linux.MaskedPaths, "/sys/kernel/debug"); hidden != strings.HasPrefix(tc.sys, "/sys ") {
			t.Errorf("%s: masks %v", tc.name, s.Linux.MaskedPaths)
		}
		for name := range s.Linux.Sysctl {
			if strings.HasPrefix(name, "net.") && tc.path != "own" {
				t.Errorf("%s: sysctl %s of another namespace", tc.name, name)
			}
		}
		unixSockets := slices.ContainsFunc(s.Linux.Seccomp.Syscalls, func(r specs.LinuxSyscall) bool {
			return slices.Contains(r.Names, "socket") && r.Args[0].Value == 1 && r.Action == specs.ActAllow
		})
		if unixSockets != tc.unix {
			t.Errorf("%s: UNIX sockets %v", tc.name, unixSockets)
		}
	}
}

func TestNetworkNamespaceErrors(t *testing.T) {
	for _, tc := range []struct {
		name string
		f    func(*Input)
		kind fail.Kind
	}{
		{"host without grant", func(in *Input) { in.Workload.Networks = networks("host") }, fail.Refused},
		{"host and another", func(in *Input) { onHost(in); in.Workload.Networks = networks("bridge", "host") }, fail.Conflict},
		{"container and another", func(in *Input) { joins(in); in.Workload.Networks = networks("container:a", "container:b") }, fail.Conflict},
		{"nothing to join", func(in *Input) { in.Workload.Networks = networks("container:web") }, fail.Internal},
		{"no sysfs", func(in *Input) { joins(in); in.JoinSysfs = "" }, fail.Internal},
		{"no namespace", func(in *Input) { joins(in); in.JoinNetwork = "" }, fail.Internal},
		{"nobody asked to join", func(in *Input) { joins(in); in.Workload.Networks = networks("bridge") }, fail.Internal},
		{"nobody asked for a sysfs", func(in *Input) { in.JoinSysfs = heldSysfs }, fail.Internal},
		{"joined and host", func(in *Input) { joins(in); onHost(in) }, fail.Internal},
		{"a namespace by its process", func(in *Input) { joins(in); in.JoinNetwork = "/proc/4711/ns/net" }, fail.Internal},
		{"a namespace by a name", func(in *Input) { joins(in); in.JoinNetwork = "/run/netns/x" }, fail.Internal},
		{"sysfs of the host", func(in *Input) { joins(in); in.JoinSysfs = "/sys" }, fail.Internal},
		{"sysfs by a relative path", func(in *Input) { joins(in); in.JoinSysfs = "sys" }, fail.Internal},
		{"sysctl of a joined network", func(in *Input) {
			joins(in)
			in.Workload.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"}
		}, fail.Refused},
		{"sysctl of the host's network", func(in *Input) {
			onHost(in)
			in.Workload.Sysctls = map[string]string{"net.core.somaxconn": "1"}
		}, fail.Refused},
		{"router advertisements", func(in *Input) {
			in.Workload.Sysctls = map[string]string{"net.ipv6.conf.default.accept_ra": "1"}
		}, fail.Refused},
		{"redirects", func(in *Input) {
			in.Workload.Sysctls = map[string]string{"net.ipv4.conf.all.accept_redirects": " 1"}
		}, fail.Refused},
	} {
		if _, err := Build(with(tc.f)); fail.KindOf(err) != tc.kind {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestNetworkSysctls(t *testing.T) {
	s := build(t, func(in *Input) {
		in.Workload.Sysctls = map[string]string{
			"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv6.conf.default.accept_ra": "0", "net.ipv6.conf.all.disable_ipv6": "1",
		}
	})
	for name, want := range map[string]string{
		"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv6.conf.all.disable_ipv6": "1",
		"net.ipv6.conf.default.accept_ra": "0", "net.ipv4.conf.default.send_redirects": "0",
	} {
		if got := s.Linux.Sysctl[name]; got != want {
			t.Errorf("%s=%s", name, got)
		}
	}
	s = build(t, func(in *Input) { in.Host.IPv6 = false })
	for name := range s.Linux.Sysctl {
		if strings.Contains(name, "ipv6") {
			t.Errorf("%s on a kernel without IPv6", name)
		}
	}
	if _, set := s.Linux.Sysctl["net.ipv4.ip_unprivileged_port_start"]; set || s.Linux.Sysctl["net.ipv4.conf.all.accept_redirects"] != "0" {
		t.Errorf("%v", s.Linux.Sysctl)
	}
	s = build(t, func(in *Input) {
		in.Grants.Sysctls = []string{"net.ipv6.conf.default.accept_ra"}
		in.Workload.Sysctls = map[string]string{"net.ipv6.conf.default.accept_ra": "2"}
	})
	if s.Linux.Sysctl["net.ipv6.conf.default.accept_ra"] != "2" {
		t.Error("granted, but not set")
	}
}

// Each breaks a spec that joins, or one of the host's network; the rule named
// has to notice.
func TestVerifyNetworkMutations(t *testing.T) {
	hostSysAgain := func(t *testing.T, s *specs.Spec) {
		*mountAt(t, s, "/sys") = sysMount(Input{}, namespacesOf{user: true, network: hostNetwork})
	}
	for _, tc := range []struct {
		rule, name string
		in         func(*Input)
		mutate     func(t *testing.T, s *specs.Spec)
	}{
		{"namespaces", "another one", joins, func(_ *testing.T, s *specs.Spec) { networkNamespace(s).Path = "/proc/4711/fd/13" }},
		{"namespaces", "the host's by its path", joins, func(_ *testing.T, s *specs.Spec) { networkNamespace(s).Path = "/proc/1/ns/net" }},
		{"namespaces", "its own", joins, func(_ *testing.T, s *specs.Spec) { networkNamespace(s).Path = "" }},
		{"namespaces", "the host's", func(in *Input) { joins(in); in.Grants.HostNetwork = true }, func(_ *testing.T, s *specs.Spec) { dropNamespace(s, specs.NetworkNamespace) }},
		{"namespaces", "pid joined too", joins, func(_ *testing.T, s *specs.Spec) { s.Linux.Namespaces[3].Path = heldNS }},
		{"namespaces", "joined, nobody asked", func(*Input) {}, func(_ *testing.T, s *specs.Spec) { networkNamespace(s).Path = heldNS }},
		{"mount-types", "sysfs of the host", joins, hostSysAgain},
		{"mount-types", "sysfs of the host by grant", func(in *Input) { joins(in); in.Grants.HostNetwork = true }, hostSysAgain},
		{"mount-types", "sysfs of the host in its own network", func(in *Input) { in.Grants.HostNetwork = true }, hostSysAgain},
		{"mount-types", "sysfs writable", joins, func(t *testing.T, s *specs.Spec) { without(t, s, "/sys", "ro") }},
		{"mount-types", "sysfs with mounts below", joins, func(t *testing.T, s *specs.Spec) {
			without(t, s, "/sys", "bind")
			adds(t, s, "/sys", "rbind", "rro", "rnosuid", "rnodev", "rnoexec")
		}},
		{"mount-types", "sysfs nobody prepared", func(*Input) {}, func(t *testing.T, s *specs.Spec) {
			*mountAt(t, s, "/sys") = sysMount(Input{JoinSysfs: heldSysfs}, namespacesOf{network: joinedNetwork})
		}},
		{"mount-sources", "another sysfs", joins, func(t *testing.T, s *specs.Spec) { mountAt(t, s, "/sys").Source = "/run/other/sys" }},
		{"mount-sources", "its sysfs elsewhere", joins, func(_ *testing.T, s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/s", Type: "bind", Source: heldSysfs, Options: []string{"bind", "nosuid", "nodev", "noexec", "ro"}})
		}},
		{"masked-paths", "nothing masked", joins, func(_ *testing.T, s *specs.Spec) { s.Linux.MaskedPaths = nil }},
		{"masked-paths", "debugfs of the host", onHost, func(_ *testing.T, s *specs.Spec) {
			s.Linux.MaskedPaths = slices.DeleteFunc(s.Linux.MaskedPaths, func(p string) bool { return p == "/sys/kernel/debug" })
		}},
		{"sysctls", "of a joined network", joins, func(_ *testing.T, s *specs.Spec) { s.Linux.Sysctl[pingGroups] = "0 1" }},
		{"sysctls", "of the host's network", onHost, func(_ *testing.T, s *specs.Spec) {
			s.Linux.Sysctl["net.ipv4.conf.all.accept_redirects"] = "0"
		}},
		{"sysctls", "advertisements", func(*Input) {}, func(_ *testing.T, s *specs.Spec) { s.Linux.Sysctl["net.ipv6.conf.default.accept_ra"] = "2" }},
		{"sysctls", "redirects not said", func(*Input) {}, func(_ *testing.T, s *specs.Spec) {
			delete(s.Linux.Sysctl, "net.ipv4.conf.default.accept_redirects")
		}},
		{"seccomp", "UNIX sockets on the host's network", onHost, func(_ *testing.T, s *specs.Spec) {
			s.Linux.Seccomp = build(t, func(*Input) {}).Linux.Seccomp
		}},
	} {
		t.Run(tc.rule+"/"+tc.name, func(t *testing.T) {
			in := with(tc.in)
			s := deepCopy(t, buildVerified(t, in))
			tc.mutate(t, s)
			err := Verify(s, VerifyFor(in))
			if err == nil || !strings.Contains(err.Error(), tc.rule+": ") {
				t.Errorf("%v", err)
			}
		})
	}
	// What was asked for may not be wrong either.
	in := with(joins)
	s := buildVerified(t, in)
	v := VerifyFor(in)
	v.JoinNetwork = "/proc/1/ns/net"
	networkNamespace(s).Path = v.JoinNetwork
	if Verify(s, v) == nil {
		t.Error("a namespace that is not held is joined")
	}
	v = VerifyFor(in)
	v.JoinSysfs = "/sys"
	s = buildVerified(t, in)
	mountAt(t, s, "/sys").Source = "/sys"
	if Verify(s, v) == nil {
		t.Error("the host's sysfs is bound")
	}
}

func TestSummaryNetwork(t *testing.T) {
	for _, tc := range []struct {
		f     func(*Input)
		want  []string
		never string
	}{
		{func(in *Input) { in.Workload.Networks = networks("none") }, []string{"network       none, only"}, "egress"},
		{
			func(in *Input) {
				in.Workload.Networks = []NetworkUse{{Name: "bridge", IP: "10.210.0.9"}}
				in.Workload.Publish = []Publish{
					{HostFirst: 8080, HostLast: 8080, Ports: PortRange{80, 80, TCP}},
					{HostIP: netip.MustParseAddr("127.0.0.1"), HostFirst: 53, HostLast: 53, Ports: PortRange{53, 53, UDP}},
					{HostIP: netip.MustParseAddr("::ffff:127.0.0.1"), HostFirst: 54, HostLast: 54, Ports: PortRange{53, 53, UDP}},
					{HostIP: netip.MustParseAddr("192.0.2.7"), HostFirst: 90, HostLast: 99, Ports: PortRange{90, 99, TCP}},
					{HostIP: netip.MustParseAddr("::"), Ports: PortRange{5, 5, SCTP}},
				}
				in.Workload.PublishAll = true
				in.Image.Exposed = []PortRange{{443, 443, TCP}}
				in.Workload.Expose = []PortRange{{443, 443, TCP}, {1, 9, UDP}}
			},
			[]string{
				"network       bridge, out of reach of other containers (docker: in reach), 10.210.0.9\n",
				"8080 -> 80/tcp at all addresses of this host; ", "53 -> 53/udp at 127.0.0.1, from this host only; ", "54 -> 53/udp at ::ffff:127.0.0.1, from this host only; ",
				"90-99 -> 90-99/tcp at 192.0.2.7 only; ", "a free port -> 5/sctp at all IPv6 addresses of this host; ",
				"a free port -> each of 443/tcp 1-9/udp at all", "egress        wherever", "no redirects, no router advertisements",
			},
			"accept_ra",
		},
		{
			func(in *Input) {
				in.Workload.Networks = networks("web", "\u202edb")
				in.Workload.Egress = Egress{Mode: EgressList, Allow: []EgressRule{
					{Name: "example.org", Ports: PortRange{443, 443, TCP}},
					{Prefix: netip.MustParsePrefix("2001:db8::/32"), Ports: PortRange{1, 65535, UDP}},
					{Prefix: netip.MustParsePrefix("192.0.2.1/32"), Ports: PortRange{53, 53, UDP}},
				}}
			},
			[]string{`network       web, "\u202edb"`, "egress        only example.org:443/tcp, [2001:db8::/32]:1-65535/udp, 192.0.2.1:53/udp\n"},
			"published",
		},
		{
			func(in *Input) {
				in.Workload.Networks = networks("web")
				in.Workload.Egress.Mode = EgressNone
			},
			[]string{"egress        none\n"},
			"docker: in reach",
		},
		{joins, []string{"network       that of container web\n", "another container's: network"}, "egress"},
		{onHost, []string{"network       the host's, by grant; no UNIX sockets but pairs", "the host's, by grant: network"}, "egress"},
		{
			func(in *Input) {
				onHost(in)
				in.Workload.SecurityOpts, in.Grants.UnconfinedSeccomp = []string{"seccomp=unconfined"}, true
			},
			[]string{"the host's, by grant; with the abstract UNIX sockets of its services"},
			"but pairs",
		},
	} {
		in := with(tc.f)
		got := Summary(in, buildVerified(t, in))
		for _, want := range tc.want {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in\n%s", want, got)
			}
		}
		if strings.Contains(got, tc.never) {
			t.Errorf("%q in\n%s", tc.never, got)
		}
	}
}
