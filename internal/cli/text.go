package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// shownBytes bounds how much of a user's string a message repeats.
const shownBytes = 120

// quote makes a string from the command line or a file fit for a message:
// quoted, without raw control characters, of bounded length.
func quote(s string) string {
	if len(s) <= shownBytes {
		return strconv.Quote(s)
	}
	return fmt.Sprintf("%q… (%d bytes)", s[:shownBytes], len(s))
}

// printable is quote without the quotation marks, for texts of libraries
// that repeat what the user typed.
func printable(s string) string {
	if len(s) > 4*shownBytes {
		s = s[:4*shownBytes] + "…"
	}
	var b strings.Builder
	for _, r := range s {
		if r == utf8.RuneError || (r != ' ' && !unicode.IsPrint(r)) {
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// clean says why a name or path cannot be used: not UTF-8 (the runtime spec
// is JSON and would carry another path), a control character or a line
// separator (they end up in hosts files, logs and terminals), or too long
// (PATH_MAX is the longest string the kernel takes as a path).
func clean(s string) error {
	if len(s) >= 4096 {
		return fmt.Errorf("%d bytes are too long, at most 4095 are possible", len(s))
	}
	if !utf8.ValidString(s) {
		return errors.New("it is not valid UTF-8")
	}
	for _, r := range s {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return fmt.Errorf("it contains the control character %q", r)
		}
	}
	return nil
}

// cleanWord is clean for values that must not be empty.
func cleanWord(s string) error {
	if s == "" {
		return errors.New("the value is empty")
	}
	return clean(s)
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }

// only says whether s is not empty and made of letters, digits and the bytes
// of extra alone.
func only(s, extra string) bool {
	for i := 0; i < len(s); i++ {
		if !isLetter(s[i]) && !isDigit(s[i]) && strings.IndexByte(extra, s[i]) < 0 {
			return false
		}
	}
	return s != ""
}

// maxName is the longest name of a container or volume. Names become file
// names and labels.
const maxName = 64

// checkName checks the name of a container or volume by docker's pattern
// [a-zA-Z0-9][a-zA-Z0-9_.-]+ and a bound.
func checkName(s string) error {
	switch {
	case len(s) < 2 || !only(s[:1], "") || !only(s, "_.-"):
		return fmt.Errorf("%s is not a name: it takes two or more letters, digits, \"_\", \".\" and \"-\", and starts with a letter or digit", quote(s))
	case len(s) > maxName:
		return fmt.Errorf("the name has %d characters, at most %d are possible", len(s), maxName)
	}
	return nil
}
