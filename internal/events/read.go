package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
)

// Query says which events are wanted.
type Query struct {
	Since  time.Time        // none older; zero is all there are
	Until  time.Time        // none younger; zero is no limit
	Follow bool             // wait for more, up to Until
	Match  func(Event) bool // nil is all
}

// poll is how often a reader that follows looks, in time.
const poll = 50 * time.Millisecond

// Read gives events to emit, in the order in which they were added. It ends
// with the last, or, if it follows, at Until or when ctx ends (nil), or with
// an error of emit, which it returns as it is. Lines that are not events are
// skipped. A journal that is not there is empty.
func (j Journal) Read(ctx context.Context, q Query, emit func(Event) error) error {
	r := reader{q: q, emit: emit}
	f, err := j.follow(ctx, &r, nil)
	defer func() { closeFile(f) }()
	var limit <-chan time.Time
	if !q.Until.IsZero() {
		limit = time.After(time.Until(q.Until))
	}
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for ended := !q.Follow; !ended && err == nil; {
		select {
		case <-ctx.Done():
			return nil
		case <-limit:
			ended = true
		case <-tick.C:
		}
		f, err = j.follow(ctx, &r, f)
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// follow reads what is new, in the file f and in those that came after it, and
// gives the last of them. f is nil if there was none yet.
func (j Journal) follow(ctx context.Context, r *reader, f *os.File) (last *os.File, err error) {
	if f != nil && is(f, j.current()) {
		return f, r.drain(ctx, f)
	}
	old, now, err := j.both()
	if err != nil {
		return f, err
	}
	files := []*os.File{f, old, now}
	if f != nil && old != nil && sameFile(f, old) {
		closeFile(old)
		files[1] = nil
	}
	for i, next := range files {
		if next == nil {
			continue
		}
		if i > 0 {
			r.restart()
			r.skipOlder(next)
			closeFile(last)
		}
		last = next
		// Nobody writes to f any more if it is not the current one: this is its rest.
		if err = r.drain(ctx, next); err != nil {
			for _, unread := range files[i+1:] {
				closeFile(unread)
			}
			break
		}
	}
	return last, err
}

// both opens the two files as they belong together; nil is one that is not
// there.
func (j Journal) both() (old, now *os.File, err error) {
	for range 100 {
		now, err = open(j.current())
		if err == nil {
			old, err = open(j.previous())
		}
		if err != nil {
			closeFile(now)
			return nil, nil, err
		}
		if is(now, j.current()) && is(old, j.previous()) {
			return old, now, nil
		}
		closeFile(now)
		closeFile(old)
	}
	return nil, nil, fail.New(fail.HostCannot, "journal of events: its files change all the time")
}

func open(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return f, fail.Wrap(fail.HostCannot, err, "journal of events")
}

// is says whether f, or nil for none, is what has the name path.
func is(f *os.File, path string) bool {
	named, err := os.Lstat(path)
	if f == nil || err != nil {
		return f == nil && errors.Is(err, fs.ErrNotExist)
	}
	st, err := f.Stat()
	return err == nil && os.SameFile(st, named)
}

func sameFile(a, b *os.File) bool {
	x, err := a.Stat()
	if err != nil {
		return false
	}
	y, err := b.Stat()
	return err == nil && os.SameFile(x, y)
}

func closeFile(f *os.File) {
	if f != nil {
		f.Close()
	}
}

// reader finds the lines of a file that grows.
type reader struct {
	q    Query
	emit func(Event) error
	rest []byte // of a line that is not complete
	long bool   // the line is too long to be one of ours, and is skipped
	buf  []byte
}

func (r *reader) restart() { r.rest, r.long = r.rest[:0], false }

// skipOlder passes over a file in which nothing new enough can be. Times of
// files are those of the last tick of the kernel's clock.
func (r *reader) skipOlder(f *os.File) {
	st, err := f.Stat()
	if err == nil && st.ModTime().Add(time.Second).Before(r.q.Since) {
		_, _ = f.Seek(0, io.SeekEnd)
	}
}

// drain reads to the end of what there is.
func (r *reader) drain(ctx context.Context, f *os.File) error {
	if r.buf == nil {
		r.buf = make([]byte, 32<<10)
	}
	for {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n, err := f.Read(r.buf)
		if err := r.lines(r.buf[:n]); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fail.Wrap(fail.HostCannot, err, "journal of events")
		}
	}
}

func (r *reader) lines(b []byte) error {
	for {
		l, rest, ended := bytes.Cut(b, []byte{'\n'})
		if r.long = r.long || len(r.rest)+len(l) > lineMax; r.long {
			r.rest = r.rest[:0]
		} else {
			r.rest = append(r.rest, l...)
		}
		if !ended {
			return nil
		}
		if !r.long {
			if err := r.line(r.rest); err != nil {
				return err
			}
		}
		r.restart()
		b = rest
	}
}

func (r *reader) line(l []byte) error {
	var e Event
	if len(l) == 0 || json.Unmarshal(l, &e) != nil || e.Time.IsZero() || e.Type == "" || e.Action == "" {
		return nil
	}
	if e.Time.Before(r.q.Since) || (!r.q.Until.IsZero() && e.Time.After(r.q.Until)) || (r.q.Match != nil && !r.q.Match(e)) {
		return nil
	}
	return r.emit(e)
}
