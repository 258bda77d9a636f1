package spec

import (
	"slices"
	"time"
)

// Words of Healthcheck.Test[0], docker's.
const (
	healthNone  = "NONE"
	healthCmd   = "CMD"
	healthShell = "CMD-SHELL"
)

// docker's defaults of a health check.
const (
	defaultHealthInterval      = 30 * time.Second
	defaultHealthTimeout       = 30 * time.Second
	defaultHealthStartInterval = 5 * time.Second
	defaultHealthRetries       = 3
)

// Bounds of what an image can say. docker's engine has the lower one.
const (
	minHealthDuration = time.Millisecond
	maxHealthDuration = 366 * 24 * time.Hour
	maxHealthRetries  = 1 << 20

	// The runtime starts each check, on the host's account and not within the
	// container's limits: an image does not keep it busy all the time.
	minImageInterval = time.Second
)

// imageHealth is HEALTHCHECK in an image's configuration; times are in
// nanoseconds. It is docker's extension of the OCI schema.
type imageHealth struct {
	Test          []string
	Interval      time.Duration
	Timeout       time.Duration
	StartPeriod   time.Duration
	StartInterval time.Duration
	Retries       int
}

// healthcheck checks what an image says. Errors have kind Usage.
func (h *imageHealth) healthcheck() (Healthcheck, error) {
	if h == nil {
		return Healthcheck{}, nil
	}
	if err := boundedWords("HEALTHCHECK", h.Test); err != nil {
		return Healthcheck{}, err
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"interval", h.Interval}, {"timeout", h.Timeout}, {"start period", h.StartPeriod}, {"start interval", h.StartInterval}} {
		if d.value != 0 && (d.value < minHealthDuration || d.value > maxHealthDuration) {
			return Healthcheck{}, badImage("a HEALTHCHECK with a %s of %s; it must be between %s and %s", d.name, d.value, minHealthDuration, maxHealthDuration)
		}
	}
	if h.Retries < 0 || h.Retries > maxHealthRetries {
		return Healthcheck{}, badImage("a HEALTHCHECK with %d retries; there can be 0 to %d", h.Retries, maxHealthRetries)
	}
	out := Healthcheck{
		Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod,
		StartInterval: h.StartInterval, Retries: h.Retries,
	}
	if len(h.Test) == 0 || len(h.Test) == 1 && h.Test[0] == "" {
		return out, nil
	}
	switch h.Test[0] {
	case healthNone:
		out.Test = []string{healthNone}
	case healthCmd, healthShell:
		if len(h.Test) < 2 || h.Test[1] == "" {
			return Healthcheck{}, badImage("a HEALTHCHECK without a command")
		}
		out.Test = h.Test
	default:
		return Healthcheck{}, badImage("a HEALTHCHECK of the unknown form %s", printed(h.Test[0]))
	}
	return out, nil
}

// HealthOf gives the health check of a container: field by field the flag's,
// else the image's, else docker's default. false: there is none, because none
// was given or it was turned off.
func HealthOf(w Workload, img Image) (Healthcheck, bool) {
	h := w.Health
	if len(h.Test) == 0 {
		h.Test = img.Health.Test
	}
	if len(h.Test) == 0 || h.Test[0] == healthNone || h.Test[0] == "" {
		return Healthcheck{}, false
	}
	often := func(d time.Duration) time.Duration {
		if d > 0 {
			return max(d, minImageInterval)
		}
		return d
	}
	for _, d := range []struct {
		value           *time.Duration
		image, fallback time.Duration
	}{
		{&h.Interval, often(img.Health.Interval), defaultHealthInterval},
		{&h.Timeout, img.Health.Timeout, defaultHealthTimeout},
		{&h.StartPeriod, img.Health.StartPeriod, 0},
		{&h.StartInterval, often(img.Health.StartInterval), defaultHealthStartInterval},
	} {
		if *d.value <= 0 {
			*d.value = d.image
		}
		if *d.value <= 0 {
			*d.value = d.fallback
		}
	}
	if h.Retries <= 0 {
		h.Retries = img.Health.Retries
	}
	if h.Retries <= 0 {
		h.Retries = defaultHealthRetries
	}
	return h, true
}

// Args gives the words of the command of a check. shell is the image's SHELL
// (Image.Shell), nil for /bin/sh -c. The result is nil if there is no command.
func (h Healthcheck) Args(shell []string) []string {
	if len(h.Test) < 2 {
		return nil
	}
	switch h.Test[0] {
	case healthCmd:
		return slices.Clone(h.Test[1:])
	case healthShell:
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		return slices.Concat(shell, h.Test[1:])
	}
	return nil
}
