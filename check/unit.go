package check

import (
	"slices"
	"strings"
	"unicode/utf8"

	"mvdan.cc/sh/v3/syntax"

	"github.com/safe-run/safe-run/internal/unit"
)

// setting is one KEY=VALUE of a unit. In the value each line end of the file is
// still one, so that words have lines.
type setting struct {
	section, key, value string
	line                int
}

// settings reads a unit as systemd.syntax(7) says.
func (c *checker) settings(text string) ([]setting, error) {
	var out []setting
	section := ""
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		line, at := strings.TrimSpace(lines[i]), i+1
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
			continue
		case line[0] == '[':
			if !strings.HasSuffix(line, "]") {
				return nil, c.wrong(at, "a section without its ]")
			}
			section = line[1 : len(line)-1]
			continue
		}
		var b strings.Builder
		for strings.HasSuffix(line, `\`) && i+1 < len(lines) {
			b.WriteString(line[:len(line)-1] + "\n")
			i++
			for i+1 < len(lines) && comment(lines[i]) { // within a continued line too
				b.WriteByte('\n')
				i++
			}
			line = strings.TrimSpace(lines[i])
		}
		b.WriteString(strings.TrimSuffix(line, `\`))
		key, value, ok := strings.Cut(b.String(), "=")
		if !ok {
			return nil, c.wrong(at, "neither a section, a setting nor a comment")
		}
		out = append(out, setting{section, strings.TrimSpace(key), strings.TrimLeft(value, " \t"), at})
	}
	return out, nil
}

func comment(line string) bool {
	line = strings.TrimSpace(line)
	return line != "" && (line[0] == '#' || line[0] == ';')
}

func (c *checker) unit(text string) error {
	all, err := c.settings(text)
	if err != nil {
		return err
	}
	if err := c.execLines(all); err != nil {
		return err
	}
	if len(c.r.Launches) > 0 {
		c.remark(0, "safe-run generate systemd", "prints a unit that runs a container in the foreground, as the service itself")
	}
	return nil
}

// execLines looks at all commands of a unit.
func (c *checker) execLines(all []setting) error {
	env := unitEnvironment(all)
	for _, s := range all {
		// What is no name of a setting systemd passes over, and it is printed.
		if !strings.HasPrefix(s.key, "Exec") || !syntax.ValidName(s.key) || s.section == "Container" {
			continue
		}
		if err := c.execLine(s, env); err != nil {
			return err
		}
	}
	return nil
}

// unitEnvironment are the variables a unit sets exactly once. With a file of
// variables none is known: it may set any of them.
func unitEnvironment(all []setting) map[string]string {
	env, twice := map[string]string{}, map[string]bool{}
	for _, s := range all {
		switch s.key {
		case "EnvironmentFile":
			return nil
		case "Environment":
			for _, w := range unitWords(s, nil, false) {
				if v, known := w.value(); known {
					name, value, _ := strings.Cut(v, "=")
					_, there := env[name]
					twice[name] = twice[name] || there
					env[name] = value
				}
			}
		}
	}
	for name := range twice {
		if twice[name] {
			delete(env, name)
		}
	}
	return env
}

// execLine looks at the commands of one Exec setting.
func (c *checker) execLine(s setting, env map[string]string) error {
	words := unitWords(s, env, true)
	for len(words) > 0 {
		n := slices.IndexFunc(words, func(w word) bool { return w.raw == ";" })
		one := words
		if n >= 0 {
			one, words = words[:n], words[n+1:]
		} else {
			words = nil
		}
		if len(one) == 0 {
			continue
		}
		marks := ""
		if h := one[0].head(); h != "" {
			marks = h[:len(h)-len(strings.TrimLeft(h, "@-:+!|"))]
		}
		first := one[0].after(len(marks))
		first.raw = strings.TrimPrefix(one[0].raw, marks)
		one[0] = first
		if strings.Contains(marks, "@") && len(one) > 1 {
			one = append(one[:1], one[2:]...)
			marks = strings.ReplaceAll(marks, "@", "")
		}
		sc := &script{
			c: c, line: one[0].line, style: unitStyle{}, lead: s.key + "=" + marks,
			vars: map[string]*variable{}, aliases: map[string]string{},
		}
		sc.command(one, nil)
		if sc.err != nil {
			return sc.err
		}
	}
	return nil
}

// unitWords splits a value as systemd.service(5) says: quotation marks, C
// escapes, specifiers, and variables where there are any.
func unitWords(s setting, env map[string]string, vars bool) (out []word) {
	v := s.value
	for i := 0; i < len(v) && len(out) <= maxFlags; {
		if strings.IndexByte(" \t\n", v[i]) >= 0 {
			i++
			continue
		}
		start := i
		w := word{line: s.line + strings.Count(v[:start], "\n")}
		var b strings.Builder
		flush := func() {
			if b.Len() > 0 {
				w.parts = append(w.parts, part{text: b.String()})
				b.Reset()
			}
		}
		var quote byte
		for i < len(v) && (quote != 0 || strings.IndexByte(" \t\n", v[i]) < 0) {
			ch := v[i]
			switch {
			case quote != 0 && ch == quote:
				quote = 0
				i++
			case quote == 0 && (ch == '"' || ch == '\''):
				quote = ch
				i++
				if b.Len() == 0 {
					w.parts = append(w.parts, part{})
				}
			case ch == '\\' && i+1 < len(v):
				text, n := cEscape(v[i:])
				b.WriteString(text)
				i += n
			case ch == '%' && i+1 < len(v) && v[i+1] == '%':
				b.WriteByte('%')
				i += 2
			case ch == '%' && i+1 < len(v) && isLetter(v[i+1]):
				flush()
				w.parts = append(w.parts, part{text: v[i : i+2], unknown: true, name: v[i : i+2], guess: specifier(v[i+1])})
				i += 2
			case ch == '$' && vars && i+1 < len(v) && v[i+1] == '$':
				b.WriteByte('$')
				i += 2
			case ch == '$' && vars:
				name, n := unitVariable(v[i:], i == start)
				if n == 0 {
					b.WriteByte(ch)
					i++
					break
				}
				flush()
				p := part{text: v[i : i+n], unknown: true, name: name}
				if value, known := env[name]; known {
					p = part{text: value}
				}
				w.parts = append(w.parts, p)
				w.many = v[i+1] != '{'
				i += n
			default:
				_, n := utf8.DecodeRuneInString(v[i:])
				b.WriteString(v[i : i+n])
				i += n
			}
		}
		flush()
		w.raw = v[start:i]
		if quote != 0 || strings.HasSuffix(w.raw, "\\") { // what is printed after it would become part of it
			w.raw = unitStyle{}.parts(w.parts)
		}
		if w.many && len(w.parts) == 1 && !w.parts[0].unknown {
			for _, f := range fields(w.parts, true) {
				out = append(out, word{parts: f, raw: unitStyle{}.parts(f), line: w.line})
			}
			continue
		}
		out = append(out, w)
	}
	return out
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// specifier is what a specifier usually is (systemd.unit(5)).
func specifier(c byte) string {
	switch c {
	case 'h':
		return "/root"
	case 't':
		return "/run"
	case 'E':
		return "/etc"
	}
	return ""
}

// unitVariable finds ${NAME} anywhere, and $NAME where it is a word of its own.
func unitVariable(s string, alone bool) (name string, n int) {
	if strings.HasPrefix(s, "${") {
		if end := strings.IndexByte(s, '}'); end > 0 && syntax.ValidName(s[2:end]) {
			return s[2:end], end + 1
		}
		return "", 0
	}
	n = 1
	for n < len(s) && (isLetter(s[n]) || s[n] == '_' || s[n] >= '0' && s[n] <= '9') {
		n++
	}
	if !alone || n == 1 || n < len(s) && strings.IndexByte(" \t\n", s[n]) < 0 {
		return "", 0
	}
	return s[1:n], n
}

// cEscape reads one escape; n is its length. One nobody knows stands for itself.
func cEscape(s string) (text string, n int) {
	if i := strings.IndexByte(`abfnrtv\"'s`, s[1]); i >= 0 {
		return "\a\b\f\n\r\t\v\\\"' "[i : i+1], 2
	}
	digits, base, from := 0, 0, 0
	switch {
	case s[1] == 'x':
		digits, base, from = 2, 16, 2
	case s[1] == 'u':
		digits, base, from = 4, 16, 2
	case s[1] >= '0' && s[1] <= '7':
		digits, base, from = 3, 8, 1
	default:
		return s[:1], 1
	}
	if len(s) < from+digits {
		return s[:1], 1
	}
	value := 0
	for _, c := range []byte(s[from : from+digits]) {
		d := strings.IndexByte("0123456789abcdef", c|0x20)
		if c >= '0' && c <= '9' {
			d = int(c - '0')
		}
		if d < 0 || d >= base {
			return s[:1], 1
		}
		value = value*base + d
	}
	return string(rune(value)), from + digits
}

// unitStyle writes words for an Exec line.
type unitStyle struct{}

func (unitStyle) text(s string) string {
	if q, err := unit.Word(s); err == nil {
		return q
	}
	return `""`
}

func (st unitStyle) parts(list []part) string {
	var b strings.Builder
	quotes := false
	for _, p := range list {
		if p.unknown {
			b.WriteString(p.text)
			continue
		}
		q := st.text(p.text)
		if p.text == "" {
			q = ""
		}
		if inner, is := strings.CutPrefix(q, `"`); is {
			q, quotes = strings.TrimSuffix(inner, `"`), true
		}
		b.WriteString(q)
	}
	if quotes || b.Len() == 0 {
		return `"` + b.String() + `"`
	}
	return b.String()
}
