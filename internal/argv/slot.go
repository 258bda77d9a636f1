package argv

import (
	"encoding/csv"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/internal/cli"
)

// Slot names what a flag of run (its long name and value) sets that there can be
// only one of: of two flags with the same slot the later one counts. It is "" for
// a flag that stands beside others of its name, as --cap-add.
func Slot(name, value string) string {
	key, _, _ := strings.Cut(value, "=")
	switch name {
	case "health-cmd", "health-exec", "no-healthcheck":
		return "health"
	case "volume", "mount", "tmpfs", "secret":
		if target := Target(name, value); target != "" {
			return "at " + target
		}
	case "log-opt", "sysctl", "ulimit", "annotation":
		return name + " " + key
	case "network":
		return "network " + networkName(value)
	}
	for _, f := range append(cli.Own(), cli.Table()...) {
		if f.Long != name {
			continue
		}
		switch f.Type {
		case cli.List, cli.Map, cli.Ulimit, cli.Mounts, cli.Network:
			return ""
		}
		return name
	}
	return ""
}

func networkName(v string) string {
	fields, err := csv.NewReader(strings.NewReader(v)).Read()
	for _, field := range fields {
		if name, is := strings.CutPrefix(field, "name="); is && err == nil {
			return name
		}
	}
	return v
}

// Target is where a flag mounts something, "" if it does not say.
func Target(name, value string) string {
	switch name {
	case "tmpfs":
		target, _, _ := strings.Cut(value, ":")
		return target
	case "volume":
		parts := strings.Split(value, ":")
		if len(parts) == 1 {
			return parts[0]
		}
		return parts[1]
	}
	fields, err := csv.NewReader(strings.NewReader(value)).Read()
	if err != nil {
		return ""
	}
	for i, field := range fields {
		key, v, has := strings.Cut(field, "=")
		switch {
		case name == "secret" && key == "id" && has:
			return "/run/secrets/" + v
		case name == "secret" && i == 0 && !slices.Contains([]string{"src", "source", "uid", "gid", "mode", "type"}, key):
			return "/run/secrets/" + key
		case name == "mount" && slices.Contains([]string{"target", "dst", "destination"}, key):
			return v
		}
	}
	return ""
}
