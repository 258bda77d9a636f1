package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/safe-run/safe-run/internal/cli"
)

// TestWriteAs: a file is written with the rights of who called sudo, whole or
// not at all, and not through a link.
func TestWriteAs(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	own, roots := filepath.Join(dir, "own"), filepath.Join(dir, "roots")
	for _, d := range []string{own, roots} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(own, 4242, 4242); err != nil {
		t.Fatal(err)
	}
	caller := &cli.Caller{UID: 4242, GID: 4242}
	text := func(w io.Writer) error {
		_, err := io.WriteString(w, "archive")
		return err
	}
	precious := filepath.Join(roots, "precious")
	if err := os.WriteFile(precious, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(precious, filepath.Join(own, "link")); err != nil {
		t.Fatal(err)
	}
	for path, ok := range map[string]bool{
		filepath.Join(own, "new"): true, filepath.Join(own, "link"): true,
		precious: false, filepath.Join(roots, "new"): false, filepath.Join(dir, "none", "x"): false,
	} {
		if err := writeAs(caller, path, text); (err == nil) != ok {
			t.Errorf("%s: %v", path, err)
		}
		if !ok {
			continue
		}
		fi, err := os.Lstat(path)
		if err != nil || !fi.Mode().IsRegular() || fi.Mode().Perm() != 0o600 || fi.Sys().(*syscall.Stat_t).Uid != 4242 {
			t.Errorf("%s: %v, %v", path, fi, err)
		}
	}
	if b, err := os.ReadFile(precious); err != nil || string(b) != "old" {
		t.Errorf("root's file holds %q, %v", b, err)
	}
	broken := errors.New("broken")
	if err := writeAs(caller, filepath.Join(own, "half"), func(w io.Writer) error { return errors.Join(text(w), broken) }); !errors.Is(err, broken) {
		t.Error(err)
	}
	left, err := os.ReadDir(own)
	if err != nil || len(left) != 2 {
		t.Errorf("left: %v, %v", left, err)
	}
	for _, bad := range []string{own, "/dev/null", filepath.Join(dir, "none", "x")} {
		if err := checkOutput(nil, bad); err == nil {
			t.Errorf("%s can be written", bad)
		}
	}
}
