package check

import (
	"errors"
	"io"
	"path"
	"runtime"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// maxNested bounds scripts in strings in scripts.
const maxNested = 4

// script reads one shell script, or a piece of one that stands in a string.
type script struct {
	c       *checker
	text    string
	line    int // of its first line in the file
	depth   int
	vars    map[string]*variable
	aliases map[string]string
	calls   map[string][]*syntax.Word // words behind each name that is called
	args    *variable                 // what a function is called with, inside of it
	inAlias bool
	style   style  // of words that are not the script's own
	lead    string // what the rewritten line starts with
	err     error
}

func (c *checker) shell(text string) error {
	s := &script{c: c, text: text, line: 1, style: shellStyle{}}
	return s.run()
}

// shallow is a reader that fails when its caller is nested too deeply: the
// parser recurses, and reads as it goes.
type shallow struct{ r io.Reader }

var errDeep = errors.New("nested too deeply")

func (s shallow) Read(p []byte) (int, error) {
	var pc [1]uintptr
	if runtime.Callers(4000, pc[:]) > 0 {
		return 0, errDeep
	}
	return s.r.Read(p)
}

func (s *script) run() error {
	if s.depth > maxNested {
		return nil
	}
	var file *syntax.File
	var err error
	for _, lang := range []syntax.LangVariant{syntax.LangBash, syntax.LangPOSIX, syntax.LangZsh} {
		var again error
		file, again = syntax.NewParser(syntax.Variant(lang)).Parse(shallow{strings.NewReader(s.text)}, "")
		if again == nil || errors.Is(again, errDeep) {
			err = again
			break
		}
		if err == nil {
			err = again
		}
	}
	if file == nil || err != nil {
		if s.depth > 0 {
			s.c.remark(s.line, s.text, "not a shell script that can be read")
			return nil
		}
		return s.syntaxError(err)
	}
	if s.vars == nil {
		s.vars, s.aliases = map[string]*variable{}, map[string]string{}
	}
	s.calls = map[string][]*syntax.Word{}
	s.collect(file)
	var visit func(syntax.Node) bool
	visit = func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.FuncDecl:
			outer := s.args
			if n.Name != nil {
				s.args = &variable{of: s, all: s.calls[n.Name.Value]}
			}
			s.walk(n.Body, visit)
			s.args = outer
			return false
		case *syntax.BinaryCmd:
			s.piped(n)
		case *syntax.Stmt:
			s.heredocs(n, n)
		case *syntax.CallExpr:
			s.call(n)
		}
		return true
	}
	s.walk(file, visit)
	return s.err
}

// walk visits the nodes of a script. It recurses, so depth is bounded here as
// well: a long pipe is parsed in a loop and is a deep tree.
func (s *script) walk(file syntax.Node, visit func(syntax.Node) bool) {
	const most = 4000
	depth := 0
	syntax.Walk(file, func(n syntax.Node) bool {
		switch {
		case n == nil:
			depth--
			return false
		case depth >= most:
			s.err = s.c.wrong(s.line, "%s", errDeep)
		}
		if s.err != nil || !visit(n) {
			return false
		}
		depth++
		return true
	})
}

func (s *script) syntaxError(err error) error {
	var p syntax.ParseError
	var l syntax.LangError
	line, what := 1, ""
	switch {
	case errors.As(err, &p):
		line, what = int(p.Pos.Line()), p.Text
	case errors.As(err, &l):
		line, what = int(l.Pos.Line()), l.Feature
	default:
		what = err.Error()
	}
	return s.c.wrong(s.line+line-1, "%s", what).
		Hint("it was read as a shell script; if it is another file: --type unit, compose or quadlet; of a text with commands in it, give the commands alone")
}

// call looks at one simple command.
func (s *script) call(call *syntax.CallExpr) {
	words := s.words(call.Args)
	if len(words) == 0 {
		return
	}
	before := make([]string, 0, len(call.Assigns))
	for _, a := range call.Assigns {
		before = append(before, s.raw(a))
	}
	s.command(words, before)
}

