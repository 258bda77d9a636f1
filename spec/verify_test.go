package spec

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// deepCopy keeps mutations of one spec from another.
func deepCopy(t testing.TB, s *specs.Spec) *specs.Spec {
	t.Helper()
	data, err := json.Marshal(s)
	must(t, err)
	var out specs.Spec
	must(t, json.Unmarshal(data, &out))
	// Empty sets do not survive JSON.
	c := out.Process.Capabilities
	for _, set := range []*[]string{&c.Bounding, &c.Effective, &c.Permitted, &c.Inheritable, &c.Ambient} {
		if *set == nil {
			*set = []string{}
		}
	}
	return &out
}

func mountAt(t testing.TB, s *specs.Spec, target string) *specs.Mount {
	t.Helper()
	for i := range s.Mounts {
		if s.Mounts[i].Destination == target {
			return &s.Mounts[i]
		}
	}
	t.Fatalf("no mount at %s", target)
	return nil
}

// without takes options out of a mount, as adds puts them in.
func without(t testing.TB, s *specs.Spec, target string, options ...string) {
	m := mountAt(t, s, target)
	var kept []string
	for _, o := range m.Options {
		name, _, _ := strings.Cut(o, "=")
		drop := false
		for _, d := range options {
			drop = drop || d == o || d == name
		}
		if !drop {
			kept = append(kept, o)
		}
	}
	if len(kept) == len(m.Options) {
		t.Fatalf("%v of %s has none of %v", m.Options, target, options)
	}
	m.Options = kept
}

func adds(t testing.TB, s *specs.Spec, target string, options ...string) {
	m := mountAt(t, s, target)
	m.Options = append(m.Options, options...)
}

func tmpfsAt(target string) specs.Mount { return sizedTmpfs(target, "755", 1<<20, 100) }

func dropNamespace(s *specs.Spec, typ specs.LinuxNamespaceType) {
	var kept []specs.LinuxNamespace
	for _, n := range s.Linux.Namespaces {
		if n.Type != typ {
			kept = append(kept, n)
		}
	}
	s.Linux.Namespaces = kept
}

