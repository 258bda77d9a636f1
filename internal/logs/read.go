package logs

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// poll is how often the end of a followed container is looked for.
const poll = 100 * time.Millisecond

// Read prints what a query asks for. With q.Follow it goes on until alive is
// false and all is printed, or ctx ends, or nobody reads the output any more;
// none of these is an error. A reader that is slower than the writer misses
// what is rotated away; it never holds the writer up. Bytes are printed as
// the container wrote them.
func Read(ctx context.Context, c Config, q Query, alive func() bool, stdout, stderr io.Writer) (err error) {
	p := newPrinter(q, stdout, stderr)
	switch c.Driver {
	case JSONFile:
		err = c.readFiles(ctx, p, alive)
	case Journald:
		err = c.readJournal(ctx, p, alive)
	default:
		e := fail.New(fail.NoStatus, "configured logging driver does not support reading")
		if c.Driver == Passthrough && c.Unit != "" {
			e = e.Hint("the output is in the journal: journalctl -u %s", c.Unit)
		}
		return e
	}
	if err == nil || ctx.Err() != nil {
		err = p.flush()
	}
	if errors.Is(err, errGone) {
		err = nil
	}
	return err
}

// follower reads the files of a log one after the other.
type follower struct {
	c     Config
	p     *printer
	cur   *logFile   // nil: there is no file yet
	then  []*logFile // when reading began, the newest first
	entry entry
}

func (c Config) readFiles(ctx context.Context, p *printer, alive func() bool) error {
	r := &follower{c: c, p: p}
	w := watch{fd: -1}
	defer w.close()
	defer func() {
		if r.cur != nil {
			r.cur.f.Close()
		}
	}()
	for q := p.q; ; {
		// Asked before the files are: what a container printed before its end is in them.
		living := p.q.Follow && alive()
		if p.q.Follow {
			w.open(c.Dir)
		}
		if r.cur == nil {
			var err error
			if r.cur, r.then, err = c.start(q); err != nil {
				return err
			}
			q.Tail = -1 // what comes after this is all new
		}
		done, err := r.drain(ctx)
		if err != nil || done {
			return err
		}
		if err := p.flush(); err != nil {
			return err
		}
		if !living || p.past(time.Now()) || ctx.Err() != nil {
			return nil
		}
		if w.wait(p.outputs()) {
			return errGone
		}
	}
}

// drain prints all there is. It tells whether that is all there will be.
func (r *follower) drain(ctx context.Context) (done bool, err error) {
	for r.cur != nil {
		if done, err = r.file(ctx); done || err != nil {
			return done, err
		}
		next, err := r.c.after(r.cur)
		if err != nil || next == nil {
			return false, err
		}
		// A container that prints without end would never be caught up with.
		if !r.p.q.Follow && !slices.ContainsFunc(r.then, next.same) {
			next.f.Close()
			return true, nil
		}
		// It was written to its end before the next one was made.
		done, err = r.file(ctx)
		if done || err != nil {
			next.f.Close()
			return done, err
		}
		r.cur.f.Close()
		next.buf = r.cur.buf
		r.cur = next
	}
	return false, nil
}

// file prints what there is of the current file.
func (r *follower) file(ctx context.Context) (done bool, err error) {
	if !r.p.q.Follow && r.cur.same(r.then[0]) {
		r.cur.limit = r.then[0].size
	}
	for n := 0; ; n++ {
		if n&1023 == 0 && ctx.Err() != nil {
			return true, nil
		}
		line, more, err := r.cur.line()
		if err != nil || !more {
			return false, err
		}
		if !r.entry.decode(line) {
			continue // cut off by a crash, or none of ours
		}
		if r.p.past(r.entry.time) {
			return true, nil
		}
		if err := r.p.print(&r.entry); err != nil {
			return false, err
		}
	}
}

// watch wakes a follower when something happens in a directory.
type watch struct {
	fd    int // -1: not open
	tried bool
	on    bool
}

// open watches dir as soon as it exists. Without inotify there is the poll.
func (w *watch) open(dir string) {
	if !w.tried {
		w.tried = true
		if fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err == nil {
			w.fd = fd
		}
	}
	if w.fd >= 0 && !w.on {
		_, err := unix.InotifyAddWatch(w.fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ONLYDIR)
		w.on = err == nil
	}
}

// wait waits for an event, and no longer than poll. It tells whether an output
// has hung up.
func (w *watch) wait(outputs []unix.PollFd) bool {
	fds := append(outputs, unix.PollFd{Fd: int32(w.fd), Events: unix.POLLIN}) // poll skips -1
	if n, _ := unix.Poll(fds, int(poll.Milliseconds())); n <= 0 {
		return false
	}
	if w.fd >= 0 {
		var b [4096]byte
		for n := 1; n > 0; {
			n, _ = unix.Read(w.fd, b[:])
		}
	}
	return hungUp(fds[:len(fds)-1])
}

func (w *watch) close() {
	if w.fd >= 0 {
		unix.Close(w.fd)
	}
}
