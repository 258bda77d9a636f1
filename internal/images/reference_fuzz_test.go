package images

import (
	"path"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/fail"
)

// FuzzNormalize: a name is printable ASCII of bounded length with a tag or a
// digest, stays itself, is the same by its short form, and has no parts that
// mean something to a path. An error can be printed.
func FuzzNormalize(f *testing.F) {
	for _, s := range []string{
		"busybox:latest", "a/b@sha256:" + strings.Repeat("0", 64), "localhost:5000/x:y@sha256:" + strings.Repeat("f", 64), "[::1]:5/a", "docker.io/a", "index.docker.io/library/a",
		"sha256:" + strings.Repeat("0", 64), strings.Repeat("a", 64), "a//b", "a/../b", "A/b", "-a", "a:", "a@", "a\x1b", "xn--a.b/c", "a.b/sha512", "a__b/c", "localhost/a", "EXAMPLE.com/a",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := Normalize(s)
		if err != nil {
			if fail.KindOf(err) != fail.Usage || len(err.Error()) > 8<<10 || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) {
				t.Fatalf("%q: %q", s, err)
			}
			return
		}
		if again, err := Normalize(name); err != nil || again != name {
			t.Fatalf("%q is %q, which is %q (%v)", s, name, again, err)
		}
		if short, err := Normalize(Familiar(name)); err != nil || short != name {
			t.Fatalf("%q is %q, in short %q, which is %q (%v)", s, name, Familiar(name), short, err)
		}
		if len(name) > maxReference+len("docker.io/library/:latest") || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Fatalf("%q is %q", s, name)
		}
		repository := repositoryOf(name)
		if d := digestOf(name); strings.Contains(name, "@") != (d != "") || d != "" && d.Validate() != nil || d == "" && !strings.Contains(strings.TrimPrefix(name, repository), ":") {
			t.Fatalf("%q has digest %q of repository %q", name, d, repository)
		}
		if domain, rest, ok := strings.Cut(repository, "/"); !ok || domain == "" || path.Clean("/"+rest) != "/"+rest || !strings.HasPrefix(name, repository) || strings.ToLower(rest) != rest {
			t.Fatalf("%q has repository %q", name, repository)
		}
	})
}

// FuzzPlatform: a platform that is taken is one this host runs.
func FuzzPlatform(f *testing.F) {
	for _, s := range []string{"", "linux", "linux/amd64", "linux/arm64/v8", "amd64", "linux(1)/amd64", "windows/amd64", "linux/amd64/v4", "x86_64", "linux/386", "a/b/c/d", "\x1b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePlatform(s)
		if err != nil {
			if len(err.Error()) > 2000 || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) {
				t.Fatalf("%q: %q", s, err)
			}
			return
		}
		if host := hostPlatform(); p.OS != host.OS || p.Architecture != host.Architecture {
			t.Fatalf("%q is %+v", s, p)
		}
	})
}