// mutations break a good spec in one way each; the invariant that has to
// notice is named.
var mutations = []struct {
	rule, name string
	mutate     func(t *testing.T, s *specs.Spec)
}{
	{"rootfs-readonly", "writable", func(_ *testing.T, s *specs.Spec) { s.Root.Readonly = false }},
	{"rootfs-readonly", "elsewhere", func(_ *testing.T, s *specs.Spec) { s.Root.Path = "/" }},
	{"capabilities", "no sets", func(_ *testing.T, s *specs.Spec) { s.Process.Capabilities = nil }},
	{"capabilities", "nil bounding", func(_ *testing.T, s *specs.Spec) { s.Process.Capabilities.Bounding = nil }},
	{"capabilities", "nil ambient", func(_ *testing.T, s *specs.Spec) { s.Process.Capabilities.Ambient = nil }},
	{"capabilities", "SYS_ADMIN bounding", func(_ *testing.T, s *specs.Spec) {
		s.Process.Capabilities.Bounding = append(s.Process.Capabilities.Bounding, "CAP_SYS_ADMIN")
	}},
	{"capabilities", "SYS_PTRACE effective", func(_ *testing.T, s *specs.Spec) {
		s.Process.Capabilities.Effective = []string{"CAP_SYS_PTRACE"}
	}},
	{"capabilities", "free one beyond bounding", func(_ *testing.T, s *specs.Spec) { s.Process.Capabilities.Permitted = []string{"CAP_CHOWN"} }},
	{"capabilities", "ambient of root", func(_ *testing.T, s *specs.Spec) { s.Process.User.UID = 0 }},
	{"no-new-privileges", "off", func(_ *testing.T, s *specs.Spec) { s.Process.NoNewPrivileges = false }},
	{"seccomp", "none", func(_ *testing.T, s *specs.Spec) { s.Linux.Seccomp = nil }},
	{"seccomp", "empty", func(_ *testing.T, s *specs.Spec) { s.Linux.Seccomp = &specs.LinuxSeccomp{} }},
	{"seccomp", "allow by default", func(_ *testing.T, s *specs.Spec) { s.Linux.Seccomp.DefaultAction = specs.ActAllow }},
	{"seccomp", "log by default", func(_ *testing.T, s *specs.Spec) { s.Linux.Seccomp.DefaultAction = specs.ActLog }},
	{"seccomp", "32-bit too", func(_ *testing.T, s *specs.Spec) {
		s.Linux.Seccomp.Architectures = append(s.Linux.Seccomp.Architectures, specs.ArchX86)
	}},
	{"seccomp", "no architecture", func(_ *testing.T, s *specs.Spec) { s.Linux.Seccomp.Architectures = nil }},
	{"seccomp", "mount", func(_ *testing.T, s *specs.Spec) {
		s.Linux.Seccomp.Syscalls[0].Names = append(s.Linux.Seccomp.Syscalls[0].Names, "mount")
	}},
	{"seccomp", "any socket", func(_ *testing.T, s *specs.Spec) {
		s.Linux.Seccomp.Syscalls[0].Names = append(s.Linux.Seccomp.Syscalls[0].Names, "socket")
	}},
	{"seccomp", "vsock", func(_ *testing.T, s *specs.Spec) {
		s.Linux.Seccomp.Syscalls = append(s.Linux.Seccomp.Syscalls, specs.LinuxSyscall{
			Names: []string{"socket"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Value: 40, Op: specs.OpEqualTo}},
		})
	}},
	{"seccomp", "set-ID bits beside a writable bind", func(_ *testing.T, s *specs.Spec) {
		s.Linux.Seccomp.Syscalls[0].Names = append(s.Linux.Seccomp.Syscalls[0].Names, "chmod")
	}},
	{"seccomp", "speculation flag", func(_ *testing.T, s *specs.Spec) {
		s.Linux.Seccomp.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagSpecAllow}
	}},
	{"seccomp", "listener", func(_ *testing.T, s *specs.Spec) { s.Linux.Seccomp.ListenerPath = "/run/x" }},
	{"lsm", "foreign AppArmor profile", func(_ *testing.T, s *specs.Spec) { s.Process.ApparmorProfile = "unconfined" }},
	{"lsm", "foreign SELinux label", func(_ *testing.T, s *specs.Spec) { s.Process.SelinuxLabel = "spc_t" }},
	{"lsm", "foreign SELinux label of mounts", func(_ *testing.T, s *specs.Spec) { s.Linux.MountLabel = "spc_t" }},
	{"user-namespace", "none", func(_ *testing.T, s *specs.Spec) { dropNamespace(s, specs.UserNamespace) }},
	{"user-namespace", "host root", func(_ *testing.T, s *specs.Spec) { s.Linux.UIDMappings[0].HostID = 0 }},
	{"user-namespace", "other gids", func(_ *testing.T, s *specs.Spec) { s.Linux.GIDMappings[0].HostID++ }},
	{"user-namespace", "second line", func(_ *testing.T, s *specs.Spec) {
		s.Linux.UIDMappings = append(s.Linux.UIDMappings, specs.LinuxIDMapping{ContainerID: 70000, HostID: 0, Size: 1})
	}},
	{"user", "uid outside", func(_ *testing.T, s *specs.Spec) { s.Process.User.UID = 65536 }},
	{"user", "gid outside", func(_ *testing.T, s *specs.Spec) { s.Process.User.AdditionalGids = []uint32{70000} }},
	{"user", "name", func(_ *testing.T, s *specs.Spec) { s.Process.User.Username = "root" }},
	{"namespaces", "no pid", func(_ *testing.T, s *specs.Spec) { dropNamespace(s, specs.PIDNamespace) }},
	{"namespaces", "no ipc", func(_ *testing.T, s *specs.Spec) { dropNamespace(s, specs.IPCNamespace) }},
	{"namespaces", "no uts", func(_ *testing.T, s *specs.Spec) { dropNamespace(s, specs.UTSNamespace) }},
	{"namespaces", "no network", func(_ *testing.T, s *specs.Spec) { dropNamespace(s, specs.NetworkNamespace) }},
	{"namespaces", "no mount", func(_ *testing.T, s *specs.Spec) { dropNamespace(s, specs.MountNamespace) }},
	{"namespaces", "no cgroup", func(_ *testing.T, s *specs.Spec) { dropNamespace(s, specs.CgroupNamespace) }},
	{"namespaces", "of another type", func(_ *testing.T, s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace, Path: "/proc/1/ns/time"})
	}},
	{"namespaces", "joined", func(_ *testing.T, s *specs.Spec) { s.Linux.Namespaces[3].Path = "/proc/1/ns/pid" }},
	{"namespaces", "twice", func(_ *testing.T, s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, s.Linux.Namespaces[0])
	}},
	{"hooks", "set", func(_ *testing.T, s *specs.Spec) { s.Hooks = &specs.Hooks{} }},
	{"cwd", "proc", func(_ *testing.T, s *specs.Spec) { s.Process.Cwd = "/proc/self/fd/7" }},
	{"cwd", "dev", func(_ *testing.T, s *specs.Spec) { s.Process.Cwd = "/dev/fd/7" }},
	{"cwd", "relative", func(_ *testing.T, s *specs.Spec) { s.Process.Cwd = "a" }},
	{"cwd", "not clean", func(_ *testing.T, s *specs.Spec) { s.Process.Cwd = "/a/../proc" }},
	{"args", "none", func(_ *testing.T, s *specs.Spec) { s.Process.Args = nil }},
	{"args", "NUL", func(_ *testing.T, s *specs.Spec) { s.Process.Args[0] = "a\x00b" }},
	{"args", "NUL in env", func(_ *testing.T, s *specs.Spec) { s.Process.Env = append(s.Process.Env, "A=\x00") }},
	{"args", "env without =", func(_ *testing.T, s *specs.Spec) { s.Process.Env = append(s.Process.Env, "SECRET") }},
	{"args", "newline in hostname", func(_ *testing.T, s *specs.Spec) { s.Hostname = "a\nb" }},
	{"rlimits", "no core limit", func(_ *testing.T, s *specs.Spec) { s.Process.Rlimits = s.Process.Rlimits[1:] }},
	{"rlimits", "unlimited core", func(_ *testing.T, s *specs.Spec) { s.Process.Rlimits[0].Hard = math.MaxUint64 }},
	{"rlimits", "nofile above the maximum", func(_ *testing.T, s *specs.Spec) {
		i := slices.IndexFunc(s.Process.Rlimits, func(l specs.POSIXRlimit) bool { return l.Type == "RLIMIT_NOFILE" })
		s.Process.Rlimits[i].Hard = 1 << 30
	}},
	{"rlimits", "twice", func(_ *testing.T, s *specs.Spec) { s.Process.Rlimits = append(s.Process.Rlimits, s.Process.Rlimits[0]) }},
	{"limits", "no memory", func(_ *testing.T, s *specs.Spec) { s.Linux.Resources.Memory = nil }},
	{"limits", "memory -1", func(_ *testing.T, s *specs.Spec) { s.Linux.Resources.Memory.Limit = new(int64(-1)) }},
	{"limits", "memory above the maximum", func(_ *testing.T, s *specs.Spec) {
		s.Linux.Resources.Memory.Limit, s.Linux.Resources.Memory.Swap = new(int64(1)<<50), new(int64(1)<<50)
	}},
	{"limits", "no swap limit", func(_ *testing.T, s *specs.Spec) { s.Linux.Resources.Memory.Swap = nil }},
	{"limits", "swap -1", func(_ *testing.T, s *specs.Spec) { s.Linux.Resources.Memory.Swap = new(int64(-1)) }},
	{"limits", "OOM killer off", func(_ *testing.T, s *specs.Spec) { s.Linux.Resources.Memory.DisableOOMKiller = new(true) }},
	{"limits", "no pids", func(_ *testing.T, s *specs.Spec) { s.Linux.Resources.Pids = nil }},
	{"limits", "pids 0", func(_ *testing.T, s *specs.Spec) { s.Linux.Resources.Pids.Limit = new(int64(0)) }},
	{"limits", "oom score", func(_ *testing.T, s *specs.Spec) { s.Process.OOMScoreAdj = new(-1) }},
	{"limits", "the engine's oom score", func(_ *testing.T, s *specs.Spec) { s.Process.OOMScoreAdj = nil }},
	{"limits", "unified", func(_ *testing.T, s *specs.Spec) {
		s.Linux.Resources.Unified = map[string]string{"memory.max": "max"}
	}},
	{"limits", "real time", func(_ *testing.T, s *specs.Spec) {
		s.Linux.Resources.CPU = &specs.LinuxCPU{RealtimeRuntime: new(int64(950000))}
	}},
	{"devices", "no rules", func(_ *testing.T, s *specs.Spec) { s.Linux.Resources.Devices = nil }},
	{"devices", "allow all first", func(_ *testing.T, s *specs.Spec) { s.Linux.Resources.Devices[0].Allow = true }},
	{"devices", "disk", func(_ *testing.T, s *specs.Spec) {
		s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "b", Major: new(int64(8)), Minor: new(int64(0)), Access: "r"})
	}},
	{"devices", "all minors of mem", func(_ *testing.T, s *specs.Spec) {
		s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: new(int64(1)), Access: "r"})
	}},
	{"devices", "kmsg", func(_ *testing.T, s *specs.Spec) {
		s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: new(int64(1)), Minor: new(int64(11)), Access: "r"})
	}},
	{"devices", "wildcard", func(_ *testing.T, s *specs.Spec) {
		s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{Allow: true, Access: "rwm"})
	}},
	{"cgroup", "root", func(_ *testing.T, s *specs.Spec) { s.Linux.CgroupsPath = "/" }},
	{"cgroup", "none", func(_ *testing.T, s *specs.Spec) { s.Linux.CgroupsPath = "" }},
	{"cgroup", "dots", func(_ *testing.T, s *specs.Spec) { s.Linux.CgroupsPath = "/safe-run/../system.slice" }},
	{"cgroup", "systemd form", func(_ *testing.T, s *specs.Spec) { s.Linux.CgroupsPath = "system.slice:a:b" }},
	{"cgroup-namespace-readonly", "writable", func(t *testing.T, s *specs.Spec) { without(t, s, "/sys/fs/cgroup", "ro") }},
	{"sysctls", "core_pattern", func(_ *testing.T, s *specs.Spec) { s.Linux.Sysctl["kernel.core_pattern"] = "|/x" }},
	{"sysctls", "slashes", func(_ *testing.T, s *specs.Spec) { s.Linux.Sysctl["net/../kernel/core_pattern"] = "|/x" }},
	{"sysctls", "nested user namespaces", func(_ *testing.T, s *specs.Spec) { delete(s.Linux.Sysctl, nestedUserNS) }},
	{"sysctls", "nested user namespaces 1", func(_ *testing.T, s *specs.Spec) { s.Linux.Sysctl[nestedUserNS] = "1" }},
	{"sysctls", "free inotify instances", func(_ *testing.T, s *specs.Spec) { delete(s.Linux.Sysctl, "user.max_inotify_instances") }},
	{"sysctls", "many inotify watches", func(_ *testing.T, s *specs.Spec) { s.Linux.Sysctl["user.max_inotify_watches"] = "2147483647" }},
	{"sysctls", "empty", func(_ *testing.T, s *specs.Spec) { s.Linux.Sysctl["user.max_pid_namespaces"] = "" }},
	{"masked-paths", "none masked", func(_ *testing.T, s *specs.Spec) { s.Linux.MaskedPaths = nil }},
	{"masked-paths", "one less", func(_ *testing.T, s *specs.Spec) { s.Linux.MaskedPaths = s.Linux.MaskedPaths[1:] }},
	{"masked-paths", "proc/sys writable", func(_ *testing.T, s *specs.Spec) { s.Linux.ReadonlyPaths = s.Linux.ReadonlyPaths[:2] }},
	{"annotations", "systemd property", func(_ *testing.T, s *specs.Spec) {
		s.Annotations = map[string]string{"org.systemd.property.TasksMax": "uint64 99999"}
	}},
	{"mount-order", "over /proc/sys", func(_ *testing.T, s *specs.Spec) { s.Mounts = append(s.Mounts, tmpfsAt("/proc/sys")) }},
	{"mount-order", "over /proc", func(_ *testing.T, s *specs.Spec) { s.Mounts = append(s.Mounts, tmpfsAt("/proc")) }},
	{"mount-order", "over /dev/pts", func(_ *testing.T, s *specs.Spec) { s.Mounts = append(s.Mounts, tmpfsAt("/dev/pts")) }},
	{"mount-order", "over /", func(_ *testing.T, s *specs.Spec) { s.Mounts = append(s.Mounts, tmpfsAt("/")) }},
	{"mount-order", "dots", func(_ *testing.T, s *specs.Spec) { s.Mounts = append(s.Mounts, tmpfsAt("/a/../proc/sys")) }},
	{"mount-order", "relative", func(_ *testing.T, s *specs.Spec) { s.Mounts = append(s.Mounts, tmpfsAt("proc")) }},
	{"mount-order", "no /proc", func(_ *testing.T, s *specs.Spec) { s.Mounts = s.Mounts[1:] }},
	{"mount-order", "/dev last", func(_ *testing.T, s *specs.Spec) {
		s.Mounts = append(append(s.Mounts[:1:1], s.Mounts[2:]...), s.Mounts[1])
	}},
	{"mount-order", "parent after child", func(_ *testing.T, s *specs.Spec) { s.Mounts = append(s.Mounts, tmpfsAt("/var")) }},
	{"mount-types", "overlay", func(_ *testing.T, s *specs.Spec) {
		m := tmpfsAt("/o")
		m.Type = "overlay"
		s.Mounts = append(s.Mounts, m)
	}},
	{"mount-types", "proc elsewhere", func(_ *testing.T, s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/p", Type: "proc", Source: "proc", Options: []string{"nosuid", "nodev", "noexec"}})
	}},
	{"mount-types", "host's /proc", func(_ *testing.T, s *specs.Spec) {
		s.Mounts[0] = specs.Mount{Destination: "/proc", Type: "bind", Source: "/proc", Options: []string{"rbind", "rprivate", "rnosuid", "rnodev", "rnoexec"}}
	}},
	{"mount-types", "exec undone", func(t *testing.T, s *specs.Spec) { adds(t, s, "/tmp", "exec") }},
	{"mount-types", "suid undone", func(t *testing.T, s *specs.Spec) { adds(t, s, "/tmp", "suid") }},
	{"mount-types", "rw undone", func(t *testing.T, s *specs.Spec) { adds(t, s, "/conf", "rrw") }},
	{"mount-types", "copy up", func(t *testing.T, s *specs.Spec) { adds(t, s, "/tmp", "tmpcopyup") }},
	{"mount-sources", "the host", func(t *testing.T, s *specs.Spec) { mountAt(t, s, "/src").Source = "/" }},
	{"mount-sources", "docker.sock", func(t *testing.T, s *specs.Spec) { mountAt(t, s, "/src").Source = "/var/run/docker.sock" }},
	{"mount-sources", "other descriptor", func(t *testing.T, s *specs.Spec) { mountAt(t, s, "/src").Source = "/proc/1/fd/3" }},
	{"mount-sources", "magic link", func(t *testing.T, s *specs.Spec) { mountAt(t, s, "/src").Source = "/proc/1/root" }},
	{"mount-propagation", "shared", func(t *testing.T, s *specs.Spec) { adds(t, s, "/src", "rshared") }},
	{"mount-propagation", "slave", func(t *testing.T, s *specs.Spec) { adds(t, s, "/src", "rslave") }},
	{"mount-flags", "suid", func(t *testing.T, s *specs.Spec) { without(t, s, "/src", "rnosuid") }},
	{"mount-flags", "dev", func(t *testing.T, s *specs.Spec) { without(t, s, "/src", "rnodev") }},
	{"mount-flags", "suid below", func(t *testing.T, s *specs.Spec) {
		without(t, s, "/src", "rnosuid")
		adds(t, s, "/src", "nosuid")
	}},
	{"mount-flags", "suid tmpfs", func(t *testing.T, s *specs.Spec) { without(t, s, "/run", "nosuid") }},
	{"mount-flags", "dev tmpfs", func(t *testing.T, s *specs.Spec) { without(t, s, "/var/tmp", "nodev") }},
	{"cgroup", "another container's", func(_ *testing.T, s *specs.Spec) { s.Linux.CgroupsPath = "/safe-run/" + strings.Repeat("0", 64) }},
	{"service-files", "other secrets", func(t *testing.T, s *specs.Spec) {
		mountAt(t, s, SecretsDir).Source = "/var/lib/safe-run/volumes/data/_data"
	}},
	{"service-files", "writable secrets", func(t *testing.T, s *specs.Spec) { without(t, s, SecretsDir, "ro") }},
	{"service-files", "executable secrets", func(t *testing.T, s *specs.Spec) { without(t, s, SecretsDir, "noexec") }},
	{"service-files", "set-user-ID secrets", func(t *testing.T, s *specs.Spec) { without(t, s, SecretsDir, "nosuid") }},
	{"service-files", "over a secret", func(_ *testing.T, s *specs.Spec) { s.Mounts = append(s.Mounts, tmpfsAt(SecretsDir+"/db")) }},
	{"service-files", "no notification socket", func(_ *testing.T, s *specs.Spec) {
		s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == NotifySocket })
	}},
	{"service-files", "writable program", func(t *testing.T, s *specs.Spec) { without(t, s, ActivatePath, "ro") }},
	{"service-files", "executable socket", func(t *testing.T, s *specs.Spec) { without(t, s, ActivateSocket, "noexec") }},
	{"service-files", "the socket elsewhere", func(t *testing.T, s *specs.Spec) {
		m := *mountAt(t, s, ActivateSocket)
		m.Destination = "/sock"
		s.Mounts = append(s.Mounts, m)
	}},
	{"service-files", "another in their directory", func(_ *testing.T, s *specs.Spec) { s.Mounts = append(s.Mounts, tmpfsAt("/run/safe-run/x")) }},
	{"service-files", "another program first", func(_ *testing.T, s *specs.Spec) {
		s.Process.Args = append([]string{"/bin/sh"}, s.Process.Args...)
	}},
	{"write-xor-execute", "program that takes sockets", func(t *testing.T, s *specs.Spec) { without(t, s, ActivatePath, "ro") }},
	{"write-xor-execute", "bind", func(t *testing.T, s *specs.Spec) { without(t, s, "/src", "rnoexec") }},
	{"write-xor-execute", "tmpfs", func(t *testing.T, s *specs.Spec) { without(t, s, "/tmp", "noexec") }},
	{"write-xor-execute", "volume", func(t *testing.T, s *specs.Spec) { without(t, s, "/data", "rnoexec") }},
	{"write-xor-execute", "shm", func(t *testing.T, s *specs.Spec) { without(t, s, "/dev/shm", "noexec") }},
	{"write-xor-execute", "image", func(t *testing.T, s *specs.Spec) { without(t, s, "/tools", "rro") }},
	{"write-xor-execute", "image, not recursive", func(t *testing.T, s *specs.Spec) {
		without(t, s, "/tools", "rro")
		adds(t, s, "/tools", "ro")
	}},
	{"write-xor-execute", "proc", func(t *testing.T, s *specs.Spec) { without(t, s, "/proc", "noexec") }},
	{"idmapped-binds", "bind", func(t *testing.T, s *specs.Spec) {
		m := mountAt(t, s, "/src")
		without(t, s, "/src", "ridmap")
		m.UIDMappings, m.GIDMappings = nil, nil
	}},
	{"idmapped-binds", "read-only bind", func(t *testing.T, s *specs.Spec) {
		m := mountAt(t, s, "/conf")
		without(t, s, "/conf", "ridmap")
		m.UIDMappings, m.GIDMappings = nil, nil
	}},
	{"idmapped-binds", "not recursive", func(t *testing.T, s *specs.Spec) {
		without(t, s, "/src", "ridmap")
		adds(t, s, "/src", "idmap")
	}},
	{"idmapped-binds", "to host root", func(t *testing.T, s *specs.Spec) { mountAt(t, s, "/src").UIDMappings[0].HostID = 0 }},
	{"idmapped-binds", "no gids", func(t *testing.T, s *specs.Spec) { mountAt(t, s, "/src").GIDMappings = nil }},
	{"tmpfs-size", "none", func(t *testing.T, s *specs.Spec) { without(t, s, "/tmp", "size") }},
	{"tmpfs-size", "shm none", func(t *testing.T, s *specs.Spec) { without(t, s, "/dev/shm", "size") }},
	{"tmpfs-size", "inodes", func(t *testing.T, s *specs.Spec) { without(t, s, "/run", "nr_inodes") }},
	{"tmpfs-size", "above the maximum", func(t *testing.T, s *specs.Spec) {
		without(t, s, "/run", "size")
		adds(t, s, "/run", "size=99999999999")
	}},
	{"unused-fields", "shared root", func(_ *testing.T, s *specs.Spec) { s.Linux.RootfsPropagation = "shared" }},
	{"unused-fields", "device", func(_ *testing.T, s *specs.Spec) {
		s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/sda", Type: "b", Major: 8}}
	}},
	{"unused-fields", "scheduler", func(_ *testing.T, s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedFIFO} }},
	{"unused-fields", "net devices", func(_ *testing.T, s *specs.Spec) {
		s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"eth0": {}}
	}},
}

