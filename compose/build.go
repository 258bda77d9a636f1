package compose

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"
)

// Bounds of what comes out.
const (
	maxServices = 512
	maxItems    = 2048 // of one list or mapping
	maxFlags    = 4096 // of one service
)

// build makes the project of the merged files.
func (l *loading) build() error {
	p := l.project
	l.out = &Project{Name: p.Name, Dir: l.dir, Notes: l.notes}
	for _, s := range slices.Concat(l.sources, l.bases) {
		if !slices.Contains(l.out.Files, s.path) {
			l.out.Files = append(l.out.Files, s.path)
		}
	}
	l.unsupportedKeys(l.used(), l.keys, nil)
	if len(p.Services) > maxServices {
		l.problem(Problem{Place: Place{File: l.sources[0].path}, Text: fmt.Sprintf("there are more than %d services", maxServices)})
		return l.problems.err()
	}
	if len(p.Services) == 0 {
		l.problem(Problem{Place: Place{File: l.sources[len(l.sources)-1].path}, Text: "there are no services that are on", Hint: "profiles put services on: --profile NAME"})
	}
	l.networks()
	l.volumes()
	names := l.containerNames()
	for _, name := range l.order() {
		m := &maker{l: l, s: p.Services[name], names: names, path: []string{"services", name}}
		m.model, _ = l.model["services"].(map[string]any)[name].(map[string]any)
		m.service()
		l.out.Services = append(l.out.Services, m.out)
	}
	l.out.Off = slices.Sorted(maps.Keys(p.DisabledServices))
	if dir := l.o.ProfileDir; dir != "" && !slices.ContainsFunc(l.out.Services, func(s Service) bool {
		return len(s.Flags) > 0 && strings.HasPrefix(s.Flags[0].Word, "--profile=")
	}) {
		l.out.Notes = append(l.out.Notes, Note{Text: "no service has a profile in " + printable(dir) + ": they are called SERVICE.yaml"})
	}
	// The values are the user's; MarshalYAML leaves out those of secrets.
	text, err := p.MarshalYAML()
	if err != nil {
		l.problem(Problem{Text: err.Error()})
	}
	l.out.Config = text
	if l.inconsistent != nil && !l.undefined {
		l.problem(*l.inconsistent)
	}
	return l.problems.err()
}

// nowhere notes that a service names something the files do not have.
func (m *maker) nowhere(what, name, hint string, is func(*source, *yaml.Node) bool, key ...string) {
	m.l.undefined = true
	m.wrong("there is no "+what+" "+quote(name), hint, is, key...)
}

// used is the model without what no service uses.
func (l *loading) used() map[string]any {
	p := l.project
	kept := map[string]map[string]bool{"services": {}, "networks": {}, "volumes": {}, "secrets": {}, "configs": {}}
	note(kept["services"], p.Services)
	note(kept["networks"], p.Networks)
	note(kept["volumes"], p.Volumes)
	note(kept["secrets"], p.Secrets)
	note(kept["configs"], p.Configs)
	used := maps.Clone(l.model)
	for kind, keep := range kept {
		all, _ := used[kind].(map[string]any)
		some := maps.Clone(all)
		maps.DeleteFunc(some, func(k string, _ any) bool { return !keep[k] })
		used[kind] = some
	}
	return used
}

func note[M ~map[string]V, V any](to map[string]bool, m M) {
	for k := range m {
		to[k] = true
	}
}

// order gives the services, each after those it depends on, else by name. The
// loader has made sure that there is no circle.
func (l *loading) order() (out []string) {
	seen := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		s, there := l.project.Services[name]
		if seen[name] || !there {
			return
		}
		seen[name] = true
		for _, d := range slices.Sorted(maps.Keys(s.DependsOn)) {
			visit(d)
		}
		out = append(out, name)
	}
	for _, name := range slices.Sorted(maps.Keys(l.project.Services)) {
		visit(name)
	}
	return out
}

// containerNames are those of the services. compose's own form has a number,
// which stays 1 here.
func (l *loading) containerNames() map[string]string {
	names, whose := map[string]string{}, map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(l.project.Services)) {
		c := l.project.Services[name].ContainerName
		if c == "" {
			c = l.project.Name + "-" + name + "-1"
		}
		if first, taken := whose[c]; taken {
			l.wrong([]string{"services", name, "container_name"}, nil, "the name "+quote(c)+" is that of service "+first+" as well", "leave container_name out")
		}
		names[name], whose[c] = c, name
	}
	return names
}

