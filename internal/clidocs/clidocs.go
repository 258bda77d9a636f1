// Package clidocs writes the pages of docs/verbs: one for each verb of a tree of
// commands, in Markdown, from what --help is made of.
package clidocs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/safe-run/safe-run/internal/fail"
)

// Word is the hidden verb that writes the pages into a directory.
const Word = "__docs"

// Page is one file of docs/verbs.
type Page struct {
	Name string // of the file
	Text []byte
}

// Verb is a command with what its page says besides.
type Verb struct {
	*cobra.Command
	Path  string // the words that call it, "safe-run image"
	Extra string // Markdown after the options
	// Plain leaves the options of the command itself out, where Extra has them.
	Plain bool
}

// Of is the page of a verb: its further words are sections of it.
func Of(v Verb) Page {
	var b bytes.Buffer
	b.WriteString(made)
	section(&b, v, 1)
	if links := seeAlso(v.Name()); len(links) > 0 {
		fmt.Fprintf(&b, "\n## See also\n\n%s\n", strings.Join(links, ", "))
	}
	return Page{Name: v.Name() + ".md", Text: b.Bytes()}
}

const made = "<!-- Written by `make docs`; the texts are in the program. -->\n\n"

// Index is the page that lists verbs.
func Index(verbs []*cobra.Command) Page {
	var b bytes.Buffer
	b.WriteString(made + "# The verbs of safe-run\n\n" +
		"`safe-run [OPTIONS] IMAGE [COMMAND] [ARG...]` is `safe-run run`. The verbs with the name of one of docker's take docker's flags.\n" +
		"`safe-run VERB --help` and the manual page safe-run-VERB(1) say the same as these pages.\n\n" +
		"| verb | |\n|---|---|\n")
	sorted := slices.Clone(verbs)
	slices.SortFunc(sorted, func(a, b *cobra.Command) int { return strings.Compare(a.Name(), b.Name()) })
	for _, c := range sorted {
		fmt.Fprintf(&b, "| [`%s`](%[1]s.md) | %s |\n", c.Name(), Escape(c.Short))
	}
	b.WriteString("\n## Exit codes\n\n" +
		"A page says so where a verb has others. Those of `run` are on [its page](run.md).\n\n" +
		"| code | |\n|---|---|\n" +
		"| 0 | done |\n" +
		"| 1 | not done, at least for one of what was named |\n" +
		"| 125 | the command line is wrong |\n" +
		"| 128+n | ended by signal n |\n")
	return Page{Name: "README.md", Text: b.Bytes()}
}

// section writes a command below a heading of a level, then its further words.
func section(b *bytes.Buffer, v Verb, level int) {
	fmt.Fprintf(b, "%s %s\n\n", strings.Repeat("#", level), v.Path)
	text := v.Long
	if strings.TrimSpace(text) == "" {
		text = strings.TrimSuffix(v.Short, ".") + "."
	}
	b.WriteString(paragraphs(text))
	if v.Runnable() && v.Use != v.Name() || !v.HasAvailableSubCommands() {
		fmt.Fprintf(b, "\n%s", fenced(usage(v)))
	}
	if len(v.Aliases) > 0 {
		fmt.Fprintf(b, "\nThe same: `%s`\n", strings.Join(v.Aliases, "`, `"))
	}
	if v.Example != "" {
		fmt.Fprintf(b, "\n%s Examples\n\n%s", strings.Repeat("#", level+1), fenced(unindented(v.Example)))
	}
	if !v.Plain {
		options(b, v.Command, level+1)
	}
	if v.Extra != "" {
		b.WriteString("\n" + v.Extra)
	}
	for _, sub := range v.Commands() {
		if !sub.Hidden {
			b.WriteString("\n")
			section(b, Verb{Command: sub, Path: v.Path + " " + sub.Name()}, level+1)
		}
	}
}

func usage(v Verb) string {
	_, arguments, _ := strings.Cut(v.Use, " ")
	return unindented(strings.TrimSpace(v.Path+" "+arguments)) + "\n"
}

