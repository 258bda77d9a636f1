// Package events keeps a journal of what happened to containers, images,
// networks and volumes. There is no daemon to ask: it is two files of bounded
// size that every process appends to.
package events

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// Event is one thing that happened. Types, actions and names of attributes are
// docker's.
type Event struct {
	Time       time.Time         `json:"time"`
	Type       string            `json:"type"`   // container, image, network, volume
	Action     string            `json:"action"` // create, start, die, "health_status: healthy", ...
	ID         string            `json:"id"`     // of what it happened to
	Attributes map[string]string `json:"attributes,omitempty"`
}

// Journal is the directory the files are in: events and, from before, events.1.
// A line is one event.
type Journal struct {
	Dir string // made when it is needed; root's alone
}

const (
	fileMax  = 4 << 20                // bytes of a file
	lineMax  = 4 << 10                // bytes of a line
	lockWait = 100 * time.Millisecond // for a lock; the event is dropped then
)

func (j Journal) current() string  { return filepath.Join(j.Dir, "events") }
func (j Journal) previous() string { return filepath.Join(j.Dir, "events.1") }

// Add appends an event; a zero Time is now. Texts are cut and attributes left
// out until it fits into 4 KiB. It takes some microseconds. If the journal is
// locked by a process that does not go on, the event is dropped after 100 ms,
// with an error. No caller should fail because of one.
func (j Journal) Add(e Event) error {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	l, err := line(e)
	if err == nil {
		err = j.add(l)
	}
	return fail.Wrap(fail.HostCannot, err, "journal of events")
}

// add writes under a shared lock, and changes files under an exclusive one, so
// nobody writes to a file that a reader has left for the next.
func (j Journal) add(l []byte) error {
	deadline := time.Now().Add(lockWait)
	for {
		again, err := j.try(l, deadline)
		if !again {
			return err
		}
	}
}

// try is one attempt; again says that the file was not the current one any
// more, or that a fresh one is.
func (j Journal) try(l []byte, deadline time.Time) (again bool, err error) {
	const flags = unix.O_WRONLY | unix.O_APPEND | unix.O_CREAT | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	fd, err := unix.Open(j.current(), flags, 0o600)
	if errors.Is(err, unix.ENOENT) {
		if err = os.MkdirAll(j.Dir, 0o700); err == nil {
			fd, err = unix.Open(j.current(), flags, 0o600)
		}
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)

	if err := lock(fd, unix.LOCK_SH, deadline); err != nil {
		return false, err
	}
	same, size, err := j.isCurrent(fd)
	if err != nil || !same {
		return err == nil, err
	}
	if size+int64(len(l)) <= fileMax {
		return false, write(fd, l)
	}
	if err := lock(fd, unix.LOCK_EX, deadline); err != nil {
		return false, err
	}
	if same, _, err = j.isCurrent(fd); err == nil && same { // the change of the lock has a gap
		err = os.Rename(j.current(), j.previous())
	}
	return err == nil, err
}

// isCurrent says whether fd is what has the name of the current file.
func (j Journal) isCurrent(fd int) (same bool, size int64, err error) {
	var open, named unix.Stat_t
	if err := unix.Fstat(fd, &open); err != nil {
		return false, 0, err
	}
	if open.Mode&unix.S_IFMT != unix.S_IFREG {
		return false, 0, errors.New("not a file")
	}
	err = unix.Lstat(j.current(), &named)
	if errors.Is(err, unix.ENOENT) {
		return false, 0, nil
	}
	return open.Ino == named.Ino && open.Dev == named.Dev, open.Size, err
}

func lock(fd, how int, deadline time.Time) error {
	for {
		err := unix.Flock(fd, how|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return err
		}
		if time.Now().After(deadline) {
			return errors.New("locked for too long, the event is dropped")
		}
		time.Sleep(time.Millisecond)
	}
}

// write is one call, so lines of several writers do not mix.
func write(fd int, l []byte) error {
	n, err := unix.Write(fd, l)
	if err == nil && n < len(l) { // a full disk; what comes next begins on a line of its own
		_, _ = unix.Write(fd, []byte{'\n'})
		err = unix.ENOSPC
	}
	return err
}

// line is the event as JSON with a line feed, of at most lineMax bytes.
func line(e Event) ([]byte, error) {
	e.Time = e.Time.Round(0).UTC()
	for _, size := range []int{1024, 256, 128, 32} {
		b, err := json.Marshal(e.cut(size))
		if err != nil || len(b) < lineMax {
			return append(b, '\n'), err
		}
	}
	short := e.cut(32)
	maps.DeleteFunc(short.Attributes, func(k, _ string) bool { return !slices.Contains(essential(), k) })
	b, err := json.Marshal(short)
	return append(b, '\n'), err
}

// essential are the attributes that are never left out.
func essential() []string { return []string{"name", "image", "exitCode", "signal", "oldName"} }

// cut limits the length of all texts, in bytes.
func (e Event) cut(size int) Event {
	e.Type, e.Action, e.ID = cut(e.Type, 32), cut(e.Action, size), cut(e.ID, min(size*2, 256))
	short := make(map[string]string, len(e.Attributes))
	for k, v := range e.Attributes {
		short[cut(k, size)] = cut(v, size)
	}
	e.Attributes = short
	return e
}

func cut(s string, size int) string {
	if len(s) <= size {
		return s
	}
	return strings.ToValidUTF8(s[:size], "")
}
