package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// withoutLeader starts a container whose program has ended its first thread
// and goes on in others, and gives the number of the process.
func withoutLeader(t *testing.T, bin, name string, flags ...string) (pid int) {
	t.Helper()
	detach(t, append(append([]string{"--name", name, "-v", bin + ":/helper:ro,exec"}, flags...), "busybox", "/helper/helper", "leaderless")...)
	return endsFirst(t, name)
}

func endsFirst(t *testing.T, name string) (pid int) {
	t.Helper()
	eventually(t, 20*time.Second, "the first thread of "+name+" ends", func() bool {
		pid, _ = strconv.Atoi(field(name, "{{.State.Pid}}"))
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return strings.Contains(string(stat), ") Z ")
	})
	return pid
}

// gone waits for the end of a process, all its threads with it.
func gone(t *testing.T, pid int) {
	t.Helper()
	eventually(t, 10*time.Second, "the program has ended", func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
}

// promptly runs safe-run and sees to it that it does not hang and that an
// error is one line.
func promptly(t *testing.T, args ...string) answer {
	t.Helper()
	r := run(args...)
	if r.took > patient(15*time.Second) || strings.Count(r.stderr, "\n") > 1 || r.code != 0 && r.stderr == "" {
		t.Errorf("%s, in %s: %s", strings.Join(args, " "), r.took, r)
	}
	return r
}

// TestLeaderless: the kernel shows a program whose first thread has ended as a
// zombie, and the runtime takes it for dead. Each command works with it all the
// same or says what it cannot do, and it can be ended.
func TestLeaderless(t *testing.T) {
	t.Parallel()
	const name = "e2e-leaderless"
	bin := helper(t)
	pid := withoutLeader(t, bin, name, "--health-cmd", "true", "--health-interval", "200ms", "--health-retries", "2")
	t.Cleanup(func() { run("rm", "-fv", name) }) // it is gone, if all went well

	for what, args := range map[string][]string{
		"nothing can be executed in": {"exec", name, "true"},
		"cannot pause":               {"pause", name},
	} {
		if r := promptly(t, args...); r.code != 1 || !strings.Contains(r.stderr, what+" container ") || !strings.Contains(r.stderr, ": the first thread of its program has ended") {
			t.Errorf("%s: %s", args[0], r)
		}
	}
	if r := promptly(t, "exec", "-d", name, "true"); r.code != 1 || !strings.Contains(r.stderr, "the first thread of its program has ended") {
		t.Errorf("exec -d: %s", r)
	}
	if r := promptly(t, "unpause", name); r.code != 1 || !strings.Contains(r.stderr, "is not paused") {
		t.Errorf("unpause: %s", r)
	}
	if s := field(name, "{{.State.Status}} {{.State.Paused}}"); s != "running false" {
		t.Errorf("the container is %q", s)
	}
	for want, args := range map[string][]string{
		"defunct":        {"top", name},
		name:             {"stats", "--no-stream", name},
		"localhost":      {"cp", name + ":/etc/hosts", "-"},
		"tick":           {"logs", "--tail", "1", name},
		`"running"`:      {"inspect", name},
		"Up ":            {"ps", "--filter", "name=" + name},
		name + "\n":      {"kill", "-s", "WINCH", name},
		"the first proc": {"run", "--rm", "--network", "container:" + name, "busybox", "echo", "joined the first process"},
	} {
		if r := promptly(t, args...); r.code != 0 || !strings.Contains(r.stdout, want) {
			t.Errorf("%s: %s", args[0], r)
		}
	}
	p := audits(t, name)
	if p.Subject.PID != pid || p.Facts.Namespaces["mount"] != "own" || len(p.Facts.Unread) > 0 {
		t.Errorf("audit: %+v", p.Facts)
	}
	eventually(t, 20*time.Second, "its health is said to be unknown", func() bool {
		h := healthOf(t, name)
		return h.Status == "unhealthy" && strings.Contains(h.Log[0].Output, "the first thread of its program has ended")
	})

	if r := promptly(t, "restart", "-t", "1", name); r.code != 0 {
		t.Errorf("restart: %s", r)
	}
	gone(t, pid)
	pid = endsFirst(t, name)
	if r := promptly(t, "stop", "-t", "1", name); r.code != 0 || field(name, "{{.State.Status}}") != "exited" {
		t.Errorf("stop: %s", r)
	}
	gone(t, pid)
	if r := promptly(t, "start", name); r.code != 0 {
		t.Errorf("start: %s", r)
	}
	pid = endsFirst(t, name)
	if r := promptly(t, "rm", "-f", name); r.code != 0 {
		t.Errorf("rm -f: %s", r)
	}
	gone(t, pid)

	// Nor does it outlive those who looked after it.
	pid = withoutLeader(t, bin, name, "--rm")
	if err := syscall.Kill(supervisor(t, field(name, "{{.Id}}")), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if r := promptly(t, "rm", "-f", name); r.code != 0 {
		t.Errorf("rm -f without its supervisor: %s", r)
	}
	gone(t, pid)
}
