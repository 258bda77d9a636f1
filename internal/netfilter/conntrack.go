package netfilter

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// linux/netfilter/nfnetlink_conntrack.h
const (
	ctGet, ctDelete = 1, 2 // IPCTNL_MSG_CT_

	ctaTupleOrig, ctaTupleReply   = 1, 2 // CTA_
	ctaID, ctaZone, ctaFilter     = 12, 18, 25
	ctaTupleIP                    = 1    // CTA_TUPLE_IP
	ctaSrc4, ctaSrc6              = 1, 3 // CTA_IP_V4_SRC, CTA_IP_V6_SRC
	ctaFilterOrig, ctaFilterReply = 1, 2 // CTA_FILTER_ORIG_FLAGS, CTA_FILTER_REPLY_FLAGS

	ctFilterSrc = 1 // CTA_FILTER_FLAG(CTA_IP_SRC), nf_conntrack_netlink.c
)

// tracked is an entry of connection tracking, with attributes as the kernel
// wrote them.
type tracked struct {
	family       byte
	orig         []byte // its tuple, with the zone if it has one of its own
	id, zone     []byte
	source, dual netip.Addr // of the original direction and of replies
}

// Forget deletes what the kernel tracks of connections from and to addresses,
// and says how many there were: their next owner would be let into them. It is
// for when nobody has the addresses: what is tracked anew meanwhile may stay.
//
// The kernel picks the entries; before 5.8 it gives all that it has, which are
// passed over here one by one.
func (t Table) Forget(addrs []netip.Addr) (n int, err error) {
	want := make([]netip.Addr, 0, len(addrs))
	for _, a := range addrs {
		if !a.IsValid() {
			return 0, fail.New(fail.Internal, "connection tracking: not an address")
		}
		want = append(want, a.Unmap().WithZone(""))
	}
	if len(want) == 0 || t.NetNS == 0 && tracked0() {
		return 0, nil
	}
	n, err = t.forget(want)
	if err != nil && tracksNothing() {
		return n, nil
	}
	return n, untracked(err)
}

// tracked0 says that the kernel tracks no connection in the namespace of the
// calling thread. Picking entries walks its whole table.
func tracked0() bool {
	b, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
	return err == nil && strings.TrimSpace(string(b)) == "0"
}

// tracksNothing says that there is no connection tracking in the kernel.
func tracksNothing() bool {
	_, modules := os.Stat("/sys/module")
	_, err := os.Stat("/sys/module/nf_conntrack")
	return modules == nil && errors.Is(err, fs.ErrNotExist)
}

// untracked gives an error a kind and says what it means.
func untracked(err error) error {
	if err == nil {
		return nil
	}
	e := &fail.Error{Kind: fail.Internal, Msg: "connection tracking: entries of an address given back may remain", Err: err}
	switch {
	case errors.Is(err, unix.EPERM):
		e.Kind = fail.HostCannot
		return e.Hint("networks need root with CAP_NET_ADMIN in the host's network namespace")
	case errors.Is(err, unix.EBUSY):
		e.Kind = fail.HostCannot
		return e.Hint("this kernel does not delete connections that are in a flowtable; they end by their timeouts")
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPROTONOSUPPORT):
		e.Kind = fail.HostCannot
		return e.Hint("the kernel needs nf_conntrack_netlink (CONFIG_NF_CT_NETLINK)")
	}
	return e
}

func (t Table) forget(addrs []netip.Addr) (n int, err error) {
	list, err := dial(t.NetNS)
	if err != nil {
		return 0, err
	}
	defer list.close()
	// Deletions have a socket of their own: their answers are not mixed with
	// the listing.
	var del *conn
	defer func() {
		if del != nil {
			del.close()
		}
	}()
	remove := func(es []tracked) (err error) {
		if del == nil {
			if del, err = dial(t.NetNS); err != nil {
				return err
			}
		}
		k, err := del.untrack(es)
		n += k
		return errors.Join(err, list.wait())
	}
	var busy error
	for _, a := range addrs {
		for _, reply := range []bool{false, true} {
			err := list.eachTracked(a, reply, addrs, remove)
			if errors.Is(err, unix.EBUSY) {
				busy = err
			} else if err != nil {
				return n, err
			}
		}
	}
	return n, busy
}

// wait lets what comes next take as long as anything may.
func (c *conn) wait() error { return c.nl.SetDeadline(time.Now().Add(patience)) }

