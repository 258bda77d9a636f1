package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/plain"
)

// toStdout writes the main files as one stream, and names the others.
func toStdout(files []convert.File, out, errs io.Writer) error {
	main := 0
	for _, f := range files {
		if !f.Also {
			main++
		}
	}
	for _, f := range files {
		if f.Also {
			fmt.Fprintf(errs, "safe-run: %s is needed beside it: -o DIR writes all files\n", f.Name)
			continue
		}
		if main > 1 {
			fmt.Fprintf(out, "# %s\n", f.Name)
		}
		if _, err := out.Write(f.Data); err != nil {
			return fail.Wrap(fail.HostCannot, err, "writing")
		}
	}
	return nil
}

// writeFiles writes files into a directory with the rights of the caller: who
// may run safe-run through sudo must not write anywhere as root by it. Files
// that are there may have been edited; only force replaces them.
func writeFiles(o convert.Options, dir string, files []convert.File, force bool, out io.Writer) error {
	caller, err := cli.CallerOf(os.Geteuid(), os.LookupEnv)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(o.Context.Cwd, dir)
	}
	err = caller.Do(func() error {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fail.Wrap(fail.HostCannot, err, "-o")
		}
		for _, f := range files { // all or none
			if err := vacant(filepath.Join(dir, f.Name), f.Data, force); err != nil {
				return err
			}
		}
		for _, f := range files {
			if err := replace(filepath.Join(dir, f.Name), f.Data); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, f := range files {
		fmt.Fprintln(out, plain.Line(filepath.Join(dir, f.Name)))
	}
	return nil
}

// vacant says whether a file may be written.
func vacant(path string, data []byte, force bool) error {
	if filepath.Base(path) != path[strings.LastIndexByte(path, '/')+1:] {
		return fail.New(fail.Internal, "%.80q is no name for a file", path)
	}
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist) || err == nil && force && st.Mode().IsRegular():
		return nil
	case err != nil:
		return fail.Wrap(fail.HostCannot, err, "-o")
	case st.Mode().IsRegular() && st.Size() == int64(len(data)):
		if was, err := os.ReadFile(path); err == nil && bytes.Equal(was, data) {
			return nil
		}
	}
	return fail.New(fail.Conflict, "%q is there already", path).Hint("remove it, choose another directory with -o, or give --force")
}

// replace writes a file beside and puts it in place, so that nobody reads half.
func replace(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".safe-run-*")
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "writing %q", path)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644&^umask()), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fail.Wrap(fail.HostCannot, err, "writing %q", path)
	}
	return nil
}

func umask() os.FileMode {
	m := unix.Umask(0)
	unix.Umask(m)
	return os.FileMode(m)
}
