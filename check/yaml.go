package check

import (
	"bytes"
	"errors"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
	"mvdan.cc/sh/v3/syntax"
)

// Bounds of a YAML file. The parser recurses, and its time grows with the
// square of some kinds of lines.
const (
	maxYAML     = 256 << 10
	maxLines    = 1 << 13
	maxLine     = 8 << 10
	maxNesting  = 48
	maxColumn   = 256
	maxExpanded = 20000 // nodes, aliases followed
)

// document is a YAML file in which aliases and merge keys can be followed.
type document struct {
	c       *checker
	root    ast.Node
	anchors map[string]ast.Node
	steps   int
}

func (c *checker) yaml(data []byte) (*document, error) {
	if len(data) > maxYAML {
		return nil, c.wrong(1, "larger than %d KiB", maxYAML>>10)
	}
	n := 0
	for line := range bytes.Lines(data) {
		if n++; n > maxLines || len(line) > maxLine {
			return nil, c.wrong(n, "more than %d lines, or one of more than %d bytes", maxLines, maxLine)
		}
	}
	tokens := lexer.Tokenize(string(data))
	flow := 0
	for _, t := range tokens {
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType, token.MappingValueType:
			if t.Position != nil && flow == 0 && t.Position.Column > maxColumn {
				flow = maxNesting + 1
			}
		}
		if flow > maxNesting {
			return nil, c.wrong(t.Position.Line, "nested too deeply")
		}
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var e yaml.Error
		if !errors.As(err, &e) {
			return nil, c.wrong(1, "%s", err)
		}
		at := 1
		if t := e.GetToken(); t != nil && t.Position != nil {
			at = t.Position.Line
		}
		return nil, c.wrong(at, "%s", e.GetMessage())
	}
	d := &document{c: c, anchors: map[string]ast.Node{}}
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if d.root != nil {
			c.remark(yamlLine(doc.Body), "---", "a second document; it is not looked at")
			break
		}
		d.root = doc.Body
	}
	if d.root != nil {
		ast.Walk(d, d.root)
	}
	return d, nil
}

// Visit collects anchors.
func (d *document) Visit(n ast.Node) ast.Visitor {
	if a, is := n.(*ast.AnchorNode); is && a.Name != nil {
		d.anchors[a.Name.GetToken().Value] = a.Value
	}
	return d
}

// follow gives the node an alias, an anchor or a tag stands for; nil if there
// is none, or too much was followed already.
func (d *document) follow(n ast.Node) ast.Node {
	for range 16 {
		if d.steps++; d.steps > maxExpanded {
			return nil
		}
		switch x := n.(type) {
		case *ast.AnchorNode:
			n = x.Value
		case *ast.TagNode:
			n = x.Value
		case *ast.AliasNode:
			if x.Value == nil {
				return nil
			}
			n = d.anchors[x.Value.GetToken().Value]
		default:
			return n
		}
	}
	return nil
}

// entry is a key with its value.
type entry struct {
	key   string
	value ast.Node
	line  int
}

// entries are those of a mapping, merge keys followed; what stands in it counts
// before what is merged, and the last of a key before the others.
func (d *document) entries(n ast.Node) []entry { return d.merged(n, 0) }

func (d *document) merged(n ast.Node, depth int) (out []entry) {
	var values []*ast.MappingValueNode
	switch x := d.follow(n).(type) {
	case *ast.MappingNode:
		values = x.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{x}
	}
	at := map[string]int{}
	var more []entry
	for _, v := range values {
		if _, is := v.Key.(*ast.MergeKeyNode); is || v.Key.GetToken() != nil && v.Key.GetToken().Value == "<<" {
			if depth > 8 {
				continue
			}
			for _, from := range d.list(v.Value) {
				more = append(more, d.merged(from, depth+1)...)
			}
			continue
		}
		if d.steps++; d.steps > maxExpanded || v.Key.GetToken() == nil {
			continue
		}
		e := entry{v.Key.GetToken().Value, v.Value, v.Key.GetToken().Position.Line}
		if i, there := at[e.key]; there {
			out[i] = e
			continue
		}
		at[e.key] = len(out)
		out = append(out, e)
	}
	for _, e := range more {
		if _, there := at[e.key]; !there {
			at[e.key] = len(out)
			out = append(out, e)
		}
	}
	return out
}

