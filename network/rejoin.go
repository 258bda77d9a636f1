package network

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// rejoin gives the containers that run what somebody else took from the host:
// `nft flush ruleset`, which firewalls do when they are reloaded, takes the
// table, `ip link delete` a bridge. It looks at the containers of the networks
// that lost lists, which are there again; nil are all. The caller holds the
// lock; self is the container on whose behalf, which enters itself.
func (h *Host) rejoin(self string, lost []string, notice func(string)) error {
	if lost == nil { // the definition of another network may be unreadable
		var err error
		if lost, err = h.Store.names(); err != nil {
			return err
		}
	}
	seen, ensured := map[string]bool{self: true}, map[string]bool{}
	for _, name := range lost {
		keys, err := h.Store.keys(name)
		if err != nil {
			return err
		}
		for _, k := range keys {
			id, err := h.Store.holder(name, k)
			if err != nil || seen[id] {
				continue // given back this moment, or seen on another network
			}
			seen[id] = true
			if s, ok, err := loadState(h.Store.Root + "/containers/" + id); err == nil && ok {
				if err := h.rejoinOne(s, ensured, notice); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (h *Host) rejoinOne(s state, ensured map[string]bool, notice func(string)) error {
	for i, el := range s.elements() {
		l := s.Leases[i]
		wired, err := isWired(l)
		if err != nil {
			return err
		}
		if !wired { // its launch enters it itself
			continue
		}
		if !ensured[l.Network] {
			if _, err := h.ensure(l, notice); err != nil {
				return err
			}
			ensured[l.Network] = true
		}
		if err := h.Table.Add(el); err != nil {
			return err
		}
		if err := rewire(l); err != nil {
			return err
		}
	}
	return nil
}

// isWired says whether the host's end of a lease is there.
func isWired(l Lease) (bool, error) {
	if l.checkWire() != nil {
		return false, nil
	}
	r, err := openRtnl()
	if err != nil {
		return false, fail.Wrap(fail.HostCannot, err, "the containers of the network %q", l.Network)
	}
	defer r.close()
	port, err := r.link(l.HostInterface)
	return port != nil && isPort(port), fail.Wrap(fail.HostCannot, err, "the containers of the network %q", l.Network)
}

// rewire puts the host's end of a lease back into the bridge. It is closed
// before it comes up.
func rewire(l Lease) error {
	r, err := openRtnl()
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "the network %q", l.Network)
	}
	defer r.close()
	br, err := r.link(l.Bridge)
	port, perr := r.link(l.HostInterface)
	if err = errors.Join(err, perr); err != nil || br == nil || port == nil || port.Attrs().MasterIndex == br.Attrs().Index {
		return fail.Wrap(fail.HostCannot, err, "the network %q", l.Network)
	}
	i := port.Attrs().Index
	if err = r.do(unix.RTM_SETLINK, 0, iface(i, 0, unix.IFF_UP)); err == nil {
		err = r.do(unix.RTM_SETLINK, 0, iface(i, 0, 0), u32(unix.IFLA_MASTER, uint32(br.Attrs().Index)), u32(unix.IFLA_GROUP, br.Attrs().Group))
	}
	if err == nil {
		err = r.setPort(br, l)
	}
	return fail.Wrap(fail.HostCannot, err, "connecting a container to the network %q again", l.Network)
}
