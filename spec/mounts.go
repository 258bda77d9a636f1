package spec

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/lazyre"
)

// Sizes of a tmpfs that are no mistake end here.
const (
	maxTmpfsBytes  = 1 << 50
	maxTmpfsInodes = 1 << 40
)

// maxMounts bounds what a command line or an image can have mounted.
const maxMounts = 512

// mounts gives all mounts in the order they are made: the kernel's trees, the
// default tmpfs, and then the user's and the generated files, parents before
// what lies in them.
func mounts(in Input, own namespacesOf) ([]specs.Mount, error) {
	user, err := userMounts(in)
	if err != nil {
		return nil, err
	}
	out := kernelMounts(in, own, user)
	for _, d := range []struct{ target, mode string }{{"/tmp", "1777"}, {"/run", "755"}, {"/var/tmp", "1777"}} {
		if !covered(user, d.target) {
			out = append(out, sizedTmpfs(d.target, d.mode, in.Limits.Tmpfs, in.Limits.TmpfsInodes))
		}
	}
	rest := make([]specs.Mount, 0, len(user)+4)
	for _, m := range user {
		o, err := userMount(in, m)
		if err != nil {
			return nil, err
		}
		rest = append(rest, o)
	}
	files, err := fileMounts(in, user)
	if err != nil {
		return nil, err
	}
	rest = append(rest, files...)
	devices, err := deviceMounts(in)
	if err != nil {
		return nil, err
	}
	rest = append(rest, devices...)
	slices.SortStableFunc(rest, func(a, b specs.Mount) int { return cmp.Compare(depth(a.Destination), depth(b.Destination)) })
	return append(out, rest...), nil
}

func depth(p string) int { return strings.Count(p, "/") }

// covered says whether a mount of the user is at target or above it, so that
// a default one has to stand back.
func covered(user []ResolvedMount, target string) bool {
	return slices.ContainsFunc(user, func(m ResolvedMount) bool { return within(target, m.Target) })
}

func at(user []ResolvedMount, target string) bool {
	return slices.ContainsFunc(user, func(m ResolvedMount) bool { return m.Target == target })
}

// userMounts checks the targets. A mount of a flag replaces one of the
// image's VOLUMEs at the same place; other doubles are an error.
func userMounts(in Input) ([]ResolvedMount, error) {
	if len(in.Mounts) > maxMounts {
		return nil, fail.New(fail.Usage, "%d mounts are more than %d", len(in.Mounts), maxMounts)
	}
	var out []ResolvedMount
	place := map[string]int{}
	for _, m := range in.Mounts {
		if err := mountTarget(m.Target, in); err != nil {
			return nil, fail.Wrap(fail.KindOf(err), err, "%s", originOf(m))
		}
		i, taken := place[m.Target]
		switch {
		case !taken:
			place[m.Target] = len(out)
			out = append(out, m)
		case out[i].Origin == imageVolume:
			out[i] = m
		case m.Origin == imageVolume:
		default:
			return nil, fail.New(fail.Conflict, "two mounts on %q (%s and %s)", m.Target, originOf(out[i]), originOf(m))
		}
	}
	return out, nil
}

const imageVolume = "image VOLUME"

func originOf(m ResolvedMount) string {
	if m.Origin == "" {
		return "mount"
	}
	return shown(m.Origin)
}

// mountTarget: absolute and clean, not over the root and not over what the
// kernel and the runtime put into /proc, /sys and /dev.
func mountTarget(target string, in Input) error {
	if err := cleanable(target); err != nil {
		return err
	}
	switch {
	case path.Clean(target) != target:
		return fail.New(fail.Usage, "target %q is not a clean path; write %q", target, path.Clean(target))
	case target == "/":
		return fail.New(fail.Refused, "nothing can be mounted over the root of the container")
	case kernelPath(target) && !within(target, "/dev/shm"):
		return fail.New(fail.Refused, "target %q would hide what the kernel's trees protect", target)
	case wantsInit(in.Workload) && within(initPath, target):
		return fail.New(fail.Conflict, "target %q would hide the init of --init at %s", target, initPath)
	}
	return nil
}

