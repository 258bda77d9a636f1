package convert

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/internal/argv"
	"github.com/safe-run/safe-run/policy"
	"github.com/safe-run/safe-run/spec"
)

// Normal is a workload without what is the default under limits, and without
// how it is started here (-d, --rm, --cidfile, -i and their like stay with who
// types them). Lists whose order means nothing are sorted, so that the same
// asked in another way is the same.
func Normal(w spec.Workload, limits spec.Limits) spec.Workload {
	w = argv.Said(w)
	w.Devices = slices.Clone(w.Devices)
	w.Profile, w.Quiet, w.CIDFile, w.Detach, w.Remove = "", false, "", false, false
	w.Attach, w.DetachKeys, w.SigProxy = nil, nil, true
	if w.ReadOnly != nil && *w.ReadOnly {
		w.ReadOnly = nil
	}
	if w.Init != nil && !*w.Init {
		w.Init = nil
	}
	if w.Restart.Name == spec.RestartNo {
		w.Restart = spec.RestartPolicy{}
	}
	if w.LogDriver == "json-file" {
		w.LogDriver = ""
	}
	for mode, byDefault := range map[*string]string{&w.IPCMode: "private", &w.CgroupNSMode: "private", &w.Runtime: "runc"} {
		if *mode == byDefault {
			*mode = ""
		}
	}
	if len(w.Networks) == 1 && w.Networks[0].Name == "default" {
		w.Networks = slices.Clone(w.Networks)
		w.Networks[0].Name = "bridge"
	}
	capabilities(&w)
	if w.UserNSMode == "" && policy.NeedsHostUsers(w) {
		w.UserNSMode = "host" // as run has it, where the site grants both
	}
	resources(&w, limits)
	w.Mounts = mounts(w.Mounts, limits)
	w.Env = lastOf(w.Env, func(e spec.EnvVar) string { return e.Name })
	w.SecurityOpts = slices.DeleteFunc(slices.Clone(w.SecurityOpts), func(o string) bool {
		return slices.Contains([]string{
			"no-new-privileges", "no-new-privileges=true", "no-new-privileges:true", "seccomp=builtin", "apparmor=docker-default", "writable-cgroups=false",
		}, o)
	})
	w.GroupAdd = sorted(w.GroupAdd)
	w.Publish = slices.SortedFunc(slices.Values(w.Publish), func(a, b spec.Publish) int {
		return cmp.Or(cmp.Compare(a.Ports.First, b.Ports.First), cmp.Compare(a.Ports.Proto, b.Ports.Proto), cmp.Compare(a.HostFirst, b.HostFirst), a.HostIP.Compare(b.HostIP))
	})
	w.Expose = slices.SortedFunc(slices.Values(w.Expose), func(a, b spec.PortRange) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last), cmp.Compare(a.Proto, b.Proto))
	})
	for i, d := range w.Devices {
		w.Devices[i].Raw = device(d)
	}
	w.Devices = slices.SortedFunc(slices.Values(w.Devices), func(a, b spec.Device) int { return strings.Compare(a.Raw, b.Raw) })
	w.Secrets = slices.SortedFunc(slices.Values(w.Secrets), func(a, b spec.Secret) int { return strings.Compare(a.ID, b.ID) })
	w = argv.Said(w)
	w.Pull = strings.TrimPrefix(w.Pull, "missing")
	for i := range w.Mounts {
		w.Mounts[i].Origin = spelling(w.Mounts[i])
	}
	return w
}

// device is a device in its shortest form.
func device(d spec.Device) string {
	if d.CDI {
		return d.Raw
	}
	s := d.Host
	if d.Container != d.Host || d.Permissions != "rwm" {
		s += ":" + d.Container
	}
	if d.Permissions != "rwm" {
		s += ":" + d.Permissions
	}
	return s
}

// spelling is the one flag a mount is written as: --mount, but for what only
// the others can say.
func spelling(m spec.Mount) string {
	switch {
	case m.Type == spec.MountTmpfs:
		return "--tmpfs"
	case m.Relabel != "":
		return "-v"
	}
	return "--mount"
}

