// Package audit reads, from the host's side, what the kernel enforces on a
// container, and compares it with what its OCI spec asked for. A runtime can
// ignore a field in silence, a race can send a write to the wrong file, and
// something on the host can change a container after it was checked; the
// kernel's own account is the last word.
package audit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// Phase is a moment in a container's life.
type Phase int

const (
	// Created: the runtime has set up everything and waits for the order to
	// execute the user's program. Nothing of the container's has run. All is
	// compared, for equality.
	Created Phase = iota
	// Started: the user's program runs, or has ended already, which is no
	// error. The label of the LSM, set at the moment of execution, is compared
	// for the first time; what a program may give up or change of itself
	// (capabilities, ids inside its namespace) must be within the spec.
	Started
)

// Want says how to compare.
type Want struct {
	Phase Phase
	// Mapped are the sources of binds that were idmapped before the runtime
	// got them, and must be so inside.
	Mapped []string
}

// Difference is one thing that is not as the spec has it.
type Difference struct {
	What      string // "CapEff", "mount /tmp", "memory.max"
	Want, Got string
}

func (d Difference) String() string {
	return fmt.Sprintf("%s: wanted %.200q, the kernel has %.200q", d.What, d.Want, d.Got)
}

// Mismatch is the error inside the one Attest returns.
type Mismatch struct {
	PID         int
	Differences []Difference
}

func (m *Mismatch) Error() string {
	const most = 20
	var b strings.Builder
	for i, d := range m.Differences {
		if i == most {
			fmt.Fprintf(&b, "\n  and %d more", len(m.Differences)-most)
			break
		}
		b.WriteString("\n  ")
		b.WriteString(d.String())
	}
	return b.String()
}

// Attest compares the process pid, the init of a container, with the spec it
// was made from. It must be called by root of the host. The error is nil if
// the kernel agrees; it has kind HostCannot, with a *Mismatch inside that
// names every difference, if it does not; and kind Internal if the kernel
// could not be asked. In all cases of an error the container must not go on.
func Attest(pid int, s *specs.Spec, w Want) error {
	if s == nil || s.Process == nil || s.Linux == nil || s.Root == nil {
		return fail.New(fail.Internal, "attestation needs a complete spec")
	}
	a := &attestation{pid: pid, spec: s, phase: w.Phase, mapped: w.Mapped, buf: make([]byte, 0, 64<<10)}
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return a.verdict(err)
	}
	// All reads go through this descriptor: it stands for the process, not
	// for its number, and fails once the process is gone.
	a.dir = fd
	defer func() { _ = unix.Close(fd) }()

	steps := created
	aside := make(chan error, 1)
	m := &attestation{pid: pid, dir: fd, spec: s, phase: w.Phase, mapped: w.Mapped, buf: make([]byte, 0, 64<<10)}
	if w.Phase == Started {
		steps = started
		aside <- nil
	} else {
		// Half of the work: done beside the rest, because the container waits.
		go func() { aside <- m.mounts() }()
	}
	for _, step := range steps {
		before := len(a.diffs)
		if err := step.look(a); err != nil {
			<-aside // it reads through the same descriptor
			return a.verdict(err)
		}
		// A process on its way out has left its cgroup and its namespaces
		// already; what it had there can no longer be said.
		if w.Phase == Started && !step.lasts && len(a.diffs) > before && a.ended() {
			a.diffs = a.diffs[:before]
			break
		}
	}
	err = <-aside
	a.diffs = append(a.diffs, m.diffs...)
	return a.verdict(err)
}

// step is one check. One that lasts gives the same answer for a process that
// is about to end.
type step struct {
	look  func(*attestation) error
	lasts bool
}

// The checks of each phase. A mount namespace does not change between the two
// without a capability that no container has by default, so mounts are looked
// at once, while nothing runs that could move them about.
var (
	created = []step{
		{look: (*attestation).status},
		{look: (*attestation).idMaps},
		{look: (*attestation).namespaces},
		{look: (*attestation).limits},
		{look: (*attestation).oomScore},
		{look: (*attestation).cgroups},
		{look: (*attestation).sysctls},
	}
	started = []step{
		{look: (*attestation).executed},
		{look: (*attestation).label, lasts: true},
		{look: (*attestation).status, lasts: true},
		{look: (*attestation).idMaps},
		{look: (*attestation).namespaces},
		{look: (*attestation).oomScore},
		{look: (*attestation).cgroups},
	}
)

