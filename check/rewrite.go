package check

import (
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/policy"
	"github.com/safe-run/safe-run/spec"
)

// rewrite writes the least safe-run command that does what is left of a launch.
func (b *bench) rewrite(l *launch, out *Launch) {
	whole := b.flags
	defer func() { b.flags = whole }()
	for _, withDefaults := range []bool{true, false} {
		b.flags = slices.Clone(whole)
		changes := b.harden(l.style, withDefaults)
		if _, err := b.ask(b.args()...); err != nil && withDefaults {
			continue // a default was said because another flag needs it
		}
		out.Changes = append(out.Changes, changes...)
		break
	}
	out.Rewritten = printable(b.line(l))
}

// harden takes out or replaces what is refused, not honoured or the default.
func (b *bench) harden(style style, defaults bool) (changes []Change) {
	drop := func(i int, why string) {
		f := &b.flags[i]
		if f.out != "" || f.maybe {
			typed := f.typed
			if f.maybe {
				why += ", where it is set"
			}
			changes = append(changes, Change{f.line, short(typed, 200), "", why})
		}
		f.out, f.arg, f.extra = "", "", ""
	}
	change := func(i int, why string) {
		f := &b.flags[i]
		if f.maybe || !b.replace(f, style) {
			drop(i, why)
			return
		}
		changes = append(changes, Change{f.line, short(f.typed, 200), short(f.out, 300), why})
		f.refusals = nil
	}
	for i := range b.flags {
		f := &b.flags[i]
		switch {
		case f.unread != "":
			change(i, "not honoured")
		case len(f.refusals) > 0:
			change(i, f.refusals[0].ID)
		case defaults && !f.maybe && b.isDefault(*f):
			drop(i, "default")
		}
	}
	// What one flag allowed or forbade another shows now. What is refused of a
	// line without flags no change of a flag cures.
	nothing, _ := b.ask()
	for round := 0; round <= len(b.flags); round++ {
		left, err := b.ask(b.args()...)
		if err != nil {
			i := b.culprit(err)
			if i < 0 {
				break
			}
			drop(i, "not honoured")
			continue
		}
		left = slices.DeleteFunc(slices.Clone(left), func(r policy.Refusal) bool { return slices.Contains(nothing, r) })
		if len(left) == 0 {
			break
		}
		b.attribute()
		found := false
		for i := range b.flags {
			if f := &b.flags[i]; f.arg != "" && len(f.refusals) > 0 {
				change(i, f.refusals[0].ID)
				found = true
			}
		}
		for i := range b.flags {
			if f := &b.flags[i]; !found && f.def != nil && f.def.Disposition == cli.PolicyChecked && f.arg != "" {
				drop(i, left[0].ID)
			}
		}
	}
	return changes
}

// line puts the command together.
func (b *bench) line(l *launch) string {
	var words []string
	if l.before != "" {
		words = append(words, l.before)
	}
	words = append(append(words, "safe-run", "run"), l.own...)
	for i := 0; i < len(b.flags); i++ {
		f := b.flags[i]
		if f.maybe || f.out == "" {
			continue
		}
		// -i -t from -it
		for f.group > 0 && len(f.out) >= 2 && !strings.Contains(f.out, " ") && i+1 < len(b.flags) {
			next := b.flags[i+1]
			if next.group != f.group || next.out == "" || strings.Contains(next.out, " ") || strings.Contains(next.out, "=") {
				break
			}
			f.out += next.out[1:]
			i++
		}
		if _, known := f.value.value(); f.has && (known && printable(f.out) != f.out || strings.Contains(oneLine(f.out), "\n")) {
			f.out = "--" + f.name + "=" + l.style.parts(f.value.parts)
		}
		words = append(words, spaced(f.out))
	}
	if l.image != nil {
		if strings.HasPrefix(l.image.head(), "-") {
			words = append(words, "--")
		}
		for _, w := range append([]word{*l.image}, l.args...) {
			s := w.written(l.style)
			if _, known := w.value(); known && s != printable(s) || strings.Contains(oneLine(s), "\n") {
				s = l.style.parts(w.parts)
			}
			words = append(words, spaced(s))
		}
	}
	return l.lead + strings.Join(words, " ")
}

