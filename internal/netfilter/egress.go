package netfilter

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
)

// span is a range of ports.
type span struct{ first, last uint16 }

// merge gives the same ports in ranges that neither overlap nor touch.
func merge(in []span) []span {
	in = slices.Clone(in)
	slices.SortFunc(in, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	var out []span
	for _, s := range in {
		if n := len(out); n > 0 && int(s.first) <= int(out[n-1].last)+1 {
			out[n-1].last = max(out[n-1].last, s.last)
			continue
		}
		out = append(out, s)
	}
	return out
}

// without gives the ports of a that b does not have. Both are merged.
func without(a, b []span) []span {
	var out []span
	for _, s := range a {
		for _, x := range b {
			if x.last < s.first || x.first > s.last {
				continue
			}
			if x.first > s.first {
				out = append(out, span{s.first, x.first - 1})
			}
			if x.last >= s.last {
				s.first, s.last = 1, 0
				break
			}
			s.first = x.last + 1
		}
		if s.first <= s.last {
			out = append(out, s)
		}
	}
	return out
}

type target struct {
	to    netip.Prefix
	proto uint8
}

// disjoint gives the same destinations with no two overlapping: the kernel
// takes no two ranges that overlap. Prefixes are nested or apart; one inside
// another loses the ports the other has.
func disjoint(in []Allow) ([]Allow, error) {
	ports := map[target][]span{}
	for _, a := range in {
		if !a.To.IsValid() || a.First > a.Last || a.Proto == 0 {
			return nil, fail.New(fail.Internal, "no destination: %s ports %d to %d of protocol %d", a.To, a.First, a.Last, a.Proto)
		}
		t := target{a.To.Masked(), a.Proto}
		ports[t] = append(ports[t], span{a.First, a.Last})
	}
	var out []Allow
	for t, own := range ports {
		var outer []span
		for bits := range t.to.Bits() {
			p, _ := t.to.Addr().Prefix(bits)
			outer = append(outer, ports[target{p, t.proto}]...)
		}
		for _, s := range without(merge(own), merge(outer)) {
			out = append(out, Allow{To: t.to, Proto: t.proto, First: s.first, Last: s.last})
		}
	}
	slices.SortFunc(out, func(a, b Allow) int {
		return cmp.Or(a.To.Addr().Compare(b.To.Addr()), a.To.Bits()-b.To.Bits(),
			cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.First, b.First))
	})
	return out, nil
}

// listed are the elements of the destinations of a list that stay for good.
func listed(list uint32, allow []Allow) ([]element, error) {
	allow, err := disjoint(slices.DeleteFunc(slices.Clone(allow), func(a Allow) bool { return a.For > 0 }))
	if err != nil {
		return nil, err
	}
	var out []element
	for _, a := range allow {
		if a.To.IsSingleIP() && a.First == a.Last {
			out = append(out, element{set: setEgress + digit(a.To.Addr()), key: fields(list, a.To.Addr(), a.Proto, a.First)})
			continue
		}
		out = append(out, element{
			set:  setRanges + digit(a.To.Addr()),
			key:  fields(list, a.To.Addr(), a.Proto, a.First),
			last: fields(list, lastOf(a.To), a.Proto, a.Last),
		})
	}
	slices.SortStableFunc(out, func(a, b element) int { return cmp.Compare(a.set, b.set) })
	return out, nil
}

// Permit lets the container that has these addresses connect to further
// destinations: single addresses, for a time. Those it may connect to already
// get the longer of both times. It does nothing for a container whose egress
// is not limited, or that is gone.
func (t Table) Permit(from []netip.Addr, allow []Allow) error {
	for _, a := range allow {
		if !a.To.IsValid() || !a.To.IsSingleIP() || a.For <= 0 || a.First > a.Last || a.Proto == 0 {
			return fail.New(fail.Internal, "no destination for a time: %s ports %d to %d of protocol %d for %s", a.To, a.First, a.Last, a.Proto, a.For)
		}
	}
	return t.again("permit a destination", func(c *conn, try int) error {
		lists, err := t.lists(c, from)
		if err != nil {
			return err
		}
		var es []element
		for i, l := range lists {
			if l == nil {
				continue
			}
			for _, a := range allow {
				if a.To.Addr().Is4() == from[i].Unmap().Is4() {
					es = append(es, timed(binary.NativeEndian.Uint32(l.data), a))
				}
			}
		}
		gone, add, err := t.refresh(c, es, try > 0)
		if err != nil {
			return err
		}
		var b batch
		t.deleteElements(&b, gone)
		t.addElements(&b, add)
		return c.commit(&b)
	})
}

