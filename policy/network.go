package policy

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/safe-run/safe-run/internal/netfilter"
	"github.com/safe-run/safe-run/spec"
)

func networkNames(r *Request) (names []string) {
	for _, n := range r.Workload.Networks {
		names = append(names, n.Name)
	}
	return names
}

func hostNetwork(r *Request) bool {
	return slices.ContainsFunc(networkNames(r), func(n string) bool { return mode(n) == "host" })
}

func joinedNetwork(r *Request) bool {
	return slices.ContainsFunc(r.Workload.Networks, func(n spec.NetworkUse) bool {
		_, joins := n.JoinedContainer()
		return joins
	})
}

// wired are the networks by name, as the launcher takes them: neither none, nor
// the host's or another container's.
func wired(r *Request) (uses []spec.NetworkUse) {
	for _, n := range r.Workload.Networks {
		if n.Name != "none" && n.Name != "host" && networkName().MatchString(n.Name) {
			uses = append(uses, n)
		}
	}
	return uses
}

// foreignNetwork says whether a value is neither the name of a network nor
// that of a container whose network is to be shared.
func foreignNetwork(typed string) bool {
	name, _ := spec.NetworkUse{Name: typed}.JoinedContainer() // all of it, if it is no container's
	return !networkName().MatchString(name)
}

// closed says whether the network lets no container connect to any address of
// a range; no range at all, of a destination by name, is open.
func closed(p netip.Prefix) bool {
	return netfilter.Blocked(p.Addr()) && netfilter.Blocked(lastOf(p))
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < 8*len(b); bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func networkRules() []Rule {
	return []Rule{
		{
			ID: "network-join", Title: "Network namespaces by path",
			GivesAway: "the network of whatever the path leads to, the host's among them",
			SaferWay:  "name a network, or the container whose network it is to share: --network container:NAME",
			Check: func(r *Request) (found []Finding) {
				for _, n := range networkNames(r) {
					found = append(found, when(foreignNetwork(n), Finding{Flag: "--network=" + shown(n)})...)
				}
				return found
			},
		},
		{
			ID: "network-driver-opt", Title: "Driver options of a network",
			GivesAway: "kernel settings and driver switches past the list of --sysctl",
			SaferWay:  "use --sysctl for settings of the container's own network",
			Check: func(r *Request) (found []Finding) {
				for _, n := range r.Workload.Networks {
					for _, opt := range n.DriverOpts {
						found = append(found, Finding{Flag: "--network name=" + shown(n.Name) + ",driver-opt=" + shown(opt)})
					}
				}
				return found
			},
		},
		{
			ID: "link-local-ip", Title: "Link-local addresses of one's choice",
			GivesAway: "the place of a metadata service, which others would ask for their credentials",
			SaferWay:  "leave it out, or ask for an address of the network: --ip, --ip6",
			Check: func(r *Request) (found []Finding) {
				for _, n := range r.Workload.Networks {
					for _, ip := range n.LinkLocalIPs {
						found = append(found, Finding{Flag: "--link-local-ip " + shown(ip)})
					}
				}
				return found
			},
		},
		{
			ID: "egress-metadata", Title: "Metadata services of clouds",
			GivesAway: "the machine's own credentials, to whoever can connect: these addresses are closed to containers",
			SaferWay:  "let a program on the host get what is needed, and give it to the container in a file or variable",
			Check: func(r *Request) (found []Finding) {
				for _, e := range r.Workload.Egress.Allow {
					found = append(found, when(closed(e.Prefix), Finding{Flag: "--egress " + egressText(e)})...)
				}
				return found
			},
		},
		{
			ID: "publish-address", Title: "Published ports without an address", Grant: "allow",
			GivesAway: "the port to everybody who reaches this host by any of its networks",
			SaferWay:  "name one address of the host: -p 127.0.0.1:PORT:PORT for this host alone",
			Check: func(r *Request) (found []Finding) {
				if r.Site.PublishAddress != publishRequired || len(wired(r)) == 0 {
					return nil
				}
				need := allow("publish-address")
				for _, p := range r.Workload.Publish {
					open := !p.HostIP.IsValid() || p.HostIP.Unmap().IsUnspecified()
					found = append(found, when(open, Finding{Flag: "-p " + publishText(p), Need: need})...)
				}
				return append(found, when(r.Workload.PublishAll, Finding{
					Flag: "-P", Need: need, Safer: "publish the ports one by one, with an address: -p 127.0.0.1::PORT",
				})...)
			},
		},
		{
			ID: "network-name", Title: "Networks the site does not give",
			GivesAway: "whatever is reachable on that network",
			SaferWay:  "use one of the site's list, or --network none",
			Check:     unlistedNetworks,
		},
	}
}

func unlistedNetworks(r *Request) (found []Finding) {
	if len(r.Site.Networks) == 0 {
		return nil
	}
	for _, n := range wired(r) {
		name := n.Name
		if name == "default" {
			name = "bridge"
		}
		if slices.Contains(r.Site.Networks, name) {
			continue
		}
		f := Finding{Flag: "--network " + shown(n.Name)}
		if !r.Workload.NetworkSet {
			f.Flag = "no --network, which is --network bridge"
			f.Why = "whatever is reachable on that network; the site gives: " + strings.Join(r.Site.Networks, ", ")
		}
		found = append(found, f)
	}
	return found
}

func portsText(first, last uint16) string {
	if first == last {
		return strconv.Itoa(int(first))
	}
	return strconv.Itoa(int(first)) + "-" + strconv.Itoa(int(last))
}

// publishText is a published port as -p takes it.
func publishText(p spec.Publish) string {
	text := portsText(p.Ports.First, p.Ports.Last)
	if p.HostFirst > 0 {
		text = portsText(p.HostFirst, p.HostLast) + ":" + text
	} else if p.HostIP.IsValid() {
		text = ":" + text
	}
	switch {
	case p.HostIP.Is6():
		text = "[" + p.HostIP.String() + "]:" + text
	case p.HostIP.IsValid():
		text = p.HostIP.String() + ":" + text
	}
	if p.Ports.Proto != spec.TCP {
		text += "/" + p.Ports.Proto
	}
	return text
}

// egressText is a destination of addresses as --egress takes it.
func egressText(e spec.EgressRule) string {
	host := e.Prefix.String()
	if e.Prefix.IsSingleIP() {
		host = e.Prefix.Addr().String()
	}
	if e.Prefix.Addr().Is6() {
		host = "[" + host + "]"
	}
	text := host + ":" + portsText(e.Ports.First, e.Ports.Last)
	if e.Ports.Proto != spec.TCP {
		text += "/" + e.Ports.Proto
	}
	return text
}
