package launcher

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/volumes"
	"github.com/safe-run/safe-run/spec"
)

// mountSources clones the mount below every bind source and volume from the
// descriptor that was judged, gives the clone the container's ids and flags,
// and attaches it in the container's own directory, from where the runtime
// binds it. A path would be looked up again by the runtime, and could lead
// elsewhere by then (threat M2); the descriptor itself is of no use to the
// runtime, because the kernel clones no mount of another mount namespace.
//
// The attached clones exist until the runtime has made its own
// (see dropSources).
func (r *run) mountSources() error {
	if err := r.makeDevices(); err != nil {
		return err
	}
	for i, m := range r.Workload.Mounts {
		var from string
		switch m.Type {
		case spec.MountBind:
			src, ok := r.Sources[i]
			if !ok || src.Runtime == "" {
				return fail.New(fail.Internal, "bind source %q is not held open", m.Source)
			}
			from = src.Runtime
		case spec.MountVolume:
			f, err := within(volumes.In(r.Store.Root).Path(m.Source), m.Subpath)
			if err != nil {
				return err
			}
			defer f.Close()
			from = f.Name()
		default:
			continue
		}
		userns, err := r.userNS()
		if err != nil {
			return err
		}
		to := filepath.Join(r.entry.IO, mountName(i))
		if err := attach(from, to, m, userns); err != nil {
			return err
		}
	}
	return nil
}

// deviceDir is where the nodes of granted devices are made.
const deviceDir = "mount-devices"

// makeDevices makes a node for each granted device, owned by the container,
// in a file system of its own. The host's node would belong to nobody inside,
// and its file system may change under it. The device cgroup bounds what can
// be done with it.
func (r *run) makeDevices() error {
	if len(r.Grants.Devices) == 0 {
		return nil
	}
	dir := filepath.Join(r.entry.IO, deviceDir)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fail.Wrap(fail.HostCannot, err, "granted devices")
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "size=64k,mode=0700"); err != nil {
		return fail.Wrap(fail.HostCannot, err, "granted devices")
	}
	for i, d := range r.Grants.Devices {
		p := filepath.Join(dir, strconv.Itoa(i))
		if d.Type != "c" {
			return fail.New(fail.Refused, "device %q: only character devices are given", d.Path)
		}
		err := unix.Mknod(p, unix.S_IFCHR|0o666, int(unix.Mkdev(uint32(d.Major), uint32(d.Minor))))
		if err == nil {
			err = errors.Join(unix.Chmod(p, 0o666), os.Lchown(p, int(r.rec.Block.HostUID), int(r.rec.Block.HostGID)))
		}
		if err != nil {
			return fail.Wrap(fail.HostCannot, err, "granted device %q", d.Path)
		}
	}
	return nil
}

// deviceSources are the nodes makeDevices makes, by their path inside.
func (r *run) deviceSources() map[string]string {
	sources := map[string]string{}
	for i, d := range r.Grants.Devices {
		sources[d.Path] = filepath.Join(r.Store.Run, "io", r.rec.ID, deviceDir, strconv.Itoa(i))
	}
	return sources
}

func mountName(i int) string { return "mount" + strconv.Itoa(i) }

func mapping(first, size uint32) string { return fmt.Sprintf("0:%d:%d", first, size) }

// attach clones the tree at from (a descriptor's path) to the new path to.
func attach(from, to string, m spec.Mount, userns *os.File) error {
	fd, err := clone(from, m, userns)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fail.Wrap(fail.HostCannot, err, "mount %q", m.Target)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = os.Mkdir(to, 0o700)
	} else {
		err = os.WriteFile(to, nil, 0o600)
	}
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "mount %q", m.Target)
	}
	return put(fd, to, m)
}

// put attaches a clone at the path to, which exists.
func put(fd int, to string, m spec.Mount) error {
	err := unix.MoveMount(fd, "", unix.AT_FDCWD, to, unix.MOVE_MOUNT_F_EMPTY_PATH)
	return fail.Wrap(fail.HostCannot, err, "mount %q: attaching it", m.Target)
}

// clone copies the tree at from with the flags of m and the ids of userns. The
// copy is attached nowhere, and ends with its descriptor if it never is.
func clone(from string, m spec.Mount, userns *os.File) (fd int, err error) {
	var recursive uint
	if !m.NonRecursive {
		recursive = unix.AT_RECURSIVE
	}
	fd, err = unix.OpenTree(unix.AT_FDCWD, from, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|recursive)
	if err != nil {
		return -1, fail.Wrap(fail.HostCannot, err, "mount %q: cloning its source", m.Target)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV, Propagation: unix.MS_PRIVATE}
	if !m.Exec {
		attr.Attr_set |= unix.MOUNT_ATTR_NOEXEC
	}
	if m.ReadOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if userns != nil {
		attr.Attr_set |= unix.MOUNT_ATTR_IDMAP
		attr.Userns_fd = uint64(userns.Fd())
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|recursive, &attr); err != nil {
		unix.Close(fd)
		e := &fail.Error{Kind: fail.HostCannot, Msg: fmt.Sprintf("mount %q: giving it the container's ids", m.Target), Err: err}
		if errors.Is(err, unix.EINVAL) {
			_ = e.Hint("the source, or a file system mounted below it, cannot be idmapped by this kernel (tmpfs needs Linux 6.3, overlay and FUSE cannot); use a directory on ext4, xfs or btrfs, or bind-recursive=disabled with --mount")
		}
		return -1, e
	}
	return fd, nil
}

// dropSources detaches what mountSources attached below a container's
// directory; whatever else may be mounted there goes too.
func dropSources(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return fail.Wrap(fail.HostCannot, err, "mounts of the container")
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "mount") {
			continue
		}
		p := filepath.Join(dir, e.Name())
		if err := unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fail.Wrap(fail.HostCannot, err, "unmounting %s", p)
		}
		// Never recursively: if something were still mounted, it would be the user's data.
		if err := unix.Unlink(p); err != nil {
			if err := unix.Rmdir(p); err != nil {
				return fail.Wrap(fail.HostCannot, err, "removing %s", p)
			}
		}
	}
	return nil
}