// kernelMounts are the file systems of the kernel. Each is of the container's
// own namespaces; where one of these is the host's by a grant, the kernel does
// not let the user namespace mount a new one, and the host's is bound.
func kernelMounts(in Input, own namespacesOf, user []ResolvedMount) []specs.Mount {
	out := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "strictatime", "mode=755", "size=64k", "nr_inodes=1024"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
	}
	if !own.pid && own.user {
		out[0] = specs.Mount{Destination: "/proc", Type: "bind", Source: "/proc", Options: []string{"rbind", "rprivate", "rnosuid", "rnoexec", "rnodev"}}
	}
	shm := in.Limits.Shm
	if in.Workload.ShmSize != nil {
		shm = *in.Workload.ShmSize
	}
	switch {
	case at(user, "/dev/shm"), in.Workload.IPCMode == "none":
	case own.ipc:
		out = append(out, specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{
			"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(shm, 10), "nr_inodes=" + strconv.FormatInt(in.Limits.TmpfsInodes, 10),
		}})
	default:
		out = append(out, specs.Mount{Destination: "/dev/shm", Type: "bind", Source: "/dev/shm", Options: []string{"bind", "rprivate", "nosuid", "noexec", "nodev"}})
	}
	mqueue := specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}}
	if !own.ipc && own.user {
		mqueue = specs.Mount{Destination: "/dev/mqueue", Type: "bind", Source: "/dev/mqueue", Options: []string{"bind", "rprivate", "nosuid", "noexec", "nodev"}}
	}
	return append(out, mqueue, sysMount(in, own),
		specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}})
}

func sizedTmpfs(target, mode string, size, inodes int64) specs.Mount {
	return specs.Mount{Destination: target, Type: "tmpfs", Source: "tmpfs", Options: []string{
		"nosuid", "nodev", "noexec", "mode=" + mode, "size=" + strconv.FormatInt(size, 10), "nr_inodes=" + strconv.FormatInt(inodes, 10),
	}}
}

// fileMounts are the files of ours, read-only: those of /etc, the init, and
// what a service is given. They belong to the container's ids on the host
// already and need no mapping. Where the user bound something over /etc the files are left out: their
// mount points would be made in a directory of the host.
func fileMounts(in Input, user []ResolvedMount) ([]specs.Mount, error) {
	var out []specs.Mount
	for _, f := range []struct{ source, target string }{
		{in.Files.Hosts, "/etc/hosts"},
		{in.Files.Hostname, "/etc/hostname"},
		{in.Files.ResolvConf, "/etc/resolv.conf"},
	} {
		theirs := slices.ContainsFunc(user, func(m ResolvedMount) bool {
			return m.Target == f.target || within(f.target, m.Target) && (m.Type == MountBind || m.Type == MountImage)
		})
		if f.source != "" && !theirs {
			out = append(out, specs.Mount{Destination: f.target, Type: "bind", Source: f.source, Options: []string{"bind", "rprivate", "nosuid", "nodev", "noexec", "ro"}})
		}
	}
	if wantsInit(in.Workload) {
		out = append(out, specs.Mount{Destination: initPath, Type: "bind", Source: in.Files.Init, Options: []string{"bind", "rprivate", "nosuid", "nodev", "ro"}})
	}
	for _, m := range out {
		if err := sourcePath(m.Source); err != nil {
			return nil, err
		}
	}
	service, err := serviceMounts(in, user)
	return append(out, service...), err
}

// deviceMounts binds the granted device nodes. They are not in the spec's
// device list: inside a user namespace the runtime would bind whatever is at
// the container's path on the host.
func deviceMounts(in Input) ([]specs.Mount, error) {
	var out []specs.Mount
	for _, d := range in.Grants.Devices {
		if err := cleanable(d.Path); err != nil {
			return nil, err
		}
		if path.Clean(d.Path) != d.Path || !strings.HasPrefix(d.Path, "/dev/") || defaultNode(d.Path) {
			return nil, fail.New(fail.Refused, "device %q: its place inside must be a free name below /dev", d.Path)
		}
		if d.Type != "c" {
			return nil, fail.New(fail.Refused, "device %q: only character devices can be granted", d.Path)
		}
		if p := devicePerms(in.Grants, d.Path); strings.Trim(p, "rwm") != "" {
			return nil, fail.New(fail.Usage, "device %q: permissions %q are not made of r, w and m", d.Path, p)
		}
		source := in.DeviceSources[d.Path]
		if err := sourcePath(source); err != nil {
			return nil, fail.Wrap(fail.Internal, err, "device %q", d.Path)
		}
		out = append(out, specs.Mount{Destination: d.Path, Type: "bind", Source: source, Options: []string{"bind", "rprivate", "nosuid", "noexec"}})
	}
	return out, nil
}

