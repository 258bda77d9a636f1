package packaging

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// nfpm is built by make; a test of this package alone builds it itself.
func nfpm(t *testing.T) string {
	t.Helper()
	if n := os.Getenv("NFPM"); n != "" {
		return n
	}
	if n, err := filepath.Abs("../build/nfpm"); err == nil {
		if _, err := os.Stat(n); err == nil {
			return n
		}
	}
	n := filepath.Join(t.TempDir(), "nfpm")
	call(t, []string{"CGO_ENABLED=0"}, "go", "build", "-C", "../tools", "-o", n, "github.com/goreleaser/nfpm/v2/cmd/nfpm")
	return n
}

// packages makes those of the kinds and gives their paths in that order.
func packages(t *testing.T, env []string, kinds ...string) []string {
	t.Helper()
	out := t.TempDir()
	call(t, append([]string{"NFPM=" + nfpm(t), "PACKAGES=" + out, "SOURCE_DATE_EPOCH=1700000000"}, env...),
		"./build.sh", append([]string{"v1.2.3-4-gabcdef0"}, kinds...)...)
	var files []string
	for _, k := range kinds {
		pattern := map[string]string{"deb": "safe-run_1.2.3+4.gabcdef0_*.deb", "rpm": "safe-run-1.2.3+4.gabcdef0-1.*.rpm", "tarball": "safe-run-1.2.3-4-gabcdef0-linux-*.tar.gz"}[k]
		found, _ := filepath.Glob(filepath.Join(out, pattern))
		if len(found) != 1 {
			t.Fatalf("%s: %v", k, found)
		}
		files = append(files, found[0])
	}
	return files
}

// TestReproducible: the same bytes at another time, elsewhere, by another user's settings.
func TestReproducible(t *testing.T) {
	t.Parallel()
	kinds := []string{"deb", "rpm", "tarball"}
	small := smallBuild(t)
	one := packages(t, []string{"BUILD=" + small}, kinds...)
	old := t.TempDir()
	two := packages(t, []string{"BUILD=" + small, "TMPDIR=" + old, "TZ=Asia/Tokyo", "LC_ALL=C.UTF-8", "HOME=" + old, "GOCACHE=" + old, "HOSTNAME=other"}, kinds...)
	for i, k := range kinds {
		a, erra := os.ReadFile(one[i])
		b, errb := os.ReadFile(two[i])
		if erra != nil || errb != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: %v, %v: %x and %x", k, erra, errb, sha256.Sum256(a), sha256.Sum256(b))
		}
		if k == "rpm" && !bytes.HasPrefix(a, []byte("\xed\xab\xee\xdb")) {
			t.Errorf("no rpm: %x", a[:16])
		}
		if host, _ := os.Hostname(); k == "rpm" && host != "" && bytes.Contains(a[:64<<10], []byte("\x00"+host+"\x00")) {
			t.Errorf("the rpm names this host, %s", host)
		}
	}

	// What is in the archive installs itself, and goes again.
	there := t.TempDir()
	call(t, nil, "tar", "-xzf", one[2], "-C", there)
	found, _ := filepath.Glob(there + "/*/install.sh")
	if len(found) != 1 {
		t.Fatal(found)
	}
	dest := filepath.Join(there, "dest")
	call(t, []string{"BUILD=/nowhere"}, found[0], dest)
	for _, f := range installed {
		if strings.HasPrefix(f, "/usr") {
			f = "/usr/local" + strings.TrimPrefix(f, "/usr")
		}
		if _, err := os.Stat(dest + f); err != nil {
			t.Error(err)
		}
	}
	call(t, nil, found[0], "--uninstall", dest)
	if left := tree(t, dest); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

var debLine = regexp.MustCompile(`(?m)^(\S+) (\S+) +\d+ 2023-11-14 22:13 \.(/\S*?)/?$`)

