package compose

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"
)

// maker makes the command line of one service.
type maker struct {
	l      *loading
	s      types.ServiceConfig
	model  map[string]any    // the same, untyped: it tells what was said from what was not
	names  map[string]string // of containers, by service
	path   []string          // services.NAME
	out    Service
	stamps []string // of files that decide how it runs besides the flags
	long   bool     // there are too many flags, which was said
}

// flag adds --NAME=VALUE, of a key below the service; is finds the item of a list.
func (m *maker) flag(name, value string, is func(*source, *yaml.Node) bool, key ...string) {
	if len(m.out.Flags) >= maxFlags {
		if !m.long {
			m.long = true
			m.wrong(fmt.Sprintf("it becomes more than %d flags", maxFlags), "", nil, key...)
		}
		return
	}
	if !utf8.ValidString(value) {
		m.wrong("it is not UTF-8 text", "", is, key...)
		return
	}
	f := Flag{Word: "--" + name + "=" + value}
	f.Place, f.Key = m.l.where(m.below(key), is)
	m.out.Flags = append(m.out.Flags, f)
}

func (m *maker) below(key []string) []string { return append(slices.Clip(m.path), key...) }

func (m *maker) wrong(text, hint string, is func(*source, *yaml.Node) bool, key ...string) {
	m.l.wrong(m.below(key), is, text, hint)
}

func (m *maker) note(text string, key ...string) {
	at, _ := m.l.where(m.below(key), nil)
	m.l.out.Notes = append(m.l.out.Notes, Note{at, printable(keyPath(m.below(key)) + ": " + text)})
}

// has says whether a key was given, with whatever value.
func (m *maker) has(key ...string) bool {
	var v any = m.model
	for _, k := range key {
		in, _ := v.(map[string]any)
		if v = in[k]; v == nil {
			return false
		}
	}
	return true
}

// service makes everything, in the order of a man page.
func (m *maker) service() {
	s := &m.s
	m.out = Service{Name: s.Name, ContainerName: m.names[s.Name], Image: s.Image}
	m.out.Place, _ = m.l.where(m.path, nil)
	if p := m.l.o.ProfileDir; p != "" {
		file := filepath.Join(within1(m.l.o.Dir, p), s.Name+".yaml")
		if exists(file) {
			m.flag("profile", file, nil)
			m.stamps = append(m.stamps, stamp(file))
		}
	}
	m.flag("name", m.out.ContainerName, nil, "container_name")
	m.image()
	m.words()
	m.lists()
	m.commands()
	m.environment()
	m.labels()
	m.security()
	m.limits()
	m.network()
	m.ports()
	m.mounts()
	m.secrets()
	m.configs()
	m.health()
	m.depends()
	if n := s.GetScale(); n != 1 {
		key := []string{"scale"}
		if s.Scale == nil {
			key = []string{"deploy", "replicas"}
		}
		m.wrong(fmt.Sprintf("there is one container of a service, and not %d", n), "write another service that extends this one; profiles put a service off", nil, key...)
	}
	m.own()
	m.out.Hash = m.out.hash(m.stamps)
	m.out.Flags = append(m.out.Flags, Flag{Word: "--label=" + reserved + "config-hash=" + m.out.Hash, Place: m.out.Place})
}

// words are the keys that are a flag with one value.
func (m *maker) words() {
	s := &m.s
	for _, w := range []struct{ key, flag, value string }{
		{"hostname", "hostname", s.Hostname},
		{"domainname", "domainname", s.DomainName},
		{"user", "user", s.User},
		{"working_dir", "workdir", s.WorkingDir},
		{"platform", "platform", s.Platform},
		{"stop_signal", "stop-signal", s.StopSignal},
		{"userns_mode", "userns", s.UserNSMode},
		{"uts", "uts", s.Uts},
		{"cgroup", "cgroupns", s.Cgroup},
		{"cgroup_parent", "cgroup-parent", s.CgroupParent},
		{"runtime", "runtime", s.Runtime},
		{"isolation", "isolation", s.Isolation},
		{"mac_address", "mac-address", s.MacAddress},
		{"cpuset", "cpuset-cpus", s.CPUSet},
		{"pid", "pid", m.join("pid", s.Pid)},
		{"ipc", "ipc", m.join("ipc", s.Ipc)},
	} {
		if w.value != "" {
			m.flag(w.flag, w.value, nil, w.key)
		}
	}
	for _, b := range []struct {
		key, flag string
		value     bool
		said      bool // false counts as well
	}{
		{"privileged", "privileged", s.Privileged, false},
		{"tty", "tty", s.Tty, false},
		{"stdin_open", "interactive", s.StdinOpen, false},
		{"use_api_socket", "use-api-socket", s.UseAPISocket, false},
		{"oom_kill_disable", "oom-kill-disable", s.OomKillDisable, false},
		{"read_only", "read-only", s.ReadOnly, m.has("read_only")},
		{"init", "init", s.Init != nil && *s.Init, s.Init != nil},
	} {
		if b.value || b.said {
			m.flag(b.flag, strconv.FormatBool(b.value), nil, b.key)
		}
	}
	if d := s.StopGracePeriod; d != nil {
		m.flag("stop-timeout", strconv.Itoa(int(math.Ceil(seconds(*d)))), nil, "stop_grace_period")
	}
	m.restart()
}

