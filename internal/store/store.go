// Package store keeps what safe-run knows about containers on disk: one
// directory per container, one lock per live supervisor, one link per name.
//
// A container has a supervisor exactly as long as its lock file under
// <run>/live is locked; the kernel drops the lock when the process dies, so
// whatever SIGKILL leaves is found by looking for files nobody locks.
package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// Default places. Root survives a reboot, Run does not.
const (
	DefaultRoot = "/var/lib/safe-run"
	DefaultRun  = "/run/safe-run"
)

// Store is the pair of directories all state lives in, root's alone.
type Store struct {
	Root string // persistent: containers, names, volumes, ids, cache
	Run  string // until reboot: locks, FIFOs
}

// Record is what is kept about one container. It holds no environment
// values: those may be secrets.
type Record struct {
	ID        string            `json:"id"`
	Name      string            `json:"name,omitempty"`
	Image     string            `json:"image"`
	Digest    string            `json:"digest"`
	Args      []string          `json:"args,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"` // the image's, then --label
	Block     spec.IDBlock      `json:"block"`
	Anonymous []string          `json:"anonymousVolumes,omitempty"`
	Cgroup    string            `json:"cgroup,omitempty"` // path below each hierarchy's root
	Keep      bool              `json:"keep"`             // no --rm: stays after its end
	Phase     string            `json:"phase"`
	ExitCode  int               `json:"exitCode"` // of the last run, once it has ended
	Created   time.Time         `json:"created"`
	Namespace string            `json:"namespace"`
	Address   string            `json:"address"`

	// What supervision knows. Only the holder of the container's lock writes it.
	Detached   bool               `json:"detached,omitempty"` // -d: lives on without its supervisor
	Restart    spec.RestartPolicy `json:"restart,omitzero"`
	Restarts   int                `json:"restarts,omitempty"` // by the policy, since it was started by a user
	PID        int                `json:"pid,omitempty"`      // of the first process, on the host; 0 while it does not run
	Started    time.Time          `json:"started,omitzero"`   // last start
	Finished   time.Time          `json:"finished,omitzero"`  // last end
	Paused     bool               `json:"paused,omitempty"`
	OOMKilled  bool               `json:"oomKilled,omitempty"`  // in the last run the kernel killed for memory
	Stopped    bool               `json:"stopped,omitempty"`    // a user stopped it: its policy does not start it again
	Error      string             `json:"error,omitempty"`      // why the last start failed
	TTY        bool               `json:"tty,omitempty"`        // has a terminal
	Stdin      bool               `json:"stdin,omitempty"`      // -i
	LogDriver  string             `json:"logDriver,omitempty"`  // json-file, journald, none, passthrough
	Checked    bool               `json:"checked,omitempty"`    // it has a health check: see Health
	StopSignal int                `json:"stopSignal,omitempty"` // number
	StopAfter  int                `json:"stopAfter,omitempty"`  // seconds from it to SIGKILL; -1 is never
	Command    string             `json:"command,omitempty"`    // program and arguments, as ps shows them
	Unit       string             `json:"unit,omitempty"`       // systemd unit it runs in
	Typed      string             `json:"typed,omitempty"`      // the image's name as it was given
}

// CommandLine is a command as docker shows it: arguments with spaces are in
// quotes.
func CommandLine(args []string) string {
	var b strings.Builder
	for i, a := range args {
		switch {
		case i == 0:
			b.WriteString(a)
		case strings.Contains(a, " "):
			b.WriteString(" '" + a + "'")
		default:
			b.WriteString(" " + a)
		}
	}
	return b.String()
}

// The phases of a Record.
const (
	PhaseCreating   = "creating"   // nothing of it has run
	PhaseRunning    = "running"    // its program runs, or ran when its supervisor died
	PhaseRestarting = "restarting" // ended, and will be started again
	PhaseExited     = "exited"
)

// Open makes the directories of a store if they are missing.
func Open(root, run string) (*Store, error) {
	s := &Store{Root: root, Run: run}
	_, err := os.Lstat(filepath.Join(run, "live"))
	if err == nil {
		_, err = os.Lstat(filepath.Join(root, "names"))
	}
	if err == nil { // the tree was made by an earlier command
		return s, nil
	}
	return s, mkdirAll(run, root)
}

// Fresh says that no sweep of the containers of the containerd at address was
// completed since boot. Locks say nothing of those from before: all records
// must be looked at.
func (s *Store) Fresh(address string) bool {
	_, err := os.Lstat(s.sweptMark(address))
	return err != nil
}

