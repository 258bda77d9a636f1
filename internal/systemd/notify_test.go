package systemd

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// manager is a service manager's socket; said gives the next message.
func manager(t *testing.T, address string) (said func() string) {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	buf := make([]byte, 8192)
	return func() string {
		t.Helper()
		must(t, c.SetReadDeadline(time.Now().Add(2*time.Second)))
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("nothing was said: %v", err)
		}
		return string(buf[:n])
	}
}

func TestNotify(t *testing.T) {
	for _, address := range []string{filepath.Join(t.TempDir(), "n"), "@safe-run-test-" + filepath.Base(t.TempDir())} {
		said := manager(t, address)
		n := NewNotifier(address)
		for _, c := range []struct {
			say  func() error
			want string
		}{
			{func() error { return n.Ready("") }, "READY=1\n"},
			{func() error { return n.Ready("up") }, "READY=1\nSTATUS=up\n"},
			{func() error { return n.Status("a\nREADY=1\x1b[31m" + strings.Repeat("x", 500)) }, "STATUS=a READY=1 [31m" + strings.Repeat("x", 242) + "\n"},
			{func() error { return n.Status(strings.Repeat("ä", 200)) }, "STATUS=" + strings.Repeat("ä", 128) + "\n"},
			{func() error { return n.Stopping("") }, "STOPPING=1\n"},
			{func() error { return n.ExtendTimeout(1500 * time.Millisecond) }, "EXTEND_TIMEOUT_USEC=1500000\n"},
			{n.Watchdog, "WATCHDOG=1\n"},
			{func() error { return n.MainPID(5) }, "MAINPID=5\n"},
		} {
			must(t, c.say())
			if got := said(); got != c.want {
				t.Errorf("%s: got %q, want %q", address[:1], got, c.want)
			}
		}
	}
	var none *Notifier
	must(t, none.Ready("x"))
	must(t, NewNotifier("").Watchdog())
	must(t, (*Unit)(nil).Notifier().Ready(""))
	for _, bad := range []string{"vsock:2:1", "relative", "/nobody/there", "/" + strings.Repeat("x", 200)} {
		if NewNotifier(bad).Ready("") == nil {
			t.Errorf("%.20q took a message", bad)
		}
	}
}

func TestWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n")
	said := manager(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	var sick atomic.Bool
	ended := make(chan struct{})
	go func() {
		NewNotifier(path).Watch(ctx, 20*time.Millisecond, func() bool { return !sick.Load() })
		close(ended)
	}()
	for range 3 {
		if got := said(); got != "WATCHDOG=1\n" {
			t.Errorf("got %q", got)
		}
	}
	sick.Store(true)
	cancel()
	<-ended
	NewNotifier("").Watch(t.Context(), time.Second, nil)
	NewNotifier(path).Watch(t.Context(), 0, nil)
}

