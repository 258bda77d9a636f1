package ctar

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// HostSource says what a path of the host leads to. Like all functions whose
// name begins with Host it has the rights of the calling thread.
func HostSource(p string, follow bool) (Info, error) {
	fd, info, err := view{}.source(p, follow)
	if err != nil {
		return info, hostError(err, p)
	}
	unix.Close(fd)
	return info, nil
}

// HostDestination says what a path of the host leads to, or would.
func HostDestination(p string) (Info, error) {
	info, err := view{}.destination(p)
	return info, hostError(err, p)
}

// HostPack writes what is at a path of the host as a tar stream, under the
// given name.
func HostPack(w io.Writer, p string, follow bool, name string) (Problems, error) {
	proc, err := openProc()
	if err != nil {
		return Problems{}, hostError(err, "/proc/self/fd")
	}
	defer unix.Close(proc)
	fd, _, err := view{}.source(p, follow)
	if err != nil {
		return Problems{}, hostError(err, p)
	}
	defer unix.Close(fd)
	return pack(w, proc, fd, name)
}

// HostUnpack creates the files of a hostile tar stream below the directory
// dir: only those with the given name at the top, or all if it is "". They
// belong to whom the thread's rights are, or to whom the stream says.
func HostUnpack(r io.Reader, dir, only string, owners bool) (Problems, error) {
	proc, err := openProc()
	if err != nil {
		return Problems{}, hostError(err, "/proc/self/fd")
	}
	defer unix.Close(proc)
	top, err := view{}.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) {
		return Problems{}, fail.New(fail.NotFound, "invalid output path: directory %s does not exist", quote(dir))
	}
	if err != nil {
		return Problems{}, hostError(err, dir)
	}
	defer unix.Close(top)
	return unpack(r, proc, top, rules{Only: only, Owners: owners})
}

func hostError(err error, p string) error {
	var e *fail.Error
	switch {
	case err == nil || errors.As(err, &e):
		return err
	case errors.Is(err, unix.ENOENT):
		return fail.New(fail.NotFound, "lstat %s: no such file or directory", p)
	}
	return fail.Wrap(fail.NoStatus, err, "%s", p)
}
