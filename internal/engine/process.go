package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

const (
	startTimeout = 30 * time.Second // a start takes 40 ms; a database to repair takes longer
	stopTimeout  = 15 * time.Second
	maxLog       = 1 << 20
)

// Start makes sure that the engine runs and answers. started is false if it
// did before. It works for any number of callers at the same moment.
func (e *Engine) Start(ctx context.Context) (started bool, err error) {
	_, started, err = e.start(ctx)
	return started, err
}

func (e *Engine) start(ctx context.Context) (pid int, started bool, err error) {
	if pid, err := probe(ctx, e.Address(), probeTimeout); err == nil {
		if !stranded(pid) {
			e.trimLog()
			e.provide()
			return pid, false, nil
		}
		if _, err := e.Stop(ctx, false); err != nil {
			return 0, false, fail.Wrap(fail.HostCannot, err, "the engine runs from a directory that is gone, and has to be started again")
		}
	}
	if os.Geteuid() != 0 {
		return 0, false, fail.New(fail.HostCannot, "only root can start containerd, this is uid %d", os.Geteuid()).
			Hint("run safe-run as root")
	}
	if m := missing(e.bin); m != "" {
		return 0, false, fail.New(fail.HostCannot, "the engine in %q has no %s", e.bin, m).
			Hint("make engine, or install safe-run with its engine")
	}
	if err := e.prepare(); err != nil {
		return 0, false, err
	}
	unlock, err := e.lock(ctx)
	if err != nil {
		return 0, false, err
	}
	defer unlock()
	if pid, err := probe(ctx, e.Address(), probeTimeout); err == nil {
		return pid, false, nil
	}
	// A process without an answering socket: its starter was killed while it
	// came up. A second one on the same data would only get in its way.
	if p, ok := e.find(); ok {
		defer p.close()
		if pid, err := e.await(ctx, nil, 0); err == nil {
			return pid, false, nil
		}
		return 0, false, fail.New(fail.HostCannot, "the engine (process %d) does not answer on %q%s", p.pid, e.Address(), e.logTail(0)).
			Hint("safe-run engine stop --force, then try again")
	}
	e.trimLog()
	said := e.logSize()
	exited, err := e.spawn()
	if err != nil {
		return 0, false, fail.Wrap(fail.HostCannot, err, "starting the engine")
	}
	pid, err = e.await(ctx, exited, said)
	if err != nil {
		return 0, false, err
	}
	e.provide()
	return pid, true, nil
}

// stranded says that the files an engine was started from are gone (a build
// tree that was removed, say): it still answers, but finds no shim and no
// runtime any more.
func stranded(pid int) bool {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return false
	}
	return missing(filepath.Dir(strings.TrimSuffix(exe, " (deleted)"))) != ""
}

// spawn starts containerd so that it belongs to nobody: its own session, no
// terminal, nothing of the launcher's environment or open files. Which cgroup
// is right is known to a service manager alone: systemd is asked for a scope,
// without one it stays in the launcher's.
func (e *Engine) spawn() (exited <-chan error, err error) {
	if err := e.writeConfig(); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(e.LogPath(), os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	// Descriptors this process inherited (a shell's "3>file") are not marked
	// close-on-exec; those it opened itself are.
	if err := unix.CloseRange(3, ^uint(0)>>1&0xffffffff, unix.CLOSE_RANGE_CLOEXEC); err != nil && !errors.Is(err, unix.ENOSYS) {
		return nil, fmt.Errorf("marking open files close-on-exec: %w", err)
	}
	exe := filepath.Join(e.bin, "containerd")
	args := append(scope(scopePrograms, "/run/systemd/system"), exe, "--config", e.configPath())
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + e.bin + ":/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR=" + e.Temp()}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// containerd makes directories that containers must be able to pass
	// through; the umask of whoever comes first must not close or open them.
	// Files of this process have explicit modes.
	old := syscall.Umask(0o022)
	err = heeding(cmd.Start)
	syscall.Umask(old)
	if err != nil {
		return nil, err
	}
	// Nor must the limits that caller's shell has (ulimit -f, -t, -v): every
	// container would have them. Where they cannot be raised they stay.
	for _, limit := range []int{unix.RLIMIT_CPU, unix.RLIMIT_FSIZE, unix.RLIMIT_DATA, unix.RLIMIT_AS} {
		_ = unix.Prlimit(cmd.Process.Pid, limit, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}, nil)
	}
	ch := make(chan error, 1)
	go func() { ch <- cmd.Wait() }()
	return ch, nil
}

// scopePrograms are the places systemd-run is looked for in; PATH is the
// caller's.
var scopePrograms = []string{"/usr/bin/systemd-run", "/bin/systemd-run"}

