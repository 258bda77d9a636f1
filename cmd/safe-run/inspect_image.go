package main

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/safe-run/safe-run/internal/dockerjson"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// image describes an image by name or id.
func (in *inspector) image(ctx context.Context, ref string) (any, error) {
	if err := in.connect(ctx); err != nil {
		return nil, err
	}
	img, err := in.session.images.Resolve(ctx, ref, "")
	if err != nil {
		return nil, err
	}
	o := dockerjson.NewImage(img)
	list, err := in.session.images.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if e.ID != img.Target {
			continue
		}
		o.Size = e.Unpacked
		if e.Repository == "<none>" {
			continue
		}
		if e.Tag != "<none>" {
			o.RepoTags = append(o.RepoTags, e.Repository+":"+e.Tag)
		}
		if d := e.Repository + "@" + e.ID; !slices.Contains(o.RepoDigests, d) {
			o.RepoDigests = append(o.RepoDigests, d)
		}
	}
	c, err := in.configuration(ctx, img)
	if err != nil {
		return nil, err
	}
	o.Author, o.Variant, o.OsVersion = c.Author, c.Variant, c.OSVersion
	for _, l := range c.RootFS.DiffIDs {
		o.RootFS.Layers = append(o.RootFS.Layers, l.String())
	}
	if c.Created != nil {
		o.Created = c.Created.UTC().Format(time.RFC3339Nano)
	}
	return o, nil
}

// maxDocument bounds an image's manifest and configuration, in bytes. They
// were checked when the image came here, but others can change containerd's
// store.
const maxDocument = 8 << 20

// configuration reads the image's configuration.
func (in *inspector) configuration(ctx context.Context, img spec.Image) (c ocispec.Image, err error) {
	store := in.session.launcher.Client.ContentStore()
	read := func(d digest.Digest, into any) error {
		info, err := store.Info(ctx, d)
		if err != nil {
			return fail.Wrap(fail.NotFound, err, "content of the image")
		}
		if info.Size > maxDocument {
			return fail.New(fail.Refused, "image refused: a document of %d bytes", info.Size)
		}
		b, err := content.ReadBlob(ctx, store, ocispec.Descriptor{Digest: d, Size: info.Size})
		if err == nil {
			err = json.Unmarshal(b, into)
		}
		return fail.Wrap(fail.Internal, err, "content of the image")
	}
	var m ocispec.Manifest
	if err := read(digest.Digest(img.Digest), &m); err != nil {
		return c, err
	}
	return c, read(m.Config.Digest, &c)
}
