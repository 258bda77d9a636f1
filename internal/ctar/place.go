package ctar

import (
	"errors"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// Info is what a path leads to.
type Info struct {
	Path   string `json:"path"`   // after the links at its end, if those were to be followed
	Exists bool   `json:"exists"` // always true of sources
	Dir    bool   `json:"dir,omitempty"`
	Kind   string `json:"kind,omitempty"` // of what is not copied: "a device", ...
}

// view is how one end looks paths up. The zero value is the host's, with the
// rights of the thread: a user may name what they like, links of /proc
// included.
type view struct{ resolve uint64 }

// ofContainer is the view of a process whose root directory is the container's.
func ofContainer() view { return view{unix.RESOLVE_NO_MAGICLINKS} }

func (v view) open(p string, flags int) (int, error) {
	fd, err := openat2(unix.AT_FDCWD, p, flags, 0, v.resolve)
	return fd, err
}

// insists says that a path names a directory, or what is in one: it ends with
// a slash or a dot.
func insists(p string) bool {
	b := p[strings.LastIndexByte(p, '/')+1:]
	return b == "" || b == "." || b == ".."
}

// Base is the name under which what is at a source path is copied; "." if it
// is the content of a directory.
func Base(p string) string {
	if b := p[strings.LastIndexByte(p, '/')+1:]; b == "." {
		return "."
	}
	if b := path.Base(path.Clean(p)); b != "/" && b != ".." {
		return b
	}
	return "."
}

// source opens what is to be copied (O_PATH). A link at the end is followed
// only if asked to, or if the path insists on a directory.
func (v view) source(p string, follow bool) (int, Info, error) {
	flags := unix.O_PATH
	if !follow && !insists(p) {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := v.open(p, flags)
	if err != nil {
		return -1, Info{}, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, Info{}, err
	}
	return fd, infoOf(p, &st), nil
}

func infoOf(p string, st *unix.Stat_t) Info {
	return Info{Path: p, Exists: true, Dir: st.Mode&unix.S_IFMT == unix.S_IFDIR, Kind: kindOf(st.Mode)}
}

// destination follows the links at the end of p by hand, since the last of
// them may lead to what is still to be made.
func (v view) destination(p string) (Info, error) {
	for range 10 {
		fd, err := v.open(p, unix.O_PATH|unix.O_NOFOLLOW)
		if errors.Is(err, unix.ENOENT) {
			return Info{Path: p}, nil
		}
		if errors.Is(err, unix.ENOTDIR) && insists(p) {
			return Info{}, notDirectory()
		}
		if err != nil {
			return Info{}, err
		}
		var st unix.Stat_t
		var buf [unix.PathMax]byte
		err = unix.Fstat(fd, &st)
		n := 0
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			n, err = unix.Readlinkat(fd, "", buf[:])
		}
		unix.Close(fd)
		if err != nil {
			return Info{}, err
		}
		if n == 0 {
			return infoOf(p, &st), nil
		}
		if to := string(buf[:n]); strings.HasPrefix(to, "/") {
			p = to
		} else {
			dir, _ := split(p)
			p = dir + "/" + to
		}
		if len(p) >= unix.PathMax {
			break
		}
	}
	return Info{}, unix.ELOOP
}

// split takes the last name of a path off. The rest is not cleaned: with
// links in it, "x/.." is not the directory of x.
func split(p string) (dir, base string) {
	p = strings.TrimRight(p, "/")
	for strings.HasSuffix(p, "/.") {
		p = strings.TrimRight(strings.TrimSuffix(p, "."), "/")
	}
	i := strings.LastIndexByte(p, '/')
	switch {
	case i < 0:
		return ".", p
	case i == 0:
		return "/", p[1:]
	}
	return p[:i], p[i+1:]
}

func notDirectory() error { return fail.New(fail.NoStatus, "not a directory") }
func noDirectory() error  { return fail.New(fail.NotFound, "no such directory") }

// Plan decides as docker does where a source goes: into which directory, and
// under which name. base is the source's own name (see Base).
//
// A directory takes the source in. A file is replaced, but not by a directory.
// What does not exist is made under that name, unless the path insists on a
// directory and the source is none.
func Plan(base string, sourceDir bool, to Info) (dir, name string, err error) {
	switch {
	case to.Exists && to.Dir:
		return to.Path, base, nil
	case to.Exists && to.Kind != "":
		return "", "", fail.New(fail.NoStatus, "destination %s must be a directory or a regular file: it is %s", quote(to.Path), to.Kind)
	case to.Exists && sourceDir:
		return "", "", fail.New(fail.NoStatus, "cannot copy directory")
	case to.Exists && insists(to.Path):
		return "", "", notDirectory()
	case !to.Exists && !sourceDir && insists(to.Path):
		return "", "", noDirectory()
	}
	dir, name = split(to.Path)
	if name == "" || name == ".." {
		return "", "", noDirectory()
	}
	return dir, name, nil
}
