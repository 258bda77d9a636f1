package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/safe-run/safe-run/tests/harness"
)

// TestBindRace: while somebody swaps the source of a bind with a link to the
// host's own files, a start is refused or sees the harmless directory; never
// the host. Half of the starts swap the last component, half one above it.
func TestBindRace(t *testing.T) {
	const starts = 200
	for _, c := range []struct{ name, evil, below string }{
		{"last component", "/", ""},
		{"a parent", "/", "/etc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := tempDir(t)
			good, evil := filepath.Join(dir, "good"), filepath.Join(dir, "evil")
			if err := os.MkdirAll(good+c.below, 0o755); err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(good+c.below, "mine"), "", 0o644)
			if err := os.Symlink(c.evil, evil); err != nil {
				t.Fatal(err)
			}
			stop := harness.Exchange(good, evil)
			defer stop()
			seen := map[string]int{}
			for range starts / 2 {
				r := run("--rm", "-v", good+c.below+":/x", "busybox", "ls", "/x")
				switch {
				case r.code == 0 && r.stdout == "mine\n":
					seen["own"]++
				case r.code == 125 && r.stdout == "":
					seen["refused"]++
				default:
					seen["other"]++
					t.Errorf("the host's files, or something unexpected: %s", r)
				}
			}
			t.Logf("%d swaps; %v", stop(), seen)
			if seen["own"]+seen["refused"] != starts/2 {
				t.Errorf("%v of %d starts", seen, starts/2)
			}
			if seen["refused"] == 0 {
				t.Error("not one start met the swapped name: the race was not run")
			}
		})
	}
}
