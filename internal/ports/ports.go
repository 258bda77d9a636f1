// Package ports holds the published ports of a container: a socket on each
// published address and port for as long as the container runs. A port that
// is in use is found before anything starts, the ports are seen with ss, and
// what no nat rule of the kernel takes is relayed from the sockets.
package ports

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/spec"
)

// Mapping is one published port after all choices are made.
type Mapping struct {
	Host     netip.Addr `json:"host"`      // an address of the host; 0.0.0.0 and :: are all of its family
	HostPort uint16     `json:"host_port"` // never 0
	Port     uint16     `json:"port"`      // inside the container
	Proto    string     `json:"proto"`     // spec.TCP, spec.UDP or spec.SCTP
}

// Options are what Open needs to know beside the ports.
type Options struct {
	// DefaultAddr is the address of ports that name none. Zero: all addresses
	// of the host, of IPv4 and, where the host has it, of IPv6.
	DefaultAddr netip.Addr
	// HolderName names a process that has a port in the words of an error
	// message, or gives "" if it has no better name than the process's own.
	// It may be nil.
	HolderName func(pid int) string
}

// Held are the sockets that keep the published ports of one container. The
// kernel lets them go with the process.
type Held struct {
	mu      sync.Mutex
	sockets []socket // in the order of the mappings
	done    chan struct{}
}

// socket keeps one mapping.
type socket struct {
	Mapping
	fd int
}

// Open binds all ports that are asked for, or none. Errors are Conflict for a
// port in use, with the name of its holder where that can be found, Usage for
// what cannot be bound at all, and HostCannot for what this host lacks.
func Open(asked []spec.Publish, o Options) (*Held, error) {
	reqs, err := requests(asked, o.DefaultAddr)
	if err != nil {
		return nil, err
	}
	// Those without a choice take their ports first.
	order := make([]int, len(reqs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(reqs[a].choice(), reqs[b].choice()) })

	if len(reqs) > manyPorts {
		makeRoom(2 * len(reqs))
	}
	got := make([][]socket, len(reqs))
	for _, i := range order {
		if got[i], err = reqs[i].bind(o.HolderName); err != nil {
			closeAll(slices.Concat(got...))
			return nil, err
		}
	}
	return &Held{sockets: slices.Concat(got...), done: make(chan struct{})}, nil
}

// Mappings are the published ports in the order they were asked for, a
// mapping of both families as two.
func (h *Held) Mappings() []Mapping {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]Mapping, len(h.sockets))
	for i, s := range h.sockets {
		out[i] = s.Mapping
	}
	return out
}

// Close lets the ports go and ends Relay. It may be called more than once.
func (h *Held) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed() {
		return
	}
	close(h.done)
	closeAll(h.sockets)
}

func (h *Held) closed() bool {
	select {
	case <-h.done:
		return true
	default:
		return false
	}
}

// manyPorts is from where on makeRoom is worth its while.
const manyPorts = 32

// makeRoom grows the process's table of descriptors at once. The kernel grows
// it by doubling otherwise, and each time waits (synchronize_rcu) until no
// thread looks at the old one: some milliseconds. That it fails is no error
// yet.
func makeRoom(n int) {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, fd+n); err == nil {
		_ = unix.Close(high)
	}
}

func closeAll(sockets []socket) {
	for _, s := range sockets {
		_ = unix.Close(s.fd)
	}
}
