package spec

import (
	"path"
	"reflect"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/internal/fail"
)

// Exec is what a further process of a running container is asked to be.
type Exec struct {
	Args        []string
	Env         []EnvVar   // over the container's; a nil Value removes the name
	User        *User      // resolved; nil is the container's
	Workdir     string     // "" is the container's
	TTY         bool       // a terminal of its own
	ConsoleSize *specs.Box // of that terminal, in characters; nil is the runtime's choice
}

// ExecProcess gives the process of an exec, which never has more than base,
// the process the container was started with: it is a copy of it, in which
// only the program, its environment, user, directory and terminal differ.
// base is not changed. Errors have kind Usage or Refused.
func ExecProcess(base *specs.Process, rq Exec) (*specs.Process, error) {
	if base == nil {
		return nil, fail.New(fail.Internal, "the container's specification has no process")
	}
	p := cloneProcess(base)
	p.Args = slices.Clone(rq.Args)
	if fencedProcess(base) && len(rq.Args) > 0 && rq.Args[0] != "" {
		// The first process could hand it the host's sockets.
		p.Args = append([]string{ActivatePath, activateFurther}, rq.Args...)
	}
	p.Terminal, p.ConsoleSize = rq.TTY, nil
	if rq.TTY {
		p.ConsoleSize = rq.ConsoleSize
	}
	var err error
	if p.Env, err = execEnvironment(base.Env, rq); err != nil {
		return nil, err
	}
	if rq.Workdir != "" {
		if p.Cwd, err = workdir(Workload{Workdir: rq.Workdir}, Image{}); err != nil {
			return nil, err
		}
	}
	if rq.User != nil {
		if err := execUser(p, *rq.User); err != nil {
			return nil, err
		}
	}
	return p, VerifyExec(p, base)
}

// execUser runs the process as another user, with the capabilities the
// container would have had, had it been started as that user (see Build).
func execUser(p *specs.Process, u User) error {
	same := u.UID == p.User.UID
	p.User = specs.User{UID: u.UID, GID: u.GID, Umask: p.User.Umask, AdditionalGids: []uint32{u.GID}}
	for _, gid := range u.Additional {
		if !slices.Contains(p.User.AdditionalGids, gid) {
			p.User.AdditionalGids = append(p.User.AdditionalGids, gid)
		}
	}
	for _, id := range append([]uint32{u.UID}, p.User.AdditionalGids...) {
		if id >= blockSize {
			return fail.New(fail.HostCannot, "id %d: a container has the ids 0 to %d of its own", id, blockSize-1)
		}
	}
	if same || p.Capabilities == nil {
		return nil
	}
	all := p.Capabilities.Bounding
	own := func() []string { return append([]string{}, all...) }
	p.Capabilities = &specs.LinuxCapabilities{
		Bounding: own(), Effective: own(), Permitted: own(), Inheritable: []string{}, Ambient: []string{},
	}
	if u.UID != 0 {
		p.Capabilities.Inheritable, p.Capabilities.Ambient = own(), own()
	}
	return nil
}

// execEnvironment is the container's with TERM for a terminal, as docker's,
// and what was asked for. What the launcher promised the container's first
// process (readiness socket, passed descriptors) does not hold for others.
func execEnvironment(base []string, rq Exec) ([]string, error) {
	e := env{at: map[string]int{}}
	if rq.TTY {
		e.set("TERM", "xterm")
	}
	for _, entry := range base {
		if name, value, ok := strings.Cut(entry, "="); ok && !imageEnvReserved(name) {
			e.set(name, value)
		}
	}
	for _, v := range rq.Env {
		if v.Name == "" || strings.ContainsAny(v.Name, "=\x00") || v.Value != nil && strings.ContainsRune(*v.Value, 0) {
			return nil, fail.New(fail.Usage, "invalid environment variable name or value: %.64q", v.Name)
		}
		if v.Value == nil {
			e.unset(v.Name)
		} else {
			e.set(v.Name, *v.Value)
		}
	}
	return e.list(), nil
}

// VerifyExec is the last look at the process of an exec: it sees nothing but
// the result and the process the container was started with, and refuses
// whatever is more than that. Errors have kind Usage for the words asked for,
// and Refused or Internal for the rest.
func VerifyExec(p, base *specs.Process) error {
	if p == nil || base == nil {
		return fail.New(fail.Internal, "exec: a process is missing")
	}
	for _, check := range []func(p, base *specs.Process) error{
		execArgs, execCwd, execEnv, execCapabilities, execConfinement, execRlimits, execScheduling,
	} {
		if err := check(p, base); err != nil {
			return err
		}
	}
	return nil
}

func execArgs(p, base *specs.Process) error {
	switch {
	case len(p.Args) == 0:
		return fail.New(fail.Usage, "no command to execute")
	case p.Args[0] == "":
		return fail.New(fail.CmdNotFound, "the command is an empty string")
	case p.CommandLine != "":
		return fail.New(fail.Internal, "exec: a command line instead of words")
	case fencedProcess(base) && (len(p.Args) < 3 || p.Args[0] != ActivatePath || p.Args[1] != activateFurther):
		return fail.New(fail.Internal, "exec: nothing keeps it from connections through the sockets the container has of the host")
	}
	for _, a := range p.Args {
		if strings.ContainsRune(a, 0) {
			return fail.New(fail.Usage, "NUL byte in the command word %.64q", a)
		}
	}
	return nil
}

