package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// lasting is a program that runs until it is asked to end, and then ends.
var lasting = []string{"busybox", "sh", "-c", `trap "exit 0" TERM; while :; do sleep 0.05; done`}

// detach starts a container in the background and gives its id.
func detach(t *testing.T, args ...string) string {
	t.Helper()
	r := run(append([]string{"run", "-d"}, args...)...)
	if r.code != 0 || len(strings.TrimSpace(r.stdout)) != 64 {
		t.Fatalf("run -d %s: %s", strings.Join(args, " "), r)
	}
	return strings.TrimSpace(r.stdout)
}

// field is what inspect's format gives for a container, "" if there is none.
func field(ref, format string) string {
	return strings.TrimSpace(run("inspect", "--format", format, ref).stdout)
}

// eventually waits until what is true.
func eventually(t *testing.T, within time.Duration, about string, what func() bool) {
	t.Helper()
	for end := time.Now().Add(patient(within)); !what(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", patient(within), about)
		}
	}
}

// holders are the processes that have the lock of a container: its
// supervisor.
func holders(id string) (pids []int) {
	lock, err := os.Stat(filepath.Join(here.state, "live", id))
	if err != nil {
		return nil
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		cmdline, err := os.ReadFile(d + "/cmdline")
		if err != nil || !strings.HasPrefix(string(cmdline), "safe-run\x00__supervise") {
			continue
		}
		fds, _ := filepath.Glob(d + "/fd/*")
		for _, f := range fds {
			if st, err := os.Stat(f); err == nil && os.SameFile(st, lock) {
				pid, _ := strconv.Atoi(filepath.Base(d))
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

// supervisor is the process that has a container; it waits for it.
func supervisor(t *testing.T, id string) int {
	t.Helper()
	var p []int
	eventually(t, 20*time.Second, "a supervisor of "+id, func() bool { p = holders(id); return len(p) == 1 })
	return p[0]
}

// single fails the test if two processes go on having one container. For a
// moment it is so while one hands it over.
func single(t *testing.T, id string) {
	t.Helper()
	eventually(t, 10*time.Second, "one supervisor of "+id, func() bool { return len(holders(id)) <= 1 })
}

// TestSupervisorFaults: after an error or a SIGKILL behind any step of a
// detached start, a start of a stopped container and a restart, the container
// is ended or taken over, and nothing is left once it is removed.
func TestSupervisorFaults(t *testing.T) {
	steps := strings.Fields(call(request{bin: here.faulty, args: []string{"__faults"}}).stdout)
	if !slices.Contains(steps, "between") || !slices.Contains(steps, "again") {
		t.Fatalf("the steps are %q", steps)
	}
	before := whole(t)
	faulty := func(fault string, args ...string) answer {
		return call(request{bin: here.faulty, args: args, env: []string{"SAFE_RUN_FAULT=" + fault}})
	}
	ended := func(t *testing.T, name string) {
		eventually(t, 20*time.Second, "the end of "+name, func() bool {
			id := field(name, "{{.Id}}")
			return id == "" || len(holders(id)) == 0
		})
	}
	t.Run("", func(t *testing.T) { // waits for the parallel ones
		for what, try := range map[string]func(t *testing.T, name, fault, armed string) string{
			"run": func(_ *testing.T, name, fault, _ string) string {
				r := faulty(fault, append([]string{"run", "-d", "-v", "/data", "--name", name}, lasting...)...)
				return strings.TrimSpace(r.stdout)
			},
			"start": func(t *testing.T, name, fault, _ string) string {
				id := detach(t, append([]string{"--name", name, "--restart", "on-failure:2"}, lasting...)...)
				if r := run("stop", name); r.code != 0 {
					t.Error(r)
				}
				ended(t, name)
				faulty(fault, "start", name)
				return id
			},
			"restart": func(t *testing.T, name, fault, armed string) string {
				r := faulty(fault+":"+armed, append([]string{"run", "-d", "--restart", "unless-stopped", "--name", name}, lasting...)...)
				if r.code != 0 {
					t.Errorf("run -d: %s", r)
				}
				writeFile(t, armed, "", 0o600)
				if r := run("restart", name); r.code == -1 {
					t.Errorf("restart: %s", r)
				}
				return strings.TrimSpace(r.stdout)
			},
			"end": func(t *testing.T, name, fault, _ string) string {
				r := faulty(fault, "run", "-d", "--rm", "--name", name, "busybox", "true")
				ended(t, name)
				return strings.TrimSpace(r.stdout)
			},
		} {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				dir := tempDir(t)
				for i, step := range steps {
					for n, how := range []string{"kill", "error"} {
						if slowness == 1 && i%2 != n {
							continue // half of them, for speed
						}
						t.Run(step+" "+how, func(t *testing.T) {
							armed := filepath.Join(dir, step+how)
							name := "e2e-" + what
							id := try(t, name, step+":"+how, armed)
							_ = os.Remove(armed)
							sound(t, name, id)
						})
					}
				}
			})
		}
	})
	settleAll(t, before)
}

// TestSupervisorKilled: the same for SIGKILL of the supervisor at moments
// nobody chose: while it starts, restarts, stops, and while nothing happens.
func TestSupervisorKilled(t *testing.T) {
	rounds := 12
	if slowness > 1 {
		rounds = 100
	}
	before := whole(t)
	t.Run("", func(t *testing.T) {
		for _, what := range []string{"run", "start", "restart", "stop", "rm", "crash"} {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				for i := range rounds {
					name := fmt.Sprintf("e2e-killed-%s-%d", what, i)
					policy := []string{"no", "on-failure:3", "unless-stopped", "always"}[i%4]
					args := append([]string{"--name", name, "--restart", policy}, lasting...)
					killedDuring(t, what, name, args)
					if t.Failed() {
						t.Fatalf("round %d: %s, policy %s", i, what, policy)
					}
				}
			})
		}
	})
	settleAll(t, before)
}

