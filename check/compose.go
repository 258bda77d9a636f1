package check

import (
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// service is one service of a compose file on its way to a command line.
type service struct {
	*document
	*maker
	name       string
	entrypoint []word
	volumes    ast.Node // of the file
}

func (c *checker) compose(data []byte) error {
	d, err := c.yaml(data)
	if err != nil {
		return err
	}
	if d.root == nil {
		return nil
	}
	services := d.get(d.root, "services")
	for _, e := range d.entries(d.root) {
		if e.key == "include" {
			c.remark(e.line, "include", "other files are not opened")
		}
	}
	if services == nil {
		c.remark(1, "services", "there are none, so it is no compose file; commands in other YAML are not looked at: give them alone, as a script")
		return nil
	}
	for _, e := range d.entries(services) {
		l := &launch{command: "compose service " + short(e.key, 60), line: e.line, style: shellStyle{}}
		s := &service{document: d, maker: c.maker(l), name: e.key, volumes: d.get(d.root, "volumes")}
		if len(d.entries(e.value)) == 0 {
			c.remark(e.line, e.key, "not a service: there is nothing in it")
			continue
		}
		s.read(e)
		if err := c.add(l); err != nil {
			return err
		}
		if d.steps > maxExpanded {
			return c.wrong(e.line, "too large once its aliases are followed")
		}
	}
	// compose makes networks and names itself; a pasted line has neither.
	if len(c.r.Launches) > 1 {
		c.remark(0, "networks", "services find each other on a network made for them: safe-run network create --icc NAME, then --network NAME --name SERVICE for each")
	}
	return nil
}

// composeKeys are the keys of a service that are a flag with one value, or a
// list of flags.
func composeKeys() map[string]string {
	return map[string]string{
		"container_name": "name", "hostname": "hostname", "domainname": "domainname", "user": "user", "working_dir": "workdir",
		"privileged": "privileged", "read_only": "read-only", "tty": "tty", "stdin_open": "interactive", "init": "init",
		"pid": "pid", "ipc": "ipc", "uts": "uts", "userns_mode": "userns", "cgroup": "cgroupns", "cgroup_parent": "cgroup-parent",
		"runtime": "runtime", "shm_size": "shm-size", "mem_limit": "memory", "memswap_limit": "memory-swap", "mem_reservation": "memory-reservation",
		"mem_swappiness": "memory-swappiness", "cpus": "cpus", "cpu_shares": "cpu-shares", "cpu_period": "cpu-period", "cpu_quota": "cpu-quota",
		"cpu_rt_runtime": "cpu-rt-runtime", "cpu_rt_period": "cpu-rt-period", "cpuset": "cpuset-cpus", "cpu_count": "cpu-count", "cpu_percent": "cpu-percent",
		"pids_limit": "pids-limit", "oom_kill_disable": "oom-kill-disable", "oom_score_adj": "oom-score-adj", "stop_signal": "stop-signal",
		"mac_address": "mac-address", "platform": "platform", "isolation": "isolation", "use_api_socket": "use-api-socket",
		"cap_add": "cap-add", "cap_drop": "cap-drop", "security_opt": "security-opt", "devices": "device", "device_cgroup_rules": "device-cgroup-rule",
		"dns": "dns", "dns_search": "dns-search", "dns_opt": "dns-option", "expose": "expose", "links": "link", "external_links": "link",
		"group_add": "group-add", "tmpfs": "tmpfs", "label_file": "label-file", "restart": "restart",
		"environment": "env", "labels": "label", "annotations": "annotation", "sysctls": "sysctl", "storage_opt": "storage-opt", "extra_hosts": "add-host",
	}
}

// composeOther are the keys that say nothing about one container.
func composeOther() []string {
	return []string{
		"depends_on", "profiles", "scale", "develop", "attach", "image", "command", "build", "models",
	}
}

func (s *service) read(e entry) {
	for _, e := range s.entries(e.value) {
		s.key(e)
	}
	if s.l.image == nil {
		s.l.image = &word{parts: []part{{text: "IMAGE", unknown: true}}, raw: "IMAGE", line: e.line}
	}
	if len(s.entrypoint) > 0 {
		s.flag("entrypoint", s.entrypoint[0], "entrypoint", s.entrypoint[0].line)
		s.l.args = append(slices.Clone(s.entrypoint[1:]), s.l.args...)
	}
}

func (s *service) key(e entry) {
	name := composeKeys()[e.key]
	switch e.key {
	case "image":
		w := s.word(e.value)
		w.raw = s.style.parts(w.parts)
		s.l.image = &w
	case "command":
		s.l.args = append(s.l.args, s.command(e.key, e.value)...)
	case "entrypoint":
		if s.entrypoint = s.command(e.key, e.value); len(s.entrypoint) == 0 {
			s.entrypoint = []word{literal("", e.line)}
		}
	case "build":
		if s.l.image == nil {
			s.c.remark(e.line, s.name+": build", "images are not built here; build it, and name it in the place of IMAGE")
		}
	case "extends":
		s.unknown("extends", "what the other service says is not looked at", e.line)
	case "environment", "labels", "annotations", "sysctls", "storage_opt":
		s.pairs(e, name, "=")
	case "extra_hosts":
		s.pairs(e, name, ":")
	case "env_file":
		for _, n := range s.list(e.value) {
			if p := s.get(n, "path"); p != nil {
				n = p
			}
			s.flag("env-file", s.word(n), "env_file", yamlLine(n))
		}
	case "network_mode":
		w := s.word(e.value)
		if v, known := w.value(); known && strings.HasPrefix(v, "service:") {
			w = literal("container:"+v[8:], e.line)
		}
		s.flag("network", w, "network_mode: "+text(w), e.line)
	case "restart":
		w := s.word(e.value)
		if v, _ := w.value(); v == "false" {
			w = literal("no", e.line)
		}
		s.flag(name, w, "restart: "+text(w), e.line)
	case "networks":
		s.networks(e)
	case "ports":
		for _, n := range s.list(e.value) {
			s.port(n)
		}
	case "volumes":
		for _, n := range s.list(e.value) {
			s.volume(n)
		}
	case "volumes_from":
		for _, n := range s.list(e.value) {
			w := s.word(n)
			if v, known := w.value(); known {
				w = literal(strings.TrimPrefix(v, "container:"), w.line)
			}
			s.flag("volumes-from", w, "volumes_from: "+text(w), yamlLine(n))
		}
	case "devices":
		for _, n := range s.list(e.value) {
			w := s.word(n)
			if src := s.get(n, "source"); src != nil {
				w = s.word(src)
				for _, more := range []string{"target", "permissions"} {
					if m := s.get(n, more); m != nil {
						w.parts = append(append(w.parts, part{text: ":"}), s.word(m).parts...)
					}
				}
			}
			s.flag("device", w, "devices: "+text(w), yamlLine(n))
		}
	case "gpus":
		w := s.word(e.value)
		if _, ok := s.text(e.value); !ok {
			w = literal("all", e.line)
		}
		s.flag("gpus", w, "gpus: "+text(w), e.line)
	case "stop_grace_period":
		v, _ := s.text(e.value)
		if d, err := time.ParseDuration(v); err == nil {
			s.flag("stop-timeout", literal(itoa(int(d.Seconds())), e.line), "stop_grace_period: "+v, e.line)
		} else if v != "" {
			s.unknown("stop_grace_period: "+short(v, 80), "not a time that can be read", e.line)
		}
	case "pull_policy":
		if v, _ := s.text(e.value); v != "build" && v != "if_not_present" && v != "daily" && v != "weekly" && !strings.HasPrefix(v, "every_") {
			s.flag("pull", s.word(e.value), "pull_policy: "+v, e.line)
		}
	case "ulimits", "logging", "healthcheck", "deploy", "blkio_config":
		s.group(e)
	case "post_start", "pre_stop":
		why := "commands beside the container's own are not run: make them part of its program"
		for _, n := range s.list(e.value) {
			if v, _ := s.text(s.get(n, "privileged")); v != "" {
				if on, is := truth(v); on || !is {
					why = "it is run with all privileges, whatever the container has"
				}
			}
		}
		s.unknown(e.key, why, e.line)
	case "provider":
		s.unknown(e.key, "a program of another kind makes it, and nobody knows here what that does", e.line)
	case "secrets", "configs", "credential_spec":
		s.unknown(e.key, "it comes from elsewhere in the file: give the file with --secret ID=FILE, or -v FILE:/PATH:ro", e.line)
	default:
		switch {
		case strings.HasPrefix(e.key, "x-") || slices.Contains(composeOther(), e.key):
		case name == "":
			s.unknown(e.key, "a key that is not known here", e.line)
		default:
			for _, n := range s.list(e.value) {
				w := s.word(n)
				s.flag(name, w, e.key+": "+text(w), max(yamlLine(n), e.line))
			}
		}
	}
}

// text is a word for a message.
func text(w word) string {
	var b strings.Builder
	for _, p := range w.parts {
		b.WriteString(p.text)
	}
	return b.String()
}

// pairs are a list of KEY=VALUE, or a mapping.
func (s *service) pairs(e entry, flag, sep string) {
	if _, is := s.follow(e.value).(*ast.SequenceNode); is {
		for _, n := range s.list(e.value) {
			w := s.word(n)
			if v, known := w.value(); known && sep == ":" {
				w = literal(strings.Replace(v, "=", ":", 1), w.line)
			}
			s.flag(flag, w, e.key+": "+text(w), yamlLine(n))
		}
		return
	}
	for _, p := range s.entries(e.value) {
		for _, n := range s.list(p.value) {
			s.flag(flag, word{parts: append([]part{{text: p.key + sep}}, s.word(n).parts...), line: p.line}, e.key+": "+short(p.key, 80), p.line)
		}
		if _, null := s.follow(p.value).(*ast.NullNode); null {
			s.flag(flag, literal(p.key, p.line), e.key+": "+short(p.key, 80), p.line)
		}
	}
}

func (s *service) networks(e entry) {
	names := s.entries(e.value)
	if len(names) == 0 {
		for _, n := range s.list(e.value) {
			v, _ := s.text(n)
			names = append(names, entry{v, nil, yamlLine(n)})
		}
	}
	for _, n := range names {
		if n.key == "default" {
			continue // the project's own, which is bridge here
		}
		w := word{parts: []part{{text: n.key}}, line: n.line}
		extra := ""
		for _, o := range s.entries(n.value) {
			for _, item := range s.list(o.value) {
				v, _ := s.text(item)
				switch o.key {
				case "aliases":
					extra += ",alias=" + v
				case "ipv4_address":
					extra += ",ip=" + v
				case "ipv6_address":
					extra += ",ip6=" + v
				case "mac_address":
					extra += ",mac-address=" + v
				case "link_local_ips":
					extra += ",link-local-ip=" + v
				case "driver_opts":
					extra += ",driver-opt=" + v
				}
			}
		}
		if extra != "" {
			w = composeWord("name="+n.key+extra, n.line)
		}
		s.flag("network", w, "networks: "+short(n.key, 80), n.line)
	}
}

func (s *service) port(n ast.Node) {
	if target := s.get(n, "target"); target != nil {
		w := word{line: yamlLine(n)}
		add := func(key, after string) {
			if v := s.get(n, key); v != nil {
				w.parts = append(append(w.parts, s.word(v).parts...), part{text: after})
			}
		}
		add("host_ip", ":")
		if len(w.parts) > 0 && s.get(n, "published") == nil {
			w.parts = append(w.parts, part{text: ":"})
		}
		add("published", ":")
		add("target", "")
		if p := s.get(n, "protocol"); p != nil {
			w.parts = append(append(w.parts, part{text: "/"}), s.word(p).parts...)
		}
		s.flag("publish", w, "ports: "+text(w), w.line)
		return
	}
	w := s.word(n)
	s.flag("publish", w, "ports: "+text(w), w.line)
}
