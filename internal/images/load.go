package images

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/safe-run/safe-run/internal/fail"
)

// untagged begins the record names of loaded images without a name. It is no
// valid reference, so no name can collide with it.
const untagged = "untagged@"

// maxImages bounds the images and names in one archive.
const maxImages = 256

// Load reads an archive of `docker save` or an OCI image layout in a tar, plain
// or compressed with gzip or zstd, and takes over the images in it that are for
// the platform: checked, unpacked and named. It returns the lines docker
// prints, "Loaded image: NAME". Either all images are loaded or none.
//
// Errors: Refused if the archive or an image breaks a limit or is not what its
// digests say, HostCannot if an image is not built for the platform or does
// not fit the disk, Interrupted if ctx ended.
func (s *Store) Load(ctx context.Context, r io.Reader, platform string, progress Progress) (lines []string, err error) {
	want, err := parsePlatform(platform)
	if err != nil {
		return nil, err
	}
	ctx, release, err := s.hold(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = release(err) }()

	var read int64
	packed := &tapped{r: counter{add: progress.adder("Loading", -1, &read)}.reader(r)}
	plain, closePlain, err := decompress(packed)
	if err != nil {
		return nil, wrap(fail.Refused, err, "archive refused: it cannot be read")
	}
	defer closePlain()
	plain = &honest{r: plain, packed: packed, lim: s.Limits}
	a := archive{store: s, blobs: map[string]blob{}, links: map[string]string{}}
	if err := a.read(ctx, plain); err != nil {
		return nil, err
	}
	found, err := a.images(ctx, want)
	if err != nil {
		return nil, err
	}
	plans := make([]*plan, len(found))
	for i, f := range found {
		if plans[i], err = makePlan(ctx, stored(s.Client.ContentStore()), f.target, want, s.Limits); err != nil {
			return nil, err
		}
	}
	for _, p := range plans {
		if err := s.unpack(ctx, p, progress); err != nil {
			return nil, err
		}
	}
	for i, f := range found {
		name, line := f.name, "Loaded image: "+Familiar(f.name)
		if name == "" {
			name, line = untagged+f.target.Digest.String(), "Loaded image ID: "+f.target.Digest.String()
		}
		if err := s.register(ctx, name, plans[i].target); err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// tapped counts what was read of the archive as it is stored.
type tapped struct {
	r io.Reader
	n int64
}

func (t *tapped) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.n += int64(n)
	return n, err
}

// honest ends an archive that turns out larger than its bytes can honestly
// hold: what is in it is written to disk before it is known for an image.
type honest struct {
	r      io.Reader
	packed *tapped
	n      int64
	lim    Limits
}

func (h *honest) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.n += int64(n)
	if h.n > h.lim.RatioFloor && h.n/h.lim.Ratio > h.packed.n {
		return 0, badArchive("it unpacks to more than %d times its size", h.lim.Ratio)
	}
	return n, err
}

// blob is a file of the archive that went into the content store.
type blob struct {
	digest digest.Digest
	size   int64
	head   []byte // first bytes, to tell the compression
}

type archive struct {
	store    *Store
	blobs    map[string]blob
	links    map[string]string // old docker archives link layers that repeat
	index    []byte            // index.json
	manifest []byte            // manifest.json
	layout   []byte            // oci-layout
	total    int64
}

func badArchive(format string, args ...any) *fail.Error {
	return fail.New(fail.Refused, "archive refused: "+format, args...)
}

// read takes the archive apart. File names mean nothing here: blobs are kept
// under the digest of their bytes, in the content store.
func (a *archive) read(ctx context.Context, r io.Reader) error {
	tr := tar.NewReader(r)
	lim := a.store.Limits
	for n := 0; ; n++ {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return wrap(fail.Refused, err, "archive refused: it is not a valid tar")
		}
		if n >= lim.Archive {
			return badArchive("it holds more than %d files", lim.Archive)
		}
		name := path.Clean(h.Name)
		if len(name) > 1024 {
			return badArchive("it holds a name of %d bytes", len(name))
		}
		switch h.Typeflag {
		case tar.TypeReg:
			if err := a.file(ctx, name, h, tr, n); err != nil {
				return err
			}
		case tar.TypeSymlink, tar.TypeLink:
			target := h.Linkname
			if h.Typeflag == tar.TypeSymlink {
				target = path.Join(path.Dir(name), target)
			}
			a.links[name] = path.Clean(target)
		case tar.TypeDir, tar.TypeXGlobalHeader:
		default:
			return badArchive("%q is neither file, directory nor link", name)
		}
	}
	if a.index == nil && a.manifest == nil {
		return badArchive("it holds neither index.json nor manifest.json").
			Hint("want an archive of `docker save`, or an OCI image layout in a tar")
	}
	return nil
}

