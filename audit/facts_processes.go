package audit

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// members gives the processes of the container: those of its cgroup and the
// cgroups below, and those of its pid and mount namespaces, bounded.
func (l *looker) members() []int {
	if l.pids == nil {
		found := map[int]bool{l.pid: true}
		l.inCgroup(found)
		l.inNamespaces(found)
		l.pids = make([]int, 0, len(found))
		for pid := range found {
			l.pids = append(l.pids, pid)
		}
		slices.Sort(l.pids)
	}
	return l.pids
}

// inCgroup adds the processes of the cgroup's tree. A process in the root of a
// hierarchy has no cgroup of its own.
func (l *looker) inCgroup(found map[int]bool) {
	h, _ := l.groups.of("pids")
	if h.path == "" || h.path == "/" {
		h = l.groups.v2
	}
	if h.path == "" || h.path == "/" {
		return
	}
	dirs := 1024
	err := filepath.WalkDir(h.dir(), func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil //nolint:nilerr // a cgroup that has just gone
		}
		if dirs--; dirs < 0 || len(found) >= maxProcesses {
			return fs.SkipAll
		}
		text, err := l.file(filepath.Join(p, "cgroup.procs"))
		if err != nil {
			// Processes of a threaded cgroup are named by the one above.
			return nil //nolint:nilerr
		}
		for f := range strings.FieldsSeq(text) {
			if pid, err := strconv.Atoi(f); err == nil && pid > 0 && len(found) < maxProcesses {
				found[pid] = true
			}
		}
		return nil
	})
	if err != nil || dirs < 0 {
		l.unread("processes: there are more cgroups than are looked at")
	}
}

// inNamespaces adds processes that are in the container but not in its cgroup.
// The mount namespace is asked for too, because containers of a pod may have
// one pid namespace.
func (l *looker) inNamespaces(found map[int]bool) {
	if l.f.Namespaces["pid"] == "host" || l.f.Namespaces["mount"] == "host" {
		return
	}
	pidNS, err1 := readlink(l.dir, "ns/pid")
	mntNS, err2 := readlink(l.dir, "ns/mnt")
	proc, err3 := os.Open("/proc")
	if errors.Join(err1, err2, err3) != nil {
		return
	}
	defer func() { _ = proc.Close() }()
	for left := maxScan; left > 0 && len(found) < maxProcesses; {
		names, err := proc.Readdirnames(1024)
		left -= len(names)
		for _, name := range names {
			pid, bad := strconv.Atoi(name)
			if bad != nil || found[pid] {
				continue
			}
			if ns, err := readlink(int(proc.Fd()), name+"/ns/pid"); err != nil || ns != pidNS {
				continue
			}
			if ns, err := readlink(int(proc.Fd()), name+"/ns/mnt"); err == nil && ns == mntNS {
				found[pid] = true
			}
		}
		if err != nil {
			return
		}
	}
}

// lookProcesses finds those with more rights than the first.
func (l *looker) lookProcesses() error {
	pids := l.members()
	l.f.Processes.Count = len(pids)
	if len(pids) >= maxProcesses {
		l.unread("processes: there are more than %d", maxProcesses)
	}
	var wider []int
	for _, pid := range pids {
		if pid != l.pid {
			if _, is := l.wider(pid); is {
				wider = append(wider, pid)
			}
		}
	}
	if len(wider) == 0 {
		return nil
	}
	// The runtime's own part of an exec is in the container for a moment,
	// before it gives up what the program will not have.
	time.Sleep(50 * time.Millisecond)
	for wait := 50 * time.Millisecond; wait < time.Second; wait *= 2 {
		if !slices.ContainsFunc(wider, func(pid int) bool {
			w, is := l.wider(pid)
			return is && (strings.HasPrefix(w.Command, "runc") || strings.HasPrefix(w.Command, "crun"))
		}) {
			break
		}
		time.Sleep(wait)
	}
	for _, pid := range wider {
		if w, is := l.wider(pid); is && len(l.f.Processes.Wider) < maxListed {
			l.f.Processes.Wider = append(l.f.Processes.Wider, w)
		}
	}
	return nil
}

// wider compares a process with the first one.
func (l *looker) wider(pid int) (w WiderProcess, is bool) {
	fd, err := openProcess(pid)
	if err != nil {
		return w, false
	}
	defer func() { _ = unix.Close(fd) }()
	o := &attestation{pid: pid, dir: fd, buf: l.buf[:0]}
	b, err := o.read("status")
	if err != nil {
		return w, false
	}
	s, err := parseStatus(b)
	if err != nil || s.state == 'Z' || s.state == 'X' {
		return w, false
	}
	// The number may be another process's by now.
	if !l.ours(o) {
		return w, false
	}
	ns, err := readlink(fd, "ns/user")
	if err != nil {
		return w, false
	}
	w = WiderProcess{PID: pid, Command: printable(s.name), Capabilities: []string{}, Lacks: []string{}}
	switch {
	case slices.Contains(l.above, ns):
		// In a namespace the container's is below of, all capabilities are more.
		w.Capabilities = capNames(s.caps.all())
		w.Lacks = append(w.Lacks, "user_namespace")
	case ns == l.f.userNS:
		w.Capabilities = capNames(s.caps.all() &^ l.f.drift.caps.all())
	default:
		// In a namespace below the container's, capabilities mean less, not more.
	}
	for _, n := range nsFiles {
		kind := string(n.kind)
		if kind == "user" || l.f.Namespaces[kind] != "own" {
			continue
		}
		if theirs, err := readlink(fd, "ns/"+n.file); err == nil && l.hostsNS(n.file, theirs) {
			w.Lacks = append(w.Lacks, kind+"_namespace")
		}
	}
	if l.f.NoNewPrivileges && !s.noNewPrivs {
		w.Lacks = append(w.Lacks, "no_new_privileges")
	}
	if l.f.Seccomp.Mode != "disabled" && s.seccomp == 0 {
		w.Lacks = append(w.Lacks, "seccomp")
	}
	return w, len(w.Capabilities)+len(w.Lacks) > 0
}

// userNamespacesAbove are those the container's user namespace is below of, the
// nearest first. A program can make one for itself and leave others of its
// processes outside.
func userNamespacesAbove(dir int) (out []string) {
	fd, err := unix.Openat(dir, "ns/user", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	const most = 64 // the kernel allows 32
	for i := 0; err == nil && i < most; i++ {
		var up int
		up, err = unix.IoctlRetInt(fd, unix.NS_GET_PARENT)
		_ = unix.Close(fd)
		if err != nil { // there is none that this process may know
			return out
		}
		fd = up
		if name, err := readlink(unix.AT_FDCWD, "/proc/thread-self/fd/"+strconv.Itoa(fd)); err == nil {
			out = append(out, name)
		}
	}
	if err == nil {
		_ = unix.Close(fd)
	}
	return out
}

// ours: the process is still in a cgroup of the container, or its pid
// namespace.
func (l *looker) ours(o *attestation) bool {
	mine, err1 := readlink(l.dir, "ns/pid")
	theirs, err2 := readlink(o.dir, "ns/pid")
	if err1 == nil && err2 == nil && mine == theirs && l.f.Namespaces["pid"] != "host" {
		return true
	}
	b, err := o.read("cgroup")
	if err != nil {
		return false
	}
	v1, v2, err := parseCgroups(string(b))
	if err != nil {
		return false
	}
	h, unified := l.groups.of("pids")
	p := v1["pids"]
	if unified || h.path == "" || h.path == "/" {
		h, p = l.groups.v2, v2
	}
	_, in := below(p, h.path)
	return in && h.path != "/" && h.path != ""
}