// command looks at the words of a command: what comes before the program that
// counts is skipped.
func (s *script) command(words []word, before []string) {
	words, marks := recipe(words)
	for steps := 0; len(words) > 0 && s.err == nil && steps < 32; steps++ {
		if w := words[0]; w.many && len(w.may) > 0 { // "${COMMAND[@]}" that grew
			if _, is := isTool(w.may[0]); is {
				words = append(slices.Clone(w.may), words[1:]...)
			}
		}
		if _, is := isTool(words[0]); is {
			l := s.c.parseLaunch(words, s.style)
			if l == nil || s.inAlias && l.image == nil {
				return
			}
			l.lead, l.before = s.lead+marks, strings.Join(before, " ")
			s.err = s.c.add(l)
			return
		}
		name, known := words[0].value()
		if !known {
			return
		}
		if text, is := s.aliases[name]; is && steps < 8 {
			words = append(slices.Clone(s.split(text, words[0].line)), words[1:]...)
			continue
		}
		base := path.Base(name)
		switch {
		case base == "alias":
			for _, w := range words[1:] {
				s.string(w, strings.IndexByte(w.head(), '=')+1, true)
			}
			return
		case base == "eval" || base == "watch":
			_, rest := skipOptions(words, s.c.prefixes[base])
			s.strings(rest)
			return
		case base == "docker-compose" || base == "podman-compose":
			s.c.indirect(base, words)
			return
		case slices.Contains(stringRunners(), base):
			for _, w := range words[1:] {
				if strings.ContainsFunc(w.head(), blank) {
					s.string(w, 0, false)
				}
			}
			words, before = s.nested(words, before)
			continue
		case slices.Contains(shells(), base), slices.Contains([]string{"su", "runuser", "sg"}, base):
			s.shellCall(words)
			return
		}
		p, is := s.c.prefixes[base]
		if !is {
			words, before = s.nested(words, before)
			continue
		}
		skipped, rest := skipOptions(words, p)
		if p.shell && len(rest) == 1 {
			s.strings(rest)
			return
		}
		for _, w := range skipped {
			before = append(before, w.written(s.style))
		}
		words = rest
	}
}

// shellCall looks into the string of sh -c.
func (s *script) shellCall(words []word) {
	for i, w := range words[1:] {
		if h := w.head(); strings.HasPrefix(h, "-") && !strings.HasPrefix(h, "--") && strings.HasSuffix(h, "c") && i+2 < len(words) {
			s.string(words[i+2], 0, false)
			return
		}
	}
}

// strings looks at words that are joined and read as a script.
func (s *script) strings(words []word) {
	var all word
	for i, w := range words {
		if i == 0 {
			all.line = w.line
		} else {
			all.parts = append(all.parts, part{text: " "})
		}
		all.parts = append(all.parts, w.parts...)
	}
	s.string(all, 0, false)
}

// string reads a word as a script, from the byte skip on.
func (s *script) string(w word, skip int, alias bool) {
	var b strings.Builder
	for _, p := range w.after(skip).parts {
		if p.unknown && strings.HasPrefix(p.text, "%") { // a specifier of a unit
			b.WriteString(specifierMark + p.text[1:])
			continue
		}
		b.WriteString(p.text) // a variable stays one
	}
	if !strings.Contains(b.String(), "run") {
		return
	}
	inner := &script{c: s.c, text: b.String(), line: w.line, depth: s.depth + 1, vars: s.vars, aliases: map[string]string{}, inAlias: alias, style: shellStyle{}}
	s.err = inner.run()
}

// piped looks at the scripts that are piped into a shell.
func (s *script) piped(b *syntax.BinaryCmd) {
	if (b.Op == syntax.Pipe || b.Op == syntax.PipeAll) && b.X != nil && b.Y != nil {
		s.heredocs(b.X, b.Y)
	}
}

// heredocs looks at the scripts given to a shell as its input: the here-documents
// of one statement, for the shell of this or of another.
func (s *script) heredocs(of, reader *syntax.Stmt) {
	for _, r := range of.Redirs {
		if r.Hdoc == nil || r.Op != syntax.Hdoc && r.Op != syntax.DashHdoc {
			continue
		}
		call, is := reader.Cmd.(*syntax.CallExpr)
		if !is {
			continue
		}
		reads := false
		for _, w := range s.words(call.Args) {
			v, _ := w.value()
			base := path.Base(v)
			reads = reads || slices.Contains(shells(), base) || slices.Contains([]string{"ssh", "su", "sg", "newgrp", "runuser"}, base)
		}
		if !reads {
			continue
		}
		inner := &script{
			c: s.c, text: s.raw(r.Hdoc), line: s.line + int(r.Hdoc.Pos().Line()) - 1, depth: s.depth + 1, vars: s.vars, aliases: s.aliases, style: shellStyle{},
		}
		if s.err == nil {
			s.err = inner.run()
		}
	}
}

// raw is how a node stands in the file.
func (s *script) raw(n syntax.Node) string {
	from, to := int(n.Pos().Offset()), int(n.End().Offset())
	if from < 0 || to > len(s.text) || from > to {
		return ""
	}
	return strings.ReplaceAll(s.text[from:to], specifierMark, "%")
}

// specifierMark stands before the letter of a specifier in a script that a unit
// holds: a character of no language.
const specifierMark = "\uf8ff"

// marked takes the specifiers out of text.
func marked(text string) (out []part) {
	for i, s := range strings.Split(text, specifierMark) {
		if i > 0 && s != "" && isLetter(s[0]) {
			out = append(out, part{text: "%" + s[:1], unknown: true, guess: specifier(s[0])})
			s = s[1:]
		}
		if s != "" || i == 0 {
			out = append(out, part{text: s})
		}
	}
	return out
}
