package threats

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/safe-run/safe-run/tests/harness"
)

// ids are a range of the host's that a container has.
type ids struct{ first, n uint64 }

func (a ids) meets(b ids) bool { return a.first < b.first+b.n && b.first < a.first+a.n }

// idsIn reads a map of root alone.
func idsIn(t *testing.T, text string) (r ids) {
	t.Helper()
	var inside uint64
	if n, err := fmt.Sscan(text, &inside, &r.first, &r.n); n != 3 || inside != 0 || len(lines(text)) != 1 {
		t.Fatalf("not a map of one range from root on: %q (%v)", text, err)
	}
	return r
}

// idsOf are those of a process, of kind uid or gid.
func idsOf(t *testing.T, pid, kind string) ids {
	t.Helper()
	b, err := os.ReadFile("/proc/" + pid + "/" + kind + "_map")
	if err != nil {
		t.Fatal(err)
	}
	return idsIn(t, strings.TrimRight(string(b), "\n"))
}

// processesOf are the processes of a container, by their cgroups.
func processesOf(t *testing.T, id string) (pids []string) {
	t.Helper()
	groups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		if b, err := os.ReadFile(g); err == nil && strings.Contains(string(b), id) {
			pids = append(pids, filepath.Base(filepath.Dir(g)))
		}
	}
	return pids
}

// statusOf is a field of /proc/PID/status.
func statusOf(pid, field string) string {
	b, _ := os.ReadFile("/proc/" + pid + "/status")
	for _, l := range lines(string(b)) {
		if k, v, _ := strings.Cut(l, ":"); k == field {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// idOf is a container's whole id.
func idOf(t *testing.T, name string) string {
	t.Helper()
	a := here.Run("inspect", "--format", "{{.Id}}", name)
	if a.Code != 0 {
		t.Fatal(a)
	}
	return strings.TrimSpace(a.Stdout)
}

// faulty runs the program with a fault after a step (STEP:kill, STEP:error).
func faulty(fault string, args ...string) harness.Answer {
	return harness.Call(minute, "/bin/sh", slices.Concat(
		[]string{"-c", `SAFE_RUN_FAULT=$1; export SAFE_RUN_FAULT; shift; exec "$@"`, "sh", fault, filepath.Join(here.Repo, "build/safe-run-faults")}, args)...)
}

// settled waits until there is what there was before: shims and the kernel
// take a moment.
func settled(t *testing.T, before harness.Inventory) {
	t.Helper()
	after := here.Inventory(t)
	for end := time.Now().Add(harness.Patient(20 * time.Second)); !sameThings(before, after) && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
		after = here.Inventory(t)
	}
	harness.Same(t, before, after)
}

func sameThings(a, b harness.Inventory) bool {
	for k := range a {
		if !slices.Equal(a[k], b[k]) {
			return false
		}
	}
	return len(a) == len(b)
}

// asUser runs a command of the host as somebody without privilege there.
func asUser(uid uint32, groups []uint32, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid, Groups: groups}}
	out, err := cmd.CombinedOutput()
	return string(out), err
}
