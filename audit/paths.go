package audit

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// masked: each masked path that exists is hidden, a file behind the null
// device, a directory behind an empty read-only tmpfs.
func (a *attestation) masked(t *mountTable) {
	for _, m := range unique(a.spec.Linux.MaskedPaths) {
		p, err := t.look(m)
		if absent(err) {
			continue
		}
		what := fmt.Sprintf("masked %.200q", m)
		switch {
		case err != nil:
			a.differ(what, "hidden", err.Error())
		case !p.at():
			a.differ(what, "hidden", "visible")
		case p.dir() && (p.entry.fs != "tmpfs" || !p.entry.has("ro")):
			a.differ(what, "a read-only tmpfs", p.entry.fs+" "+strings.Join(p.entry.options, ","))
		case !p.dir() && !p.rdev(1, 3):
			a.differ(what, "the null device", "another file")
		default:
			t.claims[p.entry.point]++
		}
	}
}

// readonly: each read-only path that exists cannot be written through.
func (a *attestation) readonly(t *mountTable) {
	for _, m := range unique(a.spec.Linux.ReadonlyPaths) {
		p, err := t.look(m)
		if absent(err) {
			continue
		}
		what := fmt.Sprintf("read-only %.200q", m)
		if err != nil {
			a.differ(what, "ro", err.Error())
			continue
		}
		if !p.entry.has("ro") {
			a.differ(what, "ro", strings.Join(p.entry.options, ","))
		}
		if p.at() {
			t.claims[p.entry.point]++
		}
	}
}

// defaultDevices are those the runtime adds to every container ("Default
// Devices" of the runtime spec). In a user namespace they are bound from the
// host. The numbers are those of the kernel's devices.txt.
var defaultDevices = []struct {
	path         string
	major, minor uint32
}{
	{"/dev/null", 1, 3},
	{"/dev/zero", 1, 5},
	{"/dev/full", 1, 7},
	{"/dev/random", 1, 8},
	{"/dev/urandom", 1, 9},
	{"/dev/tty", 5, 0},
}

// devices: a device node is the one its name promises.
func (a *attestation) devices(t *mountTable) {
	for _, d := range defaultDevices {
		a.device(t, d.path, unix.S_IFCHR, d.major, d.minor)
	}
	for _, d := range a.spec.Linux.Devices {
		if slices.ContainsFunc(defaultDevices, func(e struct {
			path         string
			major, minor uint32
		},
		) bool {
			return e.path == path.Clean(d.Path)
		}) {
			continue
		}
		kind := uint16(unix.S_IFCHR)
		if d.Type == "b" {
			kind = unix.S_IFBLK
		}
		if d.Type == "p" {
			continue
		}
		a.device(t, path.Clean(d.Path), kind, uint32(d.Major), uint32(d.Minor))
	}
	if !a.spec.Process.Terminal {
		return
	}
	p, err := t.look("/dev/console")
	switch {
	case err != nil:
		a.differ("/dev/console", "there", err.Error())
	case !p.at() || p.entry.fs != "devpts" || p.stat.Rdev_major < 136 || p.stat.Rdev_major > 143:
		a.differ("/dev/console", "a pseudo terminal", fmt.Sprintf("%d:%d of %s", p.stat.Rdev_major, p.stat.Rdev_minor, p.entry.fs))
	default:
		t.claims[p.entry.point]++
	}
}

func (a *attestation) device(t *mountTable, name string, kind uint16, major, minor uint32) {
	what := fmt.Sprintf("device %.200q", name)
	p, err := t.look(name)
	if err != nil {
		a.differ(what, "there", err.Error())
		return
	}
	if p.stat.Mode&unix.S_IFMT != kind || p.stat.Rdev_major != major || p.stat.Rdev_minor != minor {
		a.differ(what, fmt.Sprintf("%d:%d", major, minor), fmt.Sprintf("mode %#o, %d:%d", p.stat.Mode, p.stat.Rdev_major, p.stat.Rdev_minor))
	}
	// A mount of the user's at the same place is counted with the spec's.
	if p.at() && t.claims[p.entry.point] == 0 {
		t.claims[p.entry.point]++
	}
}

// unique gives each path once, in its shortest form.
func unique(paths []string) []string {
	out := make([]string, 0, len(paths))
	for _, p := range paths {
		if p = path.Clean(p); !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}
