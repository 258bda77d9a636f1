package launcher

import (
	"os"
	"testing"
)

// A guard that is dismissed touches nothing; one whose supervisor was killed
// ends what a container's cgroup holds, and nothing else's.
func TestGuard(t *testing.T) {
	for _, dismissed := range []bool{true, false} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if dismissed {
			_, _ = w.Write([]byte{1})
		}
		w.Close()
		if err := Guard(r, "/system.slice"); err != nil {
			t.Errorf("dismissed %v: %v", dismissed, err)
		}
	}
	if ownCgroup("/system.slice") || ownCgroup("/") || ownCgroup("/safe-run/../x") || ownCgroup("/a/safe-run-1") {
		t.Error("foreign cgroups are taken for a container's")
	}
}
