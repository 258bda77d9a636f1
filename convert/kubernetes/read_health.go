package kubernetes

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/safe-run/safe-run/spec"
)

// What a probe has that says nothing about it.
const (
	probePeriod  = 10 // seconds
	probeTimeout = 1  // seconds
)

// health reads probes: who is not ready gets no traffic, and so the readiness is
// the health; without it, the liveness. A probe that is not a command, or says
// another thing than that one, is left, and told.
func (p *podReader) health(c *corev1.Container) {
	probe := c.ReadinessProbe
	if !isExec(probe) {
		probe = c.LivenessProbe
	}
	if !isExec(probe) {
		return
	}
	flag := healthWords(spec.Healthcheck{Test: testOf(probe.Exec.Command)})
	if len(flag) == 0 {
		return
	}
	main := *probe
	p.addKey("health-cmd", flag[0])
	p.pause("health-interval", main.PeriodSeconds, probePeriod, int32(healthInterval.Seconds()))
	p.pause("health-timeout", main.TimeoutSeconds, probeTimeout, int32(healthTimeout.Seconds()))
	if n := main.FailureThreshold; n != 0 && n != healthRetries {
		p.add("health-retries", strconv.Itoa(int(n)))
	}
	start := c.StartupProbe
	switch {
	case main.InitialDelaySeconds != 0:
		p.pause("health-start-period", main.InitialDelaySeconds, 0, 0)
	case sameCommand(start, &main):
		period, threshold := start.PeriodSeconds, start.FailureThreshold
		if period == 0 {
			period = probePeriod
		}
		if threshold == 0 {
			threshold = healthRetries
		}
		p.add("health-start-period", strconv.FormatInt(int64(start.InitialDelaySeconds)+int64(period)*int64(threshold), 10)+"s")
		p.pause("health-start-interval", period, 0, int32(healthStartInterval.Seconds()))
		start.PeriodSeconds, start.FailureThreshold, start.InitialDelaySeconds = 0, 0, 0
		understood(start, &main)
	}
	if sameCommand(c.LivenessProbe, &main) {
		p.add("health-on-failure", spec.OnFailureKill)
		understood(c.LivenessProbe, &main)
	}
	if isExec(c.ReadinessProbe) {
		understood(c.ReadinessProbe, &main)
	}
}

func (p *podReader) pause(flag string, seconds, byDefault, ours int32) {
	if seconds == 0 {
		seconds = byDefault
	}
	if seconds != ours {
		p.add(flag, strconv.Itoa(int(seconds))+"s")
	}
}

func isExec(p *corev1.Probe) bool { return p != nil && p.Exec != nil && len(p.Exec.Command) > 0 }

func sameCommand(p, main *corev1.Probe) bool {
	return isExec(p) && slices.Equal(p.Exec.Command, main.Exec.Command)
}

// understood takes out of a probe what flags say of main.
func understood(p, main *corev1.Probe) {
	p.Exec = nil
	for _, n := range []struct{ of, main *int32 }{
		{&p.InitialDelaySeconds, &main.InitialDelaySeconds},
		{&p.PeriodSeconds, &main.PeriodSeconds},
		{&p.TimeoutSeconds, &main.TimeoutSeconds},
		{&p.FailureThreshold, &main.FailureThreshold},
	} {
		if *n.of == *n.main {
			*n.of = 0
		}
	}
	if p.SuccessThreshold == 1 {
		p.SuccessThreshold = 0
	}
}
