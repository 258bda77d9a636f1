package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/network"
)

func networkVerb() *cobra.Command {
	c := group("network", "Networks of containers: create, ls, inspect, rm")
	c.AddCommand(networkCreate(), networkLs(), networkInspect(), networkRm())
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
			fmt.Fprintln(os.Stderr, "safe-run: containers on this network cannot reach each other; create it with --icc if they shall")
		}
		return nil
	}}
	f := c.Flags()
	f.BoolVar(&o.Internal, "internal", false, "no way out of the network, and none in from outside")
	f.BoolVar(&o.ICC, "icc", false, "its containers reach each other, by name")
	f.BoolVar(&o.IPv6, "ipv6", false, "also IPv6")
	f.StringArrayVar(&subnets, "subnet", nil, "range of addresses, as 10.1.2.0/24; once for each family")
	f.StringArrayVar(&labels, "label", nil, "note KEY=VALUE with the network")
	f.StringVarP(&driver, "driver", "d", "bridge", "kind of network")
	return c
}

func networkLs() *cobra.Command {
	var quiet, noTrunc bool
	c := &cobra.Command{Use: "ls [OPTIONS]", Aliases: []string{"list"}, Short: "List networks", Args: exactly(0), RunE: func(*cobra.Command, []string) error {
		all, unread := networks().List()
		w := tabwriter.NewWriter(os.Stdout, 0, 8, 3, ' ', 0)
		if !quiet {
			fmt.Fprintln(w, "NETWORK ID\tNAME\tDRIVER\tSUBNETS\tOPTIONS")
		}
		for _, d := range all {
			id := d.ID
			if !noTrunc {
				id = id[:12]
			}
			if quiet {
				fmt.Fprintln(w, id)
				continue
			}
			var subnets, options []string
			for _, s := range d.Subnets {
				subnets = append(subnets, s.String())
			}
			if d.Internal {
				options = append(options, "internal")
			}
			if d.ICC {
				options = append(options, "icc")
			}
			fmt.Fprintf(w, "%s\t%s\tbridge\t%s\t%s\n", id, d.Name, strings.Join(subnets, ","), strings.Join(options, ","))
		}
		return errors.Join(w.Flush(), unread)
	}}
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "only ids")
	c.Flags().BoolVar(&noTrunc, "no-trunc", false, "full ids")
	return c
}

func networkInspect() *cobra.Command {
	return &cobra.Command{Use: "inspect NETWORK...", Short: "Print networks as JSON", Args: atLeast(1), RunE: func(_ *cobra.Command, args []string) error {
		s := networks()
		found := []network.Inspection{}
		var errs error
		for _, a := range args {
			i, err := s.Inspect(a)
			if err != nil {
				errs = errors.Join(errs, err)
				continue
			}
			found = append(found, i)
		}
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "    ")
		e.SetEscapeHTML(false)
		return errors.Join(fail.Wrap(fail.Internal, e.Encode(found), "printing networks"), errs)
	}}
}

func networkRm() *cobra.Command {
	return &cobra.Command{Use: "rm NETWORK...", Aliases: []string{"remove"}, Short: "Remove networks", Args: atLeast(1), RunE: func(_ *cobra.Command, args []string) error {
		if err := needRoot(); err != nil {
			return err
		}
		s := networks()
		var errs error
		for _, a := range args {
			d, err := s.Find(a)
			switch {
			case err == nil:
				err = s.Remove(d.Name)
			case fail.KindOf(err) != fail.NotFound: // one that cannot be read can still be removed
				err = s.Remove(a)
			}
			if err == nil {
				fmt.Println(printable(a))
			}
			errs = errors.Join(errs, err)
		}
		return errs
	}}
}
