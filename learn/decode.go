package learn

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What is kept at most of one recorder: different events, and bytes of paths in
// them.
const (
	maxEvents     = 20000
	maxEventBytes = 32 << 20
)

// unnamed stands for a file made without a name (O_TMPFILE), in its directory.
// The kernel has it as this and the number of its inode.
const unnamed = "#"

// eventTable counts same events together.
type eventTable struct {
	calls   *callTable
	shapes  map[uint32]callShape
	paths   map[pathKey]uint64
	sockets map[SocketUse]uint64 // without count
	// explained are the calls and errors an event was seen of.
	explained map[[2]uint32]bool
	bytes     int // of paths and addresses
	lost      uint64
}

// pathKey is a PathUse without its count.
type pathKey struct {
	path    string
	errno   unix.Errno
	nr      uint32
	write   bool
	caps    uint64
	uid     uint32
	process string
}

func (t *eventTable) init(calls *callTable) {
	t.calls = calls
	t.shapes = map[uint32]callShape{}
	for name, s := range callShapes() {
		if nr, ok := calls.nr[name]; ok {
			t.shapes[uint32(nr)] = s
		}
	}
	t.paths = map[pathKey]uint64{}
	t.sockets = map[SocketUse]uint64{}
	t.explained = map[[2]uint32]bool{}
}

// take adds one event as the programs send it. idsOf gives the id map of a
// container by its number.
func (t *eventTable) take(raw []byte, idsOf func(uint32) idMap) {
	if len(raw) < eventData {
		t.lost++
		return
	}
	ne := binary.NativeEndian
	nr, errno := ne.Uint32(raw[eventNr:]), ne.Uint32(raw[eventErrno:])
	shape, data := t.shapes[nr], raw[eventData:]
	length := ne.Uint32(raw[eventLength:])
	if uint64(length) > uint64(len(data)) {
		t.lost++
		return
	}
	process := text(raw[eventComm : eventComm+commSize])
	if shape.kind == kindSocket {
		s, ok := socketUse(data[:length], ne.Uint64(raw[eventArg:]))
		if !ok && errno == 0 {
			return
		}
		s.Bind, s.Errno, s.Process = shape.bits&shapeBind != 0, unix.Errno(errno), process
		t.explained[[2]uint32{nr, errno}] = true
		if t.sockets[s] != 0 || t.room(len(s.Address)) {
			t.sockets[s]++
		}
		return
	}
	if length >= maxPath { // cut off: no advice may be built on it
		t.lost++
		return
	}
	p := joinNames(text(data[:length]), data[length:], int(ne.Uint16(raw[eventNames:])), ne.Uint16(raw[eventWalk:]))
	if p == "" { // a pipe or the like
		return
	}
	flags := ne.Uint64(raw[eventArg:])
	if flags&unix.O_TMPFILE == unix.O_TMPFILE {
		p = path.Join(p, unnamed)
	}
	t.explained[[2]uint32{nr, errno}] = true
	k := pathKey{
		path: p, errno: unix.Errno(errno), nr: nr, process: process,
		write: shape.bits&(shapeWrites|shapeProbe) != 0 || flags&openWrites != 0 || unix.Errno(errno) == unix.ENOSPC,
		caps:  ne.Uint64(raw[eventRefused:]) | ne.Uint64(raw[eventForeign:]),
		uid:   idsOf(ne.Uint32(raw[eventTarget:])).inside(ne.Uint32(raw[eventUID:])),
	}
	if t.paths[k] != 0 || t.room(len(p)) {
		t.paths[k]++
	}
}

// room says whether one more entry may be made; if not, the event is lost.
func (t *eventTable) room(bytes int) bool {
	if len(t.paths)+len(t.sockets) < maxEvents && t.bytes+bytes <= maxEventBytes {
		t.bytes += bytes
		return true
	}
	t.lost++
	return false
}

// text is the bytes before the first 0.
func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// joinNames gives the path in the container of p, which starts from the
// directory of n names, the innermost first. If they do not lead to the root,
// it gives p as it is, or "" if that is empty.
func joinNames(p string, names []byte, n int, walk uint16) string {
	switch walk {
	case walkNone:
		return path.Clean("/" + p)
	case walkShort:
		return p
	}
	list := make([]string, 0, min(n, maxSteps))
	for range min(n, maxSteps) {
		name, rest, ok := bytes.Cut(names, []byte{0})
		if !ok {
			return p
		}
		list, names = append(list, string(name)), rest
	}
	var dir strings.Builder
	for i := len(list) - 1; i >= 0; i-- {
		dir.WriteByte('/')
		dir.WriteString(list[i])
	}
	if strings.HasPrefix(p, "/") { // below a changed root, which .. does not leave
		p = path.Clean(p)
	}
	return path.Clean("/" + dir.String() + "/" + p)
}

// socketUse reads a socket address; arg is the socket's type and, from bit 32,
// its protocol. It gives false for one that is not of a network nor of the file
// system.
func socketUse(addr []byte, arg uint64) (SocketUse, bool) {
	s := SocketUse{Proto: "other"}
	if len(addr) < 2 {
		return s, false
	}
	kind, proto := arg&0xffff, arg>>32
	switch {
	case kind == unix.SOCK_STREAM && (proto == 0 || proto == unix.IPPROTO_TCP || proto == unix.IPPROTO_MPTCP):
		s.Proto = "tcp"
	case kind == unix.SOCK_DGRAM && (proto == 0 || proto == unix.IPPROTO_UDP):
		s.Proto = "udp"
	}
	family := binary.NativeEndian.Uint16(addr)
	var ip netip.Addr
	switch {
	case family == unix.AF_UNIX:
		s.Proto = "unix"
		if len(addr) > 2 && addr[2] == 0 {
			s.Address = "@" + string(addr[3:])
		} else {
			s.Address = text(addr[2:])
		}
		return s, len(addr) > 2
	case family == unix.AF_INET && len(addr) >= 8:
		ip = netip.AddrFrom4([4]byte(addr[4:8]))
	case family == unix.AF_INET6 && len(addr) >= 24:
		ip = netip.AddrFrom16([16]byte(addr[8:24]))
	default:
		s.Proto, s.Address = "other", "family "+strconv.Itoa(int(family))
		return s, false
	}
	s.Port = binary.BigEndian.Uint16(addr[2:])
	s.Address = netip.AddrPortFrom(ip, s.Port).String()
	return s, true
}

// put adds what was taken to a recording.
func (t *eventTable) put(out *Recording) {
	for k, n := range t.paths {
		out.Paths = append(out.Paths, PathUse{
			Path: k.path, Errno: k.errno, Syscall: t.calls.name(k.nr), Write: k.write,
			Capabilities: capNames(k.caps), UID: k.uid, Process: k.process, Count: n,
		})
	}
	for s, n := range t.sockets {
		s.Count = n
		out.Sockets = append(out.Sockets, s)
	}
}

// capNames are the names of the capabilities of a mask.
func capNames(mask uint64) (names []string) {
	for i, name := range strings.Fields(capOrder) {
		if mask&(1<<i) != 0 {
			names = append(names, "CAP_"+name)
		}
	}
	for i := len(strings.Fields(capOrder)); i < 64; i++ {
		if mask&(1<<i) != 0 {
			names = append(names, "CAP_"+strconv.Itoa(i))
		}
	}
	return names
}

// capOrder are the capabilities by number, include/uapi/linux/capability.h.
const capOrder = `CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE
SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM
BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE`
