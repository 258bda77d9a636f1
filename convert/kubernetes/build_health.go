package kubernetes

import (
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/safe-run/safe-run/internal/argv"
	"github.com/safe-run/safe-run/spec"
)

// docker's defaults of a health check, which are safe-run's.
const (
	healthInterval      = 30 * time.Second
	healthTimeout       = 30 * time.Second
	healthStartInterval = 5 * time.Second
	healthRetries       = 3
)

// healthWords are the flags of a health check as argv writes them.
func healthWords(h spec.Healthcheck) []string {
	words, err := argv.Flags(spec.Workload{Image: "image", SigProxy: true, Networks: []spec.NetworkUse{{Name: "bridge"}}, Health: h})
	if err != nil || len(words) < 1 {
		return nil
	}
	return words[:len(words)-1]
}

// health writes probes. A container that is unhealthy gets no traffic
// (readiness). It is started again (liveness) where --health-on-failure asks for
// it: docker does not do that either without being asked.
func (b *builder) health() {
	h := b.w.Health
	if len(h.Test) == 1 { // NONE: Kubernetes does not look at the image's
		b.carryWord("--no-healthcheck")
	}
	if b.w.HealthOnFailure == spec.OnFailureNone {
		b.carry("health-on-failure", spec.OnFailureNone)
	}
	command := h.Args(nil)
	if len(command) == 0 {
		return
	}
	if test := testOf(command); !slices.Equal(test, h.Test) {
		b.carryWord(healthWords(spec.Healthcheck{Test: h.Test})[0])
	}
	exec := corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: command}}
	interval := b.seconds("health-interval", h.Interval, healthInterval)
	probe := corev1.Probe{
		ProbeHandler:  exec,
		PeriodSeconds: interval, TimeoutSeconds: b.seconds("health-timeout", h.Timeout, healthTimeout),
		SuccessThreshold: 1, FailureThreshold: healthRetries,
	}
	if h.Retries > 0 {
		probe.FailureThreshold = int32(h.Retries)
		if h.Retries == healthRetries {
			b.carryWord(healthWords(spec.Healthcheck{Retries: h.Retries})[0])
		}
	}
	b.one.ReadinessProbe = &probe
	// While it starts it is not ready, which is what starting means here.
	if h.StartPeriod > 0 {
		b.carry("health-start-period", h.StartPeriod.String())
	}
	if h.StartInterval > 0 {
		b.carry("health-start-interval", h.StartInterval.String())
	}
	b.liveness(probe)
}

func (b *builder) liveness(probe corev1.Probe) {
	h := b.w.Health
	switch b.w.HealthOnFailure {
	case spec.OnFailureKill:
	case spec.OnFailureRestart:
		if b.kind != kindDeployment {
			return // kept: in a Job and a Pod it is up to the restart policy
		}
		b.carry("health-on-failure", b.w.HealthOnFailure)
	default:
		return
	}
	b.one.LivenessProbe = &probe
	if h.StartPeriod > 0 {
		start := probe
		pause := h.StartInterval
		if pause == 0 {
			pause = healthStartInterval
		}
		start.PeriodSeconds = up(pause)
		// To the end of the start period, and then as often as any other time.
		total := int64(up(h.StartPeriod)) + int64(probe.PeriodSeconds)*int64(probe.FailureThreshold-1)
		period := int64(start.PeriodSeconds)
		start.FailureThreshold = int32(min(math.MaxInt32, max(1, (total+period-1)/period)))
		b.one.StartupProbe = &start
	}
}

// up gives whole seconds, at least one.
func up(d time.Duration) int32 { return int32(max(1, (d+time.Second-1)/time.Second)) }

// seconds gives a duration of a probe. What is not whole seconds is kept.
func (b *builder) seconds(flag string, asked, byDefault time.Duration) int32 {
	switch {
	case asked == byDefault:
		b.carry(flag, asked.String())
	case asked > 0 && (asked%time.Second == 0 || b.keys[flag]):
		return up(asked)
	}
	return up(byDefault)
}

// testOf is the health check of a command.
func testOf(command []string) []string {
	if len(command) == 3 && command[0] == "/bin/sh" && command[1] == "-c" {
		return []string{"CMD-SHELL", command[2]}
	}
	return append([]string{"CMD"}, command...)
}
