package launcher

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/safe-run/safe-run/internal/health"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/internal/systemd"
	"github.com/safe-run/safe-run/spec"
)

// tend looks after a running program: tells systemd how it is, and checks its
// health.
func (r *run) tend(ctx context.Context, ready <-chan struct{}) {
	select {
	case <-ready:
	case <-ctx.Done():
		return
	}
	check, checked := spec.HealthOf(r.Workload, r.Image)
	to := r.notifier()
	when := r.Workload.SDNotify
	text := "running"
	if checked {
		text = "running, health: starting"
	}
	if when == "" || when == spec.NotifyStarted || when == spec.NotifyHealthy && !checked {
		_ = to.Ready(text)
	} else if when == spec.NotifyHealthy {
		_ = to.Status(text)
	}
	if r.Unit != nil && r.Unit.WatchdogInterval > 0 && when != spec.NotifyContainer {
		go to.Watch(ctx, r.Unit.WatchdogInterval, func() bool { return !checked || r.healthy() })
	}
	if !checked {
		return
	}
	before := store.Health{Status: store.HealthStarting}
	if r.resumed {
		if h, err := r.Store.LoadHealth(r.rec.ID); err == nil {
			before = h
		}
	}
	if when == spec.NotifyHealthy {
		go r.extend(ctx, to, check)
	}
	m := health.Monitor{
		Check: check, Before: before,
		Probe: func(ctx context.Context) (int, []byte, error) {
			code, out, err := r.Probe(ctx, r.record(), check.Args(r.Image.Shell), health.MaxOutput+1)
			if err != nil && status.Code(err) == codes.Unavailable { // that says nothing of the container
				r.revive(ctx)
				code, out, err = r.Probe(ctx, r.record(), check.Args(r.Image.Shell), health.MaxOutput+1)
			}
			return code, out, err
		},
		Paused:  func() bool { return r.record().Paused },
		Changed: func(h store.Health, turned bool) { r.checked(ctx, h, turned, to) },
	}
	m.Run(ctx, r.record().Started)
}

// notifier is the way to systemd; it leads nowhere outside of a unit.
func (r *run) notifier() *systemd.Notifier {
	if r.Unit == nil || r.Workload.SDNotify == spec.NotifyIgnore {
		return systemd.NewNotifier("")
	}
	return systemd.NewNotifier(r.Unit.NotifySocket)
}

// healthy says whether the last checks did not find the container unhealthy.
func (r *run) healthy() bool {
	h, err := r.Store.LoadHealth(r.rec.ID)
	return err != nil || h.Status != store.HealthUnhealthy
}

// extend keeps systemd waiting for as long as a start may take: the start
// period, and the checks that decide.
func (r *run) extend(ctx context.Context, to *systemd.Notifier, check spec.Healthcheck) {
	const ahead = 30 * time.Second
	last := time.Now().Add(check.StartPeriod + time.Duration(check.Retries)*(check.Interval+check.Timeout))
	for time.Now().Before(last) {
		h, err := r.Store.LoadHealth(r.rec.ID)
		if err == nil && h.Status != store.HealthStarting {
			return
		}
		_ = to.ExtendTimeout(ahead)
		select {
		case <-time.After(ahead / 2):
		case <-ctx.Done():
			return
		}
	}
}

// checked notes what a check has found, and acts on it.
func (r *run) checked(ctx context.Context, h store.Health, turned bool, to *systemd.Notifier) {
	if ctx.Err() != nil {
		return // of a program that has ended
	}
	_ = r.Store.SaveHealth(r.rec.ID, h)
	if !turned {
		return
	}
	r.event("health_status: " + h.Status)
	if h.Status == store.HealthHealthy && r.Workload.SDNotify == spec.NotifyHealthy {
		_ = to.Ready("running, health: " + h.Status)
	} else if r.Workload.SDNotify != spec.NotifyContainer {
		_ = to.Status("running, health: " + h.Status)
	}
	if h.Status != store.HealthUnhealthy {
		return
	}
	switch r.Workload.HealthOnFailure {
	case spec.OnFailureKill:
		_ = r.kill(ctx, unix.SIGKILL)
	case spec.OnFailureStop:
		r.state.quit()
		_ = r.change(func(rec *store.Record) { rec.Stopped = true })
		go r.terminate(context.WithoutCancel(ctx), unix.Signal(r.rec.StopSignal), r.rec.StopAfter)
	case spec.OnFailureRestart:
		r.state.set(func() { r.state.restart = true })
		go r.terminate(context.WithoutCancel(ctx), unix.Signal(r.rec.StopSignal), r.rec.StopAfter)
	}
}

// oomKilled says whether the kernel killed something in a cgroup for want of
// memory.
func oomKilled(cgroup string) bool {
	for _, f := range []string{
		filepath.Join(cgroupfs, cgroup, "memory.events"),
		filepath.Join(cgroupfs, "memory", cgroup, "memory.oom_control"),
	} {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for line := range bytes.Lines(b) {
			if n, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "oom_kill "); ok && n != "0" {
				return true
			}
		}
	}
	return false
}
