package launcher

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// tree makes an image's files: "a/" is a directory, "a -> b" a link, "a" a file.
func tree(t *testing.T, entries ...string) *os.File {
	t.Helper()
	dir := t.TempDir()
	for _, e := range entries {
		name, to, link := strings.Cut(e, " -> ")
		p := filepath.Join(dir, name)
		var err error
		switch {
		case link:
			err = os.Symlink(to, p)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(p, 0o755)
		default:
			err = os.WriteFile(p, []byte("content of "+name), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := openDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestLeadFollowsLinksWithoutLeaving(t *testing.T) {
	root := tree(t, "proc/", "a/b/", "abs -> /proc/self", "up -> ../../../../proc", "chain -> abs", "file", "self -> .", "w -> /proc/self/fd/8")
	for path, want := range map[string]string{
		"/a/b":        "/a/b",
		"/abs/x":      "/proc/self/x",
		"/up/sys":     "/proc/sys",
		"/chain":      "/proc/self",
		"/missing/x":  "/missing/x",
		"/file/x":     "/file/x",
		"/self/self":  "/",
		"/a/../up":    "/proc",
		"/w":          "/proc/self/fd/8",
		"/../../proc": "/proc",
	} {
		got, err := lead(root, path)
		if err != nil || got != want {
			t.Errorf("lead(%q) = %q, %v; want %q", path, got, err, want)
		}
	}
}

func TestLeadBoundsLinks(t *testing.T) {
	links := []string{"loop -> loop"}
	for i := range 60 {
		links = append(links, fmt.Sprintf("l%d -> l%d", i, i+1))
	}
	root := tree(t, links...)
	for _, p := range []string{"/loop", "/l0"} {
		if _, err := lead(root, p); fail.KindOf(err) != fail.Refused {
			t.Errorf("lead(%q): %v, want a refusal", p, err)
		}
	}
}

func TestFactsRefuseRedirectedSystemPaths(t *testing.T) {
	good := []string{"dev/", "proc/", "sys/", "etc/", "run/", "tmp/", "data/"}
	for _, c := range []struct {
		name    string
		entries []string
		ask     []string
		refused bool
	}{
		{"plain", good, []string{"/data"}, false},
		{"missing directories", nil, nil, false},
		{"dev is a link", []string{"tmp/", "dev -> /tmp/x"}, nil, true},
		{"proc is a link", []string{"etc/", "proc -> /etc"}, nil, true},
		{"sys leads up", []string{"sys -> .."}, nil, true},
		{"working directory in proc", append([]string{"w -> /proc/self/fd/8"}, good...), []string{"/w"}, true},
		{"target in sys", append([]string{"s -> sys"}, good...), []string{"/s/kernel"}, true},
		{"target in dev", append([]string{"d -> dev"}, good...), []string{"/d"}, true},
		{"link elsewhere", append([]string{"l -> data"}, good...), []string{"/l/x"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := tree(t, c.entries...)
			f, err := factsFor(t.TempDir(), "sha256:x", c.ask, func() (*os.File, error) { return dup(root), nil })
			if err != nil {
				t.Fatal(err)
			}
			if err := f.check(c.ask); (fail.KindOf(err) == fail.Refused && err != nil) != c.refused {
				t.Errorf("check: %v, want refused=%v", err, c.refused)
			}
		})
	}
}

func dup(f *os.File) *os.File {
	d, err := openDirAt(f.Name())
	if err != nil {
		panic(err)
	}
	return d
}

func TestFactsAreCached(t *testing.T) {
	root := tree(t, "etc/", "etc/passwd")
	cache := t.TempDir()
	opened := 0
	open := func() (*os.File, error) { opened++; return dup(root), nil }
	for range 3 {
		f, err := factsFor(cache, "sha256:x", []string{"/a"}, open)
		if err != nil || string(f.Passwd) != "content of etc/passwd" {
			t.Fatalf("%q, %v", f.Passwd, err)
		}
	}
	if opened != 1 {
		t.Errorf("the image was read %d times, want once", opened)
	}
	if _, err := factsFor(cache, "sha256:x", []string{"/a", "/b"}, open); err != nil || opened != 2 {
		t.Errorf("a path not asked before: opened %d times, %v", opened, err)
	}
	// A damaged cache is as good as none.
	files, _ := filepath.Glob(cache + "/facts-*")
	if err := os.WriteFile(files[0], []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := factsFor(cache, "sha256:x", nil, open); err != nil || opened != 3 {
		t.Errorf("damaged cache: opened %d times, %v", opened, err)
	}
}

func TestAccountsFilesAreBounded(t *testing.T) {
	root := tree(t, "etc/", "etc/group -> /etc/../../../etc/other", "etc/other")
	dir, err := os.Readlink(root.Name())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := readIn(root, "/etc/group"); err != nil || string(b) != "content of etc/other" {
		t.Errorf("link inside the image: %q, %v", b, err)
	}
	if b, err := readIn(root, "/etc/missing"); err != nil || b != nil {
		t.Errorf("missing: %q, %v", b, err)
	}
	fifo := filepath.Join(dir, "etc/passwd")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readIn(root, "/etc/passwd"); err == nil {
		t.Error("a FIFO was accepted")
	}
	if err := errors.Join(os.Remove(fifo), os.WriteFile(fifo, nil, 0o600), os.Truncate(fifo, 1<<30)); err != nil {
		t.Fatal(err)
	}
	if _, err := readIn(root, "/etc/passwd"); fail.KindOf(err) != fail.Refused {
		t.Errorf("1 GiB: %v, want a refusal", err)
	}
}

// TestViewFollowsLinksUp: images have links with "..", as /etc/passwd in some
// distributions, also where several layers are joined.
func TestViewFollowsLinksUp(t *testing.T) {
	dir := t.TempDir()
	for p, to := range map[string]string{"a/fs/etc/passwd": "../usr/share/passwd", "b/fs/etc/group": "../../../../usr/share/../share/group"} {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, filepath.Dir(p)), 0o755), os.Symlink(to, filepath.Join(dir, p))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"passwd", "group"} {
		p := filepath.Join(dir, "a/fs/usr/share", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(name), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := view([]mount.Mount{{Type: "overlay", Options: []string{"lowerdir=" + dir + "/b/fs:" + dir + "/a/fs"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, name := range []string{"passwd", "group"} {
		for range 20 {
			if b, err := readIn(root, "/etc/"+name); err != nil || string(b) != name {
				t.Fatalf("%q, %v", b, err)
			}
		}
	}
}
