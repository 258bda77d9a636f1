package images

import (
	"archive/tar"
	"context"
	"encoding/json"
	"io"
	"path"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/safe-run/safe-run/internal/fail"
)

// Save writes images into an archive as that of `docker save`: an OCI image
// layout with docker's manifest.json beside it. Of an image for several
// platforms the one for platform is written ("" is the host's), because only
// that is kept here. An image given by id comes without a name.
//
// Errors: NotFound if there is no such image, Refused if what is stored breaks
// a limit or has another digest.
func (s *Store) Save(ctx context.Context, w io.Writer, platform string, refs ...string) error {
	want, err := parsePlatform(platform)
	if err != nil {
		return err
	}
	a := saver{store: s, ctx: ctx, tar: tar.NewWriter(w), written: map[digest.Digest]bool{}}
	a.index = ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	// All are looked up first, so that a name that is wrong costs nothing.
	var plans []*plan
	var names []string
	for _, ref := range refs {
		r, err := s.find(ctx, ref)
		if err != nil {
			return err
		}
		p, err := makePlan(ctx, stored(s.Client.ContentStore()), r.Target, want, s.Limits)
		if err != nil {
			return err
		}
		name := ""
		if n, err := Normalize(ref); err == nil && n == r.Name {
			name = n
		}
		plans, names = append(plans, p), append(names, name)
	}
	for i, p := range plans {
		if err := a.image(p, names[i]); err != nil {
			return err
		}
	}
	if err := a.documents(); err != nil {
		return err
	}
	return fail.Wrap(fail.HostCannot, a.tar.Close(), "write the archive")
}

type saver struct {
	store   *Store
	ctx     context.Context
	tar     *tar.Writer
	written map[digest.Digest]bool
	index   ocispec.Index
	docker  []dockerImage
}

// dockerImage is an entry of manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func blobPath(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

func (a *saver) image(p *plan, name string) error {
	entry := dockerImage{Config: blobPath(p.config.Digest)}
	blobs := append([]ocispec.Descriptor{p.manifest, p.config}, p.layers...)
	for _, l := range p.layers {
		entry.Layers = append(entry.Layers, blobPath(l.Digest))
	}
	for _, d := range blobs {
		if err := a.blob(d); err != nil {
			return err
		}
	}
	target := ocispec.Descriptor{MediaType: p.manifest.MediaType, Digest: p.manifest.Digest, Size: p.manifest.Size}
	if named, err := reference.ParseNormalizedNamed(name); name != "" && err == nil {
		target.Annotations = map[string]string{images.AnnotationImageName: name}
		if t, ok := named.(reference.Tagged); ok {
			target.Annotations[ocispec.AnnotationRefName] = t.Tag()
			entry.RepoTags = []string{reference.FamiliarString(named)}
		}
	}
	a.index.Manifests = append(a.index.Manifests, target)
	for i, e := range a.docker {
		if e.Config == entry.Config { // one image with several names
			a.docker[i].RepoTags = append(e.RepoTags, entry.RepoTags...)
			return nil
		}
	}
	a.docker = append(a.docker, entry)
	return nil
}

func (a *saver) blob(d ocispec.Descriptor) error {
	if a.written[d.Digest] {
		return nil
	}
	a.written[d.Digest] = true
	ra, err := a.store.Client.ContentStore().ReaderAt(a.ctx, d)
	if err != nil {
		return wrap(fail.Internal, err, "read image content %s", d.Digest)
	}
	defer ra.Close()
	if ra.Size() != d.Size {
		return bad("%s has %d bytes, not the %d stated", d.Digest, ra.Size(), d.Size)
	}
	if err := a.header(blobPath(d.Digest), d.Size); err != nil {
		return err
	}
	verify := d.Digest.Verifier()
	r := &contextReader{a.ctx, io.TeeReader(content.NewReader(ra), verify)}
	if _, err := io.Copy(a.tar, r); err != nil {
		return wrap(fail.HostCannot, err, "write the archive")
	}
	if !verify.Verified() {
		return bad("the stored bytes of %s have another digest", d.Digest)
	}
	return nil
}

func (a *saver) header(name string, size int64) error {
	err := a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, Format: tar.FormatPAX})
	return fail.Wrap(fail.HostCannot, err, "write the archive")
}

func (a *saver) documents() error {
	for _, d := range []struct {
		name  string
		value any
	}{
		{ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}},
		{ocispec.ImageIndexFile, a.index},
		{"manifest.json", a.docker},
	} {
		b, err := json.Marshal(d.value)
		if err != nil {
			return fail.Wrap(fail.Internal, err, "write the archive")
		}
		if err := a.header(d.name, int64(len(b))); err != nil {
			return err
		}
		if _, err := io.Copy(a.tar, strings.NewReader(string(b))); err != nil {
			return fail.Wrap(fail.HostCannot, err, "write the archive")
		}
	}
	return nil
}
