package images

import (
	"context"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"

	"github.com/safe-run/safe-run/internal/fail"
)

// Use is a container that was made from an image.
type Use struct {
	Container string // id
	Image     string // name the image was found by, as containerd has it
	Digest    string // of the manifest
	Running   bool
}

// Of says whether the container was made from e.
func (u Use) Of(e Entry) bool { return u.Image == e.Name || u.is(e.Digest, e.ID) }

func (u Use) is(digests ...string) bool {
	for _, d := range digests {
		if d != "" && d == u.Digest {
			return true
		}
	}
	return false
}

// Removable says whether what ref means can be removed without taking the
// image from a container: a name can go while another one is left. Unless
// forced, a container that has ended keeps its image too; one that runs always
// does. The error is of kind Conflict then, with docker's words.
func (s *Store) Removable(ctx context.Context, force bool, uses []Use, ref string) error {
	doomed, err := s.toRemove(ctx, ref, force)
	if err != nil {
		return err
	}
	for _, r := range doomed {
		left, err := s.byID(ctx, r.Target.Digest.Encoded())
		if err != nil {
			return err
		}
		if len(left) > len(doomed) {
			return nil
		}
		digest := r.Target.Digest.String()
		if p, err := makePlan(ctx, stored(s.Client.ContentStore()), r.Target, hostPlatform(), s.Limits); err == nil {
			digest = p.image.Digest
		}
		for _, u := range uses {
			if u.Image != r.Name && !u.is(digest, r.Target.Digest.String()) {
				continue
			}
			switch name := cleanText(Familiar(r.Name)); {
			case u.Running:
				return fail.New(fail.Conflict, "conflict: unable to delete %s (cannot be forced) - image is being used by running container %.12s", name, u.Container).
					Hint("stop and remove the container first")
			case !force:
				return fail.New(fail.Conflict, "conflict: unable to remove repository reference %q (must force) - container %.12s is using its referenced image %.12s",
					name, u.Container, r.Target.Digest.Encoded()).Hint("remove the container first, or say --force")
			}
		}
	}
	return nil
}

// Untag removes a name exactly as containerd has it, and gives the lines that
// Remove does. It is no error if the name is gone.
func (s *Store) Untag(ctx context.Context, name string) ([]string, error) {
	r, err := s.Client.ImageService().Get(ctx, name)
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, wrap(fail.Internal, err, "look up image %q", name)
	}
	return s.untag(ctx, r)
}

func (s *Store) untag(ctx context.Context, r images.Image) (lines []string, err error) {
	is := s.Client.ImageService()
	err = is.Delete(ctx, r.Name, images.SynchronousDelete(), images.DeleteTarget(&r.Target))
	if err != nil && !errdefs.IsNotFound(err) {
		return nil, wrap(fail.Internal, err, "remove image %s", Familiar(r.Name))
	}
	if !strings.HasPrefix(r.Name, untagged) {
		lines = append(lines, "Untagged: "+cleanText(Familiar(r.Name)))
	}
	left, err := is.List(ctx, "target.digest=="+r.Target.Digest.String())
	if err != nil {
		return lines, wrap(fail.Internal, err, "list images")
	}
	if len(left) == 0 {
		lines = append(lines, "Deleted: "+r.Target.Digest.String())
	}
	return lines, nil
}

// Dangling says whether an image has no name.
func (e Entry) Dangling() bool { return strings.HasPrefix(e.Name, untagged) }

// Tag gives the image src means another name. A name that stood for another
// image moves.
//
// Errors: NotFound if there is no src, Usage if dst is no name for an image.
func (s *Store) Tag(ctx context.Context, src, dst string) error {
	name, err := Normalize(dst)
	if err != nil {
		return err
	}
	if digestOf(name) != "" {
		return fail.New(fail.Usage, "refusing to create a tag with a digest reference").Hint("name it NAME:TAG")
	}
	r, err := s.find(ctx, src)
	if err != nil {
		return err
	}
	if err := s.register(ctx, name, r.Target); err != nil {
		return err
	}
	if strings.HasPrefix(r.Name, untagged) { // it has a name now
		_, err = s.Untag(ctx, r.Name)
	}
	return err
}

// Disk gives the bytes containerd keeps: images as they are stored, and
// unpacked.
func (s *Store) Disk(ctx context.Context) (stored, unpacked int64, err error) {
	err = s.Client.ContentStore().Walk(ctx, func(i content.Info) error {
		stored += i.Size
		return nil
	})
	if err != nil {
		return 0, 0, wrap(fail.Internal, err, "measure images")
	}
	sn := s.Client.SnapshotService(s.Snapshotter)
	err = sn.Walk(ctx, func(ctx context.Context, i snapshots.Info) error {
		if i.Kind != snapshots.KindCommitted {
			return nil
		}
		if u, err := sn.Usage(ctx, i.Name); err == nil {
			unpacked += u.Size
		}
		return nil
	})
	return stored, unpacked, wrap(fail.Internal, err, "measure images")
}

// Written gives the bytes a container has written into its own root file
// system, 0 if it has none.
func (s *Store) Written(ctx context.Context, id string) int64 {
	u, err := s.Client.SnapshotService(s.Snapshotter).Usage(ctx, id)
	if err != nil {
		return 0
	}
	return u.Size
}
