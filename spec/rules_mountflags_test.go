package spec

import (
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestMountFlagRules(t *testing.T) {
	execs := func(target string) func(*specs.Spec, *VerifyInput) {
		return func(_ *specs.Spec, v *VerifyInput) { v.ExecTargets = append(slices.Clone(v.ExecTargets), target) }
	}
	sealed := []string{"ro", "nosuid", "nodev", "noexec"}
	plain := func(target string, options ...string) specs.Mount {
		return specs.Mount{Destination: target, Type: "tmpfs", Source: "tmpfs", Options: options}
	}
	in := service(rich())
	runRules(t, in, []ruleCase{
		{"mount-propagation", "rprivate", says("/src", "rprivate"), false},
		{"mount-propagation", "private", says("/src", "private"), true},
		{"mount-propagation", "unbindable", says("/src", "unbindable"), true},
		{"mount-propagation", "slave after rprivate", says("/src", "rprivate", "rslave"), true},

		{"mount-flags", "suid", lacks("/src", "rnosuid"), true},
		{"mount-flags", "dev", lacks("/src", "rnodev"), true},
		{"mount-flags", "dev of a device that was given", together(granted(fuse), added(boundAt("/dev/fuse", "/x", "nosuid"))), false},
		{"mount-flags", "dev of another", together(granted(fuse), added(boundAt("/dev/kvm", "/x", "nosuid"))), true},
		{"mount-flags", "suid of a device", together(granted(fuse), added(boundAt("/dev/fuse", "/x"))), true},
		{"mount-flags", "suid of /dev", lacks("/dev", "nosuid"), true},
		{"mount-flags", "suid of /dev/pts", lacks("/dev/pts", "nosuid"), true},
		{"mount-flags", "a writable /sys", lacks("/sys", "ro"), true},

		{"write-xor-execute", "both", lacks("/tmp", "noexec"), true},
		{"write-xor-execute", "both, as was said", together(lacks("/tmp", "noexec"), execs("/tmp")), false},
		{"write-xor-execute", "both, said of another", together(lacks("/tmp", "noexec"), execs("/run")), true},
		{"write-xor-execute", "execute alone", together(lacks("/tmp", "noexec"), says("/tmp", "ro")), false},
		{"write-xor-execute", "execute in a tree of the kernel", together(lacks("/sys", "noexec"), execs("/sys")), true},
		{"write-xor-execute", "execute in shared memory, as was said", together(lacks("/dev/shm", "noexec"), execs("/dev/shm")), false},
		{"write-xor-execute", "execute in /dev, as was said", together(lacks("/dev", "noexec"), execs("/dev")), true},

		{"cgroup-namespace-readonly", "writable", lacks("/sys/fs/cgroup", "ro"), true},
		{"cgroup-namespace-readonly", "elsewhere", added(specs.Mount{Destination: "/c", Type: "cgroup"}), true},
		{"cgroup-namespace-readonly", "elsewhere, version 2", added(specs.Mount{Destination: "/c", Type: "cgroup2"}), true},
		{"cgroup-namespace-readonly", "elsewhere, read-only", added(specs.Mount{Destination: "/c", Type: "cgroup2", Options: []string{"ro"}}), false},
		{"cgroup-namespace-readonly", "a tmpfs there", added(tmpfsAt("/sys/fs/cgroup/x")), true},
		{"cgroup-namespace-readonly", "a tmpfs elsewhere", added(tmpfsAt("/sys/fs/cgroups")), false},

		{"tmpfs-size", "none", lacks("/tmp", "size"), true},
		{"tmpfs-size", "no inodes", lacks("/tmp", "nr_inodes"), true},
		{"tmpfs-size", "the least", added(plain("/x", "size=1", "nr_inodes=1")), false},
		{"tmpfs-size", "zero", added(plain("/x", "size=0", "nr_inodes=1")), true},
		{"tmpfs-size", "no bind", added(boundAt("/x", "/y")), false},
		{"tmpfs-size", "at the maximum", together(added(plain("/x", "size=64k", "nr_inodes=1")), func(s *specs.Spec, v *VerifyInput) {
			s.Mounts, v.Limits.MaxTmpfs = s.Mounts[len(s.Mounts)-1:], 64<<10
		}), false},
		{"tmpfs-size", "above the maximum", together(added(plain("/x", "size=65537", "nr_inodes=1")), func(s *specs.Spec, v *VerifyInput) {
			s.Mounts, v.Limits.MaxTmpfs = s.Mounts[len(s.Mounts)-1:], 64<<10
		}), true},
		{"tmpfs-size", "above a maximum of one", together(added(plain("/x", "size=2", "nr_inodes=1")), func(s *specs.Spec, v *VerifyInput) {
			s.Mounts, v.Limits.MaxTmpfs = s.Mounts[len(s.Mounts)-1:], 1
		}), true},
		{"tmpfs-size", "shared memory above another's maximum", func(s *specs.Spec, v *VerifyInput) {
			s.Mounts, v.Limits.MaxTmpfs = []specs.Mount{plain("/dev/shm", "size=2", "nr_inodes=1")}, 1
		}, false},
		{"tmpfs-size", "shared memory above its maximum", func(s *specs.Spec, v *VerifyInput) {
			s.Mounts, v.Limits.MaxShm = []specs.Mount{plain("/dev/shm", "size=2", "nr_inodes=1")}, 1
		}, true},

		{"service-files", "as built", nothing, false},
		{"service-files", "of another type", changed(NotifySocket, func(m *specs.Mount) { m.Type = "tmpfs" }), true},
		{"service-files", "no bind", lacks(NotifySocket, "bind"), true},
		{"service-files", "with what is below", changed(NotifySocket, func(m *specs.Mount) {
			m.Options = []string{"rbind", "rprivate", "rnosuid", "rnodev", "rnoexec", "rro"}
		}), true},
		{"service-files", "devices", lacks(NotifySocket, "nodev"), true},
		{"service-files", "writable", lacks(NotifySocket, "ro"), true},
		{"service-files", "set-user-ID", lacks(NotifySocket, "nosuid"), true},
		{"service-files", "executable", lacks(NotifySocket, "noexec"), true},
		{"service-files", "a program that is not", says(ActivatePath, "noexec"), true},
		{"service-files", "another source", changed(NotifySocket, func(m *specs.Mount) { m.Source = "/other" }), true},
		{"service-files", "none", gone(SecretsDir), true},
		{"service-files", "two", added(boundAt(NotifySocket, in.Files.Notify, sealed...)), true},
		{"service-files", "below the secrets", added(tmpfsAt(SecretsDir + "/x")), true},
		{"service-files", "beside them", added(tmpfsAt("/run/secretsx")), false},
		{"service-files", "in the directory of ours", added(tmpfsAt(serviceDir + "/x")), true},
		{"service-files", "the directory of ours", added(tmpfsAt(serviceDir)), true},
		{"service-files", "the same file elsewhere", added(boundAt("/x", in.Files.Notify, sealed...)), true},
	})
}

func TestIdmapRule(t *testing.T) {
	const rule = "idmapped-binds"
	in := rich()
	uids, gids := mappings(in.IDs)
	mapped := func(change func(m *specs.Mount)) func(*specs.Spec, *VerifyInput) {
		return func(s *specs.Spec, v *VerifyInput) {
			m := specs.Mount{Destination: "/x", Type: "bind", Source: "/y", Options: []string{"bind", "idmap"}, UIDMappings: slices.Clone(uids), GIDMappings: slices.Clone(gids)}
			change(&m)
			s.Mounts = append(s.Mounts, m)
		}
	}
	source := func(p string) func(*specs.Spec, *VerifyInput) {
		return func(_ *specs.Spec, v *VerifyInput) { v.HostSources = append(slices.Clone(v.HostSources), p) }
	}
	noUsers := func(s *specs.Spec, _ *VerifyInput) { dropNamespace(s, specs.UserNamespace) }
	alone := func(change func(*specs.Spec, *VerifyInput)) func(*specs.Spec, *VerifyInput) {
		return func(s *specs.Spec, v *VerifyInput) {
			s.Mounts = nil
			change(s, v)
		}
	}
	runRules(t, in, []ruleCase{
		{rule, "mapped", mapped(func(*specs.Mount) {}), false},
		{rule, "other uids", mapped(func(m *specs.Mount) { m.UIDMappings[0].HostID++ }), true},
		{rule, "other gids", mapped(func(m *specs.Mount) { m.GIDMappings[0].HostID++ }), true},
		{rule, "option without maps", mapped(func(m *specs.Mount) { m.UIDMappings, m.GIDMappings = nil, nil }), true},
		{rule, "uids alone", mapped(func(m *specs.Mount) { m.GIDMappings, m.Options = nil, []string{"bind"} }), true},
		{rule, "gids alone", mapped(func(m *specs.Mount) { m.UIDMappings, m.Options = nil, []string{"bind"} }), true},
		{rule, "maps without the option", mapped(func(m *specs.Mount) { m.Options = []string{"bind"} }), true},
		{rule, "option without maps, read-only", mapped(func(m *specs.Mount) {
			m.UIDMappings, m.GIDMappings, m.Options = nil, nil, []string{"bind", "idmap", "ro"}
		}), true},
		{rule, "maps without the option, read-only", mapped(func(m *specs.Mount) { m.Options = []string{"bind", "ro"} }), true},
		{rule, "uids alone, read-only", mapped(func(m *specs.Mount) { m.GIDMappings, m.Options = nil, []string{"bind", "ro"} }), true},
		{rule, "no bind", mapped(func(m *specs.Mount) { m.Options = []string{"idmap"} }), true},
		{rule, "without a user namespace", alone(together(noUsers, mapped(func(*specs.Mount) {}))), true},
		{rule, "none needed without a user namespace", alone(together(noUsers, added(boundAt("/x", "/y")))), false},
		{rule, "writable", added(boundAt("/x", "/y")), true},
		{rule, "read-only, of ours", added(boundAt("/x", "/y", "ro")), false},
		{rule, "read-only, of the host", together(source("/y"), added(boundAt("/x", "/y", "ro"))), true},
		{rule, "no bind and no map", added(tmpfsAt("/x")), false},
		{rule, "mapped before", together(func(_ *specs.Spec, v *VerifyInput) { v.MappedSources = []string{"/y"} }, added(boundAt("/x", "/y"))), false},
		{rule, "another mapped before", together(func(_ *specs.Spec, v *VerifyInput) { v.MappedSources = []string{"/z"} }, added(boundAt("/x", "/y"))), true},
		{rule, "a device that was given", together(granted(fuse), added(boundAt("/dev/fuse", "/y"))), false},
		{rule, "a tree of the host, given", together(granted(func(g *Grants) { g.HostPID = true }), replaced("/proc", boundAt("", "/proc"))), false},
		{rule, "a tree of the host", replaced("/proc", boundAt("", "/proc")), true},
	})
}
