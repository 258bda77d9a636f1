package ctar

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// packer writes a tree as a tar stream. No name is looked up twice: each file
// is opened below its directory's descriptor, without following links and
// without effects (O_PATH), looked at, and then read by that descriptor.
type packer struct {
	w        *tar.Writer
	proc     int
	buf      []byte
	links    map[[2]uint64]string
	problems Problems
}

// pack writes what fd (O_PATH) is, under the given name; "." is the content
// of a directory. Ids are written as this process sees them.
func pack(w io.Writer, proc, fd int, name string) (Problems, error) {
	p := &packer{w: tar.NewWriter(w), proc: proc, buf: make([]byte, bufferSize), links: map[[2]uint64]string{}}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return p.problems, err
	}
	if err := p.entry(fd, &st, name, 0); err != nil {
		return p.problems, err
	}
	return p.problems, p.w.Close()
}

// entry writes one file, and what is below it. Errors are those of the
// stream: what cannot be read is a problem, and the rest goes on.
func (p *packer) entry(fd int, st *unix.Stat_t, name string, depth int) error {
	if len(name) >= unix.PathMax-1 { // the kernel could not be told of it
		p.problems.add(name, "the path is too long")
		return nil
	}
	if kind := kindOf(st.Mode); kind != "" {
		p.problems.add(name, "is "+kind)
		return nil
	}
	fs := ""
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		var err error
		if fs, err = onKernelFS(fd); err != nil {
			p.problems.add(name, err.Error())
			return nil
		}
	}
	h := &tar.Header{
		Format: tar.FormatPAX, Name: name, ModTime: time.Unix(st.Mtim.Unix()).Truncate(time.Second),
		Mode: int64(st.Mode & 0o1777), Uid: int(st.Uid), Gid: int(st.Gid),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return p.directory(fd, h, fs, depth)
	case unix.S_IFLNK:
		return p.symlink(fd, h)
	}
	if fs != "" {
		p.problems.add(name, "is on "+fs)
		return nil
	}
	return p.regular(fd, st, h)
}

func (p *packer) symlink(fd int, h *tar.Header) error {
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(fd, "", buf[:])
	if err != nil {
		p.problems.add(h.Name, err.Error())
		return nil
	}
	h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, string(buf[:n]), 0o777
	return p.w.WriteHeader(h)
}

func (p *packer) directory(fd int, h *tar.Header, fs string, depth int) error {
	h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
	if err := p.w.WriteHeader(h); err != nil {
		return err
	}
	name := path.Clean(h.Name)
	if fs != "" {
		p.problems.add(name, "is on "+fs+": its content is left out")
		return nil
	}
	if depth >= maxDepth-1 {
		p.problems.add(name, "lies too deep: its content is left out")
		return nil
	}
	d, err := openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		p.problems.add(name, err.Error())
		return nil
	}
	dir := os.NewFile(uintptr(d), "directory")
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(256)
		for _, n := range names {
			if err := p.child(d, n, path.Join(name, n), depth+1); err != nil {
				return err
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				p.problems.add(name, err.Error())
			}
			return nil
		}
	}
}

func (p *packer) child(dir int, base, name string, depth int) error {
	fd, err := openat(dir, base, unix.O_PATH|unix.O_NOFOLLOW, 0)
	var st unix.Stat_t
	if err == nil {
		defer unix.Close(fd)
		err = unix.Fstat(fd, &st)
	}
	if errors.Is(err, unix.ENOENT) { // removed since the directory was read
		return nil
	}
	if err != nil {
		p.problems.add(name, err.Error())
		return nil
	}
	return p.entry(fd, &st, name, depth)
}

// regular writes a file with the size it has now. One that grows is cut
// there; one that shrinks is filled up, or the stream would be unreadable.
func (p *packer) regular(at int, st *unix.Stat_t, h *tar.Header) error {
	h.Typeflag = tar.TypeReg
	id := [2]uint64{st.Dev, st.Ino}
	if first, known := p.links[id]; known && st.Nlink > 1 {
		h.Typeflag, h.Linkname = tar.TypeLink, first
		return p.w.WriteHeader(h)
	}
	fd, err := reopen(p.proc, at, unix.O_RDONLY)
	if err == nil {
		defer unix.Close(fd)
		err = unix.Fstat(fd, st)
	}
	if err != nil {
		p.problems.add(h.Name, err.Error())
		return nil
	}
	h.Size = st.Size
	if err := p.w.WriteHeader(h); err != nil {
		return err
	}
	if st.Nlink > 1 && len(p.links) < maxLinks {
		p.links[id] = h.Name
	}
	in := &source{fd: descriptor(fd)}
	n, err := io.CopyBuffer(onlyWriter{p.w}, io.LimitReader(in, h.Size), p.buf)
	switch {
	case err != nil && in.err == nil:
		return err
	case in.err != nil:
		p.problems.add(h.Name, in.err.Error())
	case n < h.Size:
		p.problems.add(h.Name, fmt.Sprintf("it became smaller while it was read: %d bytes at its end are zeros", h.Size-n))
	}
	clear(p.buf)
	for n < h.Size {
		w, err := p.w.Write(p.buf[:min(h.Size-n, int64(len(p.buf)))])
		if err != nil {
			return err
		}
		n += int64(w)
	}
	return nil
}

// source tells errors of reading from those of writing.
type source struct {
	fd  descriptor
	err error
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.fd.Read(b)
	if err != nil {
		s.err = err
		return n, err
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// onlyWriter hides the other methods, which would not use the buffer.
type onlyWriter struct{ io.Writer }
