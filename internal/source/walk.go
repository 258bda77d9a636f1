package source

import (
	"bytes"
	"context"
	"encoding/binary"
	"io/fs"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/spec"
)

// Bounds of the search for sockets. It stands on the launch path, so it must
// cost little even for a source with millions of files; sockets that are alive
// in the host's network namespace are found without it.
const (
	walkEntries = 20000
	walkDepth   = 10
	walkTime    = 250 * time.Millisecond
	maxSockets  = 16 // more say nothing new
)

// findSockets fills Sockets, and Above with hard links to known files.
func (h *host) findSockets(ctx context.Context, fd int, s *spec.Source) {
	if s.Mode&fs.ModeSocket != 0 {
		s.Sockets = appendNew(s.Sockets, s.Real)
		return
	}
	if !s.Mode.IsDir() {
		return
	}
	for _, sock := range h.boundSockets() {
		if len(s.Sockets) < maxSockets && holds(s, sock) && isSocket(sock) {
			s.Sockets = appendNew(s.Sockets, sock)
		}
	}
	for _, name := range s.Aliases {
		if name == "/" {
			s.WalkTruncated = true // nothing to learn
			return
		}
	}
	w := &walk{
		source:   s,
		known:    make(map[uint64][]knownPoint),
		skip:     make(map[string]bool),
		left:     walkEntries,
		deadline: time.Now().Add(walkTime),
		ctx:      ctx,
	}
	for _, k := range h.knownPoints() {
		w.known[k.ino] = append(w.known[k.ino], k)
	}
	for _, sub := range s.Submounts {
		if _, remote := remoteMagic(sub.FS); remote && sub.Mounted {
			w.skip[sub.Path] = true
		}
	}
	if _, remote := remoteMagic(s.FS); remote {
		s.WalkTruncated = true
		return
	}
	w.run(fd)
}

// isSocket also counts what cannot be looked at: the kernel lists it as one.
func isSocket(p string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, p, unix.AT_SYMLINK_NOFOLLOW|statAttrs, unix.STATX_TYPE, &st)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return false
	}
	return err != nil || uint32(st.Mode)&unix.S_IFMT == unix.S_IFSOCK
}

type walk struct {
	source   *spec.Source
	known    map[uint64][]knownPoint // by inode number
	skip     map[string]bool         // submounts whose server may hang
	left     int                     // entries still to be looked at
	deadline time.Time
	ctx      context.Context
}

type dirent struct {
	ino  uint64
	kind byte
	name string
}

type pending struct {
	rel   string // "" is the source itself
	depth int
}

// run goes breadth first, so that a bound cuts off the deepest directories.
func (w *walk) run(root int) {
	queue := []pending{{}}
	buf := make([]byte, 32<<10)
	for len(queue) > 0 {
		dir := queue[0]
		queue = queue[1:]
		if w.exhausted() {
			w.source.WalkTruncated = true
			return
		}
		below := w.readDir(root, dir.rel, buf)
		if dir.depth == walkDepth {
			w.source.WalkTruncated = w.source.WalkTruncated || len(below) > 0
			continue
		}
		for _, rel := range below {
			queue = append(queue, pending{rel, dir.depth + 1})
		}
	}
}

func (w *walk) exhausted() bool {
	return w.left <= 0 || w.ctx.Err() != nil || time.Now().After(w.deadline) || len(w.source.Sockets) >= maxSockets
}

// readDir looks at the entries of one directory and gives its subdirectories.
// Links are not followed and magic links cannot be.
func (w *walk) readDir(root int, rel string, buf []byte) (dirs []string) {
	at := rel
	if at == "" {
		at = "."
	}
	fd, err := unix.Openat2(root, at, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		w.source.WalkTruncated = true
		return nil
	}
	defer func() { _ = unix.Close(fd) }() // read only
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil {
			w.source.WalkTruncated = true
			return dirs
		}
		if n == 0 {
			return dirs
		}
		for _, e := range parseDirents(buf[:n]) {
			if w.left--; w.exhausted() {
				w.source.WalkTruncated = true
				return dirs
			}
			child := path.Join(rel, e.name)
			if w.entry(fd, e, child) && !w.skip[path.Join(w.source.Real, child)] {
				dirs = append(dirs, child)
			}
		}
	}
}

// entry takes down one entry and says whether it is a directory to go into.
func (w *walk) entry(dir int, e dirent, rel string) (isDir bool) {
	if e.kind == unix.DT_UNKNOWN {
		var st unix.Statx_t
		if unix.Statx(dir, e.name, unix.AT_SYMLINK_NOFOLLOW|statAttrs, unix.STATX_TYPE, &st) != nil {
			return false
		}
		e.kind = byte(uint32(st.Mode) & unix.S_IFMT >> 12) // IFTODT of dirent.h
	}
	full := path.Join(w.source.Real, rel)
	if e.kind == unix.DT_SOCK {
		w.source.Sockets = appendNew(w.source.Sockets, full)
	}
	if e.kind != unix.DT_DIR {
		w.compare(dir, e)
	}
	return e.kind == unix.DT_DIR
}

// compare finds hard links: another name, the same inode.
func (w *walk) compare(dir int, e dirent) {
	for _, k := range w.known[e.ino] {
		var st unix.Statx_t
		if unix.Statx(dir, e.name, unix.AT_SYMLINK_NOFOLLOW|statAttrs, unix.STATX_INO, &st) != nil {
			continue
		}
		if st.Ino == k.ino && unix.Mkdev(st.Dev_major, st.Dev_minor) == k.dev {
			w.source.Above = appendNew(w.source.Above, k.path)
			if k.socket {
				w.source.Sockets = appendNew(w.source.Sockets, k.path)
			}
		}
	}
}

// parseDirents reads struct linux_dirent64 (getdents(2)): ino 8, off 8,
// reclen 2, type 1, name.
func parseDirents(b []byte) (all []dirent) {
	const head = 19
	for len(b) > head {
		size := int(binary.NativeEndian.Uint16(b[16:]))
		if size <= head || size > len(b) {
			return all
		}
		name, _, _ := bytes.Cut(b[head:size], []byte{0})
		if s := string(name); s != "." && s != ".." {
			all = append(all, dirent{ino: binary.NativeEndian.Uint64(b), kind: b[18], name: s})
		}
		b = b[size:]
	}
	return all
}
