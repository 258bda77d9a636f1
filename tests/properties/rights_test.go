package properties

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/spec"
)

// right is something a container has beyond what every one has: the key and
// value of the grant that gives it, or "never" and a word for what none gives.
type right struct{ key, value string }

// rightsOf lists them from the finished specification. It is a second opinion:
// nothing of spec.Verify or its lists is used. Besides the specification it
// knows only what stood at the host's paths, and the words of the command line
// that said exec.
func rightsOf(o outcome) (found []right) {
	s, p, l := o.spec, o.spec.Process, o.spec.Linux
	has := func(is bool, key, value string) {
		if is {
			found = append(found, right{key, value})
		}
	}
	for _, set := range [][]string{p.Capabilities.Bounding, p.Capabilities.Effective, p.Capabilities.Permitted, p.Capabilities.Inheritable, p.Capabilities.Ambient} {
		for _, name := range set {
			has(!slices.Contains(harmlessCapabilities(), name), "capabilities", name)
		}
	}
	spaces := map[specs.LinuxNamespaceType]int{}
	for _, n := range l.Namespaces {
		spaces[n.Type]++
		joins := n.Type == specs.NetworkNamespace && n.Path == "/proc/4711/fd/8" && strings.HasPrefix(o.in.Workload.Networks[0].Name, "container:")
		has(n.Path != "" && !joins, "never", "joins "+string(n.Type))
		has(spaces[n.Type] > 1, "never", "two of "+string(n.Type))
	}
	for typ, id := range map[specs.LinuxNamespaceType]string{
		specs.UserNamespace: "userns-host", specs.NetworkNamespace: "network-host", specs.PIDNamespace: "pid-host",
		specs.IPCNamespace: "ipc-host", specs.UTSNamespace: "uts-host",
	} {
		has(spaces[typ] == 0, "allow", id)
	}
	has(spaces[specs.MountNamespace] == 0, "never", "host's mounts")
	has(spaces[specs.CgroupNamespace] == 0, "never", "host's cgroups")

	has(!p.NoNewPrivileges, "allow", "new-privileges")
	has(!s.Root.Readonly, "allow", "writable-rootfs")
	has(l.Seccomp == nil, "allow", "seccomp-unconfined")
	if l.Seccomp != nil {
		has(l.Seccomp.DefaultAction != specs.ActErrno, "never", "open filter")
		for _, rule := range l.Seccomp.Syscalls {
			for _, name := range rule.Names {
				free := rule.Action == specs.ActAllow && slices.Contains(neverCalls(), name) && len(rule.Args) == 0
				has(free && !slices.Contains(p.Capabilities.Bounding, "CAP_SYS_ADMIN"), "never", "call "+name)
			}
		}
	}
	if o.in.Host.AppArmor {
		has(p.ApparmorProfile == "" || p.ApparmorProfile == "unconfined", "allow", "apparmor-unconfined")
		has(p.ApparmorProfile != "" && p.ApparmorProfile != ownAppArmor, "allow", "apparmor-profile")
	}
	has(o.in.Host.SELinux && p.SelinuxLabel == "", "allow", "label-disable")
	has(p.SelinuxLabel != "" && p.SelinuxLabel != ownLabel, "never", "label")

	for key := range s.Annotations {
		has(!strings.HasPrefix(key, "org.opencontainers.image."), "annotations", key)
	}
	for name, value := range l.Sysctl {
		netOf := strings.HasPrefix(name, "net.") && spaces[specs.NetworkNamespace] == 1
		ipcOf := (strings.HasPrefix(name, "kernel.shm") || strings.HasPrefix(name, "kernel.msg") || name == "kernel.sem" || strings.HasPrefix(name, "fs.mqueue.")) &&
			spaces[specs.IPCNamespace] == 1
		// The launcher bounds counts of the user namespace itself.
		_, asked := o.in.Workload.Sysctls[name]
		bound := strings.HasPrefix(name, "user.max_") && value != "" && len(value) <= 5 && !asked
		has(!netOf && !ipcOf && !bound, "sysctls", name)
		redirects := strings.HasSuffix(name, "_redirects") || strings.HasSuffix(name, ".accept_ra")
		guarded := redirects && (strings.Contains(name, ".all.") || strings.Contains(name, ".default."))
		has(guarded && value != "0" && slices.Contains(routes(), name), "sysctls", name)
		has(strings.ContainsAny(name, "/ \n"), "never", "sysctl spelling")
	}

	r := l.Resources
	has(r.Memory == nil || r.Memory.Limit == nil || *r.Memory.Limit <= 0, "allow", "memory-unlimited")
	if r.Memory != nil && r.Memory.Limit != nil {
		has(r.Memory.Swap == nil || *r.Memory.Swap < *r.Memory.Limit || *r.Memory.Swap > 1<<40, "never", "swap")
		has(r.Memory.DisableOOMKiller != nil && *r.Memory.DisableOOMKiller, "never", "no OOM killer")
	}
	has(r.Pids == nil || r.Pids.Limit == nil || *r.Pids.Limit <= 0, "allow", "pids-unlimited")
	has(r.CPU != nil && (r.CPU.RealtimePeriod != nil || r.CPU.RealtimeRuntime != nil), "never", "real time")
	has(p.OOMScoreAdj != nil && *p.OOMScoreAdj < 0, "never", "OOM score")
	for _, lim := range p.Rlimits {
		has(slices.Contains([]string{"RLIMIT_CORE", "RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_NPROC"}, lim.Type) && lim.Hard > 1<<40, "never", lim.Type)
		has(lim.Type == "RLIMIT_RTPRIO" && lim.Hard > 0, "never", lim.Type)
	}
	found = append(found, devicesOf(o)...)
	found = append(found, mountsOf(o)...)
	for _, path := range []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi", "/proc/acpi", "/proc/kmsg", "/sys/firmware", "/proc/interrupts", "/sys/devices/virtual/powercap"} {
		has(!slices.Contains(l.MaskedPaths, path), "never", "sees "+path)
	}
	for _, path := range []string{"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"} {
		has(!slices.Contains(l.ReadonlyPaths, path), "never", "writes "+path)
	}

	has(s.Hooks != nil, "never", "hooks")
	has(len(l.Devices) > 0, "never", "device nodes")
	has(l.RootfsPropagation != "", "never", "propagation of the root")
	has(p.Scheduler != nil || p.IOPriority != nil || l.IntelRdt != nil || l.Personality != nil || len(l.NetDevices) > 0 || len(l.TimeOffsets) > 0, "never", "a rare field")
	has(!strings.HasPrefix(l.CgroupsPath, "/safe-run/") && !strings.HasPrefix(l.CgroupsPath, "/system.slice/web.service/safe-run-") || strings.Contains(l.CgroupsPath, ".."), "never", "cgroup "+l.CgroupsPath)
	has(under(p.Cwd, "/proc") || under(p.Cwd, "/sys") || under(p.Cwd, "/dev") || !strings.HasPrefix(p.Cwd, "/"), "never", "directory "+p.Cwd)
	if spaces[specs.UserNamespace] == 1 {
		for _, maps := range [][]specs.LinuxIDMapping{l.UIDMappings, l.GIDMappings} {
			has(len(maps) != 1 || maps[0].HostID < 1000 || maps[0].ContainerID != 0 || maps[0].Size != 65536, "never", "id map")
		}
		for _, id := range append([]uint32{p.User.UID, p.User.GID}, p.User.AdditionalGids...) {
			has(id > 65535, "never", "id "+strconv.Itoa(int(id)))
		}
	}
	for _, word := range slices.Concat(p.Args, p.Env, []string{s.Hostname, s.Domainname}) {
		has(strings.ContainsRune(word, 0), "never", "NUL")
	}
	has(strings.ContainsAny(s.Hostname+s.Domainname, "\n/ "), "never", "host name")
	return found
}

