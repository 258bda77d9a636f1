package logs

import (
	"bytes"
	"io/fs"
	"sync"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
)

// The streams of a container.
const (
	Stdout byte = 1
	Stderr byte = 2
)

// maxLine is the longest line that is one entry, in bytes; docker's (16 KiB,
// daemon/logger/copier.go). Longer lines are several.
const maxLine = 16 << 10

// Log keeps the output of one container.
type Log struct {
	mu     sync.Mutex
	sink   sink // nil: nothing is kept
	held   [2][]byte
	closed bool
	drops  drops
}

// sink is where entries go. It is called with the log locked.
type sink interface {
	// begin is called before the entries of one chunk of output.
	begin(stream byte, now time.Time)
	// lines takes whole lines, and parts of lines longer than maxLine, from
	// the start of p and tells how much it took: all but an unfinished line.
	lines(stream byte, p []byte) int
	// entry takes one line without its end; part says that more follows.
	entry(stream byte, p []byte, part bool)
	// end writes what begin and the entries after it left.
	end()
	close()
}

// drops counts the entries that could not be kept.
type drops struct {
	entries uint64
	notice  func(error)
	told    bool
}

func (d *drops) add(entries int, err error) {
	d.entries += uint64(entries)
	if !d.told && d.notice != nil {
		d.told = true
		d.notice(fail.Wrap(fail.HostCannot, err, "the container's output is not kept"))
	}
}

// Open prepares a log. Nothing is made on disk before the first output.
// Errors: fail.Usage for options that do not fit the container.
func Open(c Config, m Meta) (*Log, error) {
	l := &Log{drops: drops{notice: m.Notice}}
	var err error
	switch c.Driver {
	case JSONFile:
		l.sink, err = newFiles(c, m, &l.drops)
	case Journald:
		l.sink, err = newJournal(c, m, journalSocket, &l.drops)
	case None, Passthrough:
	default:
		err = fail.New(fail.Internal, "log driver %q", c.Driver)
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Write keeps what came out of a stream. It may be called for both streams at
// once. What cannot be kept, as on a full disk, is dropped and counted, so
// that the container goes on; the only error is fs.ErrClosed.
func (l *Log) Write(stream byte, p []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fs.ErrClosed
	}
	if l.sink == nil || len(p) == 0 {
		return nil
	}
	l.sink.begin(stream, time.Now())
	l.split(stream, p)
	l.sink.end()
	return nil
}

func (l *Log) split(stream byte, p []byte) {
	held := &l.held[stream-1]
	for len(*held) > 0 && len(p) > 0 {
		room := maxLine - len(*held)
		n := bytes.IndexByte(p[:min(len(p), room+1)], '\n')
		switch {
		case n >= 0:
			*held = append(*held, p[:n]...)
			l.sink.entry(stream, *held, false)
			*held, p = (*held)[:0], p[n+1:]
		case len(p) <= room:
			*held, p = append(*held, p...), nil
		default:
			*held, p = append(*held, p[:room]...), p[room:]
			n = cut(*held)
			l.sink.entry(stream, (*held)[:n], true)
			*held = append((*held)[:0], (*held)[n:]...)
		}
	}
	if len(p) == 0 {
		return
	}
	p = p[l.sink.lines(stream, p):]
	if len(p) > 0 {
		if *held == nil {
			*held = make([]byte, 0, maxLine)
		}
		*held = append(*held, p...)
	}
}

// Dropped is the number of entries that could not be kept.
func (l *Log) Dropped() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.drops.entries
}

// Close keeps a last line that has no end and gives back what the log holds.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	if l.sink == nil {
		return nil
	}
	for i, p := range l.held {
		if len(p) > 0 {
			stream := byte(i + 1)
			l.sink.begin(stream, time.Now())
			// Docker's mark of a line that never ended: a part with nothing after it.
			l.sink.entry(stream, p, true)
			l.sink.end()
		}
	}
	l.held = [2][]byte{}
	l.sink.close()
	return nil
}
