package network

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// portDigits are those of the container's id in the name of a port; names of
// interfaces have 15 bytes.
const portDigits = 11

// hostInterface names the host's end of a container's interface number i.
func hostInterface(id string, i int) string {
	return "sv" + id[:min(len(id), portDigits)] + strconv.Itoa(i)
}

// checkWire says what is wrong with a lease that is to be wired.
func (l Lease) checkWire() error {
	if err := l.check(); err != nil {
		return err
	}
	n, ok := strings.CutPrefix(l.Interface, "eth")
	if _, err := strconv.ParseUint(n, 10, 7); err != nil || !ok || !validPort(l.HostInterface) {
		return fail.New(fail.Internal, "%.40q and %.40q are not the ends of a container's interface", l.Interface, l.HostInterface)
	}
	return nil
}

// Wire connects a container's network namespace to the bridges of its leases,
// which EnsureBridge has made in the namespace of the calling thread. Nothing
// is left on the host if it fails.
//
// A pair of interfaces is made with one end directly in the container. The
// other is a port of the bridge that takes frames from the container's hardware
// address alone, and passes none to other ports unless the network lets its
// containers reach each other. Addresses of neighbours are entered on both
// sides for good, so nobody can claim another's.
func Wire(ns *os.File, leases []Lease) (err error) {
	for _, l := range leases {
		if err := l.checkWire(); err != nil {
			return err
		}
	}
	host, err := openRtnl()
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "the container's network")
	}
	defer host.close()
	defer func() {
		for i := 0; err != nil && i < len(leases); i++ {
			err = errors.Join(err, host.unwire(leases[i]))
		}
	}()
	var inner inside
	err = within(ns, func() (err error) {
		if err = setSysctls(innerSysctls()); err == nil {
			inner.rtnl, err = openRtnl()
		}
		off, _ := os.ReadFile("/proc/sys/net/ipv6/conf/default/disable_ipv6")
		inner.v4only = strings.TrimSpace(string(off)) != "0"
		return err
	})
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "the container's network namespace")
	}
	defer inner.close()
	if err := inner.up(loopback); err != nil {
		return fail.Wrap(fail.HostCannot, err, "the container's loopback interface")
	}
	for _, l := range leases {
		if err := wire(host, &inner, ns, l); err != nil {
			return fail.Wrap(fail.HostCannot, err, "connecting the container to the network %q", l.Network)
		}
	}
	return nil
}

// loopback is the index of lo in every namespace.
const loopback = 1

// innerSysctls are those that interfaces of the container are made with, or
// that hold for all of them.
func innerSysctls() []sysctl {
	return []sysctl{
		{"ipv4/conf/all/accept_redirects", "0"},
		{"ipv4/conf/default/accept_redirects", "0"},
		{"ipv6/conf/default/accept_redirects", "0"},
		{"ipv6/conf/default/accept_ra", "0"},
	}
}

// wire connects one lease. The host's end comes up last: until then nothing
// goes through. Inside is first also because the kernel is not done with an
// address of IPv6 when it says so.
func wire(host *rtnl, inner *inside, ns *os.File, l Lease) error {
	br, err := host.link(l.Bridge)
	if err != nil || br == nil {
		return errors.Join(err, fail.New(fail.Internal, "the bridge %s is not there", l.Bridge))
	}
	err = host.makePair(br, ns, l)
	if errors.Is(err, unix.EEXIST) { // of a launch that was killed
		if err = host.unwire(l); err == nil {
			err = host.makePair(br, ns, l)
		}
	}
	if err != nil {
		return fmt.Errorf("making %s and %s: %w", l.HostInterface, l.Interface, err)
	}
	if err := inner.connect(br, l); err != nil {
		return fmt.Errorf("setting %s up: %w", l.Interface, err)
	}
	if err := host.setPort(br, l); err != nil {
		return fmt.Errorf("setting %s up: %w", l.HostInterface, err)
	}
	return settle(host, inner, l)
}

