package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

type state string

const (
	passed state = "ok"
	found  state = "FOUND" // an input that fails
	broken state = "FAIL"  // it did not come to fuzzing, or did not end
)

// A result is what became of one target.
type result struct {
	target     target
	state      state
	executions uint64
	inputs     uint64 // new ones, kept in the cache
	known      uint64 // all that are kept
	took       time.Duration
	text       string // what go test said, unless it passed
}

func (r result) String() string {
	s := fmt.Sprintf("%-6s %-45s %7s %12d executions %6d new inputs of %d", r.state, r.target, r.took.Round(time.Second), r.executions, r.inputs, r.known)
	if r.text != "" {
		s += "\n\t" + strings.ReplaceAll(strings.TrimSpace(r.text), "\n", "\n\t")
	}
	return s
}

// How much is shown of what go test says of a failure. The whole input is in
// the file it names.
const maxText = 4 << 10

// read reads go test's output. ok is its exit status.
func read(out []byte, ok bool) result {
	r := result{state: passed}
	var said []string
	progress := regexp.MustCompile(`^fuzz: elapsed: .*, execs: (\d+) .*, new interesting: (\d+) \(total: (\d+)\)`)
	for line := range strings.Lines(string(out)) {
		if m := progress.FindStringSubmatch(line); m != nil {
			for i, n := range []*uint64{&r.executions, &r.inputs, &r.known} {
				*n, _ = strconv.ParseUint(m[i+1], 10, 64)
			}
		} else if !strings.HasPrefix(line, "fuzz: elapsed: ") {
			said = append(said, line)
		}
	}
	if ok {
		return r
	}
	if r.text = strings.Join(said, ""); len(r.text) > maxText {
		r.text = r.text[:maxText] + "..."
	}
	switch {
	case bytes.Contains(out, []byte("Failing input written to ")), bytes.Contains(out, []byte("failure while testing seed corpus entry")):
		r.state = found
	case timeUp(said) && r.executions > 0:
		r.state, r.text = passed, ""
	default:
		r.state = broken
	}
	return r
}

// timeUp reports whether all that is wrong is that the time was over while the
// worker was at an input, which Go takes for a failure at times
// (golang.org/issue/75804).
func timeUp(said []string) bool {
	reasons := 0
	for _, line := range said {
		switch line = strings.TrimSpace(line); {
		case line == "context deadline exceeded":
			reasons++
		case line == "", strings.HasPrefix(line, "--- FAIL: "), line == "FAIL", strings.HasPrefix(line, "FAIL\t"), strings.HasPrefix(line, "exit status "):
		default:
			return false
		}
	}
	return reasons == 1
}
