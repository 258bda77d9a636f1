package threats

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/tests/harness"
)

// outside is what the probe says of itself as root of the host, in namespaces
// of its own and with a read-only copy of the root directory, so that what
// works changes nothing.
func outside(t *testing.T) map[string]attempt {
	t.Helper()
	probes.Lock()
	defer probes.Unlock()
	if probes.of["outside"] != nil {
		return probes.of["outside"]
	}
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	const script = `mount --bind / "$1" && mount -o remount,bind,ro "$1" && mount --bind "$2" "$1/mnt" && mount -t proc proc "$1/proc" &&
mount -t sysfs sysfs "$1/sys" && mount -t devtmpfs dev "$1/dev" && mount -t tmpfs tmp "$1/tmp" && exec chroot "$1" /mnt/probe --here --json`
	cmd := exec.Command("unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--propagation", "private",
		"sh", "-c", script, "sh", root, filepath.Join(here.Repo, "build"))
	// Without a terminal to type into.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	var r struct{ Results []attempt }
	if err := json.Unmarshal(out, &r); err != nil || len(r.Results) < 100 {
		t.Fatalf("the probe outside: %v: %s", err, errs.String())
	}
	of := map[string]attempt{}
	for _, x := range r.Results {
		of[x.ID] = x
	}
	probes.of["outside"] = of
	return of
}

// stopped wants attempts of the probe to get through outside, all of them that
// this kernel has and at least one, and to be blocked by any of the ways into
// a plain container.
func stopped(t *testing.T, ids ...string) {
	t.Helper()
	if kept(t, ids...) == 0 {
		t.Errorf("none of %q works outside either: what is shown by that it does not work in a container?", ids)
	}
}

// kept is stopped for what may not work outside either; it gives the number of
// attempts that do.
func kept(t *testing.T, ids ...string) (through int) {
	t.Helper()
	probed(t)
	out := outside(t)
	probes.Lock()
	defer probes.Unlock()
	for _, id := range ids {
		x, ok := out[id]
		if !ok {
			t.Errorf("the probe does not know %s", id)
		}
		if x.Verdict == "OPEN" {
			through++
		}
		for _, mode := range []string{initProcess, execed, checked, restarted} {
			report := probes.of[mode+"/probe"]
			if report == nil && mode != initProcess {
				continue
			}
			if y := report[id]; y.Verdict != "blocked" && (y.Verdict != "absent" || x.Verdict == "OPEN") {
				t.Errorf("%s: %s is %q (%s %s), outside %q (%s)", mode, id, y.Verdict, y.Errno, y.Note, x.Verdict, x.Errno)
			}
		}
	}
	return through
}

// verdicts runs the probe in a container with these flags.
func verdicts(t *testing.T, flags ...string) map[string]attempt {
	t.Helper()
	a := here.Run(append(append([]string{"run", "--rm"}, flags...), denImage, "/probe", "--json")...)
	var r struct{ Results []attempt }
	if err := json.Unmarshal([]byte(a.Stdout), &r); err != nil || len(r.Results) < 100 {
		t.Fatalf("%q: no report of the probe: %v: %s", flags, err, a)
	}
	of := map[string]attempt{}
	for _, x := range r.Results {
		of[x.ID] = x
	}
	return of
}

// verdictIs compares verdicts of the probe.
func verdictIs(t *testing.T, about string, of map[string]attempt, verdict string, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if x, ok := of[id]; !ok || x.Verdict != verdict {
			t.Errorf("%s: %s is %q (%s %s), wanted %q", about, id, x.Verdict, x.Errno, x.Note, verdict)
		}
	}
}

// inForce puts a policy of the site in the place of the machine's, for this
// test.
func inForce(t *testing.T, policy string) {
	t.Helper()
	const dir = "/etc/safe-run"
	made := os.Mkdir(dir, 0o755) == nil
	// The tests have a mount namespace of their own.
	if err := unix.Mount("policy", dir, "tmpfs", 0, "mode=755,size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
		if made {
			_ = os.Remove(dir)
		}
	})
	if err := os.WriteFile(filepath.Join(dir, "policy.yaml"), []byte("version: 1\n"+policy), 0o644); err != nil {
		t.Fatal(err)
	}
}

// granted is a policy that grants something to the image of the tests.
func granted(t *testing.T, what string) {
	t.Helper()
	inForce(t, "grants:\n  - {image: docker.io/library/"+denImage+", "+what+"}\n")
}

// drySpec is the specification that would be run, and its text.
func drySpec(t *testing.T, flags ...string) (s specs.Spec, text string) {
	t.Helper()
	a := here.Run(append(append([]string{"run", "--rm", "--dry-run"}, flags...), denImage, "true")...)
	if err := json.Unmarshal([]byte(a.Stdout), &s); err != nil || a.Code != 0 {
		t.Fatalf("%q: %v: %s", flags, err, a)
	}
	return s, a.Stdout
}

// wrote makes a file that a flag can name.
func wrote(t *testing.T, name, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// detached starts a container that is gone after the test, and gives its id.
func detached(t *testing.T, name string, args ...string) string {
	t.Helper()
	t.Cleanup(func() { here.Run("rm", "-f", "-v", name) })
	a := here.Run(append([]string{"run", "-d", "--name", name}, args...)...)
	if a.Code != 0 {
		t.Fatalf("run %q: %s", args, a)
	}
	return strings.TrimSpace(a.Stdout)
}

// hostPID is a container's first process as the host sees it.
func hostPID(t *testing.T, name string) string {
	t.Helper()
	a := here.Run("inspect", "--format", "{{.State.Pid}}", name)
	if a.Code != 0 || strings.TrimSpace(a.Stdout) == "0" {
		t.Fatal(a)
	}
	return strings.TrimSpace(a.Stdout)
}

// minute is how long a command that is not safe-run may take.
const minute = time.Minute

// onHost is a command of the host.
func onHost(t *testing.T, name string, args ...string) harness.Answer {
	t.Helper()
	return harness.Call(minute, name, args...)
}
