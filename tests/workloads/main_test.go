// Package workloads runs servers as their vendors ship them, with the
// privileges their vendors name and no more, under load. It needs root.
package workloads

import (
	"os"
	"testing"

	"github.com/safe-run/safe-run/tests/harness"
)

// here is set before the first test and only read by them.
var here *harness.Ground

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, "../..", []string{"build", "engine", "images", "servers"}, []string{"busybox", "nginx", "redis"},
		func(g *harness.Ground) { here = g }))
}
