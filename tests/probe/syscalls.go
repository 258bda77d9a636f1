package main

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

func errnoOrNil(e syscall.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

// sys makes a raw system call that takes no pointers.
func sys(nr uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	_, _, e := syscall.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
	return errnoOrNil(e)
}

// sysFD is sys for calls that give a file descriptor, which is closed.
func sysFD(nr uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	fd, _, e := syscall.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
	return closeIf(fd, e)
}

func ptr[T any](v *T) uintptr { return uintptr(unsafe.Pointer(v)) }

func cstr(s string) *byte {
	p, err := syscall.BytePtrFromString(s)
	if err != nil {
		panic("bug: NUL in a constant string")
	}
	return p
}

const noFD = ^uintptr(0) // -1

// direct wraps a call whose every errno but the policy's means it got through.
func direct(f func() error) func() outcome {
	return func() outcome { return byErrno(f()) }
}

// mustBeENOSYS: libc falls back to an older call on ENOSYS only, so any other
// answer, even EPERM, breaks programs.
func mustBeENOSYS(f func() error) func() outcome {
	return func() outcome {
		err := f()
		o := byErrno(err)
		if o.verdict == blocked && !errors.Is(err, syscall.ENOSYS) {
			o.verdict, o.note = open, "wanted ENOSYS"
		}
		return o
	}
}

// perfEvent: a software event of the probe itself.
func perfEvent() error {
	attr := struct {
		typ, size uint32
		config    uint64
		rest      [112]byte
	}{typ: 1, size: 128}
	return sysFD(nrPerfEventOpen, ptr(&attr), 0, noFD, noFD, 0)
}

// bpfMap makes an array map of one word, the least that bpf(2) can do.
func bpfMap() error {
	attr := struct {
		typ, keySize, valueSize, maxEntries, flags uint32
		rest                                       [100]byte
	}{typ: 2, keySize: 4, valueSize: 4, maxEntries: 1}
	return sysFD(nrBPF, 0, ptr(&attr), unsafe.Sizeof(attr))
}

func ioUring() error {
	var params [120]byte
	return sysFD(nrIOUringSetup, 1, ptr(&params))
}

// handleOf opens the root directory by its file handle: with the right
// number in the handle this reads any file of the host's file system.
func handleOf() error {
	h := struct {
		bytes uint32
		typ   int32
		data  [128]byte
	}{bytes: 128}
	var mountID int32
	if err := sys(nrNameToHandleAt, uintptr(dirFD("/")), ptr(cstr(".")), ptr(&h), ptr(&mountID), 0); err != nil {
		// No handle to be had (a file system without them): a made-up
		// one still shows whether the second call is let through.
		h.bytes, h.typ = 8, 1
	}
	return sysFD(nrOpenByHandleAt, uintptr(dirFD("/")), ptr(&h), 0)
}

// dirFD opens a directory for a call that wants one; the descriptor lives
// until the probe ends.
func dirFD(path string) int {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return fd
}

func setnsTo(kind string) func() error {
	return func() error {
		fd, err := syscall.Open("/proc/self/ns/"+kind, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		return sys(nrSetns, uintptr(fd), 0)
	}
}

// readOwnMemory reads a word of the probe through process_vm_readv, which
// the kernel always lets a process do to itself: only a filter refuses.
func readOwnMemory(nr uintptr) func() error {
	return func() error {
		var from, to uint64
		local := syscall.Iovec{Base: (*byte)(unsafe.Pointer(&to)), Len: 8}
		remote := syscall.Iovec{Base: (*byte)(unsafe.Pointer(&from)), Len: 8}
		return sys(nr, uintptr(os.Getpid()), ptr(&local), 1, ptr(&remote), 1, 0)
	}
}

// ioctlOnNull asks a device that is no terminal: a filter answers EPERM, the
// kernel ENOTTY, and no terminal gets a key pressed.
func ioctlOnNull(request uint64) func() error {
	return func() error {
		fd, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		c := byte('x')
		return sys(syscall.SYS_IOCTL, uintptr(fd), uintptr(request), ptr(&c))
	}
}

func setClock() error {
	ts := syscall.NsecToTimespec(time.Now().UnixNano())
	return sys(nrClockSettime, 0, ptr(&ts))
}

// aMask is a file of procfs that something is mounted over.
func aMask() string {
	for _, m := range mounts() {
		if m.device && strings.HasPrefix(m.target, "/proc/") {
			return m.target
		}
	}
	return "/proc/keys"
}

// mountOn mounts over /tmp, and takes it away again.
func mountOn(source, fs string, flags uintptr) error {
	err := syscall.Mount(source, "/tmp", fs, flags, "")
	if err == nil {
		_ = syscall.Unmount("/tmp", syscall.MNT_DETACH)
	}
	return err
}

const (
	tiocsti   = 0x5412
	tioclinux = 0x541C
	// The kernel looks at the low 32 bits of an ioctl request, so a filter
	// that compares all 64 lets this one pass.
	tiocstiHigh = 0x1_0000_5412
)

func syscallAttempts() []attempt {
	const calls, mounts, tty, host = "system calls", "mounts", "terminal", "the host's own affairs"
	nowhere := cstr("/nonexistent/safe-run-probe")
	root, tmpfs := cstr("/"), cstr("tmpfs")
	rows := []attempt{
		{"clone3", calls, "clone3 (flags a filter cannot see)", mustBeENOSYS(func() error { return sys(nrClone3, 0, 0) })},
		{"unknown-syscall", calls, "system call 9999", mustBeENOSYS(func() error { return sys(nrNoSuch) })},
		{"bpf", calls, "bpf: make a map", direct(bpfMap)},
		{"perf", calls, "perf_event_open on itself", direct(perfEvent)},
		{"userfaultfd", calls, "userfaultfd", direct(func() error { return sysFD(nrUserfaultfd, syscall.O_CLOEXEC|1) })},
		{"io_uring", calls, "io_uring_setup", direct(ioUring)},
		{"io_uring_register", calls, "io_uring_register", direct(func() error { return sys(nrIOUringRegister, noFD, 0, 0, 0) })},
		{"keyctl", calls, "keyctl: the session's key ring", direct(func() error { return sys(nrKeyctl, 0, ^uintptr(2), 0) })},
		{"add_key", calls, "add_key to its own key ring", direct(func() error {
			payload := byte('x')
			return sys(nrAddKey, ptr(cstr("user")), ptr(cstr("safe-run-probe")), ptr(&payload), 1, ^uintptr(0))
		})},
		{"request_key", calls, "request_key", direct(func() error {
			return sys(nrRequestKey, ptr(cstr("user")), ptr(cstr("safe-run-probe")), 0, 0)
		})},
		{"personality", calls, "personality: no address randomisation", direct(func() error {
			return sys(syscall.SYS_PERSONALITY, 0x0040000)
		})},
		{"process_vm_readv", calls, "process_vm_readv", direct(readOwnMemory(nrProcessVMReadv))},
		{"process_vm_writev", calls, "process_vm_writev", direct(readOwnMemory(nrProcessVMWritev))},
		{"pidfd_getfd", calls, "pidfd_getfd: take another's descriptor", direct(func() error { return sysFD(nrPidfdGetfd, noFD, 0, 0) })},
		{"open_by_handle_at", calls, "open_by_handle_at: files by number", direct(handleOf)},
		{"sysfs", calls, "sysfs(2), obsolete", direct(func() error { return sys(nrSysfs, 3) })},

		{"setns-net", calls, "setns into its own network", direct(setnsTo("net"))},
		{"setns-user", calls, "setns into its own user namespace", direct(setnsTo("user"))},

		{"mount", mounts, "mount a tmpfs", direct(func() error { return mountOn("tmpfs", "tmpfs", 0) })},
		{"mount-proc", mounts, "mount a fresh proc without masks", direct(func() error { return mountOn("proc", "proc", 0) })},
		{"mount-bind", mounts, "bind / elsewhere", direct(func() error { return mountOn("/", "", syscall.MS_BIND) })},
		{"remount-rw", mounts, "remount / writable", direct(func() error {
			return sys(syscall.SYS_MOUNT, 0, ptr(root), 0, syscall.MS_REMOUNT|syscall.MS_BIND, 0)
		})},
		{"umount-mask", mounts, "unmount a mask", direct(func() error {
			return sys(syscall.SYS_UMOUNT2, ptr(cstr(aMask())), syscall.MNT_DETACH)
		})},
		{"pivot_root", mounts, "pivot_root", direct(func() error { return sys(syscall.SYS_PIVOT_ROOT, ptr(root), ptr(root)) })},
		{"chroot", mounts, "chroot", direct(func() error { return sys(syscall.SYS_CHROOT, ptr(root)) })},
		{"fsopen", mounts, "fsopen (new mount interface)", direct(func() error { return sysFD(nrFsopen, ptr(tmpfs), 0) })},
		{"fspick", mounts, "fspick", direct(func() error { return sysFD(nrFspick, noFD, ptr(root), 0) })},
		{"open_tree", mounts, "open_tree, cloned", direct(func() error { return sysFD(nrOpenTree, noFD, ptr(root), 1) })},
		{"move_mount", mounts, "move_mount", direct(func() error { return sys(nrMoveMount, noFD, ptr(nowhere), noFD, ptr(nowhere), 0) })},
		{"mount_setattr", mounts, "mount_setattr", direct(func() error { return sys(nrMountSetattr, noFD, ptr(root), 0, 0, 0) })},

		{"tiocsti", tty, "ioctl TIOCSTI: press keys for the operator", direct(ioctlOnNull(tiocsti))},
		{"tioclinux", tty, "ioctl TIOCLINUX", direct(ioctlOnNull(tioclinux))},

		{"kexec_load", host, "kexec_load: boot another kernel", direct(func() error { return sys(nrKexecLoad, 0, noFD, 0, 0) })},
		{"init_module", host, "init_module: load kernel code", direct(func() error { return sys(syscall.SYS_INIT_MODULE, 0, 0, 0) })},
		{"finit_module", host, "finit_module", direct(func() error { return sys(nrFinitModule, noFD, 0, 0) })},
		{"delete_module", host, "delete_module", direct(func() error { return sys(syscall.SYS_DELETE_MODULE, ptr(nowhere), 0) })},
		{"reboot", host, "reboot (with a wrong magic number)", direct(func() error { return sys(syscall.SYS_REBOOT, 0, 0, 0, 0) })},
		{"settimeofday", host, "settimeofday", direct(func() error { return sys(syscall.SYS_SETTIMEOFDAY, 0, 0) })},
		{"clock_settime", host, "clock_settime", direct(setClock)},
		{"swapon", host, "swapon", direct(func() error { return sys(syscall.SYS_SWAPON, ptr(nowhere), 0) })},
		{"swapoff", host, "swapoff", direct(func() error { return sys(syscall.SYS_SWAPOFF, ptr(nowhere)) })},
		{"quotactl", host, "quotactl", direct(func() error { return sys(nrQuotactl, 0x800001<<8, 0, 0, 0) })},
		{"quotactl_fd", host, "quotactl_fd", direct(func() error { return sys(nrQuotactlFD, noFD, 0x800001<<8, 0, 0) })},
		{"acct", host, "acct: accounting file", direct(func() error { return sys(syscall.SYS_ACCT, ptr(nowhere)) })},
		{"syslog", host, "syslog: size of the kernel's log", direct(func() error { return sys(syscall.SYS_SYSLOG, 10, 0, 0) })},
		{"iopl", host, "iopl: input/output ports", direct(func() error { return sys(syscall.SYS_IOPL, 3) })},
		{"ioperm", host, "ioperm", direct(func() error { return sys(syscall.SYS_IOPERM, 0x80, 1, 1) })},
		{"sethostname", host, "sethostname (with a wrong length)", direct(func() error { return sys(syscall.SYS_SETHOSTNAME, ptr(root), noFD) })},
		{"setpriority", host, "raise its own priority", func() outcome { return byErrno(syscall.Setpriority(syscall.PRIO_PROCESS, 0, -20)) }},
	}
	if unsafe.Sizeof(uintptr(0)) == 8 {
		rows = append(rows, attempt{"tiocsti-high", tty, "TIOCSTI with a bit above the 32nd", direct(ioctlOnNull(tiocstiHigh))})
	}
	return rows
}
