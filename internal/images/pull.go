package images

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// parallelDownloads is docker's number.
const parallelDownloads = 3

// Pull fetches an image from its registry, checks it, unpacks it and gives it
// its name. The registry is asked once what the tag points to; all else goes
// by digest. Nothing is left behind on an error.
//
// Errors: NotFound if the registry has no such image or wants credentials,
// HostCannot if it is not built for the platform or does not fit the disk,
// Refused if it breaks a limit, Interrupted if ctx ended.
func (s *Store) Pull(ctx context.Context, ref, platform string, progress Progress) (img spec.Image, err error) {
	name, err := Normalize(ref)
	if err != nil {
		return img, err
	}
	want, err := parsePlatform(platform)
	if err != nil {
		return img, err
	}
	ctx, release, err := s.hold(ctx)
	if err != nil {
		return img, err
	}
	defer func() { err = release(err) }()

	resolver := s.resolver(ctx)
	_, target, err := resolver.Resolve(ctx, name)
	if err != nil {
		return img, pullError(err, name)
	}
	if d := digestOf(name); d != "" && d != target.Digest {
		return img, bad("the registry answered %s for %s", target.Digest, name)
	}
	fetcher, err := resolver.Fetcher(ctx, name)
	if err != nil {
		return img, pullError(err, name)
	}
	p, err := makePlan(ctx, s.fetched(fetcher, name), target, want, s.Limits)
	if err != nil {
		return img, err
	}
	if err = s.fetchLayers(ctx, fetcher, name, p, progress); err != nil {
		return img, err
	}
	if err = s.unpack(ctx, p, progress); err != nil {
		return img, err
	}
	if err = s.register(ctx, name, p.target); err != nil {
		return img, err
	}
	img = p.image
	img.Name, img.Target = name, p.target.Digest.String()
	return img, nil
}

// fetched reads small blobs from a registry into the content store, which
// verifies size and digest.
func (s *Store) fetched(f remotes.Fetcher, name string) getter {
	read := stored(s.Client.ContentStore())
	return func(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
		if err := s.fetch(ctx, f, d); err != nil {
			return nil, pullError(err, name)
		}
		return read(ctx, d)
	}
}

// fetch puts one blob into the content store. Registries and the machines
// between are cut off after the stated size.
func (s *Store) fetch(ctx context.Context, f remotes.Fetcher, d ocispec.Descriptor) error {
	err := remotes.Fetch(ctx, s.Client.ContentStore(), f, d)
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func (s *Store) fetchLayers(ctx context.Context, f remotes.Fetcher, name string, p *plan, progress Progress) error {
	var total, done int64
	for _, l := range p.layers {
		total += l.Size
	}
	if err := s.fits(ctx, total, 0); err != nil {
		return err
	}
	c := counter{add: progress.adder("Downloading", total, &done)}
	counted := remotes.FetcherFunc(func(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
		rc, err := f.Fetch(ctx, d)
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{c.reader(rc), rc}, nil
	})
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelDownloads)
	seen := sync.Map{} // an image may list the same layer twice
	for _, l := range p.layers {
		if _, twice := seen.LoadOrStore(l.Digest, true); twice {
			continue
		}
		g.Go(func() error { return s.fetch(gctx, counted, l) })
	}
	return pullError(g.Wait(), name)
}

// pullError says what a failed request to a registry means for the user.
func pullError(err error, name string) error {
	if err == nil {
		return nil
	}
	var known *fail.Error
	if errors.As(err, &known) {
		return known
	}
	short := Familiar(name)
	var status remoteerrors.ErrUnexpectedStatus
	denied := errors.Is(err, docker.ErrInvalidAuthorization) ||
		errors.As(err, &status) && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden)
	switch {
	case denied:
		return (&fail.Error{Kind: fail.NotFound, Msg: "pull of " + short + " was denied: there is no such image, or it needs a login", Err: cleanError{err}}).
			Hint("check the name, or log in with `docker login`: its config.json is used")
	case errdefs.IsNotFound(err):
		return (&fail.Error{Kind: fail.NotFound, Msg: "the registry has no image " + short, Err: cleanError{err}}).
			Hint("check name and tag; a local archive is read with `safe-run load`")
	case errdefs.IsFailedPrecondition(err), errors.Is(err, io.ErrUnexpectedEOF):
		return fail.Wrap(fail.Refused, cleanError{err}, "image refused: %s is not what its digest and size say", short)
	}
	return wrap(fail.Internal, err, "pull %s", short)
}
