package network

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/safe-run/safe-run/internal/fail"
)

// Remove gives everything back that a container has of networks, by the file
// in its directory alone. It is idempotent. With the last container of a
// network goes its bridge, with the last of all the table.
func (h *Host) Remove(ctx context.Context, dir string) error {
	s, ok, err := loadState(dir)
	if err != nil {
		return h.removeUnread(dir, err)
	}
	if !ok {
		return nil
	}
	errs := h.teardownCNI(ctx, s)
	for _, l := range s.Leases {
		errs = errors.Join(errs, h.Store.RemoveNames(l, s.ID))
		// A link alone takes the kernel 20 ms: others need not wait for that.
		// Where nobody else is, it goes with the bridge.
		if shared, err := h.Store.others(l.Network, s.ID); shared || err != nil {
			errs = errors.Join(errs, err, Unwire(l))
		}
	}
	if len(s.Leases) > 0 {
		errs = errors.Join(errs, h.locked(func() error { return h.release(s) }))
	}
	if errs != nil {
		return errs
	}
	return fail.Wrap(fail.HostCannot, os.Remove(filepath.Join(dir, stateFile)), "the container's network")
}

// removeUnread gives back what a container has whose file is damaged, as a
// power failure leaves it: its claims name it. What it had in the table cannot
// be told from others', so they must have ended.
func (h *Host) removeUnread(dir string, unread error) error {
	id := filepath.Base(dir)
	return h.locked(func() error {
		used, err := h.usedByOthers(id)
		if err != nil {
			return err
		}
		if there, terr := h.Table.Exists(); terr != nil || there && len(used) > 0 {
			return errors.Join(terr, fail.Wrap(fail.Internal, unread, "the file %s of the container %s", stateFile, short(id)))
		}
		var names []string
		all, _ := h.Store.List() // of one that cannot be read nothing can be found
		for _, d := range all {
			names = append(names, d.Name)
		}
		_, err = h.Store.Reclaim(func(owner string) bool { return owner != id })
		if err == nil && len(used) == 0 {
			err = h.dropAll(names, func() error { return nil })
		}
		if err != nil {
			return err
		}
		return fail.Wrap(fail.HostCannot, os.Remove(filepath.Join(dir, stateFile)), "the container's network")
	})
}

// release gives a container's part back, and what nobody else uses. Who takes
// a claim meanwhile waits for the lock before it counts on anything shared.
func (h *Host) release(s state) error {
	used, err := h.usedByOthers(s.ID)
	if err != nil {
		return err
	}
	var unused []string
	for _, l := range s.Leases {
		if !slices.Contains(used, l.Network) {
			unused = append(unused, l.Network)
		}
	}
	if len(used) == 0 {
		err = h.dropAll(unused, func() error { return h.forget(s) })
	} else {
		// Not before its elements are gone may another get the address.
		for _, el := range s.elements() {
			err = errors.Join(err, h.Table.RemoveEndpoint(el))
		}
		err = errors.Join(err, h.forget(s))
		for _, name := range unused {
			err = errors.Join(err, h.drop(name))
		}
	}
	if err != nil {
		return err
	}
	var errs error
	for _, l := range s.Leases {
		errs = errors.Join(errs, h.Store.Release(l, s.ID))
	}
	return errs
}

// forget ends what the kernel knows of the container's connections, or the
// next one with the address could go on with them.
func (h *Host) forget(s state) error {
	var addrs []netip.Addr
	for _, l := range s.Leases {
		for _, p := range l.Addrs {
			addrs = append(addrs, p.Addr())
		}
	}
	_, err := h.Table.Forget(addrs)
	return err
}

// usedByOthers are the networks that have containers other than id.
func (h *Host) usedByOthers(id string) (used []string, err error) {
	names, err := h.Store.names() // also of those whose definition cannot be read
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		others, err := h.Store.others(name, id)
		if err != nil {
			return nil, err
		}
		if others {
			used = append(used, name)
		}
	}
	return used, nil
}

// drop removes the bridge of a network without containers.
func (h *Host) drop(name string) error {
	d, err := h.Definition(name)
	if err != nil {
		return known(err)
	}
	return errors.Join(h.closeForward(d), h.Table.RemoveNetwork(d.filter()), RemoveBridge(d))
}

// dropAll sets the host back: no container has a network. The kernel takes
// its time for bridges; the rest is done beside, and last what must be once
// nothing is translated to containers any more.
func (h *Host) dropAll(names []string, last func() error) error {
	errs := make([]error, len(names)+1)
	var wg sync.WaitGroup
	for i, name := range names {
		d, err := h.Definition(name)
		if err != nil {
			errs[i] = known(err)
			continue
		}
		wg.Go(func() { errs[i] = RemoveBridge(d) })
		errs[len(names)] = errors.Join(errs[len(names)], h.closeForward(d))
	}
	errs[len(names)] = errors.Join(errs[len(names)], h.closeAll(), last())
	wg.Wait()
	return errors.Join(errs...)
}

// known drops the error that there is no such network (any longer).
func known(err error) error {
	if fail.KindOf(err) == fail.NotFound {
		return nil
	}
	return err
}

// Reclaim gives back the claims of containers that are not there any longer,
// and what is left of networks nobody uses.
func (h *Host) Reclaim(alive func(id string) bool) error {
	return h.locked(func() error {
		n, err := h.Store.Reclaim(alive)
		if err != nil || n == 0 {
			return err
		}
		used, err := h.usedByOthers("")
		if err != nil {
			return err
		}
		all, err := h.Store.List()
		if err != nil {
			return err
		}
		var unused []string
		for _, d := range all {
			if !slices.Contains(used, d.Name) {
				unused = append(unused, d.Name)
			}
		}
		if len(used) == 0 {
			return h.dropAll(unused, func() error { return nil })
		}
		var errs error
		for _, name := range unused {
			errs = errors.Join(errs, h.drop(name))
		}
		return errs
	})
}
