package threats

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/tests/harness"
)

func TestE10(t *testing.T) {
	row(t, "E10")
	const hog = "for i in 1 2 3 4; do while :; do :; done & done; wait"
	detached(t, "e10-a", "--cpus", "0.1", denImage, "sh", "-c", hog)
	pid := hostPID(t, "e10-a")
	stat := filepath.Join(cgroupOf(t, pid, "cpu"), "cpu.stat")
	patient(t, func() error {
		b, err := os.ReadFile(stat)
		if err != nil {
			return err
		}
		_, n, _ := strings.Cut(string(b), "nr_throttled ")
		if n == "" || n[0] == '0' {
			return errors.New("four loops with a tenth of a CPU are never held up")
		}
		return nil
	})
	if got := strings.TrimSuffix(limitOf(t, pid, "cpu", "cpu.cfs_quota_us", "cpu.max"), " 100000"); got != "10000" {
		t.Errorf("the quota is %s", got)
	}
	// Without a quota all containers share what one service of the host has.
	if dir := cgroupOf(t, hostPID(t, denOf(t, nil).name), "cpu"); !strings.Contains(dir, "/safe-run/") {
		t.Errorf("a container's cgroup is %s", dir)
	}
	refused(t, "cpu-rt", []string{"--cpu-rt-runtime", "950000"})
	// A site's maximum binds those who ask for nothing, too.
	inForce(t, "limits: {max: {cpus: 0.5}}\n")
	refused(t, "limit-over-maximum", []string{"--cpus", "0.6"}, []string{"--cpu-quota", "60000"})
	for _, flags := range [][]string{nil, {"--cpu-quota", "-1"}, {"--cpu-shares", "2048"}} {
		c := planned(t, slices.Concat(flags, []string{denImage, "true"})...).Linux.Resources.CPU
		if c == nil || c.Quota == nil || *c.Quota != 50000 || *c.Period != 100000 {
			t.Errorf("%q: %v", flags, c)
		}
	}
}

// took parses what probe use-up prints.
func took(out string) []int {
	var all []int
	for _, l := range lines(out) {
		n, err := strconv.Atoi(l)
		if err != nil {
			return nil
		}
		all = append(all, n)
	}
	return all
}

func TestE11(t *testing.T) {
	row(t, "E11")
	const instances, timers = 32, 1024
	const eat = "/probe use-up inotify; /probe use-up timers"
	enough := func(t *testing.T, _, out string) {
		if n := took(out); len(n) != 2 || n[0] < 1 || n[0] > instances || n[1] < 1 || n[1] > timers {
			t.Errorf("inotify instances and timers: %q", out)
		}
	}
	inModes(t, nil, eat, enough)
	// While two keep all they can get, others and root of the host have theirs.
	for i, what := range []string{"inotify", "timers"} {
		name := fmt.Sprint("e11-", i)
		detached(t, name, denImage, "/probe", "use-up", what, "keep")
		patient(t, func() error {
			if n := took(here.Run("logs", name).Stdout); len(n) != 1 || n[0] < 1 {
				return fmt.Errorf("%s: %v", name, n)
			}
			return nil
		})
	}
	enough(t, "beside", here.Run("run", "--rm", denImage, "sh", "-c", eat).Stdout)
	probe := filepath.Join(here.Repo, "build/probe")
	if a := onHost(t, "sh", "-c", probe+" use-up inotify; "+probe+" use-up timers"); len(took(a.Stdout)) != 2 || took(a.Stdout)[0] < 8 || took(a.Stdout)[1] < timers {
		t.Errorf("the host: %s", a)
	}
	// Counted for each container alone: its processes' memory locks and queues.
	refused(t, "sysctl", []string{"--sysctl", "user.max_inotify_instances=1000"})
	refused(t, "", []string{"--sysctl", "fs.inotify.max_user_instances=100000"})
	if fd, err := unix.InotifyInit1(unix.IN_CLOEXEC); err != nil {
		t.Errorf("the host: %v", err)
	} else {
		_ = unix.Close(fd)
	}
}

