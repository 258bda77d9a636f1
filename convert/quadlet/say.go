package quadlet

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/convert/internal/words"
	"github.com/safe-run/safe-run/internal/lazyre"
	"github.com/safe-run/safe-run/spec"
)

// say gives a flag as podman run has it, which for mounts, networks and checks is
// another way than docker's.
func say(w spec.Workload) words.Say {
	return func(f words.Flag) ([]words.Flag, bool) {
		switch f.Name {
		case "egress", "domainname", "health-start-interval", "runtime", "volume-driver", "use-api-socket", "storage-opt", "restart":
			return nil, false
		case "sdnotify":
			return []words.Flag{f}, f.Value == spec.NotifyHealthy || f.Value == spec.NotifyContainer
		case "stop-timeout":
			return []words.Flag{f}, !strings.HasPrefix(f.Value, "-")
		case "log-opt":
			if strings.HasPrefix(f.Value, "max-file=") {
				return nil, false
			}
		case "entrypoint":
			return []words.Flag{f}, !strings.HasPrefix(f.Value, "[") // which podman reads as JSON
		case "health-cmd":
			test, ok := healthTest(f.Value)
			return []words.Flag{f}, ok && test.Name == "health-cmd" && test.Value == f.Value
		case "health-exec":
			test, ok := healthTest(f.Value)
			return []words.Flag{{Name: "health-cmd", Value: f.Value}}, ok && test == f
		case "tmpfs":
			return sayTmpfs(f)
		case "mount":
			return sayMount(f)
		case "secret":
			return []words.Flag{{Name: "secret", Value: secretWithout(f.Value)}}, secretWithout(f.Value) == f.Value || "id="+secretWithout(f.Value) == f.Value
		case "network":
			return sayNetwork(f)
		case "network-alias", "ip", "ip6", "mac-address":
			return []words.Flag{f}, len(w.Networks) == 1
		case "publish":
			return []words.Flag{{Name: f.Name, Value: strings.TrimPrefix(f.Value, ":")}}, true
		}
		return []words.Flag{f}, true
	}
}

// healthTest is how podman reads HealthCmd= (specgenutil, MakeHealthCheckFromCli):
// a JSON array of more than one word is a program, all else a line for the
// shell; words of docker's images come first.
func healthTest(v string) (f words.Flag, ok bool) {
	var array []string
	if json.Unmarshal([]byte(v), &array) == nil && len(array) > 0 {
		switch word := strings.ToUpper(array[0]); {
		case word == "NONE":
			return words.Flag{Name: "no-healthcheck", Value: "true"}, true
		case word == "CMD" && len(array) > 1:
			return execFlag(array[1:])
		case word == "CMD-SHELL" && len(array) == 2:
			return words.Flag{Name: "health-cmd", Value: array[1]}, true
		case word == "CMD", word == "CMD-SHELL":
			return f, false
		case len(array) > 1:
			return execFlag(array)
		}
		return words.Flag{Name: "health-cmd", Value: array[0]}, true
	}
	first, rest, _ := strings.Cut(v, " ")
	switch strings.ToUpper(first) {
	case "NONE":
		return words.Flag{Name: "no-healthcheck", Value: "true"}, true
	case "CMD":
		return execFlag(strings.Fields(rest))
	case "CMD-SHELL":
		return words.Flag{Name: "health-cmd", Value: rest}, rest != ""
	}
	return words.Flag{Name: "health-cmd", Value: v}, v != ""
}

func execFlag(list []string) (words.Flag, bool) {
	data, err := json.Marshal(list)
	return words.Flag{Name: "health-exec", Value: string(data)}, err == nil && len(list) > 0 && list[0] != ""
}

// tmpfsKeys are the options podman takes (util.ProcessOptions), and copies into
// the tmpfs what the image has there unless told not to.
func tmpfsKeys() []string {
	return []string{"size", "mode", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "ro", "rw", "noatime"}
}

