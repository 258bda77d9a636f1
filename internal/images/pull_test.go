package images

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/tests/imagekit"
	"github.com/safe-run/safe-run/tests/imagekit/registry"
)

func TestPull(t *testing.T) {
	for _, auth := range []string{"", "basic", "bearer"} {
		t.Run("auth "+auth, func(t *testing.T) {
			s, ctx := newStore(t)
			r := registry.New(t, false)
			r.Auth, r.User, r.Password = auth, "me", "secret"
			r.Push("v1", build(t, small("", "1")))
			ref := r.Host() + "/team/app:v1"
			if auth != "" {
				_, err := s.Pull(ctx, ref, "", nil)
				checkRefusal(t, s, err, fail.NotFound, "denied")
				s.Credentials = writeAuth(t, r.Host(), "me", "wrong")
				_, err = s.Pull(ctx, ref, "", nil)
				checkRefusal(t, s, err, fail.NotFound, "denied")
				s.Credentials = writeAuth(t, r.Host(), "me", "secret")
			}
			var seen atomic.Int64
			img, err := s.Pull(ctx, ref, "", func(stage string, done, total int64) {
				if stage == "Downloading" && done == total {
					seen.Add(1)
				}
			})
			check(t, err)
			if img.Name != ref || readRootfs(t, s, img.ChainID, "hello") != "1" {
				t.Fatalf("image %+v", img)
			}
			if seen.Load() == 0 {
				t.Error("progress never reached the total")
			}
			again, err := s.Resolve(ctx, ref, "")
			check(t, err)
			if again.Digest != img.Digest || again.ChainID != img.ChainID {
				t.Fatalf("resolved to %+v", again)
			}
			for _, l := range inventory(t, s) {
				if strings.HasPrefix(l, "lease") || strings.HasPrefix(l, "ingest") {
					t.Errorf("left behind: %s", l)
				}
			}
			lines, err := s.Remove(ctx, false, ref)
			check(t, err)
			if left := inventory(t, s); len(left) > 0 || len(lines) != 2 {
				t.Fatalf("left behind: %q, lines %q", left, lines)
			}
		})
	}
}

// TestPullResolvesOnce: a tag that moves during the pull does not matter.
func TestPullResolvesOnce(t *testing.T) {
	s, ctx := newStore(t)
	r := registry.New(t, false)
	first, second := build(t, small("", "first")), build(t, small("", "second"))
	r.Push("v1", first, second)
	img, err := s.Pull(ctx, r.Host()+"/app:v1", "", nil)
	check(t, err)
	if img.Digest != first.Root.Digest.String() || readRootfs(t, s, img.ChainID, "hello") != "first" {
		t.Fatalf("pulled %s", img.Digest)
	}
	n := 0
	for _, l := range r.Log() {
		if strings.HasSuffix(l, "/v1") {
			n++
		}
	}
	if n != 1 {
		t.Fatalf("the tag was asked for %d times: %q", n, r.Log())
	}
	// The next pull moves the name.
	img, err = s.Pull(ctx, r.Host()+"/app:v1", "", nil)
	check(t, err)
	if readRootfs(t, s, img.ChainID, "hello") != "second" {
		t.Fatal("the name did not move")
	}
	// By digest: the old one, under the repository's name, though the tag moved.
	pinned := r.Host() + "/app@" + first.Root.Digest.String()
	if _, err := s.Resolve(ctx, pinned, ""); fail.KindOf(err) != fail.NotFound {
		t.Fatalf("resolve of what no name points to: %v", err)
	}
	img, err = s.Pull(ctx, pinned, "", nil)
	check(t, err)
	if readRootfs(t, s, img.ChainID, "hello") != "first" {
		t.Fatal("digest not honoured")
	}
	// A digest that a tag of the same repository points to is found.
	img, err = s.Resolve(ctx, r.Host()+"/app@"+second.Root.Digest.String(), "")
	check(t, err)
	if img.Digest != second.Root.Digest.String() {
		t.Fatalf("found %s", img.Digest)
	}
	if _, err := s.Resolve(ctx, r.Host()+"/other@"+second.Root.Digest.String(), ""); fail.KindOf(err) != fail.NotFound {
		t.Fatalf("another repository's image was taken: %v", err)
	}
}

func TestPullMissing(t *testing.T) {
	s, ctx := newStore(t)
	r := registry.New(t, false)
	for _, tag := range []string{":none", "@" + digest.FromString("none").String()} {
		_, err := s.Pull(ctx, r.Host()+"/app"+tag, "", nil)
		checkRefusal(t, s, err, fail.NotFound, "has no image")
	}
	r.Close()
	_, err := s.Pull(ctx, r.Host()+"/app:v1", "", nil)
	checkRefusal(t, s, err, fail.Internal, "refused")
}

