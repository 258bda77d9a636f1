package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

const (
	firstFD     = 3         // SD_LISTEN_FDS_START
	maxListen   = 253       // SCM_MAX_FD: what one message can pass
	unnamed     = "unknown" // sd_listen_fds_with_names(3)
	giveTimeout = 10 * time.Second
)

// inherited takes the descriptors passed to this process.
func inherited(s self) ([]*os.File, []string, error) {
	if s.getenv("LISTEN_PID") != strconv.Itoa(s.pid) {
		return nil, nil, nil
	}
	n, err := strconv.Atoi(s.getenv("LISTEN_FDS"))
	if err != nil || n < 0 || n > maxListen {
		return nil, nil, fail.New(fail.HostCannot, "LISTEN_FDS is %.20q, not a number of at most %d", s.getenv("LISTEN_FDS"), maxListen)
	}
	names := listenNames(s.getenv("LISTEN_FDNAMES"), n)
	files := make([]*os.File, n)
	for i := range files {
		unix.CloseOnExec(firstFD + i)
		files[i] = os.NewFile(uintptr(firstFD+i), names[i])
	}
	return files, names, nil
}

// listenNames gives the names of n descriptors; what is no name is replaced.
func listenNames(text string, n int) []string {
	given := strings.Split(text, ":")
	names := make([]string, n)
	for i := range names {
		names[i] = unnamed
		if len(given) == n && validName(given[i]) {
			names[i] = given[i]
		}
	}
	return names
}

// validName says whether a text can name a descriptor or a credential.
func validName(s string) bool {
	return s != "" && len(s) <= 255 && utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool {
		return r == ':' || r == '/' || !unicode.IsPrint(r)
	}) < 0
}

// Listeners gives the descriptors of the unit's sockets and their names, after
// a look at what they are: TCP sockets, and UNIX sockets that have connections,
// may go into a container. Anything else that a socket unit can pass is an error
// of kind Refused: FIFOs and devices, raw and netlink sockets, and whatever
// can send to any address of the host's network without connecting (UDP, UNIX
// datagrams) or is not held by Landlock (MPTCP).
func (u *Unit) Listeners() ([]*os.File, []string, error) {
	if u == nil {
		return nil, nil, nil
	}
	for i, f := range u.Listen {
		if err := passable(f); err != nil {
			return nil, nil, fail.Wrap(fail.Refused, err, "the descriptor %q of %s cannot be given to a container", u.ListenNames[i], u.Name)
		}
	}
	return u.Listen, u.ListenNames, nil
}

// passable says why a descriptor must stay on the host.
func passable(f *os.File) error {
	domain, kind, protocol, err := socketOf(f)
	if err == unix.ENOTSOCK {
		return errors.New("it is not a socket")
	}
	if err != nil {
		return err
	}
	switch {
	case (domain == unix.AF_INET || domain == unix.AF_INET6) && kind == unix.SOCK_STREAM && protocol == unix.IPPROTO_TCP:
		return nil
	case domain == unix.AF_UNIX && (kind == unix.SOCK_STREAM || kind == unix.SOCK_SEQPACKET):
		return nil
	}
	return fmt.Errorf("it is a socket of family %d, type %d, protocol %d, not one of TCP or a UNIX one with connections", domain, kind, protocol)
}

func socketOf(f *os.File) (domain, kind, protocol int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, 0, 0, err
	}
	e := raw.Control(func(fd uintptr) {
		for _, q := range []struct {
			option int
			value  *int
		}{{unix.SO_DOMAIN, &domain}, {unix.SO_TYPE, &kind}, {unix.SO_PROTOCOL, &protocol}} {
			if err == nil {
				*q.value, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, q.option)
			}
		}
	})
	if e != nil {
		err = e
	}
	return domain, kind, protocol, err
}

// CanFence says whether this kernel has what safe-run-activate --no-connect
// needs: Landlock for TCP, since Linux 6.7. With it no program in the container
// can connect or bind a TCP socket, neither the host's nor one of its own
// network.
func CanFence() bool {
	const wantVersion, withTCP = 1, 4 // LANDLOCK_CREATE_RULESET_VERSION
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, wantVersion)
	return errno == 0 && version >= withTCP
}

// Activator waits in a container's directory for the program that takes the
// sockets, cmd/safe-run-activate.
type Activator struct {
	path  string
	l     *net.UnixListener
	given chan struct{}
	done  chan struct{}
	once  sync.Once
}

// Activation opens a stream socket at path, for a bind mount into a container,
// and gives the files with their names to the first that connects; then the
// socket is gone. The files stay the caller's, open: the next start of the
// container has an Activation of its own. A connection gets one message with
// the descriptors (SCM_RIGHTS) and the names, joined by ":", up to its end.
//
// A socket given away is one of the host's network. A program can, besides
// accepting on it, disconnect it and connect it to anything that the host
// reaches, or bind it to another port. The cgroup does not help, a socket is of
// that it was made in; the program's Landlock domain does: safe-run-activate
// --no-connect, see CanFence. An error has kind HostCannot.
func Activation(path string, files []*os.File, names []string) (*Activator, error) {
	if len(files) == 0 || len(files) > maxListen || len(names) != len(files) {
		return nil, fail.New(fail.Internal, "%d files with %d names to give to a container", len(files), len(names))
	}
	for _, n := range names {
		if !validName(n) {
			return nil, fail.New(fail.Internal, "%.100q cannot name a descriptor", n)
		}
	}
	f, err := bindAt(path, unix.SOCK_STREAM, 0, 0)
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "opening a socket for the container")
	}
	defer func() { _ = f.Close() }() // the listener has a copy
	l, err := listen(f)
	if err != nil {
		removeSocket(path)
		return nil, fail.Wrap(fail.HostCannot, err, "opening a socket for the container")
	}
	a := &Activator{path: path, l: l, given: make(chan struct{}), done: make(chan struct{})}
	go a.serve(files, strings.Join(names, ":"))
	return a, nil
}

func listen(f *os.File) (*net.UnixListener, error) {
	if err := unix.Listen(int(f.Fd()), 1); err != nil {
		return nil, err
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	u := l.(*net.UnixListener)
	u.SetUnlinkOnClose(false)
	return u, nil
}

// Given is closed when the descriptors have been given.
func (a *Activator) Given() <-chan struct{} { return a.given }

// Close removes the socket; what was given stays given.
func (a *Activator) Close() {
	a.once.Do(func() {
		_ = a.l.Close()
		<-a.done
		removeSocket(a.path)
	})
}

func (a *Activator) serve(files []*os.File, names string) {
	defer close(a.done)
	c, err := a.l.AcceptUnix()
	_ = a.l.Close()
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	_ = c.SetWriteDeadline(time.Now().Add(giveTimeout))
	if send(c, files, names) == nil {
		close(a.given)
	}
}

func send(c *net.UnixConn, files []*os.File, names string) error {
	fds := make([]int, len(files))
	for i, f := range files {
		raw, err := f.SyscallConn()
		if err != nil {
			return err
		}
		if err := raw.Control(func(fd uintptr) { fds[i] = int(fd) }); err != nil {
			return err
		}
	}
	n, _, err := c.WriteMsgUnix([]byte(names), unix.UnixRights(fds...), nil)
	runtime.KeepAlive(files)
	if err == nil && n < len(names) {
		_, err = c.Write([]byte(names[n:]))
	}
	return err
}
