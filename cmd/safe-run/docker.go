package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/safe-run/safe-run/internal/fail"
)

// dockerVersion is the version of docker whose command lines are understood.
// Scripts compare it.
const dockerVersion = "28.0.0"

// program is the name this process was called by: docker or safe-run.
func program() string {
	if filepath.Base(os.Args[0]) == "docker" {
		return "docker"
	}
	return "safe-run"
}

// asDocker reads what stands before the verb on docker's command line, and
// makes sure that a verb follows: under this name a first word that is none is
// no image. If done, the process ends with code; else rest is the command line
// from the verb on.
func asDocker(args []string) (rest []string, code int, done bool) {
	rest, out, err := dockerGlobals(args, os.LookupEnv, os.Setenv)
	switch {
	case err != nil:
		return nil, misuse(os.Stderr, err), true
	case out == "help":
		dockerHelp()
		return nil, 0, true
	case out != "":
		fmt.Println(out)
		return nil, 0, true
	}
	if rest[0] == "run" {
		return rest, 0, false
	}
	if err := dockerWord(verbs(), rest); err != nil {
		return nil, misuse(os.Stderr, err), true
	}
	return rest, 0, false
}

// dockerGlobals takes docker's global flags off a command line. out is what
// is to be printed instead of doing anything: "help", or the version.
func dockerGlobals(args []string, lookup func(string) (string, bool), setenv func(string, string) error) (rest []string, out string, err error) {
	f := pflag.NewFlagSet("docker", pflag.ContinueOnError)
	f.SetInterspersed(false)
	f.Usage = func() {}
	hosts := f.StringArrayP("host", "H", nil, "")
	context := f.StringP("context", "c", "", "")
	config := f.String("config", "", "")
	level := f.StringP("log-level", "l", "info", "")
	f.BoolP("debug", "D", false, "")
	for _, name := range []string{"tls", "tlsverify"} {
		f.Bool(name, false, "")
	}
	for _, name := range []string{"tlscacert", "tlscert", "tlskey"} {
		f.String(name, "", "")
	}
	version := f.BoolP("version", "v", false, "")
	help := f.BoolP("help", "h", false, "")
	if err := f.Parse(args); err != nil {
		return nil, "", &misused125{fmt.Sprintf("%s\n\nUsage:  docker [OPTIONS] COMMAND [ARG...]\n\nRun 'docker --help' for more information", err)}
	}
	// In docker's order: asking for help or the version needs no engine.
	if *help || f.NArg() == 0 && !*version {
		return nil, "help", nil
	}
	if *version {
		return nil, dockerVersionLine(), nil
	}
	const elsewhere = "the command would be meant for another engine, and this one has no socket: each container is supervised by a process of its own"
	if len(*hosts) > 0 {
		return nil, "", fail.New(fail.Refused, "refused: --host %.200q: %s", (*hosts)[0], elsewhere).
			Hint("leave it out, or call the real docker by its path")
	}
	if v, ok := lookup("DOCKER_HOST"); ok && !slices.Contains(ownHosts, v) {
		return nil, "", fail.New(fail.Refused, "refused: DOCKER_HOST=%.200q: %s", v, elsewhere).Hint("unset DOCKER_HOST, or call the real docker by its path")
	}
	if v, _ := lookup("DOCKER_CONTEXT"); *context == "" {
		*context = v
	}
	if *context != "" && *context != "default" {
		return nil, "", fail.New(fail.Refused, "refused: the context %.200q: %s", *context, elsewhere).Hint("there is only the context default")
	}
	for _, name := range []string{"tls", "tlsverify", "tlscacert", "tlscert", "tlskey"} {
		if f.Changed(name) && f.Lookup(name).Value.String() != "false" {
			return nil, "", fail.New(fail.Refused, "refused: --%s: there is no connection to an engine that it could protect", name).Hint("leave it out")
		}
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error", "fatal"}, *level) {
		return nil, "", fail.New(fail.NoStatus, "Unable to parse logging level: %.80s", *level)
	}
	if f.Changed("config") {
		if err := setenv("DOCKER_CONFIG", *config); err != nil {
			return nil, "", fail.Wrap(fail.Usage, err, "--config")
		}
	}
	return f.Args(), "", nil
}

