package dockerline

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// bare are the characters no shell takes for anything but themselves, wherever
// in a word they stand.
const bare = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,@+%"

// shell quotes a word for bash. What does not show as itself is written by its
// number in $'...', so that the script is one that can be read, and is plain
// ASCII there.
func shell(s string) string {
	if s != "" && strings.Trim(s, bare) == "" {
		return s
	}
	hidden := !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
	if !hidden {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	var b strings.Builder
	b.WriteString("$'")
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == '\'' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == utf8.RuneError && n <= 1, !unicode.IsPrint(r):
			for _, c := range []byte(s[:n]) {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		default:
			b.WriteRune(r)
		}
		s = s[n:]
	}
	b.WriteByte('\'')
	return b.String()
}

func shellLine(list []string) string {
	quoted := make([]string, len(list))
	for i, w := range list {
		quoted[i] = shell(w)
	}
	return strings.Join(quoted, " ")
}
