package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/safe-run/safe-run/tests/imagekit"

	"github.com/safe-run/safe-run/tests/harness"
)

// TestFaults: after an error, or a SIGKILL, right behind any step of a
// launch, the next command leaves the machine as it was.
func TestFaults(t *testing.T) {
	r := call(request{bin: here.faulty, args: []string{"__faults"}})
	steps := strings.Fields(r.stdout)
	if r.code != 0 || len(steps) < 10 {
		t.Fatalf("the steps of a launch: %s", r)
	}
	dir := tempDir(t)
	before := take(t)
	for _, step := range steps {
		for _, how := range []string{"error", "kill"} {
			for _, flags := range [][]string{
				{"--rm"},
				{"--rm", "--name", "e2e-fault", "-v", "/data", "-v", dir + ":/src", "--init"},
			} {
				name := step + " " + how
				if len(flags) > 1 {
					name += " with volumes"
				}
				t.Run(name, func(t *testing.T) {
					r := call(request{
						bin: here.faulty, args: append(flags[:len(flags):len(flags)], "busybox", "true"),
						env: []string{"SAFE_RUN_FAULT=" + step + ":" + how},
					})
					if r.code == 0 && how == "kill" {
						t.Logf("step %s was not met", step)
					}
					if how == "error" && r.code == 0 {
						t.Logf("step %s: the error was survived", step)
					}
					if r := run("images", "-q"); r.code != 0 || r.stderr != "" {
						t.Errorf("the next command: %s", r)
					}
					settle(t, before)
					if t.Failed() {
						before = take(t) // so that one leftover is one failure
					}
				})
			}
		}
	}
}

// settle waits for shims and the kernel to finish what the next command has
// begun, then compares.
func settle(t *testing.T, before harness.Inventory) {
	t.Helper()
	deadline := time.Now().Add(patient(20 * time.Second))
	for {
		after := take(t)
		if equal(before, after) || time.Now().After(deadline) {
			same(t, before, after)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func equal(a, b harness.Inventory) bool {
	if len(a) != len(b) {
		return false
	}
	for k := range a {
		if strings.Join(a[k], "\n") != strings.Join(b[k], "\n") {
			return false
		}
	}
	return true
}

// TestKilled: the same for SIGKILL at 50 moments nobody chose.
func TestKilled(t *testing.T) {
	before := take(t)
	full := run("--rm", "busybox", "true").took
	for i := range 50 {
		cmd := exec.Command(here.bin, "--rm", "-v", "/data", "--init", "busybox", "sleep", "0.05")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		wait := time.Duration(rand.Int64N(int64(full + 100*time.Millisecond)))
		time.Sleep(wait)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if i%10 == 9 {
			if r := run("images", "-q"); r.code != 0 {
				t.Fatal(r)
			}
			settle(t, before)
			if t.Failed() {
				t.Fatalf("after kill %d, %s into the launch", i+1, wait)
			}
		}
	}
	if r := run("--rm", "busybox", "true"); r.code != 0 {
		t.Error(r)
	}
	settle(t, before)
}

// TestInterrupted: Ctrl-C at any moment of a launch ends with 130, soon, and
// leaves nothing.
func TestInterrupted(t *testing.T) {
	before := take(t)
	full := run("--rm", "--init", "busybox", "true").took
	slow := 0
	for i := range 40 {
		cmd := exec.Command(here.bin, "--rm", "--init", "busybox", "sleep", "30")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		wait := time.Duration(rand.Int64N(int64(full + 100*time.Millisecond)))
		time.Sleep(wait)
		sent := time.Now()
		_ = cmd.Process.Signal(os.Interrupt)
		hung := time.AfterFunc(patient(15*time.Second), func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		hung.Stop()
		took := time.Since(sent)
		// A signal that comes before the program can catch any ends it: to a
		// shell that is 130 too.
		ws, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if ws.ExitStatus() != 130 && !(ws.Signaled() && ws.Signal() == syscall.SIGINT) {
			t.Errorf("round %d, interrupted after %s: %s %s later, wanted exit 130\nstderr: %s", i, wait, cmd.ProcessState, took, clip(stderr.String()))
		}
		if took > patient(8*time.Second) {
			slow++
			t.Logf("round %d, interrupted after %s: ended %s later", i, wait, took)
		}
	}
	// A disk may be busy for a while, but not as often as that.
	if slow > 2 {
		t.Errorf("%d of 40 launches did not end soon", slow)
	}
	if r := run("images", "-q"); r.code != 0 {
		t.Error(r)
	}
	settle(t, before)
}

// TestLostTask: a container whose shim was killed takes its supervisor with
// it, which leaves nothing.
func TestLostTask(t *testing.T) {
	before := take(t)
	s := start(t, "--rm", "-v", "/data", "busybox", "sh", "-c", "echo ready; sleep 60")
	for _, pid := range ours("containerd-shim-runc-v2") {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if code := s.code(t); code == 0 || code == -1 {
		t.Errorf("exit %d", code)
	}
	settle(t, before)
}

// TestKilledFill: a volume whose first user was killed while filling it is
// filled anew for the next ones, all of it.
func TestKilledFill(t *testing.T) {
	const n, name = 10000, "e2e-filled"
	img, err := imagekit.Files("/bin/busybox", n)
	if err != nil {
		t.Fatal(err)
	}
	img.Name = "e2e-files:latest"
	if r := load(t, img, imagekit.WriteOCI); r.code != 0 {
		t.Fatal(r)
	}
	// Unpacks the image, so that the launch to be killed begins with the fill.
	if r := run("--rm", "e2e-files", "true"); r.code != 0 {
		t.Fatal(r)
	}
	volume := filepath.Join(here.root, "volumes", name)
	before := take(t)
	t.Cleanup(func() { os.RemoveAll(volume); settle(t, before) })

	cmd := exec.Command(here.bin, "--rm", "-v", name+":/files", "e2e-files", "true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	filled := func() int {
		made, _ := filepath.Glob(filepath.Join(volume, "_data*", "*", "*"))
		return len(made)
	}
	for deadline := time.Now().Add(patient(10 * time.Second)); filled() == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if made := filled(); made == 0 || made >= n {
		t.Fatalf("%d of %d files were there at the kill: it met no fill", made, n)
	}

	answers := make(chan answer, 3)
	for range cap(answers) {
		go func() {
			answers <- run("--rm", "-v", name+":/files", "e2e-files", "sh", "-c", "find /files -type f | wc -l; find /files -type f -exec cat {} + | wc -l")
		}()
	}
	for range cap(answers) {
		if r := <-answers; r.code != 0 || r.stdout != fmt.Sprintf("%d\n%d\n", n, n) {
			t.Errorf("wanted %d files of one line, got %s", n, r)
		}
	}
}
