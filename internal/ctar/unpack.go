package ctar

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// rules say what an unpacker takes over.
type rules struct {
	// Only is the one name at the top that entries may have; "" is any.
	Only string `json:"only,omitempty"`
	// Owners are those of the stream; otherwise files belong to who makes them.
	Owners bool `json:"owners,omitempty"`
	// Links on the way to an entry are followed if they were there before: only
	// where the root directory is the container's. Otherwise they are errors.
	Links bool `json:"-"`
}

// unpacker creates the files of a tar stream below a directory.
type unpacker struct {
	rules
	top, proc int
	buf       []byte
	open      []pending // directories, each below the one before
	parent    string    // name of the directory at, "" if there is none
	at        int
	problems  Problems
}

// pending is a directory that gets its mode and times once it is complete.
type pending struct {
	name string
	fd   int
	h    *tar.Header
	made bool
}

// unpack creates what the stream holds below the directory top. The content
// is hostile: each name is checked, opened below top without following links
// that the stream could have made, and created under exactly that name.
func unpack(r io.Reader, proc, top int, ru rules) (_ Problems, err error) {
	u := &unpacker{rules: ru, top: top, proc: proc, buf: make([]byte, bufferSize)}
	defer func() {
		err = errors.Join(err, u.finish(""))
		u.forget()
	}()
	if err := refuseKernelFS(top, "."); err != nil {
		return u.problems, err
	}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return u.problems, nil
		}
		if err != nil {
			return u.problems, fail.Wrap(fail.NoStatus, err, "reading the archive")
		}
		if err := u.entry(h, tr); err != nil {
			return u.problems, err
		}
	}
}

func refuseKernelFS(fd int, name string) error {
	fs, err := onKernelFS(fd)
	if err == nil && fs != "" {
		err = fail.New(fail.NoStatus, "%s is on %s: nothing is copied there", quote(name), fs)
	}
	return err
}

// cleaned gives the entry's name below the top, or an error if it would be
// elsewhere.
func (u *unpacker) cleaned(name string) (string, error) {
	if len(name) >= unix.PathMax || strings.ContainsRune(name, 0) {
		return "", fail.New(fail.NoStatus, "the archive has an impossible name: %s", quote(name))
	}
	if path.IsAbs(name) {
		// Archives of root directories have them; tar takes the slash off as well.
		if !u.Links {
			return "", fail.New(fail.NoStatus, "the archive has an absolute name: %s", quote(name))
		}
		name = strings.TrimLeft(name, "/")
	}
	for c := range strings.SplitSeq(name, "/") {
		if c == ".." {
			return "", fail.New(fail.NoStatus, "the archive has a name that leads out of it: %s", quote(name))
		}
	}
	name = path.Clean(name)
	if first, _, _ := strings.Cut(name, "/"); u.Only != "" && first != u.Only {
		return "", fail.New(fail.NoStatus, "the archive has %s, which was not asked for", quote(name))
	}
	return name, nil
}

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := u.cleaned(h.Name)
	if err != nil || name == "." {
		return err
	}
	if err := u.finish(name); err != nil {
		return err
	}
	if err := u.enter(path.Dir(name)); err != nil {
		return named(err, name)
	}
	base := path.Base(name)
	switch h.Typeflag {
	case tar.TypeDir:
		err = u.directory(base, name, h)
	case tar.TypeReg, '\x00': // '\x00' as in archives of before POSIX
		err = u.regular(base, name, h, content)
	case tar.TypeSymlink:
		err = u.symlink(base, name, h)
	case tar.TypeLink:
		err = u.link(base, name, h)
	case tar.TypeChar, tar.TypeBlock:
		u.problems.add(name, "is a device")
	case tar.TypeFifo:
		u.problems.add(name, "is a FIFO")
	default:
		u.problems.add(name, fmt.Sprintf("has the unknown type %q", h.Typeflag))
	}
	return named(err, name)
}

// named says of which entry an error is.
func named(err error, name string) error {
	var e *fail.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return fail.Wrap(fail.NoStatus, err, "%s", quote(name))
}

// way are the rules for what leads to an entry.
func (u *unpacker) way() uint64 {
	if u.Links { // the root directory of this process is the container's
		return unix.RESOLVE_NO_MAGICLINKS
	}
	return unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS
}

// enter opens the directory an entry is in; it is made if it is missing.
func (u *unpacker) enter(dir string) error {
	if u.parent == dir {
		return nil
	}
	u.forget()
	fd, err := openat2(u.top, dir, unix.O_PATH|unix.O_DIRECTORY, 0, u.way())
	if errors.Is(err, unix.ENOENT) {
		if err = u.mkdirAll(dir); err == nil {
			fd, err = openat2(u.top, dir, unix.O_PATH|unix.O_DIRECTORY, 0, u.way())
		}
	}
	if errors.Is(err, unix.ELOOP) {
		return fail.New(fail.NoStatus, "%s is reached through a symbolic link, which is not followed", quote(dir))
	}
	if err != nil {
		return err
	}
	if err := refuseKernelFS(fd, dir); err != nil {
		unix.Close(fd)
		return err
	}
	u.parent, u.at = dir, fd
	return nil
}

