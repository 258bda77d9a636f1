package quadlet

import (
	"slices"
	"strconv"
	"strings"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/internal/words"
	"github.com/safe-run/safe-run/internal/unit"
)

// podmanArgs reads PodmanArgs= as flags.
func (r *reader) podmanArgs(s unit.Setting) {
	flags, losses, rest := words.Split(r.list(s, quote))
	if len(rest) > 0 {
		losses = append(losses, convert.Loss{What: words.Shown(strings.Join(rest, " ")), Why: "it is no flag"})
	}
	for _, l := range losses {
		r.lose(unit.Setting{Key: s.Key, Value: l.What, Line: s.Line}, l.Why)
	}
	for _, f := range flags {
		r.flag(s, f.Name, f.Value)
	}
}

// flag takes a flag of podman run and says it as run has it.
func (r *reader) flag(s unit.Setting, name, value string) {
	switch name {
	case "cap-drop":
		if strings.EqualFold(value, "all") {
			value = "ALL"
		}
	case "health-cmd":
		f, ok := healthTest(value)
		if !ok {
			r.lose(s, "podman has its own meaning for it, and it is no command")
			return
		}
		name, value = f.Name, f.Value
	case "tmpfs":
		target, options := words.TmpfsOptions(value)
		options = slices.DeleteFunc(options, func(o string) bool { return o == "notmpcopyup" || o == "tmpcopyup" || o == "U" || o == "noswap" })
		value = words.Tmpfs(target, options)
	case "userns":
		r.userNS(s, value)
		return
	case "network":
		r.network(s, value)
		return
	case "volume":
		r.volume(s, value)
		return
	case "mount":
		r.mount(s, value)
		return
	case "device":
		value = strings.TrimPrefix(value, "-")
	case "log-driver":
		if value == "k8s-file" {
			value = "json-file"
		}
	}
	r.say(name, value)
}

// userNS: ids of its own are what every container has.
func (r *reader) userNS(s unit.Setting, v string) {
	mode, _, _ := strings.Cut(v, ":")
	switch mode {
	case "host":
		r.say("userns", "host")
	case "auto", "private", "":
	default:
		r.lose(s, "every container has ids of its own, from a range no other has")
	}
}

// network reads podman's NAME[:ip=A,...].
func (r *reader) network(s unit.Setting, v string) {
	name, options, has := strings.Cut(v, ":")
	switch {
	case name == "container" || name == "ns":
		r.say("network", v)
		return
	case strings.HasSuffix(name, suffix):
		r.say("network", "container:"+r.containerName(strings.TrimSuffix(name, suffix)))
		return
	case name == "private" || name == "pasta" || name == "slirp4netns":
		if has || name != "private" {
			r.lose(s, "containers have a bridge of safe-run's, or a network made with safe-run network create")
		}
		return
	case strings.HasSuffix(name, ".network"):
		name = r.networkName(strings.TrimSuffix(name, ".network"))
	}
	if !has {
		r.say("network", name)
		return
	}
	fields := []string{"name=" + name}
	for o := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "mac":
			fields = append(fields, "mac-address="+value)
		case "ip":
			if strings.Contains(value, ":") {
				key = "ip6"
			}
			fields = append(fields, key+"="+value)
		case "ip6", "alias":
			fields = append(fields, o)
		default:
			r.lose(unit.Setting{Key: s.Key, Value: o, Line: s.Line}, "run has no such option of a network")
		}
	}
	r.say("network", words.CSV(fields...))
}

// beside finds a value of another file of the same document.
func (r *reader) beside(file, section, key string) string {
	i := slices.IndexFunc(r.files, func(f convert.File) bool { return f.Name == file })
	if i < 0 {
		return ""
	}
	settings, err := unit.Settings(string(r.files[i].Data))
	value := ""
	for _, s := range settings {
		if s.Section == section && s.Key == key && err == nil {
			value = s.Value
		}
	}
	return value
}

// networkName is what a .network file makes. Without the file it is taken for
// one of ours, whose file has its name.
func (r *reader) networkName(base string) string {
	if name := r.beside(base+".network", "Network", "NetworkName"); name != "" {
		return name
	}
	return base
}

func (r *reader) containerName(base string) string {
	if name := r.beside(base+suffix, "Container", "ContainerName"); name != "" {
		return name
	}
	return base
}

// volume reads podman's -v: what it says beside docker's words is so here, or is
// said.
func (r *reader) volume(s unit.Setting, v string) {
	parts := strings.SplitN(v, ":", 3)
	if name, is := strings.CutSuffix(parts[0], ".volume"); is {
		parts[0] = name
		if made := r.beside(name+".volume", "Volume", "VolumeName"); made != "" {
			parts[0] = made
		}
	}
	if len(parts) < 3 {
		r.say("volume", strings.Join(parts, ":"))
		return
	}
	var modes []string
	flat := false
	for m := range strings.SplitSeq(parts[2], ",") {
		switch m {
		case "noexec", "nosuid", "nodev", "rbind", "copy", "":
		case "suid", "dev", "U", "O", "idmap":
			r.lose(unit.Setting{Key: s.Key, Value: m, Line: s.Line}, "no mount has that here")
		case "bind":
			flat = true
		default:
			modes = append(modes, m)
		}
	}
	if flat {
		r.flatBind(parts[0], parts[1], modes)
		return
	}
	value := parts[0] + ":" + parts[1]
	if len(modes) > 0 {
		value += ":" + strings.Join(modes, ",")
	}
	r.say("volume", value)
}

