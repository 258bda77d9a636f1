package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/compose"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/plain"
)

// app is one call of compose: the program that does the work, and the flags
// before the verb.
type app struct {
	program  string
	opts     compose.Options
	parallel int    // launches at a time
	ansi     string // never, always, auto
	progress string // quiet says nothing of what is done
}

// composeVerb is `safe-run compose`. Its flags stand before its verbs, as
// docker's do, and mean something else after some of them (-f): so it is a
// command line of its own.
func composeVerb(program string) *cobra.Command {
	return &cobra.Command{
		Use: "compose [OPTIONS] COMMAND", Short: "Run the services of compose files, each hardened", DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			// Reading the files takes a third longer with what is collected meanwhile.
			debug.SetGCPercent(-1)
			debug.SetMemoryLimit(64 << 20)
			inner := composeRoot(&app{program: program})
			inner.SetFlagErrorFunc(c.FlagErrorFunc())
			inner.SetArgs(args)
			return bySignal(c.Context(), inner.ExecuteContext(c.Context()))
		},
		ValidArgsFunction: func(c *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective) {
			return completions(c.Context(), program, append(slices.Clone(args), start))
		},
	}
}

// bySignal gives what a signal has ended docker compose's exit code: what it was
// about to do is no error.
func bySignal(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || errors.As(err, new(*exitError)) {
		return err
	}
	return &exitError{interrupted}
}

// completions asks the inner command line, whose answer is lines and, last, a
// number of what the shell shall do.
func completions(ctx context.Context, program string, args []string) ([]string, cobra.ShellCompDirective) {
	inner := composeRoot(&app{program: program})
	var out bytes.Buffer
	inner.SetOut(&out)
	inner.SetErr(&bytes.Buffer{})
	inner.SetArgs(append([]string{cobra.ShellCompRequestCmd}, args...))
	if inner.ExecuteContext(ctx) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var directive cobra.ShellCompDirective
	if _, err := fmt.Sscanf(lines[len(lines)-1], ":%d", &directive); err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return lines[:len(lines)-1], directive
}

func composeRoot(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "compose [OPTIONS] COMMAND", Short: "Run the services of compose files, each hardened",
		Example: "  safe-run compose up -d --wait\n  safe-run compose logs -f\n  safe-run compose down -v",
		Long: "Run the services of compose files. Each is started by safe-run with what its keys say, and judged by\n" +
			"the site's policy: what is refused of any is said with file and line, before anything is made.",
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "safe-run compose"},
		SilenceErrors: true, SilenceUsage: true, TraverseChildren: true, DisableFlagsInUseLine: true,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			return absent(args[0])
		},
	}
	c.CompletionOptions.DisableDefaultCmd = true
	f := c.Flags()
	f.StringArrayVarP(&a.opts.Files, "file", "f", nil, "compose `FILE`; several are merged in their order (default: compose.yaml here or above)")
	f.StringVarP(&a.opts.ProjectName, "project-name", "p", "", "`NAME` of the project (default: name: in the file, or its directory)")
	f.StringVar(&a.opts.Dir, "project-directory", "", "`DIR` to look for the file in")
	f.StringArrayVar(&a.opts.Profiles, "profile", nil, "also the services of this `PROFILE` of the file")
	f.StringArrayVar(&a.opts.EnvFiles, "env-file", nil, "`FILE` of variables for ${NAME} (default: .env)")
	f.StringVar(&a.opts.ProfileDir, "profile-dir", "", "`DIR` whose SERVICE.yaml is the safe-run profile of that service")
	f.IntVar(&a.parallel, "parallel", 4, "`N` services are started at a time")
	f.StringVar(&a.ansi, "ansi", "auto", "colours: never, always, or auto for terminals")
	f.StringVar(&a.progress, "progress", "plain", "quiet says nothing of what is done")
	_ = c.RegisterFlagCompletionFunc("project-directory", cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs))
	_ = c.RegisterFlagCompletionFunc("profile-dir", cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs))
	c.AddCommand(a.upVerb(), a.downVerb(), a.psVerb(), a.logsVerb(), a.configVerb(), a.execVerb(), a.runVerb(), a.pullVerb())
	c.AddCommand(a.passVerbs()...)
	for _, sub := range c.Commands() {
		sub.DisableFlagsInUseLine = true
		if sub.ValidArgsFunction == nil {
			sub.ValidArgsFunction = a.complete
		}
	}
	return c
}

