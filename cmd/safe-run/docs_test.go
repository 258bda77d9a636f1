package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/clidocs"
	"github.com/safe-run/safe-run/policy"
	"github.com/safe-run/safe-run/profiles"
)

// docsDir is where the pages of verbs are.
const docsDir = "../../docs/verbs"

// TestDocs: the pages are what the verbs say of themselves.
func TestDocs(t *testing.T) {
	for _, v := range []string{"SAFE_RUN_ROOT", "SAFE_RUN_STATE"} { // they are defaults
		if old, set := os.LookupEnv(v); set {
			os.Unsetenv(v)
			t.Cleanup(func() { os.Setenv(v, old) })
		}
	}
	pages := docsPages(verbs())
	if stale := clidocs.Stale(docsDir, pages); len(stale) > 0 {
		t.Errorf("docs/verbs: not what the program says: %s; write them anew: make docs", strings.Join(stale, " "))
	}
	known := map[string]bool{}
	for _, p := range pages {
		known[p.Name] = true
	}
	for _, v := range companionVerbs {
		known[v+".md"] = true
	}
	there, err := os.ReadDir(docsDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range there {
		if !known[f.Name()] {
			t.Errorf("docs/verbs/%s is of no verb", f.Name())
		}
		delete(known, f.Name())
	}
	for name := range known {
		t.Errorf("docs/verbs/%s is missing: make docs", name)
	}
}

// TestEachVerbHasAnExample: a command line of that verb, which its flags can
// read.
func TestEachVerbHasAnExample(t *testing.T) {
	var walk func(path string, c *cobra.Command)
	walk = func(path string, c *cobra.Command) {
		if c.Hidden || slices.Contains(companionVerbs, c.Name()) || c.Name() == "completion" {
			return
		}
		for _, sub := range c.Commands() {
			walk(path+" "+sub.Name(), sub)
		}
		if c.HasSubCommands() {
			return
		}
		if !strings.Contains(c.Example, path+" ") && !strings.HasSuffix(c.Example, path) && c.Name() != "run" {
			t.Errorf("%s: no example of it: %q", path, c.Example)
		}
		for line := range strings.SplitSeq(c.Example, "\n") {
			if !strings.HasPrefix(line, "  ") || len(line) > 120 {
				t.Errorf("%s: %q does not begin with two blanks, or is longer than 120", path, line)
			}
			own := regexp.MustCompile(`\$\(|[|;&>]`).Split(line, 2)[0] // not what other commands have
			if !strings.HasPrefix(strings.TrimSpace(line), path+" ") || c.DisableFlagParsing {
				continue
			}
			for w := range strings.FieldsSeq(own) {
				name, is := strings.CutPrefix(w, "--")
				name, _, _ = strings.Cut(name, "=")
				if is && name != "" && c.Flags().Lookup(name) == nil && c.InheritedFlags().Lookup(name) == nil {
					t.Errorf("%s has no flag --%s: %s", path, name, line)
				}
			}
		}
	}
	for _, c := range verbs().Commands() {
		walk("safe-run "+c.Name(), c)
	}
}

// TestRunPageHasEachFlag: no public flag is in a group the page leaves out.
func TestRunPageHasEachFlag(t *testing.T) {
	page := runDocs()
	for _, f := range append(cli.Own(), cli.Table()...) {
		if f.Visibility == cli.Public && f.Disposition != cli.NoEffect && !strings.Contains(page, "--"+f.Long) {
			t.Errorf("--%s of the group %q is not on the page", f.Long, f.Group)
		}
	}
	if !strings.Contains(page, "--dry-run[=json") {
		t.Error("--dry-run without its optional value")
	}
}

// TestGuides: what the pages of verbs link to is there.
func TestGuides(t *testing.T) {
	names := map[string]bool{}
	for _, c := range append(verbs().Commands(), &cobra.Command{Use: "completion"}) {
		names[c.Name()] = true
	}
	for _, g := range clidocs.Guides() {
		if _, err := os.Stat(filepath.Join("../../docs", g.File)); err != nil {
			t.Error(err)
		}
		for _, v := range g.Verbs {
			if !names[v] {
				t.Errorf("%s: %s is no verb", g.File, v)
			}
		}
	}
}

// TestMigrate: what the page on migration names is there: each flag the
// launcher hints at, rules of the policy, verbs, flags and profiles.
func TestMigrate(t *testing.T) {
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	page := read("../../docs/migrate.md")
	hints := regexp.MustCompile(`--cap-add [A-Z_]+|--tmpfs DIR|-v NAME:DIR|--user\b|--pids-limit|-m `).FindAllString(read("../../launcher/hints.go"), -1)
	if len(hints) < 8 {
		t.Fatalf("the launcher's hints are written in another way: %q", hints)
	}
	for _, h := range hints {
		if !strings.Contains(page, h) {
			t.Errorf("the launcher hints at %s, the page does not", h)
		}
	}
	rules := map[string]bool{}
	for _, r := range policy.Catalogue() {
		rules[r.ID] = true
	}
	_, tables, _ := strings.Cut(page, "## Symptom")
	ids := regexp.MustCompile("\\[[a-z]+(?:-[a-z]+)*\\]`|\\((?:`[a-z-]+`(?:, )?)+\\)").FindAllString(tables, -1)
	if len(ids) < 10 {
		t.Fatalf("the page names rules in another way: %q", ids)
	}
	for _, several := range ids {
		for id := range strings.FieldsFuncSeq(several, func(r rune) bool { return r != '-' && (r < 'a' || r > 'z') }) {
			if !rules[id] {
				t.Errorf("no rule of the policy has the id %s", id)
			}
		}
	}
	names := map[string]bool{"run": true}
	for _, c := range verbs().Commands() {
		names[c.Name()] = true
	}
	for _, m := range regexp.MustCompile("(?m)(?:`|^    .*?)safe-run ([a-z]+)\\b").FindAllStringSubmatch(page, -1) {
		if !names[m[1]] {
			t.Errorf("safe-run has no verb %s", m[1])
		}
	}
	for _, m := range regexp.MustCompile("`docker build`, (.*) \\| not there").FindAllStringSubmatch(page, -1) {
		for word := range strings.FieldsFuncSeq(m[1], func(r rune) bool { return strings.ContainsRune("`, ", r) }) {
			if lacked[word] == "" {
				t.Errorf("docker %s is said to be not there", word)
			}
		}
	}
	for _, m := range regexp.MustCompile(`--profile ([a-z]+)\b`).FindAllStringSubmatch(page, -1) {
		if !slices.Contains(profiles.Embedded(), m[1]) {
			t.Errorf("no profile %s comes with safe-run", m[1])
		}
	}
}
