// Program safe-run-compose is the part of safe-run that speaks other formats:
// its verbs compose, export and import. It is called by safe-run, which tells it
// where it is itself:
//
//	safe-run-compose --program=/usr/bin/safe-run compose up
//
// It is a program of its own because the libraries of these formats take 10 ms
// to start. It starts no container: for that it calls safe-run.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/clidocs"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/plain"
)

// version is set by the linker.
var version = "devel"

func main() {
	if _, sudo := os.LookupEnv("SUDO_UID"); sudo {
		// The caller must not choose whom root trusts.
		os.Unsetenv("SSL_CERT_FILE")
		os.Unsetenv("SSL_CERT_DIR")
	}
	args := os.Args[1:]
	if len(args) == 1 && args[0] == loadWord {
		os.Exit(loadForCaller(os.Stdin, os.Stdout, os.Stderr))
	}
	if len(args) == 2 && args[0] == clidocs.Word {
		os.Exit(answer(os.Stderr, clidocs.Write(args[1], docsPages())))
	}
	program := "safe-run"
	if len(args) > 0 {
		if path, is := strings.CutPrefix(args[0], "--program="); is {
			program, args = path, args[1:]
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	root := verbs(program)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	stop()
	os.Exit(answer(os.Stderr, err))
}

func verbs(program string) *cobra.Command {
	root := &cobra.Command{Use: "safe-run", SilenceErrors: true, SilenceUsage: true, Version: version}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(composeVerb(program), exportVerb(program), importVerb(program))
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fail.New(fail.Usage, "%s: %s", c.CommandPath(), err).Hint("see: %s --help", c.CommandPath())
	})
	return root
}

// exitError ends the program with a code; what is wrong was said already.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// answer prints what went wrong, each error with its next step, and gives the
// exit code: docker's 125 for what this program itself refuses or fails at.
func answer(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	all := []error{err}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		all = several.Unwrap()
	}
	code := 125
	for _, err := range all {
		var exit *exitError
		if errors.As(err, &exit) {
			code = exit.code
			continue
		}
		fmt.Fprintf(w, "safe-run: %s\n", plain.Text(err.Error()))
		var e *fail.Error
		if errors.As(err, &e) && e.Next != "" {
			fmt.Fprintf(w, "  %s\n", plain.Text(e.Next))
		}
	}
	return code
}
