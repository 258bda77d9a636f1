package learn

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Nothing a container makes in its root file system is hidden from the bound,
// and nothing outside of it counts.
func TestLarger(t *testing.T) {
	const most = 1 << 20
	big := make([]byte, 2*most)
	elsewhere := t.TempDir()
	if err := os.WriteFile(filepath.Join(elsewhere, "big"), big, 0o600); err != nil {
		t.Fatal(err)
	}
	deep := func(t *testing.T, dir string, depth int, name string) int {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		for range depth {
			if err != nil {
				break
			}
			at := fd
			if err = unix.Mkdirat(at, name, 0o700); err == nil {
				fd, err = unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			}
			unix.Close(at)
		}
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	for what, c := range map[string]struct {
		make func(t *testing.T, dir string)
		want bool
	}{
		"nothing": {func(*testing.T, string) {}, false},
		"a link": {func(t *testing.T, dir string) {
			if err := os.Symlink(elsewhere, filepath.Join(dir, "link")); err != nil {
				t.Fatal(err)
			}
		}, false},
		"empty files": {func(t *testing.T, dir string) {
			for i := range most/inodeCost + 1 {
				if err := unix.Mknod(filepath.Join(dir, strings.Repeat("x", 1+i%200)+string(rune('a'+i/200))), unix.S_IFIFO, 0); err != nil {
					t.Fatal(err)
				}
			}
		}, true},
		"a path longer than any": {func(t *testing.T, dir string) {
			at := deep(t, dir, 30, strings.Repeat("d", 200))
			defer unix.Close(at)
			fd, err := unix.Openat(at, "big", unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			if _, err := unix.Write(fd, big); err != nil {
				t.Fatal(err)
			}
		}, true},
		"depth": {func(t *testing.T, dir string) { unix.Close(deep(t, dir, maxScratchDepth+2, "d")) }, true},
	} {
		dir := t.TempDir()
		c.make(t, dir)
		if got := larger(dir, most); got != c.want {
			t.Errorf("%s: %v", what, got)
		}
	}
	if larger(filepath.Join(elsewhere, "none"), most) {
		t.Error("what is not there is large")
	}
}

// The disk is never filled, however the container hides what it writes.
func TestRoom(t *testing.T) {
	for _, c := range []struct {
		start, now room
		want       bool
	}{
		{room{100 << 30, 1 << 30}, room{2 << 30, 1 << 30}, false},
		{room{100 << 30, 1 << 30}, room{1<<30 - 1, 1 << 30}, true},
		{room{100 << 30, 1 << 30}, room{50 << 30, 1000}, true},
		{room{1 << 30, 1 << 30}, room{600 << 20, 1 << 30}, false},
		{room{1 << 30, 1 << 30}, room{500 << 20, 1 << 30}, true},
		{room{100 << 30, 0}, room{50 << 30, 0}, false}, // a file system that does not count inodes
	} {
		if got := c.now.below(c.start.half()); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	if r := free("/"); r.bytes == 0 || r.below(r.half()) {
		t.Errorf("%+v", r)
	}
}
