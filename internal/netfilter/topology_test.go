package netfilter

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// topology is a host with three networks, and a neighbour on its link:
//
//	a, b: saferun0       10.210.0.0/20   fd12:0:0:1::/64
//	c, d: sr-icc         10.210.16.0/20  fd12:0:0:2::/64, reach each other
//	e:    sr-internal    10.210.32.0/20  fd12:0:0:3::/64
//	outside: eth0        192.0.2.0/24    2001:db8::/64, and the metadata addresses
type topology struct {
	t             testing.TB
	host, outside *space
	ct            map[string]*container
	table         Table
}

type container struct {
	*space
	name     string
	net      Network
	addr     [2]netip.Addr // v4, v6
	endpoint Endpoint
}

var (
	bridged  = Network{Bridge: "saferun0", Subnets: prefixes("10.210.0.0/20", "fd12:0:0:1::/64")}
	icc      = Network{Bridge: "sr-icc", Subnets: prefixes("10.210.16.0/20", "fd12:0:0:2::/64"), ICC: true}
	internal = Network{Bridge: "sr-internal", Subnets: prefixes("10.210.32.0/20", "fd12:0:0:3::/64"), Internal: true}
)

func prefixes(ss ...string) (out []netip.Prefix) {
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

const hostLAN, hostLAN6, outLAN, outLAN6 = "192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2"

func newTopology(t testing.TB) *topology {
	w := &topology{t: t, host: newSpace(t), outside: newSpace(t), ct: map[string]*container{}}
	w.table = Table{Name: "safe-run", NetNS: w.host.fd}
	w.host.sysctl("net/ipv4/ip_forward", "1")
	w.host.sysctl("net/ipv6/conf/all/forwarding", "1")
	// Refusals are for each packet, not some in a second.
	w.host.sysctl("net/ipv4/icmp_ratelimit", "0")
	w.host.sysctl("net/ipv6/icmp/ratelimit", "0")
	veth(w.host, "eth0", w.outside, "eth0")
	w.host.addr("eth0", hostLAN+"/24", hostLAN6+"/64")
	w.outside.addr("eth0", outLAN+"/24", outLAN6+"/64")
	for _, a := range metadataAddrs {
		bits := "/32"
		if strings.Contains(a, ":") {
			bits = "/128"
		}
		w.outside.addr("eth0", a+bits)
		via := outLAN
		if bits == "/128" {
			via = outLAN6
		}
		w.host.route(a+bits, via)
	}
	w.must(w.table.Ensure())
	for _, n := range []Network{bridged, icc, internal} {
		w.host.bridge(n.Bridge, gateway(n, 0).String()+"/20", gateway(n, 1).String()+"/64")
		w.host.sysctl("net/ipv4/conf/"+n.Bridge+"/route_localnet", "1")
		w.must(w.table.AddNetwork(n))
	}
	for _, c := range []struct {
		name string
		n    Network
	}{{"a", bridged}, {"b", bridged}, {"c", icc}, {"d", icc}, {"e", internal}} {
		w.container(c.name, c.n)
		w.host.waitUp(c.n.Bridge)
	}
	w.host.waitUp("eth0")
	w.outside.waitUp("eth0")
	return w
}

var metadataAddrs = []string{
	"169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "100.96.0.96",
	"fd00:ec2::254", "fd20:ce::254", "fd00:42::42", "fd00:c1::a9fe:a9fe",
}

func (w *topology) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func gateway(n Network, family int) netip.Addr { return n.Subnets[family].Addr().Next() }

func (w *topology) container(name string, n Network) {
	w.t.Helper()
	c := &container{space: newSpace(w.t), name: name, net: n}
	veth(w.host, "sv"+name, c.space, "eth0")
	for i := range c.addr {
		c.addr[i] = gateway(n, i)
		for range len(w.ct) + 1 {
			c.addr[i] = c.addr[i].Next()
		}
	}
	c.space.addr("eth0", c.addr[0].String()+"/20", c.addr[1].String()+"/64")
	c.route("0.0.0.0/0", gateway(n, 0).String())
	c.route("::/0", gateway(n, 1).String())
	w.host.port("sv"+name, n.Bridge, !n.ICC)
	w.host.waitUp("sv" + name)
	c.waitUp("eth0")
	c.endpoint = Endpoint{Bridge: n.Bridge, MAC: c.mac("eth0"), Addrs: c.addr[:]}
	w.ct[name] = c
	w.must(w.table.Add(c.endpoint))
}

// publish replaces what a container publishes.
func (w *topology) publish(name string, ps ...Publish) {
	w.t.Helper()
	c := w.ct[name]
	w.must(w.table.RemoveEndpoint(c.endpoint))
	c.endpoint.Publish = ps
	w.must(w.table.Add(c.endpoint))
}

// serve answers on TCP and UDP ports with who is served and the client's
// address.
func (n *space) serve(who string, addrs ...string) {
	n.t.Helper()
	n.do(func() {
		for _, a := range addrs {
			lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
				return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) })
			}}
			l, err := lc.Listen(context.Background(), "tcp", a)
			if err != nil {
				n.t.Fatal(err)
			}
			n.t.Cleanup(func() { l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = io.WriteString(c, who+" "+hostOf(c.RemoteAddr()))
					c.Close()
				}
			}()
			p, err := lc.ListenPacket(context.Background(), "udp", a)
			if err != nil {
				n.t.Fatal(err)
			}
			n.t.Cleanup(func() { p.Close() })
			go answer(p.(*net.UDPConn), who)
		}
	})
}

