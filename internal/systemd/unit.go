// Package systemd is what a process run by systemd has to know and to say:
// which unit it is, whether the unit's cgroup is its to divide, what the unit
// passed to it (sockets, credentials, a journal stream), and the
// notification protocol. It speaks to no bus.
package systemd

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// Unit is the service this process is run as.
type Unit struct {
	Name string // such as web.service, unescaped; a unit's name is chosen by root
	// Cgroup is the unit's cgroup below the root of the hierarchy, with a
	// leading slash, also if this process is in a leaf below it.
	Cgroup string
	// Delegated says that the cgroup may be divided by its processes: cgroup
	// v2, Delegate=yes, and the controllers a container needs are there.
	Delegated bool
	// Controllers are those of the unit's cgroup; with Delegate= left out,
	// or a list, some that a container needs can be missing.
	Controllers []string
	// Main says that this is the unit's main process and not one of
	// ExecStartPost=, ExecReload= or ExecStop=. A process of ExecStartPre=
	// cannot be told from the main one and counts as it.
	Main bool
	// Journal says of stdout and stderr that they are the stream to the
	// journal which systemd opened for the unit.
	Journal          [2]bool
	NotifySocket     string        // $NOTIFY_SOCKET, or ""
	WatchdogInterval time.Duration // WatchdogSec=, 0 if there is none
	// Listen are the descriptors passed by socket units, close-on-exec, and
	// ListenNames their names, one each. They belong to the Unit.
	Listen      []*os.File
	ListenNames []string
	Credentials string // $CREDENTIALS_DIRECTORY, an absolute path or ""

	root string // before /proc, /sys; tests have another
}

// needed are the controllers without which a container's limits cannot be
// enforced below the unit; wanted are enabled where they are available.
func needed() []string { return []string{"memory", "pids", "cpu"} }
func wanted() []string { return []string{"cpuset", "io"} }

// Detect gives the unit whose service process this is, nil if it is none: a
// shell's command in a login session, in a unit's script, or a process that
// outlived its parent. It takes the descriptors of socket units, so it is to
// be called once, before anything else opens files, with the environment the
// process was started with.
//
// An error of kind HostCannot says that the environment contradicts itself.
func Detect(getenv func(string) string) (*Unit, error) {
	return detect(self{root: "/", pid: os.Getpid(), ppid: os.Getppid(), getenv: getenv})
}

// self is what is asked about.
type self struct {
	root      string
	pid, ppid int
	getenv    func(string) string
}

func detect(s self) (*Unit, error) {
	if s.getenv("INVOCATION_ID") == "" || !s.started() {
		return nil, nil
	}
	groups, err := readGroups(s.root, "self")
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "reading which cgroup this process is in")
	}
	path := groups.service()
	cgroup, name, leaf := unitOf(path)
	if name == "" {
		return nil, nil
	}
	u := &Unit{
		Name: name, Cgroup: cgroup, root: s.root,
		// systemd.exec(5): control processes of a delegated unit are in the
		// leaf .control, and are told which process is the main one.
		Main:             leaf != ".control" && (s.getenv("MAINPID") == "" || s.getenv("MAINPID") == strconv.Itoa(s.pid)),
		NotifySocket:     s.getenv("NOTIFY_SOCKET"),
		WatchdogInterval: watchdog(s),
	}
	for i := range u.Journal {
		u.Journal[i] = isStream(s.getenv("JOURNAL_STREAM"), i+1)
	}
	if dir := s.getenv("CREDENTIALS_DIRECTORY"); filepath.IsAbs(dir) {
		u.Credentials = filepath.Clean(dir)
	}
	if groups.unified {
		u.Controllers = strings.Fields(readLine(u.file("cgroup.controllers")))
		u.Delegated = u.marked() && missing(u.Controllers, needed()) == nil
	}
	if u.Listen, u.ListenNames, err = inherited(s); err != nil {
		return nil, err
	}
	return u, nil
}

// started says whether a service manager executed this process. Since version
// 248 systemd says so (SYSTEMD_EXEC_PID); before it, the parent tells.
func (s self) started() bool {
	if p := s.getenv("SYSTEMD_EXEC_PID"); p != "" {
		return p == strconv.Itoa(s.pid)
	}
	if st, err := os.Lstat(filepath.Join(s.root, "run/systemd/system")); err != nil || !st.IsDir() { // sd_booted(3)
		return false
	}
	if s.ppid == 1 {
		return true
	}
	// A user's manager: its own cgroup is the init.scope of its unit.
	g, err := readGroups(s.root, strconv.Itoa(s.ppid))
	if err != nil {
		return false
	}
	p := g.service()
	_, name, _ := unitOf(filepath.Dir(p))
	return filepath.Base(p) == "init.scope" && strings.HasPrefix(name, "user@")
}

// watchdog gives the interval, sd_watchdog_enabled(3).
func watchdog(s self) time.Duration {
	if p := s.getenv("WATCHDOG_PID"); p != "" && p != strconv.Itoa(s.pid) {
		return 0
	}
	usec, err := strconv.ParseUint(s.getenv("WATCHDOG_USEC"), 10, 63)
	if err != nil || usec > uint64((1<<63-1)/time.Microsecond) {
		return 0
	}
	return time.Duration(usec) * time.Microsecond
}

// isStream says whether a descriptor is what $JOURNAL_STREAM names: a unit's
// output may have been redirected since.
func isStream(stream string, fd int) bool {
	dev, ino, ok := strings.Cut(stream, ":")
	if !ok {
		return false
	}
	d, err1 := strconv.ParseUint(dev, 10, 64)
	i, err2 := strconv.ParseUint(ino, 10, 64)
	var st unix.Stat_t
	return err1 == nil && err2 == nil && unix.Fstat(fd, &st) == nil && st.Dev == d && st.Ino == i
}

// Notifier gives the way to tell systemd about the unit's state; it does
// nothing if u is nil or the unit is not to be heard.
func (u *Unit) Notifier() *Notifier {
	if u == nil {
		return &Notifier{}
	}
	return NewNotifier(u.NotifySocket)
}

// Clean gives an environment without what systemd tells a single process.
// Whoever is started from here is not the unit's process: with these it could
// declare the unit ready, take its sockets or feed its watchdog.
func Clean(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		k, _, _ := strings.Cut(kv, "=")
		switch k {
		case "INVOCATION_ID", "SYSTEMD_EXEC_PID", "MAINPID", "MANAGERPID", "MANAGERPIDFDID",
			"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "FDSTORE",
			"LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES",
			"JOURNAL_STREAM", "CREDENTIALS_DIRECTORY",
			"MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE":
			return true
		}
		return false
	})
}

// missing gives the first of the words that is not in the list, nil if all are.
func missing(list, words []string) []string {
	for _, w := range words {
		if !slices.Contains(list, w) {
			return []string{w}
		}
	}
	return nil
}
