package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// More numbers that are the same on every architecture.
const (
	nrIOUringEnter   = 426
	nrFsconfig       = 431
	nrFsmount        = 432
	nrProcessMadvise = 440
	nrOpenTreeAttr   = 467
	// No kernel has these yet. Between the two are numbers of x32.
	nrFuture, nrFutureX32, nrX32End, nrFarFuture = 480, 512, 548, 1100
)

// handleOfMounts opens the root directory of the file systems behind the
// mounts: a bind leads to one of the host's, of which inode 2 is the root
// (the program "shocker" of 2014).
func handleOfMounts() outcome {
	h := struct {
		bytes           uint32
		typ             int32
		ino, generation uint32
	}{bytes: 8, typ: 1, ino: 2} // FILEID_INO32_GEN
	var all []outcome
	for _, m := range mounts() {
		if m.fs == "tmpfs" || slices.Contains(kernelFS, m.fs) {
			continue // the container's own
		}
		fd, err := syscall.Open(m.target, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		o := byErrno(sysFD(nrOpenByHandleAt, uintptr(fd), ptr(&h), 0))
		_ = syscall.Close(fd)
		if o.verdict == open {
			o.note = "of " + m.target + ": " + o.note
		}
		all = append(all, o)
	}
	return worst(all)
}

// futureCalls are system calls a newer kernel may have: libraries fall back on
// ENOSYS, and a filter that permits by default would let them through.
func futureCalls() outcome {
	var all []outcome
	for nr := uintptr(nrFuture); nr < nrFarFuture; nr++ {
		if nr >= nrFutureX32 && nr < nrX32End {
			continue
		}
		o := mustBeENOSYS(func() error { return sys(nr) })()
		if o.verdict == open {
			o.note = fmt.Sprintf("number %d: %s", nr, o.note)
		}
		all = append(all, o)
	}
	return worst(all)
}

// obsolete are calls that kernels of today have no code for, or should not be
// asked for. With no arguments that mean anything.
func obsolete() outcome {
	var all []outcome
	for name, nr := range obsoleteCalls {
		o := byErrno(sys(nr, 0, noFD, 0, 0))
		if o.verdict == open {
			o.note = name + ": " + o.note
		}
		all = append(all, o)
	}
	return worst(all)
}

// typeInto presses a key in whatever terminal the probe was given, or finds by
// the name /dev/tty: what the operator's shell would read next.
func typeInto(request uintptr) func() outcome {
	return func() outcome {
		fds := []int{0, 1, 2}
		if fd, err := syscall.Open("/dev/tty", syscall.O_RDWR|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0); err == nil {
			defer syscall.Close(fd)
			fds = append(fds, fd)
		}
		var all []outcome
		for _, fd := range fds {
			c := byte('x')
			// ENOTTY: passed the filter, and there is no terminal.
			all = append(all, byErrno(sys(syscall.SYS_IOCTL, uintptr(fd), request, ptr(&c)), syscall.ENOTTY))
		}
		return worst(all)
	}
}

// setAdjtimex writes back the status of the clock's discipline as it was.
func setAdjtimex() error {
	var t syscall.Timex
	if _, err := syscall.Adjtimex(&t); err != nil {
		return err
	}
	t.Modes = 0x10 // ADJ_STATUS
	_, err := syscall.Adjtimex(&t)
	return err
}

// writableBelow looks for files that could be written to. It asks access(2),
// which says what the mount and the owner say, and opens nothing: to open some
// of these files does something.
func writableBelow(root string, skip ...string) func() outcome {
	return func() outcome {
		const most = 200_000 // of files, on a machine with very many devices
		var found []string
		seen, until := 0, time.Now().Add(time.Minute)
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			seen++
			switch {
			case seen > most || time.Now().After(until):
				return filepath.SkipAll
			case err == nil && d.IsDir() && (slices.Contains(skip, path) || root == "/proc" && filepath.Dir(path) == "/proc" && strings.Trim(filepath.Base(path), "0123456789") == ""):
				return filepath.SkipDir
			case err != nil && d != nil && d.IsDir():
				return filepath.SkipDir
			case err != nil || d.IsDir() || d.Type()&fs.ModeSymlink != 0:
				return nil
			}
			if syscall.Access(path, 2) == nil && !nullDevice(path) { // W_OK
				found = append(found, path)
			}
			return nil
		})
		o := listed(found[:min(len(found), 20)], fmt.Sprintf("none of %d", seen))
		if seen < 10 {
			o = outcome{verdict: open, note: root + " was not looked through"}
		}
		return o
	}
}

// nullDevice is what a mask of a file is.
func nullDevice(path string) bool {
	var st syscall.Stat_t
	return syscall.Stat(path, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFCHR && st.Rdev == 1<<8|3
}

// processes: none but those of this container are to be seen below /proc.
// Their parents are processes that are seen, or nobody.
func processes() outcome {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(dirs) == 0 {
		return outcome{verdict: open, note: "no processes at all"}
	}
	for _, dir := range dirs {
		b, err := os.ReadFile(dir + "/status")
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // ended meanwhile
		}
		if err != nil {
			return byErrno(pathErrno(err))
		}
		if f := statusFields(string(b)); f["Kthread"] == "1" || f["Name"] == "kthreadd" {
			return outcome{verdict: open, note: "a thread of the kernel: " + dir}
		}
	}
	return outcome{verdict: blocked, note: fmt.Sprintf("%d of its own", len(dirs))}
}

