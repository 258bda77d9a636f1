package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// What the shell of a caller is limited to, no supervisor in the background
// is: it may be the one that takes over somebody else's container.
func TestCallersLimits(t *testing.T) {
	t.Parallel()
	const name = "e2e-callers-limits"
	removed(t, name)
	script := "umask 0; ulimit -S -f 4; exec " + here.bin + " run -d --name " + name + " busybox sh -c 'seq 20000; touch /tmp/done; sleep 1000'"
	r := call(request{bin: "/bin/bash", args: []string{"-c", script}})
	if r.code != 0 {
		t.Fatal(r)
	}
	id := strings.TrimSpace(r.stdout)
	eventually(t, 30*time.Second, "the end of the output", func() bool {
		return run("exec", name, "test", "-e", "/tmp/done").code == 0
	})
	eventually(t, 10*time.Second, "the whole log", func() bool {
		r = run("logs", "--tail", "1", name)
		return r.stdout == "20000\n"
	})
	pid := supervisor(t, id)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil || !strings.Contains(string(status), "Umask:\t0022\n") {
		t.Errorf("the caller's umask: %v\n%s", err, status)
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil || !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), "Max file size unlimited unlimited") {
		t.Errorf("the caller's limits: %v\n%s", err, limits)
	}
}
