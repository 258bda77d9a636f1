package spec

import (
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/internal/lazyre"
)

// mountOptions is what the runtime makes of a mount's options.
type mountOptions struct {
	bind, recursive       bool
	readonly              bool // the whole tree
	nosuid, nodev, noexec bool // the whole tree
	idmap                 bool
	propagation           []string
	size, inodes          int64    // of a tmpfs, 0: none
	other                 []string // what undoes a flag (suid, dev, exec, rw), and unknown ones
}

func (o mountOptions) writable() bool { return !o.readonly }

// harmless options need no look.
var harmless = map[string]bool{
	"relatime": true, "strictatime": true, "noatime": true, "nodiratime": true, "atime": true, "diratime": true,
	"sync": true, "async": true, "dirsync": true, "newinstance": true,
}

// optionsOf reads options as the runtime does. For a recursive bind only the
// r-forms count: the plain ones leave the mounts below as they are.
func optionsOf(m specs.Mount) mountOptions {
	var o mountOptions
	o.recursive = slices.Contains(m.Options, "rbind")
	o.bind = o.recursive || slices.Contains(m.Options, "bind")
	for _, opt := range m.Options {
		name, value, _ := strings.Cut(opt, "=")
		plain := !o.recursive
		switch name {
		case "bind", "rbind":
		case "ro":
			o.readonly = o.readonly || plain
		case "rro":
			o.readonly = true
		case "nosuid":
			o.nosuid = o.nosuid || plain
		case "rnosuid":
			o.nosuid = true
		case "nodev":
			o.nodev = o.nodev || plain
		case "rnodev":
			o.nodev = true
		case "noexec":
			o.noexec = o.noexec || plain
		case "rnoexec":
			o.noexec = true
		case "idmap":
			o.idmap = o.idmap || plain
		case "ridmap":
			o.idmap = true
		case "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable":
			o.propagation = append(o.propagation, name)
		case "size":
			o.size = byteSize(value)
		case "nr_inodes":
			o.inodes = byteSize(value)
		case "mode", "uid", "gid", "ptmxmode", "mpol":
		default:
			if !harmless[opt] {
				o.other = append(o.other, opt)
			}
		}
	}
	return o
}

// byteSize reads tmpfs' numbers; 0 means none.
func byteSize(s string) int64 {
	unit := int64(1)
	if rest, ok := strings.CutSuffix(s, "k"); ok {
		s, unit = rest, 1024
	}
	n, err := strconv.ParseInt(s, 10, 52)
	if err != nil {
		return 0
	}
	return max(n, 0) * unit
}

// kernelTypes are the file systems of the kernel, and where each belongs.
var kernelTypes = map[string]string{
	"/proc": "proc", "/dev": "tmpfs", "/dev/pts": "devpts", "/dev/shm": "tmpfs",
	"/dev/mqueue": "mqueue", "/sys": "sysfs", "/sys/fs/cgroup": "cgroup",
}

// hostTree says whether a mount is one of the kernel's trees that is the
// host's by a grant, where the user namespace cannot mount it anew.
func hostTree(s *specs.Spec, m specs.Mount, g Grants) bool {
	if m.Source != m.Destination {
		return false
	}
	switch m.Destination {
	case "/proc":
		return g.HostPID
	case "/sys":
		return g.HostNetwork && networkModeIn(s) == hostNetwork && optionsOf(m).readonly
	case "/dev/shm", "/dev/mqueue":
		return g.HostIPC
	}
	return false
}

// joinedSys says whether a mount is the sysfs of the network namespace that is
// joined, alone and read-only.
func joinedSys(s *specs.Spec, m specs.Mount, v VerifyInput) bool {
	o := optionsOf(m)
	return m.Destination == "/sys" && networkModeIn(s) == joinedNetwork && v.JoinSysfs != "" && m.Source == v.JoinSysfs &&
		m.Type == "bind" && o.bind && o.readonly && !o.recursive
}

// mountPlaces: /proc, /dev and /sys first and in order, and nothing over them
// or over the root.
func mountPlaces(s *specs.Spec, v VerifyInput) (bad []string) {
	at := map[string]int{}
	for i, m := range s.Mounts {
		d := m.Destination
		bad = append(bad, violation(cleanable(d) != nil || path.Clean(d) != d || d == "/", "destination %q", d)...)
		at[d] = i
		kernels := kernelTypes[d] != ""
		bad = append(bad, violation(kernelPath(d) && !kernels && !within(d, "/dev/shm") && !deviceAt(d, v.Grants), "a mount at %q, in a tree of the kernel", d)...)
	}
	for _, d := range []string{"/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup"} {
		i, there := at[d]
		bad = append(bad, violation(!there || i >= len(kernelTypes), "%s is not mounted before all others", d)...)
	}
	for i, m := range s.Mounts {
		for _, later := range s.Mounts[i+1:] {
			bad = append(bad, violation(within(m.Destination, later.Destination), "%q hides the mount at %q", later.Destination, m.Destination)...)
		}
	}
	return bad
}

func deviceAt(d string, g Grants) bool {
	return slices.ContainsFunc(g.Devices, func(dev specs.LinuxDevice) bool { return dev.Path == d })
}

func mountTypes(s *specs.Spec, v VerifyInput) (bad []string) {
	for _, m := range s.Mounts {
		o := optionsOf(m)
		bind := m.Type == "bind" && o.bind
		ok := bind || !o.bind && m.Type == "tmpfs"
		if want := kernelTypes[m.Destination]; want != "" && m.Destination != "/dev/shm" {
			ok = m.Type == want && !o.bind || bind && hostTree(s, m, v.Grants) || joinedSys(s, m, v)
		}
		bad = append(bad, violation(!ok, "type %q at %q", m.Type, m.Destination)...)
		bad = append(bad, violation(len(o.other) > 0, "options %q at %q", o.other, m.Destination)...)
	}
	return bad
}

