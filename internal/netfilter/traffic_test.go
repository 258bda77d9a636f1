package netfilter

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func at(addr any, port string) string {
	switch a := addr.(type) {
	case netip.Addr:
		return net.JoinHostPort(a.String(), port)
	default:
		return net.JoinHostPort(a.(string), port)
	}
}

func TestTraffic(t *testing.T) {
	t.Parallel()
	w := newTopology(t)
	a, b, c, d, e := w.ct["a"], w.ct["b"], w.ct["c"], w.ct["d"], w.ct["e"]
	w.host.serve("host", "[::]:22")
	w.outside.serve("outside", "[::]:80")
	for _, c := range w.ct {
		c.serve(c.name, "[::]:80")
	}

	t.Run("out", func(t *testing.T) {
		for _, from := range []*container{a, b, c, d} {
			from.both(t, from.name+" out", at(outLAN, "80"), "outside "+hostLAN)
			from.both(t, from.name+" out", at(outLAN6, "80"), "outside "+hostLAN6)
		}
	})
	t.Run("internal", func(t *testing.T) {
		for _, to := range []string{
			at(outLAN, "80"), at(outLAN6, "80"), at(hostLAN, "22"), at(hostLAN6, "22"),
			at(a.addr[0], "80"), at(a.addr[1], "80"), at(c.addr[0], "80"), at(c.addr[1], "80"),
		} {
			e.both(t, "from internal", to, refused)
		}
		a.both(t, "to internal", at(e.addr[0], "80"), refused)
		a.both(t, "to internal", at(e.addr[1], "80"), refused)
		w.host.both(t, "host to internal", at(e.addr[0], "80"), "e "+gateway(internal, 0).String())
	})
	t.Run("host services", func(t *testing.T) {
		for _, from := range []*container{a, c, e} {
			for _, to := range []any{gateway(from.net, 0), gateway(from.net, 1), hostLAN, hostLAN6, gateway(bridged, 0), gateway(icc, 1)} {
				from.both(t, from.name+" to a service of the host", at(to, "22"), refused)
			}
		}
		w.outside.both(t, "a neighbour to a service of the host", at(hostLAN, "22"), "host "+outLAN)
	})
	t.Run("between containers", func(t *testing.T) {
		for i := range a.addr {
			a.both(t, "other network", at(c.addr[i], "80"), refused)
			c.both(t, "other network", at(a.addr[i], "80"), refused)
			c.both(t, "icc", at(d.addr[i], "80"), "d "+c.addr[i].String())
			w.host.both(t, "host to container", at(a.addr[i], "80"), "a "+gateway(bridged, i).String())
		}
		// Through the host, since the bridge keeps them apart.
		a.route(b.addr[0].String()+"/32", gateway(bridged, 0).String())
		a.route(b.addr[1].String()+"/128", gateway(bridged, 1).String())
		b.route(a.addr[0].String()+"/32", gateway(bridged, 0).String())
		for i := range a.addr {
			a.both(t, "same network, through the host", at(b.addr[i], "80"), refused)
		}
	})
	t.Run("metadata", func(t *testing.T) {
		for _, m := range metadataAddrs {
			a.both(t, "metadata", at(m, "80"), refused)
			c.both(t, "metadata", at(m, "80"), refused)
			if got := w.host.ask("tcp", at(m, "80")); !strings.HasPrefix(got, "outside ") {
				t.Errorf("the host at %s: %q", m, got)
			}
			if !Blocked(netip.MustParseAddr(m)) {
				t.Errorf("%s is not blocked", m)
			}
		}
	})
	t.Run("another's translation", func(t *testing.T) {
		// From metadata to elsewhere, to metadata, and into an internal network.
		w.host.run(`table inet other { chain pre { type nat hook prerouting priority -101;
			ip daddr 169.254.169.254 dnat ip to `+outLAN+`
			ip6 daddr fd00:ec2::254 dnat ip6 to `+outLAN6+`
			ip daddr 203.0.113.9 dnat ip to 169.254.169.254
			ip6 daddr 2001:db8:9::9 dnat ip6 to fd00:ec2::254
			iifname "eth0" tcp dport 999 dnat ip to `+e.addr[0].String()+`:80
			iifname "eth0" udp dport 999 dnat ip to `+e.addr[0].String()+`:80
		}
		}`, "nft", "-f", "-")
		for _, to := range []string{"169.254.169.254", "fd00:ec2::254", "203.0.113.9", "2001:db8:9::9"} {
			for _, network := range []string{"tcp", "udp"} {
				// An error that comes while connect(2) still sends waits for the next try.
				if got := a.ask(network, at(to, "80")); got != refused && got != dropped {
					t.Errorf("translated metadata, %s %s: %q", network, to, got)
				}
			}
		}
		w.outside.both(t, "into an internal network", at(hostLAN, "999"), dropped)
		w.host.run("", "nft", "delete", "table", "inet", "other")
	})
	t.Run("errors", func(t *testing.T) {
		for i, to := range []string{outLAN, outLAN6} {
			if got := a.ask("udp", at(to, "9")); got != refused {
				t.Errorf("container to a closed port outside: %q", got)
			}
			if got := w.host.ask("udp", at(a.addr[i], "9")); got != refused {
				t.Errorf("host to a closed port of a container: %q", got)
			}
		}
	})
	t.Run("invalid", func(t *testing.T) {
		if leaks(t, a, w.outside) {
			t.Error("a packet of no connection left with the container's own address")
		}
	})
	t.Run("neighbour", func(t *testing.T) {
		w.outside.route("10.210.0.0/16", hostLAN)
		w.outside.route("fd12::/32", hostLAN6)
		for _, c := range []*container{a, c, e} {
			w.outside.both(t, "a neighbour to "+c.name, at(c.addr[0], "80"), dropped)
			w.outside.both(t, "a neighbour to "+c.name, at(c.addr[1], "80"), dropped)
		}
	})
}

