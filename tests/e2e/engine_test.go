package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// elsewhere gives the test an engine of its own that may be killed: its roots
// take the place of those in here until the test ends. before is a shell's
// command in whose environment the engine is started.
func elsewhere(t *testing.T, before string) {
	t.Helper()
	common := here
	dir := tempDir(t)
	here.root, here.state = filepath.Join(dir, "root"), filepath.Join(dir, "state")
	t.Setenv("SAFE_RUN_ROOT", here.root)
	t.Setenv("SAFE_RUN_STATE", here.state)
	t.Cleanup(func() {
		crash(t)
		here = common
	})
	r := call(request{bin: "/bin/sh", args: []string{"-c", before + `; exec "$0" engine start`, here.bin}})
	if r.code != 0 {
		t.Fatalf("engine start: %s", r)
	}
	here.socket = strings.TrimSpace(r.stdout)
	if r := run("load", "--quiet", "-i", filepath.Join(here.repo, "build/images/busybox.tar")); r.code != 0 {
		t.Fatal(r)
	}
}

// ours are the processes of a kind ("containerd", "containerd-shim-runc-v2")
// that were given a path below the state of the engine under test, or as
// supervisors in the background that state.
func ours(kind string) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range all {
		b, err := os.ReadFile(p)
		if err != nil {
			continue
		}
		env, _ := os.ReadFile(filepath.Join(filepath.Dir(p), "environ"))
		args := strings.Split(string(b), "\x00")
		given := slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, here.state+"/") }) ||
			slices.Contains(strings.Split(string(env), "\x00"), "SAFE_RUN_STATE="+here.state)
		if filepath.Base(args[0]) != kind || !given {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(p))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func children(pid int) (pids []int) {
	all, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, p := range all {
		b, _ := os.ReadFile(p)
		for _, f := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// killed ends processes and waits until they are gone.
func killed(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	deadline := time.Now().Add(patient(10 * time.Second))
	for _, pid := range pids {
		for {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err != nil || strings.Contains(string(b), ") Z ") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("process %d does not end: %s", pid, b)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// crash leaves of the engine under test what a power failure does: what is on
// the disk.
func crash(t *testing.T) {
	t.Helper()
	// Supervisors first: they would have the engine started again, in the
	// directories that are removed below.
	killed(t, ours("safe-run"))
	killed(t, ours("containerd"))
	ids := shims(t)
	shims := ours("containerd-shim-runc-v2")
	var inits []int
	for _, pid := range shims {
		inits = append(inits, children(pid)...)
	}
	killed(t, shims)
	killed(t, inits)
	killed(t, ours("runc")) // what a shim had asked of it
	for _, id := range ids {
		v1, _ := filepath.Glob("/sys/fs/cgroup/*/safe-run/" + id)
		for _, dir := range append(v1, "/sys/fs/cgroup/safe-run/"+id) {
			_ = unix.Rmdir(dir)
		}
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	mounts := lines(string(info))
	slices.Reverse(mounts)
	for _, l := range mounts {
		if at := strings.Fields(l)[4]; strings.HasPrefix(at, here.state+"/") || strings.HasPrefix(at, here.root+"/") {
			if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
				t.Errorf("unmounting %s: %v", at, err)
			}
		}
	}
	// The kernel that comes up knows no networks.
	const network = "nft flush ruleset; ip -br link | sed -n 's/^\\(s[rv][0-9a-f]*\\)[@ ].*/\\1/p' | while read l; do ip link del $l 2>/dev/null; done;" +
		"sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0 net.ipv6.conf.lan0.accept_ra=1"
	if out, err := exec.Command("sh", "-c", network).CombinedOutput(); err != nil {
		t.Errorf("network: %v: %s", err, out)
	}
	if err := os.RemoveAll(here.state); err != nil {
		t.Fatal(err)
	}
}

// TestReboot: the next command after a power failure clears away what cannot
// run on, and keeps what was to be kept.
func TestReboot(t *testing.T) {
	elsewhere(t, ":")
	const script = "echo ready; exec sleep 60"
	clean := take(t)
	running := []*started{
		start(t, "--rm", "--name", "e2e-gone", "-v", "/data", "busybox", "sh", "-c", script),
		start(t, "--name", "e2e-kept", "--init", "busybox", "sh", "-c", script),
	}
	left, tty := onTerminal(t, "--rm", "--name", "e2e-left", "--detach-keys", "ctrl-a,x", "-it", "-v", "/data", "busybox", "sh", "-c", script)
	left.until(t, "ready")
	_, _ = tty.Write([]byte{1, 'x'})
	if code := left.code(t); code != 0 {
		t.Fatalf("exit %d after detaching", code)
	}
	if r := run("ps", "-q"); len(lines(r.stdout)) != 3 {
		t.Fatalf("wanted three containers: %s", r)
	}
	for _, s := range running {
		_ = s.Process.Kill()
		_ = s.Wait()
	}
	crash(t)

	if r := run("ps", "-q"); r.code != 0 || r.stdout != "" {
		t.Errorf("ps after a reboot: %s", r)
	}
	if r := run("images", "-q"); r.code != 0 || len(lines(r.stdout)) != 1 {
		t.Errorf("images after a reboot: %s", r)
	}
	r := run("ps", "-a")
	if l := lines(r.stdout); len(l) != 2 || !strings.Contains(l[1], "e2e-kept") || !strings.Contains(l[1], "Exited (137)") {
		t.Errorf("wanted the kept container as Exited (137): %s", r)
	}
	if r := run("rm", "e2e-kept"); r.code != 0 {
		t.Errorf("rm: %s", r)
	}
	settle(t, clean)
	if r := run("--rm", "--name", "e2e-kept", "busybox", "echo", "again"); r.stdout != "again\n" {
		t.Errorf("a launch after all: %s", r)
	}
	settle(t, clean)
}

// TestEngineKilled: containers outlive their engine, and whoever waits for one
// gets its exit code from the next.
func TestEngineKilled(t *testing.T) {
	elsewhere(t, ":")
	before := take(t)
	early := start(t, "--rm", "busybox", "sh", "-c", "echo ready; sleep 1")
	late, tty := onTerminal(t, "--rm", "-it", "busybox", "sh", "-c", "echo ready; sleep 6; echo done; exit 5")
	late.until(t, "ready")
	mode := func() uint32 {
		termios, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return termios.Lflag & (unix.ECHO | unix.ICANON | unix.ISIG)
	}
	if mode() != 0 {
		t.Errorf("the terminal is not raw: %#x", mode())
	}
	engine := ours("containerd")
	if len(engine) != 1 {
		t.Fatalf("engines: %v", engine)
	}
	killed(t, engine)
	time.Sleep(2 * time.Second) // one container ends while there is no engine
	if r := run("images", "-q"); r.code != 0 {
		t.Errorf("the next command: %s", r)
	}
	// The next engine does not ask what shims without a process know.
	if code := early.code(t); code != 0 && code != 125 {
		t.Errorf("the one that ended without an engine: exit %d", code)
	}
	late.until(t, "done")
	if code := late.code(t); code != 5 {
		t.Errorf("the one that ran on: exit %d, wanted 5", code)
	}
	if mode() != unix.ECHO|unix.ICANON|unix.ISIG {
		t.Errorf("the terminal was not restored: %#x", mode())
	}
	if r := run("images", "-q"); r.code != 0 {
		t.Error(r)
	}
	settle(t, before)
}

// TestIgnoredSignals: what the first caller ignored (nohup, a shell's &) no
// container ignores.
func TestIgnoredSignals(t *testing.T) {
	for _, trap := range []string{"trap '' HUP", "trap '' HUP INT QUIT TERM PIPE USR1 USR2"} {
		t.Run(trap, func(t *testing.T) {
			elsewhere(t, trap)
			const ignorable = 1<<(unix.SIGHUP-1) | 1<<(unix.SIGINT-1) | 1<<(unix.SIGQUIT-1) | 1<<(unix.SIGTERM-1) |
				1<<(unix.SIGPIPE-1) | 1<<(unix.SIGUSR1-1) | 1<<(unix.SIGUSR2-1)
			// runc makes good some of it, but not always: the engine must not
			// pass it on.
			for _, pid := range ours("containerd") {
				b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
				if err != nil {
					t.Fatal(err)
				}
				if set := ignored(t, string(b)); set&ignorable != 0 {
					t.Errorf("the engine ignores signals: %#x", set)
				}
			}
			for _, flags := range [][]string{nil, {"--init"}} {
				// No shell in between: it ignores some by itself.
				r := run(append(append([]string{"--rm"}, flags...), "busybox", "grep", "SigIgn", "/proc/self/status")...)
				if r.code != 0 || ignored(t, r.stdout)&0x7fffffff != 0 {
					t.Errorf("%v: signals are ignored: %s", flags, r)
				}
			}
		})
	}
}

// ignored reads SigIgn of a /proc/PID/status.
func ignored(t *testing.T, status string) uint64 {
	t.Helper()
	m := regexp.MustCompile(`(?m)^SigIgn:\s*([0-9a-f]{16})$`).FindStringSubmatch(status)
	if m == nil {
		t.Fatalf("no SigIgn in %q", status)
	}
	set, err := strconv.ParseUint(m[1], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// TestForeignSocket: a containerd of somebody else than root is not used, as
// well as it may work.
func TestForeignSocket(t *testing.T) {
	bin := helper(t)
	// The way of uid 1000 to the engine, so that only its uid is wrong.
	open := filepath.Join(tempDir(t), "open.sock")
	relay(t, bin, open, here.socket, 0)
	if err := os.Chmod(open, 0o666); err != nil {
		t.Fatal(err)
	}
	before := take(t)
	for _, uid := range []uint32{0, 1000} {
		dir := tempDir(t)
		if err := os.Chown(dir, int(uid), int(uid)); err != nil {
			t.Fatal(err)
		}
		socket := filepath.Join(dir, "containerd.sock")
		relay(t, bin, socket, open, uid)
		if uid != 0 {
			// Its owner's name on the file says nothing of who serves it.
			t.Run("a file of root's", func(t *testing.T) { foreign(t, socket, func() error { return os.Chown(socket, 0, 0) }) })
			t.Run("its own file", func(t *testing.T) { foreign(t, socket, func() error { return os.Chown(socket, int(uid), int(uid)) }) })
			continue
		}
		if r := run("--rm", "--address", socket, "busybox", "echo", "RAN"); r.code != 0 || r.stdout != "RAN\n" {
			t.Errorf("a socket that root serves: %s", r)
		}
	}
	same(t, before, take(t))
}

func foreign(t *testing.T, socket string, prepare func() error) {
	if err := prepare(); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{socket, "unix://" + socket} {
		r := run("--rm", "--address", address, "busybox", "echo", "RAN")
		if r.code != 125 || r.stdout != "" || !strings.Contains(r.stderr, "uid 1000") {
			t.Errorf("--address %s: %s", address, r)
		}
	}
	r := call(request{args: []string{"--rm", "busybox", "echo", "RAN"}, env: []string{"CONTAINERD_ADDRESS=" + socket}})
	if r.code != 125 || r.stdout != "" || !strings.Contains(r.stderr, "uid 1000") {
		t.Errorf("CONTAINERD_ADDRESS: %s", r)
	}
}

// relay starts a process of a uid that serves at one socket what another one
// answers.
func relay(t *testing.T, bin, at, to string, uid uint32) {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, "helper"), "relay", at, to)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	// Where the runtime is found is asked of who listens.
	cmd.Env = []string{"PATH=" + filepath.Dir(here.ctr) + ":/usr/bin:/bin"}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for deadline := time.Now().Add(patient(5 * time.Second)); ; time.Sleep(5 * time.Millisecond) {
		if c, err := net.Dial("unix", at); err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody listens at %s", at)
		}
	}
}
