package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/tests/imagekit"
)

// hostile are images that must be refused, with a part of the reason. Each is
// given to Load as an archive and to Pull through a registry.
var hostile = []struct {
	name  string
	kind  fail.Kind
	want  string
	build func(t *testing.T) *imagekit.Built
	pull  string // part of the reason when pulled, if it differs
}{
	{"5000 layers", fail.Refused, "5000 layers; the limit is 127", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		img.EditManifest = func(m *ocispec.Manifest) {
			m.Layers = slices.Repeat(m.Layers, 5000)
		}
		return build(t, img)
	}, ""},
	{"8 MiB config", fail.Refused, "the limit is 4194304", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		img.Config.Labels = map[string]string{"big": strings.Repeat("x", 8<<20)}
		return build(t, img)
	}, ""},
	{"1e6 labels", fail.Refused, "the limit is 4194304", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		img.Config.Labels = manyLabels(1_000_000)
		return build(t, img)
	}, ""},
	{"400k labels below the size limit", fail.Refused, "more than 50000 JSON values", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		img.RawConfig = []byte(`{"architecture":"amd64","os":"linux","config":{"Labels":{` +
			strings.TrimSuffix(strings.Repeat(`"a":"",`, 400_000), ",") + `}}}`)
		return build(t, img)
	}, ""},
	{"2000 labels", fail.Refused, "2000 labels; the limit is 1000", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		img.Config.Labels = manyLabels(2000)
		return build(t, img)
	}, ""},
	{"2000 volumes", fail.Refused, "2000 volumes", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		for i := range 2000 {
			maps.Copy(img.Config.Volumes, imagekit.Set(fmt.Sprint("/v", i)))
		}
		delete(img.Config.Volumes, "/data")
		return build(t, img)
	}, ""},
	{"deep JSON", fail.Refused, "nested deeper", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		img.RawConfig = []byte(`{"x":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`)
		return build(t, img)
	}, ""},
	{"empty config", fail.Refused, "does not state operating system", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		img.RawConfig = []byte(`{}`)
		return build(t, img)
	}, ""},
	{"config is no JSON", fail.Refused, "not valid JSON", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		img.RawConfig = []byte("\x1b]0;title\x07")
		return build(t, img)
	}, ""},
	{"no layers", fail.Refused, "has no layers", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		img.Layers = nil
		return build(t, img)
	}, ""},
	{"nested indexes", fail.Refused, "nested deeper than 2", func(t *testing.T) *imagekit.Built {
		b := build(t, small("bad", "x"))
		for range 6 {
			var err error
			b, err = imagekit.Index("bad", []*imagekit.Built{b}, nil)
			check(t, err)
		}
		return b
	}, ""},
	{"index that names itself", fail.NotFound, "is not there", func(t *testing.T) *imagekit.Built {
		b, err := imagekit.Index("bad", []*imagekit.Built{build(t, small("", "x"))}, nil)
		check(t, err)
		// No document holds its own digest; the nearest is a blob stored under
		// a digest it does not have.
		loop, err := imagekit.Index("bad", []*imagekit.Built{{Root: b.Root, Blobs: map[digest.Digest][]byte{}}}, nil)
		check(t, err)
		loop.Blobs[b.Root.Digest] = loop.Blobs[loop.Root.Digest]
		return loop
	}, "is not what its digest"},
	{"index of 1500", fail.Refused, "lists 1500 manifests", func(t *testing.T) *imagekit.Built {
		b, err := imagekit.Index("bad", []*imagekit.Built{build(t, small("", "x"))}, func(i *ocispec.Index) {
			i.Manifests = slices.Repeat(i.Manifests, 1500)
		})
		check(t, err)
		return b
	}, ""},
	{"index and manifest in one", fail.Refused, "as well", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		b := build(t, img)
		both := bytes.Replace(b.Blobs[b.Root.Digest], []byte("{"), []byte(`{"manifests":[],`), 1)
		img.RawManifest = both
		return build(t, img)
	}, ""},
	{"wrong layer digest", fail.NotFound, "is not there", editManifest(func(m *ocispec.Manifest) {
		m.Layers[0].Digest = digest.FromString("other")
	}), "no image"},
	{"wrong config size", fail.Refused, "not the", editManifest(func(m *ocispec.Manifest) { m.Config.Size += 7 }), ""},
	{"wrong layer size", fail.Refused, "not the", editManifest(func(m *ocispec.Manifest) { m.Layers[0].Size-- }), ""},
	{"negative size", fail.Refused, "size of -1", editManifest(func(m *ocispec.Manifest) { m.Layers[0].Size = -1 }), ""},
	{"size overflow", fail.Refused, "limit", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		img.Layers = slices.Repeat(img.Layers, 4)
		img.EditManifest = func(m *ocispec.Manifest) {
			for i := range m.Layers {
				m.Layers[i].Size = 1 << 62
			}
		}
		return build(t, img)
	}, ""},
	{"digest of another algorithm", fail.Refused, "invalid digest", editManifest(func(m *ocispec.Manifest) { m.Layers[0].Digest = "md5:abc" }), ""},
	{"layer from a URL", fail.Refused, "fetched from elsewhere", editManifest(func(m *ocispec.Manifest) {
		m.Layers[0].URLs = []string{"http://169.254.169.254/"}
	}), ""},
	{"foreign layer", fail.Refused, "not supported", editLayerType("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), ""},
	{"erofs layer", fail.Refused, "not supported", editLayerType("application/vnd.erofs.layer.v1"), ""},
	{"encrypted layer", fail.Refused, "not supported", editLayerType(ocispec.MediaTypeImageLayer + "+encrypted"), ""},
	{"media type with escapes", fail.Refused, "not supported", editLayerType("application/\x1b[31mred"), ""},
	{"checkpoint config", fail.Refused, "not supported", editManifest(func(m *ocispec.Manifest) {
		m.Config.MediaType = "application/vnd.containerd.container.checkpoint.config.v1+proto"
	}), ""},
	{"artifact", fail.Refused, "artifact", editManifest(func(m *ocispec.Manifest) { m.ArtifactType = "application/x" }), ""},
	{"wrong diff id", fail.Refused, "as its configuration says", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		img.Layers[0].DiffID = digest.FromString("other")
		return build(t, img)
	}, ""},
	{"fewer diff ids", fail.Refused, "2 layers and its configuration 1", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		img.EditManifest = func(m *ocispec.Manifest) { m.Layers = slices.Repeat(m.Layers, 2) }
		return build(t, img)
	}, ""},
	{"zip bomb by ratio", fail.Refused, "more than 200 times", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		img.Layers = append(img.Layers, imagekit.Layer{Compression: "gzip", Entries: []imagekit.Entry{{Path: "zeros", Mode: 0o644, Zeros: 40 << 20}}})
		return build(t, img)
	}, ""},
	{"zip bomb by size", fail.Refused, "unpack to more than", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		for range 3 {
			img.Layers = append(img.Layers, imagekit.Layer{Entries: []imagekit.Entry{{Path: "zeros", Mode: 0o644, Zeros: 24 << 20}}})
		}
		return build(t, img)
	}, ""},
	{"bomb behind the end of the tar", fail.Refused, "more than 200 times", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		img.Layers[0].Compression = "gzip"
		img.Layers[0].Stream = func(w io.Writer) error {
			_, err := w.Write(make([]byte, 40<<20))
			return err
		}
		return build(t, img)
	}, ""},
	{"sparse bomb", fail.Refused, "unpack to more than", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		img.Layers[0].Stream = imagekit.SparseBomb("huge", 1<<50)
		return build(t, img)
	}, ""},
	{"too many files", fail.Refused, "more than 3000 files", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		for i := range 3100 {
			img.Layers[0].Entries = append(img.Layers[0].Entries, imagekit.File(fmt.Sprint(i), 0o644, ""))
		}
		return build(t, img)
	}, ""},
	{"deep path", fail.Refused, "deeper than", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		img.Layers[0].Entries = append(img.Layers[0].Entries, imagekit.File(strings.Repeat("d/", 1000)+"f", 0o644, ""))
		return build(t, img)
	}, ""},
	{"layer is no tar", fail.Refused, "damaged", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		img.Layers[0] = imagekit.Layer{Raw: bytes.Repeat([]byte("junk"), 1000)}
		return build(t, img)
	}, ""},
	{"damaged gzip", fail.Refused, "damaged", func(t *testing.T) *imagekit.Built {
		var buf bytes.Buffer
		w := gzip.NewWriter(&buf)
		w.Write(bytes.Repeat([]byte("junk"), 100000))
		w.Close()
		img := small("bad", "x")
		img.Layers[0] = imagekit.Layer{Raw: buf.Bytes()[:buf.Len()-9], MediaType: ocispec.MediaTypeImageLayerGzip}
		return build(t, img)
	}, ""},
	{"foreign architecture", fail.HostCannot, "linux/s390x", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		img.Platform = ocispec.Platform{OS: "linux", Architecture: "s390x"}
		return build(t, img)
	}, ""},
	{"foreign architecture that lies in the index", fail.HostCannot, "linux/s390x", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		img.Platform = ocispec.Platform{OS: "linux", Architecture: "s390x"}
		img.EditDescriptor = func(d *ocispec.Descriptor) {
			d.Platform = &ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
		}
		return build(t, img)
	}, ""},
	{"index without this platform", fail.HostCannot, "linux/s390x", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		img.Platform = ocispec.Platform{OS: "linux", Architecture: "s390x"}
		b, err := imagekit.Index("bad", []*imagekit.Built{build(t, img)}, nil)
		check(t, err)
		return b
	}, ""},
	{"volume over proc", fail.Usage, "VOLUME", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		img.Config.Volumes = imagekit.Set("/proc")
		return build(t, img)
	}, ""},
	{"hard link to nothing", fail.Internal, "unpack layer 2 of 2", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		img.Layers = append(img.Layers, imagekit.Layer{Entries: []imagekit.Entry{imagekit.Hardlink("h", "etc/none")}})
		return build(t, img)
	}, ""},
	{"windows", fail.HostCannot, "windows/amd64", func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		img.Platform = ocispec.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0.17763"}
		return build(t, img)
	}, ""},
}

