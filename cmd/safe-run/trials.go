package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
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
		return interrupted()
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

func interrupted() error {
	return &fail.Error{Kind: fail.Interrupted, Signal: int(unix.SIGINT), Msg: "interrupted"}
}

// file writes a profile to be tried.
func (t *trials) file(text []byte) (string, error) {
	t.count++
	path := filepath.Join(t.dir, strconv.Itoa(t.count)+".yaml")
	err := os.WriteFile(path, text, 0o644)
	if err == nil {
		err = os.Chmod(path, 0o644) // whatever the umask
	}
	return path, fail.Wrap(fail.HostCannot, err, "profile to be tried")
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
	defer func() { signal.Stop(interrupts); close(interrupts) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	data := containerName()
	defer t.removeVolumes(data)
	x, err := t.start(file, "--complain", data, true)
	if err != nil {
		return learn.Outcome{}, err
	}
	var enough atomic.Bool // a Ctrl-C that ends the exercise
	go func() {
		for range interrupts {
			enough.Store(true)
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
	if enough.Load() && t.check != "" && !passed {
		return o, interrupted()
	}
	if passed && len(t.volumes) > 0 && !enough.Load() {
		again, err := t.once(ctx, file, "--complain", data, true)
		if err != nil {
			return o, err
		}
		if enough.Load() {
			return o, interrupted()
		}
		if !again.Passed || again.Recording == nil {
			again.Output = "with the volumes of the first start: " + again.Output
			return again, nil
		}
		both := learn.Merge(*o.Recording, *again.Recording)
		o.Recording = &both
	}
	t.ended, t.broke = byItself && passed && !enough.Load(), byItself && !passed && !enough.Load()
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
		return o, interrupted()
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

var _ learn.Runner = (*trials)(nil)
