// Package resolver gives containers names: it decides what a container's
// resolv.conf says, answers queries inside the container's network namespace
// where the host's resolvers cannot be asked from there, and keeps the
// addresses of an egress list's names.
package resolver

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// Bounds of what is taken from a resolv.conf. maxServers is the C library's
// MAXNS: it ignores further servers.
const (
	maxServers  = 3
	maxSearch   = 32
	maxOptions  = 16
	maxConfFile = 64 << 10
)

// Conf is a resolv.conf(5).
type Conf struct {
	Servers []netip.Addr
	Search  []string
	Options []string

	// Behind are the servers that systemd-resolved asks, if all Servers are
	// loopback addresses and it runs.
	Behind []netip.Addr
	// Near are those of Servers and Behind that are the host itself: a
	// container cannot ask them.
	Near []netip.Addr
}

// ReadHost reads the host's resolv.conf. A file that does not exist is an empty
// one. The paths, for tests, stand for /etc/resolv.conf and
// /run/systemd/resolve/resolv.conf.
func ReadHost(paths ...string) (Conf, error) {
	if len(paths) == 0 {
		paths = []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"}
	}
	c, err := readConf(paths[0])
	if err != nil {
		return Conf{}, err
	}
	if len(paths) > 1 && len(c.Servers) > 0 && !slices.ContainsFunc(c.Servers, func(a netip.Addr) bool { return !loopback(a) }) {
		// Without systemd-resolved there is nothing behind a loopback server.
		if behind, err := readConf(paths[1]); err == nil {
			c.Behind = behind.Servers
		}
	}
	for _, a := range slices.Concat(c.Servers, c.Behind) {
		if Local(a) {
			c.Near = append(c.Near, a)
		}
	}
	return c, nil
}

func readConf(path string) (Conf, error) {
	// Whatever the path is, opening it must not wait for another process.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return Conf{}, nil
	}
	if err != nil {
		return Conf{}, fail.Wrap(fail.HostCannot, err, "the host's resolvers")
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return Conf{}, fail.New(fail.HostCannot, "the host's resolvers: %s is not a file", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxConfFile))
	if err != nil {
		return Conf{}, fail.Wrap(fail.HostCannot, err, "the host's resolvers")
	}
	return parseConf(string(b)), nil
}

// parseConf reads as the C library does: what it does not know it ignores, of
// search and domain the last one counts.
func parseConf(text string) Conf {
	var c Conf
	for line := range strings.Lines(text) {
		if i := strings.IndexAny(line, "#;"); i >= 0 {
			line = line[:i]
		}
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch args := words[1:]; words[0] {
		case "nameserver":
			if a, ok := parseServer(args[0]); ok {
				c.Servers = appendNew(c.Servers, maxServers, a)
			}
		case "domain":
			c.Search = searchList(args[:1])
		case "search":
			c.Search = searchList(args)
		case "options":
			for _, o := range args {
				if isOption(o) {
					c.Options = appendNew(c.Options, maxOptions, o)
				}
			}
		}
	}
	return c
}

// parseServer reads the address of a name server; link-local ones have a zone.
func parseServer(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.IsMulticast() || len(a.Zone()) >= unix.IFNAMSIZ || strings.ContainsFunc(a.Zone(), func(r rune) bool { return !nameByte(r) && r != '.' }) {
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}

func searchList(domains []string) []string {
	var out []string
	for _, d := range domains {
		if d = strings.TrimSuffix(d, "."); isDomain(d) {
			out = appendNew(out, maxSearch, d)
		}
	}
	return out
}

// isDomain says whether s has the form of a domain name without its final dot;
// underscores are in use.
func isDomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, func(r rune) bool { return !nameByte(r) }) {
			return false
		}
	}
	return true
}

func nameByte(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
}

func isOption(s string) bool {
	return s != "" && len(s) <= 32 && !strings.ContainsFunc(s, func(r rune) bool { return !nameByte(r) && r != ':' && r != '.' })
}

// appendNew appends what the list has not yet, up to n elements in all.
func appendNew[T comparable](list []T, n int, v T) []T {
	if len(list) >= n || slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}

// loopback says whether a server is on the machine that asks. The unspecified
// address means the same.
func loopback(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLoopback() || a.IsUnspecified()
}

// Local says whether an address is this host's own: no container reaches a
// service there. No packet is sent.
func Local(a netip.Addr) bool {
	if loopback(a) {
		return true
	}
	// The kernel's choice of a source address towards itself is that address.
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 53)))
	if err != nil {
		return false
	}
	defer c.Close()
	from, err := netip.ParseAddrPort(c.LocalAddr().String())
	return err == nil && from.Addr().Unmap().WithZone("") == a.Unmap().WithZone("")
}
