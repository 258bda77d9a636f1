package compose

import (
	"bytes"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"go.yaml.in/yaml/v4"
)

// variable is a variable of a service with what it comes from.
type variable struct {
	value *string // nil: the image's is taken out
	key   []string
	is    func(*source, *yaml.Node) bool
}

// environment is env_file and over it environment.
func (m *maker) environment() {
	all := map[string]variable{}
	sofar := map[string]string{}
	for _, f := range m.s.EnvFiles {
		is := memberIs("path", f.Path)
		// The file may name it relative to itself.
		base := func(s *source, n *yaml.Node) bool {
			got, ok := s.scalar(n)
			if !ok {
				got = s.get(n, "path")
			}
			return is(s, n) || got != "" && within1(s.dir, got) == f.Path
		}
		if !bool(f.Required) && !exists(f.Path) {
			continue
		}
		data, err := readFile(f.Path)
		if err != nil {
			m.wrong(err.Error(), "", base, "env_file")
			continue
		}
		vars := map[string]string{}
		maps.Copy(vars, sofar)
		if f.Format == "raw" {
			err = rawEnv(data, vars, m.l.env)
		} else {
			err = dotenv.ParseWithFormat(bytes.NewReader(data), filepath.Base(f.Path), vars, both(m.l.env, vars), f.Format)
		}
		if err != nil {
			m.wrong(quote(f.Path)+": "+err.Error(), "", base, "env_file")
			continue
		}
		for name, value := range vars {
			if old, there := sofar[name]; there && old == value {
				continue
			}
			sofar[name] = value
			all[name] = variable{&value, []string{"env_file"}, base}
		}
	}
	for name, value := range m.s.Environment {
		if value == nil {
			if v, ok := m.l.env[name]; ok {
				value = &v
			}
		}
		all[name] = variable{value, []string{"environment"}, keyIs(name)}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		v := all[name]
		if v.value == nil {
			m.flag("env", name, v.is, v.key...)
			continue
		}
		m.flag("env", name+"="+*v.value, v.is, v.key...)
	}
}

// rawEnv reads lines NAME=VALUE in which nothing is quoted or filled in. Errors
// give the line's number and not its content.
func rawEnv(data []byte, vars, env map[string]string) error {
	n := 0
	for line := range strings.Lines(string(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))) {
		n++
		line = strings.TrimLeft(strings.TrimRight(line, "\r\n"), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if name == "" || strings.ContainsAny(name, " \t") {
			return fmt.Errorf("line %d is not NAME=VALUE", n)
		}
		if !ok {
			if value, ok = env[name]; !ok {
				continue
			}
		}
		vars[name] = value
	}
	return nil
}

// labels are label_file and over it labels, then compose's own, by which
// scripts find the containers of a project.
func (m *maker) labels() {
	all, key := map[string]string{}, map[string]string{}
	for _, f := range m.s.LabelFiles {
		vars, err := readEnv([]string{f}, m.l.env)
		if err != nil {
			m.wrong(err.Error(), "", nil, "label_file")
			continue
		}
		for k, v := range vars {
			all[k], key[k] = v, "label_file"
		}
	}
	for k, v := range m.s.Labels {
		all[k], key[k] = v, "labels"
	}
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if strings.HasPrefix(k, reserved) {
			m.l.reservedLabel(m.below([]string{key[k]}), k)
			continue
		}
		is := keyIs(k)
		if key[k] == "label_file" {
			is = nil
		}
		m.flag("label", k+"="+all[k], is, key[k])
	}
	var files []string
	for _, s := range m.l.sources {
		if s.own {
			files = append(files, s.path)
		}
	}
	for _, kv := range [][2]string{
		{"project", m.l.project.Name},
		{"service", m.s.Name},
		{"container-number", "1"},
		{"oneoff", "False"},
		{"project.working_dir", m.l.dir},
		{"project.config_files", strings.Join(files, ",")},
	} {
		m.out.Flags = append(m.out.Flags, Flag{Word: "--label=" + reserved + kv[0] + "=" + kv[1], Place: m.out.Place})
	}
}
