package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/doctor"
	"github.com/safe-run/safe-run/internal/engine"
	"github.com/safe-run/safe-run/launcher"
	"github.com/safe-run/safe-run/policy"
)

func doctorVerb() *cobra.Command {
	var e endpoint
	var asJSON, all bool
	c := &cobra.Command{
		Use: "doctor [OPTIONS]", Short: "Say what this host can enforce, and how to get what it cannot", Args: exactly(0),
		Long: `Say what this host can enforce, and how to get what it cannot.

It starts and changes nothing. Marks: ok; note, something few need is not there; WARN, a layer is missing or a part of
safe-run does not work; FAIL, launches are refused. It ends with 1 if something fails, else with 0.`,
		Example: `  safe-run doctor
  safe-run doctor --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			checks := doctor.Judge(doctor.Gather(c.Context(), doctorQuery(e)))
			if asJSON {
				if err := printJSON(os.Stdout, checks, true); err != nil {
					return err
				}
			} else {
				printChecks(os.Stdout, checks, all)
			}
			if doctor.Worst(checks) == doctor.Fail {
				return &exitError{code: 1}
			}
			return nil
		},
	}
	e.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "a list of checks as JSON")
	c.Flags().BoolVarP(&all, "all", "a", false, "show what is in order one by one, not as a line for each area")
	return c
}

// doctorQuery says where a launch with these flags would look.
func doctorQuery(e endpoint) doctor.Query {
	root, run := place()
	q := doctor.Query{
		Engine: engine.Request{Flag: e.address, Getenv: os.Getenv, Root: root, State: run},
		Root:   root, State: run,
		Ask: func(ctx context.Context, address string) (string, []string, error) {
			client, err := dial(address, launcher.DefaultNamespace)
			if err != nil {
				return "", nil, err
			}
			defer client.Close()
			v, err := client.Version(ctx)
			if err != nil {
				return "", nil, err
			}
			capabilities, err := client.GetSnapshotterCapabilities(ctx, "overlayfs")
			return v.Version, capabilities, err
		},
	}
	site, err := policy.LoadSite(sitePolicy)
	q.Policy = err // none at all is no error
	q.Old = site.AllowOldRuntime
	bin, _ := engine.Locate()
	q.Init = initIn(bin)
	q.Parser, _ = findSystem("apparmor_parser")
	return q
}

// printChecks prints the areas in their order; what is in order, as one line
// of each area unless all is asked for.
func printChecks(w io.Writer, checks []doctor.Check, all bool) {
	marks := map[doctor.Level]string{doctor.OK: "ok  ", doctor.Note: "note", doctor.Warn: "WARN", doctor.Fail: "FAIL"}
	count := map[doctor.Level]int{}
	for i := 0; i < len(checks); {
		area := checks[i].Area
		var good []string
		var rest []doctor.Check
		for ; i < len(checks) && checks[i].Area == area; i++ {
			count[checks[i].Level]++
			if checks[i].Level == doctor.OK && !all {
				good = append(good, checks[i].Found)
			} else {
				rest = append(rest, checks[i])
			}
		}
		fmt.Fprintln(w, area)
		if len(good) > 0 {
			fmt.Fprintf(w, "  ok    %s\n", printable(strings.Join(good, "; ")))
		}
		for _, c := range rest {
			fmt.Fprintf(w, "  %s  %s\n", marks[c.Level], printable(c.Found))
			if c.Fix != "" {
				fmt.Fprintf(w, "        %s\n", printable(asCalled(c.Fix)))
			}
		}
	}
	verdict := "This host runs containers with all that safe-run enforces."
	switch {
	case count[doctor.Fail] > 0:
		verdict = "Launches are refused until what fails is mended."
	case count[doctor.Warn] > 0:
		verdict = "Containers run here; see the warnings."
	}
	fmt.Fprintf(w, "\n%s (%d ok, %s, %s, %s)\n", verdict, count[doctor.OK],
		plural(count[doctor.Note], "note"), plural(count[doctor.Warn], "warning"), plural(count[doctor.Fail], "failure"))
}
