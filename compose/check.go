package compose

import (
	"slices"
	"strconv"
	"strings"

	"github.com/safe-run/safe-run/internal/edits"

	"go.yaml.in/yaml/v4"
)

// What keeps the loader from saying more.
const (
	noSuchKey  = "there is no such key"
	givenTwice = "it is given twice in one place"
	tooLarge   = "the file is too large once its aliases are followed"
	tooMany    = "there are too many of them in one place"
)

// unknownKeys finds keys that no compose file has, and with them those that
// are not supported, in the files as they are written: the loader would stop
// at the first, and without a line.
func (l *loading) unknownKeys() {
	for _, s := range slices.Concat(l.sources, l.bases) {
		w := &walk{l: l, s: s}
		for _, doc := range s.docs {
			w.visit(doc, l.keys, nil)
		}
		for _, e := range s.twice {
			l.problem(Problem{Place: Place{s.path, e.line}, Key: printable(e.key), Text: givenTwice})
		}
		if w.steps > maxNodes {
			l.problem(Problem{Place: Place{s.path, 0}, Text: tooLarge})
		}
	}
}

// walk goes through a file once, aliases followed.
type walk struct {
	l     *loading
	s     *source
	off   *keyNode // of services that are off
	steps int
}

func (w *walk) visit(n *yaml.Node, at *keyNode, path []string) {
	if w.steps++; w.steps > maxNodes || len(path) > maxDepth || at == nil {
		return
	}
	if len(path) == 2 && path[0] == "services" && !w.l.on(w.s, n) {
		if w.off == nil {
			w.off = silent(at)
		}
		at = w.off
	}
	switch n = follow(n); {
	case n == nil:
	case w.many(n, path):
		w.l.problem(Problem{Place: Place{w.s.path, n.Line}, Key: keyPath(path), Text: tooMany})
	case n.Kind == yaml.SequenceNode:
		for i, item := range n.Content {
			w.visit(item, at.below["[]"], append(path, "["+strconv.Itoa(i)+"]"))
		}
	case n.Kind == yaml.MappingNode && len(at.below) > 0:
		for _, e := range w.s.keys(n) {
			here := append(slices.Clip(path), e.key)
			next := at.find(e.key)
			switch {
			case next == nil && at.extension(e.key):
			case next == nil:
				w.l.problem(Problem{Place: Place{w.s.path, e.line}, Key: keyPath(here), Text: noSuchKey, Hint: alike(e.key, at)})
			case next.row != nil && next.row.how == unsupported:
				w.l.problem(Problem{Place: Place{w.s.path, e.line}, Key: keyPath(here), Text: "it is not supported", Hint: next.row.why})
			case !next.all:
				w.visit(e.value, next, here)
			}
		}
	}
}

// many says whether there is more in one place than the loader, whose time
// grows with the square of it, is to be given.
func (w *walk) many(n *yaml.Node, path []string) bool {
	if len(path) == 3 && path[2] == "ports" {
		ports := 0
		for _, item := range items(n) {
			text, _ := w.s.scalar(item)
			ports += portCount(text)
		}
		return ports > maxItems
	}
	if len(path) == 1 && path[0] == "services" {
		return len(w.s.keys(n)) > maxServices
	}
	return len(n.Content) > 2*maxItems || n.Kind == yaml.MappingNode && len(w.s.keys(n)) > maxItems
}

// portCount is how many ports the short form of ports stands for, at most.
func portCount(text string) int {
	most := 1
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ':' || r == '/' }) {
		if from, to, ok := strings.Cut(part, "-"); ok {
			a, err1 := strconv.ParseUint(from, 10, 16)
			b, err2 := strconv.ParseUint(to, 10, 16)
			if err1 == nil && err2 == nil && a <= b {
				most = max(most, int(b-a)+1)
			}
		}
	}
	return most
}

// silent is a node without the rows of what is not supported.
func silent(at *keyNode) *keyNode {
	copied := &keyNode{below: map[string]*keyNode{}, all: at.all}
	for k, n := range at.below {
		if n.all && n.row != nil && n.row.how == unsupported {
			n = &keyNode{all: true}
		} else {
			n = silent(n)
		}
		copied.below[k] = n
	}
	return copied
}

// on says whether the profiles have a service on.
func (l *loading) on(s *source, service *yaml.Node) bool {
	profiles := s.list(service, "profiles")
	return len(profiles) == 0 || slices.ContainsFunc(profiles, func(p string) bool {
		return slices.Contains(l.profiles, p) || slices.Contains(l.profiles, "*")
	})
}