func manyLabels(n int) map[string]string {
	m := make(map[string]string, n)
	for i := range n {
		m[fmt.Sprint(i)] = ""
	}
	return m
}

func editManifest(f func(*ocispec.Manifest)) func(*testing.T) *imagekit.Built {
	return func(t *testing.T) *imagekit.Built {
		img := small("bad", "x")
		img.EditManifest = f
		return build(t, img)
	}
}

func editLayerType(mediaType string) func(*testing.T) *imagekit.Built {
	return editManifest(func(m *ocispec.Manifest) { m.Layers[0].MediaType = mediaType })
}

// tight are limits small enough for bombs that fit a test.
func tight() Limits {
	lim := DefaultLimits()
	lim.Unpacked, lim.Files, lim.RatioFloor = 64<<20, 3000, 8<<20
	return lim
}

// fileHeader is the tar header of a file, zeros its endless content.
func fileHeader(name string, size int64) []byte {
	var buf bytes.Buffer
	_ = tar.NewWriter(&buf).WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size})
	return buf.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func checkRefusal(t *testing.T, s *Store, err error, kind fail.Kind, want string) {
	t.Helper()
	if err == nil {
		t.Fatal("accepted")
	}
	if fail.KindOf(err) != kind || !strings.Contains(err.Error(), want) {
		t.Fatalf("got kind %d %q, want kind %d with %q", fail.KindOf(err), err, kind, want)
	}
	if len(err.Error()) > 2000 || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' }) {
		t.Fatalf("error text is not fit to print: %q", err)
	}
	if left := inventory(t, s); len(left) > 0 {
		t.Fatalf("left behind: %q", left)
	}
}

