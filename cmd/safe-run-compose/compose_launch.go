package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/safe-run/safe-run/compose"
	"github.com/safe-run/safe-run/internal/fail"
)

// launch is one up: its steps, and what it has made.
type launch struct {
	*app
	project *compose.Project
	flags   upFlags
	began   time.Time
	steps   []*step
	all     []compose.Service // those whose networks are wanted; nil: those of steps
	watch   watch
	started func(*step, time.Time) // may be nil: a container runs, whose output since then is new

	ready map[string]chan struct{} // closed when a service was started
	room  chan struct{}

	mu                                        sync.Mutex
	madeContainers, madeNetworks, madeVolumes []string // made by this up
}

func (l *launch) prepare() {
	l.watch = watch{app: l.app, project: l.project.Name, since: l.began}
	l.ready = map[string]chan struct{}{}
	for _, st := range l.steps {
		l.ready[st.Name] = make(chan struct{})
	}
	l.room = make(chan struct{}, max(l.parallel, 1))
}

func (l *launch) noteMade(list *[]string, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*list = append(*list, name)
}

// start makes what is missing and starts the services, each after those it
// depends on. If one fails, those that were not begun are not, and what was
// made for nothing is removed.
func (l *launch) start(ctx context.Context, have state) error {
	err := l.grounds(ctx, have)
	if err == nil {
		waiting, stop := context.WithCancel(ctx)
		defer stop()
		errs := make([]error, len(l.steps))
		var g errgroup.Group
		for i, st := range l.steps {
			g.Go(func() error {
				if errs[i] = l.step(ctx, waiting, st); errs[i] != nil {
					stop()
				}
				return nil
			})
		}
		_ = g.Wait()
		err = errors.Join(slices.DeleteFunc(errs, func(err error) bool { return errors.Is(err, context.Canceled) })...)
		if err == nil {
			err = ctx.Err()
		}
	}
	if err != nil {
		l.undo(context.WithoutCancel(ctx))
	}
	return err
}

// step does what is to be done about a service once all it depends on is as it
// wants. waiting ends when another one fails.
func (l *launch) step(ctx, waiting context.Context, st *step) error {
	for _, d := range st.DependsOn {
		on := l.of(d.Service)
		if on == nil {
			continue // --no-deps, or its profile is off
		}
		select {
		case <-l.ready[d.Service]:
		case <-waiting.Done():
			return waiting.Err()
		}
		if d.Condition == "service_started" || st.do == keep {
			continue
		}
		l.did("Container", on.ContainerName, "Waiting")
		if err := l.await(waiting, on, d.Condition); err != nil {
			if waiting.Err() != nil {
				return waiting.Err()
			}
			if !d.Required {
				l.note("%s goes on without what it depends on: %s", st.Name, err)
				continue
			}
			return within(err, "%s%s is not started", at(st.Place), st.Name)
		}
	}
	select {
	case l.room <- struct{}{}:
	case <-waiting.Done():
		return waiting.Err()
	}
	defer func() { <-l.room }()
	if waiting.Err() != nil {
		return waiting.Err()
	}
	since := time.Now()
	if err := l.act(ctx, st); err != nil {
		return err
	}
	close(l.ready[st.Name])
	if l.started != nil {
		l.started(st, since)
	}
	return nil
}

func (l *launch) of(service string) *step {
	for _, st := range l.steps {
		if st.Name == service {
			return st
		}
	}
	return nil
}

func (l *launch) act(ctx context.Context, st *step) error {
	switch st.do {
	case keep:
		l.did("Container", st.ContainerName, "Running")
		return nil
	case begin, bounce:
		verb, done := "start", "Started"
		args := []string{verb}
		if st.do == bounce {
			args, done = stopArgs("restart", l.flags.timeout), "Restarted"
		}
		if _, err := l.output(ctx, append(args, "--", st.have.ID)...); err != nil {
			return within(err, "%s%s was not started", at(st.Place), st.Name)
		}
		l.did("Container", st.ContainerName, done)
		return nil
	case recreate:
		return l.recreate(ctx, st)
	}
	return l.run(ctx, st, st.Flags, "Started")
}

