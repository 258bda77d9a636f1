package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func opened(t *testing.T) *Store {
	t.Helper()
	dir := t.TempDir()
	s, err := Open(filepath.Join(dir, "root"), filepath.Join(dir, "run"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A command that opens the store but does not clean up must not be taken for
// the one that did.
func TestFreshUntilSwept(t *testing.T) {
	s := opened(t)
	s, err := Open(s.Root, s.Run)
	if err != nil {
		t.Fatal(err)
	}
	if !s.Fresh("/a.sock") {
		t.Error("not fresh although nothing was swept")
	}
	if err := s.Swept("/a.sock"); err != nil {
		t.Fatal(err)
	}
	if s.Fresh("/a.sock") || !s.Fresh("/b.sock") {
		t.Error("a sweep counts for its own containerd, and for no other")
	}
	if err := os.RemoveAll(s.Run); err != nil { // a reboot
		t.Fatal(err)
	}
	if s, err = Open(s.Root, s.Run); err != nil || !s.Fresh("/a.sock") {
		t.Errorf("not fresh after a reboot (%v)", err)
	}
}

// A container whose record is damaged gives its name back.
func TestDamagedRecordGivesItsNameBack(t *testing.T) {
	s := opened(t)
	e, err := s.Begin("damaged")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.TakeName("web"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(e.Dir, "record.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	e.Release()
	if err := s.Capture("damaged").Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(s.Root, "names", "web")); !os.IsNotExist(err) {
		t.Errorf("the name is still taken: %v", err)
	}
}

// What was removed while a sweep waited is not registered again.
func TestCaptureOfWhatIsGone(t *testing.T) {
	s, id := opened(t), strings.Repeat("a", 64)
	e, err := s.Begin(id)
	if err != nil {
		t.Fatal(err)
	}
	if s.CaptureLeft(id) != nil {
		t.Error("taken from its supervisor")
	}
	e.Release()
	if e = s.CaptureLeft(id); e == nil {
		t.Fatal("what a dead supervisor left is not taken over")
	}
	if err := e.Remove(); err != nil {
		t.Fatal(err)
	}
	if s.CaptureLeft(id) != nil {
		t.Error("taken over although it is gone")
	}
	if live, err := s.Live(); err != nil || len(live) != 0 {
		t.Errorf("registered: %q (%v)", live, err)
	}
}