func TestHostileLoad(t *testing.T) {
	for _, h := range hostile {
		t.Run(h.name, func(t *testing.T) {
			s, ctx := newStore(t)
			s.Limits = tight()
			_, err := s.Load(ctx, bytes.NewReader(ociTar(t, h.build(t))), "", nil)
			checkRefusal(t, s, err, h.kind, h.want)
		})
	}
}

func TestHostileArchive(t *testing.T) {
	many := make([]*imagekit.Built, 300)
	for i := range many {
		many[i] = build(t, small(fmt.Sprint("i", i), "x"))
	}
	named := func(name string) []byte { return ociTar(t, build(t, small(name, "x"))) }
	raw := func(index string) []byte {
		var buf bytes.Buffer
		check(t, imagekit.WriteLayout(&buf, []byte(index), nil))
		return buf.Bytes()
	}
	missing := build(t, small("bad", "x"))
	delete(missing.Blobs, missing.Config)
	packed := func(r io.Reader) []byte {
		var buf bytes.Buffer
		w := gzip.NewWriter(&buf)
		_, err := io.Copy(w, r)
		check(t, err)
		check(t, w.Close())
		return buf.Bytes()
	}
	cases := []struct {
		name    string
		archive []byte
		kind    fail.Kind
		want    string
	}{
		{"empty", nil, fail.Refused, "neither index.json nor manifest.json"},
		{"text", bytes.Repeat([]byte("hello "), 1000), fail.Refused, "not a valid tar"},
		{"a bomb of gzip", packed(io.MultiReader(bytes.NewReader(fileHeader("x", 40<<20)), io.LimitReader(zeros{}, 40<<20))), fail.Refused, "more than 200 times"},
		{"too many images", ociTar(t, many...), fail.Refused, "more than 256 images"},
		{"name with escapes", named("\x1b[2Jbad"), fail.Refused, "no valid reference"},
		{"name of 5000", named(strings.Repeat("a", 5000)), fail.Refused, "no valid reference"},
		{"name with another digest", named("bad@" + digest.FromString("x").String()), fail.Refused, "it names"},
		{"index is a list", raw(`[]`), fail.Refused, "cannot be decoded"},
		{"index is empty", raw(`{}`), fail.Refused, "lists no manifest"},
		{"index of nothing", raw(`{"manifests":[{"mediaType":"` + ocispec.MediaTypeImageManifest + `","digest":"` + digest.FromString("x").String() + `","size":5}]}`), fail.NotFound, "is not there"},
		{"blob under a wrong name", func() []byte {
			b := build(t, small("bad", "x"))
			b.Blobs[b.Config] = append([]byte(" "), b.Blobs[b.Config]...)
			return ociTar(t, b)
		}(), fail.NotFound, "is not there"},
		{"config missing", func() []byte {
			var buf bytes.Buffer
			b := *missing
			b.Config = digest.FromString("x")
			check(t, imagekit.WriteDocker(&buf, &b))
			return buf.Bytes()
		}(), fail.Refused, ""},
		{"docker foreign", func() []byte {
			img := small("bad", "x")
			img.Platform = ocispec.Platform{OS: "linux", Architecture: "arm"}
			return dockerTar(t, build(t, img))
		}(), fail.HostCannot, "linux/arm"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s, ctx := newStore(t)
			s.Limits = tight()
			_, err := s.Load(ctx, bytes.NewReader(c.archive), "", nil)
			checkRefusal(t, s, err, c.kind, c.want)
		})
	}
}