// TestPullRedirect: storage on another host, or another port, never sees the
// credentials of the registry.
func TestPullRedirect(t *testing.T) {
	s, ctx := newStore(t)
	r, storage := registry.New(t, false), registry.New(t, false)
	b := build(t, small("", "1"))
	r.Push("v1", b)
	storage.Push("x", b)
	r.Auth, r.User, r.Password, r.Redirect = "basic", "me", "secret", storage.URL
	s.Credentials = writeAuth(t, r.Host(), "me", "secret")
	_, err := s.Pull(ctx, r.Host()+"/app:v1", "", nil)
	check(t, err)
	if len(storage.Log()) < 2 {
		t.Fatalf("the redirect was not followed: %q", storage.Log())
	}
	if len(r.Headers("Authorization")) == 0 {
		t.Fatal("the registry itself got no credentials")
	}
	if got := storage.Headers("Authorization"); len(got) > 0 {
		t.Fatalf("the other host was sent %q", got)
	}
}

// TestPullPlainHTTP: unencrypted only to the loopback.
func TestPullPlainHTTP(t *testing.T) {
	s, ctx := newStore(t)
	r := registry.New(t, false)
	b := build(t, small("", "1"))
	r.Push("v1", b)
	// TEST-NET-1 (RFC 5737) stands for any other host; the request must fail
	// before a connection is tried.
	r.Redirect = "http://192.0.2.1:5000"
	_, err := s.Pull(ctx, r.Host()+"/app:v1", "", nil)
	checkRefusal(t, s, err, fail.Internal, "unencrypted http")
	g := guard{roundTripFunc(func(*http.Request) (*http.Response, error) { return nil, errors.New("sent") }), &plainHosts{}}
	for u, sent := range map[string]bool{
		"http://127.0.0.1:5000/": true, "http://localhost/": true, "http://[::1]:5/": true, "https://example.com/": true,
		"http://example.com/": false, "http://127.0.0.1.example.com/": false, "http://localhost.example.com/": false,
		"http://10.0.0.1/": false, "http://169.254.169.254/": false, "ftp://example.com/": false,
	} {
		parsed, err := url.Parse(u)
		check(t, err)
		_, err = g.RoundTrip(&http.Request{URL: parsed})
		if (err.Error() == "sent") != sent {
			t.Errorf("%s: %v", u, err)
		}
	}
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestPullMirror: hosts.toml sends requests for a registry to a mirror with
// its own certificate, and the registry's credentials stay at home.
func TestPullMirror(t *testing.T) {
	for _, tls := range []bool{true, false} {
		t.Run(fmt.Sprint("tls ", tls), func(t *testing.T) {
			s, ctx := newStore(t)
			r := registry.New(t, tls)
			r.Push("v1", build(t, small("", "1")))
			s.CertsDir = t.TempDir()
			dir := filepath.Join(s.CertsDir, "registry.invalid")
			check(t, os.Mkdir(dir, 0o755))
			toml := fmt.Sprintf("[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", r.URL)
			if tls {
				ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw})
				check(t, os.WriteFile(filepath.Join(dir, "ca.pem"), ca, 0o644))
				toml += "  ca = \"ca.pem\"\n"
			}
			check(t, os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(toml), 0o644))
			s.Credentials = writeAuth(t, "registry.invalid", "me", "secret")
			img, err := s.Pull(ctx, "registry.invalid/app:v1", "", nil)
			check(t, err)
			if img.Name != "registry.invalid/app:v1" {
				t.Fatalf("name %s", img.Name)
			}
			if got := r.Headers("Authorization"); len(got) > 0 {
				t.Fatalf("the mirror was sent %q", got)
			}
		})
	}
}

// TestPullInterrupted: a pull that is ended in any stage leaves nothing.
func TestPullInterrupted(t *testing.T) {
	s, _ := newStore(t)
	r := registry.New(t, false)
	img := small("", "1")
	img.Layers[0].Entries = append(img.Layers[0].Entries, imagekit.Entry{Path: "big", Mode: 0o644, Zeros: 8 << 20})
	r.Push("v1", build(t, img))
	for _, at := range []string{"Downloading", "Checking", "Unpacking"} {
		ctx, cancel := context.WithCancel(context.Background())
		_, err := s.Pull(ctx, r.Host()+"/app:v1", "", func(stage string, _, _ int64) {
			if stage == at {
				cancel()
			}
		})
		checkRefusal(t, s, err, fail.Interrupted, "")
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", at, err)
		}
	}
}

