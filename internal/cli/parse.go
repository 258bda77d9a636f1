// Package cli reads the command line of docker run, and the few flags
// safe-run adds to it, into a spec.Workload.
//
// One table says for each long name what becomes of it. Nothing given on the
// command line is ever ignored: it ends up in the Workload, or in an error.
// The package decides nothing about privileges; the policy does.
package cli

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// Context is what Parse may know of the world.
type Context struct {
	LookupEnv func(name string) (string, bool)
	Cwd       string // absolute; relative paths start here
	// ReadFile reads a whole file of at most max bytes with the rights of
	// the caller.
	ReadFile func(path string, max int64) ([]byte, error)
	// Profile finds the profile of --profile for a command line of which the
	// flags and the image are known; nil: there are none.
	Profile func(ref string, of *Invocation) (Profile, error)
}

// NewContext gives the context of this process. Under sudo, files are read
// with the rights of the user who called it.
func NewContext() (Context, error) {
	cwd, err := os.Getwd()
	if err != nil {
		return Context{}, fail.New(fail.HostCannot, "the directory this was started in cannot be found: %v", err).
			Hint("it may have been removed: cd to another one")
	}
	caller, err := CallerOf(os.Geteuid(), os.LookupEnv)
	if err != nil {
		return Context{}, err
	}
	return Context{LookupEnv: os.LookupEnv, Cwd: cwd, ReadFile: caller.ReadFile}, nil
}

// Invocation is a command line, read.
type Invocation struct {
	Workload  spec.Workload
	DryRun    string // "", "json" or "summary"
	Refusals  string // "text" or "json"
	Address   string // socket of containerd, "" if not given
	Namespace string // containerd namespace, "" if not given
	Help      bool   // --help: nothing else was looked at
	Notices   []string

	Profile  *Profile // of --profile, nil if not given
	Explain  bool     // tell at the end what was refused
	Complain bool     // allow what the site does, and tell
	RecordFD int      // where the recording goes as well; 0: nowhere
}

func newInvocation() *Invocation {
	return &Invocation{Refusals: "text", Workload: spec.Workload{SigProxy: true, Pull: "missing"}}
}

// Parse reads the words after the verb. Flags end at the first word that is
// not one (the image); all after it belongs to the container.
//
// An error is a *fail.Error of kind Usage for flags and values, Conflict for
// two mounts at one target, NotFound for a missing file, or NoStatus where
// docker exits with 1: no IMAGE, -d with -a, impossible --detach-keys. The
// Invocation is never nil: with an error it holds what was read up to there,
// so that Refusals can be followed.
func Parse(args []string, ctx Context) (*Invocation, error) {
	p := &parser{ctx: ctx, inv: newInvocation(), pending: map[string]string{}}
	p.w = &p.inv.Workload
	return p.inv, p.run(args)
}

// parser is the state of one Parse.
type parser struct {
	ctx Context
	inv *Invocation
	w   *spec.Workload
	cur *Flag // the flag whose setter runs

	envFiles, labelFiles []string
	flagEnv              []spec.EnvVar
	flagLabels           [][2]string
	networks             []network
	first                spec.NetworkUse // --ip and its siblings, for the first network
	egressSet            bool
	seccompPath          string
	platformSet          bool
	apparmorSet          bool
	noHealth             bool

	profileRef    string
	profile       *Profile // once its flags are applied
	given         profileSet
	profileEgress spec.Egress

	// pending are the flags given that cannot be honoured, with the reason,
	// told together at the end. A later harmless value of a flag that takes
	// one takes it out again.
	pending map[string]string
}

// cannot notes that the current flag cannot be honoured; why "" is the
// reason the table gives.
func (p *parser) cannot(why string) {
	if why == "" {
		why = p.cur.Why
	}
	p.pending[p.cur.Long] = why
}

// can takes cannot back.
func (p *parser) can() { delete(p.pending, p.cur.Long) }

// value is a flag as pflag sees it.
type value struct {
	p *parser
	f *Flag
}

func (v *value) String() string { return "" }
func (v *value) Type() string   { return string(v.f.Type) }

func (v *value) Set(s string) error {
	v.p.cur = v.f
	if v.f.Disposition == NoEffect {
		v.p.inv.Notices = append(v.p.inv.Notices, fmt.Sprintf("Flag --%s has been deprecated, %s", v.f.Long, v.f.Why))
	}
	return v.f.set(v.p, s)
}

func (p *parser) run(args []string) error {
	table := append(Own(), Table()...)
	fs := p.flagSet(table)
	if word := testWord(args, table); word != "" {
		return fail.New(fail.Usage, "unknown flag: %s", printable(word)).
			Hint("write -t -e NAME apart")
	}
	if err := fs.Parse(args); err != nil {
		return p.flagError(err, table)
	}
	if p.inv.Help {
		return nil
	}
	if p.profileRef != "" {
		first, err := p.applyProfile(fs.Args())
		if err != nil {
			return err
		}
		if err := p.flagSet(table).Parse(first); err != nil {
			return fail.Wrap(fail.Usage, p.flagError(err, table), "profile %s", quote(p.profile.Shown))
		}
		p.noteProfile()
		if err := fs.Parse(args); err != nil { // the setters work on p as it is now
			return p.flagError(err, table)
		}
	}
	words := fs.Args()
	if len(words) == 0 {
		return fail.New(fail.NoStatus, "requires at least 1 argument: IMAGE").
			Hint("name the image to run, for example: busybox true")
	}
	if err := clean(words[0]); err != nil || words[0] == "" {
		return fail.New(fail.Usage, "invalid image reference %s", quote(words[0]))
	}
	p.w.Image = words[0]
	if len(words) > 1 {
		p.w.Args = slices.Clone(words[1:])
	}
	for i, a := range p.w.Args {
		if strings.IndexByte(a, 0) >= 0 {
			return fail.New(fail.Usage, "argument %d of the command contains a NUL", i+1)
		}
	}
	for _, step := range finish {
		if err := step(p); err != nil {
			var fe *fail.Error
			if errors.As(err, &fe) {
				return err
			}
			return fail.New(fail.Usage, "%s", err)
		}
	}
	return p.unsupported()
}

