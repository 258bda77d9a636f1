// Package imagekit makes container images out of nothing but Go values, for
// tests and the demo: no registry, no build tool, no network; and, for real
// servers, out of Debian's packages. The same input gives the same bytes.
// What a correct builder would refuse can be written here too (raw configs,
// wrong sizes, unknown media types, nested indexes), since the images a
// launcher must survive are not made by correct builders.
package imagekit

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of docker's schema 2, which image-spec does not name.
const (
	DockerManifest  = "application/vnd.docker.distribution.manifest.v2+json"
	DockerConfig    = "application/vnd.docker.container.image.v1+json"
	DockerLayer     = "application/vnd.docker.image.rootfs.diff.tar"
	DockerLayerGzip = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// Epoch is the time all generated files and images carry.
var Epoch = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// Healthcheck is docker's HEALTHCHECK; image-spec has no such field. Times are
// nanoseconds, as docker writes them.
type Healthcheck struct {
	Test          []string      `json:",omitempty"`
	Interval      time.Duration `json:",omitempty"`
	Timeout       time.Duration `json:",omitempty"`
	StartPeriod   time.Duration `json:",omitempty"`
	StartInterval time.Duration `json:",omitempty"`
	Retries       int           `json:",omitempty"`
}

// Config is the part of an image's configuration a container starts from.
type Config struct {
	User         string              `json:",omitempty"`
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Env          []string            `json:",omitempty"`
	Entrypoint   []string            `json:",omitempty"`
	Cmd          []string            `json:",omitempty"`
	Volumes      map[string]struct{} `json:",omitempty"`
	WorkingDir   string              `json:",omitempty"`
	Labels       map[string]string   `json:",omitempty"`
	StopSignal   string              `json:",omitempty"`
	Healthcheck  *Healthcheck        `json:",omitempty"`
}

// Set makes the map that Volumes and ExposedPorts want.
func Set(names ...string) map[string]struct{} {
	m := make(map[string]struct{}, len(names))
	for _, n := range names {
		m[n] = struct{}{}
	}
	return m
}

// Image describes one image of one platform.
type Image struct {
	Name     string           // reference in the archive, "" for none
	Platform ocispec.Platform // zero: linux/amd64
	Config   Config
	Layers   []Layer
	Docker   bool // docker's media types instead of OCI's

	// RawConfig replaces the whole configuration blob.
	RawConfig []byte
	// RawManifest replaces the whole manifest blob.
	RawManifest []byte
	// ConfigMediaType replaces the media type of the configuration.
	ConfigMediaType string
	// EditManifest changes the manifest before it is written: wrong sizes and
	// digests, annotations, other media types, too many layers.
	EditManifest func(*ocispec.Manifest)
	// EditDescriptor changes how an index refers to the manifest.
	EditDescriptor func(*ocispec.Descriptor)
}

// Built is an image as content-addressed blobs.
type Built struct {
	Name  string
	Root  ocispec.Descriptor       // manifest or index
	Blobs map[digest.Digest][]byte // everything Root reaches
	// Config and Layers are what docker save's manifest.json lists; empty for
	// an index.
	Config digest.Digest
	Layers []digest.Digest
}

// rootConfig is the image configuration as docker writes it.
type rootConfig struct {
	Created time.Time `json:"created"`
	ocispec.Platform
	Config  Config            `json:"config"`
	RootFS  ocispec.RootFS    `json:"rootfs"`
	History []ocispec.History `json:"history,omitempty"`
}

// Build makes the blobs of an image. The only errors are those of the
// description itself, such as an entry of an unknown type.
func Build(img Image) (*Built, error) {
	b := &Built{Name: img.Name, Blobs: map[digest.Digest][]byte{}}
	platform := img.Platform
	if platform.OS == "" {
		platform.OS = "linux"
	}
	if platform.Architecture == "" {
		platform.Architecture = "amd64"
	}

	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	configType := ocispec.MediaTypeImageConfig
	if img.Docker {
		m.MediaType, configType = DockerManifest, DockerConfig
	}
	var diffIDs []digest.Digest
	for i, l := range img.Layers {
		blob, diffID, err := l.build()
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		desc := b.add(l.mediaType(img.Docker), blob)
		desc.Annotations = l.Annotations
		m.Layers = append(m.Layers, desc)
		b.Layers = append(b.Layers, desc.Digest)
		diffIDs = append(diffIDs, diffID)
	}

	config := img.RawConfig
	if config == nil {
		var err error
		config, err = json.Marshal(rootConfig{
			Created: Epoch, Platform: platform, Config: img.Config,
			RootFS: ocispec.RootFS{Type: "layers", DiffIDs: diffIDs},
		})
		if err != nil {
			return nil, err
		}
	}
	if img.ConfigMediaType != "" {
		configType = img.ConfigMediaType
	}
	m.Config = b.add(configType, config)
	b.Config = m.Config.Digest
	mediaType := m.MediaType
	if img.EditManifest != nil {
		img.EditManifest(&m)
	}
	manifest := img.RawManifest
	if manifest == nil {
		var err error
		if manifest, err = json.Marshal(m); err != nil {
			return nil, err
		}
	}
	b.Root = b.add(mediaType, manifest)
	b.Root.Platform = &platform
	if img.EditDescriptor != nil {
		img.EditDescriptor(&b.Root)
	}
	return b, nil
}

// Index makes an image index of images (or of other indexes). edit may change
// it before it is written; nil is allowed.
func Index(name string, children []*Built, edit func(*ocispec.Index)) (*Built, error) {
	b := &Built{Name: name, Blobs: map[digest.Digest][]byte{}}
	idx := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, c := range children {
		idx.Manifests = append(idx.Manifests, c.Root)
		for d, blob := range c.Blobs {
			b.Blobs[d] = blob
		}
	}
	if edit != nil {
		edit(&idx)
	}
	data, err := json.Marshal(idx)
	if err != nil {
		return nil, err
	}
	b.Root = b.add(ocispec.MediaTypeImageIndex, data)
	return b, nil
}

func (b *Built) add(mediaType string, blob []byte) ocispec.Descriptor {
	d := digest.FromBytes(blob)
	b.Blobs[d] = blob
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(blob))}
}
