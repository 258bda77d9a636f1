package launcher

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

var errHandedOver = errors.New("handed over")

// supervise stays with the running container: signals in, streams through,
// exit code out, clean-up last.
func (r *run) supervise(ctx context.Context, waiting []os.Signal, signals <-chan os.Signal) (int, error) {
	type end struct {
		code uint32
		err  error
	}
	exited := make(chan end, 1)
	first := holdInit(r.pid)
	go func() {
		code, err := r.await(ctx, r.rec.ID, first, stopTimeout)
		exited <- end{code, err}
	}()
	serving, stopServing := context.WithCancel(ctx)
	defer stopServing()
	go r.net.Serve(serving)
	aside := make(chan error, 1)
	go func() { aside <- r.aside(ctx); close(aside) }()
	settled := time.AfterFunc(settleAfter, settle)
	defer settled.Stop()

	for _, s := range waiting {
		if done, err := r.deliver(ctx, first, s); done {
			return 0, err
		}
	}
	broken, watch := r.io.broken, (<-chan error)(aside)
	for {
		select {
		case e := <-exited:
			if e.err != nil {
				if r.tty != nil {
					r.tty.restore()
				}
				return 0, engineError(e.err, "waiting for the container")
			}
			return int(e.code), errors.Join(r.finish(ctx, int(e.code), signals), <-aside)
		case err, open := <-watch:
			if !open {
				watch = nil
				continue
			}
			if err != nil {
				_ = r.kill(ctx, r.rec.ID, unix.SIGKILL)
				<-exited
				return 0, errors.Join(err, r.finish(ctx, 137, signals))
			}
		case <-r.io.detach:
			return 0, r.handOver()
		case <-broken:
			// Like any program in a pipeline whose reader has gone.
			broken = nil
			_ = r.kill(ctx, r.rec.ID, unix.SIGKILL)
			<-exited
			return 128 + int(unix.SIGPIPE), r.finish(ctx, 128+int(unix.SIGPIPE), signals)
		case s := <-signals:
			if done, err := r.deliver(ctx, first, s); done {
				return 0, err
			}
		}
	}
}

// deliver passes a signal on to the container. done says that the container
// was left to itself instead.
func (r *run) deliver(ctx context.Context, first initProcess, s os.Signal) (done bool, err error) {
	n, _ := s.(syscall.Signal)
	switch {
	case n == unix.SIGWINCH:
		if r.tty != nil {
			r.tty.resize(ctx)
		}
	case r.Workload.SigProxy:
		if err := r.kill(ctx, r.rec.ID, n); err != nil && !isNotFound(err) {
			_ = first.signal(n) // containerd is away
		}
	case fatal(s):
		if err := r.handOver(); !errors.Is(err, errHandedOver) {
			return true, err
		}
		return true, interrupted(s)
	}
	return false, nil
}

// aside is what must happen but need not delay the container: the second
// attestation, and what the caller adds.
func (r *run) aside(ctx context.Context) error {
	if r.Attest != nil {
		if err := r.Attest(int(r.pid), r.spec, r.mapped(), true); err != nil {
			return err
		}
	}
	if err := fault("running"); err != nil {
		return err
	}
	if r.Aside != nil {
		return r.Aside(ctx)
	}
	return nil
}

// settleAfter is how long a container must run before the launcher gives
// back the memory only its start needed: for short ones that is wasted work.
const settleAfter = 300 * time.Millisecond

// finish passes on the rest of the output and removes the container, or keeps
// its record if it was not to be removed. The output comes first: with the
// task the shim goes, and what it still holds.
func (r *run) finish(ctx context.Context, code int, signals <-chan os.Signal) error {
	if err := fault("exited"); err != nil {
		return err
	}
	lost := r.io.drain(stopTimeout, signals)
	if r.tty != nil {
		r.tty.restore()
	}
	r.io.close()
	r.net.Close()
	r.joined.close()
	if !r.rec.Keep {
		return errors.Join(lost, r.Launcher.remove(ctx, r.entry, r.rec))
	}
	return errors.Join(lost, r.end(ctx, r.entry, r.rec, code))
}

// handOver leaves the container to a supervisor in the background.
func (r *run) handOver() error {
	if r.tty != nil {
		r.tty.restore()
	}
	if r.Background == nil {
		return fail.New(fail.Internal, "no background supervisor")
	}
	// The supervisor knows what the record says: with --rm it has no ids yet.
	if err := r.Store.Save(r.rec); err != nil {
		return err
	}
	r.net.Close() // the supervisor takes the ports
	if err := r.Background(r.entry, r.rec.ID); err != nil {
		return err
	}
	return errHandedOver
}
