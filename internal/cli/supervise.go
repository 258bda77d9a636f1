package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

func (p *parser) setRestart(v string) error {
	p.w.Restart = spec.RestartPolicy{}
	if v == "" || v == spec.RestartNo {
		return nil
	}
	name, count, counted := strings.Cut(v, ":")
	switch name {
	case spec.RestartNo, spec.RestartAlways, spec.RestartUnlessStopped, spec.RestartOnFailure:
	default:
		return errors.New("it takes no, on-failure[:N], always or unless-stopped")
	}
	policy := spec.RestartPolicy{Name: name}
	if counted {
		n, err := strconv.Atoi(count)
		if name != spec.RestartOnFailure || err != nil || n < 0 || n > math.MaxInt32 {
			return errors.New("a retry count is a number from 0, and only on-failure takes one")
		}
		policy.Max = n
	}
	p.w.Restart = policy
	return nil
}

func (p *parser) checkRestart() error {
	if p.w.Remove && p.w.Restart.Restarts() {
		return errors.New("conflicting options: cannot specify both --restart and --rm")
	}
	return nil
}

// setHealthCmd: as in docker, an empty command is not given.
func (p *parser) setHealthCmd(v string) error {
	if strings.IndexByte(v, 0) >= 0 {
		return errors.New("it contains a NUL")
	}
	if len(v) > maxHealthCmd {
		return fmt.Errorf("%d bytes are too long, at most %d are possible", len(v), maxHealthCmd)
	}
	p.w.Health.Test = nil
	if v != "" {
		p.w.Health.Test = []string{"CMD-SHELL", v}
	}
	return nil
}

// setHealthExec is for checks in images without a shell. docker takes such a
// form from images and compose files alone.
func (p *parser) setHealthExec(v string) error {
	var words []string
	if err := json.Unmarshal([]byte(v), &words); err != nil || len(words) == 0 || words[0] == "" {
		return errors.New(`it takes a program and its arguments as a JSON array: ["curl","-f","http://localhost"]`)
	}
	if len(v) > maxHealthCmd || strings.Contains(strings.Join(words, ""), "\x00") {
		return errors.New("it is too long, or contains a NUL")
	}
	p.w.Health.Test = append([]string{"CMD"}, words...)
	return nil
}

// maxHealthCmd is below the longest argument the kernel takes (MAX_ARG_STRLEN).
const maxHealthCmd = 1<<17 - 1

// healthDuration follows docker's engine: a Go duration, 0 (not given) or at
// least 1 ms.
func healthDuration(to func(*spec.Healthcheck) *time.Duration) setter {
	return func(p *parser, v string) error {
		d, err := time.ParseDuration(v)
		switch {
		case err != nil:
			return errors.New("it takes a number with a unit, such as 5s or 1m30s")
		case d < 0:
			return errors.New("it cannot be negative")
		case d > 0 && d < time.Millisecond:
			return errors.New("it cannot be shorter than 1ms")
		case d > 366*24*time.Hour:
			return errors.New("it cannot be longer than a year")
		}
		*to(&p.w.Health) = d
		return nil
	}
}

func (p *parser) setHealthRetries(v string) error {
	n, err := strconv.ParseInt(v, 0, 32)
	if err != nil || n < 0 {
		return errors.New("it takes a number from 0")
	}
	p.w.Health.Retries = int(n)
	return nil
}

// checkHealth turns --no-healthcheck into docker's word for it.
func (p *parser) checkHealth() error {
	if !p.noHealth {
		return nil
	}
	h := p.w.Health
	onFailure := p.w.HealthOnFailure != "" && p.w.HealthOnFailure != spec.OnFailureNone
	if len(h.Test) > 0 || h.Interval != 0 || h.Timeout != 0 || h.StartPeriod != 0 || h.StartInterval != 0 || h.Retries != 0 || onFailure {
		return errors.New("--no-healthcheck conflicts with --health-* options")
	}
	p.w.Health.Test = []string{"NONE"}
	return nil
}

// logDrivers are the drivers there are.
var logDrivers = []string{"json-file", "journald", "none", "passthrough"}

func (p *parser) setLogDriver(v string) error {
	if v != "" && !slices.Contains(logDrivers, v) {
		e := fail.New(fail.Usage, "it takes json-file, journald, none or passthrough")
		if v == "local" || v == "k8s-file" {
			return e.Hint("json-file is rotated here without asking: 3 files of 10 MiB")
		}
		return e.Hint("no driver sends the output to another host; a log shipper can read it from the journal with --log-driver journald")
	}
	p.w.LogDriver = v
	return nil
}

// setLogOpt checks the form alone: which options there are, the driver knows.
func (p *parser) setLogOpt(v string) error {
	key, val, ok := strings.Cut(v, "=")
	if !ok || key == "" {
		return errors.New("it takes KEY=VALUE")
	}
	if err := clean(v); err != nil {
		return err
	}
	if p.w.LogOpts == nil {
		p.w.LogOpts = map[string]string{}
	}
	p.w.LogOpts[key] = val
	return nil
}

func (p *parser) checkLog() error {
	if p.w.LogDriver == "none" && len(p.w.LogOpts) > 0 {
		return fmt.Errorf("invalid logging opts for driver %s", p.w.LogDriver)
	}
	return nil
}

// setSDNotify takes podman's word for "once it has started" too.
func (p *parser) setSDNotify(v string) error {
	switch v {
	case "conmon":
		v = spec.NotifyStarted
	case spec.NotifyStarted, spec.NotifyHealthy, spec.NotifyContainer, spec.NotifyIgnore:
	default:
		return errors.New("it takes started, healthy, container or ignore")
	}
	p.w.SDNotify = v
	return nil
}
