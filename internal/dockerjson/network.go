package dockerjson

import (
	"net/netip"
	"strconv"

	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/network"
	"github.com/safe-run/safe-run/spec"
)

// networkSettings are the addresses and ports; a container that does not run
// has neither, only the names of its networks.
func networkSettings(s Source, a store.Asked) *NetworkSettings {
	n := &NetworkSettings{Ports: map[string][]PortBinding{}, Networks: map[string]*EndpointSettings{}}
	state := StateOf(s.Record, s.Supervised)
	up := state == Running || state == Paused
	asked := map[string]spec.NetworkUse{}
	for _, u := range a.Workload.Networks {
		if _, joins := u.JoinedContainer(); joins {
			continue
		}
		asked[u.Name] = u
		n.Networks[u.Name] = endpoint(s, u, nil)
	}
	if !up {
		return n
	}
	n.SandboxKey = "/proc/" + strconv.Itoa(s.Record.PID) + "/ns/net"
	for i := range s.Network.Leases {
		l := &s.Network.Leases[i]
		n.Networks[l.Network] = endpoint(s, asked[l.Network], l)
	}
	for _, p := range exposed(a) {
		n.Ports[p] = nil
	}
	for _, m := range s.Network.Ports {
		key := portName(m.Port, m.Proto)
		n.Ports[key] = append(n.Ports[key], PortBinding{m.Host.String(), strconv.Itoa(int(m.HostPort))})
	}
	l := s.Network.Published()
	if l == nil && len(s.Network.Leases) > 0 {
		l = &s.Network.Leases[0]
	}
	if l != nil {
		e := n.Networks[l.Network]
		n.EndpointID, n.MacAddress = e.EndpointID, e.MacAddress
		n.IPAddress, n.IPPrefixLen, n.Gateway = e.IPAddress, e.IPPrefixLen, e.Gateway
		n.GlobalIPv6Address, n.GlobalIPv6PrefixLen, n.IPv6Gateway = e.GlobalIPv6Address, e.GlobalIPv6PrefixLen, e.IPv6Gateway
	}
	return n
}

// endpoint is what a container asked of one network, and what it has of it.
func endpoint(s Source, u spec.NetworkUse, l *network.Lease) *EndpointSettings {
	e := &EndpointSettings{Aliases: u.Aliases, MacAddress: u.MAC}
	if u.IP != "" || u.IP6 != "" || len(u.LinkLocalIPs) > 0 {
		e.IPAMConfig = &EndpointIPAMConfig{u.IP, u.IP6, u.LinkLocalIPs}
	}
	if s.NetworkID != nil && u.Name != "" {
		e.NetworkID = s.NetworkID(u.Name)
	}
	if l == nil {
		return e
	}
	if s.NetworkID != nil {
		e.NetworkID = s.NetworkID(l.Network)
	}
	// There is one endpoint of a container on a network, so both name it.
	e.EndpointID = s.Record.ID
	e.MacAddress, e.DNSNames = l.MAC.String(), l.Names
	for _, p := range l.Addrs {
		if p.Addr().Is4() {
			e.IPAddress, e.IPPrefixLen = p.Addr().String(), p.Bits()
		} else {
			e.GlobalIPv6Address, e.GlobalIPv6PrefixLen = p.Addr().String(), p.Bits()
		}
	}
	for _, g := range l.Gateways {
		switch {
		case g == (netip.Addr{}):
		case g.Is4():
			e.Gateway = g.String()
		default:
			e.IPv6Gateway = g.String()
		}
	}
	return e
}
