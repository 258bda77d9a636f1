package compose

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/template"
	"go.yaml.in/yaml/v4"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// Bounds of what is read.
const (
	maxFile  = 1 << 20 // bytes of one file
	maxFiles = 64      // compose files, and env files likewise
	maxNodes = 100_000 // of one file, aliases followed; compose-go's bound
	maxDepth = 100     // of nesting
)

// source is a compose file as it is written, for the lines of its keys. It is
// parsed by the parser that compose-go uses, so that both see the same.
type source struct {
	path    string // absolute
	dir     string // where its relative paths start
	text    []byte
	docs    []*yaml.Node // roots of its documents
	lookup  func(string) (string, bool)
	entries map[*yaml.Node][]entry // of mappings, once asked for
	twice   []entry                // keys that a mapping has already
	own     bool                   // named by the user, not by another file
}

// entry is a key with its value.
type entry struct {
	key   string
	line  int
	value *yaml.Node
}

// readFile reads a regular file of at most maxFile bytes.
func readFile(path string) ([]byte, error) {
	// Not blocking: to open a pipe would wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fail.New(fail.NotFound, "there is no file %s", quote(path))
	case err != nil:
		return nil, fail.New(fail.Usage, "%s cannot be read: %s", quote(path), because(err))
	}
	defer f.Close()
	switch info, err := f.Stat(); {
	case err != nil:
		return nil, fail.New(fail.Usage, "%s cannot be read: %s", quote(path), because(err))
	case info.IsDir():
		return nil, fail.New(fail.Usage, "%s is a directory", quote(path))
	case !info.Mode().IsRegular():
		return nil, fail.New(fail.Usage, "%s is not a regular file", quote(path))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fail.New(fail.Usage, "%s cannot be read: %s", quote(path), because(err))
	}
	if len(data) > maxFile {
		return nil, fail.New(fail.Usage, "%s is larger than %d KiB", quote(path), maxFile>>10)
	}
	return data, nil
}

// because is the reason of a file's error without the path.
func because(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// parseSource reads YAML. A problem has the line.
func parseSource(path string, text []byte) (*source, *Problem) {
	s := &source{path: path, text: text, entries: map[*yaml.Node][]entry{}}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return s, nil
		}
		if err != nil {
			line, why := yamlError(err)
			return nil, &Problem{Place: Place{path, line}, Text: why}
		}
		if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
			s.docs = append(s.docs, doc.Content[0])
		}
		if len(s.docs) > maxFiles {
			return nil, &Problem{Place: Place{path, doc.Line}, Text: "there are too many documents in one file"}
		}
	}
}

// yamlError gives the line of an error of the parser, which may name the one
// where the whole begins before it, and what the parser missed there.
func yamlError(err error) (line int, why string) {
	why = strings.TrimPrefix(err.Error(), "yaml: ")
	for _, part := range strings.Split(why, "line ")[1:] {
		digits := part[:len(part)-len(strings.TrimLeft(part, "0123456789"))]
		if n, err := strconv.Atoi(digits); err == nil {
			line = n
		}
	}
	if strings.HasPrefix(why, "while parsing ") {
		line++ // these count from 0
	}
	if i := strings.LastIndex(why, ": "); i >= 0 && line > 0 {
		why = why[i+2:]
	}
	return line, why
}

// follow gives the node an alias stands for.
func follow(n *yaml.Node) *yaml.Node {
	for range 16 {
		if n == nil || n.Kind != yaml.AliasNode {
			return n
		}
		n = n.Alias
	}
	return nil
}

// keys are the entries of a mapping, merge keys followed; what stands in it
// counts before what is merged.
func (s *source) keys(n *yaml.Node) []entry { return s.merged(n, 0) }

func (s *source) merged(n *yaml.Node, depth int) []entry {
	n = follow(n)
	if n == nil || n.Kind != yaml.MappingNode || depth > 8 {
		return nil
	}
	if done, ok := s.entries[n]; ok {
		return done
	}
	at := map[string]bool{}
	var out, more []entry
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Tag == "!!merge" || k.Value == "<<" && k.Style == 0 {
			from := []*yaml.Node{v}
			if list := follow(v); list != nil && list.Kind == yaml.SequenceNode {
				from = list.Content
			}
			for _, f := range from {
				more = append(more, s.merged(f, depth+1)...)
			}
			if len(more) > maxNodes {
				break
			}
			continue
		}
		if k = follow(k); k == nil || k.Kind != yaml.ScalarNode {
			continue
		}
		if at[k.Value] {
			s.twice = append(s.twice, entry{k.Value, k.Line, v})
			continue
		}
		at[k.Value] = true
		out = append(out, entry{k.Value, k.Line, v})
	}
	for _, e := range more {
		if !at[e.key] {
			at[e.key] = true
			out = append(out, e)
		}
	}
	s.entries[n] = out
	return out
}

// at finds a key path, [N] for the N-th item of a list, in the last document
// that has it.
func (s *source) at(path ...string) (e entry, ok bool) {
	for i := len(s.docs) - 1; i >= 0; i-- {
		if e, ok = s.below(entry{value: s.docs[i], line: s.docs[i].Line}, path); ok {
			return e, true
		}
	}
	return e, false
}

func (s *source) below(e entry, path []string) (entry, bool) {
	for _, part := range path {
		n := follow(e.value)
		found := false
		if i, is := index(part); is && n != nil && n.Kind == yaml.SequenceNode {
			if found = i < len(n.Content); found {
				e = entry{part, n.Content[i].Line, n.Content[i]}
			}
		} else {
			for _, k := range s.keys(n) {
				if k.key == part {
					e, found = k, true
					break
				}
			}
		}
		if !found {
			return entry{}, false
		}
	}
	return e, true
}

// index reads [N].
func index(part string) (int, bool) {
	if !strings.HasPrefix(part, "[") || !strings.HasSuffix(part, "]") {
		return 0, false
	}
	i, err := strconv.Atoi(strings.Trim(part, "[]"))
	return i, err == nil && i >= 0
}

// items are those of a list; a single value is a list of one.
func items(n *yaml.Node) []*yaml.Node {
	switch n = follow(n); {
	case n == nil, n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return nil
	case n.Kind == yaml.SequenceNode:
		return n.Content
	}
	return []*yaml.Node{n}
}

// scalar is a single value, its variables filled in; ok is false for others.
func (s *source) scalar(n *yaml.Node) (string, bool) {
	n = follow(n)
	if n == nil || n.Kind != yaml.ScalarNode {
		return "", false
	}
	return s.fill(n.Value), true
}

// fill fills in variables; text that is no template stays as it is.
func (s *source) fill(v string) string {
	if s.lookup == nil || !strings.Contains(v, "$") {
		return v
	}
	filled, err := template.SubstituteWithOptions(v, s.lookup, template.WithoutLogging)
	if err != nil {
		return v
	}
	return filled
}

// get is the single value of a key of n, or "".
func (s *source) get(n *yaml.Node, key string) string {
	e, ok := s.below(entry{value: n}, []string{key})
	if !ok {
		return ""
	}
	v, _ := s.scalar(e.value)
	return v
}

// keyPath joins the parts of a path, fit for a terminal.
func keyPath(path []string) string {
	var b strings.Builder
	for i, p := range path {
		if _, is := index(p); !is && i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(p)
	}
	return printable(b.String())
}

// relative shortens a path below dir.
func relative(dir, path string) string {
	if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}
