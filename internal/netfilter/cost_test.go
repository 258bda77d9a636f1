package netfilter

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cost is the least time of some calls: what others do at the same time only
// adds to it.
func cost(f func()) time.Duration {
	least := time.Hour
	for range 15 {
		began := time.Now()
		f()
		least = min(least, time.Since(began))
	}
	return least
}

func withPorts(e Endpoint, ports int) Endpoint {
	for p := range ports {
		for _, h := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
			to := e.Addrs[0]
			if h.Is6() {
				to = e.Addrs[1]
			}
			e.Publish = append(e.Publish, Publish{h, uint16(10000 + p), unix.IPPROTO_TCP, netip.AddrPortFrom(to, uint16(1+p))})
		}
	}
	return e
}

// A launch costs the same beside five thousand containers.
func TestCost(t *testing.T) {
	tb := Table{Name: "safe-run", NetNS: newSpace(t).fd}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("Ensure: %s", cost(func() { do(tb.Ensure()); do(tb.Remove()) }))
	do(tb.Ensure())
	t.Logf("Ensure, there: %s", cost(func() { do(tb.Ensure()) }))
	do(tb.AddNetwork(bridged))
	t.Logf("AddNetwork, there: %s", cost(func() { do(tb.AddNetwork(bridged)) }))

	one, many := withPorts(someEndpoint(6000), 1), withPorts(someEndpoint(6001), 500)
	limited := someEndpoint(6002)
	limited.LimitEgress = true
	limited.Allow = []Allow{to("192.0.2.7", 6, 1, 1), to("198.51.100.0/24", 6, 1, 9)}
	pairs := func() (add, remove [3]time.Duration) {
		for i, e := range []Endpoint{one, many, limited} {
			add[i] = cost(func() { do(tb.Add(e)) })
			do(tb.RemoveEndpoint(e))
			both := cost(func() { do(tb.Add(e)); do(tb.RemoveEndpoint(e)) })
			remove[i] = both - add[i]
		}
		return add, remove
	}
	add, remove := pairs()
	t.Logf("alone: Add with 1 port %s, 500 ports %s, egress list %s; RemoveEndpoint %s, %s, %s",
		add[0], add[1], add[2], remove[0], remove[1], remove[2])
	for i := range 5000 {
		e := withPorts(someEndpoint(i), 0)
		e.Publish = []Publish{{netip.IPv4Unspecified(), uint16(20000 + i), unix.IPPROTO_UDP, netip.AddrPortFrom(e.Addrs[0], 80)}}
		e.LimitEgress = i%10 == 0
		if e.LimitEgress {
			e.Allow = limited.Allow
		}
		do(tb.Add(e))
	}
	time.Sleep(time.Second) // until all those sockets are closed
	full, fullRemove := pairs()
	t.Logf("beside 5000: Add with 1 port %s, 500 ports %s, egress list %s; RemoveEndpoint %s, %s, %s",
		full[0], full[1], full[2], fullRemove[0], fullRemove[1], fullRemove[2])
	t.Logf("beside 5000: Ensure, there: %s", cost(func() { do(tb.Ensure()) }))
	if full[0] > 3*add[0]+time.Millisecond {
		t.Errorf("Add takes %s beside 5000 containers, %s alone", full[0], add[0])
	}
}

// All of the ports there are fit one transaction.
func TestManyPorts(t *testing.T) {
	tb := Table{Name: "safe-run", NetNS: newSpace(t).fd}
	if err := tb.Ensure(); err != nil {
		t.Fatal(err)
	}
	e := someEndpoint(1)
	for p := 1; p < 1<<16; p++ {
		e.Publish = append(e.Publish, Publish{netip.IPv4Unspecified(), uint16(p), unix.IPPROTO_TCP, netip.AddrPortFrom(e.Addrs[0], uint16(p))})
	}
	began := time.Now()
	if err := tb.Add(e); err != nil {
		t.Fatal(err)
	}
	t.Logf("Add with 65535 ports: %s", time.Since(began))
	if missing, err := tb.Verify(e); len(missing) > 0 || err != nil {
		t.Errorf("%d missing, %v", len(missing), err)
	}
	if err := tb.RemoveEndpoint(e); err != nil {
		t.Fatal(err)
	}
	if missing, err := tb.Verify(e); len(missing) != 2+2*65535 || err != nil {
		t.Errorf("%d missing, %v", len(missing), err)
	}
}
