package imagekit

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func sample(compression string) Image {
	return Image{
		Name: "sample:v1",
		Config: Config{
			Entrypoint: []string{"/x"}, Labels: map[string]string{"b": "2", "a": "1"}, Volumes: Set("/v", "/u"),
			Healthcheck: &Healthcheck{Test: []string{"CMD", "/x"}, Retries: 2},
		},
		Layers: []Layer{
			{Compression: compression, Entries: []Entry{
				Dir("etc", 0o755), File("etc/f", 0o600, "body"), Symlink("l", "etc/f"), Hardlink("h", "etc/f"),
				Device("null", 'c', 1, 3, 0o666), Device("disk", 'b', 8, 0, 0o600),
				{Path: "owned", Mode: 0o4755, UID: 1000, GID: 1001, Body: []byte("x"), Xattrs: map[string]string{"user.b": "2", "user.a": "1"}},
				{Path: "zeros", Mode: 0o644, Zeros: 5000},
			}},
			{Compression: compression, Entries: []Entry{File("second", 0o644, "2")}},
		},
	}
}

func archive(t *testing.T, f func(io.Writer, ...*Built) error, img Image) []byte {
	t.Helper()
	b, err := Build(img)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := f(&buf, b); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestDeterministic(t *testing.T) {
	for _, c := range []string{"", "gzip", "zstd"} {
		for name, f := range map[string]func(io.Writer, ...*Built) error{"docker": WriteDocker, "oci": WriteOCI} {
			first := archive(t, f, sample(c))
			for range 5 {
				if !bytes.Equal(first, archive(t, f, sample(c))) {
					t.Fatalf("%s with compression %q differs between runs", name, c)
				}
			}
		}
	}
}

// files reads a tar.
func files(t *testing.T, data []byte) (map[string]*tar.Header, map[string][]byte) {
	t.Helper()
	headers, bodies := map[string]*tar.Header{}, map[string][]byte{}
	tr := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return headers, bodies
		}
		if err != nil {
			t.Fatal(err)
		}
		headers[h.Name] = h
		if bodies[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLayerEntries(t *testing.T) {
	b, err := Build(sample(""))
	if err != nil {
		t.Fatal(err)
	}
	h, body := files(t, b.Blobs[b.Layers[0]])
	if string(body["etc/f"]) != "body" || h["etc/f"].Mode != 0o600 || h["l"].Linkname != "etc/f" || h["h"].Typeflag != tar.TypeLink ||
		h["null"].Typeflag != tar.TypeChar || h["null"].Devminor != 3 || h["disk"].Typeflag != tar.TypeBlock || h["disk"].Devmajor != 8 ||
		h["owned"].Mode != 0o4755 || h["owned"].Uid != 1000 || h["owned"].Gid != 1001 || h["owned"].PAXRecords["SCHILY.xattr.user.a"] != "1" ||
		len(body["zeros"]) != 5000 || !h["etc/f"].ModTime.Equal(Epoch) {
		t.Fatalf("headers %+v", h)
	}
}

func TestOCILayout(t *testing.T) {
	_, body := files(t, archive(t, WriteOCI, sample("gzip")))
	get := func(d ocispec.Descriptor, v any) {
		data := body["blobs/sha256/"+d.Digest.Encoded()]
		if digest.FromBytes(data) != d.Digest || int64(len(data)) != d.Size {
			t.Fatalf("blob %s does not match", d.Digest)
		}
		if v != nil {
			if err := json.Unmarshal(data, v); err != nil {
				t.Fatal(err)
			}
		}
	}
	var idx ocispec.Index
	var m ocispec.Manifest
	var c struct {
		Architecture, OS string
		Config           Config
		RootFS           ocispec.RootFS
	}
	if err := json.Unmarshal(body["index.json"], &idx); err != nil {
		t.Fatal(err)
	}
	get(idx.Manifests[0], &m)
	get(m.Config, &c)
	for _, l := range m.Layers {
		get(l, nil)
	}
	if idx.Manifests[0].Annotations[ocispec.AnnotationRefName] != "sample:v1" || c.OS != "linux" || c.Architecture != "amd64" ||
		len(c.RootFS.DiffIDs) != 2 || len(m.Layers) != 2 || c.Config.Healthcheck.Retries != 2 || c.Config.Labels["a"] != "1" {
		t.Fatalf("manifest %+v config %+v", m, c)
	}
}

func TestDockerArchive(t *testing.T) {
	_, body := files(t, archive(t, WriteDocker, sample("")))
	var m []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(body["manifest.json"], &m); err != nil {
		t.Fatal(err)
	}
	if len(m) != 1 || !slices.Equal(m[0].RepoTags, []string{"sample:v1"}) || len(m[0].Layers) != 2 || body[m[0].Config] == nil || body[m[0].Layers[1]] == nil {
		t.Fatalf("manifest %+v", m)
	}
}

func TestSparseBomb(t *testing.T) {
	const size = 1 << 50
	b, err := Build(Image{Layers: []Layer{{Stream: SparseBomb("huge", size)}}})
	if err != nil {
		t.Fatal(err)
	}
	h, err := tar.NewReader(bytes.NewReader(b.Blobs[b.Layers[0]])).Next()
	if err != nil || h.Name != "huge" || h.Size != size {
		t.Fatalf("header %+v, %v", h, err)
	}
}

func TestPresets(t *testing.T) {
	const busybox = "/bin/busybox"
	if _, err := os.Stat(busybox); err != nil {
		t.Fatalf("%v; install it: apt-get install busybox-static", err)
	}
	img, err := Files(busybox, 2500)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Build(img)
	if err != nil {
		t.Fatal(err)
	}
	h, body := files(t, b.Blobs[b.Layers[0]])
	for _, name := range []string{"bin/sh", "bin/ls", "usr/bin/env"} {
		if h[name] == nil || h[name].Linkname != "bin/busybox" {
			t.Errorf("%s: %+v", name, h[name])
		}
	}
	if h["tmp/"].Mode != 0o1777 || h["home/user/"].Uid != 1000 || !strings.Contains(string(body["etc/passwd"]), "user:x:1000:1000:") {
		t.Errorf("tmp %+v, passwd %q", h["tmp/"], body["etc/passwd"])
	}
	if h, _ := files(t, b.Blobs[b.Layers[1]]); len(h) != 2500+3+1 {
		t.Errorf("%d entries of files", len(h))
	}
	img, err = Probe([2]string{"/probe", busybox}, [2]string{"/probe32", busybox})
	if err != nil || img.Config.Entrypoint[0] != "/probe" {
		t.Errorf("probe: %+v, %v", img.Config, err)
	}
	if img, err = Scratch(busybox); err != nil || len(img.Layers[0].Entries) != 1 {
		t.Errorf("scratch: %v", err)
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Scratch(script); err == nil {
		t.Error("a script was taken for a static program")
	}
	if _, err := Probe([2]string{"/probe", "/bin/bash"}); err == nil || !strings.Contains(err.Error(), "shared libraries") {
		t.Errorf("a dynamic program: %v", err)
	}
}
