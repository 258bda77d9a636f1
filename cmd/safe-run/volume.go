package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/internal/volumes"
)

func volumeVerb() *cobra.Command {
	return group("volume", "Volumes of containers: create, ls, inspect, rm, prune",
		volumeCreate(), volumeLs(), volumeInspect(), volumeRm(), volumePrune())
}

// openVolumes opens the state with the volumes in it.
func openVolumes() (*store.Store, volumes.Volumes, error) {
	if err := needRoot(); err != nil {
		return nil, "", err
	}
	root, run := place()
	st, err := store.Open(root, run)
	return st, volumes.In(root), err
}

func volumeCreate() *cobra.Command {
	var driver string
	var labels, options []string
	c := &cobra.Command{Use: "create [OPTIONS] [VOLUME]", Short: "Create a volume", Args: between(0, 1), RunE: func(c *cobra.Command, args []string) error {
		if driver != "local" {
			return fail.New(fail.Usage, "the volume driver %.80q is not known; there is only local", driver)
		}
		if len(options) > 0 {
			return fail.New(fail.Refused, "refused: --opt %.80q: options of the local driver mount any device, directory or remote file system of the host in a volume's place, past all checks of binds", options[0]).
				Hint("bind a directory with -v /PATH:/TARGET when the container is run")
		}
		named := map[string]string{}
		for _, l := range labels {
			key, value, _ := strings.Cut(l, "=")
			named[key] = value
		}
		name := ""
		if len(args) == 1 {
			name = args[0]
			if name == "" {
				return fail.New(fail.Usage, "the volume's name is empty").Hint("leave it out, and the volume gets a random one")
			}
		}
		_, vs, err := openVolumes()
		if err != nil {
			return err
		}
		v, err := vs.Create(c.Context(), name, named)
		if err == nil {
			fmt.Println(v.Name)
		}
		return err
	}}
	c.Long = `Create a volume and print its name; without one it gets a random name. A volume
that -v or --mount names is created by itself.`
	c.Example = `  safe-run volume create --label app=shop data
  safe-run run --rm -v data:/data busybox ls /data`
	f := c.Flags()
	f.StringVarP(&driver, "driver", "d", "local", "volume driver; there is only local")
	f.StringArrayVar(&labels, "label", nil, "note KEY=VALUE with the volume")
	f.StringArrayVarP(&options, "opt", "o", nil, "options of the driver; always refused")
	return c
}

// volumeRow is a volume as `ls --format` sees it, with docker's names.
type volumeRow struct {
	Availability, Driver, Group, Labels, Links, Mountpoint, Name, Scope, Size, Status string
}

func volumeLs() *cobra.Command {
	var quiet bool
	var format string
	var words []string
	c := &cobra.Command{Use: "ls [OPTIONS]", Aliases: []string{"list"}, Short: "List volumes", Args: exactly(0), RunE: func(*cobra.Command, []string) error {
		by, err := filtersOf(words, "name", "label", "dangling", "driver")
		if err != nil {
			return err
		}
		st, vs, err := openVolumes()
		if err != nil {
			return err
		}
		all, listed := vs.List()
		rows := []volumeRow{}
		for _, v := range all {
			keep, err := keepVolume(st, v, by)
			if err != nil {
				return err
			}
			if keep {
				rows = append(rows, volumeRow{
					Availability: "N/A", Group: "N/A", Links: "N/A", Size: "N/A", Status: "N/A",
					Driver: "local", Scope: "local", Name: v.Name, Mountpoint: v.Path, Labels: labelList(v.Labels),
				})
			}
		}
		if quiet && format == "" {
			format = "{{.Name}}"
		}
		return errors.Join(renderTable(os.Stdout, listing(format, "{{.Driver}}\t{{.Name}}"), headings{
			"Availability": "AVAILABILITY", "Driver": "DRIVER", "Group": "GROUP", "Labels": "LABELS", "Links": "LINKS",
			"Mountpoint": "MOUNTPOINT", "Name": "VOLUME NAME", "Scope": "SCOPE", "Size": "SIZE", "Status": "STATUS",
		}, rows), listed)
	}}
	c.Example = `  safe-run volume ls
  safe-run volume ls -q --filter dangling=true`
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "only names")
	c.Flags().StringVar(&format, "format", "", "table, table TEMPLATE, json, or a Go template")
	c.Flags().StringArrayVarP(&words, "filter", "f", nil, "only those with name=, label=KEY[=VALUE], dangling=true|false, driver=")
	return c
}

func keepVolume(st *store.Store, v volumes.Volume, by filters) (bool, error) {
	if !by.labelled(v.Labels) ||
		!by.has("name", func(want string) bool { return strings.Contains(v.Name, want) }) ||
		!by.has("driver", func(want string) bool { return want == "local" }) {
		return false, nil
	}
	if len(by["dangling"]) == 0 {
		return true, nil
	}
	users, err := volumes.Users(st, v.Name)
	if err != nil {
		return false, err
	}
	return by.is("dangling", len(users) == 0)
}

// labelList prints labels as docker's lists do.
func labelList(labels map[string]string) string {
	var l []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		l = append(l, k+"="+labels[k])
	}
	return strings.Join(l, ",")
}

