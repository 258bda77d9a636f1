// Package argv writes a workload as words of a command line of run, and takes a
// command line apart into a profile and the flags that are left.
package argv

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// Flags gives a command line of run that asks for w: flags as --NAME=VALUE,
// the image, its words. It is read back before it is returned; what of w no
// command line says is an error of kind Usage that names the field. A seccomp
// profile is named by its path, which has to be absolute.
func Flags(w spec.Workload) ([]string, error) {
	f := &flags{}
	f.str("profile", w.Profile)
	f.container(w)
	f.process(w)
	f.files(w)
	f.security(w)
	f.network(w)
	f.limits(w)
	f.supervision(w)
	if f.err != nil {
		return nil, f.err
	}
	words := f.words
	if strings.HasPrefix(w.Image, "-") {
		words = append(words, "--")
	}
	words = append(append(words, w.Image), w.Args...)
	return words, readBack(words, w)
}

// readBack says what of w a command line does not.
func readBack(words []string, w spec.Workload) error {
	inv, err := cli.Parse(words, cli.Context{
		Cwd:       "/",
		LookupEnv: func(string) (string, bool) { return "", false },
		ReadFile: func(path string, _ int64) ([]byte, error) {
			if w.Seccomp == nil || path != w.Seccomp.Path {
				return nil, fail.New(fail.NotFound, "%.128q is not a file by an absolute path", path)
			}
			return w.Seccomp.JSON, nil
		},
		// What a profile's flags said is in w already.
		Profile: func(ref string, _ *cli.Invocation) (cli.Profile, error) {
			p := cli.Profile{Name: ref, Shown: ref, AppArmor: w.AppArmor}
			if w.Seccomp != nil && slices.Contains(w.SecurityOpts, cli.ProfileSeccomp) {
				p.Shown, p.Seccomp = w.Seccomp.Path, w.Seccomp.JSON
			}
			return p, nil
		},
	})
	if err != nil {
		return fail.Wrap(fail.Usage, err, "no command line says what the container was made with")
	}
	want, got := reflect.ValueOf(Said(w)), reflect.ValueOf(Said(inv.Workload))
	for i := range want.NumField() {
		if !reflect.DeepEqual(want.Field(i).Interface(), got.Field(i).Interface()) {
			return fail.New(fail.Usage, "no command line says what the container was made with: %s", want.Type().Field(i).Name).
				Hint("write the flags after generate systemd instead of the container's name")
		}
	}
	return nil
}

// Said is w with everything in one spelling that means the same.
func Said(w spec.Workload) spec.Workload {
	if w.Pull == "" {
		w.Pull = "missing"
	}
	if len(w.Networks) == 0 {
		w.Networks = []spec.NetworkUse{{Name: "none"}}
	}
	// Whether it was said makes a difference in messages alone.
	w.NetworkSet = false
	w.Mounts = slices.Clone(w.Mounts)
	for i := range w.Mounts {
		w.Mounts[i].Origin = ""
	}
	return emptyIsNil(reflect.ValueOf(w)).Interface().(spec.Workload)
}

// emptyIsNil makes empty lists and maps nil ones: JSON keeps them apart.
func emptyIsNil(v reflect.Value) reflect.Value {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		if v.Len() == 0 {
			return reflect.Zero(v.Type())
		}
		if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct {
			out := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
			for i := range v.Len() {
				out.Index(i).Set(emptyIsNil(v.Index(i)))
			}
			return out
		}
	case reflect.Struct:
		if strings.HasPrefix(v.Type().PkgPath(), "net/") {
			return v
		}
		out := reflect.New(v.Type()).Elem()
		for i := range v.NumField() {
			out.Field(i).Set(emptyIsNil(v.Field(i)))
		}
		return out
	}
	return v
}

// flags collects words.
type flags struct {
	words []string
	err   error
}

func (f *flags) add(name, value string) { f.words = append(f.words, "--"+name+"="+value) }

func (f *flags) cannot(format string, args ...any) {
	if f.err == nil {
		f.err = fail.New(fail.Usage, "no flag says "+format, args...)
	}
}

func (f *flags) str(name, value string) {
	if value != "" {
		f.add(name, value)
	}
}

func (f *flags) list(name string, values []string) {
	for _, v := range values {
		f.add(name, v)
	}
}

func (f *flags) pairs(name string, m map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		f.add(name, key+"="+m[key])
	}
}

func (f *flags) on(name string, is bool) {
	if is {
		f.words = append(f.words, "--"+name)
	}
}

func optional[T any](f *flags, name string, p *T) {
	if p != nil {
		f.add(name, fmt.Sprint(*p))
	}
}

func (f *flags) container(w spec.Workload) {
	f.on("rm", w.Remove)
	f.on("detach", w.Detach)
	f.str("name", w.Name)
	f.str("hostname", w.Hostname)
	f.str("domainname", w.Domainname)
	f.pairs("label", w.Labels)
	f.pairs("annotation", w.Annotations)
	f.str("cidfile", w.CIDFile)
	f.str("platform", w.Platform)
	if w.Pull != "missing" {
		f.str("pull", w.Pull)
	}
	f.on("quiet", w.Quiet)
}

