package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	xterm "golang.org/x/term"

	"github.com/safe-run/safe-run/compose"
)

// onceFlags are those of run.
type onceFlags struct {
	remove, detach, noTTY, noDeps, servicePorts bool
	env, volumes, publish, labels               []string
	entrypoint, name, user, workdir             string
}

func (a *app) runVerb() *cobra.Command {
	var o onceFlags
	var entry bool
	c := &cobra.Command{Use: "run [OPTIONS] SERVICE [COMMAND] [ARG...]", Short: "Run a command in a container of its own, made as a service's", Example: "  safe-run compose run --rm web sh -c env", Args: cobra.MinimumNArgs(1), RunE: func(c *cobra.Command, args []string) error {
		entry = c.Flags().Changed("entrypoint")
		return a.once(c.Context(), o, entry, args[0], args[1:])
	}}
	f := c.Flags()
	f.SetInterspersed(false)
	f.BoolVar(&o.remove, "rm", false, "remove the container when it ends")
	f.BoolVarP(&o.detach, "detach", "d", false, "leave it in the background")
	f.BoolVarP(&o.noTTY, "no-TTY", "T", false, "no terminal (default where there is none)")
	f.BoolVar(&o.noDeps, "no-deps", false, "do not start what the service depends on")
	f.BoolVarP(&o.servicePorts, "service-ports", "P", false, "publish the service's ports")
	f.StringArrayVarP(&o.env, "env", "e", nil, "set a variable: NAME=VALUE, or NAME for the caller's")
	f.StringArrayVarP(&o.volumes, "volume", "v", nil, "bind or volume, as for safe-run run")
	f.StringArrayVarP(&o.publish, "publish", "p", nil, "publish a port, as for safe-run run")
	f.StringArrayVarP(&o.labels, "label", "l", nil, "note KEY=VALUE with the container")
	f.StringVar(&o.entrypoint, "entrypoint", "", "`PROGRAM` in place of the service's entrypoint")
	f.StringVar(&o.name, "name", "", "`NAME` of the container")
	f.StringVarP(&o.user, "user", "u", "", "NAME|UID[:GROUP|GID] of the image")
	f.StringVarP(&o.workdir, "workdir", "w", "", "`DIR` inside the container")
	return c
}

// once starts what a service depends on, and goes on as the program that runs
// the command.
func (a *app) once(ctx context.Context, o onceFlags, entry bool, name string, command []string) error {
	p, err := a.load(ctx)
	if err != nil {
		return err
	}
	services, err := chosen(p, []string{name}, !o.noDeps)
	if err != nil {
		return err
	}
	if err := judge(p, services); err != nil {
		return err
	}
	i := slices.IndexFunc(services, func(s compose.Service) bool { return s.Name == name })
	s := services[i]
	have, err := a.look(ctx, p)
	if err != nil {
		return err
	}
	flags := upFlags{timeout: -1}
	before := slices.DeleteFunc(slices.Clone(services), func(s compose.Service) bool { return s.Name == name })
	l := &launch{
		app: a, project: p, flags: flags, began: time.Now(), all: services,
		steps: plan(before, have.containers, flags, func(container) bool { return false }),
	}
	l.prepare()
	defer l.watch.close()
	if err := l.start(ctx, have); err != nil {
		return err
	}
	for _, d := range s.DependsOn {
		on := l.of(d.Service)
		if on == nil || d.Condition == "service_started" {
			continue
		}
		if err := l.await(ctx, on, d.Condition); err != nil && d.Required {
			return err
		}
	}
	l.watch.close()
	return a.become(o.line(p.Name, s, entry, command))
}

// line is the command line of run for one time: not under the service's name, and
// not in its place.
func (o onceFlags) line(project string, s compose.Service, entry bool, command []string) []string {
	out := []string{"run"}
	for _, f := range s.Flags {
		name, value, _ := strings.Cut(f.Word, "=")
		switch {
		case slices.Contains([]string{"--name", "--network-alias", "--ip", "--ip6", "--mac-address", "--restart", "--cidfile"}, name),
			name == "--publish" && !o.servicePorts, name == "--entrypoint" && entry, name == "--tty", name == "--interactive":
			continue
		case name == "--network" && strings.Contains(value, ","):
			value = strings.Join(slices.DeleteFunc(strings.Split(value, ","), func(field string) bool {
				key, _, _ := strings.Cut(field, "=")
				return slices.Contains([]string{"alias", "ip", "ip6", "mac-address"}, key)
			}), ",")
			out = append(out, name+"="+value)
		default:
			out = append(out, f.Word)
		}
	}
	id := make([]byte, 6)
	_, _ = rand.Read(id) // never fails
	called := o.name
	if called == "" {
		called = project + "-" + s.Name + "-run-" + hex.EncodeToString(id)
	}
	out = append(out, "--name="+called, "--label="+labelOneOff+"=True")
	for _, more := range []struct {
		flag   string
		values []string
	}{{"--env=", o.env}, {"--volume=", o.volumes}, {"--publish=", o.publish}, {"--label=", o.labels}, {"--user=", one(o.user)}, {"--workdir=", one(o.workdir)}} {
		for _, v := range more.values {
			out = append(out, more.flag+v)
		}
	}
	if entry {
		out = append(out, "--entrypoint="+o.entrypoint)
	}
	terminal := xterm.IsTerminal(int(os.Stdin.Fd())) && xterm.IsTerminal(int(os.Stdout.Fd()))
	for _, f := range []struct {
		on   bool
		word string
	}{{o.remove, "--rm"}, {o.detach, "-d"}, {!o.detach, "-i"}, {terminal && !o.noTTY && !o.detach, "-t"}} {
		if f.on {
			out = append(out, f.word)
		}
	}
	out = append(out, s.Image)
	if len(command) > 0 {
		return append(out, command...)
	}
	return append(out, s.Args...)
}

// one is a list of a value that was given.
func one(v string) []string {
	if v == "" {
		return nil
	}
	return []string{v}
}
