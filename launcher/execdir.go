package launcher

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
)

// execDir is where the FIFOs of an exec are. Its name says whose they are, and
// it is locked for as long as somebody reads them.
type execDir struct {
	path string
	lock *os.File
}

func (l *Launcher) execs() string { return filepath.Join(l.Store.Run, "exec") }

// makeDir makes the directory of the exec under the lock of this process.
func (x *execution) makeDir() error {
	base := x.execs()
	if err := os.Mkdir(base, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fail.Wrap(fail.HostCannot, err, "FIFOs of the exec")
	}
	// It gets its name once it is locked: a sweep must not take it for a dead
	// client's.
	fresh, path := filepath.Join(base, freshExec+x.id), filepath.Join(base, x.rec.ID+"-"+x.id)
	for range 100 {
		if err := os.Mkdir(fresh, 0o700); errors.Is(err, fs.ErrExist) { // a sweep is about to remove it
			time.Sleep(time.Millisecond)
			continue
		} else if err != nil {
			return fail.Wrap(fail.HostCannot, err, "FIFOs of the exec")
		}
		d, err := lockDir(fresh)
		if err != nil {
			return fail.Wrap(fail.HostCannot, err, "FIFOs of the exec")
		}
		if d == nil {
			continue
		}
		if err := os.Rename(fresh, path); err != nil {
			d.remove()
			return fail.Wrap(fail.HostCannot, err, "FIFOs of the exec")
		}
		d.path, x.dir = path, d
		return nil
	}
	return fail.New(fail.Internal, "the directory of the exec is always removed again")
}

// freshExec begins the name of a directory that is not locked yet.
const freshExec = "new-"

// lockDir locks an exec's directory; nil if it is gone, or another process has
// the lock.
func lockDir(path string) (*execDir, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil // gone
	}
	if err != nil {
		return nil, err
	}
	d := &execDir{path, os.NewFile(uintptr(fd), path)}
	err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	var st unix.Stat_t
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	if err == nil && st.Nlink > 0 {
		return d, nil
	}
	d.lock.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = nil
	}
	return nil, err
}

func (d *execDir) remove() {
	for _, name := range []string{"stdin", "stdout", "stderr", ""} {
		_ = os.Remove(filepath.Join(d.path, name))
	}
	d.lock.Close()
}

// SweepExecs ends the execs whose clients were killed: nobody reads what they
// write. Part of Sweep.
func (l *Launcher) SweepExecs(ctx context.Context) error {
	entries, err := os.ReadDir(l.execs())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := fail.Wrap(fail.HostCannot, err, "execs of clients that were killed")
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), freshExec) {
			if d, _ := lockDir(filepath.Join(l.execs(), e.Name())); d != nil {
				d.remove()
			}
			continue
		}
		id, exec, ok := strings.Cut(e.Name(), "-")
		if !ok || len(id) != 64 || exec == "" {
			continue
		}
		rec, err := l.Store.Load(id)
		if err == nil && rec.Address != l.Address {
			continue // another containerd's
		}
		d, err := lockDir(filepath.Join(l.execs(), e.Name()))
		if err != nil {
			errs = errors.Join(errs, fail.Wrap(fail.HostCannot, err, "exec of a client that was killed"))
		}
		if d != nil {
			errs = errors.Join(errs, l.endExec(ctx, rec, exec, d))
		}
	}
	return errs
}

// endExec kills an exec nobody attends to, and has containerd forget it.
func (l *Launcher) endExec(ctx context.Context, rec store.Record, exec string, d *execDir) error {
	ctx, cancel := l.detached(ctx)
	defer cancel()
	x := &execution{Launcher: l, rec: rec, id: exec, dir: d, init: initProcess{fd: -1}, first: initProcess{fd: -1}}
	// A shim that was starting it answers nothing until somebody reads, and one
	// that ends it waits until all is read.
	for _, name := range []string{"stdout", "stderr"} {
		if f, err := os.OpenFile(filepath.Join(d.path, name), os.O_RDONLY|unix.O_NONBLOCK, 0); err == nil {
			defer f.Close()
			go func() { _, _ = io.Copy(io.Discard, f) }()
		}
	}
	t, err := l.tasks.Get(ctx, &tasksapi.GetRequest{ContainerID: rec.ID, ExecID: exec})
	if err != nil && !isNotFound(err) {
		d.lock.Close() // the next command tries again
		return engineError(err, "ending an exec whose client was killed")
	}
	if x.made = err == nil; x.made && t.GetProcess().GetStatus() == tasktypes.Status_RUNNING {
		x.pid = t.GetProcess().GetPid()
		x.first = holdInit(x.pid)
		x.signal(unix.SIGKILL)
		wctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, _ = l.tasks.Wait(wctx, &tasksapi.WaitRequest{ContainerID: rec.ID, ExecID: exec})
	}
	x.close(ctx)
	return nil
}
