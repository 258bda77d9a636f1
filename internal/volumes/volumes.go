// Package volumes keeps named and anonymous volumes: directories under one
// root, filled from the image once, with the ids the container sees.
package volumes

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/lazyre"
)

// Volumes is the directory all volumes lie in, each as NAME/_data.
type Volumes string

// In gives the volumes of a state root.
func In(root string) Volumes { return Volumes(filepath.Join(root, "volumes")) }

// names are docker's: at least two characters, none of them a separator.
var names = lazyre.New(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}$`)

// Path is the data directory of a volume.
func (v Volumes) Path(name string) string { return filepath.Join(string(v), name, "_data") }

// Ensure makes a volume if it does not exist, with what fill puts into its
// directory. It appears when it is complete: whoever wants the same volume
// meanwhile waits, and what a crash or an error left is made anew.
func (v Volumes) Ensure(ctx context.Context, name string, fill func(dir string) error) error {
	if !names().MatchString(name) {
		return fail.New(fail.Usage, "volume name %q: use letters, digits, '_', '.' and '-', at least two, the first a letter or digit", name)
	}
	path := v.Path(name)
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	unlock, err := lock(ctx, filepath.Dir(path))
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "volume %s", name)
	}
	defer unlock()
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	tmp := path + ".new"
	err = errors.Join(os.RemoveAll(tmp), os.Mkdir(tmp, 0o755))
	if err == nil {
		err = os.Chmod(tmp, 0o755) // whatever the umask
	}
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "volume %s", name)
	}
	if err = fill(tmp); err == nil {
		err = fail.Wrap(fail.HostCannot, os.Rename(tmp, path), "volume %s", name)
	}
	if err != nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	return err
}

// lock makes a volume's directory and locks it until unlock, or the end of
// this process.
func lock(ctx context.Context, dir string) (unlock func(), err error) {
	for {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		f, err := os.Open(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		// Who had it may have failed and removed it.
		var st unix.Stat_t
		if err == nil && unix.Fstat(int(f.Fd()), &st) == nil && st.Nlink > 0 {
			return func() { f.Close() }, nil
		}
		f.Close()
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Anonymous gives a name for a volume nobody named, as docker does: 64 hex digits.
func Anonymous() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Remove deletes a volume and its data. A missing volume is no error.
func (v Volumes) Remove(name string) error {
	if !names().MatchString(name) {
		return fail.New(fail.Usage, "volume name %q", name)
	}
	return fail.Wrap(fail.HostCannot, os.RemoveAll(filepath.Join(string(v), name)), "removing volume %s", name)
}
