package learn

import (
	"cmp"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// Bounds of what is looked at: the container made the tree.
const (
	maxScratchEntries = 100_000
	maxScratchBytes   = 32 << 20 // of all their paths
	maxScratchDepth   = 128
	maxScratchPath    = 3800 // bytes, below PATH_MAX
)

// Scratch lists what a run has made or changed in its root file system, an
// overlay whose upper directory is upper and whose layers are lower, the
// topmost first. Sorted by path.
//
// A file is listed where its directory is one of the image; a new directory is
// listed with the bytes of the files right in it, which are not listed. A
// directory of the image whose owner or mode was changed has itself as Parent,
// because it is the one that had to be writable. ParentHolds is true if the
// image has anything at all in Parent.
//
// Ids are the image's. Those of the upper directory are on disk where the
// container's block begins, which is the owner of upper itself.
//
// Both trees are read without following links. An error of kind Refused comes
// with the list so far: there are more entries than 100,000 or than 32 MiB of
// paths, or deeper ones than 128.
func Scratch(upper string, lower []string) ([]Written, error) {
	s := scan{image: make([]int, 0, len(lower))}
	defer s.close()
	if err := s.open(upper, lower); err != nil {
		return nil, err
	}
	for i := range lower {
		s.image = append(s.image, i)
	}
	err := s.walk()
	slices.SortFunc(s.out, func(a, b Written) int { return cmp.Compare(a.Path, b.Path) })
	return s.out, err
}

type scan struct {
	upper int
	lower []int
	image []int // all of lower
	// The layers have the image's ids on disk, the upper directory those of
	// the container's block: only the layers' mounts are idmapped.
	uid, gid uint32 // where the block begins

	out         []Written
	seen, bytes int
}

// stop is a directory that is still to be read.
type stop struct {
	rel    string // "." is the root
	depth  int
	layers []int // of the image, that have the directory; none if it is new
	// The next directory of the image at or above this one.
	parent      string
	parentStat  unix.Stat_t
	parentHolds bool
	index       int // in out, of a new directory
}

func (s *scan) open(upper string, lower []string) (err error) {
	s.upper = -1
	const flags = unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_PATH
	for _, dir := range lower {
		fd, err := unix.Open(dir, flags, 0)
		if err != nil {
			return fail.Wrap(fail.Internal, err, "a layer of the root file system")
		}
		s.lower = append(s.lower, fd)
	}
	if s.upper, err = unix.Open(upper, flags, 0); err != nil {
		return fail.Wrap(fail.Internal, err, "the scratch root file system")
	}
	var st unix.Stat_t
	if err := unix.Fstat(s.upper, &st); err != nil {
		return fail.Wrap(fail.Internal, err, "the scratch root file system")
	}
	// The snapshotter gives it to the container's root (containerd,
	// plugins/snapshots/overlay).
	if st.Uid >= blockSize && st.Gid >= blockSize {
		s.uid, s.gid = st.Uid, st.Gid
	}
	return nil
}

const blockSize = 65536 // ids of a container; no block begins below

func (s *scan) close() {
	for _, fd := range append(s.lower, s.upper) {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

func (s *scan) walk() error {
	root := stop{rel: ".", layers: s.image, index: -1}
	if err := s.describe(&root); err != nil {
		return err
	}
	var deep bool
	for queue := []stop{root}; len(queue) > 0; {
		at := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		below, err := s.directory(at)
		if err != nil {
			return err
		}
		for _, d := range below {
			if d.depth > maxScratchDepth || len(d.rel) > maxScratchPath {
				deep = true
				continue
			}
			queue = append(queue, d)
		}
	}
	if deep {
		return fail.New(fail.Refused, "the run has made directories deeper than %d in its root file system", maxScratchDepth)
	}
	return nil
}

// directory looks at what is in one directory of the upper layer, and gives
// those in it.
func (s *scan) directory(at stop) (below []stop, err error) {
	dir, err := openBelow(s.upper, at.rel)
	if err != nil {
		return nil, fail.Wrap(fail.Internal, err, "the scratch root file system")
	}
	defer dir.Close()
	fd := int(dir.Fd())
	for {
		names, err := dir.Readdirnames(512)
		for _, name := range names {
			s.seen, s.bytes = s.seen+1, s.bytes+len(at.rel)+len(name)
			if s.seen > maxScratchEntries || s.bytes > maxScratchBytes {
				return nil, fail.New(fail.Refused, "the run has made more than %d files in its root file system, or %d MiB of paths", maxScratchEntries, maxScratchBytes>>20)
			}
			var st unix.Stat_t
			if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				continue // gone: something still runs
			}
			d, err := s.entry(at, name, st)
			if err != nil {
				return nil, err
			}
			if d != nil {
				below = append(below, *d)
			}
		}
		if len(names) == 0 || err != nil {
			return below, nil
		}
	}
}

// entry lists one entry of a directory; if that is a directory too, it is
// given to be read.
func (s *scan) entry(at stop, name string, st unix.Stat_t) (*stop, error) {
	isNew := at.index >= 0
	rel := path.Join(at.rel, name)
	w := Written{
		Path: "/" + rel, New: true,
		Parent: at.parent, ParentMode: at.parentStat.Mode & 0o7777, ParentUID: at.parentStat.Uid, ParentGID: at.parentStat.Gid,
		ParentHolds: at.parentHolds,
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		bytes := min(st.Blocks*512, 1<<50)
		if isNew {
			s.out[at.index].Bytes += bytes
			return nil, nil
		}
		layers, other := s.find(rel, at.layers)
		w.New = len(layers) == 0 && !other
		if whiteout(st) {
			if w.New {
				return nil, nil // made and removed again
			}
			bytes = 0
		}
		w.Bytes = bytes
		s.out = append(s.out, w)
		return nil, nil
	}
	w.Dir = true
	d := at
	d.rel, d.depth, d.layers, d.index = rel, at.depth+1, nil, len(s.out)
	if isNew {
		s.out = append(s.out, w)
		return &d, nil
	}
	layers, other := s.find(rel, at.layers)
	w.New = len(layers) == 0 && !other
	if len(layers) == 0 || s.opaque(s.upper, rel) {
		// New, or in the place of what was removed.
		s.out = append(s.out, w)
		return &d, nil
	}
	d.layers, d.index = layers, -1
	if err := s.describe(&d); err != nil {
		return nil, err
	}
	if p := d.parentStat; p.Mode != st.Mode || p.Uid != st.Uid-s.uid || p.Gid != st.Gid-s.gid {
		w.Parent, w.ParentMode, w.ParentUID, w.ParentGID, w.ParentHolds = w.Path, p.Mode&0o7777, p.Uid, p.Gid, d.parentHolds
		s.out = append(s.out, w)
	}
	return &d, nil
}

// describe says of a directory of the image what it is there.
func (s *scan) describe(d *stop) error {
	d.parent = "/" + strings.TrimPrefix(d.rel, ".")
	if len(d.layers) == 0 {
		return nil
	}
	err := statBelow(s.lower[d.layers[0]], d.rel, &d.parentStat)
	d.parentHolds = s.holds(d.rel, d.layers)
	return fail.Wrap(fail.Internal, err, "a layer of the root file system")
}

// find gives the layers that have rel as a directory, of those that have the
// directory it is in; other says that it is something else in the image.
func (s *scan) find(rel string, in []int) (layers []int, other bool) {
	for _, l := range in {
		var st unix.Stat_t
		switch err := statBelow(s.lower[l], rel, &st); {
		case err != nil:
			continue
		case whiteout(st):
			return layers, false
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			return layers, len(layers) == 0
		}
		layers = append(layers, l)
		if s.opaque(s.lower[l], rel) {
			break
		}
	}
	return layers, false
}

// holds says whether the image has anything in a directory.
func (s *scan) holds(rel string, layers []int) bool {
	removed := map[string]bool{}
	for _, l := range layers {
		dir, err := openBelow(s.lower[l], rel)
		if err != nil {
			continue
		}
		for looked := 0; ; {
			names, err := dir.Readdirnames(512)
			for _, name := range names {
				var st unix.Stat_t
				if unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || removed[name] {
					continue
				}
				if looked++; !whiteout(st) || looked > maxScratchEntries {
					dir.Close()
					return true
				}
				removed[name] = true
			}
			if len(names) == 0 || err != nil {
				break
			}
		}
		dir.Close()
	}
	return false
}

// whiteout: overlayfs' mark that an entry of the layers below was removed
// (Documentation/filesystems/overlayfs.rst).
func whiteout(st unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// opaque says whether a directory hides those of the layers below.
func (s *scan) opaque(layer int, rel string) bool {
	dir, err := openBelow(layer, rel)
	if err != nil {
		return false
	}
	defer dir.Close()
	for _, name := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		var value [1]byte
		if n, err := unix.Fgetxattr(int(dir.Fd()), name, value[:]); err == nil && n == 1 && value[0] == 'y' {
			return true
		}
	}
	return false
}

const noLinks = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS

func openBelow(root int, rel string) (*os.File, error) {
	fd, err := unix.Openat2(root, rel, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: noLinks})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: "a directory of a container", Err: err}
	}
	return os.NewFile(uintptr(fd), "directory"), nil
}

func statBelow(root int, rel string, st *unix.Stat_t) error {
	fd, err := unix.Openat2(root, rel, &unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: noLinks})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fstat(fd, st)
}
