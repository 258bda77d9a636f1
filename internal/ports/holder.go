package ports

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/safe-run/safe-run/spec"
)

const (
	// holderTime bounds the search for a name that only an error message has.
	holderTime = time.Second
	// maxTable bounds what is read of the kernel's list of sockets, 150 bytes
	// each.
	maxTable = 32 << 20
)

// holder names the process that has a port, as the end of a sentence: "" if
// none is found, which is so for sockets of the kernel and of other network
// namespaces' processes that hide their files.
func holder(proto string, a netip.Addr, port uint16, name func(int) string) string {
	deadline := time.Now().Add(holderTime)
	for _, inode := range inodes(proto, a, port) {
		pid := ownerOf(inode, deadline)
		if pid == 0 {
			continue
		}
		known := ""
		if name != nil {
			known = name(pid)
		}
		if known == "" {
			known = processName(pid)
		}
		return " by " + known + " (pid " + strconv.Itoa(pid) + ")"
	}
	return ""
}

// inodes are those of the sockets that have a port on an address, the likely
// holder first.
func inodes(proto string, a netip.Addr, port uint16) []uint64 {
	if proto != spec.TCP && proto != spec.UDP {
		return nil
	}
	type found struct {
		inode uint64
		rank  int
	}
	var all []found
	for _, table := range []string{proto, proto + "6"} {
		// A thread can be in another network namespace than its process.
		f, err := os.Open("/proc/thread-self/net/" + table)
		if err != nil {
			continue
		}
		forSockets(f, func(e entry) {
			if e.inode == 0 || e.local.Port() != port || !meet(e.local.Addr(), a) {
				return
			}
			rank := 0
			if e.listening {
				rank -= 2
			}
			if e.local.Addr() == a {
				rank--
			}
			all = append(all, found{e.inode, rank})
		})
		f.Close()
	}
	slices.SortStableFunc(all, func(x, y found) int { return x.rank - y.rank })
	var out []uint64
	for _, f := range all[:min(len(all), 8)] {
		out = append(out, f.inode)
	}
	return out
}

// meet says whether sockets at two addresses can be in each other's way. One
// at :: has the addresses of IPv4 too, unless it was told not to.
func meet(theirs, ours netip.Addr) bool {
	if theirs == netip.IPv6Unspecified() {
		return true
	}
	t := theirs.Unmap()
	return t == ours || t.Is4() == ours.Is4() && (t.IsUnspecified() || ours.IsUnspecified())
}

// entry is one socket of /proc/net/tcp, tcp6, udp or udp6.
type entry struct {
	local     netip.AddrPort
	listening bool
	inode     uint64 // 0: no process has it
}

// forSockets reads a table of sockets (proc_pid_net(5)). Lines it does not
// understand it passes over.
func forSockets(r io.Reader, f func(entry)) {
	lines := bufio.NewScanner(io.LimitReader(r, maxTable))
	for lines.Scan() {
		if e, ok := parseSocket(lines.Text()); ok {
			f(e)
		}
	}
}

func parseSocket(line string) (e entry, ok bool) {
	const local, state, inode, fields = 1, 3, 9, 10
	field := strings.Fields(line)
	if len(field) < fields {
		return e, false
	}
	if e.local, ok = parseKernelAddr(field[local]); !ok {
		return e, false
	}
	e.listening = field[state] == "0A"
	var err error
	e.inode, err = strconv.ParseUint(field[inode], 10, 64)
	return e, err == nil
}

// parseKernelAddr reads ADDRESS:PORT, where the address is hexadecimal in
// words of the machine's byte order.
func parseKernelAddr(s string) (netip.AddrPort, bool) {
	addr, port, _ := strings.Cut(s, ":")
	p, err := strconv.ParseUint(port, 16, 16)
	raw, err2 := hex.DecodeString(addr)
	if err != nil || err2 != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	a, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(a, uint16(p)), true
}

// ownerOf finds a process that has a socket open: 0 if there is none, or time
// is up. Of several it is the one with the lowest number, which started the
// others as a rule.
func ownerOf(inode uint64, deadline time.Time) int {
	want := "socket:[" + strconv.FormatUint(inode, 10) + "]"
	names, err := readNames("/proc")
	if err != nil {
		return 0
	}
	var pids []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	for _, pid := range pids {
		dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
		fds, err := readNames(dir)
		if err != nil {
			continue // it ended
		}
		for i, fd := range fds {
			if i%256 == 0 && time.Now().After(deadline) {
				return 0
			}
			if link, err := os.Readlink(filepath.Join(dir, fd)); err == nil && link == want {
				return pid
			}
		}
	}
	return 0
}

func readNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// processName is the name a process has given itself, which is any bytes but
// 0, fit for a terminal.
func processName(pid int) string {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
	if err != nil {
		return "a process"
	}
	return printable(strings.TrimSuffix(string(b), "\n"))
}

func printable(s string) string {
	s = s[:min(len(s), 64)]
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("_.:/@+-", c)
	}
	if s != "" && strings.IndexFunc(s, func(c rune) bool { return !plain(c) }) < 0 {
		return s
	}
	return strconv.QuoteToASCII(s)
}