// recreate puts a container in the place of another one. Whatever can keep it
// from being made is looked at before the old one is stopped.
func (l *launch) recreate(ctx context.Context, st *step) error {
	if _, err := l.output(ctx, "inspect", "--type", "image", "--format", "{{.Id}}", "--", st.Image); err != nil && l.flags.pull != "never" {
		if err := l.pull(ctx, []string{st.Image}, l.flags.quietPull); err != nil {
			return err
		}
	}
	text, err := l.output(ctx, "inspect", "--type", "container", "--format", "{{json .Mounts}}", "--", st.have.ID)
	if err != nil {
		return err
	}
	flags := st.Flags
	if !l.flags.renewVolumes {
		old, err := mounts(text)
		if err != nil {
			return err
		}
		flags = carried(flags, old)
	}
	if _, err := l.output(ctx, append(stopArgs("stop", l.flags.timeout), "--", st.have.ID)...); err != nil {
		return err
	}
	rm := []string{"rm", "--", st.have.ID}
	if l.flags.renewVolumes {
		rm = []string{"rm", "-v", "--", st.have.ID}
	}
	if _, err := l.output(ctx, rm...); err != nil {
		return err
	}
	return l.run(ctx, st, flags, "Recreated")
}

// run starts a container. What run tells meanwhile is passed on as it comes.
func (l *launch) run(ctx context.Context, st *step, flags []compose.Flag, done string) error {
	var more []string
	if l.flags.pull == "missing" || l.flags.pull == "never" {
		more = append(more, "--pull="+l.flags.pull)
	}
	if l.flags.quietPull {
		more = append(more, "--quiet")
	}
	flags, env := unseen(flags)
	if env != "" {
		file, remove, err := envFile(env)
		if err != nil {
			return err
		}
		defer remove()
		more = append(more, "--env-file="+file)
	}
	c := l.command(ctx, append([]string{"run", "-d"}, words(st.Service, flags, more...)...)...)
	errs := &prefixed{to: os.Stderr, mu: &l.mu, prefix: st.Name + ": ", clean: true}
	c.Stderr = errs
	l.noteMade(&l.madeContainers, st.ContainerName)
	err := c.Run()
	errs.close()
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fail.New(fail.Internal, "%s%s was not started", at(st.Place), st.Name)
	}
	l.did("Container", st.ContainerName, done)
	return nil
}

func stopArgs(verb string, timeout int) []string {
	if timeout < 0 {
		return []string{verb}
	}
	return []string{verb, "-t", strconv.Itoa(timeout)}
}

// grounds makes the networks, volumes and files that services need.
func (l *launch) grounds(ctx context.Context, have state) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(cap(l.room))
	for _, n := range l.project.Networks {
		if n.External || !l.uses(n) {
			continue
		}
		if i := slices.IndexFunc(have.networks, func(s netState) bool { return s.Name == n.Name }); i >= 0 {
			if err := same(n, have.networks[i], l.project.Name); err != nil {
				return err
			}
			continue
		}
		g.Go(func() error {
			if _, err := l.output(ctx, append([]string{"network"}, networkWords(n, l.project.Name)...)...); err != nil {
				return within(err, "%snetwork %s", at(n.Place), n.Key)
			}
			l.noteMade(&l.madeNetworks, n.Name)
			l.did("Network", n.Name, "Created")
			return nil
		})
	}
	g.Go(func() error { return l.volumes(have.volumes) })
	g.Go(func() error { return writeContents(l.project.Name, l.services()) })
	return g.Wait()
}

func (l *launch) services() (all []compose.Service) {
	if l.all != nil {
		return l.all
	}
	for _, st := range l.steps {
		all = append(all, st.Service)
	}
	return all
}

