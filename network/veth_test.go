package network

import (
	"encoding/binary"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

const wait = 300 * time.Millisecond

func TestWire(t *testing.T) {
	s, d := bridgeNet(t, Options{})
	a, b := newContainer(t, testID(1)), newContainer(t, testID(2))
	must(t, a.join(s, d))
	must(t, b.join(s, d))

	// Both reach the host and the host reaches both, by both families.
	for _, p := range d.Subnets {
		at := serve(t, d.Gateway(p))
		for _, c := range []*container{a, b} {
			c.do(t, func() error { return dial(at, wait) })
			var inside netip.AddrPort
			c.do(t, func() error { inside = serve(t, c.addr(p.Addr().Is4())); return nil })
			if err := dial(inside, wait); err != nil {
				t.Errorf("the host does not reach %s: %v", inside, err)
			}
		}
	}
	a.do(t, func() error {
		for k, v := range map[string]string{
			"ipv6/conf/eth0/accept_ra": "0", "ipv6/conf/eth0/accept_redirects": "0", "ipv4/conf/eth0/accept_redirects": "0",
			"ipv4/conf/all/accept_redirects": "0", "ipv4/conf/eth0/send_redirects": "0", "ipv6/conf/eth0/addr_gen_mode": "1",
		} {
			if is := sysctlOf(t, k); is != v {
				t.Errorf("%s is %s, want %s", k, is, v)
			}
		}
		r := rt(t)
		eth, err := r.link("eth0")
		must(t, err)
		lo, err := r.link("lo")
		must(t, err)
		if eth.Attrs().HardwareAddr.String() != "02:42:0a:09:00:02" || eth.Attrs().MTU != 1460 || lo.Attrs().Flags&net.FlagUp == 0 {
			t.Errorf("inside are %+v and %+v", eth.Attrs(), lo.Attrs())
		}
		addrs, err := netlink.AddrList(eth, netlink.FAMILY_ALL)
		must(t, err)
		if len(addrs) != 2 || addrs[0].IPNet.String() != "10.9.0.2/20" || addrs[0].Broadcast.String() != "10.9.15.255" || addrs[1].IPNet.String() != "fd09::2/64" {
			t.Errorf("the addresses are %v", addrs)
		}
		neighs, err := netlink.NeighList(eth.Attrs().Index, netlink.FAMILY_ALL)
		must(t, err)
		permanent := 0
		for _, n := range neighs {
			if n.State == netlink.NUD_PERMANENT && n.HardwareAddr.String() == "02:42:0a:09:00:01" {
				permanent++
			}
		}
		if permanent != 2 {
			t.Errorf("the neighbours are %v", neighs)
		}
		return nil
	})
	checkPort(t, a.lease[0], false)

	// Twice is an error neither for wiring nor for the opposite.
	must(t, Wire(a.ns, a.lease))
	at := serve(t, d.Gateway(d.V4()))
	a.do(t, func() error { return dial(at, wait) })
	must(t, Unwire(a.lease[0]))
	must(t, Unwire(a.lease[0]))
	a.do(t, func() error {
		if n := linkNames(t); n != "lo" {
			t.Errorf("inside is left %s", n)
		}
		return nil
	})
	br, err := rt(t).link(d.Bridge)
	must(t, err)
	neighs, err := netlink.NeighList(br.Attrs().Index, netlink.FAMILY_ALL)
	must(t, err)
	for _, n := range neighs {
		if n.HardwareAddr.String() == a.lease[0].MAC.String() {
			t.Errorf("left is the neighbour %v", n)
		}
	}
}

// On a network whose containers do not reach each other none makes entries for
// others in the kernel's one table of neighbours.
func TestNoNeighbours(t *testing.T) {
	for _, icc := range []bool{false, true} {
		s, d := bridgeNet(t, Options{ICC: icc})
		c := newContainer(t, testID(1))
		must(t, c.join(s, d))
		c.do(t, func() error {
			for _, p := range d.Subnets {
				u, err := net.Dial("udp", netip.AddrPortFrom(host(p, 9), 9).String())
				must(t, err)
				_, _ = u.Write([]byte("x"))
				u.Close()
			}
			eth, err := rt(t).link("eth0")
			must(t, err)
			neighs, err := netlink.NeighList(eth.Attrs().Index, netlink.FAMILY_ALL)
			must(t, err)
			made := 0
			for _, n := range neighs {
				if n.State != netlink.NUD_PERMANENT && !n.IP.IsMulticast() {
					made++
				}
			}
			if (made == len(d.Subnets)) != icc || !icc && made != 0 {
				t.Errorf("icc %v: the neighbours are %v", icc, neighs)
			}
			return nil
		})
	}
}

// checkPort looks at what the kernel says of the host's end.
func checkPort(t *testing.T, l Lease, icc bool) {
	t.Helper()
	r := rt(t)
	p, err := r.link(l.HostInterface)
	must(t, err)
	br, err := r.link(l.Bridge)
	must(t, err)
	if p.Attrs().MasterIndex != br.Attrs().Index || p.Attrs().Group != br.Attrs().Group || p.Attrs().Flags&net.FlagUp == 0 {
		t.Errorf("the port is %+v", p.Attrs())
	}
	for file, want := range map[string]bool{
		"learning": false, "isolated": !icc, "unicast_flood": false, "hairpin_mode": false, "multicast_flood": icc, "broadcast_flood": icc, "locked": true,
	} {
		if got := portFlag(t, p, file); got != want {
			t.Errorf("%s of the port is %v, want %v", file, got, want)
		}
	}
	fdb, err := netlink.NeighList(p.Attrs().Index, unix.AF_BRIDGE)
	must(t, err)
	static := false
	for _, n := range fdb {
		static = static || n.State == unix.NUD_NOARP && n.HardwareAddr.String() == l.MAC.String()
	}
	if !static {
		t.Errorf("the bridge's table has %v", fdb)
	}
	addrs, err := netlink.AddrList(p, netlink.FAMILY_ALL)
	if len(addrs) != 0 || err != nil {
		t.Errorf("the port has the addresses %v, %v", addrs, err)
	}
}

// portFlag reads a setting of a port, as the kernel answers it.
func portFlag(t *testing.T, p netlink.Link, name string) bool {
	t.Helper()
	info, err := netlink.LinkGetProtinfo(p)
	must(t, err)
	switch name {
	case "learning":
		return info.Learning
	case "isolated":
		return info.Isolated
	case "unicast_flood":
		return info.Flood
	case "hairpin_mode":
		return info.Hairpin
	}
	kinds := map[string]uint16{"multicast_flood": unix.IFLA_BRPORT_MCAST_FLOOD, "broadcast_flood": unix.IFLA_BRPORT_BCAST_FLOOD, "locked": nl.IFLA_BRPORT_LOCKED}
	m, err := rt(t).ask(unix.RTM_GETLINK, 0, unix.RTM_NEWLINK, iface(p.Attrs().Index, 0, 0))
	must(t, err)
	v, ok := find(m[0][unix.SizeofIfInfomsg:], unix.IFLA_LINKINFO, unix.IFLA_INFO_SLAVE_DATA, kinds[name])
	if !ok || len(v) != 1 {
		t.Fatalf("the kernel does not say %s", name)
	}
	return v[0] != 0
}

// find follows nested attributes.
func find(b []byte, path ...uint16) ([]byte, bool) {
	for len(b) >= 4 {
		n, k := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])&0x3fff
		if n < 4 || n > len(b) {
			return nil, false
		}
		if k == path[0] {
			if len(path) == 1 {
				return b[4:n], true
			}
			return find(b[4:n], path[1:]...)
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return nil, false
}

func TestWireAtOnce(t *testing.T) {
	s, d := bridgeNet(t, Options{})
	at := serve(t, d.Gateway(d.V4()))
	own, err := os.Open("/proc/thread-self/ns/net")
	must(t, err)
	defer own.Close()
	const many = 32
	all := make([]*container, many)
	for i := range all {
		all[i] = newContainer(t, testID(i))
	}
	var wg sync.WaitGroup
	for _, c := range all {
		wg.Go(func() {
			err := within(own, func() error { return c.join(s, d) })
			if err == nil {
				err = within(c.ns, func() error { return dial(at, 5*time.Second) })
			}
			if err != nil {
				t.Errorf("container %s: %v", c.id, err)
			}
		})
	}
	wg.Wait()
	seen := map[netip.Prefix]bool{}
	for _, c := range all {
		if len(c.lease) != 1 || seen[c.lease[0].Addrs[0]] {
			t.Fatalf("%+v is not its own", c.lease)
		}
		seen[c.lease[0].Addrs[0]] = true
	}
	for _, c := range all {
		wg.Go(func() {
			if err := within(own, func() error { return Unwire(c.lease[0]) }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := linkNames(t); n != "lo outside outer "+d.Bridge {
		t.Errorf("left are %s", n)
	}
}

func TestWireNetworks(t *testing.T) {
	s, in := bridgeNet(t, Options{Internal: true})
	out := newNetwork(t, s, Options{Name: "out", Subnets: prefixes("10.8.0.0/24")})
	six := newNetwork(t, s, Options{Name: "six", Subnets: prefixes("fd08::/64"), NoIPv4: true})
	must(t, EnsureBridge(out))
	must(t, EnsureBridge(six))
	routes := func(c *container) (got []string) {
		c.do(t, func() error {
			for _, f := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
				all, err := netlink.RouteList(nil, f)
				must(t, err)
				for _, r := range all {
					if ones := -1; r.Dst != nil {
						if ones, _ = r.Dst.Mask.Size(); ones > 0 {
							continue
						}
					}
					got = append(got, r.Gw.String())
				}
			}
			return nil
		})
		return got
	}
	c := newContainer(t, testID(1))
	must(t, c.join(s, in))
	if r := routes(c); len(r) != 0 {
		t.Errorf("on an internal network there are the default routes %v", r)
	}
	c = newContainer(t, testID(2))
	must(t, c.join(s, in, out, six))
	if r := strings.Join(routes(c), " "); r != "10.8.0.1 fd08::1" {
		t.Errorf("the default routes are %s", r)
	}
	for _, at := range []netip.Addr{in.Gateway(in.V4()), out.Gateway(out.V4()), six.Gateway(six.V6())} {
		to := serve(t, at)
		c.do(t, func() error { return dial(to, wait) })
	}
	// A lease is a file for as long as the container lives.
	b, err := json.Marshal(c.lease)
	must(t, err)
	var again []Lease
	must(t, json.Unmarshal(b, &again))
	if !reflect.DeepEqual(c.lease, again) {
		t.Errorf("%+v is read as %+v", c.lease, again)
	}
	for _, l := range again {
		must(t, Unwire(l))
	}
}

// What --sysctl says of IPv6 holds.
func TestWireIPv6Off(t *testing.T) {
	s, d := bridgeNet(t, Options{})
	c := newContainer(t, testID(1))
	c.do(t, func() error {
		return setSysctls([]sysctl{{"ipv6/conf/all/disable_ipv6", "1"}})
	})
	must(t, c.join(s, d))
	at := serve(t, d.Gateway(d.V4()))
	c.do(t, func() error {
		eth, err := rt(t).link("eth0")
		must(t, err)
		if got, err := netlink.AddrList(eth, netlink.FAMILY_ALL); len(got) != 1 || err != nil {
			t.Errorf("the addresses are %v, %v", got, err)
		}
		return dial(at, wait)
	})
}

// A launch that fails leaves nothing.
func TestWireFails(t *testing.T) {
	s, d := bridgeNet(t, Options{})
	gone := newNetwork(t, s, Options{Name: "gone"}) // without a bridge
	c := newContainer(t, testID(1))
	kind(t, c.join(s, d, gone), fail.HostCannot, "is not there")
	if n := linkNames(t); n != "lo outside outer "+d.Bridge {
		t.Errorf("left are %s", n)
	}
	// Not a namespace.
	f, err := os.Open("/dev/null")
	must(t, err)
	defer f.Close()
	kind(t, Wire(f, c.lease[:1]), fail.HostCannot, "namespace")
	for _, bad := range []func(*Lease){
		func(l *Lease) { l.Interface = "lo" },
		func(l *Lease) { l.HostInterface = "outer" },
		func(l *Lease) { l.Bridge = "outer" },
		func(l *Lease) { l.MAC = nil },
		func(l *Lease) { l.Gateways = nil },
	} {
		l := c.lease[0]
		bad(&l)
		kind(t, Wire(c.ns, []Lease{l}), fail.Internal, "")
		kind(t, Unwire(l), fail.Internal, "")
	}
}

// After a crash the container's end is gone with its namespace, the claim and
// perhaps the host's end are there.
func TestWireAfterCrash(t *testing.T) {
	s, d := bridgeNet(t, Options{})
	dead := newContainer(t, testID(1))
	must(t, dead.join(s, d))
	// The same container starts again while the old pair exists.
	again := newContainer(t, testID(1))
	again.lease = dead.lease
	must(t, Wire(again.ns, again.lease))
	at := serve(t, d.Gateway(d.V4()))
	again.do(t, func() error { return dial(at, wait) })
	if n, err := s.Reclaim(func(string) bool { return false }); n != 1 || err != nil {
		t.Errorf("reclaimed %d, %v", n, err)
	}
	must(t, Unwire(again.lease[0]))
	must(t, s.Release(again.lease[0], again.id))
	if n := linkNames(t); n != "lo outside outer "+d.Bridge {
		t.Errorf("left are %s", n)
	}
}

// No thread stays in a container's namespace.
func TestWithin(t *testing.T) {
	c := newContainer(t, testID(1))
	for range 50 {
		must(t, within(c.ns, func() error { return nil }))
		kind(t, within(c.ns, func() error { return fail.New(fail.Usage, "x") }), fail.Usage, "x")
	}
	var theirs, st unix.Stat_t
	must(t, unix.Fstat(int(c.ns.Fd()), &theirs))
	tasks, err := os.ReadDir("/proc/self/task")
	must(t, err)
	for _, task := range tasks {
		if err := unix.Stat("/proc/self/task/"+task.Name()+"/ns/net", &st); err == nil && st.Ino == theirs.Ino {
			t.Errorf("thread %s is in the container", task.Name())
		}
	}
}

func BenchmarkWire(b *testing.B) {
	s, d := bridgeNet(b, Options{})
	c := newContainer(b, testID(1))
	must(b, c.join(s, d))
	must(b, Unwire(c.lease[0]))
	for b.Loop() {
		must(b, Wire(c.ns, c.lease))
		b.StopTimer()
		must(b, Unwire(c.lease[0]))
		b.StartTimer()
	}
}

func BenchmarkUnwire(b *testing.B) {
	s, d := bridgeNet(b, Options{})
	c := newContainer(b, testID(1))
	must(b, c.join(s, d))
	for b.Loop() {
		must(b, Unwire(c.lease[0]))
		b.StopTimer()
		must(b, Wire(c.ns, c.lease))
		b.StartTimer()
	}
}