func kernelAttempts() []attempt {
	const calls, mounts, tty, host = "system calls", "mounts", "terminal", "the host's own affairs"
	var ldt [64]byte
	return []attempt{
		{"shocker", calls, "open_by_handle_at: the root of a bind's file system", handleOfMounts},
		{"io_uring_enter", calls, "io_uring_enter", direct(func() error { return sys(nrIOUringEnter, noFD, 0, 0, 0, 0) })},
		{"future-syscalls", calls, "system calls of later kernels", futureCalls},
		{"kcmp", calls, "kcmp: compare what two processes share", direct(func() error {
			return sys(nrKcmp, uintptr(os.Getpid()), uintptr(os.Getpid()), 1, 0, 0) // KCMP_VM
		})},
		{"modify_ldt", calls, "modify_ldt", direct(func() error { return sys(syscall.SYS_MODIFY_LDT, 0, ptr(&ldt), unsafe.Sizeof(ldt)) })},
		{"process_madvise", calls, "process_madvise", direct(func() error { return sys(nrProcessMadvise, noFD, 0, 0, 0, 0) })},
		{"fanotify_init", calls, "fanotify_init", direct(func() error { return sysFD(nrFanotifyInit, 1|0x200, 0) })}, // FAN_CLOEXEC|FAN_REPORT_FID
		{"obsolete-syscalls", calls, "uselib, ustat, lookup_dcookie, ...", obsolete},
		{"fsconfig", mounts, "fsconfig (CVE-2022-0185)", direct(func() error { return sys(nrFsconfig, noFD, 0, 0, 0, 0) })},
		{"fsmount", mounts, "fsmount", direct(func() error { return sysFD(nrFsmount, noFD, 0, 0) })},
		{"open_tree_attr", mounts, "open_tree_attr", direct(func() error { return sysFD(nrOpenTreeAttr, noFD, ptr(cstr("/")), 1, 0, 0) })},
		{"tiocsti-terminal", tty, "type into its own terminal, or another's", typeInto(tiocsti)},
		{"adjtimex", host, "adjtimex: steer the clock", direct(setAdjtimex)},
		{"dev-clocks", "devices", "open rtc, ptp, pps, hpet", deviceOpen("/dev/rtc", "/dev/rtc0", "/dev/ptp0", "/dev/pps0", "/dev/hpet")},
		{"dev-userfaultfd", "devices", "open /dev/userfaultfd", deviceOpen("/dev/userfaultfd")},
		{"sys-writable", "kernel files", "files below /sys that can be written", writableBelow("/sys")},
		// What pressure(5) takes there is a watch on a value anybody can read.
		{"proc-writable", "kernel files", "files below /proc that can be written", writableBelow("/proc", "/proc/pressure", "/proc/self", "/proc/thread-self")},
		{"processes", "namespaces and processes", "see processes of others", processes},
	}
}

// kernelWord is the probe's subcommands for tests of single rows. "ping
// ADDRESS" sends an ICMP echo as the kernel lets anybody do whose group is in
// ping_group_range, and wants the answer; "ids" tells what an exec of the probe
// made of it; "splice" moves a byte from pipe to pipe by the calls of that
// family.
func kernelWord(args []string) {
	var err error
	switch {
	case len(args) == 3 && args[1] == "ping":
		if err = ping(args[2]); err == nil {
			fmt.Println("pong")
		}
	case len(args) == 2 && args[1] == "ids":
		var b []byte
		if b, err = os.ReadFile("/proc/self/status"); err == nil {
			f := statusFields(string(b))
			fmt.Println(os.Geteuid(), os.Getegid(), f["CapPrm"], f["CapEff"])
		}
	case len(args) == 2 && args[1] == "splice":
		for _, call := range []string{"splice", "tee", "vmsplice"} {
			fmt.Println(call, spliceFamily(call))
		}
	default:
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func spliceFamily(call string) error {
	var from, to [2]int
	if err := errors.Join(syscall.Pipe2(from[:], syscall.O_CLOEXEC), syscall.Pipe2(to[:], syscall.O_CLOEXEC)); err != nil {
		return err
	}
	if _, err := syscall.Write(from[1], []byte("x")); err != nil {
		return err
	}
	switch call {
	case "splice":
		return sys(nrSplice, uintptr(from[0]), 0, uintptr(to[1]), 0, 1, 0)
	case "tee":
		return sys(nrTee, uintptr(from[0]), uintptr(to[1]), 1, 0)
	}
	c := byte('x')
	return sys(nrVmsplice, uintptr(to[1]), ptr(&syscall.Iovec{Base: &c, Len: 1}), 1, 0)
}

func ping(address string) error {
	var to syscall.SockaddrInet4
	if n, _ := fmt.Sscanf(address, "%d.%d.%d.%d", &to.Addr[0], &to.Addr[1], &to.Addr[2], &to.Addr[3]); n != 4 {
		return errors.New("takes an IPv4 address")
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, syscall.IPPROTO_ICMP)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Sec: 10}); err != nil {
		return err
	}
	if err := syscall.Sendto(fd, []byte{8, 0, 0, 0, 0, 0, 0, 1, 'p'}, 0, &to); err != nil {
		return err
	}
	answer := make([]byte, 64)
	n, _, err := syscall.Recvfrom(fd, answer, 0)
	if err == nil && (n < 8 || answer[0] != 0) {
		err = fmt.Errorf("an answer of type %d", answer[0])
	}
	return err
}
