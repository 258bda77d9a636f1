// Package fail holds the one error type of safe-run: an error with a kind.
// Kinds, not texts, decide exit codes.
package fail

import (
	"errors"
	"fmt"
)

// Kind classifies an error for exit codes and for machines.
type Kind int

// The kinds there are.
const (
	Internal    Kind = iota // a fault of safe-run or the engine: 125
	Usage                   // the command line is wrong: 125
	Refused                 // the policy refuses: 125
	NotFound                // an image, container or file does not exist: 125
	Conflict                // a name or target is taken: 125
	HostCannot              // this host cannot enforce what is needed: 125
	CmdNotFound             // the container's command does not exist: 127
	CmdNotExec              // the container's command cannot be executed: 126
	NoStatus                // docker's errors without a status: 1
	Interrupted             // ended by a signal before the container started: 128+n
)

// Error is an error with a kind and, where there is one, the next step.
type Error struct {
	Kind   Kind
	Msg    string // what failed and why
	Next   string // what the user can do, or ""
	Err    error  // cause, or nil
	Signal int    // for Interrupted
}

func (e *Error) Error() string {
	if e.Err != nil {
		if e.Msg == "" {
			return e.Err.Error()
		}
		return e.Msg + ": " + e.Err.Error()
	}
	return e.Msg
}

func (e *Error) Unwrap() error { return e.Err }

// New makes an error of a kind from a format.
func New(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Msg: fmt.Sprintf(format, args...)}
}

// Wrap gives err a kind and says what was being done. A nil err gives nil.
func Wrap(k Kind, err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: k, Msg: fmt.Sprintf(format, args...), Err: err}
}

// Hint adds the next step.
func (e *Error) Hint(format string, args ...any) *Error {
	e.Next = fmt.Sprintf(format, args...)
	return e
}

// KindOf gives the kind of err; errors of other types are Internal.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}
