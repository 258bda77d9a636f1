package spec

import (
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/profiles"
)

// Build gives the OCI runtime spec of a hardened container. It is pure: the
// same input gives the same spec, and nothing on the host is looked at.
//
// It does not decide what may be granted; whatever is asked for and neither
// free nor in in.Grants is an error, so that a hole in the policy does not
// become one here. Terminal and ConsoleSize, and the interfaces of a network
// namespace, are left to the caller.
// Errors are fail.Error values.
func Build(in Input) (*specs.Spec, error) {
	w, g := in.Workload, in.Grants
	if err := preconditions(in); err != nil {
		return nil, err
	}
	if err := checkService(in); err != nil {
		return nil, err
	}
	in.Limits = in.Limits.bounded()
	own, err := ownNamespaces(in)
	if err != nil {
		return nil, err
	}
	args, err := processArgs(in)
	if err != nil {
		return nil, err
	}
	host, err := hostname(in)
	if err != nil {
		return nil, err
	}
	environ, err := environment(in, host)
	if err != nil {
		return nil, err
	}
	cwd, err := workdir(w, in.Image)
	if err != nil {
		return nil, err
	}
	user, err := processUser(in)
	if err != nil {
		return nil, err
	}
	caps, err := capabilities(w, g)
	if err != nil {
		return nil, err
	}
	limits, err := rlimits(in)
	if err != nil {
		return nil, err
	}
	opts, err := securityOptions(in)
	if err != nil {
		return nil, err
	}
	allMounts, err := mounts(in, own)
	if err != nil {
		return nil, err
	}
	cgroupLimits, err := resources(in)
	if err != nil {
		return nil, err
	}
	sysctl, err := sysctls(in, own)
	if err != nil {
		return nil, err
	}
	cgroupsPath, err := cgroupPath(in)
	if err != nil {
		return nil, err
	}
	filter, err := seccompFilter(in, opts, caps, own)
	if err != nil {
		return nil, err
	}
	annotations, err := annotationsOf(in)
	if err != nil {
		return nil, err
	}

	s := &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: "rootfs", Readonly: opts.readOnly},
		Process: &specs.Process{
			Args: args,
			Env:  environ,
			Cwd:  cwd,
			User: user,
			// All five sets are written: what a missing one means is up to
			// the runtime.
			Capabilities: &specs.LinuxCapabilities{
				Bounding:    caps,
				Effective:   caps,
				Permitted:   caps,
				Inheritable: []string{},
				Ambient:     []string{},
			},
			NoNewPrivileges: !opts.newPrivileges,
			Rlimits:         limits,
			OOMScoreAdj:     oomScoreAdj(in),
			ApparmorProfile: opts.apparmor,
			SelinuxLabel:    opts.label,
		},
		Annotations: annotations,
		Mounts:      allMounts,
		Linux: &specs.Linux{
			Namespaces:    own.list(),
			CgroupsPath:   cgroupsPath,
			Resources:     cgroupLimits,
			Sysctl:        sysctl,
			Seccomp:       filter,
			MaskedPaths:   masks(in.Host, hostSys(own)),
			ReadonlyPaths: readonly(in.Host),
			MountLabel:    opts.mountLabel,
		},
	}
	if own.uts {
		s.Hostname, s.Domainname = host, w.Domainname
	}
	if own.user {
		s.Linux.UIDMappings, s.Linux.GIDMappings = mappings(in.IDs)
	}
	if user.UID != 0 {
		// A program that is not root loses all but its ambient capabilities
		// when it is executed; without these two sets an addition would have
		// no effect.
		s.Process.Capabilities.Inheritable = caps
		s.Process.Capabilities.Ambient = caps
	}
	return s, nil
}

// DefaultOOMScoreAdj is a container's oom_score_adj (proc_pid_oom_score_adj(5))
// if none is asked for: when memory is short it is killed before services of
// the host. Without one it would have its shim's, which has the engine's, and
// containerd's own unit asks for -999.
const DefaultOOMScoreAdj = 100

func oomScoreAdj(in Input) *int {
	if asked := in.Workload.OOMScoreAdj; asked != nil {
		return asked
	}
	return new(max(DefaultOOMScoreAdj, in.Host.OOMScoreAdj))
}

