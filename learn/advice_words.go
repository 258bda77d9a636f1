package learn

import (
	"strconv"
	"strings"
	"unicode"
)

func times(n uint64) string {
	if n == 1 {
		return "once"
	}
	return strconv.FormatUint(n, 10) + " times"
}

const (
	maxShown  = 200 // bytes of a name from a container
	maxQuoted = 300 // and of its escaped form
)

// shown makes a name of a container fit for a line of advice: it is one word
// that says where it ends, also to the shell the advice is pasted into.
func shown(s string) string { return shellWord(escaped(s)) }

// shellWord quotes a word for a shell where it needs to be.
func shellWord(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool {
		return r <= unicode.MaxASCII && !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_=/.,:@+%", r)
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// escaped makes a string of a container fit for a terminal and a file.
func escaped(s string) string {
	if len(s) > maxShown {
		s = strings.ToValidUTF8(s[:maxShown], "") + "..."
	}
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		s = strconv.Quote(s)
		s = s[1 : len(s)-1]
		if len(s) > maxQuoted {
			s = strings.ToValidUTF8(s[:maxQuoted], "") + "..."
		}
	}
	return s
}

// noted is escaped for a profile, whose reader takes each bracket for nesting,
// and bounds that: those that are not paired become round.
func noted(s string) string {
	s = escaped(s)
	depth := 0
	for _, c := range s {
		switch c {
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		}
		if depth < 0 || depth > 3 {
			break
		}
	}
	if depth != 0 {
		return strings.NewReplacer("[", "(", "{", "(", "]", ")", "}", ")").Replace(s)
	}
	return s
}
