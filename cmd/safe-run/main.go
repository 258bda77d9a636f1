// Command safe-run is `docker run`, spoken to containerd directly, with least
// privilege as the default.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/launcher"
)

// version is set by the linker.
var version = "devel"

func main() {
	// A launch lives some tens of milliseconds and needs a few MiB: collecting
	// garbage in it costs more than it gives. The memory limit keeps the rest
	// of a long life small.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(24 << 20)
	if _, sudo := os.LookupEnv("SUDO_UID"); sudo {
		// The caller must not choose whom root trusts (threat L5).
		os.Unsetenv("SSL_CERT_FILE")
		os.Unsetenv("SSL_CERT_DIR")
	}
	args := os.Args[1:]
	if len(args) == 2 && args[0] == launcher.GuardWord {
		if err := launcher.Guard(os.Stdin, args[1]); err != nil {
			os.Exit(1)
		}
		return
	}
	if program() == "docker" {
		rest, code, done := asDocker(args)
		if done {
			os.Exit(code)
		}
		args = rest
	}
	os.Exit(dispatch(args))
}

// dispatch runs the verb the first word names; any other first word belongs
// to run, whose verb may be left out.
func dispatch(args []string) int {
	if len(args) == 0 {
		help("")
		return 0
	}
	args = managed(args)
	if args[0] == "run" {
		return run(args[1:], "run")
	}
	if err := lacking(args); err != nil && (program() == "docker" || slices.Contains(noImages, args[0])) {
		return misuse(os.Stderr, err)
	}
	root := verbs()
	if v := verbNamed(root, args[0]); v || args[0] == "completion" || args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd {
		debug.SetGCPercent(100)
		root.SetArgs(args)
		if slices.Contains(lookers, args[0]) {
			tend(context.Background())
		}
		return answer(root.ExecuteContext(context.Background()), args[0] == "exec")
	}
	return run(args, "")
}

// noImages are docker's words that are not offered, and by which nobody means
// an image (node, for one, is): fetched and run, it would get a container's
// name, or a password, as its arguments. An image of that name can be run with
// the verb, safe-run run NAME.
var noImages = []string{
	"bake", "build", "builder", "buildx", "checkpoint", "commit", "create", "diff", "history", "login", "logout",
	"push", "search", "swarm", "trust", "update",
}

func verbNamed(root *cobra.Command, name string) bool {
	for _, c := range root.Commands() {
		if c.Name() == name || c.HasAlias(name) {
			return true
		}
	}
	return false
}

// verbs are all subcommands but run, whose command line is docker's own.
func verbs() *cobra.Command {
	root := &cobra.Command{
		Use:           program() + " [OPTIONS] IMAGE [COMMAND] [ARG...]",
		Short:         "Run a container with the least privileges it needs",
		SilenceErrors: true, SilenceUsage: true,
		DisableFlagParsing: true, ValidArgsFunction: completeRun,
	}
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		switch {
		case c == root:
			help("")
		case c.Name() == "run":
			help("run")
		default:
			about := c.Short
			if c.Long != "" {
				about = c.Long
			}
			fmt.Fprintf(c.OutOrStdout(), "%s\n\n%s", about, asCalled(c.UsageString()))
		}
	})
	root.SetFlagErrorFunc(flagError)
	about := versionVerb()
	if program() == "docker" {
		about = dockerVersionVerb()
	}
	root.AddCommand(
		runVerb(), pullVerb(), loadVerb(), imagesVerb(), rmiVerb(),
		psVerb(), logsVerb(), execVerb(), inspectVerb(), stopVerb(), killVerb(), rmVerb(), waitVerb(),
		startVerb(), restartVerb(), pauseVerb(), unpauseVerb(), attachVerb(), renameVerb(), cpVerb(), portVerb(),
		topVerb(), statsVerb(), eventsVerb(), networkVerb(), volumeVerb(), systemVerb(removeContainer), generateVerb(),
		tagVerb(), saveVerb(), infoVerb(), imageVerb(), containerVerb(removeContainer),
		engineVerb(), policyVerb(), profileVerb(), learnVerb(), auditVerb(), checkVerb(), doctorVerb(), composeVerb(), exportVerb(), importVerb(), about, superviseVerb(), faultsVerb(), manVerb(), docsVerb(),
	)
	root.SetHelpCommand(helpVerb(root))
	root.InitDefaultHelpCmd()
	withoutFlagsWord(root)
	return root
}

// withoutFlagsWord keeps cobra from adding "[flags]" to what says [OPTIONS].
func withoutFlagsWord(c *cobra.Command) {
	c.DisableFlagsInUseLine = true
	for _, sub := range c.Commands() {
		withoutFlagsWord(sub)
	}
}

// exitCodes maps kinds of errors to docker's exit codes. This is the only
// place that does.
var exitCodes = map[fail.Kind]int{
	fail.Internal: 125, fail.Usage: 125, fail.Refused: 125, fail.NotFound: 125,
	fail.Conflict: 125, fail.HostCannot: 125,
	fail.CmdNotExec: 126, fail.CmdNotFound: 127,
	fail.NoStatus: 1,
}

// answer prints what went wrong with a verb and gives the exit code for it;
// that of exec tells of its command, as that of run does.
func answer(err error, execs bool) int {
	var misused *misused125
	switch {
	case err == nil:
		return 0
	case errors.As(err, &misused):
		return misuse(os.Stderr, err)
	case fail.KindOf(err) == fail.Interrupted:
		return verbCode(err)
	}
	all := []error{err}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		all = several.Unwrap()
	}
	var exit *exitError
	for _, err := range all {
		if !errors.As(err, new(*exitError)) { // that was explained already
			printError(os.Stderr, err)
		}
	}
	if errors.As(err, &exit) {
		return exit.code
	}
	if k := fail.KindOf(err); execs && (k == fail.CmdNotExec || k == fail.CmdNotFound || k == fail.Refused) {
		return exitCodes[k]
	}
	return verbCode(err)
}

// report prints an error of run and gives the exit code for it.
func report(err error, usage string) int {
	if err == nil {
		return 0
	}
	var exit *exitError
	if errors.As(err, &exit) {
		return exit.code
	}
	var e *fail.Error
	if !errors.As(err, &e) {
		e = &fail.Error{Kind: fail.Usage, Err: err}
	}
	if e.Kind == fail.Interrupted {
		return 128 + e.Signal
	}
	printError(os.Stderr, err)
	if usage != "" && (e.Kind == fail.Usage || e.Kind == fail.NoStatus) {
		fmt.Fprint(os.Stderr, usage)
	}
	return exitCodes[e.Kind]
}

// printError prints one error with its next step. Both may repeat texts of
// images or files.
func printError(w io.Writer, err error) {
	var e *fail.Error
	fmt.Fprintf(w, "%s: %s\n", program(), printable(err.Error()))
	next := ""
	if errors.As(err, &e) {
		next = e.Next
	}
	if next == "" {
		next = roomHint(fail.KindOf(err))
	}
	if next != "" {
		fmt.Fprintf(w, "  %s\n", printable(asCalled(next)))
	}
}

// asCalled spells command lines in a hint with the name the user calls.
func asCalled(hint string) string {
	if program() == "safe-run" || !strings.Contains(hint, "safe-run ") {
		return hint
	}
	for _, c := range verbs().Commands() {
		hint = strings.ReplaceAll(hint, "safe-run "+c.Name(), program()+" "+c.Name())
	}
	return hint
}
