package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/internal/volumes"
	"github.com/safe-run/safe-run/network"
)

// remover removes a container: force also one that runs, anonymous also its
// anonymous volumes.
type remover func(ctx context.Context, s *session, rec store.Record, force, anonymous bool) error

// systemVerb is the group `system`. Its other words are verbs of their own.
func systemVerb(remove remover) *cobra.Command {
	c := group("system", "All of safe-run: "+words("system"), systemDf(), systemPrune(remove))
	c.Long = "What safe-run has on this host: " + words("system") + ".\nevents and info are verbs of their own as well."
	return c
}

// containerVerb is the group `container`. Its other words are verbs of their
// own.
func containerVerb(remove remover) *cobra.Command {
	c := group("container", "Containers: "+words("container"), containerPrune(remove))
	c.Long = "The verbs for containers by the names of docker's group: " + words("container") + ".\nOnly prune is no verb of its own."
	return c
}

// confirmed asks a question as docker does; the end of the input is a no.
func confirmed(question string) bool {
	fmt.Print(question + " [y/N] ")
	answer, _ := bufio.NewReader(io.LimitReader(os.Stdin, 1024)).ReadString('\n')
	if !strings.HasSuffix(answer, "\n") {
		fmt.Println()
	}
	return strings.EqualFold(strings.TrimSpace(answer), "y")
}

// printDeleted prints what a prune removed, as docker does.
func printDeleted(what string, names []string) {
	if len(names) == 0 {
		return
	}
	fmt.Printf("Deleted %s:\n", what)
	for _, n := range names {
		fmt.Println(printable(n))
	}
	fmt.Println()
}

func containerPrune(remove remover) *cobra.Command {
	var e endpoint
	var force bool
	var words []string
	c := &cobra.Command{Use: "prune [OPTIONS]", Short: "Remove all containers that do not run", Args: exactly(0), RunE: func(c *cobra.Command, _ []string) error {
		by, err := filtersOf(words, "label", "label!", "until")
		if err != nil {
			return err
		}
		if !force && !confirmed("WARNING! This will remove all stopped containers.\nAre you sure you want to continue?") {
			return nil
		}
		return e.with(c.Context(), func(ctx context.Context, s *session) error {
			freed, err := pruneContainers(ctx, s, by, remove)
			fmt.Println("Total reclaimed space:", units.HumanSize(float64(freed)))
			return err
		})
	}}
	c.Example = `  safe-run container prune
  safe-run container prune -f --filter until=24h`
	e.flags(c)
	c.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	c.Flags().StringArrayVar(&words, "filter", nil, "only those with label=KEY[=VALUE], label!=KEY[=VALUE], until=TIME")
	return c
}

// pruneContainers removes the containers nobody supervises, and gives the
// bytes they held.
func pruneContainers(ctx context.Context, s *session, by filters, remove remover) (freed int64, err error) {
	until, err := by.until(time.Now())
	if err != nil {
		return 0, err
	}
	st := s.launcher.Store
	ids, err := st.IDs()
	if err != nil {
		return 0, err
	}
	var gone []string
	var errs error
	for _, id := range ids {
		rec, err := st.Load(id)
		if err != nil || st.Supervised(id) || rec.Address != s.launcher.Address || !by.labelled(rec.Labels) ||
			!until.IsZero() && !rec.Created.Before(until) {
			continue
		}
		size := containerSize(ctx, s, id)
		err = remove(ctx, s, rec, false, false)
		switch {
		case err == nil:
			gone = append(gone, id)
			freed += size
		case fail.KindOf(err) == fail.Conflict || fail.KindOf(err) == fail.NotFound: // started or gone meanwhile
		default:
			errs = errors.Join(errs, err)
		}
	}
	printDeleted("Containers", gone)
	return freed, errs
}

// containerSize gives the bytes a container has written: into its root file
// system, and by its output into the log.
func containerSize(ctx context.Context, s *session, id string) int64 {
	logs, _ := volumes.TreeSize(s.launcher.Store.LogDir(id))
	return logs + s.images.Written(ctx, id)
}

func pruneNetworks(by filters) error {
	until, err := by.until(time.Now())
	if err != nil {
		return err
	}
	s := networks()
	all, errs := s.List()
	var gone []string
	for _, d := range all {
		if d.Name == network.DefaultName || !by.labelled(d.Labels) || !until.IsZero() && !d.Created.Before(until) {
			continue
		}
		used, err := s.InUse(d.Name)
		if err == nil && !used {
			if err = s.Remove(d.Name); err == nil {
				gone = append(gone, d.Name)
			}
		}
		if fail.KindOf(err) != fail.Conflict { // taken meanwhile
			errs = errors.Join(errs, err)
		}
	}
	printDeleted("Networks", gone)
	return errs
}

