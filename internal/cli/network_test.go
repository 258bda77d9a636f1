package cli

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// long is over every bound there is on a word of the network.
var long = strings.Repeat("a.", 3000) + "a"

func TestNetworks(t *testing.T) {
	for _, c := range []struct {
		args string
		set  bool
		want []spec.NetworkUse
	}{
		{"", false, []spec.NetworkUse{{Name: "bridge"}}},
		{"--network default", true, []spec.NetworkUse{{Name: "bridge"}}},
		{"--network name=default", true, []spec.NetworkUse{{Name: "bridge"}}},
		{"--net none", true, []spec.NetworkUse{{Name: "none"}}},
		{"--network host", true, []spec.NetworkUse{{Name: "host"}}},
		{"--network container:Db-1", true, []spec.NetworkUse{{Name: "container:Db-1"}}},
		{"--network ns:/run/a=b", true, []spec.NetworkUse{{Name: "ns:/run/a=b"}}},
		{"--network Front_1.x", true, []spec.NetworkUse{{Name: "Front_1.x"}}},
		{"--network a --net b", true, []spec.NetworkUse{{Name: "a"}, {Name: "b"}}},
		{"--ip 10.0.0.9 --ip6 FD00::09 --mac-address 92-D0-C6-0A-29-33", false, []spec.NetworkUse{
			{Name: "bridge", IP: "10.0.0.9", IP6: "fd00::9", MAC: "92:d0:c6:0a:29:33"},
		}},
		{"--network a --network b --ip 10.0.0.9 --network-alias x --net-alias y", true, []spec.NetworkUse{
			{Name: "a", IP: "10.0.0.9", Aliases: []string{"x", "y"}}, {Name: "b"},
		}},
		{"--network Name=a,alias=X,alias=y,ip=10.0.0.9,ip6=fd00::9,mac-address=92:d0:c6:0a:29:33", true, []spec.NetworkUse{
			{Name: "a", Aliases: []string{"x", "y"}, IP: "10.0.0.9", IP6: "fd00::9", MAC: "92:d0:c6:0a:29:33"},
		}},
		{"--network name=a,ip6=fd00::9 --ip 10.0.0.9", true, []spec.NetworkUse{{Name: "a", IP: "10.0.0.9", IP6: "fd00::9"}}},
		{"--network name=a,gw-priority=-1 --network b --network name=c,gw-priority=5 --ip 10.0.0.9", true, []spec.NetworkUse{
			{Name: "c"}, {Name: "b"}, {Name: "a", IP: "10.0.0.9"},
		}},
		{"--mac-address 92:d0:c6:0a:29:33 --mac-address=", false, []spec.NetworkUse{{Name: "bridge"}}},
	} {
		w := mustParse(t, append(strings.Fields(c.args), "img")...).Workload
		if w.NetworkSet != c.set || !reflect.DeepEqual(w.Networks, c.want) {
			t.Errorf("%s: %v %+v, want %+v", c.args, w.NetworkSet, w.Networks, c.want)
		}
	}
}

