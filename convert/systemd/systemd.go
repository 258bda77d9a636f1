// Package systemd writes containers as units of systemd that run safe-run, and
// reads units that run safe-run, docker, podman or nerdctl.
package systemd

import (
	"slices"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/internal/words"
	"github.com/safe-run/safe-run/internal/unit"
	"github.com/safe-run/safe-run/spec"
)

const (
	// section is passed over by systemd, as all that begin with X- are
	// (systemd.unit(5)). It says what the unit's own settings do not.
	section = "X-Safe-Run"
	// seccompDir is where a unit looks for a filter of its container's own.
	seccompDir = "/etc/safe-run/seccomp/"
	suffix     = ".service"
)

// told are the flags of run that the section says: a unit has another name for
// them, or one that means more than one thing.
func told() []string { return []string{"name", "restart", "sdnotify"} }

type format struct{}

// Format is that of systemd's units.
func Format() convert.Format { return format{} }

func (format) Name() string { return "systemd" }

// Why says why a flag stands in a section of its own: there is nothing that
// safe-run, which the unit runs, does not know.
func (format) Why(string) string {
	return "a unit says it in another way, from which it does not come back"
}

func (f format) Write(p convert.Project, losses []convert.Loss, o convert.Options) ([]convert.File, []convert.Loss, error) {
	defaults := words.Losses(p, o, []words.Lost{{
		What: "waiting for completed", Why: "systemd starts the unit when the other has started, and not when it is done", Applies: func(c convert.Container, _ convert.Options) bool {
			return slices.ContainsFunc(c.DependsOn, func(d convert.Dependency) bool { return d.Condition == "completed" })
		},
	}})
	var files, also []convert.File
	for _, c := range p.Containers {
		text, err := f.unit(c, p, o)
		if err != nil {
			return nil, nil, err
		}
		head := []string{c.Name + suffix, "Written by safe-run export systemd; safe-run import systemd reads it."}
		if c.Workload.Seccomp != nil {
			head = append(head, "Its seccomp filter has to be at "+seccompDir+convert.SeccompName(c.Name)+".")
			also = append(also, convert.File{Name: convert.SeccompName(c.Name), Data: c.Filter, Also: true})
		}
		files = append(files, convert.File{Name: c.Name + suffix, Data: []byte(words.Comment(head, words.Of(c.Name, losses), words.Of(c.Name, defaults)) + text)})
	}
	return append(files, also...), defaults, nil
}

func (f format) unit(c convert.Container, p convert.Project, o convert.Options) (string, error) {
	flags, err := words.Workload(c.Workload)
	if err != nil {
		return "", err
	}
	kept := slices.DeleteFunc(flags, func(w string) bool {
		return !slices.Contains(told(), words.Parse(w).Name) && !slices.Contains(c.Kept, w)
	})
	w := c.Workload
	if w.Name == "" {
		w.Name = c.Name
	}
	if w.Seccomp != nil {
		w.SecurityOpts = slices.Clone(w.SecurityOpts)
		for i, opt := range w.SecurityOpts {
			if opt == "seccomp="+w.Seccomp.Path {
				w.SecurityOpts[i] = "seccomp=" + seccompDir + convert.SeccompName(c.Name)
			}
		}
		w.Seccomp = &spec.SeccompFile{Path: seccompDir + convert.SeccompName(c.Name), JSON: w.Seccomp.JSON}
	}
	u := unit.Options{Program: o.Program}
	for _, d := range c.DependsOn {
		if d.Condition == "completed" {
			u.Wants = append(u.Wants, d.Name+suffix)
		} else {
			u.Requires = append(u.Requires, d.Name+suffix)
		}
	}
	for _, n := range p.Networks {
		if !n.External && slices.ContainsFunc(w.Networks, func(use spec.NetworkUse) bool { return use.Name == n.Name }) {
			u.Before = append(u.Before, network(n, o))
		}
	}
	text, err := unit.Service(w, u)
	if err != nil {
		return "", err
	}
	said, err := words.JSON(kept)
	if err != nil {
		return "", err
	}
	if len(kept) == 0 {
		said = "[]"
	}
	text += "\n# what safe-run import needs to know; systemd passes it over\n[" + section + "]\nContainer=" + c.Name + "\nFlags=" + said + "\n"
	if len(c.DependsOn) > 0 {
		text += "DependsOn=" + words.Dependencies(c.DependsOn) + "\n"
	}
	return text, nil
}

// network is the command that makes a network, which fails where it is there.
func network(n convert.Network, o convert.Options) []string {
	command := []string{o.Program, "network", "create", "--icc"}
	if n.Internal {
		command = append(command, "--internal")
	}
	return append(command, n.Name)
}
