// Package quadlet writes containers as files of podman's generator of units
// (podman-systemd.unit(5)), and reads such files.
package quadlet

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/internal/words"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/unit"
	"github.com/safe-run/safe-run/spec"
)

const (
	// section is passed over by podman and systemd, as all that begin with X- are.
	section = "X-Safe-Run"
	suffix  = ".container"
	// unitDir is where the files go; a filter of system calls lies beside them.
	unitDir = "/etc/containers/systemd/"
)

type format struct{}

// Format is that of podman's quadlets.
func Format() convert.Format { return format{} }

func (format) Name() string { return "quadlet" }

// Why says why podman has no such key.
func (format) Why(flag string) string {
	if why, ok := map[string]string{
		"egress":                "podman filters nothing that goes out: Network=none or an internal network are the nearest",
		"domainname":            "podman has none: write it as part of HostName=",
		"health-start-interval": "podman has no other pause between checks while a container starts",
		"health-cmd":            "podman takes a word of it for one of its own",
		"health-exec":           "podman reads a single word as a line for the shell",
		"sdnotify":              "the generator has Notify=healthy and Notify=yes only",
		"stop-timeout":          "podman does not wait for ever",
		"log-opt":               "podman keeps one log file, and cuts it at max-size",
		"secret":                "podman has a store for secrets: podman secret create ID FILE",
		"mount":                 "podman has no such option of --mount",
		"tmpfs":                 "podman knows size, mode and the mount's flags only",
		"network":               "podman has no order of networks",
		"network-alias":         "with several networks podman gives it on all of them",
		"restart":               "systemd itself knows what was stopped by hand: it is Restart=always",
		"runtime":               "it is a flag of podman's own, and not of one container",
		"entrypoint":            "podman reads what begins with [ as JSON",
	}[flag]; ok {
		return why
	}
	return "podman has no such flag, or means another thing by it"
}

// key is a key of [Container] and how the generator reads it.
type key struct {
	name string
	read class
}

// class is how a value is read (podman's pkg/systemd/parser).
type class int

const (
	raw   class = iota // the whole line, as it is
	strv               // words in quotation marks, without escapes
	quote              // words in quotation marks, with C escapes
	yes                // a boolean that is true
)

// keys are the flags with a key of [Container] in podman 5.0 and later. All
// others go into PodmanArgs=.
func keys() map[string]key {
	return map[string]key{
		"name": {"ContainerName", raw}, "hostname": {"HostName", raw}, "user": {"User", raw}, "group-add": {"GroupAdd", raw}, "workdir": {"WorkingDir", raw},
		"entrypoint": {"Entrypoint", raw}, "init": {"RunInit", yes}, "cap-drop": {"DropCapability", strv}, "cap-add": {"AddCapability", strv}, "read-only": {"ReadOnly", yes},
		"tmpfs": {"Tmpfs", raw}, "shm-size": {"ShmSize", raw}, "pids-limit": {"PidsLimit", raw}, "ulimit": {"Ulimit", raw}, "network": {"Network", raw}, "network-alias": {"NetworkAlias", raw},
		"ip": {"IP", raw}, "ip6": {"IP6", raw}, "add-host": {"AddHost", raw}, "dns": {"DNS", raw}, "dns-search": {"DNSSearch", raw}, "dns-option": {"DNSOption", raw}, "publish": {"PublishPort", raw},
		"expose": {"ExposeHostPort", raw}, "env": {"Environment", quote}, "label": {"Label", quote}, "annotation": {"Annotation", quote}, "volume": {"Volume", raw}, "mount": {"Mount", quote},
		"device": {"AddDevice", strv}, "sysctl": {"Sysctl", strv}, "secret": {"Secret", quote}, "stop-signal": {"StopSignal", raw}, "stop-timeout": {"StopTimeout", raw}, "pull": {"Pull", raw},
		"log-driver": {"LogDriver", raw}, "log-opt": {"LogOpt", strv}, "health-cmd": {"HealthCmd", raw}, "health-interval": {"HealthInterval", raw}, "health-timeout": {"HealthTimeout", raw},
		"health-start-period": {"HealthStartPeriod", raw}, "health-retries": {"HealthRetries", raw}, "health-on-failure": {"HealthOnFailure", raw},
	}
}

