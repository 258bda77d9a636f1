package policy

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/spec"
)

func published(ports ...string) func(*Request) {
	return work(func(w *spec.Workload) {
		if len(w.Networks) == 0 {
			w.Networks = []spec.NetworkUse{{Name: "bridge"}}
		}
		for _, p := range ports {
			pub := spec.Publish{HostFirst: 8080, HostLast: 8080, Ports: spec.PortRange{First: 80, Last: 80, Proto: spec.TCP}}
			if p != "" {
				pub.HostIP = netip.MustParseAddr(p)
			}
			w.Publish = append(w.Publish, pub)
		}
	})
}

func egress(prefixes ...string) func(*Request) {
	return work(func(w *spec.Workload) {
		w.Egress.Mode = spec.EgressList
		for _, p := range prefixes {
			w.Egress.Allow = append(w.Egress.Allow, spec.EgressRule{Prefix: netip.MustParsePrefix(p), Ports: spec.PortRange{First: 80, Last: 80, Proto: spec.TCP}})
		}
	})
}

func with(changes ...func(*Request)) func(*Request) {
	return func(r *Request) {
		for _, c := range changes {
			c(r)
		}
	}
}

func hostUserns(r *Request) { r.Workload.UserNSMode = "host" }

// TestNetworkRules has what each rule refuses and what is near to it.
func TestNetworkRules(t *testing.T) {
	for _, c := range []struct {
		name string
		with func(*Request)
		want string
	}{
		{"none", network("none"), ""},
		{"bridge", network("bridge"), ""},
		{"named", network("hosting"), ""},
		{"named like a container", network("container"), ""},
		{"host", network("host"), "network-host"},
		{"Host", network(" Host"), "network-host network-join"},
		{"HOST", network("HOST"), "network-host"},
		{"host beside another", work(func(w *spec.Workload) { w.Networks = []spec.NetworkUse{{Name: "a"}, {Name: "host"}} }), "network-host"},

		{"joined", network("container:db-1"), ""},
		{"joined by id", network("container:" + strings.Repeat("a", 64)), ""},
		{"joined, no name", network("container:"), "network-join"},
		{"joined, a path", network("container:../x"), "network-join"},
		{"joined, a newline", network("container:a\nb"), "network-join"},
		{"joined, twice", network("container:container:a"), "network-join"},
		{"joined, another spelling", network("Container:db"), "network-join"},
		{"ns", network("ns:/proc/1/ns/net"), "network-join"},
		{"path", network("/proc/1/ns/net"), "network-join"},
		{"words of others", network("pasta:--x"), "network-join"},
		{"long form", network("name=host,alias=x"), "network-join"},
		{"blank", network("a b"), "network-join"},
		{"empty", network(""), "network-join"},
		{"too long", network(strings.Repeat("a", 129)), "network-join"},

		{"driver-opt", work(func(w *spec.Workload) { w.Networks = []spec.NetworkUse{{Name: "x", DriverOpts: []string{"a=b"}}} }), "network-driver-opt"},
		{"link-local", work(func(w *spec.Workload) {
			w.Networks = []spec.NetworkUse{{Name: "x", LinkLocalIPs: []string{"169.254.169.254"}}}
		}), "link-local-ip"},
		{"addresses", work(func(w *spec.Workload) {
			w.Networks = []spec.NetworkUse{{Name: "x", IP: "10.0.0.1", IP6: "fd00::1", MAC: "92:d0:c6:0a:29:33", Aliases: []string{"a"}}}
		}), ""},

		{"metadata", egress("169.254.169.254/32"), "egress-metadata"},
		{"metadata of containers", egress("169.254.170.2/32"), "egress-metadata"},
		{"link-local range", egress("169.254.0.0/16"), "egress-metadata"},
		{"part of link-local", egress("169.254.128.0/17"), "egress-metadata"},
		{"alibaba", egress("100.100.100.200/32"), "egress-metadata"},
		{"azure", egress("168.63.129.16/32"), "egress-metadata"},
		{"oracle", egress("192.0.0.192/32"), "egress-metadata"},
		{"aws v6", egress("fd00:ec2::254/128"), "egress-metadata"},
		{"google v6", egress("fd20:ce::254/128"), "egress-metadata"},
		{"scaleway v6", egress("fd00:42::42/128"), "egress-metadata"},
		{"link-local v6", egress("fe80::1/128"), "egress-metadata"},
		{"metadata by NAT64", egress("64:ff9b::a9fe:a9fe/128"), "egress-metadata"},
		{"one of two", egress("192.0.2.1/32", "169.254.1.1/32"), "egress-metadata"},
		{"next to them", egress("169.253.0.0/16", "169.255.0.0/16", "100.100.100.0/24", "100.100.100.201/32", "fd00:ec2::253/128", "fec0::/10"), ""},
		{"around them", egress("0.0.0.0/0", "::/0", "169.0.0.0/8", "169.254.0.0/15", "100.100.100.200/29", "fe80::/9"), ""},
		{"a name", work(func(w *spec.Workload) {
			w.Egress = spec.Egress{Mode: spec.EgressList, Allow: []spec.EgressRule{{Name: "metadata.google.internal"}}}
		}), ""},
		{"name server of a cloud", work(func(w *spec.Workload) { w.DNS = []string{"169.254.169.253"} }), ""},
		{"published", published("", "0.0.0.0", "::", "127.0.0.1"), ""},
		{"all published", work(func(w *spec.Workload) { w.PublishAll = true }), ""},

		{"bind service", with(network("bridge"), capAdd("NET_BIND_SERVICE", "NET_RAW")), ""},
		{"bind service, none", with(network("none"), capAdd("NET_BIND_SERVICE")), ""},
		{"admin", with(network("bridge"), capAdd("NET_ADMIN")), "capability"},
		{"bind service, joined", with(network("container:db"), capAdd("NET_BIND_SERVICE")), "cap-network"},
		{"raw, joined", with(network("container:db"), capAdd("cap_net_raw")), "cap-network"},
		{"admin, joined", with(network("container:db"), capAdd("NET_ADMIN")), "cap-network"},
		{"broadcast, joined", with(network("container:db"), capAdd(" Net_Broadcast")), "cap-network"},
		{"others, joined", with(network("container:db"), capAdd("CHOWN", "SETUID")), ""},
		{"ptrace, joined", with(network("container:db"), capAdd("SYS_PTRACE")), "capability"},
		{"bind service, host", with(network("host"), capAdd("NET_BIND_SERVICE")), "cap-network network-host userns-host"},
		{"admin, joined, host's users", with(network("container:db"), capAdd("NET_ADMIN"), hostUserns), "cap-network userns-host"},
		{"admin, own, host's users", with(network("bridge"), capAdd("NET_ADMIN"), hostUserns), "capability userns-host"},

		{"sysctl", with(network("bridge"), sysctl("net.core.somaxconn", "1")), ""},
		{"sysctl, joined", with(network("container:db"), sysctl("net.core.somaxconn", "1")), "sysctl-host"},
		{"sysctl with slashes, joined", with(network("container:db"), sysctl("net/core/somaxconn", "1")), "sysctl-host"},
		{"ipc sysctl, joined", with(network("container:db"), sysctl("kernel.sem", "1")), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, refusals := Review(request(c.with))
			if got := strings.Join(ids(refusals), " "); got != c.want {
				t.Errorf("refused by %q, want %q\n%+v", got, c.want, refusals)
			}
		})
	}
}