// routes are the settings by which others on a link change a container's
// routes.
func routes() []string {
	return []string{
		"net.ipv4.conf.all.accept_redirects", "net.ipv4.conf.default.accept_redirects", "net.ipv4.conf.all.send_redirects", "net.ipv4.conf.default.send_redirects",
		"net.ipv6.conf.default.accept_ra", "net.ipv6.conf.default.accept_redirects",
	}
}

// harmlessCapabilities do nothing to anybody outside, in namespaces of one's
// own.
func harmlessCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP",
		"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SYS_CHROOT", "CAP_AUDIT_WRITE", "CAP_SETFCAP",
	}
}

// neverCalls are system calls no container has without CAP_SYS_ADMIN.
func neverCalls() []string {
	return []string{
		"mount", "umount2", "pivot_root", "setns", "unshare", "bpf", "init_module", "finit_module", "delete_module", "kexec_load", "reboot", "swapon",
		"open_by_handle_at", "keyctl", "add_key", "request_key", "userfaultfd", "fsopen", "fsmount", "move_mount", "open_tree", "io_uring_setup", "perf_event_open",
	}
}

// devicesOf lists the devices that can be used: by a rule, or by a node.
func devicesOf(o outcome) (found []right) {
	real := func(major, minor int64) string {
		for i, d := range o.in.Workload.Devices {
			if s := o.devices[i]; s.Rdev == uint64(major)<<8|uint64(minor) && d.Container != "" {
				return s.Real
			}
		}
		return "unknown"
	}
	for i, r := range o.spec.Linux.Resources.Devices {
		switch {
		case i == 0 && !r.Allow && r.Access == "rwm" && r.Major == nil && r.Minor == nil:
		case i == 0:
			found = append(found, right{"never", "all devices"})
		case !r.Allow:
		case r.Type != "c" || r.Major == nil:
			found = append(found, right{"never", "device rule " + r.Type})
		case *r.Major == 136 && r.Minor == nil:
		case r.Minor == nil:
			found = append(found, right{"never", "a whole major"})
		case *r.Major == 1 && slices.Contains([]int64{3, 5, 7, 8, 9}, *r.Minor), *r.Major == 5 && *r.Minor <= 2:
		default:
			found = append(found, right{"devices", real(*r.Major, *r.Minor)})
		}
	}
	for _, m := range o.spec.Mounts {
		if m.Type != "bind" || !under(m.Destination, "/dev") || under(m.Destination, "/dev/shm") || m.Destination == "/dev/mqueue" {
			continue
		}
		for i, d := range o.in.Workload.Devices {
			if d.Container == m.Destination {
				found = append(found, right{"devices", o.devices[i].Real})
			}
		}
	}
	return found
}

