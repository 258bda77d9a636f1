// Package lazyre compiles regular expressions when they are first used. A
// launch uses few of those its packages have, and compiling all of them before
// main is half a millisecond of every start.
package lazyre

import (
	"regexp"
	"sync"
)

// New gives a function that compiles expr at its first call. Like
// regexp.MustCompile it panics, then, if expr is invalid.
func New(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}
