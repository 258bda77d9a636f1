package ports

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/spec"
)

// relayTo relays the ports of asked to one address until the test ends.
func relayTo(t *testing.T, to netip.AddrPort, asked ...spec.Publish) (h *Held, stop func()) {
	t.Helper()
	h = open1(t, Options{}, asked...)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Relay(ctx, func(Mapping) netip.AddrPort { return to }) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Relay: %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Error("Relay does not end")
		}
	})
	t.Cleanup(stop)
	return h, stop
}

// container listens at an address as a program in a container would, and has
// each connection handled by f.
func container(t *testing.T, at string, f func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c.(*net.TCPConn))
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func dial(t *testing.T, network, at string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// The container answers once it has everything: after the client's end of
// sending, which is not the end of the connection.
func TestRelayHalfClose(t *testing.T) {
	to := container(t, "127.0.0.1:0", func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		_, _ = c.Write(b)
	})
	relayTo(t, to, publish(netip.Addr{}, 8080, 8080, 80, 80, "tcp"))
	sent := make([]byte, 8<<20)
	_, _ = rand.Read(sent)
	for _, at := range []string{"127.0.0.1:8080", "[::1]:8080"} {
		c := dial(t, "tcp", at).(*net.TCPConn)
		if _, err := c.Write(sent); err != nil {
			t.Fatal(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%s: %d of %d bytes, %v", at, len(got), len(sent), err)
		}
	}
}

// The container's end of sending reaches the client, who goes on.
func TestRelayHalfCloseOfContainer(t *testing.T) {
	rest := make(chan string, 1)
	to := container(t, "[::1]:0", func(c *net.TCPConn) {
		_, _ = c.Write([]byte("greeting"))
		_ = c.CloseWrite()
		b, _ := io.ReadAll(c)
		rest <- string(b)
	})
	relayTo(t, to, publish(lo4, 8080, 8080, 80, 80, "tcp"))
	c := dial(t, "tcp", "127.0.0.1:8080").(*net.TCPConn)
	if b, err := io.ReadAll(c); string(b) != "greeting" || err != nil {
		t.Fatalf("%q, %v", b, err)
	}
	_, _ = c.Write([]byte("late"))
	_ = c.CloseWrite()
	if got := <-rest; got != "late" {
		t.Errorf("%q", got)
	}
}

func TestRelayParallel(t *testing.T) {
	to := container(t, "127.0.0.1:0", func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	relayTo(t, to, publish(lo6, 8080, 8089, 80, 89, "tcp"))
	var all sync.WaitGroup
	for i := range 100 {
		c := dial(t, "tcp", fmt.Sprintf("[::1]:%d", 8080+i%10)).(*net.TCPConn)
		all.Go(func() {
			sent := bytes.Repeat([]byte{byte(i)}, 100_000)
			go func() { _, _ = c.Write(sent); _ = c.CloseWrite() }()
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	all.Wait()
}

// Connections over the bound are reset; with room again there are new ones.
func TestRelayFlood(t *testing.T) {
	to := container(t, "127.0.0.1:0", func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	relayTo(t, to, publish(lo4, 8080, 8080, 80, 80, "tcp"))
	talk := func(c net.Conn) bool {
		b := make([]byte, 1)
		_, err1 := c.Write([]byte("x"))
		_, err2 := io.ReadFull(c, b)
		return err1 == nil && err2 == nil
	}
	var open []net.Conn
	// The reset can come before connect(2) is done.
	served := func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:8080")
		if err != nil {
			return false
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		open = append(open, c)
		return talk(c)
	}
	n := 0
	for range maxConns + 100 {
		if served() {
			n++
		}
	}
	if n != maxConns {
		t.Errorf("%d connections are served, want %d", n, maxConns)
	}
	for _, c := range open {
		c.Close()
	}
	for end := time.Now().Add(5 * time.Second); !served(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no new connection after the flood")
		}
	}
	for _, c := range open {
		c.Close()
	}
}

func TestRelayNobodyListens(t *testing.T) {
	for name, to := range map[string]netip.AddrPort{"refused": netip.MustParseAddrPort("127.0.0.1:1"), "nowhere": {}} {
		t.Run(name, func(t *testing.T) {
			relayTo(t, to, publish(lo4, 8080, 8080, 80, 80, "tcp"))
			c, err := net.Dial("tcp", "127.0.0.1:8080")
			if err == nil {
				_, err = c.Read(make([]byte, 1))
				c.Close()
			}
			if !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("%v", err)
			}
		})
	}
}

// The end of Relay is the end of its connections, and leaves nothing open.
func TestRelayEnds(t *testing.T) {
	to := container(t, "127.0.0.1:0", func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	toUDP := echoUDP(t, "127.0.0.1:0")
	begin := openFiles(t)
	for _, byClose := range []bool{false, true} {
		h := open1(t, Options{}, publish(lo4, 8080, 8080, 80, 80, "tcp"), publish(lo4, 8080, 8080, 80, 80, "udp"))
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() {
			ended <- h.Relay(ctx, func(m Mapping) netip.AddrPort {
				if m.Proto == spec.UDP {
					return toUDP
				}
				return to
			})
		}()
		c, u := dial(t, "tcp", "127.0.0.1:8080"), dial(t, "udp", "127.0.0.1:8080")
		if err := errors.Join(echo(c, "x"), echo(u, "x")); err != nil {
			t.Fatal(err)
		}
		if byClose {
			h.Close()
		} else {
			cancel()
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		cancel()
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the connection is open: %v", err)
		}
		c.Close()
		u.Close()
		h.Close()
	}
	for end := time.Now().Add(2 * time.Second); openFiles(t) > begin; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d open files before, %d after", begin, openFiles(t))
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, fd := range fds {
		if l, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && len(l) > 6 && l[:6] == "socket" || l == "anon_inode:[eventpoll]" {
			n++
		}
	}
	return n
}

func echo(c net.Conn, s string) error {
	if _, err := c.Write([]byte(s)); err != nil {
		return err
	}
	b := make([]byte, maxDatagram)
	n, err := io.ReadAtLeast(c, b, len(s))
	if err == nil && string(b[:n]) != s {
		err = fmt.Errorf("%d bytes came back of %d", n, len(s))
	}
	return err
}
