package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/learn"
	"github.com/safe-run/safe-run/profiles"
	"github.com/safe-run/safe-run/spec"
)

// trials runs the containers of a lesson, each as a command of its own: what
// is proved is what a user's command line will do.
type trials struct {
	*lesson
	dir   string // of the profiles tried
	ended bool   // the recorded program ended by itself, well
	broke bool   // it ended by itself, and failed

	// volumes are the targets of those that belong to one container: here they
	// are given to a second one as well, which finds what the first has left.
	volumes []string

	slowest time.Duration // from a start to the check's success
	count   int
}

func newTrials(l *lesson, img spec.Image) (*trials, error) {
	// Files of --profile are opened with the rights of the caller, who can
	// read them there and change nothing.
	dir, err := os.MkdirTemp("/tmp", "safe-run-learn-")
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	t := &trials{lesson: l, dir: dir}
	targets := slices.Clone(img.Volumes)
	for _, w := range l.base.Writable {
		if w.Volume == "anonymous" {
			targets = append(targets, w.Path)
		}
	}
	for _, at := range targets {
		taken := slices.ContainsFunc(l.base.Writable, func(w profiles.Writable) bool { return w.Path == at && w.Volume != "anonymous" }) ||
			slices.ContainsFunc(l.base.Binds, func(b profiles.Bind) bool { return b.Target == at }) || slices.Contains(t.volumes, at)
		// The image names its volumes: what would be more than a path in a flag
		// is left to be as it always is.
		if !taken && l.check != "" && !strings.ContainsAny(at, ":,") {
			t.volumes = append(t.volumes, at)
		}
	}
	return t, fail.Wrap(fail.HostCannot, err, "directory for the profiles that are tried")
}

func (t *trials) close() { _ = os.RemoveAll(t.dir) }

// trial is a container of a lesson.
type trial struct {
	*trials
	name    string
	cmd     *exec.Cmd
	started time.Time
	ended   chan struct{} // closed when the command has ended
	out     tailWriter
	record  chan []byte // the recording as JSON; nil: none is made

	took    time.Duration // from the start to the end of works
	stopped bool          // by us
	said    struct {      // by the last check
		code int
		text string
	}
}

// maxRecording bounds a recording, in bytes of JSON.
const maxRecording = 256 << 20

