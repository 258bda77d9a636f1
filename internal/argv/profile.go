package argv

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/profiles"
	"github.com/safe-run/safe-run/spec"
)

// Profile takes a command line apart: what a profile can hold goes into one, and
// the flags that are left stay flags. flags are those w was read from.
func Profile(flags []cli.Given, w spec.Workload) (p profiles.Profile, left []cli.Given) {
	p.Version = 1
	limits(&p.Limits, w)
	for _, word := range egressWords(w.Egress) {
		p.Egress = append(p.Egress, profiles.Egress{To: word})
	}
	command := len(w.Health.Test) == 2 && w.Health.Test[0] == "CMD-SHELL"
	mount, device := 0, 0
	for _, f := range flags {
		taken := true
		switch f.Long {
		case "volume", "mount", "tmpfs":
			taken = addMount(&p, w.Mounts[mount])
			mount++
		case "device":
			taken = addDevice(&p, w.Devices[device])
			device++
		case "network":
			if taken = len(w.Networks) == 1 && f.Value == w.Networks[0].Name && !strings.Contains(f.Value, "/"); taken {
				p.Network = f.Value
			}
		case "ulimit":
			taken = p.Limits.Nofile > 0 && strings.HasPrefix(f.Value, "nofile=")
		case "memory":
			taken = p.Limits.Memory != ""
		case "pids-limit":
			taken = p.Limits.Pids > 0
		case "egress":
			taken = len(p.Egress) > 0
		case "health-cmd", "health-interval", "health-timeout", "health-start-period", "health-retries":
			taken = command
		case "cap-add", "publish", "sysctl", "user", "userns", "shm-size", "cpus", "stop-signal", "stop-timeout":
			// below
		case "profile", "rm", "restart", "name", "cidfile", "explain", "complain", "record-fd", "quiet", "pull":
			// how it is run here is not for the profile to say
		default:
			taken = false
		}
		if !taken {
			left = append(left, f)
		}
	}
	for _, typed := range w.CapAdd {
		if name, err := spec.Capability(typed); err == nil && !slices.ContainsFunc(p.Capabilities, func(c profiles.Capability) bool { return c.Name == name[4:] }) {
			p.Capabilities = append(p.Capabilities, profiles.Capability{Name: name[4:]})
		}
	}
	for _, x := range w.Publish {
		p.Ports = append(p.Ports, profiles.Port{Port: publish(x)})
	}
	for _, k := range slices.Sorted(maps.Keys(w.Sysctls)) {
		p.Sysctls = append(p.Sysctls, profiles.Sysctl{Name: k, Value: w.Sysctls[k]})
	}
	p.User, p.UserNS, p.StopSignal, p.StopTimeout = w.User, w.UserNSMode, w.StopSignal, w.StopTimeout
	if h := w.Health; command {
		p.Health = &profiles.Health{Command: h.Test[1], Retries: h.Retries}
		for _, d := range []struct {
			to   *string
			from fmt.Stringer
			set  bool
		}{
			{&p.Health.Interval, h.Interval, h.Interval != 0},
			{&p.Health.Timeout, h.Timeout, h.Timeout != 0},
			{&p.Health.StartPeriod, h.StartPeriod, h.StartPeriod != 0},
		} {
			if d.set {
				*d.to = d.from.String()
			}
		}
	}
	return p, left
}

func limits(l *profiles.Limits, w spec.Workload) {
	r := w.Resources
	if r.Memory != nil && *r.Memory > 0 {
		l.Memory = size(*r.Memory)
	}
	if r.PidsLimit != nil && *r.PidsLimit > 0 {
		l.Pids = *r.PidsLimit
	}
	if w.ShmSize != nil && *w.ShmSize > 0 {
		l.Shm = size(*w.ShmSize)
	}
	if r.NanoCPUs != nil && *r.NanoCPUs > 0 {
		l.CPUs = float64(*r.NanoCPUs) / 1e9
	}
	for _, u := range w.Ulimits {
		if u.Name == "nofile" && u.Soft == u.Hard && u.Soft > 0 {
			l.Nofile = u.Soft
		}
	}
}

// size writes bytes as flags take them, exactly.
func size(n int64) string {
	for _, u := range []struct {
		n    int64
		name string
	}{{units.GiB, "g"}, {units.MiB, "m"}, {units.KiB, "k"}} {
		if n%u.n == 0 {
			return strconv.FormatInt(n/u.n, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// addMount says whether a profile can hold a mount just as it was asked for.
func addMount(p *profiles.Profile, m spec.Mount) bool {
	odd := m
	odd.Origin, odd.Type, odd.Source, odd.Target, odd.ReadOnly, odd.Exec = "", "", "", "", false, false
	t := odd.Tmpfs
	odd.Tmpfs = spec.TmpfsOptions{}
	if fmt.Sprintf("%+v", odd) != fmt.Sprintf("%+v", spec.Mount{}) {
		return false
	}
	switch m.Type {
	case spec.MountBind:
		if m.Exec {
			return false
		}
		p.Binds = append(p.Binds, profiles.Bind{Source: m.Source, Target: m.Target, Writable: !m.ReadOnly})
		return true
	case spec.MountVolume:
		if m.ReadOnly {
			return false
		}
		name := m.Source
		if name == "" {
			name = "anonymous"
		}
		p.Writable = append(p.Writable, profiles.Writable{Path: m.Target, Volume: name, Exec: m.Exec})
		return true
	case spec.MountTmpfs:
		flags := slices.DeleteFunc(slices.Clone(t.Flags), func(f string) bool { return f == "exec" || f == "noexec" || f == "rw" || f == "nosuid" || f == "nodev" })
		if m.ReadOnly || t.SizePct != 0 || t.Inodes != 0 || len(flags) > 0 {
			return false
		}
		w := profiles.Writable{Path: m.Target, UID: t.UID, GID: t.GID, Exec: m.Exec}
		if t.Size > 0 {
			w.Size = size(t.Size)
		}
		if t.Mode != nil {
			w.Mode = fmt.Sprintf("%04o", *t.Mode)
		}
		p.Writable = append(p.Writable, w)
		return true
	}
	return false
}

// addDevice is addMount for a device.
func addDevice(p *profiles.Profile, d spec.Device) bool {
	if d.CDI || !strings.HasPrefix(d.Host, "/dev/") {
		return false
	}
	one := profiles.Device{Path: d.Host, Permissions: d.Permissions}
	if d.Container != d.Host {
		one.Target = d.Container
	}
	p.Devices = append(p.Devices, one)
	return true
}

// OfProfile gives the command line a profile stands for. ref is how it was named; read
// opens the file of its filter.
func OfProfile(found profiles.Loaded, ref string, read func(string, int64) ([]byte, error)) (cli.Profile, error) {
	p := found.Profile
	filter, err := found.SeccompJSON(read)
	if err != nil {
		return cli.Profile{}, err
	}
	out := cli.Profile{Name: found.Name, Shown: ref, Image: p.Image, Flags: p.Flags(), Seccomp: filter}
	if a := p.AppArmor; a != nil {
		out.AppArmorName = a.Name
		if len(a.Files) > 0 {
			out.AppArmor = &spec.AppArmorRules{}
			for _, f := range a.Files {
				out.AppArmor.Files = append(out.AppArmor.Files, spec.AppArmorFile{Path: f.Path, Access: f.Access})
			}
		}
	}
	return out, nil
}
