package network

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// V4 is the IPv4 subnet, or the zero prefix.
func (d Definition) V4() netip.Prefix { return d.family(true) }

// V6 is the IPv6 subnet, or the zero prefix.
func (d Definition) V6() netip.Prefix { return d.family(false) }

func (d Definition) family(v4 bool) netip.Prefix {
	for _, p := range d.Subnets {
		if p.Addr().Is4() == v4 {
			return p
		}
	}
	return netip.Prefix{}
}

// Gateway is the host's own address in one of the network's subnets: the
// first.
func (d Definition) Gateway(p netip.Prefix) netip.Addr { return host(p, 1) }

// usable are the subnets the kernel can do: without IPv6, a network that has
// it is one of IPv4 alone.
func (d Definition) usable() []netip.Prefix {
	if d.V6().IsValid() && !hasIPv6() {
		if !d.V4().IsValid() {
			return nil
		}
		return []netip.Prefix{d.V4()}
	}
	return d.Subnets
}

// hasIPv6 says whether the kernel has IPv6 at all (it has not when it was
// booted with ipv6.disable=1).
func hasIPv6() bool {
	var st unix.Stat_t
	return unix.Stat("/proc/sys/net/ipv6", &st) == nil
}

// host is the address number i of a subnet.
func host(p netip.Prefix, i uint64) netip.Addr {
	if p.Addr().Is4() {
		a := p.Masked().Addr().As4()
		binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(a[:])+uint32(i))
		return netip.AddrFrom4(a)
	}
	a := p.Masked().Addr().As16()
	binary.BigEndian.PutUint64(a[8:], binary.BigEndian.Uint64(a[8:])+i)
	return netip.AddrFrom16(a)
}

// index is the number of an address in a subnet; of a large one of IPv6 only
// the first 2^64 have one.
func index(p netip.Prefix, a netip.Addr) (uint64, bool) {
	if !p.Contains(a) {
		return 0, false
	}
	if a.Is4() {
		base, addr := p.Masked().Addr().As4(), a.As4()
		return uint64(binary.BigEndian.Uint32(addr[:]) - binary.BigEndian.Uint32(base[:])), true
	}
	base, addr := p.Masked().Addr().As16(), a.As16()
	if [8]byte(base[:8]) != [8]byte(addr[:8]) {
		return 0, false
	}
	return binary.BigEndian.Uint64(addr[8:]) - binary.BigEndian.Uint64(base[8:]), true
}

// lastIndex is that of the last address a container may have: not IPv4's
// broadcast address.
func lastIndex(p netip.Prefix) uint64 {
	if p.Addr().Is4() {
		return 1<<(32-p.Bits()) - 2
	}
	if p.Bits() <= 64 {
		return 1<<64 - 1
	}
	return 1<<(128-p.Bits()) - 1
}

// broadcast is the last address of an IPv4 subnet.
func broadcast(p netip.Prefix) netip.Addr { return host(p, lastIndex(p)+1) }

// checkSubnet says whether a subnet can be a network's.
func checkSubnet(p netip.Prefix) error {
	if !p.IsValid() || p.Addr().Zone() != "" || p.Addr().Is4In6() {
		return fail.New(fail.Usage, "%q is not a subnet, ADDRESS/LENGTH", p)
	}
	if p != p.Masked() {
		return fail.New(fail.Usage, "%s is an address in the subnet %s", p, p.Masked()).Hint("write --subnet %s", p.Masked())
	}
	lo, hi := 48, 124
	if p.Addr().Is4() {
		lo, hi = 8, 29
	}
	if p.Bits() < lo || p.Bits() > hi {
		return fail.New(fail.Usage, "the subnet %s is too large or too small: its length is from %d to %d", p, lo, hi)
	}
	for _, s := range []string{
		"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3",
		"::/8", "fe80::/10", "ff00::/8",
	} {
		if special := netip.MustParsePrefix(s); special.Overlaps(p) {
			return fail.New(fail.Usage, "the subnet %s lies in %s, which has a meaning of its own", p, special)
		}
	}
	return nil
}

// busy is a range of addresses that others use.
type busy struct {
	netip.Prefix
	by string
}

