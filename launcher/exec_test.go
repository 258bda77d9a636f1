package launcher

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/store"
)

func execIn(t *testing.T) *execution {
	t.Helper()
	dir := t.TempDir()
	s, err := store.Open(filepath.Join(dir, "root"), filepath.Join(dir, "run"))
	if err != nil {
		t.Fatal(err)
	}
	return &execution{Launcher: &Launcher{Store: s}, rec: store.Record{ID: newID()}, id: newID()[:32], init: initProcess{fd: -1}, first: initProcess{fd: -1}}
}

// The directory of an exec is found by a sweep only once its client is gone.
func TestExecDirIsLocked(t *testing.T) {
	x := execIn(t)
	if err := x.makeDir(); err != nil {
		t.Fatal(err)
	}
	if d, err := lockDir(x.dir.path); d != nil || err != nil {
		t.Fatalf("locked twice (%v)", err)
	}
	if err := unix.Mkfifo(filepath.Join(x.dir.path, "stdout"), 0o600); err != nil {
		t.Fatal(err)
	}
	x.dir.lock.Close() // the client dies
	d, err := lockDir(x.dir.path)
	if d == nil || err != nil {
		t.Fatalf("not found: %v", err)
	}
	d.remove()
	if exists(d.path) {
		t.Error("the directory is left")
	}
	if d, err := lockDir(x.dir.path); d != nil || err != nil {
		t.Errorf("a directory that is gone: %v, %v", d, err)
	}
}

// What is no exec's is not touched, and neither is that of a living client.
func TestSweepExecsLeavesTheLiving(t *testing.T) {
	x := execIn(t)
	if err := x.SweepExecs(context.Background()); err != nil {
		t.Fatalf("without any: %v", err)
	}
	if err := x.makeDir(); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(x.execs(), "other")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := x.SweepExecs(context.Background()); err != nil {
		t.Fatal(err)
	}
	if !exists(other) || !exists(x.dir.path) {
		t.Error("removed")
	}
}

// A probe that floods costs no more memory than one that says nothing.
func TestReadCapped(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		for range 1000 {
			_, _ = w.WriteString(strings.Repeat("y\n", 2048))
		}
		w.Close()
	}()
	if got := readCapped(r, 5); string(got) != "y\ny\ny" || cap(got) > 64 {
		t.Errorf("%q, of %d bytes", got, cap(got))
	}
}

// A child that keeps the output open does not keep the probe.
func TestReadCappedEndsAtDeadline(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	_, _ = w.WriteString("out")
	_ = r.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if got := readCapped(r, 100); string(got) != "out" {
		t.Errorf("%q", got)
	}
}
