package properties

import (
	"encoding/json"
	"fmt"
	"strings"
)

// flagWord is one flag of a command line with its words.
type flagWord struct {
	flag  string
	words []string
}

// plan is a launch before it is written down, so that it can be written in
// another order or with one thing less.
type plan struct {
	launch
	flags  []flagWord
	rest   []string // image and arguments
	grants []grantOf
	limits string // of the site, and its switches
}

// grantOf is one entry of a grant: key and value as the site's file has them,
// and the value as the specification shows it.
type grantOf struct{ key, value, yaml string }

// gives is what can be granted to the image of the generated launches.
func gives() []grantOf {
	out := []grantOf{
		{"capabilities", "CAP_NET_ADMIN", "NET_ADMIN"},
		{"capabilities", "CAP_SYS_PTRACE", "cap_sys_ptrace"},
		{"capabilities", "CAP_NET_RAW", "NET_RAW"},
		{"devices", "/dev/fuse", "{path: /dev/fuse}"},
		{"devices", "/dev/net/tun", "{path: /dev/net/tun, permissions: r}"},
		{"binds", "/etc/app", "{source: /etc/app}"},
		{"binds", "/var/mail", "{source: /var/mail, readonly: true}"},
		{"binds", "/srv/dbus", "{source: /srv/dbus}"},
		{"sysctls", "user.max_user_namespaces", "user.max_user_namespaces"},
		{"sysctls", "net.ipv4.conf.all.accept_redirects", "net.ipv4.conf.all.accept_redirects"},
		{"annotations", "com.example.note", "com.example.note"},
	}
	for _, id := range []string{
		"userns-host", "network-host", "pid-host", "ipc-host", "uts-host", "seccomp-unconfined", "apparmor-unconfined", "apparmor-profile", "label-disable",
		"new-privileges", "publish-address", "writable-rootfs", "memory-unlimited", "pids-unlimited",
	} {
		out = append(out, grantOf{"allow", id, id})
	}
	return out
}

// siteOf writes a site's policy with these grants, in this order.
func siteOf(grants []grantOf, limits string) string {
	var b strings.Builder
	b.WriteString("version: 1\n" + limits)
	if len(grants) == 0 {
		return b.String()
	}
	b.WriteString("grants:\n  - image: evil.example/busybox\n    allow: [userns-host, pid-host, network-host, writable-rootfs]\n    capabilities: [SYS_ADMIN]\n" +
		"  - image: busybox\n    profile: nobody\n    allow: [seccomp-unconfined]\n    capabilities: [SYS_ADMIN]\n")
	for _, key := range []string{"capabilities", "devices", "binds", "sysctls", "annotations", "allow"} {
		var values []string
		for _, g := range grants {
			if g.key == key {
				values = append(values, g.yaml)
			}
		}
		if len(values) > 0 {
			fmt.Fprintf(&b, "  - image: busybox\n    %s: [%s]\n", key, strings.Join(values, ", "))
		}
	}
	return b.String()
}

// write makes the command line and the site's file of a plan.
func (p plan) write() launch {
	l := p.launch
	l.argv = nil
	for _, f := range p.flags {
		l.argv = append(l.argv, f.words...)
	}
	l.argv = append(l.argv, p.rest...)
	l.site = ""
	if len(p.grants) > 0 || p.limits != "" {
		l.site = siteOf(p.grants, p.limits)
	}
	return l
}

// generate makes a plan of choices. The first choice is the harmless one
// everywhere, so that few bytes are a small launch.
func generate(c *choices) plan {
	p := plan{rest: []string{"busybox", "true"}}
	all := flags()
	for range c.below(6) {
		p.flags = append(p.flags, flagOf(c, all[c.below(len(all))]))
	}
	p.host = hosts()[0]
	if c.oneIn(2) {
		p.host = pick(c, hosts())
	}
	if c.oneIn(2) {
		p.grants = gives()
		if c.oneIn(3) {
			p.grants = some(c, p.grants, len(p.grants))
		}
	}
	if c.oneIn(4) {
		p.limits = pick(c, []string{
			"limits: {max: {memory: 1g, pids: 500, tmpfs: 64m, shm: 64m, nofile: 4096, cpus: 2}}\n",
			"publish-address: required\n", "publish-address: 127.0.0.1\n", "networks: [front, bridge]\n", "registries: [docker.io]\n", "require-lsm: true\n",
			"require-digest: true\n", "limits: {default: {memory: 256m, pids: 100, shm: 16m}}\n", "version: 2\n", "require-lms: true\n", "grants: &a [*a]\n",
		})
	}
	p.profile = profileOf(c)
	p.image = imageOf(c)
	p.service = c.oneIn(6)
	if c.oneIn(8) {
		p.rest = pick(c, [][]string{{"busybox"}, {"other", "sh"}, {"busybox", ""}, {"busybox", "-c", "a\x00b"}, {"UPPER/case"}, {}, {"busybox@sha256:" + strings.Repeat("a", 64)}})
	}
	return p
}

// privileged makes a plan that asks for one to three things the generous site
// gives, beside a harmless flag.
func privileged(c *choices) plan {
	p := plan{rest: []string{"busybox", "true"}, grants: gives()}
	p.host = pick(c, hosts()[:3])
	p.profile, p.image = profileOf(&choices{}), imageOf(&choices{})
	for _, w := range some(c, rights(), 3) {
		p.flags = append(p.flags, flagWord{"right", w})
		if strings.HasPrefix(w[0], "--publish") {
			p.limits = "publish-address: required\n"
		}
	}
	for _, w := range flags() {
		if w.flag == "env" || w.flag == "workdir" || w.flag == "ulimit" || w.flag == "tmpfs" {
			if c.oneIn(4) {
				p.flags = append(p.flags, flagWord{w.flag, []string{"--" + w.flag, w.good[0]}})
			}
		}
	}
	return p
}