// bounded lowers the defaults to the maxima.
func (l Limits) bounded() Limits {
	for _, d := range []struct{ value, most *int64 }{
		{&l.Memory, &l.MaxMemory},
		{&l.Pids, &l.MaxPids},
		{&l.Nofile, &l.MaxNofile},
		{&l.Shm, &l.MaxShm},
		{&l.Tmpfs, &l.MaxTmpfs},
	} {
		if *d.most > 0 {
			*d.value = min(*d.value, *d.most)
		}
	}
	return l
}

// preconditions are the faults of the caller and what no container is given.
func preconditions(in Input) error {
	w := in.Workload
	switch {
	case !isID(in.ID):
		return fail.New(fail.Internal, "container id %.80q is not 64 hex digits", in.ID)
	case !hostUserNS(in) && !in.IDs.valid():
		return fail.New(fail.Internal, "id block %+v is not usable", in.IDs)
	case in.Limits.Memory < minMemory, in.Limits.Pids <= 0, in.Limits.Nofile <= 0, in.Limits.Shm <= 0, in.Limits.Tmpfs <= 0, in.Limits.TmpfsInodes <= 0:
		return fail.New(fail.Internal, "a default limit is missing: %+v", in.Limits)
	case w.Privileged:
		return fail.New(fail.Refused, "--privileged is never given")
	case w.UseAPISocket:
		return fail.New(fail.Refused, "--use-api-socket is never given")
	case len(w.VolumesFrom) > 0:
		return fail.New(fail.Refused, "--volumes-from takes over mounts nobody checks here")
	case len(w.DeviceCgroupRules) > 0:
		return fail.New(fail.Refused, "--device-cgroup-rule is never given")
	case w.GPUs != "":
		return fail.New(fail.Refused, "--gpus is never given")
	case len(w.Devices) != len(in.Grants.Devices):
		return fail.New(fail.Refused, "%d devices are asked for and %d granted", len(w.Devices), len(in.Grants.Devices))
	case w.OOMScoreAdj != nil && (*w.OOMScoreAdj < 0 || *w.OOMScoreAdj > 1000):
		return fail.New(fail.Refused, "--oom-score-adj %d must be between 0 and 1000: below, the host's own programs would be killed first", *w.OOMScoreAdj)
	case w.ShmSize != nil && (*w.ShmSize <= 0 || *w.ShmSize > maxTmpfsBytes):
		return fail.New(fail.Usage, "--shm-size must be above 0 and no more than a machine has")
	case w.ShmSize != nil && in.Limits.MaxShm > 0 && *w.ShmSize > in.Limits.MaxShm:
		return fail.New(fail.Refused, "--shm-size %d is above the maximum of %d bytes", *w.ShmSize, in.Limits.MaxShm)
	case !in.Host.Seccomp:
		return fail.New(fail.HostCannot, "this kernel has no seccomp filters").Hint("use a kernel with CONFIG_SECCOMP_FILTER")
	}
	if w.Domainname != "" {
		return hostLabel("--domainname", w.Domainname)
	}
	return nil
}