// mountsOf lists what the mounts give away: paths of the host that matter, and
// flags that open them.
func mountsOf(o outcome) (found []right) {
	has := func(is bool, key, value string) {
		if is {
			found = append(found, right{key, value})
		}
	}
	option := func(m specs.Mount, name string) bool {
		if slices.Contains(m.Options, "rbind") {
			return slices.Contains(m.Options, "r"+name)
		}
		return slices.Contains(m.Options, name) || slices.Contains(m.Options, "r"+name)
	}
	hostPaths := map[string]spec.Source{}
	exec := map[string]bool{}
	for i, m := range o.in.Mounts {
		if s, bound := o.sources[i]; bound && m.Type == spec.MountBind {
			hostPaths[m.HostPath] = s
		}
		exec[m.Target] = m.Exec || slices.Contains(m.Tmpfs.Flags, "exec")
	}
	userns := slices.ContainsFunc(o.spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
	for _, m := range o.spec.Mounts {
		readonly, node := option(m, "ro"), m.Destination == "/dev" || m.Destination == "/dev/pts" || isDevice(o, m)
		has(!option(m, "nosuid"), "never", "suid "+m.Destination)
		has(!option(m, "nodev") && !node, "never", "dev "+m.Destination)
		has(!readonly && !option(m, "noexec") && !exec[m.Destination], "never", "write and execute "+m.Destination)
		has(strings.Contains(strings.Join(m.Options, ","), "shared") || strings.Contains(strings.Join(m.Options, ","), "slave"), "never", "travels "+m.Destination)
		for _, undone := range []string{"suid", "dev", "exec", "rw", "rsuid", "rdev", "rexec", "rrw"} {
			has(slices.Contains(m.Options, undone), "never", "undoes "+undone)
		}
		kernels := map[string]string{"/proc": "proc", "/sys": "sysfs", "/sys/fs/cgroup": "cgroup", "/dev/pts": "devpts", "/dev/mqueue": "mqueue"}
		switch {
		case m.Type == "tmpfs":
			has(!slices.ContainsFunc(m.Options, func(s string) bool { return strings.HasPrefix(s, "size=") && s != "size=0" }), "never", "size of "+m.Destination)
		case kernels[m.Destination] == m.Type:
			has(m.Type == "cgroup" && !readonly, "never", "writable cgroups")
			has(m.Type == "sysfs" && !readonly, "never", "writable sysfs")
		case m.Type != "bind":
			has(true, "never", "file system "+m.Type)
		case m.Destination == "/proc":
			has(true, "allow", "pid-host")
		case m.Destination == "/sys" && m.Source == "/sys":
			has(true, "allow", "network-host")
			has(!readonly, "never", "writable sysfs")
		case m.Destination == "/dev/shm" && m.Source == "/dev/shm", m.Destination == "/dev/mqueue":
			has(true, "allow", "ipc-host")
		case isDevice(o, m):
		default:
			s, host := hostPaths[m.Source]
			ours := strings.HasPrefix(m.Source, "/run/safe-run/io/"+containerID) || strings.HasPrefix(m.Source, "/var/lib/safe-run/containers/"+containerID) ||
				strings.HasPrefix(m.Source, "/usr/lib/safe-run/engine/")
			has(!host && !ours, "never", "path "+m.Source)
			if host {
				found = append(found, bindRights(s, readonly, !option(m, "bind") && m.Options[0] == "rbind")...)
				has(userns && !slices.ContainsFunc(o.in.Mounts, func(r spec.ResolvedMount) bool { return r.HostPath == m.Source && r.Mapped }), "never", "ids of "+m.Destination)
			}
		}
		inKernel := under(m.Destination, "/proc") || under(m.Destination, "/sys") || under(m.Destination, "/dev") && !under(m.Destination, "/dev/shm")
		has(inKernel && m.Destination != "/proc" && m.Destination != "/sys" && m.Destination != "/dev" && kernels[m.Destination] == "" && !isDevice(o, m), "never", "covers "+m.Destination)
		has(m.Destination == "/" || filepath.Clean(m.Destination) != m.Destination, "never", "target "+m.Destination)
	}
	return found
}

func isDevice(o outcome, m specs.Mount) bool {
	return m.Type == "bind" && slices.ContainsFunc(o.in.Workload.Devices, func(d spec.Device) bool { return d.Container == m.Destination })
}

// bindRights is what a bind of the host gives away: written, any system
// directory; read, what holds secrets and other people's data.
func bindRights(s spec.Source, readonly, recursive bool) (found []right) {
	names := slices.Concat(s.Aliases, s.Above)
	if recursive {
		for _, sub := range s.Submounts {
			names = append(names, sub.Aliases...)
		}
	}
	for _, name := range append(names, s.Real) {
		switch {
		case name == "/", s.FS == "proc", s.FS == "sysfs", s.Mode.Type() != 0 && !s.Mode.IsDir() && len(s.Sockets) == 0, s.Err != "", s.MagicLink, s.Overlay != "":
			return []right{{"never", "bind " + s.Real}}
		case slices.ContainsFunc(s.Sockets, func(p string) bool { return strings.Contains(p, "docker.sock") }), slices.Contains(s.Aliases, "/run/docker.sock"):
			return []right{{"never", "engine socket"}}
		case len(s.Sockets) > 0:
			return []right{{"binds", s.Real}}
		}
		for _, secret := range []string{"/etc/shadow", "/etc/ssh", "/root/.ssh", "/boot", "/dev", "/var/lib/docker", "/var/lib/safe-run", "/var/mail", "/run/systemd"} {
			if under(name, secret) || under(secret, name) {
				return []right{{"binds", s.Real}}
			}
		}
		if under("/root", name) || under("/home", name) || under(name, "/home") && strings.Count(name, "/") == 2 {
			return []right{{"binds", s.Real}}
		}
		for _, system := range []string{"/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64"} {
			if !readonly && (under(name, system) || under(system, name)) || name == system {
				return []right{{"binds", s.Real}}
			}
		}
	}
	return nil
}

func under(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// given says whether the grants of a plan hold a right.
func given(grants []grantOf, r right) bool {
	return slices.ContainsFunc(grants, func(g grantOf) bool {
		return g.key == r.key && (g.value == r.value || g.key == "binds" && under(r.value, g.value))
	})
}
