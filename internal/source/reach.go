package source

import (
	"errors"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/spec"
)

// maxLinks is how many symbolic links the kernel follows (path_resolution(7)).
const maxLinks = 40

// reached is what a path led to.
type reached struct {
	fd    int
	magic bool // through a magic link of procfs
	links []spec.SourceLink
}

// reach opens p with the rights of who asks. If these do not suffice it is
// opened with our own, for the facts a grant is judged by, and denied says so.
func reach(p string, how manner) (got reached, denied bool, err error) {
	if how.as == nil {
		got, err = follow(p)
		return got, false, err
	}
	err = how.as(func() (err error) {
		got, err = follow(p)
		return err
	})
	switch {
	case err == nil:
		return got, how.as(func() error { return may(got.fd, how.writable) }) != nil, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return got, false, err
	}
	got, err = follow(p)
	return got, true, err
}

// may says whether this thread may do to a source what the container could do
// to it: read, enter a directory, write, connect.
func may(fd int, writable bool) error {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|statAttrs, unix.STATX_TYPE, &st); err != nil {
		return err
	}
	want := uint32(unix.R_OK)
	switch uint32(st.Mode) & unix.S_IFMT {
	case unix.S_IFDIR:
		want |= unix.X_OK
	case unix.S_IFSOCK: // a read-only mount keeps nobody from connecting
		want |= unix.W_OK
	}
	if writable {
		want |= unix.W_OK
	}
	err := unix.Faccessat2(fd, "", want, unix.AT_EMPTY_PATH|unix.AT_EACCESS)
	if errors.Is(err, unix.EROFS) { // nor could anybody else
		want &^= unix.W_OK
		err = unix.Faccessat2(fd, "", want, unix.AT_EMPTY_PATH|unix.AT_EACCESS)
	}
	return err
}

// follow opens p without magic links; O_PATH opens no device, no FIFO, and
// starts no automount for the last component. When only a magic link is in the
// way it opens through it and says so.
func follow(p string) (got reached, err error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS}
	got.fd, err = openat2(unix.AT_FDCWD, p, &how)
	if !errors.Is(err, unix.ELOOP) {
		return got, err // no links at all, as nearly always
	}
	how.Resolve = unix.RESOLVE_NO_MAGICLINKS
	got.fd, err = openat2(unix.AT_FDCWD, p, &how)
	if err == nil {
		if got.links, err = links(p, got.fd); err != nil {
			_ = unix.Close(got.fd) // O_PATH: nothing to lose
		}
		return got, err
	}
	if !errors.Is(err, unix.ELOOP) {
		return got, err
	}
	// ELOOP has two meanings: too many links, or a magic one.
	how.Resolve = 0
	fd, again := openat2(unix.AT_FDCWD, p, &how)
	if again != nil {
		return got, err
	}
	return reached{fd: fd, magic: true}, nil
}

var errChanged = errors.New("it leads elsewhere than a moment ago: somebody changes it")

// links lists the symbolic links by which p leads to what end is open on.
func links(p string, end int) (found []spec.SourceLink, err error) {
	at, err := openBare(unix.AT_FDCWD, "/")
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(at) }() // O_PATH: nothing to lose
	way := "/"                            // at, for messages
	for rest := strings.Split(p, "/"); len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		next, err := openBare(at, name)
		if err != nil {
			return nil, err
		}
		link, target, err := asLink(next)
		if err != nil || link != nil {
			_ = unix.Close(next) // O_PATH: nothing to lose
		}
		switch {
		case err != nil:
			return nil, err
		case link == nil:
			_ = unix.Close(at) // O_PATH: nothing to lose
			at, way = next, path.Join(way, name)
			continue
		case len(found) == maxLinks:
			return nil, unix.ELOOP
		}
		link.Path = path.Join(way, name)
		found = append(found, *link)
		if strings.HasPrefix(target, "/") {
			root, err := openBare(unix.AT_FDCWD, "/")
			if err != nil {
				return nil, err
			}
			_ = unix.Close(at) // O_PATH: nothing to lose
			at, way = root, "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return found, sameObject(at, end)
}

// openBare opens what has the name, a link itself if it is one.
func openBare(dir int, name string) (int, error) {
	return openat2(dir, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC})
}

// asLink reads a symbolic link; nil if fd is something else.
func asLink(fd int) (l *spec.SourceLink, target string, err error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|statAttrs, unix.STATX_TYPE|unix.STATX_UID, &st); err != nil {
		return nil, "", err
	}
	if uint32(st.Mode)&unix.S_IFMT != unix.S_IFLNK {
		return nil, "", nil
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	return &spec.SourceLink{UID: st.Uid}, string(buf[:max(n, 0)]), err
}

func sameObject(a, b int) error {
	var one, other unix.Statx_t
	for fd, st := range map[int]*unix.Statx_t{a: &one, b: &other} {
		if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|statAttrs, unix.STATX_INO, st); err != nil {
			return err
		}
	}
	if one.Ino != other.Ino || one.Dev_major != other.Dev_major || one.Dev_minor != other.Dev_minor {
		return errChanged
	}
	return nil
}

// openPath is follow for the well-known paths, whose links say nothing.
func openPath(p string) (int, error) {
	return openat2(unix.AT_FDCWD, p, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS})
}

func openat2(dir int, p string, how *unix.OpenHow) (int, error) {
	for {
		fd, err := unix.Openat2(dir, p, how)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
}
