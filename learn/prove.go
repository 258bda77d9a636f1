package learn

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/profiles"
	"github.com/safe-run/safe-run/spec"
)

// Trial is one run in enforce mode.
type Trial struct {
	Profile profiles.Profile
	What    string // is tried, for people
}

// Outcome is what a trial came to.
type Outcome struct {
	Passed    bool          // the check succeeded
	Exit      int           // of the check, or of the program if that ended first
	Output    string        // the last of what the failed one printed; hostile
	Took      time.Duration // until the check succeeded
	Recording *Recording    // what was refused; nil: not recorded
}

// Runner runs trials. An error ends the proof; a check that fails is none.
type Runner interface {
	Try(ctx context.Context, t Trial) (Outcome, error)
}

// Proof is a profile each right of which is needed by the check.
type Proof struct {
	Profile profiles.Profile
	Removed []Removed     // the check passes without these
	Added   []string      // what the recording did not show and a trial did
	Trials  int           // runs made
	Took    time.Duration // of the last run, until the check succeeded
}

// Removed is a right the profile does without.
type Removed struct {
	Right string // CAP_NAME, a directory, "the list of system calls"
	Why   string
}

// Summary tells a proof to people, one line each.
func (p Proof) Summary() (lines []string) {
	for _, a := range p.Added {
		lines = append(lines, "added: "+a)
	}
	for _, r := range p.Removed {
		lines = append(lines, "removed: "+r.Right+": "+r.Why)
	}
	for _, c := range p.Profile.Capabilities {
		lines = append(lines, "needed: --cap-add "+plainName(c.Name)+proofOf(c.Evidence))
	}
	for _, w := range p.Profile.Writable {
		lines = append(lines, "needed: writing to "+shown(w.Path)+proofOf(w.Evidence))
	}
	return append(lines, fmt.Sprintf("proved in %d runs", p.Trials))
}

func proofOf(e *profiles.Evidence) string {
	if e == nil || e.Proof == "" {
		return ""
	}
	return ": " + e.Proof
}

// maxGrowth is how often a candidate that fails is given what it lacked.
const maxGrowth = 5

const passesWithout = "the check passes without it"

// Prove enforces a candidate and takes each of its learned rights away in
// turn; only those without which the check fails stay. What the user's own
// flags mounted is not tried.
//
// A candidate that fails is given what its trial shows to be missing, at most
// five times. If that does not help the error has kind Conflict, and the
// explanation of the last trial as its hint. progress is told each trial. The
// number of trials is bounded by the rights there are.
func Prove(ctx context.Context, r Result, run Runner, progress func(string)) (Proof, error) {
	p := prover{ctx: ctx, r: r, run: run, progress: progress, kept: map[string]int{}, Proof: Proof{Profile: cloned(r.Profile)}}
	if err := p.settle(); err != nil {
		return p.Proof, err
	}
	// What was needed beside a right that has gone since may be needed no more:
	// a program that cannot do one thing may leave out the next.
	for removed := -1; removed < len(p.Removed); {
		removed = len(p.Removed)
		if err := p.capabilities(); err != nil {
			return p.Proof, err
		}
		if err := p.writable(); err != nil {
			return p.Proof, err
		}
	}
	err := p.last()
	return p.Proof, err
}

type prover struct {
	Proof
	ctx      context.Context // of the one call of Prove
	r        Result
	run      Runner
	progress func(string)
	kept     map[string]int // rights by their words, and how many others had gone when they were tried
}

// settled says of a right that it was tried, and that nothing has gone since.
func (p *prover) settled(right string) bool {
	n, tried := p.kept[right]
	return tried && n == len(p.Removed)
}

// try makes one trial; left are those still to come at least, this one
// included.
func (p *prover) try(profile profiles.Profile, what string, left int) (Outcome, error) {
	if err := p.ctx.Err(); err != nil {
		return Outcome{}, &fail.Error{Kind: fail.Interrupted, Signal: int(unix.SIGINT), Msg: "the proof was not finished", Err: err}
	}
	p.Trials++
	profile.Seccomp = narrowed(profile)
	out, err := p.run.Try(p.ctx, Trial{Profile: profile, What: what})
	if fail.KindOf(err) == fail.Interrupted {
		return out, err // its signal makes the exit code
	}
	if err != nil {
		return out, fail.Wrap(fail.KindOf(err), err, "proof %d: %s", p.Trials, what)
	}
	word := "the check fails"
	if out.Passed {
		word = "the check passes"
	}
	p.progress(fmt.Sprintf("proof %d/%d: %s: %s", p.Trials, p.Trials+left-1, what, word))
	return out, nil
}

