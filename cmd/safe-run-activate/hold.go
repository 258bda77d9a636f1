package main

import (
	"runtime"
	"syscall"
	"unsafe"
)

// The same numbers everywhere, linux/landlock.h and linux/prctl.h.
const (
	sysLandlockCreateRuleset = 444
	sysLandlockRestrictSelf  = 446
	accessNetBindTCP         = 1 << 0
	accessNetConnectTCP      = 1 << 1
	prSetNoNewPrivs          = 38
)

// hold makes a Landlock domain that allows no TCP connect and no TCP bind, of
// this thread, which is the one that executes the program: it stays locked.
// Files are as before, the domain handles none of their rights. Landlock
// overlooks the connect that is in a send (MSG_FASTOPEN, as of Linux 6.18), so
// a filter denies that, and with it programs of other architectures.
func hold() error {
	runtime.LockOSThread()
	attr := struct{ fs, net uint64 }{net: accessNetBindTCP | accessNetConnectTCP}
	ruleset, _, errno := syscall.Syscall(sysLandlockCreateRuleset, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return errno
	}
	// Of a container it is set already, by the runtime.
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	if _, _, errno := syscall.Syscall(sysLandlockRestrictSelf, ruleset, 0, 0); errno != 0 {
		return errno
	}
	if err := syscall.Close(int(ruleset)); err != nil {
		return err
	}
	return denyFastOpen()
}

// sends are what of the machine's system calls can connect, and the machine's
// number (linux/audit.h); none for a machine whose numbers are not known here.
func sends() (machine, sendto, sendmsg, sendmmsg uint32, err error) {
	switch runtime.GOARCH {
	case "amd64":
		return 0xC000003E, 44, 46, 307, nil
	case "arm64":
		return 0xC00000B7, 206, 211, 269, nil
	case "riscv64":
		return 0xC00000F3, 206, 211, 269, nil
	}
	return 0, 0, 0, 0, syscall.ENOSYS
}

func denyFastOpen() error {
	machine, sendto, sendmsg, sendmmsg, err := sends()
	if err != nil {
		return err
	}
	const (
		load   = syscall.BPF_LD | syscall.BPF_W | syscall.BPF_ABS
		equal  = syscall.BPF_JMP | syscall.BPF_JEQ | syscall.BPF_K
		isSet  = syscall.BPF_JMP | syscall.BPF_JSET | syscall.BPF_K
		always = syscall.BPF_JMP | syscall.BPF_JA
		end    = syscall.BPF_RET | syscall.BPF_K

		number, arch, arg2, arg3 = 0, 4, 32, 40 // offsets in struct seccomp_data, low halves
		x32                      = 0x40000000
		fastOpen                 = 0x20000000
		allow                    = 0x7fff0000 // SECCOMP_RET_ALLOW
		deny                     = 0x00050000 | uint32(syscall.EPERM)
	)
	filter := []syscall.SockFilter{
		{Code: load, K: arch},
		{Code: equal, K: machine, Jf: 11}, // to deny
		{Code: load, K: number},
		{Code: isSet, K: x32, Jt: 9}, // to deny
		{Code: equal, K: sendto, Jt: 3},
		{Code: equal, K: sendmmsg, Jt: 2},
		{Code: equal, K: sendmsg, Jt: 3},
		{Code: end, K: allow},
		{Code: load, K: arg3},
		{Code: always, K: 1},
		{Code: load, K: arg2},
		{Code: isSet, K: fastOpen, Jt: 1}, // to deny
		{Code: end, K: allow},
		{Code: end, K: deny},
	}
	const prSetSeccomp, modeFilter = 22, 2
	program := syscall.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := syscall.Syscall(syscall.SYS_PRCTL, prSetSeccomp, modeFilter, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return nil
}
