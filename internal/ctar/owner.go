package ctar

import (
	"archive/tar"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// complete gives a file its owner, mode and time, in this order: a change of
// the owner clears bits of the mode. Bits that lend rights are left out.
func (u *unpacker) complete(fd int, h *tar.Header, made bool) error {
	if err := u.chown(fd, "", h, made); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, uint32(h.Mode)&0o1777&^stickyFile(h)); err != nil {
		return err
	}
	t := times(h)
	if err := unix.UtimesNanoAt(fd, "", t[:], unix.AT_EMPTY_PATH); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}

func stickyFile(h *tar.Header) uint32 {
	if h.Typeflag == tar.TypeDir {
		return 0
	}
	return 0o1000
}

// times are access and modification time of an entry, within what file
// systems can hold.
func times(h *tar.Header) [2]unix.Timespec {
	s := min(max(h.ModTime.Unix(), -1<<31), 1<<34-1)
	t := unix.NsecToTimespec(0)
	t.Sec, t.Nsec = s, int64(h.ModTime.Nanosecond())
	if h.ModTime.IsZero() {
		t = unix.NsecToTimespec(time.Now().UnixNano())
	}
	return [2]unix.Timespec{t, t}
}

// chown gives the owner of the stream, if wanted. What is made gets its maker
// as owner, also in a directory that hands its group on.
func (u *unpacker) chown(fd int, base string, h *tar.Header, made bool) error {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if base == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	switch {
	case u.Owners:
		if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) > 1<<32-2 || int64(h.Gid) > 1<<32-2 {
			return fail.New(fail.NoStatus, "%s has the impossible owner %d:%d", quote(h.Name), h.Uid, h.Gid)
		}
		err := unix.Fchownat(fd, base, h.Uid, h.Gid, flags)
		if errors.Is(err, unix.EINVAL) {
			u.problems.add(h.Name, fmt.Sprintf("its owner %d:%d does not exist there", h.Uid, h.Gid))
			return nil
		}
		return err
	case u.Links && made:
		return unix.Fchownat(fd, base, 0, 0, flags)
	}
	return nil
}
