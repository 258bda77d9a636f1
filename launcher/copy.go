package launcher

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/internal/threads"
	"github.com/safe-run/safe-run/internal/volumes"
	"github.com/safe-run/safe-run/spec"
)

// Files are the files of a container, as it sees them.
type Files struct {
	Root *os.File // its root directory (O_PATH); what is mounted there is in reach
	// Absent are the places inside at which something is mounted only while
	// the container runs. It has none of its own while it does.
	Absent []string

	close func()
}

// Close lets the files go.
func (f *Files) Close() {
	f.Root.Close()
	if f.close != nil {
		f.close()
	}
}

// FilesOf opens the files of a container: those its first process sees, or,
// if it does not run, its root file system with its volumes, mounted where
// nobody else sees it. A container that does not run is locked until Close:
// it cannot be started, and is not changed by others.
func (l *Launcher) FilesOf(ctx context.Context, rec store.Record) (*Files, error) {
	if rec.PID != 0 {
		if root := rootOf(rec); root != nil {
			return &Files{Root: root}, nil
		}
	}
	e := l.capture(rec.ID)
	if e == nil {
		return nil, fail.New(fail.Conflict, "container %s is being started or ended, or used by another command", rec.ID[:12]).
			Hint("try again in a moment")
	}
	now, err := l.Store.Load(rec.ID)
	if err != nil || now.Phase != store.PhaseExited { // its supervisor died: a sweep decides what becomes of it
		e.Release()
		return nil, fail.New(fail.Conflict, "container %s is neither running nor stopped", rec.ID[:12]).Hint("try again in a moment")
	}
	f, err := l.filesAtRest(l.context(ctx), now)
	if err != nil {
		_ = e.End()
		return nil, err
	}
	unmount := f.close
	f.close = func() {
		unmount()
		_ = e.End()
	}
	return f, nil
}

// rootOf opens the root directory of a container's first process: nil if
// it does not run. The process is held by a descriptor, and compared by its
// cgroup, which it cannot leave, so its number means no other process.
func rootOf(rec store.Record) *os.File {
	first := holdInit(uint32(rec.PID))
	defer first.close()
	dir := threads.Dir(rec.PID)
	groups, err := os.ReadFile(dir + "/cgroup")
	if err != nil || rec.Cgroup == "" || !strings.Contains(string(groups), rec.ID) {
		return nil
	}
	root, err := openDirAt(dir + "/root")
	if err != nil {
		return nil
	}
	// A runtime that is just making the container still has the host's.
	same, err := sameFile(root, "/")
	if err != nil || same || !first.runs() {
		root.Close()
		return nil
	}
	return root
}

// filesAtRest mounts the files of a container that does not run.
func (l *Launcher) filesAtRest(ctx context.Context, rec store.Record) (*Files, error) {
	ms, err := l.snapshots.Mounts(ctx, rec.ID)
	if isNotFound(err) {
		return nil, fail.New(fail.NotFound, "container %s has no files: it was never started", rec.ID[:12])
	}
	if err != nil {
		return nil, engineError(err, "files of the container")
	}
	asked, err := l.Store.LoadAsked(rec.ID)
	if err != nil {
		return nil, err
	}
	var userns *os.File
	if b := rec.Block; b.Size != 0 {
		if userns, err = mount.GetUsernsFD(mapping(b.HostUID, b.Size), mapping(b.HostGID, b.Size)); err != nil {
			return nil, fail.Wrap(fail.HostCannot, err, "user namespace for idmapped mounts")
		}
		defer userns.Close()
	}
	f := &Files{}
	made, done := make(chan error), make(chan struct{})
	go func() {
		// Never unlocked: the mounts end with the thread.
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // the runtime would keep this one
			inner := make(chan struct{})
			go func() {
				defer close(inner)
				runtime.LockOSThread()
				made <- f.mount(ms, asked.Workload, volumes.In(l.Store.Root), userns)
				<-done
			}()
			<-inner
			runtime.UnlockOSThread()
			return
		}
		made <- f.mount(ms, asked.Workload, volumes.In(l.Store.Root), userns)
		<-done
	}()
	f.close = func() { close(done) }
	if err := <-made; err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// mount makes the mounts in a namespace of this thread's own. Nothing on them