// join turns service:NAME into container:NAME.
func (m *maker) join(key, mode string) string {
	name, ok := strings.CutPrefix(mode, types.ServicePrefix)
	if !ok {
		return mode
	}
	c, there := m.names[name]
	if !there {
		m.wrong("there is no service "+quote(name)+" that is on", "", nil, key)
	}
	return types.ContainerPrefix + c
}

// lists are the keys that are a flag for each item.
func (m *maker) lists() {
	s := &m.s
	for _, w := range []struct {
		key, flag string
		values    []string
	}{
		{"cap_add", "cap-add", s.CapAdd},
		{"cap_drop", "cap-drop", s.CapDrop},
		{"group_add", "group-add", s.GroupAdd},
		{"device_cgroup_rules", "device-cgroup-rule", s.DeviceCgroupRules},
		{"dns", "dns", s.DNS},
		{"dns_search", "dns-search", s.DNSSearch},
		{"dns_opt", "dns-option", s.DNSOpts},
		{"expose", "expose", s.Expose},
		{"tmpfs", "tmpfs", s.Tmpfs},
	} {
		for _, v := range w.values {
			m.flag(w.flag, v, textIs(v), w.key)
		}
	}
	for _, w := range []struct {
		key, flag string
		values    map[string]string
	}{
		{"annotations", "annotation", s.Annotations}, {"sysctls", "sysctl", s.Sysctls},
	} {
		for _, k := range slices.Sorted(maps.Keys(w.values)) {
			m.flag(w.flag, k+"="+w.values[k], keyIs(k), w.key)
		}
	}
	for _, host := range slices.Sorted(maps.Keys(s.ExtraHosts)) {
		for _, ip := range s.ExtraHosts[host] {
			m.flag("add-host", host+":"+ip, keyIs(host), "extra_hosts")
		}
	}
	for _, v := range s.VolumesFrom {
		from, is := strings.CutPrefix(v, types.ContainerPrefix)
		if name, mode, _ := strings.Cut(v, ":"); !is && m.names[name] != "" {
			from = strings.TrimSuffix(m.names[name]+":"+mode, ":")
		}
		m.flag("volumes-from", from, textIs(v), "volumes_from")
	}
	for _, d := range s.Devices {
		word := d.Source
		for _, more := range []string{d.Target, d.Permissions} {
			if more != "" {
				word += ":" + more
			}
		}
		m.flag("device", word, func(src *source, n *yaml.Node) bool {
			got, ok := src.scalar(n)
			return ok && (got == d.Source || strings.HasPrefix(got, d.Source+":")) || src.get(n, "source") == d.Source
		}, "devices")
	}
	for _, g := range s.Gpus {
		m.flag("gpus", gpus(g), nil, "gpus")
	}
}

// gpus is a request for devices in docker's CSV.
func gpus(g types.DeviceRequest) string {
	var fields []string
	add := func(key, value string) {
		if value != "" {
			fields = append(fields, key+"="+value)
		}
	}
	add("driver", g.Driver)
	switch {
	case len(g.IDs) > 0:
		add("device", strings.Join(g.IDs, ","))
	case g.Count > 0:
		add("count", strconv.FormatInt(int64(g.Count), 10))
	default:
		add("count", "all")
	}
	add("capabilities", strings.Join(g.Capabilities, ","))
	var options []string
	for _, k := range slices.Sorted(maps.Keys(g.Options)) {
		options = append(options, k+"="+g.Options[k])
	}
	add("options", strings.Join(options, ","))
	return csvLine(fields)
}

// image is the image with when to fetch it.
func (m *maker) image() {
	s := &m.s
	pull := map[string]string{types.PullPolicyAlways: "always", types.PullPolicyNever: "never", types.PullPolicyMissing: "missing", types.PullPolicyIfNotPresent: "missing"}[s.PullPolicy]
	switch {
	case strings.HasPrefix(s.Image, "-"):
		m.wrong(quote(s.Image)+" is not the name of an image", "", nil, "image")
	case s.Image == "" && s.Build != nil:
		m.wrong("images are not built here", "build it elsewhere, load it with safe-run load -i FILE, and name it with image", nil, "build")
	case s.Build != nil:
		m.note("images are not built here; "+quote(s.Image)+" must be there already: safe-run load -i FILE", "build")
		if s.PullPolicy == "" || s.PullPolicy == types.PullPolicyBuild {
			pull = "never"
		}
	case s.Image == "":
		m.l.undefined = true
		m.wrong("it has no image", "name one with image", nil)
	case s.PullPolicy == types.PullPolicyBuild:
		m.wrong("images are not built here", "build it elsewhere, load it with safe-run load -i FILE, and leave pull_policy out", nil, "pull_policy")
	}
	switch {
	case pull != "" && (s.PullPolicy == "" || s.PullPolicy == types.PullPolicyBuild):
		m.flag("pull", pull, nil, "build")
	case pull != "":
		m.flag("pull", pull, nil, "pull_policy")
	case s.PullPolicy != "" && s.PullPolicy != types.PullPolicyBuild:
		m.note("images are not refreshed by age; it is fetched when it is missing", "pull_policy")
		m.flag("pull", "missing", nil, "pull_policy")
	}
}