// complete offers the services of the files.
func (a *app) complete(c *cobra.Command, given []string, start string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if p, err := a.read(c.Context()); err == nil {
		for _, s := range p.Services {
			if strings.HasPrefix(s.Name, start) && !slices.Contains(given, s.Name) {
				names = append(names, plain.Line(s.Name))
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// read loads the project with the rights of the caller.
func (a *app) read(ctx context.Context) (*compose.Project, error) {
	o := a.opts
	dir, err := os.Getwd()
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "the directory this was started in")
	}
	at := func(path string) string {
		if path == "" || filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(dir, path)
	}
	if o.Dir = at(o.Dir); o.Dir == "" {
		o.Dir = dir
	}
	if len(o.Files) > 0 && o.Dir != dir && filepath.Dir(at(o.Files[0])) != o.Dir {
		return nil, fail.New(fail.Usage, "--project-directory: relative paths start where the first file is").
			Hint("put the first file there, or leave the flag out")
	}
	o.ProfileDir = at(o.ProfileDir)
	o.Files, o.EnvFiles = slices.Clone(o.Files), slices.Clone(o.EnvFiles)
	for i, f := range o.Files {
		if f == "-" {
			return nil, fail.New(fail.Usage, "-f -: a compose file is not read from standard input").Hint("write it to a file first")
		}
		o.Files[i] = at(f)
	}
	for i, f := range o.EnvFiles {
		o.EnvFiles[i] = at(f)
	}
	o.Environ, o.ContentDir = os.Environ(), contentDir("")
	p, err := loadProject(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := checkProject(p.Name); err != nil { // it was read in another process
		return nil, err
	}
	return p, settle(p)
}

// load is read with what there is to note told.
func (a *app) load(ctx context.Context) (*compose.Project, error) {
	p, err := a.read(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range p.Notes {
		a.note("%s", at(n.Place)+n.Text)
	}
	return p, nil
}

// at is a place in a file as the beginning of a line.
func at(p compose.Place) string {
	switch {
	case p.File == "":
		return ""
	case p.Line < 1:
		return p.File + ": "
	}
	return fmt.Sprintf("%s:%d: ", p.File, p.Line)
}

// note tells the user something in one line.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "safe-run: %s\n", plain.Line(fmt.Sprintf(format, args...)))
}

// did tells what was done, as docker compose does.
func (a *app) did(what, name, done string) {
	if a.progress != "quiet" {
		fmt.Fprintf(os.Stderr, " %s %s  %s\n", what, plain.Line(name), done)
	}
}

// projectName is the name of the project where that is all that is wanted:
// with -p the files need not be there.
func (a *app) projectName(ctx context.Context) (string, error) {
	if a.opts.ProjectName != "" {
		return a.opts.ProjectName, checkProject(a.opts.ProjectName)
	}
	p, err := a.load(ctx)
	if err != nil {
		return "", err
	}
	return p.Name, nil
}

// checkProject keeps to compose's names, which are part of filters and of
// names of containers.
func checkProject(name string) error {
	if len(name) > 63 || !regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`).MatchString(name) {
		return fail.New(fail.Usage, "%.80q is not the name of a project: it takes small letters, digits, \"-\" and \"_\", and starts with a letter or digit, at most 63", name)
	}
	return nil
}

// chosen are the services named, in the order of the project, with all they
// depend on if deps says so; all if none is named.
func chosen(p *compose.Project, names []string, deps bool) ([]compose.Service, error) {
	if len(names) == 0 {
		return p.Services, nil
	}
	by := map[string]*compose.Service{}
	for i := range p.Services {
		by[p.Services[i].Name] = &p.Services[i]
	}
	wanted := map[string]bool{}
	var want func(name string)
	want = func(name string) {
		s := by[name]
		if s == nil || wanted[name] {
			return
		}
		wanted[name] = true
		if deps {
			for _, d := range s.DependsOn {
				want(d.Service)
			}
		}
	}
	for _, n := range names {
		if by[n] == nil {
			return nil, noService(n, p)
		}
		want(n)
	}
	var out []compose.Service
	for _, s := range p.Services {
		if wanted[s.Name] {
			out = append(out, s)
		}
	}
	return out, nil
}

func noService(name string, p *compose.Project) error {
	var all []string
	for _, s := range p.Services {
		all = append(all, s.Name)
	}
	return fail.New(fail.NotFound, "no such service: %.80q", name).Hint("the services are: %s", strings.Join(all, ", "))
}
