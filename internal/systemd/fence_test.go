package systemd

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A program with sockets of the host's network, in a network of its own: what
// it can do with them without a fence, and with one.
func TestFence(t *testing.T) {
	if target := os.Getenv("FENCED"); target != "" {
		fenced(target)
		return
	}
	for _, c := range []struct {
		name             string
		fence, datagrams bool
		want             string
	}{
		{"none", false, true, "listener=0 accepted=0 bind=0 udp=0 udpconnect=0 own=0"},
		{"fence", true, false, "listener=1 accepted=1 bind=1 udp=1 udpconnect=1 own=0"},
		{"fence for UDP", true, true, "listener=1 accepted=1 bind=1 udp=0 udpconnect=1 own=0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			said := make(chan string)
			go func() {
				// The mount is this thread's, which ends with the goroutine.
				runtime.LockOSThread()
				s, err := inCgroup(c.fence, c.datagrams)
				if err != nil {
					s = err.Error()
				}
				said <- s
			}()
			if got := <-said; got != c.want {
				t.Errorf("errors EPERM (1):\ngot  %s\nwant %s", got, c.want)
			}
		})
	}
}

// inCgroup runs fenced in a cgroup and a network of its own.
func inCgroup(fence, datagrams bool) (said string, err error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return "", err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return "", err
	}
	if err := unix.Mount("none", "/mnt", "cgroup2", 0, ""); err != nil {
		return "", err
	}
	dir := filepath.Join("/mnt", "fence-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	defer func() {
		for range 100 {
			if os.Remove(dir) == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	cg, err := os.Open(dir)
	if err != nil {
		return "", err
	}
	defer func() { _ = cg.Close() }()

	target, err := net.Listen("tcp", "127.0.0.1:0") // what it must not reach
	if err != nil {
		return "", err
	}
	defer func() { _ = target.Close() }()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return "", err
	}
	defer func() { _ = client.Close() }()
	accepted, err := l.Accept()
	if err != nil {
		return "", err
	}
	defer func() { _ = accepted.Close() }()
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = u.Close() }()
	var files []*os.File
	for _, c := range []interface{ File() (*os.File, error) }{l.(*net.TCPListener), accepted.(*net.TCPConn), u.(*net.UDPConn)} {
		f, err := c.File()
		if err != nil {
			return "", err
		}
		defer func() { _ = f.Close() }()
		files = append(files, f)
	}

	c := exec.Command("/proc/self/exe", "-test.run", "^TestFence$")
	c.Env = []string{"FENCED=" + strconv.Itoa(target.Addr().(*net.TCPAddr).Port)}
	c.ExtraFiles, c.Stderr = files, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(cg.Fd()), Cloneflags: syscall.CLONE_NEWNET}
	in, err := c.StdinPipe()
	if err != nil {
		return "", err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := c.Start(); err != nil {
		return "", err
	}
	defer func() { _ = c.Wait() }()
	if fence {
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", c.Process.Pid))
		if err != nil {
			return "", err
		}
		defer func() { _ = ns.Close() }()
		given := files[:1]
		if datagrams {
			given = files
		}
		if err := Fence(dir, ns, given); err != nil {
			_ = in.Close()
			return "", err
		}
	}
	_, _ = in.Write([]byte("\n"))
	said, err = bufio.NewReader(out).ReadString('\n')
	return strings.TrimSpace(said), err
}

// fenced has a listener, a connection and a UDP socket of another network at
// 3, 4 and 5, and prints of each attempt whether EPERM came of it.
func fenced(port string) {
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	p, _ := strconv.Atoi(port)
	to := &unix.SockaddrInet4{Port: p, Addr: [4]byte{127, 0, 0, 1}}
	denied := func(err error) int {
		if err == unix.EPERM {
			return 1
		}
		return 0
	}
	disconnect := func(fd int) {
		var unspec [16]byte
		_, _, _ = unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unspec)), 16)
		_ = unix.SetNonblock(fd, false)
	}
	var r [6]int
	disconnect(3)
	r[0] = denied(unix.Connect(3, to))
	disconnect(4)
	r[1] = denied(unix.Connect(4, to))
	disconnect(4)
	r[2] = denied(unix.Bind(4, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	r[3] = denied(unix.Sendto(5, []byte("x"), 0, to))
	r[4] = denied(unix.Connect(5, to))
	own, _ := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	r[5] = denied(unix.Connect(own, to))
	fmt.Printf("listener=%d accepted=%d bind=%d udp=%d udpconnect=%d own=%d\n", r[0], r[1], r[2], r[3], r[4], r[5])
}
