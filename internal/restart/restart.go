// Package restart decides whether a container that ended is started again,
// and when.
package restart

import (
	"time"

	"github.com/safe-run/safe-run/spec"
)

// The back-off is docker's (moby, daemon/internal/restartmanager).
const (
	firstWait = 100 * time.Millisecond
	lastWait  = time.Minute
	longRun   = 10 * time.Second // a run of this length is a sound one: the back-off starts anew
)

// Manager follows one container from run to run. It is pure: the caller
// waits, and keeps Count.
type Manager struct {
	policy   spec.RestartPolicy
	restarts int
	wait     time.Duration // before the last restart; 0: none yet
}

// New gives the manager of a container that was restarted so many times since
// a user started it. The back-off starts at its beginning, as docker's does
// after a restart of its engine.
func New(p spec.RestartPolicy, restarts int) *Manager {
	return &Manager{policy: p, restarts: max(restarts, 0)}
}

// Next says how long to wait until the container is started again, if it is.
// It ended with an exit code after some time; a start that failed is a run of
// 0 s with code -1. A container that a user or a shutdown stopped is never
// started again.
func (m *Manager) Next(code int, ran time.Duration, stopped bool) (wait time.Duration, again bool) {
	if stopped || !m.wanted(code) {
		return 0, false
	}
	if ran >= longRun {
		m.wait = 0
	}
	m.wait = min(max(2*m.wait, firstWait), lastWait)
	m.restarts++
	return m.wait, true
}

func (m *Manager) wanted(code int) bool {
	switch m.policy.Name {
	case spec.RestartAlways, spec.RestartUnlessStopped:
		return true
	case spec.RestartOnFailure:
		return code != 0 && (m.policy.Max <= 0 || m.restarts < m.policy.Max)
	}
	return false
}

// Count is how often the container was restarted: docker's RestartCount.
func (m *Manager) Count() int { return m.restarts }
