package e2e

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// happened gives the times of the events of a kind of a container, in ns.
func happened(t *testing.T, id, action string) (at []int64) {
	t.Helper()
	now := time.Now() // a duration would be rounded to seconds, as docker's
	r := run("events", "--since", "1h", "--until", fmt.Sprintf("%d.%09d", now.Unix(), now.Nanosecond()), "--filter", "container="+id, "--filter", "event="+action, "--format", "{{.TimeNano}}")
	if r.code != 0 {
		t.Fatal(r)
	}
	for _, l := range lines(r.stdout) {
		n, err := strconv.ParseInt(l, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, n)
	}
	return at
}

// dirty is the private memory of a process, in KiB.
func dirty(t *testing.T, pid int) int {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), "Private_Dirty:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(v, "kB")))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("smaps_rollup has no Private_Dirty")
	return 0
}

// What a supervisor may hold, in KiB: one that waits, and one that has much to
// do or had until now.
const (
	idle = 6 << 10
	busy = 8 << 10
)

// settled waits until a supervisor has given back what it needed for a while.
func settled(t *testing.T, pid, limit int) {
	t.Helper()
	least := 1 << 30
	for end := time.Now().Add(patient(10 * time.Second)); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if least = min(least, dirty(t, pid)); least <= limit {
			return
		}
	}
	t.Errorf("the supervisor keeps %d KiB of private memory, wanted at most %d", least, limit)
}

// removed sees to it that a container is gone after the test.
func removed(t *testing.T, names ...string) {
	t.Helper()
	t.Cleanup(func() {
		if r := run(append([]string{"rm", "-fv"}, names...)...); r.code != 0 {
			t.Errorf("rm -f: %s", r)
		}
	})
}

// TestRestarts: on-failure:3 is three restarts, with a back-off that doubles.
func TestRestarts(t *testing.T) {
	t.Parallel()
	id := detach(t, "--name", "e2e-on-failure", "--restart", "on-failure:3", "busybox", "sh", "-c", "exit 3")
	removed(t, "e2e-on-failure")
	eventually(t, 20*time.Second, "the end", func() bool { return field(id, "{{.State.Status}}") == "exited" })
	if got := field(id, "{{.RestartCount}} {{.State.ExitCode}}"); got != "3 3" {
		t.Errorf("restarts and exit code %q", got)
	}
	starts, dies := happened(t, id, "start"), happened(t, id, "die")
	if len(starts) != 4 || len(dies) != 4 {
		t.Fatalf("%d starts and %d ends, wanted 4", len(starts), len(dies))
	}
	for i, least := range []time.Duration{100, 200, 400} {
		if wait := time.Duration(starts[i+1] - dies[i]); wait < least*time.Millisecond {
			t.Errorf("restart %d came after %s, wanted %s", i+1, wait, least*time.Millisecond)
		}
	}
}

// TestUnlessStopped: the container outlives SIGKILL of its supervisor, of the
// engine, of both, and of its own first process; a stop ends it for good.
func TestUnlessStopped(t *testing.T) {
	const name = "e2e-unless-stopped"
	before := whole(t)
	id := detach(t, append([]string{"--name", name, "--restart", "unless-stopped"}, lasting...)...)
	pid := func() int { n, _ := strconv.Atoi(field(name, "{{.State.Pid}}")); return n }
	works := func(about string) {
		t.Helper()
		eventually(t, 30*time.Second, "after the end of "+about+" the container works", func() bool {
			return field(name, "{{.State.Status}}") == "running" && run("exec", name, "true").code == 0
		})
		single(t, id)
	}
	engine := func() []int {
		return ours("containerd")
	}
	kill := func(pids ...int) {
		for _, p := range pids {
			_ = syscall.Kill(p, syscall.SIGKILL)
		}
	}
	first := pid()
	kill(supervisor(t, id))
	works("the supervisor")
	kill(engine()...)
	works("the engine")
	kill(append(engine(), supervisor(t, id))...)
	works("both")
	if now := pid(); now != first {
		t.Errorf("the first process is %d, it was %d: the container did not live through that", now, first)
	}
	kill(pid())
	eventually(t, 20*time.Second, "a restart", func() bool { p := pid(); return p != 0 && p != first })
	works("the first process")
	kill(supervisor(t, id), pid())
	works("the supervisor and the first process")
	settled(t, supervisor(t, id), busy)
	if r := run("stop", name); r.code != 0 {
		t.Error(r)
	}
	if s := field(name, "{{.State.Status}} {{.State.ExitCode}}"); s != "exited 0" {
		t.Errorf("after stop: %q", s)
	}
	if r := run("rm", name); r.code != 0 {
		t.Error(r)
	}
	settleAll(t, before)
}

