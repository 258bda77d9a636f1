package compose

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/schema"
	"github.com/compose-spec/compose-go/v2/tree"
)

// TestKeysAreThoseOfTheSchema walks the schema of compose: each property has a
// row, and each row is of a property.
func TestKeysAreThoseOfTheSchema(t *testing.T) {
	keys := keyTree()
	inSchema := map[string]bool{}
	for _, p := range schema.AttributePaths() {
		inSchema[string(p)] = true
		n := keys
		for _, part := range p.Parts() {
			if n = n.below[part]; n == nil || n.all {
				break
			}
		}
		// include.[] and its kin are no properties.
		if n == nil || n.row == nil {
			t.Errorf("%s has no row", p)
		}
	}
	if len(inSchema) < 700 {
		t.Errorf("only %d properties", len(inSchema))
	}
	for _, r := range rows() {
		if (r.how == noEffect || r.how == unsupported) && r.why == "" {
			t.Errorf("%s %s: no reason", r.under, r.keys)
		}
		for key := range strings.FieldsSeq(r.keys) {
			p := strings.TrimPrefix(r.under+"."+strings.TrimSuffix(key, ".**"), ".")
			if !inSchema[p] {
				t.Errorf("%s is not in the schema", p)
			}
		}
	}
}

// dir makes a directory of files.
func dir(t testing.TB, files map[string]string) string {
	t.Helper()
	d := t.TempDir()
	for name, text := range files {
		f := filepath.Join(d, name)
		if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func load(t testing.TB, d string) (*Project, error) {
	t.Helper()
	return Load(t.Context(), Options{Dir: d, ProjectName: "p", Environ: []string{"HOME=/home/u", "SET=value"}, ContentDir: "/content"})
}

// sample is a key in use, and the same without it.
type sample struct{ path, with, without string }

// prelude is what samples of services may name.
const prelude = `
networks: {net: {}, other: {}}
volumes: {vol: {}, more: {}}
secrets: {s: {file: ./f}}
configs: {c: {file: ./f}}
services:
  b: {image: y}
  a:
`

// TestRowsAreTrue uses every key: one that is honoured changes what comes out,
// one without effect does not, one that is not supported is an error that has
// its line.
func TestRowsAreTrue(t *testing.T) {
	d := dir(t, map[string]string{"f": "A=1\n", "g": "G=$SET\n", "base.yaml": "services: {z: {image: z, hostname: fromz}}\n", "inc.yaml": "services: {inc: {image: i}}\n", "sub/f": "x", "sub/inc.yaml": "services: {inc: {image: i, env_file: f}}\n", "i.env": "TAG=9\n", "var.yaml": "services: {inc: {image: 'i:$TAG'}}\n"})
	seen := map[string]bool{}
	try := func(s sample, text, other string) {
		seen[s.path] = true
		n := keyTree()
		for part := range strings.SplitSeq(s.path, ".") {
			if n = n.below[part]; n == nil {
				t.Fatalf("%s has no row", s.path)
			}
			if n.all {
				break
			}
		}
		got, err := loadText(t, d, text)
		if n.row.how == unsupported {
			var ps Problems
			last := s.path[strings.LastIndexByte(s.path, '.')+1:]
			if !errors.As(err, &ps) || !slices.ContainsFunc(ps, func(p Problem) bool {
				return p.Place.Line > 0 && (strings.HasSuffix(p.Key, last) || n.all) && p.Hint == n.row.why
			}) {
				t.Errorf("%s is not supported: %v", s.path, err)
			}
			return
		}
		if err != nil {
			t.Errorf("%s: %v", s.path, err)
			return
		}
		want, err := loadText(t, d, other)
		if err != nil {
			t.Errorf("%s, without: %v", s.path, err)
			return
		}
		if same := got == want; same != (n.row.how == noEffect) {
			t.Errorf("%s is %s, and it changes nothing: %v\n%s\n%s", s.path, n.row.how, same, got, want)
		}
	}
	body := func(s string) string {
		if !strings.Contains(s, "image: ") || strings.Contains(s, "type: image") {
			s = "image: x; " + s
		}
		return prelude + "    " + strings.ReplaceAll(s, "; ", "\n    ") + "\n"
	}
	for _, s := range serviceSamples() {
		try(sample{"services.*." + s.path, "", ""}, body(s.with), body(s.without))
	}
	for _, s := range fileSamples() {
		try(s, s.with, s.without)
	}
	for _, p := range schema.AttributePaths() {
		if !seen[string(p)] && !covered(p, seen) {
			t.Errorf("%s has no sample", p)
		}
	}
}

// covered says whether a sample of a key below says all of this one, or the row
// is for more than this one.
func covered(p tree.Path, seen map[string]bool) bool {
	n := keyTree()
	for _, part := range p.Parts() {
		if n = n.below[part]; n == nil {
			return false
		}
		if n.all {
			return true
		}
	}
	for s := range seen {
		if strings.HasPrefix(s, string(p)+".") {
			return true
		}
	}
	return strings.HasSuffix(string(p), ".*") && seen[strings.TrimSuffix(string(p), ".*")]
}

// loadText loads a file and gives what matters of the project, without lines.
func loadText(t *testing.T, d, text string) (string, error) {
	t.Helper()
	f := filepath.Join(d, "compose.yaml")
	if err := os.WriteFile(f, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := load(t, d)
	if err != nil {
		return "", err
	}
	p.Config, p.Files, p.Notes = nil, nil, nil
	for i := range p.Services {
		s := &p.Services[i]
		s.Place = Place{}
		for j := range s.Flags {
			s.Flags[j].Place, s.Flags[j].Key = Place{}, ""
		}
	}
	for i := range p.Networks {
		p.Networks[i].Place = Place{}
	}
	for i := range p.Volumes {
		p.Volumes[i].Place = Place{}
	}
	var b strings.Builder
	for _, s := range p.Services {
		for _, f := range s.Flags {
			if !strings.HasPrefix(f.Word, "--label="+reserved) {
				b.WriteString(f.Word + "\n")
			}
		}
		s.Flags, s.Hash = nil, ""
		out, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(out, '\n'))
	}
	p.Services = nil
	out, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return b.String() + string(out), nil
}
