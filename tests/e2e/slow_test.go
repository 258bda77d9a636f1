package e2e

import (
	"os"
	"regexp"
	"strconv"
	"time"
)

// slowness is how many times longer than usual the tests wait; an emulated
// machine needs it.
var slowness = func() int {
	if n, err := strconv.Atoi(os.Getenv("SAFE_RUN_E2E_SLOW")); err == nil && n > 0 {
		return n
	}
	return 1
}()

// patient is how long to wait for what ends within d on a usual machine.
func patient(d time.Duration) time.Duration { return d * time.Duration(slowness) }

var timeout = regexp.MustCompile(`\btimeout \d+\b`)

// patiently does the same for each `timeout N` of a shell script.
func patiently(script string) string {
	return timeout.ReplaceAllStringFunc(script, func(s string) string {
		n, _ := strconv.Atoi(s[len("timeout "):])
		return "timeout " + strconv.Itoa(n*slowness)
	})
}
