package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// helpGroups are the headings of the help in their order.
func helpGroups() []string {
	return []string{
		groupOurs, groupContainer, groupProcess, groupTerminal, groupImage, groupFiles,
		groupLimits, groupNetwork, groupHealth, groupSecurity,
	}
}

// Usage follows the error of a wrong flag, as in docker: the form of the
// command and where to read more. verb is as in UsageLine.
func Usage(verb string) string {
	return "\n" + UsageLine(verb) + "\n\nRun '" + verb + " --help' for more information\n"
}

// UsageLine is the form of the command. verb is the command as called:
// "safe-run", "safe-run run" or "docker run".
func UsageLine(verb string) string {
	return "Usage:  " + verb + " [OPTIONS] IMAGE [COMMAND] [ARG...]"
}

const (
	minWidth     = 40
	defaultWidth = 80
	maxWidth     = 110
	// helpColumn is where the explanation of a flag starts.
	helpColumn = 33
)

// Help writes the help of verb, wrapped to width columns (0: 80).
func Help(w io.Writer, verb string, width int) {
	if width <= 0 {
		width = defaultWidth
	}
	width = min(max(width, minWidth), maxWidth)
	fmt.Fprintf(w, "%s\n\n", UsageLine(verb))
	fmt.Fprint(w, wrap("Run a command in a new container with the least privileges that work: no capabilities, "+
		"own user namespace, read-only root file system, strict seccomp, limits on memory and processes. "+
		"The flags are those of docker run.", 0, width))
	flags := append(Own(), Table()...)
	for _, g := range helpGroups() {
		var lines strings.Builder
		for _, f := range flags {
			if f.Group == g && f.Visibility == Public && f.Disposition <= PolicyChecked {
				lines.WriteString(helpLine(f, width))
			}
		}
		if lines.Len() > 0 {
			fmt.Fprintf(w, "\n%s:\n%s", g, lines.String())
		}
	}
	helpRest(w, flags, width)
}

// helpRest lists what is refused, by reason.
func helpRest(w io.Writer, flags []Flag, width int) {
	fmt.Fprint(w, "\nNot supported:\n")
	for _, r := range unsupportedFlags(flags) {
		fmt.Fprint(w, wrap("  "+strings.Join(r.names, " ")+":", 2, width), wrap("      "+r.why, 6, width))
	}
}

// unsupportedFor are flags that are not supported for the same reason.
type unsupportedFor struct {
	why   string
	names []string // sorted
}

func unsupportedFlags(flags []Flag) (all []unsupportedFor) {
	for _, f := range flags {
		if f.Disposition != Unsupported || f.Visibility == Hidden {
			continue
		}
		i := slices.IndexFunc(all, func(r unsupportedFor) bool { return r.why == f.Why })
		if i < 0 {
			i, all = len(all), append(all, unsupportedFor{why: f.Why})
		}
		all[i].names = append(all[i].names, "--"+f.Long)
		slices.Sort(all[i].names)
	}
	return all
}

// shown is a flag as the help shows it: its forms, and what it does.
func (f Flag) shown() (head, text string) {
	head = "      --" + f.Long
	if f.Short != "" {
		head = "  -" + f.Short + ", --" + f.Long
	}
	switch {
	case f.optional != "":
		head += "[=" + f.Arg + "]"
	case f.Arg != "":
		head += " " + f.Arg
	}
	text = f.Usage
	if f.Default != "" {
		text += " (default " + f.Default + ")"
	}
	return head, text
}

func helpLine(f Flag, width int) string {
	head, text := f.shown()
	column := helpColumn
	if width < 2*helpColumn {
		column = 10
	}
	if len(head) > column-2 {
		return head + "\n" + wrap(strings.Repeat(" ", column)+text, column, width)
	}
	return wrap(head+strings.Repeat(" ", column-len(head))+text, column, width)
}

// wrap breaks text at blanks so that no line is longer than width where that
// is possible. Lines after the first start with indent blanks. The blanks text
// begins with, and those inside it before the column indent, stay.
func wrap(text string, indent, width int) string {
	start := min(indent, len(text))
	var b strings.Builder
	b.WriteString(text[:start])
	used := start
	first := true
	for _, word := range strings.Fields(text[start:]) {
		switch {
		case first:
		case used+1+len(word) > width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			used = indent
		default:
			b.WriteByte(' ')
			used++
		}
		first = false
		b.WriteString(word)
		used += len(word)
	}
	b.WriteByte('\n')
	return b.String()
}
