package ports

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

const (
	// backlog is how many connections wait for Relay; the kernel lowers it to
	// net.core.somaxconn.
	backlog = 512
	// anyFreeTries is how often a port that one family has free is tried on
	// the other.
	anyFreeTries = 64
)

// bind makes the sockets of a request.
func (r request) bind(holderName func(int) string) ([]socket, error) {
	if r.choice() == anyFree {
		return r.bindAnyFree(holderName)
	}
	var first *addrError
	// The range may end at the greatest number there is.
	for port := uint32(r.first); port <= uint32(r.last); port++ {
		got, err := r.bindAll(uint16(port))
		if err == nil {
			return got, nil
		}
		if !errors.Is(err.err, unix.EADDRINUSE) {
			return nil, r.explain(err, holderName)
		}
		if first == nil {
			first = err
		}
	}
	return nil, r.explain(first, holderName)
}

func (r request) bindAnyFree(holderName func(int) string) ([]socket, error) {
	var err *addrError
	for range anyFreeTries {
		var got []socket
		if got, err = r.bindAll(0); err == nil {
			return got, nil
		}
		if err.port == 0 || !errors.Is(err.err, unix.EADDRINUSE) {
			break
		}
	}
	return nil, r.explain(err, holderName)
}

// addrError is why an address and port could not be bound.
type addrError struct {
	addr netip.Addr
	port uint16
	err  error
}

// bindAll binds a port on all addresses of a request; port 0 is one of the
// kernel's choice, the same on all of them.
func (r request) bindAll(port uint16) ([]socket, *addrError) {
	out := make([]socket, 0, len(r.addrs))
	for _, a := range r.addrs {
		fd, err := open(a, port, r.proto)
		if err == nil && port == 0 {
			port, err = boundPort(fd)
		}
		if err != nil {
			if fd >= 0 {
				_ = unix.Close(fd)
			}
			closeAll(out)
			return nil, &addrError{a, port, err}
		}
		out = append(out, socket{Mapping{Host: a, HostPort: port, Port: r.port, Proto: r.proto}, fd})
	}
	return out, nil
}

// open binds one socket. It gives -1 with an error.
func open(a netip.Addr, port uint16, proto string) (int, error) {
	kind, number := unix.SOCK_STREAM, unix.IPPROTO_TCP
	switch proto {
	case spec.UDP:
		kind, number = unix.SOCK_DGRAM, unix.IPPROTO_UDP
	case spec.SCTP:
		number = unix.IPPROTO_SCTP
	}
	family := unix.AF_INET
	if a.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, number)
	if err != nil {
		return -1, err
	}
	if a.Is6() {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil && proto == spec.TCP {
		// Old connections in TIME_WAIT do not keep a port; a listener does,
		// with or without this option.
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil && proto == spec.UDP {
		// From the first datagram on: what waits for Relay is for it too.
		err = tellDestination(fd, a)
	}
	if err == nil {
		err = unix.Bind(fd, sockaddr(netip.AddrPortFrom(a, port)))
	}
	if err == nil && proto == spec.TCP {
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func boundPort(fd int) (uint16, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return uint16(sa.Port), nil
	case *unix.SockaddrInet6:
		return uint16(sa.Port), nil
	}
	return 0, unix.EAFNOSUPPORT
}

// explain turns the kernel's error into one that says what to do.
func (r request) explain(e *addrError, holderName func(int) string) error {
	at := place(e.port, r.proto, e.addr)
	switch {
	case errors.Is(e.err, unix.EADDRINUSE) && e.port == 0:
		return fail.New(fail.Conflict, "no port is free at %s for %s", e.addr, r.proto).
			Hint("the range of free choice is net.ipv4.ip_local_port_range")
	case errors.Is(e.err, unix.EADDRINUSE) && r.choice() == anyFree:
		return fail.New(fail.Conflict, "no port is free for %s at %s at once", r.proto, both(r.addrs))
	case errors.Is(e.err, unix.EADDRINUSE) && r.choice() == oneOfRange:
		return fail.New(fail.Conflict, "no port of %d-%d/%s at %s is free: %d is in use%s",
			r.first, r.last, r.proto, both(r.addrs), e.port, holder(r.proto, e.addr, e.port, holderName))
	case errors.Is(e.err, unix.EADDRINUSE):
		return fail.New(fail.Conflict, "%s is in use%s", at, holder(r.proto, e.addr, e.port, holderName))
	case errors.Is(e.err, unix.EADDRNOTAVAIL):
		return fail.New(fail.Usage, "-p: %s is not an address of this host", e.addr).
			Hint("`ip address` shows the addresses there are")
	case errors.Is(e.err, unix.EPROTONOSUPPORT), errors.Is(e.err, unix.ESOCKTNOSUPPORT):
		return fail.New(fail.HostCannot, "this kernel has no %s, which %s needs", r.proto, at)
	case errors.Is(e.err, unix.EAFNOSUPPORT):
		return fail.New(fail.HostCannot, "this host has no IPv6, which %s needs", at)
	case errors.Is(e.err, unix.EMFILE), errors.Is(e.err, unix.ENFILE):
		return fail.Wrap(fail.HostCannot, e.err, "%s: a published port needs an open file for each address", at)
	}
	return fail.Wrap(fail.HostCannot, e.err, "%s", at)
}

func both(addrs []netip.Addr) string {
	var names []string
	for _, a := range addrs {
		names = append(names, fmt.Sprint(a))
	}
	return strings.Join(names, " and ")
}
