// Package trusted reads files that decide about rights, and so must be root's.
package trusted

import (
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/strictyaml"
)

// patience is how long a file may make its reader wait.
const patience = 2 * time.Second

// ReadFile reads a file of at most max bytes that only root can have written:
// owned by root, not writable by others, and so for every directory from top
// ("/", but for tests) on the way to it. Links are refused, so what was checked
// is what is read. What is the file's kind for messages ("policy").
//
// The error is os.ErrNotExist if there is none, else of kind Refused.
func ReadFile(what, file, top string, max int64) ([]byte, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return nil, fail.Wrap(fail.Refused, err, "cannot read %s %s", what, shown(file))
	}
	how := &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY, Resolve: unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(unix.AT_FDCWD, file, how)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, os.ErrNotExist
	case errors.Is(err, unix.ELOOP):
		return nil, fail.New(fail.Refused, "%s %s is, or lies behind, a symbolic link", what, shown(file)).Hint("put the file itself there")
	case err != nil:
		return nil, fail.Wrap(fail.Refused, err, "cannot read %s %s", what, shown(file))
	}
	f := os.NewFile(uintptr(fd), file)
	defer f.Close() // read only

	if err := judge(what, fd, file, unix.S_IFREG); err != nil {
		return nil, err
	}
	if err := Dir(what, path.Dir(file), top); err != nil {
		return nil, err
	}
	// Some regular files of the kernel (/proc/kmsg) wait for more.
	_ = f.SetReadDeadline(time.Now().Add(patience))
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	switch {
	case err != nil:
		return nil, fail.Wrap(fail.Refused, err, "cannot read %s %s", what, shown(file))
	case int64(len(data)) > max:
		return nil, fail.New(fail.Refused, "%s %s: larger than %d KiB", what, shown(file), max>>10)
	}
	return data, nil
}

// Dir says of an absolute path whether only root can have put something into
// that directory, or taken it away, as ReadFile does of a file. One that does
// not exist is no error.
func Dir(what, dir, top string) error {
	for ; ; dir = path.Dir(dir) {
		switch err := judgeDir(what, dir); {
		case errors.Is(err, os.ErrNotExist):
			return nil
		case err != nil:
			return err
		}
		if dir == top || dir == "/" {
			return nil
		}
	}
}

func judgeDir(what, dir string) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail.Wrap(fail.Refused, err, "cannot look at %s, which holds the %s", shown(dir), what)
	}
	defer func() { _ = unix.Close(fd) }() // O_PATH: nothing to lose
	return judge(what, fd, dir, unix.S_IFDIR)
}

func judge(what string, fd int, name string, kind uint32) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fail.Wrap(fail.Refused, err, "cannot look at %s", shown(name))
	}
	switch {
	case st.Mode&unix.S_IFMT != kind:
		return fail.New(fail.Refused, "%s: %s is not a regular file", what, shown(name))
	case st.Uid != 0:
		return fail.New(fail.Refused, "%s: %s belongs to uid %d, who can change it", what, shown(name), st.Uid).Hint("chown root:root %s", shown(name))
	case st.Mode&0o022 != 0:
		return fail.New(fail.Refused, "%s: %s has mode %04o: others than root can change it", what, shown(name), st.Mode&0o7777).Hint("chmod go-w %s", shown(name))
	}
	return nil
}

func shown(name string) string { return strictyaml.At(name, 0) }