// eachTracked calls f for some at a time of the entries with a source, which
// are of addrs. It goes on if f gives EBUSY.
func (c *conn) eachTracked(source netip.Addr, reply bool, addrs []netip.Addr, f func([]tracked) error) error {
	req, err := trackedFrom(source, reply)
	if err != nil {
		return err
	}
	if _, err := c.nl.SendMessages([]netlink.Message{req}); err != nil {
		return err
	}
	// Few enough that the answers to their deletion fit the socket's buffer.
	const at = 128
	var some []tracked
	var busy error
	flush := func() error {
		if len(some) == 0 {
			return nil
		}
		err := f(some)
		some = some[:0]
		if errors.Is(err, unix.EBUSY) {
			busy, err = err, nil
		}
		return err
	}
	for m, err := range c.nl.ReceiveIter() {
		if err != nil {
			return errors.Join(err, flush())
		}
		e, err := parseTracked(m)
		if err != nil {
			return err
		}
		if !slices.Contains(addrs, e.source) && !slices.Contains(addrs, e.dual) {
			continue
		}
		if some = append(some, e); len(some) == at {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	return busy
}

// trackedFrom is a request for the entries with a source in a direction.
func trackedFrom(source netip.Addr, reply bool) (netlink.Message, error) {
	family, kind := byte(unix.NFPROTO_IPV4), uint16(ctaSrc4)
	if source.Is6() {
		family, kind = unix.NFPROTO_IPV6, ctaSrc6
	}
	tuple, flags := uint16(ctaTupleOrig), uint16(ctaFilterOrig)
	if reply {
		tuple, flags = ctaTupleReply, ctaFilterReply
	}
	return trackMessage(ctGet, netlink.Dump, family, func(ae *attrs) {
		ae.Nested(tuple, func(ae *attrs) error {
			ae.Nested(ctaTupleIP, func(ae *attrs) error {
				ae.Bytes(kind, source.AsSlice())
				return nil
			})
			return nil
		})
		ae.Nested(ctaFilter, func(ae *attrs) error {
			ae.Bytes(flags, native32(ctFilterSrc))
			return nil
		})
	})
}

func trackMessage(kind uint16, flags netlink.HeaderFlags, family byte, write func(*attrs)) (netlink.Message, error) {
	m, err := message(kind, flags, family, write)
	m.Header.Type = netlink.HeaderType(unix.NFNL_SUBSYS_CTNETLINK<<8 | kind)
	return m, err
}

func parseTracked(m netlink.Message) (e tracked, err error) {
	err = each(body(m), func(kind uint16, v []byte) (err error) {
		switch kind {
		case ctaTupleOrig:
			e.family, e.orig = m.Data[0], v
			e.source, err = tupleSource(v)
		case ctaTupleReply:
			e.dual, err = tupleSource(v)
		case ctaID:
			e.id = v
		case ctaZone:
			e.zone = v
		}
		return err
	})
	// A deletion without a tuple would be one of all entries there are.
	if err == nil && (len(e.orig) == 0 || len(e.id) != 4 || !e.source.IsValid()) {
		err = fmt.Errorf("connection tracking: an entry without a tuple or an id")
	}
	return e, err
}

func tupleSource(tuple []byte) (a netip.Addr, err error) {
	err = each(tuple, func(kind uint16, v []byte) error {
		if kind != ctaTupleIP {
			return nil
		}
		return each(v, func(kind uint16, v []byte) error {
			if kind == ctaSrc4 || kind == ctaSrc6 {
				a, _ = netip.AddrFromSlice(v)
			}
			return nil
		})
	})
	return a, err
}

// untrack deletes entries, each only if it is still the same, and says how
// many there were.
func (c *conn) untrack(es []tracked) (n int, err error) {
	reqs := make([]netlink.Message, 0, len(es))
	for _, e := range es {
		req, err := trackMessage(ctDelete, netlink.Acknowledge, e.family, func(ae *attrs) {
			ae.Bytes(ctaTupleOrig|unix.NLA_F_NESTED, e.orig)
			ae.Bytes(ctaID, e.id)
			if e.zone != nil {
				ae.Bytes(ctaZone, e.zone)
			}
		})
		if err != nil {
			return 0, err
		}
		reqs = append(reqs, req)
	}
	if err := c.wait(); err != nil {
		return 0, err
	}
	if _, err := c.nl.SendMessages(reqs); err != nil {
		return 0, err
	}
	buf := make([]byte, 1<<12)
	for range reqs {
		_, failed := c.receive(buf)
		switch {
		case failed == nil:
			n++
		case !errors.Is(failed, unix.ENOENT) && err == nil:
			err = failed
		}
	}
	return n, err
}
