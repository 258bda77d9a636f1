package network

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// rtnl is an rtnetlink socket in one network namespace. Requests are made by
// hand: several things can be said in one message, and some of them only so.
type rtnl struct {
	sockets map[int]*nl.SocketHandle
}

// openRtnl opens one in the namespace of the calling thread.
func openRtnl() (*rtnl, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	timeout := unix.Timeval{Sec: 10}
	err = errors.Join(s.SetSendTimeout(&timeout), s.SetReceiveTimeout(&timeout), s.SetExtAck(true))
	if err != nil {
		s.Close()
		return nil, err
	}
	return &rtnl{map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}}, nil
}

func (r *rtnl) close() { r.sockets[unix.NETLINK_ROUTE].Close() }

// do makes one request that is answered by success or an error.
func (r *rtnl) do(kind, flags int, data ...nl.NetlinkRequestData) error {
	_, err := r.ask(kind, flags|unix.NLM_F_ACK, 0, data...)
	return err
}

func (r *rtnl) ask(kind, flags int, answer uint16, data ...nl.NetlinkRequestData) ([][]byte, error) {
	req := nl.NewNetlinkRequest(kind, flags)
	req.Sockets = r.sockets
	req.Data = data
	return req.Execute(unix.NETLINK_ROUTE, answer)
}

// noStats leaves the counters out of an answer (RTEXT_FILTER_SKIP_STATS).
func noStats() *nl.RtAttr { return nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(1<<3)) }

// link finds an interface by name; it is nil if there is none.
func (r *rtnl) link(name string) (netlink.Link, error) {
	msgs, err := r.ask(unix.RTM_GETLINK, 0, unix.RTM_NEWLINK, nl.NewIfInfomsg(unix.AF_UNSPEC), noStats(), str(unix.IFLA_IFNAME, name))
	if errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(msgs) != 1 {
		return nil, unix.ENODATA
	}
	return netlink.LinkDeserialize(nil, msgs[0])
}

