package ctar

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPlan(t *testing.T) {
	dir := Info{Path: "/d", Exists: true, Dir: true}
	file := Info{Path: "/d/f", Exists: true}
	none := Info{Path: "/d/n"}
	for _, c := range []struct {
		what, base string
		srcDir     bool
		to         Info
		dir, name  string
		err        string
	}{
		{what: "file into directory", base: "a", to: dir, dir: "/d", name: "a"},
		{what: "directory into directory", base: "a", srcDir: true, to: dir, dir: "/d", name: "a"},
		{what: "content into directory", base: ".", srcDir: true, to: dir, dir: "/d", name: "."},
		{what: "file over file", base: "a", to: file, dir: "/d", name: "f"},
		{what: "directory over file", base: "a", srcDir: true, to: file, err: "cannot copy directory"},
		{what: "file under a new name", base: "a", to: none, dir: "/d", name: "n"},
		{what: "directory under a new name", base: "a", srcDir: true, to: none, dir: "/d", name: "n"},
		{what: "content under a new name", base: ".", srcDir: true, to: none, dir: "/d", name: "n"},
		{what: "file into a missing directory", base: "a", to: Info{Path: "/d/n/"}, err: "no such directory"},
		{what: "directory as a missing directory", base: "a", srcDir: true, to: Info{Path: "/d/n/"}, dir: "/d", name: "n"},
		{what: "at the top", base: "a", to: Info{Path: "/n"}, dir: "/", name: "n"},
		{what: "device", base: "a", to: Info{Path: "/dev/null", Exists: true, Kind: "a device"}, err: "must be a directory or a regular file"},
		{what: "parent of nothing", base: "a", srcDir: true, to: Info{Path: "/d/n/.."}, err: "no such directory"},
	} {
		d, n, err := Plan(c.base, c.srcDir, c.to)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v", c.what, err)
			}
			continue
		}
		if err != nil || d != c.dir || n != c.name {
			t.Errorf("%s: %q %q %v", c.what, d, n, err)
		}
	}
}

func TestBase(t *testing.T) {
	for p, want := range map[string]string{
		"/a/b": "b", "/a/b/": "b", "/a/b/.": ".", "/": ".", "/.": ".", "/a/..": ".", "/a/b/..": "a", "b": "b", ".": ".", "..": ".",
	} {
		if got := Base(p); got != want {
			t.Errorf("%s: %q", p, got)
		}
	}
}

