package resolver

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/safe-run/safe-run/internal/fail"
)

const (
	perServer = 2 * time.Second
	// downFor is how long a server that did not answer is asked last.
	downFor = 10 * time.Second
)

// client asks upstream servers, from the network namespace of this process.
type client struct {
	servers []netip.Addr

	mu   sync.Mutex
	down map[netip.Addr]time.Time // until when
}

func newClient(servers []netip.Addr) *client {
	return &client{servers: servers[:min(len(servers), maxServers)], down: map[netip.Addr]time.Time{}}
}

// order is the servers as configured, those that lately did not answer last.
func (c *client) order() []netip.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := slices.Clone(c.servers)
	now := time.Now()
	rank := func(a netip.Addr) int {
		if now.Before(c.down[a]) {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(list, func(a, b netip.Addr) int { return cmp.Compare(rank(a), rank(b)) })
	return list
}

// ask sends a query to one server after the other until one answers and gives
// the answer as it came, with the id of the query. If all of them answer with
// a failure it gives the first such answer.
func (c *client) ask(ctx context.Context, q *query, tcp bool) ([]byte, error) {
	var id [2]byte
	_, _ = rand.Read(id[:])
	sent := binary.BigEndian.Uint16(id[:])
	msg, err := q.pack(sent)
	if err != nil {
		return nil, fail.Wrap(fail.Internal, err, "a DNS query")
	}
	var failure []byte
	last := error(fail.New(fail.HostCannot, "there is no name server"))
	for _, s := range c.order() {
		resp, err := exchange(ctx, s, msg, sent, q.q, tcp)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		c.mu.Lock()
		if err != nil {
			c.down[s] = time.Now().Add(downFor)
		} else {
			delete(c.down, s)
		}
		c.mu.Unlock()
		if err != nil {
			last = err
			continue
		}
		binary.BigEndian.PutUint16(resp, q.id)
		if !failed(dnsmessage.RCode(resp[3] & 0xf)) {
			return resp, nil
		}
		if failure == nil {
			failure = resp
		}
	}
	if failure != nil {
		return failure, nil
	}
	return nil, fail.Wrap(fail.HostCannot, last, "no name server answers")
}

// exchange asks one server. The socket is the query's own, so its port is a
// fresh one of the kernel's choice, and packets from elsewhere do not get in.
func exchange(ctx context.Context, server netip.Addr, msg []byte, id uint16, q dnsmessage.Question, tcp bool) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, perServer)
	defer cancel()
	network := "udp"
	if tcp {
		network = "tcp"
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, network, netip.AddrPortFrom(server, 53).String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if tcp {
		return exchangeTCP(c, msg, id, q)
	}
	if _, err := c.Write(msg); err != nil {
		return nil, err
	}
	buf := make([]byte, maxUDP+1)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		// What does not fit or is not the answer is somebody's guess: wait on.
		if n <= maxUDP {
			if _, ok := replies(buf[:n], id, q); ok {
				return buf[:n], nil
			}
		}
	}
}

func exchangeTCP(c net.Conn, msg []byte, id uint16, q dnsmessage.Question) ([]byte, error) {
	if err := writeTCP(c, msg); err != nil {
		return nil, err
	}
	resp, err := readTCP(c, maxTCP)
	if err != nil {
		return nil, err
	}
	if _, ok := replies(resp, id, q); !ok {
		return nil, fail.New(fail.HostCannot, "the name server's answer is not to the question")
	}
	return resp, nil
}

// readTCP reads one message with the length in front, RFC 1035 section 4.2.2.
func readTCP(r io.Reader, limit int) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if n > limit {
		return nil, fail.New(fail.HostCannot, "a DNS message is too long: %d bytes", n)
	}
	// The length is the other side's word; memory follows what really comes.
	msg, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err == nil && len(msg) < n {
		err = io.ErrUnexpectedEOF
	}
	return msg, err
}

func writeTCP(w io.Writer, msg []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, len(msg)+2), uint16(len(msg))), msg...))
	return err
}

// found is what servers say about the addresses of a name.
type found struct {
	code  dnsmessage.RCode
	addrs []netip.Addr
	ttl   time.Duration // the shortest on the way
}

