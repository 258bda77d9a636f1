package launcher

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/console"
	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/spec"
)

// ExecRequest is a further process for a running container. Its JSON is what
// a client hands to the supervisor for a detached one.
type ExecRequest struct {
	Args    []string      `json:"args"`
	Env     []spec.EnvVar `json:"env,omitempty"`     // over the container's; a nil Value removes the name
	User    string        `json:"user,omitempty"`    // NAME|UID[:GROUP|GID] of the image; "" is the container's
	Workdir string        `json:"workdir,omitempty"` // "" is the container's
	TTY     bool          `json:"tty,omitempty"`     // a terminal of its own
	// Detach: nobody's streams are connected, output goes nowhere, and signals
	// to this process are not the exec's.
	Detach bool `json:"detach,omitempty"`

	Streams Streams `json:"-"`
	// Started is called once the program runs and was found to be confined as
	// the container is, with its number on the host; nil: nobody is told.
	Started func(pid int) `json:"-"`
}

// execDrain is how long after the end of an exec its processes that live on
// may be silent before their output is not waited for any longer.
const execDrain = 2 * time.Second

// Exec runs a further process in a running container, stays until it ends,
// and gives its exit code. The process has what the container has, and never
// more (spec.ExecProcess); that the kernel sees it so is compared once it runs.
//
// A signal that asks this process to end is passed on to the exec; if that
// does not end it in time, or at the second one, it is killed, as it is if ctx
// ends (the error is then its cause), or the reader of the output goes away.
//
// Errors have kind NoStatus if the container does not run or is paused,
// CmdNotFound or CmdNotExec if the command cannot be executed.
func (l *Launcher) Exec(ctx context.Context, rec store.Record, rq ExecRequest) (int, error) {
	var signals chan os.Signal
	if rq.Detach {
		rq.Streams = Streams{}
	} else {
		signals = make(chan os.Signal, 16)
		// PIPE only so that a reader that went away is an error and not the end.
		signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGWINCH, unix.SIGPIPE)
		defer signal.Stop(signals)
	}
	x, err := l.newExec(l.context(ctx), rec, rq)
	if err != nil {
		return 0, err
	}
	defer x.close(ctx)
	a := &attached{execution: x, rq: rq, signals: signals}
	defer a.close()
	command := ": " + strings.Join(rq.Args, " ")
	l.event(rec, "exec_create"+command, "execID", x.id)
	if err := a.connect(l.context(ctx)); err != nil {
		return 0, err
	}
	l.event(rec, "exec_start"+command, "execID", x.id)
	code, err := a.stay(ctx)
	l.event(rec, "exec_die", "execID", x.id, "exitCode", strconv.Itoa(code))
	return code, err
}

// ExecDetached starts a further process nobody is attached to and returns once
// it runs. This process stays with it to its end, beside other work. Errors
// are those of Exec.
func (l *Launcher) ExecDetached(ctx context.Context, rec store.Record, rq ExecRequest) error {
	told := make(chan error, 2)
	rq.Detach, rq.Started = true, func(int) { told <- nil }
	go func() {
		_, err := l.Exec(context.WithoutCancel(ctx), rec, rq)
		told <- err
	}()
	return <-told
}

// attached is an exec with the streams and signals of this process.
type attached struct {
	*execution
	rq      ExecRequest
	signals chan os.Signal
	io      *stdio // nil: none
	tty     *execTerminal
}

func (a *attached) close() {
	if a.tty != nil {
		a.tty.restore()
	}
	if a.io != nil {
		a.io.close()
	}
}

// connect starts the program with its streams. Without any, the runtime gives
// it /dev/null; only a terminal needs somebody at its other end.
func (a *attached) connect(ctx context.Context) (err error) {
	if a.rq.Detach && !a.rq.TTY {
		return a.start(ctx, "", "", "")
	}
	if err := a.makeDir(); err != nil {
		return err
	}
	if a.io, err = newStdio(a.dir.path, a.rq.Streams, a.rq.TTY); err != nil {
		return err
	}
	if a.rq.TTY {
		a.tty = &execTerminal{newTerminal(a.Launcher, a.rec.ID, a.rq.Streams), a.id}
		if err := a.tty.raw(); err != nil {
			return err
		}
	}
	if err := a.start(ctx, a.io.in, a.io.out, a.io.err); err != nil {
		return err
	}
	if a.tty != nil {
		a.tty.resize(ctx) // it may have changed since
	}
	after := context.WithoutCancel(ctx)
	err = a.io.start(a.rq.Streams, nil, func() {
		_, _ = a.tasks.CloseIO(after, &tasksapi.CloseIORequest{ContainerID: a.rec.ID, ExecID: a.id, Stdin: true})
	})
	if err != nil {
		a.kill(ctx)
	}
	return err
}

// kill ends the exec and waits a while until it has.
func (a *attached) kill(ctx context.Context) {
	a.signal(unix.SIGKILL)
	ctx, cancel := a.detached(ctx)
	defer cancel()
	_, _ = a.await(ctx)
}

