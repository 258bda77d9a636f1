package source

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func listen(t *testing.T, p string) {
	t.Helper()
	l, err := net.Listen("unix", p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

func TestSockets(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, d := range []string{"live/a/b", "hard", "quiet", "stale", "renamed"} {
		if err := os.MkdirAll(at(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	listen(t, at("live/a/b/engine.sock"))
	if err := os.Link(at("live/a/b/engine.sock"), at("hard/innocent")); err != nil {
		t.Fatal(err)
	}
	listen(t, at("renamed/s"))
	if err := os.Rename(at("renamed/s"), at("renamed/t")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(at("stale/s"), unix.S_IFSOCK|0o600, 0); err != nil {
		t.Fatal(err)
	}
	k := KnownPaths{Sockets: []string{at("live/a/b/engine.sock")}}
	for _, c := range []struct {
		source string
		want   []string
	}{
		{"live/a/b/engine.sock", []string{"live/a/b/engine.sock"}},
		{"live", []string{"live/a/b/engine.sock"}},
		{"live/a", []string{"live/a/b/engine.sock"}},
		{"hard", []string{"hard/innocent", "live/a/b/engine.sock"}},
		{"hard/innocent", []string{"hard/innocent", "live/a/b/engine.sock"}},
		{"stale", []string{"stale/s"}},
		{"renamed", []string{"renamed/t"}},
		{"quiet", nil},
	} {
		s := gather(t, k, at(c.source))[0]
		var want []string
		for _, w := range c.want {
			want = append(want, at(w))
		}
		slices.Sort(s.Sockets)
		slices.Sort(want)
		if s.Err != "" || !slices.Equal(s.Sockets, want) {
			t.Errorf("%s: err %q sockets %q, want %q", c.source, s.Err, s.Sockets, want)
		}
	}
}

func TestSocketBeyondTheWalk(t *testing.T) {
	dir := t.TempDir()
	deep := dir
	for range walkDepth + 3 {
		deep = filepath.Join(deep, "d")
	}
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	s := gather(t, KnownPaths{}, dir)[0]
	if !s.WalkTruncated || len(s.Sockets) > 0 {
		t.Errorf("%+v", s)
	}
	listen(t, filepath.Join(deep, "s"))
	if s = gather(t, KnownPaths{}, dir)[0]; !slices.Contains(s.Sockets, filepath.Join(deep, "s")) {
		t.Errorf("a socket that is alive was not found: %+v", s)
	}
}

func FuzzSocketPath(f *testing.F) {
	f.Add("0000000000000000: 00000002 00000000 00010000 0001 01 23456 /run/x y.sock")
	f.Add("0000000000000000: 00000002 00000000 00010000 0001 01 23456")
	f.Add("0000000000000000: 00000003 00000000 00000000 0001 03 23456 @abstract")
	f.Fuzz(func(t *testing.T, line string) {
		if p := socketPath(line); p != "" && (p[0] != '/' || !strings.Contains(line, "/")) {
			t.Errorf("%q gives %q", line, p)
		}
	})
}
