package unit

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// systemdWords reads the value of ExecStart= as systemd does: words by
// extract_first_word with quotes and C escapes (basic/extract-word.c,
// basic/escape.c), specifiers (shared/specifier.c), then variables
// (basic/env-util.c); any specifier or variable is an error.
func systemdWords(line string) (words []string, err error) {
	if strings.ContainsAny(line, "\x00\r\n") || !utf8.ValidString(line) {
		return nil, errors.New("not one line of text")
	}
	for {
		line = strings.TrimLeft(line, " \t")
		if line == "" {
			return words, nil
		}
		if line[0] == ';' && (len(line) == 1 || line[1] == ' ' || line[1] == '\t') {
			return nil, errors.New("a second command")
		}
		var w string
		if w, line, err = systemdWord(line); err != nil {
			return nil, err
		}
		if len(words) == 0 && strings.IndexByte("@-:+!|", w[0]) >= 0 {
			return nil, errors.New("a prefix of the program")
		}
		if w, err = undouble(w, '%'); err != nil {
			return nil, err
		}
		if w, err = undouble(w, '$'); err != nil {
			return nil, err
		}
		words = append(words, w)
	}
}

func systemdWord(line string) (word, rest string, err error) {
	var b []byte
	var quote byte
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\':
			n, out, err := systemdEscape(line[i+1:])
			if err != nil {
				return "", "", err
			}
			b, i = append(b, out...), i+n
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
		return "", "", errors.New("a quotation mark is not closed")
	}
	return string(b), "", nil
}

// systemdEscape reads what follows a backslash.
func systemdEscape(s string) (n int, out []byte, err error) {
	if s == "" {
		return 0, nil, errors.New("a backslash at the end")
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
		return 0, nil, errors.New("an unknown escape")
	}
	v, err := strconv.ParseUint(s[1:1+digits], base, 32)
	switch {
	case err != nil || v == 0:
		return 0, nil, errors.New("an impossible escape")
	case digits == 2:
		return 3, []byte{byte(v)}, nil
	case base == 8 && v > 255:
		return 0, nil, errors.New("an impossible escape")
	case base == 8:
		return 3, []byte{byte(v)}, nil
	}
	return 1 + digits, utf8.AppendRune(nil, rune(v)), nil
}

func undouble(w string, c byte) (string, error) {
	var b []byte
	for i := 0; i < len(w); i++ {
		if w[i] == c {
			if i+1 == len(w) || w[i+1] != c {
				return "", errors.New("a single " + string(c))
			}
			i++
		}
		b = append(b, w[i])
	}
	return string(b), nil
}

// systemdLines gives the assignments of a unit file, "Section.Key" and value,
// as systemd reads them (shared/conf-parser.c): continued lines are joined by
// a blank, and comments between them go.
func systemdLines(text string) (all [][2]string, err error) {
	section, open := "", ""
	continued := false
	for l := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		if l = strings.TrimLeft(l, " \t"); l != "" && (l[0] == '#' || l[0] == ';') {
			continue
		}
		if continued {
			l = open + l
		}
		backslashes := len(l) - len(strings.TrimRight(l, `\`))
		if continued = backslashes%2 == 1; continued {
			open = l[:len(l)-1] + " "
			continue
		}
		l = strings.TrimSpace(l)
		switch key, value, ok := strings.Cut(l, "="); {
		case l == "":
		case l[0] == '[' && l[len(l)-1] == ']':
			section = l[1 : len(l)-1]
		case !ok || section == "":
			return nil, errors.New("neither a section nor an assignment")
		default:
			all = append(all, [2]string{section + "." + strings.TrimSpace(key), strings.TrimSpace(value)})
		}
	}
	if continued {
		return nil, errors.New("the last line is not complete")
	}
	return all, nil
}
