package netfilter

import (
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// layoutVersion is the version of what this file makes. A test knows the
// layout by its hash and fails when one changes without the other.
const layoutVersion = 2

// Set names. The digit is the version of IP.
const (
	setBridges  = "bridges"  // bridges of ours
	setInternal = "internal" // those of them that have no way out
	setICC      = "icc"      // bridge . bridge, where containers reach each other
	setMembers  = "members"  // bridge . addresses of containers that reach each other

	setSubnets   = "subnets"      // what is masqueraded
	setBlocked   = "blocked"      // what nobody may connect to
	setEndpoints = "endpoints"    // who may send: MAC . address
	mapPublish   = "publish"      // address . protocol . port : address . port
	mapAny       = "publish_any"  // protocol . port : address . port
	mapLoopback  = "publish_lo4"  // as publish, for 127.0.0.0/8
	setOwn       = "own"          // bridge . address . protocol . port: see chain own
	setOwnAny    = "own_any"      // bridge . protocol . port
	mapLimited   = "limited"      // address : number of its egress list
	setEgress    = "egress"       // list . address . protocol . port
	setRanges    = "egress_range" // the same with prefixes and ranges of ports
	setTimed     = "egress_timed" // the same with ranges of ports, for a time
)

// datatype is a type of nft(8): its number there, and its size in bytes.
type datatype struct{ magic, size uint32 }

// typeOf gives the types that keys and data are made of.
func typeOf(name string) datatype {
	switch name {
	case "addr4":
		return datatype{7, 4}
	case "addr6":
		return datatype{8, 16}
	case "mac":
		return datatype{9, 6}
	case "proto":
		return datatype{12, 1}
	case "port":
		return datatype{13, 2}
	case "class":
		return datatype{23, 4}
	default: // "ifname"
		return datatype{41, unix.IFNAMSIZ}
	}
}

// concat is the type of a concatenation, each field of it padded to a
// register.
func concat(names []string) (magic, size uint32) {
	for _, n := range names {
		t := typeOf(n)
		magic, size = magic<<6|t.magic, size+(t.size+3)&^3
	}
	if len(names) == 1 {
		size = typeOf(names[0]).size
	}
	return magic, size
}

// set is a set, or a map if it has data.
type set struct {
	name      string
	key, data []string
	interval  bool
	expires   bool
}

func sets() []set {
	out := []set{
		{name: setBridges, key: []string{"ifname"}},
		{name: setInternal, key: []string{"ifname"}},
		{name: setICC, key: []string{"ifname", "ifname"}},
		{name: mapLoopback, key: []string{"addr4", "proto", "port"}, data: []string{"addr4", "port"}},
	}
	for _, f := range families() {
		addr := "addr" + f.digit
		list := []string{"class", addr, "proto", "port"}
		out = append(out,
			set{name: setSubnets + f.digit, key: []string{addr}, interval: true},
			set{name: setMembers + f.digit, key: []string{"ifname", addr}, interval: true},
			set{name: setBlocked + f.digit, key: []string{addr}, interval: true},
			set{name: setEndpoints + f.digit, key: []string{"mac", addr}},
			set{name: mapPublish + f.digit, key: []string{addr, "proto", "port"}, data: []string{addr, "port"}},
			set{name: mapAny + f.digit, key: []string{"proto", "port"}, data: []string{addr, "port"}},
			set{name: setOwn + f.digit, key: []string{"ifname", addr, "proto", "port"}},
			set{name: setOwnAny + f.digit, key: []string{"ifname", "proto", "port"}},
			set{name: mapLimited + f.digit, key: []string{addr}, data: []string{"class"}},
			set{name: setEgress + f.digit, key: list, expires: true},
			set{name: setRanges + f.digit, key: list, interval: true},
			set{name: setTimed + f.digit, key: list, interval: true, expires: true})
	}
	return out
}

// chain is a chain; one without a hook is jumped to.
type chain struct {
	name     string
	kind     string
	hook     uint32
	priority int32
	rules    []*rule
}

func loopback4() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8) }

