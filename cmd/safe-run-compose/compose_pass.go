package main

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	xterm "golang.org/x/term"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// passVerbs do to the containers of services what the verb of that name does to
// containers.
func (a *app) passVerbs() (all []*cobra.Command) {
	for _, v := range []struct {
		verb, short, done string
		downwards         bool // those others depend on last
		timeout, signal   bool // has the flag
	}{
		{"start", "Start stopped services", "Started", false, false, false},
		{"stop", "Stop services", "Stopped", true, true, false},
		{"restart", "Restart services", "Restarted", false, true, false},
		{"kill", "Send a signal to services", "Killed", true, false, true},
		{"pause", "Freeze all processes of services", "Paused", true, false, false},
		{"unpause", "Let frozen services go on", "Unpaused", false, false, false},
	} {
		var signal string
		timeout := -1
		c := &cobra.Command{Use: v.verb + " [OPTIONS] [SERVICE...]", Short: v.short, Example: "  safe-run compose " + v.verb + " web", RunE: func(c *cobra.Command, names []string) error {
			list, err := a.of(c.Context(), names, brief)
			if err != nil {
				return err
			}
			args := stopArgs(v.verb, timeout)
			if signal != "" {
				args = append(args, "-s", signal)
			}
			in := layers(wanting(list, v.verb))
			if v.downwards {
				slices.Reverse(in)
			}
			return a.pass(c.Context(), in, args, v.done)
		}}
		if v.timeout {
			c.Flags().IntVarP(&timeout, "timeout", "t", -1, "`SECONDS` that stopping may take")
		}
		if v.signal {
			c.Flags().StringVarP(&signal, "signal", "s", "", "`SIGNAL` to send (default KILL)")
		}
		all = append(all, c)
	}
	return all
}

// wanting are the containers a verb is for.
func wanting(all []container, verb string) []container {
	return slices.DeleteFunc(slices.Clone(all), func(c container) bool {
		switch verb {
		case "start":
			return c.runs()
		case "restart":
			return false
		case "unpause":
			return c.State != "paused"
		case "pause":
			return c.State != "running"
		}
		return !c.runs()
	})
}

func (a *app) pass(ctx context.Context, in [][]container, args []string, done string) error {
	for _, layer := range in {
		words := append(slices.Clone(args), "--")
		for _, c := range layer {
			words = append(words, c.ID)
		}
		if _, err := a.output(ctx, words...); err != nil {
			return err
		}
		for _, c := range layer {
			a.did("Container", c.Name, done)
		}
	}
	return nil
}

func (a *app) pullVerb() *cobra.Command {
	var quiet, deps bool
	c := &cobra.Command{Use: "pull [OPTIONS] [SERVICE...]", Short: "Fetch the images of the services", Example: "  safe-run compose pull", RunE: func(c *cobra.Command, names []string) error {
		p, err := a.load(c.Context())
		if err != nil {
			return err
		}
		services, err := chosen(p, names, deps)
		if err != nil {
			return err
		}
		var refs []string
		for _, s := range services {
			refs = append(refs, s.Image)
		}
		slices.Sort(refs)
		return a.pull(c.Context(), slices.Compact(refs), quiet)
	}}
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "no progress")
	c.Flags().BoolVar(&deps, "include-deps", false, "also those of what the named services depend on")
	return c
}