// defaultNode says whether a path below /dev is one the container has anyway.
func defaultNode(p string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(p, "/dev/"), "/")
	switch first {
	case "null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts", "shm", "mqueue",
		"fd", "stdin", "stdout", "stderr", "core":
		return true
	}
	return false
}

func sourcePath(p string) error {
	if !strings.HasPrefix(p, "/") || path.Clean(p) != p || strings.ContainsRune(p, 0) {
		return fail.New(fail.Internal, "mount source %q is not a clean absolute path", p)
	}
	return nil
}

// userMount turns one mount of the user into the runtime's.
func userMount(in Input, m ResolvedMount) (specs.Mount, error) {
	if p := m.Propagation; p != "" && p != "rprivate" && p != "private" {
		return specs.Mount{}, fail.New(fail.Refused, "%s: propagation %.32q would carry mounts between host and container", originOf(m), p).
			Hint("leave it out; mounts are private")
	}
	if m.Chown {
		return specs.Mount{}, fail.New(fail.Refused, "%s: changing the owner of host files (:U) is not done", originOf(m))
	}
	if m.Type == MountTmpfs {
		return userTmpfs(in, m)
	}
	if err := sourcePath(m.HostPath); err != nil {
		return specs.Mount{}, err
	}
	switch m.Type {
	case MountBind, MountVolume:
		return bind(in, m), nil
	case MountImage:
		// Mapped by the snapshotter; read-only, so it may be executable.
		return specs.Mount{Destination: m.Target, Type: "bind", Source: m.HostPath, Options: []string{"rbind", "rprivate", "rnosuid", "rnodev", "rro"}}, nil
	}
	return specs.Mount{}, fail.New(fail.Internal, "%s: mount type %.32q", originOf(m), m.Type)
}

// bind gives a bind or volume with the ids on disk being the ids inside. The
// r-forms hold for the mounts below the source too: without them such a mount
// keeps its own flags and is not mapped.
func bind(in Input, m ResolvedMount) specs.Mount {
	recursive := !m.NonRecursive
	option := func(name string) string {
		if recursive {
			return "r" + name
		}
		return name
	}
	o := specs.Mount{Destination: m.Target, Type: "bind", Source: m.HostPath}
	o.Options = []string{option("bind"), "rprivate", option("nosuid"), option("nodev")}
	if !m.Exec {
		o.Options = append(o.Options, option("noexec"))
	}
	if m.ReadOnly {
		o.Options = append(o.Options, option("ro"))
	}
	if !hostUserNS(in) && !m.Mapped {
		o.Options = append(o.Options, option("idmap"))
		o.UIDMappings, o.GIDMappings = mappings(in.IDs)
	}
	return o
}

// tmpfsPolicy is the part of mpol= that has no comma in it, which the mount
// call would read as the next option.
var tmpfsPolicy = lazyre.New(`^mpol=(default|local|prefer|bind|interleave)(=(static|relative))?(:[0-9]{1,4}(-[0-9]{1,4})?)?$`)

