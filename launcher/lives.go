package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/restart"
	"github.com/safe-run/safe-run/internal/store"
)

// lives stays with a started container over all its restarts and cleans up
// after the last.
func (r *run) lives(ctx context.Context, waiting []os.Signal, signals <-chan os.Signal) (int, error) {
	return r.after(ctx, r.supervise(ctx, waiting, signals), signals)
}

// after does what follows an ending: restarts, as long as the policy or a
// user wants them, and the clean-up.
func (r *run) after(ctx context.Context, e ending, signals <-chan os.Signal) (int, error) {
	policy := restart.New(r.rec.Restart, r.rec.Restarts)
	for {
		if e.left {
			r.state.close()
			return e.code, e.err
		}
		stop, now, _, _ := r.state.asked()
		wait, more := policy.Next(e.code, r.rec.Finished.Sub(r.rec.Started), stop)
		if e.final || !now && !more || !r.mayRestart() {
			return r.conclude(ctx, e)
		}
		if e.err != nil {
			r.notice(e.err.Error())
		}
		if now {
			wait, policy = 0, restart.New(r.rec.Restart, 0)
		}
		if err := r.between(ctx, policy.Count()); err != nil {
			return r.conclude(ctx, ending{code: e.code, err: err})
		}
		if !r.pause(wait, signals) {
			return r.conclude(ctx, ending{code: e.code})
		}
		if err := r.again(ctx); err != nil {
			e = r.failed(ctx, err)
			continue
		}
		e = r.supervise(ctx, nil, signals)
	}
}

// mayRestart: what nobody can make a request of again cannot be started again.
func (r *run) mayRestart() bool { return r.Renew != nil }

// between cleans up what the life that ended had, and notes that another
// follows.
func (r *run) between(ctx context.Context, restarts int) error {
	if err := fault("between"); err != nil {
		return err
	}
	err := r.change(func(rec *store.Record) { rec.Phase, rec.Restarts = store.PhaseRestarting, restarts })
	if err != nil {
		return err
	}
	r.state.set(func() {}) // who waits for the end may look
	r.state.clients.End(r.record().ExitCode)
	return r.endLife(ctx)
}

// endLife takes away all that a container has only while its program runs.
func (r *run) endLife(ctx context.Context) error {
	ctx, cancel := r.detached(ctx)
	defer cancel()
	netErr := make(chan error, 1)
	go func() { netErr <- r.removeNetwork(ctx, r.entry.Dir) }()
	err := r.removeTask(ctx, r.rec.ID)
	err = errors.Join(err, <-netErr)
	r.freeNetwork()
	return errors.Join(err, dropSources(r.entry.IO), r.dropImages(ctx, r.rec.ID, r.entry.Dir))
}

// pause waits before a restart. It says false if there shall be none.
func (r *run) pause(wait time.Duration, signals <-chan os.Signal) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		now := r.state.look()
		stop, restart, _, _ := r.state.asked()
		switch {
		case stop:
			return false
		case restart:
			return true
		}
		select {
		case <-timer.C:
			return true
		case <-now.turn:
		case s := <-signals:
			if fatal(s) {
				return false
			}
		}
	}
}

// again starts the container once more, if today's policy lets it.
func (r *run) again(ctx context.Context) (err error) {
	asked := r.state.take()
	if err := fault("again"); err != nil {
		return err
	}
	if r.Revive != nil {
		if err := r.Revive(ctx); err != nil {
			return err
		}
	}
	rec := r.record()
	rq, err := r.Renew(ctx, rec, r.asked, r.Unit)
	if err != nil {
		return err
	}
	r.release()
	rq.Streams, rq.DetachKeys, rq.Unit = r.Streams, r.DetachKeys, r.Unit
	rq.Observer, rq.Advice = r.Observer, r.Advice
	if r.state.look().lives == 0 {
		rq.Started = r.Started
	}
	if r.Notice != nil {
		rq.Notice = r.Notice
	}
	r.Request, r.life = rq, newLife()
	defer r.release()
	if err := r.begin(ctx); err != nil {
		return err
	}
	if asked {
		r.event("restart")
	}
	return nil
}

// failed notes a start that failed and takes away what it had made.
func (r *run) failed(ctx context.Context, err error) ending {
	r.dismantle()
	now := time.Now().UTC()
	r.mu.Lock()
	r.rec.Error, r.rec.ExitCode, r.rec.PID = err.Error(), startCode(err), 0
	r.rec.Started, r.rec.Finished = now, now
	code := r.rec.ExitCode
	r.mu.Unlock()
	r.event("die", "exitCode", strconv.Itoa(code), "error", err.Error())
	r.state.set(func() { r.state.failed = err })
	kill, cancel := r.detached(ctx)
	_ = r.kill(kill, unix.SIGKILL)
	cancel()
	left := r.endLife(ctx)
	// What the policy refuses today, and what is wrong with the request, is no
	// better after a while.
	refused := fail.KindOf(err) == fail.Refused || fail.KindOf(err) == fail.Usage
	return ending{code: code, err: errors.Join(fmt.Errorf("restart: %w", err), left), final: refused}
}

// startCode is what docker notes as the exit code of a start that failed.
func startCode(err error) int {
	switch fail.KindOf(err) {
	case fail.CmdNotFound:
		return 127
	case fail.CmdNotExec:
		return 126
	}
	return 128
}

// conclude removes the container, or keeps its record if it was not to be
// removed. The program has done its work, whatever cannot be cleaned up now:
// its exit code counts.
func (r *run) conclude(ctx context.Context, e ending) (int, error) {
	_, _, remove, volumes := r.state.asked()
	defer r.freeNetwork()
	r.state.deaf()
	r.mu.Lock()
	r.concluded = true
	rec := r.rec
	r.mu.Unlock()
	var left error
	if rec.Keep && !remove {
		left = r.end(ctx, r.entry, rec, rec.ExitCode)
	} else {
		if remove && !volumes {
			rec.Anonymous = nil
		}
		r.event("destroy")
		left = r.Launcher.remove(ctx, r.entry, rec)
	}
	if left != nil {
		r.notice(fmt.Sprintf("%v: left to the next command", left))
	}
	r.state.clients.End(e.code) // the record tells of it, as when somebody waits
	if r.log != nil {
		_ = r.log.Close()
	}
	r.state.close()
	return e.code, e.err
}

// change alters the record and saves it, unless the last word on the container
// has been written.
func (r *run) change(alter func(*store.Record)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.concluded {
		return nil
	}
	alter(&r.rec)
	return r.Store.Save(r.rec)
}

func (r *run) record() store.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rec
}