// heldPath is a descriptor held by the launcher.
var heldPath = lazyre.New(`^/proc/[1-9][0-9]*/fd/[0-9]+$`)

// forbiddenSources are never bound, and neither is anything below those that
// end in a slash. The policy has judged the objects; this looks at the names
// in the finished spec once more.
var forbiddenSources = []string{
	"/", "/bin", "/boot/", "/dev/", "/etc", "/home", "/lib", "/lib64", "/mnt", "/opt", "/proc/", "/root",
	"/run", "/sbin", "/srv", "/sys/", "/tmp", "/usr", "/var", "/var/lib", "/var/run",
	"/etc/shadow", "/etc/sudoers", "/etc/ssh/", "/root/.ssh/",
	"/run/containerd/", "/run/docker.sock", "/var/run/docker.sock", "/run/podman/", "/run/crio/",
	"/var/lib/docker/", "/var/lib/containerd/", "/var/lib/containers/", "/var/lib/kubelet/",
	"/run/systemd/", "/run/dbus/", "/run/user/",
}

func mountSources(s *specs.Spec, v VerifyInput) (bad []string) {
	for _, m := range s.Mounts {
		if m.Type != "bind" && !optionsOf(m).bind {
			bad = append(bad, violation(strings.HasPrefix(m.Source, "/"), "source %q of a %s", m.Source, m.Type)...)
			continue
		}
		if hostTree(s, m, v.Grants) {
			continue
		}
		bad = append(bad, violation(!joinedSys(s, m, v) && !slices.Contains(v.HostSources, m.Source) && !slices.Contains(v.OwnSources, m.Source), "%q at %q was not resolved for this container", m.Source, m.Destination)...)
		bad = append(bad, violation(forbiddenSource(m.Source), "%q at %q is never bound", m.Source, m.Destination)...)
	}
	return bad
}

func forbiddenSource(p string) bool {
	if path.Clean(p) != p || !strings.HasPrefix(p, "/") || strings.ContainsRune(p, 0) {
		return true
	}
	if heldPath().MatchString(p) {
		return false
	}
	return slices.ContainsFunc(forbiddenSources, func(f string) bool {
		below, tree := strings.CutSuffix(f, "/")
		return p == f || tree && f != "/" && within(p, below)
	})
}

func mountPropagation(s *specs.Spec, _ VerifyInput) (bad []string) {
	for _, m := range s.Mounts {
		for _, p := range optionsOf(m).propagation {
			bad = append(bad, violation(p != "rprivate", "%s at %q", p, m.Destination)...)
		}
	}
	return bad
}

func mountFlags(s *specs.Spec, v VerifyInput) (bad []string) {
	for _, m := range s.Mounts {
		o := optionsOf(m)
		bad = append(bad, violation(!o.nosuid, "no nosuid at %q", m.Destination)...)
		// Device nodes are in /dev and /dev/pts, and where one was granted.
		needsDev := m.Destination == "/dev" || m.Destination == "/dev/pts" || deviceAt(m.Destination, v.Grants)
		bad = append(bad, violation(!o.nodev && !needsDev, "no nodev at %q", m.Destination)...)
		// The network's settings and devices are there for root of the container.
		bad = append(bad, violation(m.Destination == "/sys" && o.writable(), "%q is writable", m.Destination)...)
	}
	return bad
}

func writeXorExecute(s *specs.Spec, v VerifyInput) (bad []string) {
	for _, m := range s.Mounts {
		o := optionsOf(m)
		bad = append(bad, violation(!o.noexec && o.writable() && !slices.Contains(v.ExecTargets, m.Destination), "%q is writable and executable", m.Destination)...)
		bad = append(bad, violation(!o.noexec && kernelPath(m.Destination) && !within(m.Destination, "/dev/shm"), "%q is executable", m.Destination)...)
	}
	return bad
}

// idmappedBinds: what is writable, and what is the host's, is mapped as the
// container is. The read-only files and images of our own belong to the
// container's ids already.
func idmappedBinds(s *specs.Spec, v VerifyInput) (bad []string) {
	mapped := slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
	uids, gids := mappings(v.IDs)
	for _, m := range s.Mounts {
		o := optionsOf(m)
		if o.idmap || len(m.UIDMappings)+len(m.GIDMappings) > 0 {
			same := slices.Equal(m.UIDMappings, uids) && slices.Equal(m.GIDMappings, gids)
			bad = append(bad, violation(!mapped || !o.bind || !o.idmap || !same, "the mapping of %q is not the container's", m.Destination)...)
			continue
		}
		if !mapped || !o.bind || slices.Contains(v.MappedSources, m.Source) || hostTree(s, m, v.Grants) || deviceAt(m.Destination, v.Grants) {
			continue
		}
		bad = append(bad, violation(o.writable() || slices.Contains(v.HostSources, m.Source), "%q is not idmapped", m.Destination)...)
	}
	return bad
}

func tmpfsSized(s *specs.Spec, v VerifyInput) (bad []string) {
	for _, m := range s.Mounts {
		if m.Type != "tmpfs" {
			continue
		}
		o := optionsOf(m)
		bad = append(bad, violation(o.size <= 0 || o.inodes <= 0, "no size or number of inodes at %q", m.Destination)...)
		most := v.Limits.MaxTmpfs
		if m.Destination == "/dev/shm" {
			most = v.Limits.MaxShm
		}
		bad = append(bad, violation(most > 0 && o.size > most, "%d bytes at %q are above the maximum", o.size, m.Destination)...)
	}
	return bad
}