func TestVerifyMutations(t *testing.T) {
	in := service(rich())
	in.Limits.MaxMemory, in.Limits.MaxTmpfs = 1<<40, 1<<30
	good, err := Build(in)
	must(t, err)
	v := VerifyFor(in)
	must(t, Verify(good, v))
	must(t, Verify(deepCopy(t, good), v))
	seen := map[string]bool{}
	for _, m := range mutations {
		seen[m.rule] = true
		t.Run(m.rule+"/"+m.name, func(t *testing.T) {
			s := deepCopy(t, good)
			m.mutate(t, s)
			err := Verify(s, v)
			if err == nil {
				t.Fatal("not noticed")
			}
			if !strings.Contains(err.Error(), m.rule+": ") {
				t.Errorf("noticed by another rule only: %v", err)
			}
		})
	}
	for _, inv := range invariants {
		if !seen[inv.Name] {
			t.Errorf("no mutation for %s", inv.Name)
		}
		if inv.Why == "" {
			t.Errorf("%s does not say why", inv.Name)
		}
	}
}

func TestVerifyIncomplete(t *testing.T) {
	for name, s := range map[string]*specs.Spec{
		"nil": nil, "empty": {}, "no resources": {Process: &specs.Process{}, Root: &specs.Root{}, Linux: &specs.Linux{}},
	} {
		if Verify(s, VerifyFor(testInput())) == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A privilege is no violation once it is granted, and is one without.
func TestVerifyGrants(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   Input
	}{
		{"userns", with(func(in *Input) { in.Workload.UserNSMode = "host"; in.Grants.HostUserNS = true })},
		{"pid", with(func(in *Input) { in.Workload.PIDMode = "host"; in.Grants.HostPID = true })},
		{"ipc", with(func(in *Input) { in.Workload.IPCMode = "host"; in.Grants.HostIPC = true })},
		{"uts", with(func(in *Input) { in.Workload.UTSMode = "host"; in.Grants.HostUTS = true })},
		{"network", with(func(in *Input) { in.Workload.Networks = networks("host"); in.Grants.HostNetwork = true })},
		{"seccomp", with(func(in *Input) {
			in.Workload.SecurityOpts = []string{"seccomp=unconfined"}
			in.Grants.UnconfinedSeccomp = true
		})},
		{"new privileges", with(func(in *Input) {
			in.Workload.SecurityOpts = []string{"no-new-privileges:false"}
			in.Grants.NewPrivileges = true
		})},
		{"rootfs", with(func(in *Input) { in.Workload.ReadOnly = new(false); in.Grants.WritableRootfs = true })},
		{"memory", with(func(in *Input) { in.Workload.Resources.Memory = new(int64(0)); in.Grants.UnlimitedMemory = true })},
		{"pids", with(func(in *Input) { in.Workload.Resources.PidsLimit = new(int64(-1)); in.Grants.UnlimitedPids = true })},
		{"capability", with(func(in *Input) {
			in.Workload.CapAdd = []string{"sys_admin"}
			in.Grants.Capabilities = []string{"CAP_SYS_ADMIN"}
		})},
		{"device", with(func(in *Input) {
			in.Workload.Devices = []Device{{Host: "/dev/fuse", Container: "/dev/fuse"}}
			in.Grants.Devices = []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}}
			in.Grants.DevicePerms = map[string]string{"/dev/fuse": "rw"}
			in.DeviceSources = map[string]string{"/dev/fuse": "/proc/1/fd/9"}
		})},
		{"annotation", with(func(in *Input) {
			in.Workload.Annotations = map[string]string{"a.b": "c"}
			in.Grants.Annotations = []string{"a.b"}
		})},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := Build(tc.in)
			must(t, err)
			v := VerifyFor(tc.in)
			must(t, Verify(s, v))
			v.Grants = Grants{}
			if Verify(s, v) == nil {
				t.Error("Verify accepts it without the grant")
			}
			none := tc.in
			none.Grants = Grants{}
			if _, err := Build(none); err == nil {
				t.Error("Build gives it without the grant")
			}
		})
	}
}