func (f format) Write(p convert.Project, losses []convert.Loss, o convert.Options) ([]convert.File, []convert.Loss, error) {
	defaults := words.Losses(p, o, wider())
	var files []convert.File
	for _, c := range p.Containers {
		text, err := f.container(c, p, o)
		if err != nil {
			return nil, nil, err
		}
		head := []string{c.Name + suffix, "Written by safe-run export quadlet, for podman 5; safe-run import quadlet reads it."}
		if strings.Contains(text, "\nSeccompProfile=") {
			head = append(head, "Its seccomp filter has to be at "+unitDir+convert.SeccompName(c.Name)+".")
		}
		for _, s := range c.Workload.Secrets {
			from := s.Source
			if from == "" {
				from = "FILE"
			}
			head = append(head, words.Line("It needs: podman secret create "+s.ID+" "+from))
		}
		files = append(files, convert.File{Name: c.Name + suffix, Data: []byte(words.Comment(head, words.Of(c.Name, losses), words.Of(c.Name, defaults)) + text)})
	}
	for _, n := range p.Networks {
		if !n.External && networkUnit(n.Name) {
			internal := ""
			if n.Internal {
				internal = "Internal=true\n"
			}
			files = append(files, convert.File{Name: n.Name + ".network", Data: []byte("# " + n.Name + ".network\n[Network]\nNetworkName=" + n.Name + "\n" + internal)})
		}
	}
	return append(files, words.SeccompFiles(p, o)...), defaults, nil
}

// networkUnit says whether a network's name can be that of a file.
func networkUnit(name string) bool {
	return matches(plainPath, name) && !strings.ContainsAny(name, "/@")
}

// container is the text of a .container file.
func (f format) container(c convert.Container, p convert.Project, o convert.Options) (string, error) {
	w := c.Workload
	if err := sayable(w); err != nil {
		return "", err
	}
	flags, err := words.Hardened(c, o, say(w))
	if err != nil {
		return "", err
	}
	var lines lines
	image, err := unitWord(w.Image)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(image, `"`) || strings.HasPrefix(w.Image, "-") {
		return "", fail.New(fail.Usage, "%.80q is no name of an image to podman", w.Image)
	}
	lines.add("Image", image)
	if w.UserNSMode == "" && !joins(w) {
		flags = append(flags, words.Flag{Name: "userns", Value: "auto"})
	}
	for _, g := range flags {
		if err := lines.flag(g, p); err != nil {
			return "", err
		}
	}
	if len(w.Args) > 0 {
		var list []string
		for _, a := range w.Args {
			q, err := unitWord(a)
			if err != nil {
				return "", err
			}
			list = append(list, q)
		}
		lines.add("Exec", strings.Join(list, " "))
	}
	return f.whole(c, w, lines)
}

// whole puts the sections together.
func (f format) whole(c convert.Container, w spec.Workload, container lines) (string, error) {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("[Unit]")
	line("Description=Container %s", c.Name)
	for _, d := range c.DependsOn {
		if d.Condition == "completed" {
			line("Wants=%s.service", d.Name)
		} else {
			line("Requires=%s.service", d.Name)
		}
		line("After=%s.service", d.Name)
	}
	policy := w.Restart
	if policy.Max > 0 {
		line("StartLimitIntervalSec=1d")
		line("StartLimitBurst=%d", policy.Max+1)
	}
	line("\n[Container]")
	b.WriteString(strings.Join(container, ""))
	line("\n[Service]")
	switch {
	case policy.Name == spec.RestartUnlessStopped && slices.Contains(c.Kept, "--restart="+policy.Name):
		line("Restart=always")
	case policy.Name == spec.RestartAlways, policy.Name == spec.RestartOnFailure:
		line("Restart=%s", policy.Name)
	}
	line("# the image may have to be fetched")
	line("TimeoutStartSec=15min")
	line("\n[Install]\nWantedBy=multi-user.target")
	line("\n# what safe-run import needs to know; podman and systemd pass it over")
	line("[%s]\nContainer=%s", section, c.Name)
	kept, err := words.JSON(c.Kept)
	if err != nil {
		return "", err
	}
	if len(c.Kept) == 0 {
		kept = "[]"
	}
	line("Flags=%s", kept)
	if len(c.DependsOn) > 0 {
		line("DependsOn=%s", words.Dependencies(c.DependsOn))
	}
	return b.String(), nil
}

