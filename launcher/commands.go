package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"strconv"
	"syscall"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/control"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
)

// The operations a supervisor does for other commands.
const (
	OpStop    = "stop"    // Signal (0: its own), Timeout
	OpKill    = "kill"    // Signal
	OpRestart = "restart" // Signal, Timeout
	OpPause   = "pause"
	OpUnpause = "unpause"
	OpRename  = "rename" // Name
	OpRemove  = "remove" // Volumes
	OpWait    = "wait"   // answers with the exit code
	OpAttach  = "attach" // Stdin
	OpResize  = "resize" // Width, Height
	OpExec    = "exec"   // Exec: an ExecRequest that nobody is attached to
	OpSettled = "settled"
)

// listen opens the control socket.
func (r *run) listen(ctx context.Context) error {
	s, err := control.Listen(r.Store.Control(r.rec.ID))
	if err != nil {
		return err
	}
	r.state.server, r.state.served = s, make(chan struct{})
	r.state.input = control.NewInput(inward{r})
	go func() {
		s.Serve(ctx, r.command)
		close(r.state.served)
	}()
	return nil
}

// command does what another command asks for.
func (r *run) command(ctx context.Context, rq control.Request, c *control.Conn) control.Reply {
	ctx = r.context(ctx)
	reply, err := r.obey(ctx, rq, c)
	if err != nil {
		return control.Failed(err)
	}
	return reply
}

func (r *run) obey(ctx context.Context, rq control.Request, c *control.Conn) (control.Reply, error) {
	var none control.Reply
	switch rq.Op {
	case OpStop:
		return r.stopFor(ctx, rq)
	case OpRemove:
		r.state.set(func() { r.state.stop, r.state.restart, r.state.remove, r.state.volumes = true, false, true, rq.Volumes })
		return r.ending(ctx, unix.SIGKILL, 0)
	case OpRestart:
		return none, r.restartFor(ctx, rq)
	case OpKill:
		return none, r.killFor(ctx, syscall.Signal(rq.Signal))
	case OpPause:
		return none, r.freeze(ctx, true)
	case OpUnpause:
		return none, r.freeze(ctx, false)
	case OpRename:
		return none, r.rename(rq.Name)
	case OpWait:
		return r.nextEnd(ctx)
	case OpAttach:
		return none, r.attachTo(ctx, rq, c)
	case OpResize:
		if !r.state.look().running {
			return none, r.notRunning()
		}
		_, err := r.tasks.ResizePty(ctx, &tasksapi.ResizePtyRequest{ContainerID: r.rec.ID, Width: rq.Width, Height: rq.Height})
		return none, engineError(err, "resizing the terminal")
	case OpExec:
		return none, r.execFor(ctx, rq.Exec)
	case OpSettled:
		now, ok := r.state.until(ctx, func(s seen) bool { return s.running || s.failed != nil })
		if !ok {
			return none, errGone
		}
		if now.done {
			return none, r.ended()
		}
		return none, nil
	}
	return none, fail.New(fail.Usage, "the supervisor does not know the operation %.40q", rq.Op)
}

var errGone = errors.New("the client went away")

// ended is the error of what comes too late: its supervisor is about to go.
func (r *run) ended() error {
	return fail.New(fail.NotFound, "container %s has ended", r.called())
}

func (r *run) notRunning() error {
	return fail.New(fail.Conflict, "container %s is not running", r.called())
}

// called is what messages call the container.
func (r *run) called() string {
	if rec := r.record(); rec.Name != "" {
		return rec.Name
	}
	return r.rec.ID[:12]
}

// stopFor ends the container for good, until a user starts it.
func (r *run) stopFor(ctx context.Context, rq control.Request) (control.Reply, error) {
	r.state.quit()
	// A disk that is full, perhaps because of this container, does not keep it
	// running. Its last record is written once more at the end.
	_ = r.change(func(rec *store.Record) { rec.Stopped = true })
	sig, after := r.gently(rq)
	reply, err := r.ending(ctx, sig, after)
	if err == nil {
		r.event("stop")
	}
	return reply, err
}

// gently gives the signal and the patience of a stop, the container's own
// where none are asked for.
func (r *run) gently(rq control.Request) (syscall.Signal, int) {
	sig, after := syscall.Signal(r.rec.StopSignal), r.rec.StopAfter
	if rq.Signal != 0 {
		sig = syscall.Signal(rq.Signal)
	}
	if rq.Timeout != nil {
		after = *rq.Timeout
	}
	return sig, after
}

