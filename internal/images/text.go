package images

import (
	"context"
	"errors"
	"io"
	"strings"
	"unicode"

	"github.com/containerd/log"
	"github.com/sirupsen/logrus"

	"github.com/safe-run/safe-run/internal/fail"
)

// maxText bounds text of foreign origin in a message, in bytes.
const maxText = 500

// cleanText makes text that a registry or an image wrote safe for a terminal:
// what is not printable becomes U+FFFD, and it is cut at a bound.
func cleanText(s string) string {
	cut := len(s) > maxText
	if cut {
		s = s[:maxText]
	}
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
	if cut {
		s += "..."
	}
	return s
}

// short cuts a string that is going to be quoted.
func short(s string) string {
	if len(s) > 100 {
		return s[:100] + "..."
	}
	return s
}

// cleanError is an error with its text made safe.
type cleanError struct{ err error }

func (e cleanError) Error() string { return cleanText(e.err.Error()) }
func (e cleanError) Unwrap() error { return e.err }

// wrap gives an error of a library a kind and says what was being done. An
// error that already has a kind passes through; one of a signal is
// Interrupted's to tell, so context errors keep their identity.
func wrap(k fail.Kind, err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	var known *fail.Error
	if errors.As(err, &known) {
		return known
	}
	if errors.Is(err, context.Canceled) {
		return fail.Wrap(fail.Interrupted, err, format, args...)
	}
	return fail.Wrap(k, cleanError{err}, format, args...)
}

// quiet keeps containerd's client libraries from logging on standard error,
// which is the user's. What matters comes back as an error.
func quiet(ctx context.Context) context.Context {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return log.WithLogger(ctx, logrus.NewEntry(l))
}
