package network

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/safe-run/safe-run/internal/fail"
)

// TestRename: others find a container by its new name and no more by the old
// one, unless that is one of its other names; nothing of it stays behind.
func TestRename(t *testing.T) {
	s, d := claimNet(t, "10.9.0.0/24")
	id := testID(1)
	l, err := s.Claim(d, id, Want{})
	must(t, err)
	l.Names = []string{id[:12], "web", "inside", "alias"}
	must(t, s.AddNames(l, id))
	for _, c := range []struct {
		old, name string
		keep      []string
		names     []string
		kind      fail.Kind
	}{
		{"web", "Shop", nil, []string{id[:12], "shop", "inside", "alias"}, 0},
		{"Shop", "alias", nil, []string{id[:12], "inside", "alias"}, 0},
		{"alias", "web", []string{"Inside", "ALIAS"}, []string{id[:12], "web", "inside", "alias"}, 0},
		{"web", "web", nil, []string{id[:12], "web", "inside", "alias"}, 0},
		{"web", "bad-", nil, []string{id[:12], "web", "inside", "alias"}, fail.Usage},
	} {
		err := s.rename("net", id, c.old, c.name, c.keep)
		if (err != nil) != (c.kind != 0) || err != nil && fail.KindOf(err) != c.kind {
			t.Errorf("%s to %s: %v", c.old, c.name, err)
		}
		if got := s.NamesOf("net", id); !slices.Equal(got, c.names) {
			t.Errorf("%s to %s: the names are %q, wanted %q", c.old, c.name, got, c.names)
		}
		for _, n := range c.names {
			if len(s.Lookup("net", n)) != 1 {
				t.Errorf("%s to %s: %s is not found", c.old, c.name, n)
			}
		}
		if !slices.Contains(c.names, "web") && len(s.Lookup("net", "web")) != 0 {
			t.Errorf("%s to %s: the old name is found", c.old, c.name)
		}
	}
	must(t, s.RemoveNames(l, id))
	must(t, s.rename("net", id, "web", "late", nil)) // it does not run any more
	for _, what := range []string{"names", "members"} {
		if e, err := os.ReadDir(filepath.Join(s.Root, "networks/net", what)); len(e) != 0 || err != nil {
			t.Errorf("%s has %v, %v", what, e, err)
		}
	}
}
