// Page writes the catalogue with its results into docs/threats.md, between
// the marks. It is run from the top of the checkout.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/tests/threats/catalogue"
)

const (
	file    = "docs/threats.md"
	results = "tests/threats/results"
	begin   = "<!-- begin: written by make threats -->\n"
	end     = "<!-- end -->\n"
)

func main() {
	if err := write(); err != nil {
		fmt.Fprintln(os.Stderr, "page:", err)
		os.Exit(1)
	}
}

func write() error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, rest, ok := bytes.Cut(old, []byte(begin))
	_, tail, closed := bytes.Cut(rest, []byte(end))
	if !ok || !closed {
		return fmt.Errorf("%s has no marks", file)
	}
	table, err := table()
	if err != nil {
		return err
	}
	return os.WriteFile(file, slices.Concat(head, []byte(begin), []byte(table), []byte(end), tail), 0o644)
}

// table is the catalogue, a column for each kernel it was tried on.
func table() (string, error) {
	files, err := filepath.Glob(filepath.Join(results, "[0-9]*.[0-9]*"))
	if err != nil {
		return "", err
	}
	slices.SortFunc(files, func(a, b string) int {
		return number(a) - number(b)
	})
	of := make([]map[string]string, len(files))
	var kernels strings.Builder
	for i, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return "", err
		}
		of[i] = map[string]string{}
		for line := range strings.Lines(string(b)) {
			id, word, _ := strings.Cut(strings.TrimSpace(line), " ")
			of[i][id] = word
		}
		fmt.Fprintf(&kernels, " %s |", filepath.Base(f))
	}
	var b strings.Builder
	tested, all := 0, 0
	for _, s := range catalogue.Sections() {
		fmt.Fprintf(&b, "\n### %s\n\n| row | threat | what is done | test |%s\n|---|---|---|---|%s\n",
			s.Title, kernels.String(), strings.Repeat("---|", len(files)))
		for _, r := range s.Rows {
			all++
			test := "`Test" + r.ID + "`"
			if r.Untested != "" {
				test = "none: " + r.Untested
			} else {
				tested++
			}
			defence := r.Defence
			if r.Accepted != "" {
				defence += " **Left open:** " + r.Accepted
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |", r.ID, r.Threat, defence, test)
			for i := range files {
				word := of[i][r.ID]
				switch {
				case r.Untested != "":
					word = ""
				case word == "":
					word = "not run"
				}
				fmt.Fprintf(&b, " %s |", word)
			}
			b.WriteByte('\n')
		}
	}
	return fmt.Sprintf("\n%d rows, %d of them with a test.\n", all, tested) + b.String() + "\n", nil
}

// number orders kernels: 6.12 after 6.1.
func number(file string) int {
	var major, minor int
	fmt.Sscanf(filepath.Base(file), "%d.%d", &major, &minor)
	return major*1000 + minor
}
