package spec

import (
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/internal/fail"
)

const (
	// defaultPath is what docker sets before the image's ENV.
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// initPath is where docker puts the init of --init.
	initPath = "/sbin/docker-init"
)

// Args gives the words of the container's process: the flag's entrypoint
// replaces the image's and drops its CMD; words after the image replace CMD
// only. --init is not in it.
func Args(w Workload, img Image) ([]string, error) {
	entrypoint, cmd := img.Entrypoint, img.Cmd
	if w.Entrypoint != nil {
		entrypoint, cmd = nil, nil
		if *w.Entrypoint != "" {
			entrypoint = []string{*w.Entrypoint}
		}
	}
	if len(w.Args) > 0 {
		cmd = w.Args
	}
	// An ENTRYPOINT of one empty string is an image's way to have none.
	if len(entrypoint) == 1 && entrypoint[0] == "" {
		entrypoint = nil
	}
	args := slices.Concat(entrypoint, cmd)
	if len(args) == 0 {
		return nil, fail.New(fail.Usage, "no command specified").
			Hint("no ENTRYPOINT and no CMD of the image is left to run; give a command after the image name")
	}
	if args[0] == "" {
		return nil, fail.New(fail.CmdNotFound, "the command is an empty string")
	}
	for _, a := range args {
		if strings.ContainsRune(a, 0) {
			return nil, fail.New(fail.Usage, "NUL byte in the command word %.64q", a)
		}
	}
	return args, nil
}

// processArgs adds to Args the program that takes the unit's sockets, and
// --init before it.
func processArgs(in Input) ([]string, error) {
	args, err := Args(in.Workload, in.Image)
	if err != nil {
		return nil, err
	}
	if in.Files.Activate != "" {
		helper := []string{ActivatePath}
		if in.Files.ActivateFenced {
			helper = append(helper, activateFenced)
		}
		args = append(helper, args...)
	}
	if !wantsInit(in.Workload) {
		return args, nil
	}
	if in.Files.Init == "" {
		return nil, fail.New(fail.HostCannot, "--init needs a static init (tini or catatonit) and none is installed").
			Hint("install the engine's init, or leave --init out")
	}
	return append([]string{initPath, "--"}, args...), nil
}

func wantsInit(w Workload) bool { return w.Init != nil && *w.Init }

// imageEnvReserved says whether an image may not set a variable: these carry
// the launcher's own promises to the program (readiness socket, passed
// descriptors).
func imageEnvReserved(name string) bool { return ServiceVariable(name) }

// environment is docker's: defaults, then the image's ENV, then the flags in
// their order; the last of a name wins and keeps the place of the first, and
// a flag without a value removes the name. HOME is added by the runtime.
func environment(in Input, hostname string) ([]string, error) {
	e := env{at: map[string]int{}}
	e.set("PATH", defaultPath)
	e.set("HOSTNAME", hostname)
	if in.Workload.TTY {
		e.set("TERM", "xterm")
	}
	for _, entry := range in.Image.Env {
		name, value, ok := strings.Cut(entry, "=")
		if !ok || name == "" || strings.ContainsRune(entry, 0) {
			// Never a look-up in the launcher's own environment
			// (CVE-2026-57231).
			return nil, fail.New(fail.Usage, "the image has a malformed ENV entry %.64q; it must be NAME=value", entry)
		}
		if !imageEnvReserved(name) {
			e.set(name, value)
		}
	}
	for _, v := range in.Workload.Env {
		if v.Name == "" || strings.ContainsAny(v.Name, "=\x00") || v.Value != nil && strings.ContainsRune(*v.Value, 0) {
			return nil, fail.New(fail.Usage, "invalid environment variable name or value: %.64q", v.Name)
		}
		if v.Value == nil {
			e.unset(v.Name)
		} else {
			e.set(v.Name, *v.Value)
		}
	}
	serviceEnvironment(in.Files, &e)
	return e.list(), nil
}

// env is an ordered set of variables.
type env struct {
	entries []string // "" marks a removed one
	at      map[string]int
}

func (e *env) set(name, value string) {
	if i, ok := e.at[name]; ok {
		e.entries[i] = name + "=" + value
		return
	}
	e.at[name] = len(e.entries)
	e.entries = append(e.entries, name+"="+value)
}

func (e *env) unset(name string) {
	if i, ok := e.at[name]; ok {
		e.entries[i] = ""
		delete(e.at, name)
	}
}

func (e *env) list() []string {
	return slices.DeleteFunc(e.entries, func(s string) bool { return s == "" })
}

// workdir is where the process starts. A directory of procfs could be a
// descriptor of the host (CVE-2024-21626).
func workdir(w Workload, img Image) (string, error) {
	dir, whose := "/", ""
	switch {
	case w.Workdir != "":
		dir, whose = w.Workdir, "-w"
	case img.Workdir != "":
		dir, whose = img.Workdir, "the image's WORKDIR"
	}
	if err := cleanable(dir); err != nil {
		return "", fail.Wrap(fail.Usage, err, "%s", whose)
	}
	dir = path.Clean(dir)
	if kernelPath(dir) {
		return "", fail.New(fail.Refused, "%s %q is below /proc, /sys or /dev", whose, dir).
			Hint("start in a directory of the image")
	}
	return dir, nil
}

// kernelPath says whether a clean path is or lies below a tree the kernel or
// the runtime fills.
func kernelPath(p string) bool {
	for _, tree := range []string{"/proc", "/sys", "/dev"} {
		if within(p, tree) {
			return true
		}
	}
	return false
}