// capabilities names what is left after --cap-drop, without CAP_ and sorted:
// everything starts from none.
func capabilities(w *spec.Workload) {
	short := func(typed string) string {
		name, err := spec.Capability(typed)
		if err != nil {
			return typed // ALL, or what the policy will refuse
		}
		return strings.TrimPrefix(name, "CAP_")
	}
	var dropped, added []string
	for _, c := range w.CapDrop {
		dropped = append(dropped, short(c))
	}
	for _, c := range w.CapAdd {
		if c = short(c); !slices.Contains(dropped, c) {
			added = append(added, c)
		}
	}
	w.CapAdd, w.CapDrop = sorted(added), nil
}

func resources(w *spec.Workload, limits spec.Limits) {
	r := &w.Resources
	memory := limits.Memory
	if r.Memory != nil {
		memory = *r.Memory
	}
	if r.MemorySwap != nil && *r.MemorySwap == memory {
		r.MemorySwap = nil
	}
	// A number for both is said beside that of memory alone.
	if (r.MemorySwap == nil || *r.MemorySwap <= 0) && r.Memory != nil && *r.Memory == limits.Memory {
		r.Memory = nil
	}
	for value, byDefault := range map[**int64]int64{&r.PidsLimit: limits.Pids, &w.ShmSize: limits.Shm} {
		if *value != nil && **value == byDefault {
			*value = nil
		}
	}
	// A period alone says nothing, and quota and period are what --cpus is.
	if r.CPUQuota != nil && *r.CPUQuota > 0 && r.NanoCPUs == nil {
		period := int64(100_000)
		if r.CPUPeriod != nil && *r.CPUPeriod > 0 {
			period = *r.CPUPeriod
		}
		if nano := *r.CPUQuota * 1_000_000 / period * 1000; nano/1000*period/1_000_000 == *r.CPUQuota && nano > 0 {
			r.NanoCPUs, r.CPUQuota, r.CPUPeriod = &nano, nil, nil
		}
	}
	w.Ulimits = slices.DeleteFunc(slices.Clone(w.Ulimits), func(u spec.Ulimit) bool {
		return u.Name == "nofile" && u.Soft == limits.Nofile && u.Hard == limits.Nofile || u.Name == "core" && u.Soft == 0 && u.Hard == 0
	})
	slices.SortFunc(w.Ulimits, func(a, b spec.Ulimit) int { return strings.Compare(a.Name, b.Name) })
}

// TmpfsDefaults are the paths that are a tmpfs without being asked for.
func TmpfsDefaults() []string { return []string{"/tmp", "/run", "/var/tmp"} }

// mounts leaves out each tmpfs that is there anyway, and sorts all by target.
func mounts(all []spec.Mount, limits spec.Limits) (out []spec.Mount) {
	for _, m := range all {
		m.Tmpfs.Flags = slices.DeleteFunc(slices.Clone(m.Tmpfs.Flags), func(f string) bool {
			return slices.Contains([]string{"rw", "noexec", "nosuid", "nodev", "ro", "exec"}, f)
		})
		slices.Sort(m.Tmpfs.Flags)
		if m.Propagation == "rprivate" {
			m.Propagation = ""
		}
		if m.Type == spec.MountTmpfs {
			if m.ReadOnly {
				m.Tmpfs.Flags = append(m.Tmpfs.Flags, "ro")
			}
			if m.Exec {
				m.Tmpfs.Flags = append(m.Tmpfs.Flags, "exec")
			}
			if m.Tmpfs.Size == limits.Tmpfs {
				m.Tmpfs.Size = 0
			}
			t := m.Tmpfs
			plain := t.Size == 0 && t.SizePct == 0 && t.Inodes == 0 && t.Mode == nil && t.UID == nil && t.GID == nil && len(t.Flags) == 0 && !m.Exec && !m.ReadOnly
			if plain && slices.Contains(TmpfsDefaults(), m.Target) {
				continue
			}
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b spec.Mount) int { return strings.Compare(a.Target, b.Target) })
	return out
}

func sorted(list []string) []string {
	out := slices.Sorted(slices.Values(list))
	return slices.Compact(out)
}

// lastOf keeps the last entry of each name, sorted by name.
func lastOf[T any](list []T, name func(T) string) []T {
	last := map[string]T{}
	for _, e := range list {
		last[name(e)] = e
	}
	out := make([]T, 0, len(last))
	for _, key := range slices.Sorted(maps.Keys(last)) {
		out = append(out, last[key])
	}
	return out
}
