package profiles

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/docker/go-units"

	"github.com/safe-run/safe-run/profiles"
	"github.com/safe-run/safe-run/spec"
)

// right is one thing that a profile gives beyond what a container without a
// profile has.
type right struct {
	name string
	rest profiles.Profile // without it
}

// rights are those of a profile. What only narrows (lower limits, filters),
// names (ports, health, signals) or describes is none.
func rights(p profiles.Profile) []right {
	var out []right
	add := func(name string, change func(*profiles.Profile)) {
		rest := p
		change(&rest)
		out = append(out, right{name, rest})
	}
	for i, c := range p.Capabilities {
		add(c.Name, func(r *profiles.Profile) { r.Capabilities = without(p.Capabilities, i) })
	}
	for i, w := range p.Writable {
		add(w.Path, func(r *profiles.Profile) { r.Writable = without(p.Writable, i) })
		if w.Exec {
			add("exec in "+w.Path, func(r *profiles.Profile) {
				r.Writable = slices.Clone(p.Writable)
				r.Writable[i].Exec = false
			})
		}
	}
	for i, b := range p.Binds {
		add(b.Source, func(r *profiles.Profile) { r.Binds = without(p.Binds, i) })
		if b.Writable {
			add("writing to "+b.Source, func(r *profiles.Profile) {
				r.Binds = slices.Clone(p.Binds)
				r.Binds[i].Writable = false
			})
		}
	}
	for i, d := range p.Devices {
		add(d.Path, func(r *profiles.Profile) { r.Devices = without(p.Devices, i) })
	}
	for i, e := range p.Egress {
		if e.To != "none" {
			add(e.To, func(r *profiles.Profile) { r.Egress = without(p.Egress, i) })
		}
	}
	for i, s := range p.Sysctls {
		add(s.Name, func(r *profiles.Profile) { r.Sysctls = without(p.Sysctls, i) })
	}
	if p.Network != "" && p.Network != "none" {
		add("network "+p.Network, func(r *profiles.Profile) { r.Network = "" })
	}
	if p.User != "" {
		add("user "+p.User, func(r *profiles.Profile) { r.User = "" })
	}
	if p.UserNS != "" {
		add("userns "+p.UserNS, func(r *profiles.Profile) { r.UserNS = "" })
	}
	l, free := p.Limits, spec.DefaultLimits()
	if bytes(l.Memory) > free.Memory {
		add("memory "+l.Memory, func(r *profiles.Profile) { r.Limits.Memory = "" })
	}
	if bytes(l.Shm) > free.Shm {
		add("shm "+l.Shm, func(r *profiles.Profile) { r.Limits.Shm = "" })
	}
	if l.Pids > free.Pids {
		add(fmt.Sprint("pids ", l.Pids), func(r *profiles.Profile) { r.Limits.Pids = 0 })
	}
	if l.Nofile > free.Nofile {
		add(fmt.Sprint("nofile ", l.Nofile), func(r *profiles.Profile) { r.Limits.Nofile = 0 })
	}
	return out
}

// without is a copy without entry i.
func without[E any](list []E, i int) []E { return slices.Delete(slices.Clone(list), i, i+1) }

// bytes of a size, 0 for none; profiles.Parse has checked it.
func bytes(size string) int64 {
	n, _ := units.RAMInBytes(size)
	return n
}

// TestRights: every field of a profile that can give something is among the
// rights, and taking it away leaves the rest.
func TestRights(t *testing.T) {
	one := uint32(1)
	p := profiles.Profile{
		Capabilities: []profiles.Capability{{Name: "CHOWN"}, {Name: "KILL"}},
		Writable:     []profiles.Writable{{Path: "/a", Exec: true, UID: &one}, {Path: "/b"}},
		Binds:        []profiles.Bind{{Source: "/c", Target: "/d", Writable: true}},
		Devices:      []profiles.Device{{Path: "/dev/x"}},
		Egress:       []profiles.Egress{{To: "h:1"}},
		Sysctls:      []profiles.Sysctl{{Name: "s", Value: "1"}},
		Network:      "other", User: "root", UserNS: "host",
		Limits: profiles.Limits{Memory: "1g", Shm: "65m", Pids: 257, Nofile: 65537},
	}
	var names []string
	for _, r := range rights(p) {
		names = append(names, r.name)
		if reflect.DeepEqual(r.rest, p) {
			t.Errorf("%s was not taken away", r.name)
		}
		if n := len(rights(r.rest)); n >= len(rights(p)) {
			t.Errorf("without %s there are %d rights", r.name, n)
		}
	}
	want := []string{
		"CHOWN", "KILL", "/a", "exec in /a", "/b", "/c", "writing to /c", "/dev/x", "h:1", "s",
		"network other", "user root", "userns host", "memory 1g", "shm 65m", "pids 257", "nofile 65537",
	}
	if !slices.Equal(names, want) {
		t.Errorf("%q, wanted %q", names, want)
	}
	if r := rights(profiles.Profile{
		Egress: []profiles.Egress{{To: "none"}}, Network: "none", Ports: []profiles.Port{{Port: "80"}},
		Limits: profiles.Limits{Memory: "64m", Pids: 16, CPUs: 1}, Health: &profiles.Health{Command: "x"},
	}); len(r) > 0 {
		t.Errorf("what gives nothing is a right: %v", r)
	}

	// A field that rights does not know would never be proved.
	known := []string{
		"Version", "Name", "Description", "Image", "For", "Capabilities", "Seccomp", "AppArmor", "Writable", "Binds", "Devices",
		"Ports", "Network", "Egress", "Sysctls", "User", "UserNS", "Limits", "Health", "StopSignal", "StopTimeout", "Recorded",
		"Memory", "Pids", "Nofile", "Shm", "CPUs", "Why",
	}
	for _, of := range []any{profiles.Profile{}, profiles.Limits{}} {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(of)) {
			if !slices.Contains(known, f.Name) {
				t.Errorf("field %s is new: is it a right?", f.Name)
			}
		}
	}
}
