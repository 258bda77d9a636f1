package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
)

// Request says which containerd is wanted. The zero value asks for the best
// there is.
type Request struct {
	Flag   string              // --address, "" if not given
	Getenv func(string) string // os.Getenv; nil: an empty environment
	Root   string              // "" is DefaultRoot
	State  string              // "" is DefaultState
	Bin    string              // directory of the embedded engine, "" is what Locate finds
	System string              // "" is SystemAddress
	Notice io.Writer           // gets one line when the engine is started; may be nil
}

// Target is a containerd that answered.
type Target struct {
	Address string  // path of the socket
	PID     int     // process that listens there, 0 if unknown
	Engine  *Engine // nil unless it is the embedded one
	Started bool    // this call started it
}

// probeTimeout bounds the wait for a socket that exists. Connecting to one
// that listens takes some ten microseconds.
const probeTimeout = time.Second

// Connect decides where containerd is, and starts the embedded engine if that
// is what is left:
//
//  1. Request.Flag, or the variable CONTAINERD_ADDRESS. The variable counts
//     for nothing under sudo: there it is the caller's, not root's.
//  2. The system's containerd, if it answers.
//  3. The embedded engine, started if need be.
//
// Errors have kind HostCannot if there is none, Usage for an address that
// cannot be one.
func Connect(ctx context.Context, r Request) (Target, error) {
	t, err := find(ctx, r)
	if err != nil || t.Engine == nil {
		return t, err
	}
	if t.PID, t.Started, err = t.Engine.start(ctx); err != nil {
		return Target{}, err
	}
	if t.Started && r.Notice != nil {
		_, _ = fmt.Fprintf(r.Notice, "safe-run: started its own containerd (%s)\n", t.Address)
	}
	return t, nil
}

// Look is Connect that starts nothing: if the embedded engine is what is left
// and does not run, running is false.
func Look(ctx context.Context, r Request) (t Target, running bool, err error) {
	if t, err = find(ctx, r); err != nil || t.Engine == nil {
		return t, err == nil, err
	}
	t.PID, err = probe(ctx, t.Address, probeTimeout)
	return t, err == nil, nil
}

// find decides; of an embedded engine it does not ask whether it runs.
func find(ctx context.Context, r Request) (Target, error) {
	getenv := r.Getenv
	if getenv == nil {
		getenv = func(string) string { return "" }
	}
	address, from := r.Flag, "--address"
	if address == "" && getenv("SUDO_UID") == "" {
		address, from = getenv("CONTAINERD_ADDRESS"), "CONTAINERD_ADDRESS"
	}
	if address != "" {
		p, err := socketPath(address)
		if err != nil {
			return Target{}, err
		}
		pid, err := probe(ctx, p, probeTimeout)
		if err != nil {
			return Target{}, noAnswer(err, p, from)
		}
		return Target{Address: p, PID: pid}, nil
	}

	system := or(r.System, SystemAddress)
	pid, sysErr := probe(ctx, system, probeTimeout)
	if sysErr == nil {
		return Target{Address: system, PID: pid}, nil
	}
	if errors.Is(sysErr, syscall.EACCES) {
		return Target{}, noAnswer(sysErr, system, "the system's")
	}

	bin := r.Bin
	var err error
	if bin == "" {
		bin, err = Locate()
	} else if m := missing(bin); m != "" {
		err = fail.New(fail.NotFound, "%q has no %s", bin, m)
	}
	if err != nil {
		return Target{}, fail.New(fail.HostCannot, "there is no containerd: %q does not answer (%v), and safe-run's own is not installed: %v", system, reason(sysErr), err).
			Hint("install containerd 2.0 or later with runc, and start it, or install safe-run with its engine (make install)")
	}
	e, err := New(bin, or(r.Root, DefaultRoot), or(r.State, DefaultState))
	if err != nil {
		return Target{}, err
	}
	return Target{Address: e.Address(), Engine: e}, nil
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// reason leaves out what net repeats.
func reason(err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}

func noAnswer(err error, address, from string) error {
	if fail.KindOf(err) == fail.Refused {
		return err
	}
	e := fail.New(fail.HostCannot, "containerd at %q (%s) does not answer", address, from)
	e.Err = reason(err)
	if errors.Is(err, syscall.EACCES) {
		return e.Hint("run safe-run as root")
	}
	return e.Hint("start it, or leave the address out")
}

// defaultPath is where a containerd without a PATH of its own finds runtimes.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Runtime gives the path of the runtime binary (runc, crun) that this
// containerd's shims would run by that name: out of the engine's directory,
// or else as found by the PATH of the containerd process.
func (t Target) Runtime(name string) (string, error) {
	if t.Engine != nil && name == "runc" && t.PID <= 1 {
		return filepath.Join(t.Engine.bin, name), nil
	}
	path := defaultPath
	// Process 1 listens for a containerd that is started by its socket.
	if t.PID > 1 {
		if b, err := readBounded(fmt.Sprintf("/proc/%d/environ", t.PID), 1<<20); err == nil {
			for v := range strings.SplitSeq(string(b), "\x00") {
				if p, ok := strings.CutPrefix(v, "PATH="); ok {
					path = p
				}
			}
		}
	}
	for _, dir := range filepath.SplitList(path) {
		p := filepath.Join(dir, name)
		if !filepath.IsAbs(p) {
			continue
		}
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", fail.New(fail.HostCannot, "containerd's shims find no %q in %q", name, path).
		Hint("install %s", name)
}

// readBounded reads at most limit bytes of a file.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, limit))
}
