package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/clidocs"
)

// docsVerb writes docs/verbs, but for the pages of the companion's verbs, which
// it writes itself when it is called in the same way.
func docsVerb() *cobra.Command {
	return &cobra.Command{Use: clidocs.Word + " DIRECTORY", Hidden: true, Args: exactly(1), RunE: func(c *cobra.Command, args []string) error {
		return clidocs.Write(args[0], docsPages(c.Root()))
	}}
}

// docsPages are the pages of all verbs of root and the list of them.
func docsPages(root *cobra.Command) []clidocs.Page {
	root.InitDefaultCompletionCmd()
	withoutFlagsWord(root)
	var shown []*cobra.Command
	for _, c := range root.Commands() {
		if !c.Hidden {
			shown = append(shown, c)
		}
	}
	pages := []clidocs.Page{clidocs.Index(shown)}
	for _, c := range shown {
		if slices.Contains(companionVerbs, c.Name()) {
			continue
		}
		v := clidocs.Verb{Command: c, Path: "safe-run " + c.Name(), Extra: otherWords(c.Name())}
		if c.Name() == "run" {
			v.Extra = runDocs()
		}
		pages = append(pages, clidocs.Of(v))
	}
	return pages
}

// otherWords are those of docker's groups that are verbs here.
func otherWords(group string) string {
	var b strings.Builder
	for _, m := range management {
		if m.group == group {
			fmt.Fprintf(&b, "| `safe-run %s %s` | [`safe-run %s`](%s.md) |\n", group, m.word, strings.Join(m.verb, " "), m.verb[0])
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "| word | the same as |\n|---|---|\n" + b.String()
}

// runGroups are the headings of run's flags, in the order of its help.
func runGroups() []string {
	return []string{
		"Only in safe-run", "Container", "Process", "Terminal and signals", "Image", "Files and volumes",
		"Limits", "Network", "Health", "Security (bounded by the policy)",
	}
}

// runDocs are the options of run, out of the table of its flags, and its exit
// codes.
func runDocs() string {
	var b strings.Builder
	flags := slices.DeleteFunc(append(cli.Own(), cli.Table()...), func(f cli.Flag) bool { return f.Visibility != cli.Public })
	b.WriteString("## Options\n\nThose marked *policy* may be refused, by their value; what is refused and how a site allows it is in [policy.md](../policy.md).\n")
	for _, g := range runGroups() {
		fmt.Fprintf(&b, "\n### %s\n\n%s", g, clidocs.Head)
		for _, f := range flags {
			if f.Group == g && f.Disposition <= cli.PolicyChecked {
				head, text := runFlag(f)
				row := clidocs.Row(head, text)
				if f.Disposition == cli.PolicyChecked {
					row = strings.TrimSuffix(row, " |\n") + " *policy* |\n"
				}
				b.WriteString(row)
			}
		}
	}
	b.WriteString("\n### Not supported\n\nEach is an error (125), and never ignored.\n\n| option | why, and what instead |\n|---|---|\n")
	for _, f := range flags {
		if f.Disposition == cli.Unsupported {
			b.WriteString(clidocs.Row("--"+f.Long, f.Why))
		}
	}
	b.WriteString("\n## Exit codes\n\n| code | |\n|---|---|\n")
	for _, c := range [][2]string{
		{"the program's", "it ran, and ended with it"},
		{"1", "no IMAGE, -i with -t and no terminal, output that could not be written"},
		{"125", "refused, a wrong command line, or a failure of safe-run: the program has not run"},
		{"126", "the command cannot be executed"},
		{"127", "the command does not exist"},
		{"128+n", "ended by signal n: 137 is SIGKILL (also the memory limit), 143 is SIGTERM"},
		{"141", "who read the output has gone"},
	} {
		fmt.Fprintf(&b, "| %s | %s |\n", c[0], clidocs.Escape(c[1]))
	}
	return b.String()
}

// runFlag is a flag with its argument, and what it does with its default.
func runFlag(f cli.Flag) (head, text string) {
	head = "--" + f.Long
	if f.Short != "" {
		head = "-" + f.Short + ", " + head
	}
	switch _, _, err := cli.Split([]string{"--" + f.Long}); {
	case f.Arg == "":
	case err == nil: // its value may be left out
		head += "[=" + f.Arg + "]"
	default:
		head += " " + f.Arg
	}
	text = f.Usage
	if f.Default != "" {
		text += " (default " + f.Default + ")"
	}
	return head, text
}
