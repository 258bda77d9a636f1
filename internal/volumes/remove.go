package volumes

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// removeTime is how long Remove waits for others to be done with a volume.
const removeTime = 10 * time.Second

// Remove deletes a volume and its data, whoever uses it. A missing volume is
// no error.
func (v Volumes) Remove(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), removeTime)
	defer cancel()
	err := v.Drop(ctx, name, nil)
	if fail.KindOf(err) == fail.NotFound {
		return nil
	}
	return err
}

// Drop deletes a volume and its data, unless free returns an error, which is
// then Drop's. free is asked while nobody can begin to use the volume: a
// launch that Ensure has given it was known before. free may be nil.
//
// Errors: NotFound if there is no such volume, Usage if the name is none.
func (v Volumes) Drop(ctx context.Context, name string, free func() error) error {
	if err := checkName(name); err != nil {
		return err
	}
	dir := v.dir(name)
	unlock, err := lock(ctx, dir, unix.LOCK_EX, false)
	if errors.Is(err, fs.ErrNotExist) {
		return fail.New(fail.NotFound, "no such volume: %s", name)
	}
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "volume %s", name)
	}
	defer unlock()
	if _, err := os.Lstat(v.Path(name)); errors.Is(err, fs.ErrNotExist) {
		// What a crash left, of its making or its removal.
		_ = removeAll(dir)
		return fail.New(fail.NotFound, "no such volume: %s", name)
	}
	if free != nil {
		if err := free(); err != nil {
			return err
		}
	}
	// From one moment to the next it is no volume any more, so that a crash
	// never leaves half of one.
	err = os.Rename(v.Path(name), v.Path(name)+".old")
	if err == nil {
		err = removeAll(dir)
	}
	return fail.Wrap(fail.HostCannot, err, "removing volume %s", name)
}

// Tidy removes what crashes left of volumes that were being made or removed.
func (v Volumes) Tidy() error {
	entries, err := os.ReadDir(string(v))
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "volumes")
	}
	var errs error
	for _, e := range entries {
		if !e.IsDir() || checkName(e.Name()) != nil {
			continue
		}
		if _, err := os.Lstat(v.Path(e.Name())); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		now, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		unlock, err := lock(now, v.dir(e.Name()), unix.LOCK_EX, false)
		cancel()
		if err != nil {
			continue // being made
		}
		if _, err := os.Lstat(v.Path(e.Name())); errors.Is(err, fs.ErrNotExist) {
			errs = errors.Join(errs, removeAll(v.dir(e.Name())))
		}
		unlock()
	}
	return fail.Wrap(fail.HostCannot, errs, "volumes")
}
