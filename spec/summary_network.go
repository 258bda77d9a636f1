package spec

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// mostShown bounds lists in a summary.
const mostShown = 32

// networkLines are the lines of Summary about the network.
func networkLines(in Input, s *specs.Spec) (lines [][2]string) {
	w := in.Workload
	switch networkModeIn(s) {
	case hostNetwork:
		unixSockets := "no UNIX sockets but pairs, since the host's would be in reach"
		if s.Linux.Seccomp == nil {
			unixSockets = "with the abstract UNIX sockets of its services"
		}
		return [][2]string{{"network", "the host's, by grant; " + unixSockets}}
	case joinedNetwork:
		var ref string
		for _, n := range w.Networks {
			ref, _ = n.JoinedContainer()
		}
		return [][2]string{{"network", "that of container " + shown(ref)}}
	}
	var names []string
	for _, n := range w.Networks {
		if n.Name != "none" {
			names = append(names, networkUseWords(n))
		}
	}
	if len(names) == 0 {
		return [][2]string{{"network", "none, only the container's own loopback"}}
	}
	lines = append(lines, [2]string{"network", atMost(names, ", ")})
	if published := publishedWords(in); len(published) > 0 {
		lines = append(lines, [2]string{"published", atMost(published, "; ")})
	}
	return append(lines, [2]string{"egress", egressWords(w.Egress)})
}

func networkUseWords(n NetworkUse) string {
	words := shown(n.Name)
	if n.Name == "bridge" {
		words += ", out of reach of other containers (docker: in reach)"
	}
	for _, address := range []string{n.IP, n.IP6, n.MAC} {
		if address != "" {
			words += ", " + shown(address)
		}
	}
	return words
}

// publishedWords say for each published port who can reach it.
func publishedWords(in Input) (out []string) {
	w := in.Workload
	for _, p := range w.Publish {
		out = append(out, fmt.Sprintf("%s -> %s %s", hostPortWords(p.HostFirst, p.HostLast), p.Ports.words(), reachWords(p.HostIP)))
	}
	if !w.PublishAll {
		return out
	}
	var ports []string
	for _, p := range slices.Concat(w.Expose, in.Image.Exposed) {
		if words := p.words(); !slices.Contains(ports, words) {
			ports = append(ports, words)
		}
		if len(ports) > mostShown {
			break
		}
	}
	if len(ports) == 0 {
		return out
	}
	return append(out, fmt.Sprintf("a free port -> each of %s %s", atMost(ports, " "), reachWords(netip.Addr{})))
}

func hostPortWords(first, last uint16) string {
	switch {
	case first == 0:
		return "a free port"
	case first == last || last == 0:
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, last)
}

func (p PortRange) words() string {
	if p.First == p.Last {
		return fmt.Sprintf("%d/%s", p.First, shown(p.Proto))
	}
	return fmt.Sprintf("%d-%d/%s", p.First, p.Last, shown(p.Proto))
}

func reachWords(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return "at all addresses of this host"
	case a.Unmap().IsUnspecified():
		return "at all " + pick(a.Unmap().Is4(), "IPv4", "IPv6") + " addresses of this host"
	case a.Unmap().IsLoopback():
		return "at " + shown(a.String()) + ", from this host only"
	}
	return "at " + shown(a.String()) + " only"
}

func egressWords(e Egress) string {
	switch {
	case e.Mode == EgressAll:
		return "wherever the networks lead, but no metadata services and nothing of this host (docker: these too)"
	case e.Mode == EgressNone || len(e.Allow) == 0:
		return "none"
	}
	var out []string
	for _, r := range e.Allow {
		host := shown(r.Name)
		if r.Name == "" {
			host = r.Prefix.String()
			if r.Prefix.IsSingleIP() {
				host = r.Prefix.Addr().String()
			}
			if strings.Contains(host, ":") {
				host = "[" + shown(host) + "]"
			}
		}
		out = append(out, host+":"+r.Ports.words())
	}
	return "only " + atMost(out, ", ")
}

// atMost joins words and says how many it left out.
func atMost(words []string, sep string) string {
	if n := len(words) - mostShown; n > 0 {
		return strings.Join(words[:mostShown], sep) + fmt.Sprintf("%sand %d more", sep, n)
	}
	return strings.Join(words, sep)
}
