package network

import (
	"fmt"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/internal/ports"
	"github.com/safe-run/safe-run/spec"
)

// publish binds the published ports.
func (e *Endpoint) publish() error {
	asked := slices.Clone(e.ask.Publish)
	if e.ask.PublishAll {
		asked = append(asked, publishAll(e.ask.Exposed, asked)...)
	}
	if len(asked) == 0 {
		return nil
	}
	if len(e.st.Leases) > 0 && e.st.first() == nil {
		e.notice("the ports are not published: an internal network has no way in from outside")
		return nil
	}
	held, err := ports.Open(asked, ports.Options{DefaultAddr: e.ask.PublishDefault, HolderName: e.ask.HolderName})
	if err != nil {
		return err
	}
	e.held = held
	e.st.Ports = held.Mappings()
	e.tellPublished()
	return nil
}

// publishAll are the exposed ports as random published ones, but for those
// published already.
func publishAll(exposed []spec.PortRange, asked []spec.Publish) []spec.Publish {
	var out []spec.Publish
	seen := map[spec.PortRange]bool{}
	for _, p := range asked {
		for port := uint32(p.Ports.First); port <= uint32(p.Ports.Last); port++ {
			seen[spec.PortRange{First: uint16(port), Last: uint16(port), Proto: p.Ports.Proto}] = true
		}
	}
	for _, x := range exposed {
		for port := uint32(x.First); port <= uint32(x.Last); port++ {
			one := spec.PortRange{First: uint16(port), Last: uint16(port), Proto: x.Proto}
			if !seen[one] {
				seen[one] = true
				out = append(out, spec.Publish{Ports: one})
			}
		}
	}
	return out
}

// tellPublished says in one line which ports anybody can reach who reaches
// this host: docker's meaning of a port without an address surprises.
func (e *Endpoint) tellPublished() {
	var open []string
	for _, m := range e.st.Ports {
		if p := fmt.Sprintf("%d/%s", m.HostPort, m.Proto); m.Host.IsUnspecified() && !slices.Contains(open, p) {
			open = append(open, p)
		}
	}
	if len(open) == 0 {
		return
	}
	list := strings.Join(open[:min(len(open), 5)], ", ")
	if len(open) > 5 {
		list += fmt.Sprintf(" and %d more", len(open)-5)
	}
	e.notice(fmt.Sprintf("published on all addresses of this host: %s; -p 127.0.0.1:PORT:PORT keeps a port to this host", list))
}
