package netfilter

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// element is an element of a set of the table.
type element struct {
	set  string
	key  []byte
	last []byte // in a set of ranges of a concatenation: the range's other end
	data []byte // of a map
	end  bool   // in a set of ranges: one past the end of the range before it
	for_ time.Duration
}

func (e element) is(o element) bool {
	return e.set == o.set && e.end == o.end && bytes.Equal(e.key, o.key) && bytes.Equal(e.last, o.last)
}

// fields makes a key: each field padded to a register.
func fields(fs ...any) []byte {
	var out []byte
	for _, f := range fs {
		switch f := f.(type) {
		case uint8:
			out = append(out, f)
		case uint16:
			out = binary.BigEndian.AppendUint16(out, f)
		case uint32: // a class, which is in the kernel's own byte order
			out = binary.NativeEndian.AppendUint32(out, f)
		case net.HardwareAddr:
			out = append(out, f...)
		case netip.Addr:
			out = append(out, f.AsSlice()...)
		}
		for len(out)%4 != 0 {
			out = append(out, 0)
		}
	}
	return out
}

// append writes the element as a netlink attribute. It does without an
// encoder: five hundred published ports are two thousand elements.
func (e element) append(b []byte) []byte {
	value := func(b []byte, kind uint16, v []byte) []byte {
		at := len(b)
		b = attribute(b, kind|unix.NLA_F_NESTED, nil)
		b = attribute(b, unix.NFTA_DATA_VALUE, v)
		return ended(b, at)
	}
	at := len(b)
	b = attribute(b, unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, nil)
	if e.end {
		b = attribute(b, unix.NFTA_SET_ELEM_FLAGS, binary.BigEndian.AppendUint32(nil, unix.NFT_SET_ELEM_INTERVAL_END))
	}
	b = value(b, unix.NFTA_SET_ELEM_KEY, e.key)
	if e.last != nil {
		b = value(b, setElemKeyEnd, e.last)
	}
	if e.data != nil {
		b = value(b, unix.NFTA_SET_ELEM_DATA, e.data)
	}
	if e.for_ > 0 {
		ms := uint64(max(e.for_.Milliseconds(), 1))
		b = attribute(b, unix.NFTA_SET_ELEM_TIMEOUT, binary.BigEndian.AppendUint64(nil, ms))
	}
	return ended(b, at)
}

// attribute appends a netlink attribute, padded to four bytes.
func attribute(b []byte, kind uint16, v []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofNlAttr+len(v)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, v...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// ended sets the length of the attribute that begins at a place and holds all
// that was appended since.
func ended(b []byte, at int) []byte {
	binary.NativeEndian.PutUint16(b[at:], uint16(len(b)-at))
	return b
}

const setElemKeyEnd = 10 // NFTA_SET_ELEM_KEY_END

func (t Table) elementList(ae *attrs, set string, es []element) {
	ae.String(unix.NFTA_SET_ELEM_LIST_TABLE, t.Name)
	ae.String(unix.NFTA_SET_ELEM_LIST_SET, set)
	var b []byte
	for _, e := range es {
		b = e.append(b)
	}
	ae.Bytes(unix.NFTA_SET_ELEM_LIST_ELEMENTS|unix.NLA_F_NESTED, b)
}

// bySet calls f for each run of elements of one set that fits an attribute,
// whose length has 16 bits.
func bySet(es []element, f func(set string, es []element)) {
	const most = 400
	for len(es) > 0 {
		n := 1
		for n < len(es) && n < most && es[n].set == es[0].set {
			n++
		}
		f(es[0].set, es[:n])
		es = es[n:]
	}
}

func (t Table) addElements(b *batch, es []element) {
	bySet(es, func(set string, es []element) {
		b.add(unix.NFT_MSG_NEWSETELEM, netlink.Create, unix.NFPROTO_INET, func(ae *attrs) { t.elementList(ae, set, es) })
	})
}

func (t Table) deleteElements(b *batch, es []element) {
	bySet(es, func(set string, es []element) {
		b.add(unix.NFT_MSG_DELSETELEM, 0, unix.NFPROTO_INET, func(ae *attrs) { t.elementList(ae, set, es) })
	})
}

// find looks elements up, one by one, never a whole set. What the table does
// not have is nil. Of an interval set it gives the range that a key is in.
func (t Table) find(c *conn, es []element) ([]*element, error) {
	reqs := make([]netlink.Message, len(es))
	for i, e := range es {
		e.data, e.for_ = nil, 0
		m, err := message(unix.NFT_MSG_GETSETELEM, 0, unix.NFPROTO_INET, func(ae *attrs) {
			t.elementList(ae, e.set, []element{e})
		})
		if err != nil {
			return nil, err
		}
		reqs[i] = m
	}
	got, err := c.ask(reqs)
	if err != nil {
		return nil, err
	}
	out := make([]*element, len(es))
	for i, m := range got {
		if m == nil {
			continue
		}
		found, err := parseElements(es[i].set, m)
		if err != nil {
			return nil, err
		}
		if len(found) == 1 {
			out[i] = &found[0]
		}
	}
	return out, nil
}

// list gives all elements of a set.
func (t Table) list(c *conn, set string) ([]element, error) {
	got, err := c.dump(unix.NFT_MSG_GETSETELEM, unix.NFPROTO_INET, func(ae *attrs) {
		ae.String(unix.NFTA_SET_ELEM_LIST_TABLE, t.Name)
		ae.String(unix.NFTA_SET_ELEM_LIST_SET, set)
	})
	if err != nil {
		return nil, err
	}
	var out []element
	for _, m := range got {
		es, err := parseElements(set, body(m))
		if err != nil {
			return nil, err
		}
		out = append(out, es...)
	}
	return out, nil
}

func parseElements(set string, b []byte) ([]element, error) {
	var out []element
	err := each(b, func(kind uint16, v []byte) error {
		if kind != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			return nil
		}
		return each(v, func(_ uint16, v []byte) error {
			e := element{set: set}
			err := e.parse(v)
			out = append(out, e)
			return err
		})
	})
	return out, err
}

func (e *element) parse(b []byte) error {
	return each(b, func(kind uint16, v []byte) error {
		switch kind {
		case unix.NFTA_SET_ELEM_KEY:
			return parseValue(v, &e.key)
		case setElemKeyEnd:
			return parseValue(v, &e.last)
		case unix.NFTA_SET_ELEM_DATA:
			return parseValue(v, &e.data)
		case unix.NFTA_SET_ELEM_FLAGS:
			e.end = number(v)&unix.NFT_SET_ELEM_INTERVAL_END != 0
		case unix.NFTA_SET_ELEM_EXPIRATION:
			// What is left, rather than what it was given.
			e.for_ = time.Duration(number(v)) * time.Millisecond
		}
		return nil
	})
}

func parseValue(b []byte, to *[]byte) error {
	return each(b, func(kind uint16, v []byte) error {
		if kind == unix.NFTA_DATA_VALUE {
			*to = bytes.Clone(v)
		}
		return nil
	})
}