// flatBind is a bind without what is mounted below it, which -v has no word for.
func (r *reader) flatBind(source, target string, modes []string) {
	fields := []string{"type=bind", "source=" + source, "target=" + target, "bind-recursive=disabled"}
	for _, m := range modes {
		switch m {
		case "ro":
			fields = append(fields, "readonly")
		case "exec":
			fields = append(fields, "exec")
		case "rw", "z", "Z":
		default:
			fields = append(fields, "bind-propagation="+m)
		}
	}
	r.say("mount", words.CSV(fields...))
}

// mount reads podman's --mount.
func (r *reader) mount(s unit.Setting, v string) {
	fields, err := words.Fields(v)
	if err != nil {
		r.lose(s, "it is no list of KEY=VALUE")
		return
	}
	var out []string
	for _, field := range fields {
		key, value, has := strings.Cut(field, "=")
		on := !has || value == "true"
		switch key {
		case "noexec", "nosuid", "nodev", "rw", "idmap", "notmpcopyup", "copy":
			continue
		case "ro", "readonly", "exec":
			if on {
				out = append(out, strings.Replace(key, "readonly", "ro", 1))
			}
			continue
		case "dest":
			key = "destination"
		case "bind-nonrecursive":
			if on {
				out = append(out, "bind-recursive=disabled")
			}
			continue
		case "private", "rprivate", "slave", "rslave", "shared", "rshared":
			out = append(out, "bind-propagation="+key)
			continue
		case "suid", "dev", "U", "chown", "tmpcopyup", "relabel", "z", "Z", "noswap":
			r.lose(unit.Setting{Key: s.Key, Value: field, Line: s.Line}, "no mount has that here")
			continue
		case "source", "src":
			if name, is := strings.CutSuffix(value, ".volume"); is && !strings.Contains(value, "/") {
				value = name
				if made := r.beside(name+".volume", "Volume", "VolumeName"); made != "" {
					value = made
				}
			}
		case "subpath":
			key = "volume-subpath"
			if slices.Contains(fields, "type=image") {
				key = "image-subpath"
			}
		}
		if has {
			key += "=" + value
		}
		out = append(out, key)
	}
	r.say("mount", words.CSV(out...))
}

// after gives the containers of other files that are read, and notes the rest.
func (r *reader) after(s unit.Setting) (out []string) {
	for u := range strings.FieldsSeq(s.Value) {
		base := strings.TrimSuffix(strings.TrimSuffix(u, ".service"), suffix)
		switch {
		case slices.Contains(r.names, base) && base != r.Name:
			out = append(out, base)
		case strings.HasSuffix(u, ".target"), strings.HasSuffix(u, ".network"), strings.HasSuffix(u, ".volume"), strings.HasSuffix(base, "-network"), strings.HasSuffix(base, "-volume"):
		default:
			r.lose(unit.Setting{Key: s.Key, Value: u, Line: s.Line}, "it is another unit: take it over into the new one")
		}
	}
	return out
}

// finish adds what stands in other sections.
func (r *reader) finish(after []string) {
	d := &r.draft
	if r.user != "" {
		if r.group != "" {
			r.user += ":" + r.group
		}
		r.say("user", r.user)
	}
	burst, _ := strconv.Atoi(r.values["Unit.StartLimitBurst"])
	policy, exact := unit.PolicyOf(r.values["Service.Restart"], burst)
	if !exact {
		r.lose(unit.Setting{Key: "Restart", Value: r.values["Service.Restart"]}, "run has no such policy; the nearest is taken")
	}
	if policy.Name != "" {
		value := policy.Name
		if policy.Max > 0 {
			value += ":" + strconv.Itoa(policy.Max)
		}
		r.say("restart", value)
	}
	if !r.ours {
		if r.Name != "" {
			d.Name = words.Name(r.Name)
		}
		slices.Sort(after)
		for _, name := range slices.Compact(after) {
			d.DependsOn = append(d.DependsOn, convert.Dependency{Name: words.Name(name), Condition: "started"})
		}
		return
	}
	at := func(key string) unit.Setting { return unit.Setting{Key: key, Value: r.values[section+"."+key]} }
	if d.Name = at("Container").Value; !words.IsName(d.Name) {
		r.lose(at("Container"), "it takes a name of lower case letters, digits and dashes")
		d.Name = ""
	}
	kept, err := words.FromJSON(at("Flags").Value)
	if err != nil {
		r.lose(at("Flags"), err.Error())
	}
	d.Kept = kept
	var ok bool
	if d.DependsOn, ok = words.ReadDependencies(at("DependsOn").Value); !ok {
		r.lose(at("DependsOn"), "it takes NAME:started, NAME:healthy or NAME:completed, separated by commas")
	}
}
