package threats

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/tests/threats/catalogue"
)

// TestCatalogue: every row is there, has its words, and has a test or a
// reason; and no test is without a row.
func TestCatalogue(t *testing.T) {
	if _, err := os.Stat("main_test.go"); err != nil {
		return // no sources: a virtual machine
	}
	tests := map[string]bool{}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && regexp.MustCompile(`^Test[A-Z][0-9]+$`).MatchString(fn.Name.Name) {
				tests[strings.TrimPrefix(fn.Name.Name, "Test")] = true
			}
		}
	}
	for _, s := range catalogue.Sections() {
		if n := catalogue.Counts()[s.Letter]; len(s.Rows) != n {
			t.Errorf("section %s has %d rows, wanted %d", s.Letter, len(s.Rows), n)
		}
		for i, r := range s.Rows {
			switch {
			case r.ID != catalogue.Name(s.Letter, i+1):
				t.Errorf("row %d of section %s is %s", i+1, s.Letter, r.ID)
			case r.Threat == "" || r.Defence == "":
				t.Errorf("%s has no words", r.ID)
			case strings.ContainsAny(r.Threat+r.Defence+r.Untested+r.Accepted, "|\n"):
				t.Errorf("%s would break its table", r.ID)
			case tests[r.ID] == (r.Untested != ""):
				t.Errorf("%s: a test (%v) or a reason (%q)", r.ID, tests[r.ID], r.Untested)
			}
			delete(tests, r.ID)
		}
	}
	for id := range tests {
		t.Errorf("Test%s is of no row", id)
	}
}
