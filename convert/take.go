package convert

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/internal/argv"
	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/policy"
	"github.com/safe-run/safe-run/profiles"
	"github.com/safe-run/safe-run/spec"
)

// maxFlags bounds the flags of a container that is imported: each is tried
// together with the others.
const maxFlags = 500

// Aside moves the flags that name files of variables or labels from Flags to
// Files. Who examines a document must not have the files that it names read with
// his rights and shown: the command line names them as the document does.
// Relative paths begin at dir, the document's directory.
func (c Found) Aside(dir string) Found {
	var flags, files []string
	for _, word := range c.Flags {
		name, file, _ := strings.Cut(word, "=")
		if name != "--env-file" && name != "--label-file" || file == "" {
			flags = append(flags, word)
			continue
		}
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		files = append(files, name+"="+file)
	}
	c.Flags, c.Files = flags, slices.Concat(c.Files, files)
	return c
}

// Readable leaves out the flags of a container that safe-run cannot honour, and
// says why. What is left is a command line that can be read.
func Readable(c Found, o Options) (Found, []Loss, error) {
	var losses []Loss
	if len(c.Flags) > maxFlags {
		return c, nil, fail.New(fail.Usage, "%s has %d flags, and at most %d are read", c.Name, len(c.Flags), maxFlags)
	}
	readable := func(flags []string) error {
		_, err := cli.Parse(slices.Concat(flags, []string{"--", c.Image}, c.Args), o.Context)
		return err
	}
	if err := readable(nil); err != nil {
		return c, nil, fail.Wrap(fail.KindOf(err), err, "%s", c.Name)
	}
	var kept []string
	for _, word := range c.Flags {
		err := readable([]string{word})
		if err != nil && len(kept) > 0 && readable(slices.Concat(kept, []string{word})) == nil {
			err = nil // it needs one of the others
		}
		if err == nil {
			if err = readable(slices.Concat(kept, []string{word})); err == nil || readable(c.Flags) == nil {
				kept = append(kept, word)
				continue
			}
		}
		losses = append(losses, Loss{Container: c.Name, What: word, Why: because(err)})
	}
	c.Flags = kept
	return c, losses, nil
}

// because is an error in one sentence with its next step.
func because(err error) string {
	var e *fail.Error
	if errors.As(err, &e) && e.Next != "" {
		return err.Error() + " (" + e.Next + ")"
	}
	return err.Error()
}

// Permitted leaves out the flags that no site can grant, and says what they
// would give away. Refusals that a site can lift are given too, and what they
// are about stays.
func Permitted(c Found, site policy.Site, o Options) (Found, []Loss, []policy.Refusal, error) {
	var losses []Loss
	drop := func(i int, r policy.Refusal) {
		losses = append(losses, Loss{Container: c.Name, What: c.Flags[i], Why: "refused: it would give away " + uncapital(r.GivesAway) + "; instead: " + r.Safer})
		c.Flags = slices.Delete(slices.Clone(c.Flags), i, i+1)
	}
	for range len(c.Flags) + 2 {
		read, err := c.Container(o)
		if err != nil {
			return c, nil, nil, err
		}
		refusals := policy.ReviewSpelled(read.Workload, site)
		final := slices.DeleteFunc(slices.Clone(refusals), func(r policy.Refusal) bool { return r.Grant != "" })
		if len(final) == 0 {
			return c, losses, refusals, nil
		}
		before := len(c.Flags)
		for i := before - 1; i >= 0; i-- { // each that is refused alone, at once
			alone := c
			alone.Flags = c.Flags[i : i+1]
			read, err := alone.Container(o)
			if err != nil {
				continue
			}
			of := policy.ReviewSpelled(read.Workload, site)
			if at := slices.IndexFunc(final, func(r policy.Refusal) bool { return slices.Contains(of, r) }); at >= 0 {
				drop(i, final[at])
			}
		}
		if len(c.Flags) < before {
			continue
		}
		i := c.culprit(final[0], site, o)
		if i < 0 {
			return c, losses, refusals, fail.New(fail.Refused, "%s: %s: %s", c.Name, final[0].Flag, final[0].GivesAway).Hint("%s", final[0].Safer)
		}
		drop(i, final[0])
	}
	return c, losses, nil, fail.New(fail.Internal, "%s: refusals that do not end", c.Name)
}

// culprit finds the flag without which a refusal is not there.
func (c Found) culprit(r policy.Refusal, site policy.Site, o Options) int {
	for i := range c.Flags {
		less := c
		less.Flags = slices.Delete(slices.Clone(c.Flags), i, i+1)
		read, err := less.Container(o)
		if err == nil && !slices.Contains(policy.ReviewSpelled(read.Workload, site), r) {
			return i
		}
	}
	return -1
}

