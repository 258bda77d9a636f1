package launcher

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
)

// Supervise stays with a running container whose lock this process inherited:
// it drains the output nobody reads, waits for the end, and cleans up.
func (l *Launcher) Supervise(ctx context.Context, id string, lock *os.File) error {
	ctx = l.context(ctx)
	rec, err := l.Store.Load(id)
	if err != nil {
		return err
	}
	e := l.Store.Adopt(id, lock)
	for _, name := range []string{"stdout", "stderr"} {
		if f, err := os.OpenFile(filepath.Join(e.IO, name), os.O_RDONLY|unix.O_NONBLOCK, 0); err == nil {
			go func() { _, _ = io.Copy(io.Discard, f) }()
		}
	}
	var pid uint32
	if t, err := l.tasks.Get(ctx, &tasksapi.GetRequest{ContainerID: id}); err == nil {
		pid = t.GetProcess().GetPid()
	}
	first := holdInit(pid)
	// Without its ports held the container runs on: the kernel forwards them.
	if net, _ := l.Networks.Adopt(ctx, e.Dir, int(pid), nil); first.runs() {
		defer net.Free()
		defer net.Close()
		serving, stop := context.WithCancel(ctx)
		defer stop()
		go net.Serve(serving)
	}
	code, err := l.await(ctx, id, first, stopTimeout)
	if err != nil && !isNotFound(err) {
		e.Release()
		return engineError(err, "waiting for the container")
	}
	if !rec.Keep {
		return l.remove(ctx, e, rec)
	}
	return l.end(ctx, e, rec, int(code))
}

// RemoveStopped removes a container nobody supervises.
func (l *Launcher) RemoveStopped(ctx context.Context, rec store.Record) error {
	e := l.Store.Capture(rec.ID)
	if e == nil {
		return fail.New(fail.Conflict, "container %s is in use", rec.ID[:12])
	}
	return l.remove(l.context(ctx), e, rec)
}

// RemoveRunning kills a container and removes it once its supervisor is done.
func (l *Launcher) RemoveRunning(ctx context.Context, rec store.Record) error {
	ctx = l.context(ctx)
	if err := l.kill(ctx, rec.ID, unix.SIGKILL); err != nil && !isNotFound(err) {
		return engineError(err, "killing the container")
	}
	for end := time.Now().Add(stopTimeout); l.Store.Supervised(rec.ID); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			return fail.New(fail.Internal, "the supervisor of container %s does not end", rec.ID[:12])
		}
	}
	if _, err := l.Store.Load(rec.ID); err != nil {
		return nil // its supervisor removed it
	}
	return l.RemoveStopped(ctx, rec)
}
