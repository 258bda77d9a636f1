package words

import (
	"slices"

	"github.com/safe-run/safe-run/internal/unit"
)

// Effect is what an assignment in a unit does to those of its key before it.
type Effect int

const (
	Adds     Effect = iota // nothing, even if it is empty: dependencies
	Clears                 // it takes them back if it is empty: lists
	Replaces               // it takes their place
)

// InForce gives the settings that count, as drop-ins override what stands before
// them (systemd.unit(5), systemd.syntax(7)).
func InForce(settings []unit.Setting, effect func(unit.Setting) Effect) (out []unit.Setting) {
	type key struct{ section, name string }
	over := map[key]bool{} // by a later one
	for _, s := range slices.Backward(settings) {
		k, e := key{s.Section, s.Key}, effect(s)
		if over[k] {
			continue
		}
		empty := s.Value == "" && e != Adds
		over[k] = empty || e == Replaces
		if !empty {
			out = append(out, s)
		}
	}
	slices.Reverse(out)
	return out
}
