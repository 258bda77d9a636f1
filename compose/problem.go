package compose

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/safe-run/safe-run/internal/fail"
)

// Problem is something in a file that cannot be honoured.
type Problem struct {
	Place Place
	Key   string // as services.web.build; "" if it is of the whole file
	Text  string
	Hint  string // the next step, or ""
}

// String gives FILE:LINE: KEY: TEXT (HINT), fit for a terminal.
func (p Problem) String() string {
	s := printable(p.Text)
	if p.Key != "" {
		s = printable(p.Key) + ": " + s
	}
	if p.Place.File != "" {
		s = p.Place.String() + ": " + s
	}
	if p.Hint != "" {
		s += " (" + printable(p.Hint) + ")"
	}
	return s
}

// Problems are all that was found in all files. As an error it has a line for
// each.
type Problems []Problem

func (ps Problems) Error() string {
	const most = 100
	var lines []string
	for i, p := range ps {
		if i == most {
			lines = append(lines, fmt.Sprintf("and %d more", len(ps)-most))
			break
		}
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

// err gives problems as an error of kind Usage, in the order of the files;
// nil if there are none.
func (ps Problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Place.File, b.Place.File), cmp.Compare(a.Place.Line, b.Place.Line), cmp.Compare(a.Key, b.Key))
	})
	ps = slices.Compact(ps)
	return &fail.Error{Kind: fail.Usage, Err: ps}
}

// shown bounds how much of a file's text a message repeats, in bytes.
const shown = 400

// printable makes text of a file fit for a terminal and bounded in length.
func printable(s string) string {
	var b strings.Builder
	for i, r := range s {
		if i >= shown {
			b.WriteString("…")
			break
		}
		switch {
		case r == utf8.RuneError:
			b.WriteString(`\ufffd`)
		case r != ' ' && !unicode.IsPrint(r):
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// quote is printable in quotation marks.
func quote(s string) string {
	if len(s) > shown/4 {
		s = strings.ToValidUTF8(s[:shown/4], "") + "…"
	}
	return strconv.Quote(s)
}