// chains are in the order they are made: before what jumps to them.
func chains() []chain {
	v4, v6 := families()[0], families()[1]
	loop6 := netip.PrefixFrom(netip.IPv6Loopback(), 128)
	linkLocal6 := netip.PrefixFrom(netip.MustParseAddr("fe80::"), 10)

	// A reset for a bridged packet (br_netfilter) goes out past the translation
	// back, from an address the client never asked for.
	refuse := chain{name: "refuse", rules: []*rule{
		when().dnatted().add(&expr.Reject{Type: rejectICMPX, Code: icmpxAdminProhibited}),
		when().l4(unix.IPPROTO_TCP).add(&expr.Reject{Type: rejectTCPReset}),
		when().add(&expr.Reject{Type: rejectICMPX, Code: icmpxAdminProhibited}),
	}}

	// What containers send is theirs, or it goes.
	sent := chain{name: "sent"}
	for _, p := range []struct {
		f family
		p netip.Prefix
	}{{v4, loopback4()}, {v6, loop6}} {
		sent.rules = append(sent.rules, p.f.loadDaddr(p.f.only(when()), reg16).within(p.p).drop())
	}
	for _, f := range families() {
		r := f.only(when()).meta(expr.MetaKeyIIFTYPE, reg16).equals(binaryUint16(unix.ARPHRD_ETHER))
		r.load(expr.PayloadBaseLLHeader, 6, 6, reg)
		sent.rules = append(sent.rules, f.loadSaddr(r, reg+2).in(setEndpoints+f.digit).accept())
	}
	// Neighbour discovery too: from link-local addresses, which containers have
	// not, it would fill the host's table of neighbours.
	sent.rules = append(sent.rules, when().drop())

	// A neighbour's packet to 127.0.0.0/8 gets here where an interface has
	// route_localnet; what is published there is for this host alone.
	raw := chain{name: "prerouting_raw", kind: "filter", hook: unix.NF_INET_PRE_ROUTING, priority: -300, rules: []*rule{
		when().iifIn(setBridges).to(sent.name),
		v4.loadDaddr(v4.only(when().meta(expr.MetaKeyIIFNAME, reg16).differs(ifname("lo"))), reg16).
			within(loopback4()).drop(),
	}}

	// The kernel forwards nothing for link-local or loopback addresses of IPv6:
	// connections to those go to the socket that holds the port.
	published := chain{name: "published", rules: []*rule{
		publishedAt(v4, mapPublish+"4").dnat(v4),
		publishedAny(v4).dnat(v4),
		publishedAt(v6, mapPublish+"6").dnat(v6),
		v6.loadDaddr(v6.only(when()), reg16).within(linkLocal6).back(),
		v6.loadDaddr(v6.only(when()), reg16).within(loop6).back(),
		publishedAny(v6).dnat(v6),
	}}
	// A connection to a port that a container on the same bridge publishes goes to
	// the socket that holds the port, as docker's go to its proxy: if bridged
	// packets pass here (br_netfilter) the kernel would send the translated ones on
	// from port to port of the bridge, which keeps containers apart.
	own := chain{name: "own"}
	for _, f := range families() {
		own.rules = append(own.rules, ownAt(f).accept(), ownAny(f).accept())
	}
	dnat := chain{name: "prerouting", kind: "nat", hook: unix.NF_INET_PRE_ROUTING, priority: -100, rules: []*rule{
		when().iifIn(setInternal).accept(),
		when().iifIn(setBridges).jump(own.name),
		when().local().jump(published.name),
	}}
	local := chain{name: "output", kind: "nat", hook: unix.NF_INET_LOCAL_OUT, priority: -100, rules: []*rule{
		publishedAt(v4, mapLoopback).dnat(v4),
		when().local().jump(published.name),
	}}

	snat := chain{name: "postrouting", kind: "nat", hook: unix.NF_INET_POST_ROUTING, priority: 100, rules: []*rule{
		v4.loadSaddr(v4.only(when().oifIn(setBridges)), reg16).within(loopback4()).masquerade(),
	}}
	for _, f := range families() {
		hairpin := when().oifIn(setBridges).dnatted()
		out := when().oifNotIn(setBridges)
		snat.rules = append(snat.rules,
			f.loadSaddr(f.only(hairpin), reg).in(setSubnets+f.digit).masquerade(),
			f.loadSaddr(f.only(out), reg).in(setSubnets+f.digit).masquerade())
	}

	cs := []chain{refuse, sent, raw, published, own, dnat, local, snat}
	for _, f := range families() {
		cs = append(cs, egress(f))
	}

	// Before any translation of addresses: what counts is what the container asks
	// for.
	asked := chain{name: "asked", rules: append(known(), neighbourDiscovery(v6.only(when())).accept())}
	for _, f := range families() {
		r := f.only(when()).meta(expr.MetaKeyIIFNAME, reg)
		asked.rules = append(asked.rules,
			f.loadDaddr(r, reg+unix.IFNAMSIZ/4).in(setMembers+f.digit).accept(),
			blockedAt(f),
			f.loadSaddr(f.only(when()), reg16).mapped(mapLimited+f.digit).setPriority().jump("egress"+f.digit))
	}
	mangle := chain{name: "prerouting_mangle", kind: "filter", hook: unix.NF_INET_PRE_ROUTING, priority: -150, rules: []*rule{
		when().iifIn(setBridges).to(asked.name),
	}}

	from := chain{name: "from_ours", rules: append(known(),
		// An invalid packet would leave without its address translated.
		when().state(expr.CtStateBitINVALID).drop(),
		when().linkIn(setICC).accept())}
	for _, f := range families() {
		// Another table may have led there from elsewhere.
		from.rules = append(from.rules, blockedAt(f))
	}
	from.rules = append(from.rules,
		when().iifIn(setInternal).to(refuse.name),
		when().dnatted().accept(),
		when().oifIn(setBridges).to(refuse.name),
		when().accept())

	to := chain{name: "to_ours", rules: append(known(),
		when().oifIn(setInternal).drop(),
		when().dnatted().accept(),
		when().drop())}

	forward := chain{name: "forward", kind: "filter", hook: unix.NF_INET_FORWARD, rules: []*rule{
		when().iifIn(setBridges).to(from.name),
		when().oifIn(setBridges).to(to.name),
	}}

	reach := chain{name: "reach", rules: append(known(),
		neighbourDiscovery(v6.only(when())).accept(),
		when().jump(own.name),
		when().to(refuse.name))}
	input := chain{name: "input", kind: "filter", hook: unix.NF_INET_LOCAL_IN, rules: []*rule{
		when().iifIn(setBridges).to(reach.name),
	}}
	return append(cs, asked, mangle, from, to, forward, reach, input)
}

