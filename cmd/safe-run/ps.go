package main

import (
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/dockerjson"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
)

// psOptions say which containers ps lists.
type psOptions struct {
	all     bool // also those that do not run
	last    int  // only so many, the newest, also those that do not run; < 1: any number
	noTrunc bool
	filters filters
}

func psVerb() *cobra.Command {
	var o psOptions
	var e endpoint
	var quiet, latest, size bool
	var format string
	var words []string
	c := &cobra.Command{Use: "ps [OPTIONS]", Short: "List containers", Args: exactly(0), RunE: func(c *cobra.Command, _ []string) (err error) {
		if o.filters, err = filtersOf(words, psFilters()...); err != nil {
			return err
		}
		if latest && o.last < 1 {
			o.last = 1
		}
		if err := needRoot(); err != nil {
			return err
		}
		root, run := place()
		st, err := store.Open(root, run)
		if err != nil {
			return err
		}
		rows, err := list(st, o)
		if err != nil {
			return err
		}
		if size && !quiet {
			if err := measure(c.Context(), &e, rows); err != nil {
				return err
			}
		}
		return printContainers(rows, format, quiet, size)
	}}
	c.Long = `List the containers that run; with -a all that there are.`
	c.Example = `  safe-run ps -a
  safe-run ps -q --filter label=app=shop
  safe-run ps --format 'table {{.Names}}\t{{.Status}}\t{{.Ports}}'`
	e.flags(c)
	f := c.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "also those that have ended")
	f.BoolVarP(&quiet, "quiet", "q", false, "only ids")
	f.BoolVarP(&latest, "latest", "l", false, "only the newest, running or not")
	f.IntVarP(&o.last, "last", "n", -1, "only the N newest, running or not")
	f.BoolVarP(&size, "size", "s", false, "also their sizes on disk")
	f.BoolVar(&o.noTrunc, "no-trunc", false, "nothing shortened")
	f.StringVar(&format, "format", "", "table, table TEMPLATE, json, or a Go template")
	f.StringArrayVarP(&words, "filter", "f", nil, "only those with KEY=VALUE: id, name, label, status, ancestor, exited, health, network, volume, publish, expose, before, since")
	return c
}

// list gives the containers that ps shows, the newest first. It reads nothing
// but the state on disk, and starts and changes nothing.
func list(st *store.Store, o psOptions) ([]psRow, error) {
	ids, err := st.IDs()
	if err != nil {
		return nil, err
	}
	all := make([]psRow, 0, len(ids))
	for _, id := range ids {
		r, err := st.Load(id)
		if err != nil {
			continue // being made or removed
		}
		all = append(all, psRow{st: st, rec: r, noTrunc: o.noTrunc, now: time.Now(), seen: &seen{}})
	}
	slices.SortFunc(all, func(a, b psRow) int { return b.rec.Created.Compare(a.rec.Created) })
	keep, err := o.keeper(st)
	if err != nil {
		return nil, err
	}
	rows := all[:0]
	for _, r := range all {
		if o.last > 0 && len(rows) == o.last {
			break
		}
		if ok, err := keep(r); err != nil {
			return nil, err
		} else if ok {
			rows = append(rows, r)
		}
	}
	return rows, nil
}

func printContainers(rows []psRow, format string, quiet, size bool) error {
	switch {
	case quiet:
		format = "{{.ID}}"
	case format == "" || format == "table":
		format = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
		if size {
			format += "\t{{.Size}}"
		}
	case format == "raw":
		format = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{.State}}\n" +
			"status: {{.Status}}\nnames: {{.Names}}\nlabels: {{.Labels}}\nports: {{.Ports}}\n"
	}
	return renderTable(os.Stdout, format, headings{
		"ID": "CONTAINER ID", "Image": "IMAGE", "Command": "COMMAND", "CreatedAt": "CREATED AT", "RunningFor": "CREATED",
		"Status": "STATUS", "State": "STATE", "Ports": "PORTS", "Names": "NAMES", "Size": "SIZE", "Labels": "LABELS",
		"Mounts": "MOUNTS", "LocalVolumes": "LOCAL VOLUMES", "Networks": "NETWORKS", "HealthStatus": "HEALTH STATUS",
	}, rows)
}

// psFilters are docker's.
func psFilters() []string {
	return []string{
		"id", "name", "label", "status", "ancestor", "exited", "health", "network", "volume", "publish", "expose",
		"before", "since", "is-task",
	}
}

// keeper checks the filters' values and gives the test of one container.
func (o *psOptions) keeper(st *store.Store) (func(psRow) (bool, error), error) {
	f := o.filters
	for _, s := range f["status"] {
		if !slices.Contains([]string{"created", "running", "paused", "restarting", "removing", "exited", "dead"}, s) {
			return nil, fail.New(fail.Usage, "invalid filter 'status=%.40s'", s)
		}
		o.all = true
	}
	for _, s := range f["health"] {
		if !slices.Contains([]string{"starting", "healthy", "unhealthy", "none"}, s) {
			return nil, fail.New(fail.Usage, "invalid filter 'health=%.40s'", s)
		}
	}
	for _, s := range f["exited"] {
		if _, err := strconv.Atoi(s); err != nil {
			return nil, fail.New(fail.Usage, "invalid filter 'exited=%.40s'", s)
		}
	}
	if ok, err := f.is("is-task", false); err != nil || !ok {
		return func(psRow) (bool, error) { return false, nil }, err
	}
	names, err := patterns(f["name"])
	if err != nil {
		return nil, err
	}
	ids, err := patterns(f["id"])
	if err != nil {
		return nil, err
	}
	var before, since time.Time
	for key, to := range map[string]*time.Time{"before": &before, "since": &since} {
		for _, ref := range f[key] {
			r, err := st.Find(ref)
			if err != nil {
				return nil, err
			}
			*to = r.Created
		}
	}
	ports, err := portFilters(f)
	if err != nil {
		return nil, err
	}
	return func(r psRow) (bool, error) {
		switch {
		case !names.match(dockerjson.Name(r.rec), "/"+dockerjson.Name(r.rec)),
			!ids.match(r.rec.ID),
			!f.labelled(r.rec.Labels),
			!before.IsZero() && !r.rec.Created.Before(before),
			!since.IsZero() && !r.rec.Created.After(since):
			return false, nil
		}
		// From here on it takes more than the record.
		state := r.State()
		if !o.all && o.last < 1 && !dockerjson.IsRunning(state) {
			return false, nil
		}
		return f.has("status", func(v string) bool { return v == state }) &&
			f.has("exited", func(v string) bool {
				return v == strconv.Itoa(r.rec.ExitCode) && state == dockerjson.Exited
			}) &&
			f.has("health", func(v string) bool { return v == or(r.HealthStatus(), "none") }) &&
			f.has("ancestor", r.madeFrom) &&
			f.has("network", r.on) &&
			f.has("volume", r.mounts) &&
			ports(r), nil
	}, nil
}

// MarshalJSON gives the fields of docker's `ps --format json`.
func (r psRow) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Command, CreatedAt, ID, Image, Labels, LocalVolumes, Mounts, Names, Networks, Ports, RunningFor, Size, State, Status string
	}{
		r.Command(), r.CreatedAt(), r.ID(), r.Image(), r.Labels(), r.LocalVolumes(), r.Mounts(), r.Names(), r.Networks(),
		r.Ports(), r.RunningFor(), r.Size(), r.State(), r.Status(),
	})
}
