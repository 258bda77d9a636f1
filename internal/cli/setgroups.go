//go:build !386 && !arm

package cli

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// setgroupsThread sets the supplementary groups of this thread alone.
// syscall.Setgroups would change every thread of the process. (On 386 and arm
// the call of this number takes 16-bit ids.)
func setgroupsThread(groups []uint32) error {
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&groups[0])), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// setIDThread sets the effective user or group id of this thread alone, and
// with it that for file systems. call is setresuid or setresgid.
func setIDThread(call uintptr, id uint32) error {
	const same = 1<<32 - 1
	if _, _, errno := unix.RawSyscall(call, same, uintptr(id), same); errno != 0 {
		return errno
	}
	return nil
}