// TestNetworkCapabilitiesOfOthers: over another container's network no grant
// helps without the host's users; over the host's the grant of these is asked
// for as well. With them the capability is one to be granted, the free ones as
// well.
func TestNetworkCapabilitiesOfOthers(t *testing.T) {
	for n, own := range map[string]struct {
		text, grant string
		left        []string
	}{
		"host":         {"the host's network", "capabilities: [NET_RAW]", nil},
		"container:db": {"no effect", "", []string{"cap-network"}},
	} {
		_, refusals := Review(request(network(n), capAdd("NET_RAW")))
		i := slices.IndexFunc(refusals, func(r Refusal) bool { return r.ID == "cap-network" })
		if i < 0 || refusals[i].Grant != own.grant || !strings.Contains(refusals[i].GivesAway, own.text) {
			t.Errorf("%s: %+v", n, refusals)
		}
		site, err := ParseSite([]byte("version: 1\ngrants: [{image: busybox, allow: [network-host, userns-host], capabilities: [NET_RAW]}]"), "t")
		if err != nil {
			t.Fatal(err)
		}
		r := request(network(n), capAdd("NET_RAW"), func(r *Request) { r.Site = site })
		if g, refusals := Review(r); !slices.Equal(ids(refusals), own.left) || own.left == nil && (!g.HostUserNS || !g.HostNetwork || !slices.Equal(g.Capabilities, []string{"CAP_NET_RAW"})) {
			t.Errorf("%s, own users: %+v %+v", n, g, refusals)
		}
		hostUserns(&r)
		if g, refusals := Review(r); len(refusals) > 0 || !slices.Equal(g.Capabilities, []string{"CAP_NET_RAW"}) {
			t.Errorf("%s, host's users: %+v %+v", n, g, refusals)
		}
		r.Site.Grants[0].Capabilities = nil
		if _, refusals := Review(r); len(refusals) != 1 || refusals[0].Grant != "capabilities: [NET_RAW]" {
			t.Errorf("%s, not granted: %+v", n, refusals)
		}
	}
}

