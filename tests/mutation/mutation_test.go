package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestSample: of a package with a rule of each kind, the mutants its test
// misses are those of the rule it does not look at.
func TestSample(t *testing.T) {
	var killed, missed []string
	survivors, err := run(options{
		files: regexp.MustCompile(""), parallel: 2, dirs: []string{"tests/mutation/testdata/sample"},
		tell: func(r result) {
			if r.By == "" {
				missed = append(missed, r.Func+": "+r.What)
			} else {
				killed = append(killed, r.Func+": "+r.What)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(missed)
	want := []string{"Check: dropped: found = nil", "Check: n < 0 -> false"}
	if survivors != len(missed) || !slices.Equal(missed, want) {
		t.Errorf("missed %q\nwant   %q", missed, want)
	}
	for _, m := range []string{
		`names: entry dropped: "a"`, "Check: n > Limit -> n >= Limit", "Check: n > Limit: Limit + 1", "Check: strict -> false", "Check: word == name -> true",
		`Check: word == name && n > Limit -> word == name || n > Limit`, `Check: case "x" dropped`, "Check: field dropped: need: &n",
		"Check: word == name && n > Limit || strict -> true", "Check: dropped: found = append(found, finding{name: name, need: &n})",
	} {
		if !slices.Contains(killed, m) {
			t.Errorf("%q is not among the killed\n%s", m, strings.Join(killed, "\n"))
		}
	}
}

// TestEquivalentsAreMutants: an entry of the list that fits nothing any more
// would hide the next mutant of these words.
func TestEquivalentsAreMutants(t *testing.T) {
	known, err := equivalents(equivalentText)
	if err != nil {
		t.Fatal(err)
	}
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	pkgs, err := load(root, []string{"spec", "policy"})
	if err != nil {
		t.Fatal(err)
	}
	next, seen := 0, map[string]bool{}
	for _, p := range pkgs {
		for _, m := range p.mutate(scopes()[p.dir], &next).mutants {
			if seen[m.Key()] {
				t.Errorf("two mutants are called %q", m.Key())
			}
			seen[m.Key()] = true
		}
	}
	for key := range known {
		if !seen[key] {
			t.Errorf("equivalent.txt: there is no mutant %q", key)
		}
	}
	if next < 3000 {
		t.Errorf("only %d mutants", next)
	}
}

func TestEquivalentList(t *testing.T) {
	got, err := equivalents("# note\n\na b: c -> d\n\tbecause\n\tof that\n\ne f: g\n\twhy\n")
	if err != nil || len(got) != 2 || got["a b: c -> d"] != "because of that" || got["e f: g"] != "why" {
		t.Errorf("%q %v", got, err)
	}
	for _, text := range []string{"a: b\n", "\treason\n", "a: b\n\tx\na: b\n\ty\n", "a: b\n  x\n"} {
		if got, err := equivalents(text); err == nil {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func TestSampled(t *testing.T) {
	var all []Mutant
	for i := range 100 {
		all = append(all, Mutant{ID: i})
	}
	if got := sample(all, 10); len(got) != 10 || got[0].ID != 0 || got[9].ID != 90 {
		t.Errorf("%v", got)
	}
	for _, n := range []int{0, 100, 500} {
		if len(sample(all, n)) != 100 {
			t.Errorf("%d: not all", n)
		}
	}
}
