package launcher

import (
	"context"
	"os"

	"github.com/containerd/console"
	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"

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
	if err := t.in.SetRaw(); err != nil {
		return fail.Wrap(fail.HostCannot, err, "terminal")
	}
	t.set = true
	return nil
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
