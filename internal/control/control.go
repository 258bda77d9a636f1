// Package control is how other commands ask the supervisor of a container: a
// UNIX stream socket in the container's run-time directory, with one request
// to a connection. A connection may go on as an attached session, which
// carries the container's streams.
//
// Both ends are root, or one and the same user; the kernel vouches for it
// (SO_PEERCRED).
package control

import (
	"encoding/json"
	"errors"

	"github.com/safe-run/safe-run/internal/fail"
)

// Request is what a command asks of a supervisor. Op says what; which of the
// other fields matter depends on it.
type Request struct {
	Op       string          `json:"op"`
	Signal   int             `json:"signal,omitempty"`  // number
	Timeout  *int            `json:"timeout,omitempty"` // seconds; nil is the container's own, -1 for ever
	Name     string          `json:"name,omitempty"`
	Force    bool            `json:"force,omitempty"`
	Volumes  bool            `json:"volumes,omitempty"`
	Stdin    bool            `json:"stdin,omitempty"`
	NoStdin  bool            `json:"noStdin,omitempty"`
	SigProxy bool            `json:"sigProxy,omitempty"`
	Width    uint32          `json:"width,omitempty"`  // columns
	Height   uint32          `json:"height,omitempty"` // rows
	Exec     json.RawMessage `json:"exec,omitempty"`
}

// Reply is a supervisor's answer.
type Reply struct {
	Code  int             `json:"code,omitempty"` // exit code, where one was asked for
	Error *WireError      `json:"error,omitempty"`
	Data  json.RawMessage `json:"data,omitempty"`
}

// WireError is a fail.Error on its way: the causes are part of the text.
type WireError struct {
	Kind   fail.Kind `json:"kind"`
	Msg    string    `json:"msg"`
	Next   string    `json:"next,omitempty"`
	Signal int       `json:"signal,omitempty"`
}

// textMax bounds each text of a WireError, in bytes: it may quote what an
// engine or an image says.
const textMax = 8 << 10

// Failed is the reply that carries err; a nil err gives the zero Reply.
func Failed(err error) Reply {
	if err == nil {
		return Reply{}
	}
	w := &WireError{Kind: fail.KindOf(err), Msg: clip(err.Error())}
	var e *fail.Error
	if errors.As(err, &e) {
		w.Next, w.Signal = clip(e.Next), e.Signal
	}
	return Reply{Error: w}
}

// Err is the error a reply carries, a *fail.Error; nil if it carries none.
func (r Reply) Err() error {
	if r.Error == nil {
		return nil
	}
	e := &fail.Error{Kind: r.Error.Kind, Msg: r.Error.Msg, Next: r.Error.Next, Signal: r.Error.Signal}
	if e.Kind < fail.Internal || e.Kind > fail.Interrupted {
		e.Kind = fail.Internal
	}
	return e
}

func clip(s string) string {
	if len(s) > textMax {
		return s[:textMax] + "..."
	}
	return s
}

// notThere marks the errors that mean that no supervisor answered.
type notThere struct{ err error }

func (e *notThere) Error() string { return e.err.Error() }
func (e *notThere) Unwrap() error { return e.err }

// NotThere says of an error of Call or Attach that nobody answered: there is
// no socket, nobody listens at it, or the supervisor went away before it
// replied. What was asked may have been done in the last case.
func NotThere(err error) bool {
	var e *notThere
	return errors.As(err, &e)
}

func gone(err error) error {
	return fail.Wrap(fail.HostCannot, &notThere{err}, "no answer of the container's supervisor")
}
