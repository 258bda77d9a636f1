package audit

import (
	"cmp"
	hexcode "encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// maxPorts bounds what is listed of the sockets that listen.
const maxPorts = 256

// Socket states in /proc/net/tcp and udp (include/net/tcp_states.h): a UDP
// socket without a peer is in the state of a closed one.
const (
	tcpListen  = "0A"
	udpUnbound = "07"
)

// lookNetwork lists what listens in the container's network namespace. In the
// host's own, only sockets the container's processes hold are its own.
func (l *looker) lookNetwork() error {
	var own map[string]bool
	if l.f.Namespaces["network"] == "host" {
		own = l.sockets()
		if err := l.abstract(); err != nil {
			return err
		}
	}
	for _, t := range []struct{ name, state string }{
		{"tcp", tcpListen}, {"tcp6", tcpListen}, {"udp", udpUnbound}, {"udp6", udpUnbound},
	} {
		complete, err := eachLine(l.dir, "net/"+t.name, func(line []byte) bool {
			p, inode, ok := parseSocket(t.name, t.state, string(line))
			if !ok || own != nil && !own[inode] || slices.Contains(l.f.Ports, p) {
				return true
			}
			l.f.Ports = append(l.f.Ports, p)
			return len(l.f.Ports) < maxPorts
		})
		switch {
		case err != nil && l.ended():
			return errGone
		case err != nil && !absent(err): // IPv6 may be off
			l.unread("%v", err)
		case err == nil && !complete:
			l.unread("net/%s: more sockets than are looked at", t.name)
		}
	}
	slices.SortFunc(l.f.Ports, func(a, b Port) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Address, b.Address))
	})
	return nil
}

// parseSocket reads a line of /proc/net/tcp and its kin (proc_net(5)).
func parseSocket(protocol, state, line string) (p Port, inode string, ok bool) {
	f := strings.Fields(line)
	if len(f) < 10 || f[3] != state {
		return p, "", false
	}
	addr, port, found := strings.Cut(f[1], ":")
	n, err := strconv.ParseUint(port, 16, 16)
	ip, good := kernelAddress(addr)
	if !found || err != nil || !good || n == 0 {
		return p, "", false
	}
	return Port{Protocol: protocol, Address: ip.String(), Port: uint16(n)}, f[9], true
}

// kernelAddress reads an address as the kernel writes it: words of 32 bits, in
// the machine's order of bytes, which is little-endian on all supported ones.
func kernelAddress(s string) (netip.Addr, bool) {
	b, err := hexcode.DecodeString(s)
	if err != nil || len(b) != 4 && len(b) != 16 {
		return netip.Addr{}, false
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	a, ok := netip.AddrFromSlice(b)
	return a.Unmap(), ok
}

// sockets gives the inodes of the sockets the container's processes hold.
func (l *looker) sockets() map[string]bool {
	out := map[string]bool{}
	left := 1 << 16
	for _, pid := range l.members() {
		dir, err := os.Open(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			continue
		}
		for left > 0 {
			names, err := dir.Readdirnames(min(left, 1024))
			left -= len(names)
			for _, n := range names {
				// A socket's link is short: what does not fit is none.
				link, err := readlink(int(dir.Fd()), n)
				if inode, ok := strings.CutPrefix(link, "socket:["); err == nil && ok {
					out[strings.TrimSuffix(inode, "]")] = true
				}
			}
			if err != nil {
				break
			}
		}
		_ = dir.Close()
	}
	if left <= 0 {
		l.unread("ports: the container has more open files than are looked at")
	}
	return out
}

// abstract lists the abstract sockets of the host's services: no file system
// and no user namespace stands before those.
func (l *looker) abstract() error {
	_, err := eachLine(l.dir, "net/unix", func(line []byte) bool {
		if name, ok := abstractName(string(line)); ok {
			list(&l.f.AbstractSockets, name)
		}
		return len(l.f.AbstractSockets) < maxListed
	})
	if err != nil && !absent(err) {
		l.unread("%v", err)
	}
	slices.Sort(l.f.AbstractSockets)
	return nil
}

// abstractName takes the name out of a line of /proc/net/unix if a listening
// socket has one, without what is different at each start.
func abstractName(line string) (string, bool) {
	const acceptsConnections = "00010000" // SO_ACCEPTCON (linux/net.h)
	f := strings.Fields(line)
	if len(f) < 8 || f[3] != acceptsConnections || !strings.HasPrefix(f[7], "@") {
		return "", false
	}
	return f[7], true
}

// host address classes, for the reader.
func (p Port) loopback() bool {
	a, err := netip.ParseAddr(p.Address)
	return err == nil && a.IsLoopback()
}

func (p Port) String() string {
	return fmt.Sprintf("%s %s", strings.TrimSuffix(p.Protocol, "6"), netip.AddrPortFrom(addrOf(p.Address), p.Port))
}

func addrOf(s string) netip.Addr {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.IPv6Unspecified()
	}
	return a
}
