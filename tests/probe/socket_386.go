package main

import (
	"syscall"
	"unsafe"
)

// socketCalls are the ways this architecture has to make a socket. 32-bit
// x86 has two: the system call, and the older socketcall(2), whose arguments
// lie in memory where a seccomp filter cannot look.
var socketCalls = map[string]func(family, typ, proto int) error{
	"socket": func(family, typ, proto int) error {
		fd, _, e := syscall.RawSyscall(nrSocket, uintptr(family), uintptr(typ), uintptr(proto))
		return closeIf(fd, e)
	},
	"socketcall": func(family, typ, proto int) error {
		args := [3]uintptr{uintptr(family), uintptr(typ), uintptr(proto)}
		fd, _, e := syscall.RawSyscall(syscall.SYS_SOCKETCALL, 1, uintptr(unsafe.Pointer(&args)), 0)
		return closeIf(fd, e)
	},
}

func socketpair(family, typ int) error {
	var fds [2]int32
	_, _, e := syscall.RawSyscall6(nrSocketpair, uintptr(family), uintptr(typ), 0,
		uintptr(unsafe.Pointer(&fds)), 0, 0)
	return closePair(fds, e)
}