func TestNetworkErrors(t *testing.T) {
	for _, c := range []struct{ text, args string }{
		{"multiple times", "--network none --network none"},
		{"multiple times", "--network a --network name=a"},
		{"multiple times", "--network bridge --network default"},
		{"both user-defined and non-user-defined", "--network none --net web"},
		{"both user-defined and non-user-defined", "--network none --net host"},
		{"both user-defined and non-user-defined", "--network web --net bridge"},
		{"both user-defined and non-user-defined", "--network web --net container:x"},
		{"no name set for network", "--network alias=x"},
		{"no name set for network", "--network name=,alias=x"},
		{"no name after the colon", "--network container:"},
		{"no name after the colon", "--network ns:"},
		{"not the name or ID of a container", "--network container:../x"},
		{"not the name or ID of a container", "--network container:-x"},
		{"not the name or ID of a container", "--network container:" + strings.Repeat("a", 65)},
		{"not the name of a network", "--network ../x"},
		{"not the name of a network", "--network a/b"},
		{"not the name of a network", "--network foo:bar"},
		{"not the name of a network", "--network .a"},
		{"not the name of a network", "--network " + strings.Repeat("a", 129)},
		{"not the name of a network", "--network frönt"},
		{"its keys are", "--network name=a,mode=x"},
		{"invalid field", "--network name=a,x"},
		{"gw-priority", "--network name=a,gw-priority=high"},
		{"KEY=VALUE", "--network name=a,driver-opt=x"},
		{"not an IPv4 address", "--network name=a,ip=fd00::1"},
		{"not an IPv6 address", "--network name=a,ip6=10.0.0.1"},
		{"not an IP address", "--network name=a,link-local-ip=x"},
		{"MAC", "--network name=a,mac-address=1"},
		{"host name", "--network name=a,alias=-x"},
		{"name has at most 253", "--network name=a,alias=" + strings.Repeat("a", 300)},
		{"both --network-alias and per-network alias", "--network name=a,alias=x --network-alias y"},
		{"both --ip and per-network IPv4 address", "--network name=a,ip=10.0.0.1 --ip 10.0.0.1"},
		{"both --ip6 and per-network IPv6 address", "--network name=a,ip6=fd00::1 --ip6 fd00::1"},
		{"both --mac-address and per-network MAC address", "--network name=a,mac-address=92:d0:c6:0a:29:33 --mac-address 92:d0:c6:0a:29:33"},
		{"aliases are only supported for user-defined", "--network-alias x"},
		{"aliases are only supported for user-defined", "--network bridge --network-alias x"},
		{"aliases are only supported for user-defined", "--network name=none,alias=x"},
		{"aliases are only supported for user-defined", "--network host --net-alias x"},
		{"user specified IP address", "--network none --ip 10.0.0.1"},
		{"user specified IP address", "--network container:x --ip6 fd00::1"},
		{"user specified IP address", "--network name=host,ip=10.0.0.1"},
		{"mac-address and the network mode", "--network none --mac-address 92:d0:c6:0a:29:33"},
		{"mac-address and the network mode", "--network container:x --mac-address 92:d0:c6:0a:29:33"},
		{"hostname and the network mode", "--network container:x -h a"},
		{"dns and the network mode", "--network container:x --dns 1.1.1.1"},
		{"dns and the network mode", "--network container:x --dns-search a"},
		{"dns and the network mode", "--network container:x --dns-opt ndots:2"},
		{"custom host-to-IP mapping and the network mode", "--network container:x --add-host a:1.1.1.1"},
		{"port publishing and the container type", "--network container:x -p 80"},
		{"port publishing and the container type", "--network container:x -P"},
		{"port exposing and the container type", "--network container:x --expose 80"},
		{"container type network can't be used with links", "--network container:x --link a"},
		{"host type networking can't be used with links", "--network host --link a"},
		{"--egress and the network mode", "--network container:x --egress none"},
		{"--egress and the network mode", "--network host --egress a:80"},
		{"--egress and --network none", "--network none --egress a:80"},
		{"--link: it is docker's old way", "--link a"},
		{"--link-local-ip: link-local", "--link-local-ip 169.254.1.1"},
		{"--network driver-opt: networks here", "--network name=a,driver-opt=a=b"},
		{"CONTAINER[:ALIAS]", "--link a:b:c"},
		{"65535", "--expose 65536"},
		{"65535", "--expose 0"},
		{"65535", "--expose 80:80"},
		{"tcp, udp or sctp", "--expose 80/icmp"},
		{"not an IPv4 address", "--ip fd00::1"},
		{"not an IPv6 address", "--ip6 ::ffff:10.0.0.1"},
		{"not an IP address", "--ip 10.0.0.256"},
		{"not an IP address", "--ip="},
		{"not an IP address", "--ip6 fe80::1%eth0"},
		{"first byte is even", "--mac-address 93:d0:c6:0a:29:33"},
		{"not zero", "--mac-address 00:00:00:00:00:00"},
		{"not a MAC", "--mac-address 02:00:5e:10:00:00:00:01"},
		{"not a domain", "--dns-search 1.2"},
		{"not a domain", "--dns-search " + strings.Repeat("a.", 127) + "a"},
		{"host name", "--dns-search a..b"},
		{"without naming an interface", "--dns fe80::1"},
		{"not an IP address", "--dns fe80::1%eth0"},
		{"not an IP address", "--dns [::1]"},
	} {
		wantError(t, fail.Usage, c.text, append(strings.Fields(c.args), "img")...)
	}
}