func (f *flags) process(w spec.Workload) {
	for _, e := range w.Env {
		if e.Value == nil {
			f.add("env", e.Name)
		} else {
			f.add("env", e.Name+"="+*e.Value)
		}
	}
	optional(f, "entrypoint", w.Entrypoint)
	f.str("workdir", w.Workdir)
	f.str("user", w.User)
	f.list("group-add", w.GroupAdd)
	optional(f, "init", w.Init)
	f.on("interactive", w.Interactive)
	f.on("tty", w.TTY)
	f.list("attach", w.Attach)
	optional(f, "detach-keys", w.DetachKeys)
	if !w.SigProxy {
		f.add("sig-proxy", "false")
	}
	f.str("stop-signal", w.StopSignal)
	optional(f, "stop-timeout", w.StopTimeout)
}

func (f *flags) security(w spec.Workload) {
	f.on("privileged", w.Privileged)
	f.list("cap-add", w.CapAdd)
	f.list("cap-drop", w.CapDrop)
	f.list("security-opt", slices.DeleteFunc(slices.Clone(w.SecurityOpts), func(o string) bool {
		return o == cli.ProfileSeccomp && w.Profile != ""
	}))
	for _, d := range w.Devices {
		f.add("device", d.Raw)
	}
	f.list("device-cgroup-rule", w.DeviceCgroupRules)
	f.str("gpus", w.GPUs)
	f.pairs("sysctl", w.Sysctls)
	f.str("runtime", w.Runtime)
	f.on("use-api-socket", w.UseAPISocket)
	f.str("pid", w.PIDMode)
	f.str("ipc", w.IPCMode)
	f.str("uts", w.UTSMode)
	f.str("userns", w.UserNSMode)
	f.str("cgroupns", w.CgroupNSMode)
	f.str("cgroup-parent", w.CgroupParent)
}

func (f *flags) limits(w spec.Workload) {
	r := w.Resources
	optional(f, "memory", r.Memory)
	optional(f, "memory-reservation", r.MemoryReservation)
	optional(f, "memory-swap", r.MemorySwap)
	optional(f, "memory-swappiness", r.MemorySwappiness)
	optional(f, "pids-limit", r.PidsLimit)
	if r.NanoCPUs != nil {
		f.add("cpus", fmt.Sprintf("%d.%09d", *r.NanoCPUs/1e9, *r.NanoCPUs%1e9))
	}
	optional(f, "cpu-shares", r.CPUShares)
	optional(f, "cpu-period", r.CPUPeriod)
	optional(f, "cpu-quota", r.CPUQuota)
	optional(f, "cpu-rt-period", r.CPURTPeriod)
	optional(f, "cpu-rt-runtime", r.CPURTRuntime)
	f.str("cpuset-cpus", r.CPUSetCPUs)
	f.str("cpuset-mems", r.CPUSetMems)
	optional(f, "blkio-weight", r.BlkioWeight)
	for _, d := range r.BlkioWeightDevice {
		f.add("blkio-weight-device", fmt.Sprintf("%s:%d", d.Path, d.Weight))
	}
	f.throttles("device-read-bps", r.ReadBPS)
	f.throttles("device-write-bps", r.WriteBPS)
	f.throttles("device-read-iops", r.ReadIOPS)
	f.throttles("device-write-iops", r.WriteIOPS)
	for _, u := range w.Ulimits {
		f.add("ulimit", fmt.Sprintf("%s=%d:%d", u.Name, u.Soft, u.Hard))
	}
	optional(f, "oom-score-adj", w.OOMScoreAdj)
	f.on("oom-kill-disable", w.OOMKillDisable)
}

func (f *flags) throttles(name string, all []spec.Throttle) {
	for _, t := range all {
		f.add(name, t.Path+":"+strconv.FormatUint(t.Rate, 10))
	}
}

func (f *flags) supervision(w spec.Workload) {
	restart := w.Restart.Name
	if w.Restart.Max > 0 {
		restart += ":" + strconv.Itoa(w.Restart.Max)
	}
	f.str("restart", restart)
	f.health(w.Health)
	f.str("health-on-failure", w.HealthOnFailure)
	f.str("log-driver", w.LogDriver)
	f.pairs("log-opt", w.LogOpts)
	f.str("sdnotify", w.SDNotify)
	for _, s := range w.Secrets {
		f.secret(s)
	}
}

func (f *flags) health(h spec.Healthcheck) {
	switch {
	case len(h.Test) == 0:
	case h.Test[0] == "NONE":
		f.on("no-healthcheck", true)
	case h.Test[0] == "CMD-SHELL" && len(h.Test) == 2:
		f.add("health-cmd", h.Test[1])
	default:
		words, err := json.Marshal(h.Test[1:])
		if err != nil || h.Test[0] != "CMD" {
			f.cannot("a health check of the form %.40q", h.Test[0])
			break
		}
		f.add("health-exec", string(words))
	}
	for _, d := range []struct{ name, value string }{
		{"health-interval", h.Interval.String()},
		{"health-timeout", h.Timeout.String()},
		{"health-start-period", h.StartPeriod.String()},
		{"health-start-interval", h.StartInterval.String()},
	} {
		if d.value != "0s" {
			f.add(d.name, d.value)
		}
	}
	if h.Retries != 0 {
		f.add("health-retries", strconv.Itoa(h.Retries))
	}
}

func (f *flags) secret(s spec.Secret) {
	fields := []string{"id=" + s.ID}
	if s.Source != "" {
		fields = append(fields, "src="+s.Source)
	}
	if s.Owned {
		fields = append(fields, fmt.Sprintf("uid=%d", s.UID), fmt.Sprintf("gid=%d", s.GID))
	}
	if s.Mode != 0 {
		fields = append(fields, fmt.Sprintf("mode=%04o", s.Mode))
	}
	f.add("secret", csvLine(fields))
}
