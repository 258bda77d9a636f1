package main

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/dockerjson"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/network"
)

func networkVerb() *cobra.Command {
	c := group("network", "Networks of containers: create, ls, inspect, rm, prune")
	c.AddCommand(networkCreate(), networkLs(), networkInspect(), networkRm(), networkPrune())
	return c
}

// networks opens the store of networks.
func networks() network.Store {
	root, run := place()
	return network.Open(root, run).Store
}

func networkCreate() *cobra.Command {
	var o network.Options
	var labels, subnets []string
	var driver string
	c := &cobra.Command{Use: "create [OPTIONS] NETWORK", Short: "Create a network", Args: exactly(1), RunE: func(_ *cobra.Command, args []string) error {
		if driver != "bridge" {
			return fail.New(fail.Usage, "the driver %q is not known; networks of other kinds are CNI's: /etc/cni/net.d", driver)
		}
		if err := needRoot(); err != nil {
			return err
		}
		for _, l := range labels {
			key, value, _ := strings.Cut(l, "=")
			if key == "" {
				return fail.New(fail.Usage, "a label needs a name: %q", l)
			}
			if o.Labels == nil {
				o.Labels = map[string]string{}
			}
			o.Labels[key] = value
		}
		for _, v := range subnets {
			p, err := netip.ParsePrefix(v)
			if err != nil || p != p.Masked() {
				return fail.New(fail.Usage, "%.80q is not a range of addresses such as 10.1.2.0/24", v)
			}
			o.Subnets = append(o.Subnets, p)
		}
		o.Name = args[0]
		d, err := networks().Create(o)
		if err != nil {
			return err
		}
		fmt.Println(d.ID)
		if !d.ICC {
			notice("containers on this network cannot reach each other; create it with --icc if they shall")
		}
		return nil
	}}
	c.Long = `Create a network. Unlike docker's, its containers do not reach each other unless
--icc is given; then they do, and find each other by name.`
	c.Example = `  safe-run network create --icc app
  safe-run network create --icc --internal --subnet 10.9.0.0/24 db
  safe-run run -d --name web --network app --network db nginx`
	f := c.Flags()
	f.BoolVar(&o.Internal, "internal", false, "no way out of the network, and none in from outside")
	f.BoolVar(&o.ICC, "icc", false, "its containers reach each other, by name")
	f.BoolVar(&o.IPv6, "ipv6", false, "also IPv6")
	f.StringArrayVar(&subnets, "subnet", nil, "range of addresses, as 10.1.2.0/24; once for each family")
	f.StringArrayVar(&labels, "label", nil, "note KEY=VALUE with the network")
	f.StringVarP(&driver, "driver", "d", "bridge", "kind of network")
	return c
}

// networkRow is a network as --format sees it, with docker's names.
type networkRow struct {
	ID, Name, Driver, Scope, Labels string
	IPv4, IPv6, Internal, ICC       bool
	CreatedAt                       string
	Subnets                         []string
}

// Options are those that are on.
func (r networkRow) Options() string {
	var on []string
	if r.Internal {
		on = append(on, "internal")
	}
	if r.ICC {
		on = append(on, "icc")
	}
	return strings.Join(on, ",")
}

func networkLs() *cobra.Command {
	var quiet, noTrunc bool
	var format string
	var filters []string
	c := &cobra.Command{Use: "ls [OPTIONS]", Aliases: []string{"list"}, Short: "List networks", Args: exactly(0), RunE: func(*cobra.Command, []string) error {
		keep, err := networkFilter(filters)
		if err != nil {
			return err
		}
		all, listed := networks().List() // those that can be read, with the error about others
		rows := []networkRow{}
		for _, d := range all {
			if !keep(d) {
				continue
			}
			r := networkRow{
				ID: d.ID, Name: d.Name, Driver: "bridge", Scope: "local", IPv4: d.V4().IsValid(), IPv6: d.V6().IsValid(),
				Internal: d.Internal, ICC: d.ICC, CreatedAt: d.Created.Format("2006-01-02 15:04:05 -0700 MST"),
			}
			if !noTrunc {
				r.ID = d.ID[:12]
			}
			for _, s := range d.Subnets {
				r.Subnets = append(r.Subnets, s.String())
			}
			var labels []string
			for _, k := range slices.Sorted(maps.Keys(d.Labels)) {
				labels = append(labels, k+"="+d.Labels[k])
			}
			r.Labels = strings.Join(labels, ",")
			rows = append(rows, r)
		}
		if quiet {
			format = "{{.ID}}"
		}
		columns := "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}\t{{join .Subnets \",\"}}\t{{.Options}}"
		return errors.Join(renderTable(os.Stdout, listing(format, columns), headings{
			"ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "Subnets": "SUBNETS", "Options": "OPTIONS",
			"IPv4": "IPV4", "IPv6": "IPV6", "Internal": "INTERNAL", "ICC": "ICC", "Labels": "LABELS", "CreatedAt": "CREATED AT",
		}, rows), listed)
	}}
	c.Example = `  safe-run network ls --filter type=custom`
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "only ids")
	c.Flags().BoolVar(&noTrunc, "no-trunc", false, "full ids")
	c.Flags().StringVar(&format, "format", "", "print each by a Go template, or json")
	c.Flags().StringArrayVarP(&filters, "filter", "f", nil, "only those with name=, id=, driver=, label=KEY[=VALUE], type=custom|builtin")
	return c
}

