package audit

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// openProcess opens the directory of a process in procfs; of another of its
// threads, if the first has ended and others run on: the first one's has no
// mounts and namespaces then, and says that it is a zombie.
func openProcess(pid int) (dir int, err error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	dir, err = unix.Open("/proc/"+strconv.Itoa(pid), flags, 0)
	if err != nil || !(&attestation{dir: dir}).ended() {
		return dir, err
	}
	fd, err := unix.Openat(dir, "task", flags, 0)
	if err != nil {
		return dir, nil //nolint:nilerr // the process ends: what reads in dir says so
	}
	tasks := os.NewFile(uintptr(fd), "task")
	defer func() { _ = tasks.Close() }()
	names, _ := tasks.Readdirnames(maxProcesses)
	for _, name := range names {
		thread, err := unix.Openat(fd, name, flags, 0)
		if err != nil {
			continue
		}
		if !(&attestation{dir: thread}).ended() {
			_ = unix.Close(dir)
			return thread, nil
		}
		_ = unix.Close(thread)
	}
	return dir, nil
}

// Look reads what the kernel enforces on the container of process pid,
// whoever started it. It must be called by root of the host. Nothing is
// executed in the container and no process of it is stopped. Kinds of errors:
// NotFound if the process has ended, or ends meanwhile; Internal.
func Look(pid int) (*Facts, error) {
	const tries = 5
	for range tries {
		f, err := look(pid)
		if fail.KindOf(err) != fail.NotFound || !lives(pid) {
			return f, err
		}
		// The thread that was asked has ended, not the process.
	}
	return nil, fail.New(fail.Internal, "process %d: its threads end before they can be looked at", pid)
}

// lives says whether a process has a thread that runs.
func lives(pid int) bool {
	dir, err := openProcess(pid)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(dir) }()
	return !(&attestation{dir: dir}).ended()
}
