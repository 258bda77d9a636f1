package ports

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

const (
	// maxConns and maxSessions bound what one container's ports hold at once;
	// what is over is turned away, as the rest goes on.
	maxConns    = 1024
	maxSessions = 1024

	dialTime = 10 * time.Second
	// perTurn is how many connections or datagrams of one socket are taken
	// before the others have their turn.
	perTurn = 64
	// outOfFiles is how long nothing is taken when the kernel has no room.
	outOfFiles = 50 * time.Millisecond
)

// relay passes on what reaches the sockets. One goroutine waits for all of
// them, however many ports are published.
type relay struct {
	held  *Held
	ctx   context.Context
	to    func(Mapping) netip.AddrPort
	epoll int
	slots chan struct{} // a tcp connection holds one
	conns sync.WaitGroup
	pause bool

	listeners map[int32]socket // by descriptor
	udpState
}

// Relay passes on what reaches the sockets themselves, which is what no nat
// rule of the kernel took: connections to ::1, for one. to gives where a
// mapping leads; not valid if nowhere, then connections are reset and
// datagrams dropped. SCTP is not relayed. Relay returns when ctx ends or Held
// is closed, after it has closed its connections; its error is that it could
// not begin.
func (h *Held) Relay(ctx context.Context, to func(Mapping) netip.AddrPort) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(epoll, true) // so that it waits as Go's other files do, without a thread
	}
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "the relay of published ports")
	}
	file := os.NewFile(uintptr(epoll), "epoll")
	defer file.Close()
	r := &relay{
		held: h, ctx: ctx, to: to, epoll: epoll, slots: make(chan struct{}, maxConns),
		listeners: make(map[int32]socket), udpState: newUDPState(),
	}
	defer r.conns.Wait()
	defer cancel() // before Wait
	defer r.closeSessions()
	if err := r.listen(); err != nil || len(r.listeners) == 0 {
		return fail.Wrap(fail.HostCannot, err, "the relay of published ports")
	}
	wake := func() { _ = file.SetReadDeadline(time.Unix(1, 0)) }
	defer context.AfterFunc(ctx, wake)()
	go func() {
		select {
		case <-h.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	return r.run(file)
}

// listen enters the sockets that are relayed into the epoll set.
func (r *relay) listen() error {
	r.held.mu.Lock()
	defer r.held.mu.Unlock()
	if r.held.closed() {
		return nil
	}
	for _, s := range r.held.sockets {
		if s.Proto == spec.SCTP {
			continue
		}
		if err := r.watch(s.fd); err != nil {
			return err
		}
		r.listeners[int32(s.fd)] = s
	}
	return nil
}

func (r *relay) watch(fd int) error {
	return unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (r *relay) run(file *os.File) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return fail.Wrap(fail.Internal, err, "the relay of published ports")
	}
	events := make([]unix.EpollEvent, 128)
	for {
		var next time.Time
		if len(r.sessions) > 0 {
			next = time.Now().Add(sweepEvery)
		}
		err := file.SetReadDeadline(next)
		// In this order: the end of ctx moves the deadline, once.
		if r.ctx.Err() != nil {
			return nil
		}
		n := 0
		if err == nil {
			err = wait(raw, events, &n)
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return fail.Wrap(fail.Internal, err, "the relay of published ports")
		}
		if !r.handle(events[:n]) {
			return nil
		}
		r.expire(time.Now())
		if r.pause {
			r.pause = false
			select {
			case <-time.After(outOfFiles):
			case <-r.ctx.Done():
			}
		}
	}
}

func wait(raw syscall.RawConn, events []unix.EpollEvent, n *int) error {
	var waitErr error
	err := raw.Read(func(fd uintptr) bool {
		*n, waitErr = unix.EpollWait(int(fd), events, 0)
		if waitErr == unix.EINTR {
			*n, waitErr = 0, nil
		}
		return *n != 0 || waitErr != nil
	})
	*n = max(*n, 0)
	return errors.Join(err, waitErr)
}

// handle takes what has arrived. It gives false when the sockets are closed,
// whose numbers may be other files' by then.
func (r *relay) handle(events []unix.EpollEvent) bool {
	r.held.mu.Lock()
	defer r.held.mu.Unlock()
	if r.held.closed() {
		return false
	}
	for _, ev := range events {
		if s, ok := r.listeners[ev.Fd]; !ok {
			r.answers(ev.Fd)
		} else if s.Proto == spec.UDP {
			r.datagrams(s)
		} else {
			r.accept(s)
		}
	}
	return true
}

func (r *relay) accept(s socket) {
	for range perTurn {
		fd, _, err := unix.Accept4(s.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		switch err {
		case nil:
		case unix.EINTR, unix.ECONNABORTED:
			continue
		case unix.EAGAIN:
			return
		default:
			r.pause = true
			return
		}
		select {
		case r.slots <- struct{}{}:
			r.conns.Go(func() {
				defer func() { <-r.slots }()
				r.connection(fd, s.Mapping)
			})
		default:
			_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			_ = unix.Close(fd)
		}
	}
}

// connection connects an accepted one with the container, until both ends
// have said all they have to say or one is gone.
func (r *relay) connection(fd int, m Mapping) {
	file := os.NewFile(uintptr(fd), "tcp")
	conn, err := net.FileConn(file)
	file.Close()
	if err != nil {
		return
	}
	client, ok := conn.(*net.TCPConn)
	if !ok {
		conn.Close()
		return
	}
	defer client.Close()
	dest := r.to(m)
	if !dest.IsValid() {
		_ = client.SetLinger(0)
		return
	}
	dialer := net.Dialer{Timeout: dialTime, KeepAlive: -1}
	conn, err = dialer.DialContext(r.ctx, "tcp", dest.String())
	if err != nil {
		_ = client.SetLinger(0)
		return
	}
	server := conn.(*net.TCPConn)
	defer server.Close()
	// A peer that is gone without a word holds a place.
	alive := net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 8}
	_, _ = client.SetKeepAliveConfig(alive), server.SetKeepAliveConfig(alive)

	abort := func() {
		// A reset is passed on as one, not as an orderly end.
		_, _ = client.SetLinger(0), server.SetLinger(0)
		client.Close()
		server.Close()
	}
	defer context.AfterFunc(r.ctx, abort)()
	var there sync.WaitGroup
	there.Go(func() { pass(server, client, abort) })
	pass(client, server, abort)
	there.Wait()
}

// pass copies one direction, and its end.
func pass(to, from *net.TCPConn, abort func()) {
	if _, err := io.Copy(to, from); err != nil {
		abort()
		return
	}
	_ = to.CloseWrite()
}
