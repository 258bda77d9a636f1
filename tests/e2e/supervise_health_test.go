package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// health is docker's State.Health.
type health struct {
	Status        string
	FailingStreak int
	Log           []struct {
		ExitCode int
		Output   string
	}
}

func healthOf(t *testing.T, ref string) (h health) {
	t.Helper()
	out := field(ref, "{{json .State.Health}}")
	if out != "" && out != "null" {
		if err := json.Unmarshal([]byte(out), &h); err != nil {
			t.Fatalf("%v: %q", err, out)
		}
	}
	return h
}

// TestHealthActions: bad three times is unhealthy, and has the consequence
// that was chosen.
func TestHealthActions(t *testing.T) {
	t.Parallel()
	checked := func(t *testing.T, action, policy string) string {
		name := "e2e-health-" + action
		id := detach(t, append([]string{
			"--name", name, "--restart", policy, "--health-on-failure", action,
			"--health-cmd", "echo bad; test -e /tmp/ok", "--health-interval", "100ms",
		}, lasting...)...)
		removed(t, name)
		return id
	}
	unhealthy := func(id string) bool {
		return len(happened(t, id, "health_status: unhealthy")) > 0
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		id := checked(t, "none", "no")
		eventually(t, 20*time.Second, "six checks", func() bool { h := healthOf(t, id); return h.FailingStreak >= 6 })
		h := healthOf(t, id)
		if h.Status != "unhealthy" || len(h.Log) != 5 || h.Log[4].ExitCode != 1 || h.Log[4].Output != "bad\n" {
			t.Errorf("%+v", h)
		}
		if s := field(id, "{{.State.Status}}"); s != "running" {
			t.Errorf("the container is %q", s)
		}
		if r := run("exec", id, "touch", "/tmp/ok"); r.code != 0 {
			t.Error(r)
		}
		eventually(t, 20*time.Second, "healthy", func() bool { h := healthOf(t, id); return h.Status == "healthy" && h.FailingStreak == 0 })
	})
	t.Run("kill", func(t *testing.T) {
		t.Parallel()
		id := checked(t, "kill", "no")
		eventually(t, 20*time.Second, "the end", func() bool { return field(id, "{{.State.Status}} {{.State.ExitCode}}") == "exited 137" })
		if !unhealthy(id) {
			t.Error("it was killed while it was not unhealthy")
		}
	})
	t.Run("restart", func(t *testing.T) {
		t.Parallel()
		id := checked(t, "restart", "no")
		eventually(t, 20*time.Second, "two restarts", func() bool { return len(happened(t, id, "start")) >= 3 })
		if !unhealthy(id) {
			t.Error("it was restarted while it was not unhealthy")
		}
	})
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		id := checked(t, "stop", "always")
		eventually(t, 20*time.Second, "the end", func() bool { return field(id, "{{.State.Status}}") == "exited" })
		if n := len(happened(t, id, "start")); n != 1 || !unhealthy(id) {
			t.Errorf("%d starts", n)
		}
	})
}

// TestHealthHostile: a check that takes too long, floods, or leaves processes
// costs what it may cost.
func TestHealthHostile(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		check string
		want  func(h health) bool
	}{
		"slow":  {"sleep 1001", func(h health) bool { return h.Log[0].ExitCode == -1 && strings.Contains(h.Log[0].Output, "timeout") }},
		"flood": {"yes", func(h health) bool { return h.Log[0].ExitCode == -1 && len(h.Log[0].Output) < 5000 }},
		"big":   {"head -c 3000000 /dev/zero", func(h health) bool { return h.Log[0].ExitCode == 0 && len(h.Log[0].Output) < 5000 }},
		"forks": {"sleep 1001 & setsid sleep 1001 & echo well", func(h health) bool { return h.Log[0].ExitCode == 0 }},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			name := "e2e-hostile-" + what
			id := detach(t, append([]string{
				"--name", name, "--health-cmd", c.check, "--health-interval", "50ms", "--health-timeout", "400ms", "--health-retries", "1000",
			}, lasting...)...)
			removed(t, name)
			eventually(t, 30*time.Second, "five checks", func() bool { return len(healthOf(t, id).Log) == 5 })
			if h := healthOf(t, id); !c.want(h) {
				t.Errorf("%.300v", h)
			}
			pid := supervisor(t, id)
			settled(t, pid, busy)
			if what == "slow" { // one may be there now
				if n := strings.Count(run("top", name).stdout, "sleep 1001"); n > 1 {
					t.Errorf("%d checks that took too long go on", n)
				}
			}
			if execs, _ := filepath.Glob(filepath.Join(here.state, "exec", id+"-*")); len(execs) > 1 {
				t.Errorf("%d directories of checks", len(execs))
			}
		})
	}
}

// TestHealthForever: hundreds of checks leave nothing.
func TestHealthForever(t *testing.T) {
	t.Parallel()
	const name = "e2e-forever"
	checks := 200 * slowness
	id := detach(t, "--name", name, "--init", "--health-cmd", "echo >> /tmp/n; wc -l < /tmp/n", "--health-interval", "1ms", "busybox", "sleep", "1000")
	removed(t, name)
	count := func() int {
		h := healthOf(t, id)
		if len(h.Log) == 0 {
			return 0
		}
		n, _ := strconv.Atoi(strings.TrimSpace(h.Log[len(h.Log)-1].Output))
		return n
	}
	eventually(t, 30*time.Second, "20 checks", func() bool { return count() > 20 })
	pid := supervisor(t, id)
	open := func() int { fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); return len(fds) }
	fds := open()
	eventually(t, 120*time.Second, "hundreds of checks", func() bool { return count() > checks })
	settled(t, pid, busy)
	eventually(t, 5*time.Second, "no more open files than before", func() bool { return open() <= fds+2 })
	// The one that has just ended is not waited for yet.
	if r := run("exec", name, "ps", "-o", "stat"); strings.Count(r.stdout, "Z") > 2 {
		t.Errorf("zombies in the container: %s", r)
	}
	if execs, _ := filepath.Glob(filepath.Join(here.state, "exec", id+"-*")); len(execs) > 2 {
		t.Errorf("%d directories of checks", len(execs))
	}
}
