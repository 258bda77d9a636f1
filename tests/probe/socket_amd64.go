package main

import (
	"syscall"
	"unsafe"
)

// socketCalls are the ways this architecture has to make a socket.
var socketCalls = map[string]func(family, typ, proto int) error{
	"socket": func(family, typ, proto int) error {
		fd, _, e := syscall.RawSyscall(syscall.SYS_SOCKET, uintptr(family), uintptr(typ), uintptr(proto))
		return closeIf(fd, e)
	},
}

func socketpair(family, typ int) error {
	var fds [2]int32
	_, _, e := syscall.RawSyscall6(syscall.SYS_SOCKETPAIR, uintptr(family), uintptr(typ), 0,
		uintptr(unsafe.Pointer(&fds)), 0, 0)
	return closePair(fds, e)
}
