package launcher

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/moby/term"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/control"
	"github.com/safe-run/safe-run/internal/fail"
)

// Streams are the caller's ends. A nil stream is not attached.
type Streams struct {
	In, Out, Err *os.File
	// OpenIn gives the container a standard input that stays open, for those
	// who attach later.
	OpenIn bool
}

// sink is where all of a container's output goes besides the caller's streams:
// its log, and those who attached.
type sink func(stream byte, b []byte)

// The streams of a sink.
const (
	streamOut = control.Stdout
	streamErr = control.Stderr
)

// stdio connects a task's FIFOs with the caller's streams. Only the FIFOs are
// given to the container: never the caller's terminal itself, into which
// TIOCSTI could type.
type stdio struct {
	dir      string
	tty      bool
	in       string // FIFO paths; "" is not attached
	out, err string

	rout, rerr *os.File
	win        *os.File

	last tail // of what went to standard error, or to the terminal
	also sink // nil: nowhere else

	wg         sync.WaitGroup
	ended      atomic.Bool // the container has: no read waits for long any more
	idle       time.Duration
	lost       [2]error // why output could not be written; read after wg
	brokenPipe atomic.Bool
	broken     chan struct{} // closed when the reader of our output went away
	detach     chan struct{} // closed when the detach keys were typed
	once       sync.Once
}

func newStdio(dir string, s Streams, tty bool) (*stdio, error) {
	p := &stdio{dir: dir, tty: tty, broken: make(chan struct{}), detach: make(chan struct{})}
	mk := func(name string) (string, error) {
		path := filepath.Join(dir, name)
		_ = os.Remove(path) // of the run before
		return path, fail.Wrap(fail.HostCannot, unix.Mkfifo(path, 0o600), "FIFO for %s", name)
	}
	var err error
	if s.In != nil || s.OpenIn {
		if p.in, err = mk("stdin"); err != nil {
			return nil, err
		}
	}
	// The reading ends are opened before the shim opens the writing ones, and
	// read from only after it has: so neither blocks nor sees an early end.
	// Both, even if one is not attached: the shim takes none or all.
	if p.out, err = mk("stdout"); err != nil {
		return nil, err
	}
	if p.rout, err = os.OpenFile(p.out, os.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "standard output")
	}
	if !tty {
		if p.err, err = mk("stderr"); err != nil {
			return nil, err
		}
		if p.rerr, err = os.OpenFile(p.err, os.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
			return nil, fail.Wrap(fail.HostCannot, err, "standard error")
		}
	}
	return p, nil
}

// reopenStdio opens the FIFOs of a container that runs already.
func reopenStdio(dir string, tty bool) (*stdio, error) {
	p := &stdio{dir: dir, tty: tty, broken: make(chan struct{}), detach: make(chan struct{})}
	var err error
	p.out = filepath.Join(dir, "stdout")
	if p.rout, err = os.OpenFile(p.out, os.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "standard output")
	}
	if !tty {
		p.err = filepath.Join(dir, "stderr")
		if p.rerr, err = os.OpenFile(p.err, os.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
			p.close()
			return nil, fail.Wrap(fail.HostCannot, err, "standard error")
		}
	}
	// Nobody reads there any more if it was closed.
	if w, err := os.OpenFile(filepath.Join(dir, "stdin"), os.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
		p.win = w
	}
	return p, nil
}

// start copies. It is called once the task is created.
func (p *stdio) start(s Streams, keys []byte, closeIn func()) error {
	if p.in != "" {
		w, err := openStdin(p.in)
		if err != nil {
			return fail.Wrap(fail.HostCannot, err, "standard input")
		}
		p.win = w
		if s.In != nil {
			go p.copyIn(s.In, keys, closeIn)
		}
	}
	if p.rout != nil {
		p.wg.Add(1)
		go p.copyOut(s.Out, p.rout, &p.lost[0])
	}
	if p.rerr != nil {
		p.wg.Add(1)
		go p.copyOut(s.Err, p.rerr, &p.lost[1])
	}
	return nil
}

// openStdin opens the writing end of a FIFO that the shim opens about now: its
// answer does not wait for that.
func openStdin(path string) (*os.File, error) {
	for end := time.Now().Add(stopTimeout); ; time.Sleep(time.Millisecond) {
		w, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
		if !errors.Is(err, unix.ENXIO) || time.Now().After(end) {
			return w, err
		}
	}
}

func (p *stdio) copyIn(from *os.File, keys []byte, closeIn func()) {
	var r io.Reader = from
	if keys != nil {
		r = term.NewEscapeProxy(from, keys)
	}
	_, err := io.Copy(p.win, r)
	var esc term.EscapeError
	if errors.As(err, &esc) {
		p.once.Do(func() { close(p.detach) })
		return
	}
	if p.tty {
		return // closing it would hang the container's terminal up
	}
	p.win.Close()
	closeIn()
}

// copyOut drains the container's stream even if nobody reads ours any more:
// what happens then is the caller's decision (see broken).
func (p *stdio) copyOut(to, from *os.File, lost *error) {
	defer p.wg.Done()
	r := output{p, from}
	var stream byte = streamOut
	if from == p.rerr {
		stream = streamErr
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if p.also != nil {
				p.also(stream, buf[:n])
			}
			if to != nil {
				if _, werr := to.Write(buf[:n]); werr != nil {
					to = nil
					switch {
					case !errors.Is(werr, unix.EPIPE):
						*lost = werr
					case p.brokenPipe.CompareAndSwap(false, true):
						close(p.broken)
					}
				}
			}
		}
		if err != nil {
			return
		}
	}
}

// output is a FIFO of the container's. Once the container has ended, what is
// in it is there already, and a read waits only as long as the shim may take.
type output struct {
	p *stdio
	f *os.File
}

func (o output) Read(b []byte) (int, error) {
	if o.p.ended.Load() {
		_ = o.f.SetReadDeadline(time.Now().Add(o.p.idle))
	}
	n, err := o.f.Read(b)
	if o.f == o.p.rerr || o.p.tty {
		o.p.last.add(b[:n])
	}
	return n, err
}

// drain waits until all output of an ended container has been copied, however
// slowly the caller reads it, and says what could not be written. The writing
// ends belong to the shim, which closes them when the last process of the
// container is gone; a shim silent for longer than idle is not waited for, and
// a signal that asks to end ends the wait.
func (p *stdio) drain(idle time.Duration, signals <-chan os.Signal) error {
	p.idle = idle
	p.ended.Store(true)
	for _, f := range []*os.File{p.rout, p.rerr} {
		if f != nil {
			_ = f.SetReadDeadline(time.Now().Add(idle))
		}
	}
	done := make(chan struct{})
	go func() { p.wg.Wait(); close(done) }()
	for {
		select {
		case <-done:
			return fail.Wrap(fail.NoStatus, errors.Join(p.lost[:]...), "output of the container")
		case s := <-signals:
			if fatal(s) {
				return interrupted(s)
			}
		}
	}
}

func (p *stdio) close() {
	for _, f := range []*os.File{p.rout, p.rerr, p.win} {
		if f != nil {
			f.Close()
		}
	}
}

// closeStdin tells the shim that no more input comes.
func (l *Launcher) closeStdin(ctx context.Context, id string) {
	_, _ = l.tasks.CloseIO(ctx, &tasksapi.CloseIORequest{ContainerID: id, Stdin: true})
}
