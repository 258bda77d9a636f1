package network

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// alias marks the bridge of a network, so that another interface of that name
// is not taken for it.
func (d Definition) alias() string { return "safe-run network " + d.ID }

// EnsureBridge makes the bridge of a network, or what is missing of it. It
// works in the network namespace of the calling thread; the caller holds the
// lock. The error is of kind Conflict if there is another interface with the
// bridge's name.
func EnsureBridge(d Definition) error {
	_, err := ensureBridge(d)
	return err
}

func ensureBridge(d Definition) (made bool, err error) {
	r, err := openRtnl()
	if err != nil {
		return false, fail.Wrap(fail.HostCannot, err, "the bridge of the network %q", d.Name)
	}
	defer r.close()
	l, err := r.bridge(d)
	if err == nil && l == nil {
		if err = r.makeBridge(d); err == nil {
			made = true
			l, err = r.bridge(d)
		}
	}
	if err == nil && l == nil {
		err = errors.New("somebody removes it")
	}
	if err == nil {
		err = r.setBridge(d, l)
	}
	var e *fail.Error
	if errors.As(err, &e) {
		return made, err
	}
	return made, fail.Wrap(fail.HostCannot, err, "the bridge %s of the network %q", d.Bridge, d.Name)
}

// bridge finds the bridge of a network; it is nil if there is none.
func (r *rtnl) bridge(d Definition) (netlink.Link, error) {
	l, err := r.link(d.Bridge)
	if err != nil || l == nil {
		return nil, err
	}
	// One without a mark was made a moment ago by a process that was killed:
	// the lock is held, so nobody else is at it.
	a := l.Attrs()
	if l.Type() != "bridge" || a.Alias != d.alias() && (a.Alias != "" || a.HardwareAddr.String() != d.mac(1).String()) {
		return nil, fail.New(fail.Conflict, "the host has an interface %s that is not the bridge of the network %q", d.Bridge, d.Name).
			Hint("if nothing needs it: ip link delete %s", d.Bridge)
	}
	return l, nil
}

// makeBridge makes the interface, down. Its hardware address is fixed: it is in
// the containers' neighbour tables for good. All its ports are in its group.
func (r *rtnl) makeBridge(d Definition) error {
	group, err := r.freeGroup(d)
	if err != nil {
		return err
	}
	return r.do(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, iface(0, 0, 0),
		str(unix.IFLA_IFNAME, d.Bridge), nl.NewRtAttr(unix.IFLA_ADDRESS, d.mac(1)),
		u32(unix.IFLA_MTU, uint32(outerMTU())), u32(unix.IFLA_GROUP, group),
		nest(unix.IFLA_LINKINFO, nl.NewRtAttr(nl.IFLA_INFO_KIND, []byte("bridge")),
			nest(nl.IFLA_INFO_DATA, u32(nl.IFLA_BR_STP_STATE, 0), nl.NewRtAttr(nl.IFLA_BR_MCAST_SNOOPING, nl.Uint8Attr(0)))))
}

// setBridge completes a bridge. It is up when all else is done.
func (r *rtnl) setBridge(d Definition, l netlink.Link) error {
	i, up := l.Attrs().Index, l.Attrs().Flags&net.FlagUp != 0
	if !up {
		// Neighbours are entered, not asked for, nor learnt from what they ask:
		// made-up senders would fill the host's table.
		err := r.do(unix.RTM_SETLINK, 0, iface(i, unix.IFF_NOARP, unix.IFF_NOARP), nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(d.alias())),
			families(
				setting{confAcceptRedirects, 0},
				setting{confSendRedirects, 0},
				setting{confProxyARP, 0},
				setting{confRPFilter, 1},
				// The next stop of a source route is entered after all filters.
				setting{confSourceRoute, 0},
				// Only its own address is answered for, not others the host has.
				setting{confARPIgnore, 1},
				// What the host sends to a published port of 127.0.0.1 leaves here.
				setting{confRouteLocalnet, 1},
			))
		if err != nil {
			return err
		}
		// A router advertisement of a container would change the host's routes.
		conf := "ipv6/conf/" + d.Bridge + "/"
		err = setSysctls([]sysctl{
			{conf + "accept_ra", "0"},
			{conf + "autoconf", "0"},
			{conf + "accept_redirects", "0"},
			{conf + "proxy_ndp", "0"},
		})
		if d.V6().IsValid() {
			err = errors.Join(err, setSysctls([]sysctl{{conf + "disable_ipv6", "0"}}))
		}
		if err != nil {
			return err
		}
	}
	// Asked for even if it is up: tools that configure interfaces remove
	// addresses they do not know.
	for _, p := range d.usable() {
		if err := r.addAddr(i, netip.PrefixFrom(d.Gateway(p), p.Bits())); err != nil {
			return err
		}
	}
	if up {
		return nil
	}
	return r.up(i)
}

