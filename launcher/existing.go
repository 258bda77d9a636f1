package launcher

import (
	"context"
	"time"

	"github.com/safe-run/safe-run/internal/control"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
)

// answerTime is how long a supervisor may take to open its socket: a start
// from nothing, or the adoption of a container.
const answerTime = 30 * time.Second

// Ask has the supervisor of a container do something (see OpStop and its
// kin). A container whose supervisor died gets another one first. If none runs
// and none is due, the error is fail.NotFound of NotRunning.
func (l *Launcher) Ask(ctx context.Context, rec store.Record, rq control.Request) (control.Reply, error) {
	bounded, cancel := bound(ctx, rec, rq)
	defer cancel()
	for end := time.Now().Add(answerTime); ; time.Sleep(10 * time.Millisecond) {
		reply, err := l.call(ctx, bounded, rec, rq)
		if !control.NotThere(err) {
			return reply, err
		}
		if !l.Store.Supervised(rec.ID) && !l.reunite(ctx, rec.ID) {
			return reply, NotRunning(rec)
		}
		if time.Now().After(end) {
			return reply, fail.Wrap(fail.Internal, err, "the supervisor of container %s does not answer", rec.ID[:12])
		}
	}
}

// AskOnce is Ask for what must not be done twice: a supervisor that went away
// before it answered is not replaced and asked again.
func (l *Launcher) AskOnce(ctx context.Context, rec store.Record, rq control.Request) (control.Reply, error) {
	bounded, cancel := bound(ctx, rec, rq)
	defer cancel()
	return l.call(ctx, bounded, rec, rq)
}

// call asks within the bounds of one context, itself within another.
func (l *Launcher) call(ctx, bounded context.Context, rec store.Record, rq control.Request) (control.Reply, error) {
	reply, err := control.Call(bounded, l.Store.Control(rec.ID), rq)
	if bounded.Err() != nil && ctx.Err() == nil {
		return reply, fail.New(fail.Internal, "the supervisor of container %s does not answer", rec.ID[:12]).
			Hint("if it was stopped or hangs, kill it (SIGKILL): the next command starts another one")
	}
	return reply, err
}

// bound is how long a supervisor may take for a request. What waits for the
// container waits without end.
func bound(ctx context.Context, rec store.Record, rq control.Request) (context.Context, context.CancelFunc) {
	limit := answerTime
	switch rq.Op {
	case OpWait, OpAttach:
		return context.WithCancel(ctx)
	case OpStop, OpRestart:
		after := rec.StopAfter
		if rq.Timeout != nil {
			after = *rq.Timeout
		}
		if forEver(after) {
			return context.WithCancel(ctx)
		}
		limit += time.Duration(after)*time.Second + stopTimeout
	case OpRemove:
		limit += stopTimeout
	}
	return context.WithTimeout(ctx, limit)
}

// Await waits until a container has a supervisor that answers, and what that
// does first is done; false if it has none and is due none.
func (l *Launcher) Await(ctx context.Context, rec store.Record) (bool, error) {
	_, err := l.Ask(ctx, rec, control.Request{Op: OpSettled})
	if fail.KindOf(err) == fail.NotFound {
		l.left(rec.ID)
		return false, nil
	}
	return err == nil, err
}

// left waits for a supervisor, or a command, that is about to let go of a
// container; false if it does not.
func (l *Launcher) left(id string) bool {
	for end := time.Now().Add(stopTimeout); l.Store.Supervised(id); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// NotRunning is the error of what needs a running container.
func NotRunning(rec store.Record) error {
	name := rec.Name
	if name == "" {
		name = rec.ID[:12]
	}
	return fail.New(fail.NotFound, "container %s is not running", name).Hint("safe-run start %s", name)
}

// reunite gives a container whose supervisor died another one, or buries it.
// It says whether the container has one now.
func (l *Launcher) reunite(ctx context.Context, id string) bool {
	rec, err := l.Store.Load(id)
	if err != nil || rec.Phase == store.PhaseExited {
		return false
	}
	e := l.Store.Capture(id)
	if e == nil {
		return l.Store.Supervised(id)
	}
	// Its supervisor may have ended it in proper form meanwhile.
	if rec, err = l.Store.Load(id); err != nil || rec.Phase == store.PhaseExited {
		_ = e.End()
		return false
	}
	if l.livesOn(ctx, rec) {
		return l.Adopt(e) == nil
	}
	_ = l.bury(l.context(ctx), e, rec)
	return false
}

// capture takes a container that nobody supervises. Another command may have
// its lock for a moment, be it only to see whether somebody has it.
func (l *Launcher) capture(id string) *store.Entry {
	for end := time.Now().Add(2 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if e := l.Store.Capture(id); e != nil || time.Now().After(end) {
			return e
		}
	}
}

// RemoveStopped removes a container nobody supervises, with its anonymous
// volumes if asked to.
func (l *Launcher) RemoveStopped(ctx context.Context, rec store.Record, withVolumes bool) error {
	e := l.capture(rec.ID)
	if e == nil {
		return fail.New(fail.Conflict, "container %s is in use", rec.ID[:12])
	}
	if !withVolumes {
		rec.Anonymous = nil
	}
	err := l.remove(l.context(ctx), e, rec)
	if err == nil {
		l.event(rec, "destroy")
	}
	return err
}

// RemoveRunning kills a container and removes it.
func (l *Launcher) RemoveRunning(ctx context.Context, rec store.Record, withVolumes bool) error {
	_, err := l.Ask(ctx, rec, control.Request{Op: OpRemove, Volumes: withVolumes})
	if err != nil && fail.KindOf(err) != fail.NotFound {
		return err
	}
	for range 3 {
		if !l.left(rec.ID) {
			break
		}
		if _, err := l.Store.Load(rec.ID); err != nil {
			return nil // its supervisor removed it
		}
		// Others may be removing it too.
		if err := l.RemoveStopped(ctx, rec, withVolumes); fail.KindOf(err) != fail.Conflict {
			return err
		}
	}
	return fail.New(fail.Internal, "the supervisor of container %s does not end", rec.ID[:12])
}

// Rename gives a container that nobody supervises another name.
func (l *Launcher) Rename(id, name string) error {
	e := l.capture(id)
	if e == nil {
		return fail.New(fail.Conflict, "container %s is in use", id[:12])
	}
	defer func() { _ = e.End() }()
	rec, err := l.Store.Load(id)
	if err != nil {
		return err
	}
	old := rec.Name
	if err := e.Rename(name); err != nil {
		return err
	}
	rec.Name = name
	if err := l.Store.Save(rec); err != nil {
		return err
	}
	if asked, err := l.Store.LoadAsked(id); err == nil {
		asked.Workload.Name = name
		if err := l.Store.SaveAsked(id, asked); err != nil {
			return err
		}
	}
	l.event(rec, "rename", "oldName", "/"+old)
	return nil
}
