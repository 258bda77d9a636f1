package launcher

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

const cgroupfs = "/sys/fs/cgroup"

// unitCgroup is the cgroup of the systemd unit the container's is made below;
// "" if there is none that was delegated.
func (r *run) unitCgroup() string {
	if r.Unit == nil || !r.Unit.Delegated {
		return ""
	}
	return r.Unit.Cgroup
}

// placeInUnit makes the unit's cgroup fit to have the container's below it.
func (r *run) placeInUnit() error {
	switch {
	case r.Unit == nil:
		return nil
	case !r.Unit.Delegated:
		r.notice(r.Unit.Name + " has not Delegate=yes: its limits do not bind the container")
		return nil
	}
	return r.Unit.Enter()
}

// removeCgroups removes what a runtime that was killed left of a container's
// cgroups: it makes them before it writes down that there is a container, and
// nobody else looks for them. Processes still in them are killed.
func removeCgroups(path string) error {
	dirs, err := cgroupDirs(path)
	for _, d := range dirs {
		err = errors.Join(err, removeCgroup(d))
	}
	return fail.Wrap(fail.HostCannot, err, "cgroups of the container")
}

// killCgroups kills all processes of a container, whether or not its runtime
// knows of them.
func killCgroups(path string) error {
	dirs, err := cgroupDirs(path)
	for _, d := range dirs {
		killIn(d)
	}
	return fail.Wrap(fail.HostCannot, err, "cgroups of the container")
}

// cgroupDirs are the directories of a cgroup that exist, in all hierarchies.
func cgroupDirs(path string) (dirs []string, err error) {
	// The path comes from a record on disk, and what is in it is killed.
	if !ownCgroup(path) {
		return nil, nil
	}
	entries, err := os.ReadDir(cgroupfs)
	if err != nil {
		return nil, err
	}
	roots := []string{cgroupfs}
	for _, e := range entries {
		if e.IsDir() { // a hierarchy of cgroup v1; in v2 a cgroup, which has no such path
			roots = append(roots, filepath.Join(cgroupfs, e.Name()))
		}
	}
	for _, root := range roots {
		if d := filepath.Join(root, path); exists(d) {
			dirs = append(dirs, d)
		}
	}
	return dirs, nil
}

// ownCgroup says whether a cgroup can be a container's: below our own, or
// named for one below a unit's.
func ownCgroup(path string) bool {
	id, named := strings.CutPrefix(filepath.Base(path), "safe-run-")
	return filepath.IsAbs(path) && filepath.Clean(path) == path && (strings.HasPrefix(path, "/safe-run/") || named && len(id) == 64)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func removeCgroup(dir string) error {
	for end := time.Now().Add(stopTimeout); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			return &os.PathError{Op: "rmdir", Path: dir, Err: err}
		}
		killIn(dir)
	}
}

func killIn(dir string) {
	if f, err := os.OpenFile(filepath.Join(dir, "cgroup.kill"), os.O_WRONLY, 0); err == nil { // cgroup v2: all at once
		_, err = f.WriteString("1")
		f.Close()
		if err == nil {
			return
		}
	}
	procs, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	for _, p := range strings.Fields(string(procs)) {
		if pid, err := strconv.Atoi(p); err == nil && pid > 1 {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// cgroupExists looks in the two places where a container's cgroup shows first.
func cgroupExists(path string) bool {
	return exists(filepath.Join(cgroupfs, path)) || exists(filepath.Join(cgroupfs, "memory", path))
}
