package main

import (
	"fmt"
	"os"
	"sort"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/images"
	"github.com/safe-run/safe-run/internal/store"
)

func psVerb() *cobra.Command {
	var all, quiet, noTrunc bool
	c := &cobra.Command{Use: "ps [OPTIONS]", Short: "List containers", Args: exactly(0), RunE: func(*cobra.Command, []string) error {
		root, run := place()
		st, err := store.Open(root, run)
		if err != nil {
			return err
		}
		ids, err := st.IDs()
		if err != nil {
			return err
		}
		var recs []store.Record
		for _, id := range ids {
			if r, err := st.Load(id); err == nil && (all || st.Supervised(id)) {
				recs = append(recs, r)
			}
		}
		sort.Slice(recs, func(i, j int) bool { return recs[i].Created.After(recs[j].Created) })
		w := tabwriter.NewWriter(os.Stdout, 0, 8, 3, ' ', 0)
		if !quiet {
			fmt.Fprintln(w, "CONTAINER ID\tIMAGE\tCREATED\tSTATUS\tNAMES")
		}
		for _, r := range recs {
			id := r.ID
			if !noTrunc {
				id = id[:12]
			}
			if quiet {
				fmt.Fprintln(w, id)
				continue
			}
			status := "Up"
			if !st.Supervised(r.ID) {
				status = fmt.Sprintf("Exited (%d)", r.ExitCode)
				if r.Phase != store.PhaseExited {
					status = "Dead" // its supervisor is; the next command that may change anything cleans up
				}
			}
			fmt.Fprintf(w, "%s\t%s\t%s ago\t%s\t%s\n", id, printable(images.Familiar(r.Image)), units.HumanDuration(time.Since(r.Created)), status, r.Name)
		}
		return w.Flush()
	}}
	c.Flags().BoolVarP(&all, "all", "a", false, "also those that have ended")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "only ids")
	c.Flags().BoolVar(&noTrunc, "no-trunc", false, "full ids")
	return c
}
