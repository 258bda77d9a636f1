package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/check"
	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/policy"
)

// exitFound says that something would not be run as it stands; 1 is for files
// that cannot be read.
const exitFound = 3

func checkVerb() *cobra.Command {
	var kind string
	var asJSON, noSite bool
	c := &cobra.Command{
		Use:   "check [OPTIONS] FILE...",
		Short: "Grade the docker run lines of scripts, units and compose files, without running them",
		Long: `Grade the docker run lines of shell scripts, systemd units, quadlets and compose
files: what safe-run would refuse of each, what it would not honour, and the line
that would be run instead. Nothing of a file is executed, and no file it names is
opened. The FILE - is standard input. It needs neither root nor an engine.

The exit code is 0 if nothing that is known is refused, 3 if something is refused
or cannot be honoured, and 1 if a file cannot be read.`,
		Example: `  safe-run check deploy.sh docker-compose.yml
  echo 'docker run --privileged nginx' | safe-run check -`,
		Args: atLeast(1),
		RunE: func(c *cobra.Command, files []string) error {
			o := check.Options{Type: check.Type(kind)}
			if kind != "" && !check.Known(o.Type) {
				return fail.New(fail.Usage, "--type takes shell, unit, compose or quadlet, not %.40q", kind)
			}
			for _, v := range c.Root().Commands() {
				o.Verbs = append(append(o.Verbs, v.Name()), v.Aliases...)
			}
			if !noSite {
				var err error
				if o.Site, err = policy.LoadSite(sitePolicy); err != nil {
					return err
				}
			}
			return checkFiles(files, o, asJSON)
		},
	}
	c.Flags().StringVar(&kind, "type", "", "shell, unit, compose or quadlet; by name and content if not given")
	c.Flags().BoolVar(&asJSON, "json", false, "print the findings as JSON")
	c.Flags().BoolVar(&noSite, "no-site", false, "judge by the built-in policy, not by this site's")
	return c
}

// checkFiles prints what there is to say of each file; one that cannot be read
// does not keep the others from it.
func checkFiles(files []string, o check.Options, asJSON bool) error {
	caller, err := cli.CallerOf(os.Geteuid(), os.LookupEnv)
	if err != nil {
		return err
	}
	reports := []*check.Report{}
	found, unread := false, false
	for _, name := range files {
		r, err := checkFile(name, caller, o)
		if err != nil {
			printError(os.Stderr, err)
			unread = true
			continue
		}
		found = found || r.Found()
		reports = append(reports, r)
		if !asJSON {
			if err := r.WriteText(os.Stdout); err != nil {
				return fail.Wrap(fail.Internal, err, "printing")
			}
		}
	}
	if asJSON {
		if err := printJSON(os.Stdout, struct {
			Files []*check.Report `json:"files"`
		}{reports}, true); err != nil {
			return err
		}
	} else if len(reports) > 0 {
		fmt.Println(sumUp(reports))
	}
	switch {
	case unread:
		return &exitError{1}
	case found:
		return &exitError{exitFound}
	}
	return nil
}

func checkFile(name string, caller *cli.Caller, o check.Options) (*check.Report, error) {
	if name != "-" {
		data, err := caller.ReadFile(name, check.MaxFile)
		if err != nil {
			return nil, err
		}
		return check.Look(name, data, o)
	}
	data, err := io.ReadAll(io.LimitReader(os.Stdin, check.MaxFile+1))
	if err != nil {
		return nil, fail.Wrap(fail.Usage, err, "reading standard input")
	}
	return check.Look("stdin", data, o)
}

// sumUp is the last line: how many launches there are, and of which verdict.
func sumUp(reports []*check.Report) string {
	n := map[check.Verdict]int{}
	all := 0
	for _, r := range reports {
		for _, l := range r.Launches {
			n[l.Verdict]++
			all++
		}
	}
	noun := "launches"
	if all == 1 {
		noun = "launch"
	}
	return fmt.Sprintf("%d %s: %d refused, %d with flags that cannot be honoured, %d not all known, %d accepted",
		all, noun, n[check.Refused], n[check.NotHonoured], n[check.Unknown], n[check.Accepted])
}