func (a *archive) file(ctx context.Context, name string, h *tar.Header, r io.Reader, n int) error {
	lim := a.store.Limits
	documents := map[string]*[]byte{
		ocispec.ImageLayoutFile: &a.layout, ocispec.ImageIndexFile: &a.index, "manifest.json": &a.manifest,
	}
	if doc, ok := documents[name]; ok {
		if h.Size > lim.Document {
			return badArchive("its %s has %d bytes; the limit is %d", name, h.Size, lim.Document)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return wrap(fail.Refused, err, "archive refused: %s cannot be read", name)
		}
		*doc = data
		return nil
	}
	for k := range h.PAXRecords {
		if len(k) > 10 && k[:10] == "GNU.sparse" {
			return badArchive("%q is a sparse file", name)
		}
	}
	if h.Size == 0 {
		return nil
	}
	if a.total += h.Size; h.Size < 0 || a.total > lim.Content {
		return badArchive("its files hold more than %d bytes", lim.Content)
	}
	if err := a.store.fits(ctx, h.Size, 0); err != nil {
		return err
	}
	b, err := a.store.ingest(ctx, r, h.Size, n)
	if err != nil {
		return err
	}
	a.blobs[name] = b
	return nil
}

// ingest writes a stream into the content store, under the digest it turns
// out to have. The upload's name is our own: a name taken from the archive
// would resume what another archive left half done.
func (s *Store) ingest(ctx context.Context, r io.Reader, size int64, n int) (blob, error) {
	lease, _ := leases.FromContext(ctx)
	sum := digest.Canonical.Digester()
	head := &headWriter{max: 8}
	r = io.TeeReader(&contextReader{ctx, r}, io.MultiWriter(sum.Hash(), head))
	ref := fmt.Sprintf("safe-run-load-%s-%d", lease, n)
	err := content.WriteBlob(ctx, s.Client.ContentStore(), ref, r, ocispec.Descriptor{Size: size})
	if err != nil {
		_ = s.Client.ContentStore().Abort(context.WithoutCancel(ctx), ref)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return blob{}, badArchive("it ends early")
		}
		return blob{}, wrap(fail.Internal, err, "store a file of the archive")
	}
	return blob{digest: sum.Digest(), size: size, head: head.b}, nil
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

type headWriter struct {
	b   []byte
	max int
}

func (h *headWriter) Write(p []byte) (int, error) {
	if n := h.max - len(h.b); n > 0 {
		h.b = append(h.b, p[:min(n, len(p))]...)
	}
	return len(p), nil
}

// named is an image an archive offers.
type named struct {
	name   string // normalised, "" for none
	target ocispec.Descriptor
}

// images lists what the archive offers for the platform. An OCI layout is
// preferred: docker writes both since version 25.
func (a *archive) images(ctx context.Context, want ocispec.Platform) ([]named, error) {
	if a.layout != nil && a.index != nil {
		return a.ociImages(ctx, want)
	}
	if a.manifest == nil {
		return nil, badArchive("it has an index.json but no oci-layout file")
	}
	return a.dockerImages(ctx)
}

