package profiles

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/fail"
)

func TestFind(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root: a site's profiles must be root's")
	}
	top := t.TempDir()
	dir := filepath.Join(top, "profiles")
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(top, 0o755), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600), os.Chmod(filepath.Join(dir, name), mode)); err != nil {
			t.Fatal(err)
		}
	}
	write("mine.yaml", "version: 1\nname: mine\nseccomp: {file: f.json}\n", 0o644)
	write("f.json", "{}", 0o644)
	write("open.yaml", "version: 1\nseccomp: {file: open.json}\n", 0o644)
	write("open.json", "{}", 0o666)
	write("loose.yaml", "version: 1\n", 0o666)
	write("nginx.yaml", "version: 1\ndescription: ours\n", 0o644)
	write("other.yaml", "version: 1\nname: nginx\n", 0o644)
	write("broken.yaml", "version: 1\ncapabilities: [ALL]\n", 0o644)

	read := func(path string, most int64) ([]byte, error) {
		data, err := os.ReadFile(path)
		return data, fail.Wrap(fail.NotFound, err, "no such file")
	}
	for _, c := range []struct {
		ref, name, path, says string
		kind                  fail.Kind
	}{
		{ref: "mine", name: "mine", path: dir + "/mine.yaml"},
		{ref: "nginx", name: "nginx", path: dir + "/nginx.yaml"},
		{ref: "redis", name: "redis"},
		{ref: dir + "/mine.yaml", path: dir + "/mine.yaml"},
		{ref: "loose", says: "0666", kind: fail.Refused},
		{ref: "other", says: "calls itself nginx", kind: fail.Refused},
		{ref: "broken", says: "broken.yaml:2", kind: fail.Refused},
		{ref: "ngin", says: "no profile ngin", kind: fail.NotFound},
		{ref: "zzz", says: "no profile zzz", kind: fail.NotFound},
		{ref: "..", says: "not the name", kind: fail.NotFound},
		{ref: "a\x1b[2J", says: `"a\x1b[2J"`, kind: fail.NotFound},
		{ref: "./none.yaml", says: "no such file", kind: fail.NotFound},
	} {
		l, err := find(c.ref, read, dir, top)
		switch {
		case c.says == "" && (err != nil || l.Name != c.name || l.Path != c.path):
			t.Errorf("%s: %+v %v", c.ref, l, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || fail.KindOf(err) != c.kind):
			t.Errorf("%s: %v, want %q", c.ref, err, c.says)
		}
	}
	// Who can change the directory can take a profile of the site's away.
	open := filepath.Join(top, "open")
	if err := errors.Join(os.Mkdir(open, 0o777), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	if _, err := find("redis", read, open, top); fail.KindOf(err) != fail.Refused {
		t.Errorf("an embedded profile in place of one taken away: %v", err)
	}
	if _, err := find("redis", read, filepath.Join(top, "none"), top); err != nil {
		t.Error(err)
	}
	_, err := find("ngin", read, dir, top)
	if e := (*fail.Error)(nil); !errors.As(err, &e) || !strings.Contains(e.Next, "nginx") {
		t.Errorf("no near name: %+v", e)
	}
	l, err := find("mine", read, dir, top)
	if data, err2 := l.SeccompJSON(nil); err != nil || err2 != nil || string(data) != "{}" {
		t.Errorf("%s %v %v", data, err, err2)
	}
	l, err = find("open", read, dir, top)
	if _, err2 := l.SeccompJSON(nil); err != nil || fail.KindOf(err2) != fail.Refused {
		t.Errorf("a filter others can change: %v %v", err, err2)
	}
	names, err := SiteNames(dir)
	if err != nil || !slices.Contains(names, "mine") || slices.Contains(names, "f") {
		t.Error(names, err)
	}
	if names, err := SiteNames(dir + "/none"); len(names) > 0 || err != nil {
		t.Error(names, err)
	}
}

func TestEmbedded(t *testing.T) {
	names := Embedded()
	if !slices.Contains(names, "nginx") || !slices.Contains(names, "redis") || !slices.IsSorted(names) {
		t.Error(names)
	}
	for _, name := range names {
		l, err := Find(name, nil, "")
		if err != nil {
			t.Error(err)
			continue
		}
		p := l.Profile
		if p.Name != name || p.Description == "" || p.Image != "" || p.Seccomp != nil && p.Seccomp.File != "" {
			t.Errorf("%s: needs name and description, and has no image and no files: %+v", name, p)
		}
		if !slices.Equal(p.For, forLine(name)) {
			t.Errorf("%s: for must be written as for: [a, b] in one line", name)
		}
		for _, f := range p.For {
			if got := ForImage("docker.io/library/" + f); got != name {
				t.Errorf("images %s are for %s and for %s", f, name, got)
			}
		}
		for _, c := range p.Capabilities {
			if c.Why == "" {
				t.Errorf("%s: no reason for %s", name, c.Name)
			}
		}
		roundTrip(t, p)
	}
	for image, want := range map[string]string{
		"nginx": "nginx", "localhost:5000/nginx": "nginx", "nginx:1.25": "nginx", "quay.io/a/nginx@sha256:00": "nginx",
		"": "", "x/": "", "nginx/other": "", "for: [": "",
	} {
		if got := ForImage(image); got != want {
			t.Errorf("%q: %q", image, got)
		}
	}
}