// start runs a container with a profile. data is what its volumes are called;
// "" leaves them to it.
func (t *trials) start(file, observed, data string, own bool) (*trial, error) {
	x := &trial{trials: t, name: containerName(), ended: make(chan struct{})}
	args := []string{"run", "--rm", "--pull=missing", "--name=" + x.name, "--profile=" + file}
	if observed != "" {
		args = append(args, observed, "--record-fd=3")
	}
	for _, f := range t.flags {
		if observed != "" && own || f.Long != "tty" && f.Long != "interactive" && f.Long != "detach-keys" {
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
	var recording *os.File
	if observed != "" {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, fail.Wrap(fail.HostCannot, err, "pipe for the recording")
		}
		x.cmd.ExtraFiles = []*os.File{w}
		recording = w
		x.record = make(chan []byte, 1)
		go func() {
			defer r.Close()
			b, _ := io.ReadAll(io.LimitReader(r, maxRecording))
			x.record <- b
		}()
	}
	x.started = time.Now()
	err := x.cmd.Start()
	if recording != nil {
		recording.Close()
	}
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

// beforehand says whether the check can prove anything: without the
// application it has to fail.
func (t *trials) beforehand(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, unix.SIGTERM)
	defer stop()
	limited, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	x := &trial{trials: t, name: containerName()}
	succeeds := x.succeeds(limited)
	if ctx.Err() != nil {
		return &fail.Error{Kind: fail.Interrupted, Signal: int(unix.SIGINT), Msg: "interrupted"}
	}
	if succeeds {
		return fail.New(fail.Usage, "the check succeeds although the application does not run: it would prove nothing").
			Hint("let it ask for what the application alone can answer; is another program on its port, or a file left of an earlier run?")
	}
	if x.said.code == 126 || x.said.code == 127 {
		notice("the check may be mistyped: " + told(x.said.code, x.said.text))
	}
	return nil
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
	err := c.Run()
	x.said.code, x.said.text = c.ProcessState.ExitCode(), out.String()
	if x.said.code < 0 {
		x.said.code, x.said.text = timedOut, "the check did not end in time"
	}
	return err == nil
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
		c := exec.Command("/proc/self/exe", append(append(verb, x.global...), x.name)...)
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
	if x.record == nil {
		return o, nil
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

// file writes a profile to be tried.
func (t *trials) file(text []byte) (string, error) {
	t.count++
	path := filepath.Join(t.dir, strconv.Itoa(t.count)+".yaml")
	return path, fail.Wrap(fail.HostCannot, os.WriteFile(path, text, 0o644), "profile to be tried")
}

// record runs the container for the recording.
func (t *trials) record(ctx context.Context, base profiles.Profile) (learn.Outcome, error) {
	text, err := base.YAML()
	if err != nil {
		return learn.Outcome{}, err
	}
	file, err := t.file(text)
	if err != nil {
		return learn.Outcome{}, err
	}
	interrupts := make(chan os.Signal, 2)
	signal.Notify(interrupts, os.Interrupt, unix.SIGTERM)
	defer signal.Stop(interrupts)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	data := containerName()
	defer t.removeVolumes(data)
	x, err := t.start(file, "--complain", data, true)
	if err != nil {
		return learn.Outcome{}, err
	}
	var enough bool // a Ctrl-C that ends the exercise
	var mu sync.Mutex
	go func() {
		for range interrupts {
			mu.Lock()
			enough = true
			mu.Unlock()
			cancel()
		}
	}()
	limit := t.limit
	if limit == 0 && t.check != "" {
		limit = exercise
	}
	passed := x.works(ctx, limit)
	if passed && t.check != "" {
		t.slowest = time.Since(x.started)
		notice("recorded: the check succeeded after " + t.slowest.Round(10*time.Millisecond).String())
		if t.limit > 0 { // the user goes on with it
			select {
			case <-x.ended:
			case <-ctx.Done():
			case <-time.After(t.limit - t.slowest):
			}
		}
	}
	byItself := false
	select {
	case <-x.ended:
		byItself = true
	default:
	}
	x.stop(true)
	o, err := x.outcome(passed)
	if err != nil {
		return o, err
	}
	if o.Recording == nil {
		return o, fail.New(fail.NoStatus, "the container did not start: exit %d", o.Exit)
	}
	mu.Lock()
	defer mu.Unlock()
	if enough && t.check != "" && !passed {
		return o, &fail.Error{Kind: fail.Interrupted, Signal: int(unix.SIGINT), Msg: "interrupted"}
	}
	if passed && len(t.volumes) > 0 && !enough {
		again, err := t.once(ctx, file, "--complain", data, true)
		if err != nil {
			return o, err
		}
		if !again.Passed || again.Recording == nil {
			again.Output = "with the volumes of the first start: " + again.Output
			return again, nil
		}
		both := learn.Merge(*o.Recording, *again.Recording)
		o.Recording = &both
	}
	t.ended, t.broke = byItself && passed && !enough, byItself && !passed && !enough
	if t.ended {
		t.slowest = max(t.slowest, o.Took)
	}
	return o, nil
}

// Try implements learn.Runner: the container with a profile in force.
func (t *trials) Try(ctx context.Context, x learn.Trial) (learn.Outcome, error) {
	ctx, cancel := signal.NotifyContext(ctx, os.Interrupt, unix.SIGTERM)
	defer cancel()
	text, err := x.Profile.YAML()
	if err != nil {
		return learn.Outcome{}, err
	}
	file, err := t.file(text)
	if err != nil {
		return learn.Outcome{}, err
	}
	data := containerName()
	defer t.removeVolumes(data)
	var o learn.Outcome
	for range 1 + min(1, len(t.volumes)) {
		if o, err = t.once(ctx, file, "--explain", data, false); err != nil || !o.Passed {
			break
		}
	}
	if ctx.Err() != nil {
		return o, &fail.Error{Kind: fail.Interrupted, Signal: int(unix.SIGINT), Msg: "interrupted"}
	}
	return o, err
}

// once runs a container until the check succeeds or it is clear that it does
// not.
func (t *trials) once(ctx context.Context, file, observed, data string, own bool) (learn.Outcome, error) {
	x, err := t.start(file, observed, data, own)
	if err != nil {
		return learn.Outcome{}, err
	}
	// What fails mostly ends at once; what hangs gets three times what it takes
	// when it works.
	passed := x.works(ctx, max(5*time.Second, 3*t.slowest))
	if passed {
		t.slowest = max(t.slowest, x.took)
	}
	x.stop(passed && len(t.volumes) > 0 || own)
	return x.outcome(passed)
}

// removeVolumes removes those of a trial.
func (t *trials) removeVolumes(data string) {
	for i := range t.volumes {
		c := exec.Command("/proc/self/exe", "volume", "rm", fmt.Sprintf("%s-%d", data, i))
		c.Args[0] = "safe-run"
		_ = c.Run() // a container that was refused has made none
	}
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

var _ learn.Runner = (*trials)(nil)
