package e2e

import (
	"strings"
	"testing"

	"github.com/safe-run/safe-run/tests/harness"
)

// as is the ground in the words of the harness.
func (g ground) as() *harness.Ground {
	return &harness.Ground{Repo: g.repo, Bin: g.bin, Dir: g.dir, Root: g.root, State: g.state, Socket: g.socket}
}

// take counts what there is now.
func take(t testing.TB) harness.Inventory {
	t.Helper()
	return here.as().Inventory(t)
}

// shims are the ids of the containers that have a shim.
func shims(t testing.TB) []string { return here.as().Shims(t) }

// same fails the test with what is new and what is gone.
func same(t *testing.T, before, after harness.Inventory) {
	t.Helper()
	harness.Same(t, before, after)
}

// ctr asks the engine behind safe-run's back.
func ctr(t testing.TB, args ...string) string {
	t.Helper()
	return here.as().Ctr(t, args...)
}

func lines(s string) []string {
	s = strings.TrimRight(s, "\n")
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}
