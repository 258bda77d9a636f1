package spec

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/internal/fail"
)

// maskedPaths is the union of the default lists of moby, containerd and
// podman, with kmsg and kallsyms added. What does not exist costs nothing.
var maskedPaths = []string{
	"/proc/acpi",
	"/proc/asound",
	"/proc/interrupts", // keystroke timing (moby GHSA-6fw5-f8r9-fgfm)
	"/proc/kallsyms",
	"/proc/kcore",
	"/proc/key-users",
	"/proc/keys",
	"/proc/kmsg",
	"/proc/latency_stats",
	"/proc/sched_debug",
	"/proc/scsi",
	"/proc/timer_list",
	"/proc/timer_stats",
	"/sys/dev/block",                // the host's disks, by number
	"/sys/devices/virtual/powercap", // energy as a side channel (moby GHSA-jq35-85cj-fj4p)
	"/sys/firmware",
	"/sys/fs/selinux",
}

// hostSysMaskedPaths are masked too where /sys has to be the host's own, with
// all that is mounted there.
var hostSysMaskedPaths = []string{
	"/sys/fs/bpf",
	"/sys/fs/pstore",
	"/sys/kernel/config",
	"/sys/kernel/debug",
	"/sys/kernel/security",
	"/sys/kernel/tracing",
}

// readonlyPaths are moby's and containerd's.
var readonlyPaths = []string{
	"/proc/bus",
	"/proc/fs",
	"/proc/irq",
	"/proc/sys",
	"/proc/sysrq-trigger",
}

// cgroupTmpfs is the directory of the v1 hierarchies, which the runtime
// leaves writable whatever the mount's options say: memory without a size.
const cgroupTmpfs = "/sys/fs/cgroup"

func readonly(host Features) []string {
	if host.CgroupV2 {
		return slices.Clone(readonlyPaths)
	}
	return append(slices.Clone(readonlyPaths), cgroupTmpfs)
}

func masks(host Features, hostSys bool) []string {
	all := slices.Concat(maskedPaths, host.MaskPaths)
	if hostSys {
		all = append(all, hostSysMaskedPaths...)
	}
	return all
}

// mode is one of the namespace flags; "host" needs the grant and everything
// but a namespace of the container's own is refused.
func mode(flag, value string, granted bool, own ...string) (host bool, err error) {
	switch typed := strings.ToLower(strings.TrimSpace(value)); {
	case typed == "" || slices.Contains(own, typed):
		return false, nil
	case typed == "host" && granted:
		return true, nil
	}
	return false, fail.New(fail.Refused, "%s=%.64q is not granted; the container gets a namespace of its own", flag, value)
}

// namespacesOf says which namespaces are the container's own.
type namespacesOf struct {
	user, pid, ipc, uts bool
	network             networkMode
	join                string // path of a joined network namespace
}

func ownNamespaces(in Input) (namespacesOf, error) {
	w, g := in.Workload, in.Grants
	if _, err := mode("--userns", w.UserNSMode, g.HostUserNS, "private"); err != nil {
		return namespacesOf{}, err
	}
	pid, err := mode("--pid", w.PIDMode, g.HostPID, "private")
	if err != nil {
		return namespacesOf{}, err
	}
	ipc, err := mode("--ipc", w.IPCMode, g.HostIPC, "private", "none", "shareable")
	if err != nil {
		return namespacesOf{}, err
	}
	uts, err := mode("--uts", w.UTSMode, g.HostUTS, "private")
	if err != nil {
		return namespacesOf{}, err
	}
	if _, err = mode("--cgroupns", w.CgroupNSMode, false, "private"); err != nil {
		return namespacesOf{}, err
	}
	network, err := networkModeOf(in)
	if err != nil {
		return namespacesOf{}, err
	}
	return namespacesOf{user: !hostUserNS(in), pid: !pid, ipc: !ipc, uts: !uts, network: network, join: in.JoinNetwork}, nil
}

// hostUserNS: the policy grants it only where it is needed, which a capability
// can be the reason for as well as the flag.
func hostUserNS(in Input) bool { return in.Grants.HostUserNS }

// list gives the namespaces to create or join. The cgroup and mount namespaces are
// always own. A time namespace is not made: without offsets it isolates
// nothing, and it takes the fast path from clock_gettime.
func (n namespacesOf) list() []specs.LinuxNamespace {
	out := []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.CgroupNamespace}}
	for _, ns := range []struct {
		own bool
		typ specs.LinuxNamespaceType
	}{
		{n.user, specs.UserNamespace},
		{n.pid, specs.PIDNamespace},
		{n.ipc, specs.IPCNamespace},
		{n.uts, specs.UTSNamespace},
	} {
		if ns.own {
			out = append(out, specs.LinuxNamespace{Type: ns.typ})
		}
	}
	if n.network != hostNetwork {
		out = append(out, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: n.join})
	}
	return out
}