// subnets are those a new network gets: the ones asked for, or free ones.
func (s Store) subnets(o Options, others []Definition) ([]netip.Prefix, error) {
	var v4, v6 netip.Prefix
	for _, p := range o.Subnets {
		if err := checkSubnet(p); err != nil {
			return nil, err
		}
		to := &v6
		if p.Addr().Is4() {
			to = &v4
		}
		if to.IsValid() {
			return nil, fail.New(fail.Usage, "%s and %s are of one family: a network has one subnet of each", *to, p)
		}
		*to = p
	}
	if (v6.IsValid() || o.IPv6) && !hasIPv6() {
		return nil, fail.New(fail.HostCannot, "this kernel has no IPv6")
	}
	taken, err := hostRanges()
	if err != nil {
		return nil, err
	}
	for _, d := range others {
		for _, p := range d.Subnets {
			taken = append(taken, busy{p, fmt.Sprintf("the network %q", d.Name)})
		}
	}
	var out []netip.Prefix
	if !v4.IsValid() && !o.NoIPv4 {
		if v4, err = free(pools4(), taken); err != nil {
			return nil, err
		}
	} else if err := overlap(v4, taken); err != nil {
		return nil, err
	}
	if !v6.IsValid() && o.IPv6 {
		ula, err := s.ula()
		if err != nil {
			return nil, err
		}
		if v6, err = free([]pool{{ula, 64}}, taken); err != nil {
			return nil, err
		}
	} else if err := overlap(v6, taken); err != nil {
		return nil, err
	}
	for _, p := range []netip.Prefix{v4, v6} {
		if p.IsValid() {
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		return nil, fail.New(fail.Usage, "a network without IPv4 and IPv6 is none").Hint("--network none is a container without a network")
	}
	return out, nil
}

func overlap(p netip.Prefix, taken []busy) error {
	for _, b := range taken {
		if p.IsValid() && b.Overlaps(p) {
			return fail.New(fail.Conflict, "the subnet %s overlaps %s of %s", p, b.Prefix, b.by).Hint("choose another with --subnet")
		}
	}
	return nil
}

// pool is a range that subnets of a length are cut from.
type pool struct {
	netip.Prefix
	bits int
}

// pools4 are ranges of RFC 1918 that docker, libvirt and most home routers
// leave alone.
func pools4() []pool {
	return []pool{
		{netip.MustParsePrefix("10.210.0.0/16"), 20},
		{netip.MustParsePrefix("172.29.0.0/16"), 20},
		{netip.MustParsePrefix("192.168.208.0/20"), 20},
	}
}

// free gives the first subnet of the pools that overlaps nothing.
func free(pools []pool, taken []busy) (netip.Prefix, error) {
	var names []string
	for _, l := range pools {
		names = append(names, l.String())
		for p := netip.PrefixFrom(l.Addr(), l.bits); l.Contains(p.Addr()); {
			var in *busy
			for i := range taken {
				if taken[i].Overlaps(p) {
					in = &taken[i]
					break
				}
			}
			if in == nil {
				return p, nil
			}
			// Past what is in the way: a pool is walked in as many steps as
			// there are others in it.
			wide := p
			if in.Bits() < p.Bits() {
				wide = in.Prefix
			}
			next := last(wide).Next()
			if !next.IsValid() {
				break
			}
			p = netip.PrefixFrom(next, l.bits)
		}
	}
	return netip.Prefix{}, fail.New(fail.HostCannot, "no subnet of %s is free: routes of this host or other networks cover all of them", strings.Join(names, ", ")).
		Hint("safe-run network create --subnet makes a network with a subnet you choose")
}

// last is the last address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// hostRanges are the addresses the host has, and those it has routes to, of
// all routing tables (the tables of a VPN among them). Default routes, also
// those cut in halves, cover everything and are nobody's.
func hostRanges() ([]busy, error) {
	links := map[int]string{}
	var out []busy
	families := []int{netlink.FAMILY_V4}
	if hasIPv6() {
		families = append(families, netlink.FAMILY_V6)
	}
	var err error
	for range 3 { // a dump that changes while it is read is read again
		out = nil
		for _, f := range families {
			err = netlink.RouteListFilteredIter(f, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
				if p, ok := prefixOf(r.Dst); ok && p.Bits() >= 8 && !p.Addr().IsMulticast() && !p.Addr().IsLinkLocalUnicast() && !p.Addr().IsLoopback() {
					out = append(out, busy{p, routeBy(r, links)})
				}
				return true
			})
			if err != nil {
				break
			}
		}
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return out, fail.Wrap(fail.HostCannot, err, "reading the host's routes")
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a, ones).Masked(), ok
}

// routeBy says for an error whose a route is.
func routeBy(r netlink.Route, links map[int]string) string {
	name, known := links[r.LinkIndex]
	if !known {
		name = "an interface of this host"
		if l, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
			name = fmt.Sprintf("the host's interface %q", l.Attrs().Name)
		}
		links[r.LinkIndex] = name
	}
	return name
}

// ula is the installation's own range of unique local addresses: 40 random
// bits, so that hosts which are connected one day do not collide (RFC 4193,
// 3.2.2).
func (s Store) ula() (netip.Prefix, error) {
	path := filepath.Join(s.networks(), ".ula")
	b, err := readOwn(path, 64)
	if errors.Is(err, fs.ErrNotExist) {
		a := [16]byte{0xfd}
		_, _ = rand.Read(a[1:6]) // never fails, by its documentation
		p := netip.PrefixFrom(netip.AddrFrom16(a), 48)
		return p, fail.Wrap(fail.HostCannot, replaceFile(path, []byte(p.String()+"\n"), true), "keeping the range of IPv6 addresses")
	}
	if err != nil {
		return netip.Prefix{}, fail.Wrap(fail.Internal, err, "the range of IPv6 addresses")
	}
	p, err := netip.ParsePrefix(strings.TrimSpace(string(b)))
	if err == nil && (p.Bits() != 48 || p != p.Masked() || p.Addr().As16()[0] != 0xfd || p.Addr().Is4()) {
		err = fmt.Errorf("%s is not a /48 of fd00::/8", p)
	}
	return p, fail.Wrap(fail.Internal, err, "the range of IPv6 addresses in %q", path)
}
