package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFullDisk: a record that is there can be written again.
func TestFullDisk(t *testing.T) {
	root := t.TempDir()
	if err := unix.Mount("none", root, "tmpfs", 0, "size=128k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	})
	s, err := Open(root, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	id := strings.Repeat("a", 64)
	if err := os.MkdirAll(s.Dir(id), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(Record{ID: id, Name: "long" + strings.Repeat("x", 100), Phase: PhaseRunning}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "fill"), make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	for _, name := range []string{"short", "longer" + strings.Repeat("y", 200)} {
		if err := s.Save(Record{ID: id, Name: name, Phase: PhaseExited, Stopped: true}); err != nil {
			t.Fatal(err)
		}
		if r, err := s.Load(id); err != nil || r.Name != name || !r.Stopped {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if err := s.Save(Record{ID: id, Name: strings.Repeat("z", 8<<10)}); err == nil {
		t.Error("a record that needs more space was written")
	}
	if r, err := s.Load(id); err != nil || !r.Stopped {
		t.Errorf("%+v, %v", r, err)
	}
	if e, _ := os.ReadDir(s.Dir(id)); len(e) != 1 {
		t.Errorf("left: %v", e)
	}
}
