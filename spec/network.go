package spec

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// NetworkUse is one --network.
type NetworkUse struct {
	Name         string   // "none", "bridge", "host", "container:REF", or the name of a network
	Aliases      []string // further names on that network
	IP, IP6      string   // address asked for, "" for any free one
	MAC          string   // hardware address asked for, ""
	LinkLocalIPs []string
	DriverOpts   []string // as typed, KEY=VALUE
}

// JoinedContainer is the REF of a container:REF network.
func (n NetworkUse) JoinedContainer() (ref string, joins bool) {
	return strings.CutPrefix(n.Name, "container:")
}

// Protocols that have ports.
const (
	TCP  = "tcp"
	UDP  = "udp"
	SCTP = "sctp"
)

// PortRange is a range of ports of one protocol inside the container.
type PortRange struct {
	First, Last uint16 // inclusive; First is not 0
	Proto       string // tcp, udp or sctp
}

// ParsePortRange reads N[-M][/PROTO], as --expose and an image's ExposedPorts
// have it; without PROTO it is tcp.
func ParsePortRange(s string) (PortRange, error) {
	ports, proto, has := strings.Cut(s, "/")
	if !has {
		proto = TCP
	}
	p := PortRange{Proto: strings.ToLower(proto)}
	switch p.Proto {
	case TCP, UDP, SCTP:
	default:
		return PortRange{}, fmt.Errorf("%.40q: the protocol is tcp, udp or sctp", s)
	}
	from, to, isRange := strings.Cut(ports, "-")
	if !isRange {
		to = from
	}
	lo, err1 := strconv.ParseUint(from, 10, 16)
	hi, err2 := strconv.ParseUint(to, 10, 16)
	if err1 != nil || err2 != nil || lo == 0 || lo > hi {
		return PortRange{}, fmt.Errorf("%.40q: a port is a number from 1 to 65535, or a range of them N-M", s)
	}
	p.First, p.Last = uint16(lo), uint16(hi)
	return p, nil
}

// Publish is one --publish. The ranges have the same length, or the host's is
// a pool for one port of the container.
type Publish struct {
	HostIP              netip.Addr // not valid: no address was given
	HostFirst, HostLast uint16     // 0: any free port
	Ports               PortRange  // inside the container
}

// EgressMode says what a container may connect to.
type EgressMode string

// The modes of --egress.
const (
	EgressAll  EgressMode = "" // the default
	EgressNone EgressMode = "none"
	EgressList EgressMode = "list"
)

// Egress is --egress: what a container may connect to outside its networks.
type Egress struct {
	Mode  EgressMode
	Allow []EgressRule // of EgressList
}

// EgressRule is one HOST:PORT[/PROTO] of --egress.
type EgressRule struct {
	Name   string       // host name, lower case, without the final dot; "" if Prefix is given
	Prefix netip.Prefix // address or range of addresses
	Ports  PortRange
}