// settle waits until the kernel passes packets: what is sent before is lost (a
// first SYN comes again after a second). That an interface and its other end
// are up is noticed a moment later (since Linux 6.8 when one asks), and the route
// to an address of IPv6 is made some time after the address.
func settle(host *rtnl, inner *inside, l Lease) error {
	up := func(r *rtnl, name string) func() (bool, error) {
		return func() (bool, error) {
			l, err := r.link(name)
			return l == nil || l.Attrs().OperState == netlink.OperUp, err
		}
	}
	waits := []func() (bool, error){up(inner.rtnl, l.Interface), up(host, l.HostInterface), up(host, l.Bridge)}
	for i, p := range l.Addrs {
		if p.Addr().Is6() && !inner.v4only {
			waits = append(waits,
				func() (bool, error) { return inner.local(p.Addr()) },
				func() (bool, error) { return host.local(l.Gateways[i]) })
		}
	}
	for _, done := range waits {
		if err := await(done); err != nil {
			return err
		}
	}
	return nil
}

// await asks again and again until something is done. What takes long is left
// to itself: the network works without, a little later.
func await(done func() (bool, error)) error {
	for pause, left := 50*time.Microsecond, time.Second; left > 0; pause, left = min(2*pause, 5*time.Millisecond), left-pause {
		if ok, err := done(); ok || err != nil {
			return err
		}
		time.Sleep(pause)
	}
	return nil
}

// makePair makes both ends, down. One queue is enough: such interfaces lock
// none, and by default there is one for each processor.
func (r *rtnl) makePair(br netlink.Link, ns *os.File, l Lease) error {
	b := br.Attrs()
	one := func() []*nl.RtAttr {
		return []*nl.RtAttr{
			u32(unix.IFLA_MTU, uint32(b.MTU)),
			u32(unix.IFLA_NUM_TX_QUEUES, 1), u32(unix.IFLA_NUM_RX_QUEUES, 1),
		}
	}
	peer := nl.NewRtAttr(nl.VETH_INFO_PEER, iface(0, 0, 0).Serialize())
	for _, a := range append(one(), str(unix.IFLA_IFNAME, l.Interface), nl.NewRtAttr(unix.IFLA_ADDRESS, l.MAC), u32(unix.IFLA_NET_NS_FD, uint32(ns.Fd()))) {
		peer.AddChild(a)
	}
	data := []nl.NetlinkRequestData{
		iface(0, 0, 0), str(unix.IFLA_IFNAME, l.HostInterface),
		u32(unix.IFLA_MASTER, uint32(b.Index)), u32(unix.IFLA_GROUP, b.Group),
		nest(unix.IFLA_LINKINFO, nl.NewRtAttr(nl.IFLA_INFO_KIND, []byte("veth")), nest(nl.IFLA_INFO_DATA, peer)),
	}
	for _, a := range one() {
		data = append(data, a)
	}
	return r.do(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, data...)
}

// setPort closes the host's end and brings it up.
func (r *rtnl) setPort(br netlink.Link, l Lease) error {
	port, err := r.link(l.HostInterface)
	if err != nil || port == nil {
		return errors.Join(err, unix.ENODEV)
	}
	i := port.Attrs().Index
	flag := func(kind int, on bool) *nl.RtAttr {
		v := uint8(0)
		if on {
			v = 1
		}
		return nl.NewRtAttr(kind, nl.Uint8Attr(v))
	}
	err = r.do(unix.RTM_NEWLINK, 0, iface(i, 0, 0), families(),
		nest(unix.IFLA_LINKINFO, nl.NewRtAttr(nl.IFLA_INFO_SLAVE_KIND, []byte("bridge")),
			nest(nl.IFLA_INFO_SLAVE_DATA,
				flag(nl.IFLA_BRPORT_LEARNING, false),
				// A frame from an address that has no entry for this port is dropped.
				flag(nl.IFLA_BRPORT_LOCKED, true),
				flag(nl.IFLA_BRPORT_ISOLATED, !l.ICC),
				flag(nl.IFLA_BRPORT_UNICAST_FLOOD, false),
				// Neighbours are entered, not asked for: without others there is
				// nothing to hear.
				flag(nl.IFLA_BRPORT_MCAST_FLOOD, l.ICC),
				flag(nl.IFLA_BRPORT_BCAST_FLOOD, l.ICC))))
	if err != nil {
		return err
	}
	// NUD_NOARP is a static entry; a permanent one would be the bridge's own.
	entry := &netlink.Ndmsg{Family: unix.AF_BRIDGE, Index: uint32(i), State: unix.NUD_NOARP, Flags: unix.NTF_MASTER}
	if err := r.do(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, entry, nl.NewRtAttr(unix.NDA_LLADDR, l.MAC)); err != nil {
		return fmt.Errorf("the entry in the bridge's table: %w", err)
	}
	for _, p := range l.Addrs {
		if err := r.setNeighbour(br.Attrs().Index, p.Addr(), l.MAC); err != nil {
			return fmt.Errorf("the neighbour %s: %w", p.Addr(), err)
		}
	}
	return r.up(i)
}

