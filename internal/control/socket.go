package control

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// through gives f a path to name in the directory dir that fits into a socket
// address (108 bytes), however long dir is: by a descriptor of it.
func through(dir, name string, f func(fd int, addr string) error) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	return f(fd, "/proc/self/fd/"+strconv.Itoa(fd)+"/"+name)
}

// bind listens at path and takes the place of what an earlier supervisor left
// there, without a moment at which nothing is.
func bind(path string) (l *net.UnixListener, ino uint64, err error) {
	dir, name := filepath.Split(filepath.Clean(path))
	fresh := "." + name + ".new"
	err = through(dir, fresh, func(fd int, addr string) error {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		if st.Mode&0o022 != 0 {
			return fmt.Errorf("%s can be written to by others", dir)
		}
		if err := unix.Unlinkat(fd, fresh, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: addr, Net: "unix"})
		if err != nil {
			return err
		}
		l.SetUnlinkOnClose(false) // its path is good for this call only
		err = unix.Fchmodat(fd, fresh, 0o600, 0)
		if err == nil {
			err = unix.Fstatat(fd, fresh, &st, unix.AT_SYMLINK_NOFOLLOW)
		}
		if err == nil {
			err = unix.Renameat(fd, fresh, fd, name)
		}
		if err != nil {
			l.Close()
			return err
		}
		ino = st.Ino
		return nil
	})
	return l, ino, fail.Wrap(fail.HostCannot, err, "control socket")
}

// ours says whether the process at the other end is root or our own user.
func ours(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	if e := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil {
		return e
	}
	if err != nil {
		return err
	}
	if cred.Uid != 0 && cred.Uid != uint32(os.Geteuid()) {
		return fail.New(fail.Refused, "the other end of the control socket is uid %d", cred.Uid)
	}
	return nil
}
