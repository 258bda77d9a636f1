package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/plain"
)

func (a *app) psVerb() *cobra.Command {
	var all, quiet, services, noTrunc bool
	var format string
	var states []string
	c := &cobra.Command{Use: "ps [OPTIONS] [SERVICE...]", Short: "List the containers of the services", Example: "  safe-run compose ps -a\n  safe-run compose ps --format json", RunE: func(c *cobra.Command, names []string) error {
		if !slices.Contains([]string{"", "table", "json"}, format) {
			return fail.New(fail.Usage, "--format takes table or json, not %.40q", format)
		}
		list, err := a.of(c.Context(), names, full)
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(c container) bool {
			if len(states) > 0 {
				return !slices.Contains(states, c.State)
			}
			return !all && !c.runs()
		})
		switch {
		case quiet:
			return printEach(list, func(c container) string { return c.ID })
		case services:
			return printEach(list, func(c container) string { return c.Service })
		case format == "json":
			return printJSON(os.Stdout, list)
		}
		return table(os.Stdout, list, noTrunc)
	}}
	f := c.Flags()
	f.BoolVarP(&all, "all", "a", false, "also those that have ended")
	f.BoolVarP(&quiet, "quiet", "q", false, "only ids")
	f.BoolVar(&services, "services", false, "only the names of their services")
	f.BoolVar(&noTrunc, "no-trunc", false, "nothing shortened")
	f.StringVar(&format, "format", "table", "table or json")
	f.StringArrayVar(&states, "status", nil, "only those in `STATE`: running, paused, restarting, exited, ...")
	return c
}

// of are the containers of the services named, or of all.
func (a *app) of(ctx context.Context, names, fields []string) ([]container, error) {
	project, err := a.projectName(ctx)
	if err != nil {
		return nil, err
	}
	list, err := a.containers(ctx, project, fields)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if !slices.ContainsFunc(list, func(c container) bool { return c.Service == n }) {
			return nil, fail.New(fail.NotFound, "the service %.80q has no container", n).Hint("safe-run compose up -d %s", n)
		}
	}
	if len(names) > 0 {
		list = slices.DeleteFunc(list, func(c container) bool { return !slices.Contains(names, c.Service) })
	}
	return list, nil
}

func printEach(list []container, field func(container) string) error {
	var b strings.Builder
	last := ""
	for _, c := range list {
		if v := plain.Line(field(c)); v != last {
			b.WriteString(v + "\n")
			last = v
		}
	}
	_, err := io.WriteString(os.Stdout, b.String())
	return fail.Wrap(fail.Internal, err, "printing")
}

// printJSON prints an object a line, by docker compose's names.
func printJSON(w io.Writer, list []container) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	for _, c := range list {
		err := e.Encode(struct {
			ID, Name, Image, Command, Project, Service, State, Health, Status, CreatedAt, RunningFor, Ports string
			ExitCode                                                                                        int
		}{c.ID, c.Name, c.Image, c.Command, c.Project, c.Service, c.State, c.Health, c.Status, c.CreatedAt, c.Since, c.Ports, c.ExitCode})
		if err != nil {
			return fail.Wrap(fail.Internal, err, "printing")
		}
	}
	_, err := io.WriteString(w, plain.Text(b.String()))
	return fail.Wrap(fail.Internal, err, "printing")
}

func table(w io.Writer, list []container, noTrunc bool) error {
	tw := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	fmt.Fprintln(tw, "NAME\tIMAGE\tCOMMAND\tSERVICE\tCREATED\tSTATUS\tPORTS")
	for _, c := range list {
		command := []rune(c.Command)
		if len(command) > 22 && !noTrunc {
			command = append(command[:20], '…', '"')
		}
		row := []string{c.Name, c.Image, string(command), c.Service, c.Since, c.Status, c.Ports}
		for i := range row {
			row[i] = plain.Line(row[i])
		}
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	return fail.Wrap(fail.Internal, tw.Flush(), "printing")
}

func (a *app) logsVerb() *cobra.Command {
	var follow, timestamps, noPrefix, noColour bool
	var tail, since, until string
	c := &cobra.Command{Use: "logs [OPTIONS] [SERVICE...]", Short: "Print the output of the services", Example: "  safe-run compose logs -f --tail 20 web", RunE: func(c *cobra.Command, names []string) error {
		if _, err := strconv.Atoi(tail); err != nil && tail != "all" {
			return fail.New(fail.Usage, "--tail takes a number or all, not %.40q", tail)
		}
		list, err := a.of(c.Context(), names, brief)
		if err != nil {
			return err
		}
		args := []string{"logs", "--tail", tail}
		for _, f := range []struct {
			on   bool
			word string
		}{
			{follow, "-f"},
			{timestamps, "-t"},
			{since != "", "--since=" + since},
			{until != "", "--until=" + until},
		} {
			if f.on {
				args = append(args, f.word)
			}
		}
		return a.logs(c.Context(), list, args, follow, noPrefix, noColour)
	}}
	f := c.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "go on until the containers end")
	f.StringVarP(&tail, "tail", "n", "all", "`NUMBER` of lines from the end of each")
	f.BoolVarP(&timestamps, "timestamps", "t", false, "with the time before each line")
	f.StringVar(&since, "since", "", "only from a `TIME` on (2013-01-02T13:23:37Z, or 42m ago)")
	f.StringVar(&until, "until", "", "only up to a `TIME`")
	f.BoolVar(&noPrefix, "no-log-prefix", false, "without names before the lines")
	f.BoolVar(&noColour, "no-color", false, "names without colours")
	return c
}

// logs prints the output of containers: one after the other, or together as it
// comes.
func (a *app) logs(ctx context.Context, list []container, args []string, together, noPrefix, noColour bool) error {
	var names []string
	for _, c := range list {
		names = append(names, shown(c.Project, c.Name))
	}
	o := a.outputsFor(names, noPrefix, noColour)
	outer := ctx
	g, ctx := errgroup.WithContext(ctx)
	if !together {
		g.SetLimit(1)
	}
	for i, c := range list {
		out, errs := o.of(names[i])
		g.Go(func() error {
			cmd := a.command(ctx, append(slices.Clone(args), "--", c.ID)...)
			cmd.Stdout, cmd.Stderr = out, errs
			err := cmd.Run()
			out.close()
			errs.close()
			if err != nil && ctx.Err() == nil {
				return fail.New(fail.Internal, "the output of %s could not be printed", c.Name)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return outer.Err()
}