// options writes the table of a command's flags, and nothing where there are none.
func options(b *bytes.Buffer, c *cobra.Command, level int) {
	var rows []string
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && f.Name != "help" {
			head, text := option(f)
			rows = append(rows, Row(head, text))
		}
	})
	if len(rows) > 0 {
		fmt.Fprintf(b, "\n%s Options\n\n%s%s", strings.Repeat("#", level), Head, strings.Join(rows, ""))
	}
}

// option is a flag with its argument, and what it does with its default.
func option(f *pflag.Flag) (head, text string) {
	argument, text := pflag.UnquoteUsage(f)
	head = "--" + f.Name
	if f.Shorthand != "" {
		head = "-" + f.Shorthand + ", " + head
	}
	switch argument { // of a type of Go
	case "":
	case "stringArray", "strings":
		head += " string"
	case "ints":
		head += " int"
	default:
		head += " " + argument
	}
	switch f.DefValue {
	case "", "false", "0", "0s", "[]", "-1":
	default:
		text += " (default " + f.DefValue + ")"
	}
	return head, text
}

// Head begins a table of options.
const Head = "| option | |\n|---|---|\n"

// Row is an option in such a table.
func Row(head, text string) string {
	return fmt.Sprintf("| `%s` | %s |\n", strings.ReplaceAll(strings.ReplaceAll(head, "`", "'"), "|", `\|`), Escape(text))
}

// Escape makes plain text fit for a line of Markdown that shows it as it is.
func Escape(text string) string {
	var b strings.Builder
	for _, r := range strings.Join(strings.Fields(text), " ") {
		if strings.ContainsRune("\\`*_<>|[]$", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	out := b.String()
	if out != "" && strings.ContainsRune("#+-=", rune(out[0])) {
		return `\` + out
	}
	return out
}

// paragraphs of a help text: what is set off by blanks is a table or an example,
// and stays as it is.
func paragraphs(text string) string {
	var all []string
	for p := range strings.SplitSeq(strings.Trim(text, "\n"), "\n\n") {
		switch lines := strings.Trim(p, "\n"); {
		case strings.TrimSpace(lines) == "":
		case strings.HasPrefix(lines, " "), strings.Contains(lines, "\n "), strings.Contains(lines, "\t"):
			all = append(all, fenced(unindented(lines)))
		default:
			all = append(all, Escape(strings.TrimLeft(lines, "# "))+"\n")
		}
	}
	return strings.Join(all, "\n")
}

// unindented takes off the blanks that all lines begin with.
func unindented(text string) string {
	lines := strings.Split(strings.ReplaceAll(strings.Trim(text, "\n"), "\t", "        "), "\n")
	least := -1
	for _, l := range lines {
		if n := len(l) - len(strings.TrimLeft(l, " ")); strings.TrimSpace(l) != "" && (least < 0 || n < least) {
			least = n
		}
	}
	for i, l := range lines {
		lines[i] = strings.TrimRight(l[min(max(least, 0), len(l)):], " ")
	}
	return strings.Join(lines, "\n") + "\n"
}

// fenced is text that is shown as it is. A fence is longer than any in the text.
func fenced(text string) string {
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	return fence + "\n" + strings.TrimRight(text, "\n") + "\n" + fence + "\n"
}

// Write puts pages into a directory.
func Write(dir string, pages []Page) error {
	for _, p := range pages {
		if err := os.WriteFile(filepath.Join(dir, p.Name), p.Text, 0o644); err != nil {
			return fail.Wrap(fail.HostCannot, err, "writing the pages of the verbs")
		}
	}
	return nil
}

// Stale says which files of a directory are not what the pages are.
func Stale(dir string, pages []Page) (names []string) {
	for _, p := range pages {
		is, err := os.ReadFile(filepath.Join(dir, p.Name))
		if err != nil || !bytes.Equal(is, p.Text) {
			names = append(names, p.Name)
		}
	}
	return names
}
