package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/argv"
	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/host"
	"github.com/safe-run/safe-run/learn"
	"github.com/safe-run/safe-run/policy"
	"github.com/safe-run/safe-run/profiles"
	"github.com/safe-run/safe-run/spec"
)

// lesson is what learn was asked for.
type lesson struct {
	out      string        // file for the profile, "" is standard output
	check    string        // line for sh that succeeds if the application works
	limit    time.Duration // how long it is exercised; 0: not given
	apparmor bool
	help     bool

	caller *cli.Caller
	base   profiles.Profile // what the flags ask for
	flags  []cli.Given      // those that are not for a profile
	words  []string         // the image and its words
	policy policy.Request   // of the image
	tty    bool

	address, namespace string   // of the engine
	typed              []string // the flags of run
	written            bool     // the profile
}

// exercise is how long a check may take to succeed if --for does not say.
const exercise = time.Minute

func learnFlags(l *lesson) *pflag.FlagSet {
	fs := pflag.NewFlagSet("learn", pflag.ContinueOnError)
	fs.StringVarP(&l.out, "output", "o", "", "write the profile to `FILE` instead of standard output")
	fs.StringVar(&l.check, "check", "", "`COMMAND` for sh on the host that succeeds when the application works; each right is then proved by taking it away")
	fs.DurationVar(&l.limit, "for", 0, "how long the application is exercised, or the check tried; without --check until it ends or Ctrl-C")
	fs.BoolVar(&l.apparmor, "apparmor", false, "also write rules for AppArmor")
	fs.BoolVar(&l.help, "help", false, "print this help")
	return fs
}

func learnVerb() *cobra.Command {
	c := &cobra.Command{
		Use:   "learn [OPTIONS] [RUN OPTIONS] IMAGE [COMMAND] [ARG...]",
		Short: "Find the least privileges an application needs, and prove them",
		Long: "Runs an image as run would, watches what it asks of the kernel, and writes a profile of it: capabilities,\n" +
			"directories it writes to, system calls, ports, limits. The first run may do all that the site's policy allows,\n" +
			"on a root file system that is thrown away. With --check the profile is then enforced, and each right taken\n" +
			"away in turn: only those without which the check fails stay.\n\n" +
			"The check runs on the host with the rights of the caller; SAFE_RUN_CONTAINER names the container.\n" +
			"It has to fail while the application does not run.\n\n" +
			"The exit code is 0 if a profile was written, else 1.",
		Example: `  safe-run learn -o web.yaml --check 'curl -fsS localhost:8080' -p 8080:80 nginx
  safe-run learn -o job.yaml --for 5m -v "$PWD":/data job
  safe-run run --rm --profile ./web.yaml -p 8080:80 nginx`,
		DisableFlagParsing: true, ValidArgsFunction: completeRun,
	}
	shown := learnFlags(&lesson{})
	shown.VisitAll(func(f *pflag.Flag) { c.Flags().AddFlag(f) })
	c.RunE = func(c *cobra.Command, args []string) error {
		l, err := newLesson(args)
		if err != nil {
			return err
		}
		if l.help {
			return c.Help()
		}
		return l.learn(c.Context())
	}
	return c
}

func newLesson(args []string) (*lesson, error) {
	l := &lesson{}
	fs := learnFlags(l)
	var own []*pflag.Flag
	fs.VisitAll(func(f *pflag.Flag) { own = append(own, f) })
	flags, words, err := cli.Split(args, own...)
	if err != nil || l.help {
		return l, err
	}
	if len(words) == 0 {
		return nil, fail.New(fail.Usage, "learn requires an IMAGE").Hint("safe-run learn --check 'curl -fsS localhost:8080' -p 8080:80 nginx")
	}
	if l.limit < 0 {
		return nil, fail.New(fail.Usage, "--for cannot be negative")
	}
	if strings.ContainsRune(l.check, 0) {
		return nil, fail.New(fail.Usage, "--check contains a NUL")
	}
	l.words = words
	return l, l.read(flags)
}

