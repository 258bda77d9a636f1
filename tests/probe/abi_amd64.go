package main

import "syscall"

func int80Getpid() int32

// otherABIs are the second system call tables a 64-bit program can reach: a
// filter that knows only the native table must not let these through. Each
// runs in a child, which a strict filter kills with SIGSYS.
var otherABIs = map[string]func() error{
	"int80": func() error {
		if n := int80Getpid(); n < 0 {
			return syscall.Errno(-n)
		}
		return nil
	},
	"x32": func() error {
		const x32Bit, getpid = 0x40000000, 39
		if _, _, e := syscall.RawSyscall(x32Bit|getpid, 0, 0, 0); e != 0 {
			return e
		}
		return nil
	},
}