// rights are words that need one of gives.
func rights() [][]string {
	return [][]string{
		{"--cap-add=NET_ADMIN"},
		{"--cap-add", "SYS_PTRACE"},
		{"--device=/dev/fuse"},
		{"--device=/dev/net/tun:/dev/net/tun:r"},
		{"-v/etc/app:/a"},
		{"-v", "/var/mail:/mail:ro"},
		{"--mount=type=bind,src=/srv/dbus,dst=/bus"},
		{"--sysctl=user.max_user_namespaces=10"},
		{"--sysctl", "net.ipv4.conf.all.accept_redirects=1"},
		{"--annotation=com.example.note=x"},
		{"--userns=host"},
		{"--net=host"},
		{"--pid=host"},
		{"--ipc=host"},
		{"--uts=host"},
		{"--security-opt=seccomp=unconfined"},
		{"--security-opt=apparmor=unconfined"},
		{"--security-opt=apparmor=site-web"},
		{"--security-opt=label=disable"},
		{"--security-opt=no-new-privileges=false"},
		{"--publish=8080:80"},
		{"--read-only=false"},
		{"--memory=0"},
		{"--pids-limit=-1"},
		{"--userns=host", "--network=host", "--cap-add=NET_RAW"},
	}
}

// flagOf gives a flag one of its values, in one of its spellings.
func flagOf(c *choices, w words) flagWord {
	f := flagWord{flag: w.flag}
	if w.with != "" {
		f.words = append(f.words, w.with)
	}
	values := w.good
	if len(values) == 0 || c.oneIn(10) && len(w.bad) > 0 {
		values = w.bad
	}
	if len(values) == 0 || w.alone && c.oneIn(4) {
		f.words = append(f.words, "--"+w.flag)
		return f
	}
	v := pick(c, values)
	if w.alone || !c.oneIn(3) || isBool(values) {
		f.words = append(f.words, "--"+w.flag+"="+v)
	} else {
		f.words = append(f.words, "--"+w.flag, v)
	}
	return f
}

func isBool(values []string) bool {
	return values[0] == "true" || values[0] == "false" || values[0] == "1" || values[0] == "maybe" || values[0] == "perhaps" || values[0] == "x"
}

// profileOf writes a profile.
func profileOf(c *choices) string {
	lines := []string{"version: 1", "name: p"}
	lines = append(lines, some(c, []string{
		"capabilities: [CHOWN, SETUID]", "writable: [/cache, {path: /work, size: 1m, exec: true}]", "ports: [\"80\"]", "sysctls: [{name: net.core.somaxconn, value: \"512\"}]",
		"user: \"1000\"", "network: none", "limits: {memory: 64m, pids: 50, nofile: 1024}", "stop-signal: SIGQUIT", "egress: [none]",
		"capabilities: [NET_ADMIN]", "binds: [{source: /srv/www, target: /site}]", "binds: [{source: /etc, target: /e, writable: true}]", "devices: [/dev/fuse]",
		"userns: host", "network: host", "seccomp: {allow: [read, write, exit_group, execve]}", "limits: {memory: 900g}", "capabilities: [SYS_ADMIN]",
		"privileged: true", "sysctls: [{name: kernel.core_pattern, value: x}]", "version: 1",
	}, 4)...)
	return strings.Join(lines, "\n") + "\n"
}

// imageOf writes an image's configuration.
func imageOf(c *choices) string {
	config := map[string]any{"Env": []string{"PATH=/bin:/usr/bin"}, "Cmd": []string{"sh"}}
	for _, set := range some(c, []func(){
		func() {
			config["User"] = pick(c, []string{"1000", "app:app", "root", "4294967296", "-1", "nobody-here"})
		},
		func() {
			config["Env"] = pick(c, [][]string{{"A=b", "NOTIFY_SOCKET=/x", "LISTEN_FDS=1"}, {"SECRET"}, {"=x"}, {"a\x00b=c"}})
		},
		func() { config["WorkingDir"] = pick(c, []string{"/w", "", "/proc/self/cwd", "rel"}) },
		func() {
			config["Volumes"] = map[string]any{pick(c, []string{"/data", "/var/lib/db", "/tmp", "/proc", "/", "/dev/shm", "/etc", "/run/secrets", "/a/../proc"}): struct{}{}}
		},
		func() { config["Entrypoint"] = pick(c, [][]string{{"/e"}, {""}, {}}) },
		func() { config["StopSignal"] = pick(c, []string{"SIGINT", "9; rm", "999"}) },
		func() {
			config["Labels"] = map[string]string{"org.systemd.property.TasksMax": "uint64 9", "a\x1b": "b"}
		},
		func() {
			config["ExposedPorts"] = map[string]any{pick(c, []string{"80/tcp", "0/tcp", "x"}): struct{}{}}
		},
		func() { config["Cmd"] = []string{} },
		func() { config["Healthcheck"] = map[string]any{"Test": []string{"CMD", "true"}} },
	}, 2) {
		set()
	}
	b, err := json.Marshal(map[string]any{"architecture": "amd64", "os": "linux", "config": config})
	if err != nil {
		return err.Error()
	}
	return string(b)
}
