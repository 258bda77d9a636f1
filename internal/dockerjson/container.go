package dockerjson

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/network"
	"github.com/safe-run/safe-run/spec"
)

// Source is all that is known of a container.
type Source struct {
	Record     store.Record
	Asked      *store.Asked  // nil: it was not kept
	Health     *store.Health // nil: nothing was found yet
	Supervised bool          // a living process has it
	Network    network.Settings
	// NetworkID gives the id of a network by its name, "" if it is gone.
	NetworkID func(name string) string
	Limits    spec.Limits              // those in force for it
	Dir       string                   // the container's own directory
	LogDir    string                   // where its log files are
	Volume    func(name string) string // the directory of a volume's data
	Label     string                   // what the host's security module calls the running process
}

// New describes a container.
func New(s Source) Container {
	r := s.Record
	a := store.Asked{}
	if s.Asked != nil {
		a = *s.Asked
	}
	c := Container{
		ID: r.ID, Created: instant(r.Created), State: stateOf(s), Image: r.Digest,
		ResolvConfPath: filepath.Join(s.Dir, "resolv.conf"),
		HostnamePath:   filepath.Join(s.Dir, "hostname"),
		HostsPath:      filepath.Join(s.Dir, "hosts"),
		Name:           "/" + Name(r), RestartCount: r.Restarts,
		Driver: "overlayfs", Platform: "linux", Args: []string{},
		Mounts: mountPoints(s, a.Workload), Config: config(r, a), HostConfig: hostConfig(s, a),
		NetworkSettings: networkSettings(s, a), SafeRun: extras(r, a),
	}
	if r.LogDriver == "" || r.LogDriver == "json-file" {
		c.LogPath = filepath.Join(s.LogDir, "json.log")
	}
	if strings.Contains(s.Label, ":") { // SELinux: user:role:type:level
		c.ProcessLabel = s.Label
	} else {
		c.AppArmorProfile, _, _ = strings.Cut(s.Label, " (")
	}
	words, err := spec.Args(a.Workload, a.Image)
	if err != nil {
		words = r.Args
	}
	if len(words) > 0 {
		c.Path, c.Args = words[0], append(c.Args, words[1:]...)
	}
	return c
}

// config is what the program was made from: the image's words, and those of
// the command line over them.
func config(r store.Record, a store.Asked) *Config {
	w, img := a.Workload, a.Image
	c := &Config{
		Hostname: w.Hostname, Domainname: w.Domainname, User: w.User,
		Tty: w.TTY || r.TTY, OpenStdin: w.Interactive || r.Stdin, StdinOnce: w.Interactive && !w.Detach,
		Env: environment(w, img), Image: w.Image, WorkingDir: w.Workdir,
		Entrypoint: img.Entrypoint, Cmd: img.Cmd, Labels: r.Labels, StopSignal: w.StopSignal, StopTimeout: w.StopTimeout,
		Healthcheck: healthcheck(w.Health, img.Health),
	}
	if c.Hostname == "" && len(r.ID) > 12 {
		c.Hostname = r.ID[:12]
	}
	if c.Image == "" {
		c.Image = r.Image
	}
	if c.User == "" {
		c.User = img.User
	}
	if c.WorkingDir == "" {
		c.WorkingDir = img.Workdir
	}
	if c.StopSignal == "" {
		c.StopSignal = img.StopSignal
	}
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	if w.Entrypoint != nil {
		c.Entrypoint, c.Cmd = nil, nil
		if *w.Entrypoint != "" {
			c.Entrypoint = []string{*w.Entrypoint}
		}
	}
	if len(w.Args) > 0 {
		c.Cmd = w.Args
	}
	if !w.Detach {
		given := func(stream string) bool { return slices.Contains(w.Attach, stream) }
		none := len(w.Attach) == 0
		c.AttachStdin, c.AttachStdout, c.AttachStderr = w.Interactive || given("stdin"), none || given("stdout"), none || given("stderr")
	}
	for _, v := range img.Volumes {
		c.Volumes = with(c.Volumes, v)
	}
	for _, m := range w.Mounts {
		if m.Origin == "-v" && m.Type == spec.MountVolume && slices.Contains(r.Anonymous, m.Source) {
			c.Volumes = with(c.Volumes, m.Target)
		}
	}
	for _, p := range exposed(a) {
		c.ExposedPorts = with(c.ExposedPorts, p)
	}
	return c
}

