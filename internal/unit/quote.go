package unit

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/safe-run/safe-run/internal/fail"
)

// bare are the characters a word may have without quotation marks: none is
// special to systemd, wherever it stands.
const bare = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,@+"

// Word writes one word of an ExecStart= line by systemd.service(5): a
// specifier's % and a variable's $ are doubled, and what is not plain stands
// in double quotes with C escapes. Control characters and bytes that are not
// UTF-8 are written as numbers, so that no word ends the line, and the file
// stays text. NUL cannot be said.
func Word(s string) (string, error) {
	if strings.IndexByte(s, 0) >= 0 {
		return "", fail.New(fail.Usage, "no word of a unit can contain a NUL")
	}
	if s != "" && strings.Trim(s, bare) == "" {
		return s, nil
	}
	const hex = "0123456789abcdef"
	var b strings.Builder
	b.WriteByte('"')
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == '%' || r == '$':
			b.WriteRune(r)
			b.WriteRune(r)
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == utf8.RuneError && n <= 1, !unicode.IsPrint(r):
			for _, c := range []byte(s[:n]) {
				b.WriteString(`\x`)
				b.WriteByte(hex[c>>4])
				b.WriteByte(hex[c&15])
			}
		default:
			b.WriteRune(r)
		}
		s = s[n:]
	}
	b.WriteByte('"')
	return b.String(), nil
}
