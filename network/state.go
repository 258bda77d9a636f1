package network

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/netfilter"
	"github.com/safe-run/safe-run/internal/ports"
	"github.com/safe-run/safe-run/spec"
)

// state is what a container has of networks: the file network.json in its
// directory, by which all of it can be given back.
type state struct {
	ID     string          `json:"id"`
	Leases []Lease         `json:"leases,omitempty"`
	CNI    []cniUse        `json:"cni,omitempty"`
	Ports  []ports.Mapping `json:"ports,omitempty"`
	// Egress is the list; what it names by address is in the table as long as
	// the container, what it names by name expires by itself.
	Egress spec.Egress `json:"egress"`
	// Upstream are the resolvers that the embedded one asks, if there is one.
	Upstream []netip.Addr `json:"upstream,omitempty"`
	Embedded bool         `json:"embedded,omitempty"`
}

const stateFile = "network.json"

func (s *state) save(dir string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return fail.Wrap(fail.Internal, err, "the container's network")
	}
	p := filepath.Join(dir, stateFile)
	if err := os.WriteFile(p+".new", b, 0o600); err != nil {
		_ = os.Remove(p + ".new")
		return fail.Wrap(fail.HostCannot, err, "the container's network")
	}
	return fail.Wrap(fail.HostCannot, os.Rename(p+".new", p), "the container's network")
}

// loadState reads the state of a container; there is none without a network.
func loadState(dir string) (s state, ok bool, err error) {
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	return s, err == nil, fail.Wrap(fail.Internal, err, "the container's network")
}

// first is the lease that ports are published to: the first with a way to the
// outside.
func (s *state) first() *Lease {
	for i := range s.Leases {
		if !s.Leases[i].Internal {
			return &s.Leases[i]
		}
	}
	return nil
}

// to is where a published port leads.
func (s *state) to(m ports.Mapping) netip.AddrPort {
	l := s.first()
	if l == nil {
		return netip.AddrPort{}
	}
	for _, p := range l.Addrs {
		if p.Addr().Is4() == m.Host.Is4() {
			return netip.AddrPortFrom(p.Addr(), m.Port)
		}
	}
	return netip.AddrPort{}
}

// relay is where the launcher itself connects to for a published port: also
// across families, for a container that has only one.
func (e *Endpoint) relay(m ports.Mapping) netip.AddrPort {
	if to := e.st.to(m); to.IsValid() {
		return to
	}
	own := e.Addresses()
	if l := e.st.first(); l != nil {
		own = own[:0]
		for _, p := range l.Addrs {
			own = append(own, p.Addr())
		}
	}
	if len(own) == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(own[0], m.Port)
}

// elements are the container's entries in the table.
func (s *state) elements() []netfilter.Endpoint {
	var out []netfilter.Endpoint
	for i := range s.Leases {
		l := &s.Leases[i]
		el := netfilter.Endpoint{Bridge: l.Bridge, MAC: l.MAC, LimitEgress: s.Egress.Mode != spec.EgressAll, Allow: allowed(s.Egress)}
		for _, p := range l.Addrs {
			el.Addrs = append(el.Addrs, p.Addr())
		}
		if l == s.first() {
			for _, m := range s.Ports {
				if to := s.to(m); to.IsValid() {
					el.Publish = append(el.Publish, netfilter.Publish{Host: m.Host, HostPort: m.HostPort, Proto: protocol(m.Proto), To: to})
				}
			}
		}
		out = append(out, el)
	}
	return out
}

func protocol(name string) uint8 {
	switch name {
	case spec.UDP:
		return unix.IPPROTO_UDP
	case spec.SCTP:
		return unix.IPPROTO_SCTP
	}
	return unix.IPPROTO_TCP
}
