package network

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// Want is what a container asks of a network; zero values are for anything
// that is free.
type Want struct {
	V4, V6 netip.Addr
	MAC    net.HardwareAddr
}

// Lease is what one container has of one network. It says all that is needed
// to wire it and to take it apart again.
type Lease struct {
	Network string `json:"network"`
	Bridge  string `json:"bridge"`
	// Index is the claim: the number of the addresses in their subnets. Index6
	// is that of the IPv6 address, if another was asked for.
	Index  uint64 `json:"index"`
	Index6 uint64 `json:"index6,omitempty"`
	// Addrs has the container's addresses with the length of their subnets,
	// Gateways the host's in the same order.
	Addrs         []netip.Prefix   `json:"addrs"`
	Gateways      []netip.Addr     `json:"gateways"`
	MAC           net.HardwareAddr `json:"mac"`
	Interface     string           `json:"interface"`     // inside, eth0 and so on
	HostInterface string           `json:"hostInterface"` // the port of the bridge
	Internal      bool             `json:"internal,omitempty"`
	ICC           bool             `json:"icc,omitempty"`
	Names         []string         `json:"names,omitempty"` // what others on the network find it by
}

// maxIndex is the largest that is given without being asked for: it fits into
// a hardware address.
const maxIndex = 1<<32 - 1

func wantAddr(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fail.New(fail.Usage, "%.80q is not an IP address", s)
	}
	return a.Unmap(), nil
}

// wantOf reads what a --network asks for.
func wantOf(u spec.NetworkUse) (w Want, err error) {
	if w.V4, err = wantAddr(u.IP); err != nil {
		return Want{}, err
	}
	if w.V6, err = wantAddr(u.IP6); err != nil {
		return Want{}, err
	}
	if w.V4.IsValid() && !w.V4.Is4() || w.V6.IsValid() && w.V6.Is4() {
		return Want{}, fail.New(fail.Usage, "--ip takes an IPv4 address, --ip6 one of IPv6")
	}
	if u.MAC != "" {
		if w.MAC, err = net.ParseMAC(u.MAC); err != nil {
			return Want{}, fail.New(fail.Usage, "%.80q is not a MAC address", u.MAC)
		}
	}
	return w, nil
}

// Claim gives container id a free index on the network, or that of the
// addresses asked for. What id has already it is given again. The error is of
// kind Conflict and names the holder if an address asked for is taken, Usage if
// it is none a container can have, HostCannot if none is free.
//
// Until Release the claim stands as long as Reclaim is told that the container
// is there; so its record must be made before.
func (s Store) Claim(d Definition, id string, w Want) (l Lease, err error) {
	if !validID(id) {
		return Lease{}, fail.New(fail.Internal, "%.80q cannot own an address", id)
	}
	c := claimant{s: s, d: d, id: id, usable: d.usable()}
	defer func() {
		if err != nil {
			c.undo()
		}
	}()
	l = Lease{Network: d.Name, Bridge: d.Bridge, Internal: d.Internal, ICC: d.ICC}
	if err := c.indexes(&l, w); err != nil {
		return Lease{}, err
	}
	for _, p := range c.usable {
		i := l.Index
		if p.Addr().Is6() && l.Index6 != 0 {
			i = l.Index6
		}
		l.Addrs = append(l.Addrs, netip.PrefixFrom(host(p, i), p.Bits()))
		l.Gateways = append(l.Gateways, d.Gateway(p))
	}
	switch {
	case w.MAC != nil:
		if err := d.checkMAC(w.MAC, l.Index); err != nil {
			return Lease{}, err
		}
		l.MAC = slices.Clone(w.MAC)
	case l.Index > maxIndex: // an address of IPv6 that was asked for
		l.MAC = append(net.HardwareAddr{0x06}, sum(d.ID + id)[:5]...)
	default:
		l.MAC = d.mac(l.Index)
		return l, nil
	}
	return l, c.must(macKey(l.MAC), "the MAC address "+l.MAC.String())
}

