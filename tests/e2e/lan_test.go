package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// The tests run in a network namespace of their own, which is the host to the
// program under test. A second one, the lan, is a neighbour on the same wire
// and all the world behind it.
const (
	hostAddr, lanAddr   = "198.51.100.1", "198.51.100.2"
	hostAddr6, lanAddr6 = "fd51:100::1", "fd51:100::2"
	worldAddr           = "203.0.113.5"  // behind the neighbour
	worldAddr6          = "fd53:113::5"  // likewise
	hostService         = "0.0.0.0:2222" // a service of the host's
)

// metadata are addresses that give credentials to whoever asks, in some cloud.
var metadata = []string{"169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "100.96.0.96", "fd00:ec2::254", "fd20:ce::254", "fd00:c1::a9fe:a9fe"}

// ownNetNS runs the tests again in a network namespace of their own, after
// what needs the machine's.
func ownNetNS(before func() error) error {
	const mark = "SAFE_RUN_E2E_NETNS"
	if os.Getenv(mark) != "" {
		return nil
	}
	if err := before(); err != nil {
		return err
	}
	return syscall.Exec("/usr/bin/unshare", append([]string{"unshare", "--net"}, os.Args...), append(os.Environ(), mark+"=1"))
}

// lan is the neighbour's namespace.
type lan struct {
	holder *exec.Cmd
	ns     *os.File
	stop   []io.Closer
	asked  sync.Map // names that the name server was asked for
}

// names answers questions for addresses of the names it knows.
func (l *lan) names(c net.PacketConn) {
	known := map[string]string{"listed.test.": worldAddr, "other.test.": lanAddr, "rebind.test.": "169.254.169.254"}
	b := make([]byte, 4096)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		var p dnsmessage.Parser
		h, err := p.Start(b[:n])
		if err != nil {
			continue
		}
		q, err := p.Question()
		if err != nil {
			continue
		}
		name := strings.ToLower(q.Name.String())
		l.asked.Store(name, true)
		r := dnsmessage.Message{Header: dnsmessage.Header{ID: h.ID, Response: true, RecursionAvailable: true}, Questions: []dnsmessage.Question{q}}
		a, ok := known[name]
		switch {
		case !ok:
			r.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA:
			r.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60},
				Body:   &dnsmessage.AResource{A: netip.MustParseAddr(a).As4()},
			}}
		}
		if msg, err := r.Pack(); err == nil {
			_, _ = c.WriteTo(msg, from)
		}
	}
}

// connectLan makes the neighbour and the wire to it, and the services on both ends.
func connectLan() (*lan, error) {
	l := &lan{holder: exec.Command("unshare", "--net", "cat")}
	stdin, err := l.holder.StdinPipe() // cat ends with this process, however it ends
	if err != nil {
		return nil, err
	}
	l.stop = append(l.stop, stdin)
	if err := l.holder.Start(); err != nil {
		return nil, err
	}
	pid := strconv.Itoa(l.holder.Process.Pid)
	if err := l.hold(pid); err != nil {
		return l, err
	}
	host := "ip link set lo up; ip link add lan0 type veth peer name wire netns " + pid + "; ip link set lan0 up;" +
		"ip addr add " + hostAddr + "/24 dev lan0; ip addr add " + hostAddr6 + "/64 dev lan0 nodad;" +
		"ip route add default via " + lanAddr + "; ip -6 route add default via " + lanAddr6
	there := "ip link set lo up; ip link set wire up; ip addr add " + lanAddr + "/24 dev wire; ip addr add " + lanAddr6 + "/64 dev wire nodad;" +
		"ip addr add " + worldAddr + "/32 dev lo; ip addr add " + worldAddr6 + "/128 dev lo nodad"
	for _, a := range metadata {
		there += "; ip addr add " + a + " dev lo"
		if strings.Contains(a, ":") {
			there += " nodad"
		}
	}
	if out, err := exec.Command("sh", "-ec", host).CombinedOutput(); err != nil {
		return l, fmt.Errorf("lan: %s", out)
	}
	if out, err := l.command("sh", "-ec", there).CombinedOutput(); err != nil {
		return l, fmt.Errorf("lan: %s", out)
	}
	if err := l.serve(); err != nil {
		return l, err
	}
	h, err := net.Listen("tcp", hostService)
	if err != nil {
		return l, err
	}
	l.stop = append(l.stop, h)
	go answer200(h)
	return l, nil
}

