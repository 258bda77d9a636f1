package unit

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/safe-run/safe-run/internal/fail"
)

// Setting is one assignment of a unit file.
type Setting struct {
	Section, Key, Value string
	Line                int // where it starts, from 1
}

// blanks are what systemd trims; other white space is text.
const blanks = " \t\r"

// maxSettings bounds what one file says.
const maxSettings = 100_000

// Settings gives the assignments of a unit file as systemd reads them
// (shared/conf-parser.c): continued lines are joined by a blank, and comments
// between them go. Errors have kind Usage.
func Settings(text string) (all []Setting, err error) {
	section, open := "", ""
	continued, start := false, 0
	wrong := func(n int, what string) error { return fail.New(fail.Usage, "line %d: %s", n, what) }
	n := 0
	for l := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		n++
		if l = strings.TrimLeft(strings.TrimSuffix(l, "\r"), " \t"); l != "" && (l[0] == '#' || l[0] == ';') {
			continue
		}
		if continued {
			l = open + l
		} else {
			start = n
		}
		backslashes := len(l) - len(strings.TrimRight(l, `\`))
		if continued = backslashes%2 == 1; continued {
			open = l[:len(l)-1] + " "
			continue
		}
		l = strings.Trim(l, blanks)
		switch key, value, ok := strings.Cut(l, "="); {
		case l == "":
		case l[0] == '[' && l[len(l)-1] == ']':
			section = l[1 : len(l)-1]
		case !ok || section == "":
			return nil, wrong(start, "neither a section nor an assignment")
		case len(all) == maxSettings:
			return nil, wrong(start, "too many settings")
		default:
			all = append(all, Setting{section, strings.Trim(key, blanks), strings.Trim(value, blanks), start})
		}
	}
	if continued {
		return nil, wrong(n, "the last line is not complete")
	}
	return all, nil
}

// Commands reads the value of an Exec line: commands separated by ;, each of
// words. Words are found as systemd does (basic/extract-word.c,
// basic/escape.c), then go through Expand. What stands before the program (one
// of @-:+!|) is left out.
func Commands(value string, unknown func(written string) string) (all [][]string, err error) {
	if strings.ContainsAny(value, "\x00\r\n") || !utf8.ValidString(value) {
		return nil, fail.New(fail.Usage, "it is not one line of text")
	}
	var one []string
	for {
		value = strings.TrimLeft(value, " \t")
		switch {
		case value == "":
			if len(one) > 0 {
				all = append(all, one)
			}
			return all, nil
		case value[0] == ';' && (len(value) == 1 || value[1] == ' ' || value[1] == '\t'):
			if len(one) > 0 {
				all = append(all, one)
			}
			one, value = nil, value[1:]
			continue
		case strings.HasPrefix(value, `\;`) && (len(value) == 2 || value[2] == ' ' || value[2] == '\t'):
			one, value = append(one, ";"), value[2:]
			continue
		}
		var w string
		if w, value, err = word(value, unknown != nil); err != nil {
			return nil, err
		}
		if len(one) == 0 {
			switch bare := strings.TrimLeft(w, "@-:+!|"); {
			case unknown == nil && bare != w:
				return nil, fail.New(fail.Usage, "a prefix of the program")
			case strings.Contains(w[:len(w)-len(bare)], "@"): // the next word is the program's name for itself
				value = strings.TrimLeft(value, " \t")
				if _, value, err = word(value, true); err != nil {
					return nil, err
				}
				fallthrough
			default:
				w = bare
			}
		}
		if w, err = Expand(w, unknown); err != nil {
			return nil, err
		}
		one = append(one, w)
	}
}

// Split takes a value apart at blanks, without quotation marks and with C
// escapes, as keys with several words have them.
func Split(value string) (list []string, err error) {
	for {
		value = strings.TrimLeft(value, " \t")
		if value == "" {
			return list, nil
		}
		var w string
		if w, value, err = word(value, true); err != nil {
			return nil, err
		}
		list = append(list, w)
	}
}

// Expand resolves %% and $$ of a word; any other specifier (shared/specifier.c)
// or variable (basic/env-util.c) becomes what unknown gives for it. Without
// unknown they are errors.
func Expand(w string, unknown func(written string) string) (string, error) {
	for _, mark := range "%$" {
		var b strings.Builder
		for i := 0; i < len(w); i++ {
			if w[i] != byte(mark) {
				b.WriteByte(w[i])
				continue
			}
			rest := w[i+1:]
			if rest != "" && rest[0] == byte(mark) {
				b.WriteByte(w[i])
				i++
				continue
			}
			if unknown == nil {
				return "", fail.New(fail.Usage, "a single %c", mark)
			}
			n := reference(byte(mark), rest)
			if n == 0 {
				b.WriteByte(w[i])
				continue
			}
			b.WriteString(unknown(w[i : i+1+n]))
			i += n
		}
		w = b.String()
	}
	return w, nil
}

// reference gives the length of a specifier's letter, or of a variable's name.
func reference(mark byte, rest string) int {
	name := func(s string) (n int) {
		for n < len(s) && (s[n] == '_' || s[n]|0x20 >= 'a' && s[n]|0x20 <= 'z' || n > 0 && s[n] >= '0' && s[n] <= '9') {
			n++
		}
		return n
	}
	switch {
	case rest == "":
		return 0
	case mark == '%' && name(rest[:1]) == 1 && rest[0] != '_':
		return 1
	case mark == '%':
		return 0
	case rest[0] == '{':
		if n := name(rest[1:]); n > 0 && strings.HasPrefix(rest[1+n:], "}") {
			return n + 2
		}
		return 0
	}
	return name(rest)
}

// word reads one word. Unknown escapes are errors, or stand for themselves.
func word(line string, relaxed bool) (w, rest string, err error) {
	var b []byte
	var quote byte
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\':
			n, out, err := escape(line[i+1:])
			switch {
			case err == nil:
				b, i = append(b, out...), i+n
			case !relaxed:
				return "", "", err
			default:
				b = append(b, c)
				if i++; i < len(line) {
					b = append(b, line[i])
				}
			}
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote == 0 && (c == ' ' || c == '\t'):
			return string(b), line[i:], nil
		default:
			b = append(b, c)
		}
	}
	if quote != 0 {
		return "", "", fail.New(fail.Usage, "a quotation mark is not closed")
	}
	return string(b), "", nil
}

// escape reads what follows a backslash.
func escape(s string) (n int, out []byte, err error) {
	if s == "" {
		return 0, nil, fail.New(fail.Usage, "a backslash at the end")
	}
	if i := strings.IndexByte(`abfnrtv\"'s`, s[0]); i >= 0 {
		return 1, []byte{"\a\b\f\n\r\t\v\\\"' "[i]}, nil
	}
	digits, base := 0, 16
	switch {
	case s[0] == 'x':
		digits = 2
	case s[0] == 'u':
		digits = 4
	case s[0] == 'U':
		digits = 8
	case s[0] >= '0' && s[0] <= '7':
		s, digits, base = " "+s, 3, 8
	}
	if digits == 0 || len(s) <= digits {
		return 0, nil, fail.New(fail.Usage, "an unknown escape")
	}
	v, err := strconv.ParseUint(s[1:1+digits], base, 32)
	switch {
	case err != nil || v == 0:
		return 0, nil, fail.New(fail.Usage, "an impossible escape")
	case digits == 2:
		return 3, []byte{byte(v)}, nil
	case base == 8 && v > 255:
		return 0, nil, fail.New(fail.Usage, "an impossible escape")
	case base == 8:
		return 3, []byte{byte(v)}, nil
	}
	return 1 + digits, utf8.AppendRune(nil, rune(v)), nil
}
