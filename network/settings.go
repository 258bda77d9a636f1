package network

import (
	"github.com/safe-run/safe-run/internal/ports"
	"github.com/safe-run/safe-run/spec"
)

// Settings are what a container has of its networks, to show it. They are
// those of its last start; a container that has ended holds none of it.
type Settings struct {
	Leases []Lease // in the order the networks were asked for
	CNI    []string
	Ports  []ports.Mapping
	Egress spec.Egress
	DNS    bool // the embedded name server answers inside
}

// ReadSettings reads the settings from a container's directory; they are empty
// for a container without a network of its own. It touches nothing else, and
// needs neither the kernel nor the definitions of the networks. Errors are of
// kind Internal.
func ReadSettings(dir string) (Settings, error) {
	st, ok, err := loadState(dir)
	if !ok || err != nil {
		return Settings{}, err
	}
	s := Settings{Leases: st.Leases, Ports: st.Ports, Egress: st.Egress, DNS: st.Embedded}
	for _, u := range st.CNI {
		s.CNI = append(s.CNI, u.Network)
	}
	return s, nil
}

// Published is the lease that the published ports lead to: the first one with
// a way in from outside, or nil.
func (s Settings) Published() *Lease {
	st := state{Leases: s.Leases}
	return st.first()
}
