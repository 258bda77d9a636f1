package systemd

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/internal/words"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/unit"
)

const (
	// maxUnits bounds how many are read at once.
	maxUnits = 1000
)

// passed are the settings that say how systemd runs a service, and nothing about
// the container.
func passed() []string {
	return []string{
		"Unit.Description", "Unit.Documentation", "Unit.StartLimitIntervalSec", "Unit.StartLimitBurst", "Unit.StartLimitInterval", "Service.StartLimitBurst",
		"Service.StartLimitInterval", "Unit.DefaultDependencies", "Unit.RequiresMountsFor",
		"Service.Type", "Service.NotifyAccess", "Service.Delegate", "Service.KillMode", "Service.Restart", "Service.RestartSec", "Service.SuccessExitStatus",
		"Service.TimeoutStartSec", "Service.TimeoutStopSec", "Service.TimeoutSec", "Service.Environment", "Service.LoadCredential", "Service.SyslogIdentifier", "Service.StandardOutput",
		"Service.StandardError", "Service.StandardInput", "Service.PIDFile", "Service.RemainAfterExit", "Service.GuessMainPID", "Service.Slice", "Service.KillSignal", "Service.WatchdogSec",
	}
}

// Read finds the containers that units run.
func (f format) Read(files []convert.File, o convert.Options) ([]convert.Found, []convert.Loss, error) {
	docs, err := words.Documents(files, suffix)
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
		r := reader{Document: d, names: names, program: o.Program}
		if err := r.read(); err != nil {
			return nil, nil, err
		}
		title := ""
		if r.Name != "" {
			title = r.Name + suffix
		}
		of := []words.Batch{{Name: title, Losses: r.losses}}
		for _, draft := range r.drafts {
			one, more := draft.Found(files, o)
			if len(r.drafts) == 1 { // the unit is the container's
				of[0].Found, of[0].Losses = []convert.Found{one}, append(of[0].Losses, more...)
				break
			}
			of = append(of, words.Batch{Found: []convert.Found{one}, Losses: more})
		}
		all = append(all, of...)
		if n += len(r.drafts); n > maxUnits {
			return nil, nil, fail.New(fail.Usage, "more than %d containers", maxUnits)
		}
	}
	found, losses := words.Together(all)
	if len(found) == 0 && len(losses) == 0 {
		return nil, nil, fail.New(fail.Usage, "no unit whose ExecStart= runs safe-run, docker, podman or nerdctl").
			Hint("give a unit file, or what systemctl cat NAME prints")
	}
	return found, losses, nil
}

// reader reads one unit.
type reader struct {
	words.Document
	names   []string // of all units that are read
	program string   // of safe-run, under whatever name
	env     map[string]string
	ours    bool // it has the section of export
	drafts  []*words.Draft
	losses  []convert.Loss
}

func (r *reader) lose(s unit.Setting, why string) {
	r.losses = append(r.losses, convert.Loss{
		Why:  why,
		What: fmt.Sprintf("line %d: %s", r.Line-1+s.Line, words.Line(s.Key+"="+s.Value)),
	})
}

