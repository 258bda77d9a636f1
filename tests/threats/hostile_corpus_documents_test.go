package threats

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/safe-run/safe-run/tests/imagekit"
)

// fresh is a layer the store has not seen: layers are known by their content
// and unpacked once.
func fresh(word string) imagekit.Layer {
	return imagekit.Layer{Entries: []imagekit.Entry{imagekit.File("fresh", 0o644, word)}}
}

// hostileDocuments: configurations and manifests.
func hostileDocuments() (rows []hostile) {
	add := func(name, says string, image func(*imagekit.Image)) {
		rows = append(rows, hostile{name: "document: " + name, want: unloaded, says: says, image: image})
	}
	config := func(name, says, raw string) {
		add("config, "+name, says, func(img *imagekit.Image) { img.RawConfig = []byte(raw) })
	}
	manifest := func(name, says string, edit func(*ocispec.Manifest)) {
		add(name, says, func(img *imagekit.Image) {
			img.Layers = append(img.Layers, fresh(name))
			img.EditManifest = edit
		})
	}
	config("no JSON", "", "{")
	config("empty object", "", "{}")
	config("null", "", "null")
	config("a list", "", "[]")
	config("escape codes", "", "\x1b]0;title\x07")
	config("two documents", "", `{"architecture":"amd64","os":"linux"}{"os":"windows"}`)
	config("deep", "nested deeper", `{"x":`+strings.Repeat("[", 9000)+strings.Repeat("]", 9000)+`}`)
	add("config, 16 MiB", "the limit is", func(img *imagekit.Image) {
		img.RawConfig = []byte(`{"architecture":"amd64","os":"linux","x":"` + strings.Repeat("x", 16<<20) + `"}`)
	})
	add("config, half a million values", "JSON values", func(img *imagekit.Image) {
		img.RawConfig = []byte(`{"architecture":"amd64","os":"linux","config":{"Labels":{"a":""` + strings.Repeat(`,"a":""`, 500_000) + `}}}`)
	})
	config("another root file system", "", `{"architecture":"amd64","os":"linux","rootfs":{"type":"evil","diff_ids":[]}}`)
	config("digests of nothing", "", `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["../../x"]}}`)
	config("digests of another kind", "", `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["md5:d41d8cd98f00b204e9800998ecf8427e"]}}`)
	config("no root file system", "", `{"architecture":"amd64","os":"linux"}`)
	config("platform of escape codes", "", `{"architecture":"\u001b[2J","os":"\u001b]0;x\u0007","rootfs":{"type":"layers","diff_ids":["sha256:`+strings.Repeat("0", 64)+`"]}}`)
	for _, p := range []ocispec.Platform{
		{OS: "linux", Architecture: "s390x"},
		{OS: "linux", Architecture: "arm64", Variant: "v8"},
		{OS: "windows", Architecture: "amd64", OSVersion: "10.0.17763"},
		{OS: "linux\x1b[2J", Architecture: "amd64"},
		{OS: "linux", Architecture: strings.Repeat("x", 100_000)},
	} {
		add(fmt.Sprintf("platform: %.20q", p.OS+"/"+p.Architecture), "", func(img *imagekit.Image) { img.Platform = p })
	}
	add("platform: a lie of the index", "", func(img *imagekit.Image) {
		img.Platform = ocispec.Platform{OS: "linux", Architecture: "s390x"}
		img.EditDescriptor = func(d *ocispec.Descriptor) { d.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"} }
	})
	manifest("five thousand layers", "limit is 127", func(m *ocispec.Manifest) { m.Layers = slices.Repeat(m.Layers, 2500) })
	manifest("the same layer ten times", "", func(m *ocispec.Manifest) { m.Layers = slices.Repeat(m.Layers, 10) })
	manifest("16 MiB", "", func(m *ocispec.Manifest) { m.Annotations = map[string]string{"x": strings.Repeat("x", 16<<20)} })
	manifest("no layers", "no layers", func(m *ocispec.Manifest) { m.Layers = nil })
	manifest("no config", "", func(m *ocispec.Manifest) { m.Config = ocispec.Descriptor{} })
	manifest("one layer less than the config", "", func(m *ocispec.Manifest) { m.Layers = m.Layers[:1] })
	manifest("layers in another order", "", func(m *ocispec.Manifest) { slices.Reverse(m.Layers) })
	manifest("a larger size", "not the", func(m *ocispec.Manifest) { m.Layers[1].Size++ })
	manifest("a smaller size", "not the", func(m *ocispec.Manifest) { m.Layers[1].Size-- })
	manifest("a negative size", "size of -1", func(m *ocispec.Manifest) { m.Layers[1].Size = -1 })
	manifest("no size", "size of 0", func(m *ocispec.Manifest) { m.Layers[1].Size = 0 })
	manifest("sizes that wrap around", "limit", func(m *ocispec.Manifest) { m.Layers[0].Size, m.Layers[1].Size = 1<<62, 1<<62 })
	manifest("another size of the config", "not the", func(m *ocispec.Manifest) { m.Config.Size += 7 })
	manifest("a config of gigabytes", "limit", func(m *ocispec.Manifest) { m.Config.Size = 8 << 30 })
	manifest("a layer that is not there", "not there", func(m *ocispec.Manifest) { m.Layers[1].Digest = digest.FromString("gone") })
	manifest("a digest that is a path", "invalid digest", func(m *ocispec.Manifest) { m.Layers[1].Digest = "sha256:../../../../etc/passwd" })
	manifest("a digest of md5", "invalid digest", func(m *ocispec.Manifest) { m.Layers[1].Digest = "md5:d41d8cd98f00b204e9800998ecf8427e" })
	manifest("a digest of escape codes", "invalid digest", func(m *ocispec.Manifest) { m.Layers[1].Digest = "sha256:\x1b[2J" })
	manifest("the config is a layer too", "", func(m *ocispec.Manifest) { m.Layers[1].Digest, m.Layers[1].Size = m.Config.Digest, m.Config.Size })
	manifest("a layer is the config too", "", func(m *ocispec.Manifest) { m.Config.Digest, m.Config.Size = m.Layers[1].Digest, m.Layers[1].Size })
	manifest("a layer from a URL", "elsewhere", func(m *ocispec.Manifest) { m.Layers[1].URLs = []string{"http://169.254.169.254/latest"} })
	manifest("an artifact", "artifact", func(m *ocispec.Manifest) { m.ArtifactType = "application/x" })
	for _, media := range []string{
		"application/x-evil", "", "application/\x1b[31mred", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
		"application/vnd.oci.image.layer.nondistributable.v1.tar", ocispec.MediaTypeImageLayer + "+encrypted",
		"application/vnd.erofs.layer.v1", "application/vnd.erofs", "application/vnd.oci.image.layer.v1.squashfs",
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageConfig,
	} {
		manifest(fmt.Sprintf("layer type %.60q", media), "not supported", func(m *ocispec.Manifest) { m.Layers[1].MediaType = media })
	}
	for _, media := range []string{
		"application/vnd.containerd.container.checkpoint.config.v1+proto", "application/vnd.containerd.container.criu.checkpoint.criu.tar",
		"application/vnd.oci.image.config.v1+json+checkpoint", "application/vnd.oci.empty.v1+json", "application/vnd.cncf.helm.config.v1+json", ocispec.MediaTypeImageManifest,
	} {
		add(fmt.Sprintf("config type %.60q", media), "not supported", func(img *imagekit.Image) { img.ConfigMediaType = media })
	}
	add("a layer with another content than the config says", "as its configuration says", func(img *imagekit.Image) {
		l := fresh("other content")
		l.DiffID = digest.FromString("x")
		img.Layers = append(img.Layers, l)
	})
	raw := func(name, says string, edit func(manifest []byte) []byte) {
		add(name, says, func(img *imagekit.Image) {
			b, err := imagekit.Build(*img)
			if err != nil {
				panic(err)
			}
			img.RawManifest = edit(b.Blobs[b.Root.Digest])
		})
	}
	with := func(fields string) func([]byte) []byte {
		return func(m []byte) []byte { return append([]byte("{"+fields+","), m[1:]...) }
	}
	raw("a manifest and an index in one", "as well", with(`"manifests":[]`))
	raw("a manifest of the old schema", "schema 1", with(`"fsLayers":[{"blobSum":"x"}]`))
	raw("a manifest that says it is an index", "referred to as", func(m []byte) []byte {
		return bytes.Replace(m, []byte(ocispec.MediaTypeImageManifest), []byte(ocispec.MediaTypeImageIndex), 1)
	})
	raw("a manifest compressed", "", gzipped)
	raw("a manifest cut", "", func(m []byte) []byte { return m[:len(m)/2] })
	raw("a manifest of nothing", "", func([]byte) []byte { return []byte(" ") })
	raw("a manifest with a byte order mark", "", func(m []byte) []byte { return append([]byte("\xef\xbb\xbf"), m...) })
	raw("a manifest deep", "nested deeper", with(`"x":`+strings.Repeat("[", 9000)+strings.Repeat("]", 9000)))
	rows = append(rows, hostile{
		name: "document: annotations that steer", want: inert, check: printed("RAN\n"), image: func(img *imagekit.Image) {
			img.Layers = append(img.Layers, fresh("annotated"))
			img.EditManifest = func(m *ocispec.Manifest) {
				steer := map[string]string{
					"run.oci.handler": "x", "org.systemd.property.TasksMax": "uint64 99999", "containerd.io/snapshot/remote": "x",
					"containerd.io/snapshot/overlay.upper": "/etc", "containerd.io/distribution.source.evil": "x", "\x1b[2J": "\x1b[31m",
				}
				m.Annotations = steer
				for i := range m.Layers {
					m.Layers[i].Annotations = steer
				}
				m.Subject = &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("x"), Size: 5}
			}
		},
	})
	return rows
}

