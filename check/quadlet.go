package check

import (
	"slices"
	"strconv"
	"strings"

	"github.com/safe-run/safe-run/internal/cli"
)

// maker makes flags of keys.
type maker struct {
	table map[string]*cli.Flag
	style style
	l     *launch
}

func (c *checker) maker(l *launch) *maker { return &maker{c.table, l.style, l} }

// flag adds --NAME=VALUE for a key that is written as typed.
func (m *maker) flag(name string, value word, typed string, line int) {
	f := flagUse{def: m.table["--"+name], name: name, typed: typed, value: value, has: true, line: line}
	shown := "--" + name
	if f.def != nil && f.def.Short != "" {
		shown = "-" + f.def.Short
	}
	f.out = shown + " " + m.style.parts(value.parts)
	if f.def != nil && f.def.Type == cli.Bool {
		v, known := value.value()
		if on, is := truth(v); known && is {
			v = strconv.FormatBool(on)
			value = literal(v, line)
			f.value = value
		}
		if v == "true" {
			f.has, f.value, f.out = false, word{}, shown
		} else {
			f.out = "--" + name + "=" + m.style.parts(value.parts)
		}
	}
	m.l.flags = append(m.l.flags, f)
}

// truth reads the words compose (compose-go, interpolation) and systemd
// (systemd.syntax(7)) take for true and false.
func truth(s string) (on, is bool) {
	switch strings.ToLower(s) {
	case "true", "1", "t", "y", "yes", "on":
		return true, true
	case "false", "0", "f", "n", "no", "off":
		return false, true
	}
	return false, false
}

// unknown notes a key that no flag stands for.
func (m *maker) unknown(typed, why string, line int) {
	m.l.remote = append(m.l.remote, Remark{line, short(typed, 200), why})
}

// quadletKeys are the keys of [Container] that are a flag; podman-systemd.unit(5).
func quadletKeys() map[string]string {
	return map[string]string{
		"AddDevice": "device", "AddHost": "add-host", "ContainerName": "name", "CgroupsMode": "cgroups", "DNS": "dns", "DNSOption": "dns-option",
		"DNSSearch": "dns-search", "Entrypoint": "entrypoint", "EnvironmentFile": "env-file", "EnvironmentHost": "env-host",
		"ExposeHostPort": "expose", "GIDMap": "gidmap", "UIDMap": "uidmap", "SubGIDMap": "subgidname", "SubUIDMap": "subuidname",
		"GroupAdd": "group-add", "HealthCmd": "health-cmd", "HealthInterval": "health-interval", "HealthOnFailure": "health-on-failure",
		"HealthRetries": "health-retries", "HealthStartPeriod": "health-start-period", "HealthTimeout": "health-timeout",
		"HostName": "hostname", "IP": "ip", "IP6": "ip6", "LogDriver": "log-driver", "LogOpt": "log-opt", "Memory": "memory",
		"Mount": "mount", "Network": "network", "NetworkAlias": "network-alias", "Notify": "sdnotify", "PidsLimit": "pids-limit",
		"PublishPort": "publish", "Pull": "pull", "ReadOnly": "read-only", "RunInit": "init", "Secret": "secret", "ShmSize": "shm-size",
		"StopSignal": "stop-signal", "StopTimeout": "stop-timeout", "Timezone": "tz", "Tmpfs": "tmpfs", "Ulimit": "ulimit",
		"UserNS": "userns", "Volume": "volume", "WorkingDir": "workdir", "Rootfs": "rootfs", "Pod": "pod", "HttpProxy": "http-proxy",
	}
}

// quadletLists are the keys with several words in one value.
func quadletLists() map[string]string {
	return map[string]string{
		"AddCapability": "cap-add", "DropCapability": "cap-drop", "Annotation": "annotation", "Environment": "env", "Label": "label", "Sysctl": "sysctl",
	}
}

