// Package composefile writes containers as a compose file, and reads compose
// files.
package composefile

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/internal/words"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

const (
	// extension keeps what compose has no key for; compose passes over keys that
	// begin with x-.
	extension = "x-safe-run"
	// fileName is where compose looks first.
	fileName = "compose.yaml"
)

type format struct{}

// Format is that of compose files.
func Format() convert.Format { return format{} }

func (format) Name() string { return "compose" }

// Why says why compose has no such key.
func (format) Why(flag string) string {
	if why, ok := map[string]string{
		"egress":            "compose has no filter for what goes out: a network with internal: true is the nearest",
		"health-on-failure": "compose tells that a container is unhealthy and leaves it",
		"sdnotify":          "compose runs containers in docker's daemon, which tells systemd nothing",
		"secret":            "compose takes secrets from files and variables, and not from a unit's credentials",
		"mount":             "compose has no word exec, and options of a volume stand once for all that use it",
		"log-driver":        "docker has no such driver, and keeps the output itself",
		"ip":                "compose gives addresses on networks of one's own only",
		"ip6":               "compose gives addresses on networks of one's own only",
		"mac-address":       "compose gives addresses on networks of one's own only",
		"tmpfs":             "a share is one of the host's memory with docker: what it is of the limit is written instead",
		"label":             "labels that begin with com.docker.compose. are compose's own",
		"gpus":              "compose has another form for it, which says less",
		"publish-all":       "compose publishes the ports it names",
		"stop-timeout":      "compose does not wait for ever",
		"memory":            "compose takes 0 for not given",
		"cpuset-mems":       "compose has no key for it",
		"volume-driver":     "compose has it for each volume",
		"read-only":         "compose takes false for not given",
		"env":               "compose leaves out a variable that is not set",
		"add-host":          "compose reads it as another name",
		"no-healthcheck":    "compose has it without further keys only",
	}[flag]; ok {
		return why
	}
	return "compose has no such key, or means another thing by it"
}

// say gives a flag as compose has it.
func say(w spec.Workload) words.Say {
	named := slices.ContainsFunc(w.Networks, func(n spec.NetworkUse) bool { return onNetwork(n) })
	return func(f words.Flag) ([]words.Flag, bool) {
		switch f.Name {
		case "egress", "health-on-failure", "sdnotify", "gpus", "publish-all", "cpuset-mems", "volume-driver", "use-api-socket":
			return nil, false
		case "log-driver":
			if f.Value == "passthrough" {
				return nil, false
			}
		case "ip", "ip6", "mac-address":
			if !named {
				return nil, false
			}
		case "label":
			if strings.HasPrefix(f.Value, "com.docker.compose.") {
				return nil, false
			}
		case "stop-timeout":
			if strings.HasPrefix(f.Value, "-") {
				return nil, false
			}
		case "memory":
			if f.Value == "0" {
				return nil, false
			}
		case "env":
			if !strings.Contains(f.Value, "=") {
				return nil, false
			}
		case "mount":
			fields, err := words.Fields(f.Value)
			left := slices.DeleteFunc(slices.Clone(fields), func(s string) bool {
				return s == "exec" || strings.HasPrefix(s, "volume-driver=") || strings.HasPrefix(s, "volume-opt=")
			})
			return []words.Flag{{Name: f.Name, Value: words.CSV(left...)}}, err == nil && len(left) == len(fields)
		case "secret":
			if !slices.ContainsFunc(w.Secrets, func(s spec.Secret) bool { return s.Source != "" && words.Target(f) == "/run/secrets/"+s.ID }) {
				return nil, false
			}
		}
		return []words.Flag{f}, true
	}
}

// onNetwork says whether a network is one by name.
func onNetwork(n spec.NetworkUse) bool {
	return n.Name != "bridge" && n.Name != "none" && n.Name != "host" && !strings.HasPrefix(n.Name, "container:") && !strings.HasPrefix(n.Name, "ns:")
}

func (f format) Write(p convert.Project, losses []convert.Loss, o convert.Options) ([]convert.File, []convert.Loss, error) {
	defaults := words.Losses(p, o, wider())
	top := shared{networks: map[string]mapping{}, volumes: map[string]mapping{}, secrets: map[string]mapping{}}
	var services mapping
	for _, c := range p.Containers {
		s, err := service(c, o, &top)
		if err != nil {
			return nil, nil, fail.Wrap(fail.KindOf(err), err, "%s", c.Name)
		}
		services.add(c.Name, s)
	}
	for _, n := range p.Networks {
		if _, used := top.networks[n.Name]; used && !n.External {
			top.networks[n.Name] = mapping{{"name", n.Name}}
			if n.Internal {
				top.networks[n.Name] = append(top.networks[n.Name], pair{"internal", literal("true")})
			}
		}
	}
	name := p.Name
	if !words.IsName(name) && len(p.Containers) > 0 {
		name = p.Containers[0].Name
	}
	doc := mapping{{"name", name}, {"services", services}}
	for _, s := range []struct {
		key string
		of  map[string]mapping
	}{{"networks", top.networks}, {"volumes", top.volumes}, {"secrets", top.secrets}} {
		if len(s.of) > 0 {
			doc.add(s.key, sortedMapping(s.of))
		}
	}
	head := []string{"Written by safe-run export compose; safe-run import compose reads it."}
	files := words.SeccompFiles(p, o)
	if len(files) > 0 {
		head = append(head, "The files *.seccomp.json have to be beside it.")
	}
	var b strings.Builder
	b.WriteString(words.Comment(head, losses, defaults))
	doc.write(&b, "")
	return append([]convert.File{{Name: fileName, Data: []byte(b.String())}}, files...), defaults, nil
}

func sortedMapping(of map[string]mapping) (out mapping) {
	var names []string
	for name := range of {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		out.add(name, of[name])
	}
	return out
}

// text says why a workload cannot be YAML: that is Unicode.
func sayable(c convert.Container, flags []words.Flag) error {
	for _, a := range append([]string{c.Workload.Image}, c.Workload.Args...) {
		if !utf8.ValidString(a) {
			return fail.New(fail.Usage, "%.80q is not text, which YAML is", a)
		}
	}
	for _, f := range flags {
		if !utf8.ValidString(f.Value) {
			return fail.New(fail.Usage, "--%s: %.80q is not text, which YAML is", f.Name, f.Value)
		}
	}
	return nil
}

// wider are the defaults of safe-run that docker compose has not. safe-run
// compose has them.
func wider() []words.Lost {
	return []words.Lost{
		{What: "ids of its own", Why: "with docker, root in the container is root on the host, unless the daemon runs with userns-remap; then all containers share one range", Applies: words.OwnIDs},
		{What: "capabilities for users other than root", Why: "docker gives them to root alone: for another user the program needs file capabilities", Applies: words.Ambient},
		{What: "network isolation", Why: "containers of a docker network reach each other, the host's services and the cloud's metadata", Applies: words.Wired},
		{What: "no programs from data", Why: "with docker, what is written to binds and volumes can be executed", Applies: words.Data},
		{What: "the built-in seccomp filter", Why: "it is a file, which is written beside the compose file by -o; docker uses its own, wider one", Applies: words.BuiltIn},
		{What: "the policy and the check of the kernel's state", Why: "docker starts what it is asked for, and does not compare", Applies: words.Always},
	}
}
