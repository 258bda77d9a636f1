package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/internal/systemd"
	"github.com/safe-run/safe-run/launcher"
)

// A supervisor in the background is this program once more. What it is to do
// comes through its standard input and not as arguments, which everybody on
// the host can read for as long as the container lives. What has become of it
// goes out through its standard output, until its container runs.

// job is what a background supervisor is to do.
type job struct {
	Kind      string   `json:"kind"`
	Args      []string `json:"args,omitempty"` // of jobRun: the words after the verb
	ID        string   `json:"id,omitempty"`   // of the others
	Address   string   `json:"address,omitempty"`
	Namespace string   `json:"namespace,omitempty"`
	Hold      bool     `json:"hold,omitempty"` // of jobStart: until somebody is attached
	As        string   `json:"as,omitempty"`   // the name the command was called by
}

// The kinds of jobs.
const (
	jobRun   = "run"
	jobStart = "start"
	jobAdopt = "adopt" // the container's lock is descriptor 3
)

// progress is a line of a background supervisor's to the command that started
// it.
type progress struct {
	Created string `json:"created,omitempty"` // the container's id: it exists
	Ready   bool   `json:"ready,omitempty"`   // it can be attached to
	Started bool   `json:"started,omitempty"` // its program runs
}

// reporter tells the command that started this supervisor how far it is. A
// nil one tells nobody.
type reporter struct{ to *os.File }

func (r *reporter) say(p progress) error {
	if r == nil {
		return nil
	}
	b, err := json.Marshal(p)
	if err != nil {
		return fail.Wrap(fail.Internal, err, "report")
	}
	// Nobody may be there any more, or wait for it: the container runs on all
	// the same.
	_, _ = r.to.Write(append(b, '\n'))
	return nil
}

func (r *reporter) created(id string) error { return r.say(progress{Created: id}) }
func (r *reporter) ready()                  { _ = r.say(progress{Ready: true}) }

// started lets go of everything of the caller's, and then says so: a script
// may unmount the directory it called from as its next step.
func (r *reporter) started() {
	if r == nil {
		return
	}
	_ = os.Chdir("/")
	if null, err := os.OpenFile("/dev/null", os.O_RDWR, 0); err == nil {
		for fd := 0; fd <= 2; fd++ {
			_ = unix.Dup3(int(null.Fd()), fd, 0)
		}
		null.Close()
	}
	_ = r.say(progress{Started: true})
	_ = r.to.Close()
}

// background starts a supervisor of its own session with a job.
func background(j job, env []string, errs *os.File, extra ...*os.File) (*exec.Cmd, io.ReadCloser, error) {
	// The program that runs, even if it has been replaced on disk.
	c := exec.Command("/proc/self/exe", "__supervise")
	c.Args[0] = "safe-run"
	c.Env, c.Stderr, c.ExtraFiles = systemd.Clean(env), errs, extra
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// Nothing a script has open (9>lock; flock 9) is held for as long as the
	// container lives.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil && !errors.Is(err, unix.ENOSYS) {
		return nil, nil, fail.Wrap(fail.HostCannot, err, "background supervisor")
	}
	in, err := c.StdinPipe()
	if err != nil {
		return nil, nil, fail.Wrap(fail.HostCannot, err, "background supervisor")
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, nil, fail.Wrap(fail.HostCannot, err, "background supervisor")
	}
	if err := c.Start(); err != nil {
		return nil, nil, fail.Wrap(fail.HostCannot, err, "background supervisor")
	}
	j.As = program()
	err = json.NewEncoder(in).Encode(j)
	return c, out, fail.Wrap(fail.HostCannot, errors.Join(err, in.Close()), "background supervisor")
}

// detached gives a job to a supervisor in the background and waits until its
// container runs. It gives the exit code: 0, or that of the failed start,
// which the supervisor has explained. on hears of each step; it may be nil.
func detached(j job, on func(progress) error) int {
	c, out, err := background(j, os.Environ(), os.Stderr)
	if err != nil {
		return report(err, "")
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	go func() {
		for s := range signals {
			_ = c.Process.Signal(s)
		}
	}()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var p progress
		if json.Unmarshal(lines.Bytes(), &p) != nil {
			continue
		}
		if p.Created != "" {
			fmt.Println(p.Created)
		}
		if on != nil {
			if err := on(p); err != nil {
				return report(err, "")
			}
		}
		if p.Started {
			return 0
		}
	}
	_ = c.Wait()
	if st, ok := c.ProcessState.Sys().(syscall.WaitStatus); ok && st.Signaled() {
		return 128 + int(st.Signal())
	}
	return c.ProcessState.ExitCode()
}