func (a *app) execVerb() *cobra.Command {
	var detach, noTTY, interactive, tty, privileged bool
	var env []string
	var user, workdir string
	index := 1
	c := &cobra.Command{Use: "exec [OPTIONS] SERVICE COMMAND [ARG...]", Short: "Run a command in a running service", Example: "  safe-run compose exec web sh", Args: cobra.MinimumNArgs(2), RunE: func(c *cobra.Command, args []string) error {
		switch {
		case privileged:
			return fail.New(fail.Refused, "--privileged: a command in a container never has more than the container").Hint("give the service what it needs: cap_add, devices")
		case index != 1:
			return fail.New(fail.Usage, "--index: there is one container of a service")
		}
		list, err := a.of(c.Context(), args[:1], brief)
		if err != nil {
			return err
		}
		words := []string{"exec"}
		for _, e := range env {
			words = append(words, "--env="+e)
		}
		if user != "" {
			words = append(words, "--user="+user)
		}
		if workdir != "" {
			words = append(words, "--workdir="+workdir)
		}
		switch {
		case detach:
			words = append(words, "-d")
		case interactive:
			words = append(words, "-i")
		}
		if tty && !noTTY && !detach && xterm.IsTerminal(int(os.Stdin.Fd())) && xterm.IsTerminal(int(os.Stdout.Fd())) {
			words = append(words, "-t")
		}
		return a.become(slices.Concat(words, []string{list[0].ID}, args[1:]))
	}}
	f := c.Flags()
	f.SetInterspersed(false)
	f.BoolVarP(&detach, "detach", "d", false, "start the command and do not wait for it")
	f.BoolVarP(&noTTY, "no-tty", "T", false, "no terminal (default where there is none)")
	f.BoolVarP(&interactive, "interactive", "i", true, "connect standard input")
	f.BoolVarP(&tty, "tty", "t", true, "give the command a terminal, if there is one")
	f.BoolVar(&privileged, "privileged", false, "refused: a command has no more than its container")
	f.StringArrayVarP(&env, "env", "e", nil, "set a variable: NAME=VALUE, or NAME for the caller's")
	f.StringVarP(&user, "user", "u", "", "NAME|UID[:GROUP|GID] of the image")
	f.StringVarP(&workdir, "workdir", "w", "", "`DIR` inside the container")
	f.IntVar(&index, "index", 1, "there is one container of a service")
	_ = f.MarkHidden("index")
	return c
}

// become goes on as the program.
func (a *app) become(args []string) error {
	err := unix.Exec(a.program, append([]string{"safe-run"}, args...), os.Environ())
	return fail.Wrap(fail.Internal, err, "calling %s", a.program)
}

// lackedWords are docker compose's words that are not offered, with what to do
// instead.
var lackedWords = map[string]string{
	"attach":  "safe-run attach PROJECT-SERVICE-1",
	"bridge":  "safe-run export writes the services for kubernetes, systemd and others",
	"build":   "build with buildah or buildkit, and take the image over: safe-run load -i ARCHIVE",
	"commit":  "build images from a Dockerfile with buildah or buildkit; what a container wrote belongs into a volume",
	"cp":      "safe-run cp PROJECT-SERVICE-1:/PATH . copies files",
	"create":  "safe-run compose up -d creates and starts the services",
	"events":  "safe-run events --filter label=com.docker.compose.project=PROJECT",
	"export":  "copy files out with safe-run cp",
	"images":  "safe-run compose config --images",
	"ls":      "safe-run ps -a --filter label=com.docker.compose.project",
	"port":    "safe-run port PROJECT-SERVICE-1",
	"publish": "put the file where others find it",
	"push":    "safe-run save the image, then: skopeo copy docker-archive:FILE docker://NAME",
	"rm":      "safe-run compose down SERVICE stops and removes containers of services",
	"scale":   "there is one container of a service; write another service that extends it",
	"stats":   "safe-run stats",
	"top":     "safe-run top PROJECT-SERVICE-1",
	"version": "safe-run version",
	"volumes": "safe-run volume ls --filter label=com.docker.compose.project=PROJECT",
	"wait":    "safe-run wait PROJECT-SERVICE-1",
	"watch":   "safe-run compose up -d again makes anew what has changed",
}

// absent is the error for a word that is no verb.
func absent(word string) error {
	if instead, known := lackedWords[word]; known {
		return fail.New(fail.Usage, "there is no command \"compose %s\" here", word).Hint("%s", instead)
	}
	if strings.HasPrefix(word, "-") {
		return fail.New(fail.Usage, "unknown flag: %.80s", word).Hint("see: safe-run compose --help")
	}
	return fail.New(fail.Usage, "unknown command: compose %.80s", word).Hint("see: safe-run compose --help")
}
