package learn

import (
	"strconv"
	"strings"
)

// maxCalls is more than there are system calls.
const maxCalls = 1024

// callTable has the names of system calls by number, and the reverse.
type callTable struct {
	names [maxCalls]string
	nr    map[string]int
}

func newCallTable() *callTable {
	t := &callTable{nr: map[string]int{}}
	at := 0
	for _, w := range strings.Fields(callNames) {
		if n, ok := strings.CutPrefix(w, "="); ok {
			at, _ = strconv.Atoi(n)
			continue
		}
		t.names[at], t.nr[w] = w, at
		at++
	}
	return t
}

// name gives the name of a system call, syscall_N for one not known.
func (t *callTable) name(nr uint32) string {
	if nr < maxCalls && t.names[nr] != "" {
		return t.names[nr]
	}
	return "syscall_" + strconv.FormatUint(uint64(nr), 10)
}

// What the programs need to know of a system call. In the kernel it is one
// number of 64 bits, a byte for each of the first seven, see pack.
type callShape struct {
	kind     uint8
	path     uint8 // number of the argument, from 1; 0: none
	dir      uint8 // the directory a relative path starts at; 0: the working directory
	path2    uint8
	dir2     uint8
	interest uint8 // argument that is told apart
	flags    uint8 // open's flags; with byPointer they are where it points to
	bits     uint8
}

const (
	kindPath = 1 + iota // has a path, or acts on the file of a descriptor
	kindSocket

	byPointer = 0x80

	shapeWrites  = 1 // changes something if it succeeds
	shapeProbe   = 2 // only asks: of interest with EROFS alone
	shapeForks   = 4 // returns a second time, as 0 in the child
	shapeBind    = 8
	shapeRoot    = 16 // may really want CAP_SYS_ADMIN of the host, see countCaps
	shapeExec    = 32
	shapeNothing = 64 // only so that a shape is never 0

	shapeAnswered = 128 // may succeed and have its refusal come as a message
)

func (s callShape) pack() uint64 {
	return uint64(s.kind) | uint64(s.path)<<8 | uint64(s.dir)<<16 | uint64(s.path2)<<24 | uint64(s.dir2)<<32 |
		uint64(s.interest)<<40 | uint64(s.flags)<<48 | uint64(s.bits)<<56
}

// callShapes is the table of the calls that are looked at closely.
func callShapes() map[string]callShape {
	at := func(path, dir uint8) callShape {
		return callShape{kind: kindPath, path: path, dir: dir, bits: shapeWrites}
	}
	two := func(path, dir, path2, dir2 uint8) callShape {
		return callShape{kind: kindPath, path: path, dir: dir, path2: path2, dir2: dir2, bits: shapeWrites}
	}
	asks := func(arg uint8) callShape { return callShape{interest: arg, bits: shapeNothing} }
	root := func(s callShape) callShape { s.bits |= shapeRoot; return s }
	table := map[string]callShape{
		"open":    {kind: kindPath, path: 1, flags: 2},
		"openat":  {kind: kindPath, path: 2, dir: 1, flags: 3},
		"openat2": {kind: kindPath, path: 2, dir: 1, flags: 3 | byPointer},

		"creat": at(1, 0), "mkdir": at(1, 0), "mkdirat": at(2, 1),
		"mknod": root(at(1, 0)), "mknodat": root(at(2, 1)), "unlink": at(1, 0), "unlinkat": at(2, 1), "rmdir": at(1, 0),
		"rename": two(1, 0, 2, 0), "renameat": two(2, 1, 4, 3), "renameat2": two(2, 1, 4, 3),
		"link": two(1, 0, 2, 0), "linkat": two(2, 1, 4, 3), "symlink": at(2, 0), "symlinkat": at(3, 2),
		"truncate": at(1, 0), "ftruncate": at(0, 1), "fallocate": at(0, 1),
		"chmod": at(1, 0), "fchmod": at(0, 1), "fchmodat": at(2, 1), "fchmodat2": at(2, 1),
		"chown": at(1, 0), "lchown": at(1, 0), "fchown": at(0, 1), "fchownat": at(2, 1),
		"utime": at(1, 0), "utimes": at(1, 0), "futimesat": at(2, 1), "utimensat": at(2, 1),
		"setxattr": root(at(1, 0)), "lsetxattr": root(at(1, 0)), "fsetxattr": root(at(0, 1)),
		"removexattr": root(at(1, 0)), "lremovexattr": root(at(1, 0)), "fremovexattr": root(at(0, 1)),
		"mount": root(at(2, 0)),

		// Of interest if there is no room: which file system is full.
		"write": {kind: kindPath, dir: 1}, "pwrite64": {kind: kindPath, dir: 1}, "writev": {kind: kindPath, dir: 1},
		"sendfile": {kind: kindPath, dir: 1}, "copy_file_range": {kind: kindPath, dir: 3},

		"sendto": {bits: shapeAnswered}, "sendmsg": {bits: shapeAnswered},

		"access":     {kind: kindPath, path: 1, bits: shapeProbe},
		"faccessat":  {kind: kindPath, path: 2, dir: 1, bits: shapeProbe},
		"faccessat2": {kind: kindPath, path: 2, dir: 1, bits: shapeProbe},

		"execve":   {kind: kindPath, path: 1, bits: shapeExec},
		"execveat": {kind: kindPath, path: 2, dir: 1, bits: shapeExec},

		"bind":    {kind: kindSocket, bits: shapeBind},
		"connect": {kind: kindSocket, bits: shapeNothing},

		"socket": asks(1), "socketpair": asks(1), "unshare": root(asks(1)), "prctl": asks(1),
		"ioctl": root(asks(2)), "personality": asks(1),
		"clone":  {interest: 1, bits: shapeForks},
		"clone3": {bits: shapeForks}, "fork": {bits: shapeForks}, "vfork": {bits: shapeForks},
	}
	for _, name := range []string{
		"umount2", "quotactl", "quotactl_fd", "swapon", "swapoff", "bpf", "perf_event_open", "fanotify_init", "setns", "syslog",
		"sethostname", "setdomainname", "fsopen", "fsconfig", "fsmount", "fspick", "move_mount", "open_tree", "mount_setattr",
		"pivot_root", "keyctl", "add_key", "lookup_dcookie", "ioprio_set", "reboot",
	} {
		table[name] = callShape{bits: shapeRoot}
	}
	return table
}
