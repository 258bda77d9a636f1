package netfilter

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// connections gives how many connections of an address, in both directions, a
// namespace tracks, and how many others.
func connections(n *space, addrs []netip.Addr) (out, in, others int) {
	n.t.Helper()
	is := func(ip net.IP) bool {
		a, _ := netip.AddrFromSlice(ip)
		return slices.Contains(addrs, a.Unmap())
	}
	for _, f := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		flows, err := n.nl.ConntrackTableList(netlink.ConntrackTable, f)
		if err != nil {
			n.t.Fatal(err)
		}
		for _, f := range flows {
			switch {
			case is(f.Forward.SrcIP):
				out++
			case is(f.Reverse.SrcIP):
				in++
			default:
				others++
			}
		}
	}
	return out, in, others
}

// crowd makes connections to many ports.
func (n *space) crowd(to string, ports int) {
	n.t.Helper()
	n.do(func() {
		c, err := net.ListenUDP("udp", nil)
		if err != nil {
			n.t.Error(err)
			return
		}
		defer c.Close()
		for p := range ports {
			if _, err := c.WriteToUDPAddrPort([]byte("?"), netip.AddrPortFrom(netip.MustParseAddr(to), uint16(20000+p))); err != nil {
				n.t.Error(err)
				return
			}
		}
	})
}

func TestForget(t *testing.T) {
	t.Parallel()
	w := newTopology(t)
	a, b := w.ct["a"], w.ct["b"]
	w.outside.serve("outside", "[::]:80")
	for _, c := range []*container{a, b} {
		c.serve(c.name, "[::]:80")
	}
	w.publish("a", append(published("0.0.0.0", 8080, a), published("::", 8080, a)...)...)
	w.publish("b", append(published("0.0.0.0", 8081, b), published("::", 8081, b)...)...)
	// Zones of a connection, and of its original direction alone.
	w.host.run(`table inet zones { chain pre { type filter hook prerouting priority raw;
		iifname "saferun0" udp dport 81 ct zone set 7
		iifname "saferun0" udp dport 82 ct original zone set 8
	}
	}`, "nft", "-f", "-")

	talk := func(c *container, port string) {
		for i, to := range []string{outLAN, outLAN6} {
			c.both(t, "out", at(to, "80"), "outside "+[]string{hostLAN, hostLAN6}[i])
			c.ask("udp", at(to, "81"))
			c.ask("udp", at(to, "82"))
			w.outside.both(t, "published", at([]string{hostLAN, hostLAN6}[i], port), c.name+" "+to)
			w.host.both(t, "from the host", at(c.addr[i], "80"), c.name+" "+gateway(bridged, i).String())
		}
	}
	talk(a, "8080")
	talk(b, "8081")
	out, in, _ := connections(w.host, a.addr[:])
	outB, inB, _ := connections(w.host, b.addr[:])
	if out < 8 || in < 8 || outB < 8 || inB < 8 {
		t.Fatalf("tracked: %d out, %d in; of the other %d, %d", out, in, outB, inB)
	}
	n, err := w.table.Forget(a.addr[:])
	if err != nil || n != out+in {
		t.Errorf("forgot %d of %d and %d, %v", n, out, in, err)
	}
	if out, in, _ := connections(w.host, a.addr[:]); out+in > 0 {
		t.Errorf("left: %d out, %d in", out, in)
	}
	if out, in, _ := connections(w.host, b.addr[:]); out != outB || in != inB {
		t.Errorf("of the other: %d out, %d in; were %d, %d", out, in, outB, inB)
	}
	if n, err := w.table.Forget(append(a.addr[:], netip.MustParseAddr("::ffff:10.210.9.9"))); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
	if n, err := w.table.Forget(nil); n != 0 || err != nil {
		t.Errorf("no addresses: %d, %v", n, err)
	}
	if _, err := w.table.Forget([]netip.Addr{{}}); err == nil {
		t.Error("not an address, and no error")
	}
}

