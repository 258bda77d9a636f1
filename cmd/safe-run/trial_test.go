package main

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/spec"
)

// A check counts by its exit code, whatever it leaves behind.
func TestCheck(t *testing.T) {
	for _, c := range []struct {
		check string
		limit time.Duration
		code  int
		text  string
	}{
		{"true", time.Minute, 0, ""},
		{"echo no >&2; exit 3", time.Minute, 3, "no\n"},
		{"sleep 4 & echo yes", time.Minute, 0, "yes\n"},
		{"sleep 60", 50 * time.Millisecond, timedOut, "the check did not end in time"},
		{`[ "$SAFE_RUN_CONTAINER" = me ]`, time.Minute, 0, ""},
	} {
		t.Run(c.check, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), c.limit)
			defer cancel()
			x := &trial{trials: &trials{lesson: &lesson{check: c.check}}, name: "me"}
			if got := x.succeeds(ctx); got != (c.code == 0) || x.said.code != c.code || x.said.text != c.text {
				t.Errorf("%v, %d %q", got, x.said.code, x.said.text)
			}
		})
	}
}

// The caller reads the profiles that are tried, whatever the umask of root is.
func TestTriedProfilesAreReadable(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077))
	tr, err := newTrials(&lesson{}, spec.Image{})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.close()
	file, err := tr.file([]byte("version: 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{file: 0o644, filepath.Dir(file): 0o711} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v %v, want %v", path, st.Mode(), err, want)
		}
	}
}
