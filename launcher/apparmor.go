package launcher

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/profiles"
	"github.com/safe-run/safe-run/spec"
)

// NarrowAppArmor makes the AppArmor profile of a workload that has rules. The
// scope is Store.Run: launchers that do not see each other's containers never
// share a profile. Errors are those of profiles.NarrowAppArmor and
// spec.BoundingSet.
func NarrowAppArmor(w spec.Workload, g spec.Grants, scope string) (profiles.Narrowed, error) {
	caps, err := spec.BoundingSet(w, g)
	if err != nil {
		return profiles.Narrowed{}, err
	}
	var use profiles.AppArmorUse
	if w.AppArmor != nil {
		for _, f := range w.AppArmor.Files {
			use.Files = append(use.Files, profiles.AppArmorFile{Path: f.Path, Access: f.Access})
		}
	}
	return profiles.NarrowAppArmor(use, caps, scope)
}

// holdAppArmor loads the profile of a workload with rules, for as long as the
// container runs.
func (r *run) holdAppArmor(ctx context.Context) error {
	if r.Workload.AppArmor == nil {
		return nil
	}
	n, err := NarrowAppArmor(r.Workload, r.Grants, r.Store.Run)
	if err != nil {
		return err
	}
	if n.Name != r.AppArmorProfile {
		return fail.New(fail.Internal, "the AppArmor profile %.64q of the request is not %s, which the rules make", r.AppArmorProfile, n.Name)
	}
	return r.HoldAppArmor(ctx, r.rec.ID, n)
}

// A profile that containers were launched with is a directory, in which each of
// these containers has a file named by its id. It is there before the profile
// is loaded, and the profile goes when the last of them does: a kernel that
// loses a profile leaves its processes without any.
func (l *Launcher) apparmorDir() string { return filepath.Join(l.Store.Run, "apparmor") }

// HoldAppArmor notes that a container has a profile, and sees to it that the
// kernel enforces that. Of what it had before it is let go. Errors have kind
// HostCannot where the kernel or the parser cannot.
func (l *Launcher) HoldAppArmor(ctx context.Context, id string, n profiles.Narrowed) error {
	if err := os.Mkdir(l.apparmorDir(), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fail.Wrap(fail.HostCannot, err, "AppArmor profiles of containers")
	}
	unlock, err := l.lockAppArmor()
	if err != nil {
		return err
	}
	defer unlock()
	if err := l.letGoAppArmor(id, n.Name); err != nil {
		return err
	}
	dir := filepath.Join(l.apparmorDir(), n.Name)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fail.Wrap(fail.HostCannot, err, "AppArmor profiles of containers")
	}
	if err := os.WriteFile(filepath.Join(dir, id), nil, 0o600); err != nil {
		return fail.Wrap(fail.HostCannot, err, "AppArmor profiles of containers")
	}
	if err := fault("apparmor"); err != nil {
		return err
	}
	return profiles.LoadNarrowed(ctx, n)
}

// dropAppArmor lets go of the profiles of a container whose processes have
// ended, and unloads those no other container has. It can be repeated, and
// costs one look at the disk where no profile was ever made.
func (l *Launcher) dropAppArmor(id string) error {
	unlock, err := l.lockAppArmor()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	return l.letGoAppArmor(id, "")
}

// letGoAppArmor does the same for all profiles but one, under the lock.
func (l *Launcher) letGoAppArmor(id, but string) error {
	entries, err := os.ReadDir(l.apparmorDir())
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "AppArmor profiles of containers")
	}
	var errs error
	for _, e := range entries {
		if e.Name() == but {
			continue
		}
		dir := filepath.Join(l.apparmorDir(), e.Name())
		patience := lastProcess
		err := os.Remove(filepath.Join(dir, id))
		if err != nil {
			// Not its own. One that could not be unloaded when its last container
			// ended is found here again, empty; it holds nobody up.
			patience = 0
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			continue
		}
		if uerr := unloadAppArmor(e.Name(), patience); uerr == nil {
			_ = os.Remove(dir)
		} else if err == nil {
			errs = errors.Join(errs, uerr)
		}
	}
	return errs
}

// lastProcess is how long the processes of a container may take to be gone
// from the kernel once its task is deleted.
const lastProcess = 3 * time.Second

func unloadAppArmor(name string, patience time.Duration) error {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := profiles.UnloadAppArmor(name)
		if fail.KindOf(err) != fail.Conflict || time.Now().After(end) {
			return err
		}
	}
}

// lockAppArmor keeps others from loading and unloading profiles until the
// function it gives is called. Without profiles the error is fs.ErrNotExist.
func (l *Launcher) lockAppArmor() (func(), error) {
	f, err := os.Open(l.apparmorDir())
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "AppArmor profiles of containers")
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, fail.Wrap(fail.HostCannot, err, "locking %s", f.Name())
	}
	return func() { _ = f.Close() }, nil
}