func TestSiteNetworkRules(t *testing.T) {
	byDefault := work(func(w *spec.Workload) { w.Networks = []spec.NetworkUse{{Name: "bridge"}} })
	for _, c := range []struct {
		file string
		with func(*Request)
		want string
	}{
		{"networks: [front]", network("front"), ""},
		{"networks: [front]", network("back"), "network-name"},
		{"networks: [front]", network("Front"), "network-name"},
		{"networks: [front]", network("none"), ""},
		{"networks: [front]", network("NONE"), "network-name"},
		{"networks: [front]", network("bridge"), "network-name"},
		{"networks: [front]", network("default"), "network-name"},
		{"networks: [front]", byDefault, "network-name"},
		{"networks: [front, bridge]", byDefault, ""},
		{"networks: [front, bridge]", network("default"), ""},
		{"networks: [front]", network("container:db"), ""},
		{"networks: [front]", network("host"), "network-host"},
		{"networks: [front]", func(*Request) {}, ""},
		{"networks: [front]", work(func(w *spec.Workload) { w.Networks = []spec.NetworkUse{{Name: "front"}, {Name: "back"}} }), "network-name"},
		{"publish-address: required", published(""), "publish-address"},
		{"publish-address: required", published("127.0.0.1", "::1", "192.0.2.1"), ""},
		{"publish-address: required", published("0.0.0.0"), "publish-address"},
		{"publish-address: required", published("::"), "publish-address"},
		{"publish-address: required", published("::ffff:0.0.0.0"), "publish-address"},
		{"publish-address: required", published("127.0.0.1", ""), "publish-address"},
		{"publish-address: required", with(network("front"), work(func(w *spec.Workload) { w.PublishAll = true })), "publish-address"},
		{"publish-address: required", with(network("none"), published("")), ""},
		{"publish-address: 127.0.0.1", published("", "0.0.0.0"), ""},
		{"publish-address: required\ngrants: [{image: busybox, allow: [publish-address]}]", published(""), ""},
		{"publish-address: required\ngrants: [{image: alpine, allow: [publish-address]}]", published(""), "publish-address"},
	} {
		site, err := ParseSite([]byte("version: 1\n"+c.file), "t")
		if err != nil {
			t.Fatalf("%s: %v", c.file, err)
		}
		_, refusals := Review(request(c.with, func(r *Request) { r.Site = site }))
		if got := strings.Join(ids(refusals), " "); got != c.want {
			t.Errorf("%s: %q, want %q: %+v", c.file, got, c.want, refusals)
		}
	}
}

// TestDefaultNetworkIsExplained: who typed no --network is told where the one
// that is refused comes from.
func TestDefaultNetworkIsExplained(t *testing.T) {
	site, err := ParseSite([]byte("version: 1\nnetworks: [front, back]"), "t")
	if err != nil {
		t.Fatal(err)
	}
	_, refusals := Review(request(func(r *Request) { r.Site, r.Workload.Networks = site, []spec.NetworkUse{{Name: "bridge"}} }))
	if len(refusals) != 1 || !strings.Contains(refusals[0].Flag, "no --network") || !strings.Contains(refusals[0].GivesAway, "front, back") {
		t.Errorf("%+v", refusals)
	}
}

func TestPublishDefault(t *testing.T) {
	for file, want := range map[string]netip.Addr{
		"":                                    {},
		"publish-address: required":           {},
		"publish-address: 127.0.0.1":          netip.MustParseAddr("127.0.0.1"),
		"publish-address: '::1'":              netip.MustParseAddr("::1"),
		"publish-address: '::ffff:127.0.0.1'": netip.MustParseAddr("127.0.0.1"),
	} {
		s, err := ParseSite([]byte("version: 1\n"+file), "t")
		if err != nil || s.PublishDefault() != want {
			t.Errorf("%s: %v %v", file, s.PublishDefault(), err)
		}
	}
	for file, text := range map[string]string{"": "all of the host's", "publish-address: required": "required"} {
		s, err := ParseSite([]byte("version: 1\n"+file), "t")
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := s.WriteShow(&b); err != nil || !strings.Contains(b.String(), text) {
			t.Errorf("%s: %v\n%s", file, err, b.String())
		}
	}
}

// TestPortsAsTyped: a refusal repeats what was asked for in the words of -p
// and --egress.
func TestPortsAsTyped(t *testing.T) {
	for want, p := range map[string]spec.Publish{
		"80":                         {Ports: spec.PortRange{First: 80, Last: 80, Proto: "tcp"}},
		"8080-8081:80-81/udp":        {HostFirst: 8080, HostLast: 8081, Ports: spec.PortRange{First: 80, Last: 81, Proto: "udp"}},
		"0.0.0.0::80":                {HostIP: netip.MustParseAddr("0.0.0.0"), Ports: spec.PortRange{First: 80, Last: 80, Proto: "tcp"}},
		"[::]:8080:80/sctp":          {HostIP: netip.MustParseAddr("::"), HostFirst: 8080, HostLast: 8080, Ports: spec.PortRange{First: 80, Last: 80, Proto: "sctp"}},
		"192.0.2.1:8080-8090:80/udp": {HostIP: netip.MustParseAddr("192.0.2.1"), HostFirst: 8080, HostLast: 8090, Ports: spec.PortRange{First: 80, Last: 80, Proto: "udp"}},
	} {
		if got := publishText(p); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for want, e := range map[string]spec.EgressRule{
		"169.254.169.254:80":      {Prefix: netip.MustParsePrefix("169.254.169.254/32"), Ports: spec.PortRange{First: 80, Last: 80, Proto: "tcp"}},
		"[fe80::/10]:1-65535/udp": {Prefix: netip.MustParsePrefix("fe80::/10"), Ports: spec.PortRange{First: 1, Last: 65535, Proto: "udp"}},
	} {
		if got := egressText(e); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
