package profiles

import (
	"fmt"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/safe-run/safe-run/internal/fail"
)

// Merge gives the union of two profiles of one application, as of several
// recordings: what one of them can do, it can do with the result. Provenance is
// kept, and counts are added. Of two limits the larger counts. What is not
// given is wider for filters (seccomp, AppArmor, egress), and is not given in
// the result either; elsewhere the other's value counts.
//
// Values that exclude each other are an error of kind Conflict, which names
// both.
func Merge(a, b Profile) (Profile, error) {
	m := merging{}
	a, b = a.normal(), b.normal()
	out := Profile{
		Version:      1,
		Name:         m.same("name", a.Name, b.Name),
		Description:  either(a.Description, b.Description),
		Image:        m.image(a.Image, b.Image),
		For:          union(a.For, b.For, func(s string) string { return s }, nil),
		Capabilities: union(a.Capabilities, b.Capabilities, func(c Capability) string { return c.Name }, m.capability),
		Seccomp:      m.seccomp(a.Seccomp, b.Seccomp),
		AppArmor:     m.appArmor(a.AppArmor, b.AppArmor),
		Writable:     union(a.Writable, b.Writable, func(w Writable) string { return w.Path }, m.writable),
		Binds:        union(a.Binds, b.Binds, func(b Bind) string { return b.Target }, m.bind),
		Devices:      union(a.Devices, b.Devices, Device.place, m.device),
		Ports:        ports(union(a.Ports, b.Ports, func(p Port) string { return p.Port }, m.port)),
		Network:      m.same("network", a.Network, b.Network),
		Egress:       egress(a.Egress, b.Egress),
		Sysctls:      union(a.Sysctls, b.Sysctls, func(s Sysctl) string { return s.Name }, m.sysctl),
		User:         m.same("user", a.User, b.User),
		UserNS:       either(a.UserNS, b.UserNS),
		Limits:       m.limits(a.Limits, b.Limits),
		Health:       a.Health,
		StopSignal:   m.same("stop-signal", a.StopSignal, b.StopSignal),
		StopTimeout:  a.StopTimeout,
		Recorded:     slices.Clone(a.Recorded),
	}
	switch {
	case out.Health == nil:
		out.Health = b.Health
	case b.Health != nil && *a.Health != *b.Health:
		m.conflict("health", fmt.Sprintf("%+v", *a.Health), fmt.Sprintf("%+v", *b.Health))
	}
	if t := b.StopTimeout; t != nil && (out.StopTimeout == nil || *t < 0 || *out.StopTimeout >= 0 && *t > *out.StopTimeout) {
		out.StopTimeout = t
	}
	for _, r := range b.Recorded {
		if !slices.Contains(out.Recorded, r) {
			out.Recorded = append(out.Recorded, r)
		}
	}
	for _, d := range out.Binds {
		if slices.ContainsFunc(out.Writable, func(w Writable) bool { return w.Path == d.Target }) {
			m.conflict("mount at "+d.Target, "the path "+d.Source, "a directory of its own")
		}
	}
	if len(m.conflicts) > 0 {
		return Profile{}, fail.New(fail.Conflict, "the profiles cannot be merged: %s", strings.Join(m.conflicts, "; ")).
			Hint("bring these to one value in the files first")
	}
	return out, nil
}

// merging collects what cannot be joined.
type merging struct{ conflicts []string }

func (m *merging) conflict(what, a, b string) {
	m.conflicts = append(m.conflicts, fmt.Sprintf("%s: %.120q and %.120q", what, a, b))
}