// networkFilter reads docker's filters: of one key any value, of all keys one.
func networkFilter(filters []string) (func(network.Definition) bool, error) {
	by := map[string][]string{}
	for _, f := range filters {
		key, value, ok := strings.Cut(f, "=")
		if !ok || !slices.Contains([]string{"name", "id", "driver", "label", "type", "scope"}, key) {
			return nil, fail.New(fail.Usage, "invalid filter %.80q", f)
		}
		by[key] = append(by[key], value)
	}
	return func(d network.Definition) bool {
		for key, values := range by {
			if !slices.ContainsFunc(values, func(v string) bool { return networkHas(d, key, v) }) {
				return false
			}
		}
		return true
	}, nil
}

func networkHas(d network.Definition, key, value string) bool {
	switch key {
	case "name":
		return strings.Contains(d.Name, value)
	case "id":
		return strings.HasPrefix(d.ID, value)
	case "driver":
		return value == "bridge"
	case "scope":
		return value == "local"
	case "type":
		return (value == "builtin") == (d.Name == network.DefaultName)
	}
	name, want, valued := strings.Cut(value, "=")
	got, ok := d.Labels[name]
	return ok && (!valued || got == want)
}

func networkInspect() *cobra.Command {
	var format string
	c := &cobra.Command{Use: "inspect NETWORK...", Short: "Print networks as JSON", Args: atLeast(1), RunE: func(_ *cobra.Command, args []string) error {
		if format != "" && format != "json" {
			if err := checkTemplate(format); err != nil {
				return err
			}
		}
		found := []network.Inspection{}
		var errs error
		for _, a := range args {
			i, err := inspectNetwork(a)
			if err != nil {
				errs = errors.Join(errs, err)
				continue
			}
			found = append(found, i)
		}
		return errors.Join(renderObjects(os.Stdout, format, found), errs)
	}}
	c.Example = `  safe-run network inspect app
  safe-run network inspect -f '{{range .IPAM.Config}}{{.Subnet}} {{end}}' app`
	c.Flags().StringVarP(&format, "format", "f", "", "print each by a Go template, or json")
	return c
}

// inspectNetwork describes a network; what its containers are called their
// records know.
func inspectNetwork(ref string) (network.Inspection, error) {
	i, err := networks().Inspect(ref)
	if err != nil {
		return i, err
	}
	root, run := place()
	records, err := store.Open(root, run)
	if err != nil {
		return i, err
	}
	for id, a := range i.Containers {
		rec, err := records.Load(id)
		if err != nil {
			continue // it is going
		}
		a.Name = dockerjson.Name(rec)
		i.Containers[id] = a
	}
	return i, nil
}

func networkRm() *cobra.Command {
	var force bool
	c := &cobra.Command{Use: "rm NETWORK...", Aliases: []string{"remove"}, Short: "Remove networks", Args: atLeast(1), RunE: func(_ *cobra.Command, args []string) error {
		if err := needRoot(); err != nil {
			return err
		}
		s := networks()
		var errs error
		for _, a := range args {
			d, err := s.Find(a)
			if force && fail.KindOf(err) == fail.NotFound {
				continue
			}
			if err == nil {
				err = s.Remove(d.Name)
			}
			if err == nil {
				fmt.Println(printable(a))
			}
			errs = errors.Join(errs, err)
		}
		return errs
	}}
	c.Long = `Remove networks no container is on.`
	c.Example = `  safe-run network rm app`
	c.Flags().BoolVarP(&force, "force", "f", false, "no error for one that does not exist")
	return c
}

func networkPrune() *cobra.Command {
	var force bool
	c := &cobra.Command{Use: "prune", Short: "Remove all networks no container uses", Args: exactly(0), RunE: func(*cobra.Command, []string) error {
		if err := needRoot(); err != nil {
			return err
		}
		if !force && !confirmed("WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue?") {
			return nil
		}
		s := networks()
		var removed []string
		all, errs := s.List()
		for _, d := range all {
			if d.Name == network.DefaultName {
				continue
			}
			if used, err := s.InUse(d.Name); used || err != nil {
				errs = errors.Join(errs, err)
				continue
			}
			err := s.Remove(d.Name)
			if err == nil {
				removed = append(removed, d.Name)
			}
			errs = errors.Join(errs, err)
		}
		printDeleted("Networks", removed)
		return errs
	}}
	c.Example = `  safe-run network prune -f`
	c.Flags().BoolVarP(&force, "force", "f", false, "do it")
	return c
}
