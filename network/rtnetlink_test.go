package network

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// hostNS puts the test's thread for good into a network namespace of its own,
// which stands for the host's: one interface to the outside, with a default
// route.
func hostNS(t testing.TB) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	r := rt(t)
	must(t, r.up(loopback))
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "outer", MTU: 1460}, PeerName: "outside"}))
	l, err := r.link("outer")
	must(t, err)
	must(t, r.up(l.Attrs().Index))
	must(t, r.addAddr(l.Attrs().Index, netip.MustParsePrefix("203.0.113.2/24")))
	must(t, r.setDefaultRoute(l.Attrs().Index, netip.MustParseAddr("203.0.113.1")))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func kind(t testing.TB, err error, want fail.Kind, says string) {
	t.Helper()
	if err == nil || fail.KindOf(err) != want || !strings.Contains(err.Error(), says) {
		t.Errorf("error is %v (kind %d), want kind %d and %q", err, fail.KindOf(err), want, says)
	}
}

func rt(t testing.TB) *rtnl {
	t.Helper()
	r, err := openRtnl()
	must(t, err)
	t.Cleanup(r.close)
	return r
}

func sysctlOf(t testing.TB, key string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/net/" + key)
	must(t, err)
	return strings.TrimSpace(string(b))
}

func newStore(t testing.TB) Store {
	d := t.TempDir()
	return Store{Root: filepath.Join(d, "root"), Run: filepath.Join(d, "run")}
}

func newNetwork(t testing.TB, s Store, o Options) Definition {
	t.Helper()
	if o.Name == "" {
		o.Name = "net"
	}
	d, err := s.Create(o)
	must(t, err)
	return d
}

// container is a network namespace that belongs to a user namespace of its
// own, as a real one's.
type container struct {
	id    string
	ns    *os.File
	lease []Lease
}

func newContainer(t testing.TB, id string) *container {
	t.Helper()
	c := exec.Command("/bin/cat")
	in, err := c.StdinPipe()
	must(t, err)
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 1000}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 1000}},
	}
	must(t, c.Start())
	var once sync.Once
	stop := func() { once.Do(func() { _ = in.Close(); _ = c.Wait() }) }
	t.Cleanup(stop)
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", c.Process.Pid))
	must(t, err)
	t.Cleanup(func() { _ = ns.Close() })
	return &container{id: id, ns: ns}
}

// testID is a container's id.
func testID(i int) string { return fmt.Sprintf("%011x%053d", i, 0) }

// join claims and wires networks as a launch does.
func (c *container) join(s Store, nets ...Definition) error {
	for i, d := range nets {
		l, err := s.Claim(d, c.id, Want{})
		if err != nil {
			return err
		}
		l.Interface, l.HostInterface = fmt.Sprintf("eth%d", i), hostInterface(c.id, i)
		c.lease = append(c.lease, l)
	}
	return Wire(c.ns, c.lease)
}

func (c *container) do(t testing.TB, f func() error) {
	t.Helper()
	must(t, within(c.ns, f))
}

func (c *container) addr(v4 bool) netip.Addr {
	for _, p := range c.lease[0].Addrs {
		if p.Addr().Is4() == v4 {
			return p.Addr()
		}
	}
	return netip.Addr{}
}

// dial says whether one can connect from the namespace of the calling thread.
// The Go library makes the socket on it.
func dial(to netip.AddrPort, timeout time.Duration) error {
	fd, err := unix.Socket(family(to.Addr()), unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	tv := unix.NsecToTimeval(int64(timeout))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv); err != nil {
		return err
	}
	var sa unix.Sockaddr = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	if to.Addr().Is4() {
		sa = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	return unix.Connect(fd, sa)
}

// serve accepts connections in the namespace of the calling thread.
func serve(t testing.TB, at netip.Addr) netip.AddrPort {
	t.Helper()
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}
