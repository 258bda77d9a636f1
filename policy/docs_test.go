package policy

import (
	"os"
	"strings"
	"testing"
)

// docTable is the catalogue as the documentation has it.
func docTable() string {
	var b strings.Builder
	for _, r := range Catalogue() {
		cell := func(s string) string { return strings.ReplaceAll(s, "|", "\\|") }
		grant := "never"
		if r.Grant != "" {
			grant = "`" + r.Grant + "`"
		}
		b.WriteString("| `" + r.ID + "` | " + cell(r.Title) + " | " + cell(r.GivesAway) + " | " + cell(r.SaferWay) + " | " + grant + " |\n")
	}
	return b.String()
}

func TestDocumentedCatalogue(t *testing.T) {
	const file, mark = "../docs/policy.md", "|---|---|---|---|---|\n"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), mark)
	table, after, _ := strings.Cut(rest, "\n\n")
	if ok && table+"\n" == docTable() {
		return
	}
	if os.Getenv("UPDATE_DOCS") != "" && ok {
		if err := os.WriteFile(file, []byte(before+mark+docTable()+"\n"+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("the catalogue in %s is not that of the code; run: UPDATE_DOCS=1 go test ./policy", file)
}

// The examples of the documentation are files that load.
func TestDocumentedExamples(t *testing.T) {
	data, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(data), "```yaml\n")[1:]
	if len(blocks) == 0 {
		t.Fatal("no examples")
	}
	for _, block := range blocks {
		text, _, _ := strings.Cut(block, "```")
		if _, err := ParseSite([]byte(text), "example"); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
}
