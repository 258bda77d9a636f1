package idmap

import "github.com/safe-run/safe-run/spec"

// Example gives the first block of the pool without taking it: for plans
// that are shown and not run.
func (p *Pool) Example() spec.IDBlock { return p.block(0) }