// ending sees the container to its end, whatever it is doing now.
func (r *run) ending(ctx context.Context, sig syscall.Signal, after int) (control.Reply, error) {
	told := -1
	for {
		now := r.state.look()
		if now.done {
			return control.Reply{Code: now.code}, nil
		}
		if now.running && now.lives != told {
			if stop, _, _, _ := r.state.asked(); told >= 0 && !stop {
				return control.Reply{Code: now.code}, nil // it did end; somebody else wants it back
			}
			told = now.lives
			go r.terminate(context.WithoutCancel(ctx), sig, after)
		}
		select {
		case <-now.turn:
		case <-ctx.Done(): // the end comes all the same
			return control.Reply{}, errGone
		}
	}
}

// terminate asks the program to end, and kills it if it does not in time.
func (r *run) terminate(ctx context.Context, sig syscall.Signal, after int) {
	if r.record().Paused {
		_ = r.freeze(ctx, false)
	}
	lives := r.state.look().lives
	send := func(s syscall.Signal) {
		now := r.state.look()
		if !now.running || now.lives != lives {
			return
		}
		_ = r.kill(ctx, s)
	}
	if after != 0 {
		r.event("kill", "signal", strconv.Itoa(int(sig)))
		send(sig)
		limit := time.Duration(after) * time.Second
		if forEver(after) {
			limit = 1 << 62
		}
		wait, cancel := context.WithTimeout(ctx, limit)
		_, ended := r.state.until(wait, func(s seen) bool { return !s.running || s.lives != lives })
		cancel()
		if ended {
			return
		}
	}
	r.event("kill", "signal", "9")
	send(unix.SIGKILL)
}

// forEver says whether a number of seconds is never over; as a Duration it
// could be less than nothing.
func forEver(seconds int) bool { return seconds < 0 || seconds > math.MaxInt32 }

func (r *run) killFor(ctx context.Context, sig syscall.Signal) error {
	if sig <= 0 || sig > 64 {
		return fail.New(fail.Usage, "invalid signal: %d", sig)
	}
	if !r.state.look().running {
		return r.notRunning()
	}
	// As docker: who kills a container does not want it back, unless the signal
	// is another than the one it stops by.
	if sig == unix.SIGKILL || r.asked.Workload.StopSignal == "" || int(sig) == r.rec.StopSignal {
		r.state.quit()
		_ = r.change(func(rec *store.Record) { rec.Stopped = true }) // as in stopFor
	}
	if r.record().Paused {
		if err := r.freeze(ctx, false); err != nil {
			return err
		}
	}
	if err := r.kill(ctx, sig); err != nil {
		return engineError(err, "killing the container")
	}
	r.event("kill", "signal", strconv.Itoa(int(sig)))
	if sig == unix.SIGKILL { // as docker: what was killed can be removed at once
		wait, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		r.state.until(wait, func(s seen) bool { return s.done })
	}
	return nil
}

// restartFor ends the program and starts it again, whatever the policy says.
func (r *run) restartFor(ctx context.Context, rq control.Request) error {
	if !r.mayRestart() {
		return fail.New(fail.Conflict, "container %s cannot be restarted by its supervisor", r.called())
	}
	if err := r.change(func(rec *store.Record) { rec.Stopped = false }); err != nil {
		return err
	}
	before := r.state.look().lives
	removed := false
	r.state.set(func() {
		if removed = r.state.remove; !removed {
			r.state.restart, r.state.stop, r.state.failed = true, false, nil
		}
	})
	if removed {
		return fail.New(fail.Conflict, "container %s is being removed", r.called())
	}
	sig, after := r.gently(rq)
	told := false
	for {
		now := r.state.look()
		switch {
		case now.failed != nil:
			return now.failed
		case now.done:
			return fail.New(fail.Conflict, "container %s was stopped meanwhile", r.called())
		case now.running && now.lives > before:
			return nil
		case now.running && !told:
			told = true
			go r.terminate(context.WithoutCancel(ctx), sig, after)
		}
		select {
		case <-now.turn:
		case <-ctx.Done():
			return errGone
		}
	}
}