// narrowed gives the list of system calls without those the filter only
// permits with a capability the profile has not got: they would be an error.
func narrowed(p profiles.Profile) *profiles.SeccompUse {
	if p.Seccomp == nil || len(p.Seccomp.Allow) == 0 {
		return p.Seccomp
	}
	s := *p.Seccomp
	s.Allow = permittedCalls(s.Allow, capabilityNames(p))
	return &s
}

// remaining are the trials of rights still to come, as far as can be told, and
// the last one.
func (p *prover) remaining() int {
	n := 1
	for _, c := range p.Profile.Capabilities {
		if !p.settled("CAP_" + plainName(c.Name)) {
			n++
		}
	}
	for _, w := range p.Profile.Writable {
		if !p.ofUser(w.Path) && !p.settled(w.Path) {
			n++
		}
	}
	return n
}

func (p *prover) ofUser(target string) bool {
	return slices.ContainsFunc(p.r.base.Writable, func(w profiles.Writable) bool { return w.Path == target })
}

// settle finds a profile with which the check passes.
func (p *prover) settle() error {
	var out Outcome
	for try := 0; ; try++ {
		what := "the candidate"
		if try > 0 {
			what = "with " + p.Added[len(p.Added)-1]
		}
		var err error
		if out, err = p.try(p.Profile, what, 1+p.remaining()); err != nil || out.Passed {
			return err
		}
		if try == maxGrowth || out.Recording == nil {
			break
		}
		added := p.grow(*out.Recording)
		if len(added) == 0 {
			break
		}
		p.Added = append(p.Added, strings.Join(added, ", "))
	}
	// What the recording cannot know: a call made by chance, a peak not reached.
	for _, looser := range []struct {
		right string
		has   bool
		drop  func(*profiles.Profile)
	}{
		{"the rules for AppArmor", p.Profile.AppArmor != nil && p.r.base.AppArmor == nil, func(q *profiles.Profile) { q.AppArmor = nil }},
		{"the list of system calls", p.Profile.Seccomp != nil && p.r.base.Seccomp == nil, func(q *profiles.Profile) { q.Seccomp = nil }},
		{"the learned limits", p.Profile.Limits != p.r.base.Limits, func(q *profiles.Profile) { q.Limits = p.r.base.Limits }},
		{"both", p.Profile.Seccomp != nil && p.r.base.Seccomp == nil && p.Profile.Limits != p.r.base.Limits, func(q *profiles.Profile) {
			q.Seccomp, q.Limits = nil, p.r.base.Limits
		}},
	} {
		if !looser.has {
			continue
		}
		without := cloned(p.Profile)
		looser.drop(&without)
		got, err := p.try(without, "without "+looser.right, 1+p.remaining())
		if err != nil {
			return err
		}
		if got.Passed {
			right := looser.right
			if right == "both" {
				right = "the list of system calls, and the learned limits"
			}
			p.Profile = without
			p.Removed = append(p.Removed, Removed{right, "the check fails with it, and nothing shows what it lacks"})
			return nil
		}
	}
	e := fail.New(fail.Conflict, "the check fails with the learned profile: %s", failure(out))
	if out.Recording != nil {
		had := out.Recording.Had
		lines := Explain(*out.Recording, Context{
			Capabilities: capabilityNames(p.Profile), Mounts: had.Mounts, Memory: had.Memory, Pids: had.Pids,
			OwnSeccomp: p.Profile.Seccomp != nil, Egress: had.Egress, Granted: p.r.grantable,
		})
		e = e.Hint("%s", strings.Join(lines[:min(3, len(lines))], "\n"))
	}
	return e
}

// capabilities takes one after the other away. Those that another one can
// stand in for are tried first, the widest before all.
func (p *prover) capabilities() error {
	var order []string
	for _, c := range p.Profile.Capabilities {
		if name := plainName(c.Name); !p.settled("CAP_" + name) {
			order = append(order, name)
		}
	}
	slices.SortStableFunc(order, func(a, b string) int { return width(b) - width(a) })
	for _, name := range order {
		is := func(c profiles.Capability) bool { return plainName(c.Name) == name }
		without := cloned(p.Profile)
		without.Capabilities = slices.DeleteFunc(without.Capabilities, is)
		out, err := p.try(without, "without "+name, p.remaining())
		if err != nil {
			return err
		}
		if out.Passed {
			p.Profile = without
			p.Removed = append(p.Removed, Removed{"CAP_" + name, passesWithout + stillAsked(out.Recording, "CAP_"+name)})
			continue
		}
		c := &p.Profile.Capabilities[slices.IndexFunc(p.Profile.Capabilities, is)]
		c.Evidence = proved(c.Evidence, out)
		p.kept["CAP_"+name] = len(p.Removed)
	}
	p.Profile.Seccomp = narrowed(p.Profile)
	return nil
}