// TestStricterPolicy: a restart is judged by the policy of that day.
func TestStricterPolicy(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	if err := os.MkdirAll("/etc/safe-run", 0o755); err != nil {
		t.Fatal(err)
	}
	// An engine and a site policy of its own, in a mount namespace of its own.
	const script = `mount --bind "$D/etc" /etc/safe-run
"$SR" engine start >/dev/null && "$SR" load -q -i "$R/build/images/busybox.tar" >/dev/null || exit 1
state() { "$SR" inspect --format "$1" e2e-stricter; }
"$SR" run -d --name e2e-stricter --network none --restart always busybox sleep 0.3 >/dev/null || exit 1
for i in $(seq 400); do [ "$(state '{{.RestartCount}}')" = 0 ] || break; sleep 0.05; done
echo "version: 1
require-digest: true" >"$D/etc/policy.yaml"
for i in $(seq 400); do [ "$(state '{{.State.Status}}')" = exited ] && break; sleep 0.05; done
state '{{.State.Status}} {{.State.Error}}'
"$SR" start e2e-stricter 2>&1
sleep 1
"$SR" events --since 1h --until 0s --filter container=e2e-stricter --format '{{.Action}}' | sort | uniq -c
rm "$D/etc/policy.yaml"
"$SR" start e2e-stricter && state 'now {{.State.Error}}' && "$SR" rm -f e2e-stricter >/dev/null
"$SR" engine stop`
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := call(request{
		bin: "/usr/bin/unshare", args: []string{"--mount", "bash", "-c", patiently(script)}, timeout: 90 * time.Second,
		env: []string{"SR=" + here.bin, "R=" + here.repo, "D=" + dir, "SAFE_RUN_ROOT=" + dir + "/root", "SAFE_RUN_STATE=" + dir + "/state"},
	})
	if r.code != 0 {
		t.Fatal(r)
	}
	all := lines(r.stdout)
	if len(all) < 5 || !strings.HasPrefix(all[0], "exited the policy refuses it now") || !strings.Contains(all[0], "require-digest") {
		t.Fatalf("the record does not tell what the policy refused: %s", r)
	}
	count := map[string]int{}
	for _, l := range all {
		if f := strings.Fields(l); len(f) == 2 {
			count[f[1]], _ = strconv.Atoi(f[0])
		}
	}
	if !strings.Contains(all[1], "require-digest") || count["start"] == 0 || count["die"] != count["start"]+2 {
		t.Errorf("two refused starts are told to nobody: %s", r)
	}
	if !strings.Contains(r.stdout, "\nnow \n") {
		t.Errorf("it does not start once the policy lets it: %s", r)
	}
}

