package netfilter

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// Endpoint is a container's place on one network.
type Endpoint struct {
	Bridge      string // of the network
	MAC         net.HardwareAddr
	Addrs       []netip.Addr // it may send from these alone
	Publish     []Publish
	LimitEgress bool    // it may connect only to what Allow says, and what Permit adds
	Allow       []Allow // with LimitEgress
}

// Publish is a published port. The caller holds a socket on it, which is what
// containers on the same bridge connect to. A port on an IPv6 loopback or link-local
// address is left to the socket that holds it: the kernel forwards nothing for
// those.
type Publish struct {
	Host     netip.Addr // 0.0.0.0 or :: are all addresses of that family
	HostPort uint16
	Proto    uint8 // IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP
	To       netip.AddrPort
}

// Allow is a destination outside the container's networks, as the container
// names it: before any translation on the host.
type Allow struct {
	To          netip.Prefix
	Proto       uint8
	First, Last uint16        // ports, inclusive
	For         time.Duration // 0: for good. Only for single addresses otherwise
}

// attempts bounds how often a transaction is made again that failed because
// an element expired between the look at it and its removal.
const attempts = 5

// Add enters a container. What a dead one left under the same keys is
// replaced. It costs one look and one transaction, whatever the table holds.
func (t Table) Add(e Endpoint) error {
	add, beside, err := e.elements()
	if err != nil {
		return err
	}
	add = bySets(add, beside)
	limits, err := e.limits()
	if err != nil {
		return err
	}
	return t.again("add a container", func(c *conn, try int) error {
		var b batch
		// Only limits of a dead container are here.
		stale, err := t.limitsOf(c, e)
		if err != nil {
			return err
		}
		if try > 0 {
			// A map refuses other data under a key it has.
			old, err := t.find(c, add)
			if err != nil {
				return err
			}
			for i, o := range old {
				if o != nil && !bytes.Equal(o.data, add[i].data) {
					stale = append(stale, *o)
				}
			}
		}
		t.deleteElements(&b, stale)
		t.addElements(&b, add)
		t.addElements(&b, limits)
		return c.commit(&b)
	})
}

// again runs f, with a new socket each time, until it does not fail for what
// another try can mend.
func (t Table) again(doing string, f func(c *conn, try int) error) (err error) {
	for try := range attempts {
		var inner error
		err = t.with(doing, func(c *conn) error {
			inner = f(c, try)
			return inner
		})
		retry := errors.Is(inner, unix.ENOENT) || errors.Is(inner, unix.EBUSY) || errors.Is(inner, unix.EEXIST)
		if err == nil || !retry {
			return err
		}
	}
	return err
}

// RemoveEndpoint takes a container out. What is not there, or belongs to
// another by now, is left alone. What Permit added expires by itself.
func (t Table) RemoveEndpoint(e Endpoint) error {
	mine, beside, err := e.elements()
	if err != nil {
		return err
	}
	return t.again("remove a container", func(c *conn, try int) error {
		got, err := t.find(c, mine)
		if err != nil {
			return err
		}
		var gone, too []element
		owns := false
		for i, g := range got {
			if g == nil || !bytes.Equal(g.data, mine[i].data) {
				continue
			}
			gone = append(gone, mine[i])
			if beside[i].set != "" {
				too = append(too, beside[i])
			}
			owns = owns || mine[i].data == nil
		}
		if try > 0 { // one of those is missing
			there, err := t.find(c, too)
			if err != nil {
				return err
			}
			at := 0
			too = slices.DeleteFunc(too, func(element) bool { at++; return there[at-1] == nil })
		}
		// Limits have no owner written on them; the sender's entry has.
		if owns {
			limits, err := t.limitsOf(c, e)
			if err != nil {
				return err
			}
			gone = append(gone, limits...)
		}
		var b batch
		t.deleteElements(&b, bySets(gone, too))
		return c.commit(&b)
	})
}

// bySets gives the elements of each set together.
func bySets(a, b []element) []element {
	out := slices.DeleteFunc(slices.Concat(a, b), func(e element) bool { return e.set == "" })
	slices.SortStableFunc(out, func(a, b element) int { return strings.Compare(a.set, b.set) })
	return out
}

