package images

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
	"github.com/safe-run/safe-run/tests/imagekit"
	"github.com/safe-run/safe-run/tests/imagekit/registry"
)

// small is an image with one tiny layer.
func small(name, content string) imagekit.Image {
	return imagekit.Image{
		Name: name,
		Config: imagekit.Config{
			Entrypoint: []string{"/hello"}, Cmd: []string{"a", "b"}, Env: []string{"A=1"}, User: "1000",
			WorkingDir: "/w", Volumes: imagekit.Set("/data"), StopSignal: "SIGINT",
			ExposedPorts: imagekit.Set("80/tcp"), Labels: map[string]string{"k": "v"},
		},
		Layers: []imagekit.Layer{{Entries: []imagekit.Entry{imagekit.File("hello", 0o755, content)}}},
	}
}

func build(t testing.TB, img imagekit.Image) *imagekit.Built {
	t.Helper()
	b, err := imagekit.Build(img)
	check(t, err)
	return b
}

func dockerTar(t testing.TB, bs ...*imagekit.Built) []byte {
	t.Helper()
	var buf bytes.Buffer
	check(t, imagekit.WriteDocker(&buf, bs...))
	return buf.Bytes()
}

func ociTar(t testing.TB, bs ...*imagekit.Built) []byte {
	t.Helper()
	var buf bytes.Buffer
	check(t, imagekit.WriteOCI(&buf, bs...))
	return buf.Bytes()
}

// readRootfs reads a file out of the snapshot of an image.
func readRootfs(t *testing.T, s *Store, chainID, file string) string {
	t.Helper()
	ctx := context.Background()
	sn := s.Client.SnapshotService(s.Snapshotter)
	mounts, err := sn.View(ctx, "view-"+t.Name(), chainID)
	check(t, err)
	defer sn.Remove(ctx, "view-"+t.Name())
	var data []byte
	check(t, mount.WithTempMount(ctx, mounts, func(root string) error {
		data, err = os.ReadFile(filepath.Join(root, file))
		return err
	}))
	return string(data)
}

func TestLoadFormats(t *testing.T) {
	gz := func(b []byte) []byte {
		var buf bytes.Buffer
		w := gzip.NewWriter(&buf)
		w.Write(b)
		w.Close()
		return buf.Bytes()
	}
	zst := func(b []byte) []byte {
		var buf bytes.Buffer
		w, _ := zstd.NewWriter(&buf)
		w.Write(b)
		w.Close()
		return buf.Bytes()
	}
	compressed := func(img imagekit.Image, how string) imagekit.Image {
		img.Layers[0].Compression = how
		img.Docker = true
		return img
	}
	index := func(t *testing.T) []byte {
		here := build(t, small("", "1"))
		there := small("", "2")
		there.Platform = ocispec.Platform{OS: "linux", Architecture: "s390x"}
		idx, err := imagekit.Index("hello", []*imagekit.Built{build(t, there), here}, nil)
		check(t, err)
		return ociTar(t, idx)
	}
	cases := map[string]func(t *testing.T) []byte{
		"docker":             func(t *testing.T) []byte { return dockerTar(t, build(t, small("hello", "1"))) },
		"docker gzip":        func(t *testing.T) []byte { return gz(dockerTar(t, build(t, small("hello", "1")))) },
		"docker zstd":        func(t *testing.T) []byte { return zst(dockerTar(t, build(t, small("hello", "1")))) },
		"docker gzip layers": func(t *testing.T) []byte { return dockerTar(t, build(t, compressed(small("hello", "1"), "gzip"))) },
		"docker zstd layers": func(t *testing.T) []byte { return dockerTar(t, build(t, compressed(small("hello", "1"), "zstd"))) },
		"oci":                func(t *testing.T) []byte { return ociTar(t, build(t, small("hello", "1"))) },
		"oci gzip":           func(t *testing.T) []byte { return gz(ociTar(t, build(t, small("hello", "1")))) },
		"oci index":          index,
	}
	for name, archive := range cases {
		t.Run(name, func(t *testing.T) {
			s, ctx := newStore(t)
			s.CacheDir = t.TempDir() + "/cache"
			lines, err := s.Load(ctx, bytes.NewReader(archive(t)), "", nil)
			check(t, err)
			if want := []string{"Loaded image: hello:latest"}; !slices.Equal(lines, want) {
				t.Fatalf("lines %q, want %q", lines, want)
			}
			for range 2 { // the second time out of the cache
				img, err := s.Resolve(ctx, "hello", "")
				check(t, err)
				if img.Name != "docker.io/library/hello:latest" || img.User != "1000" || img.Workdir != "/w" ||
					!slices.Equal(img.Entrypoint, []string{"/hello"}) || !slices.Equal(img.Cmd, []string{"a", "b"}) ||
					!slices.Equal(img.Volumes, []string{"/data"}) || img.StopSignal != "SIGINT" ||
					!slices.Equal(img.Exposed, []spec.PortRange{{First: 80, Last: 80, Proto: "tcp"}}) || img.Labels["k"] != "v" || !slices.Equal(img.Env, []string{"A=1"}) {
					t.Fatalf("image %+v", img)
				}
				if got := readRootfs(t, s, img.ChainID, "hello"); got != "1" {
					t.Fatalf("file holds %q", got)
				}
			}
		})
	}
}

