package profiles

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Change is one right in which two profiles differ.
type Change struct {
	Right  string `json:"right"`          // key of the file, and which: "capabilities CHOWN"
	From   string `json:"from,omitempty"` // "" is not given
	To     string `json:"to,omitempty"`
	Effect Effect `json:"effect"`
}

// Effect says what a change does to what the application may do.
type Effect string

// The effects there are.
const (
	Wider    Effect = "wider"
	Narrower Effect = "narrower"
	Other    Effect = "other" // neither, or it cannot be told
)

// right is one value of a profile by its name.
type right struct {
	name, value string
	// size orders the values of one right; equal sizes are not comparable.
	size float64
	// limits is set if the right's being there takes something away, as a
	// filter does.
	limits  bool
	neutral bool // being there is neither
}

// Diff gives the rights b asks for otherwise than a, in the order of the file.
// What is for people alone (reasons, evidence, provenance) does not count.
func Diff(a, b Profile) []Change {
	var out []Change
	from, to := a.normal().rights(), b.normal().rights()
	from, to = withoutFilter(from, to), withoutFilter(to, from)
	for _, r := range from {
		i := slices.IndexFunc(to, func(o right) bool { return o.name == r.name })
		if i < 0 {
			out = append(out, Change{r.name, r.value, "", r.effect(false)})
			continue
		}
		if o := to[i]; o.value != r.value {
			c := Change{r.name, r.value, o.value, Other}
			switch {
			case o.size > r.size:
				c.Effect = Wider
			case o.size < r.size:
				c.Effect = Narrower
			}
			out = append(out, c)
		}
	}
	for _, r := range to {
		if !slices.ContainsFunc(from, func(o right) bool { return o.name == r.name }) {
			out = append(out, Change{r.name, "", r.value, r.effect(true)})
		}
	}
	return out
}

// withoutFilter leaves out what a filter lets through where the others have no such
// filter: the filter itself is the change.
func withoutFilter(rights, others []right) []right {
	return slices.DeleteFunc(slices.Clone(rights), func(r right) bool {
		filter, _, entry := strings.Cut(r.name, " ")
		isFilter := func(o right) bool { return o.name == filter && o.limits }
		return entry && slices.ContainsFunc(rights, isFilter) && !slices.ContainsFunc(others, isFilter)
	})
}

// effect of a right's coming, or going.
func (r right) effect(comes bool) Effect {
	switch {
	case r.neutral:
		return Other
	case comes == r.limits:
		return Narrower
	}
	return Wider
}

// rights lists all a profile asks for.
func (p Profile) rights() (out []right) {
	neutral := func(name, value string) {
		if value != "" {
			out = append(out, right{name: name, value: value, neutral: true})
		}
	}
	neutral("image", p.Image)
	for _, c := range p.Capabilities {
		out = append(out, right{name: "capabilities " + c.Name, value: "given"})
	}
	out = append(out, p.filterRights()...)
	for _, w := range p.Writable {
		out = append(out, w.right())
	}
	for _, b := range p.Binds {
		r := right{name: "binds " + b.Target, value: b.Source + " (read-only)"}
		if b.Writable {
			r.value, r.size = b.Source+" (writable)", 1
		}
		out = append(out, r)
	}
	for _, d := range p.Devices {
		perms := either(d.Permissions, "rwm")
		out = append(out, right{name: "devices " + d.place(), value: d.Path + " " + perms, size: float64(len(perms))})
	}
	for _, port := range p.Ports {
		out = append(out, right{name: "ports " + port.Port, value: "given", neutral: !port.published()})
	}
	neutral("network", p.Network)
	for _, s := range p.Sysctls {
		out = append(out, right{name: "sysctls " + s.Name, value: s.Value})
	}
	neutral("user", p.User)
	if p.UserNS != "" {
		out = append(out, right{name: "userns", value: p.UserNS})
	}
	out = append(out, p.Limits.rights()...)
	if h := p.Health; h != nil {
		neutral("health", strings.TrimSpace(fmt.Sprintf("%s %s %s %s %d", h.Command, h.Interval, h.Timeout, h.StartPeriod, h.Retries)))
	}
	neutral("stop-signal", p.StopSignal)
	if t := p.StopTimeout; t != nil {
		neutral("stop-timeout", strconv.Itoa(*t))
	}
	return out
}

// filterRights are those that take away by being there. Within one, an entry
// more gives more.
func (p Profile) filterRights() (out []right) {
	if s := p.Seccomp; s != nil {
		out = append(out, right{name: "seccomp", value: either(s.File, "a list"), limits: true})
		for _, name := range s.Allow {
			out = append(out, right{name: "seccomp " + name, value: "allowed"})
		}
	}
	if a := p.AppArmor; a != nil {
		out = append(out, right{name: "apparmor", value: either(a.Name, "rules"), limits: true})
		for _, f := range a.Files {
			out = append(out, right{name: "apparmor " + f.Path, value: f.Access, size: float64(len(f.Access))})
		}
	}
	if len(p.Egress) > 0 {
		out = append(out, right{name: "egress", value: "a list", limits: true})
		for _, e := range p.Egress {
			if e.To != "none" {
				out = append(out, right{name: "egress " + e.To, value: "allowed"})
			}
		}
	}
	return out
}

func (w Writable) right() right {
	words := []string{either(w.Volume, "tmpfs")}
	if w.Volume != "" && w.Volume != anonymous {
		words[0] = "volume " + w.Volume
	}
	size, _ := bytesOf(w.Size)
	for _, f := range []struct{ name, value string }{{"size", w.Size}, {"mode", w.Mode}, {"uid", number(w.UID)}, {"gid", number(w.GID)}} {
		if f.value != "" {
			words = append(words, f.name+"="+f.value)
		}
	}
	r := right{name: "writable " + w.Path, size: float64(size)}
	if w.Exec {
		words = append(words, "exec")
		r.size += 1 << 62 // more than any size
	}
	r.value = strings.Join(words, " ")
	return r
}

func number(n *uint32) string {
	if n == nil {
		return ""
	}
	return strconv.FormatUint(uint64(*n), 10)
}

// rights of limits: given ones replace a default nobody knows here.
func (l Limits) rights() (out []right) {
	memory, _ := bytesOf(l.Memory)
	shm, _ := bytesOf(l.Shm)
	for _, f := range []struct {
		name, value string
		size        float64
	}{
		{"memory", l.Memory, float64(memory)},
		{"pids", strconv.FormatInt(l.Pids, 10), float64(l.Pids)},
		{"nofile", strconv.FormatInt(l.Nofile, 10), float64(l.Nofile)},
		{"shm", l.Shm, float64(shm)},
		{"cpus", strconv.FormatFloat(l.CPUs, 'f', -1, 64), l.CPUs},
	} {
		if f.size > 0 {
			out = append(out, right{name: "limits " + f.name, value: f.value, size: f.size, neutral: true})
		}
	}
	return out
}
