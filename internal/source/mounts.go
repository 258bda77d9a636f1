package source

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/safe-run/safe-run/spec"
)

// maxSubmounts bounds what is written down of a source with many mounts below
// it. A source that has more is one of the roots the policy refuses anyway.
const maxSubmounts = 4096

type device struct{ major, minor int }

// mountTable is this process' mount namespace, read once.
type mountTable struct {
	all      []*mountinfo.Info
	byID     map[int]*mountinfo.Info
	byDev    map[device][]*mountinfo.Info
	overlays []overlay
}

// overlay is the writable layer of a mounted overlay.
type overlay struct {
	mountpoint string
	upper      []string // upperdir and workdir
}

// readMounts reads the mounts this process sees. Those below own are left out
// as other names of things: see KnownPaths.Own.
func readMounts(own string) (*mountTable, error) {
	all, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("cannot read the mount table: %w", err)
	}
	return newMountTable(all, own), nil
}

func newMountTable(all []*mountinfo.Info, own string) *mountTable {
	t := &mountTable{
		all:   all,
		byID:  make(map[int]*mountinfo.Info, len(all)),
		byDev: make(map[device][]*mountinfo.Info, len(all)),
	}
	for _, m := range all {
		t.byID[m.ID] = m
		if _, ours := under(m.Mountpoint, own); ours && own != "" {
			continue
		}
		dev := device{m.Major, m.Minor}
		t.byDev[dev] = append(t.byDev[dev], m)
		// The root's own layers have paths of another time or namespace.
		if m.FSType == "overlay" && m.Mountpoint != "/" {
			if o := overlayOf(m); len(o.upper) > 0 {
				t.overlays = append(t.overlays, o)
			}
		}
	}
	return t
}

func overlayOf(m *mountinfo.Info) overlay {
	o := overlay{mountpoint: m.Mountpoint}
	for opt := range strings.SplitSeq(m.VFSOptions, ",") {
		key, dir, _ := strings.Cut(opt, "=")
		if (key == "upperdir" || key == "workdir") && strings.HasPrefix(dir, "/") {
			o.upper = append(o.upper, path.Clean(dir))
		}
	}
	return o
}

// layered gives the names that what lies at inFS in an overlay has in the
// layers it is made of.
func layered(m *mountinfo.Info, inFS string) (names []string) {
	if m.FSType != "overlay" || m.Mountpoint == "/" {
		return nil
	}
	for opt := range strings.SplitSeq(m.VFSOptions, ",") {
		switch key, dirs, _ := strings.Cut(opt, "="); key {
		case "lowerdir", "lowerdir+", "datadir+", "upperdir":
			for dir := range strings.SplitSeq(dirs, ":") {
				if strings.HasPrefix(dir, "/") {
					names = append(names, path.Join(dir, inFS))
				}
			}
		}
	}
	return names
}

// describe fills the names of s, which lies on mount m.
func (t *mountTable) describe(m *mountinfo.Info, s *spec.Source) error {
	rel, ok := under(s.Real, m.Mountpoint)
	if !ok {
		return fmt.Errorf("%q is not below its mount point %q", s.Real, m.Mountpoint)
	}
	inFS := path.Join(m.Root, rel)
	s.Aliases = []string{s.Real}
	names, parts := t.names(m, inFS)
	for _, n := range names {
		s.Aliases = appendNew(s.Aliases, n)
	}
	for _, p := range parts {
		if len(s.Submounts) < maxSubmounts {
			s.Submounts = append(s.Submounts, spec.Submount{
				Path: path.Join(s.Real, p.rel), FS: m.FSType, Aliases: []string{p.at},
			})
		}
	}
	if slices.Contains(s.Aliases, "/") {
		return nil // all there is lies below; no need to list it
	}
	for _, sub := range t.all {
		if rel, ok := under(sub.Mountpoint, s.Real); !ok || rel == "" || len(s.Submounts) >= maxSubmounts {
			continue
		}
		names, parts := t.names(sub, sub.Root)
		names = appendNew(names, sub.Mountpoint)
		names = append(names, layered(sub, sub.Root)...)
		for _, p := range parts {
			names = appendNew(names, p.at)
		}
		s.Submounts = append(s.Submounts, spec.Submount{
			Path: sub.Mountpoint, FS: sub.FSType, Aliases: names, Mounted: true,
		})
	}
	for _, o := range t.overlays {
		for _, dir := range o.upper {
			for _, name := range s.Aliases {
				if touches(name, dir) {
					s.Overlay = o.mountpoint
				}
			}
		}
	}
	for _, name := range layered(m, inFS) {
		s.Aliases = appendNew(s.Aliases, name)
	}
	return nil
}

// part is a piece of a source that is mounted elsewhere.
type part struct{ rel, at string }

// names gives every path under which the object at inFS (a path within the
// filesystem of m) can be reached, and the parts of it mounted on their own.
func (t *mountTable) names(m *mountinfo.Info, inFS string) (names []string, parts []part) {
	for _, other := range t.byDev[device{m.Major, m.Minor}] {
		// The roots of nsfs mounts are no paths ("net:[4026531840]").
		if !strings.HasPrefix(other.Root, "/") {
			continue
		}
		if rel, ok := under(inFS, other.Root); ok {
			names = appendNew(names, path.Join(other.Mountpoint, rel))
		} else if rel, ok := under(other.Root, inFS); ok {
			parts = append(parts, part{rel, other.Mountpoint})
		}
	}
	return names, parts
}

// under says whether p is dir or lies below it, and the rest of the path ("" if
// it is dir).
func under(p, dir string) (rel string, ok bool) {
	if p == dir {
		return "", true
	}
	if dir == "/" {
		return strings.TrimPrefix(p, "/"), strings.HasPrefix(p, "/")
	}
	if strings.HasPrefix(p, dir) && p[len(dir)] == '/' {
		return p[len(dir)+1:], true
	}
	return "", false
}

// touches says whether one path is the other, lies in it or holds it.
func touches(a, b string) bool {
	_, in := under(a, b)
	_, holds := under(b, a)
	return in || holds
}

func appendNew(to []string, s string) []string {
	if slices.Contains(to, s) {
		return to
	}
	return append(to, s)
}

// remoteMagic gives the statfs magic (linux/magic.h) of filesystems whose
// server may hang; for these statfs(2) is not called. Subtypes of FUSE are
// written "fuse.sshfs".
func remoteMagic(fsType string) (magic int64, remote bool) {
	name, _, _ := strings.Cut(fsType, ".")
	magic, remote = map[string]int64{
		"fuse":       0x65735546,
		"fuseblk":    0x65735546,
		"virtiofs":   0x6a656a63,
		"nfs":        0x6969,
		"nfs4":       0x6969,
		"cifs":       0xff534d42,
		"smb3":       0xff534d42,
		"9p":         0x01021997,
		"ceph":       0x00c36400,
		"afs":        0x5346414f,
		"coda":       0x73757245,
		"autofs":     0x0187,
		"glusterfs":  0x65735546,
		"lustre":     0x0bd00bd0,
		"beegfs":     0x19830326,
		"gpfs":       0x47504653,
		"ocfs2":      0x7461636f,
		"gfs2":       0x01161970,
		"davfs":      0x65735546,
		"overlaynfs": 0x6969,
	}[name]
	return magic, remote
}
