package launcher

import (
	"context"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/control"
)

// state is where a container stands, as the commands of others see and change
// it.
type state struct {
	mu      sync.Mutex
	first   initProcess   // of the running program
	running bool          // between begin and over
	lives   int           // programs started so far
	code    int           // of the last one that ended
	failed  error         // why the last start failed
	done    bool          // nothing will be started any more, and all is recorded
	turn    chan struct{} // closed at each change, and replaced

	stop    bool // asked to: the restart policy does not count
	restart bool // asked to, whatever the policy
	remove  bool // asked to, whatever --rm says
	volumes bool // with its anonymous volumes

	clients control.Clients
	server  *control.Server
	served  chan struct{} // closed once all commands have their answers
	input   *control.Input
}

// seen is a look at a state.
type seen struct {
	running bool
	lives   int
	code    int
	failed  error
	done    bool
	turn    <-chan struct{} // closed when it changes
}

func (s *state) look() seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.turn == nil {
		s.turn = make(chan struct{})
	}
	return seen{s.running, s.lives, s.code, s.failed, s.done, s.turn}
}

// set changes the state and tells those who wait for it.
func (s *state) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	if s.turn != nil {
		close(s.turn)
		s.turn = nil
	}
}

// begin notes that the program runs; over that it has ended.
func (s *state) begin(first initProcess) (over func(code int)) {
	// Who asked for a restart meanwhile has one.
	s.set(func() { s.first, s.running, s.lives, s.failed, s.restart = first, true, s.lives+1, nil, false })
	return func(code int) {
		s.set(func() { s.first, s.running, s.code = initProcess{fd: -1}, false, code })
	}
}

// quit asks for an end that no restart follows.
func (s *state) quit() { s.set(func() { s.stop, s.restart = true, false }) }

// asked gives what was asked for besides the end.
func (s *state) asked() (stop, restart, remove, volumes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop, s.restart, s.remove, s.volumes
}

// until waits until what holds, or the container is done, or ctx is.
func (s *state) until(ctx context.Context, what func(seen) bool) (seen, bool) {
	for {
		now := s.look()
		if now.done || what(now) {
			return now, true
		}
		select {
		case <-now.turn:
		case <-ctx.Done():
			return now, false
		}
	}
}

// deaf ends listening, so that a next supervisor can; those who wait for an
// answer wait on.
func (s *state) deaf() {
	if s.server != nil {
		_ = s.server.Close()
	}
}

// close ends the control socket, once those who wait for the end have their
// answer.
func (s *state) close() {
	s.deaf()
	s.set(func() { s.done = true })
	if s.server != nil {
		select {
		case <-s.served:
		case <-time.After(time.Second):
		}
	}
}

// take gives whether a restart was asked for, and counts it as begun.
func (s *state) take() (asked bool) {
	s.set(func() { asked, s.restart = s.restart, false })
	return asked
}

// signal sends a signal to the first process of the running program.
func (s *state) signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running {
		return unix.ESRCH
	}
	return s.first.signal(sig)
}
