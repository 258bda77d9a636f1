package images

import (
	"context"
	"fmt"
	"sort"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"

	"github.com/safe-run/safe-run/internal/fail"
)

// Entry is one line of `images`.
type Entry struct {
	Name       string // as containerd has it
	Repository string // familiar, "<none>" if there is none
	Tag        string // "<none>" for an image known by digest only
	ID         string // digest of what the name points to
	Digest     string // digest of the manifest for this host, "" if unknown
	Created    time.Time
	Labels     map[string]string // the image's own, as it wrote them
	Content    int64             // bytes of the layers as stored
	Unpacked   int64             // bytes of the snapshots, as the snapshotter counts them
	Problem    string
}

// List gives all images, by name. What cannot be read for this host (another
// platform, missing content) is listed with its Problem.
func (s *Store) List(ctx context.Context) ([]Entry, error) {
	records, err := s.Client.ImageService().List(ctx)
	if err != nil {
		return nil, wrap(fail.Internal, err, "list images")
	}
	get := stored(s.Client.ContentStore())
	sn := s.Client.SnapshotService(s.Snapshotter)
	var list []Entry
	for _, r := range records {
		e := Entry{Name: cleanText(r.Name), ID: r.Target.Digest.String()}
		e.Repository, e.Tag = splitName(r.Name)
		p, err := makePlan(ctx, get, r.Target, hostPlatform(), s.Limits)
		if err != nil {
			if ctx.Err() != nil {
				return nil, wrap(fail.Internal, ctx.Err(), "list images")
			}
			e.Problem = err.Error()
			list = append(list, e)
			continue
		}
		e.Digest, e.Created, e.Labels = p.image.Digest, p.image.Created, p.image.Labels
		for _, l := range p.layers {
			e.Content += l.Size
		}
		for _, c := range p.chainIDs() {
			if u, err := sn.Usage(ctx, c.String()); err == nil {
				e.Unpacked += u.Size
			}
		}
		list = append(list, e)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list, nil
}

func splitName(name string) (repository, tag string) {
	const none = "<none>"
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return none, none
	}
	repository, tag = reference.FamiliarName(named), none
	if t, ok := named.(reference.Tagged); ok {
		tag = t.Tag()
	}
	return repository, tag
}

// Remove takes away the names given, or all names of an image given by id, and
// returns the lines docker prints: "Untagged: NAME", and "Deleted: DIGEST" when
// the last name went and with it the content. Unless forced, a name a container
// was started by, and an id with several names, are kept and an error of kind
// Conflict; nothing at all is removed then.
func (s *Store) Remove(ctx context.Context, force bool, refs ...string) ([]string, error) {
	var doomed []images.Image
	seen := map[string]bool{}
	for _, ref := range refs {
		records, err := s.toRemove(ctx, ref, force)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			if !seen[r.Name] {
				seen[r.Name] = true
				doomed = append(doomed, r)
			}
		}
	}
	if !force {
		if err := s.unused(ctx, seen); err != nil {
			return nil, err
		}
	}
	var lines []string
	for _, r := range doomed {
		more, err := s.untag(ctx, r)
		lines = append(lines, more...)
		if err != nil {
			return lines, err
		}
	}
	return lines, nil
}

func (s *Store) toRemove(ctx context.Context, ref string, force bool) ([]images.Image, error) {
	if name, err := Normalize(ref); err == nil {
		r, err := s.Client.ImageService().Get(ctx, name)
		if err == nil {
			return []images.Image{r}, nil
		}
		if !errdefs.IsNotFound(err) {
			return nil, wrap(fail.Internal, err, "look up image %q", name)
		}
	}
	if !identifier().MatchString(ref) {
		return nil, fail.New(fail.NotFound, "No such image: %s", cleanText(ref)).
			Hint("`safe-run images` lists what there is")
	}
	records, err := s.byID(ctx, ref)
	if err != nil {
		return nil, err
	}
	if len(records) == 0 {
		return nil, fail.New(fail.NotFound, "No such image: %s", ref).Hint("`safe-run images` lists what there is")
	}
	if len(records) > 1 && !force {
		return nil, fail.New(fail.Conflict, "image %s has %d names", ref, len(records)).
			Hint("remove them by name, or all with --force")
	}
	return records, nil
}

// unused fails if a container was started by one of the names.
func (s *Store) unused(ctx context.Context, names map[string]bool) error {
	var filters []string
	for n := range names {
		filters = append(filters, fmt.Sprintf("image==%q", n))
	}
	if len(filters) == 0 {
		return nil
	}
	containers, err := s.Client.ContainerService().List(ctx, filters...)
	if err != nil {
		return wrap(fail.Internal, err, "list containers")
	}
	for _, c := range containers {
		return fail.New(fail.Conflict, "image %s is used by container %.12s", cleanText(Familiar(c.Image)), c.ID).
			Hint("remove the container first with `safe-run rm %.12s`", c.ID)
	}
	return nil
}