// Verify says in words which of a container's elements the table does not
// have. It looks at the limits' presence, not at the list's entries.
func (t Table) Verify(e Endpoint) (missing []string, err error) {
	mine, beside, err := e.elements()
	if err != nil {
		return nil, err
	}
	want := bySets(mine, beside)
	if e.LimitEgress {
		for _, a := range e.Addrs {
			want = append(want, element{set: mapLimited + digit(a), key: a.AsSlice()})
		}
	}
	err = t.with("look at a container", func(c *conn) error {
		got, err := t.find(c, want)
		for i, g := range got {
			if g == nil || want[i].data != nil && !bytes.Equal(g.data, want[i].data) {
				missing = append(missing, fmt.Sprintf("%s: %x", want[i].set, want[i].key))
			}
		}
		return err
	})
	return missing, err
}

// elements are a container's senders and published ports, and for each what
// stands beside it in another set, or an element of no set.
func (e Endpoint) elements() (mine, beside []element, err error) {
	if len(e.MAC) != 6 || e.Bridge == "" || len(e.Bridge) >= unix.IFNAMSIZ {
		return nil, nil, fail.New(fail.Internal, "no hardware address (%d bytes) or name of a bridge: %.40q", len(e.MAC), e.Bridge)
	}
	for _, a := range e.Addrs {
		a = a.Unmap().WithZone("")
		mine, beside = append(mine, element{set: setEndpoints + digit(a), key: fields(e.MAC, a)}), append(beside, element{})
	}
	for _, p := range e.Publish {
		host, to := p.Host.Unmap().WithZone(""), p.To.Addr().Unmap()
		if !host.IsValid() || !to.IsValid() || host.Is4() != to.Is4() || p.HostPort == 0 || p.To.Port() == 0 {
			return nil, nil, fail.New(fail.Internal, "port %d cannot be published at %s for %s", p.HostPort, p.Host, p.To)
		}
		el := element{key: fields(host, p.Proto, p.HostPort), data: fields(to, p.To.Port())}
		own := element{set: setOwn + digit(host)}
		switch {
		case host.IsUnspecified():
			el.set, el.key = mapAny+digit(host), fields(p.Proto, p.HostPort)
			own.set = setOwnAny + digit(host)
		case host.Is6() && (host.IsLoopback() || host.IsLinkLocalUnicast()):
			continue
		case host.IsLoopback():
			el.set, own.set = mapLoopback, ""
		default:
			el.set = mapPublish + digit(host)
		}
		own.key = append(ifname(e.Bridge), el.key...)
		mine, beside = append(mine, el), append(beside, own)
	}
	return mine, beside, nil
}

// limits are the elements of a container's egress list, under a new number.
func (e Endpoint) limits() ([]element, error) {
	if !e.LimitEgress {
		return nil, nil
	}
	var number [4]byte
	for binary.NativeEndian.Uint32(number[:]) == 0 {
		_, _ = rand.Read(number[:])
	}
	list := binary.NativeEndian.Uint32(number[:])
	out, err := listed(list, e.Allow)
	for _, a := range e.Addrs {
		a = a.Unmap().WithZone("")
		out = append(out, element{set: mapLimited + digit(a), key: a.AsSlice(), data: fields(list)})
	}
	return out, err
}

// limitsOf are the elements there are of the egress list of the container that
// has e's addresses, as far as e knows the list.
func (t Table) limitsOf(c *conn, e Endpoint) ([]element, error) {
	lists, err := t.lists(c, e.Addrs)
	if err != nil {
		return nil, err
	}
	var out []element
	var seen []uint32
	for _, l := range lists {
		if l == nil {
			continue
		}
		out = append(out, *l)
		list := binary.NativeEndian.Uint32(l.data)
		if slices.Contains(seen, list) {
			continue
		}
		seen = append(seen, list)
		es, err := listed(list, e.Allow)
		if err != nil {
			return nil, err
		}
		got, err := t.find(c, es)
		if err != nil {
			return nil, err
		}
		for i, g := range got {
			if g != nil && g.is(es[i]) {
				out = append(out, es[i])
			}
		}
	}
	return out, nil
}

// lists gives the number of each address's egress list; nil where there is
// none.
func (t Table) lists(c *conn, addrs []netip.Addr) ([]*element, error) {
	var es []element
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		es = append(es, element{set: mapLimited + digit(a), key: a.AsSlice()})
	}
	got, err := t.find(c, es)
	for i, g := range got {
		if g != nil && len(g.data) != 4 {
			got[i] = nil
		}
	}
	return got, err
}
