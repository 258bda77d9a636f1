package learn

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// Mode says how much is recorded.
type Mode int

const (
	// Denials records only what was refused: cheap enough for production.
	Denials Mode = iota
	// Everything records what is needed to make a profile.
	Everything
)

// Recorder is a set of programs in the kernel that watch containers. Its
// methods may be called from several goroutines, but Close only once and last.
type Recorder struct {
	mode     Mode
	calls    *callTable
	maps     *recorderMaps
	programs []*ebpf.Program
	links    []link.Link
	reader   *ringbuf.Reader
	ended    chan struct{} // closed when the reader has ended

	reading sync.Mutex         // one Read at a time
	flushed chan chan struct{} // asks the reader to say when the ring is empty

	mu      sync.Mutex
	events  eventTable
	targets []followed
	started time.Time
	over    time.Time
	skipped uint64 // before the first Follow, see skips
}

// followed is a container that is or was watched.
type followed struct {
	pidns uint32
	ids   idMap
}

// Open loads the recorder. It sees nothing until Follow. Errors have kind
// HostCannot and name what is missing.
func Open(mode Mode) (*Recorder, error) { return openWith(mode, anyHook) }

func openWith(mode Mode, hook capHook) (*Recorder, error) {
	r := &Recorder{mode: mode, calls: newCallTable(), ended: make(chan struct{}), flushed: make(chan chan struct{}, 1)}
	err := r.load(hook)
	if err == nil {
		if r.reader, err = ringbuf.NewReader(r.maps.ring); err != nil {
			err = refusedByKernel(err, "the ring of events")
		}
	}
	if err != nil {
		close(r.ended)
		_ = r.Close()
		return nil, err
	}
	r.events.init(r.calls)
	go r.readRing()
	return r, nil
}

// Close unloads the recorder. Nothing of it stays in the kernel.
func (r *Recorder) Close() error {
	var errs []error
	for _, l := range r.links {
		errs = append(errs, l.Close())
	}
	if r.reader != nil {
		errs = append(errs, r.reader.Close())
	}
	<-r.ended
	for _, p := range r.programs {
		errs = append(errs, p.Close())
	}
	if r.maps != nil {
		r.maps.Close()
	}
	return errors.Join(errs...)
}

// Follow adds the container of a first process whose own program has not been
// executed yet: pid is the runtime's init on the host, with its namespaces and
// id maps made. A Recorder follows 256 containers; a further one takes the
// place of the first. Errors: Refused for a process in the pid namespace of the
// recorder or of the host, HostCannot or NotFound if the process cannot be
// looked at.
func (r *Recorder) Follow(pid int) error {
	proc, err := unix.Open("/proc/"+strconv.Itoa(pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail.Wrap(fail.NotFound, err, "process %d", pid)
	}
	defer func() { _ = unix.Close(proc) }()
	pidns, err := namespace(proc, "ns/pid")
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "the pid namespace of process %d", pid)
	}
	userns, err := namespace(proc, "ns/user")
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "the user namespace of process %d", pid)
	}
	own, err := namespace(unix.AT_FDCWD, "/proc/self/ns/pid")
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "the recorder's own pid namespace")
	}
	if pidns == own || pidns == hostPidNamespace {
		return fail.New(fail.Refused, "process %d is in the host's pid namespace: everything on the host would be recorded", pid)
	}
	ids, err := readIDMap(proc)
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "the id map of process %d", pid)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	number := len(r.targets)
	slot, err := r.compareCgroup(proc, uint32(number%maxTargets))
	if err != nil {
		return err
	}
	if number >= maxTargets {
		_ = r.maps.targets.Delete(r.targets[number-maxTargets].pidns)
	}
	if r.started.IsZero() {
		r.started, r.skipped = time.Now(), r.skips()
	}
	r.targets = append(r.targets, followed{pidns: pidns, ids: ids})
	t := struct{ Userns, Number, Slot, _ uint32 }{userns, uint32(number), slot, 0}
	if err := r.maps.targets.Put(pidns, &t); err != nil {
		return fail.Wrap(fail.Internal, err, "following a container")
	}
	return nil
}

