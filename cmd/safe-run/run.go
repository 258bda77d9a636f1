package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/moby/term"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	xterm "golang.org/x/term"

	"github.com/safe-run/safe-run/audit"
	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/logs"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/launcher"
	"github.com/safe-run/safe-run/policy"
	"github.com/safe-run/safe-run/spec"
)

// errRefused says that refusals were printed already.
var errRefused = errors.New("refused")

// run is the main verb. verb is "run", or "" where the word was left out.
func run(args []string, verb string) int {
	ahead := dialAhead()
	cctx, err := cliContext()
	if err != nil {
		return report(err, "")
	}
	inv, err := cli.Parse(args, cctx)
	for _, n := range inv.Notices {
		fmt.Fprintln(os.Stderr, printable(n))
	}
	if err != nil {
		return report(err, cli.Usage(command(verb)))
	}
	if inv.Help {
		help(verb)
		return 0
	}
	if inv.Workload.Detach && inv.DryRun == "" {
		return detached(job{Kind: jobRun, Args: args}, nil)
	}
	return launched(inv, ahead, nil)
}

// launched launches a container and gives the exit code.
func launched(inv *cli.Invocation, ahead <-chan dialed, tell *reporter) int {
	code, err := launch(context.Background(), inv, ahead, tell)
	if errors.Is(err, errRefused) {
		return exitCodes[fail.Refused]
	}
	if err != nil {
		return report(err, "")
	}
	return code
}

func width() int {
	if w, _, err := xterm.GetSize(int(os.Stdout.Fd())); err == nil {
		return w
	}
	return 0
}

// launch takes a parsed command line through review to a running container,
// and gives the container's exit code. tell, which may be nil, hears of the
// container before its program starts and once it has.
func launch(ctx context.Context, inv *cli.Invocation, ahead <-chan dialed, tell *reporter) (int, error) {
	w := &inv.Workload
	caller, err := cli.CallerOf(os.Geteuid(), os.LookupEnv)
	if err != nil {
		return 0, err
	}
	if inv.DryRun == "" {
		if err := checkTerminal(w); err != nil {
			return 0, err
		}
		if err := checkCIDFile(w.CIDFile, caller); err != nil {
			return 0, err
		}
	}
	j, err := judge(w, caller)
	if err != nil {
		return 0, err
	}
	defer j.close()
	// What is refused whatever the image says is refused before anything is
	// fetched or started.
	if _, refusals := j.review(nil); len(refusals) > 0 {
		return 0, printRefusals(inv.Refusals, refusals)
	}
	log, err := logs.Parse(w.LogDriver, w.LogOpts)
	if err != nil {
		return 0, err
	}
	if err := needRoot(); err != nil {
		return 0, err
	}
	unit, err := serviceUnit(w)
	if err != nil {
		return 0, err
	}
	var o *observer
	if inv.DryRun == "" {
		if o, err = observe(inv); err != nil {
			return 0, err
		}
		defer o.close()
	}

	s, err := connect(ctx, inv.Address, inv.Namespace, ahead)
	if err != nil {
		return 0, err
	}
	if err := floors(ctx, s, j.site); err != nil {
		return 0, err
	}
	var reserved *launcher.Reservation
	if inv.DryRun == "" {
		reserved = s.launcher.Reserve() // while the image is looked up
	}
	running := false
	defer func() {
		if !running {
			reserved.Cancel(ctx)
		}
	}()
	img, err := image(ctx, s, w)
	if err != nil {
		return 0, err
	}
	if err := madeFor(inv.Profile, img); err != nil {
		return 0, err
	}
	asked := *w
	if inv.Complain {
		j.widen(img)
	}
	grants, refusals := j.review(&img)
	if len(refusals) > 0 {
		return 0, printRefusals(inv.Refusals, refusals)
	}
	if inv.Complain {
		j.open(&grants)
	}
	lr, err := j.request(ctx, s, img, grants)
	if err != nil {
		return 0, err
	}
	lr.Reservation, lr.Log, lr.Unit = reserved, log, unit
	if unit != nil && unit.Journal[0] && w.LogDriver == "" {
		lr.Log.Driver = "passthrough"
	}
	if caller != nil {
		lr.Caller = &store.Caller{UID: caller.UID, GID: caller.GID, Groups: caller.Groups}
	}
	if lr.Secrets, err = secrets(w.Secrets, caller, unit); err != nil {
		return 0, err
	}
	lr.Created = func(id string) error {
		if err := writeCIDFile(w.CIDFile, id, caller); err != nil {
			return err
		}
		return tell.created(id)
	}
	lr.Started = tell.started
	lr.Aside = func(ctx context.Context) error {
		s.sweep(ctx)
		return nil
	}
	lr.Notice = notice
	lr.Streams = streams(w)
	if w.TTY && w.Interactive && !w.Detach {
		if lr.DetachKeys, err = detachKeys(w.DetachKeys); err != nil {
			return 0, err
		}
	}
	if inv.DryRun != "" {
		return 0, dryRun(ctx, s, lr, inv.DryRun)
	}
	running = true
	if o == nil {
		lr.Advice = func() string { return advice(inv, img) }
		return s.launcher.Run(ctx, lr)
	}
	lr.Observer = o
	o.watches(w, img)
	tellAll := func() {
		if inv.Complain {
			o.complained(asked, j)
		} else {
			o.explain(j)
		}
	}
	if o.out != nil { // it is told by who reads the recording
		tellAll = o.tellFailure
	}
	stop := o.onInterrupt(tellAll)
	code, err := s.launcher.Run(ctx, lr)
	stop()
	tellAll()
	return code, errors.Join(err, o.save())
}

