package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go/features"

	"github.com/safe-run/safe-run/internal/fail"
)

func TestCheckVersions(t *testing.T) {
	for _, tc := range []struct {
		check func(string) error
		v     string
		ok    bool
	}{
		{CheckRunc, "1.5.2", true},
		{CheckRunc, "1.5.0", true},
		{CheckRunc, "1.5.0+dev", true},
		{CheckRunc, "1.5.0-rc.3", false},
		{CheckRunc, "1.5.0~rc3", false},
		{CheckRunc, "1.6.0-rc.1", true},
		{CheckRunc, "2.0.0", true},
		{CheckRunc, "1.4.3", true},
		{CheckRunc, "1.4.3-rc.1", false},
		{CheckRunc, "1.4.2", false},
		{CheckRunc, "1.3.6", true},
		{CheckRunc, "1.3.6-0ubuntu1~24.04.1", true},
		{CheckRunc, "1.3.10", true},
		{CheckRunc, "1.3.5", false},
		{CheckRunc, "1.2.99", false},
		{CheckRunc, "1.1.5+ds1", false},
		{CheckRunc, "0.9.0", false},
		{CheckRunc, "", false},
		{CheckRunc, "1.5", false},
		{CheckRunc, "1.5.x", false},
		{CheckRunc, "-1.5.2", false},
		{CheckRunc, "9999999999999999999.0.0", false},
		{CheckRunc, "1.5.2\x1b[2J", true},
		{CheckContainerd, "v2.4.2", true},
		{CheckContainerd, "v2.4.2+unknown", true},
		{CheckContainerd, "2.0.0", true},
		{CheckContainerd, "2.0.0-rc.1", false},
		{CheckContainerd, "2.0.1-rc.1", true},
		{CheckContainerd, "2.1.0", false},
		{CheckContainerd, "v2.1.0-rc.1", false},
		{CheckContainerd, "2.1.1-rc.1", false},
		{CheckContainerd, "2.1.1", true},
		{CheckContainerd, "2.2.0-beta.1", true},
		{CheckContainerd, "1.7.27", false},
		{CheckContainerd, "1.6.20~ds1", false},
		{CheckContainerd, "10.0.0", true},
		{CheckContainerd, "\x1b]0;x\x07", false},
	} {
		err := tc.check(tc.v)
		if (err == nil) != tc.ok {
			t.Errorf("%q: %v", tc.v, err)
		}
		if err != nil && (!errors.Is(err, ErrBelowFloor) || fail.KindOf(err) != fail.HostCannot || strings.ContainsRune(err.Error(), 0x1b)) {
			t.Errorf("%q: error %q of kind %v", tc.v, err, fail.KindOf(err))
		}
	}
}

func TestCheckFeatures(t *testing.T) {
	yes := true
	full := func() *features.Features {
		return &features.Features{
			MountOptions: []string{"rro", "rnosuid", "rnodev", "rnoexec", "rprivate"},
			Linux: &features.Linux{
				Namespaces:      []string{"cgroup", "ipc", "mount", "network", "pid", "user", "uts"},
				Seccomp:         &features.Seccomp{Enabled: &yes},
				MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: &yes}},
			},
		}
	}
	if err := CheckFeatures(full()); err != nil {
		t.Error(err)
	}
	for what, spoil := range map[string]func(*features.Features){
		"rro":             func(f *features.Features) { f.MountOptions = f.MountOptions[1:] },
		"user namespaces": func(f *features.Features) { f.Linux.Namespaces[5] = "time" },
		"seccomp":         func(f *features.Features) { f.Linux.Seccomp = &features.Seccomp{} },
		"idmapped mounts": func(f *features.Features) { f.Linux.MountExtensions = nil },
		"mount namespace": func(f *features.Features) { f.Linux = nil },
	} {
		f := full()
		spoil(f)
		if err := CheckFeatures(f); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("without %s: %v", what, err)
		}
	}
}

// script makes a runtime that says what it is told to.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "runc")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCheckRuntime(t *testing.T) {
	ctx := context.Background()
	if err := CheckRuntime(ctx, filepath.Join(binDir(t), "runc")); err != nil {
		t.Errorf("the engine's own runc: %v", err)
	}
	for name, body := range map[string]string{
		"old":      `[ $1 = --version ] && echo "runc version 1.0.0" || exit 1`,
		"unknown":  `echo '{"annotations":{"org.example.version":"9.9.9"}}'`,
		"featless": `echo '{"annotations":{"org.opencontainers.runc.version":"1.5.2"}}'`,
		"crun":     `echo '{"annotations":{"run.oci.crun.version":"1.20"}}'`,
	} {
		if err := CheckRuntime(ctx, script(t, body)); !errors.Is(err, ErrBelowFloor) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, body := range map[string]string{"broken": "exit 3", "garbage": "echo garbage", "flood": "yes"} {
		start := time.Now()
		if err := CheckRuntime(ctx, script(t, body)); fail.KindOf(err) != fail.HostCannot {
			t.Errorf("%s: %v", name, err)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%s: took %v", name, d)
		}
	}
}

func TestFloorsAreCached(t *testing.T) {
	ctx := context.Background()
	runc, err := os.ReadFile(filepath.Join(binDir(t), "runc"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "runc")
	if err := os.WriteFile(path, runc, 0o755); err != nil {
		t.Fatal(err)
	}
	asked := 0
	q := FloorQuery{
		Runtime: path, PID: os.Getpid(), Cache: dir,
		Version: func(context.Context) (string, error) { asked++; return "v2.4.2", nil },
	}
	for range 3 {
		if err := Floors(ctx, q); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times, want 1", asked)
	}
	// The same name, another file.
	if err := os.WriteFile(path+".new", []byte("#!/bin/sh\necho 'runc version 1.1.5'; [ $1 = --version ]"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	if err := Floors(ctx, q); !errors.Is(err, ErrBelowFloor) {
		t.Errorf("a replaced runtime: %v", err)
	}
	old := FloorQuery{
		Runtime: filepath.Join(binDir(t), "runc"), PID: os.Getpid(), Cache: dir,
		Version: func(context.Context) (string, error) { return "1.7.0", nil },
	}
	if err := Floors(ctx, old); !errors.Is(err, ErrBelowFloor) {
		t.Errorf("an old containerd: %v", err)
	}
	// A verdict somebody else could have written is none.
	if err := os.WriteFile(filepath.Join(dir, "floors"), []byte(must(old.key())), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Floors(ctx, old); err != nil {
		t.Fatalf("the test does not know the key: %v", err)
	}
	if err := os.Chmod(filepath.Join(dir, "floors"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := Floors(ctx, old); !errors.Is(err, ErrBelowFloor) {
		t.Errorf("a verdict that anybody can write was believed: %v", err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func BenchmarkFloors(b *testing.B) {
	q := FloorQuery{Runtime: filepath.Join(binDir(b), "runc"), PID: os.Getpid(), Cache: b.TempDir()}
	for b.Loop() {
		if err := Floors(context.Background(), q); err != nil {
			b.Fatal(err)
		}
	}
}
