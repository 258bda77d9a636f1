// Package images finds, fetches, unpacks, lists and removes images in
// containerd. Whatever an image says is hostile until it has been checked
// here: every document is bounded in size and shape, every layer is counted
// before it is unpacked, and nothing an image carries (labels, annotations,
// URLs) becomes a label or an address containerd acts on. What fails leaves no
// record, snapshot or content behind.
package images

import (
	"context"
	"strings"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// Store is containerd's image store as this program uses it. The client must
// have a default namespace, or the context of each call one.
type Store struct {
	Client      *containerd.Client
	Snapshotter string      // unpacks into this one
	CacheDir    string      // root-only directory for parsed images, "" for none
	Limits      Limits      // what an image may cost
	CertsDir    string      // hosts.toml files, as containerd and nerdctl lay them out
	Credentials Credentials // of registries
	Sudo        bool        // the caller is another user: its environment does not choose proxies
}

// New makes a Store with the default limits, the overlayfs snapshotter and the
// mirrors of /etc/containerd/certs.d, without cache or credentials.
func New(c *containerd.Client) *Store {
	return &Store{
		Client: c, Snapshotter: "overlayfs", Limits: DefaultLimits(),
		CertsDir: "/etc/containerd/certs.d",
	}
}

// Resolve finds an image that is already here, and reads its configuration.
// ref is a reference as people type it, or an image id; platform is "" for the
// host's. A name is resolved to a digest by this one look-up: run the result,
// not the name. With a cache a repeated call costs one round trip.
//
// Errors: NotFound if there is no such image, HostCannot if it is for another
// platform, Refused if it breaks a limit.
func (s *Store) Resolve(ctx context.Context, ref, platform string) (spec.Image, error) {
	want, err := parsePlatform(platform)
	if err != nil {
		return spec.Image{}, err
	}
	record, err := s.find(ctx, ref)
	if err != nil {
		return spec.Image{}, err
	}
	key := cacheKey(record.Target, platforms.FormatAll(want))
	if img, ok := readCache(s.CacheDir, key); ok {
		img.Name, img.Target = record.Name, record.Target.Digest.String()
		return img, nil
	}
	p, err := makePlan(ctx, stored(s.Client.ContentStore()), record.Target, want, s.Limits)
	if err != nil {
		return spec.Image{}, err
	}
	writeCache(s.CacheDir, key, p.image)
	p.image.Name, p.image.Target = record.Name, record.Target.Digest.String()
	return p.image, nil
}

// find gives the image record a reference or id means.
func (s *Store) find(ctx context.Context, ref string) (images.Image, error) {
	is := s.Client.ImageService()
	name, nameErr := Normalize(ref)
	if nameErr == nil {
		record, err := is.Get(ctx, name)
		if err == nil {
			return record, checkPinned(record)
		}
		if !errdefs.IsNotFound(err) {
			return images.Image{}, wrap(fail.Internal, err, "look up image %q", name)
		}
		if d := digestOf(name); d != "" {
			return s.findPinned(ctx, name, d.String())
		}
	}
	if !identifier().MatchString(ref) {
		if nameErr != nil {
			return images.Image{}, nameErr
		}
		return images.Image{}, notHere(name)
	}
	found, err := s.byID(ctx, ref)
	if err != nil {
		return images.Image{}, err
	}
	if len(found) == 0 {
		return images.Image{}, notHere(ref)
	}
	return found[0], nil
}

func notHere(name string) error {
	return fail.New(fail.NotFound, "No such image: %s", Familiar(name)).
		Hint("fetch it with `safe-run pull %s`, or read an archive with `safe-run load`", Familiar(name))
}

// checkPinned makes sure that a name with a digest points to that digest,
// whoever wrote the record.
func checkPinned(record images.Image) error {
	if d := digestOf(record.Name); d != "" && d != record.Target.Digest && !strings.HasPrefix(record.Name, untagged) {
		return bad("the record %q points to %s", record.Name, record.Target.Digest)
	}
	return nil
}

// findPinned finds NAME@DIGEST under a tag of the same repository.
func (s *Store) findPinned(ctx context.Context, name, d string) (images.Image, error) {
	records, err := s.Client.ImageService().List(ctx, "target.digest=="+d)
	if err != nil {
		return images.Image{}, wrap(fail.Internal, err, "look up image %q", name)
	}
	for _, r := range records {
		if repositoryOf(r.Name) == repositoryOf(name) && checkPinned(r) == nil {
			r.Name = name
			return r, nil
		}
	}
	return images.Image{}, notHere(name)
}

// byID finds the records of one image by its id, the digest of what names
// point to, which may be shortened. Two images with the same beginning are an
// error.
func (s *Store) byID(ctx context.Context, id string) ([]images.Image, error) {
	id = strings.TrimPrefix(id, "sha256:")
	records, err := s.Client.ImageService().List(ctx, "target.digest~=^sha256:"+id)
	if err != nil {
		return nil, wrap(fail.Internal, err, "look up image id %q", id)
	}
	for _, r := range records {
		if r.Target.Digest != records[0].Target.Digest {
			return nil, fail.New(fail.NotFound, "image id %s is ambiguous", id).Hint("give more digits of it")
		}
	}
	return records, nil
}

// register gives the image its name, or moves the name to it. The record has
// no labels.
func (s *Store) register(ctx context.Context, name string, target ocispec.Descriptor) error {
	is := s.Client.ImageService()
	record := images.Image{Name: name, Target: ocispec.Descriptor{
		MediaType: target.MediaType, Digest: target.Digest, Size: target.Size,
	}}
	// Another process may create or remove the name meanwhile.
	for range 5 {
		_, err := is.Update(ctx, record, "target", "labels")
		if err == nil {
			return nil
		}
		if !errdefs.IsNotFound(err) {
			return wrap(fail.Internal, err, "record image %q", name)
		}
		if _, err = is.Create(ctx, record); err == nil {
			return nil
		}
		if !errdefs.IsAlreadyExists(err) {
			return wrap(fail.Internal, err, "record image %q", name)
		}
	}
	return fail.New(fail.Conflict, "image %q is being changed by another process", name).Hint("try again")
}