// alike names the key that was probably meant.
func alike(key string, at *keyNode) string {
	best, least := "", 3
	for k := range at.below {
		if d := edits.Distance(key[:min(len(key), 80)], k); d < least || d == least && k < best {
			best, least = k, d
		}
	}
	if best == "" || best == "*" || best == "[]" {
		return "keys of your own begin with x-"
	}
	return "did you mean " + best + "?"
}

// unsupportedKeys finds the keys of the merged files that are not honoured.
func (l *loading) unsupportedKeys(v any, at *keyNode, path []string) {
	switch x := v.(type) {
	case []any:
		for i, e := range x {
			if next := at.below["[]"]; next != nil {
				l.unsupportedKeys(e, next, append(slices.Clip(path), "["+strconv.Itoa(i)+"]"))
			}
		}
	case map[string]any:
		for k, e := range x {
			next := at.find(k)
			here := append(slices.Clip(path), k)
			switch {
			case next == nil:
			case next.row != nil && next.row.how == unsupported && asks(e):
				l.wrong(here, nil, "it is not supported", next.row.why)
			case !next.all:
				l.unsupportedKeys(e, next, here)
			}
		}
	}
}

// asks says whether a value is more than none.
func asks(v any) bool {
	switch x := v.(type) {
	case nil:
		return false
	case bool:
		return x
	case string:
		return x != ""
	case map[string]any:
		return len(x) > 0
	case []any:
		return len(x) > 0
	}
	return true
}

// wrong notes a problem with a key.
func (l *loading) wrong(path []string, is func(*source, *yaml.Node) bool, text, hint string) {
	at, key := l.where(path, is)
	l.problems = append(l.problems, Problem{Place: at, Key: key, Text: text, Hint: hint})
}

// where finds the line of a key of the merged files: in the last file that has
// it, else in the service it extends. is tells the item of a list; it is nil
// for other keys. What cannot be found is as near as can be.
func (l *loading) where(path []string, is func(*source, *yaml.Node) bool) (Place, string) {
	for n := len(path); n > 0; n-- {
		if s, e, key := l.lookup(path[:n], is); s != nil {
			return l.place(Place{s.path, e.line}), keyPath(key)
		}
		is = nil
	}
	if len(l.sources) > 0 {
		return l.place(Place{l.sources[len(l.sources)-1].path, 0}), keyPath(path)
	}
	return Place{}, keyPath(path)
}

func (l *loading) lookup(path []string, is func(*source, *yaml.Node) bool) (*source, entry, []string) {
	for _, s := range slices.Backward(l.sources) {
		if e, key, ok := s.item(path, is); ok {
			return s, e, key
		}
	}
	if len(path) > 2 && path[0] == "services" {
		for _, s := range slices.Backward(l.sources) {
			if base, e, ok := l.inherited(s, path, is, 0); ok {
				return base, e, path
			}
		}
	}
	return nil, entry{}, nil
}

// inherited looks a key up in what a service extends.
func (l *loading) inherited(s *source, path []string, is func(*source, *yaml.Node) bool, depth int) (*source, entry, bool) {
	ext, ok := s.at("services", path[1], "extends")
	if !ok || depth > 16 {
		return nil, entry{}, false
	}
	name, single := s.scalar(ext.value)
	base := s
	if !single {
		name = s.get(ext.value, "service")
		if file := s.get(ext.value, "file"); file != "" {
			if base = l.read(within1(s.dir, file)); base == nil {
				return nil, entry{}, false
			}
		}
	}
	there := append([]string{"services", name}, path[2:]...)
	if e, _, ok := base.item(there, is); ok {
		return base, e, true
	}
	return l.inherited(base, there, is, depth+1)
}

// item is at, or the last item of the list at a path that is says is it.
func (s *source) item(path []string, is func(*source, *yaml.Node) bool) (entry, []string, bool) {
	e, ok := s.at(path...)
	if !ok || is == nil {
		return e, path, ok
	}
	n := follow(e.value)
	if n == nil {
		return e, path, false
	}
	switch n.Kind {
	case yaml.SequenceNode:
		for i, item := range slices.Backward(n.Content) {
			if is(s, follow(item)) {
				return entry{line: item.Line, value: item}, append(slices.Clip(path), "["+strconv.Itoa(i)+"]"), true
			}
		}
	case yaml.MappingNode:
		for _, k := range s.keys(n) {
			if is(s, &yaml.Node{Kind: yaml.ScalarNode, Value: k.key}) {
				return k, append(slices.Clip(path), k.key), true
			}
		}
	default:
		if is(s, n) {
			return e, path, true
		}
	}
	return entry{}, nil, false
}
