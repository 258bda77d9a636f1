package audit

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// drifted is a difference and how bad it is.
type drifted struct {
	Difference
	s Severity
}

// drift compares the specification with the facts, in one direction: what
// the kernel does less than it asks. Attest, for our own launches, asks for
// equality; here the program has run for long, whoever administers the host may
// have changed limits, and other runtimes write other specifications. What a
// program may change of itself (its user, smaller limits, fewer capabilities)
// and what a runtime rounds is no drift.
func (g *grader) drift() []Finding {
	if g.spec == nil || g.spec.Linux == nil || g.spec.Process == nil {
		return finding(Info, "", "there is no specification to compare with")
	}
	d := &comparison{f: g.f, spec: g.spec}
	for _, step := range []func(){d.process, d.namespaces, d.idMaps, d.label, d.rlimits, d.limits, d.devices, d.mounts, d.paths} {
		step()
	}
	if len(d.found) == 0 {
		return ok("the kernel does what the specification says")
	}
	const most = 40
	slices.SortStableFunc(d.found, func(a, b drifted) int { return cmp.Compare(b.s, a.s) })
	var out []Finding
	for _, x := range d.found[:min(most, len(d.found))] {
		out = append(out, Finding{
			Severity: x.s, Drift: true, Fact: oneLine(x.String()),
			Fix: "find out who changes containers on this host (the runtime, a plugin, docker update), and start it again",
		})
	}
	if more := len(d.found) - most; more > 0 {
		out = append(out, Finding{Severity: d.found[most].s, Drift: true, Fact: fmt.Sprintf("and %d more", more), Fix: out[0].Fix})
	}
	return out
}

type comparison struct {
	f     *Facts
	spec  *specs.Spec
	found []drifted
}

func (d *comparison) add(s Severity, what, want, got string) {
	d.found = append(d.found, drifted{Difference{what, want, got}, s})
}

func (d *comparison) namespace(kind specs.LinuxNamespaceType) (n specs.LinuxNamespace, asked bool) {
	for _, n := range d.spec.Linux.Namespaces {
		if n.Type == kind {
			return n, true
		}
	}
	return n, false
}

// comparable says whether ids and capabilities are those of the user namespace
// the specification speaks of. A container's first process can make one of its
// own and go into that.
func (d *comparison) comparable() bool {
	_, asked := d.namespace(specs.UserNamespace)
	return asked == (d.f.Namespaces["user"] == "own")
}

func (d *comparison) process() {
	p := d.spec.Process
	c := p.Capabilities
	if c == nil {
		c = &specs.LinuxCapabilities{}
	}
	most := capMask(slices.Concat(c.Bounding, c.Permitted, c.Effective, c.Inheritable, c.Ambient))
	got := d.f.drift.caps
	if over := got.all() &^ most; over != 0 && d.comparable() {
		d.add(High, "capabilities", "within "+some(capNames(most)), "also "+some(capNames(over)))
	}
	if p.NoNewPrivileges && !d.f.NoNewPrivileges {
		d.add(High, "NoNewPrivs", "1", "0")
	}
	if d.spec.Linux.Seccomp != nil && d.f.Seccomp.Mode == "disabled" {
		d.add(High, "Seccomp", "a filter", "none")
	}
	if want := p.OOMScoreAdj; want != nil && d.f.OOMScoreAdj < *want && !d.mayRaise() {
		d.add(Low, "oom_score_adj", strconv.Itoa(*want), strconv.Itoa(d.f.OOMScoreAdj))
	}
	if d.spec.Root != nil && d.spec.Root.Readonly && d.f.Root.FileSystem != "" && !d.f.Root.ReadOnly {
		d.add(High, "mount /", "ro", "rw")
	}
}

// mayRaise: its processes may raise their own limits.
func (d *comparison) mayRaise() bool {
	return d.f.drift.caps.all()&capMask([]string{"CAP_SYS_RESOURCE"}) != 0
}

func (d *comparison) namespaces() {
	for _, n := range d.spec.Linux.Namespaces {
		// One that is joined by its path may be the host's on purpose.
		if n.Path == "" && d.f.Namespaces[string(n.Type)] == "host" {
			d.add(High, "namespace "+string(n.Type), "its own", "the host's")
		}
	}
}

func (d *comparison) idMaps() {
	n, asked := d.namespace(specs.UserNamespace)
	if !asked || n.Path != "" || d.f.Namespaces["user"] != "own" {
		return
	}
	for _, m := range []struct {
		what string
		want []specs.LinuxIDMapping
		got  []IDRange
	}{{"uid_map", d.spec.Linux.UIDMappings, d.f.User.UIDMap}, {"gid_map", d.spec.Linux.GIDMappings, d.f.User.GIDMap}} {
		var want []IDRange
		for _, w := range m.want {
			want = append(want, IDRange{uint64(w.ContainerID), uint64(w.HostID), uint64(w.Size)})
		}
		order := func(a, b IDRange) int { return cmp.Compare(a.Inside, b.Inside) }
		slices.SortFunc(want, order)
		if got := slices.SortedFunc(slices.Values(m.got), order); len(want) > 0 && !slices.Equal(want, got) {
			d.add(High, m.what, fmt.Sprint(want), fmt.Sprint(got))
		}
	}
}

