package words

import (
	"path"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/convert"
)

// tool is a program with a verb run that is docker's.
type tool struct {
	values []string // flags of its own, before the verb, that take a value
	bare   bool     // run need not be said
}

func tools() map[string]tool {
	docker := []string{"-H", "--host", "-c", "--context", "-l", "--log-level", "--config", "--tlscacert", "--tlscert", "--tlskey"}
	podman := []string{
		"--root", "--runroot", "--log-level", "--url", "--connection", "--identity", "--runtime", "--storage-driver", "--storage-opt", "--module", "--cgroup-manager",
		"--conmon", "--events-backend", "--network-cmd-path", "--tmpdir", "--volumepath", "--hooks-dir", "--runtime-flag", "--network-config-dir", "--ssh",
	}
	nerdctl := []string{"-n", "--namespace", "-a", "--address", "-H", "--host", "--snapshotter", "--storage-driver", "--cni-path", "--cni-netconfpath", "--data-root", "--cgroup-manager", "--hosts-dir"}
	return map[string]tool{"docker": {values: docker}, "podman": {values: append(podman, docker...)}, "nerdctl": {values: nerdctl}, "safe-run": {bare: true}}
}

// prefixes are programs that start another, with their flags that take a value,
// and how many words come before that other.
func prefixes() map[string]struct {
	values []string
	words  int
} {
	type p = struct {
		values []string
		words  int
	}
	return map[string]p{
		"sudo": {values: []string{"-u", "--user", "-g", "--group", "-h", "--host", "-p", "--prompt", "-C", "-D", "--chdir", "-R", "-T", "-r", "-t"}},
		"doas": {values: []string{"-u", "-C"}}, "env": {values: []string{"-u", "--unset", "-C", "--chdir"}}, "exec": {values: []string{"-a"}},
		"nice": {values: []string{"-n", "--adjustment"}}, "ionice": {values: []string{"-c", "-n", "--class", "--classdata"}}, "nohup": {}, "time": {values: []string{"-f", "-o"}}, "command": {},
		"setsid": {}, "stdbuf": {values: []string{"-i", "-o", "-e"}}, "timeout": {values: []string{"-s", "--signal", "-k", "--kill-after"}, words: 1}, "builtin": {}, "$": {}, "chronic": {}, "!": {},
	}
}

// otherVerbs are what else these programs do, and why it is left out. "" is
// nothing that makes a container what it is.
func otherVerbs() map[string]string {
	return map[string]string{
		"start":   "it starts a container that was made elsewhere: import that",
		"restart": "", "stop": "", "kill": "", "rm": "", "rmi": "", "pull": "", "ps": "", "logs": "", "inspect": "", "images": "", "image": "", "login": "", "logout": "", "info": "",
		"version": "", "wait": "", "port": "", "top": "", "stats": "", "events": "", "tag": "", "push": "", "system": "", "search": "", "history": "", "load": "", "save": "", "attach": "",
		"help": "", "doctor": "", "audit": "", "policy": "", "ls": "", "list": "",
		"network": "networks are made with: safe-run network create --icc NAME",
		"volume":  "run makes the volumes it names, as plain directories",
		"build":   "images are built elsewhere: safe-run load takes them",
		"exec":    "what is done in a container by hand is not part of it", "cp": "what is done in a container by hand is not part of it",
		"compose": "import the compose file", "stack": "import the compose file", "update": "write the limits at the container's start", "rename": "write the name at the container's start",
		"pod": "pods are imported from Kubernetes files", "play": "import the Kubernetes file", "kube": "import the Kubernetes file", "generate": "", "swarm": "there is no swarm", "service": "there is no swarm",
		"export": "", "import": "", "commit": "images are built elsewhere: safe-run load takes them", "diff": "", "pause": "", "unpause": "", "context": "", "plugin": "plugins run on the host with its rights",
	}
}

// Ours says whether words make a network of an exported project: it is known.
type Ours func(words []string) bool

// Command reads the words of a command, in which unknown parts are marked. It
// gives nil if no container comes of it.
func Command(list []string, ours Ours) (d *Draft, losses []convert.Loss) {
	all := list
	list = unprefixed(list, &losses)
	losses = append(losses, inside(all[:len(all)-len(list)])...)
	if len(list) == 0 {
		return nil, losses
	}
	base := path.Base(list[0])
	t, is := tools()[base]
	if !is {
		return nil, append(losses, inside(list)...)
	}
	rest, engine := verb(list[1:], base, t)
	losses = append(losses, engine...)
	switch {
	case rest == nil && ours != nil && ours(list):
		return nil, losses
	case rest == nil:
		return nil, append(losses, other(list, t)...)
	}
	flags, more, after := Split(rest)
	losses = append(losses, more...)
	left := convert.Loss{What: Shown(strings.Join(list[:min(len(list), 4)], " ")) + " …"}
	switch {
	case len(after) == 0 || after[0] == "":
		left.Why = "no image is named"
		return nil, append(losses, left)
	case slices.ContainsFunc(after, IsUnknown):
		i := slices.IndexFunc(after, IsUnknown)
		left.Why = "the container is left out: its image and command are known only when the script runs: " + strings.Join(Unknowns(after[i]), " and ")
		return nil, append(losses, left)
	}
	d = &Draft{Image: after[0], Said: flags}
	if len(after) > 1 {
		d.Args = after[1:]
	}
	return d, losses
}

