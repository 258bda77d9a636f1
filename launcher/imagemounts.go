package launcher

import (
	"context"
	"os"
	"path/filepath"
	"strconv"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// mountImages mounts the images of type=image mounts, read-only and with the
// container's ids, each below the container's directory; the runtime binds
// from there.
func (r *run) mountImages(ctx context.Context) error {
	for _, m := range r.Workload.Mounts {
		if m.Type != spec.MountImage {
			continue
		}
		if r.ResolveImage == nil {
			return fail.New(fail.Internal, "image mounts cannot be resolved")
		}
		img, err := r.ResolveImage(ctx, m.Source)
		if err != nil {
			return err
		}
		n := len(r.imageDirs)
		dir := imageDir(r.entry.Dir, n)
		if err := os.Mkdir(dir, 0o711); err != nil {
			return fail.Wrap(fail.HostCannot, err, "image mount")
		}
		opts := []snapshots.Opt{snapshots.WithLabels(map[string]string{gcRoot: "image mount"})}
		if b := r.rec.Block; b.Size != 0 {
			opts = append(opts, containerd.WithRemapperLabels(0, b.HostUID, 0, b.HostGID, b.Size))
		}
		ms, err := r.snapshots.View(ctx, imageKey(r.rec.ID, n), img.ChainID, opts...)
		if err != nil {
			return engineError(err, "image mount of "+strconv.Quote(m.Source))
		}
		if err := mount.All(ms, dir); err != nil {
			return fail.Wrap(fail.HostCannot, err, "image mount of %q", m.Source)
		}
		r.imageDirs = append(r.imageDirs, dir)
	}
	return nil
}

func imageDir(dir string, n int) string { return filepath.Join(dir, "image"+strconv.Itoa(n)) }
func imageKey(id string, n int) string  { return id + "-image" + strconv.Itoa(n) }

// dropImages unmounts and removes what mountImages made for a container,
// by the directories it left.
func (l *Launcher) dropImages(ctx context.Context, id, dir string) error {
	for n := 0; ; n++ {
		d := imageDir(dir, n)
		if _, err := os.Lstat(d); err != nil {
			return nil
		}
		if err := unix.Unmount(d, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && err != unix.EINVAL {
			return fail.Wrap(fail.HostCannot, err, "unmounting an image")
		}
		if err := l.snapshots.Remove(ctx, imageKey(id, n)); err != nil && !isNotFound(err) {
			return engineError(err, "removing an image mount")
		}
		if err := os.Remove(d); err != nil {
			return fail.Wrap(fail.HostCannot, err, "image mount")
		}
	}
}

// within opens a directory, or a subdirectory of it that no link on the way
// may lead out of.
func within(dir, sub string) (*os.File, error) {
	root, err := openDir(dir)
	if err != nil || sub == "" {
		return root, err
	}
	defer root.Close()
	fd, err := unix.Openat2(int(root.Fd()), sub, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, fail.Wrap(fail.NotFound, err, "subpath %q", sub)
	}
	return os.NewFile(uintptr(fd), "/proc/self/fd/"+strconv.Itoa(fd)), nil
}
