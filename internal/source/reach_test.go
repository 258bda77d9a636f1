package source

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/spec"
)

// someone is a user who has nothing and owns nothing here.
func someone() *cli.Caller { return &cli.Caller{UID: 12345, GID: 12345} }

// open house: a directory every uid can reach.
func house(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "source-test-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func gatherAs(t *testing.T, as Rights, p string, readonly bool) spec.Source {
	t.Helper()
	set, err := GatherAs(as, []spec.Mount{{Type: spec.MountBind, Source: p, Target: "/x", ReadOnly: readonly}}, nil, known())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close() })
	return set.Sources[0]
}

// TestDenied: a source is judged with the rights of who asks.
func TestDenied(t *testing.T) {
	dir := house(t)
	type want struct{ ro, rw bool } // denied
	cases := map[string]want{}
	add := func(name string, uid int, mode os.FileMode, isDir bool, w want) {
		p := filepath.Join(dir, name)
		err := os.WriteFile(p, nil, 0o600)
		if isDir {
			err = errors.Join(os.Remove(p), os.Mkdir(p, 0o700))
		}
		if err := errors.Join(err, os.Chown(p, uid, uid), os.Chmod(p, mode)); err != nil {
			t.Fatal(err)
		}
		cases[p] = w
	}
	add("own", 12345, 0o700, true, want{})
	add("own-readonly", 12345, 0o500, true, want{rw: true})
	add("own-no-list", 12345, 0o300, true, want{ro: true, rw: true})
	add("own-no-enter", 12345, 0o600, true, want{ro: true, rw: true})
	add("closed", 0, 0o700, true, want{ro: true, rw: true})
	add("readable", 0, 0o755, true, want{rw: true})
	add("open", 0, 0o777, true, want{})
	add("file", 0, 0o644, false, want{rw: true})
	add("secret", 0, 0o600, false, want{ro: true, rw: true})
	add("own-file", 12345, 0o600, false, want{})
	cases[filepath.Join(dir, "closed/none")] = want{ro: true, rw: true}
	for p, w := range cases {
		for _, ro := range []bool{true, false} {
			expect := w.rw
			if ro {
				expect = w.ro
			}
			if s := gatherAs(t, someone().Do, p, ro); s.Denied != expect || s.UID == 0 && s.Real == "" && !strings.HasSuffix(p, "none") {
				t.Errorf("%s readonly=%v: denied %v, want %v: %+v", p, ro, s.Denied, expect, s)
			}
			if s := gatherAs(t, nil, p, ro); s.Denied {
				t.Errorf("%s readonly=%v: denied to the process itself", p, ro)
			}
		}
	}
	if s := gatherAs(t, someone().Do, filepath.Join(dir, "none"), true); s.Denied || !s.NotExist {
		t.Errorf("what anybody can see is missing: %+v", s)
	}
}

// TestGroups: the caller's groups count.
func TestGroups(t *testing.T) {
	p := filepath.Join(house(t), "shared")
	if err := errors.Join(os.Mkdir(p, 0o700), os.Chown(p, 0, 777), os.Chmod(p, 0o770)); err != nil {
		t.Fatal(err)
	}
	c := someone()
	if s := gatherAs(t, c.Do, p, false); !s.Denied {
		t.Error("not a member, and not denied")
	}
	c.Groups = []uint32{12345, 777}
	if s := gatherAs(t, c.Do, p, false); s.Denied || s.Err != "" {
		t.Errorf("a member: %+v", s)
	}
}

// TestReadOnlyFilesystem: who could write but for the mount is not denied.
func TestReadOnlyFilesystem(t *testing.T) {
	if !inMountNamespace(t) {
		return
	}
	dir := t.TempDir()
	mount(t, "none", dir, "tmpfs", 0)
	p := filepath.Join(dir, "x")
	if err := errors.Join(os.Mkdir(p, 0o700), os.Chown(p, 12345, 12345), os.Chmod(filepath.Dir(dir), 0o755),
		unix.Mount("none", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")); err != nil {
		t.Fatal(err)
	}
	// The way there is closed to others: they come by a descriptor.
	fd, err := unix.Open(p, unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := someone().Do(func() error { return may(fd, true) }); err != nil {
		t.Error(err)
	}
	if err := (&cli.Caller{UID: 12346, GID: 12346}).Do(func() error { return may(fd, true) }); err == nil {
		t.Error("another user may write")
	}
}

// TestLinks: every link on the way is told, with its owner.
func TestLinks(t *testing.T) {
	dir := house(t)
	real := filepath.Join(dir, "a/b")
	if err := os.MkdirAll(real, 0o755); err != nil {
		t.Fatal(err)
	}
	link := func(name, to string, uid int) string {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.Symlink(to, p), os.Lchown(p, uid, uid)); err != nil {
			t.Fatal(err)
		}
		return p
	}
	up := link("a/up", "../a", 5)
	link("abs", dir+"/a/up/b", 6)
	link("chain", "./abs/../up/b/.", 7)
	for p, want := range map[string]string{
		real:                        "[]",
		dir + "/a/../a/b":           "[]",
		up + "/b":                   fmt.Sprintf("[{%s 5}]", up),
		dir + "/abs":                fmt.Sprintf("[{%s/abs 6} {%s 5}]", dir, up),
		dir + "/chain":              fmt.Sprintf("[{%[1]s/chain 7} {%[1]s/abs 6} {%[1]s/a/up 5} {%[1]s/a/up 5}]", dir),
		link("root", "/", 8) + real: fmt.Sprintf("[{%s/root 8}]", dir),
	} {
		s := gatherAs(t, nil, p, true)
		if s.Err != "" || s.Real != real || fmt.Sprint(s.Links) != want {
			t.Errorf("%s: %v, want %s: %+v", p, s.Links, want, s)
		}
	}
	for i := range maxLinks + 1 {
		link(fmt.Sprintf("n%d", i), fmt.Sprintf("n%d", i+1), 0)
	}
	link(fmt.Sprintf("n%d", maxLinks+1), "a/b", 0)
	if s := gatherAs(t, nil, dir+"/n0", true); s.Err == "" {
		t.Errorf("%d links were followed: %+v", maxLinks+2, s)
	}
	if s := gatherAs(t, nil, dir+"/n5", true); s.Err != "" || len(s.Links) != maxLinks-3 {
		t.Errorf("%d links: %+v", len(s.Links), s)
	}
}

// TestChangedLinks: what was opened and what the links lead to are the same.
func TestChangedLinks(t *testing.T) {
	dir := house(t)
	if err := errors.Join(os.Mkdir(dir+"/one", 0o755), os.Mkdir(dir+"/two", 0o755), os.Symlink("two", dir+"/link")); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(dir+"/one", unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := links(dir+"/link", fd); !errors.Is(err, errChanged) {
		t.Errorf("the link leads to two, one is open: %v", err)
	}
}
