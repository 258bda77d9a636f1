package launcher

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/logs"
	"github.com/safe-run/safe-run/internal/store"
)

// Supervise stays with a container whose supervisor went or died, and whose
// lock this process inherited: if its program runs, as if this had started it;
// if not, its restart policy decides what comes next.
func (l *Launcher) Supervise(ctx context.Context, id string, lock *os.File) error {
	ctx = l.context(ctx)
	e := l.Store.Adopt(id, lock)
	if _, err := l.Store.LoadAsked(id); err != nil {
		// What cannot be read is not there the next time either.
		rec, _ := l.Store.Load(id)
		rec.Error = err.Error()
		return errors.Join(err, l.bury(ctx, e, rec))
	}
	r, err := l.reopen(e)
	if err != nil {
		e.Release()
		return err
	}
	if r.rec.Stopped { // its supervisor died before that was done
		r.state.quit()
	}
	signals := catch()
	if err := r.listen(ctx); err != nil {
		e.Release()
		return err
	}
	running, err := r.resume(ctx)
	if err != nil {
		r.state.close()
		e.Release()
		return err
	}
	if running {
		_, err = r.lives(ctx, nil, signals)
		return err
	}
	end := ending{code: 137}
	r.mu.Lock()
	restarting := r.rec.Phase == store.PhaseRestarting
	if restarting {
		end.code = r.rec.ExitCode
		r.rec.Restarts = max(r.rec.Restarts-1, 0) // it did not come to that one
	} else {
		r.rec.ExitCode, r.rec.Finished, r.rec.PID = end.code, time.Now().UTC(), 0
	}
	r.mu.Unlock()
	if !restarting {
		r.event("die", "exitCode", "137")
	}
	if err := l.clear(ctx, e, r.rec); err != nil {
		r.state.close()
		e.Release()
		return err
	}
	_, err = r.after(ctx, end, signals)
	return err
}

// reopen makes a run of what is kept about a container.
func (l *Launcher) reopen(e *store.Entry) (*run, error) {
	rec, err := l.Store.Load(e.ID)
	if err != nil {
		return nil, err
	}
	asked, err := l.Store.LoadAsked(e.ID)
	if err != nil {
		return nil, err
	}
	r := &run{Launcher: l, entry: e, rec: rec, asked: asked, life: newLife()}
	r.Request = Request{
		Workload: asked.Workload, Image: asked.Image, Caller: asked.Caller,
		Streams: Streams{OpenIn: rec.Stdin}, // of the lives to come
	}
	if err := os.Mkdir(e.IO, 0o700); err != nil && !errors.Is(err, os.ErrExist) { // gone with the last end, or a reboot
		return nil, fail.Wrap(fail.HostCannot, err, "state of the container")
	}
	if r.Log, err = logs.Parse(rec.LogDriver, asked.Workload.LogOpts); err != nil {
		return nil, err
	}
	return r, r.openLog()
}

// resume takes a running program over; false if none runs any more.
func (r *run) resume(ctx context.Context) (bool, error) {
	if r.rec.Phase != store.PhaseRunning {
		return false, nil
	}
	t, err := r.tasks.Get(ctx, &tasksapi.GetRequest{ContainerID: r.rec.ID})
	if isNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, engineError(err, "looking for the container's task")
	}
	if t.GetProcess().GetStatus() == tasktypes.Status_CREATED {
		return false, nil // its supervisor died before it could start the program
	}
	c, err := r.containers.Get(ctx, r.rec.ID)
	if isNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, engineError(err, "looking for the container")
	}
	r.spec = new(specs.Spec)
	if err := typeurl.UnmarshalTo(c.Spec, r.spec); err != nil {
		return false, fail.Wrap(fail.Internal, err, "the specification of container %s", r.rec.ID[:12])
	}
	if r.pid = t.GetProcess().GetPid(); t.GetProcess().GetStatus() == tasktypes.Status_STOPPED {
		r.pid = 0 // the number may be another process's by now
	}
	if r.io, err = reopenStdio(r.entry.IO, r.rec.TTY); err != nil {
		return false, err
	}
	r.io.also, r.resumed = r.sink, true
	// Without its ports held the container runs on: the kernel forwards them.
	r.net, _ = r.Networks.Adopt(ctx, r.entry.Dir, int(r.pid), r.Notice)
	return true, r.io.start(Streams{OpenIn: r.rec.Stdin}, nil, nil)
}

