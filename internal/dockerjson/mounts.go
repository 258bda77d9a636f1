package dockerjson

import (
	"fmt"
	"strings"

	"github.com/safe-run/safe-run/spec"
)

// mountPoints are the mounts that docker lists: those of --tmpfs are in
// HostConfig only.
func mountPoints(s Source, w spec.Workload) []MountPoint {
	out := []MountPoint{}
	for _, m := range w.Mounts {
		p := MountPoint{Type: string(m.Type), Source: m.Source, Destination: m.Target, RW: !m.ReadOnly}
		switch m.Type {
		case spec.MountBind:
			p.Propagation = "rprivate"
			if m.Origin == "-v" {
				p.Mode = strings.Join(modes(m), ",")
			}
		case spec.MountVolume:
			p.Name, p.Driver = m.Source, "local"
			if s.Volume != nil && m.Source != "" {
				p.Source = s.Volume(m.Source)
			}
			if m.Origin == "-v" {
				p.Mode = strings.Join(modes(m), ",")
			}
		case spec.MountTmpfs:
			if m.Origin == "--tmpfs" {
				continue
			}
			p.Source = ""
		case spec.MountImage:
			p.RW = false
		}
		out = append(out, p)
	}
	return out
}

// modes are the words after the second colon of a -v.
func modes(m spec.Mount) []string {
	var out []string
	for _, o := range []struct {
		given bool
		word  string
	}{
		{m.ReadOnly, "ro"},
		{m.Exec, "exec"},
		{m.Relabel != "", m.Relabel},
		{m.NoCopy, "nocopy"},
		{m.Propagation != "", m.Propagation},
	} {
		if o.given {
			out = append(out, o.word)
		}
	}
	return out
}

// mounts sorts the mounts into the fields docker keeps them in by how they
// were spelled, with the memory file systems every container has.
func (h *HostConfig) mounts(w spec.Workload, anonymous []string, l spec.Limits) {
	none := func(target string) bool {
		for _, m := range w.Mounts {
			if target == m.Target || strings.HasPrefix(target, m.Target+"/") {
				return false
			}
		}
		return true
	}
	h.Tmpfs = map[string]string{}
	for _, d := range [][2]string{{"/tmp", "1777"}, {"/run", "755"}, {"/var/tmp", "1777"}} {
		if none(d[0]) {
			h.Tmpfs[d[0]] = fmt.Sprintf("rw,nosuid,nodev,noexec,mode=%s,size=%d,nr_inodes=%d", d[1], l.Tmpfs, l.TmpfsInodes)
		}
	}
	for _, m := range w.Mounts {
		switch {
		case m.Origin == "image VOLUME":
		case m.Type == spec.MountTmpfs && m.Origin == "--tmpfs":
			h.Tmpfs[m.Target] = tmpfsOptions(m, l)
		case m.Origin == "-v":
			if h.anonymous(m, anonymous) {
				continue
			}
			b := m.Source + ":" + m.Target
			if o := modes(m); len(o) > 0 {
				b += ":" + strings.Join(o, ",")
			}
			h.Binds = append(h.Binds, b)
		default:
			h.Mounts = append(h.Mounts, mount(m, l))
		}
	}
}

// anonymous: docker has these in Config.Volumes.
func (*HostConfig) anonymous(m spec.Mount, names []string) bool {
	for _, n := range names {
		if m.Type == spec.MountVolume && m.Source == n {
			return true
		}
	}
	return false
}

func mount(m spec.Mount, l spec.Limits) Mount {
	o := Mount{Type: string(m.Type), Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly}
	switch m.Type {
	case spec.MountBind:
		if m.Propagation != "" || m.NonRecursive {
			o.BindOptions = &BindOptions{m.Propagation, m.NonRecursive}
		}
	case spec.MountVolume:
		if m.NoCopy || m.Subpath != "" || len(m.Labels) > 0 {
			o.VolumeOptions = &VolumeOptions{m.NoCopy, m.Labels, m.Subpath}
		}
	case spec.MountImage:
		if m.Subpath != "" {
			o.ImageOptions = &ImageOptions{m.Subpath}
		}
	case spec.MountTmpfs:
		o.TmpfsOptions = &TmpfsOptions{SizeBytes: m.Tmpfs.Size}
		if m.Tmpfs.Size == 0 {
			o.TmpfsOptions.SizeBytes = l.Tmpfs
		}
		if m.Tmpfs.Mode != nil {
			o.TmpfsOptions.Mode = *m.Tmpfs.Mode
		}
	}
	return o
}

func tmpfsOptions(m spec.Mount, l spec.Limits) string {
	t := m.Tmpfs
	out := append([]string{"nosuid", "nodev"}, t.Flags...)
	if !m.Exec && !strings.Contains(","+strings.Join(t.Flags, ",")+",", ",exec,") {
		out = append(out, "noexec")
	}
	size := fmt.Sprintf("size=%d", l.Tmpfs)
	switch {
	case t.Size > 0:
		size = fmt.Sprintf("size=%d", t.Size)
	case t.SizePct > 0:
		size = fmt.Sprintf("size=%d%%", t.SizePct)
	}
	out = append(out, size)
	if t.Mode != nil {
		out = append(out, fmt.Sprintf("mode=%o", *t.Mode))
	}
	return strings.Join(out, ",")
}
