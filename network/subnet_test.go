package network

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/safe-run/safe-run/internal/fail"
)

func prefixes(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestCheckSubnet(t *testing.T) {
	for _, p := range prefixes("10.0.0.0/8", "10.1.2.248/29", "8.8.0.0/16", "fd00:1::/48", "fd00::f0/124", "2001:db8::/64") {
		if err := checkSubnet(p); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	for _, p := range prefixes("10.0.0.0/7", "10.1.2.4/30", "10.0.0.1/8", "0.0.0.0/8", "127.1.0.0/16", "169.254.0.0/16", "224.0.0.0/8",
		"240.0.0.0/8", "fd00::/47", "fd00::f8/125", "fe80::/64", "ff02::/64", "::/64", "::ffff:0:0/96", "64:ff9b::/96") {
		kind(t, checkSubnet(p), fail.Usage, p.Masked().String())
	}
	kind(t, checkSubnet(netip.Prefix{}), fail.Usage, "not a subnet")
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		p    string
		i    uint64
		a    string
		last uint64
	}{
		{"10.210.0.0/20", 300, "10.210.1.44", 4094},
		{"192.168.1.248/29", 6, "192.168.1.254", 6},
		{"10.0.0.0/8", 1<<24 - 2, "10.255.255.254", 1<<24 - 2},
		{"fd00::/64", 1<<63 + 5, "fd00::8000:0:0:5", 1<<64 - 1},
		{"fd00:0:0:1::/48", 2, "fd00::2", 1<<64 - 1},
		{"fd00::ff30/124", 15, "fd00::ff3f", 15},
	} {
		p := netip.MustParsePrefix(c.p).Masked()
		if a := host(p, c.i); a.String() != c.a {
			t.Errorf("number %d of %s is %s, want %s", c.i, p, a, c.a)
		}
		if i, ok := index(p, netip.MustParseAddr(c.a)); !ok || i != c.i {
			t.Errorf("%s is number %d of %s, want %d", c.a, i, p, c.i)
		}
		if l := lastIndex(p); l != c.last {
			t.Errorf("the last of %s is %d, want %d", p, l, c.last)
		}
	}
	if _, ok := index(netip.MustParsePrefix("fd00::/48"), netip.MustParseAddr("fd00:0:0:1::2")); ok {
		t.Error("an address beyond 2^64 has a number")
	}
}

func TestSubnets(t *testing.T) {
	hostNS(t)
	s := newStore(t)
	outer, err := rt(t).link("outer")
	must(t, err)
	route := func(dst string, table int) {
		_, n, err := net.ParseCIDR(dst)
		must(t, err)
		must(t, netlink.RouteAdd(&netlink.Route{Dst: n, LinkIndex: outer.Attrs().Index, Table: table}))
	}
	route("0.0.0.0/1", 0) // a VPN's default route, in halves
	route("128.0.0.0/1", 0)
	d := newNetwork(t, s, Options{Name: "a"})
	if want := prefixes("10.210.0.0/20"); !slices.Equal(d.Subnets, want) {
		t.Errorf("the first network has %v, want %v", d.Subnets, want)
	}
	route("10.210.16.0/21", 51820) // in a table of its own
	d = newNetwork(t, s, Options{Name: "b", IPv6: true})
	if want := netip.MustParsePrefix("10.210.32.0/20"); d.V4() != want {
		t.Errorf("the second network has %v, want %v", d.V4(), want)
	}
	e := newNetwork(t, s, Options{Name: "c", IPv6: true, NoIPv4: true})
	if e.V4().IsValid() || e.V6().Bits() != 64 || e.V6() == d.V6() || netip.PrefixFrom(e.V6().Addr(), 48).Masked() != netip.PrefixFrom(d.V6().Addr(), 48).Masked() {
		t.Errorf("the IPv6 networks have %v and %v", d.V6(), e.V6())
	}
	route("10.0.0.0/8", 0)
	d = newNetwork(t, s, Options{Name: "d"})
	if want := netip.MustParsePrefix("172.29.0.0/20"); d.V4() != want {
		t.Errorf("the next network has %v, want %v", d.V4(), want)
	}
	route("172.16.0.0/12", 0)
	route("192.168.0.0/16", 0)
	_, err = s.Create(Options{Name: "e"})
	kind(t, err, fail.HostCannot, "no subnet of 10.210.0.0/16")

	for _, c := range []struct {
		subnets []string
		kind    fail.Kind
		says    string
	}{
		{[]string{"203.0.113.0/25"}, fail.Conflict, `of the host's interface "outer"`},
		{[]string{"10.210.0.128/25"}, fail.Conflict, `overlaps 10.0.0.0/8`},
		{[]string{"172.29.0.0/16"}, fail.Conflict, "overlaps 172.16.0.0/12"},
		{[]string{"11.0.0.0/24", "12.0.0.0/24"}, fail.Usage, "of one family"},
		{[]string{e.V6().String()}, fail.Conflict, `the network "c"`},
		{[]string{"11.0.0.1/24"}, fail.Usage, "an address in"},
	} {
		_, err := s.Create(Options{Name: "e", Subnets: prefixes(c.subnets...), NoIPv4: true})
		kind(t, err, c.kind, c.says)
	}
	_, err = s.Create(Options{Name: "e", NoIPv4: true})
	kind(t, err, fail.Usage, "is none")
	f := newNetwork(t, s, Options{Name: "f", Subnets: prefixes("2001:db8::/64", "11.0.0.0/24")})
	if !slices.Equal(f.Subnets, prefixes("11.0.0.0/24", "2001:db8::/64")) || f.Gateway(f.V4()).String() != "11.0.0.1" || f.Gateway(f.V6()).String() != "2001:db8::1" {
		t.Errorf("the subnets are %v", f.Subnets)
	}
}

// A pool whose end is the end of all addresses must not be walked for ever.
func TestFreeEnds(t *testing.T) {
	_, err := free([]pool{{netip.MustParsePrefix("255.255.0.0/16"), 24}}, []busy{{netip.MustParsePrefix("255.0.0.0/8"), "x"}})
	kind(t, err, fail.HostCannot, "no subnet")
}
