// Package strictyaml reads and writes YAML files that decide about rights.
// It takes the part of YAML in which a document says what it shows: one
// document, no anchors, aliases, merge keys, tags or nulls, no key twice and
// none that is unknown. Each error has its line.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// The parser recurses, and its time grows with the square of some kinds of
// lines.
const (
	maxNesting = 32
	maxLines   = 1 << 14
)

// Error is what is wrong with a document. Msg has no control characters.
type Error struct {
	Line int // from 1; 0 is not known
	Msg  string
}

func (e *Error) Error() string { return e.Msg }

func wrong(line int, format string, args ...any) *Error {
	return &Error{line, sanitized(fmt.Sprintf(format, args...))}
}

// Document is one document, parsed and free of the oddities above.
type Document struct{ root ast.Node }

// Parse reads a document of at most max bytes whose root is a mapping. The
// error is an *Error.
func Parse(data []byte, max int) (d *Document, err error) {
	if len(data) > max {
		return nil, wrong(0, "larger than %s", size(max))
	}
	at := 1
	for text := range bytes.Lines(data) {
		if !utf8.Valid(text) {
			return nil, wrong(at, "not UTF-8 text")
		}
		at++
	}
	if bytes.Count(data, []byte("\n"))+bytes.Count(data, []byte("\r")) > maxLines {
		return nil, wrong(maxLines+1, "more than %d lines", maxLines)
	}
	if line := tooDeep(data); line > 0 {
		return nil, wrong(line, "nested too deeply")
	}
	defer func() {
		// The parser is not ours; a panic of its is a file that is not understood.
		if p := recover(); p != nil {
			d, err = nil, wrong(0, "cannot be parsed")
		}
	}()
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, position(err)
	}
	var docs []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil {
			docs = append(docs, doc.Body)
		}
	}
	switch len(docs) {
	case 0:
		return nil, wrong(0, "empty; it needs at least: version: 1")
	case 1:
	default:
		return nil, wrong(line(docs[1]), "a second document")
	}
	var odd oddities
	ast.Walk(&odd, docs[0])
	if odd.found != nil {
		return nil, odd.found
	}
	if _, ok := entries(docs[0]); !ok {
		return nil, wrong(1, "not a list of keys and values")
	}
	return &Document{docs[0]}, nil
}

func size(n int) string {
	if n >= 1<<20 {
		return strconv.Itoa(n>>20) + " MiB"
	}
	return strconv.Itoa(n>>10) + " KiB"
}

// Line gives the line of a place in the document, 1 if there is none: keys are
// strings, positions in lists are ints. Of a path that ends in nothing, as one
// into an entry in its short form does, it is the line of the last that is there.
func (d *Document) Line(path ...any) int {
	at, n := max(1, line(d.root)), d.root
	for _, step := range path {
		var next ast.Node
		switch step := step.(type) {
		case string:
			pairs, _ := entries(n)
			for _, p := range pairs {
				if name, ok := keyName(p.Key); ok && name == step {
					next, at = p.Value, line(p.Key)
				}
			}
		case int:
			if seq, ok := n.(*ast.SequenceNode); ok && step >= 0 && step < len(seq.Values) {
				next = seq.Values[step]
				at = line(next)
			}
		}
		if next == nil {
			break
		}
		n = next
	}
	return at
}

// At is FILE:LINE for a message, with the name made fit to print; a line of 0
// is left out.
func At(name string, line int) string {
	if q := strconv.Quote(name); name == "" || len(name) > 200 || q != `"`+name+`"` || strings.Contains(name, " ") {
		name = fmt.Sprintf("%.200q", name)
	}
	if line > 0 {
		name += ":" + strconv.Itoa(line)
	}
	return name
}

// tooDeep bounds nesting before the parser sees the text. It gives the line,
// or 0. Brackets in strings and comments count as well: no such file has that
// many.
func tooDeep(data []byte) (line int) {
	for i, text := range bytes.Split(data, []byte("\n")) {
		flow := bytes.Count(text, []byte("[")) + bytes.Count(text, []byte("{"))
		block := bytes.Count(text, []byte("- ")) + bytes.Count(text, []byte("? ")) + bytes.Count(text, []byte(": "))
		indent := len(text) - len(bytes.TrimLeft(text, " "))
		if flow > 64*maxNesting || block > 64*maxNesting || indent > 8*maxNesting || depthOf(text) > maxNesting {
			return i + 1
		}
	}
	if depthOf(data) > maxNesting {
		return 1
	}
	return 0
}

func depthOf(text []byte) (deepest int) {
	depth := 0
	for _, c := range text {
		switch c {
		case '[', '{':
			depth++
			deepest = max(deepest, depth)
		case ']', '}':
			depth = max(0, depth-1)
		}
	}
	return deepest
}

// oddities finds what makes a document say other than it shows.
type oddities struct{ found *Error }

func (o *oddities) Visit(n ast.Node) ast.Visitor {
	what := ""
	switch n.Type() {
	case ast.AnchorType, ast.AliasType, ast.MergeKeyType:
		what = "anchors, aliases and merge keys are not taken; write it out"
	case ast.TagType, ast.DirectiveType:
		what = "tags and directives are not taken"
	case ast.NullType:
		what = "a key without a value; leave the key out"
	}
	if what != "" && o.found == nil {
		o.found = wrong(line(n), "%s", what)
	}
	return o
}

// position takes the line out of an error of the parser, and its words without
// the excerpt of the file.
func position(err error) *Error {
	var e yaml.Error
	if !errors.As(err, &e) {
		return wrong(0, "%s", err)
	}
	at := 0
	if tok := e.GetToken(); tok != nil && tok.Position != nil {
		at = tok.Position.Line
	}
	return wrong(at, "%s", e.GetMessage())
}

func line(n ast.Node) int {
	if n == nil {
		return 0
	}
	// The token of a mapping is its first colon.
	if pairs, ok := entries(n); ok && len(pairs) > 0 {
		return line(pairs[0].Key)
	}
	if tok := n.GetToken(); tok != nil && tok.Position != nil {
		return tok.Position.Line
	}
	return 0
}

// sanitized makes text with parts of the file printable on one line.
func sanitized(s string) string {
	const most = 500
	if len(s) > most {
		s = s[:most] + "..."
	}
	q := strconv.Quote(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}
