package systemd

import (
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// Hooks are where the kernel asks a cgroup's programs about a socket's address.
type hooks []uint32

func addressHooks() hooks {
	return hooks{unix.BPF_CGROUP_INET4_CONNECT, unix.BPF_CGROUP_INET6_CONNECT, unix.BPF_CGROUP_INET4_BIND, unix.BPF_CGROUP_INET6_BIND}
}

func datagramHooks() hooks {
	return hooks{unix.BPF_CGROUP_UDP4_SENDMSG, unix.BPF_CGROUP_UDP6_SENDMSG}
}

// Fence keeps a container's processes from using sockets of other networks
// than their own for anything but what they are for: a socket given away by an
// Activation is one of the host's network, and could be disconnected, bound
// and connected anew to anything that the host reaches. cgroup is the
// directory of the container's cgroup (v2), netns its network namespace, files
// what will be given. Where they include a datagram socket, sending on it
// stays possible: without that it could not answer.
//
// The kernel drops the fence with the cgroup. To be called before the
// container's program starts. An error has kind HostCannot.
func Fence(cgroup string, netns *os.File, files []*os.File) error {
	cookie, err := netnsCookie(netns)
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "asking for the identity of the container's network")
	}
	dir, err := unix.Open(cgroup, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "opening the container's cgroup %q", cgroup)
	}
	defer func() { _ = unix.Close(dir) }()
	at := addressHooks()
	datagrams := false
	for _, f := range files {
		_, kind, _, err := socketOf(f)
		datagrams = datagrams || err != nil || kind == unix.SOCK_DGRAM
	}
	if !datagrams {
		at = append(at, datagramHooks()...)
	}
	for _, hook := range at {
		if err := attach(dir, hook, cookie); err != nil {
			return fail.Wrap(fail.HostCannot, err, "keeping the sockets of systemd to what they are for (a cgroup BPF program)")
		}
	}
	return nil
}

// netnsCookie gives the number by which a BPF program knows a namespace. The
// thread that enters it ends with the goroutine, so nothing has to go back.
func netnsCookie(netns *os.File) (uint64, error) {
	type answer struct {
		cookie uint64
		err    error
	}
	ch := make(chan answer)
	go func() {
		runtime.LockOSThread()
		var a answer
		if a.err = unix.Setns(int(netns.Fd()), unix.CLONE_NEWNET); a.err == nil {
			a.cookie, a.err = ownCookie()
		}
		ch <- a
	}()
	a := <-ch
	return a.cookie, a.err
}

func ownCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
}

// program is
//
//	return bpf_get_netns_cookie(ctx) == cookie
//
// as struct bpf_insn of linux/bpf.h: opcode, registers, offset, immediate.
func program(cookie uint64) []byte {
	var p []byte
	insn := func(code, regs byte, off int16, imm uint32) {
		p = append(p, code, regs)
		p = binary.NativeEndian.AppendUint16(p, uint16(off))
		p = binary.NativeEndian.AppendUint32(p, imm)
	}
	// The registers' nibbles are bit fields: which is first depends on the machine.
	src := byte(1 << 4)
	dst := byte(1)
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		src, dst = dst, src
	}
	insn(unix.BPF_JMP|unix.BPF_CALL, 0, 0, 122)                        // r0 = bpf_get_netns_cookie(r1)
	insn(unix.BPF_LD|unix.BPF_IMM|unix.BPF_DW, dst, 0, uint32(cookie)) // r1 = cookie
	insn(0, 0, 0, uint32(cookie>>32))
	insn(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_X, src, 2, 0) // if r0 == r1 goto allow
	insn(unix.BPF_ALU64|unix.BPF_MOV|unix.BPF_K, 0, 0, 0) // r0 = 0: EPERM
	insn(unix.BPF_JMP|unix.BPF_EXIT, 0, 0, 0)
	insn(unix.BPF_ALU64|unix.BPF_MOV|unix.BPF_K, 0, 0, 1) // allow: r0 = 1
	insn(unix.BPF_JMP|unix.BPF_EXIT, 0, 0, 0)
	return p
}

// attach loads the program for one hook and attaches it beside those that
// others have there.
func attach(cgroup int, hook uint32, cookie uint64) error {
	insns, license := program(cookie), []byte("Apache-2.0\x00")
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&insns[0])
	pin.Pin(&license[0])
	load := struct {
		kind, count             uint32
		insns, license          uint64
		logLevel, logSize       uint32
		log                     uint64
		version, flags          uint32
		name                    [16]byte
		ifindex, expectedAttach uint32
	}{
		kind: unix.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, count: uint32(len(insns) / 8),
		insns: uint64(uintptr(unsafe.Pointer(&insns[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
		name: [16]byte{'s', 'a', 'f', 'e', '_', 'r', 'u', 'n'}, expectedAttach: hook,
	}
	prog, err := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&load), unsafe.Sizeof(load))
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(prog) }()
	to := struct{ target, prog, kind, flags uint32 }{uint32(cgroup), uint32(prog), hook, unix.BPF_F_ALLOW_MULTI}
	_, err = bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&to), unsafe.Sizeof(to))
	return err
}

func bpf(command uintptr, attr unsafe.Pointer, size uintptr) (int, error) {
	for {
		r, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(attr), size)
		if errno == 0 {
			return int(r), nil
		}
		// The verifier gives up with EAGAIN when a signal comes.
		if !errors.Is(errno, unix.EAGAIN) && !errors.Is(errno, unix.EINTR) {
			return 0, errno
		}
	}
}