func systemPrune(remove remover) *cobra.Command {
	var e endpoint
	var all, withVolumes, force bool
	var words []string
	c := &cobra.Command{Use: "prune [OPTIONS]", Short: "Remove what is not used", Args: exactly(0), RunE: func(c *cobra.Command, _ []string) error {
		by, err := filtersOf(words, "label", "label!", "until")
		if err != nil {
			return err
		}
		if withVolumes && len(by["until"]) > 0 {
			return fail.New(fail.Usage, `the "until" filter is not supported with "--volumes"`)
		}
		if !force && !confirmed(pruneQuestion(all, withVolumes)) {
			return nil
		}
		return e.with(c.Context(), func(ctx context.Context, s *session) error {
			freed, errs := pruneContainers(ctx, s, by, remove)
			errs = errors.Join(errs, pruneNetworks(by))
			if withVolumes {
				n, err := pruneVolumes(ctx, false, by)
				freed, errs = freed+n, errors.Join(errs, err)
			}
			n, err := pruneImages(ctx, s, all, by)
			freed, errs = freed+n, errors.Join(errs, err)
			fmt.Println("Total reclaimed space:", units.HumanSize(float64(freed)))
			return errs
		})
	}}
	c.Long = `Remove all containers that do not run, all networks no container is on, and all
images without a name that no container was made from.`
	c.Example = `  safe-run system prune
  safe-run system prune -a -f --volumes`
	e.flags(c)
	c.Flags().BoolVarP(&all, "all", "a", false, "also images with a name that no container has")
	c.Flags().BoolVar(&withVolumes, "volumes", false, "also anonymous volumes")
	c.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	c.Flags().StringArrayVar(&words, "filter", nil, "only those with label=KEY[=VALUE], label!=KEY[=VALUE], until=TIME")
	return c
}

func pruneQuestion(all, withVolumes bool) string {
	q := "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n"
	if withVolumes {
		q += "  - all anonymous volumes not used by at least one container\n"
	}
	if all {
		q += "  - all images without at least one container associated to them\n"
	} else {
		q += "  - all dangling images\n"
	}
	return q + "\nAre you sure you want to continue?"
}

// diskRow is a line of `system df`, with docker's names.
type diskRow struct{ Active, Reclaimable, Size, TotalCount, Type string }

func systemDf() *cobra.Command {
	var e endpoint
	var format string
	c := &cobra.Command{Use: "df [OPTIONS]", Short: "Show what takes space on the disk", Args: exactly(0), RunE: func(c *cobra.Command, _ []string) error {
		return e.with(c.Context(), func(ctx context.Context, s *session) error {
			rows, err := diskUse(ctx, s)
			if err != nil {
				return err
			}
			return renderTable(os.Stdout, listing(format, "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"), headings{
				"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE",
			}, rows)
		})
	}}
	c.Example = `  safe-run system df`
	e.flags(c)
	c.Flags().StringVar(&format, "format", "", "table, table TEMPLATE, json, or a Go template")
	return c
}

func diskUse(ctx context.Context, s *session) ([]diskRow, error) {
	st := s.launcher.Store
	uses, err := imageUses(st)
	if err != nil {
		return nil, err
	}
	list, err := s.images.List(ctx)
	if err != nil {
		return nil, err
	}
	var imageRow, containerRow, volumeRow diskSum
	content, unpacked, err := s.images.Disk(ctx)
	if err != nil {
		return nil, err
	}
	imageRow.size = content + unpacked
	for _, e := range list {
		used := false
		for _, u := range uses {
			used = used || u.Of(e)
		}
		imageRow.add(0, used)
		if !used { // layers that others share are counted here, as by docker
			imageRow.free += e.Content + e.Unpacked
		}
	}
	imageRow.free = min(imageRow.free, imageRow.size)
	ids, err := st.IDs()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		containerRow.add(containerSize(ctx, s, id), st.Supervised(id))
	}
	vs := volumes.In(st.Root)
	all, err := vs.List()
	if err != nil {
		return nil, err
	}
	for _, v := range all {
		size, _ := vs.Size(v.Name)
		users, err := volumes.Users(st, v.Name)
		if err != nil {
			return nil, err
		}
		volumeRow.add(size, len(users) > 0)
	}
	return []diskRow{
		imageRow.row("Images"), containerRow.row("Containers"), volumeRow.row("Local Volumes"), diskSum{}.row("Build Cache"),
	}, nil
}

type diskSum struct {
	total, active int
	size, free    int64
}

func (d *diskSum) add(size int64, active bool) {
	d.total++
	d.size += size
	if active {
		d.active++
	} else {
		d.free += size
	}
}

func (d diskSum) row(kind string) diskRow {
	r := diskRow{
		Type: kind, TotalCount: fmt.Sprint(d.total), Active: fmt.Sprint(d.active),
		Size: units.HumanSize(float64(d.size)), Reclaimable: units.HumanSize(float64(d.free)),
	}
	if d.size > 0 {
		r.Reclaimable += fmt.Sprintf(" (%d%%)", d.free*100/d.size)
	}
	return r
}
