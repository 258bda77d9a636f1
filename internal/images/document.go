package images

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/safe-run/safe-run/internal/fail"
)

// The media types that are understood. What is not listed is refused: foreign
// layers name URLs to fetch from, erofs layers are parsed by the kernel,
// checkpoints carry a process, encrypted layers need a decoder program.
var (
	indexTypes    = []string{ocispec.MediaTypeImageIndex, images.MediaTypeDockerSchema2ManifestList}
	manifestTypes = []string{ocispec.MediaTypeImageManifest, images.MediaTypeDockerSchema2Manifest}
	configTypes   = []string{ocispec.MediaTypeImageConfig, images.MediaTypeDockerSchema2Config}
	layerTypes    = []string{
		ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd,
		images.MediaTypeDockerSchema2Layer, images.MediaTypeDockerSchema2LayerGzip, images.MediaTypeDockerSchema2LayerZstd,
	}
)

// bad is an error about the image itself.
func bad(format string, args ...any) *fail.Error {
	return fail.New(fail.Refused, "image refused: "+format, args...)
}

// checkShape bounds a JSON document before it is decoded into maps: a few
// bytes of JSON cost some hundred of memory.
func checkShape(data []byte, what string, values int) error {
	const maxDepth = 32
	dec := json.NewDecoder(bytes.NewReader(data))
	depth, count := 0, 0
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return bad("its %s is not valid JSON: %v", what, cleanText(err.Error()))
		}
		if count++; count > values {
			return bad("its %s holds more than %d JSON values", what, values)
		}
		switch tok {
		case json.Delim('{'), json.Delim('['):
			if depth++; depth > maxDepth {
				return bad("its %s is nested deeper than %d", what, maxDepth)
			}
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
	if count == 0 {
		return bad("its %s is empty", what)
	}
	return nil
}

// checkDescriptor checks one reference of a document to a blob and returns it
// with nothing else on it than what is used: no URLs, annotations or inline
// data survive.
func checkDescriptor(d ocispec.Descriptor, what string, types []string, max int64) (ocispec.Descriptor, error) {
	if !slices.Contains(types, d.MediaType) {
		return d, bad("%s has media type %q, which is not supported", what, short(d.MediaType)).
			Hint("supported: %s", strings.Join(types, ", "))
	}
	if err := checkDigest(d.Digest); err != nil {
		return d, bad("%s has an invalid digest %q", what, short(string(d.Digest)))
	}
	if d.Size <= 0 {
		return d, bad("%s states a size of %d bytes", what, d.Size)
	}
	if d.Size > max {
		return d, bad("%s states a size of %d bytes; the limit is %d", what, d.Size, max)
	}
	if len(d.URLs) > 0 {
		return d, bad("%s is to be fetched from elsewhere (%d URLs)", what, len(d.URLs))
	}
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, Platform: d.Platform}, nil
}

func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return err
	}
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return digest.ErrDigestUnsupported
	}
	return nil
}

// anyDocument has the fields that tell the kinds of document apart. A blob
// that reads as two kinds is refused (type confusion, GHSA-5j5w-g665-5m35).
type anyDocument struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType"`
	ArtifactType  string               `json:"artifactType"`
	Config        *ocispec.Descriptor  `json:"config"`
	Layers        []ocispec.Descriptor `json:"layers"`
	Manifests     []ocispec.Descriptor `json:"manifests"`
	FSLayers      json.RawMessage      `json:"fsLayers"`
}

func parseDocument(data []byte, what, mediaType string, lim Limits) (anyDocument, error) {
	var doc anyDocument
	if err := checkShape(data, what, lim.Values); err != nil {
		return doc, err
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return doc, bad("its %s cannot be decoded: %v", what, cleanText(err.Error()))
	}
	if len(doc.FSLayers) > 0 || doc.SchemaVersion == 1 {
		return doc, bad("its %s has docker's old schema 1", what).Hint("push the image again with a current tool")
	}
	if doc.MediaType != "" && doc.MediaType != mediaType {
		return doc, bad("its %s says it is %q but was referred to as %q", what, short(doc.MediaType), short(mediaType))
	}
	return doc, nil
}