// flagSet gives all flags to pflag.
func (p *parser) flagSet(table []Flag) *pflag.FlagSet {
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	fs.SetInterspersed(false)
	fs.Usage = func() {}
	for i := range table {
		f := &table[i]
		pf := fs.VarPF(&value{p, f}, f.Long, f.Short, f.Usage)
		pf.NoOptDefVal = f.optional
		if f.Type == Bool {
			pf.NoOptDefVal = "true"
		}
	}
	return fs
}

// finish are the steps after all flags are known, in the order docker
// reports: what needs several flags, files, then what exits with 1.
var finish = []func(*parser) error{
	(*parser).settleProfile,
	(*parser).finishDryRun,
	(*parser).finishPlatform,
	(*parser).checkMemory,
	(*parser).checkCPU,
	(*parser).checkTargets,
	(*parser).checkHealth,
	(*parser).checkLog,
	(*parser).checkRestart,
	(*parser).finishNetworks,
	(*parser).readSeccomp,
	(*parser).finishEnv,
	(*parser).finishLabels,
	(*parser).checkAttach,
	(*parser).checkObserved,
	(*parser).checkDetachKeys,
}

// finishDryRun: what touches nothing fetches no image.
func (p *parser) finishDryRun() error {
	if p.inv.DryRun != "" {
		p.w.Pull = "never"
	}
	return nil
}

// testWord finds a word -test.* where a flag is expected. pflag skips such
// words without a trace, as it takes them for go test's; nothing given may be
// ignored here.
func testWord(args []string, table []Flag) string {
	long, short := map[string]*Flag{}, map[byte]*Flag{}
	for i := range table {
		long[table[i].Long] = &table[i]
		if table[i].Short != "" {
			short[table[i].Short[0]] = &table[i]
		}
	}
	takesNext := func(f *Flag) bool { return f != nil && f.Type != Bool && f.optional == "" }
	for i := 0; i < len(args); i++ {
		w := args[i]
		switch {
		case len(w) < 2 || w[0] != '-' || w == "--":
			return ""
		case strings.HasPrefix(w, "--"):
			if !strings.Contains(w, "=") && takesNext(long[w[2:]]) {
				i++
			}
		default:
			for j := 1; j < len(w); j++ {
				if strings.HasPrefix(w[j:], "test.") {
					return w
				}
				f := short[w[j]]
				if takesNext(f) && j == len(w)-1 {
					i++
				}
				if f == nil || takesNext(f) || (j+1 < len(w) && w[j+1] == '=') {
					break
				}
			}
		}
	}
	return ""
}

// flagError turns pflag's errors into ours, with hints.
func (p *parser) flagError(err error, table []Flag) error {
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	var bare *pflag.ValueRequiredError
	var fe *fail.Error
	switch {
	case errors.As(err, &bare) && bare.GetSpecifiedName() == "h":
		return fail.New(fail.Usage, "%s", printable(err.Error())).Hint("-h is --hostname, as in docker; for help: --help")
	case errors.As(err, &unknown):
		e := fail.New(fail.Usage, "%s", printable(err.Error()))
		if unknown.GetSpecifiedShortnames() == "" {
			e.Next = unknownHint(unknown.GetSpecifiedName(), table)
		}
		return e
	case errors.As(err, &invalid):
		name := "--" + invalid.GetFlag().Name
		shown := quote(invalid.GetValue()) + " "
		if p.cur != nil && p.cur.secret {
			shown = ""
		}
		e := fail.New(fail.Usage, "invalid argument %sfor %q flag: %s", shown, name, printable(errors.Unwrap(err).Error()))
		if errors.As(err, &fe) {
			e.Kind, e.Next = fe.Kind, fe.Next
		}
		return e
	}
	return fail.New(fail.Usage, "%s", printable(err.Error()))
}

// unsupported reports all flags that cannot be honoured as one error.
func (p *parser) unsupported() error {
	if len(p.pending) == 0 {
		return nil
	}
	byReason := map[string][]string{}
	for name, why := range p.pending {
		byReason[why] = append(byReason[why], "--"+name)
	}
	var parts []string
	for _, why := range slices.Sorted(maps.Keys(byReason)) {
		slices.Sort(byReason[why])
		parts = append(parts, strings.Join(byReason[why], ", ")+": "+why)
	}
	return fail.New(fail.Usage, "not supported: %s", strings.Join(parts, "; "))
}

// abs makes a relative path absolute from the caller's working directory.
func (p *parser) abs(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(p.ctx.Cwd, path)
}
