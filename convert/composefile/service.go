package composefile

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/internal/words"
	"github.com/safe-run/safe-run/spec"
)

// shared is what stands beside the services.
type shared struct{ networks, volumes, secrets map[string]mapping }

// kind is the form of a key's value.
type kind int

const (
	word   kind = iota // a string
	number             // without quotation marks
	truth              // true or false
	list               // an item for each flag
)

// simple are the keys of a service that are a flag.
func simple() []struct {
	key, flag string
	kind
} {
	return []struct {
		key, flag string
		kind
	}{
		{"container_name", "name", word},
		{"hostname", "hostname", word},
		{"domainname", "domainname", word},
		{"platform", "platform", word},
		{"pull_policy", "pull", word},
		{"user", "user", word},
		{"group_add", "group-add", list},
		{"working_dir", "workdir", word},
		{"init", "init", truth},
		{"tty", "tty", truth},
		{"stdin_open", "interactive", truth},
		{"environment", "env", list},
		{"labels", "label", list},
		{"annotations", "annotation", list},
		{"privileged", "privileged", truth},
		{"cap_drop", "cap-drop", list},
		{"cap_add", "cap-add", list},
		{"security_opt", "security-opt", list},
		{"read_only", "read-only", truth},
		{"tmpfs", "tmpfs", list},
		{"shm_size", "shm-size", word},
		{"mem_limit", "memory", word},
		{"memswap_limit", "memory-swap", word},
		{"mem_reservation", "memory-reservation", word},
		{"mem_swappiness", "memory-swappiness", number},
		{"pids_limit", "pids-limit", number},
		{"cpus", "cpus", word},
		{"cpu_shares", "cpu-shares", number},
		{"cpu_period", "cpu-period", number},
		{"cpu_quota", "cpu-quota", number},
		{"cpu_rt_period", "cpu-rt-period", number},
		{"cpu_rt_runtime", "cpu-rt-runtime", number},
		{"cpuset", "cpuset-cpus", word},
		{"oom_score_adj", "oom-score-adj", number},
		{"oom_kill_disable", "oom-kill-disable", truth},
		{"devices", "device", list},
		{"device_cgroup_rules", "device-cgroup-rule", list},
		{"sysctls", "sysctl", list},
		{"runtime", "runtime", word},
		{"pid", "pid", word},
		{"ipc", "ipc", word},
		{"uts", "uts", word},
		{"userns_mode", "userns", word},
		{"cgroup", "cgroupns", word},
		{"cgroup_parent", "cgroup-parent", word},
		{"ports", "publish", list},
		{"expose", "expose", list},
		{"extra_hosts", "add-host", list},
		{"dns", "dns", list},
		{"dns_search", "dns-search", list},
		{"dns_opt", "dns-option", list},
		{"volumes_from", "volumes-from", list},
		{"restart", "restart", word},
		{"stop_signal", "stop-signal", word},
		{"stop_grace_period", "stop-timeout", word},
	}
}

// spelled is the value of a flag as the key has it.
func spelled(f words.Flag) string {
	switch f.Name {
	case "stop-timeout":
		return f.Value + "s"
	case "volumes-from":
		return "container:" + f.Value
	case "add-host": // an IPv6 address has colons of its own
		return strings.Replace(f.Value, ":", "=", 1)
	case "publish":
		return strings.TrimPrefix(f.Value, ":")
	case "security-opt":
		if file, is := strings.CutPrefix(f.Value, "seccomp="); is && file != "unconfined" {
			return "seccomp=./" + file
		}
		if f.Value == "no-new-privileges" {
			return "no-new-privileges:true"
		}
	}
	return f.Value
}

// unspelled is the inverse of spelled.
func unspelled(name, value string) string {
	switch name {
	case "stop-timeout":
		return strings.TrimSuffix(value, "s")
	case "volumes-from":
		return strings.TrimPrefix(value, "container:")
	case "security-opt":
		if file, is := strings.CutPrefix(value, "seccomp=./"); is {
			return "seccomp=" + file
		}
	}
	return value
}

