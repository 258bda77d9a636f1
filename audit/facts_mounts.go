package audit

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
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
	root   mountEntry // what the root is in
	served bool       // some paths lead into file systems that a program answers for

	devicesLeft, deviceMounts int // what is left to look at for devices; what was
}

// lookMounts reads the mounts and what lies at well-known places.
func (l *looker) lookMounts() error {
	if l.f.Namespaces["mount"] == "host" {
		// Then there is nothing that could be told apart from the host's.
		l.f.Root.HostPath = "/"
		return nil
	}
	first, more, err := l.views()
	if err != nil {
		return err
	}
	host := readHostMounts()
	done := make(chan inside, 1)
	go func() {
		defer func() {
			for _, v := range append(more, first) {
				v.close()
			}
		}()
		done <- lookInside(first, more, host)
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
		l.f.MountsUnread = in.served || in.f.drift.truncated
		l.denied()
		for _, u := range in.unread {
			l.unread("%s", u)
		}
		l.judgeBinds(in.binds)
	case <-timer.C:
		l.f.MountsUnread = true
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

// lookInside looks at the mounts of the first view, and at those of others that
// it does not show.
func lookInside(first mountView, more []mountView, host hostMounts) (in inside) {
	f := &in.f
	f.Mounts = Mounts{
		WritableExecutable: []string{}, Host: []HostMount{}, Shared: []string{}, Receiving: []string{},
		WritableKernel: []string{}, Unmasked: []string{},
	}
	f.Devices.Nodes = []Device{}
	t := &mountTable{byID: map[uint64]*mountEntry{}}
	if in.err = in.table(first.table, t); in.err != nil {
		return in
	}
	f.drift.mounts = make(map[string]mountEntry, len(t.entries))
	for i := range t.entries {
		t.byID[t.entries[i].id] = &t.entries[i]
		f.drift.mounts[t.entries[i].point] = t.entries[i] // the last one is on top
	}
	t.root = first.root
	in.rootOf(t, host)
	// What something else is mounted upon counts too: it can be laid bare.
	for i := range t.entries {
		in.mount(&t.entries[i], host)
	}
	w := &walker{t, host, in.root.id}
	in.kernel(w)
	in.devices(w)
	in.devicesLeft = maxDevEntries
	var all []*mountEntry
	for i := range t.entries {
		all = append(all, &t.entries[i])
	}
	in.mountedDevices(w, all)

	for _, v := range more {
		other := &mountTable{}
		if err := in.table(v.table, other); err != nil {
			continue // its process has ended
		}
		all = nil
		for i := range other.entries {
			if e := &other.entries[i]; t.byID[e.id] == nil && len(t.byID) < 2*maxMounts {
				t.byID[e.id] = e
				in.mount(e, host)
				all = append(all, e)
			}
		}
		in.devicesOf(v, other, all, w)
	}
	slices.SortFunc(f.Devices.Nodes, func(a, b Device) int { return strings.Compare(a.Path, b.Path) })
	for _, s := range []*[]string{&f.Mounts.WritableExecutable, &f.Mounts.Shared, &f.Mounts.Receiving, &f.Mounts.WritableKernel} {
		slices.Sort(*s)
	}
	return in
}

// table reads a table of mounts.
func (in *inside) table(fd int, t *mountTable) error {
	copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(copied), "mountinfo")
	defer func() { _ = file.Close() }()
	n := 0
	complete, err := scanLines(io.LimitReader(file, maxTable+1), func(line []byte) bool {
		n++
		if len(t.entries) >= maxMounts {
			return true
		}
		e, err := parseMount(string(line))
		if err == nil {
			t.entries = append(t.entries, e)
		}
		return true
	})
	in.f.Mounts.Count = max(in.f.Mounts.Count, n)
	if err == nil && (!complete || n > len(t.entries)) && !in.f.drift.truncated {
		in.f.drift.truncated = true
		in.unread = append(in.unread, "mounts: there are too many to look at all of them")
	}
	return err
}

func (in *inside) rootOf(t *mountTable, host hostMounts) {
	p, err := t.lookFD(t.root)
	if err != nil {
		in.served = true
		in.unread = append(in.unread, "root file system: "+err.Error())
		return
	}
	in.root = *p.entry
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
	if e.point == "/" && (e.fs == "overlay" || e.dev == in.root.dev && e.root == in.root.root || in.root.dev == "") {
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
	if from, ok := host.path(e); ok {
		in.bind(bound{point: e.point, from: from, fs: e.fs, writable: writable(e), mapped: e.has("idmapped")})
	}
}

// deviceNode: a part of the host's devices, most often a single one, as runtimes
// bind it in a user namespace. It is looked at with the devices.
func deviceNode(e *mountEntry) bool {
	return (e.fs == "devtmpfs" || e.fs == "devpts") && e.root != "/"
}

// kernel looks at the files of the kernel.
func (in *inside) kernel(w *walker) {
	in.f.drift.paths = map[string]pathState{}
	m := &in.f.Mounts
	for _, k := range kernelPaths {
		state, err := in.state(w, k.path)
		in.f.drift.paths[k.path] = state
		switch {
		case state == pathUnknown:
			in.served = true
			in.unread = append(in.unread, fmt.Sprintf("%s: %v", k.path, err))
		case state != pathReadOnly && state != pathWritable:
		case k.hide && !k.minor:
			list(&m.Unmasked, k.path)
		case !k.hide && state == pathWritable:
			list(&m.WritableKernel, k.path)
		}
	}
}

// state tells how a path of the kernel's files can be reached.
func (in *inside) state(w *walker, p string) (pathState, error) {
	at, err := w.walk(p)
	switch {
	case absent(err):
		return pathAbsent, nil
	case err != nil:
		return pathUnknown, err
	}
	defer at.close()
	switch {
	case at.rdev(1, 3), at.entry.fs == "tmpfs" && at.at() && !writable(at.entry):
		return pathHidden, nil
	case !slices.Contains([]string{"proc", "sysfs"}, at.entry.fs):
		return pathAbsent, nil // something of the container's own
	case writable(at.entry):
		return pathWritable, nil
	}
	return pathReadOnly, nil
}

// bound is a mount of something of the host's.
type bound struct {
	point, from, fs  string
	writable, mapped bool
}

// maxBinds bounds what is judged: each one is searched for sockets.
const maxBinds = 64

// judgeBinds asks the policy what each would give away. If there are too many,
// those that are bad by their name come first: a container that can mount may
// bind what is harmless as often as it likes.
func (l *looker) judgeBinds(binds []bound) {
	known := policy.KnownPaths()
	deadline := time.Now().Add(patience)
	if len(binds) > maxBinds {
		l.unread("binds: there are more than %d", maxBinds)
		bad := map[bound]int{}
		for _, b := range binds {
			if _, there := bad[b]; !there {
				c, _ := judgeBind(b, known, true)
				bad[b] = rankOf(c.id)
			}
		}
		slices.SortStableFunc(binds, func(a, b bound) int { return cmp.Compare(bad[a], bad[b]) })
		binds = binds[:maxBinds]
	}
	slices.SortStableFunc(binds, func(a, b bound) int { return strings.Compare(a.point, b.point) })
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
}

var errUnjudged = errors.New("not looked at: it took too long")
