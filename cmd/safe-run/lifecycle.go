package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/control"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/launcher"
	"github.com/safe-run/safe-run/spec"
)

// exitError is an exit code that needs no words.
type exitError struct{ code int }

func (e *exitError) Error() string { return "exit code " + strconv.Itoa(e.code) }

// each does something to all containers named, some at a time, and prints
// those with which it worked, in their order. One that fails does not keep the
// others from it.
func (e *endpoint) each(c *cobra.Command, refs []string, work func(context.Context, *session, store.Record, string) (string, error)) error {
	return e.with(c.Context(), func(ctx context.Context, s *session) error {
		said, errs := make([]string, len(refs)), make([]error, len(refs))
		var g errgroup.Group
		g.SetLimit(32)
		for i, ref := range refs {
			g.Go(func() error {
				rec, err := s.launcher.Store.Find(ref)
				if err == nil {
					said[i], err = work(ctx, s, rec, ref)
				}
				errs[i] = err
				return nil
			})
		}
		_ = g.Wait()
		for _, line := range said {
			if line != "" {
				fmt.Println(line)
			}
		}
		return errors.Join(errs...)
	})
}

// asks is a verb that has the supervisors of containers do something.
func asks(use, short string, prepare func(c *cobra.Command) func() (control.Request, error), idle func(store.Record) error) *cobra.Command {
	var e endpoint
	var request func() (control.Request, error)
	c := &cobra.Command{Use: use, Short: short, Args: atLeast(1), RunE: func(c *cobra.Command, args []string) error {
		rq, err := request()
		if err != nil {
			return err
		}
		return e.each(c, args, func(ctx context.Context, s *session, rec store.Record, ref string) (string, error) {
			_, err := s.launcher.Ask(ctx, rec, rq)
			if fail.KindOf(err) == fail.NotFound && idle != nil {
				err = idle(rec)
			}
			if err != nil {
				return "", err
			}
			return ref, nil
		})
	}}
	request = prepare(c)
	e.flags(c)
	return c
}

// stopFlags are those of stop and restart.
func stopFlags(c *cobra.Command, op string) func() (control.Request, error) {
	var sig string
	var after int
	c.Flags().StringVarP(&sig, "signal", "s", "", "signal to send, instead of the container's own")
	c.Flags().IntVarP(&after, "time", "t", 0, "seconds to wait before killing it; -1 for ever")
	c.Flags().IntVar(&after, "timeout", 0, "the same as --time")
	return func() (control.Request, error) {
		rq := control.Request{Op: op}
		if c.Flags().Changed("time") || c.Flags().Changed("timeout") {
			rq.Timeout = &after
		}
		if sig == "" {
			return rq, nil
		}
		var err error
		rq.Signal, err = spec.StopSignal(sig)
		return rq, err
	}
}

func stopVerb() *cobra.Command {
	c := asks("stop [OPTIONS] CONTAINER...", "Stop containers",
		func(c *cobra.Command) func() (control.Request, error) { return stopFlags(c, launcher.OpStop) },
		func(store.Record) error { return nil }) // as docker: it is stopped
	c.Long = `Stop containers: each gets its stop signal, and if it has not ended after its stop
timeout, SIGKILL. --restart does not start it again.`
	c.Example = `  safe-run stop web
  safe-run stop -t 60 db
  safe-run stop $(safe-run ps -q)`
	return c
}

func killVerb() *cobra.Command {
	c := asks("kill [OPTIONS] CONTAINER...", "Send a signal to containers", func(c *cobra.Command) func() (control.Request, error) {
		sig := c.Flags().StringP("signal", "s", "KILL", "signal to send")
		return func() (control.Request, error) {
			n, err := spec.StopSignal(*sig)
			if err != nil || *sig == "" {
				return control.Request{}, fail.New(fail.Usage, "Invalid signal: %.40s", *sig)
			}
			return control.Request{Op: launcher.OpKill, Signal: n}, nil
		}
	}, nil)
	c.Long = `Send a signal to the first process of containers that run.`
	c.Example = `  safe-run kill web
  safe-run kill -s HUP web`
	return c
}

func pauseVerb() *cobra.Command {
	c := asks("pause CONTAINER...", "Freeze all processes of containers", plainly(launcher.OpPause), nil)
	c.Example = `  safe-run pause web`
	return c
}

func unpauseVerb() *cobra.Command {
	c := asks("unpause CONTAINER...", "Let frozen containers go on", plainly(launcher.OpUnpause), nil)
	c.Example = `  safe-run unpause web`
	return c
}

func plainly(op string) func(*cobra.Command) func() (control.Request, error) {
	return func(*cobra.Command) func() (control.Request, error) {
		return func() (control.Request, error) { return control.Request{Op: op}, nil }
	}
}

func waitVerb() *cobra.Command {
	var e endpoint
	c := &cobra.Command{Use: "wait CONTAINER...", Short: "Wait until containers end, and print their exit codes", Args: atLeast(1), RunE: func(c *cobra.Command, args []string) error {
		return e.each(c, args, func(ctx context.Context, s *session, rec store.Record, _ string) (string, error) {
			reply, err := s.launcher.Ask(ctx, rec, control.Request{Op: launcher.OpWait})
			if fail.KindOf(err) == fail.NotFound {
				if rec, err = s.launcher.Store.Load(rec.ID); err != nil {
					return "", err
				}
				reply.Code = rec.ExitCode
			}
			if err != nil {
				return "", err
			}
			return strconv.Itoa(reply.Code), nil
		})
	}}
	c.Long = `Wait until containers end, and print the exit code of each. That of wait itself
is 0 if there were such containers.`
	c.Example = `  safe-run wait job
  exit $(safe-run wait job)`
	e.flags(c)
	return c
}

