// Package ctar copies files between the host and a container as tar streams.
//
// The container's end is a process of its own (see Start and Serve): root of
// a user namespace with the container's ids, so it has the rights the
// container's root has on files and no others; changed into the container's
// root directory, so that no link leads out; and run from the program that
// starts it, so that nothing of the container's is ever executed or loaded. It
// is in no namespace of the container's whose processes could reach it.
// (CVE-2018-15664, CVE-2019-14271.)
//
// The host's end believes nothing the stream says: it creates below one
// directory, follows no links there, and under a name it has chosen.
package ctar

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

const (
	// maxDepth bounds the directories held open at once.
	maxDepth = 512
	// maxLinks bounds what is remembered of files with several names, of
	// which there may be millions. The rest is copied once for each name.
	maxLinks = 1 << 16
	// maxProblems are kept with their names; others are counted.
	maxProblems = 10
	bufferSize  = 256 << 10
)

// Problems are the files that could not be copied while the others were.
type Problems struct {
	Count int      `json:"count,omitempty"`
	First []string `json:"first,omitempty"` // what and why, at most ten
}

func (p *Problems) add(name, reason string) {
	if p.Count++; len(p.First) < maxProblems {
		p.First = append(p.First, fmt.Sprintf("%s: %s", quote(name), reason))
	}
}

// Join appends those of another end.
func (p *Problems) Join(o Problems) {
	p.Count += o.Count
	for _, f := range o.First {
		if len(p.First) < maxProblems {
			p.First = append(p.First, f)
		}
	}
}

// Err is nil if all was copied.
func (p *Problems) Err() error {
	if p.Count == 0 {
		return nil
	}
	text := ""
	for _, f := range p.First {
		text += "\n" + f
	}
	if more := p.Count - len(p.First); more > 0 {
		text += fmt.Sprintf("\nand %d more", more)
	}
	what := "1 file was"
	if p.Count != 1 {
		what = strconv.Itoa(p.Count) + " files were"
	}
	return fail.New(fail.NoStatus, "%s not copied, or not as it is:%s", what, text)
}

// quote bounds a name chosen by somebody else and escapes what it could do to
// a terminal or to the lines around it.
func quote(s string) string {
	if len(s) > 200 {
		s = s[:100] + "..." + s[len(s)-100:]
	}
	return strconv.Quote(s)
}

// kernelFS are file systems whose files are the kernel's interfaces and not
// anybody's data (include/uapi/linux/magic.h).
func kernelFS(magic int64) string {
	switch magic {
	case unix.PROC_SUPER_MAGIC:
		return "procfs"
	case unix.SYSFS_MAGIC:
		return "sysfs"
	case unix.DEVPTS_SUPER_MAGIC:
		return "devpts"
	case unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC:
		return "cgroup"
	case unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.SELINUX_MAGIC, unix.BPF_FS_MAGIC,
		unix.PSTOREFS_MAGIC, unix.EFIVARFS_MAGIC, unix.NSFS_MAGIC, unix.BINFMTFS_MAGIC, unix.RDTGROUP_SUPER_MAGIC,
		0x19800202 /* mqueue */, 0x62656570 /* configfs */, 0x65735543 /* fusectl */ :
		return "a file system of the kernel's"
	}
	return ""
}

// onKernelFS names the file system of fd if none of its files are copied.
func onKernelFS(fd int) (string, error) {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(fd, &st) }); err != nil {
		return "", err
	}
	return kernelFS(int64(st.Type)), nil
}

// kindOf names what a file is if it is not copied.
func kindOf(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK:
		return ""
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "a device"
	}
	return "an irregular file"
}

// retry repeats what a signal interrupts.
func retry(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// openat opens a name relative to a directory, without a controlling terminal.
func openat(dir int, name string, flags int, mode uint32) (fd int, err error) {
	err = retry(func() error {
		fd, err = unix.Openat(dir, name, flags|unix.O_CLOEXEC|unix.O_NOCTTY, mode)
		return err
	})
	return fd, err
}

// openat2 is openat with rules for the way to the file. A way that changes
// while ".." is on it is tried again.
func openat2(dir int, name string, flags int, mode uint64, resolve uint64) (fd int, err error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Mode: mode, Resolve: resolve}
	for range 100 {
		fd, err = unix.Openat2(dir, name, &how)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			break
		}
	}
	return fd, err
}

// reopen opens the very file an O_PATH descriptor holds: between a look at it
// and the opening no name is looked up again. proc is /proc/self/fd of a
// procfs that shows this process.
func reopen(proc, fd, flags int) (int, error) {
	return openat(proc, strconv.Itoa(fd), flags|unix.O_NONBLOCK, 0)
}

// openProc opens the directory reopen needs.
func openProc() (int, error) {
	return openat(unix.AT_FDCWD, "/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY, 0)
}

// descriptor reads and writes without the poller: all is done on the thread
// that has the rights.
type descriptor int

func (d descriptor) Read(p []byte) (n int, err error) {
	err = retry(func() error { n, err = unix.Read(int(d), p); return err })
	return max(n, 0), err
}

func (d descriptor) Write(p []byte) (done int, err error) {
	for done < len(p) {
		var n int
		err = retry(func() error { n, err = unix.Write(int(d), p[done:]); return err })
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}