// adopt passes a container, whose lock this process holds, on to a supervisor
// in the background.
func (s *session) adopt(e *store.Entry) error {
	root, run := place()
	env := []string{"SAFE_RUN_ROOT=" + root, "SAFE_RUN_STATE=" + run, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	c, out, err := background(job{Kind: jobAdopt, ID: e.ID, Address: s.launcher.Address, Namespace: s.launcher.Namespace}, env, nil, e.Lock())
	if err != nil {
		return err
	}
	out.Close()
	go func() { _ = c.Wait() }()
	e.Release() // the supervisor holds the lock now
	return nil
}

func superviseVerb() *cobra.Command {
	return &cobra.Command{Use: "__supervise", Hidden: true, Args: exactly(0), RunE: func(*cobra.Command, []string) error {
		var j job
		if err := json.NewDecoder(io.LimitReader(os.Stdin, 16<<20)).Decode(&j); err != nil {
			return fail.Wrap(fail.Usage, err, "this command is for safe-run itself")
		}
		if j.As == "docker" {
			os.Args[0] = j.As // for its messages
		}
		_ = os.WriteFile("/proc/self/comm", []byte("safe-run"), 0) // it is "exe" else, in ps and ss
		// A unit or a session that ends takes what is in its cgroup with it.
		_ = systemd.MoveOut(os.Getpid())
		ownLimits()
		tell := &reporter{to: os.NewFile(uintptr(dupStdout()), "report")}
		switch j.Kind {
		case jobRun:
			return supervisedRun(j, tell)
		case jobStart:
			return supervisedStart(j, tell)
		case jobAdopt:
			unix.CloseOnExec(3) // nor must a helper hold the lock
			if err := os.Chdir("/"); err != nil {
				return fail.Wrap(fail.HostCannot, err, "background supervisor")
			}
			s, err := connectAs(context.Background(), j)
			if err != nil {
				return err
			}
			return s.launcher.Supervise(context.Background(), j.ID, os.NewFile(3, "lock"))
		}
		return fail.New(fail.Usage, "unknown job %q", j.Kind)
	}}
}

// ownLimits gives up the umask of the shell this was started from, and its
// limits (ulimit -f, -t, -v): with them, who happens to call the command that
// replaces a dead supervisor would decide what is kept of others' containers.
// Where a limit cannot be raised it stays.
func ownLimits() {
	syscall.Umask(0o022)
	for _, limit := range []int{unix.RLIMIT_CPU, unix.RLIMIT_FSIZE, unix.RLIMIT_DATA, unix.RLIMIT_AS} {
		_ = unix.Setrlimit(limit, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
	}
}

// dupStdout keeps the report apart from what is replaced by /dev/null.
func dupStdout() int {
	fd, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return 1
	}
	_ = unix.Dup3(2, 1, 0) // nothing else may get into it
	return fd
}

func supervisedRun(j job, tell *reporter) error {
	ahead := dialAhead()
	cctx, err := cliContext()
	if err != nil {
		return err
	}
	inv, err := cli.Parse(j.Args, cctx)
	if err != nil {
		return err
	}
	if code := launched(inv, ahead, tell); code != 0 {
		return &exitError{code}
	}
	return nil
}

// connectAs connects to the containerd a container is on. The embedded engine
// must be recognised as such, or it would not be started again.
func connectAs(ctx context.Context, j job) (*session, error) {
	_, run := place()
	address := j.Address
	if address == embedded(run) {
		address = ""
	}
	return connect(ctx, address, j.Namespace, nil)
}

func supervisedStart(j job, tell *reporter) error {
	s, err := connectAs(context.Background(), j)
	if err != nil {
		return err
	}
	return s.launcher.Start(context.Background(), j.ID, launcher.Watcher{
		Notice: notice, Ready: tell.ready, Hold: j.Hold, Started: tell.started,
	})
}