func (a *archive) ociImages(ctx context.Context, want ocispec.Platform) ([]named, error) {
	var layout ocispec.ImageLayout
	if json.Unmarshal(a.layout, &layout) != nil || layout.Version != ocispec.ImageLayoutVersion {
		return nil, badArchive("its oci-layout is not of version %s", ocispec.ImageLayoutVersion)
	}
	entries, err := parseIndex(a.index, ocispec.MediaTypeImageIndex, a.store.Limits)
	if err != nil {
		return nil, err
	}
	var found []named
	var foreign error
	for _, e := range entries {
		if _, ok := e.Annotations[images.AnnotationManifestSubject]; ok {
			continue // a signature or attestation of another entry
		}
		if e.Platform != nil && (e.Platform.OS == "unknown" || !platforms.Only(want).Match(*e.Platform)) {
			_, foreign = choose([]ocispec.Descriptor{e}, want)
			continue
		}
		target, err := checkDescriptor(e, "an image of the archive", slices.Concat(manifestTypes, indexTypes), a.store.Limits.Document)
		if err != nil {
			return nil, err
		}
		target.Platform = nil
		name := e.Annotations[images.AnnotationImageName]
		if name == "" {
			name = e.Annotations[ocispec.AnnotationRefName]
		}
		if found, err = add(found, name, target); err != nil {
			return nil, err
		}
	}
	if len(found) == 0 && foreign != nil {
		return nil, foreign
	}
	if len(found) == 0 {
		return nil, badArchive("it holds no image")
	}
	return found, ctx.Err()
}

func add(found []named, name string, target ocispec.Descriptor) ([]named, error) {
	if len(found) >= maxImages {
		return nil, badArchive("it holds more than %d images", maxImages)
	}
	if name != "" {
		normal, err := Normalize(name)
		if err != nil {
			return nil, badArchive("it names an image %q, which is no valid reference", short(name))
		}
		if d := digestOf(normal); d != "" && d != target.Digest {
			return nil, badArchive("it names %s as %q", target.Digest, normal)
		}
		name = normal
	}
	return append(found, named{name, target}), nil
}

// dockerImages makes the manifests an archive of docker save lacks.
func (a *archive) dockerImages(ctx context.Context) ([]named, error) {
	lim := a.store.Limits
	if err := checkShape(a.manifest, "manifest.json", lim.Values); err != nil {
		return nil, err
	}
	var entries []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(a.manifest, &entries); err != nil {
		return nil, badArchive("its manifest.json cannot be decoded: %v", cleanText(err.Error()))
	}
	if len(entries) == 0 {
		return nil, badArchive("it holds no image")
	}
	var found []named
	for _, e := range entries {
		if len(e.Layers) > lim.Layers {
			return nil, bad("it has %d layers; the limit is %d", len(e.Layers), lim.Layers)
		}
		m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: images.MediaTypeDockerSchema2Manifest}
		config, err := a.blob(e.Config, "configuration")
		if err != nil {
			return nil, err
		}
		m.Config = ocispec.Descriptor{MediaType: images.MediaTypeDockerSchema2Config, Digest: config.digest, Size: config.size}
		for _, l := range e.Layers {
			b, err := a.blob(l, "layer")
			if err != nil {
				return nil, err
			}
			m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: layerType(b.head), Digest: b.digest, Size: b.size})
		}
		target, err := a.store.putManifest(ctx, m)
		if err != nil {
			return nil, err
		}
		if len(e.RepoTags) == 0 {
			e.RepoTags = []string{""}
		}
		for _, tag := range e.RepoTags {
			if found, err = add(found, tag, target); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

func (a *archive) blob(name, what string) (blob, error) {
	name = path.Clean(name)
	if to, ok := a.links[name]; ok {
		name = to
	}
	b, ok := a.blobs[name]
	if !ok {
		return b, badArchive("the %s %q its manifest.json names is not in it", what, short(name))
	}
	return b, nil
}

func layerType(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return images.MediaTypeDockerSchema2LayerGzip
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return images.MediaTypeDockerSchema2LayerZstd
	}
	return images.MediaTypeDockerSchema2Layer
}

func (s *Store) putManifest(ctx context.Context, m ocispec.Manifest) (ocispec.Descriptor, error) {
	data, err := json.Marshal(m)
	if err != nil {
		return ocispec.Descriptor{}, wrap(fail.Internal, err, "write a manifest")
	}
	d := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	err = content.WriteBlob(ctx, s.Client.ContentStore(), "safe-run-manifest-"+d.Digest.String(), bytes.NewReader(data), d)
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return d, wrap(fail.Internal, err, "store a manifest")
	}
	return d, nil
}
