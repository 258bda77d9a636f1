package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
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
	ready := make(chan struct{})
	go func() { aside <- r.aside(ctx, ready); close(aside) }()
	settled := time.AfterFunc(settleAfter, settle)
	defer settled.Stop()

	var asked os.Signal           // to end
	var incoming <-chan os.Signal // signals, once the container is ready
	heed := func(s os.Signal) (bool, error) {
		if fatal(s) {
			asked = s
		}
		return r.deliver(ctx, first, s)
	}
	broken, watch := r.io.broken, (<-chan error)(aside)
	for {
		select {
		case e := <-exited:
			if isNotFound(e.err) {
				return 0, errors.Join(r.lost(ctx, e.err, asked, signals), <-aside)
			}
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
		case <-ready:
			ready, incoming = nil, signals
			for _, s := range waiting {
				if done, err := heed(s); done {
					return 0, err
				}
			}
		case s := <-incoming:
			if done, err := heed(s); done {
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

// lost cleans up after a container whose task is gone without a status: its
// shim was killed, or somebody else removed it.
func (r *run) lost(ctx context.Context, err error, asked os.Signal, signals <-chan os.Signal) error {
	err = engineError(err, "waiting for the container")
	if asked != nil {
		err = interrupted(asked)
	}
	return errors.Join(err, killCgroups(r.rec.Cgroup), r.finish(ctx, 137, signals))
}

// aside is what must happen but need not delay the container: the second
// attestation, and what the caller adds. ready is closed once signals can be
// passed on.
func (r *run) aside(ctx context.Context, ready chan<- struct{}) error {
	if r.Attest != nil {
		if err := r.Attest(int(r.pid), r.spec, r.mapped(), true); err != nil {
			return err
		}
	}
	if i := r.Workload.Init; i != nil && *i {
		awaitInit(r.pid)
	}
	close(ready)
	if err := fault("running"); err != nil {
		return err
	}
	if r.Aside != nil {
		return r.Aside(ctx)
	}
	return nil
}

// awaitInit waits until the init of a container holds the signals it passes
// on. One that comes before is lost: the kernel drops it for a first process
// that does not handle it. Still earlier, which the attestation waits for, it
// would meet the runtime's own process.
func awaitInit(pid uint32) {
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return
		}
		_, mask, _ := strings.Cut(string(status), "\nSigBlk:\t")
		mask, _, _ = strings.Cut(mask, "\n")
		if n, _ := strconv.ParseUint(mask, 16, 64); n&(1<<(unix.SIGTERM-1)) != 0 {
			return
		}
	}
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
	if h := hint(r.spec, r.io.last.bytes()); code != 0 && h != "" {
		r.notice(h)
	}
	r.net.Close()
	defer r.net.Free()
	r.joined.close()
	// The program has done its work, whatever cannot be cleaned up now: its exit
	// code counts.
	var left error
	if r.rec.Keep {
		left = r.end(ctx, r.entry, r.rec, code)
	} else {
		left = r.Launcher.remove(ctx, r.entry, r.rec)
	}
	if left != nil {
		r.notice(fmt.Sprintf("%v: left to the next command", left))
	}
	return lost
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
	if r.net != nil {
		r.net.Close() // the supervisor takes the ports
	}
	if err := r.Background(r.entry, r.rec.ID); err != nil {
		return err
	}
	return errHandedOver
}