func TestLoadUnnamedAndByID(t *testing.T) {
	s, ctx := newStore(t)
	b := build(t, small("", "x"))
	lines, err := s.Load(ctx, bytes.NewReader(ociTar(t, b)), "", nil)
	check(t, err)
	id := b.Root.Digest
	if want := "Loaded image ID: " + id.String(); lines[0] != want {
		t.Fatalf("got %q, want %q", lines[0], want)
	}
	for _, ref := range []string{id.String(), id.Encoded(), id.Encoded()[:12]} {
		img, err := s.Resolve(ctx, ref, "")
		check(t, err)
		if img.Digest != id.String() {
			t.Fatalf("%s resolved to %s", ref, img.Digest)
		}
	}
	lines, err = s.Remove(ctx, false, id.Encoded()[:12])
	check(t, err)
	if !slices.Equal(lines, []string{"Deleted: " + id.String()}) {
		t.Fatalf("lines %q", lines)
	}
	if left := inventory(t, s); len(left) > 0 {
		t.Fatalf("left behind: %q", left)
	}
}

func TestRemove(t *testing.T) {
	s, ctx := newStore(t)
	b := build(t, small("one", "x"))
	_, err := s.Load(ctx, bytes.NewReader(dockerTar(t, b)), "", nil)
	check(t, err)
	b.Name = "two:v2"
	_, err = s.Load(ctx, bytes.NewReader(dockerTar(t, b)), "", nil)
	check(t, err)
	img, err := s.Resolve(ctx, "one", "")
	check(t, err)
	list, err := s.List(ctx)
	check(t, err)
	if len(list) != 2 || list[0].Repository != "one" || list[0].Tag != "latest" || list[1].Tag != "v2" ||
		list[0].Unpacked == 0 || !list[0].Created.Equal(imagekit.Epoch) || list[0].Problem != "" {
		t.Fatalf("list %+v", list)
	}
	if _, err := s.Remove(ctx, false, img.Digest); fail.KindOf(err) != fail.Conflict {
		t.Fatalf("removal of an id with two names: %v", err)
	}
	_, err = s.Client.ContainerService().Create(ctx, containers.Container{
		ID: "user", Image: img.Name, Runtime: containers.RuntimeInfo{Name: "io.containerd.runc.v2"},
	})
	check(t, err)
	before := inventory(t, s)
	if _, err := s.Remove(ctx, false, "two:v2", "one"); fail.KindOf(err) != fail.Conflict {
		t.Fatalf("removal of a used image: %v", err)
	}
	if after := inventory(t, s); !slices.Equal(before, after) {
		t.Fatalf("a refused removal changed\n%q\nto\n%q", before, after)
	}
	check(t, s.Client.ContainerService().Delete(ctx, "user"))
	if _, err := s.Remove(ctx, false, "three"); fail.KindOf(err) != fail.NotFound {
		t.Fatalf("removal of nothing: %v", err)
	}
	lines, err := s.Remove(ctx, false, "two:v2", "one")
	check(t, err)
	if want := []string{"Untagged: two:v2", "Untagged: one:latest", "Deleted: " + img.Digest}; !slices.Equal(lines, want) {
		t.Fatalf("lines %q, want %q", lines, want)
	}
	if left := inventory(t, s); len(left) > 0 {
		t.Fatalf("left behind: %q", left)
	}
}

