package main

import "syscall"

// closeRange is close_range(2), the same number everywhere; package syscall
// was frozen before it.
const (
	sysCloseRange    = 436
	closeRangeExec   = 4 // CLOSE_RANGE_CLOEXEC
	msgCmsgCloseExec = 0x40000000
)

// take connects to the launcher and puts the descriptors it sends at 3, 4, ...
// with nothing else open beside them in the next program. why says what
// failed. Only raw calls are used: the runtime's poller would open files of
// its own.
func take(path string) (n int, names, why string) {
	c, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, "", err.Error()
	}
	if err := again(func() error { return syscall.Connect(c, &syscall.SockaddrUnix{Name: path}) }); err != nil {
		return 0, "", path + ": " + err.Error()
	}
	fds, names, err := receive(c)
	if err != nil {
		return 0, "", err.Error()
	}
	if len(fds) == 0 {
		return 0, "", "none was given"
	}
	if err := place(fds); err != nil {
		return 0, "", err.Error()
	}
	return len(fds), names, ""
}

// receive reads the one message and the rest of the names.
func receive(c int) (fds []int, names string, err error) {
	text, rights := make([]byte, maxText), make([]byte, syscall.CmsgSpace(4*maxFDs))
	total := 0
	for {
		var n, oobn, flags int
		err = again(func() (e error) {
			n, oobn, flags, _, e = syscall.Recvmsg(c, text[total:], rights, msgCmsgCloseExec)
			return e
		})
		if err != nil {
			return nil, "", err
		}
		if flags&syscall.MSG_CTRUNC != 0 { // more descriptors than this process may have
			return nil, "", syscall.EMFILE
		}
		got, err := parse(rights[:oobn])
		if err != nil {
			return nil, "", err
		}
		fds = append(fds, got...)
		total += n
		if n == 0 || total == len(text) {
			return fds, string(text[:total]), nil
		}
	}
}

func parse(oob []byte) (fds []int, err error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		got, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, err
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

// place moves the descriptors, which are anywhere, to where they belong: first
// above all of the places, so that none is overwritten before it was moved.
func place(fds []int) error {
	above := first + len(fds)
	for i, fd := range fds {
		high, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, uintptr(above))
		if errno != 0 {
			return errno
		}
		fds[i] = int(high)
	}
	for i, fd := range fds {
		if err := again(func() error { return syscall.Dup3(fd, first+i, 0) }); err != nil {
			return err
		}
	}
	// All this program opened is close-on-exec; this is for what it inherited.
	_, _, errno := syscall.Syscall(sysCloseRange, uintptr(above), 0xffffffff, closeRangeExec)
	if errno != 0 && errno != syscall.ENOSYS && errno != syscall.EPERM {
		return errno
	}
	return nil
}

func again(call func() error) error {
	for {
		if err := call(); err != syscall.EINTR {
			return err
		}
	}
}