// sayable says what no quadlet can hand over: the generator writes text, ends a
// list of words at an empty one, and leaves a ; to systemd, which ends a command
// there. Values that look like secrets are an error: units are read by everybody.
func sayable(w spec.Workload) error {
	for _, a := range append([]string{w.Image}, w.Args...) {
		switch {
		case !utf8.ValidString(a):
			return fail.New(fail.Usage, "%.80q is not text, and podman's generator writes nothing else", a)
		case a == "" || a == ";":
			return fail.New(fail.Usage, "podman's generator cannot hand over the word %q", a).
				Hint("put it into a script, or into the line of a shell")
		}
	}
	for _, e := range w.Env {
		if unit.SecretLooking(e) {
			return fail.New(fail.Usage, "the value of %.80q looks like a secret, and everybody can read a unit", e.Name).
				Hint("give it as a file with --secret ID=FILE, for which podman has a store")
		}
	}
	return nil
}

func joins(w spec.Workload) bool {
	return slices.ContainsFunc(w.Networks, func(n spec.NetworkUse) bool { return strings.HasPrefix(n.Name, "container:") })
}

// lines are those of [Container].
type lines []string

func (l *lines) add(key, value string) { *l = append(*l, key+"="+value+"\n") }

// flag adds a flag by its key, or as an argument of podman.
func (l *lines) flag(f words.Flag, p convert.Project) error {
	if !utf8.ValidString(f.Value) {
		return fail.New(fail.Usage, "--%s: %.80q is not text, and podman's generator writes nothing else", f.Name, f.Value)
	}
	switch {
	case f == words.Flag{Name: "security-opt", Value: "no-new-privileges"}:
		l.add("NoNewPrivileges", "true")
		return nil
	case f.Name == "security-opt" && strings.HasPrefix(f.Value, "seccomp=") && f.Value != "seccomp=unconfined":
		l.add("SeccompProfile", unitDir+strings.TrimPrefix(f.Value, "seccomp="))
		return nil
	case f.Name == "userns":
		l.add("UserNS", f.Value)
		return nil
	case f.Name == "sdnotify" && f.Value == spec.NotifyHealthy:
		l.add("Notify", "healthy")
		return nil
	case f.Name == "sdnotify" && f.Value == spec.NotifyContainer:
		l.add("Notify", "yes")
		return nil
	case f.Name == "cap-drop" && f.Value == "ALL":
		l.add("DropCapability", "all")
		return nil
	case f.Name == "network":
		name, options, has := strings.Cut(f.Value, ":")
		if slices.ContainsFunc(p.Networks, func(n convert.Network) bool { return n.Name == name && !n.External && networkUnit(name) }) {
			if name += ".network"; has {
				name += ":" + options
			}
			l.add("Network", name)
			return nil
		}
	}
	k, is := keys()[f.Name]
	doubled := strings.NewReplacer("%", "%%", "$", "$$").Replace(f.Value)
	switch {
	case !is:
	case k.read == yes && f.Value == "true":
		l.add(k.name, "true")
		return nil
	case f.Name == "mount" && !sourced(f.Value):
	case k.read == quote && strings.Contains(f.Value, "=") || f.Name == "secret":
		q, err := unitWord(f.Value)
		if err != nil {
			return err
		}
		l.add(k.name, q)
		return nil
	case k.read == strv && matches(plainPath, strings.NewReplacer("=", "", ":", "", ",", "", "*", "").Replace(f.Value)) && f.Value[0] != '-':
		l.add(k.name, doubled)
		return nil
	case k.read == raw && rawValue(f):
		l.add(k.name, doubled)
		return nil
	}
	q, err := unitWord(f.Word())
	if err != nil {
		return err
	}
	l.add("PodmanArgs", q)
	return nil
}

