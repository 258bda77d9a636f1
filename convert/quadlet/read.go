package quadlet

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/internal/words"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/unit"
	"github.com/safe-run/safe-run/spec"
)

const (
	maxUnits = 1000
)

// leave are the keys that are left out, and why; "" is nothing that is missed.
func leave() map[string]string {
	return map[string]string{
		"AutoUpdate": "images are fetched with safe-run pull, or --pull always", "StartWithPod": "", "ServiceName": "", "ReadOnlyTmpfs": "", "GlobalArgs": "it is about podman itself",
		"ContainersConfModule": "it is about podman itself", "Rootfs": "make an image of the directory, and safe-run load it", "Pod": "pods are imported from Kubernetes files",
		"CgroupsMode": "", "Timezone": "use --env TZ=ZONE", "EnvironmentHost": "name the variables: --env NAME", "HttpProxy": "name the variables: --env HTTP_PROXY",
		"UIDMap": "every container has ids of its own", "GIDMap": "every container has ids of its own", "SubUIDMap": "every container has ids of its own", "SubGIDMap": "every container has ids of its own",
		"RemapUsers": "every container has ids of its own", "RemapUid": "every container has ids of its own", "RemapGid": "every container has ids of its own", "RemapUidSize": "every container has ids of its own",
		"VolatileTmp": "", "Retry": "", "RetryDelay": "", "HealthLogDestination": "", "HealthMaxLogCount": "", "HealthMaxLogSize": "", "ReloadCmd": "use safe-run exec in ExecReload=",
		"ReloadSignal": "use safe-run kill -s in ExecReload=", "HealthStartupCmd": "use --health-start-period and --health-start-interval", "HealthStartupInterval": "use --health-start-interval",
		"HealthStartupRetries": "use --health-start-period", "HealthStartupSuccess": "use --health-start-period", "HealthStartupTimeout": "use --health-timeout",
		"SecurityLabelNested": "containers do not change labels", "Unmask": "paths that are masked stay masked", "Mask": "the sensitive paths of /proc and /sys are masked already; cover others with --tmpfs",
	}
}

// Read finds the containers of .container files.
func (f format) Read(files []convert.File, o convert.Options) ([]convert.Found, []convert.Loss, error) {
	docs, err := words.Documents(files, suffix, ".network", ".volume")
	if err != nil {
		return nil, nil, err
	}
	var all []words.Batch
	n := 0
	var names []string
	for _, d := range docs {
		names = append(names, d.Name)
	}
	for _, d := range docs {
		r := reader{Document: d, names: names, files: files}
		if err := r.read(); err != nil {
			return nil, nil, err
		}
		if r.draft.Image == "" {
			if r.seen {
				r.lose(unit.Setting{Line: 1, Key: "Image"}, "no image is named: the container is left out")
			}
			title := ""
			if r.Name != "" {
				title = r.Name + suffix
			}
			all = append(all, words.Batch{Name: title, Losses: r.losses})
			continue
		}
		one, more := r.draft.Found(files, o)
		all = append(all, words.Batch{Found: []convert.Found{one}, Losses: append(r.losses, more...)})
		if n++; n > maxUnits {
			return nil, nil, fail.New(fail.Usage, "more than %d containers", maxUnits)
		}
	}
	found, losses := words.Together(all)
	if len(found) == 0 && len(losses) == 0 {
		return nil, nil, fail.New(fail.Usage, "no section [Container] in it").Hint("give a .container file")
	}
	return found, losses, nil
}

// reader reads one .container.
type reader struct {
	words.Document
	names       []string
	files       []convert.File
	ours, seen  bool
	draft       words.Draft
	losses      []convert.Loss
	user, group string
	values      map[string]string
	// otherCommand says that the words of the command are not known.
	otherCommand bool
}

func (r *reader) lose(s unit.Setting, why string) {
	r.losses = append(r.losses, convert.Loss{
		Why: why, What: fmt.Sprintf("line %d: %s", r.Line-1+s.Line, words.Line(words.Shown(s.Key+"="+s.Value))),
	})
}

