package engine

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Mounts a killed shim left are removed, what is mounted there is not, and
// neither is what is in use.
func TestTidy(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("mounting needs root")
	}
	dir := shortDir(t)
	e := &Engine{state: dir}
	if err := e.Tidy(0); err != nil {
		t.Errorf("without a directory: %v", err)
	}
	data := filepath.Join(dir, "layer", "data")
	old, young, empty := filepath.Join(e.Temp(), "old"), filepath.Join(e.Temp(), "young"), filepath.Join(e.Temp(), "empty")
	future := filepath.Join(e.Temp(), "future") // from before the clock was set back
	for _, d := range []string{data, old, young, empty, future} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	past := time.Now().Add(-time.Hour)
	for _, d := range []string{old, empty} {
		if err := os.Chtimes(d, past, past); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(future, past.Add(2*time.Hour), past.Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{old, young} {
		if err := unix.Mount(filepath.Dir(data), d, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Unmount(d, unix.MNT_DETACH) }() // the test is over
	}
	if err := e.Tidy(time.Minute); err != nil {
		t.Error(err)
	}
	left, err := os.ReadDir(e.Temp())
	if err != nil || len(left) != 1 || left[0].Name() != "young" {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(young, "data")); err != nil {
		t.Errorf("the young one is no mount any more: %v", err)
	}
	if _, err := os.Stat(data); err != nil {
		t.Errorf("what was mounted is gone: %v", err)
	}
}