func isID(id string) bool {
	if len(id) != 64 {
		return false
	}
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// valid: at least the ids of a usual system, never the host's root or the two
// ids at the end that mean "none".
func (b IDBlock) valid() bool {
	const last = 1<<32 - 2
	return b.Size >= 1024 && b.HostUID > 0 && b.HostGID > 0 &&
		uint64(b.HostUID)+uint64(b.Size) <= last && uint64(b.HostGID)+uint64(b.Size) <= last
}

// security is the outcome of --security-opt and --read-only.
type security struct {
	unconfined    bool // no seccomp filter
	seccompFile   bool
	newPrivileges bool
	readOnly      bool
	apparmor      string
	label         string
	mountLabel    string
}

func securityOptions(in Input) (security, error) {
	o := security{
		readOnly: true, apparmor: in.AppArmorProfile,
		label: in.SELinuxLabel, mountLabel: in.SELinuxMountLabel,
	}
	g := in.Grants
	if ro := in.Workload.ReadOnly; ro != nil && !*ro {
		if !g.WritableRootfs {
			return o, fail.New(fail.Refused, "--read-only=false is not granted")
		}
		o.readOnly = false
	}
	unconfinedAppArmor, labelDisabled := false, false
	for _, typed := range in.Workload.SecurityOpts {
		key, value := cutOption(typed)
		granted := true
		switch {
		case key == "seccomp" && value == "unconfined":
			o.unconfined, o.seccompFile, granted = true, false, g.UnconfinedSeccomp
		case key == "seccomp" && value == "builtin":
			o.unconfined, o.seccompFile = false, false
		case key == "seccomp" && value != "":
			o.unconfined, o.seccompFile = false, true
		case key == "apparmor" && value == "unconfined":
			o.apparmor, unconfinedAppArmor, granted = "", true, g.UnconfinedAppArmor
		case key == "apparmor" && value != "":
			// Names of the built-in profile; the caller loaded what it gave.
			o.apparmor, unconfinedAppArmor = in.AppArmorProfile, false
		case key == "label" && value == "disable", key == "disable" && value == "":
			o.label, o.mountLabel, labelDisabled, granted = "", "", true, g.LabelDisable
		case key == "no-new-privileges" && (value == "" || value == "true"):
			o.newPrivileges = false
		case key == "no-new-privileges" && value == "false":
			o.newPrivileges, granted = true, g.NewPrivileges
		case key == "writable-cgroups" && value == "false":
		default:
			granted = false
		}
		if !granted {
			return o, fail.New(fail.Refused, "--security-opt %.128q is not granted", typed)
		}
	}
	switch {
	case in.Host.AppArmor && o.apparmor == "" && !unconfinedAppArmor:
		return o, fail.New(fail.HostCannot, "this kernel has AppArmor but no profile is loaded for the container")
	case in.Host.SELinux && o.label == "" && !labelDisabled:
		return o, fail.New(fail.HostCannot, "this host has SELinux but the container has no label")
	}
	return o, nil
}

// cutOption takes a --security-opt apart as docker does: at "=", else at ":".
func cutOption(typed string) (key, value string) {
	sep := ":"
	if strings.Contains(typed, "=") {
		sep = "="
	}
	key, value, _ = strings.Cut(typed, sep)
	value = strings.TrimSpace(value)
	// Files keep their case; words do not.
	if low := strings.ToLower(value); low == "unconfined" || low == "disable" || low == "true" || low == "false" {
		value = low
	}
	switch value {
	case "1", "t":
		value = "true"
	case "0", "f":
		value = "false"
	}
	return strings.ToLower(strings.TrimSpace(key)), value
}

// seccompFilter is the built-in one, or a user's file narrowed to it.
func seccompFilter(in Input, opts security, caps []string, own namespacesOf) (*specs.LinuxSeccomp, error) {
	if opts.unconfined {
		return nil, nil
	}
	o := filterOptions(in.Host, caps, writableBind(in), own.network)
	if opts.seccompFile {
		if in.Workload.Seccomp == nil {
			return nil, fail.New(fail.Internal, "the seccomp profile was not read")
		}
		return profiles.ParseSeccomp(in.Workload.Seccomp.JSON, o)
	}
	if f := profiles.Seccomp(o); f != nil {
		return f, nil
	}
	return nil, fail.New(fail.HostCannot, "no seccomp filter is known for architecture %.32q", in.Host.Arch)
}

func filterOptions(host Features, caps []string, writable bool, network networkMode) profiles.Options {
	return profiles.Options{
		Arch: host.Arch, Kernel: host.Kernel, Capabilities: caps,
		WritableBind: writable, HostNetwork: network == hostNetwork,
	}
}

// writableBind says whether a directory of the host can be written to.
func writableBind(in Input) bool {
	return slices.ContainsFunc(in.Mounts, func(m ResolvedMount) bool { return m.Type == MountBind && !m.ReadOnly })
}

// annotationsOf passes on what the site granted by name: runtimes take
// annotations as orders.
func annotationsOf(in Input) (map[string]string, error) {
	var out map[string]string
	for key, value := range in.Workload.Annotations {
		if !slices.Contains(in.Grants.Annotations, key) {
			return nil, fail.New(fail.Refused, "--annotation %.128q is not granted", key)
		}
		if strings.ContainsRune(key+value, 0) {
			return nil, fail.New(fail.Usage, "NUL byte in --annotation %.128q", key)
		}
		if out == nil {
			out = map[string]string{}
		}
		out[key] = value
	}
	return out, nil
}
