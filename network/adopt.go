package network

import (
	"context"
	"errors"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/ports"
	"github.com/safe-run/safe-run/spec"
)

// Adopt takes over the network of a running container whose supervisor is
// gone or goes: its wiring stands, what a process has to do for it (ports
// held, names answered) is taken up by this one. The Endpoint is good for what
// the error does not speak of.
func (h *Host) Adopt(ctx context.Context, dir string, pid int, notice func(string)) (*Endpoint, error) {
	e := &Endpoint{host: h, ready: make(chan struct{})}
	close(e.ready)
	e.ask.Notice = notice
	s, ok, err := loadState(dir)
	if err != nil || !ok {
		return e, err
	}
	e.st = s
	// One thing that fails does not keep the others from working.
	var held, ns, dns error
	e.held, held = reopen(s.Ports)
	if e.nsfd, ns = holdNetNS(pid); ns == nil {
		dns = e.listenDNS()
	}
	return e, errors.Join(held, ns, dns, e.resolveEgress(ctx))
}

// reopen binds the ports of a container again. The process before may still
// be letting go of them.
func reopen(mappings []ports.Mapping) (*ports.Held, error) {
	if len(mappings) == 0 {
		return nil, nil
	}
	var asked []spec.Publish
	for _, m := range mappings {
		asked = append(asked, spec.Publish{
			HostIP: m.Host, HostFirst: m.HostPort, HostLast: m.HostPort,
			Ports: spec.PortRange{First: m.Port, Last: m.Port, Proto: m.Proto},
		})
	}
	for end := time.Now().Add(2 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		held, err := ports.Open(asked, ports.Options{})
		if err == nil || fail.KindOf(err) != fail.Conflict || time.Now().After(end) {
			return held, err
		}
	}
}
