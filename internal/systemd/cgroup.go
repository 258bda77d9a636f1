package systemd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// Leaf is the cgroup below a unit's own that its processes are moved to.
const Leaf = "supervisor"

// Away is the cgroup, below the root, of processes that belong to no unit.
const Away = "safe-run.supervisors"

// groups is /proc/PID/cgroup as far as systemd is concerned.
type groups struct {
	unified bool   // cgroup v2 is all there is, and has the controllers
	v2      string // the path in cgroup v2, "" if there is none
	named   string // the path in systemd's own v1 hierarchy, "" if there is none
}

// service is the path systemd knows the process by. Of a hybrid set-up both
// are the same.
func (g groups) service() string {
	if g.unified || g.named == "" {
		return g.v2
	}
	return g.named
}

// readGroups reads the cgroups of a process ("self" or a number).
func readGroups(root, pid string) (groups, error) {
	f, err := os.Open(filepath.Join(root, "proc", pid, "cgroup"))
	if err != nil {
		return groups{}, err
	}
	defer func() { _ = f.Close() }()
	g, err := parseGroups(io.LimitReader(f, 64<<10)) // a path has at most 4096 bytes
	if err != nil {
		return g, err
	}
	_, err = os.Stat(filepath.Join(root, "sys/fs/cgroup/cgroup.controllers"))
	g.unified = err == nil && g.v2 != ""
	return g, nil
}

// parseGroups takes no path that is outside of this cgroup namespace.
func parseGroups(r io.Reader) (g groups, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		_, rest, _ := strings.Cut(lines.Text(), ":")
		which, path, _ := strings.Cut(rest, ":")
		if !strings.HasPrefix(path, "/") || filepath.Clean(path) != path {
			continue
		}
		switch which {
		case "":
			g.v2 = path
		case "name=systemd":
			g.named = path
		}
	}
	return g, lines.Err()
}

// unitOf gives the service a cgroup path belongs to: the cgroup, the unit's
// name, and what of the path is below it. It gives no name for anything that
// is not in a service, or is in another unit below one (a scope in a user's
// manager).
func unitOf(path string) (cgroup, name, leaf string) {
	for p := path; p != "/" && p != "." && p != ""; p = filepath.Dir(p) {
		base := filepath.Base(p)
		switch filepath.Ext(base) {
		case ".service":
			leaf = strings.TrimPrefix(strings.TrimPrefix(path, p), "/")
			return p, strings.TrimPrefix(base, "_"), leaf // systemd escapes names the kernel uses
		case ".scope", ".slice", ".socket", ".mount", ".swap":
			return "", "", ""
		}
	}
	return "", "", ""
}

func (u *Unit) dir() string { return filepath.Join(u.root, "sys/fs/cgroup", u.Cgroup) }

func (u *Unit) file(name string) string { return filepath.Join(u.dir(), name) }

// marked says whether systemd marked the cgroup as delegated: trusted.delegate,
// since version 251 user.delegate too. The first cannot be set from inside.
func (u *Unit) marked() bool {
	var v [2]byte
	for _, name := range []string{"trusted.delegate", "user.delegate"} {
		n, err := unix.Getxattr(u.dir(), name, v[:])
		if err == nil {
			return n == 1 && v[0] == '1'
		}
	}
	return false
}

// enterTries bounds how often processes are collected; more come only while
// somebody forks in between.
const enterTries = 20

// Enter makes the unit's cgroup one that containers can have theirs below:
// the kernel wants no processes where controllers are handed on, so all of
// the unit's are moved to Leaf. Any number of calls do what one does. An
// error has kind HostCannot.
func (u *Unit) Enter() error {
	if !u.Delegated {
		return fail.New(fail.HostCannot, "the cgroup of %s is not delegated", u.Name).
			Hint("Delegate=yes in the unit's [Service] section")
	}
	if err := os.Mkdir(u.file(Leaf), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fail.Wrap(fail.HostCannot, err, "dividing the cgroup of %s", u.Name)
	}
	var err error
	for range enterTries {
		if err = u.collect(); err != nil {
			continue
		}
		if err = u.enable(); !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	return fail.Wrap(fail.HostCannot, err, "dividing the cgroup of %s", u.Name)
}

// collect moves the processes directly in the unit's cgroup to the leaf.
func (u *Unit) collect() error {
	f, err := os.Open(u.file("cgroup.procs"))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		pid, err := strconv.Atoi(lines.Text())
		if err != nil || pid <= 0 { // 0: of another PID namespace
			return fmt.Errorf("process %.20q in it cannot be moved", lines.Text())
		}
		if err := move(u.file(Leaf), pid); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return lines.Err()
}

// enable hands the unit's controllers on to the cgroups below it.
func (u *Unit) enable() error {
	control := u.file("cgroup.subtree_control")
	on := strings.Fields(readLine(control))
	var all []string
	for _, c := range append(needed(), wanted()...) {
		if slices.Contains(u.Controllers, c) && !slices.Contains(on, c) {
			all = append(all, "+"+c)
		}
	}
	if len(all) == 0 {
		return nil
	}
	err := write(control, strings.Join(all, " "))
	if err == nil || errors.Is(err, unix.EBUSY) {
		return err
	}
	// All or nothing: one that is only wanted must not cost the others.
	for _, c := range all {
		if err := write(control, c); err != nil && slices.Contains(needed(), c[1:]) {
			return fmt.Errorf("controller %s: %w", c[1:], err)
		}
	}
	return nil
}

// MoveOut moves a process (0: this one) out of the unit or login session it
// is in, to a cgroup that systemd does not manage and does not end. Whoever is
// not in one stays where it is. With cgroup v1 it is systemd's own hierarchy
// that decides what belongs to a unit: limits of the others stay. An error has
// kind HostCannot.
func MoveOut(pid int) error { return moveOut("/", pid) }

func moveOut(root string, pid int) error {
	who := "self"
	if pid != 0 {
		who = strconv.Itoa(pid)
	}
	g, err := readGroups(root, who)
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "reading which cgroup process %d is in", pid)
	}
	if !managed(g.service()) {
		return nil
	}
	var tops []string
	switch {
	case g.unified:
		tops = []string{"sys/fs/cgroup"}
	case managed(g.v2): // hybrid: systemd kills by the one in "unified"
		tops = []string{"sys/fs/cgroup/unified", "sys/fs/cgroup/systemd"}
	default:
		tops = []string{"sys/fs/cgroup/systemd"}
	}
	for _, top := range tops {
		dir := filepath.Join(root, top, Away)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fail.Wrap(fail.HostCannot, err, "making a cgroup outside of the caller's unit")
		}
		if err := move(dir, pid); err != nil {
			return fail.Wrap(fail.HostCannot, err, "moving process %d out of the caller's unit", pid)
		}
	}
	return nil
}

// managed says whether a cgroup path is one of systemd's.
func managed(path string) bool {
	for _, base := range strings.Split(path, "/") {
		switch filepath.Ext(base) {
		case ".service", ".scope", ".slice", ".socket", ".mount", ".swap":
			return true
		}
	}
	return false
}

func move(dir string, pid int) error {
	return write(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(pid))
}

// write writes in one call, as files of cgroupfs want it.
func write(path, text string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	for {
		if _, err = unix.Write(fd, []byte(text)); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return &fs.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}

// readLine reads a small file of cgroupfs, "" if it cannot.
func readLine(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	b, _ := io.ReadAll(io.LimitReader(f, 4096))
	return strings.TrimSpace(string(b))
}
