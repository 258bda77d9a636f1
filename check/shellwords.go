package check

import (
	"slices"
	"strconv"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// variable is what a file assigns to one name.
type variable struct {
	assigned int
	value    *syntax.Word   // of the only assignment
	elems    []*syntax.Word // of an array
	array    bool
	of       *script
	all      []*syntax.Word // of all assignments

	busy     bool
	resolved bool
	parts    []part
	ok       bool
}

// maxValue bounds what a variable is resolved to, in bytes.
const maxValue = 8 << 10

// collect notes all assignments and aliases of a script.
func (s *script) collect(file *syntax.File) {
	set := func(name string) *variable {
		v := s.vars[name]
		if v == nil {
			v = &variable{}
			s.vars[name] = v
		}
		v.assigned++
		v.of = s
		return v
	}
	assign := func(a *syntax.Assign) {
		if a.Name == nil || a.Naked {
			return
		}
		v := set(a.Name.Value)
		if a.Append || a.Index != nil {
			v.assigned++
		}
		v.value = a.Value
		if a.Value != nil {
			v.all = append(v.all, a.Value)
		}
		if a.Array != nil {
			v.array, v.elems = true, nil
			for _, e := range a.Array.Elems {
				if e.Value != nil && e.Index == nil {
					v.elems = append(v.elems, e.Value)
				}
			}
			v.all = append(v.all, v.elems...)
		}
	}
	s.walk(file, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.CallExpr:
			if len(n.Args) == 0 {
				for _, a := range n.Assigns {
					assign(a)
				}
				return true
			}
			if name := n.Args[0].Lit(); name != "" && len(n.Args) > 1 && len(s.calls[name]) < maxWords {
				s.calls[name] = append(s.calls[name], n.Args[1:]...)
			}
			s.builtins(n, set)
		case *syntax.DeclClause:
			for _, a := range n.Args {
				assign(a)
			}
		case *syntax.WordIter:
			set(n.Name.Value).assigned++
		case *syntax.ParamExp:
			if n.Exp != nil && n.Param != nil && (n.Exp.Op == syntax.AssignUnset || n.Exp.Op == syntax.AssignUnsetOrNull) {
				set(n.Param.Value).assigned++
			}
		}
		return true
	})
}

// builtins notes the variables that commands set, and aliases.
func (s *script) builtins(call *syntax.CallExpr, set func(string) *variable) {
	name := call.Args[0].Lit()
	switch name {
	case "read", "mapfile", "readarray", "getopts", "printf", "unset":
		for _, w := range call.Args[1:] {
			if syntax.ValidName(w.Lit()) {
				set(w.Lit()).assigned++
			}
		}
	case "alias":
		for _, w := range call.Args[1:] {
			text, known := word{parts: s.parts(w.Parts, false)}.value()
			if alias, value, ok := strings.Cut(text, "="); known && ok && len(s.aliases) < 100 {
				s.aliases[alias] = value
			}
		}
	}
}

// words expands words as far as it is known what they become.
func (s *script) words(list []*syntax.Word) (out []word) {
	for _, w := range list {
		out = append(out, s.word(w)...)
		if len(out) > maxFlags {
			return out
		}
	}
	return out
}

