package spec

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/profiles"
)

// VerifyInput is what the last gate knows besides the spec: what was granted,
// and facts no flag, profile or image can have an influence on.
type VerifyInput struct {
	ID     string
	Grants Grants
	IDs    IDBlock
	Limits Limits
	Host   Features
	// ExecTargets are the mounts for which somebody said exec; all other
	// writable ones must be noexec.
	ExecTargets []string
	// HostSources stand for directories and files of the host somebody asked
	// for; OwnSources are volumes, images and files made for this container.
	// A bind of anything else is a violation.
	HostSources, OwnSources []string
	// MappedSources are mounts the launcher made and idmapped for this
	// container; the attestation checks that they are.
	MappedSources []string
	// JoinNetwork and JoinSysfs are the network namespace of another container
	// and a sysfs of it, "" if none was to be joined.
	JoinNetwork, JoinSysfs string
	// CgroupParent is the cgroup of the systemd unit, "" for our own root.
	CgroupParent string
	// Files are those the launcher made for this container.
	Files HostFiles
	// AppArmorProfile and the SELinux labels are those that were loaded, ""
	// where the host has none.
	AppArmorProfile, SELinuxLabel, SELinuxMountLabel string
}

// VerifyFor gives the input of Verify that belongs to one of Build. It looks
// only at what was resolved and granted, not at how it was asked for.
func VerifyFor(in Input) VerifyInput {
	v := VerifyInput{
		ID: in.ID, CgroupParent: in.CgroupParent, Files: in.Files,
		Grants: in.Grants, IDs: in.IDs, Limits: in.Limits, Host: in.Host,
		AppArmorProfile: in.AppArmorProfile, SELinuxLabel: in.SELinuxLabel, SELinuxMountLabel: in.SELinuxMountLabel,
		JoinNetwork: in.JoinNetwork, JoinSysfs: in.JoinSysfs,
	}
	for _, m := range in.Mounts {
		switch {
		case m.HostPath == "":
		case m.Type == MountBind:
			v.HostSources = append(v.HostSources, m.HostPath)
		default:
			v.OwnSources = append(v.OwnSources, m.HostPath)
		}
		if m.Mapped {
			v.MappedSources = append(v.MappedSources, m.HostPath)
		}
		if m.Exec || slices.Contains(m.Tmpfs.Flags, "exec") {
			v.ExecTargets = append(v.ExecTargets, m.Target)
		}
	}
	for _, p := range []string{in.Files.Hosts, in.Files.Hostname, in.Files.ResolvConf, in.Files.Init} {
		if p != "" {
			v.OwnSources = append(v.OwnSources, p)
		}
	}
	for _, f := range in.Files.service() {
		v.OwnSources = append(v.OwnSources, f.source)
	}
	for _, p := range in.DeviceSources {
		v.OwnSources = append(v.OwnSources, p)
	}
	return v
}

// An invariant holds for every container that is started.
type invariant struct {
	Name string
	Why  string // what is lost without it
	// Check gives one text per violation. The spec has no nil in Process,
	// Root, Linux and Linux.Resources.
	Check func(s *specs.Spec, v VerifyInput) []string
}

// invariants are checked in this order, all of them.
var invariants = []invariant{
	{"rootfs-readonly", "a program that is broken into could replace itself", rootReadonly},
	{"capabilities", "each one is a part of root", capabilitySets},
	{"no-new-privileges", "set-user-ID programs of the image would raise privileges", noNewPrivileges},
	{"seccomp", "the kernel's rarely used calls are where escapes start", seccompStrict},
	{"lsm", "the host's mandatory access control would not hold", lsm},
	{"user-namespace", "root inside would be root of the host", userNamespace},
	{"user", "an id outside of the container's own could be somebody's", processIDs},
	{"namespaces", "the container would see or change the host's", ownNamespacesPresent},
	{"hooks", "a hook runs on the host as root, with the container's environment", noHooks},
	{"cwd", "a descriptor of the host could be reached through /proc", cwdOutside},
	{"args", "the runtime would cut or refuse them", cleanStrings},
	{"rlimits", "core dumps start a program of the host; descriptors are the host's", boundedRlimits},
	{"limits", "the container could take the memory and processes of all", cgroupLimits},
	{"devices", "a device is a door to the kernel or the disk", explicitDevices},
	{"cgroup", "the limits of other services could be changed", ownCgroup},
	{"cgroup-namespace-readonly", "the container could lift its own limits", cgroupReadonly},
	{"sysctls", "a sysctl outside of a namespace is the host's", allowedSysctls},
	{"masked-paths", "files of the kernel tell about the host and others", pathsMasked},
	{"annotations", "runtimes take annotations as orders", grantedAnnotations},
	{"mount-order", "the kernel's trees have to be in place and stay uncovered", mountPlaces},
	{"mount-types", "only file systems that are known here", mountTypes},
	{"mount-sources", "a path of the host nobody checked", mountSources},
	{"mount-propagation", "mounts would travel between host and container", mountPropagation},
	{"mount-flags", "set-user-ID programs and devices could be planted, the kernel's settings changed", mountFlags},
	{"service-files", "what is said to be a secret or a socket of the service would be another's", serviceFiles},
	{"write-xor-execute", "what was written could be executed", writeXorExecute},
	{"idmapped-binds", "ids on disk would be others than inside", idmappedBinds},
	{"tmpfs-size", "a tmpfs without a size takes half of the host's memory", tmpfsSized},
	{"unused-fields", "a field nothing here sets", unusedFields},
}