// uses says whether a service that is started is on a network.
func (l *launch) uses(n compose.Network) bool {
	return slices.ContainsFunc(l.services(), func(s compose.Service) bool { return slices.Contains(s.Networks, n.Name) })
}

// same refuses a network that is there and is not what the file says: an
// internal one that leads out would go unnoticed.
func same(n compose.Network, is netState, project string) error {
	var subnets []string
	for _, s := range n.Subnets {
		if !slices.Contains(is.Subnets, s) {
			subnets = append(subnets, s)
		}
	}
	if is.Internal == n.Internal && is.ICC && len(subnets) == 0 && (!n.IPv6 || is.IPv6) {
		return nil
	}
	return fail.New(fail.Conflict, "%sthe network %s is there already, and is not as the file says (internal, ipv6, subnets)", at(n.Place), n.Name).
		Hint("safe-run compose -p %s down removes it; then up makes it anew", project)
}

// volumes notes which named volumes are going to be the project's. They are made
// by the first container that has them, with what its image has at that place:
// one made before would stay empty, and root's.
func (l *launch) volumes(existing []string) error {
	owned, err := ownedVolumes(l.project.Name)
	if err != nil {
		return err
	}
	var fresh []string
	for _, v := range l.project.Volumes {
		switch exists := slices.Contains(existing, v.Name); {
		case v.External && !exists:
			return fail.New(fail.NotFound, "%sthe external volume %s does not exist", at(v.Place), v.Name).Hint("safe-run volume create %s", v.Name)
		case v.External:
		case !exists:
			fresh = append(fresh, v.Name)
		case !slices.Contains(owned, v.Name):
			l.note("%sthe volume %s was not made by this project, and is used as it is; external: true says that this is meant", at(v.Place), v.Name)
		}
	}
	l.madeVolumes = fresh
	return ownVolumes(l.project.Name, fresh)
}

// undo removes what was made for nothing: containers that do not run, and
// networks and volumes that no container has.
func (l *launch) undo(ctx context.Context) {
	var used []string // networks of what stays, which is on none between two starts
	for _, name := range l.madeContainers {
		s, err := l.status(ctx, name)
		switch {
		case err != nil: // run has left none
		case s.running():
			l.note("%s was started and runs on", name)
			for _, st := range l.steps {
				if st.ContainerName == name {
					used = append(used, st.Networks...)
				}
			}
		default:
			if _, err := l.output(ctx, "rm", "-f", "-v", "--", name); err == nil {
				l.did("Container", name, "Removed")
			}
		}
	}
	for _, made := range []struct {
		what, verb string
		names      []string
	}{{"Network", "network", l.madeNetworks}, {"Volume", "volume", l.madeVolumes}} {
		for _, name := range made.names {
			if slices.Contains(used, name) && made.verb == "network" {
				continue
			}
			if _, err := l.output(ctx, made.verb, "rm", "--", name); err == nil { // else it is in use, or was not made
				l.did(made.what, name, "Removed")
			}
		}
	}
}

// networkWords are the command line that makes a network, after the word network.
func networkWords(n compose.Network, project string) []string {
	out := []string{"create", "--icc"}
	if n.Internal {
		out = append(out, "--internal")
	}
	if n.IPv6 {
		out = append(out, "--ipv6")
	}
	for _, s := range n.Subnets {
		out = append(out, "--subnet="+s)
	}
	return append(append(out, labelWords(n.Labels, labelProject, project, labelNetwork, n.Key)...), "--", n.Name)
}

// labelWords are the labels of a file and those of the project, which win.
func labelWords(labels map[string]string, own ...string) (out []string) {
	all := map[string]string{}
	for k, v := range labels {
		all[k] = v
	}
	for i := 0; i+1 < len(own); i += 2 {
		all[own[i]] = own[i+1]
	}
	for k, v := range all {
		out = append(out, fmt.Sprintf("--label=%s=%s", k, v))
	}
	slices.Sort(out)
	return out
}
