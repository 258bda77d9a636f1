package harness

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Answer is what came of a command.
type Answer struct {
	Code           int // -1: did not end in time, or was killed
	Stdout, Stderr string
	Took           time.Duration
}

func (a Answer) String() string {
	return fmt.Sprintf("exit %d\nstdout: %q\nstderr: %s", a.Code, clip(a.Stdout), clip(a.Stderr))
}

func clip(s string) string {
	const most = 2000
	if len(s) > most {
		return "..." + s[len(s)-most:]
	}
	return s
}

// Patient is how long to wait for what ends within d on a usual machine. An
// emulated one says how many times slower it is.
func Patient(d time.Duration) time.Duration {
	if n, err := strconv.Atoi(os.Getenv("SAFE_RUN_E2E_SLOW")); err == nil && n > 0 {
		return d * time.Duration(n)
	}
	return d
}

// Run calls safe-run with args and waits for it, at most 60 s.
func (g *Ground) Run(args ...string) Answer { return Call(time.Minute, g.Bin, args...) }

// Call runs a command without input.
func Call(limit time.Duration, name string, args ...string) Answer {
	ctx, cancel := context.WithTimeout(context.Background(), Patient(limit))
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = 5 * time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	start := time.Now()
	err := cmd.Run()
	a := Answer{Code: -1, Stdout: out.String(), Stderr: errs.String(), Took: time.Since(start)}
	if cmd.ProcessState != nil {
		a.Code = cmd.ProcessState.ExitCode()
	}
	if err != nil && a.Code <= 0 {
		a.Code = -1
		a.Stderr += "\n[" + err.Error() + "]"
	}
	return a
}

// Service is a safe-run in the foreground that goes on.
type Service struct {
	cmd       *exec.Cmd
	out, errs output
	ended     chan struct{}
	idFile    string // has the container's id from its creation on
}

// output is written by a goroutine of exec and read by the test.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// Serve starts safe-run with args. The end of the test ends it.
func (g *Ground) Serve(t *testing.T, args ...string) *Service {
	t.Helper()
	s := &Service{ended: make(chan struct{}), idFile: filepath.Join(t.TempDir(), "id")}
	s.cmd = exec.Command(g.Bin, append([]string{"--cidfile", s.idFile}, args...)...)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.errs
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait()
	}()
	t.Cleanup(func() {
		if a := s.Stop(syscall.SIGKILL); a.Code < 0 {
			if err := g.sweep(); err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

// Stop sends a signal, if the launcher has not ended yet, and waits for the
// end, at most 20 s.
func (s *Service) Stop(sig syscall.Signal) Answer {
	select {
	case <-s.ended:
	default:
		_ = s.cmd.Process.Signal(sig)
		select {
		case <-s.ended:
		case <-time.After(Patient(20 * time.Second)):
			_ = s.cmd.Process.Kill()
			<-s.ended
		}
	}
	return Answer{Code: s.cmd.ProcessState.ExitCode(), Stdout: s.out.String(), Stderr: s.errs.String()}
}

// Stdout is what the container wrote until now.
func (s *Service) Stdout() string { return s.out.String() }

// Until waits until ready gives nil, at most 20 s. It fails the test with
// ready's last error, or when the launcher ends first.
func (s *Service) Until(t *testing.T, ready func() error) {
	t.Helper()
	deadline := time.Now().Add(Patient(20 * time.Second))
	for {
		err := ready()
		if err == nil {
			return
		}
		select {
		case <-s.ended:
			t.Fatalf("%s ended: %s", strings.Join(s.cmd.Args, " "), s.Stop(0))
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v\n%s", strings.Join(s.cmd.Args, " "), err, clip(s.errs.String()))
		}
	}
}
