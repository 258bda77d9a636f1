package ctar

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// The descriptors the container's end is started with.
const (
	fdRoot    = 3 + iota // directory to change into
	fdControl            // requests and replies, JSON
	fdIn                 // stream to unpack
	fdOut                // packed stream
)

// request is what the container's end is asked for.
type request struct {
	Op     string `json:"op"`
	Path   string `json:"path"`
	Follow bool   `json:"follow,omitempty"` // a link at the end of Path
	Name   string `json:"name,omitempty"`   // at the top of the packed stream
	Rules  rules  `json:"rules"`
}

const (
	opSource      = "source"
	opDestination = "destination"
	opPack        = "pack"
	opUnpack      = "unpack"
)

// reply is its answer.
type reply struct {
	Info     Info     `json:"info"`
	Problems Problems `json:"problems"`
	Error    string   `json:"error,omitempty"`
	Errno    int      `json:"errno,omitempty"`
	Volume   bool     `json:"volume,omitempty"` // the destination is on a mount of its own
}

// maxReply bounds what either side reads from the other, in bytes.
const maxReply = 1 << 20

// Serve is the container's end, in a process that Start has started. It gives
// up all it does not need, then answers until the other side closes.
func Serve() error {
	runtime.LockOSThread() // never unlocked: see everyThread
	proc, err := openProc()
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "opening /proc")
	}
	if err := confine(); err != nil {
		return err
	}
	s := &server{proc: proc}
	// No larger than the longest paths make it.
	in := json.NewDecoder(io.LimitReader(descriptorReader(fdControl), maxReply))
	out := json.NewEncoder(descriptor(fdControl))
	for {
		var rq request
		if err := in.Decode(&rq); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fail.Wrap(fail.Internal, err, "request")
		}
		re := s.answer(rq)
		if err := out.Encode(re); err != nil {
			return fail.Wrap(fail.Internal, err, "reply")
		}
	}
}

func descriptorReader(fd int) io.Reader { return &source{fd: descriptor(fd)} }

// confine makes the container's root directory that of this process and drops
// all capabilities but those to get past modes and to set owners and modes.
// They hold in the user namespace the process was started in.
func confine() error {
	err := unix.Fchdir(fdRoot)
	if err == nil {
		err = unix.Chroot(".")
	}
	if err == nil {
		err = unix.Chdir("/")
	}
	if err == nil {
		err = unix.Close(fdRoot)
	}
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "changing into the container's root directory")
	}
	unix.Umask(0)
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fail.Wrap(fail.HostCannot, err, "limits")
	}
	if errno := everyThread(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); errno != 0 {
		return fail.Wrap(fail.HostCannot, errno, "no_new_privs")
	}
	const keep = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: keep, Permitted: keep}}
	errno := everyThread(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&data)), 0)
	runtime.KeepAlive(&head)
	runtime.KeepAlive(&data)
	if errno != 0 {
		return fail.Wrap(fail.HostCannot, errno, "dropping capabilities")
	}
	return nil
}

// everyThread makes a system call on all threads. Built with cgo, which the
// program is not, there is no such thing: then on this one, which does all the work.
func everyThread(trap, a, b, c uintptr) syscall.Errno {
	_, _, errno := syscall.AllThreadsSyscall6(trap, a, b, c, 0, 0, 0)
	if errno == syscall.ENOTSUP {
		_, _, errno = syscall.RawSyscall6(trap, a, b, c, 0, 0, 0)
	}
	return errno
}

type server struct{ proc int }

func (s *server) answer(rq request) (re reply) {
	var err error
	switch rq.Op {
	case opSource:
		var fd int
		if fd, re.Info, err = ofContainer().source(rq.Path, rq.Follow); err == nil {
			unix.Close(fd)
		}
	case opDestination:
		re.Info, err = ofContainer().destination(rq.Path)
	case opPack:
		re.Problems, err = s.pack(rq)
	case opUnpack:
		re.Problems, err = s.unpack(rq)
		if errors.Is(err, unix.EROFS) {
			re.Volume = mounted(rq.Path)
		}
	default:
		err = errors.New("unknown request")
	}
	if err != nil {
		re.Error = err.Error()
		var errno unix.Errno
		if errors.As(err, &errno) {
			re.Errno = int(errno)
		}
	}
	return re
}

func (s *server) pack(rq request) (Problems, error) {
	defer unix.Close(fdOut) // its end is that of the stream
	fd, _, err := ofContainer().source(rq.Path, rq.Follow)
	if err != nil {
		return Problems{}, err
	}
	defer unix.Close(fd)
	return pack(descriptor(fdOut), s.proc, fd, rq.Name)
}

func (s *server) unpack(rq request) (Problems, error) {
	defer unix.Close(fdIn) // whoever still writes is told
	top, err := ofContainer().open(rq.Path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return Problems{}, err
	}
	defer unix.Close(top)
	in, err := expanded(descriptorReader(fdIn))
	if err != nil {
		return Problems{}, fail.Wrap(fail.NoStatus, err, "reading the archive")
	}
	rq.Rules.Links = true
	return unpack(in, s.proc, top, rq.Rules)
}

// mounted says that a path is on another mount than the root directory.
func mounted(p string) bool {
	fd, err := ofContainer().open(p, unix.O_PATH)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var root, there unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, "/", 0, unix.STATX_MNT_ID, &root) != nil || unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &there) != nil {
		return false
	}
	return root.Mnt_id != there.Mnt_id
}

// expanded undoes a compression that docker knows, by the first bytes. Nothing
// is executed for it; xz is not among them.
func expanded(r io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	magic, _ := b.Peek(6)
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(b)
	case bytes.HasPrefix(magic, []byte("BZh")):
		return bzip2.NewReader(b), nil
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(8<<20), zstd.WithDecoderMaxWindow(8<<20))
	case bytes.HasPrefix(magic, []byte("\xfd7zXZ\x00")):
		return nil, errors.New("it is compressed with xz; unpack it first (xz -dc)")
	}
	return b, nil
}

// Inherited says that this process has what Start gives the process it starts.
func Inherited() bool {
	for fd := fdRoot; fd <= fdOut; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			return false
		}
	}
	var st unix.Stat_t
	return unix.Fstat(fdControl, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK && os.Getppid() != 1
}
