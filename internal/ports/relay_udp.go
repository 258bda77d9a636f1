package ports

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// A client that was never answered is forgotten before one that was: a
	// flood from forged addresses is the former.
	unansweredIdle = 30 * time.Second
	answeredIdle   = 90 * time.Second
	sweepEvery     = 5 * time.Second

	maxDatagram = 65535
)

// udpState is what the relay knows of UDP's clients. Only the goroutine of
// Relay uses it.
type udpState struct {
	sessions map[sessionKey]*session
	bySocket map[int32]*session // by the descriptor towards the container
	swept    time.Time
	buf, oob []byte
}

// sessionKey is a client, and the socket and address of the host it speaks to.
type sessionKey struct {
	listener int
	client   netip.AddrPort
	zone     uint32 // interface of a link-local client
	local    netip.Addr
}

type session struct {
	sessionKey
	fd       int           // connected to the container
	back     unix.Sockaddr // the client
	control  []byte        // sends from the address that the client spoke to
	last     time.Time
	answered bool
}

func newUDPState() udpState {
	return udpState{sessions: make(map[sessionKey]*session), bySocket: make(map[int32]*session)}
}

// tellDestination has a socket tell the address each datagram was sent to.
func tellDestination(fd int, a netip.Addr) error {
	if a.Is4() {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
}

// datagrams takes what clients have sent to a published port.
func (r *relay) datagrams(s socket) {
	if r.buf == nil {
		r.buf, r.oob = make([]byte, maxDatagram), make([]byte, 256)
	}
	for range perTurn {
		n, oobn, _, from, err := unix.Recvmsg(s.fd, r.buf, r.oob, unix.MSG_DONTWAIT)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return
		}
		local, ok := destination(r.oob[:oobn])
		if !ok {
			continue
		}
		if c := r.session(s, from, local); c != nil {
			c.last = time.Now()
			_, _ = unix.Write(c.fd, r.buf[:n])
		}
	}
}

// session finds the session of a client or begins one: nil if there is no
// room or the port leads nowhere.
func (r *relay) session(s socket, from unix.Sockaddr, local netip.Addr) *session {
	key := sessionKey{listener: s.fd, local: local}
	switch sa := from.(type) {
	case *unix.SockaddrInet4:
		key.client = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		key.client, key.zone = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)), sa.ZoneId
	}
	if c := r.sessions[key]; c != nil {
		return c
	}
	dest := r.to(s.Mapping)
	if len(r.sessions) >= maxSessions || !dest.IsValid() {
		return nil
	}
	fd, err := connected(dest)
	if err != nil {
		return nil
	}
	if err := r.watch(fd); err != nil {
		_ = unix.Close(fd)
		return nil
	}
	c := &session{sessionKey: key, fd: fd, back: from, control: sendFrom(local, key.zone)}
	r.sessions[key], r.bySocket[int32(fd)] = c, c
	return c
}

func connected(to netip.AddrPort) (int, error) {
	family := unix.AF_INET
	if to.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_UDP)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, sockaddr(to)); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// answers passes on what the container has sent to a client.
func (r *relay) answers(fd int32) {
	c := r.bySocket[fd]
	if c == nil {
		return
	}
	for range perTurn {
		n, err := unix.Read(c.fd, r.buf)
		switch err {
		case nil:
		case unix.EINTR, unix.ECONNREFUSED: // nobody listens yet, or not any longer
			continue
		default:
			return
		}
		c.last, c.answered = time.Now(), true
		_, _ = unix.SendmsgN(c.listener, r.buf[:n], c.control, c.back, unix.MSG_DONTWAIT)
	}
}

// expire forgets clients that have been silent.
func (r *relay) expire(now time.Time) {
	if now.Sub(r.swept) < sweepEvery {
		return
	}
	r.swept = now
	for _, c := range r.sessions {
		if idle := now.Sub(c.last); idle > answeredIdle || idle > unansweredIdle && !c.answered {
			r.end(c)
		}
	}
}

func (r *relay) end(c *session) {
	delete(r.sessions, c.sessionKey)
	delete(r.bySocket, int32(c.fd))
	_ = unix.Close(c.fd)
}

func (r *relay) closeSessions() {
	for _, c := range r.sessions {
		r.end(c)
	}
}

// destination reads the address of this host that a datagram was sent to from
// its control messages. One for many (broadcast, multicast) has none.
func destination(oob []byte) (netip.Addr, bool) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}, false
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			// struct in_pktinfo: interface, own address, address of the header
			own, header := [4]byte(m.Data[4:8]), [4]byte(m.Data[8:12])
			return netip.AddrFrom4(own), own == header
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			a := netip.AddrFrom16([16]byte(m.Data[:16]))
			return a, !a.IsMulticast()
		}
	}
	return netip.Addr{}, false
}

// sendFrom is the control message that has a datagram sent from an address.
func sendFrom(local netip.Addr, zone uint32) []byte {
	if local.Is4() {
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: local.As4()})
	}
	return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: local.As16(), Ifindex: zone})
}
