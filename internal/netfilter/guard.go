package netfilter

import (
	"slices"

	"golang.org/x/sys/unix"
)

// keepApart makes the guard, in place of one there may be: packets from one of
// the host's interfaces to another are dropped, for the versions of IP whose
// forwarding safe-run turned on. Interfaces made later by others are not its
// business.
func (t Table) keepApart(s forwardingState) error {
	const guarded, same = "guarded", "same"
	var names, pairs []element
	for _, name := range s.Interfaces {
		names = append(names, element{set: guarded, key: ifname(name)})
	}
	for _, name := range s.Bridges {
		pairs = append(pairs, element{set: same, key: slices.Concat(ifname(name), ifname(name))})
	}
	c := chain{name: "forward", kind: "filter", hook: unix.NF_INET_FORWARD, priority: -1, rules: []*rule{
		// What a bridge passes from port to port comes by here too (br_netfilter).
		when().linkIn(same).accept(),
	}}
	for _, v := range []struct {
		f  family
		on bool
	}{{families()[0], s.V4}, {families()[1], s.V6}} {
		if v.on {
			c.rules = append(c.rules, v.f.only(when()).iifIn(guarded).oifIn(guarded).drop())
		}
	}
	return t.with(doingMake, func(nl *conn) error {
		var b batch
		// Made first, so that there is one to remove.
		t.createTable(&b)
		t.remove(&b)
		t.createTable(&b)
		t.createSet(&b, set{name: guarded, key: []string{"ifname"}}, 1)
		t.createSet(&b, set{name: same, key: []string{"ifname", "ifname"}}, 2)
		t.createChain(&b, c)
		for _, r := range c.rules {
			t.createRule(&b, c.name, r)
		}
		t.addElements(&b, names)
		t.addElements(&b, pairs)
		return nl.commit(&b)
	})
}
