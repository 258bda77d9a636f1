package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestRenamed: the others on a network find a container by its new name, and
// what has joined its network finds it again.
func TestRenamed(t *testing.T) {
	t.Parallel()
	if r := run("network", "create", "--icc", "e2e-renamed"); r.code != 0 {
		t.Fatal(r)
	}
	t.Cleanup(func() { // after the containers
		if r := run("network", "rm", "e2e-renamed"); r.code != 0 {
			t.Error(r)
		}
	})
	id := detach(t, "--name", "e2e-oldname", "--network", "e2e-renamed", "--hostname", "e2e-inner", "busybox", "sleep", "600")
	removed(t, id)
	asker := detach(t, "--network", "e2e-renamed", "busybox", "sleep", "600")
	removed(t, asker)
	joiner := detach(t, "--network", "container:e2e-oldname", "busybox", "sleep", "600")
	removed(t, joiner)
	finds := func(name string) bool {
		return strings.Contains(run("exec", asker, "nslookup", name).stdout, "10.")
	}
	named := func() string {
		return run("network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{end}}", "e2e-renamed").stdout
	}
	if !finds("e2e-oldname") || !strings.Contains(named(), "e2e-oldname ") {
		t.Errorf("before: %s", named())
	}
	if r := run("rename", "e2e-oldname", "e2e-newname"); r.code != 0 {
		t.Fatal(r)
	}
	if !finds("e2e-newname") || !finds("e2e-inner") || finds("e2e-oldname") || !strings.Contains(named(), "e2e-newname ") {
		t.Errorf("the names after: %s%s", named(), field(id, "{{json .NetworkSettings.Networks}}"))
	}
	if r := run("restart", "-t", "0", joiner); r.code != 0 {
		t.Error(r)
	}
	if r := run("exec", joiner, "hostname"); r.stdout != "e2e-inner\n" {
		t.Error(r)
	}
}

// TestStopFull: a container stops for good, and is known to have, although the
// disk is full, perhaps of its own log.
func TestStopFull(t *testing.T) {
	t.Parallel()
	for _, verb := range [][]string{{"stop", "-t", "0"}, {"kill"}} {
		id := detach(t, "--restart", "always", "--network", "none", "busybox", "sleep", "600")
		removed(t, id)
		dir := filepath.Join(here.root, "containers", id)
		script := "cp -a $0/. $1 && mount -t tmpfs -o size=256k none $0 && cp -a $1/. $0; head -c 1M /dev/zero > $0/fill"
		if out, err := exec.Command("sh", "-c", script, dir, tempDir(t)).CombinedOutput(); err == nil {
			t.Fatalf("the disk is not full: %s", out)
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(dir, 0); err != nil {
				t.Error(err)
			}
		})
		if r := run(append(verb, id)...); r.code != 0 {
			t.Error(r)
		}
		if r := run("ps", "-a", "--filter", "id="+id, "--format", "{{.State}}"); r.stdout != "exited\n" {
			t.Errorf("%v: %s", verb, r)
		}
	}
}

// TestRawTerminal: the caller's terminal adds nothing to what the container's
// puts out, or programs that draw on the screen would miss their place.
func TestRawTerminal(t *testing.T) {
	t.Parallel()
	id := detach(t, "-it", "busybox", "sh", "-c", "read x; stty -onlcr; printf 'b\\nc\\n'")
	removed(t, id)
	for _, args := range [][]string{
		{"run", "--rm", "-it", "busybox", "sh", "-c", "stty -onlcr; printf 'b\\nc\\n'"},
		{"exec", "-it", id, "sh", "-c", "stty -onlcr; printf 'b\\nc\\n'"},
		{"attach", id},
	} {
		s, tty := onTerminal(t, args...)
		_, _ = tty.Write([]byte("go\n"))
		s.until(t, "b\nc\n")
	}
}
