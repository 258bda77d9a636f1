package network

import (
	"slices"
	"sync"
)

// unlisted are names the container looked up that its egress list lacks.
type unlisted struct {
	mu    sync.Mutex
	names []string
}

// maxUnlisted bounds them: the container chooses how many there are.
const maxUnlisted = 32

func (u *unlisted) add(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.names) < maxUnlisted && !slices.Contains(u.names, name) {
		u.names = append(u.names, name)
	}
}

// Unlisted gives the first names the container looked up that its egress list
// lacks, as it spelled them: hostile.
func (e *Endpoint) Unlisted() []string {
	if e == nil {
		return nil
	}
	e.unlisted.mu.Lock()
	defer e.unlisted.mu.Unlock()
	return slices.Clone(e.unlisted.names)
}
