package clidocs

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func tree() *cobra.Command {
	c := &cobra.Command{Use: "image [OPTIONS] NAME|ID", Short: "Images: ls", Long: "First line\nsecond one.\n\n  A  table\n    of it\n\n\tcommand ```x```\n\n# no heading", Aliases: []string{"img"}, Example: "  safe-run image a\n    safe-run image b"}
	c.Flags().StringArrayP("filter", "f", nil, "only `KEY=VALUE`|<b>*all*</b>")
	c.Flags().Int("last", -1, "only N")
	c.Flags().String("format", "table", "a Go template")
	c.Flags().Bool("hidden", false, "not shown")
	_ = c.Flags().MarkHidden("hidden")
	run := func(*cobra.Command, []string) {}
	c.Run = run
	c.AddCommand(
		&cobra.Command{Use: "ls", Short: "List them", Run: run},
		&cobra.Command{Use: "__secret", Short: "Not shown", Hidden: true, Run: run},
	)
	return c
}

func TestOf(t *testing.T) {
	p := Of(Verb{Command: tree(), Path: "safe-run image", Extra: "| extra |\n"})
	want := made + `# safe-run image

First line second one.

` + "```" + `
A  table
  of it
` + "```" + `

` + "````" + `
command ` + "```x```" + `
` + "````" + `

no heading

` + "```" + `
safe-run image [OPTIONS] NAME|ID
` + "```" + `

The same: ` + "`img`" + `

## Examples

` + "```" + `
safe-run image a
  safe-run image b
` + "```" + `

## Options

| option | |
|---|---|
| ` + "`-f, --filter KEY=VALUE`" + ` | only KEY=VALUE\|\<b\>\*all\*\</b\> |
| ` + "`--format string`" + ` | a Go template (default table) |
| ` + "`--last int`" + ` | only N |

| extra |

## safe-run image ls

List them.

` + "```" + `
safe-run image ls
` + "```" + `
`
	if got := string(p.Text); got != want || p.Name != "image.md" {
		t.Errorf("%s:\n%s\nwant:\n%s", p.Name, got, want)
	}
	links := string(Of(Verb{Command: &cobra.Command{Use: "policy", Short: "x"}, Path: "safe-run policy"}).Text)
	if !strings.HasSuffix(links, "\n## See also\n\n[the site's policy](../policy.md)\n") {
		t.Errorf("no links: %s", links)
	}
}

func TestIndex(t *testing.T) {
	text := string(Index([]*cobra.Command{{Use: "stop [OPTIONS]", Short: "Stop a|b"}, {Use: "ps", Short: "List"}}).Text)
	ps, stop := strings.Index(text, "| [`ps`](ps.md) | List |\n"), strings.Index(text, "| [`stop`](stop.md) | Stop a\\|b |\n")
	if ps < 0 || stop < ps {
		t.Errorf("not in order, or missing:\n%s", text)
	}
}

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"":               "",
		"a_b *c* `d`":    "a\\_b \\*c\\* \\`d\\`",
		"# x":            `\# x`,
		"-a":             `\-a`,
		"one\n  two":     "one two",
		"[x](y) <b> a|b": `\[x\](y) \<b\> a\|b`,
		`\`:              `\\`,
	} {
		if got := Escape(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// FuzzText: no text breaks out of its row or its fence.
func FuzzText(f *testing.F) {
	f.Add("a|b\n```\n# x", "  c")
	f.Fuzz(func(t *testing.T, a, b string) {
		row := Row("--x "+strings.Join(strings.Fields(a), " "), b)
		bars := strings.Count(row, "|") - strings.Count(row, `\|`)
		if strings.Count(row, "\n") != 1 || bars != 3 {
			t.Errorf("%q", row)
		}
		lines := strings.Split(strings.TrimSuffix(fenced(a), "\n"), "\n")
		if slices.Contains(lines[1:len(lines)-1], lines[0]) {
			t.Errorf("%q", lines)
		}
	})
}

func TestWriteAndStale(t *testing.T) {
	dir := t.TempDir()
	pages := []Page{{Name: "a.md", Text: []byte("a")}, {Name: "b.md", Text: []byte("b")}}
	if got := Stale(dir, pages); !slices.Equal(got, []string{"a.md", "b.md"}) {
		t.Errorf("missing: %q", got)
	}
	if err := Write(dir, pages); err != nil {
		t.Fatal(err)
	}
	if got := Stale(dir, pages); got != nil {
		t.Errorf("written: %q", got)
	}
	if err := os.WriteFile(dir+"/b.md", []byte("c"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := Stale(dir, pages); !slices.Equal(got, []string{"b.md"}) {
		t.Errorf("changed: %q", got)
	}
	if Write(dir+"/none", pages) == nil {
		t.Error("written into no directory")
	}
}