// volumeDetails is a volume as docker's inspect shows it.
type volumeDetails struct {
	CreatedAt  string
	Driver     string
	Labels     map[string]string
	Mountpoint string
	Name       string
	Options    map[string]string
	Scope      string
}

// inspectVolume gives what inspect prints of a volume.
func inspectVolume(name string) (volumeDetails, error) {
	_, vs, err := openVolumes()
	if err != nil {
		return volumeDetails{}, err
	}
	v, err := vs.Load(name)
	return volumeDetails{
		CreatedAt: v.Created.UTC().Format(time.RFC3339), Driver: "local", Labels: v.Labels,
		Mountpoint: v.Path, Name: v.Name, Scope: "local",
	}, err
}

func volumeInspect() *cobra.Command {
	var format string
	c := &cobra.Command{Use: "inspect [OPTIONS] VOLUME [VOLUME...]", Short: "Print volumes as JSON", Args: atLeast(1), RunE: func(_ *cobra.Command, args []string) error {
		if format != "" && format != "json" {
			if err := checkTemplate(format); err != nil {
				return err
			}
		}
		found := []volumeDetails{}
		var errs error
		for _, a := range args {
			v, err := inspectVolume(a)
			if err != nil {
				errs = errors.Join(errs, err)
				continue
			}
			found = append(found, v)
		}
		if format != "" {
			return errors.Join(renderObjects(os.Stdout, format, found), errs)
		}
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "    ")
		e.SetEscapeHTML(false)
		return errors.Join(fail.Wrap(fail.Internal, e.Encode(found), "printing volumes"), errs)
	}}
	c.Example = `  safe-run volume inspect data
  safe-run volume inspect -f '{{.Mountpoint}}' data`
	c.Flags().StringVarP(&format, "format", "f", "", "json, or print each by a Go template")
	return c
}

func volumeRm() *cobra.Command {
	var force bool
	c := &cobra.Command{Use: "rm [OPTIONS] VOLUME [VOLUME...]", Aliases: []string{"remove"}, Short: "Remove volumes", Args: atLeast(1), RunE: func(c *cobra.Command, args []string) error {
		st, vs, err := openVolumes()
		if err != nil {
			return err
		}
		var errs error
		for _, a := range args {
			err := vs.DropUnused(c.Context(), st, a)
			if force && fail.KindOf(err) == fail.NotFound && err != nil {
				err = nil
			}
			if err == nil {
				fmt.Println(printable(a))
			}
			errs = errors.Join(errs, err)
		}
		return errs
	}}
	c.Long = `Remove volumes, with all that is in them. One that a container has, running or
not, stays.`
	c.Example = `  safe-run volume rm data`
	c.Flags().BoolVarP(&force, "force", "f", false, "no error for one that does not exist")
	return c
}

func volumePrune() *cobra.Command {
	var all, force bool
	var words []string
	c := &cobra.Command{Use: "prune [OPTIONS]", Short: "Remove volumes no container has", Args: exactly(0), RunE: func(c *cobra.Command, _ []string) error {
		by, err := filtersOf(words, "label", "label!", "all")
		if err != nil {
			return err
		}
		for _, v := range by["all"] {
			yes, err := strconv.ParseBool(v)
			if err != nil {
				return fail.New(fail.Usage, "invalid filter %.80q", "all="+v)
			}
			all = all || yes
		}
		what := "anonymous local volumes"
		if all {
			what = "all local volumes"
		}
		if !force && !confirmed("WARNING! This will remove "+what+" not used by at least one container.\nAre you sure you want to continue?") {
			return nil
		}
		freed, err := pruneVolumes(c.Context(), all, by)
		fmt.Println("Total reclaimed space:", units.HumanSize(float64(freed)))
		return err
	}}
	c.Long = `Remove the anonymous volumes no container has; with -a also those with a name.`
	c.Example = `  safe-run volume prune
  safe-run volume prune -a -f --filter label=app=shop`
	c.Flags().BoolVarP(&all, "all", "a", false, "also those with a name, not just anonymous ones")
	c.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	c.Flags().StringArrayVar(&words, "filter", nil, "only those with label=KEY[=VALUE], label!=KEY[=VALUE]")
	return c
}

// pruneVolumes removes the volumes no container has and gives the bytes that
// were in them.
func pruneVolumes(ctx context.Context, all bool, by filters) (freed int64, err error) {
	st, vs, err := openVolumes()
	if err != nil {
		return 0, err
	}
	list, errs := vs.List()
	errs = errors.Join(errs, vs.Tidy())
	var gone []string
	for _, v := range list {
		if !all && !v.Anonymous || !by.labelled(v.Labels) {
			continue
		}
		users, err := volumes.Users(st, v.Name)
		if err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		if len(users) > 0 {
			continue
		}
		size, _ := vs.Size(v.Name)
		err = vs.DropUnused(ctx, st, v.Name)
		switch {
		case err == nil:
			gone = append(gone, v.Name)
			freed += size
		case fail.KindOf(err) == fail.Conflict || fail.KindOf(err) == fail.NotFound: // taken or gone meanwhile
		default:
			errs = errors.Join(errs, err)
		}
	}
	printDeleted("Volumes", gone)
	return freed, errs
}
