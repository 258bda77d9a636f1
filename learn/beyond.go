package learn

import (
	"fmt"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/profiles"
)

// Beyond says what a profile asks for that base does not, one line each with
// the flag that asks for it.
func Beyond(p, base profiles.Profile) (lines []string) {
	for _, c := range p.Capabilities {
		if slices.ContainsFunc(base.Capabilities, func(b profiles.Capability) bool { return b.Name == c.Name }) {
			continue
		}
		lines = append(lines, c.Name+" was used"+seen(c.Evidence)+": --cap-add "+c.Name)
	}
	for _, w := range p.Writable {
		if slices.ContainsFunc(base.Writable, func(b profiles.Writable) bool { return b.Path == w.Path }) {
			continue
		}
		flags := profiles.Profile{Writable: []profiles.Writable{w}}.Flags()
		for i, f := range flags {
			flags[i] = shellWord(f)
		}
		lines = append(lines, shown(w.Path)+" was written to"+seen(w.Evidence)+": "+strings.Join(flags, " "))
	}
	return lines
}

// seen is evidence in brackets.
func seen(e *profiles.Evidence) string {
	if e == nil || e.Count == 0 {
		return ""
	}
	s := times(e.Count)
	if e.Process != "" {
		s += " by " + e.Process
	}
	if e.Call != "" {
		s += ", " + e.Call
	}
	return fmt.Sprintf(" (%s)", s)
}
