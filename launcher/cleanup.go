package launcher

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"golang.org/x/sync/errgroup"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/internal/volumes"
)

// stopTimeout is how long a clean-up waits for a killed task to end.
const stopTimeout = 10 * time.Second

// remove takes everything away that a container has anywhere: task, record,
// snapshot, ids, anonymous volumes, files, name. It works by the id alone, on
// whatever part of it exists, and can be repeated. The entry is given up
// last, so what fails halfway is found again.
func (l *Launcher) remove(ctx context.Context, e *store.Entry, rec store.Record) error {
	ctx, cancel := l.detached(ctx)
	defer cancel()
	// The task and the snapshot do not know of each other: containerd unmounts
	// with the task, and removing a snapshot only marks it.
	var wg sync.WaitGroup
	var snapErr error
	wg.Add(1)
	go func() {
		defer wg.Done()
		snapErr = l.removeSnapshot(ctx, rec.ID)
	}()
	// Neither do those know of the network, whose links take the kernel a moment.
	var netErr error
	wg.Go(func() { netErr = l.removeNetwork(ctx, e.Dir) })
	err := l.removeTask(ctx, rec.ID)
	if err == nil {
		if derr := l.containers.Delete(ctx, rec.ID); derr != nil && !isNotFound(derr) {
			err = engineError(derr, "removing the container record")
		}
		err = errors.Join(err, fault("container-deleted"))
	}
	wg.Wait()
	if err == nil {
		err = removeCgroups(rec.Cgroup)
	}
	if err == nil {
		err = errors.Join(dropSources(e.IO), l.dropImages(ctx, rec.ID, e.Dir), l.dropAppArmor(rec.ID))
	}
	if err = errors.Join(err, snapErr, netErr); err != nil {
		e.Release()
		return err
	}
	vs := volumes.In(l.Store.Root)
	for _, v := range rec.Anonymous {
		derr := vs.DropUnused(ctx, l.Store, v, rec.ID)
		if k := fail.KindOf(derr); k != fail.Conflict && k != fail.NotFound { // another command's sweep may come first
			err = errors.Join(err, derr)
		}
	}
	if rec.Block.Size != 0 {
		err = errors.Join(err, l.IDs.Release(rec.Block, rec.ID))
	} else { // none, or the record does not say which
		_, rerr := l.IDs.Reclaim(func(owner string) bool { return owner != rec.ID })
		err = errors.Join(err, rerr)
	}
	if err != nil {
		e.Release()
		return err
	}
	return e.Remove()
}

func (l *Launcher) removeNetwork(ctx context.Context, dir string) error {
	return errors.Join(l.Networks.Remove(ctx, dir), fault("network-removed"))
}

func (l *Launcher) removeSnapshot(ctx context.Context, id string) error {
	if err := l.snapshots.Remove(ctx, id); err != nil && !isNotFound(err) {
		return engineError(err, "removing the snapshot")
	}
	return fault("snapshot-removed")
}

// removeTask deletes the task of a container, killing it first if it lives.
func (l *Launcher) removeTask(ctx context.Context, id string) error {
	if gone, err := l.deleteTask(ctx, id); gone || err != nil {
		return err
	}
	// It lives, or is paused, or half created.
	_, _ = l.tasks.Resume(ctx, &tasksapi.ResumeTaskRequest{ContainerID: id})
	// A task that has just ended says so in many ways; the delete below tells.
	_, _ = l.tasks.Kill(ctx, &tasksapi.KillRequest{ContainerID: id, Signal: uint32(syscall.SIGKILL), All: true})
	l.killFirst(ctx, id)
	wctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	_, _ = l.tasks.Wait(wctx, &tasksapi.WaitRequest{ContainerID: id})
	for end := time.Now().Add(stopTimeout); ; time.Sleep(20 * time.Millisecond) {
		gone, err := l.deleteTask(ctx, id)
		if gone {
			return nil
		}
		if time.Now().After(end) {
			return fail.Wrap(fail.Internal, err, "the task of container %s cannot be removed", id)
		}
	}
}

// deleteTask deletes a task that has ended. gone is true if there is none
// afterwards.
func (l *Launcher) deleteTask(ctx context.Context, id string) (gone bool, err error) {
	_, err = l.tasks.Delete(ctx, &tasksapi.DeleteTaskRequest{ContainerID: id})
	if err == nil || isNotFound(err) {
		return true, fault("task-deleted")
	}
	st, gerr := l.tasks.Get(ctx, &tasksapi.GetRequest{ContainerID: id})
	if isNotFound(gerr) {
		return true, nil
	}
	if gerr == nil && st.Process.GetStatus() == tasktypes.Status_STOPPED {
		return false, nil // being deleted, or needs another try
	}
	return false, nil
}