// TestNetworkWordsAreClean: what ends up in hosts files, resolv.conf, names
// of files and messages has no blank, no control character and an end.
func TestNetworkWordsAreClean(t *testing.T) {
	for flag, value := range map[string]string{
		"--network": "front", "--network=name=front,alias": "x", "--network=name=front,ip": "10.0.0.1", "--network=name": "front",
		"--add-host": "db:10.0.0.1", "--dns": "1.1.1.1", "--dns-search": "example.com",
		"--dns-option": "ndots:2", "--dns-opt": "rotate", "--hostname": "web", "--domainname": "example.com", "--ip": "10.0.0.1", "--ip6": "fd00::1",
		"--mac-address": "92:d0:c6:0a:29:33", "--network-alias": "db", "--net-alias": "db", "--link": "db", "--publish": "80:80",
		"--expose": "80", "--egress": "example.com:443", "--link-local-ip": "169.254.0.9",
	} {
		for what, bad := range map[string]string{
			"a newline": value + "\nnameserver 6.6.6.6", "a newline at the end": value + "\n", "a NUL": value + "\x00", "a return": value + "\r",
			"an escape": value + "\x1b[2J", "a DEL": value + "\x7f", "a line separator": value + "\u2028x", "a blank": value + " x", "a tab": "\t" + value,
			"no UTF-8": value + "\xff", "too many bytes": long,
		} {
			if what == "a blank" && flag == "--link" {
				continue // not supported at all
			}
			args := []string{flag, bad, "img"}
			if strings.Contains(flag, "=") {
				args = []string{flag + "=" + bad, "img"}
			}
			if inv, err := Parse(args, testContext); err == nil {
				t.Errorf("%s with %s: %+v", flag, what, inv.Workload)
			} else if fail.KindOf(err) != fail.Usage || len(err.Error()) > 2000 || clean(err.Error()) != nil {
				t.Errorf("%s with %s: %q", flag, what, err)
			}
		}
	}
}

// TestPublishWithoutNetwork: docker's warning, and a line of ours where docker
// says nothing; what is left out is no longer asked for.
func TestPublishWithoutNetwork(t *testing.T) {
	for _, c := range []struct{ args, notice string }{
		{"--network host -p 80:80", "WARNING: Published ports are discarded when using host network mode"},
		{"--network host -P", "WARNING: Published ports are discarded when using host network mode"},
		{"-p 80:80 --network none", "the ports are not published"},
		{"--network host", ""},
		{"--network none --egress none --dns 1.1.1.1 --add-host a:host-gateway", ""},
		{"--network host --egress all", ""},
	} {
		inv := mustParse(t, append(strings.Fields(c.args), "img")...)
		if n := strings.Join(inv.Notices, "\n"); !strings.HasPrefix(n, c.notice) || (c.notice == "") != (n == "") || strings.Contains(n, "\n") {
			t.Errorf("%s: %q", c.args, n)
		}
		if len(inv.Workload.Publish) > 0 || inv.Workload.PublishAll {
			t.Errorf("%s: %+v", c.args, inv.Workload)
		}
	}
	if inv := mustParse(t, "-p", "80:80", "-P", "img"); len(inv.Notices) > 0 || len(inv.Workload.Publish) != 1 || !inv.Workload.PublishAll {
		t.Errorf("%+v", inv)
	}
}

