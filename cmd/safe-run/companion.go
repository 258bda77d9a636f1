package main

import (
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/engine"
	"github.com/safe-run/safe-run/internal/fail"
)

// companion is the program of the verbs that speak other formats. The libraries
// of these formats take 10 ms to start, which no launch has to pay for.
const companion = "safe-run-compose"

func composeVerb() *cobra.Command {
	return otherProgram("compose", "[OPTIONS] up|down|ps|logs|config [SERVICE...]", "Run the services of a compose file",
		`Run the services of a compose file, each by run, with least privileges.
Refused flags and keys that are not supported are told with file and line
before anything is started.`)
}

func exportVerb() *cobra.Command {
	return otherProgram("export", "[OPTIONS] kubernetes|compose|systemd|quadlet|docker [RUN OPTIONS] IMAGE [COMMAND] [ARG...]", "Write a container down for another runner",
		`Write a container, or with -f the services of a compose file, down for
Kubernetes, compose, systemd, podman (as a quadlet) or docker. What the format
cannot say is told on stderr and in a comment; with --strict it is an error.`)
}

func importVerb() *cobra.Command {
	return otherProgram("import", "[OPTIONS] FILE|-", "Make a profile and a command line of what others run",
		`Make a profile, and the shortest command line of safe-run, of a docker run line,
a compose service, a Kubernetes pod, a quadlet or a unit.`)
}

// otherProgram is a verb of the companion.
func otherProgram(verb, use, short, long string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " " + use, Short: short, Long: long + "\n\nSee: safe-run " + verb + " --help",
		DisableFlagParsing: true,
		RunE:               func(_ *cobra.Command, args []string) error { return become(verb, args) },
		ValidArgsFunction: func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			path, err := engine.Program(companion)
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			out, _ := exec.Command(path, append(append([]string{cobra.ShellCompRequestCmd, verb}, args...), word)...).Output()
			lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
			return completions(lines)
		},
	}
}

// completions reads cobra's answer: words, and a colon with a number.
func completions(lines []string) ([]string, cobra.ShellCompDirective) {
	directive := cobra.ShellCompDirectiveDefault
	if last := lines[len(lines)-1]; len(last) > 1 && last[0] == ':' {
		n := 0
		for _, c := range last[1:] {
			if c < '0' || c > '9' || n > 1<<10 {
				return nil, cobra.ShellCompDirectiveError
			}
			n = n*10 + int(c-'0')
		}
		directive, lines = cobra.ShellCompDirective(n), lines[:len(lines)-1]
	}
	return lines, directive
}

// become puts the companion in the place of this process.
func become(verb string, args []string) error {
	path, err := engine.Program(companion)
	if err != nil {
		return (&fail.Error{Kind: fail.NotFound, Msg: "the program of " + verb, Err: err}).Hint("build it with: make build; the packages have it")
	}
	self, err := os.Executable()
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "finding this program")
	}
	words := append([]string{companion, "--program=" + self, verb}, args...)
	return fail.Wrap(fail.HostCannot, syscall.Exec(path, words, os.Environ()), "%s", path)
}
