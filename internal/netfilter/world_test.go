package netfilter

import (
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// space is a network namespace of a test's own.
type space struct {
	t  testing.TB
	fd int
	nl *netlink.Handle
}

// newSpace makes a namespace on a thread that ends with it.
func newSpace(t testing.TB) *space {
	t.Helper()
	type made struct {
		fd  int
		err error
	}
	ch := make(chan made)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread goes
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			ch <- made{err: err}
			return
		}
		fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		ch <- made{fd, err}
	}()
	m := <-ch
	if m.err != nil {
		t.Fatalf("a network namespace: %v", m.err)
	}
	n := &space{t: t, fd: m.fd}
	n.do(func() {
		var err error
		if n.nl, err = netlink.NewHandle(); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { n.nl.Close(); unix.Close(n.fd) })
	n.up("lo")
	// Nothing is asked of a neighbour before the link-local address is certain.
	n.sysctl("net/ipv6/conf/default/accept_dad", "0")
	return n
}

// do runs f on a thread in the namespace.
func (n *space) do(f func()) {
	n.t.Helper()
	done := make(chan error)
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		f()
	}()
	if err := <-done; err != nil {
		n.t.Fatal(err)
	}
}

func (n *space) up(name string) netlink.Link {
	n.t.Helper()
	l, err := n.nl.LinkByName(name)
	if err == nil {
		err = n.nl.LinkSetUp(l)
	}
	if err != nil {
		n.t.Fatalf("%s: %v", name, err)
	}
	return l
}

// addr gives an interface addresses, and sets it up.
func (n *space) addr(name string, addrs ...string) {
	n.t.Helper()
	l := n.up(name)
	for _, s := range addrs {
		a, err := netlink.ParseAddr(s)
		if err != nil {
			n.t.Fatal(err)
		}
		a.Flags = unix.IFA_F_NODAD
		if err := n.nl.AddrAdd(l, a); err != nil {
			n.t.Fatalf("%s on %s: %v", s, name, err)
		}
	}
}

func (n *space) route(to, via string) {
	n.t.Helper()
	_, dst, err := net.ParseCIDR(to)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.nl.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(via)}); err != nil {
		n.t.Fatalf("route to %s via %s: %v", to, via, err)
	}
}

func (n *space) sysctl(key, value string) {
	n.t.Helper()
	n.do(func() {
		if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0); err != nil {
			n.t.Errorf("%s: %v", key, err)
		}
	})
}

func (n *space) readSysctl(key string) (value string) {
	n.do(func() {
		b, err := os.ReadFile("/proc/sys/" + key)
		if err != nil {
			n.t.Errorf("%s: %v", key, err)
		}
		value = strings.TrimSpace(string(b))
	})
	return value
}

// run runs a program in the namespace and gives what it writes.
func (n *space) run(stdin string, argv ...string) (out string) {
	n.t.Helper()
	n.do(func() {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Stdin = strings.NewReader(stdin)
		b, err := cmd.CombinedOutput()
		if err != nil {
			n.t.Errorf("%s: %v: %s", strings.Join(argv, " "), err, b)
		}
		out = string(b)
	})
	return out
}

// veth connects two namespaces.
func veth(a *space, nameA string, b *space, nameB string) {
	a.t.Helper()
	err := a.nl.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: nameA}, PeerName: nameB, PeerNamespace: netlink.NsFd(b.fd),
	})
	if err != nil {
		a.t.Fatalf("veth %s: %v", nameA, err)
	}
}

func (n *space) bridge(name string, addrs ...string) {
	n.t.Helper()
	if err := n.nl.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
		n.t.Fatalf("bridge %s: %v", name, err)
	}
	n.addr(name, addrs...)
}

// port makes an interface a port of a bridge.
func (n *space) port(name, bridge string, isolated bool) {
	n.t.Helper()
	l, br := n.up(name), n.up(bridge)
	if err := n.nl.LinkSetMaster(l, br); err != nil {
		n.t.Fatal(err)
	}
	if err := n.nl.LinkSetIsolated(l, isolated); err != nil {
		n.t.Fatal(err)
	}
}

// waitUp waits for the kernel to see that an interface has a carrier, which it
// looks for from time to time, and then to give it a link-local address, which
// it asks neighbours with.
func (n *space) waitUp(name string) {
	n.t.Helper()
	for range 500 {
		l, err := n.nl.LinkByName(name)
		if err != nil {
			n.t.Fatal(err)
		}
		as, err := n.nl.AddrList(l, unix.AF_INET6)
		if err != nil {
			n.t.Fatal(err)
		}
		for _, a := range as {
			if l.Attrs().OperState == netlink.OperUp && a.IP.IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TENTATIVE == 0 {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	n.t.Fatalf("%s does not come up", name)
}

func (n *space) mac(name string) net.HardwareAddr {
	n.t.Helper()
	l, err := n.nl.LinkByName(name)
	if err != nil {
		n.t.Fatal(err)
	}
	return l.Attrs().HardwareAddr
}

// advertise sends a router advertisement.
func advertise(t *testing.T, n *space, name string) {
	t.Helper()
	l, err := n.nl.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	n.do(func() {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(fd)
		_ = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_MULTICAST_HOPS, 255)
		_ = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_MULTICAST_IF, l.Attrs().Index)
		var src unix.SockaddrInet6
		as, _ := n.nl.AddrList(l, unix.AF_INET6)
		for _, a := range as {
			if a.IP.IsLinkLocalUnicast() {
				copy(src.Addr[:], a.IP.To16())
			}
		}
		src.ZoneId = uint32(l.Attrs().Index)
		if err := unix.Bind(fd, &src); err != nil {
			return // not there yet
		}
		const lifetime = 7 // times 256 s
		ra := []byte{134, 0, 0, 0, 64, 0, lifetime, 0, 0, 0, 0, 0, 0, 0, 0, 0}
		all := &unix.SockaddrInet6{ZoneId: uint32(l.Attrs().Index)}
		copy(all.Addr[:], []byte{0: 0xff, 1: 2, 15: 1})
		if err := unix.Sendto(fd, ra, 0, all); err != nil {
			t.Errorf("a router's advertisement: %v", err)
		}
	})
}