// freeGroup gives an interface group that nobody has: everything in it is
// removed at the end.
func (r *rtnl) freeGroup(d Definition) (uint32, error) {
	links, err := r.links()
	if err != nil {
		return 0, err
	}
	used := map[uint32]bool{}
	for _, l := range links {
		used[l.Attrs().Group] = true
	}
	group := binary.BigEndian.Uint32(sum(d.ID))
	for {
		group = group&0x3fffffff | 0x40000000
		if !used[group] {
			return group, nil
		}
		group++
	}
}

// outerMTU is the size of packets that leave the host undivided. The route
// asked for is that to an address of the Internet; nothing is sent.
func outerMTU() int {
	for _, a := range []net.IP{{1, 1, 1, 1}, net.ParseIP("2606:4700:4700::1111")} {
		routes, err := netlink.RouteGet(a)
		if err != nil || len(routes) == 0 {
			continue
		}
		l, err := netlink.LinkByIndex(routes[0].LinkIndex)
		// IPv6 does not exist below 1280.
		if err == nil && l.Attrs().MTU >= 1280 && l.Attrs().MTU <= 65535 && l.Attrs().Flags&net.FlagLoopback == 0 {
			return l.Attrs().MTU
		}
	}
	return 1500
}

// RemoveBridge removes the bridge of a network without containers, and
// interfaces of them that are left over. It is idempotent. The caller holds the
// lock.
//
// Each removal of an interface waits for the kernel's other processors to have
// noticed, some 25 ms; a group goes with one wait.
func RemoveBridge(d Definition) error {
	r, err := openRtnl()
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "the bridge of the network %q", d.Name)
	}
	defer r.close()
	return fail.Wrap(fail.HostCannot, r.removeBridge(d), "removing the bridge %s of the network %q", d.Bridge, d.Name)
}

func (r *rtnl) removeBridge(d Definition) error {
	b, err := r.bridge(d)
	if b == nil || err != nil {
		if fail.KindOf(err) == fail.Conflict {
			return nil // somebody else's, which we leave alone
		}
		return err
	}
	links, err := r.links()
	if err != nil {
		return err
	}
	group, only := b.Attrs().Group, true
	var ours []int
	for _, l := range links {
		a := l.Attrs()
		switch {
		case a.Index == b.Attrs().Index:
			only = only && a.Group != 0
		case a.MasterIndex == b.Attrs().Index && isPort(l):
			ours = append(ours, a.Index)
			only = only && a.Group == group
		case a.Group == group && !isPort(l):
			only = false // somebody has put another interface into the group
		}
	}
	if only {
		err := r.do(unix.RTM_DELLINK, 0, iface(0, 0, 0), u32(unix.IFLA_GROUP, group))
		if err == nil || errors.Is(err, unix.ENODEV) {
			return nil
		}
	}
	var errs []error
	for _, i := range append(ours, b.Attrs().Index) {
		errs = append(errs, r.remove(i))
	}
	return errors.Join(errs...)
}

// isPort says whether an interface is the host's end of a container's.
func isPort(l netlink.Link) bool {
	return l.Type() == "veth" && validPort(l.Attrs().Name)
}

func validPort(name string) bool {
	h, ok := strings.CutPrefix(name, "sv")
	return ok && len(h) > portDigits && len(h) <= portDigits+2 && isHex(h)
}
