package netfilter

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	rtnl "github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Repair is a place in another's table where containers are let through.
type Repair struct {
	Family string // as nft(8) and iptables(8) say: ip, ip6, inet; or iptables-legacy, ip6tables-legacy
	Table  string
	Chain  string
}

func (r Repair) String() string { return r.Family + " " + r.Table + " " + r.Chain }

func familyName(f byte) string {
	switch f {
	case unix.NFPROTO_IPV4:
		return "ip"
	case unix.NFPROTO_IPV6:
		return "ip6"
	}
	return "inet"
}

// OpenForward lets through what is forwarded from and to a bridge of ours
// where another's table cuts it: by its policy, or by a rule that holds for
// everything on the link between the bridge and an interface of the default
// route. It puts a rule as late as it helps, so that all rules of the
// administrator's before it still count. In a chain where nothing is cut it
// changes nothing.
//
// It says what it changed, and in warnings what it could not.
func (t Table) OpenForward(bridge string) (made []Repair, warnings []string, err error) {
	links := t.links(bridge)
	err = t.with("open the forward chains of others", func(c *conn) error {
		chains, err := c.forwardChains()
		if err != nil {
			return err
		}
		for _, b := range chains {
			if b.family == unix.NFPROTO_INET && b.table == t.Name {
				continue
			}
			at, err := c.open(b, links, bridge)
			made = append(made, at...)
			if errors.Is(err, unix.EPERM) {
				// Tables with an owner (firewalld's) take no rules of others.
				warnings = append(warnings, fmt.Sprintf("%s table %s cuts off containers, and only its owner can change it; "+
					"if that is firewalld: firewall-cmd --zone=trusted --add-interface=%s", familyName(b.family), b.table, bridge))
				continue
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return made, warnings, err
	}
	legacy, told, err := t.legacyOpen(bridge, links)
	return append(made, legacy...), append(warnings, told...), err
}

// links are the ways of a container's packets: to and from anywhere, and to
// and from the interfaces of the default routes.
func (t Table) links(bridge string) []link {
	out := []link{{bridge, ""}, {"", bridge}}
	for _, name := range t.uplinks() {
		out = append(out, link{bridge, name}, link{name, bridge})
	}
	return out
}

// uplinks are the interfaces of the default routes. It asks the routing table
// for the way to an address that is on no network near; no packet is sent.
func (t Table) uplinks() (names []string) {
	var h *rtnl.Handle
	var err error
	if t.NetNS != 0 {
		h, err = rtnl.NewHandleAt(netns.NsHandle(t.NetNS), unix.NETLINK_ROUTE)
	} else {
		h, err = rtnl.NewHandle(unix.NETLINK_ROUTE)
	}
	if err != nil {
		return nil
	}
	defer h.Close()
	for _, far := range []net.IP{net.IPv4(1, 1, 1, 1), {0: 0x20, 15: 1}} {
		routes, err := h.RouteGet(far)
		if err != nil {
			continue
		}
		for _, r := range routes {
			l, err := h.LinkByIndex(r.LinkIndex)
			if err == nil && !slices.Contains(names, l.Attrs().Name) {
				names = append(names, l.Attrs().Name)
			}
		}
	}
	return names
}

// mostRules bounds the rules put into one base chain: two for each link.
const mostRules = 12

// open puts rules for the bridge into a base chain, or the chains it leads to,
// until no link is cut.
func (c *conn) open(b baseChain, links []link, bridge string) (made []Repair, err error) {
	for range mostRules {
		seen := map[string][]step{}
		steps := func(chain string) ([]step, error) {
			if s, ok := seen[chain]; ok {
				return s, nil
			}
			msgs, err := c.rules(b.family, b.table, chain)
			if err != nil {
				return nil, err
			}
			var out []step
			for _, m := range msgs {
				p, err := parseRule(m)
				if err != nil {
					return nil, err
				}
				out = append(out, p.step)
			}
			seen[chain] = out
			return out, nil
		}
		l, at, isCut, err := firstCut(links, steps, b.name, b.policyDrops)
		if err != nil || !isCut {
			return made, err
		}
		if err := c.letThrough(b, at, l.in == bridge, bridge); err != nil {
			return made, err
		}
		r := Repair{familyName(b.family), b.table, at.chain}
		if !slices.Contains(made, r) {
			made = append(made, r)
		}
	}
	return made, fmt.Errorf("%s table %s still cuts off %s after %d rules", familyName(b.family), b.table, bridge, mostRules)
}

func firstCut(links []link, steps func(string) ([]step, error), base string, policyDrops bool) (link, spot, bool, error) {
	for _, l := range links {
		w := walker{steps: steps, link: l}
		at, isCut, err := w.cut(base, policyDrops)
		if err != nil || isCut {
			return l, at, isCut, err
		}
	}
	return link{}, spot{}, false, nil
}

// letThrough puts a rule at a spot: what comes from the bridge, or goes to it,
// is accepted. It is what iptables makes of -i BRIDGE -j ACCEPT, so that
// iptables still understands its tables.
func (c *conn) letThrough(b baseChain, at spot, from bool, bridge string) error {
	key := expr.MetaKeyOIFNAME
	if from {
		key = expr.MetaKeyIIFNAME
	}
	r := when().meta(key, unix.NFT_REG_1).
		add(&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: []byte(bridge + "\x00")}, &expr.Counter{}).accept()
	tx := batch{err: r.err}
	flags := netlink.Create
	if at.before == 0 {
		flags |= netlink.Append
	}
	tx.add(unix.NFT_MSG_NEWRULE, flags, b.family, func(ae *attrs) {
		ae.String(unix.NFTA_RULE_TABLE, b.table)
		ae.String(unix.NFTA_RULE_CHAIN, at.chain)
		writeExprs(ae, r.exprs)
		if at.before != 0 {
			ae.Uint64(unix.NFTA_RULE_POSITION, at.before)
		}
		if b.family == unix.NFPROTO_INET { // never iptables'
			ae.Bytes(unix.NFTA_RULE_USERDATA, userdata.AppendString(nil, userdata.Type(userdata.TypeComment), "safe-run"))
		}
	})
	return c.commit(&tx)
}

// CloseForward takes out every rule that OpenForward put into others' tables
// for a bridge. It is nil if there is none.
func (t Table) CloseForward(bridge string) error {
	err := t.again("close the forward chains of others", func(c *conn, _ int) error {
		return c.ours(bridge, func(b baseChain, ps []parsed) error {
			var tx batch
			for _, p := range ps {
				tx.add(unix.NFT_MSG_DELRULE, 0, b.family, func(ae *attrs) {
					ae.String(unix.NFTA_RULE_TABLE, b.table)
					ae.String(unix.NFTA_RULE_CHAIN, p.of)
					ae.Uint64(unix.NFTA_RULE_HANDLE, p.handle)
				})
			}
			return c.commit(&tx)
		})
	})
	return errors.Join(err, t.legacyClose(bridge))
}

// Repairs gives the places where rules for a bridge are in others' tables.
func (t Table) Repairs(bridge string) (out []Repair, err error) {
	err = t.with("look at the forward chains of others", func(c *conn) error {
		return c.ours(bridge, func(b baseChain, ps []parsed) error {
			for _, p := range ps {
				r := Repair{familyName(b.family), b.table, p.of}
				if !slices.Contains(out, r) {
					out = append(out, r)
				}
			}
			return nil
		})
	})
	return out, err
}

// ours calls f for each table with a base chain on the forward hook, with the
// rules there are for the bridge.
func (c *conn) ours(bridge string, f func(baseChain, []parsed) error) error {
	chains, err := c.forwardChains()
	if err != nil {
		return err
	}
	type key struct {
		family byte
		table  string
	}
	seen := map[key]bool{}
	for _, b := range chains {
		k := key{b.family, b.table}
		if seen[k] {
			continue
		}
		seen[k] = true
		msgs, err := c.rules(b.family, b.table, "")
		if err != nil {
			return err
		}
		var found []parsed
		for _, m := range msgs {
			p, err := parseRule(m)
			if err != nil {
				return err
			}
			if p.opens(bridge) {
				found = append(found, p)
			}
		}
		if err := f(b, found); err != nil {
			return err
		}
	}
	return nil
}
