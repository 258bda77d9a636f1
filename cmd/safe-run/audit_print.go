package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	xterm "golang.org/x/term"

	"github.com/safe-run/safe-run/audit"
)

// style is how the terminal wants a table.
type style struct {
	width   int // columns; 0: nothing is broken into lines
	colour  bool
	unicode bool
	verbose bool // also what is as it should be
}

func terminalStyle(verbose bool) style {
	s := style{verbose: verbose, unicode: utf8Locale(os.Getenv)}
	if xterm.IsTerminal(int(os.Stdout.Fd())) {
		s.width = width()
		// https://no-color.org: any value but the empty one.
		s.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	}
	return s
}

// utf8Locale says whether the locale's characters are those of Unicode.
func utf8Locale(getenv func(string) string) bool {
	set := strings.ToLower(cmp.Or(getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG")))
	return strings.Contains(set, "utf-8") || strings.Contains(set, "utf8")
}

// shown is how findings of a severity look.
type shown struct {
	mark, plain string // plain: without Unicode
	colour      string // SGR parameters
}

func shownAs(s audit.Severity) shown {
	return [...]shown{
		audit.OK:       {"✓", "+", "32"},
		audit.Info:     {"·", "-", "36"},
		audit.Low:      {"!", "!", "33"},
		audit.Medium:   {"✗", "x", "33"},
		audit.High:     {"✗", "x", "31"},
		audit.Critical: {"✗", "X", "1;31"},
	}[min(max(s, audit.OK), audit.Critical)]
}

func (s style) paint(colour, text string) string {
	if !s.colour || colour == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (s style) mark(sev audit.Severity) string {
	if s.unicode {
		return shownAs(sev).mark
	}
	return shownAs(sev).plain
}

// worst is the highest severity of a report.
func worst(r audit.Report) (w audit.Severity) {
	for _, f := range r.Findings {
		w = max(w, f.Severity)
	}
	return w
}

// count tells weaknesses, notes, and what is as it should be.
func count(r audit.Report) (weak, notes, fine int) {
	for _, f := range r.Findings {
		switch {
		case f.Severity >= audit.Low:
			weak++
		case f.Severity == audit.Info:
			notes++
		default:
			fine++
		}
	}
	return weak, notes, fine
}

// auditText is all reports for a reader: several begin with a summary.
func auditText(reports []audit.Report, s style) string {
	var b strings.Builder
	if len(reports) > 1 {
		b.WriteString(summary(reports, s))
		b.WriteByte('\n')
	}
	for i, r := range reports {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(reportText(r, s))
	}
	return b.String()
}

// summary is a line for each container, the worst first.
func summary(reports []audit.Report, s style) string {
	sorted := slices.SortedStableFunc(slices.Values(reports), func(a, b audit.Report) int { return a.Score - b.Score })
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 1, 3, ' ', 0)
	fmt.Fprintln(w, "CONTAINER\tNAMESPACE\tIMAGE\tSCORE\tWORST\tFINDINGS")
	for _, r := range sorted {
		weak, _, _ := count(r)
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%v\t%d\n", brief(titleOf(r.Subject), 40), brief(cmp.Or(r.Subject.Namespace, "-"), 20), brief(cmp.Or(r.Subject.Image, "-"), 40),
			r.Score, worst(r), weak)
	}
	_ = w.Flush() // into memory
	return b.String()
}

// reportText is one container: who it is, a line and its remedy for each
// finding, and the verdict.
func reportText(r audit.Report, s style) string {
	var b strings.Builder
	b.WriteString(s.paint("1", brief(titleOf(r.Subject), 64)) + about(r.Subject) + "\n")
	var lines []audit.Finding
	title := 0
	for _, f := range r.Findings {
		if f.Severity == audit.OK && !s.verbose {
			continue
		}
		f.Title, f.Fact, f.Fix = brief(f.Title, 40), brief(f.Fact, 1000), brief(f.Fix, 1000)
		if f.Drift {
			f.Title += " (drift)"
		}
		title = max(title, len([]rune(f.Title)))
		lines = append(lines, f)
	}
	indent := 2 + 10 + title + 2
	for _, f := range lines {
		v := shownAs(f.Severity)
		fmt.Fprintf(&b, "%s %s%-*s  ", s.paint(v.colour, s.mark(f.Severity)), s.paint(v.colour, fmt.Sprintf("%-10s", f.Severity)), title, f.Title)
		b.WriteString(s.wrap(f.Fact, indent))
		b.WriteByte('\n')
		if f.Fix != "" && f.Severity != audit.OK {
			b.WriteString(strings.Repeat(" ", indent))
			b.WriteString(s.wrap(s.arrow()+" "+f.Fix, indent))
			b.WriteByte('\n')
		}
	}
	weak, notes, fine := count(r)
	w := worst(r)
	verdict := fmt.Sprintf("%d/100  worst: %s  %s", r.Score, w, plural(weak, "finding"))
	fmt.Fprintf(&b, "%s %s  %s  (%s, %d ok)\n", s.arrow(), brief(titleOf(r.Subject), 64), s.paint(shownAs(w).colour, verdict), plural(notes, "note"), fine)
	return b.String()
}

// about is what else is known of a container.
func about(of audit.Subject) string {
	var words []string
	if of.Image != "" {
		words = append(words, brief(of.Image, 100))
	}
	if of.Namespace != "" {
		words = append(words, "namespace "+brief(of.Namespace, 76))
	}
	if of.Name != "" && of.ID != "" {
		words = append(words, brief(titleOf(audit.Subject{ID: of.ID}), 76))
	}
	if of.Name != "" || of.ID != "" {
		words = append(words, fmt.Sprintf("process %d", of.PID))
	}
	if len(words) == 0 {
		return ""
	}
	return "  (" + strings.Join(words, ", ") + ")"
}

func (s style) arrow() string {
	if s.unicode {
		return "→"
	}
	return "->"
}

// wrap breaks a text between words into lines of which the first begins at
// column indent and the others are indented so far.
func (s style) wrap(text string, indent int) string {
	room := s.width - indent
	if s.width == 0 || room < 20 {
		return text
	}
	var b strings.Builder
	used := 0
	for word := range strings.FieldsSeq(text) {
		for n := len([]rune(word)); ; {
			if used > 0 && used+1+n > room {
				b.WriteByte('\n')
				b.WriteString(strings.Repeat(" ", indent))
				used = 0
			}
			if used > 0 {
				b.WriteByte(' ')
				used++
			}
			if n <= room {
				b.WriteString(word)
				used += n
				break
			}
			r := []rune(word)
			b.WriteString(string(r[:room]))
			word, n, used = string(r[room:]), n-room, room
		}
	}
	return b.String()
}

// brief makes a string of others safe to print within a line, and no longer
// than most characters.
func brief(text string, most int) string {
	r := []rune(oneLine(text))
	if len(r) > most {
		return string(r[:most-3]) + "..."
	}
	return string(r)
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
