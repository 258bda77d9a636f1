package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestProgramRenamed: the program works under any name and from any place that its
// engine can be found from, and what it prints is its own name.
func TestProgramRenamed(t *testing.T) {
	before := take(t)
	dir := tempDir(t)
	link := filepath.Join(dir, "linked")
	if err := os.Symlink(here.bin, link); err != nil {
		t.Fatal(err)
	}
	foo := copied(t, filepath.Join(dir, "foo"))
	if err := os.Symlink(filepath.Join(here.repo, "build/engine"), filepath.Join(dir, "engine")); err != nil {
		t.Fatal(err)
	}
	for _, bin := range []string{link, foo} {
		if r := call(request{bin: bin, args: []string{"--rm", "busybox", "echo", "hi"}}); r.code != 0 || r.stdout != "hi\n" {
			t.Errorf("%s: %s", bin, r)
		}
	}
	for _, name := range []string{"", "-", "evil\x1b[31m\nnext", strings.Repeat("x", 3000), "../../x", "safe-run engine"} {
		cmd := exec.Command(here.bin, "run", "--pull", "never", "no-such-image")
		cmd.Args[0] = name
		out, _ := cmd.CombinedOutput()
		if l := lines(string(out)); cmd.ProcessState.ExitCode() != 125 || len(l) > 2 || !strings.HasPrefix(l[0], "safe-run: ") {
			t.Errorf("as %.30q: %s: %s", name, cmd.ProcessState, out)
		}
	}
	alone := copied(t, filepath.Join(tempDir(t), "safe-run"))
	for _, d := range []string{"-d", "--rm"} {
		refuses(t, "without its engine", call(request{bin: alone, args: []string{"run", d, "busybox", "true"}}), 125, "safe-run's own is not installed")
	}
	settle(t, before)
}

// copied is a copy of the program.
func copied(t *testing.T, to string) string {
	t.Helper()
	b, err := os.ReadFile(here.bin)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, to, string(b), 0o755)
}

// TestProgramRemoved: a container whose supervisor's program was removed lives
// on, and is started again by its policy.
func TestProgramRemoved(t *testing.T) {
	before := take(t)
	dir := tempDir(t)
	if err := os.Symlink(filepath.Join(here.repo, "build/engine"), filepath.Join(dir, "engine")); err != nil {
		t.Fatal(err)
	}
	bin := copied(t, filepath.Join(dir, "safe-run"))
	r := call(request{bin: bin, args: []string{"run", "-d", "--name", "e2e-kept", "--restart", "on-failure:1", "busybox", "sh", "-c", "sleep 0.5; exit 3"}})
	if r.code != 0 {
		t.Fatal(r)
	}
	if err := os.Remove(bin); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "its second end", func() bool {
		return field("e2e-kept", "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}") == "exited 3 1"
	})
	if e := field("e2e-kept", "{{.State.Error}}"); e != "" {
		t.Errorf("it was not started again: %s", e)
	}
	fine(t, "rm", run("rm", "-f", "e2e-kept"))
	settle(t, before)
}

// TestSurroundings: what a launch does not need may be missing; what it needs is
// named.
func TestSurroundings(t *testing.T) {
	locked := tempDir(t)
	if err := unix.Mount("none", locked, "tmpfs", unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(locked, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	before := take(t)
	for _, script := range []string{
		"unset HOME PATH", "export HOME=/nonexistent TMPDIR=/nonexistent PATH=/nonexistent",
		"export HOME=" + locked + " TMPDIR=" + locked, "export HOME=relative TMPDIR=relative",
	} {
		script += `; "$0" --rm busybox echo ran && "$0" load -q < "$1"`
		if r := call(request{bin: "/bin/sh", args: []string{"-c", script, here.bin, busyboxTar()}}); r.code != 0 || !strings.HasPrefix(r.stdout, "ran\n") {
			t.Errorf("%s: %s", script, r)
		}
	}
	gone := call(request{bin: "/bin/sh", args: []string{"-c", `cd "$1" && rmdir "$1" && exec "$0" --rm busybox true`, here.bin, tempDir(t)}})
	refuses(t, "a working directory that was removed", gone, 125, "the directory this was started in")
	settle(t, before)
}

// TestNoNetwork: without any interface that is up, containers run, and a pull
// says what is wrong.
func TestNoNetwork(t *testing.T) {
	before := take(t)
	apart := func(args ...string) answer {
		return call(request{bin: "/usr/bin/unshare", args: append([]string{"--net", here.bin}, args...)})
	}
	for _, flags := range [][]string{nil, {"--network", "none"}, {"-p", "127.0.0.1:0:80"}} {
		if r := apart(append(append([]string{"--rm"}, flags...), "busybox", "echo", "ran")...); r.code != 0 || r.stdout != "ran\n" {
			t.Errorf("%v: %s", flags, r)
		}
	}
	refuses(t, "pull", apart("pull", "registry.example/image"), 1, "dial tcp")
	refuses(t, "run", apart("run", "-q", "--pull", "always", "registry.example/image"), 125, "dial tcp")
	settle(t, before)
}

// TestFewFiles: with too few descriptors nothing is begun.
func TestFewFiles(t *testing.T) {
	before := take(t)
	for _, n := range []int{10, 20, 40} {
		for _, args := range []string{"run --rm busybox true", "run -d --name e2e-none busybox true"} {
			r := call(request{bin: "/bin/sh", args: []string{"-c", fmt.Sprintf(`ulimit -n %d; exec "$0" %s`, n, args), here.bin}})
			refuses(t, fmt.Sprintf("%d files: %s", n, args), r, 125, "RLIMIT_NOFILE", "too many open files")
		}
	}
	r := call(request{bin: "/bin/sh", args: []string{"-c", `ulimit -n 64; exec "$0" --rm busybox true`, here.bin}})
	fine(t, "64 files", r)
	settle(t, before)
}

// TestLittleMemory: the launcher runs a container in a cgroup of 24 MiB, and
// leaves nothing where the kernel kills it for memory.
func TestLittleMemory(t *testing.T) {
	parent, file := "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		parent, file = "/sys/fs/cgroup", "memory.max"
	}
	cgroup := filepath.Join(parent, "safe-run-e2e-memory")
	if err := os.Mkdir(cgroup, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		eventually(t, 5*time.Second, "the cgroup is empty", func() bool { return unix.Rmdir(cgroup) == nil })
	})
	before := take(t)
	for _, mib := range []int{24, 6, 3, 1} {
		if err := os.WriteFile(filepath.Join(cgroup, file), fmt.Appendf(nil, "%dM", mib), 0); err != nil {
			t.Fatal(err)
		}
		r := call(request{bin: "/bin/sh", args: []string{"-c", `echo $$ > "$1/cgroup.procs"; exec "$0" --rm --network none busybox echo ran`, here.bin, cgroup}})
		t.Logf("%d MiB: exit %d", mib, r.code)
		if mib == 24 && r.stdout != "ran\n" {
			t.Errorf("24 MiB: %s", r)
		}
		if len(r.stderr) > 1000 {
			t.Errorf("%d MiB: %s", mib, r)
		}
		fine(t, "the next command", run("ps", "-q"))
		settle(t, before)
	}
}