func TestE12(t *testing.T) {
	row(t, "E12")
	connectedLan(t)
	tracked := func() int {
		b, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
		if err != nil {
			t.Fatal(err)
		}
		n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		return n
	}
	neighbours := func() int { return len(lines(onHost(t, "sh", "-c", "ip neigh show nud all | grep -v lan0").Stdout)) }
	before, known := tracked(), neighbours()
	detached(t, "e12-a", denImage, "sh", "-c", "/probe use-up flows "+harness.WorldAddr+":9; net=$(ip -o -4 addr show eth0 | sed 's/.*inet \\([0-9]*\\.[0-9]*\\.[0-9]*\\)\\..*/\\1/'); for i in $(seq 2 60); do echo x | nc -u -w 1 $net.$i 9 & done; exec sleep 1000")
	patient(t, func() error {
		if n := tracked() - before; n < 1000 {
			return fmt.Errorf("%d connections are tracked", n)
		}
		return nil
	})
	// Addresses nobody has cost the host no entries; its own are fixed.
	if n := neighbours() - known; n > 8 {
		t.Errorf("%d new neighbours of the host", n)
	}
	if body, err := harness.Get("http://"+harness.WorldAddr+"/", nil); err != nil {
		t.Errorf("the host: %q, %v", body, err)
	}
	if a := here.Run("run", "--rm", denImage, "sh", "-c", "timeout 10 wget -q -O - http://"+harness.WorldAddr+"/"); a.Stdout != "you are "+harness.HostAddr+"\n" {
		t.Errorf("another container: %s", a)
	}
	// What it has filled is free again once it is gone.
	if a := here.Run("rm", "-f", "e12-a"); a.Code != 0 {
		t.Fatal(a)
	}
	patient(t, func() error {
		if n := tracked() - before; n > 100 {
			return fmt.Errorf("%d connections of a container that is gone", n)
		}
		return nil
	})
}

