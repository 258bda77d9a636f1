package network

import (
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// bridgeNet makes a network and its bridge.
func bridgeNet(t testing.TB, o Options) (Store, Definition) {
	t.Helper()
	hostNS(t)
	s := newStore(t)
	if o.Subnets == nil {
		o.Subnets = prefixes("10.9.0.0/20", "fd09::/64")
	}
	d := newNetwork(t, s, o)
	must(t, EnsureBridge(d))
	return s, d
}

// linkNames are the interfaces there are, and their number.
func linkNames(t testing.TB) string {
	t.Helper()
	all, err := rt(t).links()
	must(t, err)
	var out []string
	for _, l := range all {
		out = append(out, l.Attrs().Name)
	}
	return strings.Join(out, " ")
}

func TestBridge(t *testing.T) {
	_, d := bridgeNet(t, Options{})
	r := rt(t)
	look := func() *netlink.Bridge {
		t.Helper()
		l, err := r.link(d.Bridge)
		must(t, err)
		b, ok := l.(*netlink.Bridge)
		if !ok {
			t.Fatalf("%v is no bridge", l)
		}
		return b
	}
	b := look()
	if b.MTU != 1460 || b.HardwareAddr.String() != "02:42:0a:09:00:01" || b.Flags&net.FlagUp == 0 || b.Group == 0 || b.MulticastSnooping == nil || *b.MulticastSnooping {
		t.Errorf("the bridge is %+v", b)
	}
	addrs, err := netlink.AddrList(b, netlink.FAMILY_ALL)
	must(t, err)
	var got []string
	for _, a := range addrs {
		got = append(got, a.IPNet.String())
		if a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 {
			t.Errorf("%s is tentative", a)
		}
	}
	if strings.Join(got, " ") != "10.9.0.1/20 fd09::1/64" {
		t.Errorf("it has %v", got)
	}
	for k, v := range map[string]string{
		"ipv4/conf/B/route_localnet": "1", "ipv4/conf/B/rp_filter": "1", "ipv4/conf/B/proxy_arp": "0", "ipv4/conf/B/arp_ignore": "1", "ipv4/conf/B/accept_source_route": "0",
		"ipv4/conf/B/accept_redirects": "0", "ipv4/conf/B/send_redirects": "0",
		"ipv6/conf/B/accept_ra": "0", "ipv6/conf/B/autoconf": "0", "ipv6/conf/B/accept_redirects": "0", "ipv6/conf/B/addr_gen_mode": "1",
	} {
		if is := sysctlOf(t, strings.Replace(k, "B", d.Bridge, 1)); is != v {
			t.Errorf("%s is %s, want %s", k, is, v)
		}
	}

	// It is made whole again, as the same one.
	must(t, EnsureBridge(d))
	must(t, netlink.AddrDel(b, &addrs[0]))
	must(t, EnsureBridge(d))
	must(t, netlink.LinkSetDown(b))
	must(t, EnsureBridge(d))
	again := look()
	if again.Index != b.Index || again.Flags&net.FlagUp == 0 {
		t.Errorf("the bridge is %+v", again)
	}
	if addrs, _ := netlink.AddrList(b, netlink.FAMILY_ALL); len(addrs) != 2 {
		t.Errorf("it has %v", addrs)
	}

	must(t, RemoveBridge(d))
	must(t, RemoveBridge(d))
	if l, err := r.link(d.Bridge); l != nil || err != nil {
		t.Errorf("it is still there: %v, %v", l, err)
	}
	if n := linkNames(t); n != "lo outside outer" {
		t.Errorf("left are %s", n)
	}
}

// The kernel stops in the middle for a process that is killed.
func TestBridgeHalfMade(t *testing.T) {
	_, d := bridgeNet(t, Options{})
	must(t, RemoveBridge(d))
	must(t, rt(t).makeBridge(d))
	must(t, EnsureBridge(d))
	must(t, RemoveBridge(d))
	must(t, rt(t).makeBridge(d))
	must(t, RemoveBridge(d))
}

func TestForeignBridge(t *testing.T) {
	_, d := bridgeNet(t, Options{})
	must(t, RemoveBridge(d))
	for _, l := range []netlink.Link{
		&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: d.Bridge}},
		&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: d.Bridge}, PeerName: "x"},
	} {
		must(t, netlink.LinkAdd(l))
		kind(t, EnsureBridge(d), fail.Conflict, d.Bridge)
		must(t, RemoveBridge(d))
		if found, _ := rt(t).link(d.Bridge); found == nil {
			t.Error("somebody else's was removed")
		}
		must(t, netlink.LinkDel(l))
	}
}