// ipcSysctls are the namespaced sysctls of an IPC namespace.
var ipcSysctls = []string{
	"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall",
	"kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
}

// NamespacedSysctl says whether a sysctl belongs to a namespace that is the
// container's own: its IPC namespace or its network namespace.
func NamespacedSysctl(name string, ownIPC, ownNetwork bool) bool {
	return ownIPC && (slices.Contains(ipcSysctls, name) || strings.HasPrefix(name, "fs.mqueue.")) ||
		ownNetwork && strings.HasPrefix(name, "net.")
}

// nestedUserNS in a container's own user namespace: a second lock, besides
// seccomp, on making more of them.
const nestedUserNS = "user.max_user_namespaces"

// sharedCounts bounds what a container takes of counts that all containers
// share with root of the host: a user namespace's counts are also counted for
// who made it, which is the runtime (ucounts; of inotify instances root has
// 128 unless the host says otherwise, inotify(7)).
var sharedCounts = map[string]string{
	"user.max_inotify_instances": "32",
	"user.max_inotify_watches":   "16384",
}

const pingGroups = "net.ipv4.ping_group_range"

// sysctls of the user over the defaults: no user namespaces below, ping
// without a capability for all groups of the block, and routes nobody else
// changes. The ports below 1024 stay with NET_BIND_SERVICE, which a new
// namespace has as its default; who sets ip_unprivileged_port_start opens
// them to all programs of that container, and to nothing else.
func sysctls(in Input, own namespacesOf) (map[string]string, error) {
	out := map[string]string{}
	if own.user {
		out[nestedUserNS] = "0"
		maps.Copy(out, sharedCounts)
	}
	ownNet := own.network == ownNetwork
	if ownNet {
		for _, name := range routeSysctls(in.Host) {
			out[name] = "0"
		}
	}
	if ownNet && own.user {
		out[pingGroups] = "0 " + strconv.FormatUint(uint64(in.IDs.Size)-1, 10)
	}
	for name, value := range in.Workload.Sysctls {
		if !sysctlName(name) || len(value) > 256 || hasControl(strings.ReplaceAll(value, "\t", " ")) {
			return nil, fail.New(fail.Usage, "--sysctl %.64q: invalid name or value", name)
		}
		if !NamespacedSysctl(name, own.ipc, ownNet) && !grantedSysctl(name, in.Grants, own.user) {
			return nil, fail.New(fail.Refused, "--sysctl %s is not a setting of the container's own namespaces", name)
		}
		if GuardedSysctl(name) && value != "0" && !slices.Contains(in.Grants.Sysctls, name) {
			return nil, fail.New(fail.Refused, "--sysctl %s: with any value but 0 others on the network could change the container's routes, or it theirs", name).
				Hint("leave it out; addresses and routes are set without it")
		}
		out[name] = value
	}
	return out, nil
}

// grantedSysctl: settings that are namespaced but not free, which the site
// granted by name.
func grantedSysctl(name string, g Grants, ownUser bool) bool {
	return ownUser && strings.HasPrefix(name, "user.") && slices.Contains(g.Sysctls, name)
}

// sysctlName: dotted words. A slash would be another spelling of a dot, and
// dots in a row of a directory above.
func sysctlName(s string) bool {
	if len(s) > 128 {
		return false
	}
	for word := range strings.SplitSeq(s, ".") {
		if word == "" {
			return false
		}
		for _, c := range []byte(word) {
			if ('a' > c|0x20 || c|0x20 > 'z') && ('0' > c || c > '9') && c != '_' && c != '-' {
				return false
			}
		}
	}
	return true
}

// defaultDevices are the nodes every container has: the runtime makes them,
// the cgroup permits them. Numbers are of Linux's devices.txt.
var defaultDevices = [][2]int64{
	{1, 3},    // null
	{1, 5},    // zero
	{1, 7},    // full
	{1, 8},    // random
	{1, 9},    // urandom
	{5, 0},    // tty
	{5, 1},    // console
	{5, 2},    // ptmx
	{136, -1}, // pts
}

// deviceRules denies all and then permits, each one named.
func deviceRules(g Grants) []specs.LinuxDeviceCgroup {
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	for _, d := range defaultDevices {
		major, minor := &d[0], &d[1]
		if *minor < 0 {
			minor = nil
		}
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: major, Minor: minor, Access: "rwm"})
	}
	for _, d := range g.Devices {
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: new(d.Major), Minor: new(d.Minor), Access: devicePerms(g, d.Path)})
	}
	return rules
}

// devicePerms are the granted ones; without any, reading and writing.
func devicePerms(g Grants, devicePath string) string {
	if p := g.DevicePerms[devicePath]; p != "" {
		return p
	}
	return "rw"
}
