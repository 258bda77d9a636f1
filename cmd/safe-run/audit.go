package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/safe-run/safe-run/audit"
	"github.com/safe-run/safe-run/internal/fail"
)

// foundCode is the exit code for findings that --fail-on or --min-score does
// not put up with. An error is 1.
const foundCode = 3

// auditor is one call of audit.
type auditor struct {
	filter
	all, asJSON, asSARIF, verbose bool
	pids                          []int
	format, failOn                string
	minScore                      int
}

func auditVerb() *cobra.Command {
	var a auditor
	c := &cobra.Command{
		Use: "audit [OPTIONS] [CONTAINER...]", Short: "Show what the kernel really enforces on running containers, with a score",
		Long: `Show what the kernel really enforces on running containers, whoever started
them: capabilities, users, namespaces, system call filter, mounts, devices,
limits, ports. Each weakness comes with its severity and with what to do.

A container is given by its name, its id or the start of it. Without one, all
that run are audited: safe-run's own, and those in any namespace (moby of docker,
k8s.io, nerdctl's default) of the containerds of this host. What runs without a
containerd (podman, CRI-O) is given by a process of it: --pid.

Everything is read from the host. Nothing is started, changed, or executed in
a container, and no containerd is started to answer.

The exit code is 0 whatever was found; 3 with --fail-on or --min-score if a
container is worse than that; 1 after an error.`,
		Example: `  safe-run audit
  safe-run audit -v web
  safe-run audit --fail-on high --json`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.check(args, c.Flags().Changed("format")); err != nil {
				return err
			}
			if err := needRoot(); err != nil {
				return err
			}
			return a.run(c.Context(), args)
		},
	}
	f := c.Flags()
	f.BoolVarP(&a.all, "all", "a", false, "all containers that run; the same as none named")
	f.StringVar(&a.address, "address", "", "only containers of the containerd with this socket")
	f.StringVar(&a.namespace, "namespace", "", "only containers in this namespace of containerd")
	f.IntSliceVar(&a.pids, "pid", nil, "the container this process is in, of whatever engine")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "also what is as it should be")
	f.BoolVar(&a.asJSON, "json", false, "print an array of reports as JSON")
	f.BoolVar(&a.asSARIF, "sarif", false, "print SARIF 2.1.0, for code scanning")
	f.StringVarP(&a.format, "format", "f", "", "json, or print each report by a Go template")
	f.StringVar(&a.failOn, "fail-on", "", "exit with 3 at a finding of this severity or above: low, medium, high, critical")
	f.IntVar(&a.minScore, "min-score", 0, "exit with 3 at a score below this, 0 to 100")
	return c
}

// check looks at the command line before anything is asked.
func (a *auditor) check(args []string, formatted bool) error {
	outputs := 0
	for _, o := range []bool{a.asJSON, a.asSARIF, formatted} {
		if o {
			outputs++
		}
	}
	switch {
	case outputs > 1:
		return fail.New(fail.Usage, "only one of --json, --sarif and --format can be printed")
	case a.all && (len(args) > 0 || len(a.pids) > 0):
		return fail.New(fail.Usage, "--all and the name of a container exclude each other")
	case a.minScore < 0 || a.minScore > 100:
		return fail.New(fail.Usage, "--min-score %d is not from 0 to 100", a.minScore)
	}
	if a.address != "" {
		a.address = filepath.Clean(strings.TrimPrefix(a.address, "unix://"))
	}
	if formatted && a.format != "json" {
		if _, err := parseTemplate(a.format); err != nil {
			return err
		}
	}
	_, err := a.threshold()
	return err
}

// threshold is the least severity that --fail-on does not put up with; one
// above all others without it.
func (a *auditor) threshold() (audit.Severity, error) {
	if a.failOn == "" {
		return audit.Critical + 1, nil
	}
	var s audit.Severity
	if err := s.UnmarshalText([]byte(a.failOn)); err == nil && s >= audit.Low {
		return s, nil
	}
	return 0, fail.New(fail.Usage, "--fail-on %.40q is not a severity", a.failOn).Hint("they are low, medium, high and critical")
}

