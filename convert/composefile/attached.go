package composefile

import (
	"strconv"
	"strings"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/internal/words"
	"github.com/safe-run/safe-run/spec"
)

// networks writes the networks in their order: the first has the default route.
func networks(out *mapping, w spec.Workload, values map[string][]string, top *shared) {
	if len(w.Networks) == 1 && !onNetwork(w.Networks[0]) {
		out.add("network_mode", w.Networks[0].Name)
		return
	}
	var all mapping
	for i, n := range w.Networks {
		top.networks[n.Name] = mapping{{"name", n.Name}, {"external", literal("true")}}
		var one mapping
		if len(n.Aliases) > 0 {
			one.add("aliases", anys(n.Aliases))
		}
		for _, a := range [][2]string{{"ipv4_address", n.IP}, {"ipv6_address", n.IP6}, {"mac_address", n.MAC}} {
			if a[1] != "" {
				one.add(a[0], a[1])
			}
		}
		if len(w.Networks) > 1 {
			one.add("gw_priority", literal(strconv.Itoa(len(w.Networks)-i)))
		}
		all.add(n.Name, one)
	}
	out.add("networks", all)
}

// volumes writes each mount in the long form.
func volumes(out *mapping, values []string, top *shared) {
	var all []any
	for _, v := range values {
		fields, err := words.Fields(v)
		if err != nil {
			continue // it does not come back, and is kept
		}
		var one, of, labels mapping
		kind := ""
		for _, field := range fields {
			key, value, _ := strings.Cut(field, "=")
			switch key {
			case "type":
				kind = value
				one.add(key, value)
			case "source", "target":
				one.add(key, value)
			case "readonly":
				one.add("read_only", literal("true"))
			case "bind-propagation":
				of.add("propagation", value)
			case "bind-recursive":
				of.add("recursive", value)
			case "volume-nocopy":
				of.add("nocopy", literal("true"))
			case "volume-subpath", "image-subpath":
				of.add("subpath", value)
			case "volume-label":
				name, value, _ := strings.Cut(value, "=")
				labels.add(name, value)
			}
		}
		if kind == "bind" {
			of.add("create_host_path", literal("false"))
		}
		if len(labels) > 0 {
			of.add("labels", labels)
		}
		if len(of) > 0 {
			one.add(kind, of)
		}
		if kind == "volume" {
			for _, p := range one {
				if name, is := p.value.(string); is && p.key == "source" {
					top.volumes[name] = mapping{{"name", name}}
				}
			}
		}
		all = append(all, one)
	}
	if len(all) > 0 {
		out.add("volumes", all)
	}
}

// secrets writes the files of secrets, each with a name of the container's.
func secrets(out *mapping, c convert.Container, values []string, top *shared) {
	var all []any
	for _, v := range values {
		fields, err := words.Fields(v)
		if err != nil {
			continue
		}
		var one mapping
		id, file := "", ""
		for _, field := range fields {
			key, value, _ := strings.Cut(field, "=")
			switch key {
			case "id":
				id = value
			case "src":
				file = value
			default:
				one.add(key, value)
			}
		}
		name := c.Name + "_" + id
		top.secrets[name] = mapping{{"file", file}}
		all = append(all, append(mapping{{"source", name}, {"target", id}}, one...))
	}
	if len(all) > 0 {
		out.add("secrets", all)
	}
}
