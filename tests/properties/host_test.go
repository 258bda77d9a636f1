package properties

import (
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// files are what the command line can read, below the caller's directory.
func files() map[string]string {
	return map[string]string{
		"env": "A=file\nHOME\nNOTHERE\n", "labels": "a=file\nbare\n", "secret": "s3cret",
		"profile.json": `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read","write","exit_group","execve","socket","clone"],"action":"SCMP_ACT_ALLOW"}]}`,
		"open.json":    `{"defaultAction":"SCMP_ACT_ALLOW"}`,
		"bad.json":     `{"defaultAction":`,
	}
}

const home = "/home/me"

func readFile(name string, _ int64) ([]byte, error) {
	rel, below := strings.CutPrefix(filepath.Clean(name), home+"/")
	if text, ok := files()[rel]; ok && below {
		return []byte(text), nil
	}
	return nil, fail.Wrap(fail.NotFound, fs.ErrNotExist, "%q", name)
}

func lookupEnv(name string) (string, bool) {
	v, ok := map[string]string{"HOME": home, "EMPTY": ""}[name]
	return v, ok
}

// sourceOf is what stands at a path of the host.
func sourceOf(asked string) spec.Source {
	p := filepath.Clean(asked)
	s := spec.Source{Asked: asked, Real: p, Runtime: "/proc/4711/fd/9", Mode: fs.ModeDir | 0o755, FS: "ext4", Magic: 0xef53, Aliases: []string{p}}
	kernel := func(tree, name string, magic int64) {
		if p == tree || strings.HasPrefix(p, tree+"/") {
			s.FS, s.Magic = name, magic
		}
	}
	kernel("/proc", "proc", 0x9fa0)
	kernel("/sys", "sysfs", 0x62656572)
	if rest, ok := strings.CutPrefix(p, "/var/run"); ok && (rest == "" || rest[0] == '/') {
		s.Real = "/run" + rest
		s.Aliases = []string{s.Real}
	}
	switch s.Real {
	case "/run/docker.sock":
		s.Mode, s.Sockets = fs.ModeSocket|0o660, []string{s.Real}
	case "/srv/sock": // the same socket by another name
		s.Mode, s.Sockets, s.Aliases = fs.ModeSocket|0o660, []string{s.Real}, []string{p, "/run/docker.sock"}
	case "/srv/dbus":
		s.Sockets = []string{"/srv/dbus/bus.sock"}
	case "/srv/file":
		s.Mode = 0o644
	case "/srv/fifo":
		s.Mode = fs.ModeNamedPipe | 0o600
	case "/srv/missing", "/dev/none":
		s = spec.Source{Asked: asked, Err: "does not exist", NotExist: true}
	case "/srv/link":
		s.Real, s.Aliases = "/etc", []string{"/etc"}
	case "/srv/magic":
		s.MagicLink, s.Err = true, "magic"
	case "/srv/holds": // another mount of the directory with the keys
		s.Above = []string{"/etc/ssh"}
	case "/srv/deep":
		s.Submounts = []spec.Submount{{Path: "/srv/deep/etc", FS: "ext4", Aliases: []string{"/etc"}, Mounted: true}}
	case "/srv/layer":
		s.Overlay = "/run/c/1/rootfs"
	case "/dev/sda":
		s.Mode, s.Rdev = fs.ModeDevice|0o660, unix.Mkdev(8, 0)
	}
	for name, dev := range map[string][2]uint32{
		"/dev/fuse": {10, 229}, "/dev/net/tun": {10, 200}, "/dev/kvm": {10, 232}, "/dev/mem": {1, 1}, "/dev/alias": {1, 2}, "/dev/null": {1, 3},
	} {
		if s.Real == name {
			s.Mode, s.Rdev, s.FS = fs.ModeDevice|fs.ModeCharDevice|0o666, unix.Mkdev(dev[0], dev[1]), "devtmpfs"
		}
	}
	return s
}

// hosts are what kernels can do.
func hosts() []spec.Features {
	modern := spec.Features{
		Arch: "amd64", Kernel: [2]int{6, 12}, CgroupV2: true,
		Controllers: map[string]bool{"memory": true, "pids": true, "cpu": true, "cpuset": true, "io": true},
		SwapLimit:   true, Seccomp: true, CPUs: 4, CPUSet: "0-3", MemSet: "0", NofileHard: 1 << 20, HasResource: true, IPv6: true,
		MaskPaths: []string{"/sys/devices/system/cpu/cpu0/thermal_throttle"},
	}
	apparmor, selinux, v1, narrow := modern, modern, modern, modern
	apparmor.AppArmor = true
	selinux.SELinux = true
	v1.CgroupV2, v1.IPv6 = false, false
	v1.Controllers = map[string]bool{"memory": true, "pids": true, "cpu": true, "cpuset": true, "blkio": true, "devices": true}
	narrow.NofileHard, narrow.HasResource, narrow.CPUs, narrow.CPUSet = 4096, false, 2, "0-1"
	return []spec.Features{modern, apparmor, selinux, v1, narrow}
}

// accounts are the image's.
const (
	passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"
	groups = "root:x:0:\naudio:x:29:app\napp:x:1000:\n"
)