// Sweep cleans up after launchers that died. After boot all records are looked
// at. Nothing of a container whose launcher lives is touched.
func (l *Launcher) Sweep(ctx context.Context) error {
	live, err := l.Store.Live()
	if err != nil {
		return err
	}
	ids, fresh := live, l.Store.Fresh(l.Address)
	if fresh {
		all, err := l.Store.IDs()
		if err != nil {
			return err
		}
		ids = append(ids, all...)
	}
	dead := 0
	// Much of it is waiting for containerd and its shims.
	var burials errgroup.Group
	burials.SetLimit(8)
	var mu sync.Mutex
	var errs error
	for i, id := range ids {
		if len(id) != 64 || l.Store.Supervised(id) {
			continue
		}
		rec, lerr := l.Store.Load(id)
		// One that ended still has a lock file if its task could not be removed.
		if lerr == nil && rec.Keep && rec.Phase == store.PhaseExited && i >= len(live) {
			continue
		}
		if lerr == nil && rec.Address != l.Address {
			continue // another containerd's
		}
		capture := l.Store.Capture
		if i < len(live) { // others clear away too, while this waits for burials
			capture = l.Store.CaptureLeft
		}
		e := capture(id)
		if e == nil {
			continue
		}
		dead++
		burials.Go(func() error {
			var err error
			if l.livesOn(ctx, rec) {
				err = l.Adopt(e)
			} else {
				err = l.bury(ctx, e, rec)
			}
			mu.Lock()
			defer mu.Unlock()
			errs = errors.Join(errs, err)
			return nil
		})
	}
	_ = burials.Wait()
	errs = errors.Join(errs, l.SweepExecs(ctx))
	if dead > 0 {
		_, err := l.IDs.Reclaim(func(owner string) bool {
			if l.Store.Supervised(owner) {
				return true
			}
			_, err := l.Store.Load(owner)
			return err == nil
		})
		// A container nobody supervises has no address, even if its record stays.
		errs = errors.Join(errs, err, l.Networks.Reclaim(l.Store.Supervised), volumes.In(l.Store.Root).Tidy())
	}
	if fresh && errs == nil {
		errs = l.Store.Swept(l.Address)
	}
	return errs
}

// bury ends the container of a launcher that died. Without --rm a container
// that had started stays, stopped, as docker leaves it.
func (l *Launcher) bury(ctx context.Context, e *store.Entry, rec store.Record) error {
	dctx, cancel := l.detached(ctx)
	defer cancel()
	for _, step := range []func() error{
		func() error { return killCgroups(rec.Cgroup) },
		func() error { return l.awaitCreation(ctx, rec) },
		func() error { return l.awaitSnapshot(dctx, rec) },
		func() error { return dropSources(e.IO) },
		func() error { return l.removeTask(dctx, rec.ID) },
		func() error { return removeCgroups(rec.Cgroup) },
		func() error { return l.awaitRemoval(rec) },
	} {
		if err := step(); err != nil {
			e.Release()
			return err
		}
	}
	if !rec.Keep || rec.Phase == store.PhaseCreating {
		return l.remove(ctx, e, rec)
	}
	code := rec.ExitCode
	if rec.Phase == store.PhaseRunning {
		code = 137
	}
	return l.end(ctx, e, rec, code)
}