// claimant takes the claims of one container, all or none.
type claimant struct {
	s      Store
	d      Definition
	id     string
	usable []netip.Prefix
	made   []string
}

func (c *claimant) undo() {
	for _, k := range c.made {
		_ = c.s.drop(c.d.Name, k, c.id)
	}
}

// take claims a key and gives who has it.
func (c *claimant) take(k string) (holder string, err error) {
	path := c.s.claims(c.d.Name) + "/" + k
	for range 8 {
		err = unix.Symlink(c.id, path)
		switch {
		case err == nil:
			c.made = append(c.made, k)
			return c.id, nil
		case errors.Is(err, unix.EEXIST):
			holder, err := c.s.holder(c.d.Name, k)
			if errors.Is(err, fs.ErrNotExist) {
				continue // released this moment
			}
			return holder, err
		case errors.Is(err, unix.ENOENT):
			if err := c.s.mend(c.d); err != nil {
				return "", err
			}
		default:
			return "", fail.Wrap(fail.HostCannot, err, "claiming an address of the network %q", c.d.Name)
		}
	}
	return "", fail.Wrap(fail.Internal, err, "claiming an address of the network %q", c.d.Name)
}

// must takes a key that was asked for.
func (c *claimant) must(k, what string) error {
	holder, err := c.take(k)
	if err == nil && holder != c.id {
		err = fail.New(fail.Conflict, "%s is taken by the container %s", what, short(holder))
	}
	return err
}

// mend makes a network's directory of claims if a host's crash has lost it. It
// is an error if the network is gone.
func (s Store) mend(d Definition) error {
	unlock, err := s.lockDefinitions()
	if err != nil {
		return err
	}
	defer unlock()
	now, err := s.Load(d.Name)
	if err != nil {
		return err
	}
	if now.ID != d.ID {
		return fail.New(fail.NotFound, "the network %q was removed, and another made, this moment", d.Name)
	}
	return fail.Wrap(fail.HostCannot, os.MkdirAll(s.claims(d.Name), 0o700), "the claims of the network %q", d.Name)
}

// indexes claims the index of a lease, and a second one if the IPv6 address
// asked for has another.
func (c *claimant) indexes(l *Lease, w Want) error {
	last := uint64(maxIndex)
	for _, p := range c.usable {
		last = min(last, lastIndex(p))
	}
	if len(c.usable) == 0 {
		return fail.New(fail.HostCannot, "this kernel has no IPv6, the network %q nothing else", c.d.Name)
	}
	i4, err := c.asked(w.V4, c.d.V4(), "IPv4")
	if err != nil {
		return err
	}
	i6, err := c.asked(w.V6, c.d.V6(), "IPv6")
	if err != nil {
		return err
	}
	switch {
	case i4 != 0:
		l.Index = i4
	case i6 != 0 && (i6 <= last || !c.d.V4().IsValid()):
		l.Index = i6
	}
	if i6 != l.Index {
		l.Index6 = i6
	}
	if i4 > last && i6 == 0 {
		return fail.New(fail.Usage, "%s is beyond the %d addresses the subnet %s has for containers", w.V4, last-1, c.d.V6()).
			Hint("give an IPv6 address, too, with --ip6")
	}
	if l.Index == 0 {
		if l.Index, err = c.any(last); err != nil {
			return err
		}
	} else if err := c.must(key(l.Index), "the address "+c.named(l.Index)); err != nil {
		return err
	}
	if l.Index6 != 0 {
		return c.must(key(l.Index6), "the address "+w.V6.String())
	}
	return nil
}

// named writes an index as the address it is.
func (c *claimant) named(i uint64) string {
	if p := c.d.V4(); p.IsValid() {
		return host(p, i).String()
	}
	return host(c.d.V6(), i).String()
}

