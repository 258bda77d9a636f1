package check

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// Found says whether safe-run would not run something of a report as it stands.
func (r *Report) Found() bool {
	for _, l := range r.Launches {
		if l.Verdict == Refused || l.Verdict == NotHonoured {
			return true
		}
	}
	return false
}

// WriteText prints a report for people. Nothing it prints comes from the file
// unescaped.
func (r *Report) WriteText(w io.Writer) error {
	var b bytes.Buffer
	for _, l := range r.Launches {
		l.writeText(&b, r.File)
	}
	for _, m := range r.Remarks {
		fmt.Fprintf(&b, "%s: %s: %s\n", at(r.File, m.Line), m.Flag, m.Why)
	}
	switch {
	case len(r.Launches) > 0:
	case len(r.Remarks) > 0:
		fmt.Fprintf(&b, "%s: no launch here that can be judged\n", r.File)
	default:
		fmt.Fprintf(&b, "%s: nothing here starts a container\n", r.File)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func at(file string, line int) string {
	if line == 0 {
		return file
	}
	return file + ":" + itoa(line)
}

func (l *Launch) writeText(b *bytes.Buffer, file string) {
	image := ""
	if l.Image != "" {
		image = " of " + l.Image
	}
	fmt.Fprintf(b, "%s: %s%s: %s\n", at(file, l.Line), l.Command, image, l.summary())
	for _, r := range l.Refused {
		grant := "none can be given"
		if r.Grant != "" {
			grant = r.Grant + "  (site policy)"
			if r.Image != "" && !strings.HasPrefix(r.Grant, "limits:") {
				grant = r.Grant + "  (site policy, image: " + r.Image + ")"
			}
		}
		fmt.Fprintf(b, "\n  %s   [%s] line %d\n    gives away: %s\n    instead:    %s\n    grant:      %s\n", r.Flag, r.ID, r.Line, r.GivesAway, r.Safer, grant)
	}
	remarks(b, "not honoured", l.NotHonoured)
	remarks(b, "unknown until it runs", l.Unknown)
	b.WriteString("\n  with safe-run:\n    " + l.Rewritten + "\n")
	var out []string
	for _, c := range l.Changes {
		if c.Now != "" {
			out = append(out, c.Flag+" -> "+c.Now+" ["+c.Why+"]")
		} else {
			out = append(out, c.Flag+" ["+c.Why+"]")
		}
	}
	if len(out) > 0 {
		b.WriteString("    # without: " + strings.Join(out, ", ") + "\n")
	}
	for _, n := range l.Notes {
		b.WriteString("    # " + n + "\n")
	}
	b.WriteString("\n")
}

func remarks(b *bytes.Buffer, title string, all []Remark) {
	if len(all) == 0 {
		return
	}
	b.WriteString("\n  " + title + ":\n")
	for _, m := range all {
		b.WriteString("    " + m.Flag)
		if m.Why != "" {
			b.WriteString(": " + m.Why)
		}
		b.WriteByte('\n')
	}
}

func (l *Launch) summary() string {
	switch {
	case len(l.Refused) == 1:
		return "refused"
	case len(l.Refused) > 1:
		return fmt.Sprintf("refused, for %d reasons", len(l.Refused))
	case l.Verdict == NotHonoured:
		return "nothing refused, but not all can be honoured"
	case l.Verdict == Unknown:
		return "nothing refused of what is known"
	}
	return "nothing refused"
}