func uncapital(s string) string {
	if len(s) > 1 && s[0] >= 'A' && s[0] <= 'Z' && (s[1] < 'A' || s[1] > 'Z') {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}

// Taken is a container as safe-run runs it: a profile, and the rest of the
// command line.
type Taken struct {
	Name    string
	Profile profiles.Profile
	Seccomp []byte   // file the profile names, SeccompName(Name); nil: none
	Flags   []string // that are no part of a profile, each one word
	Files   []string // as Found.Files
	Image   string
	Args    []string
}

// Empty says whether the profile asks for nothing.
func (t Taken) Empty() bool { return len(t.Profile.Flags()) == 0 && t.Profile.Seccomp == nil }

// Take makes a profile, and the shortest command line, of what was found.
func Take(c Found, o Options) (Taken, error) {
	read, err := c.Container(o)
	if err != nil {
		return Taken{}, err
	}
	typed := read.Workload
	if _, err := read.settle(o); err != nil {
		return Taken{}, err
	}
	w := read.Workload
	t := Taken{Name: c.Name, Files: c.Files, Image: w.Image, Args: w.Args}
	if w.Seccomp != nil {
		t.Seccomp, w.Seccomp = w.Seccomp.JSON, nil
		w.SecurityOpts = slices.DeleteFunc(w.SecurityOpts, func(s string) bool { return strings.HasPrefix(s, "seccomp=/") })
	}
	// How it is started is no part of what it may do, but of the command line.
	w.Remove, w.Detach, w.Interactive, w.TTY, w.CIDFile = typed.Remove, typed.Detach, typed.Interactive, typed.TTY, typed.CIDFile
	words, err := argv.Flags(w)
	if err != nil {
		return Taken{}, err
	}
	given, _, err := cli.Split(words)
	if err != nil {
		return Taken{}, err
	}
	again, err := cli.Parse(words, o.Context)
	if err != nil {
		return Taken{}, err
	}
	profile, left := argv.Profile(given, again.Workload)
	for _, g := range given { // what argv.Profile leaves to who runs it
		if slices.Contains([]string{"rm", "restart", "name", "cidfile", "pull"}, g.Long) {
			left = append(left, g)
		}
	}
	for _, g := range left {
		t.Flags = append(t.Flags, g.Word())
	}
	if t.Seccomp != nil {
		profile.Seccomp = &profiles.SeccompUse{File: SeccompName(c.Name)}
	}
	profile.Name = c.Name
	t.Profile = profile
	if t.Empty() {
		return t, nil
	}
	return t, t.same(w, o)
}

// same makes sure that the profile and the flags ask for the same container.
func (t Taken) same(want spec.Workload, o Options) error {
	o.Context.Profile = func(string, *cli.Invocation) (cli.Profile, error) {
		return cli.Profile{Shown: t.Name, Flags: t.Profile.Flags()}, nil
	}
	inv, err := cli.Parse(slices.Concat([]string{"--profile=" + t.Name}, t.Flags, []string{"--", t.Image}, t.Args), o.Context)
	if err != nil {
		return fail.Wrap(fail.Internal, err, "%s: the profile and the flags that are left", t.Name)
	}
	a, err1 := argv.Flags(Normal(want, o.Limits))
	b, err2 := argv.Flags(Normal(inv.Workload, o.Limits))
	if err1 != nil || err2 != nil {
		return fail.New(fail.Internal, "%s: the profile and the flags that are left: %v, %v", t.Name, err1, err2)
	}
	if missing, extra := difference(a, b); len(missing)+len(extra) > 0 {
		return fail.New(fail.Internal, "%s: the profile and the flags that are left ask for another container: %.200q is missing and %.200q new", t.Name, missing, extra)
	}
	return nil
}

// WithoutProfile is the command line with all in it; seccomp is the path of the
// filter's file, if there is one.
func (t Taken) WithoutProfile(seccomp string) []string {
	t.Flags = slices.Concat(t.Profile.Flags(), t.Flags)
	if t.Seccomp != nil {
		t.Flags = append(t.Flags, "--security-opt=seccomp="+seccomp)
	}
	return t.Line("")
}

// Line is the command line, with the profile in a file, "" for none.
func (t Taken) Line(profile string) []string {
	words := []string{"safe-run", "run"}
	if profile != "" {
		words = append(words, "--profile", profile)
	}
	short := map[string]cli.Flag{}
	for _, f := range append(cli.Table(), cli.Own()...) {
		short[f.Long] = f
	}
	for _, word := range slices.Concat(t.Flags, t.Files) {
		name, value, _ := strings.Cut(strings.TrimPrefix(word, "--"), "=")
		f, long := short[name], "--"+name
		if f.Short != "" {
			long = "-" + f.Short
		}
		switch {
		case f.Type == cli.Bool && value == "true", f.Type == cli.Bool && value == "":
			words = append(words, long)
		case f.Type == cli.Bool:
			words = append(words, "--"+name+"="+value)
		default:
			words = append(words, long, value)
		}
	}
	if strings.HasPrefix(t.Image, "-") {
		words = append(words, "--")
	}
	return append(append(words, t.Image), t.Args...)
}