// stillAsked says that a program went on without a capability it was refused:
// it may have stayed root, for example, which its check does not see.
func stillAsked(rec *Recording, name string) string {
	if rec == nil {
		return ""
	}
	for _, c := range rec.Capabilities {
		if c.Name == name && c.Refused && !c.Host {
			return fmt.Sprintf(", though %s was refused to %s (%s): see that it does not go on with more than it should", shown(c.Syscall), shown(c.Process), times(c.Count))
		}
	}
	return ""
}

// width orders the trials: the widest rights first, so that of two that would
// do the narrower one stays.
func width(name string) int {
	switch {
	case !spec.FreeCapability("CAP_" + name):
		return 2
	case name == "DAC_OVERRIDE":
		return 1
	}
	return 0
}

// writable takes one learned directory after the other away.
func (p *prover) writable() error {
	var order []string
	for _, w := range p.Profile.Writable {
		if !p.ofUser(w.Path) && !p.settled(w.Path) {
			order = append(order, w.Path)
		}
	}
	for _, dir := range order {
		is := func(w profiles.Writable) bool { return w.Path == dir }
		without := cloned(p.Profile)
		without.Writable = slices.DeleteFunc(without.Writable, is)
		out, err := p.try(without, "without writing to "+shown(dir), p.remaining())
		if err != nil {
			return err
		}
		if out.Passed {
			p.Profile = without
			p.Removed = append(p.Removed, Removed{shown(dir), passesWithout})
			continue
		}
		w := &p.Profile.Writable[slices.IndexFunc(p.Profile.Writable, is)]
		w.Evidence = proved(w.Evidence, out)
		p.kept[dir] = len(p.Removed)
	}
	return nil
}

// last runs the finished profile once more: one that passed by luck on the
// way is found here.
func (p *prover) last() error {
	out, err := p.try(p.Profile, "the finished profile", 1)
	if err != nil {
		return err
	}
	p.Took = out.Took
	if !out.Passed {
		return fail.New(fail.Conflict, "the check fails with the finished profile, and passed with it before: %s", failure(out)).
			Hint("the check does not always pass; let it wait for what it needs, and learn again")
	}
	return nil
}

func proved(e *profiles.Evidence, out Outcome) *profiles.Evidence {
	if e == nil {
		e = &profiles.Evidence{}
	}
	with := *e
	with.Proof = "without it the check fails: " + failure(out)
	return &with
}

// failure says how a trial failed: the code, and the last line of its output,
// or the last one that tells of a refusal.
func failure(out Outcome) string {
	lines := strings.Split(strings.TrimRight(out.Output, " \t\r\n"), "\n")
	text := lines[len(lines)-1]
	for _, line := range slices.Backward(lines) {
		if refusal(line) {
			text = line
			break
		}
	}
	text = strings.TrimSpace(text)
	if len(text) > maxLine {
		text = strings.ToValidUTF8(text[:maxLine], "") + "..."
	}
	s := fmt.Sprintf("exit %d", out.Exit)
	if text = strings.TrimSpace(noted(text)); text != "" {
		s += ": " + text
	}
	return s
}

// refusal says whether a line speaks of a want of rights or room, in the words
// of the C library or by the error's name: what comes after it may be a trace.
func refusal(line string) bool {
	return slices.ContainsFunc([]string{
		"ermission denied", "peration not permitted", "ead-only file system", "annot allocate memory", "o space left on device", "esource temporarily unavailable",
		"EACCES", "EPERM", "EROFS", "ENOMEM", "ENOSPC", "Error: ",
	}, func(word string) bool { return strings.Contains(line, word) })
}

const maxLine = 120 // bytes of a program's output in a profile

// cloned gives a profile whose rights can be changed without the other's.
func cloned(p profiles.Profile) profiles.Profile {
	p.Capabilities = slices.Clone(p.Capabilities)
	p.Writable = slices.Clone(p.Writable)
	if p.Seccomp != nil {
		s := *p.Seccomp
		s.Allow = slices.Clone(s.Allow)
		p.Seccomp = &s
	}
	return p
}