// hold waits for the holder to be in its namespace.
func (l *lan) hold(pid string) error {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return err
	}
	for range 500 * slowness {
		if theirs, err := os.Readlink("/proc/" + pid + "/ns/net"); err == nil && theirs != own {
			l.ns, err = os.Open("/proc/" + pid + "/ns/net")
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
	return errors.New("the neighbour's namespace does not come up")
}

func (l *lan) close() {
	for _, c := range l.stop {
		_ = c.Close()
	}
	_ = l.holder.Process.Kill()
	_ = l.holder.Wait()
	_ = exec.Command("ip", "link", "del", "lan0").Run()
}

// command runs a program in the neighbour's namespace.
func (l *lan) command(name string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=/proc/" + strconv.Itoa(l.holder.Process.Pid) + "/ns/net", name}, args...)...)
}

// inside runs f on a thread in the neighbour's namespace. What it opens stays there.
func (l *lan) inside(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setns(int(l.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// serve starts a web server on port 80 of all of the neighbour's addresses, a
// name server and an echo of datagrams.
func (l *lan) serve() error {
	return l.inside(func() error {
		for _, port := range []string{":80", ":8443"} {
			h, err := net.Listen("tcp", port)
			if err != nil {
				return err
			}
			l.stop = append(l.stop, h)
			go answer200(h)
		}
		d, err := net.ListenPacket("udp", ":53")
		if err != nil {
			return err
		}
		l.stop = append(l.stop, d)
		go l.names(d)
		u, err := net.ListenPacket("udp", ":7")
		if err != nil {
			return err
		}
		l.stop = append(l.stop, u)
		go func() {
			b := make([]byte, 2048)
			for {
				n, from, err := u.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = u.WriteTo(b[:n], from)
			}
		}()
		return nil
	})
}

// answer200 tells each client the address it comes from.
func answer200(l net.Listener) {
	s := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		_, _ = io.WriteString(w, "you are "+host+"\n")
	})}
	_ = s.Serve(l)
}

// get fetches a page from this namespace, or the neighbour's.
func get(url string, from *lan) (string, error) {
	var body string
	fetch := func() error {
		t := &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{FallbackDelay: -1}).DialContext}
		c := http.Client{Timeout: patient(2 * time.Second), Transport: t}
		r, err := c.Get(url)
		if err != nil {
			return err
		}
		defer r.Body.Close()
		var b bytes.Buffer
		_, err = io.Copy(&b, r.Body)
		body = b.String()
		return err
	}
	if from == nil {
		return body, fetch()
	}
	// The dialer works on goroutines of its own: the program is another one.
	out, err := from.command("curl", "-sS", "--fail", "-m", strconv.Itoa(2*slowness), url).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return string(out), nil
}

// background is a container that runs beside the test.
type background struct {
	cmd    *exec.Cmd
	id     string
	stderr *bytes.Buffer
}

// beside runs a container until the test ends; ready is waited for.
func beside(t *testing.T, ready func() error, args ...string) *background {
	t.Helper()
	cid := t.TempDir() + "/cid"
	b := &background{stderr: &bytes.Buffer{}}
	b.cmd = exec.Command(here.bin, append([]string{"--rm", "--init", "--cidfile", cid}, args...)...)
	b.cmd.Stderr = b.stderr
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.end)
	var err error
	for end := time.Now().Add(patient(10 * time.Second)); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var id []byte
		if id, err = os.ReadFile(cid); err != nil || len(id) == 0 { // it is made empty
			continue
		}
		b.id = string(id)
		if ready == nil {
			return b
		}
		if err = ready(); err == nil {
			return b
		}
	}
	b.end()
	t.Fatalf("the container is not ready: %v\n%s", err, b.stderr)
	return nil
}

func (b *background) end() {
	if b.cmd.ProcessState != nil {
		return
	}
	_ = b.cmd.Process.Signal(unix.SIGTERM)
	done := make(chan struct{})
	go func() { _ = b.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(patient(10 * time.Second)):
		_ = b.cmd.Process.Kill()
		<-done
	}
}

// web is the command line of a small web server in the container, as root of
// the container with the one capability that port 80 needs.
func web(flags ...string) []string {
	return append(append([]string{"--cap-add", "NET_BIND_SERVICE"}, flags...),
		"busybox", "sh", "-c", "echo served >/tmp/index.html; exec httpd -f -p 80 -h /tmp")
}

// answers waits until a page says "served".
func answers(url string, from *lan) func() error {
	return func() error {
		body, err := get(url, from)
		if err == nil && body != "served\n" {
			err = fmt.Errorf("%q", body)
		}
		return err
	}
}