// scope gives the words before a command line that make systemd run it in a
// cgroup of its own, nil if systemd does not manage this host. In the cgroup
// of a unit or a login session the engine, and with it the shims of
// everybody's containers, would be killed when that ends. The words make
// systemd-run execute the command in its place, as the same process.
func scope(programs []string, booted string) []string {
	if st, err := os.Lstat(booted); err != nil || !st.IsDir() { // sd_booted(3)
		return nil
	}
	for _, p := range programs {
		if _, err := os.Stat(p); err == nil {
			return []string{p, "--scope", "--quiet", "--collect", "--slice=system.slice", "--property=TasksMax=infinity", "--description=containerd of safe-run", "--"}
		}
	}
	return nil
}

// heeding starts a program with no signal ignored. What nohup(1) or a shell's
// background job made this process ignore, every container would: an ignored
// signal stays ignored in all descendants, a caught one does not.
func heeding(start func() error) error {
	caught := make(chan os.Signal, 1)
	for _, s := range []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU} {
		if signal.Ignored(s) {
			signal.Notify(caught, s)
		}
	}
	defer signal.Stop(caught)
	return start()
}

// await waits until the socket answers. What the log has from said on is of
// this start.
func (e *Engine) await(ctx context.Context, exited <-chan error, said int64) (pid int, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if pid, err := probe(ctx, e.Address(), probeTimeout); err == nil {
			return pid, nil
		}
		select {
		case err := <-exited:
			if err == nil {
				err = errors.New("exit status 0")
			}
			return 0, fail.New(fail.HostCannot, "the engine ended while it started (%v)%s", err, e.logTail(said)).
				Hint("its log is %s", e.LogPath())
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return 0, fail.Wrap(fail.Internal, ctx.Err(), "waiting for the engine")
			}
			return 0, fail.New(fail.HostCannot, "the engine did not answer on %q within %v%s", e.Address(), startTimeout, e.logTail(said)).
				Hint("its log is %s", e.LogPath())
		case <-tick.C:
		}
	}
}

// Status is what is known of the engine from outside.
type Status struct {
	Running bool
	PID     int
	Since   time.Time // start of the process, to the second
	Address string
	Answers bool     // the socket takes connections
	Tasks   []string // NAMESPACE/ID of each task, running or stopped but not deleted
}

// Status looks for the engine without starting it.
func (e *Engine) Status(ctx context.Context) Status {
	s := Status{Address: e.Address(), Tasks: e.tasks()}
	_, err := probe(ctx, e.Address(), probeTimeout)
	s.Answers = err == nil
	if p, ok := e.find(); ok {
		defer p.close()
		s.Running, s.PID = true, p.pid
		if st, err := os.Stat(fmt.Sprintf("/proc/%d", p.pid)); err == nil {
			s.Since = st.ModTime().Truncate(time.Second)
		}
	}
	return s
}

// Stop ends the engine. It refuses, with kind Conflict, while there are tasks,
// unless force is set: they then go on without an engine, and the next start
// finds them again. With force a process that does not end is killed. stopped
// is false if none ran.
func (e *Engine) Stop(ctx context.Context, force bool) (stopped bool, err error) {
	if _, err := os.Stat(e.state); errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	unlock, err := e.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	p, ok := e.find()
	if !ok {
		return false, nil
	}
	defer p.close()
	if t := e.tasks(); len(t) > 0 && !force {
		return false, fail.New(fail.Conflict, "the engine has %d containers, such as %q", len(t), t[0]).
			Hint("stop them first, or use --force: they then run on without an engine")
	}
	if err := unix.PidfdSendSignal(p.fd, unix.SIGTERM, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return false, fail.Wrap(fail.Internal, err, "stopping the engine (process %d)", p.pid)
	}
	if p.ended(ctx, stopTimeout) {
		return true, nil
	}
	if force {
		_ = unix.PidfdSendSignal(p.fd, unix.SIGKILL, nil, 0)
		if p.ended(ctx, stopTimeout) {
			return true, nil
		}
	}
	return false, fail.New(fail.HostCannot, "the engine (process %d) did not end within %v", p.pid, stopTimeout).
		Hint("safe-run engine stop --force kills it")
}

// tasks lists the bundles of the engine's shims.
func (e *Engine) tasks() []string {
	all, _ := filepath.Glob(filepath.Join(e.state, "io.containerd.runtime.v2.task", "*", "*"))
	for i, p := range all {
		all[i] = filepath.Join(filepath.Base(filepath.Dir(p)), filepath.Base(p))
	}
	slices.Sort(all)
	return all
}

