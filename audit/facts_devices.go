package audit

import (
	"errors"
	"io"
	"os"
	"path"
	"slices"
)

// Bounds of the walk through /dev.
const (
	maxDevEntries = 8192
	maxDevDepth   = 3
	maxDevices    = 256 // listed
)

// devices lists the nodes in /dev that not every container has.
func (in *inside) devices(w *walker) {
	dev, err := w.walk("/dev")
	if err == nil && dev.dir() {
		left := maxDevEntries
		in.devicesIn(w, dev, "/dev", 0, &left)
		if left <= 0 {
			in.unread = append(in.unread, "devices: /dev has too many entries")
		}
	}
	switch {
	case err == nil:
		dev.close()
	case !absent(err):
		in.served = true
		in.unread = append(in.unread, "/dev: "+err.Error())
	}
}

func (in *inside) devicesIn(w *walker, d held, at string, deep int, left *int) {
	if d.entry.fs == "devpts" || d.entry.fs == "mqueue" {
		return
	}
	fd, err := w.list(d)
	if err != nil {
		in.unread = append(in.unread, at+": "+err.Error())
		in.served = in.served || errors.Is(err, errServed)
		return
	}
	dir := os.NewFile(uintptr(fd), at)
	defer func() { _ = dir.Close() }()
	var below []string
	for *left > 0 {
		// Names alone: where a file system does not give types as well, the
		// library would ask for them by the path, which is one of the host's.
		names, err := dir.Readdirnames(min(*left, 512))
		*left -= len(names)
		for _, name := range names {
			if in.device(w, d, name, path.Join(at, name)) && deep < maxDevDepth {
				below = append(below, name)
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				in.unread = append(in.unread, at+": "+err.Error())
			}
			break
		}
	}
	for _, name := range below {
		sub, err := w.step(d, name)
		if err != nil {
			continue // gone meanwhile
		}
		if sub.dir() {
			in.devicesIn(w, sub, path.Join(at, name), deep+1, left)
		}
		sub.close()
	}
}

// device notes a device node. It says whether there is a directory instead.
func (in *inside) device(w *walker, dir held, name, p string) (isDir bool) {
	h, err := w.step(dir, name)
	if err != nil {
		return false // gone meanwhile
	}
	defer h.close()
	in.node(&h.place, p)
	return h.dir()
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