// can be executed, be a device, or lend rights.
func (f *Files) mount(ms []mount.Mount, w spec.Workload, vs volumes.Volumes, userns *os.File) error {
	const layers, root = "/proc", "/sys" // any directories serve: nobody else sees it
	err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "mount namespace")
	}
	if len(ms) != 1 || ms[0].Type != "overlay" {
		return fail.New(fail.HostCannot, "the files of a stopped container without layers cannot be mounted").
			Hint("start it first")
	}
	var lower, options []string
	for _, o := range ms[0].Options {
		switch key, value, _ := strings.Cut(o, "="); key {
		case "lowerdir":
			lower = strings.Split(value, ":")
		case "uidmap", "gidmap":
		default:
			options = append(options, o)
		}
	}
	if len(lower) == 0 {
		return fail.New(fail.Internal, "unexpected snapshot mount: %q", ms[0].Options)
	}
	base := filepath.Dir(filepath.Dir(lower[0]))
	for i, d := range lower {
		rel, err := filepath.Rel(base, d)
		if err != nil || strings.HasPrefix(rel, "..") {
			return fail.New(fail.Internal, "unexpected place of a layer: %q", d)
		}
		lower[i] = rel // relative names keep the options below the page mount(2) takes
	}
	fd, err := clone(base, spec.Mount{Target: "/", ReadOnly: true, NonRecursive: true}, userns)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := put(fd, layers, spec.Mount{Target: "/"}); err != nil {
		return err
	}
	if err := unix.Chdir(layers); err != nil {
		return fail.Wrap(fail.HostCannot, err, "files of the container")
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if w.ReadOnly == nil || *w.ReadOnly { // as when it runs
		flags |= unix.MS_RDONLY
	}
	data := strings.Join(append(options, "lowerdir="+strings.Join(lower, ":")), ",")
	if err := unix.Mount("overlay", root, "overlay", flags, data); err != nil {
		return fail.Wrap(fail.HostCannot, err, "mounting the files of the container")
	}
	at, err := openDirAt(root)
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "files of the container")
	}
	f.Root = at
	return f.volumes(w, vs, userns)
}

// volumes mounts the container's volumes at their places, found as the
// container would find them.
func (f *Files) volumes(w spec.Workload, vs volumes.Volumes, userns *os.File) error {
	for _, m := range w.Mounts {
		if m.Type != spec.MountVolume {
			f.Absent = append(f.Absent, m.Target)
			continue
		}
		to, err := openIn(f.Root, m.Target, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			f.Absent = append(f.Absent, m.Target)
			continue
		}
		err = attachVolume(vs.Path(m.Source), to, m, userns)
		to.Close()
		if errors.Is(err, unix.ENOENT) { // the volume was removed
			f.Absent = append(f.Absent, m.Target)
			continue
		}
		if err != nil {
			f.Root.Close()
			return err
		}
	}
	return nil
}

func attachVolume(dir string, to *os.File, m spec.Mount, userns *os.File) error {
	src, err := within(dir, m.Subpath)
	if err != nil {
		return err
	}
	defer src.Close()
	// Not its name: this thread has mounted something else on /proc.
	at, err := unix.OpenTree(int(src.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "volume at %s", strconv.Quote(m.Target))
	}
	defer unix.Close(at)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}
	if m.ReadOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if userns != nil {
		attr.Attr_set |= unix.MOUNT_ATTR_IDMAP
		attr.Userns_fd = uint64(userns.Fd())
	}
	err = unix.MountSetattr(at, "", unix.AT_EMPTY_PATH, &attr)
	if err == nil {
		err = unix.MoveMount(at, "", int(to.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	}
	return fail.Wrap(fail.HostCannot, err, "volume at %s", strconv.Quote(m.Target))
}