// within says whether clean path p is dir or below it.
func within(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir) && p[len(dir)] == '/'
}

// cleanable checks that a path inside the container can be used at all.
func cleanable(p string) error {
	switch {
	case len(p) > 4095: // PATH_MAX with its NUL
		return fail.New(fail.Usage, "path of %d bytes is too long", len(p))
	case !strings.HasPrefix(p, "/"):
		return fail.New(fail.Usage, "path %q is not absolute", p)
	case hasControl(p):
		return fail.New(fail.Usage, "control character in path %q", p)
	}
	return nil
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 })
}

// hostname is --hostname, or as with docker the first 12 digits of the id.
func hostname(in Input) (string, error) {
	name := in.Workload.Hostname
	if name == "" {
		if len(in.ID) < 12 {
			return "", fail.New(fail.Internal, "container id %.64q is too short", in.ID)
		}
		return in.ID[:12], nil
	}
	if err := hostLabel("--hostname", name); err != nil {
		return "", err
	}
	return name, nil
}

// hostLabel checks a host or domain name: it ends up in files other programs
// parse line by line, and runc accepts a newline in it.
func hostLabel(flag, name string) error {
	if len(name) > 64 { // HOST_NAME_MAX
		return fail.New(fail.Usage, "%s %.80q is longer than 64 characters", flag, name)
	}
	for i, c := range []byte(name) {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
		if !letter && (i == 0 || c != '-' && c != '.' && c != '_') {
			return fail.New(fail.Usage, "%s %q: letters, digits, dots and dashes only", flag, name)
		}
	}
	return nil
}

// processUser checks that all ids are in the container's block. The primary
// group is listed as an additional one too, as docker does.
func processUser(in Input) (specs.User, error) {
	u := specs.User{UID: in.User.UID, GID: in.User.GID, AdditionalGids: []uint32{in.User.GID}}
	for _, gid := range in.User.Additional {
		if !slices.Contains(u.AdditionalGids, gid) {
			u.AdditionalGids = append(u.AdditionalGids, gid)
		}
	}
	last := uint32(maxID)
	if !hostUserNS(in) {
		last = in.IDs.Size - 1
	}
	for _, id := range append([]uint32{u.UID}, u.AdditionalGids...) {
		if id > last {
			return specs.User{}, fail.New(fail.HostCannot, "id %d is not in the container's user namespace, which has ids 0 to %d", id, last)
		}
	}
	return u, nil
}

const (
	sigpending = 1024   // queued signals and timers
	msgqueue   = 409600 // bytes of POSIX message queues, half of the kernel's default
)

// rlimits of --ulimit over the defaults: as many files as the limit in force
// and the host allow, no core dumps.
func rlimits(in Input) ([]specs.POSIXRlimit, error) {
	nofile := uint64(max(in.Limits.Nofile, 0))
	if in.Host.NofileHard > 0 {
		nofile = min(nofile, in.Host.NofileHard)
	}
	limits := map[string]specs.POSIXRlimit{
		"core":   {Type: "RLIMIT_CORE"},
		"nofile": {Type: "RLIMIT_NOFILE", Soft: nofile, Hard: nofile},
		// As sharedCounts: the sum over all containers is held against what one
		// user of the host may have.
		"sigpending": {Type: "RLIMIT_SIGPENDING", Soft: sigpending, Hard: sigpending},
		"msgqueue":   {Type: "RLIMIT_MSGQUEUE", Soft: msgqueue, Hard: msgqueue},
	}
	for _, u := range in.Workload.Ulimits {
		if !slices.Contains(ulimitNames, u.Name) {
			return nil, fail.New(fail.Usage, "invalid ulimit type %.32q", u.Name)
		}
		if u.Soft < -1 || u.Hard < -1 || uint64(u.Soft) > uint64(u.Hard) {
			return nil, fail.New(fail.Usage, "--ulimit %s=%d:%d: the soft limit must be at most the hard one, and -1 is unlimited", u.Name, u.Soft, u.Hard)
		}
		if err := boundedUlimit(in, u); err != nil {
			return nil, err
		}
		// -1 becomes RLIM_INFINITY.
		limits[u.Name] = specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard)}
	}
	out := make([]specs.POSIXRlimit, 0, len(limits))
	for _, name := range ulimitNames {
		if l, ok := limits[name]; ok {
			out = append(out, l)
		}
	}
	return out, nil
}

// ulimitNames are docker's.
var ulimitNames = []string{
	"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice",
	"nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack",
}

func boundedUlimit(in Input, u Ulimit) error {
	switch {
	case u.Hard == -1 && (u.Name == "core" || u.Name == "nofile"):
		return fail.New(fail.Refused, "--ulimit %s cannot be unlimited", u.Name).Hint("give a number")
	case u.Name != "nofile":
		return nil
	case in.Limits.MaxNofile > 0 && u.Hard > in.Limits.MaxNofile:
		return fail.New(fail.Refused, "--ulimit nofile=%d is above the maximum of %d", u.Hard, in.Limits.MaxNofile)
	case !in.Host.HasResource && in.Host.NofileHard > 0 && uint64(u.Hard) > in.Host.NofileHard:
		return fail.New(fail.HostCannot, "--ulimit nofile=%d is above this process's own limit of %d", u.Hard, in.Host.NofileHard).
			Hint("raise LimitNOFILE= of the unit, or ask for at most %d", in.Host.NofileHard)
	}
	return nil
}