// stay waits for the end of the program.
func (a *attached) stay(ctx context.Context) (int, error) {
	type end struct {
		code uint32
		err  error
	}
	waiting, stop := context.WithCancel(a.context(context.WithoutCancel(ctx)))
	defer stop()
	exited := make(chan end, 1)
	go func() {
		code, err := a.await(waiting)
		exited <- end{code, err}
	}()
	var failed error
	if failed = a.attest(); failed != nil {
		a.signal(unix.SIGKILL)
	} else if a.rq.Started != nil {
		a.rq.Started(int(a.pid))
	}
	var (
		asked    os.Signal // to end
		deadline <-chan time.Time
		broken   <-chan struct{}
		done     = ctx.Done()
	)
	if a.io != nil {
		broken = a.io.broken
	}
	for {
		select {
		case e := <-exited:
			if a.tty != nil {
				defer a.tty.restore()
			}
			if e.err != nil {
				return 0, errors.Join(failed, engineError(e.err, "waiting for the exec"))
			}
			if failed == nil && a.io != nil {
				failed = a.io.drain(execDrain, a.signals)
			}
			if a.io != nil && a.io.brokenPipe.Load() {
				return 128 + int(unix.SIGPIPE), failed
			}
			return int(e.code), failed
		case s := <-a.signals:
			n, _ := s.(syscall.Signal)
			switch {
			case n == unix.SIGWINCH && a.tty != nil:
				a.tty.resize(waiting)
			case fatal(s) && asked == nil:
				asked, deadline = s, time.After(stopTimeout)
				a.signal(n)
			case fatal(s):
				a.signal(unix.SIGKILL)
			}
		case <-deadline:
			a.signal(unix.SIGKILL)
		case <-broken:
			broken = nil
			a.signal(unix.SIGKILL)
		case <-done:
			done = nil
			failed = errors.Join(failed, context.Cause(ctx))
			a.signal(unix.SIGKILL)
		}
	}
}

// execTerminal is the caller's terminal while an exec has one of its own.
type execTerminal struct {
	*terminal
	exec string
}

func (t *execTerminal) resize(ctx context.Context) {
	if ws := consoleSize(t.size); ws != nil {
		_, _ = t.l.tasks.ResizePty(ctx, &tasksapi.ResizePtyRequest{
			ContainerID: t.id, ExecID: t.exec, Width: uint32(ws.Width), Height: uint32(ws.Height),
		})
	}
}

// consoleSize is the size of the caller's terminal; nil if there is none.
func (rq ExecRequest) consoleSize() *specs.Box {
	if !rq.TTY || rq.Detach {
		return nil
	}
	if rq.Streams.Out != nil {
		return consoleSize(rq.Streams.Out)
	}
	return consoleSize(rq.Streams.In)
}

func consoleSize(f *os.File) *specs.Box {
	if f == nil {
		return nil
	}
	c, err := console.ConsoleFromFile(f)
	if err != nil {
		return nil
	}
	ws, err := c.Size()
	if err != nil || ws.Width == 0 || ws.Height == 0 {
		return nil
	}
	return &specs.Box{Width: uint(ws.Width), Height: uint(ws.Height)}
}

// explain tells why a command cannot be executed by looking at the
// container's files, not by the runtime's words.
func (x *execution) explain(cause error) error {
	if !x.init.runs() {
		return fail.New(fail.NoStatus, "container %s is not running", x.rec.ID)
	}
	if x.init.leaderless() {
		return errLeaderless(fail.NoStatus, "nothing can be executed in", x.rec.ID)
	}
	dir := x.process.Cwd
	switch st, err := statIn(x.root, dir); {
	case errors.Is(err, unix.ENOENT):
		return fail.New(fail.CmdNotFound, "the working directory %.128q does not exist in the container", dir)
	case err == nil && !isDir(st):
		return fail.New(fail.CmdNotExec, "the working directory %.128q is not a directory", dir)
	}
	// Seen from the host, files and users have the host's ids.
	p := *x.process
	p.User.UID, p.User.GID = p.User.UID+x.rec.Block.HostUID, p.User.GID+x.rec.Block.HostGID
	p.User.AdditionalGids = nil
	for _, g := range x.process.User.AdditionalGids {
		p.User.AdditionalGids = append(p.User.AdditionalGids, g+x.rec.Block.HostGID)
	}
	if err := (sight{root: x.root}).command(&p); err != nil {
		return err
	}
	if at := x.onNoexec(); at != "" {
		return fail.New(fail.CmdNotExec, "cannot run %.128q: permission denied: programs do not run from the mount it is on", at)
	}
	return cause
}

// onNoexec finds the command on a mount from which nothing is executed.
func (x *execution) onNoexec() string {
	arg := x.process.Args[0]
	candidates := []string{arg}
	if !strings.Contains(arg, "/") {
		candidates = nil
		for _, d := range strings.Split(pathOf(x.process.Env), ":") {
			candidates = append(candidates, path.Join(d, arg))
		}
	}
	for _, c := range candidates {
		if !path.IsAbs(c) {
			c = path.Join(x.process.Cwd, c)
		}
		f, err := openIn(x.root, c, unix.O_PATH)
		if err != nil {
			continue
		}
		var st unix.Statfs_t
		err = unix.Fstatfs(int(f.Fd()), &st)
		f.Close()
		if err == nil && st.Flags&unix.ST_NOEXEC != 0 {
			return c
		}
	}
	return ""
}