// unknown stands for what systemd puts in place of a specifier or variable.
func (r *reader) unknown(written string) string {
	known := map[string]string{"%n": r.Name + ".service", "%N": r.Name, "%p": r.Name}
	if v, ok := known[written]; ok && r.Name != "" && !strings.Contains(r.Name, "@") {
		return v
	}
	return words.Unknown(written)
}

func (r *reader) read() error {
	settings, err := unit.Settings(strings.ReplaceAll(r.Text, words.Mark, ""))
	if err != nil {
		return fail.Wrap(fail.KindOf(err), err, "%s", words.Line(r.Name))
	}
	r.ours = slices.ContainsFunc(settings, func(s unit.Setting) bool { return s.Section == section })
	r.seen = slices.ContainsFunc(settings, func(s unit.Setting) bool { return s.Section == "Container" })
	r.values = map[string]string{}
	var after []string
	for _, s := range words.InForce(settings, effect) {
		at := s.Section + "." + s.Key
		r.values[at] = s.Value
		switch {
		case s.Section == "Container":
			r.draft.Line = cmp.Or(r.draft.Line, r.Line-1+s.Line)
			r.setting(s)
		case r.ours || s.Section == "Install" || strings.HasPrefix(s.Section, "X-") || s.Section == "Quadlet":
		case s.Section != "Unit" && s.Section != "Service":
			if s.Section != "Network" && s.Section != "Volume" {
				r.lose(s, "it is of a section "+words.Line(s.Section)+", which says nothing about a container")
			}
		case slices.Contains([]string{"Unit.After", "Unit.Requires", "Unit.Wants", "Unit.BindsTo"}, at):
			after = append(after, r.after(s)...)
		case !passed(at):
			r.lose(s, "it is about the unit: take it over into the new one")
		}
	}
	if r.otherCommand {
		r.draft.Image = "" // another command is another container
	}
	if r.draft.Image != "" {
		r.finish(after)
	}
	return nil
}

// effect is how the generator reads a key that is set more than once: those of
// the list add up until an empty one, and of the others the last counts.
func effect(s unit.Setting) words.Effect {
	lists := []string{
		"AddCapability", "AddDevice", "AddHost", "Annotation", "ContainersConfModule", "DNS", "DNSOption", "DNSSearch", "DropCapability", "Environment", "EnvironmentFile", "ExposeHostPort",
		"GIDMap", "GlobalArgs", "GroupAdd", "Label", "LogOpt", "Mask", "Mount", "Network", "NetworkAlias", "PodmanArgs", "PublishPort", "RemapGid", "RemapUid", "Secret", "Sysctl", "Tmpfs", "UIDMap",
		"Ulimit", "Unmask", "Volume",
	}
	switch {
	case s.Section == "Service", s.Section == "Container" && slices.Contains(lists, s.Key):
		return words.Clears
	case s.Section == "Container":
		return words.Replaces
	}
	return words.Adds
}

// passed are settings that say how systemd runs the service.
func passed(at string) bool {
	return slices.Contains([]string{
		"Unit.Description", "Unit.Documentation", "Unit.StartLimitBurst", "Unit.StartLimitIntervalSec", "Unit.DefaultDependencies", "Service.Restart", "Service.RestartSec", "Service.TimeoutStartSec",
		"Service.TimeoutStopSec", "Service.Type", "Service.KillMode", "Service.SyslogIdentifier", "Service.Delegate", "Service.NotifyAccess",
	}, at)
}