func TestE13(t *testing.T) {
	row(t, "E13")
	// A program may raise its score, and go back to what it was once set to by
	// somebody with CAP_SYS_RESOURCE, which root of some machines has not.
	own, err := strconv.ParseUint(statusOf("self", "CapEff"), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	resource := own&(1<<unix.CAP_SYS_RESOURCE) != 0
	lower, spared := "-1", "50"
	if resource {
		lower, spared = "99", "-900"
	}
	inModes(t, nil, "cat /proc/self/oom_score_adj; (echo "+lower+" >/proc/self/oom_score_adj) 2>/dev/null || cat /proc/self/oom_score_adj", prints("100\n100\n"))
	refused(t, "oom-score-adj", []string{"--oom-score-adj", "-1"}, []string{"--oom-score-adj=-1000"})
	refused(t, "oom-kill-disable", []string{"--oom-kill-disable", "-m", "64m"})
	if unified() {
		if got := limitOf(t, hostPID(t, denOf(t, nil).name), "", "", "memory.oom.group"); got != "1" {
			t.Errorf("memory.oom.group is %s", got)
		}
		if a := here.Run("run", "--rm", "-m", "16m", denImage, "sh", "-c", "tail /dev/zero & wait; exec sleep 1000"); a.Code != 137 {
			t.Errorf("the others go on without the one that was killed: %s", a)
		}
	}
	// An engine that the kernel is to spare, as containerd's own unit has it.
	dir, err := os.MkdirTemp(here.Dir, "e13-")
	if err != nil || os.Chmod(dir, 0o755) != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	const script = `echo "$4" >/proc/self/oom_score_adj && export SAFE_RUN_ROOT=$1/root SAFE_RUN_STATE=$1/state && "$2" engine start >/dev/null && "$2" load -q -i "$3" >/dev/null || exit 9
"$2" run --rm --network none busybox cat /proc/self/oom_score_adj; code=$?
"$2" engine stop; exit $code`
	a := harness.Call(minute, "sh", "-c", script, "sh", dir, here.Bin, filepath.Join(here.Repo, "build/images/busybox.tar"), spared)
	if got := lines(a.Stdout); a.Code != 0 || len(got) == 0 || got[0] != "100" {
		t.Errorf("below an engine that is spared: %s", a)
	}
}

func TestE14(t *testing.T) {
	row(t, "E14")
	connectedLan(t)
	claims := func() int {
		n := 0
		for _, pattern := range []string{"ids/u*", "networks/*/claims/[0-9]*"} {
			all, err := filepath.Glob(filepath.Join(here.Root, pattern))
			if err != nil {
				t.Fatal(err)
			}
			n += len(all)
		}
		return n
	}
	before := claims()
	start := time.Now()
	detached(t, "e14-a", "--restart", "always", denImage, "false")
	restarts := func() int {
		n, _ := strconv.Atoi(strings.TrimSpace(here.Run("inspect", "--format", "{{.RestartCount}}", "e14-a").Stdout))
		return n
	}
	patient(t, func() error {
		if n := claims() - before; n > 2 {
			t.Fatalf("%d claims of ids and addresses", n)
		}
		if n := restarts(); n < 4 {
			return fmt.Errorf("%d restarts", n)
		}
		return nil
	})
	// 100 ms, and twice as long each time; the fourth is counted when its wait begins.
	if waited := time.Since(start); waited < 700*time.Millisecond {
		t.Errorf("4 restarts within %s", waited)
	}
	if a := here.Run("rm", "-f", "e14-a"); a.Code != 0 {
		t.Error(a)
	}
	patient(t, func() error {
		if n := claims(); n != before {
			return fmt.Errorf("%d claims, %d before", n, before)
		}
		return nil
	})
}

func TestE15(t *testing.T) {
	row(t, "E15")
	const deaf = `trap "" TERM INT HUP QUIT; echo up; while :; do sleep 1000; done`
	for _, c := range []struct {
		name   string
		before []string
		end    []string
		gone   bool
	}{
		{"deaf", nil, []string{"stop", "-t", "1", "e15-a"}, false},
		{"paused", []string{"pause", "e15-a"}, []string{"stop", "-t", "1", "e15-a"}, false},
		{"paused and removed", []string{"pause", "e15-a"}, []string{"rm", "-f", "e15-a"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := detached(t, "e15-a", denImage, "sh", "-c", deaf)
			patient(t, func() error {
				if a := here.Run("logs", "e15-a"); a.Stdout != "up\n" {
					return errors.New("it is not up")
				}
				return nil
			})
			if a := here.Run("exec", "-d", "e15-a", "sh", "-c", deaf); a.Code != 0 {
				t.Error(a)
			}
			if c.before != nil {
				if a := here.Run(c.before...); a.Code != 0 {
					t.Fatal(a)
				}
			}
			a := here.Run(c.end...)
			if a.Code != 0 || a.Took > harness.Patient(50*time.Second) {
				t.Errorf("%s after %s", a, a.Took)
			}
			if !c.gone && stateOf("e15-a", "ExitCode") != "137" {
				t.Errorf("exit code %s", stateOf("e15-a", "ExitCode"))
			}
			if left := processesOf(t, id); len(left) > 0 {
				t.Errorf("processes %q are left", left)
			}
			here.Run("rm", "-f", "e15-a")
		})
	}
}

func TestE16(t *testing.T) {
	row(t, "E16")
	before := here.Inventory(t)
	limits := func(t *testing.T, pid string) string {
		t.Helper()
		memory, swap := memoryLimits(t, pid)
		return fmt.Sprint(memory, " ", swap, " ", limitOf(t, pid, "pids", "pids.max", "pids.max"))
	}
	want := fmt.Sprint(64<<20, " 0 32")
	flags := []string{"-m", "64m", "--pids-limit", "32"}
	t.Run("launcher in the foreground", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "id")
		cmd := exec.Command(here.Bin, slices.Concat([]string{"run", "--rm", "--cidfile", file, "--name", "e16-a"}, flags, []string{denImage, "sleep", "1000"})...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		patient(t, func() error {
			if stateOf("e16-a", "Status") != "running" {
				return errors.New("it does not run")
			}
			return nil
		})
		pid := hostPID(t, "e16-a")
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		// While nobody looks it stays within its limits; the next command ends it.
		if _, err := os.Stat("/proc/" + pid); err == nil && limits(t, pid) != want {
			t.Errorf("limits without a launcher: %s", limits(t, pid))
		}
		id, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		here.Run("ps", "-q")
		patient(t, func() error {
			if left := processesOf(t, string(id)); len(left) > 0 {
				return fmt.Errorf("processes %q of a killed launcher", left)
			}
			return nil
		})
	})
	t.Run("supervisor", func(t *testing.T) {
		id := detached(t, "e16-b", slices.Concat(flags, []string{denImage, "sleep", "1000"})...)
		pid := hostPID(t, "e16-b")
		if err := unix.Kill(supervisorOf(t, id), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if got := limits(t, pid); got != want {
			t.Errorf("limits without a supervisor: %s", got)
		}
		if a := here.Run("exec", "e16-b", "true"); a.Code != 0 {
			t.Errorf("the next command: %s", a)
		}
		supervisorOf(t, id) // another one
		if got := limits(t, pid); got != want || hostPID(t, "e16-b") != pid {
			t.Errorf("after another has taken over: %s", got)
		}
		here.Run("rm", "-f", "e16-b")
	})
	t.Run("shim", func(t *testing.T) {
		id := detached(t, "e16-c", slices.Concat(flags, []string{denImage, "sleep", "1000"})...)
		all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		killed := 0
		for _, c := range all {
			b, err := os.ReadFile(c)
			if words := strings.Split(string(b), "\x00"); err == nil && strings.Contains(words[0], "containerd-shim") && slices.Contains(words, id) {
				pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(c)))
				_ = unix.Kill(pid, unix.SIGKILL)
				killed++
			}
		}
		if killed != 1 {
			t.Fatalf("%d shims", killed)
		}
		patient(t, func() error {
			if left := processesOf(t, id); len(left) > 0 {
				return fmt.Errorf("processes %q without a shim", left)
			}
			return nil
		})
		here.Run("rm", "-f", "e16-c")
	})
	settled(t, before)
}
