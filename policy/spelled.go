package policy

import (
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/lazyre"
	"github.com/safe-run/safe-run/spec"
)

// ReviewSpelled judges a workload for another host than this one, before its
// image is known: paths and devices go by their spelling (see Spelled), files of
// system calls are not looked into, and AppArmor is taken to be there.
func ReviewSpelled(w spec.Workload, site Site) []Refusal {
	rq := Request{
		Workload: w, Site: site, Profile: w.Profile, Provisional: true,
		Host:    spec.Features{AppArmor: true},
		Sources: map[int]spec.Source{}, DeviceSources: map[int]spec.Source{},
		CheckSeccomp: func([]byte) error { return nil },
	}
	for i, m := range w.Mounts {
		if m.Type == spec.MountBind {
			rq.Sources[i] = Spelled(m.Source)
		}
	}
	for i, d := range w.Devices {
		if !d.CDI {
			rq.DeviceSources[i] = SpelledDevice(d.Host)
		}
	}
	_, refusals := Review(rq)
	return refusals
}

// Spelled gives the facts of a bind source as far as its spelling tells: for a
// launch that is judged on another host than its own, where nothing can be
// looked at. Paths of the tables and names of sockets are known; anything else
// is taken for an ordinary directory. It is no substitute for looking: a link
// or a mount makes any path another.
func Spelled(source string) spec.Source {
	p := path.Clean(source)
	s := spec.Source{Asked: source, Real: p, Aliases: []string{p}, Mode: fs.ModeDir | 0o755}
	// Links every distribution has.
	for _, link := range [][2]string{{"/var/run", "/run"}, {"/var/lock", "/run/lock"}} {
		if rel, ok := strings.CutPrefix(p, link[0]); ok && (rel == "" || rel[0] == '/') {
			s.Real = link[1] + rel
			s.Aliases = append(s.Aliases, s.Real)
		}
	}
	for _, sock := range engineSockets() {
		// A directory with nothing but an engine's sockets. /run holds them as
		// well, but is a system directory whether there is an engine or not.
		held := path.Dir(sock) == s.Real && s.Real != "/run"
		if sock == s.Real || held {
			s.Sockets = appendNew(s.Sockets, sock)
		}
	}
	if ext := path.Ext(s.Real); ext == ".sock" || ext == ".socket" || slices.Contains(otherSockets(), s.Real) {
		s.Mode = fs.ModeSocket | 0o660
		s.Sockets = appendNew(s.Sockets, s.Real)
	}
	if relate(s.Real, "/dev") == inside && !deviceDirectory(s.Real) {
		s.Mode, s.Rdev = deviceMode(s.Real)
	}
	return s
}

// SpelledDevice gives the facts of a device's path as far as its spelling tells.
func SpelledDevice(host string) spec.Source {
	p := path.Clean(host)
	s := spec.Source{Asked: host, Real: p, Aliases: []string{p}, Mode: fs.ModeDir | 0o755}
	if !deviceDirectory(p) {
		s.Mode, s.Rdev = deviceMode(p)
	}
	return s
}

// deviceDirectory knows the directories below /dev.
func deviceDirectory(p string) bool {
	if p == "/dev" {
		return true
	}
	first, rest, _ := strings.Cut(strings.TrimPrefix(p, "/dev/"), "/")
	switch first {
	case "snd", "dri", "input", "shm", "pts", "mqueue", "hugepages", "block", "char", "fd", "net", "vfio", "infiniband", "serial", "disk":
		return rest == "" || strings.HasPrefix(rest, "by-") && !strings.Contains(rest, "/")
	case "bus":
		return strings.Count(rest, "/") < 2 // bus/usb/001/002
	}
	return false
}

// deviceMode tells disks and memory from other devices by the names the kernel
// and udev give them (admin-guide/devices.txt).
func deviceMode(p string) (fs.FileMode, uint64) {
	name := strings.TrimPrefix(p, "/dev/")
	switch name {
	case "mem":
		return fs.ModeDevice | fs.ModeCharDevice | 0o640, unix.Mkdev(1, 1)
	case "kmem":
		return fs.ModeDevice | fs.ModeCharDevice | 0o640, unix.Mkdev(1, 2)
	case "port":
		return fs.ModeDevice | fs.ModeCharDevice | 0o640, unix.Mkdev(1, 4)
	}
	if diskName().MatchString(name) && name != "mapper/control" {
		return fs.ModeDevice | 0o660, unix.Mkdev(8, 0)
	}
	return fs.ModeDevice | fs.ModeCharDevice | 0o660, unix.Mkdev(10, 0)
}

// diskName are block devices; nvme0 is a controller, nvme0n1 its disk.
var diskName = lazyre.New(`^((sd|hd|vd|xvd)[a-z]+[0-9]*|(sr|md|dm-|loop|nbd|ram|zram|zd|rbd|bcache|drbd|pmem|fd)[0-9]+(p[0-9]+)?|nvme[0-9]+n.*|mmcblk[0-9].*|(mapper|disk|block)/.+)$`)
