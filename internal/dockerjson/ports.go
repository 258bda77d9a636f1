package dockerjson

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/safe-run/safe-run/spec"
)

// Port is one published port.
type Port struct {
	Host     netip.Addr
	HostPort uint16
	Port     uint16 // inside
	Proto    string
}

// Ports prints published and exposed ports as `docker ps` does, consecutive
// ones as a range: "0.0.0.0:80->80/tcp, 443/tcp".
func Ports(published []Port, exposed []spec.PortRange) string {
	all := slices.Clone(published)
	seen := map[string]bool{}
	for _, p := range published {
		seen[portName(p.Port, p.Proto)] = true
	}
	var wide []string // ranges too large to look at each port
	left := maxPorts
	for _, r := range exposed {
		n := int(r.Last) - int(r.First) + 1
		if n > left {
			wide = append(wide, fmt.Sprintf("%d-%d/%s", r.First, r.Last, r.Proto))
			continue
		}
		left -= n
		for p := int(r.First); p <= int(r.Last); p++ {
			if name := portName(uint16(p), r.Proto); !seen[name] {
				seen[name] = true
				all = append(all, Port{Port: uint16(p), Proto: r.Proto})
			}
		}
	}
	slices.SortFunc(all, func(a, b Port) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), a.Host.Compare(b.Host), cmp.Compare(a.HostPort, b.HostPort), cmp.Compare(a.Proto, b.Proto))
	})
	out := slices.Concat(grouped(all), wide)
	return strings.Join(out, ", ")
}

// grouped are the ports in docker's order: those with the same number on the
// host and those exposed only, in groups, and then the others one by one.
func grouped(all []Port) []string {
	type key struct {
		host  netip.Addr
		proto string
	}
	type group struct {
		key
		first, last uint16
	}
	var done, mapped []string
	var open []*group // in the order they began
	by := map[key]*group{}
	text := func(g *group) string {
		ports := strconv.Itoa(int(g.first))
		if g.last != g.first {
			ports += "-" + strconv.Itoa(int(g.last))
		}
		if g.host.IsValid() {
			ports = hostPort(g.host, ports) + "->" + ports
		}
		return ports + "/" + g.proto
	}
	for _, p := range all {
		if p.Host.IsValid() && p.HostPort != p.Port {
			mapped = append(mapped, fmt.Sprintf("%s->%d/%s", hostPort(p.Host, strconv.Itoa(int(p.HostPort))), p.Port, p.Proto))
			continue
		}
		k := key{p.Host, p.Proto}
		g := by[k]
		switch {
		case g == nil:
			g = &group{k, p.Port, p.Port}
			by[k], open = g, append(open, g)
		case p.Port == g.last+1:
			g.last = p.Port
		default:
			done = append(done, text(g))
			g.first, g.last = p.Port, p.Port
		}
	}
	for _, g := range open {
		done = append(done, text(g))
	}
	return append(done, mapped...)
}

// hostPort is an address with its port, or ports.
func hostPort(a netip.Addr, ports string) string {
	if a.Is4() {
		return a.String() + ":" + ports
	}
	return "[" + a.String() + "]:" + ports
}

// Place is the address and port on the host, as `docker port` prints them.
func (p Port) Place() string { return hostPort(p.Host, strconv.Itoa(int(p.HostPort))) }