// links lists the interfaces of a namespace.
func (r *rtnl) links() ([]netlink.Link, error) {
	var msgs [][]byte
	err := error(netlink.ErrDumpInterrupted)
	for i := 0; i < 3 && errors.Is(err, netlink.ErrDumpInterrupted); i++ {
		msgs, err = r.ask(unix.RTM_GETLINK, unix.NLM_F_DUMP, unix.RTM_NEWLINK, nl.NewIfInfomsg(unix.AF_UNSPEC), noStats())
	}
	if err != nil {
		return nil, err
	}
	var out []netlink.Link
	for _, m := range msgs {
		l, err := netlink.LinkDeserialize(nil, m)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

func str(kind int, s string) *nl.RtAttr { return nl.NewRtAttr(kind, nl.ZeroTerminated(s)) }

func u32(kind int, v uint32) *nl.RtAttr { return nl.NewRtAttr(kind, nl.Uint32Attr(v)) }

// nest is an attribute made of others.
func nest(kind int, of ...*nl.RtAttr) *nl.RtAttr {
	a := nl.NewRtAttr(kind, nil)
	for _, c := range of {
		a.AddChild(c)
	}
	return a
}

// iface says which interface a message is about; flags of change are set to
// flags.
func iface(i int, flags, change uint32) *nl.IfInfomsg {
	m := nl.NewIfInfomsg(unix.AF_UNSPEC)
	m.Index, m.Flags, m.Change = int32(i), flags, change
	return m
}

func (r *rtnl) up(i int) error {
	return r.do(unix.RTM_SETLINK, 0, iface(i, unix.IFF_UP, unix.IFF_UP))
}

// Numbers of settings that an interface has for IPv4, as in
// include/uapi/linux/ip.h.
const (
	confProxyARP        = 3
	confAcceptRedirects = 4
	confSendRedirects   = 6
	confRPFilter        = 8
	confSourceRoute     = 9
	confARPIgnore       = 19
	confRouteLocalnet   = 26
)

// setting is a sysctl of an interface.
type setting struct {
	number int
	value  uint32
}

// families sets IPv4's settings of an interface and, where there is IPv6,
// that it makes no link-local address by itself: without one it says nothing
// that nobody asked for (duplicate address detection, router solicitation,
// multicast reports).
func families(v4 ...setting) *nl.RtAttr {
	conf := nl.NewRtAttr(unix.IFLA_INET_CONF, nil)
	for _, s := range v4 {
		conf.AddRtAttr(s.number, nl.Uint32Attr(s.value))
	}
	all := nest(unix.IFLA_AF_SPEC, nest(unix.AF_INET, conf))
	if hasIPv6() {
		all.AddChild(nest(unix.AF_INET6, nl.NewRtAttr(unix.IFLA_INET6_ADDR_GEN_MODE, nl.Uint8Attr(nl.IN6_ADDR_GEN_MODE_NONE))))
	}
	return all
}

// addAddr gives an interface an address; it may have it.
func (r *rtnl) addAddr(i int, p netip.Prefix) error { return r.addAddrFlags(i, p, 0) }

func (r *rtnl) addAddrFlags(i int, p netip.Prefix, flags uint32) error {
	m := nl.NewIfAddrmsg(family(p.Addr()))
	m.Index, m.Prefixlen = uint32(i), uint8(p.Bits())
	b := p.Addr().AsSlice()
	data := []nl.NetlinkRequestData{m, nl.NewRtAttr(unix.IFA_LOCAL, b), nl.NewRtAttr(unix.IFA_ADDRESS, b)}
	if p.Addr().Is4() {
		data = append(data, nl.NewRtAttr(unix.IFA_BROADCAST, broadcast(p).AsSlice()))
	} else {
		// Claims are exclusive: nobody is asked whether the address is a duplicate.
		flags |= unix.IFA_F_NODAD
	}
	data = append(data, u32(unix.IFA_FLAGS, flags))
	err := r.do(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, data...)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// setNeighbour says for good which hardware address has an address: nothing
// that arrives can move it.
func (r *rtnl) setNeighbour(i int, a netip.Addr, mac net.HardwareAddr) error {
	m := &netlink.Ndmsg{Family: uint8(family(a)), Index: uint32(i), State: unix.NUD_PERMANENT}
	return r.do(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, m,
		nl.NewRtAttr(unix.NDA_DST, a.AsSlice()), nl.NewRtAttr(unix.NDA_LLADDR, mac))
}

func (r *rtnl) removeNeighbour(i int, a netip.Addr) error {
	m := &netlink.Ndmsg{Family: uint8(family(a)), Index: uint32(i)}
	err := r.do(unix.RTM_DELNEIGH, 0, m, nl.NewRtAttr(unix.NDA_DST, a.AsSlice()))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// setLinkRoute says that an address is reached by an interface directly.
func (r *rtnl) setLinkRoute(i int, a netip.Addr) error {
	m := nl.NewRtMsg()
	m.Family, m.Dst_len, m.Scope = uint8(family(a)), uint8(a.BitLen()), unix.RT_SCOPE_LINK
	return r.do(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, m,
		nl.NewRtAttr(unix.RTA_DST, a.AsSlice()), u32(unix.RTA_OIF, uint32(i)))
}

// setDefaultRoute sends what is for nobody here to the gateway.
func (r *rtnl) setDefaultRoute(i int, gateway netip.Addr) error {
	m := nl.NewRtMsg()
	m.Family = uint8(family(gateway))
	return r.do(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, m,
		nl.NewRtAttr(unix.RTA_GATEWAY, gateway.AsSlice()), u32(unix.RTA_OIF, uint32(i)))
}

// local says whether packets to an address are taken in.
func (r *rtnl) local(a netip.Addr) (bool, error) {
	m := &nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family(a)), Dst_len: uint8(a.BitLen())}}
	msgs, err := r.ask(unix.RTM_GETROUTE, 0, unix.RTM_NEWROUTE, m, nl.NewRtAttr(unix.RTA_DST, a.AsSlice()))
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		return false, nil
	}
	return err == nil && len(msgs) == 1 && nl.DeserializeRtMsg(msgs[0]).Type == unix.RTN_LOCAL, err
}

// remove deletes an interface; it may be gone.
func (r *rtnl) remove(i int) error {
	err := r.do(unix.RTM_DELLINK, 0, iface(i, 0, 0))
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// within runs f on a thread in the network namespace ns. A thread that does
// not come back from there ends.
func within(ns *os.File, f func() error) error {
	done := make(chan error)
	go func() { done <- enter(ns, f) }()
	return <-done
}

func enter(ns *os.File, f func() error) error {
	runtime.LockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer own.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	err = f()
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, back) // still locked: the thread ends with this goroutine
	}
	runtime.UnlockOSThread()
	return err
}

// sysctl is a file below /proc/sys/net and its value.
type sysctl struct{ key, value string }

// setSysctls writes those of the calling thread's namespace. Missing ones are
// of IPv6 in a kernel without it.
func setSysctls(all []sysctl) error {
	for _, c := range all {
		if err := writeSysctl("/proc/sys/net/"+c.key, c.value); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

// writeSysctl costs three system calls: the poller has no use here.
func writeSysctl(path, v string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		_, err = unix.Write(fd, []byte(v))
		_ = unix.Close(fd)
	}
	if err != nil {
		return &os.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}
