package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
)

// help prints the help of the main verb and, where its word is left out, what
// other verbs there are.
func help(verb string) {
	cli.Help(os.Stdout, command(verb), width())
	if verb != "" {
		return
	}
	fmt.Printf("\nOther commands (%s COMMAND --help tells more):\n", program())
	for _, c := range verbs().Commands() {
		if !c.Hidden {
			fmt.Printf("  %-11s%s\n", c.Name(), c.Short)
		}
	}
}

func helpVerb(root *cobra.Command) *cobra.Command {
	return &cobra.Command{Use: "help [COMMAND]", Short: "Print the help of a command", Example: `  safe-run help logs
  safe-run help network create`, RunE: func(_ *cobra.Command, args []string) error {
		if len(args) == 0 && program() == "docker" {
			dockerHelp()
			return nil
		}
		c, rest, err := root.Find(args)
		if err != nil || len(rest) > 0 {
			return fail.New(fail.Usage, "there is no command %q", strings.Join(args, " ")).
				Hint("safe-run help lists all commands")
		}
		return c.Help()
	}}
}

// runVerb is the main verb for help and completion; dispatch runs it.
func runVerb() *cobra.Command {
	return &cobra.Command{
		Use: "run [OPTIONS] IMAGE [COMMAND] [ARG...]", Short: "Run a container; the word may be left out",
		Long: `Run a command in a new container with the least privileges that work: no
capabilities, own user namespace, read-only root file system, strict seccomp,
limits on memory and processes. The flags are those of docker run. What would
give the host away is refused, all of it at once, and nothing has been created.`,
		Example: `  safe-run --rm -it busybox sh
  safe-run run -d --name web --restart unless-stopped --profile nginx -p 8080:80 nginx
  safe-run run --rm --explain -v "$PWD":/src:ro -w /src python:3.13 python3 test.py
  safe-run run --dry-run=summary -v data:/data redis`,
		DisableFlagParsing: true, ValidArgsFunction: completeRun, Run: func(*cobra.Command, []string) {},
	}
}

func completeRun(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	var further []*pflag.Flag // cobra lists them
	c.LocalFlags().VisitAll(func(f *pflag.Flag) { further = append(further, f) })
	words, files := cli.Complete(args, word, func(flag string) []string {
		if flag == "profile" {
			return profileNames()
		}
		return nil
	}, further...)
	if files {
		return words, cobra.ShellCompDirectiveDefault
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// group is a verb that only has further words.
func group(use, short string, words ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, RunE: func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.Help()
		}
		return fail.New(fail.Usage, "unknown command: %s %.200s", c.CommandPath(), args[0]).
			Hint("%s --help lists what there is", c.CommandPath())
	}}
	c.AddCommand(words...)
	return c
}

// exactly n words follow a verb.
func exactly(n int) cobra.PositionalArgs { return between(n, n) }

// atLeast n words follow a verb.
func atLeast(n int) cobra.PositionalArgs { return between(n, 1<<30) }

func between(lo, hi int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error { return countError(c, len(args), lo, hi) }
}