// The inodes of the host's own namespaces, PROC_PID_INIT_INO and
// PROC_USER_INIT_INO in include/linux/proc_ns.h.
const (
	hostPidNamespace  = 0xEFFFFFFC
	hostUserNamespace = 0xEFFFFFFD
)

func namespace(dir int, path string) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, path, &st, 0); err != nil {
		return 0, err
	}
	return uint32(st.Ino), nil
}

// compareCgroup has the programs compare the cgroup too, in a slot of theirs,
// if the process has one of version 2 beside the root.
func (r *Recorder) compareCgroup(proc int, slot uint32) (uint32, error) {
	path, err := unifiedCgroup(proc)
	if err != nil {
		return 0, fail.Wrap(fail.HostCannot, err, "the cgroup of the container")
	}
	// A path that leads up is of a cgroup outside of what we can see.
	if path == "" || path == "/" || strings.HasPrefix(path, "/..") {
		return noCgroup, nil
	}
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var fs unix.Statfs_t
		if unix.Statfs(root, &fs) != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
			continue
		}
		f, err := os.Open(root + path)
		if err != nil {
			return 0, fail.Wrap(fail.HostCannot, err, "the cgroup of the container")
		}
		defer func() { _ = f.Close() }()
		if err := r.maps.cgroups.Put(slot, uint32(f.Fd())); err != nil {
			return 0, refusedByKernel(err, "the cgroup of the container")
		}
		return slot, nil
	}
	return noCgroup, nil
}

// readRing takes events out of the ring until the reader is closed. It looks
// by itself now and then, so that the programs need not wake it for each.
func (r *Recorder) readRing() {
	defer close(r.ended)
	var rec ringbuf.Record
	for {
		r.reader.SetDeadline(time.Now().Add(ringPause))
		err := r.reader.ReadInto(&rec)
		switch {
		case err == nil:
			r.mu.Lock()
			r.events.take(rec.RawSample, r.idsOf)
			r.mu.Unlock()
		case errors.Is(err, os.ErrDeadlineExceeded):
		case errors.Is(err, ringbuf.ErrFlushed):
			select {
			case done := <-r.flushed:
				close(done)
			default:
			}
		default:
			return
		}
	}
}

// ringPause is how long events may wait in the ring.
const ringPause = 50 * time.Millisecond

func (r *Recorder) idsOf(target uint32) idMap {
	if int(target) < len(r.targets) {
		return r.targets[target].ids
	}
	return nil
}

// drain waits until all events sent so far have been taken.
func (r *Recorder) drain() error {
	done := make(chan struct{})
	r.flushed <- done
	if err := r.reader.Flush(); err != nil {
		<-r.flushed
		return err
	}
	select {
	case <-done:
		return nil
	case <-r.ended:
		return os.ErrClosed
	}
}

// skips is how often the kernel did not run a program because it was being run
// on the same processor already; of what process cannot be told.
func (r *Recorder) skips() (n uint64) {
	for _, p := range r.programs {
		if s, err := p.Stats(); err == nil {
			n += s.RecursionMisses
		}
	}
	return n
}

// Read gives what was seen so far. It may be called any number of times. After
// the container's last process has ended it has everything.
func (r *Recorder) Read() (Recording, error) {
	r.reading.Lock()
	defer r.reading.Unlock()
	if err := r.drain(); err != nil {
		return Recording{}, fail.Wrap(fail.Internal, err, "reading the recorder's events")
	}
	var stats struct{ Lost, Execs uint64 }
	if err := r.maps.stats.Lookup(uint32(0), &stats); err != nil {
		return Recording{}, fail.Wrap(fail.Internal, err, "reading the recorder's counters")
	}
	c, err := r.readCounters(stats.Execs)
	if err != nil {
		return Recording{}, fail.Wrap(fail.Internal, err, "reading the recorder's counters")
	}
	var pid uint32
	alive := !errors.Is(r.maps.counted.NextKey(nil, &pid), ebpf.ErrKeyNotExist)

	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case alive || stats.Execs == 0:
		r.over = time.Time{}
	case r.over.IsZero():
		r.over = time.Now()
	}
	out := Recording{Started: r.started, Ended: r.over, Lost: stats.Lost + r.events.lost + r.skips() - r.skipped}
	r.events.put(&out)
	c.put(&out, r.calls, r.events.explained)
	return out, nil
}
