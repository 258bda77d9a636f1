package netfilter

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func to(prefix string, proto uint8, first, last uint16, for_ ...time.Duration) Allow {
	p, err := netip.ParsePrefix(prefix)
	if err != nil {
		a := netip.MustParseAddr(prefix)
		p = netip.PrefixFrom(a, a.BitLen())
	}
	al := Allow{To: p, Proto: proto, First: first, Last: last}
	for _, f := range for_ {
		al.For = f
	}
	return al
}

func tcpAndUDP(prefix string, first, last uint16, for_ ...time.Duration) []Allow {
	return []Allow{to(prefix, unix.IPPROTO_TCP, first, last, for_...), to(prefix, unix.IPPROTO_UDP, first, last, for_...)}
}

func TestEgress(t *testing.T) {
	t.Parallel()
	w := newTopology(t)
	a, b, c := w.ct["a"], w.ct["b"], w.ct["c"]
	w.outside.addr("lo", "198.51.100.7/32", "198.51.100.200/32", "2001:db8:1::7/128")
	w.host.route("198.51.100.0/24", outLAN)
	w.host.route("2001:db8:1::/64", outLAN6)
	w.outside.serve("outside", "[::]:80", "[::]:81", "[::]:8000", "[::]:8001", "[::]:8002")
	w.ct["d"].serve("d", "[::]:80")
	c.serve("c", "[::]:80")
	w.publish("c", append(published("0.0.0.0", 8090, c), published("::", 8090, c)...)...)
	limit := func(ct *container, allow ...Allow) {
		t.Helper()
		w.must(w.table.RemoveEndpoint(ct.endpoint))
		ct.endpoint.LimitEgress, ct.endpoint.Allow = true, allow
		w.must(w.table.Add(ct.endpoint))
	}
	served := map[bool]string{false: "outside " + hostLAN, true: "outside " + hostLAN6}
	reaches := func(ct *container, addr, port string, yes bool) {
		t.Helper()
		want := refused
		if yes {
			want = served[netip.MustParseAddr(addr).Is6()]
		}
		ct.both(t, ct.name, at(addr, port), want)
	}

	t.Run("none", func(t *testing.T) {
		limit(a)
		for _, to := range []string{outLAN, outLAN6, "198.51.100.7", "169.254.169.254"} {
			reaches(a, to, "80", false)
			reaches(b, to, "80", to != "169.254.169.254")
		}
		a.both(t, "published by another", at(hostLAN, "8090"), refused)
		limit(c)
		for i := range c.addr {
			c.both(t, "of its own network", at(w.ct["d"].addr[i], "80"), "d "+c.addr[i].String())
		}
		// Its answer to what comes in, if that is an error.
		c.endpoint.Publish = append(c.endpoint.Publish, closedPorts(c)...)
		limit(c)
		for _, to := range []string{hostLAN, hostLAN6} {
			if got := w.outside.ask("udp", at(to, "9")); got != refused {
				t.Errorf("a closed port of a limited container: %q", got)
			}
		}
		c.both(t, "its gateway", at(gateway(icc, 0), "8090"), refused)
		c.both(t, "its gateway", at(gateway(icc, 1), "8090"), refused)
		reaches(c, outLAN, "80", false)
	})
	t.Run("list", func(t *testing.T) {
		allow := slices.Concat(tcpAndUDP(outLAN, 80, 80), tcpAndUDP(outLAN6, 80, 80), tcpAndUDP(hostLAN, 8090, 8090),
			tcpAndUDP("198.51.100.0/25", 8000, 8001), tcpAndUDP("2001:db8:1::/64", 8000, 8001),
			// Inside and across the others.
			tcpAndUDP("198.51.100.7", 7999, 8002), tcpAndUDP("198.51.100.0/24", 80, 80), tcpAndUDP("169.254.0.0/16", 80, 80))
		limit(a, allow...)
		for _, r := range []struct {
			addr, port string
			yes        bool
		}{
			{outLAN, "80", true},
			{outLAN, "81", false},
			{outLAN6, "80", true},
			{outLAN6, "81", false},
			{"198.51.100.7", "8000", true},
			{"198.51.100.7", "8001", true},
			{"198.51.100.7", "8002", true},
			{"198.51.100.7", "81", false},
			{"198.51.100.200", "80", true},
			{"198.51.100.200", "8000", false},
			{"2001:db8:1::7", "8000", true},
			{"2001:db8:1::7", "8002", false},
			{"169.254.169.254", "80", false},
		} {
			reaches(a, r.addr, r.port, r.yes)
			if r.addr != "169.254.169.254" {
				reaches(b, r.addr, r.port, true)
			}
		}
		a.both(t, "a port of the host on the list", at(hostLAN, "8090"), "c "+gateway(icc, 0).String())
		a.both(t, "a port of the host not on the list", at(gateway(bridged, 0), "8090"), refused)
	})
	t.Run("for a time", func(t *testing.T) {
		limit(a)
		const ttl = 1500 * time.Millisecond
		w.must(w.table.Permit(a.addr[:], tcpAndUDP(outLAN, 80, 80, ttl)))
		w.must(w.table.Permit(a.addr[:], tcpAndUDP(outLAN, 8000, 8001, ttl)))
		w.must(w.table.Permit(a.addr[:], append(tcpAndUDP(outLAN6, 8000, 8001, ttl), tcpAndUDP(outLAN6, 8001, 8002, ttl)...)))
		began := time.Now()
		reaches(a, outLAN, "80", true)
		reaches(a, outLAN, "81", false)
		reaches(a, outLAN, "8001", true)
		reaches(a, outLAN, "8002", false)
		for _, port := range []string{"8000", "8001", "8002"} {
			reaches(a, outLAN6, port, true)
		}
		// Refreshed, by a longer time and by a wider range.
		w.must(w.table.Permit(a.addr[:], tcpAndUDP(outLAN, 80, 80, time.Minute)))
		w.must(w.table.Permit(a.addr[:], tcpAndUDP(outLAN6, 8002, 8005, time.Minute)))
		w.must(w.table.Permit(a.addr[:], tcpAndUDP(outLAN, 81, 81, ttl/2)))
		time.Sleep(time.Until(began.Add(ttl + 100*time.Millisecond)))
		reaches(a, outLAN, "80", true)
		reaches(a, outLAN, "81", false)
		reaches(a, outLAN6, "8001", true)
		// A shorter time takes nothing away.
		w.must(w.table.Permit(a.addr[:], tcpAndUDP(outLAN, 80, 80, time.Millisecond)))
		time.Sleep(10 * time.Millisecond)
		reaches(a, outLAN, "80", true)
		// Another container gets the address: nothing of that is for it.
		limit(a)
		reaches(a, outLAN, "80", false)
		reaches(a, outLAN6, "8001", false)
		// Nor if nobody took the dead one out.
		w.must(w.table.Permit(a.addr[:], tcpAndUDP(outLAN, 80, 80, time.Minute)))
		reaches(a, outLAN, "80", true)
		w.must(w.table.Add(a.endpoint))
		reaches(a, outLAN, "80", false)
		a.endpoint.LimitEgress = false
		w.must(w.table.Add(a.endpoint))
		reaches(a, outLAN, "81", true)
		// It does nothing where there is no limit, or no container.
		w.must(w.table.Permit(a.addr[:], tcpAndUDP(outLAN, 80, 80, time.Minute)))
		w.must(w.table.Permit([]netip.Addr{netip.MustParseAddr("10.210.0.77")}, tcpAndUDP(outLAN, 80, 80, time.Minute)))
	})
}