func with(set map[string]struct{}, key string) map[string]struct{} {
	if set == nil {
		set = map[string]struct{}{}
	}
	set[key] = struct{}{}
	return set
}

// environment is in docker's order: the flags' variables, then those of the
// image that no flag names.
func environment(w spec.Workload, img spec.Image) []string {
	last := map[string]*string{}
	var order []string
	for _, v := range w.Env {
		if _, seen := last[v.Name]; !seen {
			order = append(order, v.Name)
		}
		last[v.Name] = v.Value
	}
	out := []string{}
	for _, n := range order {
		if v := last[n]; v != nil {
			out = append(out, n+"="+*v)
		}
	}
	for _, e := range img.Env {
		if _, given := last[variable(e)]; !given {
			out = append(out, e)
		}
	}
	return out
}

func variable(entry string) string {
	for i, c := range entry {
		if c == '=' {
			return entry[:i]
		}
	}
	return entry
}

// healthcheck is the image's, with the flags' fields over it.
func healthcheck(flags, image spec.Healthcheck) *Healthcheck {
	pick := func(a, b int64) int64 {
		if a != 0 {
			return a
		}
		return b
	}
	h := Healthcheck{
		Test:          flags.Test,
		Interval:      pick(int64(flags.Interval), int64(image.Interval)),
		Timeout:       pick(int64(flags.Timeout), int64(image.Timeout)),
		StartPeriod:   pick(int64(flags.StartPeriod), int64(image.StartPeriod)),
		StartInterval: pick(int64(flags.StartInterval), int64(image.StartInterval)),
		Retries:       int(pick(int64(flags.Retries), int64(image.Retries))),
	}
	if h.Test == nil {
		h.Test = image.Test
	}
	if len(h.Test) == 0 {
		return nil
	}
	return &h
}

// maxPorts bounds the ports that are named one by one: an image can expose
// thousands of ranges of all there are.
const maxPorts = 4096

// exposed are the ports of the image, of --expose and of -p, as "80/tcp".
func exposed(a store.Asked) []string {
	ranges := slices.Concat(a.Image.Exposed, a.Workload.Expose)
	for _, p := range a.Workload.Publish {
		ranges = append(ranges, p.Ports)
	}
	return portNames(ranges)
}

func portNames(ranges []spec.PortRange) []string {
	seen := map[string]bool{}
	left := maxPorts
	for _, r := range ranges {
		first, last := int(r.First), int(r.Last)
		if n := last - first + 1; n > left {
			seen[strconv.Itoa(first)+"-"+strconv.Itoa(last)+"/"+r.Proto] = true
			continue
		}
		for p := first; p <= last; p++ {
			seen[portName(uint16(p), r.Proto)] = true
		}
		left -= last - first + 1
	}
	return slices.Sorted(maps.Keys(seen))
}

func portName(port uint16, proto string) string {
	return strconv.Itoa(int(port)) + "/" + proto
}

func extras(r store.Record, a store.Asked) *SafeRun {
	w := a.Workload
	x := &SafeRun{
		Capabilities: capabilities(w), Cgroup: r.Cgroup, Unit: r.Unit, OnUnhealthy: w.HealthOnFailure, Notify: w.SDNotify,
		Secrets: []string{}, Removed: !r.Keep, Stopped: r.Stopped,
	}
	if b := r.Block; b.Size != 0 {
		x.UserNamespace = &IDBlock{b.HostUID, b.HostGID, b.Size}
	}
	if x.OnUnhealthy == "" {
		x.OnUnhealthy = spec.OnFailureNone
	}
	if x.Notify == "" {
		x.Notify = spec.NotifyStarted
	}
	for _, s := range w.Secrets {
		x.Secrets = append(x.Secrets, s.ID)
	}
	if w.Egress.Mode != spec.EgressAll {
		x.Egress = &Egress{Mode: string(w.Egress.Mode), Allow: []string{}}
		for _, e := range w.Egress.Allow {
			host := e.Name
			if host == "" {
				host = e.Prefix.String()
			}
			ports := strconv.Itoa(int(e.Ports.First))
			if e.Ports.Last != e.Ports.First {
				ports += "-" + strconv.Itoa(int(e.Ports.Last))
			}
			x.Egress.Allow = append(x.Egress.Allow, host+":"+ports+"/"+e.Ports.Proto)
		}
	}
	return x
}