// TestHostileMemory: the documents cost little memory before they are refused.
func TestHostileMemory(t *testing.T) {
	data := []byte(`{"architecture":"amd64","os":"linux","config":{"Labels":{` +
		strings.TrimSuffix(strings.Repeat(`"a":"",`, 500_000), ",") + `}}}`)
	if len(data) > 4<<20 {
		t.Fatal("larger than the size limit")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // nothing is freed: the sum of all allocations
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := parseConfig(data, 1, DefaultLimits()); err == nil {
		t.Fatal("accepted")
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 20<<20 {
		t.Fatalf("refusal of %d bytes allocated %d", len(data), n)
	}
}

func FuzzDocuments(f *testing.F) {
	b, err := imagekit.Build(small("x", "x"))
	if err != nil {
		f.Fatal(err)
	}
	for _, blob := range b.Blobs {
		f.Add(blob)
	}
	f.Add([]byte(`{"manifests":[{"digest":"sha256:x","platform":{"os":"linux"}}]}`))
	lim := DefaultLimits()
	f.Fuzz(func(t *testing.T, data []byte) {
		if entries, err := parseIndex(data, ocispec.MediaTypeImageIndex, lim); err == nil {
			if i, err := choose(entries, hostPlatform()); err == nil && i >= len(entries) {
				t.Fatal("chose an entry that is not there")
			}
		}
		if _, layers, err := parseManifest(data, ocispec.MediaTypeImageManifest, lim); err == nil {
			for _, l := range layers {
				if l.Size <= 0 || l.Digest.Validate() != nil || len(l.URLs)+len(l.Data)+len(l.Annotations) > 0 {
					t.Fatalf("accepted %+v", l)
				}
			}
		}
		if c, err := parseConfig(data, 1, lim); err == nil {
			if len(c.RootFS.DiffIDs) != 1 || len(c.Config.Labels) > lim.List {
				t.Fatalf("accepted %+v", c)
			}
		}
	})
}

func FuzzScanLayer(f *testing.F) {
	for _, how := range []string{"", "gzip", "zstd"} {
		img := small("x", "x")
		img.Layers[0].Compression = how
		b, err := imagekit.Build(img)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b.Blobs[b.Layers[0]])
	}
	lim := tight()
	lim.Unpacked = 1 << 20
	f.Fuzz(func(t *testing.T, data []byte) {
		var n tally
		_, err := scanLayer(t.Context(), bytes.NewReader(data), int64(len(data)), lim, &n)
		if err == nil && (n.disk.Load() > lim.Unpacked || n.stream.Load() > lim.Unpacked) {
			t.Fatalf("accepted %d bytes on disk", n.disk.Load())
		}
	})
}