// networks are those that services are on.
func (l *loading) networks() {
	for _, key := range slices.Sorted(maps.Keys(l.project.Networks)) {
		n := l.project.Networks[key]
		path := []string{"networks", key}
		at, _ := l.where(path, nil)
		out := Network{
			Key: key, Name: n.Name, Internal: n.Internal, External: bool(n.External), IPv6: n.EnableIPv6 != nil && *n.EnableIPv6,
			Labels: l.ownLabels(path, n.Labels, "network", key), Place: at,
		}
		if n.Driver != "" && n.Driver != "bridge" && n.Driver != "default" {
			l.wrong(append(path, "driver"), nil, "there is no network driver "+quote(n.Driver), whyDriver)
		}
		if n.EnableIPv4 != nil && !*n.EnableIPv4 {
			l.wrong(append(path, "enable_ipv4"), nil, "networks without IPv4 are not supported", "leave it out")
		}
		if d := n.Ipam.Driver; d != "" && d != "default" {
			l.wrong(append(path, "ipam", "driver"), nil, "there is no driver "+quote(d), "leave it out")
		}
		for _, pool := range n.Ipam.Config {
			if pool != nil && pool.Subnet != "" {
				out.Subnets = append(out.Subnets, pool.Subnet)
			}
		}
		if out.External {
			out.Labels = nil
		}
		l.out.Networks = append(l.out.Networks, out)
	}
}

// volumes are those that services mount by name.
func (l *loading) volumes() {
	for _, key := range slices.Sorted(maps.Keys(l.project.Volumes)) {
		v := l.project.Volumes[key]
		path := []string{"volumes", key}
		at, _ := l.where(path, nil)
		out := Volume{Key: key, Name: v.Name, External: bool(v.External), Labels: l.ownLabels(path, v.Labels, "volume", key), Place: at}
		if out.External {
			out.Labels = nil
		}
		l.out.Volumes = append(l.out.Volumes, out)
	}
}

// reserved begins the labels that scripts find a project's things by.
const reserved = "com.docker.compose."

// ownLabels adds compose's labels of a network or volume to the user's.
func (l *loading) ownLabels(path []string, labels types.Labels, kind, key string) map[string]string {
	all := map[string]string{}
	for k, v := range labels {
		if strings.HasPrefix(k, reserved) {
			l.reservedLabel(append(path, "labels"), k)
		}
		all[k] = v
	}
	all[reserved+"project"] = l.project.Name
	all[reserved+kind] = key
	return all
}

func (l *loading) reservedLabel(path []string, label string) {
	l.wrong(path, keyIs(label), "labels that begin with "+reserved+" are compose's own", "call it otherwise")
}

// hash is of all that decides how a service runs. stamps are of other files.
func (s *Service) hash(stamps []string) string {
	h := sha256.New()
	enc := json.NewEncoder(h)
	words := make([]string, len(s.Flags))
	for i, f := range s.Flags {
		words[i] = f.Word
	}
	// Whoever reads the label must not learn the secrets by trying.
	contents := slices.DeleteFunc(slices.Clone(s.Contents), func(c Content) bool { return c.Secret })
	// A hash does not fail.
	_ = enc.Encode([]any{s.Image, words, s.Args, contents, stamps})
	return hex.EncodeToString(h.Sum(nil))
}

// textIs finds the item of a list that is a text.
func textIs(v string) func(*source, *yaml.Node) bool {
	return func(s *source, n *yaml.Node) bool {
		got, ok := s.scalar(n)
		return ok && got == v
	}
}

// keyIs finds KEY, KEY=VALUE or KEY:VALUE.
func keyIs(key string) func(*source, *yaml.Node) bool {
	return func(s *source, n *yaml.Node) bool {
		got, ok := s.scalar(n)
		return ok && (got == key || strings.HasPrefix(got, key+"=") || strings.HasPrefix(got, key+":"))
	}
}

// memberIs finds the mapping in which a key has a value, or the text.
func memberIs(key, value string) func(*source, *yaml.Node) bool {
	return func(s *source, n *yaml.Node) bool {
		if got, ok := s.scalar(n); ok {
			return got == value
		}
		return s.get(n, key) == value
	}
}
