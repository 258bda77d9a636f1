package imagekit

import (
	"archive/tar"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestPlanned(t *testing.T) {
	for _, c := range []struct {
		plan string
		want []string // nil: an error
	}{
		{
			"Reading package lists...\nInst debconf (1.5.82 Debian:12.15/oldstable [all])\n" +
				"Inst zlib1g (1:1.2.13.dfsg-1 Debian:12.15/oldstable [amd64]) []\nInst libc6:i386 (2.36 Debian:12 [i386])\n" +
				"Conf debconf (1.5.82 Debian:12.15/oldstable [all])\n",
			[]string{"/d/debconf_1.5.82_all.deb", "/d/zlib1g_1%3a1.2.13.dfsg-1_amd64.deb", "/d/libc6_2.36_i386.deb"},
		},
		{"Reading package lists...\n", nil},
		{"Inst debconf\n", nil},
		{"Inst debconf (1.5.82 Debian:12.15/oldstable\n", nil},
		{"Inst debconf (1.5.82)\n", nil},
	} {
		got, err := planned([]byte(c.plan), "/d")
		if !slices.Equal(got, c.want) || (err == nil) != (c.want != nil) {
			t.Errorf("%q: %q, %v", c.plan, got, err)
		}
	}
}

func TestMergeUsr(t *testing.T) {
	for in, want := range map[string]string{
		"./": "", "./usr/bin/x": "usr/bin/x", "./lib/x86_64-linux-gnu/libc.so.6": "usr/lib/x86_64-linux-gnu/libc.so.6",
		"./lib64/": "usr/lib64", "/sbin/x": "usr/sbin/x", "./library/x": "library/x", "../../etc/x": "etc/x",
	} {
		if got := mergeUsr(in); got != want {
			t.Errorf("%q: %q, wanted %q", in, got, want)
		}
	}
}

// pack makes a package of the given name from files (path: host file), and
// gives its file name.
func pack(t *testing.T, dir, name string, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	control := filepath.Join(root, "DEBIAN/control")
	files["DEBIAN/control"] = ""
	for to, from := range files {
		to = filepath.Join(root, to)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		body := []byte("Package: " + name + "\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n")
		if to != control {
			var err error
			if body, err = os.ReadFile(from); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(to, body, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, name+"_1_all.deb")
	if b, err := exec.Command("dpkg-deb", "--root-owner-group", "-Znone", "--build", root, out).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	return out
}

// library finds the library on this host that the program is linked with.
func library(t *testing.T, program string) (name, file string) {
	t.Helper()
	body, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	libs, err := imported(body)
	if err != nil || !slices.Contains(libs, "libc.so.6") {
		t.Fatalf("%s is linked with %q, %v", program, libs, err)
	}
	found, err := filepath.Glob("/lib/*/libc.so.6")
	if err != nil || len(found) == 0 {
		t.Fatalf("no libc.so.6: %v", err)
	}
	return libs[0], found[0]
}

func TestAssemble(t *testing.T) {
	const program = "/usr/bin/true"
	name, lib := library(t, program)
	loader, err := filepath.Glob("/lib*/ld-linux*.so.*")
	if err != nil || len(loader) == 0 {
		t.Fatalf("no dynamic linker: %v", err)
	}
	dir := t.TempDir()
	files := []string{
		pack(t, dir, "server", map[string]string{"bin/server": program, "usr/share/doc/server/copyright": "/etc/passwd", "etc/server.conf": "/etc/passwd"}),
		pack(t, dir, "libc", map[string]string{"lib/x/" + name: lib, "lib/x/" + filepath.Base(loader[0]): loader[0], "usr/lib/x/gconv/UTF-16.so": lib}),
		pack(t, dir, "debconf", map[string]string{"usr/bin/debconf": program}),
	}
	first, err := assemble(files, []string{"server"})
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, e := range first {
		if e.Type == tar.TypeReg {
			paths = append(paths, e.Path)
		}
		if e.UID != 0 || e.GID != 0 {
			t.Errorf("%s belongs to %d:%d", e.Path, e.UID, e.GID)
		}
	}
	slices.Sort(paths)
	want := []string{"etc/server.conf", "usr/bin/server", "usr/lib/x/" + name, "usr/lib/x/" + filepath.Base(loader[0])}
	slices.Sort(want)
	if !slices.Equal(paths, want) {
		t.Errorf("files %q, wanted %q", paths, want)
	}
	slices.Reverse(files)
	again, err := assemble(files, []string{"server"})
	if err != nil || !reflect.DeepEqual(first, again) {
		t.Errorf("the order of the packages shows in the entries, %v", err)
	}
	if _, err := assemble(files, []string{"nginx"}); err == nil {
		t.Error("a package that is not there was found")
	}
	if _, err := assemble([]string{filepath.Join(dir, "server_1_all.deb")}, []string{"server"}); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("a missing library: %v", err)
	}
	broken := filepath.Join(dir, "broken_1_all.deb")
	if err := os.WriteFile(broken, []byte("!<arch>\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := assemble([]string{broken}, []string{"broken"}); err == nil {
		t.Error("a broken package was unpacked")
	}
}

func TestInOrder(t *testing.T) {
	got := inOrder(map[string]Entry{
		"a": Hardlink("a", "z"), "z": File("z", 0o644, ""), "b/": Dir("b", 0o755), "b/c": File("b/c", 0o644, ""),
	})
	var paths []string
	for _, e := range got {
		paths = append(paths, e.Path)
	}
	if want := []string{"b/", "b/c", "z", "a"}; !slices.Equal(paths, want) {
		t.Errorf("%q, wanted %q", paths, want)
	}
}

func TestServerBase(t *testing.T) {
	tmp := Dir("tmp", 0o700)
	entries := layered(serverBase(), []Entry{tmp, Dir("usr/bin", 0o755), File("usr/bin/server", 0o755, "x")})
	if want := len(serverBase()) + 1; len(entries) != want {
		t.Errorf("%d entries, wanted %d: two for a path", len(entries), want)
	}
	b, err := Build(Image{Layers: []Layer{{Entries: entries}}})
	if err != nil {
		t.Fatal(err)
	}
	h, body := files(t, b.Blobs[b.Layers[0]])
	if h["lib64"].Linkname != "usr/lib64" || h["tmp/"].Mode != 0o1777 || !strings.Contains(string(body["etc/passwd"]), "\nwww-data:x:33:33:") {
		t.Errorf("lib64 %+v, tmp %+v", h["lib64"], h["tmp/"])
	}
}
