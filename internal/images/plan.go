package images

import (
	"context"
	"fmt"
	"slices"
	"sort"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// plan is an image taken apart for one platform: every document read, checked
// against the limits, and nothing unpacked.
type plan struct {
	target   ocispec.Descriptor // what the name points to
	links    []link             // indexes on the way to the manifest, outermost first
	manifest ocispec.Descriptor
	config   ocispec.Descriptor
	layers   []ocispec.Descriptor
	diffIDs  []digest.Digest
	image    spec.Image // without Name
}

// link is a reference from an index to the entry that was chosen.
type link struct {
	from  digest.Digest
	index int // position of the entry
	to    digest.Digest
}

// chainIDs are the snapshot keys of the layers, bottom first.
func (p *plan) chainIDs() []digest.Digest {
	return identity.ChainIDs(slices.Clone(p.diffIDs))
}

// getter gives the bytes of a small blob, at most d.Size of them.
type getter func(ctx context.Context, d ocispec.Descriptor) ([]byte, error)

// stored reads blobs from the content store.
func stored(cs content.Provider) getter {
	return func(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
		ra, err := cs.ReaderAt(ctx, d)
		if err != nil {
			if errdefs.IsNotFound(err) {
				return nil, fail.New(fail.NotFound, "image content %s is not there", d.Digest).
					Hint("pull or load the image again")
			}
			return nil, wrap(fail.Internal, err, "read image content %s", d.Digest)
		}
		defer ra.Close()
		if ra.Size() != d.Size {
			return nil, bad("%s has %d bytes, not the %d stated", d.Digest, ra.Size(), d.Size)
		}
		data := make([]byte, d.Size)
		if n, err := ra.ReadAt(data, 0); n != len(data) {
			return nil, wrap(fail.Internal, err, "read image content %s", d.Digest)
		}
		if d.Digest.Algorithm().FromBytes(data) != d.Digest {
			return nil, bad("the stored bytes of %s have another digest", d.Digest)
		}
		return data, nil
	}
}

// makePlan reads what target points to, down to the configuration for the
// platform.
func makePlan(ctx context.Context, get getter, target ocispec.Descriptor, want ocispec.Platform, lim Limits) (*plan, error) {
	p := &plan{}
	var err error
	if p.target, err = checkDescriptor(target, "the image", slices.Concat(manifestTypes, indexTypes), lim.Document); err != nil {
		return nil, err
	}
	if err := p.descend(ctx, get, p.target, want, lim, 0); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *plan) descend(ctx context.Context, get getter, d ocispec.Descriptor, want ocispec.Platform, lim Limits, depth int) error {
	data, err := get(ctx, d)
	if err != nil {
		return err
	}
	if slices.Contains(manifestTypes, d.MediaType) {
		return p.readManifest(ctx, get, d, data, want, lim)
	}
	if depth >= lim.Depth {
		return bad("its indexes are nested deeper than %d", lim.Depth)
	}
	entries, err := parseIndex(data, d.MediaType, lim)
	if err != nil {
		return err
	}
	i, err := choose(entries, want)
	if err != nil {
		return err
	}
	next, err := checkDescriptor(entries[i], "an entry of its index", slices.Concat(manifestTypes, indexTypes), lim.Document)
	if err != nil {
		return err
	}
	p.links = append(p.links, link{from: d.Digest, index: i, to: next.Digest})
	return p.descend(ctx, get, next, want, lim, depth+1)
}

// choose picks the entry of an index for a platform: the best that states a
// fitting one, else the only one that states none.
func choose(entries []ocispec.Descriptor, want ocispec.Platform) (int, error) {
	matcher := platforms.Only(want)
	var fits, silent []int
	var offered []string
	for i, e := range entries {
		switch {
		case e.Platform == nil:
			silent = append(silent, i)
		case matcher.Match(*e.Platform):
			fits = append(fits, i)
		case e.Platform.OS != "unknown" && len(offered) < 12: // unknown: attestations
			offered = append(offered, formatPlatform(*e.Platform))
		}
	}
	if len(fits) > 0 {
		sort.SliceStable(fits, func(a, b int) bool {
			return matcher.Less(*entries[fits[a]].Platform, *entries[fits[b]].Platform)
		})
		return fits[0], nil
	}
	if len(silent) == 1 {
		return silent[0], nil
	}
	if len(silent) > 1 {
		return 0, bad("its index has %d entries that state no platform, and none for %s", len(silent), formatPlatform(want))
	}
	return 0, fail.New(fail.HostCannot, "the image is not built for %s, only for %q", formatPlatform(want), offered).
		Hint("use an image built for %s; emulation of other architectures is not offered", formatPlatform(want))
}

func (p *plan) readManifest(ctx context.Context, get getter, d ocispec.Descriptor, data []byte, want ocispec.Platform, lim Limits) error {
	config, layers, err := parseManifest(data, d.MediaType, lim)
	if err != nil {
		return err
	}
	configJSON, err := get(ctx, config)
	if err != nil {
		return err
	}
	c, err := parseConfig(configJSON, len(layers), lim)
	if err != nil {
		return err
	}
	is := platforms.Normalize(c.Platform)
	if err := canRun(is, "the image"); err != nil {
		return err
	}
	if !platforms.Only(want).Match(is) {
		return fail.New(fail.HostCannot, "the image is %s, not %s as asked for", formatPlatform(is), formatPlatform(want))
	}
	p.manifest, p.config, p.layers, p.diffIDs = d, config, layers, c.RootFS.DiffIDs
	p.manifest.Platform = nil
	if p.image, err = spec.ImageFromConfig(configJSON); err != nil {
		return err
	}
	p.image.Digest = d.Digest.String()
	p.image.ChainID = identity.ChainID(p.diffIDs).String()
	return nil
}

// gcLabels are the references containerd's garbage collector follows, made by
// us from checked documents. Labels and annotations of the image itself never
// become labels of content, snapshots or image records: containerd acts on
// those (CVE-2026-53488; containerd.io/snapshot/* annotations of a layer reach
// the snapshotter in containerd's own unpacker).
func (p *plan) gcLabels(snapshotter string) map[digest.Digest]map[string]string {
	labels := map[digest.Digest]map[string]string{}
	for _, l := range p.links {
		labels[l.from] = map[string]string{fmt.Sprintf("containerd.io/gc.ref.content.m.%d", l.index): l.to.String()}
	}
	m := map[string]string{"containerd.io/gc.ref.content.config": p.config.Digest.String()}
	for i, l := range p.layers {
		m[fmt.Sprintf("containerd.io/gc.ref.content.l.%d", i)] = l.Digest.String()
	}
	labels[p.manifest.Digest] = m
	labels[p.config.Digest] = map[string]string{"containerd.io/gc.ref.snapshot." + snapshotter: p.image.ChainID}
	return labels
}
