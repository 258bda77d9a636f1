package resolver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/safe-run/safe-run/internal/fail"
)

// What one container can take of the host: queries that wait for another
// server, TCP connections and how long they may stand idle, and queries of
// all kinds by the second. What is beyond waits in the kernel's buffers, which
// drop what they cannot hold.
const (
	maxInFlight = 256
	maxConns    = 16
	idleConn    = 10 * time.Second
	perSecond   = 2000
	burst       = 1000
)

// memberTTL is short, in seconds: a member may go at any time, and asking again
// costs no more than a local call.
const memberTTL = 5

// Server answers one container's queries. Names of members come first, then
// reverse names of our subnets; the rest is forwarded. A name that is not known
// and not forwarded does not exist (NXDOMAIN): that is the one code that glibc,
// musl and busybox all take for an answer at once; musl waits out its time on
// REFUSED, and all of them ask again on SERVFAIL.
type Server struct {
	// Members gives the addresses of a name of the network, in lower case and of
	// the form of a domain name; nil: there are no names. With names, one
	// without a dot is never forwarded: it is a member's that is not up, and no
	// outside server's business. Without, it is, as docker does on its default
	// network, since the host's resolver may know such names.
	Members func(name string) []netip.Addr
	// Reverse gives the names of an address, nil: none.
	Reverse func(netip.Addr) []string
	// Own says of addresses that they are of our subnets: a question for their
	// names is not forwarded; nil: none are.
	Own func(netip.Addr) bool
	// Upstream are the servers asked for other names, up to three; empty:
	// nothing is forwarded.
	Upstream []netip.Addr
	// Permit is the egress list; nil: everything is permitted. It is asked with
	// a name alone before anything is sent, and again with the addresses of an
	// answer before the container gets it, which it may hold for at most five
	// minutes; false makes that the name does not exist. Only addresses are
	// asked for, with no byte of the client's but the name. It is called at most
	// once in two seconds with addresses for a name and type.
	Permit func(name string, addrs []netip.Addr) bool
}

// Serve answers what comes by the sockets, both of which it closes, until ctx
// ends or they are closed by another.
func (s *Server) Serve(ctx context.Context, udp net.PacketConn, tcp net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() {
		_ = udp.Close()
		_ = tcp.Close()
	})
	h := newHandler(s)
	ended := make(chan error, 2)
	go func() { ended <- h.serveUDP(ctx, udp) }()
	go func() { ended <- h.serveTCP(ctx, tcp) }()
	err := <-ended
	cancel()
	err = errors.Join(err, <-ended)
	h.running.Wait()
	return fail.Wrap(fail.HostCannot, err, "the container's name server")
}

// handler is a Server at work.
type handler struct {
	*Server
	up       *client
	inFlight chan struct{}
	limit    limiter
	turn     atomic.Uint32 // round robin
	kept     answers
	running  sync.WaitGroup
}

func newHandler(s *Server) *handler {
	return &handler{
		Server: s, up: newClient(s.Upstream),
		inFlight: make(chan struct{}, maxInFlight),
		limit:    limiter{tokens: burst},
	}
}

func (h *handler) serveUDP(ctx context.Context, c net.PacketConn) error {
	buf := make([]byte, maxQuery+1)
	for {
		if !h.limit.wait(ctx) {
			return nil
		}
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			if ended(ctx, err) {
				return nil
			}
			return err
		}
		if n > maxQuery {
			continue
		}
		q, resp, forward := h.local(buf[:n], false)
		if forward {
			select {
			case h.inFlight <- struct{}{}:
				h.running.Go(func() {
					defer func() { <-h.inFlight }()
					if resp := h.forward(ctx, &q, false); resp != nil {
						_, _ = c.WriteTo(resp, from)
					}
				})
				continue
			default:
				resp = q.reply(answer{code: dnsmessage.RCodeServerFailure}, q.size)
			}
		}
		if resp != nil {
			_, _ = c.WriteTo(resp, from)
		}
	}
}

func (h *handler) serveTCP(ctx context.Context, l net.Listener) error {
	conns := make(chan struct{}, maxConns)
	for {
		select {
		case conns <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		c, err := l.Accept()
		if err != nil {
			if ended(ctx, err) {
				return nil
			}
			// A connection that its maker gave up, or no descriptor left: the
			// listener is as good as before.
			<-conns
			if !sleep(ctx, 50*time.Millisecond) {
				return nil
			}
			continue
		}
		h.running.Go(func() {
			defer func() { <-conns }()
			defer c.Close()
			stop := context.AfterFunc(ctx, func() { _ = c.Close() })
			defer stop()
			h.serveConn(ctx, c)
		})
	}
}

// serveConn answers the queries of a connection one after the other.
func (h *handler) serveConn(ctx context.Context, c net.Conn) {
	for {
		_ = c.SetDeadline(time.Now().Add(idleConn))
		msg, err := readTCP(c, maxQuery)
		if err != nil || !h.limit.wait(ctx) {
			return
		}
		q, resp, forward := h.local(msg, true)
		if forward {
			select {
			case h.inFlight <- struct{}{}:
				resp = h.forward(ctx, &q, true)
				<-h.inFlight
			default:
				resp = q.reply(answer{code: dnsmessage.RCodeServerFailure}, maxTCP)
			}
		}
		if resp == nil {
			return
		}
		_ = c.SetDeadline(time.Now().Add(idleConn))
		if writeTCP(c, resp) != nil {
			return
		}
	}
}

func ended(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, net.ErrClosed)
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// limiter is a bucket of tokens that fills at perSecond up to burst.
type limiter struct {
	mu     sync.Mutex
	tokens float64
	filled time.Time
}

// wait takes a token, as soon as there is one. It says whether ctx lives.
func (l *limiter) wait(ctx context.Context) bool {
	if owed := l.take(time.Now()); owed > 0 {
		return sleep(ctx, owed)
	}
	return ctx.Err() == nil
}

// take takes a token, if need be one that comes only after the time it gives.
func (l *limiter) take(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.filled.IsZero() {
		l.tokens = min(burst, l.tokens+now.Sub(l.filled).Seconds()*perSecond)
	}
	l.filled = now
	if l.tokens--; l.tokens >= 0 {
		return 0
	}
	return time.Duration(-l.tokens / perSecond * float64(time.Second))
}
