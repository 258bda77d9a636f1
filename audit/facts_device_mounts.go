package audit

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"
)

// maxDeviceMounts bounds the mounts that are looked at for devices.
const maxDeviceMounts = 512

// mountedDevices lists the devices that are mounted, wherever: what of the
// host's devtmpfs is, a directory with all that lies in it, and single nodes of
// any file system. Other directories are not searched.
func (in *inside) mountedDevices(w *walker, entries []*mountEntry) {
	rank := func(e *mountEntry) int {
		if e.fs == "devtmpfs" {
			return 0
		}
		return 1
	}
	entries = slices.DeleteFunc(slices.Clone(entries), func(e *mountEntry) bool {
		// Only a part of a file system can be a single file.
		return e.fs != "devtmpfs" && (e.root == "/" || remote(e.fs) || slices.Contains([]string{"proc", "sysfs", "devpts", "mqueue", "nsfs", "cgroup", "cgroup2"}, e.fs))
	})
	slices.SortStableFunc(entries, func(a, b *mountEntry) int { return rank(a) - rank(b) })
	for _, e := range entries {
		if in.deviceMounts++; in.deviceMounts > maxDeviceMounts {
			if in.deviceMounts == maxDeviceMounts+1 {
				in.unread = append(in.unread, "devices: there are too many mounts to look for them in all")
			}
			return
		}
		if err := in.mountedDevice(w, e); err != nil {
			in.unread = append(in.unread, "devices at "+printable(e.point)+": "+err.Error())
		}
	}
}

func (in *inside) mountedDevice(w *walker, e *mountEntry) error {
	h, err := w.walk(e.point)
	if err == nil && h.entry.id != e.id {
		h.close()
		err = unix.ENOENT // something else is mounted upon it
	}
	if err != nil {
		if e.fs != "devtmpfs" {
			return nil // it is told as a file of the host
		}
		return in.coveredDevice(w.host, e)
	}
	defer h.close()
	if !h.dir() {
		in.node(&h.place, e.point)
		return nil
	}
	if e.fs != "devtmpfs" {
		return nil
	}
	if from, ok := w.host.path(e); ok && e.root != "/" { // a whole one is told already
		in.bind(bound{point: e.point, from: from, fs: e.fs, writable: writable(e), mapped: e.has("idmapped")})
	}
	if e.point == "/dev" {
		return nil // the walk through it was there
	}
	in.devicesIn(w, h, e.point, 0, &in.devicesLeft)
	if in.devicesLeft <= 0 {
		return errors.New("there are too many")
	}
	return nil
}

// coveredDevice looks at a mount of the devtmpfs that cannot be reached now by
// its place in the container, and can be laid bare: at the same file on the
// host.
func (in *inside) coveredDevice(host hostMounts, e *mountEntry) error {
	from, ok := host.path(e)
	if !ok {
		return errors.New("they cannot be reached")
	}
	var p place
	const mask = unix.STATX_TYPE | unix.STATX_MODE
	if err := unix.Statx(unix.AT_FDCWD, from, unix.AT_SYMLINK_NOFOLLOW|unix.AT_STATX_DONT_SYNC, mask, &p.stat); err != nil {
		return withoutErrno(err) // it is gone from the host, not from the container
	}
	if p.entry = e; p.dir() {
		in.bind(bound{point: e.point, from: from, fs: e.fs, writable: writable(e), mapped: e.has("idmapped")})
		return nil
	}
	in.node(&p, e.point)
	return nil
}

// node notes what is there if it is a device that not every container has.
func (in *inside) node(p *place, at string) {
	d := Device{Path: printable(at), Type: "char", Major: p.stat.Rdev_major, Minor: p.stat.Rdev_minor, Denied: p.entry.has("nodev")}
	switch p.stat.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		d.Type = "block"
	case unix.S_IFCHR:
	default:
		return
	}
	known := slices.ContainsFunc(in.f.Devices.Nodes, func(o Device) bool { return o.Path == d.Path && o.Major == d.Major && o.Minor == d.Minor })
	if !known && !d.usual() && len(in.f.Devices.Nodes) < maxDevices {
		in.f.Devices.Nodes = append(in.f.Devices.Nodes, d)
	}
}

// bind keeps a mount of something of the host's to be judged.
func (in *inside) bind(b bound) {
	if !slices.ContainsFunc(in.binds[max(0, len(in.binds)-maxBinds):], func(o bound) bool { return o == b }) {
		in.binds = append(in.binds, b)
	}
}

// devicesOf looks at another view: at those of its mounts the first has not.
func (in *inside) devicesOf(v mountView, t *mountTable, added []*mountEntry, first *walker) {
	t.root, t.byID = v.root, first.byID
	in.mountedDevices(&walker{t, first.host, first.rootID}, added)
}
