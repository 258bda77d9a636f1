package audit

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// errServed: a path leads into a file system that some program answers for,
// perhaps one in the container. Who asks it may wait for ever, and cannot be
// killed while it does.
var errServed = errors.New("it is in a file system that a program answers for")

// walker goes through the container's directories as its processes would,
// never leaves its root, and asks no file system that may not answer.
type walker struct {
	*mountTable
	host   hostMounts
	rootID uint64 // of the mount the root is in
}

// held is a path as a descriptor, with what is known of it.
type held struct {
	fd int
	place
}

func (h held) close() { _ = unix.Close(h.fd) }

// answers says whether a file system is one of the kernel's own. An overlay is
// as good as what lies below it: that of the root was made by the runtime.
func (w *walker) answers(e *mountEntry) bool {
	switch {
	case remote(e.fs):
		return e.id == w.rootID && len(w.host.byDev[e.dev]) > 0
	case e.fs == "overlay":
		return e.id == w.rootID
	}
	return true
}

// hold takes over a descriptor.
func (w *walker) hold(fd int) (held, error) {
	p, err := w.lookFD(fd)
	if err != nil {
		_ = unix.Close(fd)
		return held{}, err
	}
	return held{fd, *p}, nil
}

// top is the root directory.
func (w *walker) top() (held, error) {
	fd, err := unix.FcntlInt(uintptr(w.root), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return held{}, err
	}
	return w.hold(fd)
}

// step goes to what has a name in a directory, and through no link.
func (w *walker) step(in held, name string) (held, error) {
	if !w.answers(in.entry) {
		return held{}, errServed
	}
	fd, err := unix.Openat2(in.fd, name, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return held{}, withoutErrnoUnless(err, unix.ENOENT, unix.ENOTDIR)
	}
	return w.hold(fd)
}

// walk finds a path, links followed.
func (w *walker) walk(p string) (held, error) {
	at, err := w.top()
	if err != nil {
		return held{}, err
	}
	up := []held{} // what at is in
	closeAll := func() {
		at.close()
		for _, u := range up {
			u.close()
		}
	}
	const most = 40 // links, as in the kernel
	links := 0
	rest := strings.Split(p, "/")
	for len(rest) > 0 && len(rest) < 4096 && len(up) < 256 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			if n := len(up); n > 0 {
				at.close()
				at, up = up[n-1], up[:n-1]
			}
			continue
		}
		next, err := w.step(at, name)
		if err != nil {
			closeAll()
			return held{}, err
		}
		if next.stat.Mode&unix.S_IFMT != unix.S_IFLNK {
			up, at = append(up, at), next
			continue
		}
		target, err := w.readlink(next)
		next.close()
		if links++; err == nil && links > most {
			err = unix.ENOTDIR // ELOOP: nothing is there
		}
		if err != nil {
			closeAll()
			return held{}, err
		}
		if strings.HasPrefix(target, "/") {
			closeAll()
			if at, err = w.top(); err != nil {
				return held{}, err
			}
			up = up[:0]
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	for _, u := range up {
		u.close()
	}
	if len(rest) > 0 {
		at.close()
		return held{}, errors.New("the path is too long")
	}
	return at, nil
}

// readlink reads a symbolic link. A magic one of procfs leads nowhere here.
func (w *walker) readlink(l held) (string, error) {
	if !w.answers(l.entry) {
		return "", errServed
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(l.fd, "", buf)
	if err != nil {
		return "", withoutErrnoUnless(err, unix.ENOENT)
	}
	return string(buf[:n]), nil
}

// list opens a directory to read its names.
func (w *walker) list(d held) (int, error) {
	if !w.answers(d.entry) {
		return -1, errServed
	}
	return unix.Openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
}