// notice tells the user something in one line.
func notice(s string) { fmt.Fprintf(os.Stderr, "%s: %s\n", program(), printable(s)) }

// image gives the image to run: the tag is resolved to a digest once, here.
func image(ctx context.Context, s *session, w *spec.Workload) (spec.Image, error) {
	return resolve(ctx, s, w.Image, w.Platform, w.Pull, w.Quiet)
}

func resolve(ctx context.Context, s *session, ref, platform, policy string, quiet bool) (spec.Image, error) {
	if policy == "always" {
		return pull(ctx, s, ref, platform, quiet)
	}
	img, err := s.images.Resolve(ctx, ref, platform)
	if err == nil || fail.KindOf(err) != fail.NotFound || policy == "never" {
		return img, err
	}
	if !quiet {
		fmt.Fprintf(os.Stderr, "Unable to find image '%s' locally\n", printable(ref))
	}
	return pull(ctx, s, ref, platform, quiet)
}

// checkTerminal refuses -t with an attached standard input that is no
// terminal, as docker does (exit 1).
func checkTerminal(w *spec.Workload) error {
	if w.TTY && !w.Detach && attached(w, "stdin") && !xterm.IsTerminal(int(os.Stdin.Fd())) {
		return fail.New(fail.NoStatus, "the input device is not a TTY").Hint("leave out -t, or -i")
	}
	return nil
}

// attached says whether a stream is connected, by docker's rules: -i adds
// stdin; without -a both outputs are.
func attached(w *spec.Workload, stream string) bool {
	if stream == "stdin" && w.Interactive {
		return true
	}
	if len(w.Attach) == 0 {
		return stream != "stdin"
	}
	for _, a := range w.Attach {
		if a == stream {
			return true
		}
	}
	return false
}

func streams(w *spec.Workload) launcher.Streams {
	if w.Detach {
		return launcher.Streams{OpenIn: w.Interactive}
	}
	var s launcher.Streams
	if attached(w, "stdin") {
		s.In = os.Stdin
	}
	if attached(w, "stdout") {
		s.Out = os.Stdout
	}
	if attached(w, "stderr") {
		s.Err = os.Stderr
		if w.TTY && s.Out == nil {
			s.Out = os.Stderr
		}
	}
	return s
}

// detachKeys are the keys that leave a container; asked is nil if none were
// given.
func detachKeys(asked *string) ([]byte, error) {
	keys := "ctrl-p,ctrl-q"
	switch configured := clientConfig().DetachKeys; {
	case asked != nil:
		keys = *asked
	case configured != "":
		keys = configured
	}
	b, err := term.ToBytes(keys)
	return b, fail.Wrap(fail.NoStatus, err, "invalid detach keys %q", keys)
}

// attest compares what the kernel enforces with the spec.
func attest() func(int, *specs.Spec, []string, bool) error {
	return func(pid int, s *specs.Spec, mapped []string, started bool) error {
		phase := audit.Created
		if started {
			phase = audit.Started
		}
		return audit.Attest(pid, s, audit.Want{Phase: phase, Mapped: mapped})
	}
}

func printRefusals(form string, r []policy.Refusal) error {
	if form == "json" {
		if err := policy.WriteJSON(os.Stderr, r); err != nil {
			return err
		}
	} else {
		if err := policy.WriteText(os.Stderr, r); err != nil {
			return err
		}
	}
	return errRefused
}

// dryRun prints what would be run and leaves nothing.
func dryRun(ctx context.Context, s *session, rq launcher.Request, form string) error {
	in, built, err := s.launcher.Plan(ctx, rq)
	if err != nil {
		return err
	}
	if form == "summary" {
		fmt.Print(spec.Summary(in, built))
		return nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(built); err != nil {
		return fail.Wrap(fail.Internal, err, "printing the spec")
	}
	_, err = io.WriteString(os.Stdout, escapeHidden(b.String()))
	return fail.Wrap(fail.Internal, err, "printing the spec")
}

// command is how the user called the main verb.
func command(verb string) string {
	if verb == "" {
		return program()
	}
	return program() + " " + verb
}
