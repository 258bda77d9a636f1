package launcher

import (
	"os/signal"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Signals that stop a background process at its terminal are left alone.
func TestCatchLeavesJobControl(t *testing.T) {
	c := catch()
	defer signal.Stop(c)
	if err := unix.Kill(unix.Getpid(), unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c:
	case <-time.After(5 * time.Second):
		t.Error("SIGUSR1 was not caught")
	}
	signal.Ignore(unix.SIGTTIN, unix.SIGTTOU) // so that they do not stop this test if they are not caught
	defer signal.Reset(unix.SIGTTIN, unix.SIGTTOU)
	c = catch()
	defer signal.Stop(c)
	if !signal.Ignored(unix.SIGTTIN) || !signal.Ignored(unix.SIGTTOU) {
		t.Error("SIGTTIN and SIGTTOU are caught")
	}
}
