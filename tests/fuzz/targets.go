package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A target is one fuzz function.
type target struct {
	pkg    string // import path
	folder string // the same below the module's
	name   string
}

func (t target) String() string { return t.folder + "/" + t.name }

// find gives the targets of the packages of a pattern. It reads the sources:
// to ask each test for its list, all would have to be linked.
func find(ctx context.Context, pattern string, match *regexp.Regexp) ([]target, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-json=ImportPath,Dir,Module,TestGoFiles,XTestGoFiles", pattern)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	function := regexp.MustCompile(`(?m)^func (Fuzz\w*)\(\w+ \*testing\.F\)`)
	var targets []target
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath, Dir           string
			Module                    struct{ Path string }
			TestGoFiles, XTestGoFiles []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return targets, nil
		} else if err != nil {
			return nil, err
		}
		for _, file := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
			text, err := os.ReadFile(filepath.Join(p.Dir, file))
			if err != nil {
				return nil, err
			}
			for _, m := range function.FindAllSubmatch(text, -1) {
				t := target{p.ImportPath, strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, p.Module.Path), "/"), string(m[1])}
				if match.MatchString(t.String()) {
					targets = append(targets, t)
				}
			}
		}
	}
}