// commands are entrypoint and command: as with docker run, the first word of
// the former is the flag.
func (m *maker) commands() {
	s := &m.s
	if s.Entrypoint != nil {
		program := ""
		if len(s.Entrypoint) > 0 {
			program = s.Entrypoint[0]
			m.out.Args = append(m.out.Args, s.Entrypoint[1:]...)
		}
		m.flag("entrypoint", program, nil, "entrypoint")
	}
	m.out.Args = append(m.out.Args, s.Command...)
}

// restart is restart, or what deploy says over it, as compose has it.
func (m *maker) restart() {
	d := m.s.Deploy
	if d == nil || d.RestartPolicy == nil {
		if r := m.s.Restart; r != "" {
			m.flag("restart", r, nil, "restart")
		}
		return
	}
	p := d.RestartPolicy
	key := []string{"deploy", "restart_policy"}
	if p.Condition != "" {
		key = append(key, "condition")
	}
	word := map[string]string{"": "always", "any": "always", "always": "always", "none": "no", "no": "no", "on-failure": "on-failure", "unless-stopped": "unless-stopped"}[p.Condition]
	switch {
	case word == "":
		m.wrong("it takes none, on-failure or any", "", nil, key...)
		return
	case p.MaxAttempts != nil && word == "on-failure":
		word += ":" + strconv.FormatUint(*p.MaxAttempts, 10)
	case p.MaxAttempts != nil:
		m.note("it counts with condition: on-failure alone, as with compose", "deploy", "restart_policy", "max_attempts")
	}
	m.flag("restart", word, nil, key...)
}

// health is healthcheck.
func (m *maker) health() {
	h := m.s.HealthCheck
	switch {
	case h == nil:
		return
	case h.Disable:
		m.flag("no-healthcheck", "true", nil, "healthcheck", "disable")
		return
	case len(h.Test) == 0: // the image's, with other times
	case h.Test[0] == "NONE":
		m.flag("no-healthcheck", "true", nil, "healthcheck", "test")
		return
	case h.Test[0] == "CMD-SHELL":
		m.flag("health-cmd", strings.Join(h.Test[1:], " "), nil, "healthcheck", "test")
	default:
		var words strings.Builder
		enc := json.NewEncoder(&words)
		enc.SetEscapeHTML(false) // people read it
		if err := enc.Encode([]string(h.Test[1:])); err != nil || len(h.Test) == 1 {
			m.wrong("there is no command after "+quote(h.Test[0]), "", nil, "healthcheck", "test")
			return
		}
		m.flag("health-exec", strings.TrimSuffix(words.String(), "\n"), nil, "healthcheck", "test")
	}
	for _, d := range []struct {
		key  string
		time *types.Duration
	}{{"interval", h.Interval}, {"timeout", h.Timeout}, {"start_period", h.StartPeriod}, {"start_interval", h.StartInterval}} {
		if d.time != nil {
			m.flag("health-"+strings.ReplaceAll(d.key, "_", "-"), d.time.String(), nil, "healthcheck", d.key)
		}
	}
	if h.Retries != nil {
		m.flag("health-retries", strconv.FormatUint(*h.Retries, 10), nil, "healthcheck", "retries")
	}
}

// depends is depends_on, with what the loader has added for links and the like.
func (m *maker) depends() {
	for _, name := range slices.Sorted(maps.Keys(m.s.DependsOn)) {
		d := m.s.DependsOn[name]
		if _, on := m.l.project.Services[name]; !on {
			off, there := m.l.project.DisabledServices[name]
			switch {
			case !there:
				m.nowhere("service", name, "", keyIs(name), "depends_on")
			case d.Required:
				m.l.undefined = true
				m.wrong("it depends on "+quote(name)+", which is not on", "put its profile on: --profile "+strings.Join(off.Profiles, ","), keyIs(name), "depends_on")
			}
			continue
		}
		m.out.DependsOn = append(m.out.DependsOn, Dependency{Service: name, Condition: d.Condition, Required: d.Required, Restart: d.Restart})
	}
}
