package netfilter

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// published is a port 80 of a container on the host, for TCP and UDP.
func published(host string, port uint16, c *container) (out []Publish) {
	h := netip.MustParseAddr(host)
	to := c.addr[0]
	if h.Is6() {
		to = c.addr[1]
	}
	for _, proto := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		out = append(out, Publish{Host: h, HostPort: port, Proto: proto, To: netip.AddrPortFrom(to, 80)})
	}
	return out
}

func TestPublished(t *testing.T) {
	t.Parallel()
	w := newTopology(t)
	a, b, c, e := w.ct["a"], w.ct["b"], w.ct["c"], w.ct["e"]
	w.host.addr("eth0", "192.0.2.9/24", "2001:db8::9/64")
	for _, ct := range w.ct {
		ct.serve(ct.name, "[::]:80")
	}
	var all []Publish
	for _, p := range []struct {
		host string
		port uint16
	}{
		{"0.0.0.0", 8080},
		{"::", 8080},
		{"192.0.2.9", 8081},
		{"2001:db8::9", 8081},
		{"127.0.0.1", 8082},
		{"::1", 8082},
		{"fe80::1", 8082},
	} {
		all = append(all, published(p.host, p.port, b)...)
	}
	w.publish("b", all...)
	w.publish("c", append(published("0.0.0.0", 8090, c), published("::", 8090, c)...)...)
	gw := [2]string{gateway(bridged, 0).String(), gateway(bridged, 1).String()}

	t.Run("all addresses", func(t *testing.T) {
		for _, to := range []string{hostLAN, "192.0.2.9"} {
			w.outside.both(t, "neighbour", at(to, "8080"), "b "+outLAN)
			w.host.both(t, "host", at(to, "8080"), "b "+hostLAN)
		}
		for _, to := range []string{hostLAN6, "2001:db8::9"} {
			w.outside.both(t, "neighbour", at(to, "8080"), "b "+outLAN6)
			w.host.both(t, "host", at(to, "8080"), "b "+to)
		}
		w.host.both(t, "host", "127.0.0.1:8080", "b "+gw[0])
		w.host.both(t, "host", "127.1.2.3:8080", "b "+gw[0])
		// The socket that holds the port has these.
		w.host.both(t, "host", "[::1]:8080", refused)
	})
	t.Run("one address", func(t *testing.T) {
		w.outside.both(t, "neighbour", at("192.0.2.9", "8081"), "b "+outLAN)
		w.outside.both(t, "neighbour", at("2001:db8::9", "8081"), "b "+outLAN6)
		w.outside.both(t, "neighbour", at(hostLAN, "8081"), refused)
		w.outside.both(t, "neighbour", at(hostLAN6, "8081"), refused)
		w.host.both(t, "host", "127.0.0.1:8081", refused)
		w.host.both(t, "host", at("192.0.2.9", "8081"), "b "+hostLAN)
	})
	t.Run("loopback", func(t *testing.T) {
		w.host.both(t, "host", "127.0.0.1:8082", "b "+gw[0])
		w.host.both(t, "host", "127.0.0.2:8082", refused)
		w.host.both(t, "host", at(hostLAN, "8082"), refused)
		w.outside.both(t, "neighbour", at(hostLAN, "8082"), refused)
		w.outside.both(t, "neighbour", at(hostLAN6, "8082"), refused)
		a.both(t, "container", at(hostLAN, "8082"), refused)
	})
	t.Run("hairpin", func(t *testing.T) {
		// What a container publishes is reached by those on its own network by the
		// socket that holds the port.
		w.host.serve("socket", "[::]:8080", "[::]:8090", "192.0.2.9:8081", "[2001:db8::9]:8081", hostLAN+":8081")
		for i, lan := range []string{hostLAN, hostLAN6} {
			for _, from := range []*container{a, b} {
				for _, to := range []string{lan, gw[i]} {
					from.both(t, from.name+", same network", at(to, "8080"), "socket "+from.addr[i].String())
				}
			}
			w.ct["d"].both(t, "icc network", at(lan, "8090"), "socket "+w.ct["d"].addr[i].String())
			a.both(t, "other network", at(lan, "8090"), "c "+gateway(icc, i).String())
			c.both(t, "other network", at(lan, "8080"), "b "+gw[i])
			e.both(t, "internal", at(lan, "8080"), refused)
			e.both(t, "internal", at(gateway(internal, i), "8080"), refused)
		}
		a.both(t, "one address", at("192.0.2.9", "8081"), "socket "+a.addr[0].String())
		a.both(t, "one address", at("2001:db8::9", "8081"), "socket "+a.addr[1].String())
		c.both(t, "one address", at("192.0.2.9", "8081"), "b "+gw[0])
		// Something else has the port on the other address.
		a.both(t, "the other address", at(hostLAN, "8081"), refused)
	})
	t.Run("given back", func(t *testing.T) {
		w.publish("b")
		w.outside.both(t, "neighbour", at(hostLAN, "8080"), "socket "+outLAN)
		a.both(t, "same network", at(hostLAN, "8080"), refused)
		w.host.both(t, "host", "127.0.0.1:8082", refused)
		w.outside.both(t, "another's", at(hostLAN, "8090"), "c "+outLAN)
	})
}

// A neighbour's packets to 127.0.0.1 arrive where an interface has
// route_localnet.
func TestLoopbackFromNeighbour(t *testing.T) {
	t.Parallel()
	w := newTopology(t)
	w.ct["b"].serve("b", "[::]:80")
	w.host.serve("host", "127.0.0.1:7777")
	w.publish("b", append(published("127.0.0.1", 8082, w.ct["b"]), published("0.0.0.0", 8080, w.ct["b"])...)...)
	w.host.sysctl("net/ipv4/conf/eth0/route_localnet", "1")
	w.outside.sysctl("net/ipv4/conf/eth0/route_localnet", "1")
	lo, err := w.outside.nl.LinkByName("lo")
	w.must(err)
	as, err := w.outside.nl.AddrList(lo, unix.AF_INET)
	w.must(err)
	for i := range as {
		w.must(w.outside.nl.AddrDel(lo, &as[i]))
	}
	w.outside.route("127.0.0.0/8", hostLAN)

	for _, to := range []string{"127.0.0.1:8082", "127.0.0.1:8080", "127.0.0.1:7777"} {
		w.outside.both(t, "a neighbour", to, dropped, outLAN)
	}
	w.host.both(t, "the host", "127.0.0.1:8082", "b "+gateway(bridged, 0).String())
	// It is the table that keeps the neighbour out.
	w.must(w.table.Remove())
	w.outside.both(t, "without the table", "127.0.0.1:7777", "host "+outLAN, outLAN)
}