// read takes the flags of run apart.
func (l *lesson) read(flags []cli.Given) error {
	cctx, err := cliContext()
	if err != nil {
		return err
	}
	var words []string
	for _, f := range flags {
		words = append(words, f.Word())
	}
	inv, err := cli.Parse(slices.Concat(words, []string{"--"}, l.words), cctx)
	if err != nil {
		return err
	}
	w := inv.Workload
	switch {
	case w.Detach:
		return fail.New(fail.Usage, "learn stays with the container: leave out -d")
	case inv.DryRun != "" || inv.Help || inv.Explain || inv.Complain || inv.RecordFD != 0:
		return fail.New(fail.Usage, "--dry-run, --explain and --complain are of run, not of learn")
	case inv.Profile != nil:
		return fail.New(fail.Usage, "learn makes a profile and takes none; to widen one, learn again and put both together: safe-run profile merge")
	}
	if slices.ContainsFunc(w.SecurityOpts, func(o string) bool { return strings.HasPrefix(o, "seccomp") }) {
		return fail.New(fail.Usage, "learn makes a list of system calls, which --security-opt seccomp would take the place of: leave it out")
	}
	if named := w.AppArmorProfile(); l.apparmor && named != "" && !policy.OwnAppArmor(named) {
		return fail.New(fail.Usage, "--apparmor makes rules for AppArmor, and --security-opt apparmor=%.64q takes another profile: they exclude each other", named)
	}
	if l.caller, err = cli.CallerOf(os.Geteuid(), os.LookupEnv); err != nil {
		return err
	}
	l.address, l.namespace = inv.Address, inv.Namespace
	l.base, l.flags = argv.Profile(flags, w)
	l.tty, l.typed = w.TTY || w.Interactive, words
	site, err := policy.LoadSite(sitePolicy)
	if err != nil {
		return err
	}
	l.policy = policy.Request{Workload: w, Site: site, Provisional: true}
	l.base.Description = "learned by safe-run " + version
	return needRoot()
}

// learn records a run, makes a profile of it and proves it.
func (l *lesson) learn(ctx context.Context) error {
	// What a script of root's has open is not for the check, which has the
	// rights of the caller alone.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil && !errors.Is(err, unix.ENOSYS) {
		return fail.Wrap(fail.HostCannot, err, "descriptors that are open")
	}
	if l.out != "" {
		made, err := creatable(l.out, l.caller)
		if err != nil {
			return err
		}
		defer func() {
			if made && !l.written {
				_ = l.caller.Do(func() error { return os.Remove(l.out) }) // empty: nothing is lost
			}
		}()
	}
	img, err := l.image(ctx)
	if err != nil {
		return err
	}
	l.policy.Image, l.policy.Provisional = img, false
	// Not as it was typed: that can be an id.
	l.base.Image, l.base.Name = imageName(img.Name), repository(img.Name)
	l.base.Name = l.base.Name[:min(len(l.base.Name), 64)]
	s, err := newTrials(l, img)
	if err != nil {
		return err
	}
	defer s.close()
	if l.check != "" {
		if err := s.beforehand(ctx); err != nil {
			return err
		}
	}
	notice("recording: it may do what the site's policy allows, on a root file system that is thrown away")
	first, err := s.record(ctx, l.base)
	if err != nil {
		return err
	}
	missed := learn.Shown(first.Recording.Had.Hidden)
	if first.Passed || l.check == "" && !s.broke { // it works, or somebody ended it
		missed = nil
	}
	if len(missed) > 0 {
		notice("recording again, with the directories the image has in /run and /tmp")
		base := l.base
		base.Writable = slices.Concat(base.Writable, missed)
		if first, err = s.record(ctx, base); err != nil {
			return err
		}
	}
	rec := *first.Recording
	tellLost(rec)
	result := learn.Candidate(rec, l.base, l.options(rec.Had))
	result.With(missed, rec)
	if l.apparmor {
		result.Profile.AppArmor = &profiles.AppArmorUse{Files: learn.AppArmorRules(rec), Why: "files it used in the recording"}
	}
	result.Profile.Recorded = []profiles.Recorded{{
		Date: time.Now().UTC().Truncate(time.Second), Tool: "safe-run " + version, Kernel: kernelRelease(), Image: rec.Had.Image, Check: l.check, Lost: rec.Lost,
	}}
	for _, u := range result.Unmet {
		notice(u.String())
	}
	for _, line := range result.Seen {
		notice("seen: " + line)
	}
	if !first.Passed || l.check == "" && !s.ended {
		return l.unproved(first, result.Profile, s.broke)
	}
	if l.check == "" {
		notice("there is no --check: what is proved is that it ends with exit code 0")
	}
	rules := result.Profile.AppArmor
	unproved := rules != nil && !host.Probe().AppArmor
	if unproved {
		notice("this host has no AppArmor: its rules are written and not proved")
		result.Profile.AppArmor = nil
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, unix.SIGTERM)
	defer stop()
	proof, err := learn.Prove(ctx, result, s, notice)
	if err != nil {
		return err
	}
	if unproved {
		proof.Profile.AppArmor = rules
	}
	return l.proved(proof)
}