// list gives the words of a value as the generator reads them.
func (r *reader) list(s unit.Setting, read class) []string {
	all := []string{s.Value}
	switch read {
	case strv:
		all = strings.Fields(s.Value)
		for i := range all {
			all[i] = strings.Trim(all[i], `"'`)
		}
	case quote:
		var err error
		if all, err = unit.Split(s.Value); err != nil {
			r.lose(s, "it cannot be read: "+err.Error())
			return nil
		}
	case raw, yes:
		all[0] = strings.Trim(s.Value, `"`)
	}
	for i := range all {
		w, err := unit.Expand(all[i], r.unknown)
		if err != nil {
			w = words.Unknown(all[i])
		}
		all[i] = w
	}
	return all
}

// known gives the values that are known, and notes the others.
func (r *reader) known(s unit.Setting, read class) (out []string) {
	for _, v := range r.list(s, read) {
		if words.IsUnknown(v) {
			r.lose(s, "what "+strings.Join(words.Unknowns(v), " and ")+" is, is known to systemd only: write the value")
			continue
		}
		out = append(out, v)
	}
	return out
}

// truth reads a boolean as the generator does.
func truth(v string) bool {
	return slices.Contains([]string{"1", "yes", "true", "on"}, strings.ToLower(v))
}

func (r *reader) say(name, value string) {
	r.draft.Said = append(r.draft.Said, words.Flag{Name: name, Value: value})
}

// setting reads a key of [Container].
func (r *reader) setting(s unit.Setting) {
	for name, k := range keys() {
		if k.name != s.Key || name == "user" { // which Group= may add to
			continue
		}
		for _, v := range r.known(s, k.read) {
			switch {
			case k.read == yes:
				r.say(name, strconv.FormatBool(truth(v)))
			default:
				r.flag(s, name, v)
			}
		}
		return
	}
	one := func() (string, bool) {
		all := r.known(s, raw)
		return strings.Join(all, ""), len(all) == 1 && s.Value != ""
	}
	why, left := leave()[s.Key]
	switch v, ok := "", false; {
	case left:
		if why != "" {
			r.lose(s, why)
		}
	case s.Key == "Image":
		if v, ok = one(); ok && strings.HasSuffix(v, ".image") || strings.HasSuffix(v, ".build") {
			r.lose(s, "write the image itself: files of other kinds are not read")
			return
		}
		r.draft.Image = v
	case s.Key == "Exec":
		r.draft.Args = nil
		list := r.list(s, quote)
		if len(r.known(s, quote)) == len(list) {
			r.draft.Args = list
		} else {
			r.otherCommand = true
		}
	case s.Key == "User":
		r.user, _ = one()
	case s.Key == "Group":
		r.group, _ = one()
	case s.Key == "UserNS":
		if v, ok = one(); ok {
			r.userNS(s, v)
		}
	case s.Key == "NoNewPrivileges":
		if v, ok = one(); ok && truth(v) {
			r.say("security-opt", "no-new-privileges")
		}
	case s.Key == "SecurityLabelDisable":
		if v, ok = one(); ok && truth(v) {
			r.say("security-opt", "label=disable")
		}
	case s.Key == "Notify":
		if v, ok = one(); ok && strings.EqualFold(v, "healthy") {
			r.say("sdnotify", spec.NotifyHealthy)
		} else if ok && truth(v) {
			r.say("sdnotify", spec.NotifyContainer)
		}
	case options()[s.Key] != "":
		if v, ok = one(); ok {
			r.say("security-opt", options()[s.Key]+v)
		}
	case s.Key == "Memory":
		if v, ok = one(); ok {
			r.say("memory", v)
		}
	case s.Key == "EnvironmentFile":
		for _, v := range r.known(s, quote) {
			r.say("env-file", v)
		}
	case s.Key == "PodmanArgs":
		r.podmanArgs(s)
	default:
		r.lose(s, "it is no key that podman-systemd.unit(5) has, or one that is newer than what is read here")
	}
}

// options are the keys that are a --security-opt.
func options() map[string]string {
	return map[string]string{
		"SeccompProfile": "seccomp=", "AppArmor": "apparmor=", "SecurityLabelType": "label=type:", "SecurityLabelLevel": "label=level:", "SecurityLabelFileType": "label=filetype:",
	}
}
