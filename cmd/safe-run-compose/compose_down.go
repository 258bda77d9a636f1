package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/compose"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/spf13/cobra"
)

type downFlags struct {
	volumes, removeOrphans bool
	timeout                int // seconds; -1: not said
	rmi                    string
}

func (a *app) downVerb() *cobra.Command {
	var o downFlags
	c := &cobra.Command{Use: "down [OPTIONS] [SERVICE...]", Short: "Stop the services and remove what up has made", Example: "  safe-run compose down\n  safe-run compose -p shop down -v", RunE: func(c *cobra.Command, names []string) error {
		if o.rmi != "" {
			return fail.New(fail.Usage, "--rmi: images are not removed here").Hint("safe-run rmi IMAGE, or safe-run image prune")
		}
		return a.down(c.Context(), o, names)
	}}
	f := c.Flags()
	f.BoolVarP(&o.volumes, "volumes", "v", false, "also the volumes, but for external ones")
	f.BoolVar(&o.removeOrphans, "remove-orphans", false, "also containers of services that are not in the file any more")
	f.IntVarP(&o.timeout, "timeout", "t", -1, "`SECONDS` that stopping may take")
	f.StringVar(&o.rmi, "rmi", "", "not supported")
	return c
}

// down removes what is of a project. Labels say what that is; the files are
// wanted for its name, and to tell services from orphans.
func (a *app) down(ctx context.Context, o downFlags, names []string) error {
	p, err := a.read(ctx)
	if err != nil {
		if a.opts.ProjectName == "" {
			return err
		}
		if err := checkProject(a.opts.ProjectName); err != nil {
			return err
		}
		p = nil
		if fail.KindOf(err) != fail.NotFound || len(a.opts.Files) > 0 {
			a.note("the files cannot be read; what has the labels of the project %s is removed", a.opts.ProjectName)
		}
	}
	project := a.opts.ProjectName
	if p != nil {
		project = p.Name
	}
	have, err := a.allContainers(ctx, project, brief)
	if err != nil {
		return err
	}
	going, err := leaving(p, have, o, names)
	if err != nil {
		return err
	}
	var anonymous []string
	if o.volumes {
		if anonymous, err = a.anonymous(ctx, going); err != nil {
			return err
		}
	}
	if err := a.removeAll(ctx, going, o.timeout, o.volumes); err != nil {
		return err
	}
	if len(names) == 0 {
		if stay := len(have) - len(going); stay > 0 {
			a.note("containers of services that are not in the file stay: down --remove-orphans removes them")
		}
	}
	return a.removeRest(ctx, project, o, anonymous, len(names) > 0 || len(going) < len(have))
}

// leaving are the containers down removes. Without files all are meant.
func leaving(p *compose.Project, have []container, o downFlags, names []string) ([]container, error) {
	known := func(service string) bool {
		return p == nil || slices.ContainsFunc(p.Services, func(s compose.Service) bool { return s.Name == service })
	}
	for _, n := range names {
		if p != nil && !known(n) {
			return nil, noService(n, p)
		}
		if !slices.ContainsFunc(have, func(c container) bool { return c.Service == n }) && p == nil {
			return nil, fail.New(fail.NotFound, "no such service: %.80q", n)
		}
	}
	return slices.DeleteFunc(slices.Clone(have), func(c container) bool {
		if len(names) > 0 {
			return !slices.Contains(names, c.Service)
		}
		if p != nil && slices.Contains(p.Off, c.Service) {
			return true // it is no orphan
		}
		return !known(c.Service) && !o.removeOrphans && !strings.EqualFold(c.OneOff, "true")
	}), nil
}

// anonymous are the volumes of containers that nobody gave a name, also those
// that were carried over from a container before.
func (a *app) anonymous(ctx context.Context, all []container) (names []string, err error) {
	if len(all) == 0 {
		return nil, nil
	}
	args := []string{"inspect", "--type", "container", "--format", "{{json .Mounts}}", "--"}
	for _, c := range all {
		args = append(args, c.ID)
	}
	text, err := a.output(ctx, args...)
	if err != nil {
		return nil, err
	}
	for l := range strings.Lines(text) {
		of, err := mounts(l)
		if err != nil {
			return nil, err
		}
		for _, m := range of {
			if nameless(m) {
				names = append(names, m.Name)
			}
		}
	}
	return names, nil
}

// removeAll stops and removes containers, those others depend on last.
func (a *app) removeAll(ctx context.Context, all []container, timeout int, volumes bool) error {
	if len(all) == 0 {
		return nil
	}
	if err := a.stopAll(ctx, all, timeout); err != nil {
		return err
	}
	args := []string{"rm", "-f"} // one that starts again meanwhile goes, too
	if volumes {
		args = append(args, "-v")
	}
	args = append(args, "--")
	for _, c := range all {
		args = append(args, c.ID)
	}
	if _, err := a.output(ctx, args...); err != nil {
		return err
	}
	for _, c := range all {
		a.did("Container", c.Name, "Removed")
	}
	return nil
}

// removeRest removes networks, volumes and files of a project. Where containers
// stay, so do the networks they are on.
func (a *app) removeRest(ctx context.Context, project string, o downFlags, anonymous []string, stay bool) error {
	networks, err := a.networks(ctx, project)
	if err != nil {
		return err
	}
	var volumes []string
	if o.volumes && !stay {
		if volumes, err = ownedVolumes(project); err != nil {
			return err
		}
		if volumes, err = a.existing(ctx, volumes); err != nil {
			return err
		}
	}
	var errs error
	for _, n := range networks {
		_, err := a.output(ctx, "network", "rm", "--", n.Name)
		switch {
		case err == nil:
			a.did("Network", n.Name, "Removed")
		case stay: // it is in use
		default:
			errs = errors.Join(errs, err)
		}
	}
	for _, v := range volumes {
		_, err := a.output(ctx, "volume", "rm", "--", v)
		if err == nil {
			a.did("Volume", v, "Removed")
		}
		errs = errors.Join(errs, err)
	}
	if len(anonymous) > 0 {
		_, err := a.output(ctx, slices.Concat([]string{"volume", "rm", "-f", "--"}, anonymous)...)
		errs = errors.Join(errs, err)
	}
	if !stay {
		errs = errors.Join(errs, removeContents(project))
		if o.volumes && errs == nil {
			errs = disownVolumes(project)
		}
	}
	return errs
}
