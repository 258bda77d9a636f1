package audit

import (
	"errors"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/policy"
)

// kernelPaths are the files of the kernel that runtimes hide or make
// read-only, and what being able to see or write them means.
var kernelPaths = []struct {
	path  string
	hide  bool // it should be hidden; else it should not be writable
	minor bool // only some runtimes hide it
}{
	{path: "/proc/kcore", hide: true},
	{path: "/proc/keys", hide: true},
	{path: "/proc/latency_stats", hide: true},
	{path: "/proc/timer_list", hide: true},
	{path: "/proc/timer_stats", hide: true},
	{path: "/proc/sched_debug", hide: true},
	{path: "/proc/scsi", hide: true},
	{path: "/proc/acpi", hide: true},
	{path: "/sys/firmware", hide: true},
	{path: "/sys/devices/virtual/powercap", hide: true, minor: true},
	{path: "/proc/asound", hide: true, minor: true},
	{path: "/proc/interrupts", hide: true, minor: true},
	{path: "/proc/kallsyms", hide: true, minor: true},
	{path: "/proc/key-users", hide: true, minor: true},
	{path: "/proc/kmsg", hide: true, minor: true},
	{path: "/proc/sys"},
	{path: "/proc/sysrq-trigger"},
	{path: "/proc/irq"},
	{path: "/proc/bus"},
	{path: "/proc/fs"},
	{path: "/sys"},
	{path: "/sys/kernel"},
}

