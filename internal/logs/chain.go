package logs

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// logFile is an open file of a log, read line by line.
type logFile struct {
	f        *os.File
	dev, ino uint64
	size     int64 // when it was opened
	written  time.Time

	limit int64 // read no further; negative is no limit
	off   int64 // of what is read next
	liner
}

func (l *logFile) same(o *logFile) bool { return l.dev == o.dev && l.ino == o.ino }

// openLog opens a file; nil if there is none.
func openLog(name string) (*logFile, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "log")
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New(name + " is not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, fail.Wrap(fail.HostCannot, err, "log")
	}
	return &logFile{f: f, dev: st.Dev, ino: st.Ino, size: st.Size, written: time.Unix(st.Mtim.Unix()), limit: -1}, nil
}

func (l *logFile) line() ([]byte, bool, error) { return l.next(l) }

// Read reads on; no bytes are the end, for now.
func (l *logFile) Read(room []byte) (int, error) {
	if l.limit >= 0 {
		room = room[:max(0, min(int64(len(room)), l.limit-l.off))]
	}
	n, err := l.f.ReadAt(room, l.off)
	l.off += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, fail.Wrap(fail.HostCannot, err, "log")
	}
	if n > 0 || len(room) == 0 {
		return n, nil
	}
	// Someone may have emptied the file: it goes on at its start.
	st, err := l.f.Stat()
	if err != nil || st.Size() >= l.off {
		return 0, fail.Wrap(fail.HostCannot, err, "log")
	}
	l.off, l.limit = 0, -1
	l.drop()
	return 0, nil
}

// chain opens all files of a log, the newest first. A rotation while they are
// being opened is seen by the newest not being the newest any more.
func (c Config) chain() (all []*logFile, err error) {
	for range 16 {
		var newest *logFile
		if all, err = c.openAll(); err != nil {
			return nil, err
		}
		if newest, err = openLog(c.file(0)); err != nil {
			closeLogs(all)
			return nil, err
		}
		if newest == nil {
			return all, nil // a rotation is under way, or there is no file yet
		}
		newest.f.Close()
		if len(all) > 0 && newest.same(all[0]) {
			return all, nil
		}
		closeLogs(all)
	}
	return c.openAll()
}

func (c Config) openAll() (all []*logFile, err error) {
	for i := range c.MaxFile {
		l, err := openLog(c.file(i))
		if err != nil {
			closeLogs(all)
			return nil, err
		}
		switch {
		case l == nil:
		case len(all) > 0 && l.same(all[len(all)-1]): // renamed in between
			l.f.Close()
		default:
			all = append(all, l)
		}
	}
	return all, nil
}

func closeLogs(all []*logFile) {
	for _, l := range all {
		l.f.Close()
	}
}

// keep closes all files but one.
func keep(all []*logFile, one *logFile) {
	for _, l := range all {
		if l != one {
			l.f.Close()
		}
	}
}

// after opens the file that follows l; nil if l is the newest. If l is no
// longer among the files, that is the oldest that is newer. A reader holds one
// file open, so that a slow one keeps little of what was rotated away on disk.
func (c Config) after(l *logFile) (next *logFile, err error) {
	var st unix.Stat_t
	if unix.Lstat(c.file(0), &st) == nil && st.Dev == l.dev && st.Ino == l.ino {
		return nil, nil
	}
	all, err := c.chain()
	if err != nil {
		return nil, err
	}
	if err := unix.Fstat(int(l.f.Fd()), &st); err != nil {
		closeLogs(all)
		return nil, fail.Wrap(fail.HostCannot, err, "log")
	}
	at := slices.IndexFunc(all, l.same)
	if at < 0 {
		at = slices.IndexFunc(all, func(f *logFile) bool { return f.written.Before(time.Unix(st.Mtim.Unix())) })
	}
	if at < 0 {
		at = len(all)
	}
	if at > 0 {
		next = all[at-1]
	}
	keep(all, next)
	return next, nil
}

// start opens the file the query's entries begin in, at the place where they
// do; nil if there is no file. Of all, the files there are now with the newest
// first, the others are closed.
func (c Config) start(q Query) (first *logFile, all []*logFile, err error) {
	all, err = c.chain()
	if err != nil || len(all) == 0 {
		return nil, nil, err
	}
	first = all[len(all)-1]
	for i, wanted := 0, q.Tail; i < len(all) && wanted >= 0; i++ {
		var found bool
		if wanted, found, err = all[i].tail(wanted, c.MaxSize+lineSize); err != nil {
			closeLogs(all)
			return nil, nil, err
		}
		if found {
			first = all[i]
			break
		}
	}
	keep(all, first)
	return first, all, nil
}

// tail goes to where the last n lines of the file start and tells whether it
// has them; else left is how many are wanted of the file before. It reads at
// most most bytes: whatever stands before them, no log wrote it.
func (l *logFile) tail(n int, most int64) (left int, found bool, err error) {
	buf := make([]byte, 64<<10)
	low, lines := max(0, l.size-most), -1 // the first end of a line found is that of the last line
	for end := l.size; end > low; {
		b := buf[:min(int64(len(buf)), end-low)]
		if _, err := l.f.ReadAt(b, end-int64(len(b))); err != nil && !errors.Is(err, io.EOF) {
			return 0, false, fail.Wrap(fail.HostCannot, err, "log")
		}
		for i := bytes.LastIndexByte(b, '\n'); i >= 0; i = bytes.LastIndexByte(b[:i], '\n') {
			if lines++; lines == n {
				l.off = end - int64(len(b)) + int64(i) + 1
				return 0, true, nil
			}
		}
		end -= int64(len(b))
	}
	l.off = low
	if low > 0 { // in the middle of a line: up to its end it is no entry
		return 0, true, nil
	}
	return n - max(0, lines+1), n-max(0, lines+1) == 0, nil
}