func renameVerb() *cobra.Command {
	var e endpoint
	c := &cobra.Command{Use: "rename CONTAINER NEW_NAME", Short: "Rename a container", Args: exactly(2), RunE: func(c *cobra.Command, args []string) error {
		if err := cli.CheckName(args[1]); err != nil {
			return err
		}
		return e.with(c.Context(), func(ctx context.Context, s *session) error {
			rec, err := s.launcher.Store.Find(args[0])
			if err != nil {
				return err
			}
			_, err = s.launcher.Ask(ctx, rec, control.Request{Op: launcher.OpRename, Name: args[1]})
			if fail.KindOf(err) == fail.NotFound {
				err = s.launcher.Rename(rec.ID, args[1])
			}
			return err
		})
	}}
	c.Long = `Rename a container, also one that runs. On networks made with --icc it is then
found by its new name.`
	c.Example = `  safe-run rename web web-old`
	e.flags(c)
	return c
}

func rmVerb() *cobra.Command {
	var e endpoint
	var force, withVolumes, link bool
	c := &cobra.Command{Use: "rm [OPTIONS] CONTAINER...", Short: "Remove containers", Args: atLeast(1), RunE: func(c *cobra.Command, args []string) error {
		if link {
			return fail.New(fail.Usage, "--link: there are no links").Hint("safe-run network rm removes networks")
		}
		err := e.each(c, args, func(ctx context.Context, s *session, rec store.Record, ref string) (string, error) {
			if err := removeContainer(ctx, s, rec, force, withVolumes); err != nil {
				return "", err
			}
			return ref, nil
		})
		if force {
			return forgiven(err)
		}
		return err
	}}
	c.Long = `Remove containers that do not run, with their logs; with -f also those that run.
Volumes with a name stay.`
	c.Example = `  safe-run rm job
  safe-run rm -fv web
  safe-run rm $(safe-run ps -aq --filter status=exited)`
	e.flags(c)
	c.Flags().BoolVarP(&force, "force", "f", false, "kill a running container first")
	c.Flags().BoolVarP(&withVolumes, "volumes", "v", false, "also its anonymous volumes")
	c.Flags().BoolVarP(&link, "link", "l", false, "not supported")
	return c
}

// removeContainer removes a container, and kills it first with force.
func removeContainer(ctx context.Context, s *session, rec store.Record, force, withVolumes bool) error {
	l := s.launcher
	if !l.Store.Supervised(rec.ID) {
		return l.RemoveStopped(ctx, rec, withVolumes)
	}
	if !force {
		// It may be about to end: a script that stopped it, or saw its end, is right.
		for end := time.Now().Add(5 * time.Second); ended(rec) && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if !l.Store.Supervised(rec.ID) {
				return l.RemoveStopped(ctx, rec, withVolumes)
			}
			if now, err := l.Store.Load(rec.ID); err == nil {
				rec = now
			}
		}
		name := rec.Name
		if name == "" {
			name = rec.ID[:12]
		}
		return fail.New(fail.Conflict, "cannot remove container %q: container is running", name).
			Hint("stop it first, or: safe-run rm -f %s", name)
	}
	return l.RemoveRunning(ctx, rec, withVolumes)
}

// ended says whether the program of a supervised container has ended, and
// only the clean-up or a restart is to follow.
func ended(rec store.Record) bool {
	if rec.Phase == store.PhaseRunning && rec.PID > 0 {
		return errors.Is(syscall.Kill(rec.PID, 0), syscall.ESRCH)
	}
	return rec.Phase == store.PhaseExited
}

// forgiven takes errors about containers that are not there out of err: they
// are told, and are what a forced removal wants.
func forgiven(err error) error {
	all := []error{err}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		all = several.Unwrap()
	}
	var left []error
	for _, err := range all {
		if fail.KindOf(err) == fail.NotFound {
			printError(os.Stderr, err)
		} else {
			left = append(left, err)
		}
	}
	return errors.Join(left...)
}

func restartVerb() *cobra.Command {
	var e endpoint
	c := &cobra.Command{Use: "restart [OPTIONS] CONTAINER...", Short: "Stop containers and start them again", Args: atLeast(1)}
	c.Long = `Stop containers and start them again. That is a launch: the site's policy of this
moment judges them.`
	c.Example = `  safe-run restart web
  safe-run restart -t 60 db`
	request := stopFlags(c, launcher.OpRestart)
	c.RunE = func(c *cobra.Command, args []string) error {
		rq, err := request()
		if err != nil {
			return err
		}
		return e.each(c, args, func(ctx context.Context, s *session, rec store.Record, ref string) (string, error) {
			_, err := s.launcher.Ask(ctx, rec, rq)
			if fail.KindOf(err) == fail.NotFound {
				err = s.begin(rec, false, nil)
			}
			if err != nil {
				return "", err
			}
			return ref, nil
		})
	}
	e.flags(c)
	return c
}

// begin has a supervisor in the background start a stopped container. What
// keeps it from starting, the supervisor tells.
func (s *session) begin(rec store.Record, hold bool, on func(progress) error) error {
	j := job{Kind: jobStart, ID: rec.ID, Address: s.launcher.Address, Namespace: s.launcher.Namespace, Hold: hold}
	if code := detached(j, on); code != 0 {
		return &exitError{code}
	}
	return nil
}
