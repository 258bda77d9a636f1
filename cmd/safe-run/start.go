package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/containerd/console"
	"github.com/moby/term"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/control"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/launcher"
	"github.com/safe-run/safe-run/spec"
)

func startVerb() *cobra.Command {
	var e endpoint
	var a attachment
	var attach, restore bool
	c := &cobra.Command{Use: "start [OPTIONS] CONTAINER...", Short: "Start stopped containers", RunE: func(c *cobra.Command, args []string) error {
		if restore {
			if len(args) > 0 {
				return fail.New(fail.Usage, "--restore takes no containers")
			}
			return e.with(c.Context(), func(_ context.Context, s *session) error { return s.restore() })
		}
		if err := atLeast(1)(c, args); err != nil {
			return err
		}
		if attach || a.stdin {
			if len(args) > 1 {
				return fail.New(fail.NoStatus, "you cannot start and attach multiple containers at once")
			}
			return e.with(c.Context(), func(ctx context.Context, s *session) error { return a.start(ctx, s, args[0]) })
		}
		return e.each(c, args, func(ctx context.Context, s *session, rec store.Record, ref string) (string, error) {
			running, err := s.launcher.Await(ctx, rec)
			if err == nil && !running {
				err = s.begin(rec, false, nil)
			}
			if err != nil {
				return "", err
			}
			return ref, nil
		})
	}}
	c.Long = `Start stopped containers. That is a launch: the site's policy of this moment
judges them, and the sources of their binds are looked at again.

With -a or -i the exit code is that of the container.`
	c.Example = `  safe-run start web
  safe-run start -a job`
	e.flags(c)
	c.Flags().BoolVarP(&attach, "attach", "a", false, "stay with its output, and pass signals on")
	c.Flags().BoolVarP(&a.stdin, "interactive", "i", false, "also with its input")
	c.Flags().StringVar(&a.keys, "detach-keys", "", "keys that leave the container")
	c.Flags().BoolVar(&restore, "restore", false, "start what should run, after a boot")
	a.proxy = true
	return c
}

// restore starts the containers that ran when the host went down, or that are
// always to run.
func (s *session) restore() error {
	st := s.launcher.Store
	ids, err := st.IDs()
	if err != nil {
		return err
	}
	var errs error
	for _, id := range ids {
		rec, err := st.Load(id)
		if err != nil || rec.Address != s.launcher.Address || st.Supervised(id) || rec.Phase != store.PhaseExited || !rec.Detached {
			continue
		}
		if p := rec.Restart.Name; p == spec.RestartAlways || p == spec.RestartUnlessStopped && !rec.Stopped {
			if err := s.begin(rec, false, nil); err != nil {
				errs = errors.Join(errs, fmt.Errorf("container %s: %w", rec.ID[:12], err))
			}
		}
	}
	return errs
}

func attachVerb() *cobra.Command {
	var e endpoint
	var a attachment
	var noStdin bool
	c := &cobra.Command{Use: "attach [OPTIONS] CONTAINER", Short: "Connect with the streams of a running container", Args: exactly(1), RunE: func(c *cobra.Command, args []string) error {
		a.stdin = !noStdin
		return e.with(c.Context(), func(ctx context.Context, s *session) error {
			rec, err := s.launcher.Store.Find(args[0])
			if err != nil {
				return err
			}
			running, err := s.launcher.Await(ctx, rec)
			if err != nil {
				return err
			}
			if !running {
				return fail.New(fail.Conflict, "You cannot attach to a stopped container, start it first").Hint("safe-run start -a %s", args[0])
			}
			return a.stay(ctx, s, rec)
		})
	}}
	c.Long = `Connect with the streams of a running container. On a terminal ctrl-p ctrl-q
leaves it again; --detach-keys says other keys. Signals are passed on.

The exit code is that of the container, or 0 if it was left.`
	c.Example = `  safe-run attach web
  safe-run attach --no-stdin --sig-proxy=false web`
	e.flags(c)
	c.Flags().BoolVar(&noStdin, "no-stdin", false, "without its input")
	c.Flags().BoolVar(&a.proxy, "sig-proxy", true, "pass signals on to the container")
	c.Flags().StringVar(&a.keys, "detach-keys", "", "keys that leave the container")
	return c
}