func TestHostilePull(t *testing.T) {
	for _, h := range hostile {
		t.Run(h.name, func(t *testing.T) {
			s, ctx := newStore(t)
			s.Limits = tight()
			r := registry.New(t, false)
			b := h.build(t)
			if strings.HasPrefix(h.name, "foreign architecture that lies") || b.Root.MediaType == "" {
				b.Root.Platform = nil
			}
			r.Push("v1", b)
			_, err := s.Pull(ctx, r.Host()+"/bad:v1", "", nil)
			kind, want := h.kind, h.want
			if h.pull != "" {
				want = h.pull
				kind = fail.KindOf(err)
			}
			if strings.HasPrefix(h.name, "wrong ") && strings.HasSuffix(h.name, " size") {
				want, kind = "is not what its digest and size say", fail.Refused
			}
			checkRefusal(t, s, err, kind, want)
		})
	}
}

// TestRegistryThatNeverEnds: a body longer than stated is cut off and refused,
// even if it begins well; so is a shorter one.
func TestRegistryThatNeverEnds(t *testing.T) {
	s, ctx := newStore(t)
	r := registry.New(t, false)
	b := build(t, small("", "1"))
	layer := b.Layers[0]
	r.Push("v1", b)
	right := b.Blobs[layer]
	r.Blobs[layer] = make([]byte, 32<<20)
	_, err := s.Pull(ctx, r.Host()+"/bad:v1", "", nil)
	checkRefusal(t, s, err, fail.Refused, "is not what its digest and size say")
	r.Blobs[layer] = append(slices.Clone(right), make([]byte, 32<<20)...)
	_, err = s.Pull(ctx, r.Host()+"/bad:v1", "", nil)
	checkRefusal(t, s, err, fail.Refused, "is not what its digest and size say")
	r.Blobs[layer] = right[:len(right)/2]
	_, err = s.Pull(ctx, r.Host()+"/bad:v1", "", nil)
	checkRefusal(t, s, err, fail.Refused, "is not what its digest and size say")
}

func writeAuth(t *testing.T, host, user, password string) Credentials {
	t.Helper()
	f := filepath.Join(t.TempDir(), "config.json")
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	check(t, os.WriteFile(f, fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, host, auth), 0o600))
	return Credentials{File: f}
}