// Swept notes that such a sweep is complete.
func (s *Store) Swept(address string) error {
	return fail.Wrap(fail.HostCannot, os.WriteFile(s.sweptMark(address), nil, 0o600), "state")
}

func (s *Store) sweptMark(address string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(address))
	return filepath.Join(s.Run, fmt.Sprintf("swept-%016x", h.Sum64()))
}

// mkdirAll makes all directories. Run can be passed through, but not read:
// the embedded engine keeps the containers' root file systems below it, and
// their init, which is not the host's root, walks there.
func mkdirAll(run, root string) error {
	dirs := []struct {
		path string
		mode fs.FileMode
	}{{run, 0o711}, {root, 0o711}}
	for _, d := range []string{"live", "io"} {
		dirs = append(dirs, struct {
			path string
			mode fs.FileMode
		}{filepath.Join(run, d), 0o700})
	}
	for _, d := range []string{"containers", "volumes", "ids", "cache", "names"} {
		dirs = append(dirs, struct {
			path string
			mode fs.FileMode
		}{filepath.Join(root, d), 0o700})
	}
	for _, d := range dirs {
		if err := mkdirOwn(d.path, d.mode); err != nil {
			return err
		}
	}
	return nil
}

// mkdirOwn makes dir and its parents, and makes sure that dir itself is a
// directory of ours with no more than mode: it may lie below a directory
// others can write to.
func mkdirOwn(dir string, mode fs.FileMode) error {
	err := os.MkdirAll(filepath.Dir(dir), 0o755)
	if err == nil {
		err = os.Mkdir(dir, mode)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fail.Wrap(fail.HostCannot, err, "state directory")
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "state directory")
	}
	if !st.IsDir() {
		return fail.New(fail.HostCannot, "state directory %s is not a directory", dir)
	}
	if uid := statUID(dir); uid != uint32(os.Geteuid()) {
		return fail.New(fail.HostCannot, "state directory %s belongs to uid %d", dir, uid).
			Hint("remove it, or name another with SAFE_RUN_ROOT and SAFE_RUN_STATE")
	}
	if st.Mode().Perm() != mode {
		return fail.Wrap(fail.HostCannot, os.Chmod(dir, mode), "state directory")
	}
	return nil
}

func statUID(path string) uint32 {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return ^uint32(0)
	}
	return st.Uid
}

// Entry is a container this process supervises: it holds the lock.
type Entry struct {
	ID   string
	Dir  string // persistent directory of the container
	IO   string // directory for its FIFOs
	s    *Store
	lock *os.File
	name string
}

// Begin registers a new container under the lock of this process. The lock
// is taken before the file has a name, so nobody sees it unlocked.
func (s *Store) Begin(id string) (*Entry, error) {
	live := filepath.Join(s.Run, "live")
	fd, err := unix.Open(live, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "lock in %s", live)
	}
	lock := os.NewFile(uintptr(fd), id)
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fail.Wrap(fail.Internal, err, "locking a new file")
	}
	err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, filepath.Join(live, id), unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		lock.Close()
		return nil, fail.Wrap(fail.Internal, err, "registering container %s", id)
	}
	e := &Entry{ID: id, Dir: s.dir(id), IO: filepath.Join(s.Run, "io", id), s: s, lock: lock}
	for _, d := range []string{e.Dir, e.IO} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return e, fail.Wrap(fail.HostCannot, err, "state of the container")
		}
	}
	return e, nil
}

// Adopt makes an Entry of a lock inherited from the process before.
func (s *Store) Adopt(id string, lock *os.File) *Entry {
	rec, err := s.Load(id)
	e := &Entry{ID: id, Dir: s.dir(id), IO: filepath.Join(s.Run, "io", id), s: s, lock: lock, name: rec.Name}
	if err != nil {
		e.name = s.nameOf(id)
	}
	return e
}

// nameOf finds the name of a container whose record cannot be read.
func (s *Store) nameOf(id string) string {
	all, _ := names(filepath.Join(s.Root, "names"))
	for _, n := range all {
		if holder, err := os.Readlink(filepath.Join(s.Root, "names", n)); err == nil && holder == id {
			return n
		}
	}
	return ""
}

// Lock is the locked file, to hand on to another process.
func (e *Entry) Lock() *os.File { return e.lock }

func (s *Store) dir(id string) string { return filepath.Join(s.Root, "containers", id) }

