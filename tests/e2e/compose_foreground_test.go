package e2e

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// attached is a `compose up` in the foreground.
type attached struct {
	cmd   *exec.Cmd
	mu    sync.Mutex
	out   bytes.Buffer
	ended chan error
}

func (a *attached) Write(b []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.out.Write(b)
}

func (a *attached) said() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.out.String()
}

func (p *project) attach(t *testing.T, args ...string) *attached {
	t.Helper()
	a := &attached{cmd: exec.Command(here.bin, append([]string{"compose", "up"}, args...)...), ended: make(chan error, 1)}
	a.cmd.Dir, a.cmd.Stdout, a.cmd.Stderr = p.dir, a, a
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { a.ended <- a.cmd.Wait() }()
	return a
}

// end is its exit code.
func (a *attached) end(t *testing.T) int {
	t.Helper()
	select {
	case err := <-a.ended:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return a.cmd.ProcessState.ExitCode()
	case <-time.After(patient(30 * time.Second)):
		_ = a.cmd.Process.Kill()
		t.Fatalf("it does not end: %s", a.said())
		return 0
	}
}

const twoServices = `
services:
  db: {image: busybox, command: [sh, -c, "trap 'echo db ends; exit 0' TERM; echo db ready; while :; do sleep 0.1; done"]}
  web: {image: busybox, depends_on: [db], command: [sh, -c, "trap 'echo web ends; exit 0' TERM; echo web ready; while :; do sleep 0.1; done"]}
`

// TestComposeForeground: up stays with its services, and its end is theirs.
func TestComposeForeground(t *testing.T) {
	t.Parallel()
	t.Run("interrupted", func(t *testing.T) {
		t.Parallel()
		p := composed(t, map[string]string{"compose.yaml": twoServices})
		a := p.attach(t)
		eventually(t, 20*time.Second, "both", func() bool {
			return strings.Contains(a.said(), "web-1 | web ready") && strings.Contains(a.said(), "db-1  | db ready")
		})
		_ = a.cmd.Process.Signal(syscall.SIGINT)
		if code := a.end(t); code != 130 {
			t.Errorf("exit code %d: %s", code, a.said())
		}
		said := a.said()
		if web, db := strings.Index(said, "web-1 | web ends"), strings.Index(said, "db-1  | db ends"); web < 0 || db < web {
			t.Errorf("they end in this order: %s", said)
		}
		for _, s := range []string{"web", "db"} {
			if got := field(p.container(s), "{{.State.Status}} {{.State.ExitCode}}"); got != "exited 0" {
				t.Errorf("%s is %s", s, got)
			}
		}
	})
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		p := composed(t, map[string]string{"compose.yaml": "services: {deaf: {image: busybox, stop_grace_period: 60s, command: [sh, -c, \"trap '' TERM; echo ready; while :; do sleep 0.1; done\"]}}"})
		a := p.attach(t)
		eventually(t, 20*time.Second, "it", func() bool { return strings.Contains(a.said(), "deaf-1 | ready") })
		_ = a.cmd.Process.Signal(syscall.SIGTERM)
		eventually(t, 10*time.Second, "the stop", func() bool { return strings.Contains(a.said(), "Gracefully") })
		time.Sleep(300 * time.Millisecond)
		_ = a.cmd.Process.Signal(syscall.SIGTERM)
		if code := a.end(t); code != 130 || field(p.container("deaf"), "{{.State.ExitCode}}") != "137" {
			t.Errorf("exit code %d: %s", code, a.said())
		}
	})
	t.Run("one ends all", func(t *testing.T) {
		t.Parallel()
		p := composed(t, map[string]string{"compose.yaml": twoServices + "  job: {image: busybox, depends_on: [web], command: [sh, -c, 'sleep 0.5; exit 7']}\n"})
		if code := p.attach(t, "--abort-on-container-exit").end(t); code != 7 {
			t.Errorf("exit code %d", code)
		}
		if got := field(p.container("db"), "{{.State.Status}}"); got != "exited" {
			t.Errorf("db is %s", got)
		}
		if code := p.attach(t, "--exit-code-from", "web", "-t", "5").end(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
	t.Run("all end", func(t *testing.T) {
		t.Parallel()
		p := composed(t, map[string]string{"compose.yaml": "services: {a: {image: busybox, command: [echo, one]}, b: {image: busybox, command: [sh, -c, 'echo two; exit 3']}}"})
		a := p.attach(t)
		if code := a.end(t); code != 0 || !strings.Contains(a.said(), "a-1 | one\n") || !strings.Contains(a.said(), "b-1 | two\n") {
			t.Errorf("exit code %d: %s", code, a.said())
		}
	})
}
