package trusted

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

func TestTrustedFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root: the file must be root's")
	}
	top := t.TempDir()
	if err := os.Chmod(top, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name string, mode os.FileMode, uid int) string {
		p := filepath.Join(top, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte("version: 1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(p, uid, 0); err != nil {
			t.Fatal(err)
		}
		return p
	}
	good := write("good/p.yaml", 0o644, 0)
	open := write("open/p.yaml", 0o644, 0)
	foreign := write("foreign/p.yaml", 0o644, 0)
	for _, err := range []error{
		os.Chmod(filepath.Dir(open), 0o777),
		os.Chown(filepath.Dir(foreign), 1000, 0),
		os.Symlink(good, filepath.Join(top, "link.yaml")),
		os.Symlink("good", filepath.Join(top, "linked")),
		unix.Mkfifo(filepath.Join(top, "fifo"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ path, says string }{
		{good, ""},
		{write("0600.yaml", 0o600, 0), ""},
		{write("0666.yaml", 0o666, 0), "0666"},
		{write("0664.yaml", 0o664, 0), "0664"},
		{write("0646.yaml", 0o646, 0), "0646"},
		{write("theirs.yaml", 0o644, 1000), "uid 1000"},
		{open, "0777"},
		{foreign, "uid 1000"},
		{filepath.Join(top, "link.yaml"), "symbolic link"},
		{filepath.Join(top, "linked/p.yaml"), "symbolic link"},
		{filepath.Join(top, "good"), "not a regular file"},
		{filepath.Join(top, "fifo"), "not a regular file"},
	} {
		data, err := ReadFile("policy", c.path, top, 64)
		switch {
		case c.says == "" && (err != nil || string(data) != "version: 1\n"):
			t.Errorf("%s: %q %v", c.path, data, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%s: %v, want %q", c.path, err, c.says)
		}
	}
	if _, err := ReadFile("policy", filepath.Join(top, "none"), top, 64); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := ReadFile("policy", good, top, 5); fail.KindOf(err) != fail.Refused {
		t.Errorf("a large file: %v", err)
	}
	t.Chdir(filepath.Dir(good))
	if data, err := ReadFile("policy", "p.yaml", top, 64); err != nil || len(data) == 0 {
		t.Errorf("relative: %v", err)
	}
}

// A regular file of root's, and reading it waits for the kernel's next message.
func TestFileThatWaits(t *testing.T) {
	done := make(chan error, 1)
	go func() {
		_, err := ReadFile("policy", "/proc/kmsg", "/", 4<<20)
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("it has an end")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it waits for good")
	}
}
