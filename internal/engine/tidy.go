package engine

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// Tidy removes what a killed shim left in Temp: idmapped mounts of layers and
// their directories, of which each is needed for some milliseconds. Those
// younger than age are left alone.
func (e *Engine) Tidy(age time.Duration) error {
	left, err := os.ReadDir(e.Temp())
	if len(left) == 0 || err != nil {
		return nil // an engine of an earlier version has no such directory
	}
	// The age is that of the directory below the mount: a clone of the tree
	// that is not recursive shows it.
	below, err := unix.OpenTree(unix.AT_FDCWD, e.Temp(), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "temporary mounts of the engine")
	}
	defer func() { _ = unix.Close(below) }()
	var errs error
	for _, d := range left {
		var st unix.Stat_t
		if unix.Fstatat(below, d.Name(), &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			continue
		}
		// One from the future is from before the clock was set back.
		if since := time.Since(time.Unix(st.Mtim.Unix())); since < age && since > -age {
			continue
		}
		p := filepath.Join(e.Temp(), d.Name())
		if err := unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			errs = errors.Join(errs, err)
			continue
		}
		// Never recursively: what is still mounted there is somebody's data.
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = errors.Join(errs, err)
		}
	}
	return fail.Wrap(fail.HostCannot, errs, "temporary mounts of the engine")
}
