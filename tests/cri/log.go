package cri

import (
	"bytes"
	"fmt"
	"strings"
)

// parseLog takes a container's log apart: lines "TIME STREAM TAG TEXT", where
// tag F ends a line and P goes on (the CRI's logging format).
func parseLog(b []byte) (stdout, stderr string, err error) {
	var out, errs strings.Builder
	to := map[string]*strings.Builder{"stdout": &out, "stderr": &errs}
	for line := range bytes.Lines(b) {
		f := strings.SplitN(string(line), " ", 4)
		if len(f) != 4 || to[f[1]] == nil || f[2] != "F" && f[2] != "P" {
			return "", "", fmt.Errorf("no line of a container's log: %q", line)
		}
		text := f[3]
		if f[2] == "P" {
			text = strings.TrimSuffix(text, "\n")
		}
		to[f[1]].WriteString(text)
	}
	return out.String(), errs.String(), nil
}
