package resolver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// TestMain runs the tests in a network namespace of their own, the "host" of
// these tests: nothing they do is seen on the machine.
func TestMain(m *testing.M) {
	const inside = "SAFE_RUN_RESOLVER_TEST"
	if os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // the death signal is the thread's
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0] // a fuzzing run starts its workers by this name
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	var exit *exec.ExitError
	switch err := cmd.Run(); {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	default:
		println("these tests need root and a network namespace:", err.Error())
		os.Exit(1)
	}
}

// loUp brings the loopback interface of the thread's namespace up.
func loUp(t testing.TB) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		t.Fatal(err)
	}
}

// container makes a network namespace as a container has one.
func container(t testing.TB) *os.File {
	t.Helper()
	return namespace(t, func() { loUp(t) })
}

// namespace makes a network namespace and calls prepare in it.
func namespace(t testing.TB, prepare func()) *os.File {
	t.Helper()
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	prepare()
	if err := errors.Join(err, unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)); err != nil {
		t.Fatal(err)
	}
	runtime.UnlockOSThread()
	t.Cleanup(func() { ns.Close() })
	return ns
}

// in runs f in a namespace.
func in(t testing.TB, ns *os.File, f func()) {
	t.Helper()
	runtime.LockOSThread()
	var err error
	if !visit(int(ns.Fd()), f, &err) || err != nil {
		t.Fatal(err)
	}
	runtime.UnlockOSThread()
}

// upstream serves DNS on port 53 of a loopback address of the tests' host. f
// gives the messages to answer with.
func upstream(t testing.TB, addr string, f func(msg []byte, tcp bool) [][]byte) netip.Addr {
	t.Helper()
	loUp(t)
	u, err := net.ListenPacket("udp4", addr+":53")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", addr+":53")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close(); l.Close() })
	go func() {
		buf := make([]byte, maxTCP)
		for {
			n, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			for _, r := range f(append([]byte(nil), buf[:n]...), false) {
				_, _ = u.WriteTo(r, from)
			}
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for {
					msg, err := readTCP(c, maxTCP)
					if err != nil {
						return
					}
					for _, r := range f(msg, true) {
						_ = writeTCP(c, r)
					}
				}
			}()
		}
	}()
	return netip.MustParseAddr(addr)
}

// zone is an upstream's answers: by name and type, what dig would print, or
// a code.
type zone map[string]string

func (z zone) serve(msg []byte, _ bool) [][]byte { return [][]byte{z.answer(msg)} }

func (z zone) answer(msg []byte) []byte {
	var p dnsmessage.Parser
	h, _ := p.Start(msg)
	q, err := p.Question()
	if err != nil {
		return nil
	}
	name := strings.TrimSuffix(strings.ToLower(q.Name.String()), ".")
	text, ok := z[name+" "+strings.TrimPrefix(q.Type.String(), "Type")]
	if !ok {
		text, ok = z[name]
	}
	h.Response, h.RecursionAvailable = true, true
	if !ok {
		h.RCode = dnsmessage.RCodeNameError
	}
	m := dnsmessage.Message{Header: h, Questions: []dnsmessage.Question{q}}
	for _, s := range strings.Fields(text) {
		owner, val, has := strings.Cut(s, "=")
		rh := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 100}
		if has {
			rh.Name = dnsmessage.MustNewName(owner + ".")
		} else {
			val = s
		}
		var body dnsmessage.ResourceBody
		a, err := netip.ParseAddr(val)
		switch {
		case val == "SERVFAIL":
			m.RCode = dnsmessage.RCodeServerFailure
			continue
		case err == nil && a.Is4():
			body = &dnsmessage.AResource{A: a.As4()}
		case err == nil:
			body = &dnsmessage.AAAAResource{AAAA: a.As16()}
		default:
			body = &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(val + ".")}
		}
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: rh, Body: body})
	}
	out, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return out
}

// start serves s to a container's namespace until the test ends.
func start(t testing.TB, s *Server) (ns *os.File) {
	t.Helper()
	ns = container(t)
	udp, tcp, err := Listen(int(ns.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, udp, tcp) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(5 * time.Second):
			t.Error("Serve does not end")
		}
	})
	return ns
}

// dial connects to the embedded server from inside.
func dial(t testing.TB, ns *os.File, network string) (c net.Conn) {
	t.Helper()
	var err error
	in(t, ns, func() { c, err = net.Dial(network, Address+":53") })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// question is a query's message.
func question(t testing.TB, name string, typ dnsmessage.Type, edns int) []byte {
	t.Helper()
	n, err := dnsmessage.NewName(name)
	if err != nil {
		t.Fatal(err)
	}
	q := query{rd: true, edns: edns > 0, size: edns, q: dnsmessage.Question{Name: n, Type: typ, Class: dnsmessage.ClassINET}}
	msg, err := q.pack(4711)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

// send sends a message and gives the answer; nil if there is none in time.
func send(t testing.TB, c net.Conn, msg []byte, wait time.Duration) []byte {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(wait))
	if _, isTCP := c.(*net.TCPConn); isTCP {
		if err := writeTCP(c, msg); err != nil {
			return nil
		}
		resp, _ := readTCP(c, maxTCP)
		return resp
	}
	if _, err := c.Write(msg); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, maxTCP)
	n, err := c.Read(buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

// dig asks and gives the answer as text: a code, or the data of the records.
func dig(t testing.TB, c net.Conn, name string, typ dnsmessage.Type) string {
	t.Helper()
	resp := send(t, c, question(t, name, typ, 0), 8*time.Second)
	if resp == nil {
		return "timeout"
	}
	return text(t, resp)
}

func text(t testing.TB, resp []byte) string {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(resp); err != nil {
		t.Fatalf("%v in %x", err, resp)
	}
	if m.ID != 4711 || !m.Response {
		t.Errorf("header %+v", m.Header)
	}
	if m.RCode != 0 {
		return strings.TrimPrefix(m.RCode.String(), "RCode")
	}
	if m.Truncated {
		return "TC"
	}
	var out []string
	for _, r := range m.Answers {
		switch b := r.Body.(type) {
		case *dnsmessage.AResource:
			out = append(out, netip.AddrFrom4(b.A).String())
		case *dnsmessage.AAAAResource:
			out = append(out, netip.AddrFrom16(b.AAAA).String())
		case *dnsmessage.CNAMEResource:
			out = append(out, b.CNAME.String())
		case *dnsmessage.PTRResource:
			out = append(out, b.PTR.String())
		default:
			out = append(out, r.Header.Type.String())
		}
	}
	return strings.Join(out, " ")
}