// TestNoImageLabels: what an image carries never becomes a label containerd
// acts upon, on the image record, the content, or the snapshots.
func TestNoImageLabels(t *testing.T) {
	s, ctx := newStore(t)
	evil := map[string]string{
		"containerd.io/restart.loguri": "binary:///bin/sh", "containerd.io/restart.status": "running",
		"containerd.io/snapshot/uidmapping": "0:0:4294967295", "containerd.io/snapshot.ref": "x",
		"containerd.io/gc.root": "2020-01-01T00:00:00Z", "containerd.io/gc.ref.content.evil": "x",
	}
	img := small("evil", "x")
	img.Config.Labels = evil
	img.Layers[0].Annotations = evil
	img.EditManifest = func(m *ocispec.Manifest) { m.Annotations = evil; m.Config.Annotations = evil }
	img.EditDescriptor = func(d *ocispec.Descriptor) { d.Annotations = evil }
	_, err := s.Load(ctx, bytes.NewReader(ociTar(t, build(t, img))), "", nil)
	check(t, err)
	foreign := func(where string, labels map[string]string) {
		for k := range labels {
			if _, ok := evil[k]; ok {
				t.Errorf("%s carries label %s of the image", where, k)
			}
		}
	}
	record, err := s.Client.ImageService().Get(ctx, "docker.io/library/evil:latest")
	check(t, err)
	foreign("image", record.Labels)
	foreign("image target", record.Target.Annotations)
	n := 0
	check(t, s.Client.ContentStore().Walk(ctx, func(i content.Info) error {
		foreign("content", i.Labels)
		return nil
	}))
	check(t, s.Client.SnapshotService(s.Snapshotter).Walk(ctx, func(_ context.Context, i snapshots.Info) error {
		n++
		foreign("snapshot", i.Labels)
		return nil
	}))
	if n == 0 {
		t.Fatal("no snapshot was made")
	}
}

// TestUnpackStaysInside: names and links in a layer that lead out of the root
// file system stay in it.
func TestUnpackStaysInside(t *testing.T) {
	s, ctx := newStore(t)
	host := t.TempDir()
	check(t, os.WriteFile(filepath.Join(host, "victim"), []byte("before"), 0o644))
	up := strings.Repeat("../", 40)
	img := small("out", "x")
	img.Layers = append(img.Layers, imagekit.Layer{Entries: []imagekit.Entry{
		imagekit.Symlink("abs", host), imagekit.File("abs/victim", 0o644, "after"),
		imagekit.Symlink("rel", up+host[1:]), imagekit.File("rel/victim", 0o644, "after"),
		imagekit.File(up+host[1:]+"/victim", 0o644, "after"), imagekit.File(host+"/planted", 0o644, "after"),
	}}, imagekit.Layer{Entries: []imagekit.Entry{
		imagekit.File("abs/.wh.victim", 0o644, ""), imagekit.File(up+host[1:]+"/.wh..wh..opq", 0o644, ""),
	}})
	// Refused or unpacked inside; the host is the same either way.
	_, err := s.Load(ctx, bytes.NewReader(ociTar(t, build(t, img))), "", nil)
	t.Logf("load: %v", err)
	data, err := os.ReadFile(filepath.Join(host, "victim"))
	check(t, err)
	entries, err := os.ReadDir(host)
	check(t, err)
	if string(data) != "before" || len(entries) != 1 {
		t.Fatalf("the host's file holds %q, its directory %v", data, entries)
	}
}

// TestNoRoom: an image that does not fit the disk is refused before it is
// unpacked.
func TestNoRoom(t *testing.T) {
	s, ctx := newStore(t)
	s.Limits.FreeShare = 1e-9
	img := small("hello", "x")
	img.Layers = append(img.Layers, imagekit.Layer{Compression: "gzip", Entries: []imagekit.Entry{{Path: "zeros", Mode: 0o644, Zeros: 4 << 20}}})
	archive := ociTar(t, build(t, img))
	_, err := s.Load(ctx, bytes.NewReader(archive), "", nil)
	checkRefusal(t, s, err, fail.HostCannot, " left")
	var room unix.Statfs_t
	check(t, unix.Statfs(s.root(ctx), &room))
	// Room for the archive, but not for what it unpacks to.
	s.Limits.FreeShare = float64(2<<20) / float64(room.Bavail) / float64(room.Bsize)
	_, err = s.Load(ctx, bytes.NewReader(archive), "", nil)
	checkRefusal(t, s, err, fail.HostCannot, " left")
	s.Limits.FreeShare = 0.95
	_, err = s.Load(ctx, bytes.NewReader(archive), "", nil)
	check(t, err)
}

// TestParallel: several processes fetching the same image get it all the same.
func TestParallel(t *testing.T) {
	s, ctx := newStore(t)
	r := registry.New(t, false)
	img := small("", "parallel")
	for i := range 4 {
		img.Layers = append(img.Layers, imagekit.Layer{Entries: []imagekit.Entry{{Path: fmt.Sprint("f", i), Mode: 0o644, Zeros: 1 << 20}}})
	}
	b := build(t, img)
	r.Push("v1", b)
	b.Name = r.Host() + "/app:v1"
	archive := ociTar(t, b)
	var g errgroup.Group
	for i := range 6 {
		g.Go(func() error {
			if i%2 == 0 {
				_, err := s.Load(ctx, bytes.NewReader(archive), "", nil)
				return err
			}
			_, err := s.Pull(ctx, b.Name, "", nil)
			return err
		})
	}
	check(t, g.Wait())
	got, err := s.Resolve(ctx, b.Name, "")
	check(t, err)
	if readRootfs(t, s, got.ChainID, "hello") != "parallel" {
		t.Fatal("wrong content")
	}
	for _, l := range inventory(t, s) {
		if strings.HasPrefix(l, "lease") || strings.HasPrefix(l, "ingest") || strings.Contains(l, "extract") {
			t.Errorf("left behind: %s", l)
		}
	}
}