// TestSwappedSource: a bind is judged again at each restart, as it is then.
func TestSwappedSource(t *testing.T) {
	t.Parallel()
	const name = "e2e-swapped"
	dir := tempDir(t)
	src := filepath.Join(dir, "src")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	id := detach(t, "--name", name, "-v", src+":/src:ro", "--restart", "unless-stopped", "busybox", "sh", "-c", "ls /src; sleep 0.3")
	removed(t, name)
	if err := os.Rename(src, src+"-was"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", src); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "the end", func() bool { return field(id, "{{.State.Status}}") == "exited" })
	if why := field(id, "{{.State.Error}}"); !strings.Contains(why, "refuse") {
		t.Errorf("State.Error is %q", why)
	}
	if r := run("logs", name); strings.Contains(r.stdout, "passwd") {
		t.Errorf("the container saw the host's files: %s", r)
	}
	// It starts again once the policy lets it.
	if r := run("start", name); r.code == 0 {
		t.Error("start succeeded")
	}
	if err := os.Remove(src); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(src+"-was", src); err != nil {
		t.Fatal(err)
	}
	if r := run("start", name); r.code != 0 {
		t.Error(r)
	}
	if why := field(id, "{{.State.Error}}"); why != "" {
		t.Errorf("State.Error stays %q", why)
	}
}

// TestDetachedHolds: a container in the background has nothing of its
// caller's, whose end or impatience it does not notice.
func TestDetachedHolds(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	for what, script := range map[string]string{
		"substitution": `x=$("$SR" run -d --name "$N" busybox sleep 1000); [ ${#x} = 64 ]`,
		"head":         `"$SR" run -d --name "$N" busybox sleep 1000 2>&1 | head -c 5; true`,
		"closed":       `"$SR" run -d --name "$N" busybox sleep 1000 >&- 2>&- <&-; true`,
		"lock":         `exec 9>"$D/lock"; flock 9; "$SR" run -d --name "$N" busybox sleep 1000; exec 9>&-; flock -n "$D/lock" true`,
		"session":      `setsid -w sh -c '"$SR" run -d --name "$N" busybox sleep 1000; kill -HUP 0'; true`,
		"directory":    `mkdir "$D/away"; cd "$D/away"; "$SR" run -d --name "$N" busybox sleep 1000`,
		"mount":        `mkdir "$D/disk"; mount -t tmpfs none "$D/disk"; cd "$D/disk"; "$SR" run -d --name "$N" busybox sleep 1000; cd /; umount "$D/disk"`,
		"killed":       `"$SR" run -d --name "$N" busybox sleep 1000 & until "$SR" inspect "$N" >/dev/null 2>&1; do sleep 0.02; done; kill -9 $!; true`,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			name := "e2e-holds-" + what
			r := call(request{bin: "/bin/sh", args: []string{"-c", script}, env: []string{"SR=" + here.bin, "N=" + name, "D=" + dir}, dir: dir})
			if r.code != 0 || r.took > patient(10*time.Second) {
				t.Fatalf("after %s: %s", r.took, r)
			}
			eventually(t, 10*time.Second, "the container runs", func() bool { return field(name, "{{.State.Status}}") == "running" })
			removed(t, name)
			pid := supervisor(t, field(name, "{{.Id}}"))
			free := func() bool {
				wd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
				to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/0", pid))
				return wd == "/" && to == "/dev/null"
			}
			if what == "killed" { // nobody is told when it lets go of what it had
				eventually(t, 10*time.Second, "its supervisor lets go", free)
			}
			if wd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); wd != "/" {
				t.Errorf("its supervisor is in %s", wd)
			}
			for fd := range 3 {
				if to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd)); to != "/dev/null" {
					t.Errorf("its descriptor %d is %s", fd, to)
				}
			}
			held := func() (all []string) {
				fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
				for _, f := range fds {
					if to, _ := os.Readlink(f); strings.HasPrefix(to, "pipe:") || strings.HasPrefix(to, dir) {
						all = append(all, filepath.Base(f)+": "+to)
					}
				}
				return all
			}
			// The pipe by which it said that it has started goes a moment later.
			eventually(t, 10*time.Second, "its descriptors are its own", func() bool { return len(held()) == 0 })
		})
	}
}

// TestDetachInterrupted: Ctrl-C at any moment of run -d ends it soon, with a
// container that runs or with none.
func TestDetachInterrupted(t *testing.T) {
	before := whole(t)
	for i := range 15 * slowness {
		name := "e2e-detach-interrupted-" + strconv.Itoa(i)
		cmd := exec.Command(here.bin, append([]string{"run", "-d", "--name", name}, lasting...)...)
		var out, errs strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.Int64N(int64(200 * time.Millisecond))))
		_ = cmd.Process.Signal(os.Interrupt)
		hung := time.AfterFunc(patient(15*time.Second), func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		hung.Stop()
		ws, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
		switch {
		case ws.ExitStatus() == 0:
			if s := field(name, "{{.State.Status}}"); s != "running" {
				t.Errorf("round %d: the id was printed, and the container is %q", i, s)
			}
		case ws.ExitStatus() == 130, ws.Signaled() && ws.Signal() == syscall.SIGINT:
		default:
			t.Errorf("round %d: %s: %s", i, cmd.ProcessState, clip(errs.String()))
		}
		if r := run("rm", "-fv", name); r.code != 0 && !strings.Contains(r.stderr, "No such container") {
			t.Error(r)
		}
	}
	settleAll(t, before)
}

// TestManyDetached: fifty at once, all of them listed, all of them removed.
func TestManyDetached(t *testing.T) {
	const n = 50
	before := whole(t)
	ids := make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			r := call(request{args: []string{"run", "-d", "--network", "none", "busybox", "sleep", "1000"}, timeout: 120 * time.Second})
			if r.code != 0 {
				t.Error(r)
			}
			ids[i] = strings.TrimSpace(r.stdout)
		})
	}
	wg.Wait()
	r := run("ps", "-q", "--no-trunc", "--filter", "status=running")
	for _, id := range ids {
		if !strings.Contains(r.stdout, id) {
			t.Errorf("ps does not list %s", id)
		}
	}
	for _, id := range ids[:5] {
		settled(t, supervisor(t, id), idle)
	}
	if r := call(request{args: append([]string{"rm", "-f"}, ids...), timeout: 120 * time.Second}); r.code != 0 {
		t.Error(r)
	}
	settleAll(t, before)
}