// sourced says whether the generator can find the source of a mount: it fails on
// none, and takes some for the names of other units.
func sourced(value string) bool {
	fields, err := words.Fields(value)
	return err == nil && slices.ContainsFunc(fields, func(f string) bool {
		source, is := strings.CutPrefix(f, "source=")
		return is && source != "" && source[0] != '.' && !strings.HasSuffix(source, ".volume") && !strings.HasSuffix(source, ".image")
	})
}

// rawValue says whether a value comes through where the whole line is taken.
func rawValue(f words.Flag) bool {
	v := f.Value
	if v == "" || v == ";" || strings.TrimSpace(v) != v || strings.HasSuffix(v, `\`) || strings.Trim(v, `"`) != v || strings.ContainsFunc(v, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return false
	}
	switch f.Name {
	case "expose": // the generator knows two protocols
		return !strings.Contains(v, "/sctp")
	case "network", "volume": // names of units
		source, _, _ := strings.Cut(v, ":")
		return !strings.HasSuffix(source, ".network") && !strings.HasSuffix(source, ".container") && !strings.HasSuffix(source, ".volume") && !strings.HasSuffix(source, ".image")
	}
	return true
}

// unitWord is a word where the generator takes quotation marks and escapes. It
// takes \x for a character, and systemd for a byte: all that is not ASCII and
// does not show is written by its number as a character.
func unitWord(s string) (string, error) {
	hidden := func(r rune) bool { return r >= 0x80 && !unicode.IsPrint(r) }
	if !strings.ContainsFunc(s, hidden) {
		return unit.Word(s)
	}
	// Word quotes what is around, and these are put back into the quotation marks.
	var out strings.Builder
	out.WriteByte('"')
	rest := s
	for rest != "" {
		n := strings.IndexFunc(rest, hidden)
		if n < 0 {
			n = len(rest)
		}
		if n > 0 {
			q, err := unit.Word(rest[:n])
			if err != nil {
				return "", err
			}
			out.WriteString(strings.TrimSuffix(strings.TrimPrefix(q, `"`), `"`))
		}
		if rest = rest[n:]; rest != "" {
			r, size := utf8.DecodeRuneInString(rest)
			if r > 0xffff {
				fmt.Fprintf(&out, `\U%08x`, r)
			} else {
				fmt.Fprintf(&out, `\u%04x`, r)
			}
			rest = rest[size:]
		}
	}
	out.WriteByte('"')
	return out.String(), nil
}

// wider are the defaults of safe-run that podman has not.
func wider() []words.Lost {
	return []words.Lost{
		{What: "capabilities for users other than root", Why: "podman gives added ones to root, and to others only in sets that a program has to raise itself", Applies: words.Ambient},
		{What: "network isolation", Why: "containers of a podman network reach each other, the host's services and the cloud's metadata", Applies: words.Wired},
		{What: "a limit of inodes", Why: "podman's tmpfs takes none: the memory limit bounds them", Applies: words.Always},
		{What: "the built-in seccomp filter", Why: "it is a file, which is written beside the unit by -o; podman uses its own, wider one", Applies: words.BuiltIn},
		{What: "the policy and the check of the kernel's state", Why: "podman starts what it is asked for, and does not compare", Applies: words.Always},
		{What: "waiting for healthy or completed", Why: "systemd starts it when the other has started; Notify=healthy in the other makes it wait for that", Applies: words.Waits},
	}
}
