// Package dockerline writes containers as command lines of docker run, and reads
// such lines, also those of podman, nerdctl and safe-run, out of shell scripts.
package dockerline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/internal/words"
	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// Labels of containers that keep what docker has no flag for.
const (
	labelName    = "safe-run.name"
	labelFlags   = "safe-run.flags"
	labelDepends = "safe-run.depends-on"
	labelNetwork = "safe-run.network" // on networks that are made for the containers
)

// maxFile bounds what is read, in bytes.
const maxFile = 4 << 20

type format struct{}

// Format is that of docker run.
func Format() convert.Format { return format{} }

func (format) Name() string { return "docker" }

// Why says why docker has no such flag.
func (format) Why(flag string) string {
	if why, ok := map[string]string{
		"egress":            "docker filters nothing that goes out: --network none or an internal network are the nearest",
		"health-exec":       "docker run takes a line for the image's shell only, which is written instead",
		"health-on-failure": "docker tells that a container is unhealthy and leaves it",
		"sdnotify":          "docker runs containers in its daemon, which tells systemd nothing",
		"secret":            "docker has secrets in a swarm only: its file is bound, read-only and with the owner it has",
		"mount":             "docker has no word exec: binds and volumes can always be executed from",
		"log-driver":        "docker has no such driver, and keeps the output itself",
		"ip":                "docker gives addresses on networks of one's own only",
		"ip6":               "docker gives addresses on networks of one's own only",
		"tmpfs":             "a share is one of the host's memory with docker: what it is of the limit is written instead",
		"label":             "labels that begin with safe-run. say what docker run cannot",
	}[flag]; ok {
		return why
	}
	return "docker run has no such flag, or means another thing by it"
}

// say gives a flag as docker has it.
func say(w spec.Workload) words.Say {
	named := slices.ContainsFunc(w.Networks, func(n spec.NetworkUse) bool { return n.Name != "bridge" })
	return func(f words.Flag) ([]words.Flag, bool) {
		switch f.Name {
		case "egress", "health-on-failure", "sdnotify":
			return nil, false
		case "health-exec":
			return []words.Flag{{Name: "health-cmd", Value: shellLine(w.Health.Test[1:])}}, false
		case "log-driver":
			if f.Value == "passthrough" {
				return nil, false
			}
		case "ip", "ip6":
			if !named {
				return nil, false
			}
		case "label":
			if strings.HasPrefix(f.Value, "safe-run.") {
				return nil, false
			}
		case "mount":
			if plain, is := words.WithoutExec(f.Value); is {
				return []words.Flag{{Name: "mount", Value: plain}}, false
			}
		case "secret":
			for _, s := range w.Secrets {
				if s.Source != "" && words.Target(f) == "/run/secrets/"+s.ID {
					return []words.Flag{{Name: "mount", Value: words.CSV("type=bind", "source="+s.Source, "target=/run/secrets/"+s.ID, "readonly")}}, false
				}
			}
			return nil, false
		}
		return []words.Flag{f}, true
	}
}

func (f format) Write(p convert.Project, losses []convert.Loss, o convert.Options) ([]convert.File, []convert.Loss, error) {
	defaults := words.Losses(p, o, wider())
	var b strings.Builder
	b.WriteString("#!/bin/bash\n")
	head := []string{"Written by safe-run export docker; safe-run import docker reads it."}
	if files := words.SeccompFiles(p, o); len(files) > 0 {
		head = append(head, "The files *.seccomp.json have to be in the directory it runs in.")
	}
	b.WriteString(words.Comment(head, losses, defaults))
	b.WriteString("set -e\n")
	for _, n := range p.Networks {
		if !n.External {
			fmt.Fprintf(&b, "\n%s\n", network(n))
		}
	}
	for i := range p.Containers {
		line, err := f.line(&p.Containers[i], o)
		if err != nil {
			return nil, nil, err
		}
		b.WriteString("\n" + line + "\n")
	}
	name := p.Name
	if !words.IsName(name) && len(p.Containers) > 0 {
		name = p.Containers[0].Name
	}
	files := []convert.File{{Name: name + ".sh", Data: []byte(b.String())}}
	return append(files, words.SeccompFiles(p, o)...), defaults, nil
}

// network makes a network unless it is there.
func network(n convert.Network) string {
	create := []string{"docker", "network", "create", "--label=" + labelNetwork + "=icc"}
	if n.Internal {
		create = append(create, "--internal")
	}
	return fmt.Sprintf("docker network inspect %s >/dev/null 2>&1 ||\n\t%s", shell(n.Name), shellLine(append(create, n.Name)))
}

// line is the command of a container, a flag a line.
func (f format) line(c *convert.Container, o convert.Options) (string, error) {
	flags, err := words.Hardened(*c, o, say(c.Workload))
	if err != nil {
		return "", err
	}
	w := c.Workload
	parts := []string{"docker run"}
	if !w.TTY && !w.Interactive {
		parts = append(parts, "--detach")
	}
	for _, g := range flags {
		parts = append(parts, flagWord(g))
	}
	meta := func(key, value string) {
		parts = append(parts, flagWord(words.Flag{Name: "label", Value: key + "=" + value}))
	}
	if words.Default(flags, w.Image) != c.Name {
		meta(labelName, c.Name)
	}
	if len(c.DependsOn) > 0 {
		meta(labelDepends, words.Dependencies(c.DependsOn))
	}
	if len(c.Kept) > 0 {
		kept, err := words.JSON(c.Kept)
		if err != nil {
			return "", err
		}
		meta(labelFlags, kept)
	}
	last := []string{w.Image}
	if strings.HasPrefix(w.Image, "-") {
		return "", fail.New(fail.Usage, "%.80q is no name of an image to docker", w.Image)
	}
	parts = append(parts, shellLine(append(last, w.Args...)))
	return strings.Join(parts, " \\\n\t"), nil
}

// flagWord writes a flag; a boolean that is true stands alone, as people write it.
func flagWord(f words.Flag) string {
	if f.Value == "true" && slices.ContainsFunc(cli.Table(), func(t cli.Flag) bool { return t.Long == f.Name && t.Type == cli.Bool }) {
		return "--" + f.Name
	}
	return shell(f.Word())
}

// wider are the defaults of safe-run that docker has not.
func wider() []words.Lost {
	return []words.Lost{
		{What: "ids of its own", Why: "root in the container is root on the host, unless the daemon runs with userns-remap; then all containers share one range", Applies: words.OwnIDs},
		{What: "capabilities for users other than root", Why: "docker gives them to root alone: for another user the program needs file capabilities", Applies: words.Ambient},
		{What: "network isolation", Why: "containers of a docker network reach each other, the host's services and the cloud's metadata", Applies: words.Wired},
		{What: "no programs from data", Why: "what is written to binds and volumes can be executed", Applies: words.Data},
		{What: "the built-in seccomp filter", Why: "it is a file, which is written with the script by -o; docker uses its own, wider one", Applies: words.BuiltIn},
		{What: "the policy and the check of the kernel's state", Why: "docker starts what it is asked for, and does not compare", Applies: words.Always},
		{What: "waiting for healthy or completed", Why: "the commands start one after the other, and wait for nothing", Applies: words.Waits},
	}
}
