package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// Bounds of what is read of one container: it may have as many mounts,
// processes and sockets as its owner likes, and all of them cost the auditor.
const (
	maxMounts    = 20000   // kept of a mount table
	maxProcesses = 4096    // looked at
	maxScan      = 1 << 17 // entries of /proc gone through
	maxListed    = 64      // entries of a list in Facts
	maxLine      = 64 << 10
	maxTable     = 64 << 20 // bytes of a table in procfs
	// patience is how long the container's file systems may take to answer.
	// One of them may be served by the container itself.
	patience = 10 * time.Second
)

// looker reads one container.
type looker struct {
	*attestation
	f      *Facts
	groups cgroupPlaces
	pids   []int             // the container's processes, once looked for
	above  []string          // user namespaces the first process's is below of
	hostNS map[string]string // the host's namespaces, by their place in /proc

	mayOpen func(Device) bool // what the cgroup's rules say; nil: not known
}

func look(pid int) (*Facts, error) {
	fd, err := openProcess(pid)
	if err != nil {
		return nil, lookError(pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	l := &looker{
		attestation: &attestation{pid: pid, dir: fd, phase: Started, buf: make([]byte, 0, 64<<10)},
		hostNS:      map[string]string{},
		f: &Facts{
			PID: pid, Namespaces: map[string]string{}, Unread: []string{}, AbstractSockets: []string{}, Ports: []Port{},
			Processes: Processes{Wider: []WiderProcess{}},
			Mounts: Mounts{
				WritableExecutable: []string{}, Host: []HostMount{}, Shared: []string{}, Receiving: []string{},
				WritableKernel: []string{}, Unmasked: []string{},
			},
			Devices: Devices{Nodes: []Device{}, Rules: "unknown", Allowed: []string{}},
		},
	}
	for _, step := range []func() error{
		l.lookStarted, l.lookStatus, l.lookIDs, l.lookNamespaces, l.lookLSM, l.lookRlimits, l.lookOOM,
		l.lookCgroups, l.lookMounts, l.lookNetwork, l.lookProcesses, l.lookFilters,
	} {
		if err := step(); err != nil {
			return nil, lookError(pid, err)
		}
	}
	// What was read of a process on its way out, whose namespaces and cgroup
	// are gone, is no account of the container.
	if l.ended() {
		return nil, lookError(pid, errGone)
	}
	return l.f, nil
}

// LookNeighbour reads what Grade must know of another container. Errors are
// those of Look.
func LookNeighbour(id string, pid int) (Neighbour, error) {
	n := Neighbour{ID: id, PID: pid}
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return n, lookError(pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	a := &attestation{pid: pid, dir: fd, buf: make([]byte, 0, 4096)}
	b, err := a.read("uid_map")
	if err == nil {
		n.UIDMap, err = parseIDMap(b)
	}
	if err == nil {
		n.UserNS, err = readlink(fd, "ns/user")
	}
	return n, lookError(pid, err)
}

func lookError(pid int, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errGone), errors.Is(err, unix.ESRCH), errors.Is(err, unix.ENOENT):
		return fail.New(fail.NotFound, "process %d has ended", pid)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fail.Wrap(fail.Internal, err, "asking the kernel about process %d (it must be done by root of the host)", pid)
	}
	return fail.Wrap(fail.Internal, err, "asking the kernel about process %d", pid)
}

// unread notes what could not be read.
func (l *looker) unread(format string, args ...any) {
	if len(l.f.Unread) < maxListed {
		l.f.Unread = append(l.f.Unread, printable(fmt.Sprintf(format, args...)))
	}
}

// eachLine reads a table of procfs line by line, so that its length costs
// time but no memory. It stops without an error when visit gives false.
func eachLine(dir int, name string, visit func(line []byte) bool) (complete bool, err error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, pathError(name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer func() { _ = f.Close() }()
	return scanLines(io.LimitReader(f, maxTable+1), visit)
}

// scanLines is eachLine on a reader. Lines that are too long are left out, and
// make the table incomplete.
func scanLines(r io.Reader, visit func(line []byte) bool) (complete bool, err error) {
	buf := make([]byte, maxLine)
	have, total, skip := 0, 0, false
	complete = true
	for {
		n, err := r.Read(buf[have:])
		have += n
		total += n
		rest := buf[:have]
		for {
			i := bytes.IndexByte(rest, '\n')
			if i < 0 {
				break
			}
			if !skip && !visit(rest[:i]) {
				return false, nil
			}
			skip = false
			rest = rest[i+1:]
		}
		have = copy(buf, rest)
		if have == len(buf) {
			have, skip, complete = 0, true, false
		}
		switch {
		case errors.Is(err, io.EOF):
			if have > 0 && !skip {
				visit(buf[:have])
			}
			return complete && total <= maxTable, nil
		case err != nil:
			return false, err
		}
	}
}

// lookStarted reads field 22 of /proc/PID/stat. What comes before is a command
// in brackets, with any characters in it.
func (l *looker) lookStarted() error {
	text, err := l.file("/proc/" + strconv.Itoa(l.pid) + "/stat") // not that of one of its threads
	b := []byte(text)
	if err != nil {
		return err
	}
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 20 {
		return errors.New("stat: not complete")
	}
	ticks, err := strconv.ParseUint(string(f[19]), 10, 63)
	const perSecond = 100 // USER_HZ on all supported machines
	l.f.Started = time.Duration(ticks) * (time.Second / perSecond)
	return err
}

func (l *looker) lookIDs() error {
	u := &l.f.User
	for _, m := range []struct {
		file string
		into *[]IDRange
	}{{"uid_map", &u.UIDMap}, {"gid_map", &u.GIDMap}} {
		b, err := l.read(m.file)
		if err != nil {
			return err
		}
		if *m.into, err = parseIDMap(b); err != nil {
			return err
		}
	}
	u.InsideUID = -1
	for _, m := range u.UIDMap {
		if m.Host == 0 && m.Count > 0 {
			u.RootIsHostRoot = true
		}
		if id := uint64(u.UID); id >= m.Host && id-m.Host < m.Count {
			u.InsideUID = int64(id - m.Host + m.Inside)
		}
	}
	return nil
}

// lookNamespaces tells which namespaces are the host's: those of process 1,
// or of this program, where that is somewhere else.
func (l *looker) lookNamespaces() error {
	for _, n := range nsFiles {
		file := "ns/" + n.file
		got, err := readlink(l.dir, file)
		if errors.Is(err, unix.ENOENT) && n.file == "time" {
			continue // not in this kernel
		}
		if err != nil {
			return err
		}
		if n.file == "user" {
			l.f.userNS = got
		}
		where := "own"
		if l.hostsNS(n.file, got) {
			where = "host"
		}
		l.f.Namespaces[string(n.kind)] = where
	}
	l.above = userNamespacesAbove(l.dir)
	return nil
}

// hostsNS says whether a namespace is one of the host's.
func (l *looker) hostsNS(file, name string) bool {
	for _, host := range []string{"/proc/1/ns/", "/proc/thread-self/ns/"} {
		key := host + file
		if _, known := l.hostNS[key]; !known {
			l.hostNS[key], _ = readlink(unix.AT_FDCWD, key)
		}
		if l.hostNS[key] == name {
			return true
		}
	}
	return false
}

type rlimit struct{ soft, hard int64 } // -1: unlimited

func (l *looker) lookRlimits() error {
	b, err := l.read("limits")
	if err != nil {
		return err
	}
	l.f.drift.rlimits = parseRlimits(b)
	l.f.Limits.Unknown = []string{}
	for _, x := range []struct {
		kind, name string
		into       **int64
	}{{"RLIMIT_NOFILE", "open_files", &l.f.Limits.OpenFiles}, {"RLIMIT_CORE", "core", &l.f.Limits.Core}} {
		switch r, ok := l.f.drift.rlimits[x.kind]; {
		case !ok:
			l.f.Limits.Unknown = append(l.f.Limits.Unknown, x.name)
		case r.hard >= 0:
			*x.into = &r.hard
		}
	}
	return nil
}

func parseRlimits(b []byte) map[string]rlimit {
	out := map[string]rlimit{}
	number := func(s string) (int64, bool) {
		if s == "unlimited" {
			return -1, true
		}
		n, err := strconv.ParseUint(s, 10, 64)
		return int64(min(n, math.MaxInt64)), err == nil
	}
	for line := range strings.Lines(string(b)) {
		for kind, title := range rlimitTitles {
			rest, ok := strings.CutPrefix(line, title+" ")
			if !ok {
				continue
			}
			if f := strings.Fields(rest); len(f) >= 2 {
				soft, ok1 := number(f[0])
				hard, ok2 := number(f[1])
				if ok1 && ok2 {
					out[kind] = rlimit{soft, hard}
				}
			}
		}
	}
	return out
}

func (l *looker) lookOOM() error {
	b, err := l.read("oom_score_adj")
	if err != nil {
		return err
	}
	l.f.OOMScoreAdj, err = strconv.Atoi(string(bytes.TrimSpace(b)))
	return err
}

// list adds to a list in Facts, up to its bound.
func list(to *[]string, s string) {
	if s = printable(s); len(*to) < maxListed && !slices.Contains(*to, s) {
		*to = append(*to, s)
	}
}

// cgroupFile reads a small file of a cgroup.
func (l *looker) cgroupFile(dir, name string) (string, error) {
	s, err := l.file(filepath.Join(dir, name))
	return strings.TrimSpace(s), err
}
