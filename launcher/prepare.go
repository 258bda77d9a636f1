package launcher

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/internal/volumes"
	"github.com/safe-run/safe-run/spec"
)

// attachments makes what the runtime will connect the container with: the
// sources of its mounts, and the FIFOs of its streams.
func (r *run) attachments() (err error) {
	if err := r.mountSources(); err != nil {
		return err
	}
	if r.joined != nil {
		if err := r.joined.mountSysfs(r.joined.sysfsPath(r.entry)); err != nil {
			return err
		}
	}
	if err := fault("mounts"); err != nil {
		return err
	}
	if err := r.makeExtras(); err != nil {
		return err
	}
	if r.io, err = newStdio(r.entry.IO, r.Streams, r.Workload.TTY); err != nil {
		return err
	}
	r.io.also = r.sink
	if err := r.open(); err != nil {
		return err
	}
	return fault("fifos")
}

// open opens what others reach the container by.
func (r *run) open() error {
	if r.log == nil {
		if err := r.openLog(); err != nil {
			return err
		}
	}
	if r.state.server == nil {
		return r.listen(r.context(context.Background()))
	}
	return nil
}

// prepare makes the snapshot that is the container's root file system.
func (r *run) prepare(ctx context.Context) {
	defer close(r.prepared)
	var opts []snapshots.Opt
	if b := r.rec.Block; b.Size != 0 {
		opts = append(opts, containerd.WithRemapperLabels(0, b.HostUID, 0, b.HostGID, b.Size))
	}
	opts = append(opts, snapshots.WithLabels(map[string]string{gcRoot: r.rec.Created.Format(time.RFC3339)}))
	prepare := func(ctx context.Context) (err error) {
		if r.rec.Phase == store.PhaseRestarting { // it has one
			r.snapMounts, err = r.snapshots.Mounts(ctx, r.rec.ID)
			if err == nil || !isNotFound(err) {
				return err
			}
		}
		r.snapMounts, err = r.snapshots.Prepare(ctx, r.rec.ID, r.Image.ChainID, opts...)
		return err
	}
	r.snapErr = r.make(ctx, prepare)
	if isNotFound(r.snapErr) && r.Unpack != nil { // the layers were collected, or never unpacked
		if r.snapErr = r.Unpack(ctx); r.snapErr == nil {
			r.snapErr = r.make(ctx, prepare)
		}
	}
	if r.snapErr != nil {
		r.snapErr = engineError(r.snapErr, "preparing the root file system")
		return
	}
	r.snapErr = fault("prepare")
}

// rootfs waits for the snapshot.
func (r *run) rootfs() ([]mount.Mount, error) {
	<-r.prepared
	return r.snapMounts, r.snapErr
}

// facts reads what must be known of the image's files and refuses what they
// would redirect; new volumes are filled from them.
func (r *run) facts(ctx context.Context) (facts, error) {
	open := func() (*os.File, error) {
		ms, err := r.rootfs()
		if err != nil {
			return nil, err
		}
		return view(ms)
	}
	ask := r.askedPaths()
	f, err := factsFor(filepath.Join(r.Store.Root, "cache"), r.Image.ChainID, ask, open)
	if err != nil {
		return f, err
	}
	if err := f.check(ask); err != nil {
		return f, err
	}
	if err := r.fillVolumes(ctx, open); err != nil {
		return f, err
	}
	return f, fault("facts")
}

// fillVolumes makes the volumes that do not exist yet and copies the image's
// content into new ones.
func (r *run) fillVolumes(ctx context.Context, open func() (*os.File, error)) error {
	vs := volumes.In(r.Store.Root)
	for _, m := range r.Workload.Mounts {
		if m.Type != spec.MountVolume {
			continue
		}
		err := vs.Ensure(ctx, m.Source, func(dir string) error {
			if m.NoCopy {
				return nil
			}
			root, err := open()
			if err != nil {
				return err
			}
			defer root.Close()
			return errors.Join(copyUp(ctx, root, m.Target, dir), fault("volumes"))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func copyUp(ctx context.Context, root *os.File, target, volume string) error {
	src, err := openIn(root, target, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fail.Wrap(fail.Refused, err, "the image's content for the volume at %s", target)
	}
	defer src.Close()
	return volumes.CopyUp(ctx, src, volume)
}