// userTmpfs: nosuid and nodev always, noexec unless exec was said, sized in
// any case.
func userTmpfs(in Input, m ResolvedMount) (specs.Mount, error) {
	t := m.Tmpfs
	memory, err := memoryLimit(in)
	if err != nil {
		return specs.Mount{}, err
	}
	options := []string{"nosuid", "nodev"}
	exec, readOnly := m.Exec, m.ReadOnly
	size := t.Size
	for _, f := range t.Flags {
		switch name, value, _ := strings.Cut(f, "="); {
		case f == "exec":
			exec = true
		case f == "noexec":
			exec = false
		case f == "ro":
			readOnly = true
		case f == "rw":
			readOnly = false
		case f == "nosuid" || f == "nodev" || f == "rprivate" || f == "private":
		case f == "noatime" || f == "nodiratime" || f == "relatime" || f == "strictatime" || f == "sync" || f == "dirsync" || f == "atime" || f == "diratime" || f == "async":
			options = append(options, f)
		case name == "nr_blocks":
			blocks, err := strconv.ParseUint(value, 10, 40)
			if err != nil || blocks == 0 {
				return specs.Mount{}, fail.New(fail.Usage, "tmpfs %q: nr_blocks=%.32q is not a number of blocks", m.Target, value)
			}
			if size == 0 {
				size = int64(blocks) * 4096 // PAGE_SIZE is what tmpfs counts; larger pages only make it smaller
			}
		case tmpfsPolicy().MatchString(f):
			options = append(options, f)
		case f == "suid" || f == "dev" || strings.HasSuffix(f, "shared") || strings.HasSuffix(f, "slave"):
			return specs.Mount{}, fail.New(fail.Refused, "tmpfs %q: option %s is not given", m.Target, f)
		default:
			return specs.Mount{}, fail.New(fail.Usage, "tmpfs %q: invalid tmpfs option %.64q", m.Target, f)
		}
	}
	if !exec {
		options = append(options, "noexec")
	}
	if readOnly {
		options = append(options, "ro")
	}
	if t.SizePct < 0 || t.SizePct > 100 {
		return specs.Mount{}, fail.New(fail.Usage, "tmpfs %q: size=%d%% is not between 1 and 100 per cent", m.Target, t.SizePct)
	}
	if size == 0 && t.SizePct > 0 && memory > 0 {
		// Of the container's memory: the host's is not its own.
		size = memory / 100 * int64(t.SizePct)
	}
	if size == 0 {
		size = in.Limits.Tmpfs
	}
	most := in.Limits.MaxTmpfs
	if m.Target == "/dev/shm" {
		most = in.Limits.MaxShm
	}
	switch {
	case size < 0 || t.Inodes < 0:
		return specs.Mount{}, fail.New(fail.Usage, "tmpfs %q: negative size", m.Target)
	case size > maxTmpfsBytes || t.Inodes > maxTmpfsInodes:
		return specs.Mount{}, fail.New(fail.Usage, "tmpfs %q: no machine has that much memory", m.Target)
	case most > 0 && size > most:
		return specs.Mount{}, fail.New(fail.Refused, "tmpfs %q: %d bytes are above the maximum of %d", m.Target, size, most)
	}
	inodes := t.Inodes
	if inodes == 0 {
		inodes = in.Limits.TmpfsInodes
	}
	perm := uint32(0o1777)
	if t.Mode != nil {
		perm = *t.Mode & 0o1777 // a set-ID bit on a nosuid mount means nothing good
	}
	options = append(options,
		"mode="+strconv.FormatUint(uint64(perm), 8),
		"size="+strconv.FormatInt(size, 10),
		"nr_inodes="+strconv.FormatInt(inodes, 10))
	for _, id := range []struct {
		name  string
		value *uint32
	}{{"uid", t.UID}, {"gid", t.GID}} {
		if id.value == nil {
			continue
		}
		if !hostUserNS(in) && *id.value >= in.IDs.Size {
			return specs.Mount{}, fail.New(fail.HostCannot, "tmpfs %q: %s=%d is not in the container's user namespace, which has ids 0 to %d", m.Target, id.name, *id.value, in.IDs.Size-1)
		}
		options = append(options, id.name+"="+strconv.FormatUint(uint64(*id.value), 10))
	}
	return specs.Mount{Destination: m.Target, Type: "tmpfs", Source: "tmpfs", Options: options}, nil
}

// mappings are the id maps of a block, for the container and its binds alike.
func mappings(b IDBlock) (uids, gids []specs.LinuxIDMapping) {
	return []specs.LinuxIDMapping{{ContainerID: 0, HostID: b.HostUID, Size: b.Size}},
		[]specs.LinuxIDMapping{{ContainerID: 0, HostID: b.HostGID, Size: b.Size}}
}