// ownHosts are values of DOCKER_HOST that mean what leaving it out means.
var ownHosts = []string{
	"", "unix:///var/run/docker.sock", "unix:///run/docker.sock", "unix:///run/containerd/containerd.sock",
}

// dockerWord says what is wrong with the first word, if it is no verb.
func dockerWord(root *cobra.Command, args []string) error {
	args = managed(args)
	if err := lacking(args); err != nil {
		return err
	}
	if verbNamed(root, args[0]) || slices.Contains([]string{
		"run", "help", "completion", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd,
	}, args[0]) {
		return nil
	}
	return &fail.Error{Kind: fail.NoStatus, Msg: fmt.Sprintf("unknown command: docker %.200s\n\nRun 'docker --help' for more information", args[0])}
}

func dockerVersionLine() string {
	return fmt.Sprintf("Docker version %s, build safe-run-%s", dockerVersion, version)
}

func dockerHelp() {
	fmt.Print("Usage:  docker [OPTIONS] COMMAND\n\nsafe-run by the name docker: the commands of docker " + dockerVersion[:2] + ", with the least privileges as default\n\nCommands:\n")
	for _, c := range verbs().Commands() {
		if !c.Hidden {
			fmt.Printf("  %-11s%s\n", c.Name(), c.Short)
		}
	}
	fmt.Print(`
Global Options:
      --config DIR        directory of config.json with the credentials of registries
  -c, --context default   there is only this one
  -D, --debug             has no effect
  -H, --host SOCKET       refused: no other engine can be used
  -l, --log-level LEVEL   has no effect
  -v, --version           print version information and quit

Run 'docker COMMAND --help' for more information on a command.
`)
}

// misused125 is an error of flags: docker prints it as it is, and ends with 125.
type misused125 struct{ text string }

func (m *misused125) Error() string { return m.text }

// Unwrap gives the error its kind.
func (m *misused125) Unwrap() error { return fail.New(fail.Usage, "%s", m.text) }

// flagError is an error of a verb's flags in docker's words.
func flagError(c *cobra.Command, err error) error {
	return &misused125{fmt.Sprintf("%s\n\nUsage:  %s\n\nRun '%s --help' for more information", err, c.UseLine(), c.CommandPath())}
}

// countError is an error about the number of words after a verb, in docker's
// words; nil if lo <= n <= hi. Its exit code is 1.
func countError(c *cobra.Command, n, lo, hi int) error {
	plural := func(n int) string {
		if n == 1 {
			return "1 argument"
		}
		return fmt.Sprintf("%d arguments", n)
	}
	var wants string
	switch {
	case lo <= n && n <= hi:
		return nil
	case hi == 0:
		wants = "accepts no arguments"
	case lo == hi:
		wants = "requires " + plural(lo)
	case hi >= 1<<20:
		wants = "requires at least " + plural(lo)
	case lo == 0:
		wants = "requires at most " + plural(hi)
	default:
		wants = fmt.Sprintf("requires at least %d and at most %s", lo, plural(hi))
	}
	run := "Run"
	if hi >= 1<<20 {
		run = "See" // docker's own spelling
	}
	return &fail.Error{Kind: fail.NoStatus, Msg: fmt.Sprintf("'%s' %s\n\nUsage:  %s\n\n%s '%[1]s --help' for more information", c.CommandPath(), wants, c.UseLine(), run)}
}

// misuse prints an error and gives the exit code docker has for it, where the
// command line before or at the verb is wrong.
func misuse(w *os.File, err error) int {
	var m *misused125
	if errors.As(err, &m) {
		fmt.Fprintln(w, printable(m.text))
		return 125
	}
	printError(w, err)
	if fail.KindOf(err) == fail.NoStatus {
		return 1
	}
	return 125
}

// verbCode gives docker's exit code for an error of a verb other than run and
// exec: 125 where its flags are wrong, else 1.
func verbCode(err error) int {
	var m *misused125
	var e *fail.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &m):
		return 125
	case errors.As(err, &e) && e.Kind == fail.Interrupted:
		return 128 + e.Signal
	}
	return 1
}

// words lists what a group understands, for its help.
func words(group string) string {
	var l []string
	for _, m := range management {
		if m.group == group && !slices.Contains(l, m.word) {
			l = append(l, m.word)
		}
	}
	switch group {
	case "system":
		l = append(l, "df")
	}
	return strings.Join(append(l, "prune"), ", ")
}