func sayTmpfs(f words.Flag) ([]words.Flag, bool) {
	target, options := words.TmpfsOptions(f.Value)
	known := slices.DeleteFunc(slices.Clone(options), func(o string) bool {
		key, _, _ := strings.Cut(o, "=")
		return !slices.Contains(tmpfsKeys(), key)
	})
	value := words.Tmpfs(target, append(known, "notmpcopyup"))
	left := slices.DeleteFunc(slices.Clone(options), func(o string) bool { return slices.Contains(known, o) || strings.HasPrefix(o, "nr_inodes=") })
	return []words.Flag{{Name: f.Name, Value: value}}, len(left) == 0
}

// plainPath has no character that -v or a value of a unit takes for another
// thing.
var plainPath = lazyre.New(`^[A-Za-z0-9_./@+-]+$`)

func matches(re func() *regexp.Regexp, s string) bool { return re().MatchString(s) }

// sayMount writes a mount as podman has it. Where nothing is said, podman lets
// binds and volumes be executed from, with devices and set-user-ID programs.
func sayMount(f words.Flag) ([]words.Flag, bool) {
	fields, err := words.Fields(f.Value)
	if err != nil {
		return nil, false
	}
	kind, source, target := "", "", ""
	var modes []string
	access := "noexec"
	exact := true
	for _, field := range fields {
		key, v, _ := strings.Cut(field, "=")
		switch key {
		case "type":
			kind = v
		case "source":
			source = v
		case "target":
			target = v
		case "readonly":
			modes = append(modes, "ro")
		case "exec":
			access = "exec"
		case "volume-nocopy":
			modes = append(modes, "nocopy")
		case "bind-propagation":
			modes = append(modes, v)
		case "bind-recursive":
			modes = append(modes, "bind")
		default: // labels and options of a new volume, a part of a volume or image
			exact = false
		}
	}
	if kind == "image" {
		value := words.CSV("type=image", "source="+source, "destination="+target)
		return []words.Flag{{Name: "mount", Value: value}}, exact && len(modes) == 0 && access == "noexec"
	}
	modes = append(modes, access, "nosuid", "nodev")
	if matches(plainPath, target) && (source == "" || matches(plainPath, source)) && source != "" {
		return []words.Flag{{Name: "volume", Value: source + ":" + target + ":" + strings.Join(modes, ",")}}, exact
	}
	out := []string{"type=" + kind}
	if source != "" {
		out = append(out, "source="+source)
	}
	out = append(out, "destination="+target)
	for _, m := range modes {
		switch {
		case m == "bind":
			out = append(out, "bind-nonrecursive=true")
		case slices.Contains([]string{"private", "rprivate", "slave", "rslave", "shared", "rshared"}, m):
			out = append(out, "bind-propagation="+m)
		case m == "nocopy":
			exact = false // --mount has no word for it
		default:
			out = append(out, m)
		}
	}
	return []words.Flag{{Name: "mount", Value: words.CSV(out...)}}, exact
}

// secretWithout is podman's form of a secret, which is found by its ID.
func secretWithout(value string) string {
	fields, err := words.Fields(value)
	if err != nil {
		return value
	}
	var out []string
	for _, f := range fields {
		if id, is := strings.CutPrefix(f, "id="); is {
			f = id
		}
		if !strings.HasPrefix(f, "src=") {
			out = append(out, f)
		}
	}
	return words.CSV(out...)
}

// sayNetwork writes docker's name=N,ip=A as podman's N:ip=A. podman has no order
// of networks.
func sayNetwork(f words.Flag) ([]words.Flag, bool) {
	if !strings.Contains(f.Value, "name=") {
		return []words.Flag{f}, true
	}
	fields, err := words.Fields(f.Value)
	name, exact := "", err == nil
	var options []string
	for _, field := range fields {
		key, v, _ := strings.Cut(field, "=")
		switch key {
		case "name":
			name = v
		case "ip", "ip6", "alias":
			options = append(options, key+"="+v)
		case "mac-address":
			options = append(options, "mac="+v)
		default:
			exact = false
		}
	}
	if len(options) > 0 {
		name += ":" + strings.Join(options, ",")
	}
	return []words.Flag{{Name: f.Name, Value: name}}, exact
}
