// Package unit writes systemd units for containers: a workload as a command
// line, and that in systemd's quoting.
package unit

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/sys/signal"

	"github.com/safe-run/safe-run/internal/argv"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/lazyre"
	"github.com/safe-run/safe-run/spec"
)

// Options are what a unit says besides the workload.
type Options struct {
	Program string     // absolute path of safe-run
	Files   []string   // --env-file=PATH and --label-file=PATH, absolute, whose content is not in the workload
	Global  []string   // further flags of run that are no part of a workload: --address=SOCKET
	Environ []string   // NAME=VALUE for safe-run itself, of plain characters
	Restart string     // value of Restart=; "": what the workload's policy says, on-failure if it says nothing
	Image   spec.Image // what is known of the image; the zero value if nothing is

	// Requires are units that have to be there first, and stop this one when
	// they are stopped; Wants are units that are started first, whatever comes of
	// them.
	Requires, Wants []string
	Before          [][]string // commands that run first and may fail
}

const (
	// docker's, where neither flag nor image says another.
	stopTimeout = 10
	// What the clean-up after the container's end may take.
	stopSlack = 15
	termCode  = 143
)

// restarts are the values of Restart=, systemd.service(5).
var restarts = lazyre.New(`^(no|always|on-success|on-failure|on-abnormal|on-abort|on-watchdog)$`)