// closedPorts publishes UDP port 9, where nobody listens.
func closedPorts(c *container) (out []Publish) {
	for i, host := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		out = append(out, Publish{Host: host, HostPort: 9, Proto: unix.IPPROTO_UDP, To: netip.AddrPortFrom(c.addr[i], 9)})
	}
	return out
}

// The kernel refuses ranges that overlap. Whatever the list and the order, it
// must take what is made of it, and what is permitted later beside it.
func TestEgressOverlaps(t *testing.T) {
	n := newSpace(t)
	tb := Table{Name: "safe-run", NetNS: n.fd}
	if err := tb.Ensure(); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 40 {
		e := someEndpoint(round)
		e.LimitEgress = true
		for range 30 {
			first := uint16(r.IntN(40))
			p, _ := netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(8))}).Prefix(26 + r.IntN(7))
			e.Allow = append(e.Allow, Allow{To: p, Proto: unix.IPPROTO_TCP, First: first, Last: first + uint16(r.IntN(20))})
		}
		if err := tb.Add(e); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			var more []Allow
			for range 4 {
				first := uint16(r.IntN(40))
				more = append(more, Allow{
					To: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(3))}), 32), Proto: unix.IPPROTO_TCP,
					First: first, Last: first + uint16(r.IntN(20)), For: time.Duration(1+r.IntN(100)) * time.Second,
				})
			}
			if err := tb.Permit(e.Addrs, more); err != nil {
				t.Fatalf("%v: %v", more, err)
			}
		}
		// Adding it again replaces it; then it goes, but for what expires.
		if err := tb.Add(e); err != nil {
			t.Fatal(err)
		}
		if err := tb.RemoveEndpoint(e); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range sets() {
		if left := listSet(t, tb, s.name); len(left) > 0 && !s.expires && s.name != setBlocked+"4" && s.name != setBlocked+"6" {
			t.Errorf("%s has %d elements left", s.name, len(left))
		}
	}
}

