package systemd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// bindAt makes a socket at a path for a container's processes. Its directory
// must be one that only root can enter: whoever has the path, by a bind mount,
// may use it, so the socket itself is open to all. What is left there of an
// earlier run goes. The socket is non-blocking and close-on-exec.
func bindAt(path string, kind, uid, gid int) (*os.File, error) {
	// The directory is held: a path in it can be longer than an address.
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", filepath.Dir(path), err)
	}
	defer func() { _ = unix.Close(dir) }()
	name := filepath.Base(path)
	if err := unlinkSocket(dir, name); err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir, name)})
	if err == nil {
		err = unix.Fchownat(dir, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err == nil {
		err = unix.Fchmodat(dir, name, 0o666, 0) // bind obeys the umask
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	return f, nil
}

// unlinkSocket removes a socket, if there is one, and nothing else.
func unlinkSocket(dir int, name string) error {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return unix.EEXIST
	}
	return unix.Unlinkat(dir, name, 0)
}

// removeSocket takes the name of a socket away.
func removeSocket(path string) {
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(dir) }()
	_ = unlinkSocket(dir, filepath.Base(path))
}
