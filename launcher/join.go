package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/internal/threads"
)

// joined is the network namespace of another container, held open. nil joins
// none.
type joined struct {
	rec string // id of the other container
	ns  *os.File
}

// path is the namespace as the runtime opens it.
func (j *joined) path() string {
	if j == nil {
		return ""
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), j.ns.Fd())
}

// sysfsPath is where a sysfs of the namespace is mounted until the runtime
// has bound it: among the sources of the container's mounts.
func (j *joined) sysfsPath(e *store.Entry) string {
	if j == nil {
		return ""
	}
	return filepath.Join(e.IO, "mount-sysfs")
}

// join opens the network namespace of the container that --network
// container:REF names; nil if none is named.
func (r *run) join(ctx context.Context) (*joined, error) {
	var ref string
	for _, n := range r.Workload.Networks {
		if other, joins := n.JoinedContainer(); joins {
			ref = other
		}
	}
	if ref == "" {
		return nil, nil
	}
	rec, err := r.Store.Load(r.asked.Joined)
	if r.asked.Joined == "" || err != nil { // the first start, or another was made in its place
		rec, err = r.Store.Find(ref)
	}
	if err != nil {
		return nil, err
	}
	if rec.ID == r.rec.ID {
		return nil, fail.New(fail.Usage, "a container cannot join its own network")
	}
	notRunning := func(err error) error {
		return (&fail.Error{Kind: fail.Conflict, Msg: fmt.Sprintf("cannot join the network of container %s: it is not running", ref), Err: err}).
			Hint("start it first: safe-run start %s", ref)
	}
	t, err := r.tasks.Get(r.context(ctx), &tasksapi.GetRequest{ContainerID: rec.ID})
	if isNotFound(err) {
		return nil, notRunning(nil)
	}
	if err != nil {
		return nil, notRunning(native(err))
	}
	pid := t.GetProcess().GetPid()
	p := holdInit(pid)
	defer p.close()
	ns, err := os.Open(threads.Dir(int(pid)) + "/ns/net")
	if err != nil || !p.runs() { // the number may have come to mean another process
		return nil, notRunning(errors.Join(err, errors.New("its first process has ended")))
	}
	if host, err := sameFile(ns, "/proc/thread-self/ns/net"); host || err != nil {
		ns.Close()
		if err == nil {
			err = fail.New(fail.Refused, "container %s has the host's network, which cannot be joined", ref)
		}
		return nil, err
	}
	return &joined{rec: rec.ID, ns: ns}, nil
}

func sameFile(f *os.File, path string) (bool, error) {
	var a, b unix.Stat_t
	err := errors.Join(unix.Fstat(int(f.Fd()), &a), unix.Stat(path, &b))
	return a.Dev == b.Dev && a.Ino == b.Ino, fail.Wrap(fail.Internal, err, "network namespace")
}

// mountSysfs makes a sysfs of the joined namespace at dir: a user namespace
// that does not own the network namespace cannot mount one.
func (j *joined) mountSysfs(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fail.Wrap(fail.HostCannot, err, "sysfs of the joined network")
	}
	made := make(chan error, 1)
	go func() { made <- j.sysfsAt(dir) }()
	if err := <-made; err != nil {
		return fail.Wrap(fail.HostCannot, err, "mounting a sysfs of the joined network")
	}
	return nil
}

// sysfsAt takes a thread into the namespace and back. If it cannot come back,
// the thread ends with its goroutine.
func (j *joined) sysfsAt(dir string) error {
	runtime.LockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer own.Close()
	if err := unix.Setns(int(j.ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	err = mountNewSysfs(dir)
	if unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
	return err
}

// mountNewSysfs mounts a sysfs of the calling thread's network namespace.
func mountNewSysfs(dir string) error {
	fs, err := unix.Fsopen("sysfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return err
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(mnt)
	return unix.MoveMount(mnt, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// contents are the names that the other container lives by.
func (j *joined) contents(root string) (data [3][]byte, err error) {
	from := filesIn(filepath.Join(root, "containers", j.rec))
	for i, path := range []string{from.Hosts, from.Hostname, from.ResolvConf} {
		b, rerr := os.ReadFile(path)
		data[i], err = b, errors.Join(err, rerr)
	}
	return data, fail.Wrap(fail.Internal, err, "names of the joined container")
}

// hostname is the other container's.
func (j *joined) hostname(root string) string {
	data, err := j.contents(root)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data[1]))
}

func (j *joined) close() {
	if j != nil {
		j.ns.Close()
	}
}
