package audit

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of the walk through /dev.
const (
	maxDevEntries = 8192
	maxDevDepth   = 3
	maxDevices    = 256 // listed
)

// devices lists the nodes in /dev that not every container has.
func (in *inside) devices(t *mountTable) {
	type place struct {
		path string
		deep int
	}
	left := maxDevEntries
	for queue := []place{{"/dev", 0}}; len(queue) > 0; queue = queue[1:] {
		d := queue[0]
		if e := in.covering(d.path); e != nil && (remote(e.fs) || e.fs == "devpts" || e.fs == "mqueue") {
			continue
		}
		fd, err := unix.Openat2(t.root, d.path, &unix.OpenHow{
			Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NONBLOCK,
			Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
		})
		if absent(err) {
			continue
		}
		if err != nil {
			in.unread = append(in.unread, d.path+": "+err.Error())
			continue
		}
		dir := os.NewFile(uintptr(fd), d.path)
		for left > 0 {
			entries, err := dir.ReadDir(min(left, 512))
			left -= len(entries)
			for _, e := range entries {
				p := path.Join(d.path, e.Name())
				switch {
				case e.Type()&fs.ModeDevice != 0:
					in.device(fd, e.Name(), p)
				case e.IsDir() && d.deep < maxDevDepth:
					queue = append(queue, place{p, d.deep + 1})
				}
			}
			if err != nil {
				if !errors.Is(err, io.EOF) {
					in.unread = append(in.unread, d.path+": "+err.Error())
				}
				break
			}
		}
		_ = dir.Close()
	}
	if left <= 0 {
		in.unread = append(in.unread, "devices: /dev has too many entries")
	}
	slices.SortFunc(in.f.Devices.Nodes, func(a, b Device) int { return strings.Compare(a.Path, b.Path) })
}

func (in *inside) device(dir int, name, p string) {
	var st unix.Stat_t
	if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT) != nil {
		return // gone meanwhile
	}
	d := Device{Path: printable(p), Type: "char", Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		d.Type = "block"
	case unix.S_IFCHR:
	default:
		return
	}
	if !d.usual() && len(in.f.Devices.Nodes) < maxDevices {
		in.f.Devices.Nodes = append(in.f.Devices.Nodes, d)
	}
}

// usual: a device every container has (the runtime spec's "Default Devices",
// and terminals of a devpts).
func (d Device) usual() bool {
	if d.Type != "char" {
		// A whiteout of an overlay is 0:0 and opens nothing.
		return false
	}
	if d.Major == 0 && d.Minor == 0 || d.Major == 5 && d.Minor == 2 || d.Major >= 136 && d.Major <= 143 {
		return true
	}
	return slices.ContainsFunc(defaultDevices, func(e struct {
		path         string
		major, minor uint32
	},
	) bool {
		return d.Major == e.major && d.Minor == e.minor
	})
}

// risk says what a device gives away (admin-guide/devices.txt of the kernel).
func (d Device) risk() (what string, s Severity) {
	if d.Type == "block" {
		return "a disk", Critical
	}
	for _, k := range []struct {
		major, from, to uint32
		what            string
		s               Severity
	}{
		{1, 1, 2, "the host's memory", Critical},
		{1, 4, 4, "I/O ports", Critical},
		{1, 11, 11, "the kernel's log", Medium},
		{10, 200, 200, "network tunnels", Low},
		{10, 229, 229, "file systems of its own", Low},
		{10, 232, 232, "virtual machines", Low},
		{10, 231, 231, "the host's hibernation", Critical},
		{10, 236, 237, "the host's disks by other names", Critical},
		{10, 223, 223, "input on the host's behalf", High},
		{10, 196, 196, "other devices, without a driver", High},
		{13, 0, 1 << 20, "keyboards and mice", High},
		{4, 0, 63, "the host's terminals", High},
		{7, 0, 255, "the host's screens", High},
		{29, 0, 255, "the host's screen", High},
		{5, 1, 1, "the host's console", High},
		{21, 0, 255, "disks, by raw commands", Critical},
		{90, 0, 1 << 20, "flash memory", Critical},
		{202, 0, 1 << 20, "the processor's registers", Critical},
	} {
		if d.Major == k.major && d.Minor >= k.from && d.Minor <= k.to {
			return k.what, k.s
		}
	}
	return "a driver of the kernel", Medium
}
