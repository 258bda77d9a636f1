package learn

import (
	"encoding/binary"
	"fmt"
	"path"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestJoinNames(t *testing.T) {
	for _, tc := range []struct {
		path, names string
		n           int
		walk        uint16
		want        string
	}{
		{"/etc//x/../y", "", 0, walkNone, "/etc/y"},
		{"x", "b\x00a\x00", 2, walkDone, "/a/b/x"},
		{"", "b\x00a\x00", 2, walkDone, "/a/b"},
		{"x", "", 0, walkDone, "/x"},
		{"../../../x", "b\x00a\x00", 2, walkDone, "/x"},
		{"/../x", "jail\x00srv\x00", 2, walkDone, "/srv/jail/x"},
		{"x", "b\x00", 1, walkShort, "x"},
		{"", "", 0, walkShort, ""},
		{"x", "b\x00a", 2, walkDone, "x"}, // cut off
		{"x", "b\x00a\x00", 60000, walkDone, "x"},
	} {
		if got := joinNames(tc.path, []byte(tc.names), tc.n, tc.walk); got != tc.want {
			t.Errorf("joinNames(%q, %q, %d, %d) is %q, want %q", tc.path, tc.names, tc.n, tc.walk, got, tc.want)
		}
	}
}

func TestSocketUse(t *testing.T) {
	family := func(f uint16, rest ...byte) []byte { return append(binary.NativeEndian.AppendUint16(nil, f), rest...) }
	in6 := append(append([]byte{0, 53, 0, 0, 0, 0}, make([]byte, 15)...), 1)
	for _, tc := range []struct {
		addr  []byte
		arg   uint64
		proto string
		want  string
		port  uint16
		ok    bool
	}{
		{family(unix.AF_INET, 0, 80, 127, 0, 0, 1), unix.SOCK_STREAM | unix.IPPROTO_TCP<<32, "tcp", "127.0.0.1:80", 80, true},
		{family(unix.AF_INET, 0, 80, 127, 0, 0, 1), unix.SOCK_STREAM | unix.IPPROTO_SCTP<<32, "other", "127.0.0.1:80", 80, true},
		{family(unix.AF_INET6, in6...), unix.SOCK_DGRAM | unix.IPPROTO_UDP<<32, "udp", "[::1]:53", 53, true},
		{family(unix.AF_UNIX, []byte("/run/x\x00y")...), unix.SOCK_STREAM, "unix", "/run/x", 0, true},
		{family(unix.AF_UNIX, []byte("\x00name")...), unix.SOCK_STREAM, "unix", "@name", 0, true},
		{family(unix.AF_UNIX), unix.SOCK_STREAM, "unix", "", 0, false},
		{family(unix.AF_NETLINK, 0, 0, 0, 0), unix.SOCK_RAW, "other", "family 16", 0, false},
		{family(unix.AF_INET, 0, 80), unix.SOCK_STREAM, "other", "family 2", 0, false},
		{nil, 0, "other", "", 0, false},
	} {
		got, ok := socketUse(tc.addr, tc.arg)
		if got.Proto != tc.proto || got.Address != tc.want || got.Port != tc.port || ok != tc.ok {
			t.Errorf("socketUse(%q) is %+v %v, want %+v", tc.addr, got, ok, tc)
		}
	}
}

func TestIDMap(t *testing.T) {
	m := parseIDMap([]byte("         0     700000      65536\n     70000          5          1\nx y z\n"))
	for outside, inside := range map[uint32]uint32{700000: 0, 700033: 33, 5: 70000, 6: overflowID, 765536: overflowID, 0: overflowID} {
		if got := m.inside(outside); got != inside {
			t.Errorf("%d is %d inside, want %d", outside, got, inside)
		}
	}
}

func TestCallTable(t *testing.T) {
	c := newCallTable()
	for name := range callShapes() {
		if _, ok := c.nr[name]; !ok {
			t.Logf("no %s on this machine", name)
		}
	}
	for name, nr := range map[string]int{"openat": unix.SYS_OPENAT, "openat2": unix.SYS_OPENAT2, "newfstatat": unix.SYS_NEWFSTATAT, "cachestat": unix.SYS_CACHESTAT} {
		if c.nr[name] != nr || c.name(uint32(nr)) != name {
			t.Errorf("%s is %d, and %d is %s", name, c.nr[name], nr, c.name(uint32(nr)))
		}
	}
	if got := c.name(5000); got != "syscall_5000" {
		t.Errorf("an unknown call is %s", got)
	}
}

// TestEventBound has more different paths than are kept.
func TestEventBound(t *testing.T) {
	var e eventTable
	e.init(newCallTable())
	raw := make([]byte, eventData+16)
	binary.NativeEndian.PutUint32(raw[eventNr:], uint32(e.calls.nr["mkdirat"]))
	binary.NativeEndian.PutUint32(raw[eventLength:], 16)
	for i := range maxEvents + 100 {
		copy(raw[eventData:], fmt.Sprintf("/dir/%010d\x00", i))
		e.take(raw, func(uint32) idMap { return nil })
	}
	if len(e.paths) > maxEvents || e.lost == 0 {
		t.Errorf("%d paths kept, %d lost", len(e.paths), e.lost)
	}
}

// A file without a name is one in the directory it was asked for with.
func TestUnnamed(t *testing.T) {
	var e eventTable
	e.init(newCallTable())
	raw := make([]byte, eventData+16)
	binary.NativeEndian.PutUint32(raw[eventNr:], uint32(e.calls.nr["openat"]))
	binary.NativeEndian.PutUint32(raw[eventLength:], 16)
	copy(raw[eventData:], "/data\x00")
	for _, flags := range []uint64{unix.O_DIRECTORY, unix.O_TMPFILE | unix.O_RDWR} {
		binary.NativeEndian.PutUint64(raw[eventArg:], flags)
		e.take(raw, func(uint32) idMap { return nil })
	}
	for k := range e.paths {
		if want := map[bool]string{false: "/data", true: "/data/" + unnamed}[k.write]; k.path != want {
			t.Errorf("%q, not %q", k.path, want)
		}
	}
	if len(e.paths) != 2 {
		t.Errorf("%+v", e.paths)
	}
}

func FuzzEvent(f *testing.F) {
	calls := newCallTable()
	for _, name := range []string{"openat", "bind", "renameat2", "execve"} {
		raw := make([]byte, eventData, eventData+32)
		binary.NativeEndian.PutUint32(raw[eventNr:], uint32(calls.nr[name]))
		binary.NativeEndian.PutUint32(raw[eventLength:], 5)
		raw[eventNames], raw[eventWalk] = 2, walkDone
		f.Add(append(raw, "/abc\x00down\x00deep\x00"...))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var e eventTable
		e.init(calls)
		e.take(raw, func(uint32) idMap { return idMap{{0, 100, 10}} })
		var r Recording
		e.put(&r)
		if len(r.Paths)+len(r.Sockets) > 1 {
			t.Errorf("one event gave %+v", r)
		}
		for _, p := range r.Paths {
			if strings.Contains(p.Path, "\x00") || len(p.Path) > len(raw)+1 || len(p.Process) > commSize {
				t.Errorf("path %q of %q", p.Path, p.Process)
			}
			if raw[eventWalk] == walkNone && raw[eventWalk+1] == 0 && path.Clean(p.Path) != p.Path {
				t.Errorf("path %q is not clean", p.Path)
			}
		}
	})
}
