// Package source looks at what a bind source or a device on the host really
// is. It opens it once, holds the descriptor, and takes down facts; the
// verdict is the policy's, and what was judged is what is mounted because the
// runtime is given the held descriptor instead of the path.
package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// patience is how long one source may take to answer. A local filesystem needs
// microseconds; a dead NFS or FUSE server would never answer.
const patience = 3 * time.Second

// KnownPaths are the well-known paths of the host a source is compared with,
// by identity (device and inode) and not only by spelling. All are absolute.
type KnownPaths struct {
	Sensitive []string
	Sockets   []string // control sockets
	// Own is the directory in which launches attach their sources while they
	// create a container: that another launch uses a source at this moment
	// says nothing about it. "" is none.
	Own string
}

// Held is an open source: the facts, and the descriptor that keeps them true.
type Held struct {
	spec.Source
	file *os.File
}

// Close lets the source go.
func (h *Held) Close() error {
	if h.file == nil {
		return nil
	}
	return h.file.Close()
}

// Set holds the sources of one workload open until Close.
type Set struct {
	Sources map[int]spec.Source // by index into the mounts; only binds
	Devices map[int]spec.Source // by index into the devices; not CDI names
	held    []*Held
}

// Close lets all sources go. The paths in Runtime are dead after it.
func (s *Set) Close() error {
	var all []error
	for _, h := range s.held {
		all = append(all, h.Close())
	}
	s.held = nil
	return errors.Join(all...)
}

// Rights runs a function with the rights of the user who asks. It must be
// possible to call it from several goroutines. nil stands for the process
// itself.
type Rights func(func() error) error

// Gather opens every bind source and device and holds them. A source that
// cannot be had is not an error here: its Source.Err says why, and the policy
// refuses it together with everything else there is to refuse.
//
// Without binds and devices no file is read.
func Gather(mounts []spec.Mount, devices []spec.Device, known KnownPaths) (*Set, error) {
	return GatherAs(nil, mounts, devices, known)
}

// GatherAs is Gather with the rights of as. Devices are opened without, since
// each needs a grant.
func GatherAs(as Rights, mounts []spec.Mount, devices []spec.Device, known KnownPaths) (*Set, error) {
	set := &Set{Sources: map[int]spec.Source{}, Devices: map[int]spec.Source{}}
	h := &host{known: known}
	take := func(into map[int]spec.Source, i int, p string, how manner) {
		held := h.open(p, how)
		set.held = append(set.held, held)
		into[i] = held.Source
	}
	for i := range mounts {
		if mounts[i].Type == spec.MountBind {
			take(set.Sources, i, mounts[i].Source, manner{full: true, as: as, writable: !mounts[i].ReadOnly})
		}
	}
	for i := range devices {
		if !devices[i].CDI {
			take(set.Devices, i, devices[i].Host, manner{})
		}
	}
	return set, nil
}

// Open opens one source and takes down its facts, without comparing it with
// well-known paths and without looking for sockets. Kinds of errors: NotFound,
// Refused (magic links), Usage.
func Open(p string) (*Held, error) {
	held := (&host{}).open(p, manner{})
	switch {
	case held.Err == "":
		return held, nil
	case held.NotExist:
		return nil, fail.New(fail.NotFound, "%s", held.Err)
	default:
		return nil, fail.New(fail.Refused, "%s", held.Err)
	}
}

// host is what was read of the host so far: each table once, when first needed.
type host struct {
	known KnownPaths

	mounts    *mountTable
	mountsErr error
	points    []knownPoint
	gotPoints bool
	sockets   []string
	gotSocks  bool
}

// manner is how a source is looked at.
type manner struct {
	full     bool // compared with the known paths, and searched for sockets
	as       Rights
	writable bool // what as must have a right to, beside reading
}

// open opens p and takes down its facts. It comes back after patience,
// whatever p is.
func (h *host) open(p string, how manner) *Held {
	asked := p
	bad := func(format string, args ...any) *Held {
		return &Held{Source: spec.Source{Asked: asked, Err: fmt.Sprintf(format, args...)}}
	}
	switch {
	case p == "" || p[0] != '/':
		return bad("%q is not an absolute path", p)
	case len(p) >= unix.PathMax || strings.IndexByte(p, 0) >= 0:
		return bad("%.80q is not a path", p)
	}
	p = path.Clean(p) // as the docker engine does

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// A copy works, so that one which does not come back shares nothing with us.
	worker := *h
	type answer struct {
		held *Held
		host host
	}
	done := make(chan answer)
	go func() {
		held := worker.look(ctx, p, how)
		held.Asked = asked
		select {
		case done <- answer{held, worker}:
		case <-ctx.Done():
			_ = held.Close() // nobody waits for it any more
		}
	}()
	select {
	case a := <-done:
		*h = a.host
		return a.held
	case <-ctx.Done():
		return bad("%q does not answer (waited %v): a network or FUSE filesystem whose server is gone?", p, patience)
	}
}