// service is a container as a service.
func service(c convert.Container, o convert.Options, top *shared) (mapping, error) {
	w := c.Workload
	flags, err := words.Hardened(c, o, say(w))
	if err == nil {
		err = sayable(c, flags)
	}
	if err != nil {
		return nil, err
	}
	values := map[string][]string{}
	for _, f := range flags {
		values[f.Name] = append(values[f.Name], spelled(f))
	}
	out := mapping{{"image", w.Image}}
	if e, said := values["entrypoint"]; said {
		program := []any{}
		if e[0] != "" {
			program = []any{e[0]}
		}
		out.add("entrypoint", program)
	}
	if len(w.Args) > 0 {
		out.add("command", anys(w.Args))
	}
	for _, k := range simple() {
		v := values[k.flag]
		switch {
		case len(v) == 0:
		case k.kind == list:
			out.add(k.key, anys(v))
		case k.kind == word:
			out.add(k.key, v[len(v)-1])
		default:
			out.add(k.key, literal(v[len(v)-1]))
		}
	}
	ulimits(&out, values["ulimit"])
	blkio(&out, values)
	logging(&out, values)
	health(&out, w, values)
	networks(&out, w, values, top)
	volumes(&out, values["mount"], top)
	secrets(&out, c, values["secret"], top)
	if len(c.DependsOn) > 0 {
		var all mapping
		for _, d := range c.DependsOn {
			all.add(d.Name, mapping{{"condition", conditions()[d.Condition]}})
		}
		out.add("depends_on", all)
	}
	if _, err := words.JSON(c.Kept); err != nil {
		return nil, err
	}
	out.add(extension, mapping{{"flags", anys(c.Kept)}})
	return out, nil
}

func conditions() map[string]string {
	return map[string]string{"started": "service_started", "healthy": "service_healthy", "completed": "service_completed_successfully"}
}

func anys(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

func ulimits(out *mapping, values []string) {
	var all mapping
	for _, v := range values {
		name, limits, _ := strings.Cut(v, "=")
		soft, hard, _ := strings.Cut(limits, ":")
		all.add(name, mapping{{"soft", literal(soft)}, {"hard", literal(hard)}})
	}
	if len(all) > 0 {
		out.add("ulimits", all)
	}
}

// blkioKeys are those of blkio_config, with the names of their items.
func blkioKeys() [][3]string {
	return [][3]string{
		{"weight_device", "blkio-weight-device", "weight"},
		{"device_read_bps", "device-read-bps", "rate"},
		{"device_write_bps", "device-write-bps", "rate"},
		{"device_read_iops", "device-read-iops", "rate"},
		{"device_write_iops", "device-write-iops", "rate"},
	}
}

func blkio(out *mapping, values map[string][]string) {
	var all mapping
	for _, v := range values["blkio-weight"] {
		all.add("weight", literal(v))
	}
	for _, k := range blkioKeys() {
		var items []any
		for _, v := range values[k[1]] {
			path, n, _ := strings.Cut(v, ":")
			items = append(items, mapping{{"path", path}, {k[2], literal(n)}})
		}
		if len(items) > 0 {
			all.add(k[0], items)
		}
	}
	if len(all) > 0 {
		out.add("blkio_config", all)
	}
}

func logging(out *mapping, values map[string][]string) {
	var all, options mapping
	for _, v := range values["log-driver"] {
		all.add("driver", v)
	}
	for _, v := range values["log-opt"] {
		key, value, _ := strings.Cut(v, "=")
		options.add(key, value)
	}
	if len(options) > 0 {
		all.add("options", options)
	}
	if len(all) > 0 {
		out.add("logging", all)
	}
}

// healthKeys are those of healthcheck.
func healthKeys() [][2]string {
	return [][2]string{{"interval", "health-interval"}, {"timeout", "health-timeout"}, {"retries", "health-retries"}, {"start_period", "health-start-period"}, {"start_interval", "health-start-interval"}}
}

func health(out *mapping, w spec.Workload, values map[string][]string) {
	var all mapping
	switch {
	case len(values["no-healthcheck"]) > 0:
		all.add("disable", literal("true"))
	case len(w.Health.Test) > 0:
		all.add("test", anys(w.Health.Test))
	}
	for _, k := range healthKeys() {
		for _, v := range values[k[1]] {
			if k[0] == "retries" {
				all.add(k[0], literal(v))
			} else {
				all.add(k[0], v)
			}
		}
	}
	if len(all) > 0 {
		out.add("healthcheck", all)
	}
}

// test is the flag for healthcheck.test.
func test(list []string) (words.Flag, bool) {
	switch {
	case len(list) == 2 && list[0] == "CMD-SHELL":
		return words.Flag{Name: "health-cmd", Value: list[1]}, true
	case len(list) > 1 && list[0] == "CMD":
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		err := e.Encode(list[1:])
		return words.Flag{Name: "health-exec", Value: strings.TrimSuffix(b.String(), "\n")}, err == nil
	case slices.Equal(list, []string{"NONE"}):
		return words.Flag{Name: "no-healthcheck", Value: "true"}, true
	}
	return words.Flag{}, false
}
