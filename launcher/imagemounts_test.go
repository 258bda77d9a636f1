package launcher

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/spec"
)

// The runtime gets no path whose last part the image has made.
func TestImageSubpathIsNoPathOfTheHost(t *testing.T) {
	r := &run{
		Launcher: &Launcher{Store: &store.Store{Root: "/root-dir", Run: "/run-dir"}}, rec: store.Record{ID: "id"},
		Request: Request{Workload: spec.Workload{Mounts: []spec.Mount{
			{Type: spec.MountImage, Source: "a", Target: "/a", Subpath: "link"},
			{Type: spec.MountImage, Source: "b", Target: "/b"},
		}}},
	}
	got := r.resolvedMounts()
	for i, want := range []string{"/run-dir/io/id/mount0", "/root-dir/containers/id/image1"} {
		if got[i].HostPath != want {
			t.Errorf("the mount at %s comes from %s, not %s", got[i].Target, got[i].HostPath, want)
		}
	}
}

func TestImageSubpathStaysInTheImage(t *testing.T) {
	root := tree(t, "a/", "a/file", "out -> /etc", "a/up -> ../../../../../../etc", "passwd -> /etc/passwd", "magic -> /proc/1/root")
	dir, err := os.Readlink(root.Name())
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	for _, sub := range []string{"out", "out/ssl", "a/up", "passwd", "magic", "magic/etc", "../x", "/etc", "missing"} {
		at := filepath.Join(to, "mount0")
		if err := attachSubpath(dir, at, spec.Mount{Type: spec.MountImage, Target: "/x", Subpath: sub}); err == nil {
			t.Errorf("subpath %q was mounted", sub)
			_ = unix.Unmount(at, unix.MNT_DETACH)
		}
		if _, err := os.Lstat(at); err == nil {
			t.Fatalf("subpath %q left something behind", sub)
		}
	}
	if os.Geteuid() != 0 {
		t.Fatal("mounting needs root")
	}
	at := filepath.Join(to, "mount1")
	if err := attachSubpath(dir, at, spec.Mount{Type: spec.MountImage, Target: "/x", Subpath: "a"}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(at, unix.MNT_DETACH) }() // the test is over
	if _, err := os.Stat(filepath.Join(at, "file")); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(at, "new"), nil, 0o600); err == nil {
		t.Error("the mount is writable")
	}
}

// An image of one layer has the container's ids too.
func TestMountImageOfOneLayerIsIdmapped(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("mounting needs root")
	}
	layer, at := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(layer, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ids := spec.IDBlock{HostUID: 1 << 20, HostGID: 1 << 21, Size: 1 << 16}
	ms := []mount.Mount{{Type: "bind", Source: layer, Options: []string{"ro", "rbind"}}}
	if err := mountImage(ms, at, spec.Mount{Type: spec.MountImage, Target: "/x"}, ids); err != nil {
		t.Fatalf("this file system cannot be idmapped: %v", err)
	}
	defer func() { _ = unix.Unmount(at, unix.MNT_DETACH) }() // the test is over
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(at, "file"), &st); err != nil || st.Uid != ids.HostUID || st.Gid != ids.HostGID {
		t.Errorf("the file belongs to %d:%d (%v)", st.Uid, st.Gid, err)
	}
	if err := os.WriteFile(filepath.Join(at, "new"), nil, 0o600); err == nil {
		t.Error("the mount is writable")
	}
}
