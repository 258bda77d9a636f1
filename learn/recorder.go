package learn

import "errors"

// Mode says how much is recorded.
type Mode int

const (
	// Denials records only what was refused: cheap enough for production.
	Denials Mode = iota
	// Everything records what is needed to make a profile.
	Everything
)

// Recorder is a set of programs in the kernel that watch containers.
type Recorder struct{}

// Open loads the recorder. It sees nothing until Follow. Errors have kind
// HostCannot and name what is missing.
func Open(Mode) (*Recorder, error) { return nil, errors.New("not yet") }

// Follow adds the container of a first process whose own program has not been
// executed yet: pid is the runtime's init on the host.
func (r *Recorder) Follow(pid int) error { return errors.New("not yet") }

// Read gives what was seen so far. It may be called any number of times.
func (r *Recorder) Read() (Recording, error) { return Recording{}, errors.New("not yet") }

// Close unloads the recorder.
func (r *Recorder) Close() error { return nil }
