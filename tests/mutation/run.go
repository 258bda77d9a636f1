package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// slow is how long a test takes that is run after the quicker ones have not
// noticed, the start of the program included.
const slow = 100 * time.Millisecond

// suite is the test program of a package, with all mutants in it.
type suite struct {
	dir     string // where it runs, absolute
	binary  string
	last    *regexp.Regexp // tests that run only if no other kills
	reaches map[int][]string
	slow    map[string]bool // tests that run after the others
	limit   time.Duration   // of one run
}

// build compiles the tests of a package with the mutated files in place of its
// own.
func build(root, dir, overlay, tmp string, last *regexp.Regexp) (*suite, error) {
	s := &suite{dir: filepath.Join(root, dir), binary: filepath.Join(tmp, strings.ReplaceAll(dir, "/", "-")+".test"), last: last}
	cmd := exec.Command("go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", s.binary, "./"+dir)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the tests of %s: %w\n%s", dir, err, out)
	}
	return s, s.trace(tmp)
}

// trace runs each test alone, without a mutant, and notes which mutants it can
// meet. All must pass.
func (s *suite) trace(tmp string) error {
	out, err := s.command(context.Background(), 0, "", "-test.list", "^Test|^Fuzz").Output()
	if err != nil {
		return fmt.Errorf("listing the tests of %s: %w", s.dir, err)
	}
	s.reaches, s.slow = map[int][]string{}, map[string]bool{}
	for _, test := range strings.Fields(string(out)) {
		if !strings.HasPrefix(test, "Test") && !strings.HasPrefix(test, "Fuzz") {
			continue
		}
		file := filepath.Join(tmp, "trace")
		_ = os.Remove(file)
		start := time.Now()
		if out, err := s.command(context.Background(), 0, file, "-test.run", "^"+test+"$").CombinedOutput(); err != nil {
			return fmt.Errorf("%s of %s fails without a mutant: %w\n%s", test, s.dir, err, out)
		}
		took := time.Since(start)
		s.limit += took
		s.slow[test] = took > slow
		data, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, word := range strings.Fields(string(data)) {
			id, err := strconv.Atoi(word)
			if err != nil {
				return err
			}
			s.reaches[id] = append(s.reaches[id], test)
		}
	}
	s.limit = 10*time.Second + 3*s.limit
	return nil
}

func (s *suite) command(ctx context.Context, mutant int, trace string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.binary, args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "MUTANT="+strconv.Itoa(mutant), "MUTANT_TRACE="+trace)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// kill runs the tests that can meet a mutant, and says which one fails first;
// "" if none does.
func (s *suite) kill(mutant int) (by string) {
	var first, then, last []string
	for _, t := range s.reaches[mutant] {
		switch {
		case s.last != nil && s.last.MatchString(t):
			last = append(last, t)
		case s.slow[t]:
			then = append(then, t)
		default:
			first = append(first, t)
		}
	}
	for _, tests := range [][]string{first, then, last} {
		if by := s.fails(mutant, tests); by != "" {
			return by
		}
	}
	return ""
}

func (s *suite) fails(mutant int, tests []string) string {
	if len(tests) == 0 {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.limit)
	defer cancel()
	cmd := s.command(ctx, mutant, "", "-test.failfast", "-test.run", "^("+strings.Join(tests, "|")+")$")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	switch {
	case err == nil:
		return ""
	case ctx.Err() != nil:
		return "time"
	}
	failed := regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	// The innermost test is the last of a row of them.
	by := "start"
	for _, m := range failed.FindAllStringSubmatch(out.String(), 4) {
		if by == "start" || strings.HasPrefix(m[1], by+"/") {
			by = m[1]
		}
	}
	return by
}

// result is what became of a mutant.
type result struct {
	Mutant
	By string // the test that fails, "" if none
}

// survey runs all mutants, each against the suites in their order, and tells
// of each as it is done.
func survey(mutants []Mutant, suitesOf func(Mutant) []*suite, parallel int, tell func(result)) {
	var lock sync.Mutex
	var wg sync.WaitGroup
	work := make(chan Mutant)
	for range parallel {
		wg.Go(func() {
			for m := range work {
				r := result{Mutant: m}
				for _, s := range suitesOf(m) {
					if r.By = s.kill(m.ID); r.By != "" {
						break
					}
				}
				lock.Lock()
				tell(r)
				lock.Unlock()
			}
		})
	}
	for _, m := range mutants {
		work <- m
	}
	close(work)
	wg.Wait()
}

// overlay writes the mutated files and the list of them for go test.
func overlay(root, tmp string, all []mutated) (string, error) {
	replace := map[string]string{}
	for _, m := range all {
		for name, content := range m.files {
			file := filepath.Join(tmp, strings.ReplaceAll(name, "/", "-"))
			if err := os.WriteFile(file, content, 0o600); err != nil {
				return "", err
			}
			replace[filepath.Join(root, name)] = file
		}
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(tmp, "overlay.json")
	return file, os.WriteFile(file, data, 0o600)
}

// moduleRoot is the directory of go.mod.
func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", err
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// sample takes every n-th of the mutants, so many that there are count.
func sample(all []Mutant, count int) []Mutant {
	if count <= 0 || count >= len(all) {
		return all
	}
	var some []Mutant
	for i := range count {
		some = append(some, all[i*len(all)/count])
	}
	return slices.Clip(some)
}
