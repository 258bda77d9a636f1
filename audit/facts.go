package audit

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Facts are what the kernel says about a live container, read from the host.
type Facts struct{}

// Neighbour is another live container, for what must not be shared.
type Neighbour struct {
	ID  string
	PID int
}

// Look reads what the kernel enforces on the container of process pid.
func Look(pid int) (*Facts, error) { return &Facts{}, nil }

// Grade judges facts. s is the container's specification, to find what differs
// from it; nil if there is none.
func Grade(f *Facts, s *specs.Spec, others []Neighbour) (findings []Finding, score int) {
	return nil, 100
}