// kernelMounts are file systems that are one for the whole host, whoever
// mounts them.
var kernelMounts = []string{"cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "bpf", "configfs", "pstore", "efivarfs", "selinuxfs", "binfmt_misc", "resctrl"}

// remote are file systems a server answers for, perhaps one in the container:
// nothing is looked up in them.
func remote(fs string) bool {
	name, _, _ := strings.Cut(fs, ".")
	return slices.Contains([]string{"fuse", "fuseblk", "nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "afs", "coda", "autofs", "lustre", "beegfs", "gpfs", "davfs", "glusterfs"}, name)
}

// inside is what is found by going into the container's file systems, apart
// from the other facts because the goroutine that fills it may never end.
type inside struct {
	f      Facts
	unread []string
	err    error
	binds  []bound
}

// lookMounts reads the mounts and what lies at well-known places.
func (l *looker) lookMounts() error {
	if l.f.Namespaces["mount"] == "host" {
		// Then there is nothing that could be told apart from the host's.
		l.f.Root.HostPath = "/"
		return nil
	}
	dir, err := unix.Openat(l.dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	host := readHostMounts()
	done := make(chan inside, 1)
	ownNet := l.f.Namespaces["network"] != "host"
	go func() {
		defer func() { _ = unix.Close(dir) }()
		done <- lookInside(dir, host, ownNet)
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case in := <-done:
		if in.err != nil {
			return in.err
		}
		l.f.Root, l.f.Mounts, l.f.Devices.Nodes = in.f.Root, in.f.Mounts, in.f.Devices.Nodes
		l.f.drift.mounts, l.f.drift.truncated, l.f.drift.paths = in.f.drift.mounts, in.f.drift.truncated, in.f.drift.paths
		for _, u := range in.unread {
			l.unread("%s", u)
		}
		l.judgeBinds(in.binds)
	case <-timer.C:
		l.unread("mounts and devices: a file system of the container does not answer")
	}
	return nil
}

// hostMounts are the mounts of this program's own mount namespace.
type hostMounts struct {
	byDev map[string][]mountEntry
	peers map[string]bool
	known bool
}

func readHostMounts() hostMounts {
	h := hostMounts{byDev: map[string][]mountEntry{}, peers: map[string]bool{}}
	n := 0
	_, err := eachLine(unix.AT_FDCWD, "/proc/thread-self/mountinfo", func(line []byte) bool {
		e, err := parseMount(string(line))
		if err != nil {
			return true
		}
		if e.shared {
			h.peers[e.peers] = true
		}
		h.byDev[e.dev] = append(h.byDev[e.dev], e)
		n++
		return n < 5*maxMounts
	})
	h.known = err == nil
	return h
}

// path gives where on the host a mount of the container comes from.
func (h hostMounts) path(e *mountEntry) (string, bool) {
	best := ""
	for _, m := range h.byDev[e.dev] {
		rel, ok := below(e.root, m.root)
		if !ok {
			continue
		}
		if p := path.Join(m.point, rel); best == "" || len(p) < len(best) {
			best = p
		}
	}
	return best, best != ""
}

// below says whether p is dir or lies in it, and gives the rest.
func below(p, dir string) (rel string, ok bool) {
	if p == dir {
		return "", true
	}
	return strings.CutPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

func lookInside(dir int, host hostMounts, ownNet bool) (in inside) {
	f := &in.f
	f.Mounts = Mounts{
		WritableExecutable: []string{}, Host: []HostMount{}, Shared: []string{}, Receiving: []string{},
		WritableKernel: []string{}, Unmasked: []string{},
	}
	f.Devices.Nodes = []Device{}
	t := &mountTable{byID: map[uint64]*mountEntry{}}
	complete, err := eachLine(dir, "mountinfo", func(line []byte) bool {
		f.Mounts.Count++
		if len(t.entries) >= maxMounts {
			return true
		}
		e, err := parseMount(string(line))
		if err == nil {
			t.entries = append(t.entries, e)
		}
		return true
	})
	if err != nil {
		in.err = err
		return in
	}
	if !complete || f.Mounts.Count > len(t.entries) {
		f.drift.truncated = true
		in.unread = append(in.unread, "mounts: there are too many to look at all of them")
	}
	f.drift.mounts = make(map[string]mountEntry, len(t.entries))
	for i := range t.entries {
		t.byID[t.entries[i].id] = &t.entries[i]
		f.drift.mounts[t.entries[i].point] = t.entries[i] // the last one is on top
	}
	t.root, err = unix.Openat(dir, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		in.err = pathError("root", err)
		return in
	}
	defer func() { _ = unix.Close(t.root) }()

	in.root(t, host)
	for _, e := range f.drift.mounts {
		in.mount(&e, host)
	}
	in.kernel(t, host, ownNet)
	for _, s := range []*[]string{&f.Mounts.WritableExecutable, &f.Mounts.Shared, &f.Mounts.Receiving} {
		slices.Sort(*s)
	}
	slices.SortFunc(in.binds, func(a, b bound) int { return strings.Compare(a.point, b.point) })
	in.devices(t)
	return in
}

func (in *inside) root(t *mountTable, host hostMounts) {
	p, err := t.lookFD(t.root)
	if err != nil {
		in.unread = append(in.unread, "root file system: "+err.Error())
		return
	}
	in.f.Root.ReadOnly = !writable(p.entry)
	in.f.Root.FileSystem = printable(p.entry.fs)
	// A container whose root is the host's: by the same mount of the same
	// file system, not by a directory in it.
	if from, ok := host.path(p.entry); ok && from == "/" {
		in.f.Root.HostPath = "/"
	}
}

// writable: neither the mount nor the file system is read-only.
func writable(e *mountEntry) bool { return !e.has("ro") && !slices.Contains(e.super, "ro") }

// mount looks at one entry of the table.
func (in *inside) mount(e *mountEntry, host hostMounts) {
	m := &in.f.Mounts
	if e.point == "/" {
		if e.shared && host.peers[e.peers] {
			list(&m.Shared, "/")
		}
		return
	}
	virtual := slices.Contains([]string{"proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "nsfs"}, e.fs) || slices.Contains(kernelMounts, e.fs)
	// A mask is a device node, bound over a file of the kernel.
	_, inProc := below(e.point, "/proc")
	_, inSys := below(e.point, "/sys")
	mask := e.fs == "tmpfs" && e.root != "/" && (inProc || inSys)
	if !virtual && writable(e) && !e.has("noexec") && !deviceNode(e) && !mask {
		list(&m.WritableExecutable, e.point)
	}
	switch {
	case e.shared && host.peers[e.peers]:
		list(&m.Shared, e.point)
	case e.slave:
		list(&m.Receiving, e.point)
	}
	if slices.Contains(kernelMounts, e.fs) && writable(e) {
		list(&m.WritableKernel, e.point)
	}
	if virtual && e.fs != "proc" && e.fs != "sysfs" || deviceNode(e) {
		return
	}
	// proc and sysfs are the host's if they are mounted there as well; they
	// are so by right in a container with the host's namespace.
	if from, ok := host.path(e); ok && len(in.binds) < maxBinds {
		in.binds = append(in.binds, bound{
			point: e.point, from: from, fs: e.fs, root: e.root, writable: writable(e), mapped: e.has("idmapped"),
		})
	}
}

// deviceNode: a bind of a single device of the host, as runtimes make it in a
// user namespace. It is looked at with the devices.
func deviceNode(e *mountEntry) bool {
	return (e.fs == "devtmpfs" || e.fs == "devpts") && e.root != "/"
}

// kernel looks at the files of the kernel.
func (in *inside) kernel(t *mountTable, host hostMounts, ownNet bool) {
	in.f.drift.paths = map[string]pathState{}
	m := &in.f.Mounts
	for _, k := range kernelPaths {
		state := in.state(t, k.path)
		in.f.drift.paths[k.path] = state
		switch {
		case state != pathReadOnly && state != pathWritable:
		case k.hide && !k.minor:
			list(&m.Unmasked, k.path)
		case !k.hide && state == pathWritable:
			list(&m.WritableKernel, k.path)
		}
	}
}

// state tells how a path of the kernel's files can be reached.
func (in *inside) state(t *mountTable, p string) pathState {
	if e := in.covering(p); e != nil && remote(e.fs) {
		return pathUnknown
	}
	at, err := t.look(p)
	switch {
	case absent(err):
		return pathAbsent
	case err != nil:
		return pathUnknown
	case at.rdev(1, 3), at.entry.fs == "tmpfs" && at.at() && !writable(at.entry):
		return pathHidden
	case !slices.Contains([]string{"proc", "sysfs"}, at.entry.fs):
		return pathAbsent // something of the container's own
	case writable(at.entry):
		return pathWritable
	}
	return pathReadOnly
}

// covering gives the mount a path lies in by its spelling.
func (in *inside) covering(p string) *mountEntry {
	for ; ; p = path.Dir(p) {
		if e, ok := in.f.drift.mounts[p]; ok && (p != "/" || !remote(e.fs)) {
			return &e
		}
		if p == "/" {
			return nil
		}
	}
}

// bound is a mount of something of the host's.
type bound struct {
	point, from, fs, root string
	writable, mapped      bool
}

// maxBinds bounds what is judged: each one is searched for sockets.
const maxBinds = 64

// judgeBinds asks the policy what each would give away.
func (l *looker) judgeBinds(binds []bound) {
	known := policy.KnownPaths()
	deadline := time.Now().Add(patience)
	for _, b := range binds {
		if b.fs == "proc" && l.f.Namespaces["pid"] == "host" || b.fs == "sysfs" && l.f.Namespaces["network"] == "host" {
			continue // by right: told with the namespace
		}
		h := HostMount{Target: printable(b.point), Source: printable(b.from), Writable: b.writable, IDMapped: b.mapped}
		c, err := judgeBind(b, known, time.Now().After(deadline))
		if err != nil {
			l.unread("%s: %v", b.from, err)
		}
		if !engineOwn(b, c.id) {
			h.Concern, h.GivesAway = c.id, printable(c.why)
		}
		l.f.Mounts.Host = append(l.f.Mounts.Host, h)
	}
	if len(binds) == maxBinds {
		l.unread("binds: there are more than %d", maxBinds)
	}
}

var errUnjudged = errors.New("not looked at: it took too long")
