package network

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/safe-run/safe-run/internal/netfilter"
	"github.com/safe-run/safe-run/internal/resolver"
	"github.com/safe-run/safe-run/spec"
)

// dnsSockets are the embedded resolver's, inside the container's network
// namespace; nil if it has none.
type dnsSockets struct {
	udp net.PacketConn
	tcp net.Listener
}

// Serve does what a network needs while the container runs: relays what the
// kernel does not forward, answers names, keeps the egress list fresh. It
// returns when ctx ends.
func (e *Endpoint) Serve(ctx context.Context) {
	if e.held != nil {
		go e.held.Relay(ctx, e.relay)
	}
	if e.names != nil {
		go e.names.Run(ctx)
	}
	if e.dns.udp != nil {
		go func() { _ = e.server().Serve(ctx, e.dns.udp, e.dns.tcp) }()
	}
	<-ctx.Done()
}

// Close lets the ports and sockets go. What the container has otherwise,
// Host.Remove gives back, and Free the namespace: kept until then, the kernel
// does not begin to take it apart while Remove needs the same lock of it.
func (e *Endpoint) Close() {
	<-e.ready
	if e.held != nil {
		e.held.Close()
	}
	if e.dns.udp != nil {
		_ = e.dns.udp.Close()
		_ = e.dns.tcp.Close()
	}
}

// Free lets the network namespace go.
func (e *Endpoint) Free() {
	if e.nsfd != nil {
		_ = e.nsfd.Close()
	}
}

// planNames decides how the container resolves names.
func (e *Endpoint) planNames() error {
	host, err := resolver.ReadHost()
	if err != nil {
		return err
	}
	in := resolver.PlanInput{
		Host: host, DNS: e.ask.DNS, Search: e.ask.DNSSearch, Options: e.ask.DNSOptions,
		Network: len(e.st.Leases)+len(e.st.CNI) > 0, Egress: e.ask.Egress.Mode,
		Internal: len(e.st.Leases) > 0 && e.st.first() == nil,
		Blocked:  func(a netip.Addr) bool { return netfilter.Blocked(a) || resolver.Local(a) },
	}
	for _, l := range e.st.Leases {
		in.ICC = in.ICC || l.ICC
		for _, p := range l.Addrs {
			in.IPv6 = in.IPv6 || p.Addr().Is6()
		}
	}
	p := resolver.Plan(in)
	e.file, e.st.Embedded, e.st.Upstream = p.File, p.Embedded, p.Upstream
	return nil
}

func (e *Endpoint) listenDNS() (err error) {
	if e.st.Embedded {
		e.dns.udp, e.dns.tcp, err = resolver.Listen(int(e.nsfd.Fd()))
	}
	return err
}

// server is the embedded resolver: names of the networks' members first, the
// host's resolvers for the rest.
func (e *Endpoint) server() *resolver.Server {
	s := &resolver.Server{Upstream: e.st.Upstream, Own: e.own}
	if slices.ContainsFunc(e.st.Leases, func(l Lease) bool { return l.ICC }) {
		s.Members, s.Reverse = e.members, e.reverse
	}
	if e.st.Egress.Mode == spec.EgressList {
		s.Permit = e.permit
	}
	return s
}

func (e *Endpoint) members(name string) []netip.Addr {
	var out []netip.Addr
	for _, l := range e.st.Leases {
		if l.ICC {
			out = append(out, e.host.Store.Lookup(l.Network, name)...)
		}
	}
	return out
}

func (e *Endpoint) reverse(a netip.Addr) []string {
	for _, l := range e.st.Leases {
		if l.ICC && l.contains(a) {
			return e.host.Store.Reverse(l.Network, a)
		}
	}
	return nil
}

// own says whether an address is of one of the container's networks.
func (e *Endpoint) own(a netip.Addr) bool {
	return slices.ContainsFunc(e.st.Leases, func(l Lease) bool { return l.contains(a) })
}

func (l Lease) contains(a netip.Addr) bool {
	return slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Contains(a) })
}

// resolveEgress turns the egress list into addresses: at once for those it
// names, and again and again for names.
func (e *Endpoint) resolveEgress(ctx context.Context) error {
	if e.st.Egress.Mode != spec.EgressList {
		return nil
	}
	var names []string
	for _, r := range e.st.Egress.Allow {
		if r.Name != "" && !slices.Contains(names, r.Name) {
			names = append(names, r.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	e.names = &resolver.Names{
		List: names, Upstream: e.st.Upstream, IPv6: e.hasIPv6(),
		Allowed: e.mayAnswer,
		Update: func(name string, addrs []netip.Addr, ttl time.Duration) {
			_ = e.allow(name, addrs, ttl)
		},
		Warn: e.notice,
	}
	return e.names.Start(ctx)
}

func (e *Endpoint) hasIPv6() bool {
	return slices.ContainsFunc(e.Addresses(), netip.Addr.Is6)
}

// mayAnswer says whether an address that a name has may be connected to: a
// name server outside has no say over what is near (DNS rebinding).
func (e *Endpoint) mayAnswer(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsLinkLocalUnicast() && !netfilter.Blocked(a) && !e.own(a)
}

// permit lets an answer of the resolver through to the container, once its
// addresses may be connected to.
func (e *Endpoint) permit(name string, addrs []netip.Addr) bool {
	if e.names == nil || !slices.Contains(e.names.List, name) {
		e.unlisted.add(name)
		return false
	}
	for _, a := range addrs {
		if !e.mayAnswer(a) {
			return false
		}
	}
	return len(addrs) == 0 || e.allow(name, addrs, answerTTL) == nil
}

// answerTTL is how long the addresses of an answer may be connected to,
// unless the name has them still when it is resolved again.
const answerTTL = 10 * time.Minute

// allow enters addresses of a listed name into the table.
func (e *Endpoint) allow(name string, addrs []netip.Addr, ttl time.Duration) error {
	var allow []netfilter.Allow
	for _, r := range e.st.Egress.Allow {
		if r.Name != name {
			continue
		}
		for _, a := range addrs {
			allow = append(allow, netfilter.Allow{
				To: netip.PrefixFrom(a, a.BitLen()), Proto: protocol(r.Ports.Proto),
				First: r.Ports.First, Last: r.Ports.Last, For: ttl,
			})
		}
	}
	return e.host.locked(func() error { return e.host.Table.Permit(e.Addresses(), allow) })
}

// allowed are the entries of an egress list that are addresses.
func allowed(g spec.Egress) []netfilter.Allow {
	var out []netfilter.Allow
	for _, r := range g.Allow {
		if r.Name == "" {
			out = append(out, netfilter.Allow{To: r.Prefix, Proto: protocol(r.Ports.Proto), First: r.Ports.First, Last: r.Ports.Last})
		}
	}
	return out
}
