package resolver

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// local answers a client's message if that takes no other server. forward says
// that it does; otherwise a nil answer is none at all.
func (h *handler) local(msg []byte, tcp bool) (q query, resp []byte, forward bool) {
	q, v, code := parseQuery(msg)
	switch v {
	case drop:
		return q, nil, false
	case refuse:
		return q, h.reply(&q, answer{code: code}, tcp), false
	}
	a, known := h.known(&q)
	if known {
		return q, h.reply(&q, a, tcp), false
	}
	return q, nil, true
}

func (h *handler) reply(q *query, a answer, tcp bool) []byte {
	limit := q.size
	if tcp {
		limit = maxTCP
	}
	return q.reply(a, limit)
}

// known answers from what this host knows, or decides that nobody is to be
// asked.
func (h *handler) known(q *query) (answer, bool) {
	nowhere := answer{code: dnsmessage.RCodeNameError}
	name, ok := q.host()
	if ok && h.Members != nil {
		if addrs := h.Members(name); len(addrs) > 0 {
			return answer{own: true, ttl: memberTTL, addrs: h.ofType(addrs, q.q.Type)}, true
		}
		if !strings.Contains(name, ".") {
			return nowhere, true
		}
	}
	if a, ok := q.address(); ok {
		var names []string
		if h.Reverse != nil {
			names = h.Reverse(a)
		}
		switch {
		case len(names) > 0 && q.q.Type == dnsmessage.TypePTR:
			return answer{own: true, ttl: memberTTL, names: names[:min(len(names), maxAddrs)]}, true
		case len(names) > 0:
			return answer{own: true}, true
		case h.Own != nil && h.Own(a):
			return nowhere, true
		}
	}
	if len(h.Upstream) == 0 {
		return nowhere, true
	}
	if h.Permit == nil {
		return answer{}, false
	}
	// What is not listed is not asked for: a question is a message to whoever
	// serves the name. Of a listed name only the addresses are of use.
	if !ok || !h.Permit(name, nil) {
		return nowhere, true
	}
	return answer{}, q.q.Type != dnsmessage.TypeA && q.q.Type != dnsmessage.TypeAAAA
}

// ofType gives the addresses a question is for, another one first each time.
func (h *handler) ofType(addrs []netip.Addr, t dnsmessage.Type) []netip.Addr {
	var out []netip.Addr
	for _, a := range addrs {
		if a = a.Unmap(); t == dnsmessage.TypeA && a.Is4() || t == dnsmessage.TypeAAAA && a.Is6() {
			out = append(out, a)
		}
	}
	if len(out) < 2 {
		return out
	}
	first := int(h.turn.Add(1) % uint32(len(out)))
	return slices.Concat(out[first:], out[:first])
}

// forward asks the upstream servers.
func (h *handler) forward(ctx context.Context, q *query, tcp bool) []byte {
	if h.Permit != nil {
		return h.reply(q, h.listed(ctx, q), tcp)
	}
	resp, err := h.up.ask(ctx, q, tcp)
	switch {
	case err != nil:
		return h.reply(q, answer{code: dnsmessage.RCodeServerFailure}, tcp)
	case !tcp && len(resp) > q.size:
		// More than the client was ready for: let it come by TCP.
		return h.reply(q, answer{truncated: true}, tcp)
	}
	return resp
}

// How long an answer for a listed name is kept and given out, at least and at
// most. Permit changes the packet filter: a container that asks without end,
// or a server whose answers last no time, must not make it do so without end.
const (
	keepLeast = 2 * time.Second
	keepMost  = 5 * time.Minute
)

// answers are those for listed names. There are no more of them than listed
// names and two types.
type answers struct {
	mu   sync.Mutex
	list map[kind]*kept
}

type kind struct {
	name string
	t    dnsmessage.Type
}

type kept struct {
	mu    sync.Mutex // held while the question is asked: one asks, the others wait
	until time.Time  // the answer counts
	found found
}

func (a *answers) of(k kind) *kept {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.list == nil {
		a.list = map[kind]*kept{}
	}
	e := a.list[k]
	if e == nil {
		e = &kept{}
		a.list[k] = e
	}
	return e
}

// listed gives the addresses of a name of the egress list, once the container
// may connect to them.
func (h *handler) listed(ctx context.Context, q *query) answer {
	name, _ := q.host()
	e := h.kept.of(kind{name, q.q.Type})
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if now.After(e.until) {
		f, err := h.up.lookup(ctx, name, q.q.Type)
		had := len(f.addrs) > 0
		f.addrs = slices.DeleteFunc(f.addrs, func(a netip.Addr) bool { return !outside(a) })
		switch {
		case err != nil:
			f = found{code: dnsmessage.RCodeServerFailure}
		case had && (len(f.addrs) == 0 || !h.Permit(name, f.addrs)):
			f = found{code: dnsmessage.RCodeNameError}
		}
		now = time.Now()
		e.found, e.until = f, now.Add(min(max(f.ttl, keepLeast), keepMost))
	}
	ttl := min(e.until.Sub(now), e.found.ttl)
	return answer{code: e.found.code, ttl: uint32(ttl / time.Second), addrs: h.ofType(e.found.addrs, q.q.Type)}
}
