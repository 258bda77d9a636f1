package main

import (
	"context"
	"encoding/json"
	"os"

	"github.com/spf13/cobra"
	xterm "golang.org/x/term"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/control"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/launcher"
)

func execVerb() *cobra.Command {
	var (
		e                       endpoint
		rq                      launcher.ExecRequest
		interactive, privileged bool
		env, envFiles           []string
		keys                    string
	)
	c := &cobra.Command{
		Use: "exec [OPTIONS] CONTAINER COMMAND [ARG...]", Short: "Run a command in a running container", Args: atLeast(2),
		Long: "Run a command in a running container, confined as the container is.\n" +
			"A signal that ends this program ends the command too. The keys to detach are the command's:\n" +
			"what is to go on by itself is started with -d.\n\n" +
			"The exit code is the command's; 126 if it cannot be executed, 127 if it does not exist,\n" +
			"125 if it is refused, 1 if the container does not run, 128+n if signal n ended it.",
		Example: `  safe-run exec -it web sh
  safe-run exec -u 1000 -w /tmp -e LANG=C web ls -l
  safe-run exec -d web nginx -s reload`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := mayExec(privileged, keys, interactive, &rq); err != nil {
				return err
			}
			cctx, err := cli.NewContext()
			if err != nil {
				return err
			}
			if rq.Env, err = cli.Env(cctx, envFiles, env); err != nil {
				return err
			}
			if err := needRoot(); err != nil {
				return err
			}
			rq.Args = args[1:]
			if rq.Streams = (launcher.Streams{Out: os.Stdout, Err: os.Stderr}); interactive {
				rq.Streams.In = os.Stdin
			}
			code := 0
			err = e.with(c.Context(), func(ctx context.Context, s *session) error {
				code, err = execIn(ctx, s.launcher, args[0], rq)
				return err
			})
			if err == nil && code != 0 {
				os.Exit(code) // of the command: nothing of ours is left to do
			}
			return err
		},
	}
	e.flags(c)
	f := c.Flags()
	f.SetInterspersed(false)
	f.BoolVarP(&rq.Detach, "detach", "d", false, "start the command and do not wait for it; its output goes nowhere")
	f.StringVar(&keys, "detach-keys", "", "not supported: start with -d what is to go on by itself")
	f.StringArrayVarP(&env, "env", "e", nil, "set a variable: NAME=VALUE, or NAME for the caller's")
	f.StringArrayVar(&envFiles, "env-file", nil, "file of variables")
	f.BoolVarP(&interactive, "interactive", "i", false, "connect standard input")
	f.BoolVar(&privileged, "privileged", false, "refused: a command has no more than its container")
	f.BoolVarP(&rq.TTY, "tty", "t", false, "give the command a terminal")
	f.StringVarP(&rq.User, "user", "u", "", "NAME|UID[:GROUP|GID] of the image")
	f.StringVarP(&rq.Workdir, "workdir", "w", "", "directory inside the container")
	return c
}

// mayExec refuses what no exec is given.
func mayExec(privileged bool, keys string, interactive bool, rq *launcher.ExecRequest) error {
	switch {
	case privileged:
		return fail.New(fail.Refused, "--privileged: a command in a container never has more than the container: what its start was judged by would not hold").
			Hint("start another container with what the command needs (--cap-add, --device), which the site's policy may have to grant")
	case keys != "":
		return fail.New(fail.Usage, "--detach-keys: a command is not detached from").
			Hint("start it with -d, or leave the flag out: all keys are the command's")
	case rq.TTY && interactive && !rq.Detach && !xterm.IsTerminal(int(os.Stdin.Fd())):
		return fail.New(fail.NoStatus, "the input device is not a TTY").Hint("leave out -t, or -i")
	}
	return nil
}

// execIn runs the command here, or has the container's supervisor start it:
// somebody has to be there when it ends.
func execIn(ctx context.Context, l *launcher.Launcher, ref string, rq launcher.ExecRequest) (int, error) {
	rec, err := l.Store.Find(ref)
	if err != nil {
		return 0, err
	}
	if !rq.Detach {
		return l.Exec(ctx, rec, rq)
	}
	if !l.Store.Supervised(rec.ID) {
		return 0, fail.New(fail.NoStatus, "container %s is not running", rec.ID)
	}
	raw, err := json.Marshal(rq)
	if err != nil {
		return 0, fail.Wrap(fail.Internal, err, "exec")
	}
	_, err = l.AskOnce(ctx, rec, control.Request{Op: launcher.OpExec, Exec: raw})
	if k := fail.KindOf(err); k == fail.CmdNotFound || k == fail.CmdNotExec {
		return 0, fail.Wrap(fail.NoStatus, err, "exec") // docker's code where nothing is attached
	}
	return 0, err
}
