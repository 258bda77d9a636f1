package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The flags whose machinery is not built yet. Their values are checked all
// the same, so that a command line that passes later does not fail for its
// form, and one that is wrong says so now.

// restartPolicies are docker's, and whether a retry count may follow.
var restartPolicies = map[string]bool{"no": false, "always": false, "unless-stopped": false, "on-failure": true}

func (p *parser) setRestart(v string) error {
	p.restart = v
	if v == "" || v == "no" {
		p.can()
		return nil
	}
	name, count, counted := strings.Cut(v, ":")
	mayCount, known := restartPolicies[name]
	if !known {
		return errors.New("it takes no, on-failure[:N], always or unless-stopped")
	}
	if counted {
		if n, err := strconv.Atoi(count); !mayCount || err != nil || n < 0 {
			return errors.New("a retry count is a number from 0, and only on-failure takes one")
		}
	}
	p.cannot("")
	return nil
}

func (p *parser) checkRestart() error {
	if p.w.Remove && p.restart != "" && p.restart != "no" {
		return errors.New("conflicting options: cannot specify both --restart and --rm")
	}
	return nil
}

func (p *parser) setHealthCmd(v string) error {
	if strings.IndexByte(v, 0) >= 0 {
		return errors.New("it contains a NUL")
	}
	p.healthSet(v != "")
	return nil
}

// healthSet notes a health setting; the zero of its type means not given.
func (p *parser) healthSet(given bool) {
	if given {
		p.cannot("")
	} else {
		p.can()
	}
}

// setHealthDuration follows the engine: a Go duration, 0 or at least 1 ms.
func (p *parser) setHealthDuration(v string) error {
	d, err := time.ParseDuration(v)
	switch {
	case err != nil:
		return errors.New("it takes a number with a unit, such as 5s or 1m30s")
	case d < 0:
		return errors.New("it cannot be negative")
	case d > 0 && d < time.Millisecond:
		return errors.New("it cannot be shorter than 1ms")
	}
	p.healthSet(d != 0)
	return nil
}

func (p *parser) setHealthRetries(v string) error {
	n, err := strconv.ParseInt(v, 0, 32)
	if err != nil || n < 0 {
		return errors.New("it takes a number from 0")
	}
	p.healthSet(n != 0)
	return nil
}

func (p *parser) checkHealth() error {
	if !p.noHealth {
		return nil
	}
	for name := range p.pending {
		if strings.HasPrefix(name, "health-") {
			return errors.New("--no-healthcheck conflicts with --health-* options")
		}
	}
	return nil
}

// setLogDriver honours none: nothing is kept, as it is without the flag.
func (p *parser) setLogDriver(v string) error {
	p.logDriver = v
	if v == "" || v == "none" {
		p.can()
		return nil
	}
	p.cannot("")
	return clean(v)
}

func (p *parser) setLogOpt(v string) error {
	key, _, ok := strings.Cut(v, "=")
	if !ok || key == "" {
		return errors.New("it takes KEY=VALUE")
	}
	p.logOpts = true
	p.cannot("")
	return clean(v)
}

func (p *parser) checkLog() error {
	if p.logDriver == "none" && p.logOpts {
		return fmt.Errorf("invalid logging opts for driver %s", p.logDriver)
	}
	return nil
}

func (p *parser) setWindowsSize(v string) error {
	_, err := parseSize(v)
	p.cannot("")
	return err
}

func checkedInt(bits int) setter {
	return later(func(v string) error {
		if _, err := strconv.ParseInt(v, 0, bits); err != nil {
			return errors.New("it takes a number")
		}
		return nil
	})
}

func checkedUint(bits int) setter {
	return later(func(v string) error {
		if _, err := strconv.ParseUint(v, 0, bits); err != nil {
			return errors.New("it takes a number from 0")
		}
		return nil
	})
}
