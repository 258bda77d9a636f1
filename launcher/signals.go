package launcher

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// catch subscribes to every signal a person or a script may send. Left out
// are those that cannot be caught, and those that speak of this process, as
// CHLD and URG do. TTIN and TTOU must stop it: where they are caught, a
// background process that touches its terminal tries again for ever.
func catch() chan os.Signal {
	var all []os.Signal
	for n := 1; n <= 64; n++ {
		switch s := syscall.Signal(n); s {
		case unix.SIGKILL, unix.SIGSTOP, unix.SIGCHLD, unix.SIGURG, unix.SIGTTIN, unix.SIGTTOU, unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP, unix.SIGPROF:
		case 32, 33: // used by C libraries for threads
		default:
			all = append(all, s)
		}
	}
	c := make(chan os.Signal, 64)
	signal.Notify(c, all...)
	return c
}

// fatal says whether a signal ends the launcher before the container exists.
func fatal(s os.Signal) bool {
	switch s {
	case unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT:
		return true
	}
	return false
}

func interrupted(s os.Signal) error {
	n, _ := s.(syscall.Signal)
	return &fail.Error{Kind: fail.Interrupted, Msg: "interrupted by " + unix.SignalName(n), Signal: int(n)}
}

// kill sends a signal to the program. If that fails the process itself gets it:
// containerd may be away, and the runtime takes a program whose first thread
// has ended for dead, while its other threads run on.
func (r *run) kill(ctx context.Context, s syscall.Signal) error {
	_, err := r.tasks.Kill(ctx, &tasksapi.KillRequest{ContainerID: r.rec.ID, Signal: uint32(s)})
	if err != nil && r.state.signal(s) == nil {
		return nil
	}
	return err
}
