package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/internal/unit"
	"github.com/safe-run/safe-run/launcher"
	"github.com/safe-run/safe-run/spec"
)

func generateVerb() *cobra.Command {
	return group("generate", "Write a systemd unit for a container", generateSystemd())
}

// generateSystemd reads its own flags itself: what follows them is the command
// line of run.
func generateSystemd() *cobra.Command {
	return &cobra.Command{
		Use:   "systemd [-n] [--restart-policy POLICY] [--time SECONDS] CONTAINER | [RUN OPTIONS] IMAGE [COMMAND] [ARG...]",
		Short: "Print a unit that runs a container in the foreground",
		Long: `Print a unit that runs a container in the foreground: one made of an existing
container, by name or id, or of a command line of run.

      --restart-policy POLICY  Restart= of the unit: no, always, on-failure, ...
      --time SECONDS           how long the container may take to stop
  -n, --files                  write NAME.service in this directory

These come first; the flags after them are those of run.`,
		Example: `  safe-run generate systemd --name web -p 80:8080 nginx > /etc/systemd/system/web.service
  safe-run generate systemd -n --restart-policy always web`,
		DisableFlagParsing: true, ValidArgsFunction: completeRun,
		RunE: func(c *cobra.Command, args []string) error {
			o, rest, err := unitFlags(args)
			switch {
			case err != nil:
				return err
			case o.help:
				fmt.Fprintf(c.OutOrStdout(), "%s\n\nUsage:  %s\n", c.Long, c.UseLine())
				return nil
			case len(rest) == 0:
				return countError(c, 0, 1, 1<<30)
			}
			return generate(o, rest)
		},
	}
}

// unitOptions are the flags of generate systemd itself.
type unitOptions struct {
	help, files bool
	restart     string
	time        *int
}

// unitFlags takes them off the front of args. None of them is one of run's.
func unitFlags(args []string) (o unitOptions, rest []string, err error) {
	for len(args) > 0 {
		name, value, joined := strings.Cut(args[0], "=")
		switch name {
		case "--help":
			o.help = true
			return o, nil, nil
		case "-n", "-f", "--files":
			if joined {
				return o, nil, fail.New(fail.Usage, "%s takes no value", name)
			}
			o.files = true
		case "--restart-policy", "--time":
			if !joined {
				if len(args) < 2 {
					return o, nil, fail.New(fail.Usage, "flag needs an argument: %s", name)
				}
				value, args = args[1], args[1:]
			}
			if name == "--restart-policy" {
				o.restart = value
				break
			}
			n, err := strconv.ParseInt(value, 10, 31)
			if err != nil || n < -1 {
				return o, nil, fail.New(fail.Usage, "--time takes a number of seconds, or -1 to wait for ever")
			}
			o.time = new(int(n))
		default:
			return o, args, nil
		}
		args = args[1:]
	}
	return o, nil, nil
}

func generate(o unitOptions, words []string) error {
	w, u, err := toRun(words)
	if err != nil {
		return err
	}
	if u.Program, err = os.Executable(); err != nil {
		return fail.Wrap(fail.HostCannot, err, "finding this program")
	}
	u.Restart = o.restart
	if o.time != nil {
		w.StopTimeout = o.time
	}
	if w.TTY && w.Interactive {
		w.Interactive = false
		fmt.Fprintln(os.Stderr, "safe-run: -i is left out: a unit has no terminal to type at")
	}
	root, run := place()
	for _, e := range []struct{ name, value, otherwise string }{
		{"SAFE_RUN_ROOT", root, store.DefaultRoot}, {"SAFE_RUN_STATE", run, store.DefaultRun},
	} {
		if e.value != e.otherwise {
			u.Environ = append(u.Environ, e.name+"="+e.value)
		}
	}
	text, err := unit.Service(w, u)
	if err != nil {
		return err
	}
	if !o.files {
		fmt.Print(text)
		return nil
	}
	return writeUnit(w.Name+".service", text)
}

// writeUnit makes a new file: one that is there may have been edited.
func writeUnit(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fail.New(fail.Conflict, "%s is there already", name).Hint("remove it, or leave -n out to see the unit")
	}
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "the unit")
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return fail.Wrap(fail.HostCannot, err, "the unit")
	}
	where, err := filepath.Abs(name)
	if err != nil {
		where = name
	}
	fmt.Println(printable(where))
	return nil
}

// toRun is what a unit shall run: the container of a single word, if there is
// one, or else a command line.
func toRun(words []string) (w spec.Workload, u unit.Options, err error) {
	if len(words) == 1 && !strings.HasPrefix(words[0], "-") && os.Geteuid() == 0 {
		w, u, err = fromContainer(words[0])
		if fail.KindOf(err) != fail.NotFound {
			return w, u, err
		}
		fmt.Fprintf(os.Stderr, "safe-run: there is no container %.64q; the unit runs the image of that name\n", words[0])
	}
	ctx, err := cliContext()
	if err != nil {
		return w, u, err
	}
	return unit.FromFlags(words, ctx)
}

func fromContainer(ref string) (w spec.Workload, u unit.Options, err error) {
	root, run := place()
	s, err := store.Open(root, run)
	if err != nil {
		return w, u, err
	}
	rec, err := s.Find(ref)
	if err != nil {
		return w, u, err
	}
	asked, err := s.LoadAsked(rec.ID)
	if fail.KindOf(err) == fail.NotFound {
		return w, u, fail.New(fail.Conflict, "nothing is kept of what the container %.64q was asked to be", ref).
			Hint("write the flags after generate systemd instead")
	}
	if err != nil {
		return w, u, err
	}
	w, u.Image = asked.Workload, asked.Image
	w.Name = rec.Name
	if w.Name == "" {
		w.Name = rec.ID[:12]
	}
	fmt.Fprintf(os.Stderr, "safe-run: remove the container before the unit starts one of its name: safe-run rm -f %s\n", w.Name)
	if rec.Namespace != launcher.DefaultNamespace {
		u.Global = append(u.Global, "--namespace="+rec.Namespace)
	}
	if !strings.HasPrefix(rec.Address, run+"/") {
		u.Global = append(u.Global, "--address="+rec.Address)
	}
	return w, u, nil
}
