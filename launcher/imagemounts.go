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
	for i, m := range r.Workload.Mounts {
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
		if err := os.Mkdir(dir, 0o711); err != nil { // first of all: by it dropImages finds the rest
			return fail.Wrap(fail.HostCannot, err, "image mount")
		}
		opts := []snapshots.Opt{snapshots.WithLabels(map[string]string{gcRoot: "image mount"})}
		if b := r.rec.Block; b.Size != 0 {
			opts = append(opts, containerd.WithRemapperLabels(0, b.HostUID, 0, b.HostGID, b.Size))
		}
		var ms []mount.Mount
		err = r.make(ctx, func(ctx context.Context) (err error) {
			ms, err = r.snapshots.View(ctx, imageKey(r.rec.ID, n), img.ChainID, opts...)
			return err
		})
		if err != nil {
			return engineError(err, "image mount of "+strconv.Quote(m.Source))
		}
		if err := mountImage(ms, dir, m, r.rec.Block); err != nil {
			return err
		}
		r.imageDirs = append(r.imageDirs, dir)
		if m.Subpath != "" {
			if err := attachSubpath(dir, filepath.Join(r.entry.IO, mountName(i)), m); err != nil {
				return err
			}
		}
	}
	return nil
}

// mountImage mounts the files of an image at dir. One layer alone comes as a
// bind, to which containerd's mount does not give the ids.
func mountImage(ms []mount.Mount, dir string, m spec.Mount, ids spec.IDBlock) error {
	if len(ms) != 1 || ms[0].Type != "bind" || ids.Size == 0 {
		return fail.Wrap(fail.HostCannot, mount.All(ms, dir), "image mount of %q", m.Source)
	}
	userns, err := mount.GetUsernsFD(mapping(ids.HostUID, ids.Size), mapping(ids.HostGID, ids.Size))
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "user namespace for idmapped mounts")
	}
	defer userns.Close()
	m.ReadOnly, m.Exec = true, true
	fd, err := clone(ms[0].Source, m, userns)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return put(fd, dir, m)
}

// attachSubpath makes the part of a mounted image that is asked for a mount of
// its own: the runtime would look the path up on the host, where a link of the
// image leads to the host's files.
func attachSubpath(dir, to string, m spec.Mount) error {
	f, err := within(dir, m.Subpath)
	if err != nil {
		return err
	}
	defer f.Close()
	m.ReadOnly, m.Exec = true, true // like whole images
	return attach(f.Name(), to, m, nil)
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
