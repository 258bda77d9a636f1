package restart

import (
	"testing"
	"time"

	"github.com/safe-run/safe-run/spec"
)

func TestBackOff(t *testing.T) {
	m := New(spec.RestartPolicy{Name: spec.RestartAlways}, 0)
	wait := func(ran, want time.Duration) {
		t.Helper()
		if got, again := m.Next(1, ran, false); !again || got != want {
			t.Errorf("after %v: %v %v, want %v", ran, got, again, want)
		}
	}
	for want := firstWait; want < lastWait; want *= 2 {
		wait(longRun-1, want)
	}
	wait(0, lastWait)
	wait(0, lastWait)
	wait(longRun, firstWait)
	wait(0, 2*firstWait)
	if m.Count() != 14 {
		t.Errorf("%d restarts", m.Count())
	}
}

func TestPolicies(t *testing.T) {
	for _, tc := range []struct {
		policy   spec.RestartPolicy
		restarts int
		code     int
		stopped  bool
		again    bool
	}{
		{spec.RestartPolicy{}, 0, 1, false, false},
		{spec.RestartPolicy{Name: spec.RestartNo}, 0, 1, false, false},
		{spec.RestartPolicy{Name: "no such"}, 0, 1, false, false},
		{spec.RestartPolicy{Name: spec.RestartAlways}, 0, 0, false, true},
		{spec.RestartPolicy{Name: spec.RestartAlways}, 1 << 30, 137, false, true},
		{spec.RestartPolicy{Name: spec.RestartAlways}, 0, 137, true, false},
		{spec.RestartPolicy{Name: spec.RestartUnlessStopped}, 0, 0, false, true},
		{spec.RestartPolicy{Name: spec.RestartUnlessStopped}, 0, 0, true, false},
		{spec.RestartPolicy{Name: spec.RestartOnFailure}, 0, 0, false, false},
		{spec.RestartPolicy{Name: spec.RestartOnFailure}, 1 << 30, 1, false, true},
		{spec.RestartPolicy{Name: spec.RestartOnFailure}, 0, -1, false, true},
		{spec.RestartPolicy{Name: spec.RestartOnFailure}, 0, 1, true, false},
		{spec.RestartPolicy{Name: spec.RestartOnFailure, Max: 3}, 2, 1, false, true},
		{spec.RestartPolicy{Name: spec.RestartOnFailure, Max: 3}, 3, 1, false, false},
		{spec.RestartPolicy{Name: spec.RestartOnFailure, Max: 3}, -1, 1, false, true},
	} {
		if _, again := New(tc.policy, tc.restarts).Next(tc.code, 0, tc.stopped); again != tc.again {
			t.Errorf("%+v: again %v", tc, again)
		}
	}
}

func TestOnFailureCounts(t *testing.T) {
	m := New(spec.RestartPolicy{Name: spec.RestartOnFailure, Max: 3}, 0)
	starts := 1
	for {
		// A long run resets the back-off, not the count.
		if _, again := m.Next(2, time.Hour, false); !again {
			break
		}
		starts++
	}
	if starts != 4 || m.Count() != 3 {
		t.Errorf("%d starts, count %d", starts, m.Count())
	}
}