// unknown stands for what systemd puts in place of a specifier or variable.
func (r *reader) unknown(written string) string {
	known := map[string]string{"%n": r.Name + suffix, "%N": r.Name, "%p": r.Name, "%%": "%"}
	if v, ok := known[written]; ok && r.Name != "" && !strings.Contains(r.Name, "@") {
		return v
	}
	if v, ok := r.env[strings.Trim(written, "${}")]; ok && written[0] == '$' {
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
	settings = words.InForce(settings, effect)
	r.environment(settings)
	values := map[string]string{}
	var after []string
	for _, s := range settings {
		key := s.Section + "." + s.Key
		values[key] = s.Value
		switch {
		case s.Section == section, s.Section == "Install", strings.HasPrefix(s.Section, "X-") || strings.HasPrefix(s.Key, "X-"):
		case key == "Service.ExecStart":
			r.start(s)
		case strings.HasPrefix(key, "Service.Exec"):
			r.besides(s)
		case key == "Unit.After", key == "Unit.Requires", key == "Unit.Wants", key == "Unit.BindsTo":
			after = append(after, r.after(s)...)
		case key == "Unit.PartOf", key == "Unit.Before", key == "Unit.Conflicts", strings.HasPrefix(key, "Unit.Condition"), strings.HasPrefix(key, "Unit.Assert"):
			r.lose(s, "it orders units, and says nothing about the container: take it over into the new unit")
		case !slices.Contains(passed(), key):
			r.lose(s, "it is about the process that systemd starts; for docker and podman that is a client, and not the container")
		}
	}
	for _, d := range r.drafts {
		r.settle(d, values, after)
	}
	return nil
}

// effect is how a drop-in overrides a setting: dependencies can only be added to
// (systemd.unit(5)), and sections that systemd passes over are not its own.
func effect(s unit.Setting) words.Effect {
	if s.Section == "Service" || s.Section == "Unit" && (strings.HasPrefix(s.Key, "Condition") || strings.HasPrefix(s.Key, "Assert")) {
		return words.Clears
	}
	return words.Adds
}

// environment notes the variables the unit sets once. With a file of variables
// none is known: it may set any of them.
func (r *reader) environment(settings []unit.Setting) {
	r.env = map[string]string{}
	twice := map[string]bool{}
	for _, s := range settings {
		switch s.Section + "." + s.Key {
		case "Service.EnvironmentFile":
			r.env = nil
			return
		case "Service.Environment":
			list, err := unit.Split(s.Value)
			for _, w := range list {
				name, value, has := strings.Cut(w, "=")
				if _, there := r.env[name]; there || err != nil || !has || strings.ContainsAny(value, "%$ \t") {
					twice[name] = true
				}
				r.env[name] = value
			}
		}
	}
	for name := range twice {
		delete(r.env, name)
	}
}

// start reads an ExecStart=.
func (r *reader) start(s unit.Setting) {
	commands, err := unit.Commands(s.Value, r.unknown)
	if err != nil {
		r.lose(s, "it cannot be read: "+err.Error())
		return
	}
	for _, one := range commands {
		if one[0] == r.program {
			one[0] = "safe-run"
		}
		draft, left := words.Command(one, nil)
		for _, l := range left {
			l.What = fmt.Sprintf("line %d: %s", r.Line-1+s.Line, words.Line(l.What))
			r.losses = append(r.losses, l)
		}
		if draft == nil && len(left) == 0 {
			r.lose(s, "it runs no container that safe-run could run")
		}
		if draft != nil {
			draft.Line = r.Line - 1 + s.Line
			r.drafts = append(r.drafts, draft)
		}
	}
}

// besides reads the commands around the one that counts.
func (r *reader) besides(s unit.Setting) {
	commands, err := unit.Commands(s.Value, r.unknown)
	for _, one := range commands {
		if r.ours && len(one) > 4 && (one[0] == r.program || path.Base(one[0]) == "safe-run") && slices.Equal(one[1:4], []string{"network", "create", "--icc"}) {
			continue
		}
		why := "safe-run does nothing of the kind by itself: take it over into the new unit"
		if tool := path.Base(one[0]); tool == "docker" || tool == "podman" || tool == "nerdctl" || tool == "safe-run" {
			why = "safe-run makes, stops and removes the container itself"
		}
		r.lose(s, why)
	}
	if err != nil {
		r.lose(s, "it cannot be read: "+err.Error())
	}
}

// after gives the containers of other units that are read, and notes the rest.
func (r *reader) after(s unit.Setting) (out []string) {
	if r.ours {
		return nil // the section says it
	}
	for u := range strings.FieldsSeq(s.Value) {
		base, _ := strings.CutSuffix(u, suffix)
		switch {
		case slices.Contains(r.names, base) && base != r.Name:
			out = append(out, base)
		case strings.HasSuffix(u, ".target"), slices.Contains([]string{"docker", "docker.socket", "containerd", "podman"}, base):
		default:
			r.lose(unit.Setting{Key: s.Key, Value: u, Line: s.Line}, "it is another unit: take it over into the new one")
		}
	}
	return out
}

// settle adds what stands outside the command.
func (r *reader) settle(d *words.Draft, values map[string]string, after []string) {
	if r.ours {
		r.section(d, values)
		return
	}
	if name := words.Name(r.Name); r.Name != "" && len(r.drafts) == 1 {
		d.Name = name
	}
	has := func(name string) bool {
		return slices.ContainsFunc(d.Said, func(f words.Flag) bool { return f.Name == name })
	}
	burst, _ := strconv.Atoi(values["Unit.StartLimitBurst"])
	if policy, exact := unit.PolicyOf(values["Service.Restart"], burst); !has("restart") {
		if !exact {
			r.lose(unit.Setting{Key: "Restart", Value: values["Service.Restart"]}, "run has no such policy; the nearest is taken")
		}
		if policy.Name != "" {
			value := policy.Name
			if policy.Max > 0 {
				value += ":" + strconv.Itoa(policy.Max)
			}
			d.Said = append(d.Said, words.Flag{Name: "restart", Value: value})
			// The container is to come back: who removes it is systemd.
			d.Said = slices.DeleteFunc(d.Said, func(f words.Flag) bool { return f.Name == "rm" })
		}
	}
	if v := values["Service.TimeoutStopSec"]; v != "" && !has("stop-timeout") {
		if seconds, ok := span(v); ok {
			d.Said = append(d.Said, words.Flag{Name: "stop-timeout", Value: strconv.Itoa(unit.StopTimeoutOf(seconds))})
		}
	}
	slices.Sort(after)
	for _, name := range slices.Compact(after) {
		d.DependsOn = append(d.DependsOn, convert.Dependency{Name: words.Name(name), Condition: "started"})
	}
}

// span reads a time of systemd.time(7) of one number and unit, in seconds.
func span(v string) (int, bool) {
	if n, err := strconv.Atoi(v); err == nil && n >= 0 && n < 1e9 {
		return n, true
	}
	if d, err := time.ParseDuration(strings.ReplaceAll(strings.NewReplacer("sec", "s", "min", "m", "hr", "h").Replace(v), " ", "")); err == nil && d > 0 {
		return int(d.Seconds()), true
	}
	return 0, false
}

// section reads what export wrote.
func (r *reader) section(d *words.Draft, values map[string]string) {
	d.Said = slices.DeleteFunc(d.Said, func(f words.Flag) bool { return f.Name == "rm" || slices.Contains(told(), f.Name) })
	at := func(key string) string { return values[section+"."+key] }
	if name := at("Container"); words.IsName(name) {
		d.Name = name
	} else {
		r.lose(unit.Setting{Key: "Container", Value: name}, "it takes a name of lower case letters, digits and dashes")
	}
	kept, err := words.FromJSON(at("Flags"))
	if err != nil {
		r.lose(unit.Setting{Key: "Flags", Value: at("Flags")}, err.Error())
	}
	d.Kept = kept
	var ok bool
	if d.DependsOn, ok = words.ReadDependencies(at("DependsOn")); !ok {
		r.lose(unit.Setting{Key: "DependsOn", Value: at("DependsOn")}, "it takes NAME:started, NAME:healthy or NAME:completed, separated by commas")
	}
}
