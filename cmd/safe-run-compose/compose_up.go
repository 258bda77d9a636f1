package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/safe-run/safe-run/compose"
	"github.com/safe-run/safe-run/internal/fail"
)

// upFlags are those of up.
type upFlags struct {
	detach, wait                   bool
	forceRecreate, noRecreate      bool
	removeOrphans, noDeps          bool
	renewVolumes, quietPull        bool
	abortOnExit, abortOnFailure    bool
	exitFrom, pull                 string
	timeout, waitTimeout           int // seconds; -1: not said
	noPrefix, timestamps, noColour bool
	attachDeps                     bool
	build, noBuild                 bool
}

func (a *app) upVerb() *cobra.Command {
	var o upFlags
	c := &cobra.Command{Use: "up [OPTIONS] [SERVICE...]", Short: "Make and start the services, and follow their output", Example: "  safe-run compose up\n  safe-run compose -f compose.yaml -f production.yaml up -d --wait\n  safe-run compose up --abort-on-container-exit --exit-code-from tests", RunE: func(c *cobra.Command, names []string) error {
		if err := o.check(); err != nil {
			return err
		}
		return a.up(c.Context(), o, names)
	}}
	f := c.Flags()
	f.BoolVarP(&o.detach, "detach", "d", false, "return when all are started")
	f.BoolVar(&o.wait, "wait", false, "return when all run, and those with a health check are healthy")
	f.IntVar(&o.waitTimeout, "wait-timeout", -1, "`SECONDS` that --wait waits at most")
	f.BoolVar(&o.forceRecreate, "force-recreate", false, "make all containers anew")
	f.BoolVar(&o.noRecreate, "no-recreate", false, "leave containers as they are, whatever changed")
	f.BoolVar(&o.removeOrphans, "remove-orphans", false, "remove containers of services that are not in the file any more")
	f.BoolVar(&o.noDeps, "no-deps", false, "not what the services depend on")
	f.BoolVarP(&o.renewVolumes, "renew-anon-volumes", "V", false, "empty anonymous volumes for containers made anew")
	f.StringVar(&o.pull, "pull", "", "`POLICY` of fetching images: always, missing, never")
	f.BoolVar(&o.quietPull, "quiet-pull", false, "no progress of fetching")
	f.BoolVar(&o.abortOnExit, "abort-on-container-exit", false, "stop all when one ends, and end with its exit code")
	f.BoolVar(&o.abortOnFailure, "abort-on-container-failure", false, "stop all when one ends with another code than 0, and end with it")
	f.StringVar(&o.exitFrom, "exit-code-from", "", "end with the exit code of `SERVICE`; stops all when one ends")
	f.IntVarP(&o.timeout, "timeout", "t", -1, "`SECONDS` that stopping may take")
	f.BoolVar(&o.noPrefix, "no-log-prefix", false, "output without names before it")
	f.BoolVar(&o.noColour, "no-color", false, "names without colours")
	f.BoolVar(&o.timestamps, "timestamps", false, "output with the time before each line")
	f.BoolVar(&o.attachDeps, "attach-dependencies", false, "also the output of what the named services depend on")
	f.BoolVar(&o.noBuild, "no-build", false, "has no effect: nothing is built here")
	f.BoolVar(&o.build, "build", false, "not supported")
	_ = c.RegisterFlagCompletionFunc("exit-code-from", a.complete)
	_ = c.RegisterFlagCompletionFunc("pull", cobra.FixedCompletions([]string{"always", "missing", "never"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (o *upFlags) check() error {
	if o.exitFrom != "" {
		o.abortOnExit = true
	}
	if o.wait {
		o.detach = true
	}
	switch {
	case o.build:
		return fail.New(fail.Usage, "--build: nothing is built here").Hint("build with buildah or buildkit, and take the image over: safe-run load -i ARCHIVE")
	case o.forceRecreate && o.noRecreate:
		return fail.New(fail.Usage, "--force-recreate and --no-recreate are incompatible")
	case o.detach && (o.abortOnExit || o.abortOnFailure):
		return fail.New(fail.Usage, "--detach and --wait cannot stop when a container exits").Hint("leave out -d, or --abort-on-container-exit, --abort-on-container-failure and --exit-code-from")
	case o.waitTimeout >= 0 && !o.wait:
		return fail.New(fail.Usage, "--wait-timeout is for --wait")
	case !slices.Contains([]string{"", "always", "missing", "never"}, o.pull):
		return fail.New(fail.Usage, "--pull takes always, missing or never, not %.40q", o.pull)
	}
	return nil
}

// up brings services to run as their file says.
func (a *app) up(ctx context.Context, o upFlags, names []string) error {
	p, err := a.load(ctx)
	if err != nil {
		return err
	}
	services, err := chosen(p, names, !o.noDeps)
	if err != nil {
		return err
	}
	if o.exitFrom != "" && !slices.ContainsFunc(services, func(s compose.Service) bool { return s.Name == o.exitFrom }) {
		return noService(o.exitFrom, p)
	}
	if err := judge(p, services); err != nil {
		return err
	}
	if len(services) == 0 {
		return fail.New(fail.Usage, "no service is on").Hint("services with profiles: need --profile NAME")
	}
	began := time.Now()
	have, err := a.look(ctx, p)
	if err != nil {
		return err
	}
	stale, err := a.images(ctx, o, services, have.containers)
	if err != nil {
		return err
	}
	if err := a.orphaned(ctx, p, o, have.containers); err != nil {
		return err
	}
	l := &launch{app: a, project: p, flags: o, began: began, steps: plan(services, have.containers, o, stale)}
	l.prepare()
	defer l.watch.close()
	if !o.detach {
		return l.foreground(ctx, have, names)
	}
	if err := l.start(ctx, have); err != nil {
		return err
	}
	if o.wait {
		return l.healthy(ctx)
	}
	return nil
}

// images fetches what --pull=always wants, and finds containers whose image
// has changed since under the same name.
func (a *app) images(ctx context.Context, o upFlags, services []compose.Service, have []container) (stale func(container) bool, err error) {
	by := map[string]string{} // service to image
	for _, s := range services {
		by[s.Name] = s.Image
	}
	if o.pull == "always" {
		var refs []string
		for _, s := range services {
			refs = append(refs, s.Image)
		}
		slices.Sort(refs)
		if err := a.pull(ctx, slices.Compact(refs), o.quietPull); err != nil {
			return nil, err
		}
	}
	var ids []string
	var of []container
	for _, c := range have {
		if by[c.Service] != "" {
			ids, of = append(ids, c.ID), append(of, c)
		}
	}
	old := map[string]bool{}
	stale = func(c container) bool { return old[c.ID] }
	if len(ids) == 0 || o.forceRecreate || o.noRecreate {
		return stale, nil
	}
	var refs []string
	for _, c := range of {
		refs = append(refs, by[c.Service])
	}
	slices.Sort(refs)
	refs = slices.Compact(refs)
	var then string
	var now map[string][]string
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		then, err = a.output(ctx, slices.Concat([]string{"inspect", "--type", "container", "--format", "{{.Image}}", "--"}, ids)...)
		return err
	})
	g.Go(func() error { now = a.digests(ctx, refs); return nil })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, digest := range strings.Fields(then) {
		known := now[by[of[i].Service]]
		old[of[i].ID] = len(known) > 0 && !slices.Contains(known, digest)
	}
	return stale, nil
}

// digests are what images are now: of their manifest, and of what their name
// points to. One that is not here has none, and says nothing of its containers.
func (a *app) digests(ctx context.Context, refs []string) map[string][]string {
	ask := func(refs ...string) []string {
		text, err := a.output(ctx, slices.Concat([]string{"inspect", "--type", "image", "--format", "{{.Manifest}} {{.Id}}", "--"}, refs)...)
		if err != nil {
			return nil
		}
		return slices.Collect(strings.Lines(text))
	}
	out := map[string][]string{}
	if all := ask(refs...); len(all) == len(refs) {
		for i, r := range refs {
			out[r] = strings.Fields(all[i])
		}
		return out
	}
	for _, r := range refs {
		if one := ask(r); len(one) == 1 {
			out[r] = strings.Fields(one[0])
		}
	}
	return out
}

// orphaned tells of containers whose service is gone, or removes them.
func (a *app) orphaned(ctx context.Context, p *compose.Project, o upFlags, have []container) error {
	gone := orphans(p, have)
	switch {
	case len(gone) == 0:
		return nil
	case o.removeOrphans:
		return a.removeAll(ctx, gone, o.timeout, false)
	}
	a.note("containers of services that are not in the file: %s; up --remove-orphans removes them", strings.Join(namesOf(gone), ", "))
	return nil
}

// healthy waits until all run, and are healthy where that can be known.
func (l *launch) healthy(ctx context.Context) error {
	if l.flags.waitTimeout >= 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(l.flags.waitTimeout)*time.Second, errWaited)
		defer cancel()
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, st := range l.steps {
		g.Go(func() error {
			want := settled
			if l.completes(st.Name) {
				want = completed
			}
			err := l.await(ctx, st, want)
			if errors.Is(context.Cause(ctx), errWaited) {
				return fail.New(fail.Usage, "%s is not ready within %d seconds", st.ContainerName, l.flags.waitTimeout).
					Hint("it runs on: safe-run compose ps, safe-run compose logs %s", st.Name)
			}
			return err
		})
	}
	return g.Wait()
}

var errWaited = errors.New("waited long enough")

// completes says whether a service is one that others wait for to end.
func (l *launch) completes(service string) bool {
	return slices.ContainsFunc(l.steps, func(st *step) bool {
		return slices.ContainsFunc(st.DependsOn, func(d compose.Dependency) bool {
			return d.Service == service && d.Condition == completed
		})
	})
}

// pull fetches images, one after the other, with its progress on the terminal.
func (a *app) pull(ctx context.Context, refs []string, quiet bool) error {
	var errs error
	for _, r := range refs {
		args := []string{"pull"}
		if quiet {
			args = append(args, "-q")
		}
		c := a.command(ctx, append(args, "--", r)...)
		c.SysProcAttr = nil // the progress is for the terminal
		c.Stdout, c.Stderr = os.Stderr, os.Stderr
		if err := c.Run(); err != nil {
			errs = errors.Join(errs, fail.New(fail.Internal, "the image %s was not fetched", r))
		}
	}
	return errs
}
