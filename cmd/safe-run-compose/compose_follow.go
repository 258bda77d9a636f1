package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// follower passes on the output of the containers of an up, until all have
// ended.
type follower struct {
	*launch
	ctx   context.Context
	out   *outputs
	watch map[string]bool // services whose output is wanted; nil: all
	wg    sync.WaitGroup
	ended chan ending
}

type ending struct {
	service string
	code    int
}

// interrupted is the exit code of an up that a signal ended, as docker compose
// has it.
const interrupted = 130

// foreground is up without -d: it lasts as long as its services.
func (l *launch) foreground(ctx context.Context, have state, names []string) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(signals)

	var shownNames []string
	for _, st := range l.steps {
		shownNames = append(shownNames, shown(l.project.Name, st.ContainerName))
	}
	following, leave := context.WithCancel(context.WithoutCancel(ctx))
	f := &follower{
		launch: l, ctx: following, ended: make(chan ending, len(l.steps)),
		out: l.outputsFor(shownNames, l.flags.noPrefix, l.flags.noColour),
	}
	defer f.wg.Wait()
	defer leave()
	if len(names) > 0 && !l.flags.attachDeps {
		f.watch = map[string]bool{}
		for _, n := range names {
			f.watch[n] = true
		}
	}
	l.started = f.add
	if err := l.start(ctx, have); err != nil {
		if ctx.Err() == nil {
			return err
		}
		return f.stop(signals, interrupted)
	}
	return f.until(signals)
}

// until waits for the end of all, or for what ends it before.
func (f *follower) until(signals <-chan os.Signal) error {
	left := 0
	for _, st := range f.steps {
		if f.wants(st.Name) {
			left++
		}
	}
	code := 0
	for left > 0 {
		select {
		case <-signals:
			return f.stop(signals, interrupted)
		case e := <-f.ended:
			left--
			abort := f.flags.abortOnExit || f.flags.abortOnFailure && e.code != 0
			if f.flags.exitFrom == e.service || f.flags.exitFrom == "" && abort {
				code = e.code
			}
			if abort {
				f.note("%s has ended with exit code %d; all are stopped", e.service, e.code)
				return f.stop(signals, f.codeOf(e, code))
			}
		}
	}
	return exitWith(code)
}

// codeOf is the exit code of what --exit-code-from names, which may be stopped
// only now: -1 is not known yet.
func (f *follower) codeOf(e ending, code int) int {
	if f.flags.exitFrom != "" && f.flags.exitFrom != e.service {
		return -1
	}
	return code
}

func exitWith(code int) error {
	if code == 0 {
		return nil
	}
	return &exitError{code}
}

func (f *follower) wants(service string) bool { return f.watch == nil || f.watch[service] }

// add follows a container that was started.
func (f *follower) add(st *step, since time.Time) {
	if !f.wants(st.Name) {
		return
	}
	if st.do == create || st.do == recreate {
		since = f.began
	}
	f.mu.Lock()
	out, errs := f.out.of(shown(f.project.Name, st.ContainerName))
	f.mu.Unlock()
	f.wg.Add(1)
	go func() {
		defer f.wg.Done()
		for {
			args := []string{"logs", "-f", "--since", since.UTC().Format(time.RFC3339Nano)}
			if f.flags.timestamps {
				args = append(args, "-t")
			}
			c := f.command(f.ctx, append(args, "--", st.ContainerName)...)
			c.Stdout, c.Stderr = out, errs
			err := c.Run()
			out.close()
			errs.close()
			if f.ctx.Err() != nil {
				return
			}
			since = time.Now()
			s, gone := f.status(f.ctx, st.ContainerName)
			if gone != nil || !s.running() {
				f.ended <- ending{st.Name, s.ExitCode}
				return
			}
			if err != nil { // no log is kept: its end is all there is to see
				select {
				case <-time.After(500 * time.Millisecond):
				case <-f.ctx.Done():
					return
				}
			}
		}
	}()
}

// stop stops what runs of this up, those others depend on last. A second
// signal kills.
func (f *follower) stop(signals <-chan os.Signal, code int) error {
	ctx := context.WithoutCancel(f.ctx)
	if code == interrupted {
		fmt.Fprintln(os.Stderr, "Gracefully stopping... (press Ctrl+C again to force)")
	}
	all, err := f.containers(ctx, f.project.Name, brief)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(c container) bool { return f.of(c.Service) == nil || !c.runs() })
	done := make(chan error, 1)
	go func() { done <- f.stopAll(ctx, all, f.flags.timeout) }()
	for {
		select {
		case <-signals:
			for _, c := range all {
				_, _ = f.output(ctx, "kill", "--", c.ID) // it may have ended
			}
			continue
		case err = <-done:
		}
		break
	}
	// What they said last is on its way.
	quiet := make(chan struct{})
	go func() { f.wg.Wait(); close(quiet) }()
	select {
	case <-quiet:
	case <-time.After(5 * time.Second):
	}
	if code == -1 {
		s, gone := f.status(ctx, f.of(f.flags.exitFrom).ContainerName)
		err, code = errors.Join(err, gone), s.ExitCode
	}
	return errors.Join(err, exitWith(code))
}

// stopAll stops containers, those others depend on last.
func (a *app) stopAll(ctx context.Context, all []container, timeout int) error {
	var errs error
	for _, layer := range slices.Backward(layers(all)) {
		var ids []string
		for _, c := range layer {
			if c.runs() {
				ids = append(ids, c.ID)
			}
		}
		if len(ids) == 0 {
			continue
		}
		_, err := a.output(ctx, slices.Concat(stopArgs("stop", timeout), []string{"--"}, ids)...)
		errs = errors.Join(errs, err)
		for _, c := range layer {
			if err == nil && c.runs() {
				a.did("Container", c.Name, "Stopped")
			}
		}
	}
	return errs
}
