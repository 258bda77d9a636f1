package volumes

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/spec"
)

// Users gives the ids of the containers, running or not, that have a volume:
// mounted by its name, or as one of their own anonymous ones. What a container
// was made from counts from the moment it is kept. A state that cannot be read
// is an error, since it may name the volume.
func Users(st *store.Store, name string) ([]string, error) {
	ids, err := st.IDs()
	if err != nil {
		return nil, err
	}
	var users []string
	for _, id := range ids {
		uses, err := usesVolume(st, id, name)
		if err != nil {
			return nil, err
		}
		if uses {
			users = append(users, id)
		}
	}
	return users, nil
}

func usesVolume(st *store.Store, id, name string) (bool, error) {
	// No character of a volume's name is written in another way in JSON: most
	// files need not be decoded to see that they do not name it.
	names := func(file string) (bool, error) {
		b, err := os.ReadFile(filepath.Join(st.Dir(id), file))
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil // not kept yet, or the container is gone
		}
		return bytes.Contains(b, []byte(name)), fail.Wrap(fail.HostCannot, err, "state of container %.12s", id)
	}
	if found, err := names("record.json"); err != nil {
		return false, err
	} else if found {
		rec, err := st.Load(id)
		if err != nil && fail.KindOf(err) != fail.NotFound {
			return false, err
		}
		if slices.Contains(rec.Anonymous, name) {
			return true, nil
		}
	}
	found, err := names("asked.json")
	if err != nil || !found {
		return false, err
	}
	asked, err := st.LoadAsked(id)
	if fail.KindOf(err) == fail.NotFound && err != nil {
		return false, nil
	}
	return slices.ContainsFunc(asked.Workload.Mounts, func(m spec.Mount) bool {
		return m.Type == spec.MountVolume && m.Source == name
	}), err
}

// DropUnused deletes a volume that no container has but those of the given
// ids, which are being removed.
//
// Errors: Conflict, naming the containers, if others have it; those of Drop.
func (v Volumes) DropUnused(ctx context.Context, st *store.Store, name string, except ...string) error {
	return v.Drop(ctx, name, func() error {
		users, err := Users(st, name)
		if err != nil {
			return err
		}
		users = slices.DeleteFunc(users, func(id string) bool { return slices.Contains(except, id) })
		if len(users) == 0 {
			return nil
		}
		return fail.New(fail.Conflict, "remove %s: volume is in use - %v", name, users).
			Hint("remove the containers first, running or not")
	})
}