func archive(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		h.Format, h.Mode = tar.FormatPAX, max(h.Mode, 0o644)
		if h.Typeflag == tar.TypeReg {
			h.Size = 4
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte("evil")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// canary is a directory beside the destination, with a file.
func canary(t testing.TB) (dst, outside string) {
	t.Helper()
	base := t.TempDir()
	dst, outside = filepath.Join(base, "dst"), filepath.Join(base, "outside")
	for _, d := range []string{dst, outside} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(outside, "f"), []byte("host"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dst, outside
}

func untouched(t testing.TB, outside string) {
	t.Helper()
	entries, err := os.ReadDir(outside)
	b, rerr := os.ReadFile(filepath.Join(outside, "f"))
	st, serr := os.Lstat(filepath.Join(outside, "f"))
	if err := errors.Join(err, rerr, serr); err != nil || len(entries) != 1 || string(b) != "host" || st.Mode() != 0o600 {
		t.Fatalf("outside was changed: %v %q %v %v", entries, b, st, err)
	}
	if all, err := os.ReadDir(filepath.Dir(outside)); err != nil || len(all) != 2 {
		t.Fatalf("beside the destination: %v %v", all, err)
	}
}

func TestHostileArchives(t *testing.T) {
	reg := func(n string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: n} }
	dir := func(n string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: n} }
	sym := func(n, to string) tar.Header { return tar.Header{Typeflag: tar.TypeSymlink, Name: n, Linkname: to} }
	link := func(n, to string) tar.Header { return tar.Header{Typeflag: tar.TypeLink, Name: n, Linkname: to} }
	for _, c := range []struct {
		what    string
		entries []tar.Header
		only    string
		err     string // "": none
		missed  int
	}{
		{what: "up", entries: []tar.Header{reg("../outside/f")}, err: "leads out"},
		{what: "up in the middle", entries: []tar.Header{reg("a/../../outside/f")}, err: "leads out"},
		{what: "absolute", entries: []tar.Header{reg("/etc/evil")}, err: "absolute"},
		{what: "through a link", entries: []tar.Header{sym("l", "../outside"), reg("l/f")}, err: "symbolic link"},
		{what: "through a link to below", entries: []tar.Header{dir("d"), sym("l", "d"), reg("l/f")}, err: "symbolic link"},
		{what: "over a link", entries: []tar.Header{sym("l", "../outside/f"), reg("l")}},
		{what: "directory over a link", entries: []tar.Header{sym("l", "../outside"), dir("l"), reg("l/x")}, err: "cannot overwrite non-directory"},
		{what: "hard link to outside", entries: []tar.Header{link("x", "../outside/f")}, err: "leads out"},
		{what: "hard link through a link", entries: []tar.Header{sym("l", "../outside"), link("x", "l/f"), reg("x")}, err: "too many levels"},
		{what: "hard link to a link", entries: []tar.Header{sym("l", "../outside/f"), link("x", "l"), reg("x")}},
		{what: "another name", only: "a", entries: []tar.Header{reg("a"), reg("b")}, err: "not asked for"},
		{what: "hard link to another name", only: "a", entries: []tar.Header{link("a", "b")}, err: "not asked for"},
		{what: "device", entries: []tar.Header{{Typeflag: tar.TypeChar, Name: "c", Devmajor: 1, Devminor: 3}, reg("x")}, missed: 1},
		{what: "FIFO", entries: []tar.Header{{Typeflag: tar.TypeFifo, Name: "p"}}, missed: 1},
		{what: "file over directory", entries: []tar.Header{dir("d"), reg("d")}, err: "cannot overwrite directory"},
		{what: "too deep", entries: deep(600), err: "too deep"},
		{what: "setuid", entries: []tar.Header{{Typeflag: tar.TypeReg, Name: "s", Mode: 0o6755}, {Typeflag: tar.TypeDir, Name: "g", Mode: 0o2755}}},
		{what: "missing parents", entries: []tar.Header{reg("a/b/c")}},
	} {
		dst, outside := canary(t)
		p, err := HostUnpack(bytes.NewReader(archive(t, c.entries...)), dst, c.only, false)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", c.what, err)
		}
		if p.Count != c.missed {
			t.Errorf("%s: %+v", c.what, p)
		}
		untouched(t, outside)
		err = filepath.Walk(dst, func(path string, st os.FileInfo, err error) error {
			if err == nil && (st.Mode()&(os.ModeSetuid|os.ModeSetgid|os.ModeDevice) != 0) {
				t.Errorf("%s: %s is %s", c.what, path, st.Mode())
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func deep(n int) (all []tar.Header) {
	for i := range n {
		all = append(all, tar.Header{Typeflag: tar.TypeDir, Name: strings.Repeat("d/", i+1), Mode: 0o755})
	}
	return all
}

func FuzzUnpack(f *testing.F) {
	f.Add(archive(f, tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "../outside"}, tar.Header{Typeflag: tar.TypeReg, Name: "l/f"}))
	f.Add(archive(f, tar.Header{Typeflag: tar.TypeDir, Name: "d"}, tar.Header{Typeflag: tar.TypeLink, Name: "d/x", Linkname: "d/../f"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		dst, outside := canary(t)
		_, _ = HostUnpack(io.LimitReader(bytes.NewReader(data), 1<<20), dst, "", false)
		untouched(t, outside)
	})
}

// tree makes a directory with one of each kind of file.
func tree(t *testing.T, dir string) {
	t.Helper()
	err := errors.Join(
		os.Mkdir(filepath.Join(dir, "d"), 0o750),
		os.WriteFile(filepath.Join(dir, "d/f"), []byte("text"), 0o640),
		os.Chmod(filepath.Join(dir, "d/f"), 0o640|os.ModeSetuid),
		os.Link(filepath.Join(dir, "d/f"), filepath.Join(dir, "d/g")),
		os.Symlink("/etc/passwd", filepath.Join(dir, "d/l")),
		unix.Mkfifo(filepath.Join(dir, "d/fifo"), 0o600),
		unix.Mknod(filepath.Join(dir, "d/zero"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))),
		unix.Mknod(filepath.Join(dir, "d/sock"), unix.S_IFSOCK|0o666, 0),
		os.WriteFile(filepath.Join(dir, "d/big"), bytes.Repeat([]byte("0123456789"), 100_000), 0o600),
		os.Lchown(filepath.Join(dir, "d/big"), 7, 8),
	)
	if err != nil {
		t.Fatal(err)
	}
}

func TestRoundTrip(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	tree(t, src)
	var b bytes.Buffer
	p, err := HostPack(&b, src+"/d", false, "e")
	if err != nil || p.Count != 3 {
		t.Fatalf("%+v %v", p, err)
	}
	if p, err := HostUnpack(&b, dst, "e", true); err != nil || p.Count != 0 {
		t.Fatalf("%+v %v", p, err)
	}
	var f, g, big unix.Stat_t
	text, err := os.ReadFile(dst + "/e/f")
	to, lerr := os.Readlink(dst + "/e/l")
	err = errors.Join(err, lerr, unix.Stat(dst+"/e/f", &f), unix.Stat(dst+"/e/g", &g), unix.Stat(dst+"/e/big", &big))
	if err != nil || string(text) != "text" || to != "/etc/passwd" || f.Ino != g.Ino || f.Mode&0o7777 != 0o640 {
		t.Errorf("%q %q %o %v", text, to, f.Mode, err)
	}
	if big.Size != 1_000_000 || big.Uid != 7 || big.Gid != 8 {
		t.Errorf("%+v", big)
	}
	if names, err := os.ReadDir(dst + "/e"); err != nil || len(names) != 4 {
		t.Errorf("%v %v", names, err)
	}
}

// changing is a stream's end that changes a file once its header was written.
type changing struct {
	io.Writer
	change func()
}

func (c *changing) Write(p []byte) (int, error) {
	if c.change != nil {
		c.change()
		c.change = nil
	}
	return c.Writer.Write(p)
}

func TestSizeChanges(t *testing.T) {
	for _, size := range []int64{0, 10, 5_000_000} {
		file := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(file, make([]byte, 1_000_000), 0o600); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		p, err := HostPack(&changing{&b, func() { _ = os.Truncate(file, size) }}, file, false, "f")
		if err != nil || (p.Count == 1) != (size < 1_000_000) {
			t.Errorf("%d: %+v %v", size, p, err)
		}
		r := tar.NewReader(&b)
		if h, err := r.Next(); err != nil || h.Size != 1_000_000 {
			t.Errorf("%d: %+v %v", size, h, err)
		}
		if n, err := io.Copy(io.Discard, r); err != nil || n != 1_000_000 {
			t.Errorf("%d: %d %v", size, n, err)
		}
		if _, err := r.Next(); err != io.EOF {
			t.Errorf("%d: %v", size, err)
		}
	}
}
