package cli

import (
	"errors"
	"fmt"
	"slices"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// Profile is a profile as the command line takes it: flags, and what no flag
// can say.
type Profile struct {
	// Name is what the site's policy may grant to; "" for a file of the
	// caller's, which can call itself anything.
	Name     string
	Shown    string   // as --profile named it
	Image    string   // repository, or repository@digest, it is for; "": any
	Flags    []string // each one word: --NAME=VALUE
	Seccomp  []byte   // docker's JSON; nil: none
	AppArmor *spec.AppArmorRules
	// AppArmorName is a profile the site has loaded.
	AppArmorName string
}

// profileSet is what a profile's flags have set, so that it can be told from what
// was typed.
type profileSet struct {
	mounts, publish, capabilities, networks, egress, devices int
	health                                                   spec.Healthcheck
}

// ProfileSeccomp stands in the security options of a workload for the filter
// its profile brings.
const ProfileSeccomp = "seccomp=profile"

// setProfile keeps the name; run applies it.
func (p *parser) setProfile(v string) error {
	if err := cleanWord(v); err != nil {
		return err
	}
	if v == "" {
		return errors.New("it takes a name or a file")
	}
	p.profileRef = v
	return nil
}

// applyProfile starts over with the flags of the profile in front of those
// typed, so that of two the typed one counts.
func (p *parser) applyProfile(words []string) (flags []string, err error) {
	if p.ctx.Profile == nil {
		return nil, fail.New(fail.Usage, "profiles cannot be read here")
	}
	if len(words) > 0 && clean(words[0]) == nil {
		p.w.Image = words[0]
	}
	if err := p.finishPlatform(); err != nil {
		return nil, fail.New(fail.Usage, "%s", err)
	}
	profile, err := p.ctx.Profile(p.profileRef, p.inv)
	if err != nil {
		return nil, fail.Wrap(fail.KindOf(err), err, "--profile")
	}
	*p.inv = *newInvocation()
	*p = parser{ctx: p.ctx, inv: p.inv, w: &p.inv.Workload, pending: map[string]string{}, profile: &profile}
	p.inv.Profile = &profile
	p.w.Profile = profile.Name
	return profile.Flags, nil
}

// noteProfile remembers what the profile has set.
func (p *parser) noteProfile() {
	p.given = profileSet{
		mounts: len(p.w.Mounts), publish: len(p.w.Publish), capabilities: len(p.w.CapAdd),
		networks: len(p.networks), egress: len(p.w.Egress.Allow), devices: len(p.w.Devices), health: p.w.Health,
	}
	p.egressSet = false
	p.profileEgress, p.w.Egress = p.w.Egress, spec.Egress{}
}

// settleProfile takes out what a profile asked for and a flag says otherwise.
func (p *parser) settleProfile() error {
	if p.profile == nil {
		return nil
	}
	w := p.w
	w.Mounts = replaced(w.Mounts, p.given.mounts, func(a, b spec.Mount) bool { return a.Target == b.Target })
	w.Devices = replaced(w.Devices, p.given.devices, func(a, b spec.Device) bool { return a.Container == b.Container })
	w.Publish = replaced(w.Publish, p.given.publish, func(a, b spec.Publish) bool {
		return a.Ports.Proto == b.Ports.Proto && a.Ports.First <= b.Ports.Last && b.Ports.First <= a.Ports.Last
	})
	typed := p.networks[p.given.networks:]
	if len(typed) > 0 {
		p.networks = typed
	}
	none := len(typed) == 1 && networkKind(typed[0].use.Name) == netNone
	if !p.egressSet && !none { // a list of where no network leads says nothing
		w.Egress = p.profileEgress
	}
	if p.noHealth && sameHealth(w.Health, p.given.health) {
		w.Health = spec.Healthcheck{}
	}
	// Dropping ALL is what everything starts from; a name takes that one away.
	own := w.CapAdd[p.given.capabilities:]
	kept := slices.DeleteFunc(slices.Clone(w.CapAdd[:p.given.capabilities]), func(c string) bool {
		return slices.ContainsFunc(w.CapDrop, func(d string) bool { return sameCapability(c, d) })
	})
	w.CapAdd = append(kept, own...)
	if p.profile.Seccomp != nil && p.seccompPath == "" {
		w.Seccomp = &spec.SeccompFile{Path: p.profile.Shown, JSON: p.profile.Seccomp}
		w.SecurityOpts = append(w.SecurityOpts, ProfileSeccomp)
	}
	if !p.apparmorSet {
		w.AppArmor = p.profile.AppArmor
		if n := p.profile.AppArmorName; n != "" {
			w.SecurityOpts = append(w.SecurityOpts, "apparmor="+n)
		}
	}
	return nil
}

// replaced leaves out those of the first n that one of the others stands for.
func replaced[T any](all []T, n int, same func(a, b T) bool) []T {
	var out []T
	for i, a := range all {
		if i < n && slices.ContainsFunc(all[n:], func(b T) bool { return same(a, b) }) {
			continue
		}
		out = append(out, a)
	}
	return out
}

func sameCapability(a, b string) bool {
	x, err1 := spec.Capability(a)
	y, err2 := spec.Capability(b)
	return err1 == nil && err2 == nil && x == y
}

func sameHealth(a, b spec.Healthcheck) bool {
	return slices.Equal(a.Test, b.Test) && a.Interval == b.Interval && a.Timeout == b.Timeout &&
		a.StartPeriod == b.StartPeriod && a.StartInterval == b.StartInterval && a.Retries == b.Retries
}

// checkObserved: who asks for a report waits for it.
func (p *parser) checkObserved() error {
	flag := ""
	switch {
	case p.inv.Complain:
		flag = "--complain"
	case p.inv.Explain:
		flag = "--explain"
	default:
		return nil
	}
	switch {
	case p.w.Detach:
		return fmt.Errorf("conflicting options: %s reports when the container ends: run it without -d", flag)
	case p.w.Restart.Restarts() && p.inv.Complain:
		return errors.New("conflicting options: what --complain allows holds for one run, so --restart cannot repeat it")
	}
	// Nor can start, which would have nobody watch: the container goes with the run.
	p.w.Remove = p.w.Remove || p.inv.Complain
	return nil
}

func (p *parser) setRecordFD(v string) error {
	var n int
	if _, err := fmt.Sscanf(v, "%d", &n); err != nil || n < 1 || n > 1<<16 || fmt.Sprint(n) != v {
		return errors.New("it takes the number of an open descriptor")
	}
	p.inv.RecordFD = n
	return nil
}

func profileFlags() []Flag {
	return []Flag{
		{
			Long: "profile", Type: String, Group: groupOurs, Arg: "NAME|FILE|image:[PATH]",
			Usage: "Ask for what a profile lists; flags win over it (see: safe-run profile ls)", set: (*parser).setProfile,
		},
		{
			Long: "explain", Type: Bool, Group: groupOurs,
			Usage: "At the end, tell what was refused and which flag would allow it", set: func(p *parser, v string) error { return parseBool(v, &p.inv.Explain) },
		},
		{
			Long: "complain", Type: Bool, Group: groupOurs,
			Usage: "Allow what the site's policy allows, and tell at the end what was not asked for", set: func(p *parser, v string) error { return parseBool(v, &p.inv.Complain) },
		},
		{
			Long: "record-fd", Type: Int, Group: groupOurs, Arg: "N", Visibility: Hidden,
			Usage: "Write the recording of --explain or --complain to a descriptor, as JSON", set: (*parser).setRecordFD,
		},
	}
}