// unproved ends a lesson that has nothing to prove by. broke says that the
// program failed.
func (l *lesson) unproved(first learn.Outcome, p profiles.Profile, broke bool) error {
	if l.check != "" || broke {
		for _, line := range learn.Explain(*first.Recording, adviceContext(first.Recording.Had, l.policy)) {
			notice(line)
		}
	}
	if l.check != "" {
		return fail.New(fail.NoStatus, "the check never succeeded while it was recorded: %s", told(first.Exit, first.Output)).
			Hint("try it by hand against: safe-run --complain %s", strings.Join(slices.Concat(l.typed, l.words), " "))
	}
	if broke {
		notice(fmt.Sprintf("the program failed while it was recorded, with exit code %d: the profile may lack what it did not come to", first.Exit))
	}
	notice("recorded, not proved: with --check COMMAND each right would be taken away in turn")
	return l.write(p)
}

func (l *lesson) proved(p learn.Proof) error {
	for i := range p.Profile.Recorded {
		p.Profile.Recorded[i].Proved = true
	}
	for _, line := range p.Summary() {
		notice(line)
	}
	return l.write(p.Profile)
}

// lastLine is the last line of a text that is not empty.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return printable(lines[len(lines)-1])
}

// image fetches the image, if need be, and tells what it asks for.
func (l *lesson) image(ctx context.Context) (spec.Image, error) {
	if err := fetchable(&l.policy.Workload); err != nil {
		return spec.Image{}, err
	}
	s, err := connect(ctx, l.address, l.namespace, dialAhead())
	if err != nil {
		return spec.Image{}, err
	}
	return image(ctx, s, &l.policy.Workload)
}

// options are what a candidate is made by.
func (l *lesson) options(had learn.Had) learn.Options {
	allowed := policy.GrantableCapabilities(l.policy)
	return learn.Options{
		Grantable: func(name string) bool { return slices.Contains(allowed, name) },
		Held:      had.Capabilities, Covered: targets(had.Mounts),
	}
}

// write prints the profile, or puts it into the file asked for, with the
// rights of the caller.
func (l *lesson) write(p profiles.Profile) error {
	text, err := p.YAML()
	if err != nil {
		return err
	}
	if l.out == "" {
		_, err := os.Stdout.Write(text)
		return err
	}
	l.written = true
	return fail.Wrap(fail.Usage, l.caller.Do(func() error {
		f, err := os.OpenFile(l.out, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0o644)
		if err != nil {
			return err
		}
		_, err = f.Write(text)
		return errors.Join(err, f.Close())
	}), "writing the profile %q", l.out)
}

// creatable says early whether the profile can be written, and whether that
// has made its file.
func creatable(path string, c *cli.Caller) (made bool, err error) {
	err = c.Do(func() error {
		const flags = os.O_WRONLY | os.O_CREATE | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY
		f, err := os.OpenFile(path, flags|os.O_EXCL, 0o644)
		if made = err == nil; errors.Is(err, os.ErrExist) {
			f, err = os.OpenFile(path, flags, 0o644)
		}
		if err != nil {
			return err
		}
		defer f.Close()
		if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
			return errors.New("it is not a regular file")
		}
		return nil
	})
	return made, fail.Wrap(fail.Usage, err, "-o %q", path)
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// imageName is the repository of an image, "" if the reference has none.
func imageName(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ""
	}
	return reference.FamiliarName(named)
}

// containerName is a name nobody else has.
func containerName() string {
	b := make([]byte, 6)
	_, _ = rand.Read(b)
	return "learn-" + hex.EncodeToString(b)
}
