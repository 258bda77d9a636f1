package main

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/images"
)

func imagesVerb() *cobra.Command {
	var e endpoint
	var o imageListing
	var words []string
	c := &cobra.Command{Use: "images [OPTIONS] [REPOSITORY[:TAG]]", Short: "List images", Args: between(0, 1), RunE: func(c *cobra.Command, args []string) error {
		for _, a := range args {
			words = append(words, "reference="+a)
		}
		by, err := filtersOf(words, "reference", "dangling", "label", "before", "since", "until")
		if err != nil {
			return err
		}
		return e.with(c.Context(), func(ctx context.Context, s *session) error {
			list, err := s.images.List(ctx)
			if err != nil {
				return err
			}
			if list, err = keepImages(list, by); err != nil {
				return err
			}
			return o.print(list)
		})
	}}
	c.Example = `  safe-run images
  safe-run images --filter reference='nginx*' --format '{{.Repository}}:{{.Tag}} {{.Size}}'`
	e.flags(c)
	f := c.Flags()
	f.BoolVarP(&o.quiet, "quiet", "q", false, "only ids")
	f.BoolVar(&o.noTrunc, "no-trunc", false, "full ids")
	f.BoolVar(&o.digests, "digests", false, "also digests")
	f.BoolP("all", "a", false, "has no effect: there are no intermediate images")
	f.StringVar(&o.format, "format", "", "table, table TEMPLATE, json, or a Go template")
	f.StringArrayVarP(&words, "filter", "f", nil, "only those with reference=PATTERN, dangling=true|false, label=KEY[=VALUE], before=IMAGE, since=IMAGE, until=TIME")
	return c
}

type imageListing struct {
	quiet, noTrunc, digests bool
	format                  string
}

// imageRow is an image as --format sees it, with docker's names.
type imageRow struct {
	Containers, CreatedAt, CreatedSince, Digest, ID, Repository, SharedSize, Size, Tag, UniqueSize, VirtualSize string
}

func (o imageListing) print(list []images.Entry) error {
	rows := make([]imageRow, 0, len(list))
	for _, e := range list {
		rows = append(rows, o.row(e))
	}
	columns := "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
	if o.digests {
		columns = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
	}
	format := o.format
	if o.quiet && (format == "" || format == "table") {
		format = "{{.ID}}"
	}
	return renderTable(os.Stdout, listing(format, columns), headings{
		"Containers": "CONTAINERS", "CreatedAt": "CREATED AT", "CreatedSince": "CREATED", "Digest": "DIGEST", "ID": "IMAGE ID",
		"Repository": "REPOSITORY", "SharedSize": "SHARED SIZE", "Size": "SIZE", "Tag": "TAG", "UniqueSize": "UNIQUE SIZE", "VirtualSize": "SIZE",
	}, rows)
}

func (o imageListing) row(e images.Entry) imageRow {
	size := units.HumanSizeWithPrecision(float64(e.Unpacked), 3)
	r := imageRow{
		Containers: "N/A", SharedSize: "N/A", UniqueSize: "N/A", CreatedSince: "N/A", CreatedAt: "N/A",
		Digest: e.ID, ID: e.ID, Repository: e.Repository, Tag: e.Tag, Size: size, VirtualSize: size,
	}
	if e.Dangling() {
		r.Repository, r.Tag, r.Digest = "<none>", "<none>", "<none>"
	}
	if !o.noTrunc {
		r.ID = strings.TrimPrefix(r.ID, "sha256:")
		r.ID = r.ID[:min(12, len(r.ID))]
	}
	if !e.Created.IsZero() {
		r.CreatedSince = units.HumanDuration(time.Since(e.Created)) + " ago"
		r.CreatedAt = e.Created.Local().Format("2006-01-02 15:04:05 -0700 MST")
	}
	if e.Problem != "" {
		r.Size, r.VirtualSize = e.Problem, e.Problem
	}
	return r
}

// keepImages gives the images that fit the filters, the newest first.
func keepImages(list []images.Entry, by filters) ([]images.Entry, error) {
	before, since := time.Time{}, time.Time{}
	for key, at := range map[string]*time.Time{"before": &before, "since": &since} {
		for _, ref := range by[key] {
			i := slices.IndexFunc(list, func(e images.Entry) bool { return means(ref, e) })
			if i < 0 {
				return nil, fail.New(fail.NotFound, "No such image: %.200s", ref)
			}
			*at = list[i].Created
		}
	}
	until, err := by.until(time.Now())
	if err != nil {
		return nil, err
	}
	kept := []images.Entry{}
	for _, e := range list {
		fits, err := by.is("dangling", e.Dangling())
		if err != nil {
			return nil, err
		}
		if fits && by.labelled(e.Labels) &&
			by.has("reference", func(p string) bool { return matches(p, e) }) &&
			(len(by["before"]) == 0 || e.Created.Before(before)) &&
			(len(by["since"]) == 0 || e.Created.After(since)) &&
			(until.IsZero() || e.Created.Before(until)) {
			kept = append(kept, e)
		}
	}
	slices.SortStableFunc(kept, func(a, b images.Entry) int { return b.Created.Compare(a.Created) })
	return kept, nil
}

// means says whether an image is what somebody calls ref: by name, or by the
// beginning of its id.
func means(ref string, e images.Entry) bool {
	if name, err := images.Normalize(ref); err == nil && name == e.Name {
		return true
	}
	ref = strings.TrimPrefix(ref, "sha256:")
	return len(ref) >= 4 && strings.HasPrefix(strings.TrimPrefix(e.ID, "sha256:"), ref)
}

// matches says whether an image's name fits a pattern, with or without its
// tag, short or long.
func matches(pattern string, e images.Entry) bool {
	named, err := reference.ParseNormalizedNamed(e.Name)
	if e.Dangling() || err != nil {
		return false
	}
	return like(pattern, reference.FamiliarString(named), reference.FamiliarName(named), named.String(), named.Name())
}
