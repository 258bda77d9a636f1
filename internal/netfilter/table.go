// Package netfilter keeps safe-run's own nftables table, makes the smallest
// repairs in the tables of others that would cut containers off, and turns
// forwarding on and back.
//
// All that is known of a container is elements of sets and maps. The rules are
// the same whether there is one container or five thousand, and so is the way
// of a packet through them.
package netfilter

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// Table is the nftables table (family inet) of one state directory. Each
// method opens a netlink socket, changes all or nothing, and closes it.
// Callers let one method run at a time for a table.
type Table struct {
	Name  string
	NetNS int // descriptor of a network namespace; 0: the calling thread's
}

// What is done to a table before anything else.
const doingLook, doingMake = "look", "make"

const tableUserdata = 6 // NFTA_TABLE_USERDATA

// userdataComment is where nft(8) keeps a table's comment (libnftnl,
// udata.h: NFTNL_UDATA_TABLE_COMMENT).
const userdataComment = 0

func comment() string {
	return fmt.Sprintf("made and removed by safe-run, layout %d", layoutVersion)
}

// failed gives an error of netlink a kind and says what was being done.
func (t Table) failed(err error, doing string) error {
	if err == nil {
		return nil
	}
	e := &fail.Error{Kind: fail.Internal, Msg: fmt.Sprintf("nftables table %s: %s", t.Name, doing), Err: err}
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		e.Kind = fail.HostCannot
		return e.Hint("networks need root with CAP_NET_ADMIN in the host's network namespace")
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT),
		// A kernel without nf_tables takes what asks it for invalid; one without
		// a kind of chain or expression does not find it (nfnetlink_rcv_msg,
		// nft_expr_type_get).
		doing == doingLook && errors.Is(err, unix.EINVAL), doing == doingMake && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT)):
		e.Kind = fail.HostCannot
		return e.Hint("the kernel needs nf_tables with inet, nat, masquerade, reject and fib (CONFIG_NF_TABLES, CONFIG_NFT_*)")
	}
	return e
}

// with opens a socket for f.
func (t Table) with(doing string, f func(*conn) error) error {
	c, err := dial(t.NetNS)
	if err == nil {
		err = f(c)
		c.close()
	}
	return t.failed(err, doing)
}

// Exists says whether the table is there.
func (t Table) Exists() (there bool, err error) {
	err = t.with(doingLook, func(c *conn) error {
		_, there, err = t.version(c)
		return err
	})
	return there, err
}

// version gives the comment of the table there is.
func (t Table) version(c *conn) (remark string, there bool, err error) {
	req, err := message(unix.NFT_MSG_GETTABLE, 0, unix.NFPROTO_INET, func(ae *attrs) {
		ae.String(unix.NFTA_TABLE_NAME, t.Name)
	})
	if err != nil {
		return "", false, err
	}
	got, err := c.ask([]netlink.Message{req})
	if err != nil || got[0] == nil {
		return "", false, err
	}
	err = each(got[0], func(kind uint16, v []byte) error {
		if kind == tableUserdata && len(v) > 2 && v[0] == userdataComment && int(v[1]) <= len(v)-2 {
			remark = text(v[2 : 2+int(v[1])])
		}
		return nil
	})
	return remark, true, err
}

// Ensure makes the table with its sets, maps, chains and rules, in one
// transaction. A table with the layout of another version is replaced, and
// what the sets hold that both have is kept. If the table is there it costs one
// look at it.
func (t Table) Ensure() error {
	return t.with(doingMake, func(c *conn) error {
		remark, there, err := t.version(c)
		if err != nil || there && remark == comment() {
			return err
		}
		var b batch
		var kept []element
		if there {
			if kept, err = t.keep(c); err != nil {
				return err
			}
			t.remove(&b)
		}
		t.create(&b)
		t.addElements(&b, kept)
		return c.commit(&b)
	})
}

// Remove removes the table. It is nil if there is none.
func (t Table) Remove() error {
	return t.with("remove", func(c *conn) error {
		var b batch
		t.remove(&b)
		if err := c.commit(&b); !errors.Is(err, unix.ENOENT) {
			return err
		}
		return nil
	})
}

func (t Table) remove(b *batch) {
	b.add(unix.NFT_MSG_DELTABLE, 0, unix.NFPROTO_INET, func(ae *attrs) { ae.String(unix.NFTA_TABLE_NAME, t.Name) })
}

func (t Table) create(b *batch) {
	t.createTable(b)
	for i, s := range sets() {
		t.createSet(b, s, uint32(i+1))
	}
	cs := chains()
	for _, c := range cs {
		t.createChain(b, c)
	}
	for _, c := range cs {
		for _, r := range c.rules {
			t.createRule(b, c.name, r)
		}
	}
	t.addElements(b, blockedElements())
}

func (t Table) createTable(b *batch) {
	b.add(unix.NFT_MSG_NEWTABLE, netlink.Create, unix.NFPROTO_INET, func(ae *attrs) {
		ae.String(unix.NFTA_TABLE_NAME, t.Name)
		ae.Bytes(tableUserdata, userdata.AppendString(nil, userdataComment, comment()))
	})
}

