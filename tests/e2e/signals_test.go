package e2e

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/console"
)

// started is a safe-run that runs beside the test.
type started struct {
	*exec.Cmd
	out  *os.File // read end of its stdout, or the terminal
	seen bytes.Buffer
}

// start begins safe-run and waits until its container has printed "ready".
func start(t *testing.T, args ...string) *started {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := &started{Cmd: exec.Command(here.bin, args...), out: r}
	s.Stdout, s.Stderr = w, os.Stderr
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() { r.Close(); _ = s.Process.Kill() })
	s.until(t, "ready")
	return s
}

// until reads the output to a word.
func (s *started) until(t *testing.T, word string) {
	t.Helper()
	deadline := time.Now().Add(patient(20 * time.Second))
	_ = s.out.SetReadDeadline(deadline)
	buf := make([]byte, 4096)
	for !strings.Contains(s.seen.String(), word) {
		n, err := s.out.Read(buf)
		s.seen.Write(buf[:n])
		if err != nil {
			t.Fatalf("waiting for %q, got %q: %v", word, s.seen.String(), err)
		}
	}
}

// code waits for the end and gives the exit code.
func (s *started) code(t *testing.T) int {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.Wait() }()
	select {
	case <-done:
		return s.ProcessState.ExitCode()
	case <-time.After(patient(20 * time.Second)):
		_ = s.Process.Kill()
		t.Fatal("safe-run did not end")
		return -1
	}
}

// TestSignals: a signal to safe-run reaches pid 1.
func TestSignals(t *testing.T) {
	const trap = `trap 'echo got TERM; exit 7' TERM; trap 'echo got INT; exit 8' INT; trap 'echo got USR1' USR1; echo ready; while :; do sleep 0.1; done`
	before := take(t)
	for _, c := range []struct {
		name string
		send syscall.Signal
		code int
		out  string
	}{
		{"TERM", syscall.SIGTERM, 7, "got TERM"},
		{"INT", syscall.SIGINT, 8, "got INT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, "--rm", "busybox", "sh", "-c", trap)
			if err := s.Process.Signal(syscall.SIGUSR1); err != nil {
				t.Fatal(err)
			}
			s.until(t, "got USR1")
			if err := s.Process.Signal(c.send); err != nil {
				t.Fatal(err)
			}
			s.until(t, c.out)
			if code := s.code(t); code != c.code {
				t.Errorf("exit %d, wanted %d", code, c.code)
			}
		})
	}
	t.Run("TERM with --init", func(t *testing.T) {
		s := start(t, "--rm", "--init", "busybox", "sh", "-c", "echo ready; exec sleep 60")
		_ = s.Process.Signal(syscall.SIGTERM)
		if code := s.code(t); code != 143 {
			t.Errorf("exit %d, wanted 143", code)
		}
	})
	t.Run("timeout", func(t *testing.T) {
		r := call(request{bin: "/usr/bin/timeout", args: []string{"1", here.bin, "--rm", "--init", "busybox", "sleep", "60"}})
		if r.code != 124 || r.took > patient(15*time.Second) {
			t.Errorf("timeout(1): %s after %s", r, r.took)
		}
	})
	same(t, before, take(t))
}

// onTerminal starts safe-run with a terminal as its three streams.
func onTerminal(t *testing.T, args ...string) (*started, console.Console) {
	t.Helper()
	master, slavePath, err := console.NewPty()
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(slavePath, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := master.Resize(console.WinSize{Width: 91, Height: 33}); err != nil {
		t.Fatal(err)
	}
	s := &started{Cmd: exec.Command(here.bin, args...)}
	s.Stdin, s.Stdout, s.Stderr = slave, slave, slave
	s.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	// The end of a terminal comes as an error; a pipe in between gives the
	// reads of until a deadline.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(w, master); w.Close() }()
	s.out = r
	t.Cleanup(func() { _ = s.Process.Kill(); master.Close(); r.Close() })
	return s, master
}

func TestTerminal(t *testing.T) {
	before := take(t)
	t.Run("Ctrl-C", func(t *testing.T) {
		s, tty := onTerminal(t, "--rm", "-it", "busybox", "sh", "-c", "trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.1; done")
		s.until(t, "ready")
		_, _ = tty.Write([]byte{3})
		s.until(t, "interrupted")
		if code := s.code(t); code != 9 {
			t.Errorf("exit %d, wanted 9", code)
		}
	})
	t.Run("size", func(t *testing.T) {
		s, tty := onTerminal(t, "--rm", "-it", "busybox", "sh", "-c", "stty size; trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.1; done")
		s.until(t, "ready")
		if !strings.Contains(s.seen.String(), "33 91") {
			t.Errorf("the first size is not the terminal's: %q", s.seen.String())
		}
		_ = tty.Resize(console.WinSize{Width: 61, Height: 22})
		s.until(t, "22 61")
		s.code(t)
	})
	t.Run("shell", func(t *testing.T) {
		s, tty := onTerminal(t, "--rm", "-it", "busybox", "sh")
		_, _ = tty.Write([]byte("echo rea''dy; tty\n"))
		s.until(t, "ready")
		s.until(t, "/dev/pts/0")
		_, _ = tty.Write([]byte("exit 4\n"))
		if code := s.code(t); code != 4 {
			t.Errorf("exit %d, wanted 4", code)
		}
	})
	t.Run("Ctrl-C without -t", func(t *testing.T) {
		s, tty := onTerminal(t, "--rm", "--init", "busybox", "sh", "-c", "echo ready; exec sleep 60")
		s.until(t, "ready")
		_, _ = tty.Write([]byte{3})
		if code := s.code(t); code != 130 {
			t.Errorf("exit %d, wanted 130", code)
		}
	})
	same(t, before, take(t))
	t.Run("detach keys", func(t *testing.T) {
		s, tty := onTerminal(t, "--name", "e2e-detached", "--detach-keys", "ctrl-a,x", "-it", "busybox", "sh", "-c", "echo ready; exec sleep 60")
		defer run("rm", "-f", "e2e-detached")
		s.until(t, "ready")
		_, _ = tty.Write([]byte{1, 'x'})
		if code := s.code(t); code != 0 {
			t.Errorf("exit %d after detaching, wanted 0", code)
		}
		if r := run("ps"); !strings.Contains(r.stdout, "e2e-detached") {
			t.Errorf("the container does not run on: %s", r)
		}
	})
	same(t, before, take(t))
	t.Run("under script(1)", func(t *testing.T) {
		r := call(request{bin: "/usr/bin/script", args: []string{"-qec", here.bin + " --rm -it busybox sh -c 'test -t 0 && echo tty; exit 5'", "/dev/null"}})
		if r.code != 5 || !strings.Contains(r.stdout, "tty") {
			t.Errorf("script -qec: %s", r)
		}
	})
}

// TestDetachRemoves: --rm holds for a container that was left to itself.
func TestDetachRemoves(t *testing.T) {
	before := take(t)
	s, tty := onTerminal(t, "--rm", "--name", "e2e-left", "--detach-keys", "ctrl-a,x", "-it", "-v", "/data", "busybox", "sh", "-c", "echo ready; sleep 2")
	s.until(t, "ready")
	_, _ = tty.Write([]byte{1, 'x'})
	if code := s.code(t); code != 0 {
		t.Errorf("exit %d after detaching, wanted 0", code)
	}
	if r := run("ps"); !strings.Contains(r.stdout, "e2e-left") {
		t.Errorf("the container does not run on: %s", r)
	}
	settle(t, before) // its ids and its lock among them
}
