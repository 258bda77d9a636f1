package ports

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// maxMappings is how many ports one container can publish. Each costs a
// socket or two; an image may expose all there are.
const maxMappings = 16384

// request is one mapping to make: the same port of the host on each address.
type request struct {
	addrs       []netip.Addr
	first, last uint16 // of the host: one of these; 0: any free one
	port        uint16 // of the container
	proto       string
}

// Kinds of choice, in the order they are made.
const (
	noChoice = iota
	oneOfRange
	anyFree
)

func (r request) choice() int {
	switch {
	case r.first == 0:
		return anyFree
	case r.first != r.last:
		return oneOfRange
	}
	return noChoice
}

// requests are the mappings that ask for one port of the container each.
func requests(asked []spec.Publish, fallback netip.Addr) ([]request, error) {
	everywhere := everyAddress()
	var out []request
	for _, p := range asked {
		addrs := everywhere
		switch {
		case p.HostIP.IsValid():
			addrs = []netip.Addr{p.HostIP.Unmap()}
		case fallback.IsValid():
			addrs = []netip.Addr{fallback.Unmap()}
		}
		a := addrs[0]
		if a.IsMulticast() || a.Is6() && a.IsLinkLocalUnicast() || a.Zone() != "" {
			return nil, fail.New(fail.Usage, "-p: ports cannot be published on the address %s", a).
				Hint("use another address of this host, or none for all of them")
		}
		inside := int(p.Ports.Last) - int(p.Ports.First) + 1
		outside := int(p.HostLast) - int(p.HostFirst) + 1
		if p.Ports.First == 0 || inside < 1 || outside < 1 || p.HostFirst == 0 && p.HostLast != 0 ||
			p.HostFirst != 0 && inside != outside && inside != 1 {
			return nil, fail.New(fail.Usage, "-p: the ports %d-%d of the host and %d-%d of the container do not pair up",
				p.HostFirst, p.HostLast, p.Ports.First, p.Ports.Last)
		}
		if len(out)+inside > maxMappings {
			return nil, fail.New(fail.Usage, "-p: more than %d published ports", maxMappings)
		}
		for i := range uint16(inside) {
			r := request{addrs: addrs, first: p.HostFirst, last: p.HostLast, port: p.Ports.First + i, proto: p.Ports.Proto}
			if inside > 1 && r.first != 0 {
				r.first += i
				r.last = r.first
			}
			out = append(out, r)
		}
	}
	return out, overlap(out)
}

// everyAddress is what a port without an address is published on.
func everyAddress() []netip.Addr {
	v4, v6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	if hasIPv6() {
		return []netip.Addr{v4, v6}
	}
	return []netip.Addr{v4}
}

// hasIPv6 says whether this host speaks IPv6, which it can lack in two ways:
// without the protocol there is no socket, with it disabled on all interfaces
// there is no address.
func hasIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	// With no port left it is another error.
	return unix.Bind(fd, &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16()}) != unix.EADDRNOTAVAIL
}

// overlap finds a port that is asked for twice, which the kernel would call
// in use.
func overlap(reqs []request) error {
	type key struct {
		port  uint16
		proto string
	}
	seen := make(map[key][]netip.Addr, len(reqs))
	for _, r := range reqs {
		if r.choice() != noChoice {
			continue
		}
		k := key{r.first, r.proto}
		for _, a := range r.addrs {
			for _, b := range seen[k] {
				if a == b || a.Is4() == b.Is4() && (a.IsUnspecified() || b.IsUnspecified()) {
					return fail.New(fail.Usage, "-p: %s is published twice%s", place(r.first, r.proto, a), alsoAt(a, b))
				}
			}
		}
		seen[k] = append(seen[k], r.addrs...)
	}
	return nil
}

func alsoAt(a, b netip.Addr) string {
	if a == b {
		return ""
	}
	return ", the other time at " + b.String()
}

// place names a port of the host in messages.
func place(port uint16, proto string, a netip.Addr) string {
	return fmt.Sprintf("port %d/%s at %s", port, proto, a)
}
