package launcher

import (
	"context"
	"os"

	"github.com/containerd/console"
	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// terminal is the caller's terminal while the container has one of its own:
// raw, and its size passed on.
type terminal struct {
	l    *Launcher
	id   string
	in   console.Console // stdin, if attached
	size *os.File        // where the size is read
	set  bool
}

func newTerminal(l *Launcher, id string, s Streams) *terminal {
	t := &terminal{l: l, id: id}
	if s.In != nil {
		if c, err := console.ConsoleFromFile(s.In); err == nil {
			t.in = c
		}
	}
	t.size = s.Out
	if t.size == nil {
		t.size = s.In
	}
	return t
}

// raw hands every key to the container, unless NORAW is set (as docker's client).
func (t *terminal) raw() error {
	if t.in == nil || os.Getenv("NORAW") != "" {
		return nil
	}
	t.set = true
	return fail.Wrap(fail.HostCannot, SetRaw(t.in), "terminal")
}

// SetRaw hands every key on, and every byte of output. It is the container's
// terminal that makes a new line of \n; where a program there has turned that
// off, the caller's, which console leaves as it is, must not do it.
func SetRaw(c console.Console) error {
	if err := c.SetRaw(); err != nil {
		return err
	}
	state, err := unix.IoctlGetTermios(int(c.Fd()), unix.TCGETS)
	if err != nil {
		return err
	}
	state.Oflag &^= unix.OPOST
	return unix.IoctlSetTermios(int(c.Fd()), unix.TCSETS, state)
}

func (t *terminal) restore() {
	if t.set {
		_ = t.in.Reset()
		t.set = false
	}
}

func (t *terminal) resize(ctx context.Context) {
	if t.size == nil {
		return
	}
	c, err := console.ConsoleFromFile(t.size)
	if err != nil {
		return // not a terminal: the container keeps its default size
	}
	ws, err := c.Size()
	if err != nil {
		return
	}
	_, _ = t.l.tasks.ResizePty(ctx, &tasksapi.ResizePtyRequest{ContainerID: t.id, Width: uint32(ws.Width), Height: uint32(ws.Height)})
}
