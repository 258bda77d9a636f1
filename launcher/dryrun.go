package launcher

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/snapshots"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/spec"
)

// Plan gives the spec Run would use, and what it was built from, without
// making anything: the id and the block of ids are examples.
func (l *Launcher) Plan(ctx context.Context, rq Request) (spec.Input, *specs.Spec, error) {
	ctx = l.context(ctx)
	r := &run{Launcher: l, Request: rq}
	r.rec = store.Record{ID: newID()}
	if !rq.Grants.HostUserNS {
		r.rec.Block = l.IDs.Example()
	}
	dir := filepath.Join(l.Store.Root, "containers", r.rec.ID)
	r.completeVolumes()
	ask := r.askedPaths()
	f, err := factsFor(filepath.Join(l.Store.Root, "cache"), r.Image.ChainID, ask, func() (*os.File, error) {
		// A view without files of its own; containerd's garbage collection takes
		// it if this process dies.
		key := r.rec.ID + "-plan"
		ms, err := l.snapshots.View(ctx, key, r.Image.ChainID, snapshots.WithLabels(map[string]string{
			"containerd.io/gc.expire": time.Now().Add(time.Minute).UTC().Format(time.RFC3339), gcRoot: "plan",
		}))
		if err != nil {
			return nil, engineError(err, "looking at the image")
		}
		defer func() {
			dctx, cancel := l.detached(ctx)
			defer cancel()
			_ = l.snapshots.Remove(dctx, key)
		}()
		return view(ms)
	})
	if err != nil {
		return spec.Input{}, nil, err
	}
	if err := f.check(ask); err != nil {
		return spec.Input{}, nil, err
	}
	if r.joined, err = r.join(ctx); err != nil {
		return spec.Input{}, nil, err
	}
	defer r.joined.close()
	r.entry = &store.Entry{Dir: dir, IO: filepath.Join(l.Store.Run, "io", r.rec.ID)}
	in, err := r.input(f, filesIn(dir))
	if err != nil {
		return in, nil, err
	}
	s, err := assemble(in)
	return in, s, err
}