// end takes the task of a container away that stays as a record. If it cannot,
// the lock file stays too, and the next command tries again.
func (l *Launcher) end(ctx context.Context, e *store.Entry, rec store.Record, code int) error {
	ctx, cancel := l.detached(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var netErr error
	wg.Go(func() { netErr = l.removeNetwork(ctx, e.Dir) })
	err := l.removeTask(ctx, rec.ID)
	if err == nil {
		err = l.dropAppArmor(rec.ID)
	}
	wg.Wait()
	err = errors.Join(err, netErr)
	rec.Phase, rec.ExitCode, rec.PID, rec.Paused = store.PhaseExited, code, 0, false
	if rec.Finished.Before(rec.Started) {
		rec.Finished = time.Now().UTC()
	}
	if err = errors.Join(err, l.Store.Save(rec)); err != nil {
		e.Release()
		return err
	}
	return e.End()
}

// awaitCreation waits until containerd is done with what the dead launcher
// had asked for. Its request is cancelled with its connection, but the shim
// takes a moment to see that, and answers nothing while it waits for output
// nobody reads.
func (l *Launcher) awaitCreation(ctx context.Context, rec store.Record) error {
	var busy error
	begin := time.Now()
	for time.Since(begin) < 20*time.Second {
		_ = killCgroups(rec.Cgroup) // the process may have come there only now
		call, cancel := context.WithTimeout(l.context(context.WithoutCancel(ctx)), time.Second)
		_, err := l.tasks.Get(call, &tasksapi.GetRequest{ContainerID: rec.ID})
		cancel()
		switch {
		case err == nil:
			return nil // it exists and can be removed
		case !isNotFound(err):
			busy = err
		case !l.bundleExists(rec.ID) && !cgroupExists(rec.Cgroup) || time.Since(begin) > time.Second:
			return nil
		}
		time.Sleep(25 * time.Millisecond)
	}
	return engineError(busy, "looking for the task of a dead launcher")
}

// snapshotTime is how long after the beginning of a launch its snapshot may
// still come.
const snapshotTime = 2 * time.Second

// awaitSnapshot waits for the snapshot of a launcher that was killed a moment
// ago: containerd completes what it has begun, in transactions between which
// nothing can be found to remove.
func (l *Launcher) awaitSnapshot(ctx context.Context, rec store.Record) error {
	for {
		age := time.Since(rec.Created)
		if age < 0 || age > snapshotTime {
			return nil
		}
		if _, err := l.snapshots.Stat(ctx, rec.ID); !isNotFound(err) {
			return nil // it is there, or the removal will say what is wrong
		}
		time.Sleep(25 * time.Millisecond)
	}
}

// awaitRemoval waits until nothing of a removed task is left. A shim that was
// creating it is killed: containerd waits for its answer only for a while, and
// then leaves it behind.
func (l *Launcher) awaitRemoval(rec store.Record) error {
	for begin := time.Now(); ; time.Sleep(25 * time.Millisecond) {
		shim := l.shimRuns(rec.ID, time.Since(begin) > time.Second)
		switch {
		case !shim && !l.bundleExists(rec.ID):
			return nil
		case !shim && time.Since(begin) > 2*time.Second:
			if err := l.dropRuntimeState(rec); err != nil {
				return err
			}
		case time.Since(begin) > 10*time.Second:
			return fail.New(fail.Internal, "containerd still has something of container %s, which a dead launcher left", rec.ID[:12])
		}
		_ = killCgroups(rec.Cgroup)
	}
}

// shimRuns looks for the shim of a container, and kills it if asked to.
func (l *Launcher) shimRuns(id string, kill bool) (found bool) {
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range processes {
		if !isShim(dir, l.Namespace, id) {
			continue
		}
		found = true
		pid, _ := strconv.Atoi(filepath.Base(dir))
		// Looked at again once the number cannot come to mean another process.
		p := holdInit(uint32(pid))
		if kill && isShim(dir, l.Namespace, id) {
			_ = p.signal(syscall.SIGKILL)
		}
		p.close()
	}
	return found
}

// isShim says whether a process serves a container as its shim. One that
// starts or deletes it has that word at its end.
func isShim(dir, namespace, id string) bool {
	b, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
	args := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
	has := func(flag, value string) bool {
		i := slices.Index(args, flag)
		return i > 0 && i+1 < len(args) && args[i+1] == value
	}
	return filepath.Base(args[0]) == "containerd-shim-runc-v2" && has("-namespace", namespace) && has("-id", id) &&
		!slices.Contains([]string{"start", "delete"}, args[len(args)-1])
}

// bundleExists looks for the runtime's directory of a task in the places
// where runc and containerd keep it.
func (l *Launcher) bundleExists(id string) bool {
	for _, p := range []string{
		l.runtimeState(id),
		filepath.Join("/run/containerd/io.containerd.runtime.v2.task", l.Namespace, id),
		filepath.Join(l.Store.Run, "engine/io.containerd.runtime.v2.task", l.Namespace, id),
	} {
		if _, err := os.Lstat(p); err == nil {
			return true
		}
	}
	return false
}

// runtimeState is where runc keeps what it knows of a container.
func (l *Launcher) runtimeState(id string) string {
	root := l.RuncRoot
	if root == "" {
		root = "/run/containerd/runc"
	}
	return filepath.Join(root, l.Namespace, id)
}

// dropRuntimeState removes what runc knows of a container whose shim is gone.
// containerd has the shim's clean-up do that, and if it takes too long, on a
// host with much to do, nobody does.
func (l *Launcher) dropRuntimeState(rec store.Record) error {
	if err := killCgroups(rec.Cgroup); err != nil {
		return err
	}
	dir := l.runtimeState(rec.ID)
	for _, name := range []string{"exec.fifo", "state.json", ""} { // never recursively: it is not ours
		err := os.Remove(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fail.Wrap(fail.HostCannot, err, "the runtime's state of container %s", rec.ID[:12])
		}
	}
	return nil
}