// TestDeb: what is in it, whose it is, and that it can be used and removed.
func TestDeb(t *testing.T) {
	t.Parallel()
	deb := packages(t, nil, "deb")[0]
	listing := call(t, []string{"TZ=UTC"}, "dpkg-deb", "-c", deb)
	modes := map[string]string{}
	for _, m := range debLine.FindAllStringSubmatch(listing, -1) {
		if m[2] != "root/root" {
			t.Errorf("%s is of %s", m[3], m[2])
		}
		modes[m[3]] = m[1]
	}
	if n := strings.Count(listing, "\n"); n != len(modes) {
		t.Errorf("%d lines, %d understood:\n%s", n, len(modes), listing)
	}
	for _, f := range append(slices.Clone(installed), "/usr/share/zsh/vendor-completions/_safe-run", "/usr/share/doc/safe-run/copyright",
		"/usr/share/man/man1/safe-run.1.gz", "/usr/share/man/man1/safe-run-ps.1.gz", "/usr/share/man/man1/safe-run-export.1.gz") {
		want := "-rw-r--r--"
		switch {
		case f == "/etc/safe-run":
			want = "drwxr-xr-x"
		case strings.HasPrefix(f, "/usr/bin/"), strings.Contains(f, "/engine/"), strings.HasSuffix(f, ".sh"):
			want = "-rwxr-xr-x"
		}
		if modes[f] != want {
			t.Errorf("%s: %q, want %q", f, modes[f], want)
		}
	}
	for f, mode := range modes {
		top := slices.ContainsFunc([]string{
			"/usr/bin/safe-run", "/usr/lib/safe-run/", "/usr/lib/systemd/system/safe-run-restore.service", "/usr/share/man/man1/safe-run",
			"/usr/share/bash-completion/completions/safe-run", "/usr/share/fish/vendor_completions.d/safe-run.fish",
			"/usr/share/zsh/vendor-completions/_safe-run", "/usr/share/doc/safe-run/", "/usr/share/lintian/overrides/safe-run",
			"/etc/apparmor.d/abstractions/safe-run", "/etc/safe-run",
		}, func(p string) bool { return strings.HasPrefix(f, p) })
		if !top && mode != "drwxr-xr-x" {
			t.Errorf("not expected: %s %s", mode, f)
		}
	}
	if got, want := call(t, nil, "dpkg-deb", "-f", deb, "Package", "Version", "Recommends", "Depends"),
		"Package: safe-run\nVersion: 1.2.3+4.gabcdef0\nRecommends: apparmor\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := call(t, nil, "dpkg-deb", "-I", deb, "conffiles"); got != "/etc/apparmor.d/abstractions/safe-run\n" {
		t.Errorf("conffiles: %q", got)
	}
	dir := t.TempDir()
	call(t, nil, "dpkg-deb", "-x", deb, dir)
	if page, err := os.Open(dir + "/usr/share/man/man1/safe-run.1.gz"); err != nil {
		t.Error(err)
	} else {
		defer page.Close()
		if z, err := gzip.NewReader(page); err != nil || !z.ModTime.IsZero() || z.Name != "" {
			t.Errorf("the manual is not compressed without a time or name: %v", err)
		}
	}
	for _, s := range []string{"postinst", "prerm", "postrm"} {
		file := filepath.Join(t.TempDir(), s)
		if err := os.WriteFile(file, []byte(call(t, nil, "dpkg-deb", "-I", deb, s)), 0o755); err != nil {
			t.Fatal(err)
		}
		call(t, nil, "sh", "-n", file)
	}

	image, err := filepath.Abs("../build/images/busybox.tar")
	if err != nil {
		t.Fatal(err)
	}
	group := fmt.Sprintf("safe-run-packaging-%d", os.Getpid())
	t.Cleanup(func() {
		call(t, nil, "sh", "-c", `for d in /sys/fs/cgroup/$0 /sys/fs/cgroup/*/$0; do [ ! -d "$d" ] || find "$d" -depth -type d -exec rmdir {} +; done`, group)
	})
	out := call(t, []string{"CGROUP=" + group}, "timeout", "300", "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
		"bash", "testdata/overlay.sh", deb, image)
	if strings.Contains(out, "FAIL") || !strings.HasSuffix(out, "done\n") {
		t.Error(out)
	}
}

func TestVersions(t *testing.T) {
	for said, want := range map[string]string{
		"v1.2.0": "1.2.0", "v1.2": "1.2", "3": "3",
		"v1.2.0-rc1":                   "1.2.0~rc1",
		"v2.0.0-beta.2-7-gabc":         "2.0.0~beta.2+7.gabc",
		"v1.2.0-4-gabc123":             "1.2.0+4.gabc123",
		"v1.2.0-dirty":                 "1.2.0+dirty",
		"v1.2.0-rc1-4-gabc123-dirty":   "1.2.0~rc1+4.gabc123.dirty",
		"b1a62fb":                      "0~git20231114.b1a62fb",
		"1b1a62f-dirty":                "0~git20231114.1b1a62f.dirty",
		"dev":                          "0~git20231114.dev",
		"$(id) ; x\n":                  "0~git20231114...id....x.",
		"v1.2.0-rc1;id":                "1.2.0+rc1.id",
		"release/2026-11-22 of my own": "0~git20231114.release.2026.11.22.of.my.own",
	} {
		if got := call(t, []string{"SOURCE_DATE_EPOCH=1700000000"}, "./build.sh", said, "--version"); got != want+"\n" {
			t.Errorf("%q: %q, want %q", said, got, want)
		}
	}
	// In the order of time.
	inOrder := []string{"0~git20231114.b1a62fb", "1.2.0~rc1", "1.2.0~rc1+4.gabc123", "1.2.0", "1.2.0+4.gabc123", "1.2.1"}
	for i := range len(inOrder) - 1 {
		call(t, nil, "dpkg", "--compare-versions", inOrder[i], "lt", inOrder[i+1])
	}
}
