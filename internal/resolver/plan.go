package resolver

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/spec"
)

// Address is where a container finds the embedded server, the same as with
// docker.
const Address = "127.0.0.11"

// PlanInput is all that decides how a container resolves names.
type PlanInput struct {
	Host Conf

	// The values of --dns, --dns-search and --dns-option, each of which replaces
	// its part of the host's. A search list of "." is an empty one. What has not
	// the form of an address, domain or option is left out.
	DNS, Search, Options []string

	Network  bool // the container has one
	Internal bool // none of its networks leads outside
	ICC      bool // its network's members find each other by name
	IPv6     bool // it has an IPv6 address
	Egress   spec.EgressMode

	// Blocked says of an address that a container cannot reach it; nil: none.
	// The host's own addresses are such, see Local; Host.Near needs no repeating
	// here.
	Blocked func(netip.Addr) bool
}

// Setup is how a container resolves names.
type Setup struct {
	// Embedded says that a Server has to listen in the container's network
	// namespace.
	Embedded bool
	// Upstream are the servers that it asks, from the host's network namespace;
	// the host's loopback addresses may be among them.
	Upstream []netip.Addr
	// Forward says that it asks at all. Without, only members have names.
	Forward bool
	// File is the content of the container's resolv.conf.
	File []byte
}

// Plan decides how a container resolves names. It asks for no server that
// neither the host nor the flags name: a container whose host has no resolver
// has none.
//
// The embedded server is for what a copy of the host's file cannot do: names
// of members, an egress list, a resolver that only the host itself reaches. A
// container without a way out has it too, so that programs get an answer at
// once instead of waiting for one.
func Plan(in PlanInput) Setup {
	if !in.Network {
		return Setup{File: []byte("# no network\n")}
	}
	flags := flagServers(in.DNS)
	search, options := in.Host.Search, in.Host.Options
	if in.Internal || in.Egress == spec.EgressNone {
		// The host's domains say something about it and find nothing here.
		search = nil
	}
	if len(in.Search) > 0 {
		search = searchList(slices.DeleteFunc(slices.Clone(in.Search), func(s string) bool { return s == "." }))
	}
	if len(in.Options) > 0 {
		options = nil
		for _, o := range in.Options {
			if isOption(o) {
				options = appendNew(options, maxOptions, o)
			}
		}
	}
	if in.ICC && !slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
		// A member's name has no dot; it is asked for as it is, before any
		// search domain. Docker's rule.
		options = append(slices.Clone(options), "ndots:0")
	}

	if in.Internal || in.Egress == spec.EgressNone {
		return Setup{Embedded: true, File: file("no way out: only names of this network are known", []string{Address}, search, options)}
	}
	if direct := in.direct(flags); len(direct) > 0 && !in.ICC && in.Egress == spec.EgressAll {
		return Setup{File: file("the host's", words(direct), search, options)}
	}
	up := in.upstream(flags)
	switch {
	case len(up) > 0:
		return Setup{Embedded: true, Forward: true, Upstream: up, File: file("a server of the container's own", []string{Address}, search, options)}
	case in.ICC:
		return Setup{Embedded: true, File: file("no name server to ask for names outside this network", []string{Address}, search, options)}
	}
	return Setup{File: file("no name server: neither the host nor --dns names one that can be asked", nil, search, options)}
}

// direct are the servers that the container can ask itself.
func (in *PlanInput) direct(flags []netip.Addr) []netip.Addr {
	from := flags
	if len(from) == 0 {
		from = in.Host.Servers
		if len(in.Host.Behind) > 0 {
			from = in.Host.Behind
		}
	}
	var out []netip.Addr
	for _, a := range from {
		// A loopback address on the command line is the container's own, as with
		// docker: it brings its server.
		own := len(flags) > 0 && loopback(a)
		far := !loopback(a) && !slices.Contains(in.Host.Near, a) && (in.Blocked == nil || !in.Blocked(a))
		if (own || far) && a.Zone() == "" && (a.Is4() || in.IPv6) {
			out = appendNew(out, maxServers, a)
		}
	}
	return out
}

// upstream are the servers that the embedded server asks. A loopback address
// of the command line is not for the host to be asked at.
func (in *PlanInput) upstream(flags []netip.Addr) []netip.Addr {
	if len(flags) > 0 {
		up := slices.DeleteFunc(slices.Clone(flags), loopback)
		return up[:min(len(up), maxServers)]
	}
	return in.Host.Servers[:min(len(in.Host.Servers), maxServers)]
}

func flagServers(flags []string) []netip.Addr {
	var out []netip.Addr
	for _, s := range flags {
		if a, ok := parseServer(s); ok {
			out = appendNew(out, 2*maxServers, a)
		}
	}
	return out
}

func words(list []netip.Addr) []string {
	var out []string
	for _, a := range list {
		out = append(out, a.String())
	}
	return out
}

func file(comment string, servers, search, options []string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# safe-run: %s\n", comment)
	for _, s := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	if len(options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(options, " "))
	}
	return b.Bytes()
}
