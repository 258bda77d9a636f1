package profiles

import (
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A guard lists all the ways in which one syscall may be called. Each element
// is one permitting rule; a rule's conditions must all hold, and any rule is
// enough. The guards permit and never deny: libseccomp lets an unconditional
// rule swallow a conditional one of the same syscall, whatever their actions,
// so "allow it, but not with this argument" cannot be said with a denial.
//
// Conditions on values compare 64 bits while the kernel looks at 32: that is
// safe in a permitting EQ (the odd upper half is not permitted) and in masks
// over bits of the lower half.
type guard [][]specs.LinuxSeccompArg

// nsFlags are the CLONE_NEW* bits of clone(2). CLONE_NEWTIME is not among
// them: its bit is part of the exit signal there.
const nsFlags = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
	unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP

// sockTypes are the bits of a socket's type, beside its flags (SOCK_TYPE_MASK).
const sockTypes = 0xf

const (
	setIDBits = unix.S_ISUID | unix.S_ISGID
	// tmpfileBit is the bit O_TMPFILE has beyond O_DIRECTORY.
	tmpfileBit = unix.O_TMPFILE &^ unix.O_DIRECTORY
)

func equal(index uint, value uint64) specs.LinuxSeccompArg {
	return specs.LinuxSeccompArg{Index: index, Value: value, Op: specs.OpEqualTo}
}

// masked permits when argument & mask == value.
func masked(index uint, mask, value uint64) specs.LinuxSeccompArg {
	return specs.LinuxSeccompArg{Index: index, Value: mask, ValueTwo: value, Op: specs.OpMaskedEqual}
}

// guards are the syscalls the built-in profile permits with conditions only.
func guards(o Options) map[string]guard {
	cloneArg := uint(0)
	if o.Arch == "s390x" {
		cloneArg = 1 // clone(stack, flags, ...) there
	}
	forbidden := uint64(nsFlags)
	if slices.Contains(o.Capabilities, "CAP_SYS_ADMIN") {
		forbidden = unix.CLONE_NEWUSER
	}
	network := guard{
		{equal(0, unix.AF_INET)},
		{equal(0, unix.AF_INET6)},
		// Of the netlink protocols only ROUTE: XFRM and others can be
		// opened without any privilege (CVE-2026-43284).
		{equal(0, unix.AF_NETLINK), equal(2, unix.NETLINK_ROUTE)},
	}
	if slices.Contains(o.Capabilities, "CAP_NET_RAW") && slices.Contains(o.Capabilities, "CAP_NET_ADMIN") {
		// What captures packets. Its code in the kernel has been a way out
		// (CVE-2017-7308, CVE-2020-14386), so NET_RAW, which is free, is not enough.
		network = append(network, []specs.LinuxSeccompArg{equal(0, unix.AF_PACKET)})
	}
	g := map[string]guard{
		"clone":  {{masked(cloneArg, forbidden, 0)}},
		"socket": append(guard{{equal(0, unix.AF_UNIX)}}, network...),
		// The kernel creates the sockets, and loads the family's module,
		// before it finds that the family cannot make pairs.
		"socketpair": {{equal(0, unix.AF_UNIX)}},
		"personality": {
			{equal(0, 0x0)},
			{equal(0, 0x0008)},     // PER_LINUX32
			{equal(0, 0x20000)},    // UNAME26
			{equal(0, 0x20008)},    // both
			{equal(0, 0xffffffff)}, // query
		},
		"ioctl": ioctlGuard(1),
	}
	if o.HostNetwork {
		// Abstract sockets of the host (D-Bus, X11, agents, runtimes) have no
		// other lock on every kernel. Stream and sequential pairs stay
		// connected to each other; one of a datagram pair could connect to,
		// or send to, any address, and SOCK_RAW is another word for that.
		g["socket"] = network
		g["socketpair"] = guard{
			{equal(0, unix.AF_UNIX), masked(1, sockTypes, unix.SOCK_STREAM)},
			{equal(0, unix.AF_UNIX), masked(1, sockTypes, unix.SOCK_SEQPACKET)},
		}
	}
	if forbidden == unix.CLONE_NEWUSER {
		g["unshare"] = guard{{masked(0, unix.CLONE_NEWUSER, 0)}}
	}
	if o.WritableBind {
		for name, mode := range map[string]uint{
			"chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2,
			"creat": 1, "mkdir": 1, "mkdirat": 2, "mknod": 1, "mknodat": 2,
		} {
			g[name] = guard{{masked(mode, setIDBits, 0)}}
		}
		for name, flags := range map[string]uint{"open": 1, "openat": 2} {
			g[name] = guard{
				{masked(flags, unix.O_CREAT|tmpfileBit, 0)},
				{masked(flags+1, setIDBits, 0)},
			}
		}
	}
	return g
}

// ioctlGuard permits every request but TIOCSTI (0x5412) and TIOCLINUX
// (0x541c), which put input into a terminal (CVE-2017-5226 and kin). The
// kernel takes 32 bits of the request and only the lower 16 of these say
// which it is here, so the rules look at bits and never at the whole value:
// 0x100005412 is TIOCSTI too (CVE-2019-10063).
//
// Permitted is what differs from both in at least one bit: in one of the bits
// they share, or in bits 1-3, where one has 001 and the other 110.
func ioctlGuard(index uint) guard {
	const (
		tiocsti, tioclinux = unix.TIOCSTI, unix.TIOCLINUX
		differ             = tiocsti ^ tioclinux
	)
	var g guard
	for bit := uint64(1); bit < 1<<16; bit <<= 1 {
		if differ&bit == 0 {
			g = append(g, []specs.LinuxSeccompArg{masked(index, bit, ^uint64(tiocsti)&bit)})
		}
	}
	const b1, b2, b3 = 2, 4, 8
	return append(
		g,
		[]specs.LinuxSeccompArg{masked(index, b1|b2, 0)},
		[]specs.LinuxSeccompArg{masked(index, b1|b2, b1|b2)},
		[]specs.LinuxSeccompArg{masked(index, b2|b3, b2)},
		[]specs.LinuxSeccompArg{masked(index, b2|b3, b3)},
	)
}
