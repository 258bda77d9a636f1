package volumes

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxDepth is how deep a tree is walked by descriptors held at the same time.
const maxDepth = 64

// removeAll removes a tree that a container has made. It follows no link, and
// a tree of any depth costs a bounded number of descriptors and stack: what
// lies deep is moved up first.
func removeAll(dir string) error {
	parent, err := os.OpenRoot(filepath.Dir(dir))
	if err != nil {
		return err
	}
	defer parent.Close()
	top, err := parent.OpenRoot(filepath.Base(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer top.Close()
	at, err := top.Open(".")
	if err != nil {
		return err
	}
	defer at.Close()
	r := remover{top: int(at.Fd())}
	for {
		before := r.moved
		if err := r.empty(int(at.Fd()), 0); err != nil {
			return err
		}
		if r.moved == before { // nothing came up that has to go
			break
		}
	}
	return parent.Remove(filepath.Base(dir))
}

type remover struct {
	top   int
	moved int
}

// empty removes all that is in a directory.
func (r *remover) empty(dir, depth int) error {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "directory")
	defer f.Close()
	for {
		names, err := f.Readdirnames(512)
		for _, n := range names {
			if err := r.remove(dir, n, depth); err != nil {
				return err
			}
		}
		if len(names) > 0 {
			// Entries that go while a directory is read may hide others.
			_, err = f.Seek(0, io.SeekStart)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *remover) remove(dir int, name string, depth int) error {
	err := unix.Unlinkat(dir, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return &fs.PathError{Op: "unlink", Path: strconv.Quote(name), Err: err}
	}
	err = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
		return &fs.PathError{Op: "rmdir", Path: strconv.Quote(name), Err: err}
	}
	if depth >= maxDepth {
		for {
			r.moved++
			err := unix.Renameat2(dir, name, r.top, ".deep-"+strconv.Itoa(r.moved), unix.RENAME_NOREPLACE)
			if !errors.Is(err, unix.EEXIST) {
				return err
			}
		}
	}
	sub, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = r.empty(sub, depth+1)
	unix.Close(sub)
	if err != nil {
		return err
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

// Size gives the bytes a volume's files hold, each counted once however many
// names it has. It stops counting at a number of files far above real ones.
func (v Volumes) Size(name string) (int64, error) {
	if err := checkName(name); err != nil {
		return 0, err
	}
	return TreeSize(v.Path(name))
}

// TreeSize gives the bytes of all files below a directory. No link is
// followed, and directories nested deeper than any sane tree are left out.
func TreeSize(dir string) (int64, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	var sum int64
	files := 0
	linked := map[inode]bool{}
	var walk func(at string, depth int) error
	walk = func(at string, depth int) error {
		d, err := root.Open(at)
		if err != nil {
			return err
		}
		defer d.Close()
		for {
			entries, err := d.ReadDir(512)
			for _, e := range entries {
				fi, err := e.Info()
				if err != nil {
					continue // gone meanwhile
				}
				if files++; files > maxEntries {
					return nil
				}
				if fi.IsDir() {
					if depth < maxDepth {
						_ = walk(path.Join(at, e.Name()), depth+1)
					}
					continue
				}
				if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
					id := inode{st.Dev, st.Ino}
					if linked[id] {
						continue
					}
					linked[id] = true
				}
				sum += fi.Size()
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
		}
	}
	return sum, walk(".", 0)
}