// killedDuring does something to a container and kills its supervisor meanwhile.
func killedDuring(t *testing.T, what, name string, args []string) {
	t.Helper()
	id := ""
	if what != "run" {
		id = detach(t, args...)
	}
	target := func() []int { return holders(id) }
	var cmd *exec.Cmd
	within := 300 * time.Millisecond
	switch what {
	case "run":
		cmd = exec.Command(here.bin, append([]string{"run", "-d"}, args...)...)
	case "start":
		if r := run("stop", name); r.code != 0 {
			t.Fatal(r)
		}
		cmd = exec.Command(here.bin, "start", name)
	case "rm":
		cmd = exec.Command(here.bin, "rm", "-f", name)
	case "crash":
		pid := field(name, "{{.State.Pid}}")
		cmd = exec.Command("kill", "-9", pid)
	default:
		cmd = exec.Command(here.bin, what, name)
	}
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if what == "run" || what == "start" {
		target = func() []int { return offspring(cmd.Process.Pid) }
		eventually(t, 10*time.Second, "a supervisor", func() bool { return len(target()) > 0 })
	}
	pids := target()
	time.Sleep(time.Duration(rand.Int64N(int64(within))))
	for _, p := range pids {
		_ = syscall.Kill(p, syscall.SIGKILL)
	}
	hung := time.AfterFunc(patient(60*time.Second), func() { _ = cmd.Process.Kill(); t.Errorf("%s hangs", what) })
	_ = cmd.Wait()
	hung.Stop()
	// What was stopped stays so, whatever the policy.
	if what == "stop" && cmd.ProcessState.ExitCode() == 0 {
		if s := field(name, "{{.State.Status}}"); s != "exited" {
			t.Errorf("stop succeeded, and the container is %q", s)
		}
	}
	if what == "rm" && cmd.ProcessState.ExitCode() == 0 {
		if s := field(name, "{{.State.Status}}"); s != "" {
			t.Errorf("rm succeeded, and the container is %q", s)
		}
	}
	sound(t, name, id)
	if t.Failed() {
		t.Logf("%s ended with %d: %s", what, cmd.ProcessState.ExitCode(), clip(errs.String()))
	}
}

// offspring are the children of a process.
func offspring(pid int) (pids []int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		for _, w := range strings.Fields(string(b)) {
			n, _ := strconv.Atoi(w)
			pids = append(pids, n)
		}
	}
	return pids
}

// TestTogether: eight of a command at once on one container give sane answers
// and a consistent end.
func TestTogether(t *testing.T) {
	before := whole(t)
	t.Run("", func(t *testing.T) {
		for _, policy := range []string{"no", "unless-stopped"} {
			t.Run(policy, func(t *testing.T) {
				t.Parallel()
				name := "e2e-together-" + policy
				all := func(args ...string) []answer {
					answers := make([]answer, 8)
					var wg sync.WaitGroup
					for i := range answers {
						wg.Go(func() { answers[i] = run(args...) })
					}
					wg.Wait()
					return answers
				}
				must := func(args ...string) {
					t.Helper()
					for _, r := range all(args...) {
						if r.code != 0 {
							t.Errorf("%s: %s", strings.Join(args, " "), r)
						}
					}
				}
				status := func(want string) {
					t.Helper()
					if s := field(name, "{{.State.Status}}"); s != want {
						t.Errorf("the container is %q, wanted %q", s, want)
					}
				}
				for range 2 {
					id := detach(t, append([]string{"--name", name, "--restart", policy}, lasting...)...)
					must("restart", name)
					status("running")
					must("stop", name)
					status("exited")
					must("start", name)
					status("running")
					single(t, id)
					// Of stop and restart at once, one is the last.
					var wg sync.WaitGroup
					for i := range 8 {
						wg.Go(func() {
							if r := run([]string{"stop", "restart"}[i%2], name); r.code == -1 {
								t.Error(r)
							}
						})
					}
					wg.Wait()
					single(t, id)
					// No more restarts come than were asked for.
					if s := field(name, "{{.State.Status}}"); s != "running" && s != "exited" {
						t.Errorf("after stop and restart: %q", s)
					}
					removed := 0
					for _, r := range all("rm", "-f", name) {
						switch {
						case r.code == 0:
							removed++
						case !strings.Contains(r.stderr, "No such container"):
							t.Errorf("rm -f: %s", r)
						}
					}
					if removed == 0 {
						t.Error("no rm -f succeeded")
					}
					status("")
				}
			})
		}
	})
	settleAll(t, before)
}