// TestUnpackAgain: when the snapshot went away, Unpack brings it back; when
// the content went away, it says so.
func TestUnpackAgain(t *testing.T) {
	s, ctx := newStore(t)
	for _, isDocker := range []bool{false, true} {
		img := small("hello", "x")
		img.Docker = isDocker
		b := build(t, img)
		_, err := s.Load(ctx, bytes.NewReader(ociTar(t, b)), "", nil)
		check(t, err)
		got, err := s.Resolve(ctx, "hello", "")
		check(t, err)
		sn := s.Client.SnapshotService(s.Snapshotter)
		check(t, sn.Remove(ctx, got.ChainID))
		check(t, s.Unpack(ctx, got, nil))
		if _, err := sn.Stat(ctx, got.ChainID); err != nil {
			t.Fatal(err)
		}
		check(t, sn.Remove(ctx, got.ChainID))
		check(t, s.Client.ContentStore().Delete(ctx, b.Layers[0]))
		if err := s.Unpack(ctx, got, nil); fail.KindOf(err) != fail.NotFound {
			t.Fatalf("unpack without the layer: %v", err)
		}
		if _, err := sn.Stat(ctx, got.ChainID); !errdefs.IsNotFound(err) {
			t.Fatalf("snapshot without the layer: %v", err)
		}
	}
}

// TestInterrupted: a load that is cut off at any point leaves nothing.
func TestInterrupted(t *testing.T) {
	s, _ := newStore(t)
	img := small("hello", strings.Repeat("x", 1<<20))
	img.Layers = append(img.Layers, imagekit.Layer{Entries: []imagekit.Entry{{Path: "more", Mode: 0o644, Zeros: 1 << 20}}})
	data := dockerTar(t, build(t, img))
	for _, share := range []int{1, 3, 6, 9} {
		ctx, cancel := context.WithCancel(context.Background())
		cut := len(data) * share / 10
		r := io.MultiReader(bytes.NewReader(data[:cut]), readerFunc(func([]byte) (int, error) { cancel(); return 0, nil }), bytes.NewReader(data[cut:]))
		_, err := s.Load(ctx, r, "", nil)
		if fail.KindOf(err) != fail.Interrupted || !errors.Is(err, context.Canceled) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if left := inventory(t, s); len(left) > 0 {
			t.Fatalf("cut at %d: left behind %q", cut, left)
		}
		if _, err := s.Load(context.Background(), bytes.NewReader(data[:cut]), "", nil); fail.KindOf(err) != fail.Refused {
			t.Fatalf("truncated at %d: %v", cut, err)
		}
		if left := inventory(t, s); len(left) > 0 {
			t.Fatalf("truncated at %d: left behind %q", cut, left)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) {
	if n, err := f(p); err != nil {
		return n, err
	}
	return 0, io.EOF
}

func TestSweep(t *testing.T) {
	s, ctx := newStore(t)
	held, release, err := s.hold(ctx)
	check(t, err)
	_, err = s.ingest(held, strings.NewReader("left over"), 9, 1)
	check(t, err)
	check(t, s.Sweep(ctx))
	if n := len(inventory(t, s)); n != 2 { // lease and content
		t.Fatalf("a living process lost its lease: %q", inventory(t, s))
	}
	list, err := s.Client.LeasesService().List(ctx)
	check(t, err)
	check(t, release(nil))
	self := strings.Fields(ownerID(os.Getpid()))
	for owner, stays := range map[string]bool{
		"4194304 1 another-boot pid:[1]": false,
		"garbage":                        false,
		strings.Join([]string{self[0], "1", self[2], self[3]}, " "):       false, // the pid was used again
		strings.Join([]string{self[0], self[1], "other", self[3]}, " "):   false,
		strings.Join([]string{self[0], self[1], self[2], "pid:[1]"}, " "): true,
	} {
		l := list[0]
		l.Labels = map[string]string{leaseOwner: owner}
		_, err := s.Client.LeasesService().Create(ctx, func(n *leases.Lease) error { *n = l; return nil })
		check(t, err)
		check(t, s.Sweep(ctx))
		if left := inventory(t, s); (len(left) > 0) != stays {
			t.Fatalf("owner %q: left %q", owner, left)
		}
		if stays {
			check(t, s.Client.LeasesService().Delete(ctx, l))
		}
	}
}