// inside is the container's namespace.
type inside struct {
	*rtnl
	v4only bool    // IPv6 is turned off there, as --sysctl can
	routed [2]bool // default routes there are, of IPv4 and IPv6
}

// connect configures the container's end of a lease. The first one with a way
// out has the default route.
func (r *inside) connect(br netlink.Link, l Lease) error {
	eth, err := r.link(l.Interface)
	if err != nil || eth == nil {
		return errors.Join(err, unix.ENODEV)
	}
	i := eth.Attrs().Index
	err = r.do(unix.RTM_SETLINK, 0, iface(i, 0, 0), families(setting{confAcceptRedirects, 0}, setting{confSendRedirects, 0}))
	if err == nil {
		err = r.up(i)
	}
	if err != nil {
		return err
	}
	for n, p := range l.Addrs {
		if p.Addr().Is6() && r.v4only {
			continue
		}
		// Where no neighbour can be reached the host is asked for all, and refuses
		// at once. The kernel has one table of neighbours for all namespaces: a
		// container that looks for a thousand of them would fill the host's.
		g, flags := l.Gateways[n], uint32(0)
		if !l.ICC {
			flags = unix.IFA_F_NOPREFIXROUTE
		}
		if err := r.addAddrFlags(i, p, flags); err != nil {
			return fmt.Errorf("the address %s: %w", p, err)
		}
		if !l.ICC {
			if err := r.setLinkRoute(i, g); err != nil {
				return fmt.Errorf("the route to %s: %w", g, err)
			}
		}
		if err := r.setNeighbour(i, g, br.Attrs().HardwareAddr); err != nil {
			return fmt.Errorf("the neighbour %s: %w", g, err)
		}
		has := &r.routed[0]
		if g.Is6() {
			has = &r.routed[1]
		}
		if l.Internal || *has {
			continue
		}
		if err := r.setDefaultRoute(i, g); err != nil {
			return fmt.Errorf("the route over %s: %w", g, err)
		}
		*has = true
	}
	return nil
}

// Unwire takes a container off a network: the host's end goes, and with it the
// container's. It is idempotent.
func Unwire(l Lease) error {
	if l.HostInterface == "" {
		return nil // it was never wired
	}
	if err := l.checkWire(); err != nil {
		return err
	}
	r, err := openRtnl()
	if err == nil {
		defer r.close()
		err = r.unwire(l)
	}
	return fail.Wrap(fail.HostCannot, err, "disconnecting the container from the network %q", l.Network)
}

func (r *rtnl) unwire(l Lease) error {
	port, err := r.link(l.HostInterface)
	if err != nil {
		return err
	}
	var errs []error
	if port != nil && isPort(port) {
		errs = append(errs, r.remove(port.Attrs().Index))
	}
	br, err := r.link(l.Bridge)
	if err != nil || br == nil {
		return errors.Join(append(errs, err)...)
	}
	for _, p := range l.Addrs {
		errs = append(errs, r.removeNeighbour(br.Attrs().Index, p.Addr()))
	}
	return errors.Join(errs...)
}
