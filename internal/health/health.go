// Package health runs the checks of a container and says how it is, by
// docker's rules (moby, daemon/health.go).
package health

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/spec"
)

const (
	// MaxOutput is how many bytes of a check's output are kept. More is cut
	// off, and "..." added.
	MaxOutput  = 4096
	maxResults = 5
)

// Complete fills in docker's defaults for what a check leaves open.
func Complete(c spec.Healthcheck) spec.Healthcheck {
	for _, d := range []struct {
		value     *time.Duration
		otherwise time.Duration
	}{
		{&c.Interval, 30 * time.Second},
		{&c.Timeout, 30 * time.Second},
		{&c.StartInterval, 5 * time.Second},
	} {
		if *d.value <= 0 {
			*d.value = d.otherwise
		}
	}
	if c.Retries <= 0 {
		c.Retries = 3
	}
	return c
}

// Enabled says whether there is anything to run: a test that is not NONE.
func Enabled(c spec.Healthcheck) bool {
	return len(c.Test) > 1 && (c.Test[0] == "CMD" || c.Test[0] == "CMD-SHELL")
}

// Monitor runs the checks of one run of a container.
type Monitor struct {
	Check spec.Healthcheck // what Complete leaves open is as Complete has it

	// Probe runs the check once. It must return soon after ctx, which has the
	// check's timeout, has ended, and leave no process behind then. More than
	// MaxOutput bytes of output are not needed, one more shows that there was
	// more; they are not kept after Probe's next call. An error means that
	// the check could not be run, or did not end before ctx did.
	Probe func(ctx context.Context) (exitCode int, output []byte, err error)

	// Paused, if set, says whether the container is frozen; it is not checked
	// then.
	Paused func() bool

	// Changed is called before the first check and after each one, from Run.
	// turned: the status is not the one of the call before. The value may be
	// kept.
	Changed func(h store.Health, turned bool)

	// Before is what an earlier monitor of the same run of the container
	// found; the zero value if there was none.
	Before store.Health
}

// Run checks until ctx ends, waiting for a running check to end first. started
// is when the container's program was started.
func (m *Monitor) Run(ctx context.Context, started time.Time) {
	check := Complete(m.Check)
	h := m.Before
	h.Log = newest(h.Log)
	if h.Status == "" {
		h.Status = store.HealthStarting
	}
	// From here on by the clock nobody can set. The time of the start was read
	// from a file, which the host's clock may have left behind.
	started = time.Now().Add(-max(0, time.Since(started)))
	starting := func(at time.Time) bool {
		return h.Status == store.HealthStarting && at.Sub(started) < check.StartPeriod
	}
	pause := func() time.Duration {
		if starting(time.Now()) {
			return check.StartInterval
		}
		return check.Interval
	}

	m.Changed(h, false)
	timer := time.NewTimer(pause())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if !m.paused() {
			r := m.once(ctx, check.Timeout)
			if ctx.Err() != nil {
				return
			}
			// A check that was frozen with the container says nothing.
			if !m.paused() {
				before := h.Status
				h = add(h, r, check.Retries, starting(r.Start))
				m.Changed(h, h.Status != before)
			}
		}
		timer.Reset(pause())
	}
}

func (m *Monitor) paused() bool { return m.Paused != nil && m.Paused() }

// once runs one check.
func (m *Monitor) once(ctx context.Context, timeout time.Duration) store.HealthResult {
	r := store.HealthResult{Start: time.Now()}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	code, output, err := m.Probe(limited)
	r.End, r.ExitCode = time.Now(), code
	switch {
	case err != nil && errors.Is(limited.Err(), context.DeadlineExceeded):
		r.ExitCode = -1
		r.Output = fmt.Sprintf("Health check exceeded timeout (%v)", timeout)
		if len(output) > 0 {
			r.Output += ": " + text(output)
		}
	case err != nil:
		r.ExitCode, r.Output = -1, text([]byte(err.Error()))
	default:
		r.Output = text(output)
	}
	return r
}

// add gives the health after one more result. The log is a new one.
func add(h store.Health, r store.HealthResult, retries int, forgiven bool) store.Health {
	h.Log = newest(append(newest(h.Log), r))
	switch {
	case r.ExitCode == 0:
		h.Status, h.FailingStreak = store.HealthHealthy, 0
	case forgiven:
	default:
		h.FailingStreak++
		if h.FailingStreak >= retries {
			h.Status = store.HealthUnhealthy
		}
	}
	return h
}

// newest copies the last results, so that older ones can be forgotten.
func newest(log []store.HealthResult) []store.HealthResult {
	log = log[max(0, len(log)-maxResults):]
	return append(make([]store.HealthResult, 0, maxResults+1), log...)
}

// text makes a string to keep of a container's bytes: valid UTF-8 of at most
// MaxOutput bytes and "...". Control characters stay: it is data, as it is in
// docker, and never printed as it is.
func text(b []byte) string {
	cut := len(b) > MaxOutput
	s := strings.ToValidUTF8(string(b[:min(len(b), MaxOutput)]), "\ufffd")
	if len(s) > MaxOutput {
		// Each replacement is longer than the byte it stands for.
		s, cut = strings.ToValidUTF8(s[:MaxOutput], ""), true
	}
	if cut {
		s += "..."
	}
	return s
}
