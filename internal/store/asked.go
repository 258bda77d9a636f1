package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// Asked is what a container was made from: enough to judge it by another
// day's policy and to start it again. It holds the values of its environment
// and is root's alone.
type Asked struct {
	Workload spec.Workload `json:"workload"` // with its volumes named
	Image    spec.Image    `json:"image"`
	Caller   *Caller       `json:"caller,omitempty"` // nil is root
	// Joined is the id of the container whose network it joins, found by the
	// name in Workload at the first start: that one may be renamed.
	Joined string `json:"joined,omitempty"`
}

// Caller is the user whose rights open the files that a command line names.
type Caller struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"`
}

// SaveAsked keeps what a container is made from.
func (s *Store) SaveAsked(id string, a Asked) error { return s.write(id, "asked.json", a) }

// LoadAsked gives what a container was made from; fail.NotFound if that was
// not kept.
func (s *Store) LoadAsked(id string) (a Asked, err error) {
	return a, s.read(id, "asked.json", &a)
}

// The states of a Health, docker's.
const (
	HealthStarting  = "starting"
	HealthHealthy   = "healthy"
	HealthUnhealthy = "unhealthy"
)

// Health is what the checks of a running container have found; the JSON is
// docker's.
type Health struct {
	Status        string
	FailingStreak int
	Log           []HealthResult // the last five
}

// HealthResult is one check.
type HealthResult struct {
	Start    time.Time
	End      time.Time
	ExitCode int // 0 healthy, 1 unhealthy, others too; -1: it could not be run, or took too long
	Output   string
}

// SaveHealth keeps the health of a container.
func (s *Store) SaveHealth(id string, h Health) error { return s.write(id, "health.json", h) }

// LoadHealth gives the health of a container; fail.NotFound if none was kept.
func (s *Store) LoadHealth(id string) (h Health, err error) {
	return h, s.read(id, "health.json", &h)
}

// ForgetHealth removes what an earlier run's checks found.
func (s *Store) ForgetHealth(id string) error {
	err := os.Remove(filepath.Join(s.dir(id), "health.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fail.Wrap(fail.HostCannot, err, "health of the container")
}

// Dir is the persistent directory of a container.
func (s *Store) Dir(id string) string { return s.dir(id) }

// LogDir is where the log files of a container are.
func (s *Store) LogDir(id string) string { return filepath.Join(s.dir(id), "log") }

// Control is the socket of a container's supervisor.
func (s *Store) Control(id string) string { return filepath.Join(s.Run, "io", id, "control") }

// Events is the directory of the journal of events.
func (s *Store) Events() string { return filepath.Join(s.Run, "events") }

// write replaces a file of a container's directory; readers see the old or
// the new content. It is not synced.
func (s *Store) write(id, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fail.Wrap(fail.Internal, err, "%s of the container", name)
	}
	p := filepath.Join(s.dir(id), name)
	if err := os.WriteFile(p+".new", b, 0o600); err != nil {
		_ = os.Remove(p + ".new")
		if full(err) && overwrite(p, b) == nil {
			return nil
		}
		return fail.Wrap(fail.HostCannot, err, "%s of the container", name)
	}
	return fail.Wrap(fail.HostCannot, os.Rename(p+".new", p), "%s of the container", name)
}

func full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// overwrite writes JSON where the file's old content is, which takes no space:
// on a full disk a container is stopped, and must be known to have been. What
// the old content is longer by becomes blanks, in the same write.
func overwrite(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err = unix.Fstat(int(f.Fd()), &st); err == nil && int64(len(b)) > st.Blocks*512 {
		err = unix.ENOSPC
	}
	if err == nil {
		b = append(b, bytes.Repeat([]byte(" "), max(0, int(st.Size)-len(b)))...)
		_, err = f.WriteAt(b, 0)
	}
	return errors.Join(err, f.Close())
}

func (s *Store) read(id, name string, v any) error {
	b, err := os.ReadFile(filepath.Join(s.dir(id), name))
	if errors.Is(err, fs.ErrNotExist) {
		return fail.Wrap(fail.NotFound, err, "%s of the container", name)
	}
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "%s of the container", name)
	}
	return fail.Wrap(fail.Internal, json.Unmarshal(b, v), "%s of the container", name)
}
