package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/engine"
	"github.com/safe-run/safe-run/internal/fail"
)

// companionVerbs have their flags in another program, which is asked for its
// help.
var companionVerbs = []string{"compose", "export", "import"}

// manVerb prints the manual page, or writes that of each verb too into a
// directory; the installation puts them in their place.
func manVerb() *cobra.Command {
	return &cobra.Command{Use: "__man [DIRECTORY]", Hidden: true, Args: between(0, 1), RunE: func(c *cobra.Command, args []string) error {
		m := cli.Manual{Version: version, Date: builtOn(os.Getenv("SOURCE_DATE_EPOCH"))}
		var verbs [][2]string
		for _, v := range c.Root().Commands() {
			if !v.Hidden {
				verbs = append(verbs, [2]string{v.Use, v.Short})
			}
		}
		if len(args) == 0 {
			return fail.Wrap(fail.Internal, cli.Man(os.Stdout, m, verbs), "manual page")
		}
		if err := manFile(args[0], "safe-run", func(f *os.File) error { return cli.Man(f, m, verbs) }); err != nil {
			return err
		}
		for _, v := range c.Root().Commands() {
			if v.Hidden {
				continue
			}
			name := "safe-run-" + v.Name()
			err := manFile(args[0], name, func(f *os.File) error {
				if v.Name() == "run" { // the word may be left out
					_, err := f.WriteString(".so man1/safe-run.1\n")
					return err
				}
				return cli.ManOf(f, m, manOf("safe-run", v))
			})
			if err != nil {
				return err
			}
		}
		return nil
	}}
}

// builtOn is the date of a number of seconds since 1970, the same in all time
// zones; "" if it is none.
func builtOn(epoch string) string {
	n, err := strconv.ParseInt(epoch, 10, 40)
	if err != nil || n < 0 {
		return ""
	}
	return time.Unix(n, 0).UTC().Format(time.DateOnly)
}

func manFile(dir, name string, write func(*os.File) error) error {
	f, err := os.OpenFile(filepath.Join(dir, name+".1"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "manual page")
	}
	err = write(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return fail.Wrap(fail.HostCannot, err, "manual page %s", name)
}

// manOf is a verb as its page shows it, called by the words of path and its
// own name.
func manOf(path string, c *cobra.Command) cli.ManVerb {
	_, arguments, _ := strings.Cut(c.Use, " ")
	v := cli.ManVerb{Path: path + " " + c.Name(), Arguments: arguments, Short: c.Short, Long: c.Long, Example: c.Example}
	if slices.Contains(companionVerbs, c.Name()) {
		if program, err := engine.Program(companion); err == nil {
			if out, err := exec.Command(program, "--program=safe-run", c.Name(), "--help").Output(); err == nil {
				v.Long, v.Example, v.Verbatim = "", "", string(out)
			}
		}
	}
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && f.Name != "help" {
			v.Flags = append(v.Flags, manFlag(f))
		}
	})
	for _, sub := range c.Commands() {
		if !sub.Hidden {
			v.Verbs = append(v.Verbs, manOf(v.Path, sub))
		}
	}
	return v
}

// manFlag is a flag with its argument, and what it does with its default.
func manFlag(f *pflag.Flag) [2]string {
	argument, usage := pflag.UnquoteUsage(f)
	head := "--" + f.Name
	if f.Shorthand != "" {
		head = "-" + f.Shorthand + ", " + head
	}
	if argument != "" {
		head += " " + argument
	}
	switch f.DefValue {
	case "", "false", "0", "0s", "[]", "-1":
	default:
		usage += " (default " + f.DefValue + ")"
	}
	return [2]string{head, usage}
}
