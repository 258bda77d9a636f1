package audit

import (
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/threads"
)

// openProcess opens the directory of a process in procfs; of another of its
// threads, if the first has ended and others run on.
func openProcess(pid int) (dir int, err error) {
	return unix.Open(threads.Dir(pid), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
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
func lives(pid int) bool { return !threads.Ended(threads.Dir(pid)) }
