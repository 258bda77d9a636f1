package ports

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// echoUDP is a program in a container that sends back what it gets.
func echoUDP(t *testing.T, at string) netip.AddrPort {
	t.Helper()
	c, err := net.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, maxDatagram)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(b[:n], from)
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// A connected client takes answers only from the address it speaks to, so
// the relay has to answer from there.
func TestRelayUDP(t *testing.T) {
	to := echoUDP(t, "127.0.0.1:0")
	relayTo(t, to, publish(netip.Addr{}, 5353, 5353, 53, 53, "udp"))
	for _, at := range []string{"127.0.0.1:5353", "127.0.0.9:5353", "[::1]:5353"} {
		for range 20 {
			c := dial(t, "udp", at)
			for _, size := range []int{1, 1400, 60000} {
				if err := echo(c, string(bytes.Repeat([]byte("d"), size))); err != nil {
					t.Errorf("%s, %d bytes: %v", at, size, err)
				}
			}
		}
	}
}

// What arrives before Relay is not lost.
func TestRelayUDPWaiting(t *testing.T) {
	h := open1(t, Options{}, publish(lo6, 5353, 5353, 53, 53, "udp"))
	c := dial(t, "udp", "[::1]:5353")
	if _, err := c.Write([]byte("early")); err != nil {
		t.Fatal(err)
	}
	to := echoUDP(t, "127.0.0.1:0")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { _ = h.Relay(ctx, func(Mapping) netip.AddrPort { return to }) }()
	b := make([]byte, 10)
	if n, err := c.Read(b); string(b[:n]) != "early" {
		t.Errorf("%q, %v", b[:n], err)
	}
}

func TestRelayUDPEmptyDatagram(t *testing.T) {
	relayTo(t, echoUDP(t, "[::1]:0"), publish(lo4, 5353, 5353, 53, 53, "udp"))
	c := dial(t, "udp", "127.0.0.1:5353")
	if _, err := c.Write(nil); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 10)); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// Clients over the bound are dropped, those before them go on.
func TestRelayUDPFlood(t *testing.T) {
	relayTo(t, echoUDP(t, "127.0.0.1:0"), publish(lo4, 5353, 5353, 53, 53, "udp"))
	first := dial(t, "udp", "127.0.0.1:5353")
	if err := echo(first, "first"); err != nil {
		t.Fatal(err)
	}
	served := 1
	for range maxSessions + 20 {
		c := dial(t, "udp", "127.0.0.1:5353")
		_ = c.SetDeadline(time.Now().Add(100 * time.Millisecond))
		if echo(c, "x") == nil {
			served++
		}
	}
	if served != maxSessions {
		t.Errorf("%d clients are served, want %d", served, maxSessions)
	}
	if err := echo(first, "again"); err != nil {
		t.Error(err)
	}
}

func TestExpire(t *testing.T) {
	r := &relay{udpState: newUDPState()}
	now := time.Now()
	add := func(idle time.Duration, answered bool) {
		fd, err := unix.Dup(0)
		if err != nil {
			t.Fatal(err)
		}
		c := &session{sessionKey: sessionKey{listener: fd}, fd: fd, last: now.Add(-idle), answered: answered}
		r.sessions[c.sessionKey], r.bySocket[int32(fd)] = c, c
	}
	add(29*time.Second, false)
	add(31*time.Second, false)
	add(89*time.Second, true)
	add(91*time.Second, true)
	r.expire(now)
	if len(r.sessions) != 2 || len(r.bySocket) != 2 {
		t.Errorf("%d sessions", len(r.sessions))
	}
	r.closeSessions()
	if len(r.sessions) != 0 {
		t.Errorf("%d sessions", len(r.sessions))
	}
}

// Datagrams for many are not passed on.
func TestRelayUDPBroadcast(t *testing.T) {
	heard := make(chan string, 10)
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		b := make([]byte, 100)
		for {
			n, _, err := l.ReadFrom(b)
			if err != nil {
				return
			}
			heard <- string(b[:n])
		}
	}()
	relayTo(t, l.LocalAddr().(*net.UDPAddr).AddrPort(), publish(any4, 5353, 5353, 53, 53, "udp"))
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, m := range []struct{ to, say string }{{"127.255.255.255:5353", "to many"}, {"127.0.0.1:5353", "to one"}} {
		if _, err := c.WriteTo([]byte(m.say), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(m.to))); err != nil {
			t.Fatal(err)
		}
	}
	if got := <-heard; got != "to one" {
		t.Errorf("%q was passed on", got)
	}
}