// name is docker's pattern of a container's name. It becomes a file name.
var name = lazyre.New(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,63}$`)

func matches(re func() *regexp.Regexp, s string) bool { return re().MatchString(s) }

// Service gives the text of NAME.service, which runs w in the foreground; NAME
// is w's. Detaching, restarting and the file for the id are left to systemd.
// Values that look like secrets are an error: units are read by everybody.
func Service(w spec.Workload, o Options) (string, error) {
	switch {
	case !matches(name, w.Name):
		return "", fail.New(fail.Usage, "%.80q is not a name for a container and its unit", w.Name).Hint("give one with --name")
	case !filepath.IsAbs(o.Program) || strings.ContainsRune(o.Program, '$'):
		return "", fail.New(fail.Usage, "%.128q cannot be the program of a unit", o.Program)
	case w.CgroupParent != "":
		return "", fail.New(fail.Usage, "--cgroup-parent and a unit exclude each other: the container's cgroup is below the unit's").
			Hint("say where the unit's is with Slice=, and leave --cgroup-parent out")
	case o.Restart != "" && !matches(restarts, o.Restart):
		return "", fail.New(fail.Usage, "%.40q is not a value for Restart=", o.Restart).
			Hint("it takes no, always, on-success, on-failure, on-abnormal, on-abort or on-watchdog")
	}
	for _, u := range slices.Concat(o.Requires, o.Wants) {
		if base, is := strings.CutSuffix(u, ".service"); !is || !matches(name, base) {
			return "", fail.New(fail.Usage, "%.128q is not the name of a service", u)
		}
	}
	for _, e := range o.Environ {
		if strings.Trim(e, bare) != "" {
			return "", fail.New(fail.Usage, "%.128q is not plain enough for Environment=", e)
		}
	}
	if err := exposed(w.Env); err != nil {
		return "", err
	}
	policy := w.Restart
	w.Remove, w.Detach, w.CIDFile, w.Restart = true, false, "", spec.RestartPolicy{}
	if w.SDNotify == "" && (checked(w.Health) || checked(o.Image.Health) && len(w.Health.Test) == 0) {
		w.SDNotify = spec.NotifyHealthy
	}
	words, err := argv.Flags(w)
	if err != nil {
		return "", err
	}
	flags := append(append(append([]string{}, o.Global...), o.Files...), words...)
	exec, err := execStart(o.Program, flags, len(flags)-len(w.Args)-1)
	if err != nil {
		return "", err
	}

	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("[Unit]")
	line("Description=Container %s", w.Name)
	for _, d := range o.Requires {
		line("Requires=%s", d)
	}
	line("Wants=%s", strings.Join(append([]string{"network-online.target"}, o.Wants...), " "))
	line("After=%s", strings.Join(slices.Concat([]string{"network-online.target"}, o.Requires, o.Wants), " "))
	if policy.Name == spec.RestartOnFailure && policy.Max > 0 && o.Restart == "" {
		line("StartLimitIntervalSec=1d")
		line("StartLimitBurst=%d", policy.Max+1)
	}
	line("")
	line("[Service]")
	if w.SDNotify == spec.NotifyIgnore {
		line("Type=exec")
	} else {
		line("Type=notify")
		line("NotifyAccess=main")
	}
	line("Delegate=yes")
	line("KillMode=mixed")
	for _, s := range w.Secrets {
		if s.Source == "" {
			line("# the file is read by systemd as root and given to nobody else")
			line("LoadCredential=%s:/etc/credstore/%s", s.ID, s.ID)
		}
	}
	for _, e := range o.Environ {
		line("Environment=%s", e)
	}
	for _, command := range o.Before {
		var quoted []string
		for _, w := range command {
			q, err := Word(w)
			if err != nil {
				return "", err
			}
			quoted = append(quoted, q)
		}
		line("ExecStartPre=-%s", strings.Join(quoted, " "))
	}
	line("ExecStart=%s", exec)
	restart := restartOf(policy, o.Restart)
	line("Restart=%s", restart)
	if restart != spec.RestartNo {
		line("RestartSec=5")
	}
	line("# a stop by the stop signal is no failure")
	line("SuccessExitStatus=%s", stopCodes(w.StopSignal, o.Image.StopSignal))
	line("# the image may have to be fetched")
	line("TimeoutStartSec=15min")
	line("TimeoutStopSec=%s", stopLimit(w.StopTimeout))
	line("")
	line("[Install]")
	line("WantedBy=multi-user.target")
	return b.String(), nil
}

// execStart writes one flag a line; what follows the image stands beside it.
func execStart(program string, words []string, image int) (string, error) {
	var b strings.Builder
	for i, w := range append([]string{program, "run"}, words...) {
		q, err := Word(w)
		if err != nil {
			return "", err
		}
		switch {
		case i == 0:
		case i == 1 || i-2 > image:
			b.WriteByte(' ')
		default:
			b.WriteString(" \\\n\t")
		}
		b.WriteString(q)
	}
	return b.String(), nil
}

func checked(h spec.Healthcheck) bool { return len(h.Test) > 1 }

// restartOf turns docker's policy into systemd's. systemd itself knows what
// was stopped by hand, so unless-stopped is always.
func restartOf(p spec.RestartPolicy, asked string) string {
	switch {
	case asked != "":
		return asked
	case p.Name == spec.RestartAlways, p.Name == spec.RestartUnlessStopped:
		return "always"
	case p.Name == spec.RestartNo:
		return "no"
	}
	return "on-failure"
}

// PolicyOf turns systemd's Restart= into docker's policy, with how often a unit
// may start before it is left alone; 0 is not said. The nearest is given, and
// whether it means the same.
func PolicyOf(restart string, burst int) (p spec.RestartPolicy, exact bool) {
	switch restart {
	case "", "no":
		return spec.RestartPolicy{}, true
	case "always":
		return spec.RestartPolicy{Name: spec.RestartAlways}, true
	case "on-failure":
		return spec.RestartPolicy{Name: spec.RestartOnFailure, Max: max(0, burst-1)}, true
	case "on-success":
		return spec.RestartPolicy{}, false
	}
	return spec.RestartPolicy{Name: spec.RestartOnFailure}, false
}

// StopTimeoutOf turns TimeoutStopSec= into seconds for the program, by what
// Service adds for what comes after it.
func StopTimeoutOf(seconds int) int { return max(1, seconds-stopSlack) }

func stopLimit(seconds *int) string {
	switch {
	case seconds == nil:
		return fmt.Sprint(stopTimeout + stopSlack)
	case *seconds < 0:
		return "infinity"
	}
	return fmt.Sprint(*seconds + stopSlack)
}

// stopCodes are the exit codes of a program that its stop signal ended.
func stopCodes(asked ...string) string {
	codes := fmt.Sprint(termCode)
	for _, s := range asked {
		if s == "" {
			continue
		}
		if n, err := signal.ParseSignal(s); err == nil && n > 0 && n <= 64 && 128+int(n) != termCode && n != 9 {
			codes += fmt.Sprint(" ", 128+int(n))
		}
		break
	}
	return codes
}
