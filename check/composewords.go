package check

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
)

// command is a list of words, or a string that compose splits into words.
func (s *service) command(key string, n ast.Node) (out []word) {
	line := yamlLine(n)
	drop := func(why string) { s.c.remark(line, s.name+": "+key, why) }
	if v, ok := s.text(n); ok {
		words, why := splitCompose(v, line)
		if why != "" {
			drop(why)
		}
		out = words
	} else {
		for _, item := range s.list(n) {
			if _, ok := s.text(item); !ok {
				drop("left out of the line: a word of it is not text")
				return nil
			}
			out = append(out, s.word(item))
		}
	}
	if len(out) > maxWords {
		out = out[:maxWords]
		drop("left out of the line: what comes after " + itoa(maxWords) + " words")
	}
	for i := range out {
		out[i].raw = s.style.parts(out[i].parts)
	}
	return out
}

// splitCompose makes words of a string as compose does: variables first ($$ is
// a dollar sign), then blanks, quotation marks and backslashes. That is like a
// shell, and no shell is there: $(...) and `...` hold a word together and are
// text. why says what was left out.
func splitCompose(text string, line int) (out []word, why string) {
	sp := splitter{line: line}
	const unreadable = "left out of the line: it cannot be split into words"
	for _, p := range composeWord(text, line).parts {
		if p.unknown {
			// Its value is split as well, by a shell into which the line is pasted.
			p.quoted = sp.quote != 0
			sp.add(p)
			continue
		}
		for _, r := range p.text {
			switch end := sp.next(r); end {
			case 0:
			case ')':
				return nil, unreadable
			default:
				sp.flush()
				return sp.words, "left out of the line, as compose does: all from " + string(end) + " on; in quotation marks it is part of a word"
			}
		}
	}
	if sp.quote != 0 || sp.escaped {
		return nil, unreadable
	}
	sp.flush()
	return sp.words, ""
}

// splitter reads a string one character after the other.
type splitter struct {
	line    int
	words   []word
	parts   []part // of the word that is read
	text    []byte // known text behind them
	there   bool   // it is one, if only of quotation marks
	quote   rune   // what holds blanks together: ' " ` or ( of $(
	escaped bool
}

// next takes a character. It gives ")" for one that cannot stand there, and
// any other at which compose stops reading.
func (sp *splitter) next(r rune) (end rune) {
	switch {
	case sp.escaped:
		sp.escaped = false
		switch r {
		case 'n':
			r = '\n'
		case 't':
			r = '\t'
		}
		sp.rune(r)
	case r == '\\' && sp.quote != '\'':
		sp.escaped = true
	case sp.quote == 0 && (blank(r) || r == '\r'):
		sp.flush()
	case sp.quote == '\'' || sp.quote == '"':
		if r == sp.quote {
			sp.quote = 0
		} else {
			sp.rune(r)
		}
	case sp.quote == '`':
		if r == '`' {
			sp.quote = 0
		}
		sp.rune(r)
	case sp.quote == '(':
		switch r {
		case '(':
			return ')'
		case ')':
			sp.quote = 0
		}
		sp.rune(r)
	case r == '\'' || r == '"':
		sp.quote, sp.there = r, true
		sp.add(part{})
	case r == '`':
		sp.quote = r
		sp.rune(r)
	case r == '(' && sp.dollar():
		sp.quote = r
		sp.rune(r)
	case r == '(' || r == ')':
		return ')'
	case strings.ContainsRune(";&|<>", r):
		if r == '>' && len(sp.parts) == 0 && strings.Trim(string(sp.text), "0123456789") == "" {
			sp.text, sp.there = nil, false // the number of a descriptor
		}
		return r
	default:
		sp.rune(r)
	}
	return 0
}

// dollar says whether the last character was a dollar sign.
func (sp *splitter) dollar() bool {
	return len(sp.text) > 0 && sp.text[len(sp.text)-1] == '$'
}

func (sp *splitter) rune(r rune) {
	sp.there = true
	sp.text = utf8.AppendRune(sp.text, r)
}

// add puts a part into the word, behind the text before it.
func (sp *splitter) add(p part) {
	sp.there = true
	if len(sp.text) > 0 {
		sp.parts = append(sp.parts, part{text: string(sp.text)})
		sp.text = nil
	}
	sp.parts = append(sp.parts, p)
}

// flush ends a word.
func (sp *splitter) flush() {
	if !sp.there {
		return
	}
	if len(sp.text) > 0 {
		sp.parts = append(sp.parts, part{text: string(sp.text)})
	}
	w := word{parts: sp.parts, line: sp.line}
	w.many = !slices.ContainsFunc(w.parts, func(p part) bool { return !p.unknown || p.quoted })
	sp.words = append(sp.words, w)
	sp.parts, sp.text, sp.there = nil, nil, false
}