// answer answers from the address that was asked.
func answer(u *net.UDPConn, who string) {
	raw, err := u.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_PKTINFO, 1)
		_ = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1)
	})
	b, oob := make([]byte, 64), make([]byte, 128)
	for {
		_, k, _, from, err := u.ReadMsgUDPAddrPort(b, oob)
		if err != nil {
			return
		}
		_, _, _ = u.WriteMsgUDPAddrPort([]byte(who+" "+from.Addr().Unmap().String()), oob[:k], from)
	}
}

func hostOf(a net.Addr) string {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	return ap.Addr().Unmap().String()
}

// What a client sees if it is not served.
const (
	refused = "refused" // at once
	dropped = "dropped" // no answer
)

// ask connects and gives what the server says, or refused, or dropped.
func (n *space) ask(network, addr string, from ...string) (answer string) {
	n.t.Helper()
	n.do(func() { answer = ask(network, addr, from...) })
	return answer
}

func ask(network, addr string, from ...string) string {
	const wait = 400 * time.Millisecond
	d := net.Dialer{Timeout: wait}
	for _, a := range from {
		if network == "tcp" {
			d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(a)}
		} else {
			d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(a)}
		}
	}
	c, err := d.Dial(network, addr)
	if err != nil {
		return outcome(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(wait))
	if network == "udp" {
		if _, err := c.Write([]byte("?")); err != nil {
			return outcome(err)
		}
	}
	b := make([]byte, 128)
	k, err := c.Read(b)
	if err != nil {
		return outcome(err)
	}
	return string(b[:k])
}

func outcome(err error) string {
	var e net.Error
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &e) && e.Timeout():
		return dropped
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EACCES), errors.Is(err, unix.ECONNRESET):
		return refused
	}
	return err.Error()
}

// both asks over TCP and UDP; the answer is the same.
func (n *space) both(t testing.TB, what, addr, want string, from ...string) {
	t.Helper()
	for _, network := range []string{"tcp", "udp"} {
		got := n.ask(network, addr, from...)
		// The kernel sends so many ICMP errors in a second, for all there is.
		for try := 0; try < 2 && got == dropped && want != dropped; try++ {
			got = n.ask(network, addr, from...)
		}
		if got != want {
			t.Errorf("%s: %s %s: %q, want %q", what, network, addr, got, want)
		}
	}
}