func (t Table) createSet(b *batch, s set, id uint32) {
	const concatenation = 0x80 // NFT_SET_CONCAT
	var flags uint32
	if len(s.data) > 0 {
		flags |= unix.NFT_SET_MAP
	}
	if s.interval {
		flags |= unix.NFT_SET_INTERVAL
	}
	if s.interval && len(s.key) > 1 {
		flags |= concatenation
	}
	if s.expires {
		flags |= unix.NFT_SET_TIMEOUT
	}
	b.add(unix.NFT_MSG_NEWSET, netlink.Create, unix.NFPROTO_INET, func(ae *attrs) {
		ae.String(unix.NFTA_SET_TABLE, t.Name)
		ae.String(unix.NFTA_SET_NAME, s.name)
		ae.Uint32(unix.NFTA_SET_ID, id)
		ae.Uint32(unix.NFTA_SET_FLAGS, flags)
		magic, size := concat(s.key)
		ae.Uint32(unix.NFTA_SET_KEY_TYPE, magic)
		ae.Uint32(unix.NFTA_SET_KEY_LEN, size)
		if len(s.data) > 0 {
			magic, size := concat(s.data)
			ae.Uint32(unix.NFTA_SET_DATA_TYPE, magic)
			ae.Uint32(unix.NFTA_SET_DATA_LEN, size)
		}
		ae.Bytes(unix.NFTA_SET_USERDATA, byteOrders(s))
		if flags&concatenation != 0 {
			ae.Nested(unix.NFTA_SET_DESC, func(ae *attrs) error {
				describe(ae, s.key)
				return nil
			})
		}
	})
}

// byteOrders tells nft(8) which keys and data are in the host's byte order, for
// showing them.
func byteOrders(s set) (out []byte) {
	const host, network = 1, 2
	for i, names := range [][]string{s.key, s.data} {
		order := uint32(network)
		if len(names) != 1 {
			continue
		}
		if names[0] == "ifname" || names[0] == "class" {
			order = host
		}
		out = userdata.AppendUint32(out, userdata.NFTNL_UDATA_SET_KEYBYTEORDER+userdata.Type(i), order)
	}
	return out
}

// describe writes the sizes of a concatenation's fields, which sets of ranges
// need to know.
func describe(ae *attrs, key []string) {
	const descConcat, field, fieldLen = 2, unix.NFTA_LIST_ELEM, 1 // NFTA_SET_DESC_CONCAT, NFTA_SET_FIELD_LEN
	ae.Nested(descConcat, func(ae *attrs) error {
		for _, k := range key {
			ae.Nested(field, func(ae *attrs) error {
				ae.Uint32(fieldLen, typeOf(k).size)
				return nil
			})
		}
		return nil
	})
}

func (t Table) createChain(b *batch, c chain) {
	b.add(unix.NFT_MSG_NEWCHAIN, netlink.Create, unix.NFPROTO_INET, func(ae *attrs) {
		ae.String(unix.NFTA_CHAIN_TABLE, t.Name)
		ae.String(unix.NFTA_CHAIN_NAME, c.name)
		if c.kind == "" {
			return
		}
		ae.Nested(unix.NFTA_CHAIN_HOOK, func(ae *attrs) error {
			ae.Uint32(unix.NFTA_HOOK_HOOKNUM, c.hook)
			ae.Int32(unix.NFTA_HOOK_PRIORITY, c.priority)
			return nil
		})
		ae.Uint32(unix.NFTA_CHAIN_POLICY, uint32(expr.VerdictAccept))
		ae.String(unix.NFTA_CHAIN_TYPE, c.kind)
	})
}

func (t Table) createRule(b *batch, chain string, r *rule) {
	b.err = errors.Join(b.err, r.err)
	b.add(unix.NFT_MSG_NEWRULE, netlink.Create|netlink.Append, unix.NFPROTO_INET, func(ae *attrs) {
		ae.String(unix.NFTA_RULE_TABLE, t.Name)
		ae.String(unix.NFTA_RULE_CHAIN, chain)
		writeExprs(ae, r.exprs)
	})
}

func writeExprs(ae *attrs, exprs [][]byte) {
	ae.Nested(unix.NFTA_RULE_EXPRESSIONS, func(ae *attrs) error {
		for _, e := range exprs {
			ae.Bytes(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, e)
		}
		return nil
	})
}

// keep reads what the sets of another version hold that this one has too.
func (t Table) keep(c *conn) ([]element, error) {
	var out []element
	for _, s := range sets() {
		same, err := t.sameSet(c, s)
		if err != nil {
			return nil, err
		}
		if !same || s.name == setBlocked+"4" || s.name == setBlocked+"6" {
			continue
		}
		es, err := t.list(c, s.name)
		if err != nil {
			return nil, err
		}
		out = append(out, es...)
	}
	return out, nil
}

// sameSet says whether the table has a set with the types of s.
func (t Table) sameSet(c *conn, s set) (bool, error) {
	req, err := message(unix.NFT_MSG_GETSET, 0, unix.NFPROTO_INET, func(ae *attrs) {
		ae.String(unix.NFTA_SET_TABLE, t.Name)
		ae.String(unix.NFTA_SET_NAME, s.name)
	})
	if err != nil {
		return false, err
	}
	got, err := c.ask([]netlink.Message{req})
	if err != nil || got[0] == nil {
		return false, err
	}
	var key, data, flags uint32
	err = each(got[0], func(kind uint16, v []byte) error {
		switch {
		case len(v) != 4:
		case kind == unix.NFTA_SET_KEY_TYPE:
			key = binary.BigEndian.Uint32(v)
		case kind == unix.NFTA_SET_DATA_TYPE:
			data = binary.BigEndian.Uint32(v)
		case kind == unix.NFTA_SET_FLAGS:
			flags = binary.BigEndian.Uint32(v)
		}
		return nil
	})
	wantKey, _ := concat(s.key)
	wantData, _ := concat(s.data)
	return key == wantKey && data == wantData &&
		(flags&unix.NFT_SET_INTERVAL != 0) == s.interval && (flags&unix.NFT_SET_TIMEOUT != 0) == s.expires, err
}