// times are the fields of a record that hold one.
var times = []string{"created", "started", "finished"}

// TestClock: records from years ahead or ago, as a clock that was set leaves
// them, are as good as any.
func TestClock(t *testing.T) {
	for _, years := range []int{10, -10} {
		t.Run(fmt.Sprintf("%+d years", years), func(t *testing.T) {
			before := take(t)
			id := detach(t, append([]string{
				"--name", "e2e-full", "--restart", "always",
				"--health-cmd", "false", "--health-interval", "200ms", "--health-retries", "2", "--health-start-period", "1s",
			}, printer...)...)
			if r := run("run", "--name", "e2e-kept", "-v", "/data", "busybox", "true"); r.code != 0 {
				t.Fatal(r)
			}
			killed(t, []int{supervisor(t, id)})
			for _, name := range []string{"e2e-full", "e2e-kept"} {
				dir := filepath.Join(here.root, "containers", field(name, "{{.Id}}"))
				shift(t, filepath.Join(dir, "record.json"), years)
				_ = os.Remove(filepath.Join(dir, "health.json"))
			}
			fine(t, "ps", run("ps", "-a"))
			works(t)
			fine(t, "rm", run("rm", "-f", "-v", "e2e-full", "e2e-kept"))
			settle(t, before)
		})
	}
}

// works does with the containers of TestClock what a wrong time could hold up.
func works(t *testing.T) {
	t.Helper()
	eventually(t, 15*time.Second, "health checks count", func() bool { return healthOf(t, "e2e-full").Status == "unhealthy" })
	for _, args := range [][]string{
		{"exec", "e2e-full", "true"},
		{"logs", "-n", "1", "e2e-full"},
		{"restart", "-t", "1", "e2e-full"},
		{"start", "e2e-kept"},
		{"stop", "-t", "1", "e2e-full"},
		{"start", "e2e-full"},
	} {
		r := run(args...)
		fine(t, strings.Join(args, " "), r)
		if r.took > patient(10*time.Second) {
			t.Errorf("%v took %v", args, r.took)
		}
	}
}

// shift moves the times of a record.
func shift(t *testing.T, path string, years int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var rec map[string]any
	if err := json.Unmarshal(b, &rec); err != nil {
		t.Fatal(err)
	}
	moved := 0
	for _, k := range times {
		if s, ok := rec[k].(string); ok {
			at, err := time.Parse(time.RFC3339Nano, s)
			if err != nil {
				t.Fatal(err)
			}
			rec[k], moved = at.AddDate(years, 0, 0), moved+1
		}
	}
	if moved == 0 {
		t.Fatalf("%s has no times", path)
	}
	if b, err = json.Marshal(rec); err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, string(b), 0o600)
}

// TestClockSet: the clock is set while containers run. Only a machine that is
// nobody else's has it done: one without the sources, made for these tests.
func TestClockSet(t *testing.T) {
	if _, err := os.Stat(filepath.Join(here.repo, "go.mod")); err == nil {
		t.Log("the clock of a machine others use is left alone; TestClock has records of such a clock")
		return
	}
	for _, years := range []int{10, -5} {
		t.Run(fmt.Sprintf("%+d years", years), func(t *testing.T) {
			before := take(t)
			detach(t, append([]string{
				"--name", "e2e-full", "--restart", "always",
				"--health-cmd", "false", "--health-interval", "200ms", "--health-retries", "2", "--health-start-period", "1s",
			}, printer...)...)
			if r := run("run", "--name", "e2e-kept", "-v", "/data", "busybox", "true"); r.code != 0 {
				t.Fatal(r)
			}
			began := time.Now()
			set := func(at time.Time) {
				tv := unix.NsecToTimeval(at.UnixNano())
				if err := unix.Settimeofday(&tv); err != nil {
					t.Fatal(err)
				}
			}
			set(began.AddDate(years, 0, 0))
			defer func() { set(began.Round(0).Add(time.Since(began))) }() // by the clock that cannot be set
			works(t)
			fine(t, "rm", run("rm", "-f", "-v", "e2e-full", "e2e-kept"))
			settle(t, before)
		})
	}
}
