package profiles

import (
	"os"
	"strings"
	"testing"
)

// embeddedTable is the list of embedded profiles as the documentation has it.
func embeddedTable(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, name := range Embedded() {
		l, err := Find(name, nil, "")
		if err != nil {
			t.Fatal(err)
		}
		var caps, paths []string
		for _, c := range l.Profile.Capabilities {
			caps = append(caps, c.Name)
		}
		for _, w := range l.Profile.Writable {
			paths = append(paths, "`"+w.Path+"`")
		}
		cell := func(s string) string { return strings.ReplaceAll(either(s, "-"), "|", "\\|") }
		b.WriteString("| `" + name + "` | " + cell(strings.Join(caps, ", ")) + " | " + cell(strings.Join(paths, ", ")) + " | " + cell(l.Profile.Description) + " |\n")
	}
	return b.String()
}

func TestDocumentedProfiles(t *testing.T) {
	const file, mark = "../docs/profiles.md", "|---|---|---|---|\n"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), mark)
	table, after, _ := strings.Cut(rest, "\n\n")
	if strings.TrimSuffix(table, "\n")+"\n" != embeddedTable(t) {
		if os.Getenv("UPDATE_DOCS") == "" || !ok {
			t.Errorf("the embedded profiles in %s are not those there are; run: UPDATE_DOCS=1 go test ./profiles", file)
		} else {
			text := before + mark + embeddedTable(t)
			if after != "" {
				text += "\n" + after
			}
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, example, _ := strings.Cut(string(data), "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	p, err := Parse([]byte(example), "docs/profiles.md")
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, p)
	if len(p.Flags()) < 20 {
		t.Errorf("the example is short: %v", p.Flags())
	}
}