// oneLine takes the continuations out of a word.
func oneLine(s string) string { return strings.ReplaceAll(s, "\\\n", "") }

// spaced is a word in one line. The line ends that are left stand in command
// substitutions.
func spaced(s string) string { return strings.ReplaceAll(oneLine(s), "\n", " ") }

// isDefault says whether a flag says what safe-run does without it.
func (b *bench) isDefault(f judged) bool {
	if f.def == nil {
		return false
	}
	if f.def.Disposition == cli.NoEffect {
		return true
	}
	v, known := f.value.value()
	if !known || f.arg == "" {
		return false
	}
	on, err := strconv.ParseBool(v)
	if !f.has {
		on, err = true, nil
	}
	if f.def.Type == cli.Bool {
		switch f.name {
		case "read-only", "sig-proxy":
			return err == nil && on
		case "init", "no-healthcheck":
			return false
		}
		return err == nil && !on
	}
	limits := b.c.o.Site.Limits()
	switch f.name {
	case "cap-drop":
		return !slices.ContainsFunc(b.flags, func(o judged) bool {
			added, known := o.value.value()
			return o.name == "cap-add" && (!known || capability(added) == capability(v))
		})
	case "security-opt":
		return slices.Contains([]string{
			"no-new-privileges", "no-new-privileges=true", "no-new-privileges:true", "seccomp=builtin", "apparmor=docker-default",
			"writable-cgroups=false",
		}, v)
	case "ipc", "cgroupns":
		return v == "private" || v == ""
	case "pid", "uts", "userns", "cgroup-parent":
		return v == ""
	case "runtime":
		return v == "runc" || v == "io.containerd.runc.v2"
	case "network":
		return (v == "bridge" || v == "default") && b.count("network") == 1
	case "log-driver":
		return v == "json-file"
	case "pull":
		return v == "missing"
	case "restart":
		return v == "no" || v == ""
	case "volume-driver":
		return v == "local"
	case "shm-size":
		n, err := units.RAMInBytes(v)
		return err == nil && n == limits.Shm
	case "memory":
		n, err := units.RAMInBytes(v)
		return err == nil && n == limits.Memory && b.count("memory-swap") == 0
	case "pids-limit":
		return v == strconv.FormatInt(limits.Pids, 10)
	case "tmpfs":
		target, options, _ := strings.Cut(v, ":")
		for o := range strings.SplitSeq(options, ",") {
			if !slices.Contains([]string{"", "rw", "noexec", "nosuid", "nodev"}, o) {
				return false
			}
		}
		return target == "/tmp" || target == "/run" || target == "/var/tmp"
	}
	return false
}

func (b *bench) count(name string) (n int) {
	for _, f := range b.flags {
		if f.name == name && f.arg != "" || strings.HasPrefix(f.extra, "--"+name+"=") {
			n++
		}
	}
	return n
}

// capability is a name as typed in its plain form.
func capability(typed string) string {
	return strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(typed)), "CAP_")
}