func (u *unpacker) forget() {
	if u.parent != "" {
		unix.Close(u.at)
		u.parent = ""
	}
}

func (u *unpacker) mkdirAll(dir string) error {
	for i := 0; i <= len(dir); i++ {
		if i < len(dir) && dir[i] != '/' {
			continue
		}
		up, err := openat2(u.top, path.Dir(dir[:i]), unix.O_PATH|unix.O_DIRECTORY, 0, u.way())
		if err != nil {
			return err
		}
		err = unix.Mkdirat(up, path.Base(dir[:i]), 0o755)
		unix.Close(up)
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return nil
}

// kind is what has the name now: a file type, or 0.
func (u *unpacker) kind(base string) (uint32, error) {
	var st unix.Stat_t
	err := unix.Fstatat(u.at, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	return st.Mode & unix.S_IFMT, err
}

// clear removes what has the name, if that is no directory.
func (u *unpacker) clear(base, name string) error {
	k, err := u.kind(base)
	switch {
	case err != nil || k == 0:
		return err
	case k == unix.S_IFDIR:
		return fail.New(fail.NoStatus, "cannot overwrite directory %s with non-directory", quote(name))
	}
	err = unix.Unlinkat(u.at, base, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func (u *unpacker) directory(base, name string, h *tar.Header) error {
	if len(u.open) >= maxDepth {
		return fail.New(fail.NoStatus, "%s lies too deep", quote(name))
	}
	err := unix.Mkdirat(u.at, base, 0o700)
	made := err == nil
	if errors.Is(err, unix.EEXIST) {
		var k uint32
		if k, err = u.kind(base); err == nil && k != unix.S_IFDIR {
			return fail.New(fail.NoStatus, "cannot overwrite non-directory %s with directory", quote(name))
		}
	}
	if err != nil {
		return err
	}
	fd, err := openat(u.at, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	if err := refuseKernelFS(fd, name); err != nil {
		unix.Close(fd)
		return err
	}
	u.open = append(u.open, pending{name, fd, h, made})
	return nil
}

// finish completes the directories that name is not below.
func (u *unpacker) finish(name string) (err error) {
	for n := len(u.open); n > 0; n = len(u.open) {
		d := u.open[n-1]
		if name != "" && strings.HasPrefix(name, d.name+"/") {
			return nil
		}
		u.open = u.open[:n-1]
		err = errors.Join(err, named(u.complete(d.fd, d.h, d.made), d.name))
		unix.Close(d.fd)
	}
	return err
}

func (u *unpacker) regular(base, name string, h *tar.Header, content io.Reader) error {
	err := u.clear(base, name)
	var fd int
	switch {
	case err == nil:
		fd, err = openat(u.at, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600)
	case errors.Is(err, unix.EBUSY): // something is mounted on it
		fd, err = u.overwrite(base)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	n, err := io.CopyBuffer(descriptor(fd), content, u.buf)
	if err != nil {
		return err
	}
	if n != h.Size {
		return fail.New(fail.NoStatus, "%s: the archive ends within it", quote(name))
	}
	return u.complete(fd, h, true)
}

// overwrite opens a regular file that cannot be replaced.
func (u *unpacker) overwrite(base string) (int, error) {
	at, err := openat(u.at, base, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return -1, err
	}
	if kind := kindOf(st.Mode); kind != "" {
		return -1, fail.New(fail.NoStatus, "%s is %s: it is not written to", quote(base), kind)
	}
	if err := refuseKernelFS(at, base); err != nil {
		return -1, err
	}
	return reopen(u.proc, at, unix.O_WRONLY|unix.O_TRUNC)
}

func (u *unpacker) symlink(base, name string, h *tar.Header) error {
	if h.Linkname == "" || len(h.Linkname) >= unix.PathMax || strings.ContainsRune(h.Linkname, 0) {
		return fail.New(fail.NoStatus, "%s: an impossible symbolic link", quote(name))
	}
	if err := u.clear(base, name); err != nil {
		return err
	}
	if err := unix.Symlinkat(h.Linkname, u.at, base); err != nil {
		return err
	}
	if err := u.chown(u.at, base, h, true); err != nil {
		return err
	}
	t := times(h)
	_ = unix.UtimesNanoAt(u.at, base, t[:], unix.AT_SYMLINK_NOFOLLOW) // not every file system keeps it
	return nil
}

// link makes another name of a regular file or symbolic link of the archive.
func (u *unpacker) link(base, name string, h *tar.Header) error {
	from, err := u.cleaned(h.Linkname)
	if err != nil {
		return err
	}
	dir, err := openat2(u.top, path.Dir(from), unix.O_PATH|unix.O_DIRECTORY, 0, u.way())
	if err != nil {
		return named(err, from)
	}
	defer unix.Close(dir)
	if from == name {
		return fail.New(fail.NoStatus, "%s: a link to itself", quote(name))
	}
	if err := u.clear(base, name); err != nil {
		return err
	}
	return named(unix.Linkat(dir, path.Base(from), u.at, base, 0), from)
}
