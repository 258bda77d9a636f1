// Package plain makes text of images, files and other people fit for a terminal
// and for a line of a log.
package plain

import (
	"strings"
	"unicode"
)

// Hidden says whether a character does not show as itself: control characters,
// those that turn the direction of what follows, and those that are not seen.
func Hidden(r rune) bool { return !unicode.IsPrint(r) }

// Text makes text safe for a terminal: what is hidden becomes U+FFFD. Line
// breaks and tabs stay.
func Text(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && Hidden(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// Line makes a word safe within a line: line breaks and tabs become U+FFFD too.
func Line(s string) string {
	return strings.Map(func(r rune) rune {
		if Hidden(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