// replace gives a flag a form that is neither refused nor unreadable, and close
// to what was meant. It says whether there is one.
func (b *bench) replace(f *judged, style style) bool {
	if f.def == nil || f.arg == "" {
		return false
	}
	switch f.name {
	case "shm-size", "tmpfs", "mount":
		if n := b.needs(f.arg); n > 0 && b.count("memory") == 0 {
			extra := "--memory=" + units.CustomSize("%.4g%s", float64(n), 1024, []string{"b", "k", "m", "g", "t"})
			if r, err := b.ask(f.arg, extra); err == nil && len(r) == 0 {
				f.out += " " + strings.Replace(extra, "=", " ", 1)
				f.unread, f.extra = "", extra
				return true
			}
		}
	}
	for _, v := range variants(f) {
		filled := v.fill("/unknown/0", true)
		for _, arg := range []string{"--" + f.def.Long + "=" + filled, "--" + f.def.Long + "=" + v.fill("1", true)} {
			if r, err := b.ask(arg); err == nil && len(r) == 0 {
				name := "--" + f.def.Long
				if f.def.Short != "" {
					name = "-" + f.def.Short
				}
				f.out, f.arg, f.unread, f.value = name+" "+style.parts(v.parts), arg, "", v
				return true
			}
		}
	}
	return false
}

// needs is the memory in bytes a filesystem in memory can take.
func (b *bench) needs(arg string) (n int64) {
	inv, err := b.parse([]string{arg})
	if err != nil {
		return 0
	}
	if s := inv.Workload.ShmSize; s != nil {
		n = *s
	}
	for _, m := range inv.Workload.Mounts {
		if m.Type == spec.MountTmpfs {
			n = max(n, m.Tmpfs.Size)
		}
	}
	return n
}

// variants are other forms of a value, the closest first.
func variants(f *judged) (out []word) {
	flat, unknown := flatten(f.value)
	add := func(s string) { out = append(out, word{parts: restore(s, unknown), line: f.line}) }
	switch f.name {
	case "volume":
		parts := strings.Split(flat, ":")
		if len(parts) < 2 || len(parts) > 3 {
			return nil
		}
		modes := []string{}
		if len(parts) == 3 {
			for _, m := range strings.Split(parts[2], ",") {
				if slices.Contains([]string{"ro", "z", "Z", "nocopy", "exec"}, m) {
					modes = append(modes, m)
				}
			}
		}
		place := parts[0] + ":" + parts[1]
		add(join(place, modes))
		if !slices.Contains(modes, "ro") {
			add(join(place, append(modes, "ro")))
		}
	case "mount":
		var fields []string
		readOnly := false
		for _, field := range strings.Split(flat, ",") {
			key, v, _ := strings.Cut(field, "=")
			switch key {
			case "ro", "readonly":
				readOnly = v != "false" && v != "0"
				if !readOnly {
					continue
				}
			case "rw", "relabel", "U", "chown", "idmap", "bind-propagation", "bind-nonrecursive", "consistency":
				continue
			}
			fields = append(fields, field)
		}
		add(strings.Join(fields, ","))
		if !readOnly {
			add(strings.Join(append(fields, "readonly"), ","))
		}
	case "tmpfs":
		target, options, _ := strings.Cut(flat, ":")
		var kept []string
		for o := range strings.SplitSeq(options, ",") {
			if o != "" && o != "suid" && o != "dev" {
				kept = append(kept, o)
			}
		}
		add(join(target, kept))
	case "publish":
		if strings.Count(flat, ":") == 1 {
			add("127.0.0.1:" + flat)
		}
	}
	return out
}

func join(place string, modes []string) string {
	if len(modes) == 0 {
		return place
	}
	return place + ":" + strings.Join(modes, ",")
}

// flatten makes a string of a word, in which a control character stands for
// each unknown part.
func flatten(w word) (string, []part) {
	var b strings.Builder
	var unknown []part
	for _, p := range w.parts {
		if p.unknown {
			unknown = append(unknown, p)
			b.WriteByte(1)
			continue
		}
		b.WriteString(strings.ReplaceAll(p.text, "\x01", ""))
	}
	return b.String(), unknown
}

func restore(s string, unknown []part) (out []part) {
	for i, text := range strings.Split(s, "\x01") {
		if i > 0 && i <= len(unknown) {
			out = append(out, unknown[i-1])
		}
		if text != "" {
			out = append(out, part{text: text})
		}
	}
	return out
}