func (a *auditor) run(ctx context.Context, args []string) error {
	seen, err := takeCensus(ctx, a.address)
	if err != nil {
		return err
	}
	for _, err := range seen.unasked {
		notice(err.Error())
	}
	named := len(args)+len(a.pids) > 0
	chosen, errs := a.choose(&seen, args)
	if !named && (a.failOn != "" || a.minScore > 0) {
		// Who asks for a verdict on all must not get one on some.
		errs = append(errs, seen.silent...)
	}
	reports, failed := a.reports(ctx, &seen, chosen, named)
	errs = append(errs, failed...)
	if len(reports) == 0 && !named && len(errs) == 0 {
		notice("no container is running" + a.where())
	}
	if len(reports) > 0 || len(errs) == 0 {
		if err := a.print(reports); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 && a.fails(reports) {
		return &exitError{foundCode}
	}
	return errors.Join(errs...)
}

// where says what the filter has left out of "none": a namespace with a typing
// error looks like a quiet host otherwise.
func (a *auditor) where() (s string) {
	if a.namespace != "" {
		s += " in namespace " + oneLine(a.namespace)
	}
	if a.address != "" {
		s += " of " + oneLine(a.address)
	}
	return s
}

// choose gives the containers to audit, each once.
func (a *auditor) choose(seen *census, args []string) (chosen []candidate, errs []error) {
	if len(args)+len(a.pids) == 0 {
		return seen.live(a.filter), nil
	}
	add := func(c candidate, err error) {
		switch {
		case err != nil:
			errs = append(errs, err)
		case !slices.ContainsFunc(chosen, func(o candidate) bool { return o.PID == c.PID }):
			chosen = append(chosen, c)
		}
	}
	for _, ref := range args {
		add(seen.find(ref, a.filter))
	}
	for _, pid := range a.pids {
		add(seen.byPID(pid))
	}
	return chosen, errs
}

// reports audits some containers at a time, and keeps their order. One that
// ends meanwhile is an error only if it was named.
func (a *auditor) reports(ctx context.Context, seen *census, chosen []candidate, named bool) (out []audit.Report, failed []error) {
	all, errs := make([]*audit.Report, len(chosen)), make([]error, len(chosen))
	kernel := kernelRelease()
	seen.meet()
	var g errgroup.Group
	g.SetLimit(4)
	for i, c := range chosen {
		g.Go(func() error {
			if errs[i] = ctx.Err(); errs[i] != nil {
				return nil // reported below
			}
			all[i], errs[i] = look(c, seen.neighbours(c), kernel)
			return nil
		})
	}
	_ = g.Wait()
	out = []audit.Report{} // an array in JSON, also if there are none
	for i, r := range all {
		switch err := errs[i]; {
		case err == nil:
			out = append(out, *r)
		case !named && fail.KindOf(err) == fail.NotFound:
			notice(oneLine(chosen[i].title()) + " has ended")
		default:
			failed = append(failed, fail.Wrap(fail.KindOf(err), err, "%s", oneLine(chosen[i].title())))
		}
	}
	return out, failed
}

// another says whether a process that began then is not the one the engine
// meant.
func (c candidate) another(started time.Duration) bool { return c.asked > 0 && started > c.asked }

// look audits one container.
func look(c candidate, others []audit.Neighbour, kernel string) (*audit.Report, error) {
	r := &audit.Report{Subject: c.Subject, Time: time.Now().UTC(), Kernel: kernel}
	var err error
	if r.Facts, err = audit.Look(c.PID); err != nil {
		return nil, err
	}
	// A number is given to another process as soon as its own has ended.
	if c.another(r.Facts.Started) {
		return nil, fail.New(fail.NotFound, "process %d has ended", c.PID)
	}
	var s *specs.Spec
	if len(c.raw) > 0 {
		s = new(specs.Spec)
		if err := json.Unmarshal(c.raw, s); err != nil {
			notice(oneLine(c.title()) + ": its specification cannot be read, so the kernel was not compared with it")
			s = nil
		}
	}
	r.Findings, r.Score = audit.Grade(r.Facts, s, others)
	if r.Findings == nil {
		r.Findings = []audit.Finding{} // an array in JSON
	}
	slices.SortStableFunc(r.Findings, func(a, b audit.Finding) int { return int(b.Severity) - int(a.Severity) })
	return r, nil
}

// fails says whether a report is worse than asked for.
func (a *auditor) fails(reports []audit.Report) bool {
	limit, _ := a.threshold() // checked before
	return slices.ContainsFunc(reports, func(r audit.Report) bool {
		return r.Score < a.minScore || worst(r) >= limit
	})
}

func (a *auditor) print(reports []audit.Report) error {
	switch {
	case a.asJSON:
		return printJSON(os.Stdout, reports, true)
	case a.asSARIF:
		return printSARIF(os.Stdout, reports, time.Now())
	case a.format != "":
		return render(os.Stdout, a.format, reports)
	}
	// Not through put: it would take the colours for an attack. All strings of
	// others are made safe one by one.
	_, err := io.WriteString(os.Stdout, auditText(reports, terminalStyle(a.verbose)))
	return fail.Wrap(fail.Internal, err, "printing")
}
