// Mutation breaks the rules of a package one after the other, and looks
// whether a test notices.
//
//	go run ./tests/mutation [-files REGEXP] [-sample N] ./spec ./policy
//
// A mutant is one small change: a condition that is always true or always
// false, "and" for "or", a bound that includes its end, a constant that is one
// more, an entry of a list or a field left out, an assignment that is not
// made. All of them are compiled into the tests of the package at once, each
// behind a switch, so that one costs a run of the tests that meet it and
// nothing else. A mutant no test notices is a rule nobody would miss: the
// program lists it and exits with 1, unless equivalent.txt says why it changes
// nothing.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// scope says what of a package is broken.
type scope struct {
	// roots are functions and variables; what they need is broken, and nothing
	// else. Empty is all of the package.
	roots []string
	not   []string // files left out
	// last are tests that are run only when no other notices.
	last *regexp.Regexp
	// further are packages whose tests look at the result as well.
	further []string
}

func (s scope) skip(file string) bool { return slices.Contains(s.not, file) }

// scopes are those of the packages that need one.
func scopes() map[string]scope {
	return map[string]scope{
		"spec": {
			roots: []string{"Verify", "VerifyFor", "VerifyExec"},
			last:  regexp.MustCompile("^TestRuntime"), further: []string{"tests/properties"},
		},
		// What show.go prints decides nothing.
		"policy": {not: []string{"show.go"}, further: []string{"tests/properties"}},
	}
}

type options struct {
	files    *regexp.Regexp
	sample   int
	parallel int
	list     bool
	dirs     []string
	tell     func(result)
}

func main() {
	var o options
	files := flag.String("files", "", "only files whose name matches this regular `expression`")
	flag.IntVar(&o.sample, "sample", 0, "only `N` of the mutants, evenly spread")
	flag.IntVar(&o.parallel, "parallel", runtime.NumCPU(), "`N` mutants at the same time")
	flag.BoolVar(&o.list, "list", false, "list the mutants and run nothing")
	verbose := flag.Bool("v", false, "print those that are killed too")
	flag.Parse()
	o.tell = func(r result) {
		if r.By == "" || *verbose {
			fmt.Println(r)
		}
	}
	o.files = regexp.MustCompile(*files)
	if o.dirs = flag.Args(); len(o.dirs) == 0 {
		o.dirs = []string{"spec", "policy"}
	}
	survivors, err := run(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutation:", err)
		os.Exit(2)
	}
	if survivors > 0 {
		os.Exit(1)
	}
}

// run gives the number of mutants that no test notices.
func run(o options) (survivors int, err error) {
	start := time.Now()
	root, err := moduleRoot()
	if err != nil {
		return 0, err
	}
	known, err := equivalents(equivalentText)
	if err != nil {
		return 0, err
	}
	pkgs, err := load(root, o.dirs)
	if err != nil {
		return 0, err
	}
	var all []mutated
	var mutants []Mutant
	equivalent := 0
	next := 0
	for _, p := range pkgs {
		m := p.mutate(scopes()[p.dir], &next)
		all = append(all, m)
		for _, m := range m.mutants {
			switch {
			case !o.files.MatchString(filepath.Base(m.File)):
			case known[m.Key()] != "":
				equivalent++
			default:
				mutants = append(mutants, m)
			}
		}
	}
	mutants = sample(mutants, o.sample)
	if o.list {
		for _, m := range mutants {
			fmt.Println(m.Key())
		}
		return 0, nil
	}
	tmp, err := os.MkdirTemp("", "mutation-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(tmp)
	file, err := overlay(root, tmp, all)
	if err != nil {
		return 0, err
	}
	suites := map[string]*suite{}
	for _, p := range pkgs {
		for _, dir := range append([]string{p.dir}, scopes()[p.dir].further...) {
			if suites[dir] != nil {
				continue
			}
			if suites[dir], err = build(root, dir, file, tmp, scopes()[dir].last); err != nil {
				return 0, err
			}
		}
	}
	fmt.Fprintf(os.Stderr, "%d mutants, built and traced in %v\n", len(mutants), time.Since(start).Round(time.Second))
	survey(mutants, func(m Mutant) (of []*suite) {
		dir := filepath.Dir(m.File)
		for _, dir := range append([]string{dir}, scopes()[dir].further...) {
			of = append(of, suites[dir])
		}
		return of
	}, o.parallel, func(r result) {
		if r.By == "" {
			survivors++
		}
		o.tell(r)
	})
	fmt.Fprintf(os.Stderr, "%d mutants: %d killed, %d survived; %d equivalent are not counted; %v\n",
		len(mutants), len(mutants)-survivors, survivors, equivalent, time.Since(start).Round(time.Second))
	return survivors, nil
}

// String is a line of the list.
func (r result) String() string {
	by := "SURVIVED"
	if r.By != "" {
		by = "killed by " + r.By
	}
	nth := ""
	if r.Nth > 1 {
		nth = fmt.Sprintf(" #%d", r.Nth)
	}
	return fmt.Sprintf("%s:%d %s: %s%s: %s", r.File, r.Line, r.Func, strings.ToValidUTF8(r.What, "?"), nth, by)
}
