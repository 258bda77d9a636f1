package launcher

import (
	"context"
	"syscall"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"golang.org/x/sys/unix"
)

// initProcess is a container's first process, held so that its number cannot
// come to mean another one: what is left to go by while containerd is away.
type initProcess struct {
	fd  int
	pid uint32
}

func holdInit(pid uint32) initProcess {
	fd, err := unix.PidfdOpen(int(pid), 0)
	if err != nil {
		fd = -1 // it has ended already
	}
	return initProcess{fd, pid}
}

func (p initProcess) close() {
	if p.fd >= 0 {
		_ = unix.Close(p.fd)
	}
}

// runs says whether the process has not ended yet.
func (p initProcess) runs() bool {
	if p.fd < 0 {
		return false
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 0)
	return err == unix.EINTR || err == nil && n == 0
}

func (p initProcess) signal(s syscall.Signal) error {
	return unix.PidfdSendSignal(p.fd, s, nil, 0)
}

// await waits for the end of a container and gives its status. A containerd
// that is restarted does not end its containers: as long as the container
// runs, and for another limit, the wait is asked for again.
func (l *Launcher) await(ctx context.Context, id string, p initProcess, limit time.Duration) (uint32, error) {
	var gone time.Time
	for {
		resp, err := l.tasks.Wait(ctx, &tasksapi.WaitRequest{ContainerID: id})
		if err == nil {
			return resp.ExitStatus, nil
		}
		if isNotFound(err) || ctx.Err() != nil {
			return 0, err
		}
		switch {
		case p.runs():
		case gone.IsZero():
			gone = time.Now()
			l.revive(ctx)
		case time.Since(gone) > limit:
			return 0, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// revive has containerd started again, if that is ours to do.
func (l *Launcher) revive(ctx context.Context) {
	if l.Revive == nil {
		return
	}
	ctx, cancel := l.detached(ctx)
	defer cancel()
	_ = l.Revive(ctx) // what needs it next will say
}