// The next owner of an address is not let into a connection of the last.
func TestForgetNextOwner(t *testing.T) {
	t.Parallel()
	w := newTopology(t)
	a := w.ct["a"]
	w.outside.serve("outside", "[::]:80")
	for i, to := range []string{outLAN, outLAN6} {
		var c net.Conn
		a.do(func() {
			var err error
			if c, err = net.Dial("udp", at(to, "80")); err != nil {
				t.Error(err)
			}
		})
		defer c.Close()
		answers := func() bool {
			_ = c.SetDeadline(time.Now().Add(400 * time.Millisecond))
			b := make([]byte, 64)
			_, err := c.Write([]byte("?"))
			if err == nil {
				_, err = c.Read(b)
			}
			return err == nil
		}
		if !answers() {
			t.Fatalf("%s does not answer", to)
		}
		w.must(w.table.RemoveEndpoint(a.endpoint))
		none := a.endpoint
		none.LimitEgress = true
		w.must(w.table.Add(none))
		if !answers() {
			t.Errorf("%s: a connection ends without being forgotten", to)
		}
		if n, err := w.table.Forget(a.addr[i : i+1]); n == 0 || err != nil {
			t.Errorf("forgot %d, %v", n, err)
		}
		for range 2 { // the first may see an error that is late
			if answers() {
				t.Errorf("%s: the connection goes on", to)
			}
		}
		w.must(w.table.RemoveEndpoint(none))
		w.must(w.table.Add(a.endpoint))
	}
}

// An entry made anew has the tuple of one that was listed, and stays.
func TestForgetAnew(t *testing.T) {
	n := newSpace(t)
	n.addr("lo", "192.0.2.7/32")
	n.run("table inet t { chain c { type filter hook output priority 0; ct state new accept; }; }", "nft", "-f", "-")
	n.crowd("192.0.2.7", 3)
	src := []netip.Addr{netip.MustParseAddr("192.0.2.7")}
	if out, in, _ := connections(n, src); out+in != 3 {
		t.Fatalf("tracked: %d, %d", out, in)
	}
	c, err := dial(n.fd)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	var listed []tracked
	err = c.eachTracked(src[0], true, src, func(es []tracked) error {
		listed = append(listed, es...)
		return nil
	})
	if err != nil || len(listed) != 3 {
		t.Fatalf("%d, %v", len(listed), err)
	}
	listed[1].id = slices.Clone(listed[1].id)
	listed[1].id[0] ^= 1
	// The listing is over: its socket may delete.
	if k, err := c.untrack(listed); k != 2 || err != nil {
		t.Errorf("deleted %d, %v", k, err)
	}
	if out, in, _ := connections(n, src); out+in != 1 {
		t.Errorf("left: %d, %d", out, in)
	}
}

func TestForgetCost(t *testing.T) {
	w := newTopology(t)
	a, b := w.ct["a"], w.ct["b"]
	w.outside.serve("outside", "[::]:80")
	const foreign, own = 20000, 20000
	measure := func(what string) time.Duration {
		took := cost(func() {
			if _, err := w.table.Forget(a.addr[:]); err != nil {
				t.Fatal(err)
			}
		})
		t.Logf("Forget of an IPv4 and an IPv6 address, %s: %s", what, took)
		return took
	}
	measure("none")
	b.crowd(outLAN, foreign)
	_, _, before := connections(w.host, a.addr[:])
	if before < foreign {
		t.Fatalf("%d foreign entries", before)
	}
	took := measure(fmt.Sprintf("%d entries of others", before))
	if took > time.Second {
		t.Errorf("Forget takes %s", took)
	}
	a.ask("udp", at(outLAN, "80"))
	began := time.Now()
	n, err := w.table.Forget(a.addr[:])
	t.Logf("%d own: %s", n, time.Since(began))
	if n != 1 || err != nil {
		t.Errorf("forgot %d, %v", n, err)
	}
	if _, _, others := connections(w.host, a.addr[:]); others < foreign {
		t.Errorf("%d foreign entries are left", others)
	}
	a.crowd(outLAN6, own)
	began = time.Now()
	n, err = w.table.Forget(a.addr[:])
	t.Logf("%d own: %s", n, time.Since(began))
	if n < own || err != nil {
		t.Errorf("forgot %d, %v", n, err)
	}
	if out, in, _ := connections(w.host, a.addr[:]); out+in > 0 {
		t.Errorf("left: %d out, %d in", out, in)
	}
}

func TestForgetRefused(t *testing.T) {
	for err, kind := range map[error]fail.Kind{
		unix.EINVAL: fail.HostCannot, unix.EOPNOTSUPP: fail.HostCannot, unix.EPERM: fail.HostCannot,
		unix.EBUSY: fail.HostCannot, unix.ENOMEM: fail.Internal,
	} {
		if got := fail.KindOf(untracked(err)); got != kind {
			t.Errorf("%v: kind %v", err, got)
		}
	}
	if err := untracked(nil); err != nil {
		t.Error(err)
	}
}