func (m *merging) same(what, a, b string) string {
	if a != "" && b != "" && a != b {
		m.conflict(what, a, b)
	}
	return either(a, b)
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// image: two digests of one repository are that repository.
func (m *merging) image(a, b string) string {
	if a == "" || b == "" {
		return "" // for any
	}
	if a == b {
		return a
	}
	x, err1 := reference.ParseNormalizedNamed(a)
	y, err2 := reference.ParseNormalizedNamed(b)
	if err1 == nil && err2 == nil && x.Name() == y.Name() {
		return x.Name()
	}
	m.conflict("image", a, b)
	return a
}

// union gives the entries of a, joined with those of b of the same key, and
// the others of b.
func union[T any](a, b []T, key func(T) string, join func(x, y T) T) []T {
	out := slices.Clone(a)
	for _, y := range b {
		i := slices.IndexFunc(out, func(x T) bool { return key(x) == key(y) })
		switch {
		case i < 0:
			out = append(out, y)
		case join != nil:
			out[i] = join(out[i], y)
		}
	}
	return out
}

func evidence(a, b *Evidence) *Evidence {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	sum := a.Count + b.Count
	if sum < a.Count {
		sum = ^uint64(0)
	}
	return &Evidence{sum, either(a.Process, b.Process), either(a.Call, b.Call), either(a.Proof, b.Proof)}
}

func (m *merging) capability(a, b Capability) Capability {
	return Capability{a.Name, either(a.Why, b.Why), evidence(a.Evidence, b.Evidence)}
}

func (m *merging) seccomp(a, b *SeccompUse) *SeccompUse {
	if a == nil || b == nil {
		return nil
	}
	if (a.File == "") != (b.File == "") || a.File != b.File {
		m.conflict("seccomp", either(a.File, "a list"), either(b.File, "a list"))
	}
	out := &SeccompUse{File: a.File, Why: either(a.Why, b.Why), Allow: union(a.Allow, b.Allow, func(s string) string { return s }, nil)}
	slices.Sort(out.Allow)
	return out
}

func (m *merging) appArmor(a, b *AppArmorUse) *AppArmorUse {
	if a == nil || b == nil {
		return nil
	}
	if a.Name != b.Name {
		m.conflict("apparmor", either(a.Name, "rules"), either(b.Name, "rules"))
	}
	return &AppArmorUse{a.Name, union(a.Files, b.Files, func(f AppArmorFile) string { return f.Path }, func(x, y AppArmorFile) AppArmorFile {
		return AppArmorFile{x.Path, letters("rwklmix", x.Access+y.Access)}
	}), either(a.Why, b.Why)}
}

// letters gives those of all that stand in s, in all's order.
func letters(all, s string) string {
	return strings.Map(func(c rune) rune {
		if strings.ContainsRune(s, c) {
			return c
		}
		return -1
	}, all)
}

func (m *merging) writable(a, b Writable) Writable {
	at := "writable " + a.Path
	if a.Volume != b.Volume {
		m.conflict(at, either(a.Volume, "tmpfs"), either(b.Volume, "tmpfs"))
	}
	out := Writable{
		Path: a.Path, Volume: a.Volume, Size: larger(a.Size, b.Size), Mode: m.same(at+" mode", a.Mode, b.Mode), UID: a.UID, GID: a.GID,
		Exec: a.Exec || b.Exec, Why: either(a.Why, b.Why), Evidence: evidence(a.Evidence, b.Evidence),
	}
	for _, f := range []struct {
		key  string
		to   **uint32
		with *uint32
	}{{" uid", &out.UID, b.UID}, {" gid", &out.GID, b.GID}} {
		switch {
		case *f.to == nil:
			*f.to = f.with
		case f.with != nil && *f.with != **f.to:
			m.conflict(at+f.key, fmt.Sprint(**f.to), fmt.Sprint(*f.with))
		}
	}
	return out
}

func (m *merging) bind(a, b Bind) Bind {
	return Bind{m.same("bind on "+a.Target, a.Source, b.Source), a.Target, a.Writable || b.Writable, either(a.Why, b.Why)}
}

func (m *merging) device(a, b Device) Device {
	out := Device{m.same("device at "+a.place(), a.Path, b.Path), a.Target, "", either(a.Why, b.Why)}
	if a.Permissions != "" && b.Permissions != "" { // "" is rwm
		out.Permissions = letters("rwm", a.Permissions+b.Permissions)
	}
	return out
}

func (m *merging) port(a, b Port) Port {
	return Port{a.Port, either(a.Why, b.Why), evidence(a.Evidence, b.Evidence)}
}

// ports takes out those that are only exposed and published as well.
func ports(all []Port) []Port {
	inside := func(p Port) string {
		port, proto, _ := strings.Cut(p.Port[strings.LastIndexByte(p.Port, ':')+1:], "/")
		return port + "/" + either(proto, "tcp")
	}
	return slices.DeleteFunc(all, func(p Port) bool {
		return !p.published() && slices.ContainsFunc(all, func(q Port) bool { return q.published() && inside(p) == inside(q) })
	})
}

// egress: no list is open, none is closed.
func egress(a, b []Egress) []Egress {
	none := func(e []Egress) bool { return len(e) == 1 && e[0].To == "none" }
	switch {
	case len(a) == 0 || len(b) == 0:
		return nil
	case none(a):
		return slices.Clone(b)
	case none(b):
		return slices.Clone(a)
	}
	return union(a, b, func(e Egress) string { return e.To }, func(x, y Egress) Egress { return Egress{x.To, either(x.Why, y.Why)} })
}

func (m *merging) sysctl(a, b Sysctl) Sysctl {
	return Sysctl{a.Name, m.same("sysctl "+a.Name, a.Value, b.Value), either(a.Why, b.Why)}
}

func (m *merging) limits(a, b Limits) Limits {
	return Limits{
		larger(a.Memory, b.Memory), max(a.Pids, b.Pids), max(a.Nofile, b.Nofile), larger(a.Shm, b.Shm), max(a.CPUs, b.CPUs), either(a.Why, b.Why),
	}
}

// larger of two sizes.
func larger(a, b string) string {
	x, _ := bytesOf(a)
	if y, ok := bytesOf(b); ok && y > x {
		return b
	}
	return a
}
