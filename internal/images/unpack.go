package images

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/pkg/rootfs"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// Unpack makes sure that the snapshot img.ChainID exists. Load and Pull have
// done so already; it is needed for images another program fetched, and when
// preparing a snapshot says that the parent is not there. All layers are
// counted against the limits before the first is unpacked.
//
// Errors: NotFound if content is missing, Refused if a limit is broken.
func (s *Store) Unpack(ctx context.Context, img spec.Image, progress Progress) (err error) {
	ctx, release, err := s.hold(ctx)
	if err != nil {
		return err
	}
	defer func() { err = release(err) }()
	info, err := s.Client.ContentStore().Info(ctx, digest.Digest(img.Digest))
	if err != nil {
		if errdefs.IsNotFound(err) {
			return fail.New(fail.NotFound, "the content of image %s is not there", Familiar(img.Name)).
				Hint("pull or load the image again")
		}
		return wrap(fail.Internal, err, "look up the content of image %s", Familiar(img.Name))
	}
	if info.Size > s.Limits.Document {
		return bad("its manifest has %d bytes; the limit is %d", info.Size, s.Limits.Document)
	}
	// A manifest need not state its own media type; then it is OCI's.
	target := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: info.Digest, Size: info.Size}
	get := stored(s.Client.ContentStore())
	data, err := get(ctx, target)
	if err != nil {
		return err
	}
	var stated struct{ MediaType string }
	if json.Unmarshal(data, &stated) == nil && stated.MediaType != "" {
		target.MediaType = stated.MediaType
	}
	if !slices.Contains(manifestTypes, target.MediaType) {
		return bad("%s is %q, not a manifest", target.Digest, short(target.MediaType))
	}
	p, err := makePlan(ctx, get, target, hostPlatform(), s.Limits)
	if err != nil {
		return err
	}
	return s.unpack(ctx, p, progress)
}

func (s *Store) unpack(ctx context.Context, p *plan, progress Progress) error {
	sn := s.Client.SnapshotService(s.Snapshotter)
	chain := p.chainIDs()
	first := len(chain) // the first layer that is missing
	for ; first > 0; first-- {
		_, err := sn.Stat(ctx, chain[first-1].String())
		if err == nil {
			break
		}
		if !errdefs.IsNotFound(err) {
			return wrap(fail.Internal, err, "look up a snapshot")
		}
	}
	if first < len(chain) {
		if err := s.scan(ctx, p, first, progress); err != nil {
			return err
		}
	}
	for i := first; i < len(chain); i++ {
		progress.report("Unpacking", int64(i-first), int64(len(chain)-first))
		layer := rootfs.Layer{
			Diff: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: p.diffIDs[i]},
			Blob: p.layers[i],
		}
		// No snapshot options: labels are never taken from the image.
		below := append([]digest.Digest(nil), p.diffIDs[:i]...)
		if _, err := rootfs.ApplyLayerWithOpts(ctx, layer, below, sn, s.Client.DiffService(), nil, nil); err != nil {
			return wrap(fail.Internal, err, "unpack layer %d of %d", i+1, len(chain))
		}
	}
	return s.link(ctx, p)
}

// link labels the content of the image so that the garbage collector keeps it
// as long as its name exists.
func (s *Store) link(ctx context.Context, p *plan) error {
	cs := s.Client.ContentStore()
	for d, labels := range p.gcLabels(s.Snapshotter) {
		var fields []string
		for k := range labels {
			fields = append(fields, "labels."+k)
		}
		_, err := cs.Update(ctx, content.Info{Digest: d, Labels: labels}, fields...)
		// An image whose content was dropped after unpacking still runs.
		if err != nil && !errdefs.IsNotFound(err) {
			return wrap(fail.Internal, err, "label image content %s", d)
		}
	}
	return nil
}

// scan reads the layers from the first missing one on, two at a time, against
// the limits, their digests and the free space.
func (s *Store) scan(ctx context.Context, p *plan, first int, progress Progress) error {
	var total, done int64
	for _, l := range p.layers[first:] {
		total += l.Size
	}
	var t tally
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	counted := counter{add: progress.adder("Checking", total, &done)}
	for i := first; i < len(p.layers); i++ {
		g.Go(func() error {
			ra, err := s.Client.ContentStore().ReaderAt(gctx, p.layers[i])
			if err != nil {
				if errdefs.IsNotFound(err) {
					return fail.New(fail.NotFound, "layer %s of the image is not there", p.layers[i].Digest).
						Hint("pull or load the image again; an archive may lack it")
				}
				return wrap(fail.Internal, err, "read layer %s", p.layers[i].Digest)
			}
			defer ra.Close()
			if ra.Size() != p.layers[i].Size {
				return bad("layer %s has %d bytes, not the %d stated", p.layers[i].Digest, ra.Size(), p.layers[i].Size)
			}
			blob := counted.reader(io.NewSectionReader(ra, 0, ra.Size()))
			d, err := scanLayer(gctx, blob, ra.Size(), s.Limits, &t)
			if err != nil {
				return err
			}
			if d != p.diffIDs[i] {
				return bad("layer %d unpacks to %s, not to %s as its configuration says", i+1, d, p.diffIDs[i])
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return s.fits(ctx, t.disk.Load(), t.files.Load())
}

// fits checks the free space and inodes below the snapshotter's directory.
func (s *Store) fits(ctx context.Context, bytes, files int64) error {
	dir := s.root(ctx)
	var st unix.Statfs_t
	if dir == "" || unix.Statfs(dir, &st) != nil {
		return nil // a containerd whose disk cannot be seen from here
	}
	free := int64(float64(st.Bavail) * float64(st.Bsize) * s.Limits.FreeShare)
	if bytes > free {
		return fail.New(fail.HostCannot, "the image takes %s and %s has %s left", size(bytes), dir, size(free)).
			Hint("remove images with `safe-run rmi`, or make room in %s", dir)
	}
	// Some file systems count no inodes and say 0 of 0.
	if st.Files > 0 && files > int64(float64(st.Ffree)*s.Limits.FreeShare) {
		return fail.New(fail.HostCannot, "the image has %d files and %s has %d inodes left", files, dir, st.Ffree).
			Hint("remove images with `safe-run rmi`, or make room in %s", dir)
	}
	return nil
}

// root is the snapshotter's directory as containerd tells it, or "".
func (s *Store) root(ctx context.Context) string {
	resp, err := s.Client.IntrospectionService().Plugins(ctx, "type==io.containerd.snapshotter.v1,id=="+s.Snapshotter)
	if err != nil || len(resp.Plugins) != 1 {
		return ""
	}
	return resp.Plugins[0].Exports["root"]
}

func size(n int64) string {
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}