func FuzzDisjoint(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	f.Add([]byte{8, 0, 10, 20, 6, 0, 15, 3, 8, 0, 0, 40})
	f.Fuzz(func(t *testing.T, b []byte) {
		var in []Allow
		for len(b) >= 4 && len(in) < 20 {
			p, err := netip.AddrFrom4([4]byte{10, 0, 0, b[1]}).Prefix(24 + int(b[0])%9)
			if err != nil {
				t.Fatal(err)
			}
			in = append(in, Allow{To: p, Proto: 6, First: uint16(b[2]), Last: uint16(b[2]) + uint16(b[3])%32})
			b = b[4:]
		}
		out, err := disjoint(in)
		if err != nil {
			t.Fatal(err)
		}
		count := func(as []Allow, a netip.Addr, port uint16) (n int) {
			for _, x := range as {
				if x.To.Contains(a) && x.First <= port && port <= x.Last {
					n++
				}
			}
			return n
		}
		for host := range 256 {
			a := netip.AddrFrom4([4]byte{10, 0, 0, byte(host)})
			for port := uint16(0); port < 300; port += 3 {
				had, has := count(in, a, port), count(out, a, port)
				if (had > 0) != (has > 0) || has > 1 {
					t.Fatalf("%s port %d: %d times in %v, %d times in %v", a, port, had, in, has, out)
				}
			}
		}
	})
}

func TestRefusesNonsense(t *testing.T) {
	tb := Table{Name: "safe-run", NetNS: newSpace(t).fd}
	good := someEndpoint(1)
	for name, e := range map[string]Endpoint{
		"no hardware address": {Bridge: "br", Addrs: good.Addrs},
		"no bridge":           {MAC: good.MAC, Addrs: good.Addrs},
		"a long bridge":       {MAC: good.MAC, Bridge: "0123456789abcdef"},
		"no port":             {MAC: good.MAC, Bridge: "br", Publish: []Publish{{Host: netip.IPv4Unspecified(), To: netip.MustParseAddrPort("10.0.0.1:80")}}},
		"two families":        {MAC: good.MAC, Bridge: "br", Publish: []Publish{{Host: netip.IPv6Unspecified(), HostPort: 1, To: netip.MustParseAddrPort("10.0.0.1:80")}}},
		"ports backwards":     {MAC: good.MAC, Bridge: "br", LimitEgress: true, Allow: []Allow{to("10.0.0.0/8", 6, 9, 8)}},
		"no prefix":           {MAC: good.MAC, Bridge: "br", LimitEgress: true, Allow: []Allow{{Proto: 6, Last: 9}}},
	} {
		if err := tb.Add(e); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, a := range []Allow{to("10.0.0.0/8", 6, 1, 1, time.Second), to("10.0.0.1", 6, 1, 1), to("10.0.0.1", 6, 2, 1, time.Second)} {
		if err := tb.Permit(good.Addrs, []Allow{a}); err == nil {
			t.Errorf("%v: no error", a)
		}
	}
	if err := tb.AddNetwork(Network{Bridge: "0123456789abcdef"}); err == nil {
		t.Error("a bridge with a long name: no error")
	}
}

func someEndpoint(i int) Endpoint {
	return Endpoint{
		Bridge: "saferun0",
		MAC:    []byte{2, 0x42, 0, 0, byte(i >> 8), byte(i)},
		Addrs: []netip.Addr{
			netip.AddrFrom4([4]byte{10, 210, byte(i >> 8), byte(i)}),
			netip.MustParseAddr(fmt.Sprintf("fd12::%x", i+1)),
		},
	}
}

func listSet(t testing.TB, tb Table, set string) (out []element) {
	t.Helper()
	err := tb.with("list", func(c *conn) (err error) {
		out, err = tb.list(c, set)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