// process is a process held by a descriptor, so that its number cannot come to
// mean another one.
type process struct{ pid, fd int }

func (p process) close() { _ = unix.Close(p.fd) }

// ended waits for the end of the process.
func (p process) ended(ctx context.Context, timeout time.Duration) bool {
	deadline := time.Now().Add(timeout)
	for time.Now().Before(deadline) && ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 50)
		if n > 0 {
			return true
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false
		}
	}
	return false
}

// find gives the engine's process. It goes by what the process is (our uid, a
// containerd, with our configuration file as its argument), not by a number
// written down somewhere: such a file can be stale or missing.
func (e *Engine) find() (process, bool) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return process{}, false
	}
	for _, d := range entries {
		pid, err := strconv.Atoi(d.Name())
		if err != nil || !e.is(pid) {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		// Once more, now that the number is held.
		if e.is(pid) {
			return process{pid, fd}, true
		}
		_ = unix.Close(fd)
	}
	return process{}, false
}

func (e *Engine) is(pid int) bool {
	dir := "/proc/" + strconv.Itoa(pid)
	cmdline, err := readBounded(dir+"/cmdline", 64<<10)
	if err != nil {
		return false
	}
	args := strings.Split(string(bytes.TrimSuffix(cmdline, []byte{0})), "\x00")
	if filepath.Base(args[0]) == "systemd-run" { // which is about to become it
		args = args[max(0, len(args)-3):]
	}
	if len(args) != 3 || filepath.Base(args[0]) != "containerd" || args[1] != "--config" || args[2] != e.configPath() {
		return false
	}
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil || int(st.Uid) != os.Geteuid() {
		return false
	}
	// In another mount namespace the same path can be another directory. Where
	// that cannot be seen the name has to do.
	theirs, terr := os.Stat(dir + "/root" + e.state)
	ours, oerr := os.Stat(e.state)
	switch {
	case terr == nil && oerr == nil && !os.SameFile(theirs, ours):
		return false
	case oerr == nil && errors.Is(terr, fs.ErrNotExist), terr == nil && errors.Is(oerr, fs.ErrNotExist):
		return false
	}
	// A zombie has no executable. After an upgrade the old file is gone, which
	// the kernel says in the name.
	exe, err := os.Readlink(dir + "/exe")
	return err == nil && slices.Contains([]string{"containerd", "systemd-run"}, strings.TrimSuffix(filepath.Base(exe), " (deleted)"))
}

// lock is held by whoever starts or stops the engine.
func (e *Engine) lock(ctx context.Context) (func(), error) {
	fd, err := unix.Open(e.lockPath(), unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "opening the engine's lock %q", e.lockPath())
	}
	deadline := time.Now().Add(startTimeout + stopTimeout)
	for {
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = unix.Close(fd) }, nil
		}
		if ctx.Err() != nil {
			err = ctx.Err()
			break
		}
		if time.Now().After(deadline) || !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	_ = unix.Close(fd)
	return nil, fail.Wrap(fail.HostCannot, err, "waiting for another safe-run that starts or stops the engine")
}

// trimLog keeps the log bounded: a large one is moved aside, together with the
// one before it at most two MiB. The engine appends, so it goes on writing at
// the new end.
func (e *Engine) trimLog() {
	f, err := os.OpenFile(e.LogPath(), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil || st.Size() <= maxLog {
		return
	}
	old, err := os.OpenFile(e.LogPath()+".1", os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return
	}
	_, _ = io.Copy(old, io.NewSectionReader(f, st.Size()-maxLog/2, maxLog/2))
	_ = old.Close()
	_ = f.Truncate(0)
}

func (e *Engine) logSize() int64 {
	st, err := os.Lstat(e.LogPath())
	if err != nil {
		return 0
	}
	return st.Size()
}

// logTail gives the last lines of the log for a message, quoted: those behind
// start, and of them only the one that says why containerd ended, if it did.
func (e *Engine) logTail(start int64) string {
	f, err := os.Open(e.LogPath())
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return ""
	}
	const most = 2048
	from := max(0, start, st.Size()-most)
	b, err := io.ReadAll(io.NewSectionReader(f, from, most))
	if err != nil {
		return ""
	}
	var out strings.Builder
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if last := lines[len(lines)-1]; strings.HasPrefix(last, "containerd: ") {
		return fmt.Sprintf("; it said: %.400q", last)
	}
	for _, l := range lines[max(0, len(lines)-5):] {
		if l != "" {
			fmt.Fprintf(&out, "\n  %.400q", l)
		}
	}
	if out.Len() == 0 {
		return ""
	}
	return "; it said:" + out.String()
}
