package volumes

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// maxEntries bounds how much of an image a volume is filled with.
const maxEntries = 2_000_000

// CopyUp fills a new volume with what the image has at the volume's path.
// Both trees are walked below held directory descriptors, so no symbolic link
// of the image leads out of either (CVE-2022-23648). Owners, modes and times are
// kept; set-id bits, devices, sockets and extended attributes are left behind.
//
// If the image has a file at the path the error is fail.Usage: a volume is a
// directory. The end of ctx ends the copy.
func CopyUp(ctx context.Context, image *os.File, volume string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(image.Fd()), &st); err != nil {
		return fail.Wrap(fail.HostCannot, err, "volume content")
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fail.New(fail.Usage, "the image has a file where the volume is to be mounted")
	}
	src, err := os.OpenRoot(image.Name())
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "volume content")
	}
	defer src.Close()
	dst, err := os.OpenRoot(volume)
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "volume")
	}
	defer dst.Close()
	c := copier{ctx: ctx, src: src, dst: dst, links: map[inode]string{}}
	if err := c.dir("."); err != nil {
		return fail.Wrap(fail.HostCannot, err, "filling the volume from the image")
	}
	return fail.Wrap(fail.HostCannot, c.attributes(".", &st), "filling the volume from the image")
}

type copier struct {
	ctx      context.Context
	src, dst *os.Root
	n        int
	links    map[inode]string // first names of files with several
}

type inode struct{ dev, ino uint64 }

func (c *copier) dir(at string) error {
	d, err := c.src.Open(at)
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		entries, err := d.ReadDir(512)
		for _, e := range entries {
			if c.n++; c.n > maxEntries {
				return errors.New("too many files")
			}
			if err := context.Cause(c.ctx); err != nil {
				return err
			}
			if err := c.entry(path.Join(at, e.Name())); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (c *copier) entry(at string) error {
	fi, err := c.src.Lstat(at)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*unixStat)
	if !ok {
		return fs.ErrInvalid
	}
	switch {
	case fi.IsDir():
		if err := c.dst.Mkdir(at, 0o700); err != nil {
			return err
		}
		if err := c.dir(at); err != nil {
			return err
		}
	case fi.Mode().IsRegular():
		if st.Nlink > 1 { // copied once: an image could have a thousand names of one large file
			id := inode{st.Dev, st.Ino}
			if first, ok := c.links[id]; ok {
				return c.dst.Link(first, at)
			}
			c.links[id] = at
		}
		if err := c.file(at); err != nil {
			return err
		}
	case fi.Mode()&fs.ModeSymlink != 0:
		to, err := c.src.Readlink(at)
		if err != nil {
			return err
		}
		if err := c.dst.Symlink(to, at); err != nil {
			return err
		}
		return c.dst.Lchown(at, int(st.Uid), int(st.Gid))
	default: // devices, sockets and FIFOs stay behind
		return nil
	}
	return c.attributes(at, statOf(st))
}

func (c *copier) file(at string) error {
	in, err := c.src.OpenFile(at, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := c.dst.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	for err == nil {
		if _, err = io.CopyN(out, in, 64<<20); err == nil {
			err = context.Cause(c.ctx)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, out.Close())
}

func (c *copier) attributes(at string, st *unix.Stat_t) error {
	if err := c.dst.Lchown(at, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	mode := fs.FileMode(st.Mode & 0o777)
	if st.Mode&unix.S_ISVTX != 0 {
		mode |= fs.ModeSticky
	}
	if err := c.dst.Chmod(at, mode); err != nil {
		return err
	}
	mtime := time.Unix(st.Mtim.Unix())
	return c.dst.Chtimes(at, mtime, mtime)
}