// parseIndex reads an index and returns its entries as they are; each is
// checked when it is chosen, since indexes may list things not for us.
func parseIndex(data []byte, mediaType string, lim Limits) ([]ocispec.Descriptor, error) {
	doc, err := parseDocument(data, "index", mediaType, lim)
	if err != nil {
		return nil, err
	}
	if doc.Config != nil || doc.Layers != nil {
		return nil, bad("its index is a manifest as well")
	}
	if len(doc.Manifests) == 0 {
		return nil, bad("its index lists no manifest")
	}
	if len(doc.Manifests) > lim.Manifests {
		return nil, bad("its index lists %d manifests; the limit is %d", len(doc.Manifests), lim.Manifests)
	}
	return doc.Manifests, nil
}

// parseManifest reads a manifest: the configuration and the layers, bottom
// first, all within limits.
func parseManifest(data []byte, mediaType string, lim Limits) (config ocispec.Descriptor, layers []ocispec.Descriptor, err error) {
	doc, err := parseDocument(data, "manifest", mediaType, lim)
	if err != nil {
		return config, nil, err
	}
	if doc.Manifests != nil {
		return config, nil, bad("its manifest is an index as well")
	}
	if doc.Config == nil {
		return config, nil, bad("its manifest names no configuration")
	}
	if doc.ArtifactType != "" {
		return config, nil, bad("it is an artifact of type %q, not a container image", short(doc.ArtifactType))
	}
	if config, err = checkDescriptor(*doc.Config, "its configuration", configTypes, lim.Config); err != nil {
		return config, nil, err
	}
	if len(doc.Layers) == 0 {
		return config, nil, bad("it has no layers, so there is no program in it")
	}
	if len(doc.Layers) > lim.Layers {
		return config, nil, bad("it has %d layers; the limit is %d", len(doc.Layers), lim.Layers)
	}
	var sum int64
	for _, d := range doc.Layers {
		d, err := checkDescriptor(d, "a layer", layerTypes, lim.Content)
		if err != nil {
			return config, nil, err
		}
		if sum += d.Size; sum > lim.Content {
			return config, nil, bad("its layers hold more than %d bytes together", lim.Content)
		}
		layers = append(layers, d)
	}
	return config, layers, nil
}

// imageConfig is what this package looks at in a configuration; what a
// container starts from is read by spec.ImageFromConfig.
type imageConfig struct {
	ocispec.Platform
	RootFS struct {
		Type    string          `json:"type"`
		DiffIDs []digest.Digest `json:"diff_ids"`
	} `json:"rootfs"`
	Config struct {
		Env, Entrypoint, Cmd []string
		Volumes              map[string]struct{}
		ExposedPorts         map[string]struct{}
		Labels               map[string]string
	} `json:"config"`
}

// parseConfig reads the configuration of an image with the given number of
// layers.
func parseConfig(data []byte, layers int, lim Limits) (imageConfig, error) {
	var c imageConfig
	if err := checkShape(data, "configuration", lim.Values); err != nil {
		return c, err
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return c, bad("its configuration cannot be decoded: %v", cleanText(err.Error()))
	}
	if c.OS == "" || c.Architecture == "" {
		return c, bad("its configuration does not state operating system and architecture")
	}
	for _, l := range []struct {
		what string
		n    int
	}{
		{"environment variables", len(c.Config.Env)},
		{"entrypoint words", len(c.Config.Entrypoint)},
		{"command words", len(c.Config.Cmd)},
		{"volumes", len(c.Config.Volumes)},
		{"exposed ports", len(c.Config.ExposedPorts)},
		{"labels", len(c.Config.Labels)},
	} {
		if l.n > lim.List {
			return c, bad("its configuration has %d %s; the limit is %d", l.n, l.what, lim.List)
		}
	}
	if c.RootFS.Type != "" && c.RootFS.Type != "layers" {
		return c, bad("its root file system is of type %q, not layers", short(c.RootFS.Type))
	}
	if len(c.RootFS.DiffIDs) != layers {
		return c, bad("its manifest has %d layers and its configuration %d", layers, len(c.RootFS.DiffIDs))
	}
	for _, d := range c.RootFS.DiffIDs {
		if err := checkDigest(d); err != nil {
			return c, bad("its configuration has an invalid layer digest %q", short(string(d)))
		}
	}
	return c, nil
}