func (d *comparison) label() {
	p := d.spec.Process
	if want := p.ApparmorProfile; want != "" && want != "unconfined" {
		// A program may change into a part of its profile, "a//b", or be under
		// more than one, "a//&b".
		is := slices.ContainsFunc(strings.Split(d.f.LSM.Label, "//&"), func(l string) bool {
			return l == printable(want) || strings.HasPrefix(l, printable(want)+"//")
		})
		if !is || d.f.LSM.Module != "apparmor" {
			d.add(High, "AppArmor profile", want, d.f.LSM.Label)
		}
	}
	if want := p.SelinuxLabel; want != "" && !strings.Contains(want, ":spc_t:") && (d.f.LSM.Module != "selinux" || d.f.LSM.Mode == "unconfined") {
		d.add(High, "SELinux label", want, d.f.LSM.Label)
	}
}

func (d *comparison) rlimits() {
	if d.mayRaise() {
		return
	}
	for _, r := range d.spec.Process.Rlimits {
		got, known := d.f.drift.rlimits[r.Type]
		if !known || r.Hard >= math.MaxInt64 {
			continue
		}
		if got.hard < 0 || got.hard > int64(r.Hard) {
			d.add(Low, r.Type, strconv.FormatUint(r.Hard, 10), amountText(got.hard))
		}
	}
}

func amountText(n int64) string {
	if n < 0 || n == math.MaxInt64 {
		return "no limit"
	}
	return strconv.FormatInt(n, 10)
}

// limits: those of memory, swap and processes that are wider than asked for.
// Shares and CPUs are converted, rounded and moved about by runtimes, systemd
// and the kubelet.
func (d *comparison) limits() {
	r := d.spec.Linux.Resources
	if r == nil {
		return
	}
	page := int64(os.Getpagesize())
	// Some write the largest number there is for no limit.
	whole := func(n int64) int64 {
		if n > math.MaxInt64-page {
			return math.MaxInt64
		}
		return (n + page - 1) / page * page
	}
	own := d.f.drift.ownLimits
	wider := func(what string, want int64) {
		if got, ok := own[what]; ok && got > want {
			d.add(Medium, what+" limit", strconv.FormatInt(want, 10), amountText(got))
		}
	}
	limited := false
	if m := r.Memory; m != nil && m.Limit != nil && *m.Limit > 0 {
		limited = true
		wider("memory", whole(*m.Limit))
		if s := m.Swap; s != nil && *s > 0 && *s >= *m.Limit {
			want := *s
			if d.f.drift.unified {
				want -= *m.Limit
			}
			wider("swap", whole(want))
		}
	}
	if p := r.Pids; p != nil && p.Limit != nil && *p.Limit > 0 {
		limited = true
		wider("pids", *p.Limit)
	}
	if limited && d.f.drift.noController {
		d.add(Medium, "limits", "those of the specification", "the cgroup has no files for them")
	}
}

func (d *comparison) devices() {
	r := d.spec.Linux.Resources
	if r == nil || d.f.Devices.Rules != "all" {
		return
	}
	denied := false
	for _, rule := range r.Devices {
		if (rule.Type == "a" || rule.Type == "") && number(rule.Major) == "*" && number(rule.Minor) == "*" {
			denied = !rule.Allow
		}
	}
	if denied {
		d.add(High, "device rules", "all denied but some", "all allowed")
	}
}

// mounts: the flags of what is mounted where the specification has a mount. A
// mount that is not found under this spelling may be behind a link.
func (d *comparison) mounts() {
	for _, m := range d.spec.Mounts {
		at := path.Clean("/" + m.Destination)
		e, there := d.f.drift.mounts[at]
		f := flagsOf(m)
		switch {
		case !there, strings.HasPrefix(m.Type, "cgroup"), slices.Contains(d.spec.Linux.MaskedPaths, at), !f.bind && m.Type != e.fs:
			continue
		}
		for o, on := range f.want {
			if on && !e.has(o) && (f.bind || !slices.Contains(e.super, o)) {
				d.add(Medium, fmt.Sprintf("mount %.200q", at), o, strings.Join(e.options, ","))
			}
		}
	}
}

func (d *comparison) paths() {
	for _, p := range d.spec.Linux.MaskedPaths {
		if s := d.f.drift.paths[path.Clean(p)]; s == pathReadOnly || s == pathWritable {
			d.add(Medium, fmt.Sprintf("masked %.200q", p), "hidden", "visible")
		}
	}
	for _, p := range d.spec.Linux.ReadonlyPaths {
		if d.f.drift.paths[path.Clean(p)] == pathWritable {
			d.add(Medium, fmt.Sprintf("read-only %.200q", p), "ro", "rw")
		}
	}
}
