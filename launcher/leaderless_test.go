package launcher

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/threads"
)

// init plays a program that ends its first thread and goes on in others.
func init() {
	if os.Getenv("LAUNCHER_TEST_LEADERLESS") == "" {
		return
	}
	go func() {
		for {
			time.Sleep(time.Second)
		}
	}()
	_, _, _ = unix.Syscall(unix.SYS_EXIT, 0, 0, 0)
}

// TestLeaderless: a process whose first thread has ended runs, and is seen by
// another of its threads.
func TestLeaderless(t *testing.T) {
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), "LAUNCHER_TEST_LEADERLESS=1")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	p := holdInit(uint32(c.Process.Pid))
	defer p.close()
	for end := time.Now().Add(20 * time.Second); !p.leaderless(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("its first thread does not end")
		}
	}
	dir := threads.Dir(int(p.pid))
	if !strings.HasPrefix(dir, fmt.Sprintf("/proc/%d/task/", p.pid)) {
		t.Errorf("seen at %s", dir)
	}
	for _, name := range []string{"root", "ns/net"} {
		if _, err := os.Readlink(dir + "/" + name); err != nil {
			t.Error(err)
		}
	}
	_ = c.Process.Kill()
	_ = c.Wait()
	if p.leaderless() {
		t.Error("it has ended, and is said to run")
	}
	whole := holdInit(uint32(sleeper(t).Process.Pid))
	defer whole.close()
	if whole.leaderless() || threads.Dir(int(whole.pid)) != fmt.Sprintf("/proc/%d", whole.pid) {
		t.Error("a process with its first thread is taken for one without")
	}
}