func TestFilter(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for _, c := range []struct {
		in, out     string
		ready, edge bool
	}{
		{"READY=1", "READY=1\n", true, true},
		{"READY=1\nSTATUS=ok\nMAINPID=1\n", "READY=1\nSTATUS=ok\n", true, true},
		{"READY=0", "", false, false},
		{"READY=1\x00", "", false, false},
		{"RELOADING=1\nMONOTONIC_USEC=12", "RELOADING=1\nMONOTONIC_USEC=12\n", false, true},
		{"STOPPING=1", "STOPPING=1\n", false, true},
		{"FDSTORE=1\nFDNAME=x\nBUSERROR=a\nBARRIER=1\nNOTIFYACCESS=all\nWATCHDOG_USEC=1\nMAINPIDFDID=1", "", false, false},
		{"WATCHDOG=1\nWATCHDOG=trigger\nWATCHDOG=2", "WATCHDOG=1\nWATCHDOG=trigger\n", false, false},
		{"ERRNO=2\nERRNO=-1\nERRNO=4096\nERRNO=x", "ERRNO=2\n", false, false},
		{"EXTEND_TIMEOUT_USEC=1000000\nEXTEND_TIMEOUT_USEC=18446744073709551615", "EXTEND_TIMEOUT_USEC=1000000\n", false, false},
		{"STATUS=\x1b[2J\u202eevil\r", "STATUS= [2J evil \n", false, false},
		{"STATUS=" + long[:3000], "STATUS=" + long[:256] + "\n", false, false},
		{"STATUS=" + long, "", false, false},
		{" READY=1\nready=1\nREADY = 1\n=1\nREADY", "", false, false},
		{"", "", false, false},
	} {
		out, f := filter(nil, []byte(c.in))
		if string(out) != c.out || f.ready != c.ready || f.edge != c.edge {
			t.Errorf("%.60q: got %.80q %+v, want %.80q", c.in, out, f, c.out)
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add([]byte("READY=1\nSTATUS=\xff\xfe\nERRNO=5"))
	f.Add([]byte(strings.Repeat("STATUS=\xff\n", 400)))
	keys := map[string]bool{"READY": true, "RELOADING": true, "STOPPING": true, "STATUS": true, "ERRNO": true, "MONOTONIC_USEC": true, "EXTEND_TIMEOUT_USEC": true, "WATCHDOG": true}
	f.Fuzz(func(t *testing.T, message []byte) {
		dst := make([]byte, 0, maxMessage)
		out, _ := filter(dst, message)
		if len(out) > maxMessage || !utf8.Valid(out) {
			t.Fatalf("%d bytes, or not UTF-8: %q", len(out), out)
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(string(out), "\n"), "\n") {
			k, v, ok := strings.Cut(line, "=")
			if len(out) > 0 && (!ok || !keys[k] || len(v) > maxStatus) {
				t.Fatalf("%q goes on", line)
			}
		}
	})
}

// As another user, as a container's program is one.
func TestProxy(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	must(t, os.Chmod(filepath.Dir(dir), 0o755))
	said := manager(t, filepath.Join(dir, "manager"))
	// Longer than an address may be.
	deep := filepath.Join(dir, strings.Repeat("d", 120))
	must(t, os.Mkdir(deep, 0o755))
	path := filepath.Join(deep, "n")
	stale, err := bindAt(path, unix.SOCK_DGRAM, 0, 0)
	must(t, err)
	must(t, stale.Close())
	p, err := Proxy(path, NewNotifier(filepath.Join(dir, "manager")), 1234, 1235)
	must(t, err)
	defer p.Close()
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	if st.Uid != 1234 || st.Gid != 1235 || st.Mode&0o777 != 0o666 {
		t.Errorf("owner %d:%d, mode %o", st.Uid, st.Gid, st.Mode)
	}
	d, err := os.Open(deep)
	must(t, err)
	defer func() { _ = d.Close() }()
	to := &unix.SockaddrUnix{Name: "/proc/self/fd/" + itoa(int(d.Fd())) + "/n"}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer func() { _ = unix.Close(fd) }()

	// Descriptors do not arrive: the sender's pipe has no other end.
	var pipe [2]int
	must(t, unix.Pipe2(pipe[:], unix.O_CLOEXEC))
	before := open(t)
	err = unix.Sendmsg(fd, []byte("FDSTORE=1\nSTATUS=with a file"), unix.UnixRights(pipe[1]), to, 0)
	if err == nil {
		if got := said(); got != "STATUS=with a file\n" {
			t.Errorf("got %q", got)
		}
	} else if err != unix.EPERM { // SO_PASSRIGHTS
		t.Errorf("sending a descriptor: %v", err)
	}
	must(t, unix.Close(pipe[1]))
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(pipe[0]), Events: unix.POLLIN}}, 2000); err != nil || n != 1 {
		t.Errorf("the descriptor sent is still open: %d %v", n, err)
	}
	must(t, unix.Close(pipe[0]))
	if after := open(t); after > before {
		t.Errorf("%d open files, %d before", after, before)
	}

	must(t, unix.Sendto(fd, nil, 0, to)) // an empty message is no end
	select {
	case <-p.Ready():
		t.Error("ready before it was said")
	default:
	}
	must(t, unix.Sendto(fd, []byte("READY=1\nMAINPID=1"), 0, to))
	if got := said(); got != "READY=1\n" {
		t.Errorf("got %q", got)
	}
	<-p.Ready()

	p.Close()
	p.Close()
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is still there")
	}
}

func TestProxyRefusesWhatIsNoSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n")
	must(t, os.WriteFile(path, []byte("precious"), 0o600))
	if p, err := Proxy(path, nil, 0, 0); err == nil {
		p.Close()
		t.Error("a file was replaced")
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Error("the file is gone")
	}
}

// A flood is bounded and does not hide a change of state.
func TestProxyFlood(t *testing.T) {
	dir := t.TempDir()
	said := manager(t, filepath.Join(dir, "m"))
	p, err := Proxy(filepath.Join(dir, "n"), NewNotifier(filepath.Join(dir, "m")), 0, 0)
	must(t, err)
	defer p.Close()
	c, err := net.Dial("unixgram", filepath.Join(dir, "n"))
	must(t, err)
	defer func() { _ = c.Close() }()
	before := cpuTime(t)
	sent := make(chan int, 1)
	go func() {
		n := 0
		for stop := time.Now().Add(time.Second); time.Now().Before(stop); n++ {
			_, _ = c.Write([]byte("STATUS=flood"))
		}
		_, _ = c.Write([]byte("STOPPING=1"))
		sent <- n
	}()
	forwarded := 0
	for said() != "STOPPING=1\n" {
		forwarded++
	}
	t.Logf("%d messages sent in a second, %d forwarded, %v of CPU", <-sent, forwarded, cpuTime(t)-before)
	if forwarded > 3*perSecond {
		t.Errorf("%d messages were forwarded", forwarded)
	}
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	must(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