func (s *script) word(w *syntax.Word) []word {
	at := s.line + int(w.Pos().Line()) - 1
	one := word{raw: s.raw(w), line: at}
	exp, quoted := loneExpansion(w)
	if exp == nil {
		one.parts = s.parts(w.Parts, false)
		s.tilde(&one)
		if slices.ContainsFunc(one.parts, func(p part) bool { return p.loose && strings.ContainsFunc(p.text, blank) }) {
			return splitWord(fields(one.parts, false), at)
		}
		// $A$B and $(...) may be any number of words.
		one.many = len(one.parts) > 0 && !slices.ContainsFunc(one.parts, func(p part) bool { return !p.unknown || p.quoted })
		return []word{one}
	}
	v := s.vars[exp.Param.Value]
	if v != nil && exp.Index != nil && v.assigned == 1 && v.array {
		index := exp.Index.(*syntax.Word).Lit()
		if index == "@" || index == "*" && !quoted {
			return v.of.elements(v, at)
		}
	}
	one.parts = s.parts(w.Parts, false)
	if quoted && exp.Index == nil && exp.Param.Value != "@" {
		return []word{one}
	}
	if len(one.parts) != 1 || !one.parts[0].unknown {
		split := fields(one.parts, true)
		if len(split) == 1 && len(split[0]) == len(one.parts) {
			return []word{one}
		}
		return splitWord(split, at)
	}
	one.many = true
	if v == nil && (exp.Param.Value == "@" || exp.Param.Value == "*") {
		v = s.args
	}
	if v != nil && !v.busy {
		v.busy = true
		for _, value := range v.all {
			for _, f := range fields(v.of.parts(value.Parts, false), true) {
				if len(f) == 1 && f[0].unknown || len(one.may) >= maxWords {
					continue
				}
				one.may = append(one.may, word{parts: f, raw: shellStyle{}.parts(f), line: v.of.line + int(value.Pos().Line()) - 1})
			}
		}
		v.busy = false
	}
	return []word{one}
}

// splitWord makes words of what the shell splits one into.
func splitWord(split [][]part, line int) (out []word) {
	for _, f := range split {
		out = append(out, word{parts: f, raw: shellStyle{}.parts(f), line: line})
	}
	return out
}

// elements are the words of an array.
func (s *script) elements(v *variable, at int) (out []word) {
	if v.busy {
		return nil
	}
	v.busy = true
	defer func() { v.busy = false }()
	out = s.words(v.elems)
	return out
}

// loneExpansion is the variable a word consists of, in quotation marks or not.
func loneExpansion(w *syntax.Word) (exp *syntax.ParamExp, quoted bool) {
	parts := w.Parts
	if len(parts) == 1 {
		if q, is := parts[0].(*syntax.DblQuoted); is {
			parts, quoted = q.Parts, true
		}
	}
	if len(parts) != 1 {
		return nil, false
	}
	exp, is := parts[0].(*syntax.ParamExp)
	if !is || exp.Param == nil {
		return nil, false
	}
	if exp.Index != nil {
		if _, is := exp.Index.(*syntax.Word); !is {
			return nil, false
		}
	}
	return exp, quoted
}

// tilde is the home directory at the start of a word.
func (s *script) tilde(w *word) {
	if len(w.parts) == 0 || !strings.HasPrefix(w.raw, "~") {
		return
	}
	if rest, ok := strings.CutPrefix(w.parts[0].text, "~"); ok && (rest == "" || rest[0] == '/' || rest[0] == ':') && !w.parts[0].unknown {
		w.parts = append([]part{{text: "~", unknown: true, guess: "/home/user"}, {text: rest}}, w.parts[1:]...)
	}
}

// parts takes a word apart.
func (s *script) parts(list []syntax.WordPart, quoted bool) (out []part) {
	for _, p := range list {
		switch p := p.(type) {
		case *syntax.Lit:
			out = append(out, marked(unescape(p.Value, quoted))...)
		case *syntax.SglQuoted:
			text := p.Value
			if p.Dollar {
				text = ansiC(text)
			}
			out = append(out, marked(text)...)
		case *syntax.DblQuoted:
			if len(p.Parts) == 0 {
				out = append(out, part{})
			}
			out = append(out, s.parts(p.Parts, true)...)
		case *syntax.ParamExp:
			out = append(out, s.expansion(p, quoted)...)
		default:
			text := s.raw(p)
			name := makeVariable(text)
			guess := usual(name)
			if strings.Trim(text, "$()`") == "pwd" {
				guess = deepCwd
			}
			out = append(out, part{text: text, unknown: true, guess: guess, name: name, quoted: quoted})
		}
	}
	return out
}