// quadletOptions are the keys that are a --security-opt.
func quadletOptions() map[string]string {
	return map[string]string{
		"SeccompProfile": "seccomp=", "SecurityLabelType": "label=type:", "SecurityLabelLevel": "label=level:", "SecurityLabelFileType": "label=filetype:",
		"AppArmor": "apparmor=", "Mask": "mask=", "Unmask": "unmask=",
	}
}

func (c *checker) quadlet(text string) error {
	all, err := c.settings(text)
	if err != nil {
		return err
	}
	l := &launch{command: "podman quadlet", lead: "ExecStart=", own: []string{"--rm"}, style: unitStyle{}}
	m := c.maker(l)
	var user, group *word
	for _, s := range all {
		if s.section != "Container" {
			continue
		}
		if l.line == 0 {
			l.line = s.line
		}
		words := unitWords(s, nil, false)
		typed := s.key + "=" + strings.ReplaceAll(s.value, "\n", " ")
		whole := oneWord(s)
		v, _ := whole.value()
		on, _ := truth(v)
		switch name, list := quadletKeys()[s.key], quadletLists()[s.key]; {
		case s.value == "" && s.key != "Entrypoint": // takes back what was said; nothing to judge
		case list != "":
			for _, w := range words {
				m.flag(list, w, s.key+"="+w.raw, w.line)
			}
		case s.key == "Network" || s.key == "Volume" || s.key == "AddDevice":
			m.flag(name, quadletName(s.key, whole), typed, s.line)
		case name != "":
			m.flag(name, whole, typed, s.line)
		case quadletOptions()[s.key] != "":
			whole.parts = append([]part{{text: quadletOptions()[s.key]}}, whole.parts...)
			m.flag("security-opt", whole, typed, s.line)
		case s.key == "NoNewPrivileges" && on:
			m.flag("security-opt", literal("no-new-privileges", s.line), typed, s.line)
		case s.key == "SecurityLabelDisable" && on:
			m.flag("security-opt", literal("label=disable", s.line), typed, s.line)
		case s.key == "Image":
			l.image = &whole
		case s.key == "Exec":
			l.args = words
		case s.key == "User":
			user = &whole
		case s.key == "Group":
			group = &whole
		case s.key == "PodmanArgs":
			r := flagReader{table: m.table, style: l.style}
			r.read(words, false)
			l.flags = append(l.flags, r.out...)
		case slices.Contains([]string{"ReadOnlyTmpfs", "AutoUpdate", "NoNewPrivileges", "SecurityLabelDisable", "StartWithPod", "ServiceName"}, s.key):
		default:
			m.unknown(typed, "a key that is not known here", s.line)
		}
	}
	if err := c.execLines(all); err != nil || l.line == 0 {
		return err
	}
	if user != nil {
		if group != nil {
			user.parts = append(append(user.parts, part{text: ":"}), group.parts...)
		}
		m.flag("user", *user, "User="+user.raw, user.line)
	}
	return c.add(l)
}

// oneWord is a whole value, blanks and all, with its specifiers.
func oneWord(s setting) word {
	w := word{line: s.line}
	for i, x := range unitWords(s, nil, false) {
		if i > 0 {
			w.parts = append(w.parts, part{text: " "})
		}
		w.parts = append(w.parts, x.parts...)
	}
	if len(w.parts) == 0 {
		w.parts = []part{{}}
	}
	w.raw = unitStyle{}.parts(w.parts)
	return w
}

// quadletName takes the marks of quadlets off names: x.network, x.volume:/dir,
// and a dash before a device that may be missing.
func quadletName(key string, w word) word {
	v, known := w.value()
	if !known {
		return w
	}
	switch key {
	case "Network":
		name, rest, _ := strings.Cut(v, ":")
		if name, is := strings.CutSuffix(name, ".network"); is && rest == "" {
			v = name
		}
	case "Volume":
		name, rest, _ := strings.Cut(v, ":")
		if name, is := strings.CutSuffix(name, ".volume"); is {
			v = name + ":" + rest
		}
	case "AddDevice":
		v = strings.TrimPrefix(v, "-")
	}
	return word{parts: []part{{text: v}}, raw: w.raw, line: w.line}
}