func binaryUint16(v uint16) []byte { return native32(uint32(v))[:2] }

// known lets through what belongs to a connection that was let through, and
// errors about it. Not all that is related: a helper's expectation would open
// ports nobody asked for.
func known() []*rule {
	return []*rule{
		when().state(expr.CtStateBitESTABLISHED).accept(),
		when().v4().l4(unix.IPPROTO_ICMP).state(expr.CtStateBitRELATED).accept(),
		when().v6().l4(unix.IPPROTO_ICMPV6).state(expr.CtStateBitRELATED).accept(),
	}
}

// neighbourDiscovery holds for neighbour solicitations and advertisements
// that no router passed on (RFC 4861, 7.1).
func neighbourDiscovery(r *rule) *rule {
	const solicitation, advertisement = 135, 136
	r.l4(unix.IPPROTO_ICMPV6).load(expr.PayloadBaseNetworkHeader, 7, 1, reg16).equals([]byte{255})
	return r.load(expr.PayloadBaseTransportHeader, 0, 1, reg16).
		add(&expr.Cmp{Op: expr.CmpOpGte, Register: reg16, Data: []byte{solicitation}}).
		add(&expr.Cmp{Op: expr.CmpOpLte, Register: reg16, Data: []byte{advertisement}})
}

// port loads the destination port, which all protocols with ports have in the
// same place.
func (r *rule) port(to uint32) *rule { return r.load(expr.PayloadBaseTransportHeader, 2, 2, to) }

func publishedAt(f family, m string) *rule {
	r := f.loadDaddr(f.only(when()), reg)
	return r.meta(expr.MetaKeyL4PROTO, reg+f.size/4).port(reg + f.size/4 + 1).mapped(m)
}

func publishedAny(f family) *rule {
	return f.only(when()).meta(expr.MetaKeyL4PROTO, reg).port(reg + 1).mapped(mapAny + f.digit)
}

func ownAt(f family) *rule {
	const next = reg + unix.IFNAMSIZ/4
	r := f.loadDaddr(f.only(when()).meta(expr.MetaKeyIIFNAME, reg), next)
	return r.meta(expr.MetaKeyL4PROTO, next+f.size/4).port(next + f.size/4 + 1).in(setOwn + f.digit)
}

func ownAny(f family) *rule {
	const next = reg + unix.IFNAMSIZ/4
	return f.only(when()).meta(expr.MetaKeyIIFNAME, reg).meta(expr.MetaKeyL4PROTO, next).port(next + 1).in(setOwnAny + f.digit)
}

func blockedAt(f family) *rule {
	return f.loadDaddr(f.only(when()), reg16).in(setBlocked + f.digit).to("refuse")
}

// egress goes back for what the sender's list has and refuses the rest. A list
// has a number of its own, not its container's address: another container
// that gets the address later must not get what is left of the list. The
// number is carried in the packet's priority, since nft(8) cannot show a rule
// that has the result of a map in a concatenation.
func egress(f family) chain {
	c := chain{name: "egress" + f.digit}
	for _, set := range []string{setEgress, setRanges, setTimed} {
		r := f.only(when()).meta(expr.MetaKeyPRIORITY, reg)
		f.loadDaddr(r, reg+1).meta(expr.MetaKeyL4PROTO, reg+1+f.size/4).port(reg + 2 + f.size/4).in(set + f.digit)
		r.add(&expr.Immediate{Register: reg16, Data: native32(0)})
		c.rules = append(c.rules, r.setPriority().back())
	}
	c.rules = append(c.rules, when().to("refuse"))
	return c
}

// setPriority gives the packet what is loaded as its priority.
func (r *rule) setPriority() *rule {
	return r.add(&expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: reg16})
}
