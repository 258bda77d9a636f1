package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
)

func tagVerb() *cobra.Command {
	var e endpoint
	c := &cobra.Command{Use: "tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", Short: "Give an image another name", Args: exactly(2), RunE: func(c *cobra.Command, args []string) error {
		return e.with(c.Context(), func(ctx context.Context, s *session) error {
			return s.images.Tag(ctx, args[0], args[1])
		})
	}}
	c.Example = `  safe-run tag app:1.2 registry.example:5000/team/app:1.2`
	e.flags(c)
	return c
}

func saveVerb() *cobra.Command {
	var e endpoint
	var output, platform string
	c := &cobra.Command{Use: "save [OPTIONS] IMAGE [IMAGE...]", Short: "Write images into an archive", Args: atLeast(1), RunE: func(c *cobra.Command, args []string) error {
		if output == "" && term.IsTerminal(int(os.Stdout.Fd())) {
			return fail.New(fail.Usage, "cowardly refusing to save to a terminal").Hint("name a file with --output, or redirect it")
		}
		caller, err := cli.CallerOf(os.Geteuid(), os.LookupEnv)
		if err != nil {
			return err
		}
		if output != "" {
			if err := checkOutput(caller, output); err != nil {
				return err
			}
		}
		return e.with(c.Context(), func(ctx context.Context, s *session) error {
			ctx, stop := interruptible(ctx)
			defer stop()
			save := func(w io.Writer) error { return bySignal(ctx, s.images.Save(ctx, w, platform, args...)) }
			if output == "" {
				return save(os.Stdout)
			}
			return writeAs(caller, output, save)
		})
	}}
	c.Example = `  safe-run save -o app.tar app:1.2
  safe-run save app:1.2 | ssh otherhost safe-run load`
	e.flags(c)
	c.Flags().StringVarP(&output, "output", "o", "", "write to this file instead of stdout")
	c.Flags().StringVar(&platform, "platform", "", "os[/arch[/variant]]")
	return c
}

// checkOutput says early whether a file can be written.
func checkOutput(caller *cli.Caller, path string) error {
	var dir, file fs.FileInfo
	var fileErr error
	err := caller.Do(func() (err error) {
		dir, err = os.Stat(filepath.Dir(path))
		file, fileErr = os.Stat(path)
		return err
	})
	switch {
	case err != nil:
		return fail.Wrap(fail.Usage, err, "invalid output path")
	case !dir.IsDir():
		return fail.New(fail.Usage, "invalid output path: %q is not a directory", filepath.Dir(path))
	case fileErr == nil && !file.Mode().IsRegular():
		return fail.New(fail.Usage, "invalid output path: %q is not a regular file", path).Hint("to write elsewhere, leave --output out and redirect stdout")
	}
	return nil
}

// writeAs writes a file with the rights of the caller. It appears under its
// name when it is complete, and replaces what was there, also a link.
func writeAs(caller *cli.Caller, path string, write func(io.Writer) error) error {
	var f *os.File
	err := caller.Do(func() (err error) {
		f, err = os.CreateTemp(filepath.Dir(path), ".safe-run-*") // exclusively, 0600
		return err
	})
	if err != nil {
		return fail.Wrap(fail.Usage, err, "output file")
	}
	err = write(f)
	err = errors.Join(err, fail.Wrap(fail.HostCannot, f.Close(), "output file"))
	if err == nil {
		err = fail.Wrap(fail.HostCannot, caller.Do(func() error { return os.Rename(f.Name(), path) }), "output file")
	}
	if err != nil {
		_ = caller.Do(func() error { return os.Remove(f.Name()) })
	}
	return err
}