func timed(list uint32, a Allow) element {
	e := element{
		set:  setEgress + digit(a.To.Addr()),
		key:  fields(list, a.To.Addr(), a.Proto, a.First),
		for_: a.For,
	}
	if a.First != a.Last {
		e.set = setTimed + digit(a.To.Addr())
		e.last = fields(list, a.To.Addr(), a.Proto, a.Last)
	}
	return e
}

// refresh gives what has to be deleted and added for the destinations es to be
// in their sets for at least their times. The kernel extends neither a time
// nor a range: each is replaced, in one transaction. It looks at the ends of
// each range, or at whole sets: the kernel lets a range be put around others,
// which only a look at all of them shows when it refuses the next.
func (t Table) refresh(c *conn, es []element, whole bool) (gone, add []element, err error) {
	es = unite(es)
	look := t.ends
	if whole {
		look = t.overlapping
	}
	old, err := look(c, es)
	if err != nil {
		return nil, nil, err
	}
	for i, e := range es {
		// What is there for good, or long enough, stays.
		covered := slices.ContainsFunc(old[i], func(o element) bool {
			return bytes.Compare(o.key, e.key) <= 0 && bytes.Compare(o.last, e.last) >= 0 && (o.for_ == 0 || o.for_ >= e.for_)
		})
		if covered {
			continue
		}
		for _, o := range old[i] {
			if !slices.ContainsFunc(gone, o.is) {
				gone = append(gone, element{set: o.set, key: o.key, last: o.last})
			}
			e = join(e, o)
		}
		add = append(add, e)
	}
	// What was joined with the same old range overlaps now.
	return gone, unite(add), nil
}

// ends gives the elements that each of es begins or ends in.
func (t Table) ends(c *conn, es []element) ([][]element, error) {
	look := make([]element, 0, 2*len(es))
	for _, e := range es {
		begin, end := e, e
		if e.last != nil {
			begin.last, end.key = e.key, e.last
		}
		look = append(look, begin, end)
	}
	got, err := t.find(c, look)
	out := make([][]element, len(es))
	for i, o := range got {
		if o != nil {
			out[i/2] = append(out[i/2], *o)
		}
	}
	return out, err
}

// overlapping gives the elements that each of es has something in common with,
// or with those.
func (t Table) overlapping(c *conn, es []element) ([][]element, error) {
	out := make([][]element, len(es))
	for i, e := range es {
		if e.last == nil {
			got, err := t.ends(c, es[i:i+1])
			if err != nil {
				return nil, err
			}
			out[i] = got[0]
			continue
		}
		all, err := t.list(c, e.set)
		if err != nil {
			return nil, err
		}
		for grown := true; grown; {
			grown = false
			all = slices.DeleteFunc(all, func(o element) bool {
				common := bytes.Compare(o.key, e.last) <= 0 && bytes.Compare(o.last, e.key) >= 0
				if common {
					out[i], e, grown = append(out[i], o), join(e, o), true
				}
				return common
			})
		}
	}
	return out, nil
}

// join is what two ranges of ports that overlap have together, for the longer
// of their times.
func join(a, b element) element {
	if a.last != nil {
		if bytes.Compare(b.key, a.key) < 0 {
			a.key = b.key
		}
		if bytes.Compare(b.last, a.last) > 0 {
			a.last = b.last
		}
	}
	a.for_ = max(a.for_, b.for_, time.Millisecond)
	return a
}

// unite joins what overlaps. The keys of two ranges differ in their ports
// alone if they overlap, and ports are last in a key.
func unite(in []element) []element {
	in = slices.Clone(in)
	slices.SortFunc(in, func(a, b element) int { return cmp.Or(cmp.Compare(a.set, b.set), bytes.Compare(a.key, b.key)) })
	var out []element
	for _, e := range in {
		if n := len(out); n > 0 && out[n-1].set == e.set {
			o := out[n-1]
			if bytes.Equal(o.key, e.key) || o.last != nil && bytes.Compare(e.key, o.last) <= 0 {
				out[n-1] = join(o, e)
				continue
			}
		}
		out = append(out, e)
	}
	return out
}
