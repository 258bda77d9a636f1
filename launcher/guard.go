package launcher

import (
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// GuardWord is the word by which this program is told to be a guard; the
// cgroup follows it.
const GuardWord = "__guard"

// guard starts a process that ends the container of a unit if this one is
// killed. systemd asks what is left of a unit to end, and a first process that
// does not heed SIGTERM would run on for as long as a stop may take; without
// Delegate=yes nobody would end it at all.
func (r *run) guard() error {
	if r.Unit == nil {
		return nil
	}
	held, end, err := os.Pipe()
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "guard of the container")
	}
	defer held.Close()
	c := exec.Command("/proc/self/exe", GuardWord, r.rec.Cgroup)
	c.Args[0] = "safe-run"
	c.Env, c.Dir, c.Stdin = []string{}, "/", held
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		end.Close()
		return fail.Wrap(fail.HostCannot, err, "guard of the container")
	}
	go func() { _ = c.Wait() }()
	r.extras.guard = end
	return nil
}

// Guard waits for the end of its supervisor, which says so if all is well and
// just goes if it was killed, and then ends what is in the cgroup.
func Guard(supervisor io.Reader, cgroup string) error {
	signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGABRT, unix.SIGUSR1, unix.SIGUSR2)
	if n, _ := supervisor.Read(make([]byte, 1)); n > 0 {
		return nil
	}
	return killCgroups(cgroup)
}