type attestation struct {
	pid    int
	dir    int // /proc/PID
	spec   *specs.Spec
	phase  Phase
	mapped []string
	diffs  []Difference
	buf    []byte
}

// errGone: the process has ended, as a zombie or for good.
var errGone = errors.New("the process has ended")

func (a *attestation) verdict(err error) error {
	gone := errors.Is(err, errGone) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT)
	if gone {
		// A started program may end at any moment. What was read while it
		// lived still counts.
		if a.phase == Created {
			a.differ("init process", "alive", "ended")
		}
		err = nil
	}
	if err != nil {
		return fail.Wrap(fail.Internal, err, "asking the kernel about process %d", a.pid)
	}
	if len(a.diffs) == 0 {
		return nil
	}
	return &fail.Error{
		Kind: fail.HostCannot,
		Msg:  "the kernel does not enforce what was asked for, so the container was not let run",
		Err:  &Mismatch{PID: a.pid, Differences: a.diffs},
		Next: "something on this host (the runtime, a plugin of containerd, another program) changes containers; it must not",
	}
}

func (a *attestation) differ(what, want, got string) {
	a.diffs = append(a.diffs, Difference{What: what, Want: want, Got: got})
}

func (a *attestation) equal(what, want, got string) {
	if want != got {
		a.differ(what, want, got)
	}
}

// read gives the whole content of a file of the process. The slice is
// overwritten by the next read.
func (a *attestation) read(name string) ([]byte, error) {
	fd, err := unix.Openat(a.dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, pathError(name, err)
	}
	defer func() { _ = unix.Close(fd) }()
	b, err := readAll(fd, a.buf[:0])
	a.buf = b[:0]
	return b, pathError(name, err)
}

// maxFile bounds what is read of one file of procfs; a mountinfo of some ten
// thousand mounts fits.
const maxFile = 16 << 20

func readAll(fd int, b []byte) ([]byte, error) {
	for {
		if len(b) == cap(b) {
			if cap(b) >= maxFile {
				return b, errors.New("file is too large")
			}
			b = append(b, 0)[:len(b)]
		}
		n, err := unix.Read(fd, b[len(b):cap(b)])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return b, err
		case n == 0:
			return b, nil
		default:
			b = b[:len(b)+n]
		}
	}
}

// file reads a file of the host, such as one of a cgroup.
func (a *attestation) file(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Close(fd) }()
	b, err := readAll(fd, a.buf[:0])
	a.buf = b[:0]
	return string(b), err
}

// readlink reads a link of the process, such as ns/net.
func readlink(dir int, name string) (string, error) {
	buf := make([]byte, 256)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", pathError(name, err)
	}
	return string(buf[:n]), nil
}

func pathError(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}

// Flags of a process in /proc/PID/stat (include/linux/sched.h).
const (
	exiting    = 0x4  // PF_EXITING
	forkNoExec = 0x40 // PF_FORKNOEXEC: cloned, and nothing executed since
)

// stat gives the state and the flags of the process, fields 3 and 9 of
// /proc/PID/stat.
func (a *attestation) stat() (state string, flags uint64, err error) {
	b, err := a.read("stat")
	if err != nil {
		return "", 0, err
	}
	// The second field is a name in brackets and may hold anything.
	i := strings.LastIndexByte(string(b), ')')
	f := strings.Fields(string(b[i+1:]))
	if i < 0 || len(f) < 7 {
		return "", 0, errors.New("stat: too short")
	}
	flags, err = strconv.ParseUint(f[6], 10, 64)
	return f[0], flags, err
}

// ended says whether the process has ended or is about to.
func (a *attestation) ended() bool {
	state, flags, err := a.stat()
	return err != nil || state == "Z" || state == "X" || flags&exiting != 0
}

// executed waits until the user's program has been executed. The runtime's
// answer that it started the container comes a moment before that. The init of
// runc and crun is a process that was cloned and has not executed anything
// since; the first execve clears that mark.
func (a *attestation) executed() error {
	deadline := time.Now().Add(5 * time.Second)
	for pause := 20 * time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		state, flags, err := a.stat()
		switch {
		case err != nil:
			return err
		case state == "Z" || state == "X":
			return errGone
		case flags&forkNoExec == 0:
			return nil
		case time.Now().After(deadline):
			a.differ("program", "executed", "not executed after 5 s")
			return nil
		}
		time.Sleep(pause)
	}
}