// hostileIndexes: what points to manifests.
func hostileIndexes() (rows []hostile) {
	add := func(name string, w fate, says string, edit func(b *imagekit.Built) (*imagekit.Built, error)) {
		rows = append(rows, hostile{
			name: "index: " + name, want: w, says: says, check: printed("RAN\n"),
			write: func(w io.Writer, b *imagekit.Built) error {
				b, err := edit(b)
				if err != nil {
					return err
				}
				return imagekit.WriteOCI(w, b)
			},
		})
	}
	index := func(name string, w fate, says string, edit func(i *ocispec.Index)) {
		add(name, w, says, func(b *imagekit.Built) (*imagekit.Built, error) {
			return imagekit.Index(b.Name, []*imagekit.Built{b}, edit)
		})
	}
	for _, depth := range []int{3, 6, 60} {
		add(fmt.Sprintf("nested %d times", depth), unloaded, "nested deeper", func(b *imagekit.Built) (*imagekit.Built, error) {
			var err error
			for range depth {
				if b, err = imagekit.Index(b.Name, []*imagekit.Built{b}, nil); err != nil {
					break
				}
			}
			return b, err
		})
	}
	add("a loop", unloaded, "", func(b *imagekit.Built) (*imagekit.Built, error) {
		// No document holds its own digest; the nearest is one stored under another's.
		inner, err := imagekit.Index(b.Name, []*imagekit.Built{b}, nil)
		if err != nil {
			return nil, err
		}
		loop, err := imagekit.Index(b.Name, []*imagekit.Built{{Root: inner.Root, Blobs: map[digest.Digest][]byte{}}}, nil)
		if err == nil {
			loop.Blobs[inner.Root.Digest] = loop.Blobs[loop.Root.Digest]
		}
		return loop, err
	})
	index("of 1500", unloaded, "1500 manifests", func(i *ocispec.Index) { i.Manifests = slices.Repeat(i.Manifests, 1500) })
	index("of nothing", unloaded, "", func(i *ocispec.Index) { i.Manifests = nil })
	index("the same twice", inert, "", func(i *ocispec.Index) { i.Manifests = slices.Repeat(i.Manifests, 2) })
	index("without platforms", unloaded, "", func(i *ocispec.Index) {
		i.Manifests = slices.Repeat(i.Manifests, 2)
		i.Manifests[0].Platform, i.Manifests[1].Platform = nil, nil
	})
	index("for others only", unloaded, "", func(i *ocispec.Index) {
		i.Manifests[0].Platform = &ocispec.Platform{OS: "plan9\x1b[2J", Architecture: "mips"}
	})
	index("that calls a manifest an index", unloaded, "", func(i *ocispec.Index) { i.Manifests[0].MediaType = ocispec.MediaTypeImageIndex })
	index("that calls a manifest a layer", unloaded, "not supported", func(i *ocispec.Index) { i.Manifests[0].MediaType = ocispec.MediaTypeImageLayer })
	index("with another size", unloaded, "", func(i *ocispec.Index) { i.Manifests[0].Size++ })
	index("with a size of gigabytes", unloaded, "limit", func(i *ocispec.Index) { i.Manifests[0].Size = 8 << 30 })
	index("with a manifest that is not there", unloaded, "not there", func(i *ocispec.Index) { i.Manifests[0].Digest = digest.FromString("gone") })
	index("with inline data", unrunOrInert, "", func(i *ocispec.Index) { i.Manifests[0].Data = []byte(`{"evil":1}`) })
	index("from URLs", unloaded, "elsewhere", func(i *ocispec.Index) { i.Manifests[0].URLs = []string{"file:///etc/passwd"} })
	index("an artifact", unrunOrInert, "", func(i *ocispec.Index) { i.ArtifactType, i.Manifests[0].ArtifactType = "application/x", "application/x" })
	return rows
}