// TakeName claims a name. If it is taken, the error is fail.Conflict and
// holder is the container that has it.
func (e *Entry) TakeName(name string) (holder string, err error) {
	p := filepath.Join(e.s.Root, "names", name)
	err = os.Symlink(e.ID, p)
	if errors.Is(err, fs.ErrExist) {
		holder, _ = os.Readlink(p)
		return holder, fail.New(fail.Conflict, "Conflict. The container name %q is already in use by container %q", "/"+name, holder).
			Hint("choose another name, or remove that container: safe-run rm %s", name)
	}
	if err == nil {
		e.name = name
	}
	return "", fail.Wrap(fail.HostCannot, err, "container name")
}

// Rename gives the container another name, or its first. If that is taken
// the error is fail.Conflict, and nothing has changed.
func (e *Entry) Rename(name string) error {
	old := e.name
	if name == old {
		return fail.New(fail.Usage, "the container is called %q already", name)
	}
	if _, err := e.TakeName(name); err != nil {
		return err
	}
	if old == "" {
		return nil
	}
	return fail.Wrap(fail.HostCannot, os.Remove(filepath.Join(e.s.Root, "names", old)), "container name")
}

// Save writes the record. It is not synced: after a crash of the host a
// container without a readable record is removed, never run.
func (s *Store) Save(r Record) error {
	return s.write(r.ID, "record.json", r)
}

// Load reads the record of a container by its full id.
func (s *Store) Load(id string) (Record, error) {
	b, err := os.ReadFile(filepath.Join(s.dir(id), "record.json"))
	if err != nil {
		return Record{ID: id}, fail.Wrap(fail.NotFound, err, "No such container: %s", id)
	}
	var r Record
	if err := json.Unmarshal(b, &r); err != nil || r.ID != id {
		return Record{ID: id}, fail.New(fail.Internal, "the record of container %s is damaged", id)
	}
	return r, nil
}

// Supervised tells whether a living process holds the container's lock.
func (s *Store) Supervised(id string) bool {
	f, err := os.Open(filepath.Join(s.Run, "live", id))
	if err != nil {
		return false
	}
	defer f.Close()
	// A shared lock: two commands that look at once must not take each other for a supervisor.
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil {
		return true
	}
	return false
}

// Capture takes over a container whose supervisor died. It gives nil if a
// living process has it. After a reboot there is no lock file: it is made.
func (s *Store) Capture(id string) *Entry { return s.capture(id, os.O_CREATE) }

// CaptureLeft is Capture of one that was among Live. If that is over by now it
// gives nil, where Capture would register a container anew that is gone.
func (s *Store) CaptureLeft(id string) *Entry { return s.capture(id, 0) }

func (s *Store) capture(id string, make int) *Entry {
	p := filepath.Join(s.Run, "live", id)
	f, err := os.OpenFile(p, os.O_RDWR|make, 0o600)
	if err != nil {
		return nil
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		f.Close()
		return nil
	}
	// Somebody may have cleaned up between open and lock.
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil || st.Nlink == 0 {
		f.Close()
		return nil
	}
	return s.Adopt(id, f)
}

// Remove forgets the container: directory, FIFOs, name, and the lock last.
func (e *Entry) Remove() error {
	err := os.RemoveAll(e.Dir)
	if e.name != "" {
		p := filepath.Join(e.s.Root, "names", e.name)
		if id, rerr := os.Readlink(p); rerr == nil && id == e.ID {
			err = errors.Join(err, os.Remove(p))
		}
	}
	return errors.Join(err, e.End())
}

// End gives the lock up and removes what only a running container needs.
func (e *Entry) End() error {
	// Never recursively: the directory is where sources of the user's are
	// mounted while a container is created.
	entries, err := os.ReadDir(e.IO)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	for _, f := range entries {
		if f.Type()&(fs.ModeNamedPipe|fs.ModeSocket) == 0 {
			continue // the directory's own removal will tell
		}
		if rerr := os.Remove(filepath.Join(e.IO, f.Name())); !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	if rerr := os.Remove(e.IO); !errors.Is(rerr, fs.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	if err != nil {
		e.lock.Close()
		return fail.Wrap(fail.HostCannot, err, "state of the container")
	}
	err = errors.Join(err, os.Remove(filepath.Join(e.s.Run, "live", e.ID)))
	e.lock.Close()
	return fail.Wrap(fail.HostCannot, err, "state of the container")
}

// Release drops the lock without cleaning, so that the next command does.
func (e *Entry) Release() { e.lock.Close() }
