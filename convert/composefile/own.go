package composefile

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/internal/words"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// exported says whether a file is as Write has it. It is read without looking at
// the host then: what it names need not be here.
func exported(root *yaml.Node) bool {
	if root == nil || len(entries(at(root, "services"))) == 0 {
		return false
	}
	for _, e := range entries(root) {
		if !slices.Contains([]string{"name", "services", "networks", "volumes", "secrets"}, e.key) {
			return false
		}
	}
	known := []string{"image", "entrypoint", "command", "ulimits", "blkio_config", "logging", "healthcheck", "networks", "network_mode", "volumes", "secrets", "depends_on", extension}
	for _, k := range simple() {
		known = append(known, k.key)
	}
	for _, s := range entries(at(root, "services")) {
		if !words.IsName(s.key) || at(s.value, extension, "flags") == nil {
			return false
		}
		for _, e := range entries(s.value) {
			if !slices.Contains(known, e.key) || e.value.Kind == yaml.MappingNode && slices.Contains([]string{"environment", "labels", "annotations", "sysctls", "extra_hosts"}, e.key) {
				return false
			}
			// Variables are for compose.
			if e.key != "depends_on" && !resolved(e.value) {
				return false
			}
		}
	}
	return true
}

// resolved says whether no value has a variable in it.
func resolved(n *yaml.Node) bool {
	if n.Kind == yaml.ScalarNode && strings.Contains(strings.ReplaceAll(n.Value, "$$", ""), "$") {
		return false
	}
	for i, c := range n.Content {
		if (n.Kind != yaml.MappingNode || i%2 == 1) && !resolved(c) {
			return false
		}
	}
	return true
}

// readExported reads what Write wrote.
func readExported(root *yaml.Node) (drafts []words.Draft, losses []convert.Loss, err error) {
	for _, s := range entries(at(root, "services")) {
		d := words.Draft{Name: s.key, Line: s.value.Line, Image: text(at(s.value, "image"))}
		say := func(name, value string) { d.Said = append(d.Said, words.Flag{Name: name, Value: value}) }
		if e := at(s.value, "entrypoint"); e != nil {
			say("entrypoint", strings.Join(texts(e)[:min(1, len(texts(e)))], ""))
		}
		if d.Args = texts(at(s.value, "command")); len(texts(at(s.value, "entrypoint"))) > 1 {
			d.Args = append(texts(at(s.value, "entrypoint"))[1:], d.Args...)
		}
		for _, k := range simple() {
			v := at(s.value, k.key)
			switch {
			case v == nil:
			case v.Kind == yaml.SequenceNode:
				for _, item := range texts(v) {
					say(k.flag, unspelled(k.flag, item))
				}
			default:
				say(k.flag, unspelled(k.flag, text(v)))
			}
		}
		for _, u := range entries(at(s.value, "ulimits")) {
			limit := text(u.value)
			if u.value.Kind == yaml.MappingNode {
				limit = text(at(u.value, "soft")) + ":" + text(at(u.value, "hard"))
			}
			say("ulimit", u.key+"="+limit)
		}
		if w := text(at(s.value, "blkio_config", "weight")); w != "" {
			say("blkio-weight", w)
		}
		for _, k := range blkioKeys() {
			if list := at(s.value, "blkio_config", k[0]); list != nil {
				for _, item := range list.Content {
					say(k[1], text(at(item, "path"))+":"+text(at(item, k[2])))
				}
			}
		}
		if v := at(s.value, "logging", "driver"); v != nil {
			say("log-driver", text(v))
		}
		for _, e := range entries(at(s.value, "logging", "options")) {
			say("log-opt", e.key+"="+text(e.value))
		}
		readHealth(&d, at(s.value, "healthcheck"))
		if err := readNetworks(&d, root, s.value); err != nil {
			return nil, nil, err
		}
		readVolumes(&d, root, at(s.value, "volumes"))
		if list := at(s.value, "secrets"); list != nil {
			for _, item := range list.Content {
				fields := []string{"id=" + text(at(item, "target")), "src=" + text(at(root, "secrets", text(at(item, "source")), "file"))}
				for _, key := range []string{"uid", "gid", "mode"} {
					if v := at(item, key); v != nil {
						fields = append(fields, key+"="+text(v))
					}
				}
				say("secret", words.CSV(fields...))
			}
		}
		for _, e := range entries(at(s.value, "depends_on")) {
			for name, condition := range conditions() {
				if condition == text(at(e.value, "condition")) {
					d.DependsOn = append(d.DependsOn, convert.Dependency{Name: e.key, Condition: name})
				}
			}
		}
		kept, err := words.Flags(texts(at(s.value, extension, "flags")))
		if err != nil {
			losses = append(losses, convert.Loss{Container: s.key, What: extension + ".flags", Why: err.Error()})
		}
		d.Kept = kept
		drafts = append(drafts, d)
	}
	return drafts, losses, nil
}

