package profiles

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/safe-run/safe-run/internal/fail"
)

// Flags gives the profile as flags of docker run, in the order of the file. Each
// is one word, --NAME=VALUE, so no value can become a flag of its own. What no
// flag can say (seccomp, AppArmor, the image) is not among them.
func (p Profile) Flags() []string {
	var out []string
	add := func(name, value string) { out = append(out, "--"+name+"="+value) }
	given := func(name, value string) {
		if value != "" {
			add(name, value)
		}
	}
	for _, c := range p.Capabilities {
		add("cap-add", c.Name)
	}
	for _, w := range p.Writable {
		out = append(out, w.flag())
	}
	for _, b := range p.Binds {
		fields := []string{"type=bind", "src=" + b.Source, "dst=" + b.Target}
		if !b.Writable {
			fields = append(fields, "readonly")
		}
		add("mount", csvLine(fields))
	}
	for _, d := range p.Devices {
		v := d.Path
		if d.Target != "" || d.Permissions != "" {
			v += ":" + d.place()
		}
		if d.Permissions != "" {
			v += ":" + d.Permissions
		}
		add("device", v)
	}
	for _, port := range p.Ports {
		if port.published() {
			add("publish", port.Port)
		} else {
			add("expose", port.Port)
		}
	}
	given("network", p.Network)
	for _, e := range p.Egress {
		add("egress", e.To)
	}
	for _, s := range p.Sysctls {
		add("sysctl", s.Name+"="+s.Value)
	}
	given("user", p.User)
	given("userns", p.UserNS)
	given("memory", p.Limits.Memory)
	number := func(name string, n int64) {
		if n != 0 {
			add(name, strconv.FormatInt(n, 10))
		}
	}
	number("pids-limit", p.Limits.Pids)
	if n := p.Limits.Nofile; n != 0 {
		v := strconv.FormatInt(n, 10)
		add("ulimit", "nofile="+v+":"+v)
	}
	given("shm-size", p.Limits.Shm)
	if c := p.Limits.CPUs; c != 0 {
		add("cpus", strconv.FormatFloat(c, 'f', -1, 64))
	}
	if h := p.Health; h != nil {
		given("health-cmd", h.Command)
		given("health-interval", h.Interval)
		given("health-timeout", h.Timeout)
		given("health-start-period", h.StartPeriod)
		number("health-retries", int64(h.Retries))
	}
	given("stop-signal", p.StopSignal)
	if t := p.StopTimeout; t != nil {
		add("stop-timeout", strconv.Itoa(*t))
	}
	return out
}

// anonymous is the volume without a name.
const anonymous = "anonymous"

// flag is the one flag of a writable directory.
func (w Writable) flag() string {
	if w.Volume == "" {
		var options []string
		if n, ok := bytesOf(w.Size); ok {
			options = append(options, "size="+kernelSize(n))
		}
		if w.Mode != "" {
			options = append(options, "mode="+w.Mode)
		}
		if w.UID != nil {
			options = append(options, "uid="+strconv.FormatUint(uint64(*w.UID), 10))
		}
		if w.GID != nil {
			options = append(options, "gid="+strconv.FormatUint(uint64(*w.GID), 10))
		}
		if w.Exec {
			options = append(options, "exec")
		}
		if len(options) == 0 {
			return "--tmpfs=" + w.Path
		}
		return "--tmpfs=" + w.Path + ":" + strings.Join(options, ",")
	}
	name := w.Volume
	if name == anonymous {
		name = ""
	}
	if w.Exec {
		fields := []string{"type=volume"}
		if name != "" {
			fields = append(fields, "src="+name)
		}
		return "--mount=" + csvLine(append(fields, "dst="+w.Path, "exec"))
	}
	if name != "" {
		name += ":"
	}
	return "--volume=" + name + w.Path
}

// kernelSize writes a number of bytes as the kernel reads it in mount options.
func kernelSize(n int64) string {
	for _, unit := range []struct {
		name  string
		shift int
	}{{"g", 30}, {"m", 20}, {"k", 10}} {
		if n&(1<<unit.shift-1) == 0 {
			return strconv.FormatInt(n>>unit.shift, 10) + unit.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// csvLine joins fields as --mount takes them, quoted where they hold commas.
func csvLine(fields []string) string {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	_ = w.Write(fields) // a Buffer takes everything
	w.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}

// published says whether the port has one of the host.
func (p Port) published() bool { return strings.Contains(p.Port, ":") }

// maxSeccompFile is the largest file of a filter read, in bytes.
const maxSeccompFile = 1 << 20

// SeccompJSON gives the profile's system call filter in docker's JSON, which
// ParseSeccomp narrows the built-in one by: that of its file in dir, the
// directory of the profile, read by read; or one made of its list. Without
// either it is nil.
func (p Profile) SeccompJSON(dir string, read func(path string, max int64) ([]byte, error)) ([]byte, error) {
	s := p.Seccomp
	switch {
	case s == nil:
		return nil, nil
	case s.File == "":
		return allowJSON(s.Allow)
	case dir == "" || !filepath.IsLocal(s.File):
		return nil, fail.New(fail.Refused, "seccomp: the profile has no directory the file %.80q could be in", s.File)
	}
	data, err := read(filepath.Join(dir, s.File), maxSeccompFile)
	if err != nil {
		return nil, fail.Wrap(fail.KindOf(err), err, "seccomp file of the profile")
	}
	return data, nil
}

// allowJSON is a filter that permits some calls and has all others fail with
// EPERM, docker's way.
func allowJSON(names []string) ([]byte, error) {
	type rule struct {
		Names  []string `json:"names"`
		Action string   `json:"action"`
	}
	data, err := json.Marshal(struct {
		DefaultAction string `json:"defaultAction"`
		Syscalls      []rule `json:"syscalls"`
	}{"SCMP_ACT_ERRNO", []rule{{names, "SCMP_ACT_ALLOW"}}})
	return data, fail.Wrap(fail.Internal, err, "writing a seccomp filter")
}
