package control

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

const (
	connsMax      = 64               // connections at once
	requestWithin = 10 * time.Second // for the request of a connection to arrive
	replyWithin   = 10 * time.Second // for a reply to be taken
)

// Server is the supervisor's end.
type Server struct {
	l        *net.UnixListener
	path     string
	ino      uint64
	patience time.Duration // see Client.patience
	within   time.Duration // requestWithin
	conns    atomic.Int32
	closed   atomic.Bool
}

// Listen makes the socket at path, of any length, in an existing directory,
// which only its owner may write to. A socket an earlier supervisor left there
// is replaced.
func Listen(path string) (*Server, error) {
	l, ino, err := bind(path)
	if err != nil {
		return nil, err
	}
	return &Server{l: l, path: path, ino: ino, patience: 10 * time.Second, within: requestWithin}, nil
}

// Close ends listening and removes the socket, unless it is another server's
// by now. Requests that are being served go on.
func (s *Server) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	var st unix.Stat_t
	var err error
	if unix.Lstat(s.path, &st) == nil && st.Ino == s.ino {
		err = os.Remove(s.path)
	}
	return fail.Wrap(fail.HostCannot, errors.Join(err, s.l.Close()), "control socket")
}

// Serve hands each request to handle, in a goroutine of its own, and sends
// what it returns. The context of a handler ends when its client goes away,
// or with ctx. Serve ends after ctx has ended or Close was called, and all
// handlers have returned; their replies are sent all the same.
func (s *Server) Serve(ctx context.Context, handle func(ctx context.Context, rq Request, c *Conn) Reply) {
	defer context.AfterFunc(ctx, func() { s.Close() })()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		u, err := s.l.AcceptUnix()
		if err != nil {
			if s.closed.Load() || errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(50 * time.Millisecond) // no descriptors or memory: others may give theirs back
			continue
		}
		if ours(u) != nil {
			u.Close()
			continue
		}
		if s.conns.Add(1) > connsMax {
			s.conns.Add(-1)
			// A fresh socket has room for it: this does not wait.
			_ = u.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			_ = writeJSON(u, frameReply, Failed(fail.New(fail.Conflict, "%d commands are connected to the container's supervisor", connsMax).
				Hint("end some of: attach, exec, wait")))
			u.Close()
			continue
		}
		wg.Go(func() {
			defer s.conns.Add(-1)
			s.serve(ctx, u, handle)
		})
	}
}

func (s *Server) serve(ctx context.Context, u *net.UnixConn, handle func(context.Context, Request, *Conn) Reply) {
	defer u.Close()
	hurry := context.AfterFunc(ctx, func() { _ = u.SetReadDeadline(time.Unix(1, 0)) })
	_ = u.SetReadDeadline(time.Now().Add(s.within))
	var rq Request
	err := readJSON(u, frameRequest, &rq)
	if !hurry() {
		return
	}
	if err != nil {
		s.reply(u, Failed(fail.Wrap(fail.Usage, err, "request")))
		return
	}
	_ = u.SetReadDeadline(time.Time{})

	ctx, cancel := context.WithCancel(ctx)
	c := &Conn{u: u, ctx: ctx, cancel: cancel, patience: s.patience}
	var reader sync.WaitGroup
	reader.Go(c.read)
	r := handle(ctx, rq, c)
	if k := c.client.Load(); k != nil {
		k.over(r)
	} else {
		s.reply(u, r)
	}
	cancel()
	u.Close()
	reader.Wait()
}

func (s *Server) reply(u *net.UnixConn, r Reply) {
	_ = u.SetWriteDeadline(time.Now().Add(replyWithin))
	if err := writeJSON(u, frameReply, r); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		_ = writeJSON(u, frameReply, Failed(fail.Wrap(fail.Internal, err, "reply")))
	}
}

// Conn is the connection of one request.
type Conn struct {
	u        *net.UnixConn
	ctx      context.Context
	cancel   context.CancelFunc
	patience time.Duration
	client   atomic.Pointer[Client]
}

// read takes what the client sends after its request, until it goes away or
// does what it must not.
func (c *Conn) read() {
	defer c.cancel()
	var h [headerSize]byte
	for {
		typ, n, err := readHeader(c.u, &h)
		if err != nil {
			return
		}
		k := c.client.Load()
		if k == nil || !k.receive(typ, n) {
			return
		}
	}
}
