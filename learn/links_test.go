package learn

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestLinks(t *testing.T) {
	root := t.TempDir()
	var layers []string
	for i, files := range []string{
		"usr/bin/new; gone!; bin/; opt/own/; opt/other-x", // upper
		"etc/alternatives/awk>/usr/bin/mawk; bin>usr/bin; opt/out>../../../../../../etc; gone>usr; opt/own/seen>/usr",
		"usr/bin/sh>dash; usr/bin/awk>/etc/alternatives/awk; usr/bin/mawk; usr/bin/dash; var/run>/run; a>b; b>a; deep>/deep/x; lib/x>../usr/lib",
	} {
		dir := filepath.Join(root, fmt.Sprint(i))
		layers = append(layers, dir)
		for f := range strings.SplitSeq(files, "; ") {
			name, to, link := strings.Cut(f, ">")
			p := filepath.Join(dir, strings.TrimRight(name, "!/"))
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				t.Fatal(err)
			}
			var err error
			switch {
			case link:
				err = os.Symlink(to, p)
			case strings.HasSuffix(name, "/"):
				err = os.Mkdir(p, 0o755)
			case strings.HasSuffix(name, "!"):
				err = unix.Mknod(p, unix.S_IFCHR, 0)
			default:
				err = os.WriteFile(p, nil, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	// /bin is a directory again in the upper layer, and /opt/own hides the image's.
	if err := unix.Setxattr(filepath.Join(layers[0], "opt/own"), "trusted.overlay.opaque", []byte("y"), 0); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"/usr/bin/sh": "/usr/bin/dash", "/usr/bin/awk": "/usr/bin/mawk", "/var/run/x.pid": "/run/x.pid", "/opt/out/passwd": "/etc/passwd",
		"/lib/x/y/z": "/usr/lib/y/z",
		"/bin/sh":    "", "/usr/bin/mawk": "", "/a": "", "/deep/y": "", "/gone/bin": "", "/opt/own/seen": "", "/no/such": "", "/": "", "relative": "", "/opt/other-x/y": "",
	}
	var rec Recording
	for p := range want {
		rec.Paths = append(rec.Paths, PathUse{Path: p})
	}
	got := Links(rec, layers[0], layers[1:])
	for p, to := range want {
		if got[p] != to {
			t.Errorf("%s leads to %q, not %q", p, got[p], to)
		}
	}
	if got := Links(rec, filepath.Join(root, "none"), layers); got != nil {
		t.Error(got)
	}
}

// Links upon links do not keep whoever looks at them: the container has made
// them for that.
func TestLinksBounded(t *testing.T) {
	upper := t.TempDir()
	dir := strings.Repeat("/a", 100)
	if err := os.MkdirAll(upper+dir, 0o755); err != nil {
		t.Fatal(err)
	}
	to := "/"
	for i := range maxLinks - 1 {
		link := fmt.Sprintf("%s/l%d", dir, i)
		if err := os.Symlink(to, upper+link); err != nil {
			t.Fatal(err)
		}
		to = link
	}
	var rec Recording
	for i := range maxResolved {
		rec.Paths = append(rec.Paths, PathUse{Path: fmt.Sprintf("%s/x%d", to, i)})
	}
	start := time.Now()
	got := Links(rec, upper, []string{t.TempDir()})
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("took %v", took)
	}
	if want := "/x0"; got[rec.Paths[0].Path] != want {
		t.Errorf("the first leads to %q, not to %q", got[rec.Paths[0].Path], want)
	}
}
