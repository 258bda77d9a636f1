package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/dockerjson"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/internal/volumes"
	"github.com/safe-run/safe-run/network"
	"github.com/safe-run/safe-run/policy"
	"github.com/safe-run/safe-run/spec"
)

// The types of objects, in the order in which a name is looked for.
const (
	anyObject       = ""
	containerObject = "container"
	imageObject     = "image"
	networkObject   = "network"
	volumeObject    = "volume"
)

func inspectVerb() *cobra.Command {
	var in inspector
	var format string
	c := &cobra.Command{Use: "inspect [OPTIONS] NAME|ID...", Short: "Print all that is known of containers, images, networks or volumes", Args: atLeast(1), RunE: func(c *cobra.Command, args []string) error {
		switch in.kind {
		case containerObject, imageObject, networkObject, volumeObject:
		default:
			if in.kind != anyObject || c.Flags().Changed("type") {
				return fail.New(fail.NoStatus, "%.40q is not a valid value for --type", in.kind).Hint("the types are container, image, network and volume")
			}
		}
		if err := needRoot(); err != nil {
			return err
		}
		if format != "" && format != "json" { // before anything is looked for
			if err := checkTemplate(format); err != nil {
				return err
			}
		}
		root, run := place()
		var err error
		if in.store, err = store.Open(root, run); err != nil {
			return err
		}
		found := []any{}
		var errs error
		for _, ref := range args {
			o, err := in.object(c.Context(), ref)
			if err != nil {
				errs = errors.Join(errs, err)
				continue
			}
			found = append(found, o)
		}
		return errors.Join(renderObjects(os.Stdout, format, found), errs)
	}}
	c.Long = `Print all that is known of containers, images, networks or volumes as JSON, with
docker's field names.`
	c.Example = `  safe-run inspect web
  safe-run inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}' web
  safe-run inspect --type image -f '{{.Config.User}}' nginx`
	in.endpoint.flags(c)
	c.Flags().StringVarP(&format, "format", "f", "", "json, or print each by a Go template")
	c.Flags().StringVar(&in.kind, "type", "", "only objects of this type: container, image, network or volume")
	c.Flags().BoolVarP(&in.size, "size", "s", false, "also the sizes of containers on disk")
	return c
}

// inspector finds objects by name. It talks to containerd only for images and
// sizes: the rest is known when there is none, too.
type inspector struct {
	endpoint
	kind    string
	size    bool
	store   *store.Store
	session *session
	limits  *spec.Limits
}

// object is the first that has the name.
func (in *inspector) object(ctx context.Context, ref string) (any, error) {
	var away error // containerd, so nobody knows whether it is an image
	for _, o := range []struct {
		kind string
		find func() (any, error)
	}{
		{containerObject, func() (any, error) { return in.container(ctx, ref) }},
		{imageObject, func() (any, error) { return in.image(ctx, ref) }},
		{networkObject, func() (any, error) { return inspectNetwork(ref) }},
		{volumeObject, func() (any, error) { return inspectVolume(ref) }},
	} {
		if in.kind != anyObject && in.kind != o.kind {
			continue
		}
		found, err := o.find()
		switch {
		case err == nil:
			return found, nil
		case in.kind != anyObject:
			return nil, err
		case fail.KindOf(err) == fail.NotFound || fail.KindOf(err) == fail.Usage: // also what cannot be such a name
		case o.kind == imageObject:
			away = err
		default:
			return nil, err
		}
	}
	return nil, errors.Join(fail.New(fail.NotFound, "No such object: %.256s", ref), away)
}

func (in *inspector) container(ctx context.Context, ref string) (any, error) {
	rec, err := in.store.Find(ref)
	if err != nil {
		return nil, err
	}
	s, err := in.source(rec)
	if err != nil {
		return nil, err
	}
	c := dockerjson.New(s)
	if in.size {
		if err := in.connect(ctx); err != nil {
			return nil, err
		}
		rw, root := sizes(ctx, in.session, rec.ID, map[string]int64{})
		c.SizeRw, c.SizeRootFs = &rw, &root
	}
	return c, nil
}

// source gathers what the state on disk says of a container.
func (in *inspector) source(rec store.Record) (dockerjson.Source, error) {
	dir := in.store.Dir(rec.ID)
	s := dockerjson.Source{
		Record: rec, Dir: dir, LogDir: in.store.LogDir(rec.ID), Supervised: in.store.Supervised(rec.ID),
		Volume: volumes.In(in.store.Root).Path, Limits: in.siteLimits(),
		NetworkID: func(name string) string {
			d, err := networks().Load(name)
			if err != nil { // none of safe-run's, or removed
				return ""
			}
			return d.ID
		},
	}
	switch a, err := in.store.LoadAsked(rec.ID); {
	case err == nil:
		s.Asked = &a
	case fail.KindOf(err) != fail.NotFound:
		return s, err
	}
	switch h, err := in.store.LoadHealth(rec.ID); {
	case err == nil:
		s.Health = &h
	case fail.KindOf(err) != fail.NotFound:
		return s, err
	}
	if s.Supervised && rec.PID > 0 {
		s.Label = processLabel(rec.PID)
	}
	var err error
	s.Network, err = network.ReadSettings(dir)
	for i := range s.Network.Leases {
		l := &s.Network.Leases[i]
		if names := networks().NamesOf(l.Network, rec.ID); len(names) > 0 { // it may have been renamed since its start
			l.Names = names
		}
	}
	return s, err
}

// siteLimits are those for containers that ask for none.
func (in *inspector) siteLimits() spec.Limits {
	if in.limits == nil {
		l := spec.DefaultLimits()
		if site, err := policy.LoadSite(sitePolicy); err == nil { // else no container starts either
			l = site.Limits()
		}
		in.limits = &l
	}
	return *in.limits
}

// processLabel is what the security module of the host says of a process.
func processLabel(pid int) string {
	f, err := os.Open(fmt.Sprintf("/proc/%d/attr/current", pid))
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil { // no security module has it
		return ""
	}
	return strings.TrimRight(string(b), "\x00\n")
}

// connect reaches containerd once for all objects.
func (in *inspector) connect(ctx context.Context) (err error) {
	if in.session == nil {
		in.session, err = connect(ctx, in.address, in.namespace, nil)
	}
	return err
}

// measure finds the sizes of containers for ps.
func measure(ctx context.Context, e *endpoint, rows []psRow) error {
	s, err := connect(ctx, e.address, e.namespace, nil)
	if err != nil {
		return err
	}
	known := map[string]int64{}
	for _, r := range rows {
		r.seen.rw, r.seen.root = sizes(ctx, s, r.rec.ID, known)
	}
	return nil
}

// sizes gives the bytes of what a container wrote, and of its whole root file
// system; 0 if it has none any more. known are the layers' sizes.
func sizes(ctx context.Context, s *session, id string, known map[string]int64) (rw, root int64) {
	sn := s.launcher.Client.SnapshotService(s.images.Snapshotter)
	u, err := sn.Usage(ctx, id)
	if err != nil {
		return 0, 0
	}
	rw, root = u.Size, u.Size
	for key := id; ; {
		info, err := sn.Stat(ctx, key)
		if err != nil || info.Parent == "" {
			return rw, root
		}
		key = info.Parent
		if _, ok := known[key]; !ok {
			u, err := sn.Usage(ctx, key)
			if err != nil {
				return rw, root
			}
			known[key] = u.Size
		}
		root += known[key]
	}
}