func (h *host) look(ctx context.Context, p string, how manner) *Held {
	held := &Held{}
	got, denied, err := reach(p, how)
	held.Denied = denied
	if err != nil {
		held.NotExist = errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)
		held.Err = explain(p, err)
		return held
	}
	held.file = os.NewFile(uintptr(got.fd), p)
	held.MagicLink, held.Links = got.magic, got.links
	held.Runtime = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), got.fd)
	if err := h.facts(got.fd, &held.Source); err != nil {
		held.Err = err.Error()
	} else if how.full {
		h.compare(&held.Source)
		h.findSockets(ctx, got.fd, &held.Source)
	}
	if got.magic {
		// Facts only, so that the policy can say what it leads to. Never usable.
		held.Runtime = ""
		held.Err = fmt.Sprintf("%q leads through a magic link of procfs (/proc/PID/root, cwd, fd, ...), which is not a path", p)
	}
	return held
}

func explain(p string, err error) string {
	switch {
	case errors.Is(err, unix.ENOENT):
		if _, lerr := os.Lstat(p); lerr == nil {
			return fmt.Sprintf("%q is a symbolic link to something that does not exist", p)
		}
		return fmt.Sprintf("%q does not exist", p)
	case errors.Is(err, unix.ELOOP):
		return fmt.Sprintf("%q has too many symbolic links (a loop?)", p)
	}
	return fmt.Sprintf("cannot open %q: %v", p, err)
}

// statAttrs asks for what the kernel has at hand: no request to a network or
// FUSE server, no automount.
const statAttrs = unix.AT_STATX_DONT_SYNC | unix.AT_NO_AUTOMOUNT

// facts fills what can be said of the descriptor alone.
func (h *host) facts(fd int, s *spec.Source) error {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|statAttrs, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st); err != nil {
		return fmt.Errorf("cannot stat it: %w", err)
	}
	s.Mode = fileMode(uint32(st.Mode))
	s.Dev, s.Ino = unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino
	s.Rdev = unix.Mkdev(st.Rdev_major, st.Rdev_minor)
	s.UID, s.GID = st.Uid, st.Gid

	real, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return fmt.Errorf("cannot read its canonical path: %w", err)
	}
	s.Real = real
	// The kernel marks deleted and unreachable paths only by words in the text,
	// so ask whether the path leads back to the same object.
	var back unix.Statx_t
	err = unix.Statx(unix.AT_FDCWD, real, unix.AT_SYMLINK_NOFOLLOW|statAttrs, unix.STATX_INO, &back)
	if err != nil || real[0] != '/' || back.Ino != st.Ino || back.Dev_major != st.Dev_major || back.Dev_minor != st.Dev_minor {
		return fmt.Errorf("%q was deleted or replaced, or cannot be reached from here", real)
	}

	if h.mounts == nil && h.mountsErr == nil {
		h.mounts, h.mountsErr = readMounts(h.known.Own)
	}
	if h.mountsErr != nil {
		return h.mountsErr
	}
	m := h.mounts.byID[int(st.Mnt_id)]
	if m == nil {
		return fmt.Errorf("the mount of %q is not in the mount table", real)
	}
	s.FS = m.FSType
	if magic, remote := remoteMagic(m.FSType); remote {
		s.Magic = magic
	} else {
		var sfs unix.Statfs_t
		if err := unix.Fstatfs(fd, &sfs); err != nil {
			return fmt.Errorf("cannot tell the filesystem of %q: %w", real, err)
		}
		s.Magic = int64(sfs.Type)
	}
	return h.mounts.describe(m, s)
}

// fileMode translates st_mode. os.FileInfo would need a second, blocking stat.
func fileMode(m uint32) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	for _, t := range []struct {
		mask, bit uint32
		mode      fs.FileMode
	}{
		{unix.S_IFMT, unix.S_IFDIR, fs.ModeDir},
		{unix.S_IFMT, unix.S_IFLNK, fs.ModeSymlink},
		{unix.S_IFMT, unix.S_IFSOCK, fs.ModeSocket},
		{unix.S_IFMT, unix.S_IFIFO, fs.ModeNamedPipe},
		{unix.S_IFMT, unix.S_IFBLK, fs.ModeDevice},
		{unix.S_IFMT, unix.S_IFCHR, fs.ModeDevice | fs.ModeCharDevice},
		{unix.S_ISUID, unix.S_ISUID, fs.ModeSetuid},
		{unix.S_ISGID, unix.S_ISGID, fs.ModeSetgid},
		{unix.S_ISVTX, unix.S_ISVTX, fs.ModeSticky},
	} {
		if m&t.mask == t.bit {
			mode |= t.mode
		}
	}
	return mode
}