// Verify is the last gate before the runtime: it looks at the finished spec
// and at what was granted, and at nothing else, so that no second way to say
// something gets round it. All violations are in the error, which has kind
// Internal: Build never makes such a spec.
func Verify(s *specs.Spec, v VerifyInput) error {
	if s == nil || s.Process == nil || s.Root == nil || s.Linux == nil || s.Linux.Resources == nil {
		return fail.New(fail.Internal, "the spec is incomplete")
	}
	var all []error
	for _, inv := range invariants {
		for _, text := range inv.Check(s, v) {
			all = append(all, fmt.Errorf("%s: %s (%s)", inv.Name, text, inv.Why))
		}
	}
	if len(all) == 0 {
		return nil
	}
	return fail.Wrap(fail.Internal, errors.Join(all...), "the container's spec breaks %d rules and is not started", len(all)).(*fail.Error).
		Hint("this is a bug of safe-run; please report it with the command line")
}

// violation is the result of a check with at most one finding.
func violation(bad bool, format string, args ...any) []string {
	if !bad {
		return nil
	}
	return []string{fmt.Sprintf(format, args...)}
}

func rootReadonly(s *specs.Spec, v VerifyInput) []string {
	return slices.Concat(
		violation(!s.Root.Readonly && !v.Grants.WritableRootfs, "the root file system is writable"),
		violation(s.Root.Path != "rootfs", "the root file system is at %q", s.Root.Path),
	)
}

func capabilitySets(s *specs.Spec, v VerifyInput) (bad []string) {
	c := s.Process.Capabilities
	if c == nil {
		return []string{"no capability sets are given"}
	}
	for _, set := range []struct {
		name string
		caps []string
	}{
		{"bounding", c.Bounding},
		{"effective", c.Effective},
		{"permitted", c.Permitted},
		{"inheritable", c.Inheritable},
		{"ambient", c.Ambient},
	} {
		bad = append(bad, violation(set.caps == nil, "the %s set is not given", set.name)...)
		for _, name := range set.caps {
			bad = append(bad, violation(!FreeCapability(name) && !slices.Contains(v.Grants.Capabilities, name), "%s in the %s set", name, set.name)...)
			bad = append(bad, violation(!slices.Contains(c.Bounding, name), "%s is in the %s set but not in the bounding one", name, set.name)...)
		}
	}
	root := s.Process.User.UID == 0
	return append(bad, violation(root && len(c.Inheritable)+len(c.Ambient) > 0, "inheritable or ambient capabilities of root")...)
}

func noNewPrivileges(s *specs.Spec, v VerifyInput) []string {
	return violation(!s.Process.NoNewPrivileges && !v.Grants.NewPrivileges, "no_new_privs is off")
}

func seccompStrict(s *specs.Spec, v VerifyInput) []string {
	if s.Linux.Seccomp == nil && v.Grants.UnconfinedSeccomp {
		return nil
	}
	var caps []string
	if s.Process.Capabilities != nil {
		caps = s.Process.Capabilities.Bounding
	}
	return profiles.Lint(s.Linux.Seccomp, filterOptions(v.Host, caps, hostWritable(s, v), networkModeIn(s)))
}

// hostWritable says whether a directory of the host can be written to.
func hostWritable(s *specs.Spec, v VerifyInput) bool {
	return slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool {
		return slices.Contains(v.HostSources, m.Source) && optionsOf(m).writable()
	})
}

func lsm(s *specs.Spec, v VerifyInput) []string {
	p, g, onFiles := s.Process, v.Grants, s.Linux.MountLabel
	return slices.Concat(
		violation(v.Host.AppArmor && p.ApparmorProfile == "" && !g.UnconfinedAppArmor, "no AppArmor profile"),
		violation(p.ApparmorProfile != "" && p.ApparmorProfile != v.AppArmorProfile || p.ApparmorProfile == "unconfined", "AppArmor profile %q", p.ApparmorProfile),
		violation(v.Host.SELinux && p.SelinuxLabel == "" && !g.LabelDisable, "no SELinux label"),
		violation(p.SelinuxLabel != "" && p.SelinuxLabel != v.SELinuxLabel, "SELinux label %q", p.SelinuxLabel),
		violation(onFiles != "" && onFiles != v.SELinuxMountLabel, "SELinux label %q of mounts", onFiles),
	)
}

