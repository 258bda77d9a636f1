// Package profiles proves the profiles that come with safe-run on the
// software they are for: with all rights it does its work, and without any
// one of them it does not. It needs root.
package profiles

import (
	"os"
	"slices"
	"testing"

	"github.com/safe-run/safe-run/tests/harness"
)

// here is set before the first test and only read by them.
var here *harness.Ground

func TestMain(m *testing.M) {
	images := []string{"busybox"}
	for _, s := range all() {
		images = append(images, s.image)
	}
	slices.Sort(images)
	os.Exit(harness.Main(m, "../..", []string{"build", "engine", "images", "servers"}, slices.Compact(images),
		func(g *harness.Ground) {
			here = g
			if err := setPolicy(); err != nil {
				panic(err)
			}
		}))
}