// execCwd: a directory of procfs could be a descriptor of the host
// (CVE-2024-21626).
func execCwd(p, _ *specs.Process) error {
	switch {
	case !path.IsAbs(p.Cwd) || path.Clean(p.Cwd) != p.Cwd || strings.ContainsRune(p.Cwd, 0):
		return fail.New(fail.Usage, "the working directory %.128q is not a clean absolute path", p.Cwd)
	case kernelPath(p.Cwd):
		return fail.New(fail.Refused, "the working directory %.128q is below /proc, /sys or /dev", p.Cwd)
	}
	return nil
}

func execEnv(p, _ *specs.Process) error {
	for _, e := range p.Env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" || strings.ContainsRune(e, 0) {
			return fail.New(fail.Usage, "the environment has the malformed entry %.64q", name)
		}
	}
	return nil
}

// execCapabilities: no set is larger than what the container can ever have,
// and without a change of user no set is larger than its own.
func execCapabilities(p, base *specs.Process) error {
	if p.Capabilities == nil || base.Capabilities == nil {
		return fail.New(fail.Internal, "exec: the capability sets are not written down")
	}
	got, of := p.Capabilities, base.Capabilities
	for _, s := range []struct {
		name      string
		set, base []string
	}{
		{"bounding", got.Bounding, of.Bounding},
		{"permitted", got.Permitted, of.Permitted},
		{"effective", got.Effective, of.Effective},
		{"inheritable", got.Inheritable, of.Inheritable},
		{"ambient", got.Ambient, of.Ambient},
	} {
		limit := s.base
		if p.User.UID != base.User.UID {
			limit = of.Bounding
		}
		for _, c := range s.set {
			if !slices.Contains(limit, c) {
				return fail.New(fail.Refused, "exec: %.64s is not in the container's %s set", c, s.name)
			}
		}
	}
	return nil
}

func execConfinement(p, base *specs.Process) error {
	switch {
	case base.NoNewPrivileges && !p.NoNewPrivileges:
		return fail.New(fail.Refused, "exec: no_new_privs is missing")
	case p.ApparmorProfile != base.ApparmorProfile:
		return fail.New(fail.Refused, "exec: AppArmor profile %.64q is not the container's", p.ApparmorProfile)
	case p.SelinuxLabel != base.SelinuxLabel:
		return fail.New(fail.Refused, "exec: SELinux label %.64q is not the container's", p.SelinuxLabel)
	}
	return nil
}

// execRlimits: each limit of the container's is there and not higher, and
// there is no other: what the runtime starts with may be lower than that.
func execRlimits(p, base *specs.Process) error {
	for _, b := range base.Rlimits {
		i := slices.IndexFunc(p.Rlimits, func(l specs.POSIXRlimit) bool { return l.Type == b.Type })
		if i < 0 || p.Rlimits[i].Hard > b.Hard || p.Rlimits[i].Soft > b.Soft {
			return fail.New(fail.Refused, "exec: %.32s is higher than the container's", b.Type)
		}
	}
	if len(p.Rlimits) != len(base.Rlimits) {
		return fail.New(fail.Refused, "exec: the resource limits are not the container's")
	}
	return nil
}

func execScheduling(p, base *specs.Process) error {
	switch {
	case base.OOMScoreAdj != nil && (p.OOMScoreAdj == nil || *p.OOMScoreAdj < *base.OOMScoreAdj),
		base.OOMScoreAdj == nil && p.OOMScoreAdj != nil && *p.OOMScoreAdj < 0:
		return fail.New(fail.Refused, "exec: the kernel would spare it longer than the container when memory is short")
	case !reflect.DeepEqual(p.Scheduler, base.Scheduler), !reflect.DeepEqual(p.IOPriority, base.IOPriority),
		!reflect.DeepEqual(p.ExecCPUAffinity, base.ExecCPUAffinity):
		return fail.New(fail.Refused, "exec: scheduling is not the container's")
	}
	return nil
}

// cloneProcess copies a process so that nothing is shared that is changed later.
func cloneProcess(base *specs.Process) *specs.Process {
	p := *base
	p.User.AdditionalGids = slices.Clone(base.User.AdditionalGids)
	p.User.Umask = clonePointer(base.User.Umask)
	p.Args, p.Env, p.Rlimits = slices.Clone(base.Args), slices.Clone(base.Env), slices.Clone(base.Rlimits)
	if c := base.Capabilities; c != nil {
		// Never nil: what a missing set means is up to the runtime.
		copied := func(s []string) []string { return append([]string{}, s...) }
		p.Capabilities = &specs.LinuxCapabilities{
			Bounding: copied(c.Bounding), Effective: copied(c.Effective), Permitted: copied(c.Permitted),
			Inheritable: copied(c.Inheritable), Ambient: copied(c.Ambient),
		}
	}
	p.ConsoleSize = clonePointer(base.ConsoleSize)
	p.OOMScoreAdj = clonePointer(base.OOMScoreAdj)
	p.IOPriority = clonePointer(base.IOPriority)
	p.ExecCPUAffinity = clonePointer(base.ExecCPUAffinity)
	if p.Scheduler = clonePointer(base.Scheduler); p.Scheduler != nil {
		p.Scheduler.Flags = slices.Clone(p.Scheduler.Flags)
	}
	return &p
}

func clonePointer[T any](v *T) *T {
	if v == nil {
		return nil
	}
	c := *v
	return &c
}