func userNamespace(s *specs.Spec, v VerifyInput) []string {
	has := slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
	if !has {
		return slices.Concat(
			violation(!v.Grants.HostUserNS, "there is no user namespace"),
			violation(len(s.Linux.UIDMappings)+len(s.Linux.GIDMappings) > 0, "id mappings without a user namespace"),
		)
	}
	uids, gids := mappings(v.IDs)
	return slices.Concat(
		violation(!v.IDs.valid(), "the block of ids %+v holds the host's own", v.IDs),
		violation(!slices.Equal(s.Linux.UIDMappings, uids), "uid mappings %v are not the container's block", s.Linux.UIDMappings),
		violation(!slices.Equal(s.Linux.GIDMappings, gids), "gid mappings %v are not the container's block", s.Linux.GIDMappings),
	)
}

func processIDs(s *specs.Spec, v VerifyInput) (bad []string) {
	limit := uint32(maxID)
	if len(s.Linux.UIDMappings) > 0 {
		limit = v.IDs.Size - 1
	}
	for _, id := range append([]uint32{s.Process.User.UID, s.Process.User.GID}, s.Process.User.AdditionalGids...) {
		bad = append(bad, violation(id > limit, "id %d is not the container's", id)...)
	}
	return append(bad, violation(s.Process.User.Username != "", "a user name, which the runtime would look up")...)
}

func ownNamespacesPresent(s *specs.Spec, v VerifyInput) (bad []string) {
	g := v.Grants
	joins := v.JoinNetwork != ""
	known := map[specs.LinuxNamespaceType]bool{}
	bad = violation(joins && !heldPath().MatchString(v.JoinNetwork), "the network namespace to join is %q, not a held descriptor", v.JoinNetwork)
	for _, n := range []struct {
		typ     specs.LinuxNamespaceType
		granted bool
		path    string
	}{
		{specs.MountNamespace, false, ""},
		{specs.CgroupNamespace, false, ""},
		{specs.UserNamespace, g.HostUserNS, ""},
		{specs.PIDNamespace, g.HostPID, ""},
		{specs.IPCNamespace, g.HostIPC, ""},
		{specs.UTSNamespace, g.HostUTS, ""},
		{specs.NetworkNamespace, g.HostNetwork && !joins, v.JoinNetwork},
	} {
		count := 0
		known[n.typ] = true
		for _, have := range s.Linux.Namespaces {
			if have.Type == n.typ {
				count++
				bad = append(bad, violation(have.Path != n.path, "the %s namespace is joined at %q, not at %q", n.typ, have.Path, n.path)...)
			}
		}
		bad = append(bad, violation(count > 1 || count == 0 && !n.granted, "there are %d %s namespaces", count, n.typ)...)
	}
	for _, have := range s.Linux.Namespaces {
		bad = append(bad, violation(!known[have.Type], "a namespace of type %.64q", have.Type)...)
	}
	return bad
}

func noHooks(s *specs.Spec, _ VerifyInput) []string {
	return violation(s.Hooks != nil, "hooks are set")
}

func cwdOutside(s *specs.Spec, _ VerifyInput) []string {
	cwd := s.Process.Cwd
	return violation(cleanable(cwd) != nil || kernelPath(clean(cwd)) || clean(cwd) != cwd, "working directory %q", cwd)
}

func cleanStrings(s *specs.Spec, _ VerifyInput) (bad []string) {
	bad = append(bad, violation(len(s.Process.Args) == 0, "no command")...)
	for _, list := range [][]string{s.Process.Args, s.Process.Env, {s.Hostname, s.Domainname}} {
		for _, word := range list {
			bad = append(bad, violation(strings.ContainsRune(word, 0), "NUL byte in %.64q", word)...)
		}
	}
	for _, e := range s.Process.Env {
		bad = append(bad, violation(strings.Index(e, "=") < 1, "environment entry %.64q", e)...)
	}
	for _, name := range []string{s.Hostname, s.Domainname} {
		bad = append(bad, violation(hostLabel("name", name) != nil, "host or domain name %.64q", name)...)
	}
	return bad
}

func grantedAnnotations(s *specs.Spec, v VerifyInput) (bad []string) {
	for key := range s.Annotations {
		bad = append(bad, violation(!slices.Contains(v.Grants.Annotations, key), "annotation %.64q", key)...)
	}
	return bad
}

// unusedFields: Build sets none of these, and each can weaken the container.
func unusedFields(s *specs.Spec, _ VerifyInput) []string {
	l, p := s.Linux, s.Process
	return slices.Concat(
		violation(l.RootfsPropagation != "", "rootfsPropagation %q", l.RootfsPropagation),
		violation(len(l.Devices) > 0, "devices made by the runtime"),
		violation(l.IntelRdt != nil, "intelRdt"),
		violation(l.Personality != nil, "personality"),
		violation(len(l.NetDevices) > 0, "network devices moved from the host"),
		violation(l.MemoryPolicy != nil, "memoryPolicy"),
		violation(len(l.TimeOffsets) > 0, "time offsets"),
		violation(p.Scheduler != nil, "scheduler"),
		violation(p.IOPriority != nil, "ioPriority"),
		violation(p.ExecCPUAffinity != nil, "execCPUAffinity"),
		violation(s.Solaris != nil || s.Windows != nil || s.VM != nil || s.ZOS != nil || s.FreeBSD != nil, "another platform"),
	)
}
