package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
)

// bounded keeps the first max bytes of what is written to it.
type bounded struct {
	bytes.Buffer
	max  int
	over bool // there was more
}

func (b *bounded) Write(p []byte) (int, error) {
	if room := b.max - b.Len(); len(p) > room {
		b.over = true
		_, _ = b.Buffer.Write(p[:max(room, 0)])
		return len(p), nil
	}
	return b.Buffer.Write(p)
}

// command is a call of the program. The keys of the terminal do not reach it: what
// they mean to it is decided here.
func (a *app) command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, a.program, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = 15 * time.Second
	return c
}

// output calls the program and gives what it prints. Its error is what the
// program said of it.
func (a *app) output(ctx context.Context, args ...string) (string, error) {
	c := a.command(ctx, args...)
	out, errs := &bounded{max: 64 << 20}, &bounded{max: 16 << 10}
	c.Stdout, c.Stderr = out, errs
	if err := c.Run(); err != nil {
		return out.String(), said(err, errs.String())
	}
	if out.over {
		return "", fail.New(fail.Internal, "safe-run %s printed more than %d MiB", args[0], out.max>>20)
	}
	return out.String(), nil
}

// said makes one error of how a call ended and what it wrote.
func said(err error, text string) error {
	text = strings.TrimPrefix(strings.TrimSpace(text), "safe-run: ")
	var ended *exec.ExitError
	if text != "" && errors.As(err, &ended) {
		return fail.New(fail.Internal, "%s", text)
	}
	return fail.Wrap(fail.Internal, err, "calling safe-run: %s", text)
}

// within says of an error where it happened, and keeps its kind and hint.
func within(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &fail.Error{Kind: fail.KindOf(err), Msg: fmt.Sprintf(format, args...), Err: err, Next: hintOf(err)}
}

func hintOf(err error) string {
	var e *fail.Error
	if errors.As(err, &e) {
		return e.Next
	}
	return ""
}
