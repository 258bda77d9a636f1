package systemd

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

func itoa(n int) string { return strconv.Itoa(n) }

// open counts this process's open files.
func open(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(d)
}

func listener(t *testing.T) (*os.File, string) {
	t.Helper()
	var c net.ListenConfig
	c.SetMultipathTCP(false) // as systemd
	l, err := c.Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	f, err := l.(*net.TCPListener).File()
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f, l.Addr().String()
}

// receive is the program in the container.
func receive(path string) (fds []int, names string, err error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	buf, oob := make([]byte, 100), make([]byte, 4096)
	n, oobn, _, _, err := c.ReadMsgUnix(buf, oob)
	if err != nil {
		return nil, "", err
	}
	rest, err := io.ReadAll(c)
	if err != nil {
		return nil, "", err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	for i := range messages {
		got, e := unix.ParseUnixRights(&messages[i])
		if e != nil {
			err = e
		}
		fds = append(fds, got...)
	}
	return fds, string(buf[:n]) + string(rest), err
}

func TestActivation(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "activate.sock")
	one, address := listener(t)
	two, _ := listener(t)
	long := strings.Repeat("n", 255)
	// Twice: a container that is restarted gets them again.
	for range 2 {
		a, err := Activation(path, []*os.File{one, two}, []string{"http", long})
		must(t, err)
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o666 {
			t.Errorf("mode %v, %v", st.Mode(), err)
		}
		fds, names, err := receive(path)
		must(t, err)
		<-a.Given()
		if len(fds) != 2 || names != "http:"+long {
			t.Fatalf("got %d descriptors, %q", len(fds), names)
		}
		if _, _, err := receive(path); err == nil {
			t.Error("they were given a second time")
		}
		first := os.NewFile(uintptr(fds[0]), "l")
		l, err := net.FileListener(first)
		must(t, err)
		go func() {
			c, err := l.Accept()
			if err == nil {
				_, _ = c.Write([]byte("hello"))
				_ = c.Close()
			}
		}()
		c, err := net.Dial("tcp", address)
		must(t, err)
		if b, _ := io.ReadAll(c); string(b) != "hello" {
			t.Errorf("got %q", b)
		}
		_ = c.Close()
		_ = l.Close()
		_ = first.Close()
		_ = unix.Close(fds[1])
		a.Close()
		a.Close()
		if _, err := os.Lstat(path); err == nil {
			t.Error("the socket is still there")
		}
	}
	a, err := Activation(path, []*os.File{one}, []string{"x"})
	must(t, err)
	a.Close() // nobody came
	select {
	case <-a.Given():
		t.Error("given to nobody")
	default:
	}
	for _, bad := range []struct {
		files []*os.File
		names []string
	}{{nil, nil}, {[]*os.File{one}, nil}, {[]*os.File{one}, []string{"a:b"}}, {[]*os.File{one}, []string{"a\nb"}}} {
		if a, err := Activation(path, bad.files, bad.names); err == nil {
			a.Close()
			t.Errorf("%d files with names %q", len(bad.files), bad.names)
		}
	}
}

func TestListeners(t *testing.T) {
	good, _ := listener(t)
	made := func(domain, kind, protocol int) *os.File {
		fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, protocol)
		must(t, err)
		f := os.NewFile(uintptr(fd), "s")
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	null, err := os.Open("/dev/null")
	must(t, err)
	defer func() { _ = null.Close() }()
	for _, c := range []struct {
		name string
		f    *os.File
		ok   bool
	}{
		{"tcp", good, true},
		{"unix", made(unix.AF_UNIX, unix.SOCK_STREAM, 0), true},
		{"unix datagrams", made(unix.AF_UNIX, unix.SOCK_DGRAM, 0), false},
		{"udp", made(unix.AF_INET6, unix.SOCK_DGRAM, 0), false},
		{"mptcp", made(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP), false},
		{"netlink", made(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT), false},
		{"raw", made(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP), false},
		{"packets", made(unix.AF_PACKET, unix.SOCK_DGRAM, 0), false},
		{"device", null, false},
	} {
		u := &Unit{Name: "a.service", Listen: []*os.File{good, c.f}, ListenNames: []string{"a", "b"}}
		files, names, err := u.Listeners()
		if c.ok && (err != nil || len(files) != 2 || len(names) != 2) || !c.ok && fail.KindOf(err) != fail.Refused {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestListenNames(t *testing.T) {
	for _, c := range []struct {
		text string
		n    int
		want []string
	}{
		{"a:b", 2, []string{"a", "b"}},
		{"", 1, []string{"unknown"}},
		{"a", 2, []string{"unknown", "unknown"}},
		{"a\nLD_PRELOAD=x:b", 2, []string{"unknown", "b"}},
	} {
		if got := listenNames(c.text, c.n); !slices.Equal(got, c.want) {
			t.Errorf("%q: got %q", c.text, got)
		}
	}
}

func TestCredential(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "key"), []byte("secret"), 0o400))
	must(t, os.WriteFile(filepath.Join(dir, "big"), make([]byte, maxCredential+1), 0o400))
	must(t, os.Symlink("/etc/passwd", filepath.Join(dir, "link")))
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	u := &Unit{Name: "a.service", Credentials: dir}
	if b, err := u.Credential("key"); err != nil || string(b) != "secret" {
		t.Errorf("got %q, %v", b, err)
	}
	for id, kind := range map[string]fail.Kind{
		"none": fail.NotFound, "../key": fail.Usage, "..": fail.Usage, "": fail.Usage, "a\nb": fail.Usage,
		"big": fail.HostCannot, "link": fail.HostCannot, "fifo": fail.HostCannot,
	} {
		if b, err := u.Credential(id); err == nil || fail.KindOf(err) != kind {
			t.Errorf("%q: %q, %v", id, b, err)
		}
	}
	for _, u := range []*Unit{nil, {Name: "a.service"}} {
		if _, err := u.Credential("key"); fail.KindOf(err) != fail.NotFound {
			t.Errorf("without credentials: %v", err)
		}
	}
}