// expansion is a variable: what it is assigned once, or unknown.
func (s *script) expansion(p *syntax.ParamExp, quoted bool) []part {
	unknown := part{text: s.raw(p), unknown: true, quoted: quoted}
	if p.Param == nil {
		return []part{unknown}
	}
	unknown.name = p.Param.Value
	plain := !p.Excl && !p.Length && !p.Width && !p.IsSet && p.Index == nil && p.Slice == nil && p.Repl == nil && p.Names == 0
	if !plain {
		return []part{unknown}
	}
	if parts, ok := s.resolve(p.Param.Value); ok && (p.Exp == nil || p.Exp.Op <= syntax.AssignUnsetOrNull && p.Exp.Op >= syntax.DefaultUnset) {
		parts = slices.Clone(parts)
		for i := range parts {
			parts[i].loose = !parts[i].unknown && !quoted
		}
		return parts
	}
	switch {
	case p.Exp == nil && p.Param.Value == "IFS" && s.vars["IFS"] == nil:
		return []part{{text: " ", loose: !quoted}}
	case p.Exp == nil:
		unknown.guess = usual(p.Param.Value)
	case p.Exp.Word != nil && p.Exp.Op <= syntax.AssignUnsetOrNull:
		// Of ${X:+VALUE} the value is what matters, if it holds.
		if parts := s.parts(p.Exp.Word.Parts, quoted); p.Exp.Op != syntax.ErrorUnset && p.Exp.Op != syntax.ErrorUnsetOrNull {
			unknown.guess = word{parts: parts}.fill("", true)
		}
		if len(unknown.guess) > maxValue {
			unknown.guess = ""
		}
	}
	return []part{unknown}
}

// makeVariable is the name in a $(NAME), which is a variable of a makefile: no
// program has a name in capitals.
func makeVariable(text string) string {
	name, is := strings.CutPrefix(text, "$(")
	if name = strings.TrimSuffix(name, ")"); !is || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
		return ""
	}
	return name
}

// usual is what a variable of every shell or makefile usually is.
func usual(name string) string {
	return map[string]string{
		"HOME": "/home/user", "PWD": deepCwd, "CURDIR": deepCwd, "XDG_RUNTIME_DIR": "/run/user/1000",
		"SSH_AUTH_SOCK": "/run/user/1000/ssh-agent.sock", "DOCKER_SOCK": "/var/run/docker.sock", "DOCKER_SOCKET": "/var/run/docker.sock",
	}[name]
}

// resolve gives the value of a variable that is assigned exactly once.
func (s *script) resolve(name string) ([]part, bool) {
	v := s.vars[name]
	if v == nil || v.assigned != 1 || v.array || v.busy || v.of == nil {
		return nil, false
	}
	if v.resolved {
		return v.parts, v.ok
	}
	v.busy = true
	v.resolved, v.ok = true, true
	if v.value != nil {
		w := word{parts: v.of.parts(v.value.Parts, false), raw: v.of.raw(v.value)}
		v.of.tilde(&w)
		size := 0
		for _, p := range w.parts {
			size += len(p.text) + 8
			v.ok = v.ok && (!p.unknown || len(w.parts) > 1)
		}
		// A value nobody knows at all is better shown by the variable's name.
		v.ok = v.ok && size <= maxValue
		v.parts = w.parts
		for i := range v.parts {
			if v.parts[i].unknown {
				v.parts[i].quoted = true
			}
		}
	}
	v.busy = false
	return v.parts, v.ok
}

// split makes words of an alias.
func (s *script) split(text string, line int) (out []word) {
	inner := &script{c: s.c, text: text, line: line, vars: s.vars, aliases: map[string]string{}}
	for w, err := range syntax.NewParser().WordsSeq(shallow{strings.NewReader(text)}) {
		if err != nil {
			return nil
		}
		if out = append(out, inner.word(w)...); len(out) >= maxWords {
			break
		}
	}
	for i := range out {
		out[i].line = line
	}
	return out
}

// unescape takes the backslashes out of text as the shell does.
func unescape(s string, quoted bool) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		next := s[i+1]
		switch {
		case next == '\n':
			i++
		case !quoted || strings.IndexByte("$`\"\\", next) >= 0:
			b.WriteByte(next)
			i++
		default:
			b.WriteByte('\\')
		}
	}
	return b.String()
}

// ansiC reads the escapes of $'...'.
func ansiC(s string) string {
	if q, err := strconv.Unquote(`"` + strings.NewReplacer(`\'`, `'`, `"`, `\"`, `\e`, `\x1b`, `\E`, `\x1b`, `\?`, `?`).Replace(s) + `"`); err == nil {
		return q
	}
	return s
}
