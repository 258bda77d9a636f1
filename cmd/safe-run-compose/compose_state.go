package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/safe-run/safe-run/compose"
	"github.com/safe-run/safe-run/internal/fail"
)

// Labels that docker compose puts on what it makes, for all who look for them.
const (
	labelProject = "com.docker.compose.project"
	labelService = "com.docker.compose.service"
	labelHash    = "com.docker.compose.config-hash"
	labelDepends = "com.docker.compose.depends_on"
	labelOneOff  = "com.docker.compose.oneoff"
	labelNetwork = "com.docker.compose.network"
)

// container is one of a project, as ps tells of it.
type container struct {
	ID, Name, State  string
	Service, Hash    string
	Depends, OneOff  string
	Health, Status   string
	Image, Command   string
	CreatedAt, Since string
	Ports            string
	Project          string `json:",omitempty"`
	ExitCode         int
}

// brief are the fields that cost nothing to know; full are those to be shown.
var (
	brief = []string{
		"ID", ".ID", "Name", ".Names", "State", ".State", "Service", label(labelService), "Hash", label(labelHash),
		"Depends", label(labelDepends), "OneOff", label(labelOneOff),
	}
	full = slices.Concat(brief, []string{
		"Health", ".HealthStatus", "Status", ".Status", "Image", ".Image", "Command", ".Command", "CreatedAt", ".CreatedAt",
		"Since", ".RunningFor", "Ports", ".Ports",
	})
)

func label(name string) string { return fmt.Sprintf("(.Label %q)", name) }

// jsonLine is a template that gives an object of fields, names and templates by
// turns. A list of labels could not be taken apart again.
func jsonLine(fields []string) string {
	var b strings.Builder
	for i := 0; i+1 < len(fields); i += 2 {
		fmt.Fprintf(&b, `,%q:{{json %s}}`, fields[i], fields[i+1])
	}
	return "{" + strings.TrimPrefix(b.String(), ",") + "}"
}

// lines reads an object of each line.
func lines[T any](text string) ([]T, error) {
	var all []T
	for l := range strings.Lines(text) {
		var one T
		if err := json.Unmarshal([]byte(l), &one); err != nil {
			return nil, fail.Wrap(fail.Internal, err, "what safe-run printed")
		}
		all = append(all, one)
	}
	return all, nil
}

// containers are those of a project, by name; those made by `run` are not.
func (a *app) containers(ctx context.Context, project string, fields []string) ([]container, error) {
	all, err := a.allContainers(ctx, project, fields)
	return slices.DeleteFunc(all, func(c container) bool { return strings.EqualFold(c.OneOff, "true") }), err
}

func (a *app) allContainers(ctx context.Context, project string, fields []string) ([]container, error) {
	text, err := a.output(ctx, "ps", "-a", "--no-trunc", "--filter", "label="+labelProject+"="+project, "--format", jsonLine(fields))
	if err != nil {
		return nil, err
	}
	all, err := lines[container](text)
	for i := range all {
		c := &all[i]
		c.Project = project
		if rest, is := strings.CutPrefix(c.Status, "Exited ("); is {
			code, _, _ := strings.Cut(rest, ")")
			c.ExitCode, _ = strconv.Atoi(code)
		}
	}
	slices.SortFunc(all, func(x, y container) int { return strings.Compare(x.Name, y.Name) })
	return all, err
}

// netState is a network as it is.
type netState struct {
	Name          string
	Internal, ICC bool
	IPv6          bool
	Subnets       []string
}

func (a *app) networks(ctx context.Context, project string) ([]netState, error) {
	text, err := a.output(ctx, "network", "ls", "--filter", "label="+labelProject+"="+project, "--format", "json")
	if err != nil {
		return nil, err
	}
	return lines[netState](text)
}

// existing are those of some volumes that are there.
func (a *app) existing(ctx context.Context, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	text, err := a.output(ctx, slices.Concat([]string{"volume", "inspect", "--format", "{{.Name}}", "--"}, names)...)
	found := strings.Fields(text)
	if len(found) < len(names) { // it says so of those that are not there
		err = nil
	}
	return found, err
}

// state is what there is of a project.
type state struct {
	containers []container
	networks   []netState
	volumes    []string // those of the files that are there
}

// look finds what there is of a project. What its files do not name is not asked
// for.
func (a *app) look(ctx context.Context, p *compose.Project) (s state, err error) {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { s.containers, err = a.containers(ctx, p.Name, brief); return err })
	if len(p.Networks) > 0 {
		g.Go(func() (err error) { s.networks, err = a.networks(ctx, p.Name); return err })
	}
	var names []string
	for _, v := range p.Volumes {
		names = append(names, v.Name)
	}
	g.Go(func() (err error) { s.volumes, err = a.existing(ctx, names); return err })
	return s, g.Wait()
}

// status is how a container is doing.
type status struct {
	Restarts int    `json:"-"`
	Status   string // docker's word
	ExitCode int
	Error    string
	Health   *struct {
		Status string
		Log    []struct {
			ExitCode int
			Output   string
		}
	}
}

// running says whether its program runs, or will again.
func (s status) running() bool {
	return slices.Contains([]string{"running", "paused", "restarting"}, s.Status)
}

func (a *app) status(ctx context.Context, name string) (status, error) {
	text, err := a.output(ctx, "inspect", "--type", "container", "--format", `{"Restarts":{{.RestartCount}},"State":{{json .State}}}`, "--", name)
	if err != nil {
		return status{}, err
	}
	var of struct {
		Restarts int
		State    status
	}
	err = json.Unmarshal([]byte(text), &of)
	of.State.Restarts = of.Restarts
	return of.State, fail.Wrap(fail.Internal, err, "the state of %s", name)
}

// runs says of a container of a list whether its program runs, or will again.
func (c container) runs() bool { return status{Status: c.State}.running() }

// dependsOn are the services a container was started after, from its label
// SERVICE:CONDITION:RESTART,...
func (c container) dependsOn() (names []string) {
	for _, d := range strings.Split(c.Depends, ",") {
		if name, _, _ := strings.Cut(d, ":"); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// layers sorts containers so that each layer depends on those before it alone.
// A circle, which no file gives, ends up in the last one.
func layers(all []container) (out [][]container) {
	left := slices.Clone(all)
	for len(left) > 0 {
		waits := func(c container) bool {
			return slices.ContainsFunc(c.dependsOn(), func(name string) bool {
				return name != c.Service && slices.ContainsFunc(left, func(o container) bool { return o.Service == name })
			})
		}
		var now, later []container
		for _, c := range left {
			if waits(c) {
				later = append(later, c)
			} else {
				now = append(now, c)
			}
		}
		if len(now) == 0 {
			return append(out, later)
		}
		out, left = append(out, now), later
	}
	return out
}

func namesOf(all []container) (names []string) {
	for _, c := range all {
		names = append(names, c.Name)
	}
	return names
}