// clear takes away what a container has of a life that nobody supervised.
func (l *Launcher) clear(ctx context.Context, e *store.Entry, rec store.Record) error {
	dctx, cancel := l.detached(ctx)
	defer cancel()
	for _, step := range []func() error{
		func() error { return killCgroups(rec.Cgroup) },
		func() error { return l.awaitCreation(ctx, rec) },
		func() error { return dropSources(e.IO) },
		func() error { return l.removeTask(dctx, rec.ID) },
		func() error { return removeCgroups(rec.Cgroup) },
		func() error { return l.awaitRemoval(rec) },
		func() error { return l.removeNetwork(dctx, e.Dir) },
		func() error { return l.dropImages(dctx, rec.ID, e.Dir) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// Watcher hears of a start.
type Watcher struct {
	Notice  func(string)
	Ready   func() // the container can be attached to, its program has not started
	Hold    bool   // wait then until somebody is attached
	Started func()
}

// Start starts a stopped container again and stays with it to its end.
func (l *Launcher) Start(ctx context.Context, id string, w Watcher) error {
	ctx, cancel := context.WithCancelCause(l.context(ctx))
	defer cancel(nil)
	signals, settled := guard(cancel)
	e, err := l.take(ctx, id)
	if e == nil {
		if err == nil { // somebody else has started it
			w.Ready()
			w.Started()
		}
		return err
	}
	r, err := l.reopen(e)
	if err != nil {
		if _, gone := l.Store.Load(id); fail.KindOf(gone) == fail.NotFound {
			_ = e.End() // removed a moment ago: taking it over has registered it again
		} else {
			e.Release()
		}
		return err
	}
	r.Notice, r.Started = w.Notice, w.Started
	err = r.listen(ctx)
	if err == nil {
		err = l.clear(ctx, e, r.rec)
	}
	if err == nil {
		err = r.change(func(rec *store.Record) {
			rec.Phase, rec.Detached, rec.Stopped, rec.Restarts, rec.Error = store.PhaseRestarting, true, false, 0, ""
		})
	}
	if err != nil {
		r.state.close()
		e.Release()
		return err
	}
	w.Ready()
	for end := time.Now().Add(stopTimeout); w.Hold && r.state.clients.Len() == 0 && time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(time.Millisecond)
	}
	err = r.again(ctx)
	waiting := settled()
	kept := l.context(context.WithoutCancel(ctx))
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		end := r.failed(kept, err)
		_, _ = r.conclude(kept, ending{code: end.code})
		return err
	}
	_, err = r.lives(kept, waiting, signals)
	return err
}

// take takes a stopped container over; nil without an error if it runs by now.
func (l *Launcher) take(ctx context.Context, id string) (*store.Entry, error) {
	for range 20 {
		if e := l.Store.Capture(id); e != nil {
			return e, nil
		}
		time.Sleep(10 * time.Millisecond) // others may have its lock for a moment
		rec, err := l.Store.Load(id)
		if err != nil {
			return nil, err
		}
		if running, err := l.Await(ctx, rec); err != nil || running {
			return nil, err
		}
	}
	return nil, fail.New(fail.Conflict, "container %s is in use", id[:12])
}

// guard catches signals while a container is started: one that asks to end
// ends the start. settled gives those that came and were not acted upon.
func guard(cancel context.CancelCauseFunc) (signals <-chan os.Signal, settled func() []os.Signal) {
	all := catch()
	early := make(chan []os.Signal)
	started := make(chan struct{})
	go func() {
		var waiting []os.Signal
		for {
			select {
			case s := <-all:
				waiting = append(waiting, s)
				if fatal(s) {
					cancel(interrupted(s))
				}
			case <-started:
				early <- waiting
				return
			}
		}
	}()
	return all, func() []os.Signal {
		close(started)
		return <-early
	}
}

// livesOn says whether a container goes on without the supervisor that died.
func (l *Launcher) livesOn(ctx context.Context, rec store.Record) bool {
	if l.Adopt == nil || !rec.Detached || rec.Phase != store.PhaseRunning && rec.Phase != store.PhaseRestarting {
		return false
	}
	if rec.Restart.Restarts() {
		return true
	}
	_, err := l.tasks.Get(l.context(ctx), &tasksapi.GetRequest{ContainerID: rec.ID})
	return err == nil
}

// openLog opens the container's log, if one is kept.
func (r *run) openLog() (err error) {
	r.Log.Dir = r.Store.LogDir(r.rec.ID)
	m := logs.Meta{ID: r.rec.ID, Name: r.rec.Name, Image: r.rec.Image, ImageID: r.Image.Digest, Labels: r.rec.Labels, Env: slices.Clone(r.Image.Env)}
	for _, v := range r.Workload.Env {
		if v.Value != nil {
			m.Env = append(m.Env, v.Name+"="+*v.Value)
		}
	}
	r.log, err = logs.Open(r.Log, m)
	return err
}

// sink takes the container's output besides the caller's streams.
func (r *run) sink(stream byte, b []byte) {
	if r.log != nil {
		to := logs.Stdout
		if stream == streamErr {
			to = logs.Stderr
		}
		_ = r.log.Write(to, b)
	}
	r.state.clients.Write(stream, b)
}