// freeze pauses the container, or lets it go on.
func (r *run) freeze(ctx context.Context, pause bool) error {
	if !r.state.look().running {
		return r.notRunning()
	}
	if paused := r.record().Paused; paused == pause {
		if pause {
			return fail.New(fail.Conflict, "container %s is already paused", r.called())
		}
		return fail.New(fail.Conflict, "container %s is not paused", r.called())
	}
	var err error
	action := "unpause"
	if pause {
		action = "pause"
		_, err = r.tasks.Pause(ctx, &tasksapi.PauseTaskRequest{ContainerID: r.rec.ID})
	} else {
		_, err = r.tasks.Resume(ctx, &tasksapi.ResumeTaskRequest{ContainerID: r.rec.ID})
	}
	if err != nil && r.state.leaderless() {
		if pause {
			return errLeaderless(fail.Conflict, "cannot pause", r.called())
		}
		err = thaw(r.rec.Cgroup)
	}
	if err != nil {
		return engineError(err, action)
	}
	r.event(action)
	return r.change(func(rec *store.Record) { rec.Paused = pause })
}

func (r *run) rename(name string) error {
	r.mu.Lock()
	if r.concluded {
		r.mu.Unlock()
		return r.notRunning()
	}
	old := r.rec.Name
	err := r.entry.Rename(name)
	if err == nil {
		if err = r.call(name); err == nil {
			err = r.Networks.Rename(r.rec.ID, old, name, r.otherNames())
		}
		if err != nil {
			_, _ = r.entry.Rename(old), r.call(old)
		}
	}
	r.mu.Unlock()
	if err == nil {
		r.event("rename", "oldName", "/"+old)
	}
	return err
}

// call writes the container's name down. The caller holds mu.
func (r *run) call(name string) error {
	r.rec.Name, r.Workload.Name, r.asked.Workload.Name = name, name, name
	return errors.Join(r.Store.SaveAsked(r.rec.ID, r.asked), r.Store.Save(r.rec))
}

// otherNames are those a container keeps on its networks whatever its name is.
func (r *run) otherNames() []string {
	names := []string{r.asked.Workload.Hostname}
	for _, u := range r.asked.Workload.Networks {
		names = append(names, u.Aliases...)
	}
	return names
}

// nextEnd waits for the end of the running program. The record tells of it,
// and the container can be removed, when whoever asked hears of it.
func (r *run) nextEnd(ctx context.Context) (control.Reply, error) {
	lives := r.state.look().lives
	now, ok := r.state.until(ctx, func(s seen) bool {
		return s.lives != lives || s.done || !s.running && r.record().Phase == store.PhaseRestarting
	})
	if !ok {
		return control.Reply{}, errGone
	}
	return control.Reply{Code: now.code}, nil
}

// attachTo connects a client with the container's streams until either ends.
func (r *run) attachTo(ctx context.Context, rq control.Request, c *control.Conn) error {
	now := r.state.look()
	if now.done || !now.running && now.lives > 0 {
		return fail.New(fail.Conflict, "You cannot attach to a stopped container, start it first").
			Hint("safe-run start -a %s", r.called())
	}
	if r.record().Paused {
		return fail.New(fail.Conflict, "You cannot attach to a paused container, unpause it first")
	}
	var in io.Writer
	if rq.Stdin && r.rec.Stdin {
		in = r.state.input
	}
	k := c.Attached(in, func() {
		// Closing it would hang a terminal up; and one of -d -i stays open for
		// whoever attaches next, as docker's does.
		if r.rec.TTY || r.asked.Workload.Detach {
			return
		}
		if io := r.coming(); io != nil && io.win != nil {
			io.win.Close()
			r.closeStdin(context.WithoutCancel(ctx), r.rec.ID)
		}
	})
	r.state.clients.Add(k)
	defer r.state.clients.Remove(k)
	r.event("attach")
	<-ctx.Done()
	return nil
}

// inward is the standard input of the running program.
type inward struct{ r *run }

func (w inward) Write(b []byte) (int, error) {
	io := w.r.coming()
	if io == nil || io.win == nil {
		return 0, os.ErrClosed
	}
	return io.win.Write(b)
}

// coming is current, once the first life has begun: input of somebody who is
// attached before that is for it.
func (r *run) coming() *stdio {
	r.state.until(context.Background(), func(s seen) bool { return s.running || s.lives > 0 || s.failed != nil })
	return r.current()
}

// current is the stdio of the running life.
func (r *run) current() *stdio {
	if !r.state.look().running {
		return nil
	}
	return r.io
}

func (r *run) execFor(ctx context.Context, raw json.RawMessage) error {
	if !r.state.look().running {
		return r.notRunning()
	}
	var rq ExecRequest
	if err := json.Unmarshal(raw, &rq); err != nil {
		return fail.Wrap(fail.Usage, err, "exec")
	}
	return r.ExecDetached(ctx, r.record(), rq)
}