func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	helper := filepath.Join(dir, "docker-credential-test")
	script := "#!/bin/sh\nread host\ncase $host in\nh.test) echo \"{\\\"Username\\\":\\\"u\\\",\\\"Secret\\\":\\\"s-$SECRET_ENV\\\"}\";;\ntoken.test) echo '{\"Username\":\"<token>\",\"Secret\":\"t\"}';;\n*) echo 'credentials not found in native keychain'; exit 1;;\nesac\n"
	check(t, os.WriteFile(helper, []byte(script), 0o755))
	file := func(content string) string {
		f := filepath.Join(t.TempDir(), "config.json")
		check(t, os.WriteFile(f, []byte(content), 0o600))
		return f
	}
	auth := base64.StdEncoding.EncodeToString([]byte("me:pw"))
	loose := t.TempDir()
	check(t, os.WriteFile(filepath.Join(loose, "docker-credential-test"), []byte("#!/bin/sh\necho '{}'\n"), 0o755))
	check(t, os.Chmod(filepath.Join(loose, "docker-credential-test"), 0o777))
	stored := file(`{"credsStore":"test"}`)
	cases := []struct {
		name         string
		c            Credentials
		host         string
		user, secret string
		bad          string
	}{
		{"none", Credentials{}, "h.test", "", "", ""},
		{"no file", Credentials{File: dir + "/none"}, "h.test", "", "", ""},
		{"hub", Credentials{File: file(`{"auths":{"https://index.docker.io/v1/":{"auth":"` + auth + `"}}}`)}, "registry-1.docker.io", "me", "pw", ""},
		{"hub's are not for others", Credentials{File: file(`{"auths":{"https://index.docker.io/v1/":{"auth":"` + auth + `"}}}`)}, "h.test", "", "", ""},
		{"other port", Credentials{File: file(`{"auths":{"h.test:5000":{"auth":"` + auth + `"}}}`)}, "h.test:5001", "", "", ""},
		{"as URL", Credentials{File: file(`{"auths":{"https://h.test/v2/":{"auth":"` + auth + `"}}}`)}, "h.test", "me", "pw", ""},
		{"identity token", Credentials{File: file(`{"auths":{"h.test":{"identitytoken":"tok"}}}`)}, "h.test", "", "tok", ""},
		{"environment first", Credentials{AuthJSON: `{"auths":{"h.test":{"auth":"` + auth + `"}}}`, File: stored}, "h.test", "me", "pw", ""},
		{"bad environment", Credentials{AuthJSON: `{"auths":`}, "h.test", "", "", "DOCKER_AUTH_CONFIG"},
		{"store", Credentials{File: stored, HelperDirs: []string{dir}}, "h.test", "u", "s-", ""},
		{"store, empty", Credentials{File: stored, HelperDirs: []string{dir}}, "nothing.test", "", "", ""},
		{"helper for a host", Credentials{File: file(`{"credHelpers":{"token.test":"test"}}`), HelperDirs: []string{dir}}, "token.test", "", "t", ""},
		{"helper environment", Credentials{File: stored, HelperDirs: []string{dir}, HelperEnv: []string{"SECRET_ENV=x"}}, "h.test", "u", "s-x", ""},
		{"helper missing", Credentials{File: stored, HelperDirs: []string{"/nonexistent"}}, "h.test", "", "", "not found"},
		{"helper others can write", Credentials{File: stored, HelperDirs: []string{loose}, RootOnly: true}, "h.test", "", "", "not found"},
		{"helper with a path", Credentials{File: file(`{"credsStore":"../../tmp/x"}`), HelperDirs: []string{dir}}, "h.test", "", "", "no name of a program"},
		{"broken file", Credentials{File: file(`{"auths":{"h.test":{"auth":"c2VjcmV0"}}}`)}, "h.test", "", "", "not a valid docker configuration"},
		{"directory", Credentials{File: dir}, "h.test", "", "", "not a regular file"},
	}
	t.Setenv("SECRET_ENV", "leaked")
	for _, c := range cases {
		user, secret, err := c.c.lookup(c.host)
		if user != c.user || secret != c.secret {
			t.Errorf("%s: got %q %q, want %q %q (%v)", c.name, user, secret, c.user, c.secret, err)
		}
		if (err == nil) != (c.bad == "") || err != nil && !strings.Contains(err.Error(), c.bad) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.bad)
		}
	}

	env := map[string]string{"HOME": "/home/u", "PATH": "/p/bin:.::rel:/q", "DOCKER_CONFIG": "", "DOCKER_AUTH_CONFIG": "{}"}
	c := CallerCredentials(func(k string) string { return env[k] })
	if c.File != "/home/u/.docker/config.json" || !slices.Equal(c.HelperDirs, []string{"/p/bin", "/q"}) || c.AuthJSON != "{}" {
		t.Errorf("caller's: %+v", c)
	}
	env["SUDO_UID"], env["DOCKER_CONFIG"] = "1000", "/tmp/evil"
	c = CallerCredentials(func(k string) string { return env[k] })
	if c.File != "/root/.docker/config.json" || !slices.Equal(c.HelperDirs, systemDirs) || c.AuthJSON != "" || !c.RootOnly || strings.Contains(strings.Join(c.HelperEnv, " "), "/p/bin") {
		t.Errorf("under sudo: %+v", c)
	}
}

func TestNormalize(t *testing.T) {
	const d = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for in, want := range map[string]string{
		"busybox": "docker.io/library/busybox:latest", "a/b:v1": "docker.io/a/b:v1",
		"localhost/x": "localhost/x:latest", "r.io:5000/x": "r.io:5000/x:latest",
		"x@" + d: "docker.io/library/x@" + d, "x:t@" + d: "docker.io/library/x@" + d,
		"index.docker.io/x": "docker.io/library/x:latest",
	} {
		got, err := Normalize(in)
		if err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", in, got, err, want)
		}
		if err == nil && !strings.Contains(in, "docker.io") {
			if again, err := Normalize(Familiar(got)); err != nil || again != got {
				t.Errorf("%s: familiar form leads to %q, %v", in, again, err)
			}
		}
	}
	for _, in := range []string{"", "UPPER", "x:", "-x", "x y", "x\x1b[0m", "../x", strings.Repeat("a/", 400) + "x", strings.TrimPrefix(d, "sha256:"), "x@sha256:12", d, "sha256", "docker.io/library/sha512:x"} {
		_, err := Normalize(in)
		if fail.KindOf(err) != fail.Usage || strings.ContainsRune(err.Error(), 0x1b) {
			t.Errorf("%q: %v", in, err)
		}
	}
}