// list are the items of a list; a single value is a list of one.
func (d *document) list(n ast.Node) []ast.Node {
	switch x := d.follow(n).(type) {
	case nil:
		return nil
	case *ast.NullNode:
		return nil
	case *ast.SequenceNode:
		return x.Values
	default:
		return []ast.Node{n}
	}
}

func (d *document) get(n ast.Node, keys ...string) ast.Node {
	for _, key := range keys {
		var next ast.Node
		for _, e := range d.entries(n) {
			if e.key == key {
				next = e.value
			}
		}
		if n = next; n == nil {
			return nil
		}
	}
	return d.follow(n)
}

// text is a single value as the file has it; ok is false for lists and mappings.
func (d *document) text(n ast.Node) (s string, ok bool) {
	switch x := d.follow(n).(type) {
	case *ast.StringNode:
		return x.Value, true
	case *ast.LiteralNode:
		if x.Value == nil {
			return "", true
		}
		return x.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return x.GetToken().Value, true
	case *ast.NullNode:
		return "", true
	}
	return "", false
}

// word is a single value with compose's variables in it.
func (d *document) word(n ast.Node) word {
	s, _ := d.text(n)
	return composeWord(s, yamlLine(n))
}

// composeWord finds the variables of a value. ${X:-Y} is judged as Y.
func composeWord(s string, line int) word {
	w := word{line: line}
	for s != "" {
		i := strings.IndexByte(s, '$')
		if i < 0 || i+1 == len(s) {
			w.parts = append(w.parts, part{text: s})
			break
		}
		if i > 0 {
			w.parts = append(w.parts, part{text: s[:i]})
		}
		s = s[i:]
		n := 1
		switch {
		case s[1] == '$':
			w.parts = append(w.parts, part{text: "$"})
			s = s[2:]
			continue
		case s[1] == '{':
			depth := 0
			for n = 1; n < len(s); n++ {
				if s[n] == '{' {
					depth++
				} else if s[n] == '}' {
					if depth--; depth == 0 {
						break
					}
				}
			}
			n = min(n+1, len(s))
		default:
			for n < len(s) && (isLetter(s[n]) || s[n] == '_' || s[n] >= '0' && s[n] <= '9' && n > 1) {
				n++
			}
		}
		if n == 1 {
			w.parts = append(w.parts, part{text: "$"})
			s = s[1:]
			continue
		}
		name := strings.Trim(s[:n], "${}")
		guess := ""
		for _, op := range []string{":-", "-", ":+", "+"} {
			if before, after, ok := strings.Cut(name, op); ok && strings.Trim(before, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == "" {
				name, guess = before, after
				break
			}
		}
		name, _, _ = strings.Cut(name, ":")
		if strings.Contains(guess, "$") {
			guess = composeWord(guess, line).fill("", true)
		}
		p := part{text: s[:n], unknown: true, name: name, guess: either(guess, usual(name)), quoted: true}
		switch {
		case harmless(p.text):
		case syntax.ValidName(name):
			p.text = "${" + name + "}"
		default: // nor is it one to compose
			p = part{text: p.text}
		}
		w.parts = append(w.parts, p)
		s = s[n:]
	}
	if len(w.parts) == 0 {
		w.parts = []part{{}}
	}
	return w
}

// harmless says whether a shell takes a variable of compose for one as well, in
// which nothing is run: to compose, commands in it are text.
func harmless(variable string) bool {
	const fine = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:@=,+%?- ${}"
	open := strings.Count(variable, "{")
	return strings.Trim(variable, fine) == "" && open == strings.Count(variable, "}") && (open == 0 || strings.HasSuffix(variable, "}"))
}

func yamlLine(n ast.Node) int {
	switch x := n.(type) {
	case nil:
		return 0
	case *ast.MappingNode:
		if len(x.Values) > 0 {
			return yamlLine(x.Values[0])
		}
	case *ast.MappingValueNode:
		return yamlLine(x.Key)
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}