// Ports that are left over go with the bridge; an interface that somebody has
// put into their group does not.
func TestRemoveBridgeGroup(t *testing.T) {
	for _, foreign := range []bool{false, true} {
		t.Run(map[bool]string{false: "ours", true: "foreign"}[foreign], func(t *testing.T) {
			s, d := bridgeNet(t, Options{})
			for i := range 5 {
				must(t, newContainer(t, testID(i)).join(s, d))
			}
			b, err := rt(t).link(d.Bridge)
			must(t, err)
			if foreign {
				l, err := rt(t).link("outer")
				must(t, err)
				must(t, netlink.LinkSetGroup(l, int(b.Attrs().Group)))
			}
			other := newNetwork(t, s, Options{Name: "other"})
			must(t, EnsureBridge(other))
			must(t, RemoveBridge(d))
			if n := linkNames(t); n != "lo outside outer "+other.Bridge {
				t.Errorf("left are %s", n)
			}
		})
	}
}

// Two networks never share a group, nor take one that is used.
func TestGroups(t *testing.T) {
	_, d := bridgeNet(t, Options{})
	must(t, RemoveBridge(d))
	r := rt(t)
	g, err := r.freeGroup(d)
	must(t, err)
	l, err := r.link("outer")
	must(t, err)
	must(t, netlink.LinkSetGroup(l, int(g)))
	must(t, EnsureBridge(d))
	b, err := r.link(d.Bridge)
	must(t, err)
	if b.Attrs().Group == g || b.Attrs().Group == 0 {
		t.Errorf("its group is %d", b.Attrs().Group)
	}
}

// A host whose administrator has turned IPv6 off keeps it off elsewhere.
func TestBridgeIPv6Disabled(t *testing.T) {
	hostNS(t)
	must(t, setSysctls([]sysctl{{"ipv6/conf/all/disable_ipv6", "1"}, {"ipv6/conf/default/disable_ipv6", "1"}}))
	s := newStore(t)
	d := newNetwork(t, s, Options{Subnets: prefixes("10.9.0.0/20", "fd09::/64")})
	must(t, EnsureBridge(d))
	c := newContainer(t, testID(1))
	must(t, c.join(s, d))
	at := serve(t, d.Gateway(d.V6()))
	c.do(t, func() error { return dial(at, 1e9) })
	if v := sysctlOf(t, "ipv6/conf/outer/disable_ipv6"); v != "1" {
		t.Errorf("the host's own interface has disable_ipv6=%s", v)
	}
}

func BenchmarkEnsureFreshRemove(b *testing.B) {
	_, d := bridgeNet(b, Options{})
	must(b, RemoveBridge(d))
	for b.Loop() {
		must(b, EnsureBridge(d))
		b.StopTimer()
		must(b, RemoveBridge(d))
		b.StartTimer()
	}
}

func BenchmarkEnsureThere(b *testing.B) {
	_, d := bridgeNet(b, Options{})
	for b.Loop() {
		must(b, EnsureBridge(d))
	}
}

func BenchmarkRemoveBridge(b *testing.B) {
	for _, ports := range []int{0, 1, 10} {
		b.Run(map[int]string{0: "empty", 1: "1port", 10: "10ports"}[ports], func(b *testing.B) {
			s, d := bridgeNet(b, Options{})
			var all []*container
			for i := range ports {
				c := newContainer(b, testID(i))
				must(b, c.join(s, d))
				all = append(all, c)
			}
			for b.Loop() {
				must(b, RemoveBridge(d))
				b.StopTimer()
				must(b, EnsureBridge(d))
				for _, c := range all {
					must(b, Wire(c.ns, c.lease))
				}
				b.StartTimer()
			}
		})
	}
}
