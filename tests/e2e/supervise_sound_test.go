package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/safe-run/safe-run/tests/harness"
)

// whole is take, with what only supervision can leave.
func whole(t *testing.T) harness.Inventory {
	t.Helper()
	inv := take(t)
	execs, _ := filepath.Glob(filepath.Join(here.state, "exec", "*"))
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		cmdline, _ := os.ReadFile(d + "/cmdline")
		env, _ := os.ReadFile(d + "/environ")
		if strings.Contains(string(cmdline), "__supervise") && strings.Contains(string(env), "SAFE_RUN_ROOT="+here.root+"\x00") {
			inv["supervisor"] = append(inv["supervisor"], d)
		}
	}
	for _, x := range execs {
		inv["exec"] = append(inv["exec"], filepath.Base(x))
	}
	return inv
}

// settleAll is settle with whole inventories.
func settleAll(t *testing.T, before harness.Inventory) {
	t.Helper()
	for end := time.Now().Add(patient(20 * time.Second)); ; time.Sleep(50 * time.Millisecond) {
		after := whole(t)
		if equal(before, after) || time.Now().After(end) {
			same(t, before, after)
			return
		}
	}
}

// sound: whatever happened to a container's supervisor, the next command finds
// the container ended, or supervised by one process that answers; and it can
// be removed.
func sound(t *testing.T, name, id string) {
	t.Helper()
	if r := run("images", "-q"); r.code != 0 || r.stderr != "" {
		t.Errorf("the next command: %s", r)
	}
	// Found by name as long as it has one.
	if got := field(name, "{{.Id}}"); got != "" {
		id = got
	}
	status := field(name, "{{.State.Status}}")
	switch status {
	case "running", "restarting", "created": // as far as its record says
		eventually(t, 20*time.Second, "the container runs or has ended", func() bool {
			s := field(name, "{{.State.Status}}")
			return s == "" || s == "exited" || s == "running" && run("exec", name, "true").code == 0
		})
		single(t, id)
	case "exited", "":
	default:
		t.Errorf("status %q", status)
	}
	if r := run("rm", "-fv", name); r.code != 0 && status != "" {
		t.Errorf("rm -fv of a container that was %q: %s", status, r)
	}
	// A command of another test may just be clearing it away; or the killed
	// supervisor had its lock for longer than these commands took, which leaves
	// it to the next.
	for end := time.Now().Add(patient(20 * time.Second)); id != ""; time.Sleep(50 * time.Millisecond) {
		left := remains(id)
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Errorf("rm -f and the commands after it left %q", left)
			return
		}
		if r := run("images", "-q"); r.code != 0 || r.stderr != "" {
			t.Errorf("a command after rm -f: %s", r)
		}
	}
}

// remains is what there is of a container on the disk.
func remains(id string) (left []string) {
	for _, p := range []string{here.root + "/containers/", here.state + "/live/", here.state + "/io/"} {
		if _, err := os.Lstat(p + id); err == nil {
			left = append(left, p+id)
		}
	}
	return left
}
