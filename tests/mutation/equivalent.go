package main

import (
	_ "embed"
	"fmt"
	"strings"
)

// equivalentText lists the mutants that change nothing a caller could see.
//
//go:embed equivalent.txt
var equivalentText string

// equivalents reads the list: a line with the key of a mutant, and an indented
// one with the reason; # begins a comment.
func equivalents(text string) (map[string]string, error) {
	why := map[string]string{}
	last := ""
	for i, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "" || strings.HasPrefix(line, "#"):
		case line != trimmed && last != "" && strings.HasPrefix(line, "\t"):
			why[last] = strings.TrimSpace(why[last] + " " + trimmed)
		case line == trimmed:
			if _, twice := why[line]; twice {
				return nil, fmt.Errorf("equivalent.txt:%d: twice", i+1)
			}
			last, why[line] = line, ""
		default:
			return nil, fmt.Errorf("equivalent.txt:%d: neither a mutant nor a reason", i+1)
		}
	}
	for key, reason := range why {
		if reason == "" {
			return nil, fmt.Errorf("equivalent.txt: no reason for %q", key)
		}
	}
	return why, nil
}
