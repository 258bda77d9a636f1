package network

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
)

// Inspection is a network as `docker network inspect` prints one.
type Inspection struct {
	Name       string
	ID         string `json:"Id"`
	Created    time.Time
	Scope      string
	Driver     string
	EnableIPv4 bool
	EnableIPv6 bool
	IPAM       IPAM
	Internal   bool
	ICC        bool                // not docker's: its containers reach each other
	Containers map[string]Attached // by id
	Options    map[string]string
	Labels     map[string]string
}

// IPAM are the subnets of a network.
type IPAM struct {
	Driver string
	Config []Subnet
}

// Subnet is one range of addresses and the host's address in it.
type Subnet struct {
	Subnet, Gateway string
}

// Attached is one container on a network.
type Attached struct {
	Name        string
	MacAddress  string
	IPv4Address string
	IPv6Address string
}

// Inspect describes the network with a name, an id or a unique start of one.
func (s Store) Inspect(ref string) (Inspection, error) {
	d, err := s.Find(ref)
	if err != nil {
		return Inspection{}, err
	}
	i := Inspection{
		Name: d.Name, ID: d.ID, Created: d.Created, Scope: "local", Driver: "bridge",
		EnableIPv4: d.V4().IsValid(), EnableIPv6: d.V6().IsValid(), IPAM: IPAM{Driver: "default"},
		Internal: d.Internal, ICC: d.ICC, Containers: map[string]Attached{},
		Options: map[string]string{"com.docker.network.bridge.name": d.Bridge}, Labels: map[string]string{},
	}
	maps.Copy(i.Labels, d.Labels)
	for _, p := range d.Subnets {
		i.IPAM.Config = append(i.IPAM.Config, Subnet{p.String(), d.Gateway(p).String()})
	}
	keys, err := s.keys(d.Name)
	if err != nil {
		return i, err
	}
	for _, k := range keys {
		if id, err := s.holder(d.Name, k); err == nil {
			i.Containers[id] = s.attached(id, d.Name)
		}
	}
	return i, nil
}

// attached reads a container's part from its own directory. It may be going.
func (s Store) attached(id, network string) (a Attached) {
	st, _, _ := loadState(s.Root + "/containers/" + id)
	for _, l := range st.Leases {
		if l.Network != network {
			continue
		}
		a.MacAddress = l.MAC.String()
		for _, p := range l.Addrs {
			if p.Addr().Is4() {
				a.IPv4Address = p.String()
			} else {
				a.IPv6Address = p.String()
			}
		}
	}
	return a
}

// Find gives the network with a name, an id or a unique start of one.
func (s Store) Find(ref string) (Definition, error) {
	d, err := s.Load(ref)
	if err == nil || fail.KindOf(err) != fail.NotFound || len(ref) < 4 || !isHex(ref) {
		return d, err
	}
	all, lerr := s.List()
	if lerr != nil {
		return Definition{}, lerr
	}
	all = slices.DeleteFunc(all, func(d Definition) bool { return !strings.HasPrefix(d.ID, ref) })
	switch len(all) {
	case 0:
		return Definition{}, err
	case 1:
		return all[0], nil
	}
	return Definition{}, fail.New(fail.NotFound, "%q is the start of %d network ids", ref, len(all))
}
