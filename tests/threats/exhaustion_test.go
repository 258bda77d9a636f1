package threats

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/audit"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
	"github.com/safe-run/safe-run/tests/harness"
)

// bomb forks until it cannot, without end.
const bomb = "bomb() { bomb | bomb & }; bomb"

func TestE1(t *testing.T) {
	row(t, "E1")
	if p := planned(t, denImage, "true").Linux.Resources.Pids; p == nil || p.Limit == nil || *p.Limit != 256 {
		t.Errorf("the default is %v", p)
	}
	refused(t, "pids-unlimited", []string{"--pids-limit", "-1"}, []string{"--pids-limit", "0"}, []string{"--pids-limit=-9223372036854775808"})
	const most = 24
	hit := func(t *testing.T, name string) {
		t.Helper()
		pid := hostPID(t, name)
		dir := cgroupOf(t, pid, "pids")
		patient(t, func() error {
			b, err := os.ReadFile(filepath.Join(dir, "pids.current"))
			if err != nil {
				return err
			}
			if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err != nil || n > most {
				t.Fatalf("%q processes, the limit is %d", b, most)
			}
			b, err = os.ReadFile(filepath.Join(dir, "pids.events"))
			if err != nil {
				return err
			}
			if f := strings.Fields(string(b)); len(f) != 2 || f[1] == "0" {
				return fmt.Errorf("no fork has failed yet: %q", b)
			}
			return nil
		})
		if got := limitOf(t, pid, "pids", "pids.max", "pids.max"); got != strconv.Itoa(most) {
			t.Errorf("pids.max is %s", got)
		}
		if a := onHost(t, "sh", "-c", "echo $(true | true && echo forks)"); a.Stdout != "forks\n" {
			t.Errorf("the host: %s", a)
		}
	}
	flags := []string{"--pids-limit", strconv.Itoa(most)}
	for _, c := range []struct {
		mode    string
		flags   []string
		command string
		then    []string
	}{
		{initProcess, nil, bomb + "; exec sleep 1000", nil},
		{execed, nil, "exec sleep 1000", []string{"exec", "-d", "e1-a", "sh", "-c", bomb}},
		{checked, []string{"--health-cmd", bomb, "--health-interval", "50ms"}, "exec sleep 1000", nil},
		{restarted, nil, bomb + "; exec sleep 1000", []string{"restart", "-t", "0", "e1-a"}},
	} {
		t.Run(c.mode, func(t *testing.T) {
			detached(t, "e1-a", slices.Concat(flags, c.flags, []string{denImage, "sh", "-c", c.command})...)
			if c.then != nil {
				if a := here.Run(c.then...); a.Code != 0 {
					t.Fatal(a)
				}
			}
			hit(t, "e1-a")
			if a := here.Run("rm", "-f", "e1-a"); a.Code != 0 {
				t.Error(a)
			}
		})
	}
}

func TestE2(t *testing.T) {
	row(t, "E2")
	if m := planned(t, denImage, "true").Linux.Resources.Memory; m == nil || m.Limit == nil || *m.Limit != 512<<20 {
		t.Errorf("the default is %v", m)
	}
	refused(t, "memory-unlimited", []string{"-m", "0"}, []string{"--memory=0"})
	refused(t, "", []string{"--memory", "-1"}, []string{"-m", "5m"})
	detached(t, "e2-a", "-m", "16m", denImage, "tail", "/dev/zero")
	for range 2 { // and after a restart
		ended(t, "e2-a")
		if code, oom := stateOf("e2-a", "ExitCode"), stateOf("e2-a", "OOMKilled"); code != "137" || oom != "true" {
			t.Errorf("exit code %s, killed for memory: %s", code, oom)
		}
		if a := here.Run("start", "e2-a"); a.Code != 0 {
			t.Fatal(a)
		}
	}
	detached(t, "e2-b", "-m", "16m", denImage, "sleep", "1000")
	if memory, _ := memoryLimits(t, hostPID(t, "e2-b")); memory != strconv.Itoa(16<<20) {
		t.Errorf("the limit in force is %s", memory)
	}
	if a := here.Run("exec", "e2-b", "tail", "/dev/zero"); a.Code != 137 {
		t.Errorf("exec: %s", a)
	}
}

