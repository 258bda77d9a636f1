package learn

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// overlay mounts an overlay of the layers on a tmpfs, the topmost first, and
// gives its root, and its upper directory.
func overlay(t *testing.T, layers int, fill func(layer func(n int, path string) string)) (root, upper string, lower []string) {
	t.Helper()
	base := t.TempDir()
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatalf("this test needs root: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(base, unix.MNT_DETACH) })
	for i := range layers {
		lower = append(lower, filepath.Join(base, fmt.Sprint(i)))
	}
	root, upper = filepath.Join(base, "root"), filepath.Join(base, "upper")
	for _, d := range append(lower, root, upper, filepath.Join(base, "work")) {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	fill(func(n int, path string) string { return filepath.Join(lower[n], path) })
	options := "lowerdir=" + strings.Join(lower, ":") + ",upperdir=" + upper + ",workdir=" + filepath.Join(base, "work")
	if err := unix.Mount("overlay", root, "overlay", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	return root, upper, lower
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, path string, n int) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, make([]byte, n), 0o644))
}

func TestScratch(t *testing.T) {
	root, upper, lower := overlay(t, 2, func(layer func(int, string) string) {
		put(t, layer(1, "etc/conf"), 10)
		put(t, layer(1, "opt/app/file"), 10)
		put(t, layer(1, "opt/gone/file"), 10)
		must(t, os.MkdirAll(layer(1, "var/cache/empty"), 0o750))
		must(t, os.Chown(layer(1, "var/cache/empty"), 33, 44))
		must(t, os.MkdirAll(layer(1, "data"), 0o755))
		must(t, os.Symlink("/data", layer(1, "link")))
		put(t, layer(1, "emptied/file"), 1)
		// The upper layer of the image removes a file, and replaces a directory.
		must(t, os.MkdirAll(layer(0, "emptied"), 0o755))
		must(t, unix.Mknod(layer(0, "emptied/file"), unix.S_IFCHR, 0))
		must(t, os.MkdirAll(layer(0, "opt/gone"), 0o755))
		must(t, unix.Setxattr(layer(0, "opt/gone"), "trusted.overlay.opaque", []byte("y"), 0))
		put(t, layer(0, "srv/new"), 1)
	})
	in := func(p string) string { return filepath.Join(root, p) }
	put(t, in("etc/new.conf"), 5000)
	put(t, in("etc/conf"), 20)
	put(t, in("var/cache/empty/a"), 1)
	put(t, in("var/cache/empty/deep/er/b"), 8192)
	put(t, in("opt/gone/file"), 1)
	put(t, in("emptied/x"), 1)
	put(t, in("srv/made/x"), 1)
	must(t, os.Remove(in("opt/app/file")))
	must(t, os.Chown(in("data"), 7, 8))
	must(t, os.Symlink("/etc/shadow", in("srv/made/evil")))
	must(t, os.Remove(in("link")))
	must(t, os.Mkdir(in("link"), 0o755))
	must(t, unix.Unmount(root, 0))

	got, err := Scratch(upper, lower)
	must(t, err)
	var lines []string
	for _, w := range got {
		lines = append(lines, fmt.Sprintf("%s dir=%v new=%v %dk in %s %04o %d:%d holds=%v", w.Path, w.Dir, w.New, w.Bytes>>10, w.Parent, w.ParentMode, w.ParentUID, w.ParentGID, w.ParentHolds))
	}
	want := []string{
		"/data dir=true new=false 0k in /data 0755 0:0 holds=false",
		"/emptied/x dir=false new=true 4k in /emptied 0755 0:0 holds=false",
		"/etc/conf dir=false new=false 4k in /etc 0755 0:0 holds=true",
		"/etc/new.conf dir=false new=true 8k in /etc 0755 0:0 holds=true",
		"/link dir=true new=false 0k in / 0755 0:0 holds=true",
		"/opt/app/file dir=false new=false 0k in /opt/app 0755 0:0 holds=true",
		"/opt/gone/file dir=false new=true 4k in /opt/gone 0755 0:0 holds=false",
		"/srv/made dir=true new=true 4k in /srv 0755 0:0 holds=true",
		"/var/cache/empty/a dir=false new=true 4k in /var/cache/empty 0750 33:44 holds=false",
		"/var/cache/empty/deep dir=true new=true 0k in /var/cache/empty 0750 33:44 holds=false",
		"/var/cache/empty/deep/er dir=true new=true 8k in /var/cache/empty 0750 33:44 holds=false",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// The upper directory has the ids of the container's block on disk.
func TestScratchBlock(t *testing.T) {
	upper, lower := t.TempDir(), t.TempDir()
	const base = 3 << 16
	for _, d := range []string{"same", "given"} {
		must(t, os.Mkdir(filepath.Join(lower, d), 0o755))
		must(t, os.Chown(filepath.Join(lower, d), 33, 34))
		must(t, os.Mkdir(filepath.Join(upper, d), 0o755))
	}
	must(t, os.Chown(upper, base, base))
	must(t, os.Chown(filepath.Join(upper, "same"), base+33, base+34))
	must(t, os.Chown(filepath.Join(upper, "given"), base+35, base+34))
	got, err := Scratch(upper, []string{lower})
	must(t, err)
	if len(got) != 1 || got[0].Path != "/given" || got[0].Parent != "/given" || got[0].ParentUID != 33 || got[0].ParentGID != 34 {
		t.Errorf("%+v", got)
	}
}

// A link in the place of a directory of the image must not lead outside.
func TestScratchLink(t *testing.T) {
	base := t.TempDir()
	outside := filepath.Join(base, "outside")
	put(t, filepath.Join(outside, "secret"), 1)
	upper, lower := filepath.Join(base, "upper"), filepath.Join(base, "lower")
	must(t, os.MkdirAll(filepath.Join(upper, "d"), 0o755))
	must(t, os.Symlink(outside, filepath.Join(upper, "e")))
	must(t, os.MkdirAll(lower, 0o755))
	must(t, os.Symlink(outside, filepath.Join(lower, "d")))
	got, err := Scratch(upper, []string{lower})
	must(t, err)
	for _, w := range got {
		if strings.Contains(w.Path, "secret") || w.Parent != "/" {
			t.Errorf("%+v", w)
		}
	}
	if len(got) != 2 || got[0].New || !got[1].New {
		t.Errorf("%+v", got)
	}
}

func TestScratchDeep(t *testing.T) {
	upper, lower := t.TempDir(), t.TempDir()
	dir := upper
	for range maxScratchDepth + 5 {
		dir = filepath.Join(dir, "d")
	}
	must(t, os.MkdirAll(dir, 0o755))
	got, err := Scratch(upper, []string{lower})
	if fail.KindOf(err) != fail.Refused || len(got) == 0 || len(got) > maxScratchDepth+1 {
		t.Errorf("%d entries, %v", len(got), err)
	}
}