func TestNames(t *testing.T) {
	w := mustParse(t, "--dns", "1.1.1.1", "--dns", "169.254.169.253", "--dns-search", "a.example.", "--dns-search", ".", "--dns-opt", "ndots:2", "--dns-option", "rotate",
		"--add-host", "gw=host-gateway", "--add-host", "h:host-gateway", "-h", "web", "--domainname", "example.com", "--expose", "80", "--expose", "90-99/UDP", "img").Workload
	if !slices.Equal(w.DNS, []string{"1.1.1.1", "169.254.169.253"}) || !slices.Equal(w.DNSSearch, []string{"a.example.", "."}) ||
		!slices.Equal(w.DNSOptions, []string{"ndots:2", "rotate"}) || !slices.Equal(w.AddHosts, []string{"gw:host-gateway", "h:host-gateway"}) ||
		!slices.Equal(w.Expose, []spec.PortRange{{First: 80, Last: 80, Proto: "tcp"}, {First: 90, Last: 99, Proto: "udp"}}) || w.Hostname != "web" || w.Domainname != "example.com" {
		t.Errorf("%+v", w)
	}
}

// checkNetwork are the properties of the network part of every workload.
func checkNetwork(t *testing.T, args []string, w *spec.Workload) {
	t.Helper()
	words := slices.Concat(w.AddHosts, w.DNS, w.DNSSearch, w.DNSOptions, []string{w.Hostname, w.Domainname})
	for _, n := range w.Networks {
		words = slices.Concat(words, n.Aliases, []string{n.IP, n.IP6, n.MAC})
		if k := networkKind(n.Name); k != netPath && k != netJoin && strings.ContainsAny(n.Name, "/:= ") || n.Name == "" || clean(n.Name) != nil {
			t.Fatalf("%q: network %q", args, n.Name)
		}
	}
	for _, l := range words {
		if strings.ContainsAny(l, " \t\r\n#;") || clean(l) != nil || len(l) > 512 {
			t.Fatalf("%q: %q would be more than a word of hosts or resolv.conf", args, l)
		}
	}
	if len(w.Networks) == 0 {
		t.Fatalf("%q: no network", args)
	}
	ports := slices.Clone(w.Expose)
	for _, p := range w.Publish {
		inside, outside := p.Ports.Last-p.Ports.First, p.HostLast-p.HostFirst
		if p.HostLast < p.HostFirst || (p.HostFirst == 0 && p.HostLast != 0) || (p.HostFirst != 0 && inside != outside && inside != 0) ||
			p.HostIP.Is4In6() || p.HostIP.Zone() != "" {
			t.Fatalf("%q: %+v", args, p)
		}
		ports = append(ports, p.Ports)
	}
	for _, r := range w.Egress.Allow {
		if (r.Name == "") != r.Prefix.IsValid() || r.Prefix != r.Prefix.Masked() || r.Prefix.Addr().Is4In6() ||
			strings.Trim(r.Name, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" || len(r.Name) > 253 {
			t.Fatalf("%q: %+v", args, r)
		}
		ports = append(ports, r.Ports)
	}
	for _, r := range ports {
		if r.First == 0 || r.Last < r.First || !slices.Contains([]string{"tcp", "udp", "sctp"}, r.Proto) {
			t.Fatalf("%q: %+v", args, r)
		}
	}
	if (len(w.Egress.Allow) > 0) != (w.Egress.Mode == spec.EgressList) {
		t.Fatalf("%q: %+v", args, w.Egress)
	}
}

func FuzzNetwork(f *testing.F) {
	for _, s := range []string{
		"none", "host", "container:db", "ns:/proc/1/ns/net", "front", "name=a,alias=b,ip=10.0.0.1,ip6=fd00::1,mac-address=92:d0:c6:0a:29:33",
		"name=a,driver-opt=a=b,link-local-ip=169.254.0.1,gw-priority=3", `"name=a","alias=b"`, "name=default", "=", "a=b", "name= a",
	} {
		f.Add(s, "10.0.0.1")
	}
	f.Fuzz(func(t *testing.T, network, ip string) {
		checkParse(t, []string{"--network", network, "--ip", ip, "img"})
	})
}
