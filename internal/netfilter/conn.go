package netfilter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// conn is one nfnetlink socket in one network namespace.
type conn struct {
	nl *netlink.Conn
}

// patience is how long an answer of the kernel may take. It answers while the
// request is sent; this only keeps a fault from hanging a launch for ever.
const patience = 30 * time.Second

// buffer is the size of a socket's buffers, in bytes. The kernel writes all
// answers of a request before the first can be read.
const buffer = 1 << 20

func dial(netns int) (*conn, error) {
	nl, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: netns})
	if err != nil {
		return nil, err
	}
	err = errors.Join(nl.SetReadBuffer(buffer), nl.SetDeadline(time.Now().Add(patience)))
	if err != nil {
		nl.Close()
		return nil, err
	}
	return &conn{nl: nl}, nil
}

// close closes the socket, later. The kernel keeps the closing of an nfnetlink
// socket, and everybody's changes to nf_tables meanwhile, waiting until all that
// was deleted by anybody is freed (nft_rcv_nl_event), some 10 ms.
func (c *conn) close() {
	const freed = 200 * time.Millisecond
	time.AfterFunc(freed, func() { _ = c.nl.Close() })
}

// attrs writes netlink attributes in network byte order, as nf_tables wants.
type attrs = netlink.AttributeEncoder

// message is a request of nf_tables for a family.
func message(kind uint16, flags netlink.HeaderFlags, family byte, write func(*attrs)) (netlink.Message, error) {
	ae := netlink.NewAttributeEncoder()
	ae.ByteOrder = binary.BigEndian
	if write != nil {
		write(ae)
	}
	b, err := ae.Encode()
	return netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind),
			Flags: netlink.Request | flags,
		},
		// struct nfgenmsg: family, version, resource id.
		Data: append([]byte{family, unix.NFNETLINK_V0, 0, 0}, b...),
	}, err
}

// batch is a transaction: all of it or nothing.
type batch struct {
	msgs []netlink.Message
	err  error
}

func (b *batch) add(kind uint16, flags netlink.HeaderFlags, family byte, write func(*attrs)) {
	m, err := message(kind, flags, family, write)
	b.err = errors.Join(b.err, err)
	b.msgs = append(b.msgs, m)
}

// commit sends a batch and waits for its end. An empty batch is none.
func (c *conn) commit(b *batch) error {
	if b.err != nil || len(b.msgs) == 0 {
		return b.err
	}
	frame := func(kind netlink.HeaderType) netlink.Message {
		return netlink.Message{
			Header: netlink.Header{Type: kind, Flags: netlink.Request},
			// The resource id names the subsystem, in network byte order.
			Data: []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES},
		}
	}
	msgs := append([]netlink.Message{frame(unix.NFNL_MSG_BATCH_BEGIN)}, b.msgs...)
	// One acknowledgement says that all was done. Errors come without being
	// asked for.
	msgs[len(msgs)-1].Header.Flags |= netlink.Acknowledge
	msgs = append(msgs, frame(unix.NFNL_MSG_BATCH_END))
	size := 0
	for _, m := range msgs {
		size += len(m.Data) + unix.NLMSG_HDRLEN + unix.NLMSG_ALIGNTO
	}
	if size > buffer/8 {
		if err := c.nl.SetWriteBuffer(2 * size); err != nil {
			return err
		}
	}
	if _, err := c.nl.SendMessages(msgs); err != nil {
		return err
	}
	_, err := c.nl.Receive()
	return err
}

// ask sends requests that have one answer each, and gives the attributes of
// the answers in their order; nil for what does not exist.
func (c *conn) ask(reqs []netlink.Message) ([][]byte, error) {
	// Few enough at a time that their answers fit the socket's buffer.
	const at = 256
	out := make([][]byte, 0, len(reqs))
	buf := make([]byte, 1<<16)
	for len(reqs) > 0 {
		n := min(at, len(reqs))
		if _, err := c.nl.SendMessages(reqs[:n]); err != nil {
			return nil, err
		}
		for range n {
			got, err := c.receive(buf)
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return nil, err
			}
			out = append(out, got)
		}
		reqs = reqs[n:]
	}
	return out, nil
}

// receive reads one message into buf and gives a copy of its attributes.
// Conn.Receive asks the kernel three times for each.
func (c *conn) receive(buf []byte) ([]byte, error) {
	raw, err := c.nl.SyscallConn()
	if err != nil {
		return nil, err
	}
	var n int
	var rerr error
	err = raw.Read(func(fd uintptr) bool {
		n, _, rerr = unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
		return !errors.Is(rerr, unix.EAGAIN)
	})
	if err := errors.Join(err, rerr); err != nil {
		return nil, err
	}
	// struct nlmsghdr, then struct nlmsgerr or struct nfgenmsg.
	if n < unix.NLMSG_HDRLEN+4 || int(binary.NativeEndian.Uint32(buf)) != n {
		return nil, fmt.Errorf("nf_tables: an answer of %d bytes", n)
	}
	if binary.NativeEndian.Uint16(buf[4:]) == unix.NLMSG_ERROR {
		if errno := -int32(binary.NativeEndian.Uint32(buf[unix.NLMSG_HDRLEN:])); errno != 0 {
			return nil, unix.Errno(errno)
		}
	}
	return append([]byte{}, buf[unix.NLMSG_HDRLEN+4:n]...), nil
}

// errChanged says that a listing was changed while it was read.
var errChanged = errors.New("nf_tables: the ruleset keeps changing")

// dump gives all answers to a listing request; none if what is listed does
// not exist.
func (c *conn) dump(kind uint16, family byte, write func(*attrs)) ([]netlink.Message, error) {
	req, err := message(kind, netlink.Dump, family, write)
	if err != nil {
		return nil, err
	}
	for range 10 {
		got, err := c.nl.Execute(req)
		if errors.Is(err, unix.ENOENT) {
			return nil, nil
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		consistent := true
		for _, m := range got {
			consistent = consistent && m.Header.Flags&netlink.DumpInterrupted == 0
		}
		if consistent {
			return got, nil
		}
	}
	return nil, errChanged
}

// each calls f for the attributes of b, with the nesting and byte order flags
// taken off their types.
func each(b []byte, f func(kind uint16, v []byte) error) error {
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return err
	}
	for ad.Next() {
		if err := f(ad.Type(), ad.Bytes()); err != nil {
			return err
		}
	}
	return ad.Err()
}

// body is a message's attributes.
func body(m netlink.Message) []byte {
	if len(m.Data) < 4 {
		return nil
	}
	return m.Data[4:]
}

// text is a string attribute.
func text(b []byte) string { return string(bytes.TrimRight(b, "\x00")) }

// number is an integer attribute of any size, in network byte order.
func number(b []byte) (n uint64) {
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n
}
