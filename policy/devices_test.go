package policy

import (
	"io/fs"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/spec"
)

// TestDeviceTargets: the names below /dev that every container has.
func TestDeviceTargets(t *testing.T) {
	for name := range strings.FieldsSeq("null zero full random urandom tty console ptmx pts shm mqueue fd stdin stdout stderr core") {
		for _, p := range []string{"/dev/" + name, "/dev/" + name + "/x"} {
			if deviceTarget(p) {
				t.Errorf("%s is free", p)
			}
		}
		if !deviceTarget("/dev/x" + name) {
			t.Errorf("/dev/x%s is not free", name)
		}
	}
}

// TestDevicesAreTold: why a device is refused, and what would permit it.
func TestDevicesAreTold(t *testing.T) {
	dir, file, link, broken := chr(0, 0, "/dev/dir"), chr(0, 0, "/srv/file"), chr(10, 229, "/dev/l"), chr(10, 229, "/dev/b")
	dir.Mode, file.Mode, link.MagicLink, broken.Err = fs.ModeDir|0o755, 0o644, true, "gone\x1b"
	unclean := chr(10, 229, "/dev/fuse")
	unclean.Real = "/dev/x\n"
	for _, c := range []struct {
		with           func(*Request)
		says, or, need string
	}{
		{device(chr(10, 229, "/dev/fuse"), "/dev/fuse", ""), "direct talk", "socket or a volume", "devices: [{path: /dev/fuse, permissions: rwm}]"},
		{device(chr(10, 229, "/dev/fuse"), "/dev/fuse", "r"), "direct talk", "socket or a volume", "devices: [{path: /dev/fuse, permissions: r}]"},
		{device(chr(10, 229, "/srv/fuse"), "/dev/fuse", "r"), "outside /dev", "socket or a volume", ""},
		{device(unclean, "/dev/fuse", "r"), "outside /dev", "socket or a volume", ""},
		{device(spec.Source{Asked: "/dev/n", NotExist: true, Err: "no"}, "/dev/n", "r"), "does not exist", "ls -l", ""},
		{device(broken, "/dev/b", "r"), `it cannot be told what it is: gone\x1b`, "", ""},
		{device(link, "/dev/b", "r"), "it cannot be told what it is", "", ""},
		{device(dir, "/dev/d", "r"), "every device below", "the one device", ""},
		{device(file, "/dev/f", "r"), "it is not a device", "use -v", ""},
		{device(chr(1, 1, "/dev/mem"), "/dev/mem", "r"), "kernel included", "belongs on the host", ""},
		{func(r *Request) { device(chr(10, 229, "/dev/fuse"), "/dev/fuse", "r")(r); r.DeviceSources = nil }, "nobody looked at it", "", ""},
	} {
		r := said(t, c.with)
		if !strings.Contains(r.GivesAway, c.says) || !strings.Contains(r.Safer, c.or) || r.Grant != c.need || !strings.HasPrefix(r.Flag, "--device ") {
			t.Errorf("%+v, want %+v", r, c)
		}
	}
}

// TestSpelledNames: the names a path has by its spelling.
func TestSpelledNames(t *testing.T) {
	for asked, names := range map[string][]string{
		"/a": {"/a"}, "/a/../b": {"/b"}, "/var/run": {"/var/run", "/run"}, "/var/run/x": {"/var/run/x", "/run/x"},
		"/var/lock/x": {"/var/lock/x", "/run/lock/x"}, "/var/runner": {"/var/runner"},
	} {
		if s := Spelled(asked); s.Asked != asked || s.Real != names[len(names)-1] || !slices.Equal(s.Aliases, names) {
			t.Errorf("%s: %+v", asked, s)
		}
	}
	if s := SpelledDevice("/dev/x/../fuse"); s.Real != "/dev/fuse" || !slices.Equal(s.Aliases, []string{"/dev/fuse"}) {
		t.Errorf("%+v", s)
	}
}

// TestSpelledKinds: sockets, devices and directories of devices by their names.
func TestSpelledKinds(t *testing.T) {
	char, block := fs.ModeDevice|fs.ModeCharDevice, fs.ModeDevice
	for p, want := range map[string]struct {
		mode    fs.FileMode
		rdev    uint64
		sockets []string
	}{
		"/srv/x":                {mode: fs.ModeDir},
		"/run":                  {mode: fs.ModeDir},
		"/run/docker.sock.raw":  {mode: fs.ModeDir, sockets: []string{"/run/docker.sock.raw"}},
		"/run/docker.sock":      {mode: fs.ModeSocket, sockets: []string{"/run/docker.sock"}},
		"/run/podman":           {mode: fs.ModeDir, sockets: []string{"/run/podman/podman.sock"}},
		"/srv/app.sock":         {mode: fs.ModeSocket, sockets: []string{"/srv/app.sock"}},
		"/srv/app.socket":       {mode: fs.ModeSocket, sockets: []string{"/srv/app.socket"}},
		"/run/udev/control":     {mode: fs.ModeSocket, sockets: []string{"/run/udev/control"}},
		"/dev/fuse":             {mode: char, rdev: unix.Mkdev(10, 0)},
		"/dev/mem":              {mode: char, rdev: unix.Mkdev(1, 1)},
		"/dev/kmem":             {mode: char, rdev: unix.Mkdev(1, 2)},
		"/dev/port":             {mode: char, rdev: unix.Mkdev(1, 4)},
		"/dev/sda1":             {mode: block, rdev: unix.Mkdev(8, 0)},
		"/dev/mapper/root":      {mode: block, rdev: unix.Mkdev(8, 0)},
		"/dev/mapper/control":   {mode: char, rdev: unix.Mkdev(10, 0)},
		"/dev/disk/by-id/x":     {mode: block, rdev: unix.Mkdev(8, 0)},
		"/dev/disk/by-id":       {mode: fs.ModeDir},
		"/dev/serial/by-path/x": {mode: char, rdev: unix.Mkdev(10, 0)},
		"/dev/snd/controlC0":    {mode: char, rdev: unix.Mkdev(10, 0)},
		"/dev/bus":              {mode: fs.ModeDir},
		"/dev/bus/usb":          {mode: fs.ModeDir},
		"/dev/bus/usb/001":      {mode: fs.ModeDir},
		"/dev/bus/usb/001/002":  {mode: char, rdev: unix.Mkdev(10, 0)},
		"/development/sda":      {mode: fs.ModeDir},
	} {
		s := Spelled(p)
		if s.Mode.Type() != want.mode || s.Rdev != want.rdev || !slices.Equal(s.Sockets, want.sockets) {
			t.Errorf("%s: %v %v %q", p, s.Mode, s.Rdev, s.Sockets)
		}
		if d := SpelledDevice(p); strings.HasPrefix(p, "/dev/") && (d.Mode.Type() != want.mode || d.Rdev != want.rdev) {
			t.Errorf("device %s: %v %v", p, d.Mode, d.Rdev)
		}
	}
	for name := range strings.FieldsSeq("snd dri input shm pts mqueue hugepages block char fd net vfio infiniband serial disk bus") {
		if !deviceDirectory("/dev/" + name) {
			t.Errorf("/dev/%s is not a directory", name)
		}
	}
	for p, want := range map[string]bool{"/dev": true, "/dev/x": false, "/dev/snd/x": false, "/dev/disk/by-id/x": false, "/dev/disk/x": false} {
		if deviceDirectory(p) != want {
			t.Errorf("%s: want %v", p, want)
		}
	}
}