// inside says what is started by words that are not read themselves: those of a
// program that is not known, and what a prefix takes.
func inside(list []string) []convert.Loss {
	if len(list) > 0 && IsUnknown(list[0]) && runs(list[1:]) {
		return []convert.Loss{{What: Shown(strings.Join(list[:min(len(list), 4)], " ")) + " …", Why: "what program it is, is known only when the script runs: write its name"}}
	}
	known := tools()
	for i, w := range list {
		if starts(list[i:], known) {
			return []convert.Loss{{What: Shown(strings.Join(list, " ")), Why: "a command that another starts is not read: import it by itself"}}
		}
		line := strings.FieldsFunc(unsubstituted(w), func(r rune) bool { return strings.ContainsRune(" \t\n\"'`;|&(){}", r) })
		for j := range line {
			if len(line) > 1 && starts(line[j:], known) {
				return []convert.Loss{{What: Shown(w), Why: "a command in a string of another is not read: import it by itself"}}
			}
		}
	}
	return nil
}

// unsubstituted is a word as it is written, without the commands whose output is
// part of it: they are read by themselves.
func unsubstituted(w string) string {
	parts := strings.Split(w, Mark)
	for i, p := range parts {
		if i%2 == 1 && (strings.HasPrefix(p, "$(") || strings.HasPrefix(p, "`")) {
			parts[i] = "$"
		}
	}
	return strings.Join(parts, "")
}

// starts says whether words begin with a program that is read, and its verb run.
func starts(list []string, known map[string]tool) bool {
	const most = 64                           // flags between them, so that a long list takes no time
	_, value, _ := strings.Cut(list[0], "=")  // --split-string=docker, and X=docker
	_, joined, _ := strings.Cut(list[0], "S") // -Sdocker
	if !strings.HasPrefix(list[0], "-") {
		joined = ""
	}
	for _, w := range []string{list[0], value, joined} {
		t, is := known[path.Base(w)]
		if !is {
			continue
		}
		rest := list[1:]
		for n := 0; n < most && len(rest) > 0 && (strings.HasPrefix(Shown(rest[0]), "-") || strings.HasPrefix(Shown(rest[0]), "$")); n++ {
			n := 1
			if slices.Contains(t.values, rest[0]) {
				n = 2
			}
			rest = rest[min(n, len(rest)):]
		}
		return runs(rest)
	}
	return false
}

// runs says whether words are the verb that makes a container.
func runs(list []string) bool {
	if first(list) == "container" {
		list = list[1:]
	}
	return first(list) == "run" || first(list) == "create"
}

// unprefixed takes away what stands before the program that counts.
func unprefixed(list []string, losses *[]convert.Loss) []string {
	for range 16 {
		for len(list) > 0 && assigns(list[0]) {
			list = list[1:]
		}
		if len(list) == 0 {
			return nil
		}
		p, is := prefixes()[path.Base(list[0])]
		if !is {
			return list
		}
		list = list[1:]
		for len(list) > 0 && strings.HasPrefix(list[0], "-") && list[0] != "--" {
			n := 1
			if slices.Contains(p.values, list[0]) {
				n = 2
			}
			list = list[min(n, len(list)):]
		}
		if len(list) > 0 && list[0] == "--" {
			list = list[1:]
		}
		list = list[min(p.words, len(list)):]
	}
	*losses = append(*losses, convert.Loss{What: Shown(list[0]), Why: "too many programs that start another"})
	return nil
}

// assigns says whether a word is NAME=VALUE before a command.
func assigns(w string) bool {
	name, _, has := strings.Cut(w, "=")
	return has && name != "" && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == "" && (name[0] < '0' || name[0] > '9')
}

// verb finds the words after run, nil if it is another verb. Flags of the
// program itself are about its engine.
func verb(list []string, base string, t tool) (rest []string, losses []convert.Loss) {
	if t.bare {
		_, other := otherVerbs()[first(list)]
		switch {
		case first(list) == "run":
			return append([]string{}, list[1:]...), nil
		case other && first(list) != "load", len(list) == 0:
			return nil, nil
		}
		return append([]string{}, list...), nil
	}
	for len(list) > 0 && strings.HasPrefix(list[0], "-") {
		n := 1
		if slices.Contains(t.values, list[0]) {
			n = 2
		}
		n = min(n, len(list))
		losses = append(losses, convert.Loss{What: base + " " + Shown(strings.Join(list[:n], " ")), Why: "it is about the engine of another program"})
		list = list[n:]
	}
	if !runs(list) {
		return nil, nil
	}
	if first(list) == "container" {
		list = list[1:]
	}
	return append([]string{}, list[1:]...), losses
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// other says why a command that runs nothing is left out.
func other(list []string, t tool) []convert.Loss {
	for i := 1; i < len(list); i++ {
		w := list[i]
		if strings.HasPrefix(w, "-") {
			if slices.Contains(t.values, w) {
				i++
			}
			continue
		}
		if w == "container" {
			continue
		}
		why, known := otherVerbs()[w]
		if !known {
			why = "it is not known what comes of it"
		}
		inspects := (w == "network" || w == "volume") && i+1 < len(list) && slices.Contains([]string{"inspect", "ls", "rm", "list", "prune", "exists"}, list[i+1])
		if why == "" || inspects {
			return nil
		}
		return []convert.Loss{{What: Shown(strings.Join(list[:min(len(list), i+3)], " ")), Why: why}}
	}
	return nil
}
