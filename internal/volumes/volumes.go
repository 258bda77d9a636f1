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
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/lazyre"
)

// Volumes is the directory all volumes lie in, each as NAME/_data. Beside the
// data is a file for what else is kept, and NAME is what locks are held on.
type Volumes string

// In gives the volumes of a state root.
func In(root string) Volumes { return Volumes(filepath.Join(root, "volumes")) }

// names are docker's: at least two characters, none of them a separator.
var names = lazyre.New(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}$`)

// Path is the data directory of a volume.
func (v Volumes) Path(name string) string { return filepath.Join(v.dir(name), "_data") }

func (v Volumes) dir(name string) string { return filepath.Join(string(v), name) }

// Ensure makes a volume if it does not exist, with what fill puts into its
// directory. It appears when it is complete: whoever wants the same volume
// meanwhile waits, and what a crash or an error left is made anew.
//
// A volume found is kept as long as a container is known to use it. So a
// launch that has noted the volume in its state before it calls Ensure cannot
// lose it to a removal at the same time: see Drop.
func (v Volumes) Ensure(ctx context.Context, name string, fill func(dir string) error) error {
	_, err := v.ensure(ctx, name, nil, fill)
	if err == nil {
		err = v.first(ctx, name, fill)
	}
	return err
}

// fresh is a file beside the data of a volume that was made by hand and that no
// container had yet.
const fresh = "fresh"

// first fills a volume that was made by hand, as docker does with one that is
// empty when it is first used.
func (v Volumes) first(ctx context.Context, name string, fill func(dir string) error) error {
	path, mark := v.Path(name), filepath.Join(v.dir(name), fresh)
	if _, err := os.Lstat(mark); err != nil {
		return nil
	}
	unlock, err := lock(ctx, v.dir(name), unix.LOCK_EX, false)
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "volume %s", name)
	}
	defer unlock()
	if _, err := os.Lstat(mark); err != nil {
		return nil // another one was first
	}
	there, err := os.ReadDir(path)
	// Somebody has put something into it, or made it theirs.
	if st, at := os.Lstat(path); err == nil && (at != nil || len(there) > 0 || st.Mode().Perm() != 0o755 || st.Sys().(*syscall.Stat_t).Uid != 0) {
		return fail.Wrap(fail.HostCannot, os.Remove(mark), "volume %s", name)
	}
	tmp := path + ".new"
	err = errors.Join(err, os.RemoveAll(tmp), os.Mkdir(tmp, 0o755))
	if err == nil {
		err = os.Chmod(tmp, 0o755) // whatever the umask
	}
	if err == nil {
		if err := fill(tmp); err != nil {
			return errors.Join(err, os.RemoveAll(tmp))
		}
		err = unix.Rename(tmp, path)    // os.Rename takes no directory that is there
		if errors.Is(err, unix.EBUSY) { // something is mounted on it, which is what is wanted then
			err = os.RemoveAll(tmp)
		}
		err = errors.Join(err, os.Remove(mark))
	}
	return fail.Wrap(fail.HostCannot, err, "volume %s", name)
}

// ensure also keeps m with a volume it makes; made says that it did.
func (v Volumes) ensure(ctx context.Context, name string, m *meta, fill func(dir string) error) (made bool, err error) {
	if err := checkName(name); err != nil {
		return false, err
	}
	path, dir := v.Path(name), v.dir(name)
	// Even to look takes the lock, so that a removal is before or after it.
	unlock, err := lock(ctx, dir, unix.LOCK_SH, false)
	if err == nil {
		_, err = os.Lstat(path)
		unlock()
		if err == nil {
			return false, nil
		}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return false, fail.Wrap(fail.HostCannot, err, "volume %s", name)
	}
	unlock, err = lock(ctx, dir, unix.LOCK_EX, true)
	if err != nil {
		return false, fail.Wrap(fail.HostCannot, err, "volume %s", name)
	}
	defer unlock()
	if _, err := os.Lstat(path); err == nil {
		return false, nil
	}
	tmp := path + ".new"
	err = errors.Join(emptied(dir), os.Mkdir(tmp, 0o755))
	if err == nil {
		err = os.Chmod(tmp, 0o755) // whatever the umask
	}
	if err == nil && m != nil {
		err = errors.Join(m.write(dir), os.WriteFile(filepath.Join(dir, fresh), nil, 0o600))
	}
	if err != nil {
		err = fail.Wrap(fail.HostCannot, err, "volume %s", name)
	} else if err = fill(tmp); err == nil {
		err = fail.Wrap(fail.HostCannot, os.Rename(tmp, path), "volume %s", name)
	}
	if err != nil {
		_ = os.RemoveAll(dir)
	}
	return err == nil, err
}

// emptied empties a volume's directory of what a crash left in it.
func emptied(dir string) error {
	left, err := os.ReadDir(dir)
	for _, e := range left {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

func checkName(name string) error {
	if !names().MatchString(name) {
		return fail.New(fail.Usage, "volume name %.80q: use letters, digits, '_', '.' and '-', at least two, the first a letter or digit", name)
	}
	return nil
}

// lock locks a volume's directory, shared or exclusively, until unlock or the
// end of this process. Where there is none it is made, or the error is
// fs.ErrNotExist.
func lock(ctx context.Context, dir string, how int, create bool) (unlock func(), err error) {
	for {
		if create {
			if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, err
			}
		}
		f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if errors.Is(err, fs.ErrNotExist) && create {
			continue
		}
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
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
