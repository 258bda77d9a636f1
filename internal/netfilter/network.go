package netfilter

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// Network is a network as the table knows it.
type Network struct {
	Bridge   string         // name of its bridge, up to 15 bytes
	Subnets  []netip.Prefix // of its containers; disjoint from those of all others
	Internal bool           // no way out, and no published ports
	ICC      bool           // its containers reach each other
}

func (n Network) elements() ([]element, error) {
	if n.Bridge == "" || len(n.Bridge) >= unix.IFNAMSIZ {
		return nil, fail.New(fail.Internal, "%.40q is no name of a bridge", n.Bridge)
	}
	name := ifname(n.Bridge)
	out := []element{{set: setBridges, key: name}}
	if n.Internal {
		out = append(out, element{set: setInternal, key: name})
	}
	if n.ICC {
		out = append(out, element{set: setICC, key: append(ifname(n.Bridge), name...)})
		for _, p := range n.Subnets {
			out = append(out, n.members(p)...)
		}
	}
	if !n.Internal {
		for _, p := range n.Subnets {
			out = append(out, rangeOf(setSubnets+digit(p.Addr()), p)...)
		}
	}
	return out, nil
}

// members are a subnet's addresses but for the first of a host, which is this
// host's own.
func (n Network) members(p netip.Prefix) []element {
	base := p.Masked().Addr()
	span := func(first, last netip.Addr) element {
		return element{
			set: setMembers + digit(base),
			key: append(ifname(n.Bridge), first.AsSlice()...), last: append(ifname(n.Bridge), last.AsSlice()...),
		}
	}
	return []element{span(base, base), span(base.Next().Next(), lastOf(p))}
}

// AddNetwork enters a network. It does nothing if the network is there.
func (t Table) AddNetwork(n Network) error {
	return t.with("add the network "+n.Bridge, func(c *conn) error {
		want, have, err := t.networkElements(c, n)
		if err != nil {
			return err
		}
		var missing []element
		for i, e := range want {
			if !have[i] {
				missing = append(missing, e)
			}
		}
		var b batch
		t.addElements(&b, missing)
		return c.commit(&b)
	})
}

// RemoveNetwork takes a network out. It is nil if the network, or the table,
// is not there.
func (t Table) RemoveNetwork(n Network) error {
	return t.with("remove the network "+n.Bridge, func(c *conn) error {
		want, have, err := t.networkElements(c, n)
		if err != nil {
			return err
		}
		var there []element
		for i, e := range want {
			if have[i] {
				there = append(there, e)
			}
		}
		var b batch
		t.deleteElements(&b, there)
		return c.commit(&b)
	})
}

// networkElements are the elements of a network, and which of them the table
// has. The end of a range is there if its beginning is.
func (t Table) networkElements(c *conn, n Network) (want []element, have []bool, err error) {
	if want, err = n.elements(); err != nil {
		return nil, nil, err
	}
	var begins []element
	for _, e := range want {
		if !e.end {
			begins = append(begins, e)
		}
	}
	got, err := t.find(c, begins)
	if err != nil {
		return nil, nil, err
	}
	have = make([]bool, len(want))
	at := 0
	for i, e := range want {
		if e.end {
			have[i] = have[i-1]
			continue
		}
		have[i] = got[at] != nil && got[at].is(e)
		at++
	}
	return want, have, nil
}