// asked is the index of an address asked for, 0 if none is.
func (c *claimant) asked(a netip.Addr, p netip.Prefix, family string) (uint64, error) {
	if !a.IsValid() {
		return 0, nil
	}
	if !p.IsValid() || !slices.Contains(c.usable, p) {
		return 0, fail.New(fail.Usage, "%s cannot be had: the network %q has no %s", a, c.d.Name, family)
	}
	i, ok := index(p, a)
	switch {
	case !ok:
		return 0, fail.New(fail.Usage, "%s is not in the subnet %s of the network %q", a, p, c.d.Name)
	case i == 0 || i > lastIndex(p):
		return 0, fail.New(fail.Usage, "%s is the network or broadcast address of the subnet %s", a, p)
	case i == 1:
		return 0, fail.New(fail.Conflict, "%s is the host's own address on the network %q, the containers' gateway", a, c.d.Name)
	}
	return i, nil
}

// any takes a free index from 2 to last.
func (c *claimant) any(last uint64) (uint64, error) {
	n := last - 1
	try := func(i uint64) (bool, error) {
		before := len(c.made)
		_, err := c.take(key(i))
		if err != nil || len(c.made) == before {
			return false, err
		}
		c.s.setHint(c.d.Name, (i-2+1)%n)
		return true, nil
	}
	// The hint is wrong where long-lived containers sit, or where others took
	// the same one at the same moment.
	at := c.s.hint(c.d.Name) % n
	for range min(64, n) {
		if ok, err := try(at + 2); ok || err != nil {
			return at + 2, err
		}
		at = (at + 1) % n
	}
	for range min(128, n) {
		at = rand.Uint64N(n)
		if ok, err := try(at + 2); ok || err != nil {
			return at + 2, err
		}
	}
	keys, err := c.s.keys(c.d.Name)
	if err != nil {
		return 0, err
	}
	has := make(map[string]bool, len(keys))
	for _, k := range keys {
		has[k] = true
	}
	for i := uint64(2); i <= last; i++ {
		if has[key(i)] {
			continue
		}
		if ok, err := try(i); ok || err != nil {
			return i, err
		}
	}
	return 0, fail.New(fail.HostCannot, "all %d addresses of the network %q are taken", n, c.d.Name).
		Hint("remove containers, or make a network with a larger subnet")
}

// mac is the hardware address that belongs to an index: 02:42 and the IPv4
// address, as docker's are. Where there is no IPv4 it is the index.
func (d Definition) mac(i uint64) net.HardwareAddr {
	m := net.HardwareAddr{0x02, 0x42, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}
	if p := d.V4(); p.IsValid() {
		a := host(p, i).As4()
		copy(m[2:], a[:])
	}
	return m
}

// checkMAC says whether the container with index i can have a hardware address
// it asked for.
func (d Definition) checkMAC(m net.HardwareAddr, i uint64) error {
	if len(m) != 6 || m[0]&1 != 0 || slices.Equal(m, make(net.HardwareAddr, 6)) {
		return fail.New(fail.Usage, "%.40s is not the MAC address of an interface: six bytes, the first one even, not all zero", m)
	}
	if m[0] != 0x02 || m[1] != 0x42 {
		return nil
	}
	other := uint64(m[2])<<24 | uint64(m[3])<<16 | uint64(m[4])<<8 | uint64(m[5])
	if p := d.V4(); p.IsValid() {
		j, ok := index(p, netip.AddrFrom4([4]byte(m[2:])))
		if !ok {
			return nil
		}
		other = j
	}
	if other != i {
		return fail.New(fail.Conflict, "the MAC address %s belongs to another address of the network %q", m, d.Name).
			Hint("leave out --mac-address, or ask for the address with --ip")
	}
	return nil
}

// check says what is wrong with a lease that was read from a file.
func (l Lease) check() error {
	ok := validName(l.Network) && validBridge(l.Bridge) && len(l.MAC) == 6 &&
		l.Index > 1 && len(l.Addrs) > 0 && len(l.Addrs) == len(l.Gateways)
	for i := range l.Addrs {
		ok = ok && l.Addrs[i].IsValid() && l.Addrs[i].Contains(l.Gateways[i])
	}
	if !ok {
		return fail.New(fail.Internal, "this is not a lease of a network: %.200q", fmt.Sprint(l))
	}
	return nil
}