func TestForged(t *testing.T) {
	t.Parallel()
	w := newTopology(t)
	a := w.ct["a"]
	w.outside.serve("outside", "[::]:80")
	a.both(t, "before", at(outLAN, "80"), "outside "+hostLAN)

	a.space.addr("eth0", "10.210.0.99/20", "fd12:0:0:1::99/64", "8.8.8.8/32")
	for _, from := range []string{"10.210.0.99", "8.8.8.8"} {
		a.both(t, "forged source "+from, at(outLAN, "80"), dropped, from)
		a.both(t, "forged source "+from, at(hostLAN, "22"), dropped, from)
	}
	a.both(t, "forged source", at(outLAN6, "80"), dropped, "fd12:0:0:1::99")

	// The address of its own with another hardware address.
	l, err := a.nl.LinkByName("eth0")
	w.must(err)
	mac := l.Attrs().HardwareAddr
	w.must(a.nl.LinkSetHardwareAddr(l, net.HardwareAddr{2, 0x42, 9, 9, 9, 9}))
	a.both(t, "forged hardware address", at(outLAN, "80"), dropped)
	a.both(t, "forged hardware address", at(outLAN6, "80"), dropped)
	w.must(a.nl.LinkSetHardwareAddr(l, mac))
	flushNeighbours(t, w.host)
	a.both(t, "after", at(outLAN, "80"), "outside "+hostLAN)

	// The host's loopback, by a route of the container's own making.
	w.host.serve("host", "127.0.0.1:7777")
	lo, err := a.nl.LinkByName("lo")
	w.must(err)
	as, err := a.nl.AddrList(lo, unix.AF_INET)
	w.must(err)
	for i := range as {
		w.must(a.nl.AddrDel(lo, &as[i]))
	}
	a.route("127.0.0.0/8", gateway(bridged, 0).String())
	a.both(t, "the host's loopback", "127.0.0.1:7777", dropped, a.addr[0].String())
}

func flushNeighbours(t *testing.T, n *space) {
	t.Helper()
	ns, err := n.nl.NeighList(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range ns {
		if ns[i].State != unix.NUD_PERMANENT && ns[i].State != unix.NUD_NOARP {
			_ = n.nl.NeighDel(&ns[i])
		}
	}
}

// leaks sends a reset that belongs to no connection from a container, and says
// whether it gets outside with the container's address.
func leaks(t *testing.T, from *container, outside *space) (leaked bool) {
	outside.do(func() {
		in, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(in)
		_ = unix.SetsockoptTimeval(in, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 300000})
		dst := netip.MustParseAddr(outLAN).As4()
		from.do(func() {
			out, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
			if err != nil {
				t.Error(err)
				return
			}
			defer unix.Close(out)
			src := from.addr[0].As4()
			const reset = 4
			seg := []byte{0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, reset, 0, 0, 0, 0, 0, 0}
			var sum uint32 = unix.IPPROTO_TCP + uint32(len(seg))
			for _, part := range [][]byte{src[:], dst[:], seg} {
				for i := 0; i < len(part); i += 2 {
					sum += uint32(part[i])<<8 | uint32(part[i+1])
				}
			}
			sum = sum>>16 + sum&0xffff
			sum = ^(sum>>16 + sum)
			seg[16], seg[17] = byte(sum>>8), byte(sum)
			if err := unix.Sendto(out, seg, 0, &unix.SockaddrInet4{Addr: dst}); err != nil {
				t.Error(err)
			}
		})
		b := make([]byte, 1500)
		for {
			n, _, err := unix.Recvfrom(in, b, 0)
			if err != nil {
				return
			}
			if n >= 34 && netip.AddrFrom4([4]byte(b[12:16])) == from.addr[0] {
				leaked = true
				return
			}
		}
	})
	return leaked
}
