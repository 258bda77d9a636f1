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
	"github.com/safe-run/safe-run/internal/store"
)

// ending is how one life of a container came to its end.
type ending struct {
	code  int
	err   error // to report
	final bool  // whatever the restart policy says
	left  bool  // to a supervisor in the background, or to the next command
}

// supervise stays with the running program to its end: signals in, streams
// through, health checked.
func (r *run) supervise(ctx context.Context, waiting []os.Signal, signals <-chan os.Signal) ending {
	type end struct {
		code uint32
		err  error
	}
	exited := make(chan end, 1)
	first := holdInit(r.pid)
	defer first.close()
	go func() {
		code, err := r.await(ctx, r.rec.ID, first, stopTimeout)
		exited <- end{code, err}
	}()
	over := r.state.begin(first)
	if r.Started != nil { // not before commands find it running
		r.Started()
		r.Started = nil
	}
	serving, stopServing := context.WithCancel(ctx)
	defer stopServing()
	go r.net.Serve(serving)
	aside := make(chan error, 1)
	ready := make(chan struct{})
	go func() { aside <- r.aside(ctx, ready); close(aside) }()
	settled := time.AfterFunc(settleAfter, settle)
	defer settled.Stop()
	go r.tend(serving, ready)
	finish := func(code int) error { return r.settle(ctx, code, over, signals) }

	var asked os.Signal           // to end
	var incoming <-chan os.Signal // signals, once the container is ready
	heed := func(s os.Signal) (bool, error) {
		if fatal(s) {
			asked = s
		}
		return r.deliver(ctx, s)
	}
	broken, watch := r.io.broken, (<-chan error)(aside)
	for {
		select {
		case e := <-exited:
			if isNotFound(e.err) {
				return ending{code: 137, err: errors.Join(r.lost(e.err, asked, finish), <-aside)}
			}
			if e.err != nil {
				if r.tty != nil {
					r.tty.restore()
				}
				return ending{err: engineError(e.err, "waiting for the container"), left: true}
			}
			err := finish(int(e.code))
			bad := <-aside
			return ending{code: int(e.code), err: errors.Join(err, bad), final: bad != nil}
		case err, open := <-watch:
			if !open {
				watch = nil
				continue
			}
			if err != nil {
				_ = r.kill(ctx, unix.SIGKILL)
				<-exited
				return ending{code: 137, err: errors.Join(err, finish(137)), final: true}
			}
		case <-r.io.detach:
			return ending{err: r.handOver(), left: true}
		case <-broken:
			// Like any program in a pipeline whose reader has gone.
			broken = nil
			_ = r.kill(ctx, unix.SIGKILL)
			<-exited
			code := 128 + int(unix.SIGPIPE)
			return ending{code: code, err: finish(code), final: true}
		case <-ready:
			ready, incoming = nil, signals
			for _, s := range waiting {
				if done, err := heed(s); done {
					return ending{err: err, left: true}
				}
			}
		case s := <-incoming:
			if done, err := heed(s); done {
				return ending{err: err, left: true}
			}
		}
	}
}

// deliver passes a signal on to the container. done says that the container
// was left to itself instead.
func (r *run) deliver(ctx context.Context, s os.Signal) (done bool, err error) {
	n, _ := s.(syscall.Signal)
	switch {
	case n == unix.SIGWINCH:
		if r.tty != nil {
			r.tty.resize(ctx)
		}
	case r.rec.Detached && !fatal(s), r.rec.Detached && n == unix.SIGHUP:
		// What is for the program is sent with kill.
	case r.rec.Detached, r.Unit != nil && n == unix.SIGTERM:
		// Who manages services stops them with SIGTERM, whatever their own signal is.
		r.state.quit()
		go r.terminate(ctx, unix.Signal(r.rec.StopSignal), r.rec.StopAfter)
	case r.Unit != nil && n == unix.SIGABRT && r.Unit.WatchdogInterval > 0:
		// The watchdog was not fed: a program that hangs heeds no signal.
		r.state.quit()
		go r.terminate(ctx, unix.SIGKILL, 0)
	case r.Workload.SigProxy:
		_ = r.kill(ctx, n)
	case fatal(s):
		if err := r.handOver(); err != nil {
			return true, err
		}
		return true, interrupted(s)
	}
	return false, nil
}

// lost cleans up after a container whose task is gone without a status: its
// shim was killed, or somebody else removed it.
func (r *run) lost(err error, asked os.Signal, finish func(int) error) error {
	err = engineError(err, "waiting for the container")
	if asked != nil {
		err = interrupted(asked)
	}
	return errors.Join(err, killCgroups(r.rec.Cgroup), finish(137))
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
	if !r.resumed {
		r.event("start")
	}
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
		if holdsSignals(string(status)) {
			return
		}
	}
}

// holdsSignals says of a first process, by its /proc/PID/status, whether it
// keeps signals for itself to take. While tini waits in sigtimedwait(2), what
// it waits for is not shown as blocked; to ignore SIGTTIN is what it does after
// blocking the others.
func holdsSignals(status string) bool {
	in := func(field string, s unix.Signal) bool {
		_, mask, _ := strings.Cut(status, "\n"+field+":\t")
		mask, _, _ = strings.Cut(mask, "\n")
		n, _ := strconv.ParseUint(mask, 16, 64)
		return n&(1<<(s-1)) != 0
	}
	return in("SigBlk", unix.SIGTERM) || in("SigIgn", unix.SIGTTIN)
}

// settleAfter is how long a container must run before the launcher gives
// back the memory only its start needed: for short ones that is wasted work.
const settleAfter = 300 * time.Millisecond

// settle passes on the rest of the output of a program that has ended and
// notes how it did. The output comes first: with the task the shim goes, and
// what it still holds.
func (r *run) settle(ctx context.Context, code int, over func(int), signals <-chan os.Signal) error {
	if err := fault("exited"); err != nil {
		over(code)
		return err
	}
	oom := oomKilled(r.rec.Cgroup)
	lost := r.io.drain(stopTimeout, signals)
	if r.tty != nil {
		r.tty.restore()
	}
	r.io.close()
	r.observed(code, oom)
	for _, h := range r.hints(code, oom) {
		r.notice(h)
		if r.rec.Detached { // who reads its log is who asks why it ended
			r.sink(streamErr, []byte("safe-run: "+h+"\n"))
		}
	}
	r.net.Close()
	r.joined.close()
	r.extras.close()
	r.mu.Lock()
	r.rec.ExitCode, r.rec.Finished, r.rec.PID, r.rec.Paused, r.rec.OOMKilled = code, time.Now().UTC(), 0, false, oom
	r.mu.Unlock()
	if oom {
		r.event("oom")
	}
	r.event("die", "exitCode", strconv.Itoa(code))
	over(code)
	return lost
}

// handOver leaves the container to a supervisor in the background.
func (r *run) handOver() error {
	if r.tty != nil {
		r.tty.restore()
	}
	if r.Adopt == nil {
		return fail.New(fail.Internal, "no background supervisor")
	}
	r.state.deaf() // the supervisor takes the socket
	// It knows what the record says, and lives on.
	if err := r.change(func(rec *store.Record) { rec.Detached = true }); err != nil {
		return err
	}
	if r.net != nil {
		r.net.Close() // and the ports
	}
	return r.Adopt(r.entry)
}
