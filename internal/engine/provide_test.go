package engine

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestProvide: what is there of a database, holes and all, and some more can be
// written on a full disk.
func TestProvide(t *testing.T) {
	root := t.TempDir()
	if err := unix.Mount("none", root, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	})
	e := &Engine{root: root}
	e.provide() // there is none yet
	p := filepath.Join(root, "io.containerd.metadata.v1.bolt", "meta.db")
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const size = 128 << 10
	if err := os.Truncate(p, size); err != nil {
		t.Fatal(err)
	}
	e.provide()
	if st, err := os.Stat(p); err != nil || st.Size() != size {
		t.Fatalf("its size changed: %v, %v", st, err)
	}
	if err := os.WriteFile(filepath.Join(root, "fill"), make([]byte, 8<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	e.provide()
	f, err := os.OpenFile(p, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, size+spare), 0); err != nil {
		t.Error(err)
	}
}

// TestNotHalf: an engine that lacks space for a part of it does not start
// without that part, and says why in one line.
func TestNotHalf(t *testing.T) {
	dir := shortDir(t)
	e, err := New("/bin", dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.prepare(); err != nil {
		t.Fatal(err)
	}
	const why = "containerd: load required plugin: no space left on device"
	old := "containerd: of an earlier start\n"
	text := old + "time=... level=warning msg=noise\n" + why + "\n"
	if err := os.WriteFile(e.LogPath(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := e.logTail(int64(len(old))), `; it said: "`+why+`"`; got != want {
		t.Errorf("%q", got)
	}
	if got := e.logTail(int64(len(text))); got != "" {
		t.Errorf("of a start that said nothing: %q", got)
	}
}
