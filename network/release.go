package network

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/safe-run/safe-run/internal/fail"
)

// Remove gives everything back that a container has of networks, by the file
// in its directory alone. It is idempotent. With the last container of a
// network goes its bridge, with the last of all the table.
func (h *Host) Remove(ctx context.Context, dir string) error {
	s, ok, err := loadState(dir)
	if err != nil || !ok {
		return err
	}
	errs := h.teardownCNI(ctx, s)
	for _, l := range s.Leases {
		errs = errors.Join(errs, h.Store.RemoveNames(l, s.ID))
	}
	if len(s.Leases) > 0 {
		errs = errors.Join(errs, h.locked(func() error { return h.release(s) }))
	}
	if errs != nil {
		return errs
	}
	return fail.Wrap(fail.HostCannot, os.Remove(filepath.Join(dir, stateFile)), "the container's network")
}

// release gives a container's part back, then what nobody uses any longer.
func (h *Host) release(s state) error {
	var errs error
	// Not before its elements are gone may another get the address.
	for _, el := range s.elements() {
		errs = errors.Join(errs, h.Table.RemoveEndpoint(el))
	}
	if errs != nil {
		return errs
	}
	for _, l := range s.Leases {
		errs = errors.Join(errs, h.Store.Release(l, s.ID))
	}
	for _, l := range s.Leases {
		used, err := h.Store.InUse(l.Network)
		switch {
		case err != nil:
			errs = errors.Join(errs, err)
		case used:
			errs = errors.Join(errs, Unwire(l))
		default:
			errs = errors.Join(errs, h.drop(l.Network))
		}
	}
	return errors.Join(errs, h.dropShared())
}

// drop removes the bridge of a network without containers.
func (h *Host) drop(name string) error {
	d, err := h.Definition(name)
	if err != nil {
		if fail.KindOf(err) == fail.NotFound {
			return nil
		}
		return err
	}
	return errors.Join(h.closeForward(d), h.Table.RemoveNetwork(d.filter()), RemoveBridge(d))
}

// dropShared removes the table once no network has containers.
func (h *Host) dropShared() error {
	all, err := h.Store.List()
	if err != nil {
		return err
	}
	for _, d := range all {
		if used, err := h.Store.InUse(d.Name); used || err != nil {
			return err
		}
	}
	return h.closeAll()
}

// Reclaim gives back the claims of containers that are not there any longer,
// and what is left of networks nobody uses.
func (h *Host) Reclaim(alive func(id string) bool) error {
	return h.locked(func() error {
		n, err := h.Store.Reclaim(alive)
		if err != nil || n == 0 {
			return err
		}
		all, err := h.Store.List()
		if err != nil {
			return err
		}
		var errs error
		for _, d := range all {
			used, err := h.Store.InUse(d.Name)
			if err == nil && !used {
				err = h.drop(d.Name)
			}
			errs = errors.Join(errs, err)
		}
		return errors.Join(errs, h.dropShared())
	})
}
