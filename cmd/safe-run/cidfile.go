package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
)

// checkCIDFile fails early if the id could not be written later. As docker
// does, an existing file is an error; an empty file of the caller's own, as
// mktemp makes it, is accepted.
func checkCIDFile(path string, c *cli.Caller) error {
	if path == "" {
		return nil
	}
	return c.Do(func() error {
		var st unix.Stat_t
		err := unix.Lstat(path, &st)
		if errors.Is(err, fs.ErrNotExist) {
			if err = unix.Faccessat(unix.AT_FDCWD, filepath.Dir(path), unix.W_OK|unix.X_OK, unix.AT_EACCESS); err == nil {
				return nil
			}
		}
		if err != nil {
			return fail.Wrap(fail.Usage, err, "container ID file %q", path)
		}
		return usableCIDFile(path, &st, c)
	})
}

func usableCIDFile(path string, st *unix.Stat_t, c *cli.Caller) error {
	owner := uint32(os.Geteuid())
	if c != nil {
		owner = c.UID
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0 && st.Uid == owner {
		return nil
	}
	return fail.New(fail.Usage, "container ID file found, make sure the other container isn't running or delete %s", path)
}

// writeCIDFile writes the id, without a newline, with the caller's rights,
// and never through a symbolic link.
func writeCIDFile(path, id string, c *cli.Caller) error {
	if path == "" {
		return nil
	}
	return fail.Wrap(fail.Usage, c.Do(func() error {
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0o644)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), path)
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			f.Close()
			return err
		}
		if err := usableCIDFile(path, &st, c); err != nil {
			f.Close()
			return err
		}
		_, err = f.WriteString(id)
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(path) // half an id is nobody's
		}
		return err
	}), "container ID file %q", path)
}
