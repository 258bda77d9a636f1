package launcher

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/spec"
)

// assemble builds the spec and passes it through the last gate.
func assemble(in spec.Input) (*specs.Spec, error) {
	s, err := spec.Build(in)
	if err != nil {
		return nil, err
	}
	// The launcher gives a terminal if one was asked for; Build leaves it out.
	s.Process.Terminal = in.Workload.TTY
	return s, spec.Verify(s, spec.VerifyFor(in))
}