// Bounds of an answer that is read and not only passed on.
const (
	maxRecords = 256
	maxAddrs   = 64
	maxChain   = 16
)

// lookup asks for the addresses of one type that name has. The query is of this
// process's own making: nothing of a client's is in it but the name.
func (c *client) lookup(ctx context.Context, name string, t dnsmessage.Type) (found, error) {
	n, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return found{}, fail.Wrap(fail.Usage, err, "the name %.80q", name)
	}
	q := query{
		rd: true, edns: true, size: 1232,
		q: dnsmessage.Question{Name: n, Type: t, Class: dnsmessage.ClassINET},
	}
	resp, err := c.ask(ctx, &q, false)
	if err == nil && dnsmessage.RCode(resp[3]&0xf) == dnsmessage.RCodeFormatError {
		// A server from before EDNS.
		q.edns = false
		resp, err = c.ask(ctx, &q, false)
	}
	if err == nil && resp[2]&flagTruncated != 0 {
		resp, err = c.ask(ctx, &q, true)
	}
	if err != nil {
		return found{}, err
	}
	f, err := readAddresses(resp, q.q)
	return f, fail.Wrap(fail.HostCannot, err, "a name server's answer")
}

// flagTruncated is TC in the third byte of a message.
const flagTruncated = 0x02

// readAddresses follows the aliases of an answer from the name asked for to the
// addresses. Records beside that way do not count: nobody asked for them.
func readAddresses(resp []byte, asked dnsmessage.Question) (found, error) {
	var p dnsmessage.Parser
	h, err := p.Start(resp)
	if err != nil {
		return found{}, err
	}
	if err := p.SkipAllQuestions(); err != nil {
		return found{}, err
	}
	f := found{code: h.RCode}
	type link struct {
		to  string
		ttl uint32
	}
	type address struct {
		addr netip.Addr
		ttl  uint32
	}
	aliases, addrs := map[string]link{}, map[string][]address{}
	for i := 0; ; i++ {
		rh, err := p.AnswerHeader()
		if err == dnsmessage.ErrSectionDone {
			break
		}
		if err != nil {
			return found{}, err
		}
		if i >= maxRecords {
			return found{}, fail.New(fail.HostCannot, "it has more than %d records", maxRecords)
		}
		owner := canonical(rh.Name)
		switch {
		case rh.Class != dnsmessage.ClassINET:
			err = p.SkipAnswer()
		case rh.Type == dnsmessage.TypeCNAME:
			var r dnsmessage.CNAMEResource
			if r, err = p.CNAMEResource(); err == nil {
				aliases[owner] = link{canonical(r.CNAME), rh.TTL}
			}
		case rh.Type == dnsmessage.TypeA && asked.Type == rh.Type:
			var r dnsmessage.AResource
			if r, err = p.AResource(); err == nil {
				addrs[owner] = append(addrs[owner], address{netip.AddrFrom4(r.A), rh.TTL})
			}
		case rh.Type == dnsmessage.TypeAAAA && asked.Type == rh.Type:
			var r dnsmessage.AAAAResource
			r, err = p.AAAAResource()
			// A connection to an IPv4-mapped address is one by IPv4: not what an
			// AAAA record may stand for.
			if a := netip.AddrFrom16(r.AAAA); err == nil && !a.Is4In6() {
				addrs[owner] = append(addrs[owner], address{a, rh.TTL})
			}
		default:
			err = p.SkipAnswer()
		}
		if err != nil {
			return found{}, err
		}
	}
	name, ttl := canonical(asked.Name), uint32(1<<31-1)
	for range maxChain {
		for _, a := range addrs[name] {
			ttl = min(ttl, a.ttl)
			f.addrs = appendNew(f.addrs, maxAddrs, a.addr)
		}
		next, ok := aliases[name]
		if !ok || len(f.addrs) > 0 {
			break
		}
		ttl = min(ttl, next.ttl)
		name = next.to
	}
	if len(f.addrs) > 0 {
		f.ttl = time.Duration(ttl) * time.Second
	}
	return f, nil
}

func canonical(n dnsmessage.Name) string {
	return strings.ToLower(n.String())
}