func readHealth(d *words.Draft, n *yaml.Node) {
	if n == nil {
		return
	}
	if text(at(n, "disable")) == "true" {
		d.Said = append(d.Said, words.Flag{Name: "no-healthcheck", Value: "true"})
	}
	if f, ok := test(texts(at(n, "test"))); ok {
		d.Said = append(d.Said, f)
	}
	for _, k := range healthKeys() {
		if v := at(n, k[0]); v != nil {
			d.Said = append(d.Said, words.Flag{Name: k[1], Value: text(v)})
		}
	}
}

// readNetworks gives the flags of networks in their order.
func readNetworks(d *words.Draft, root, service *yaml.Node) error {
	uses := spec.Workload{Image: "image", SigProxy: true, Pull: "missing"}
	if mode := at(service, "network_mode"); mode != nil {
		d.Said = append(d.Said, words.Flag{Name: "network", Value: text(mode)})
		return nil
	}
	for _, e := range entries(at(service, "networks")) {
		n := spec.NetworkUse{Name: text(at(root, "networks", e.key, "name")), Aliases: texts(at(e.value, "aliases")), IP: text(at(e.value, "ipv4_address")), IP6: text(at(e.value, "ipv6_address")), MAC: text(at(e.value, "mac_address"))}
		if n.Name == "" {
			n.Name = e.key
		}
		uses.Networks = append(uses.Networks, n)
	}
	if len(uses.Networks) == 0 {
		return fail.New(fail.Usage, "%s: neither networks nor network_mode", d.Name)
	}
	list, err := words.Workload(uses)
	for _, w := range list {
		d.Said = append(d.Said, words.Parse(w))
	}
	return err
}

func readVolumes(d *words.Draft, root, list *yaml.Node) {
	if list == nil {
		return
	}
	for _, item := range list.Content {
		kind := text(at(item, "type"))
		fields := []string{"type=" + kind}
		source := text(at(item, "source"))
		if kind == "volume" {
			if name := text(at(root, "volumes", source, "name")); name != "" {
				source = name
			}
		}
		if source != "" {
			fields = append(fields, "source="+source)
		}
		fields = append(fields, "target="+text(at(item, "target")))
		if text(at(item, "read_only")) == "true" {
			fields = append(fields, "readonly")
		}
		for _, k := range [][3]string{
			{"bind", "propagation", "bind-propagation"},
			{"bind", "recursive", "bind-recursive"},
			{"volume", "subpath", "volume-subpath"},
			{"image", "subpath", "image-subpath"},
			{"tmpfs", "size", "tmpfs-size"},
			{"tmpfs", "mode", "tmpfs-mode"},
		} {
			if v := at(item, k[0], k[1]); v != nil && kind == k[0] {
				fields = append(fields, k[2]+"="+text(v))
			}
		}
		if text(at(item, "volume", "nocopy")) == "true" {
			fields = append(fields, "volume-nocopy")
		}
		for _, e := range entries(at(item, "volume", "labels")) {
			fields = append(fields, "volume-label="+e.key+"="+text(e.value))
		}
		d.Said = append(d.Said, words.Flag{Name: "mount", Value: words.CSV(fields...)})
	}
}
