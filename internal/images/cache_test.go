package images

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

func TestCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	key := cacheKey(ocispec.Descriptor{MediaType: "m", Digest: "sha256:x"}, "linux/amd64")
	img := spec.Image{Digest: "sha256:y", ChainID: "sha256:z", Env: []string{"A=b"}, Labels: map[string]string{"k": "v"}}
	file := filepath.Join(dir, key)
	if _, ok := readCache(dir, key); ok {
		t.Fatal("read from nothing")
	}
	writeCache(dir, key, img)
	got, ok := readCache(dir, key)
	if !ok || !reflect.DeepEqual(got, img) {
		t.Fatalf("read %v %+v", ok, got)
	}
	good, err := os.ReadFile(file)
	check(t, err)
	for path, want := range map[string]os.FileMode{dir: 0o700 | os.ModeDir, file: 0o600} {
		st, err := os.Stat(path)
		check(t, err)
		if st.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, st.Mode(), want)
		}
	}

	other := cacheKey(ocispec.Descriptor{MediaType: "m", Digest: "sha256:other"}, "linux/amd64")
	damage := map[string]func() string{
		"truncated": func() string { return put(t, file, good[:len(good)-1], 0o600) },
		"empty":     func() string { return put(t, file, nil, 0o600) },
		"one bit":   func() string { b := bytes.Clone(good); b[len(b)/2] ^= 1; return put(t, file, b, 0o600) },
		"renamed":   func() string { put(t, filepath.Join(dir, other), good, 0o600); return other },
		"writable":  func() string { return put(t, file, good, 0o666) },
		"too large": func() string { return put(t, file, append(bytes.Clone(good), make([]byte, maxCacheFile)...), 0o600) },
		"symlink": func() string {
			put(t, file+"x", good, 0o600)
			os.Remove(file)
			check(t, os.Symlink(file+"x", file))
			return key
		},
		"of other uid": func() string { put(t, file, good, 0o600); check(t, os.Chown(file, 1234, 1234)); return key },
		"directory":    func() string { os.Remove(file); check(t, os.Mkdir(file, 0o700)); return key },
	}
	for name, f := range damage {
		os.RemoveAll(file)
		if _, ok := readCache(dir, f()); ok {
			t.Errorf("%s: accepted", name)
		}
	}
	os.RemoveAll(file)
	check(t, os.Chmod(dir, 0o777))
	writeCache(dir, key, img)
	if _, err := os.Stat(file); err == nil {
		t.Error("written into a directory others can write")
	}
}

func put(t *testing.T, file string, data []byte, mode os.FileMode) string {
	t.Helper()
	check(t, os.WriteFile(file, data, 0o600))
	check(t, os.Chmod(file, mode))
	return filepath.Base(file)
}

func TestCacheStaysSmall(t *testing.T) {
	dir := t.TempDir()
	check(t, os.Chmod(dir, 0o700))
	for i := range maxCacheDir + 10 {
		writeCache(dir, strings.Repeat("a", i%200+1)+strings.Repeat("b", i/200), spec.Image{})
	}
	entries, err := os.ReadDir(dir)
	check(t, err)
	if len(entries) > maxCacheDir {
		t.Fatalf("%d files", len(entries))
	}
}

// TestCacheIsNotTheTruth: the cache never stands in for an image that is gone
// or a name that moved.
func TestCacheIsNotTheTruth(t *testing.T) {
	s, ctx := newStore(t)
	s.CacheDir = filepath.Join(t.TempDir(), "cache")
	load := func(content string) {
		_, err := s.Load(ctx, bytes.NewReader(dockerTar(t, build(t, small("app", content)))), "", nil)
		check(t, err)
	}
	load("one")
	one, err := s.Resolve(ctx, "app", "")
	check(t, err)
	load("two")
	two, err := s.Resolve(ctx, "app", "")
	check(t, err)
	if one.Digest == two.Digest || one.ChainID == two.ChainID {
		t.Fatal("the name did not move")
	}
	_, err = s.Remove(ctx, false, "app")
	check(t, err)
	if _, err := s.Resolve(ctx, "app", ""); fail.KindOf(err) != fail.NotFound {
		t.Fatalf("resolve of a removed image: %v", err)
	}
	if _, err := s.Resolve(ctx, "app", "linux/s390x"); fail.KindOf(err) != fail.HostCannot {
		t.Fatalf("foreign platform: %v", err)
	}
	if _, err := s.Resolve(ctx, "app", "\x1b[0m"); fail.KindOf(err) != fail.Usage {
		t.Fatalf("bad platform: %v", err)
	}
}

func BenchmarkResolve(b *testing.B) {
	s, ctx := newStore(b)
	img, err := s.loadOne(ctx, b)
	check(b, err)
	for _, c := range []struct{ name, dir string }{{"uncached", ""}, {"cached", filepath.Join(b.TempDir(), "cache")}} {
		b.Run(c.name, func(b *testing.B) {
			s.CacheDir = c.dir
			for b.Loop() {
				_, err := s.Resolve(ctx, img, "")
				check(b, err)
			}
		})
	}
}

func (s *Store) loadOne(ctx context.Context, b *testing.B) (string, error) {
	_, err := s.Load(ctx, bytes.NewReader(dockerTar(b, build(b, small("app", "x")))), "", nil)
	return "app", err
}
