package audit

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// maxViews bounds the different views of mounts that are looked at.
const maxViews = 64

// mountView is a table of mounts and the directory it begins at.
type mountView struct{ table, root int }

func (v mountView) close() {
	_ = unix.Close(v.table)
	_ = unix.Close(v.root)
}

// viewOf is what the process of a directory in procfs sees: nothing above its
// root, which it can change (chroot(2)).
func viewOf(dir int) (v mountView, err error) {
	if v.table, err = unix.Openat(dir, "mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return v, pathError("mountinfo", err)
	}
	if v.root, err = unix.Openat(dir, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		_ = unix.Close(v.table)
		return v, pathError("root", err)
	}
	return v, nil
}

// namespaceView is what there is in the mount namespace of a process, from the
// namespace's own root on. A thread of this program goes into the namespace to
// ask for it, and ends; it executes nothing.
func namespaceView(dir int) (v mountView, err error) {
	ns, err := unix.Openat(dir, "ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return v, pathError("ns/mnt", err)
	}
	defer func() { _ = unix.Close(ns) }()
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return v, pathError("/proc", err)
	}
	defer func() { _ = unix.Close(proc) }()
	onThread(func() {
		// A thread has its root in common with the others until it says otherwise.
		if err = unix.Unshare(unix.CLONE_FS); err != nil {
			return
		}
		if err = unix.Setns(ns, unix.CLONE_NEWNS); err != nil {
			return
		}
		if v.table, err = unix.Openat(proc, "thread-self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return
		}
		if v.root, err = unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			_ = unix.Close(v.table)
		}
	})
	return v, pathError("mount namespace", err)
}

// onThread runs f on a thread that is then thrown away. The program's first
// thread cannot be: /proc/self goes by it.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			onThread(f)
			runtime.UnlockOSThread()
		} else {
			f()
		}
		close(done)
	}()
	<-done
}

// views gives the container's view of mounts: the whole namespace of the first
// process, and what other processes see that are in another one or have
// another root. A program can hide what it has by going elsewhere itself.
func (l *looker) views() (first mountView, more []mountView, err error) {
	own, err := viewOf(l.dir)
	if err != nil {
		return first, nil, err
	}
	if first, err = namespaceView(l.dir); err != nil {
		first = own
	} else {
		more = append(more, own)
	}
	hostNS, _ := readlink(unix.AT_FDCWD, "/proc/1/ns/mnt")
	ownNS, _ := readlink(unix.AT_FDCWD, "/proc/thread-self/ns/mnt")
	seen := map[string]bool{viewKey(l.dir): true, "": true}
	firstNS, _ := readlink(l.dir, "ns/mnt")
	whole := map[string]bool{firstNS: true}
	for _, pid := range l.members() {
		dir, err := openProcess(pid)
		if err != nil {
			continue // it has ended
		}
		key := viewKey(dir)
		ns, _ := readlink(dir, "ns/mnt")
		// One with the host's mounts is told with the processes.
		if !seen[key] && ns != hostNS && ns != ownNS && l.ours(&attestation{pid: pid, dir: dir, buf: l.buf[:0]}) {
			seen[key] = true
			if len(more) >= maxViews {
				l.unread("mounts: its processes have more than %d views of them", maxViews)
				_ = unix.Close(dir)
				break
			}
			if v, err := viewOf(dir); err == nil {
				more = append(more, v)
			}
			// All its processes may have hidden some of it by a root of their own.
			if !whole[ns] {
				whole[ns] = true
				if v, err := namespaceView(dir); err == nil {
					more = append(more, v)
				}
			}
		}
		_ = unix.Close(dir)
	}
	return first, more, nil
}

// viewKey tells views of mounts apart; "" if the process has ended.
func viewKey(dir int) string {
	ns, err := readlink(dir, "ns/mnt")
	if err != nil {
		return ""
	}
	fd, err := unix.Openat(dir, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Statx_t
	if unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_INO|unix.STATX_MNT_ID, &st) != nil {
		return ""
	}
	return fmt.Sprint(ns, st.Mnt_id, st.Ino)
}