func TestE3(t *testing.T) {
	row(t, "E3")
	for _, flags := range [][]string{nil, {"-m", "64m"}, {"-m", "64m", "--memory-swap", "0"}} {
		m := planned(t, slices.Concat(flags, []string{denImage, "true"})...).Linux.Resources.Memory
		if m.Swap == nil || m.Limit == nil || *m.Swap != *m.Limit {
			t.Errorf("%q: %v", flags, m)
		}
	}
	refused(t, "", []string{"-m", "64m", "--memory-swap", "-1"}, []string{"--memory-swap", "-1"}, []string{"-m", "64m", "--memory-swap", "63m"})
	if memory, swap := memoryLimits(t, hostPID(t, denOf(t, nil).name)); memory != strconv.Itoa(512<<20) || swap != "0" {
		t.Errorf("in force: %s of memory and %s of swap", memory, swap)
	}
	// A host that cannot limit it.
	in := input()
	if _, err := spec.Build(in); err != nil {
		t.Fatal(err)
	}
	in.Host.SwapLimit = false
	if _, err := spec.Build(in); fail.KindOf(err) != fail.HostCannot {
		t.Errorf("no limit of swap: %v", err)
	}
}

func TestE4(t *testing.T) {
	row(t, "E4")
	for _, c := range []string{"memory", "pids"} {
		in := input()
		in.Host.Controllers[c] = false
		if _, err := spec.Build(in); fail.KindOf(err) != fail.HostCannot {
			t.Errorf("without %s: %v", c, err)
		}
	}
	// The kernel's own files say that there is none.
	hide := `umount /sys/fs/cgroup/pids`
	if unified() {
		hide = `sed 's/ pids//' /sys/fs/cgroup/cgroup.controllers >"$2/c" && mount --bind "$2/c" /sys/fs/cgroup/cgroup.controllers`
	}
	a := harness.Call(minute, "unshare", "--mount", "sh", "-c", hide+` && exec "$1" run --rm --network none den echo RAN`, "sh", here.Bin, t.TempDir())
	if a.Code != 125 || a.Stdout != "" || !strings.Contains(a.Stderr, "pids") {
		t.Errorf("a host without pids: %s", a)
	}
	// A limit that is not what was asked for is found.
	d := denOf(t, nil)
	pid, err := strconv.Atoi(hostPID(t, d.name))
	if err != nil {
		t.Fatal(err)
	}
	container := func() *specs.Spec {
		s := &specs.Spec{}
		if err := json.Unmarshal([]byte(here.Ctr(t, "containers", "info", "--spec", idOf(t, d.name))), s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	if err := audit.Attest(pid, container(), audit.Want{Phase: audit.Started}); err != nil {
		t.Fatalf("as it is: %v", err)
	}
	for what, change := range map[string]func(*specs.LinuxResources){
		"memory": func(r *specs.LinuxResources) { r.Memory.Limit = new(*r.Memory.Limit / 2) },
		"swap":   func(r *specs.LinuxResources) { r.Memory.Swap = new(*r.Memory.Swap * 2) },
		"pids":   func(r *specs.LinuxResources) { r.Pids.Limit = new(*r.Pids.Limit - 1) },
		"cpu":    func(r *specs.LinuxResources) { r.CPU = &specs.LinuxCPU{Quota: new(int64(50000))} },
	} {
		s := container()
		change(s.Linux.Resources)
		var m *audit.Mismatch
		if err := audit.Attest(pid, s, audit.Want{Phase: audit.Started}); !errors.As(err, &m) || len(m.Differences) == 0 {
			t.Errorf("another limit of %s is not noticed: %v", what, err)
		}
	}
}

func TestE5(t *testing.T) {
	row(t, "E5")
	fill := func(dirs, size string) string {
		return "for d in " + dirs + "; do out=$(dd if=/dev/zero of=$d/fill bs=1M count=" + size + " 2>&1 | grep -c 'No space left'; wc -c <$d/fill); rm $d/fill; echo \"$out\"; done"
	}
	if a := here.Run("run", "--rm", denImage, "sh", "-c", fill("/tmp /run /var/tmp /dev/shm", "65")); a.Stdout != strings.Repeat("1\n67108864\n", 4) {
		t.Errorf("the default sizes: %s", a)
	}
	inModes(t, nil, "awk '$(NF-2) == \"tmpfs\" && $6 ~ /^rw/ && match($NF, /size=[0-9]*k,nr_inodes=[0-9]+/) {split(substr($NF, RSTART+5), a, \",\"); print $5, a[1]}' /proc/self/mountinfo | sort",
		prints("/dev 64k\n/dev/shm 65536k\n/run 65536k\n/tmp 65536k\n/var/tmp 65536k\n"))
	a := here.Run("run", "--rm", "--shm-size", "1m", "--tmpfs", "/a:size=2m", "--tmpfs", "/b", denImage, "sh", "-c", fill("/dev/shm /a", "3")+"; "+fill("/b", "65"))
	if a.Stdout != "1\n1048576\n1\n2097152\n1\n67108864\n" {
		t.Errorf("given sizes: %s", a)
	}
	// All of it counts as the container's memory.
	for _, eat := range []string{"cat /dev/zero >/tmp/x", "cat /dev/zero >/dev/shm/x", "exec /probe use-up shm 256"} {
		if a := here.Run("run", "--rm", "-m", "16m", denImage, "sh", "-c", eat); a.Code != 137 {
			t.Errorf("%s: %s", eat, a)
		}
	}
	inForce(t, "limits: {max: {memory: 256m, tmpfs: 16m, shm: 16m}}\n")
	refused(t, "tmpfs-size", []string{"--tmpfs", "/x:size=17m"}, []string{"--mount", "type=tmpfs,target=/x,tmpfs-size=17m"})
	refused(t, "shm-size", []string{"--shm-size", "17m"})
	if a := here.Run("run", "--rm", denImage, "sh", "-c", fill("/tmp /dev/shm", "17")); a.Stdout != strings.Repeat("1\n16777216\n", 2) {
		t.Errorf("under a site's maximum: %s", a)
	}
}

func TestE6(t *testing.T) {
	row(t, "E6")
	const touch = "i=0; while touch /x/$i; do i=$((i+1)); done; ls /x | wc -l"
	a := here.Run("run", "--rm", "--tmpfs", "/x:nr_inodes=100", denImage, "sh", "-c", touch)
	if !strings.Contains(a.Stderr, "No space left") {
		t.Errorf("100 inodes: %s", a)
	}
	if n, err := strconv.Atoi(strings.SplitN(a.Stdout, "\n", 2)[0]); err != nil || n < 50 || n > 100 {
		t.Errorf("100 inodes: %s", a)
	}
	inModes(t, nil, "for d in /tmp /run /var/tmp /dev/shm; do grep -c \" $d .* - tmpfs .*nr_inodes=65536\" /proc/self/mountinfo; done; touch /x /etc/x /bin/x || echo no",
		func(t *testing.T, _, out string) {
			if !strings.HasPrefix(out, "1\n1\n1\n1\n") || !strings.HasSuffix(out, "no\n") || !strings.Contains(out, "Read-only file system") {
				t.Errorf("printed %q", out)
			}
		})
	refused(t, "writable-rootfs", []string{"--read-only=false"})
}

func TestE7(t *testing.T) {
	row(t, "E7")
	// Wherever it can write, it is memory.
	const script = `awk '$6 ~ /^rw/ && $(NF-2) ~ /^(ext[234]|xfs|btrfs|overlay|zfs|f2fs)$/ {print "writable on disk:", $5}' /proc/self/mountinfo
ulimit -Sc; ulimit -Hc; cd /tmp; sh -c 'kill -SEGV $$'; ls /tmp | grep core; true`
	inModes(t, nil, script, func(t *testing.T, _, out string) {
		if strings.Contains(out, "writable on disk") || !strings.HasPrefix(out, "0\n0\n") || strings.Contains(out, "\ncore") {
			t.Errorf("printed %q", out)
		}
	})
	refused(t, "ulimit", []string{"--ulimit", "core=-1"})
	// Nothing has come to lie in the layer of its own.
	id := idOf(t, denOf(t, nil).name)
	here.Run("exec", denOf(t, nil).name, "sh", "-c", "for d in / /bin /etc /home /root /usr; do dd if=/dev/zero of=$d/fill bs=1M count=1; done")
	info, err := os.ReadFile("/proc/" + hostPID(t, denOf(t, nil).name) + "/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	_, upper, found := strings.Cut(string(info), "upperdir=")
	upper, _, _ = strings.Cut(upper, ",")
	if !found || sizeOf(upper) > 0 {
		t.Errorf("container %s: %d bytes in %q", id, sizeOf(upper), upper)
	}
}

func TestE8(t *testing.T) {
	row(t, "E8")
	detached(t, "e8-a", "--log-opt", "max-size=256k", "--log-opt", "max-file=2", "--health-cmd", "yes | head -c 300000", "--health-interval", "50ms", denImage,
		"sh", "-c", "yes 0123456789012345678901234567890123456789 | head -c 4000000; touch /tmp/done; exec sleep 1000")
	dir := filepath.Join(here.Root, "containers", idOf(t, "e8-a"))
	patient(t, func() error {
		if n := sizeOf(dir); n > 1<<20 {
			t.Fatalf("%d bytes", n)
		}
		if a := here.Run("exec", "e8-a", "test", "-e", "/tmp/done"); a.Code != 0 {
			return fmt.Errorf("the output goes on: %s", a)
		}
		return nil
	})
	if n := sizeOf(filepath.Join(dir, "log")); n < 200<<10 || n > 600<<10 {
		t.Errorf("%d bytes of log after 4 MB of output", n)
	}
	// What a health check prints, and an exec, is not kept.
	patient(t, func() error {
		a := here.Run("inspect", "--format", "{{json .State.Health.Log}}", "e8-a")
		var log []struct{ Output string }
		if err := json.Unmarshal([]byte(a.Stdout), &log); err != nil || len(log) == 0 {
			return fmt.Errorf("no health check yet: %v", err)
		}
		for _, l := range log {
			if len(l.Output) > 4200 {
				t.Fatalf("%d bytes of a health check are kept", len(l.Output))
			}
		}
		return nil
	})
	// By default it is 3 files of 10 MiB; no bound at all cannot be had.
	refused(t, "", []string{"--log-opt", "max-size=-1"}, []string{"--log-opt", "max-size=0"}, []string{"--log-opt", "max-file=-1"}, []string{"--log-opt", "max-file=1000000000"})
	inForce(t, "limits: {max: {log: 30m}}\n")
	refused(t, "limit-over-maximum", []string{"-d", "--log-opt", "max-size=31m"})
}

func TestE9(t *testing.T) {
	row(t, "E9")
	const most = 50 << 10 // KiB
	// A reader that does not read, and then does, slowly.
	const amount = 48 << 20
	cmd := exec.Command(here.Bin, "run", "--rm", "--network", "none", denImage, "dd", "if=/dev/zero", "bs=1M", "count=48")
	out, err := cmd.StdoutPipe()
	if err != nil || cmd.Start() != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	b := make([]byte, 1<<20)
	got, peak := 0, 0
	for {
		n, err := out.Read(b)
		got += n
		peak = max(peak, anonymousKiB(cmd.Process.Pid))
		if err != nil {
			break
		}
	}
	if got != amount {
		t.Errorf("%d bytes came, wanted %d", got, amount)
	}
	if peak > most || peak == 0 {
		t.Errorf("the launcher took %d KiB", peak)
	}
	// One line without an end, of NUL, into the log.
	id := detached(t, "e9-a", denImage, "sh", "-c", "head -c 3145728 /dev/zero; echo end; touch /tmp/done; exec sleep 1000")
	pid := supervisorOf(t, id)
	patient(t, func() error {
		if n := anonymousKiB(pid); n > most {
			t.Fatalf("the supervisor takes %d KiB", n)
		}
		if a := here.Run("exec", "e9-a", "test", "-e", "/tmp/done"); a.Code != 0 {
			return fmt.Errorf("the output goes on: %s", a)
		}
		return nil
	})
	patient(t, func() error {
		if a := here.Run("logs", "e9-a"); len(a.Stdout) != 3145728+4 || strings.Trim(a.Stdout, "\x00") != "end\n" {
			return fmt.Errorf("the log has %d bytes", len(a.Stdout))
		}
		return nil
	})
}