// attachment connects this process with a container that another supervises.
type attachment struct {
	stdin, proxy bool
	keys         string
}

// start starts a container and is attached before its program begins.
func (a *attachment) start(ctx context.Context, s *session, ref string) error {
	rec, err := s.launcher.Store.Find(ref)
	if err != nil {
		return err
	}
	if running, err := s.launcher.Await(ctx, rec); err != nil || running {
		if err != nil {
			return err
		}
		return a.stay(ctx, s, rec)
	}
	if err := a.check(rec); err != nil {
		return err
	}
	ended := make(chan error, 1)
	err = s.begin(rec, true, func(p progress) error {
		if p.Ready {
			go func() { ended <- a.stay(ctx, s, rec) }()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return <-ended
}

func (a *attachment) check(rec store.Record) error {
	if rec.TTY && a.stdin && rec.Stdin && !term.IsTerminal(os.Stdin.Fd()) {
		return fail.New(fail.NoStatus, "cannot attach stdin to a TTY-enabled container because stdin is not a terminal")
	}
	return nil
}

// stay is attached until the container ends, whose exit code it passes on, or
// the user leaves.
func (a *attachment) stay(ctx context.Context, s *session, rec store.Record) error {
	if err := a.check(rec); err != nil {
		return err
	}
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	var in io.Reader
	if a.stdin && rec.Stdin {
		in = os.Stdin
	}
	if rec.TTY {
		var asked *string
		if a.keys != "" {
			asked = &a.keys
		}
		keys, err := detachKeys(asked)
		if err != nil {
			return err
		}
		if in != nil {
			in = &leaving{term.NewEscapeProxy(os.Stdin, keys), leave}
			if c, err := console.ConsoleFromFile(os.Stdin); err == nil && os.Getenv("NORAW") == "" {
				if err := launcher.SetRaw(c); err != nil {
					return fail.Wrap(fail.HostCannot, err, "terminal")
				}
				defer func() { _ = c.Reset() }()
			}
		}
		a.resize(ctx, s, rec)
	}
	signals := make(chan os.Signal, 16)
	if a.proxy || rec.TTY {
		signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH)
		defer signal.Stop(signals)
	}
	go func() {
		for {
			select {
			case sig := <-signals:
				if sig == unix.SIGWINCH {
					a.resize(ctx, s, rec)
				} else if n, ok := sig.(syscall.Signal); ok && a.proxy {
					_, _ = s.launcher.Ask(ctx, rec, control.Request{Op: launcher.OpKill, Signal: int(n), SigProxy: true})
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	code, ended, err := control.Attach(ctx, s.launcher.Store.Control(rec.ID), control.Request{Op: launcher.OpAttach, Stdin: in != nil}, in, os.Stdout, os.Stderr)
	switch {
	case ctx.Err() != nil:
		return nil // left
	case err != nil:
		return err
	case ended && code != 0:
		return &exitError{code}
	}
	return nil
}

func (a *attachment) resize(ctx context.Context, s *session, rec store.Record) {
	if !rec.TTY {
		return
	}
	ws, err := term.GetWinsize(os.Stdout.Fd())
	if err != nil {
		return
	}
	_, _ = control.Call(ctx, s.launcher.Store.Control(rec.ID), control.Request{Op: launcher.OpResize, Width: uint32(ws.Width), Height: uint32(ws.Height)})
}

// leaving ends the attachment when the detach keys are typed.
type leaving struct {
	io.Reader
	leave func()
}

func (l *leaving) Read(b []byte) (int, error) {
	n, err := l.Reader.Read(b)
	var keys term.EscapeError
	if errors.As(err, &keys) {
		l.leave()
	}
	return n, err
}
