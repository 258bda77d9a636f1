package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/learn"
)

// trial is a container of a lesson.
type trial struct {
	*trials
	name    string
	cmd     *exec.Cmd
	started time.Time
	ended   chan struct{} // closed when the command has ended
	out     tailWriter
	record  chan []byte // the recording as JSON

	took    time.Duration // from the start to the end of works
	stopped bool          // by us
	said    struct {      // by the last check
		code int
		text string
	}
}

// maxRecording bounds a recording, in bytes of JSON.
const maxRecording = 256 << 20

// start runs a container with a profile. observed is --explain or --complain,
// data what its volumes are called; own says that it is the user's to watch.
func (t *trials) start(file, observed, data string, own bool) (*trial, error) {
	x := &trial{trials: t, name: containerName(), ended: make(chan struct{})}
	args := []string{"run", "--rm", "--pull=missing", "--name=" + x.name, "--profile=" + file, observed, "--record-fd=3"}
	for _, f := range t.flags {
		if own || f.Long != "tty" && f.Long != "interactive" && f.Long != "detach-keys" {
			args = append(args, f.Word())
		}
	}
	for i, at := range t.volumes {
		args = append(args, fmt.Sprintf("--volume=%s-%d:%s", data, i, at))
	}
	args = append(append(args, "--"), t.words...)
	x.cmd = exec.Command("/proc/self/exe", args...)
	x.cmd.Args[0] = "safe-run"
	x.cmd.Stdout, x.cmd.Stderr = &x.out, &x.out
	if own { // the recording is the user's to watch and to type into
		x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		if t.lesson.out == "" {
			x.cmd.Stdout = os.Stderr
		}
		if !t.tty {
			x.cmd.Stdin = nil
		}
	}
	if !own || !t.tty {
		// Ctrl-C is for this command, which knows what it wants of the container.
		x.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "pipe for the recording")
	}
	x.cmd.ExtraFiles = []*os.File{w}
	x.record = make(chan []byte, 1)
	go func() {
		defer r.Close()
		b, _ := io.ReadAll(io.LimitReader(r, maxRecording))
		x.record <- b
	}()
	x.started = time.Now()
	err = x.cmd.Start()
	w.Close()
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "starting safe-run")
	}
	go func() {
		_ = x.cmd.Wait()
		close(x.ended)
	}()
	return x, nil
}

// pace is how long between two checks.
const pace = 150 * time.Millisecond

// works waits until the check succeeds, the container has ended, or the time
// is over.
func (x *trial) works(ctx context.Context, limit time.Duration) bool {
	defer func() { x.took = time.Since(x.started) }()
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	for {
		if x.check != "" && x.succeeds(ctx) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-x.ended:
			if x.check == "" {
				return x.cmd.ProcessState.ExitCode() == 0
			}
			return x.succeeds(ctx)
		case <-time.After(pace):
		}
	}
}

// told is an exit code with the last line of what was printed.
func told(code int, text string) string {
	s := fmt.Sprintf("exit %d", code)
	if line := lastLine(text); line != "" {
		s += ": " + line
	}
	return s
}

// timedOut is the exit code of timeout(1).
const timedOut = 124

// succeeds runs the check once.
func (x *trial) succeeds(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, "/bin/sh", "-c", x.check)
	c.Env = append(os.Environ(), "SAFE_RUN_CONTAINER="+x.name)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return unix.Kill(-c.Process.Pid, unix.SIGKILL) }
	c.WaitDelay = time.Second
	if u := x.caller; u != nil {
		c.SysProcAttr.Credential = &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
	}
	var out tailWriter
	c.Stdout, c.Stderr = &out, &out
	_ = c.Run() // nor does a program matter that it has left behind with its output
	x.said.code, x.said.text = c.ProcessState.ExitCode(), out.String()
	if x.said.code < 0 {
		x.said.code, x.said.text = timedOut, "the check did not end in time"
	}
	return x.said.code == 0
}

// stop ends the container: gently, so that what it does at its end is seen as
// well, or at once.
func (x *trial) stop(gently bool) {
	select {
	case <-x.ended:
		return
	default:
	}
	x.stopped = true
	verb := []string{"kill"}
	if gently {
		verb = []string{"stop", "--time=5"}
	}
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); {
		args := slices.Clone(verb)
		if x.address != "" {
			args = append(args, "--address="+x.address)
		}
		if x.namespace != "" {
			args = append(args, "--namespace="+x.namespace)
		}
		c := exec.Command("/proc/self/exe", append(args, x.name)...)
		c.Args[0] = "safe-run"
		patience := 10 * time.Second
		if c.Run() != nil {
			patience = pace // a check may succeed before there is a container
		}
		select {
		case <-x.ended:
			return
		case <-time.After(patience):
		}
		if patience > pace {
			verb = []string{"kill"}
		}
	}
	_ = x.cmd.Process.Signal(unix.SIGTERM)
	<-x.ended
}

// outcome is what became of it.
func (x *trial) outcome(passed bool) (learn.Outcome, error) {
	o := learn.Outcome{Passed: passed, Exit: x.cmd.ProcessState.ExitCode(), Output: x.out.String(), Took: x.took}
	if x.stopped && !passed {
		o.Exit, o.Output = x.said.code, x.said.text
	}
	b := <-x.record
	if len(b) == 0 {
		return o, nil // it was refused, or could not be started
	}
	var rec learn.Recording
	if err := json.Unmarshal(b, &rec); err != nil {
		return o, fail.Wrap(fail.Internal, err, "reading the recording")
	}
	if !rec.Ended.IsZero() { // else its program never ran
		o.Recording = &rec
	}
	return o, nil
}

// tailWriter keeps the end of what is written to it.
type tailWriter struct {
	mu   sync.Mutex
	last []byte
}

const tailBytes = 8 << 10

func (w *tailWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = append(w.last, b...)
	if over := len(w.last) - tailBytes; over > 0 {
		w.last = append(w.last[:0], w.last[over:]...)
	}
	return len(b), nil
}

func (w *tailWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.ToValidUTF8(string(w.last), "?")
}
