package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/safe-run/safe-run/compose"
	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
)

const (
	loadWord = "__load"         // the verb that loads a project for its parent
	loadMax  = 16 << 20         // bytes of a project, and of the options for one
	loadTime = 30 * time.Second // for loading one
)

// loaded is what comes of loading, on its way to the parent.
type loaded struct {
	Project *compose.Project
	Errors  []loadError
}

// loadError is an error with its kind and hint.
type loadError struct {
	Kind      fail.Kind
	Msg, Next string
}

// loadProject reads a project with the rights of who calls: a file may name any
// other (env_file, include, extends, secrets), and who may only run safe-run by
// sudo must not read root's through it. So a process of theirs reads.
func loadProject(ctx context.Context, o compose.Options) (*compose.Project, error) {
	caller, err := cli.CallerOf(os.Geteuid(), os.LookupEnv)
	if err != nil {
		return nil, err
	}
	if caller == nil {
		return compose.Load(ctx, o)
	}
	ctx, cancel := context.WithTimeout(ctx, loadTime)
	defer cancel()
	// The program that runs, even if it has been replaced, or lies where the
	// caller cannot look.
	c := exec.CommandContext(ctx, "/proc/self/exe", loadWord)
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: caller.UID, Gid: caller.GID, Groups: caller.Groups}}
	in, err := c.StdinPipe()
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "reading the files as uid %d", caller.UID)
	}
	var out, errs bounded
	out.max, errs.max = loadMax, 4<<10
	c.Stdout, c.Stderr, c.WaitDelay = &out, &errs, time.Second
	if err := c.Start(); err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "reading the files as uid %d, who called sudo", caller.UID)
	}
	_ = json.NewEncoder(in).Encode(o) // if it does not read, it ends with an error
	_ = in.Close()
	return read(ctx, c.Wait(), &out, &errs)
}

// read takes what the loading process says.
func read(ctx context.Context, ended error, out, errs *bounded) (*compose.Project, error) {
	var l loaded
	switch {
	case ctx.Err() != nil:
		return nil, fail.New(fail.Usage, "the compose files could not be read within %s", loadTime)
	case out.over:
		return nil, fail.New(fail.Usage, "the project is larger than %d MiB", loadMax>>20)
	case ended != nil:
		return nil, fail.Wrap(fail.Internal, ended, "reading the compose files: %s", errs.Bytes())
	}
	if err := json.Unmarshal(out.Bytes(), &l); err != nil {
		return nil, fail.Wrap(fail.Internal, err, "what the reading of the compose files gave")
	}
	if len(l.Errors) > 0 {
		var all []error
		for _, e := range l.Errors {
			all = append(all, &fail.Error{Kind: e.Kind, Msg: e.Msg, Next: e.Next})
		}
		return nil, errors.Join(all...)
	}
	if l.Project == nil {
		return nil, fail.New(fail.Internal, "the reading of the compose files gave nothing")
	}
	return l.Project, nil
}

// loadForCaller is that process: options come in, a project goes out.
func loadForCaller(in io.Reader, out, errs io.Writer) int {
	var o compose.Options
	if err := json.NewDecoder(io.LimitReader(in, loadMax)).Decode(&o); err != nil {
		fmt.Fprintln(errs, "this command is for safe-run itself")
		return 125
	}
	var l loaded
	p, err := compose.Load(context.Background(), o)
	if err == nil {
		l.Project = p
	}
	for _, err := range each(err) {
		e := loadError{Kind: fail.KindOf(err), Msg: err.Error()}
		var as *fail.Error
		if errors.As(err, &as) {
			e.Next = as.Next
		}
		l.Errors = append(l.Errors, e)
	}
	if err := json.NewEncoder(out).Encode(l); err != nil {
		return 125
	}
	return 0
}

// each gives the errors that were joined.
func each(err error) []error {
	if err == nil {
		return nil
	}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		return several.Unwrap()
	}
	return []error{err}
}
