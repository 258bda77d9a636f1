package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/engine"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/idmap"
	"github.com/safe-run/safe-run/internal/images"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/launcher"
)

// place is where state lives. The environment may move it, but not that of
// somebody who was given safe-run through sudo (threat L5).
func place() (root, run string) {
	root, run = store.DefaultRoot, store.DefaultRun
	if _, sudo := os.LookupEnv("SUDO_UID"); sudo {
		return root, run
	}
	if v := os.Getenv("SAFE_RUN_ROOT"); filepath.IsAbs(v) {
		root = filepath.Clean(v)
	}
	if v := os.Getenv("SAFE_RUN_STATE"); filepath.IsAbs(v) {
		run = filepath.Clean(v)
	}
	return root, run
}

// session is a connection to containerd with the state beside it.
type session struct {
	launcher *launcher.Launcher
	images   *images.Store
	mu       sync.Mutex
	target   engine.Target // see at: containerd may be restarted
}

// at is the containerd of this moment.
func (s *session) at() engine.Target {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.target
}

// connect opens state and containerd, starting the embedded engine if there
// is no other. ahead may hold a client that was dialed already; it may be nil.
func connect(ctx context.Context, address, namespace string, ahead <-chan dialed) (*session, error) {
	if err := enoughFiles(); err != nil {
		return nil, err
	}
	root, run := place()
	st, err := store.Open(root, run)
	if err != nil {
		return nil, err
	}
	wanted := engine.Request{Flag: address, Getenv: os.Getenv, Root: root, State: run, Notice: os.Stderr}
	conn, err := engine.Connect(ctx, wanted)
	if err != nil {
		return nil, err
	}
	if namespace == "" {
		namespace = launcher.DefaultNamespace
	}
	client, err := clientFor(conn.Address, namespace, ahead)
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "containerd at %s", conn.Address)
	}
	ids, err := idmap.Open(idsDir(root), idmap.DefaultFiles())
	if err != nil {
		return nil, err
	}
	im := images.New(client)
	im.CacheDir = filepath.Join(root, "cache")
	im.Credentials = images.CallerCredentials(os.Getenv)
	_, im.Sudo = os.LookupEnv("SUDO_UID")
	l := launcher.New(client, conn.Address, namespace, st, ids)
	if conn.Engine != nil {
		l.RuncRoot = filepath.Join(conn.Engine.State(), "runc")
		_ = mount.SetTempMountLocation(conn.Engine.Temp())
	}
	s := &session{launcher: l, images: im, target: conn}
	l.Renew, l.Adopt = s.renew, s.adopt
	l.Revive = func(ctx context.Context) error {
		now, err := engine.Connect(ctx, wanted)
		if err != nil {
			return err
		}
		if now.Address != conn.Address {
			return fail.New(fail.HostCannot, "the containerd at %s is gone, and the container with it", conn.Address)
		}
		s.mu.Lock()
		s.target = now
		s.mu.Unlock()
		return nil
	}
	return s, nil
}

// embedded is the socket of the engine that comes with safe-run.
func embedded(run string) string { return filepath.Join(run, "engine", "containerd.sock") }

// sweep cleans up after commands that were killed. What cannot be cleaned is
// reported and left to the next command.
func (s *session) sweep(ctx context.Context) {
	err := errors.Join(s.launcher.Sweep(ctx), s.images.Sweep(ctx))
	if s.at().Engine != nil {
		err = errors.Join(err, s.at().Engine.Tidy(time.Minute))
	}
	if err != nil {
		printError(os.Stderr, uncleaned{err})
	}
}

// uncleaned tells in one line what of earlier commands cannot be cleaned up:
// whatever is wrong with the host is so for each container they left.
type uncleaned struct{ err error }

func (u uncleaned) Unwrap() error { return u.err }

func (u uncleaned) Error() string {
	first, others, _ := strings.Cut(u.err.Error(), "\n")
	more := ""
	if n := len(strings.FieldsFunc(others, func(r rune) bool { return r == '\n' })); n > 0 {
		more = fmt.Sprintf(" (and %d more)", n)
	}
	return "cleaning up after earlier commands: " + first + more
}

// lookers are the verbs that only read what supervisors write.
var lookers = []string{"ps", "inspect", "logs", "port", "top", "stats", "system", "exec"}

// tend gives containers whose supervisor died another one, or cleans up after
// them, before somebody looks at them.
func tend(ctx context.Context) {
	root, run := place()
	if os.Geteuid() != 0 {
		return
	}
	st, err := store.Open(root, run)
	if err != nil {
		return // the verb itself will say
	}
	live, err := st.Live()
	if err != nil || !slices.ContainsFunc(live, func(id string) bool { return !st.Supervised(id) }) {
		return
	}
	s, err := connect(ctx, "", "", nil)
	if err != nil {
		printError(os.Stderr, err)
		return
	}
	s.sweep(ctx)
	for _, id := range live {
		if rec, err := st.Load(id); err == nil && st.Supervised(id) {
			_, _ = s.launcher.Await(ctx, rec)
		}
	}
}

// idsDir is where subordinate ids are allocated.
func idsDir(root string) string { return filepath.Join(root, "ids") }

func engineVerb() *cobra.Command {
	c := group("engine", "The containerd that comes with safe-run: start, stop, status")
	c.Long = `The containerd that comes with safe-run. It is started when it is needed, and
where a containerd of the host is used instead, it is not needed.`
	root, state := place()
	var force bool
	c.PersistentFlags().StringVar(&root, "root", root, "directory of persistent state")
	c.PersistentFlags().StringVar(&state, "state", state, "directory of state until reboot")
	open := func() (*engine.Engine, error) {
		bin, err := engine.Locate()
		if err != nil {
			return nil, err
		}
		return engine.New(bin, root, state)
	}
	start := &cobra.Command{Use: "start", Short: "Start the engine if it is not running", Args: exactly(0), RunE: func(c *cobra.Command, _ []string) error {
		e, err := open()
		if err != nil {
			return err
		}
		if _, err = e.Start(c.Context()); err == nil {
			fmt.Println(e.Address())
		}
		return err
	}}
	start.Long = `Start the engine if it is not running, and print its socket. Other verbs do so
themselves when they need it.`
	start.Example = `  safe-run engine start`
	stop := &cobra.Command{Use: "stop", Short: "Stop the engine", Args: exactly(0), RunE: func(c *cobra.Command, _ []string) error {
		e, err := open()
		if err != nil {
			return err
		}
		stopped, err := e.Stop(c.Context(), force)
		if err == nil && !stopped {
			fmt.Println("it was not running")
		}
		return err
	}}
	stop.Long = `Stop the engine. While containers run it is an error, unless --force is given:
the containers run on.`
	stop.Example = `  safe-run engine stop`
	stop.Flags().BoolVar(&force, "force", false, "stop although containers are running")
	status := &cobra.Command{Use: "status", Short: "Say whether the engine runs", Args: exactly(0), RunE: func(c *cobra.Command, _ []string) error {
		e, err := open()
		if err != nil {
			return err
		}
		s := e.Status(c.Context())
		if !s.Running {
			fmt.Printf("stopped (%s)\n", s.Address)
			return nil
		}
		fmt.Printf("running: pid %d since %s, %s, %d tasks\n", s.PID, s.Since.Format(time.DateTime), s.Address, len(s.Tasks))
		return nil
	}}
	status.Example = `  safe-run engine status`
	c.AddCommand(start, stop, status)
	return c
}
