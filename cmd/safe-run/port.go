package main

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/dockerjson"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/network"
	"github.com/safe-run/safe-run/spec"
)

func portVerb() *cobra.Command {
	return &cobra.Command{Use: "port CONTAINER [PRIVATE_PORT[/PROTO]]", Short: "List the published ports of a container", Long: `List the published ports of a container, and where on the host each is; with a
port of the container only that one.`, Example: `  safe-run port web
  safe-run port web 80/tcp`, Args: between(1, 2), RunE: func(_ *cobra.Command, args []string) error {
		if err := needRoot(); err != nil {
			return err
		}
		root, run := place()
		st, err := store.Open(root, run)
		if err != nil {
			return err
		}
		rec, err := st.Find(args[0])
		if err != nil {
			return err
		}
		var ports []dockerjson.Port
		if s := stateOf(st, rec); s == dockerjson.Running || s == dockerjson.Paused {
			settings, err := network.ReadSettings(st.Dir(rec.ID))
			if err != nil {
				return err
			}
			ports = published(&settings)
		}
		lines, err := portLines(ports, args)
		for _, l := range lines {
			fmt.Println(l)
		}
		return err
	}}
}

// portLines are the lines `port` prints for its arguments.
func portLines(ports []dockerjson.Port, args []string) ([]string, error) {
	slices.SortFunc(ports, func(a, b dockerjson.Port) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Proto, b.Proto), a.Host.Compare(b.Host), cmp.Compare(a.HostPort, b.HostPort))
	})
	var lines []string
	if len(args) == 1 {
		for _, p := range ports {
			lines = append(lines, fmt.Sprintf("%d/%s -> %s", p.Port, p.Proto, p.Place()))
		}
		return lines, nil
	}
	want, err := spec.ParsePortRange(args[1])
	if err != nil || want.First != want.Last {
		return nil, fail.New(fail.NoStatus, "invalid port: %.40q", args[1]).Hint("it takes PORT or PORT/PROTO")
	}
	for _, p := range ports {
		if p.Port == want.First && p.Proto == want.Proto {
			lines = append(lines, p.Place())
		}
	}
	if len(lines) == 0 {
		return nil, fail.New(fail.NoStatus, "No public port '%d/%s' published for %.140s", want.First, want.Proto, args[0])
	}
	return lines, nil
}

// published are the ports of a container that others can reach.
func published(s *network.Settings) []dockerjson.Port {
	var out []dockerjson.Port
	for _, m := range s.Ports {
		out = append(out, dockerjson.Port{Host: m.Host, HostPort: m.HostPort, Port: m.Port, Proto: m.Proto})
	}
	return out
}
