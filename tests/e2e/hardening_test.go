package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPosture: what the kernel says of a plain container.
func TestPosture(t *testing.T) {
	r := sh(`grep -E "Cap|NoNew|Seccomp:" /proc/self/status; cat /proc/self/uid_map; touch /x; cat /sys/fs/cgroup/*/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true`)
	var want []string
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		want = append(want, set+":\t0000000000000000")
	}
	want = append(want, "NoNewPrivs:\t1", "Seccomp:\t2")
	got := lines(r.stdout)
	if len(got) < len(want)+2 {
		t.Fatal(r)
	}
	for i, w := range want {
		if got[i] != w {
			t.Errorf("got %q, wanted %q", got[i], w)
		}
	}
	if id := idRange(t, got[len(want)]); id.first < 65536 || id.size != 65536 {
		t.Errorf("uid map %q", got[len(want)])
	}
	if !strings.Contains(r.stderr, "Read-only file system") {
		t.Errorf("touch /x: %s", r.stderr)
	}
	if limit := got[len(got)-1]; limit != strconv.Itoa(512<<20) {
		t.Errorf("memory limit %q, wanted 512 MiB", limit)
	}
}

type ids struct{ first, size uint64 }

func idRange(t *testing.T, line string) ids {
	t.Helper()
	var inside uint64
	var r ids
	if n, err := fmt.Sscan(line, &inside, &r.first, &r.size); n != 3 || inside != 0 {
		t.Fatalf("not a map of root: %q (%v)", line, err)
	}
	return r
}

// TestOwnIDs: no two containers share an id, seen from the host.
func TestOwnIDs(t *testing.T) {
	var ranges []ids
	for range 3 {
		s := start(t, "--rm", "--init", "busybox", "sh", "-c", "cat /proc/self/uid_map; echo ready; exec sleep 60")
		ranges = append(ranges, idRange(t, lines(s.seen.String())[0]))
		defer s.code(t)
		defer s.Process.Signal(os.Interrupt)
	}
	for i, a := range ranges {
		for _, b := range ranges[:i] {
			if a.first < b.first+b.size && b.first < a.first+a.size {
				t.Errorf("ranges overlap: %v and %v", a, b)
			}
		}
	}
}

// probeReport is what the tests read of the probe's --json.
type probeReport struct {
	Arch    string
	Results []struct {
		ID, What, Verdict, Errno, Note string
	}
}

// needed are attempts that must not merely be absent: this is the list that
// keeps a broken probe from passing as a hardened container.
var needed = []string{
	"capabilities", "no_new_privs", "seccomp", "host-ids", "no-memory-limit", "no-pids-limit",
	"clone-user", "unshare-user", "ptrace-parent", "clone3", "unknown-syscall", "bpf", "perf", "userfaultfd",
	"io_uring", "keyctl", "add_key", "process_vm_readv", "open_by_handle_at", "netlink-protocols", "socket-packet",
	"socket-raw", "socket-families", "mount", "remount-rw", "pivot_root", "chroot", "fsopen", "rootfs-write",
	"exec-written", "wx-mounts", "core_pattern", "masked-paths", "cgroup-mkdir", "mknod-block", "dev-mem",
	"tiocsti", "kexec_load", "reboot", "clock_settime", "stray-fds",
}

// TestProbe: every attempt to get out fails, as root and as another user,
// with and without the things that open doors by themselves.
func TestProbe(t *testing.T) {
	dir := tempDir(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		flags []string
		may   string // an attempt that may work
	}{
		{"plain", nil, ""},
		{"uid 1000", []string{"-u", "1000"}, ""},
		{"init", []string{"--init"}, ""},
		{"terminal", []string{"-t"}, ""},
		{"writable bind", []string{"-v", dir + ":/src"}, ""},
		// A volume lies where only root of the host gets to, and is
		// mounted nosuid wherever it is mounted.
		{"volume", []string{"-v", "/data"}, "setuid-bit"},
		{"tmpfs", []string{"--tmpfs", "/scratch"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append(append([]string{"--rm"}, c.flags...), "safe-run-probe", "--json")
			r := run(args...)
			report := parseProbe(t, r)
			verdicts := map[string]string{}
			for _, x := range report.Results {
				verdicts[x.ID] = x.Verdict
				if x.Verdict == "OPEN" && x.ID != c.may {
					t.Errorf("OPEN: %s (%s): %s %s", x.ID, x.What, x.Errno, x.Note)
				}
			}
			for _, id := range needed {
				if verdicts[id] != "blocked" {
					t.Errorf("%s is %q, wanted blocked", id, verdicts[id])
				}
			}
			if c.name == "writable bind" && verdicts["setuid-bit"] != "blocked" {
				t.Errorf("setuid-bit is %q with a writable bind", verdicts["setuid-bit"])
			}
			if r.code != 0 && c.may == "" {
				t.Errorf("exit %d", r.code)
			}
		})
	}
}

func parseProbe(t *testing.T, r answer) probeReport {
	t.Helper()
	var report probeReport
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatalf("no report of the probe: %v; %s", err, r)
	}
	return report
}

// TestProbe32: the 32-bit door to the kernel is no wider. The filter knows
// only the native system calls and kills at the first other one.
func TestProbe32(t *testing.T) {
	r := run("--rm", "--entrypoint", "/probe32", "safe-run-probe", "--json")
	switch r.code {
	case 159: // 128+SIGSYS
	case 0:
		for _, x := range parseProbe(t, r).Results {
			if x.Verdict == "OPEN" {
				t.Errorf("OPEN in 32 bit: %s %s %s", x.ID, x.Errno, x.Note)
			}
		}
	default:
		t.Errorf("the 32-bit probe: %s", r)
	}
}

// TestWriteOrExecute: from the host's side, no mount of a container is both
// writable and executable.
func TestWriteOrExecute(t *testing.T) {
	dir := tempDir(t)
	s := start(t, "--rm", "--init", "-v", dir+":/src", "-v", "/data", "--tmpfs", "/scratch", "busybox", "sh", "-c", "echo ready; exec sleep 60")
	defer s.code(t)
	defer s.Process.Signal(os.Interrupt)
	pid := taskPID(t, "sleep")
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, l := range lines(string(text)) {
		f := strings.Fields(l)
		target, options := f[4], strings.Split(f[5], ",")
		seen[target] = true
		has := map[string]bool{}
		for _, o := range options {
			has[o] = true
		}
		info, err := os.Lstat(filepath.Join(fmt.Sprintf("/proc/%d/root", pid), target))
		if err == nil && info.Mode()&os.ModeDevice != 0 {
			continue // a device node bound on its own holds no program
		}
		if has["rw"] && !has["noexec"] {
			t.Errorf("writable and executable: %s", l)
		}
		if has["rw"] && !has["nosuid"] {
			t.Errorf("writable and setuid: %s", l)
		}
		if strings.Contains(l, " shared:") {
			t.Errorf("shared with the host: %s", l)
		}
	}
	for _, m := range []string{"/", "/tmp", "/run", "/var/tmp", "/dev/shm", "/src", "/data", "/scratch", "/proc", "/sys"} {
		if !seen[m] {
			t.Errorf("nothing is mounted at %s", m)
		}
	}
}

// taskPID is the host's pid of the init process of the one running container
// whose process tree has a command.
func taskPID(t *testing.T, command string) int {
	t.Helper()
	out := ctr(t, "tasks", "ls")
	m := regexp.MustCompile(`(?m)^\S+\s+(\d+)\s+RUNNING`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no running task for %s:\n%s", command, out)
	}
	pid, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// TestCapabilities: what may be added without a grant really works, also for
// a user that is not root.
func TestCapabilities(t *testing.T) {
	const netBind = "0000000000000400"
	for _, c := range []struct {
		flags []string
		want  map[string]string
	}{
		{[]string{"--cap-add", "net_bind_service"}, map[string]string{"CapEff": netBind, "CapBnd": netBind, "CapAmb": "0000000000000000"}},
		{[]string{"--cap-add", "CAP_NET_BIND_SERVICE", "-u", "1000"}, map[string]string{"CapEff": netBind, "CapBnd": netBind, "CapAmb": netBind}},
		{[]string{"--cap-add", "CHOWN", "--cap-drop", "ALL"}, map[string]string{"CapEff": "0000000000000001"}},
	} {
		r := sh("grep Cap /proc/self/status", c.flags...)
		for set, mask := range c.want {
			if !strings.Contains(r.stdout, set+":\t"+mask) {
				t.Errorf("%v: wanted %s %s, got %s", c.flags, set, mask, r)
			}
		}
	}
	if r := sh("chown 5:5 /tmp && stat -c %u /tmp", "--cap-add", "CHOWN"); r.stdout != "5\n" {
		t.Errorf("chown with CHOWN: %s", r)
	}
	if r := sh("chown 5:5 /tmp"); r.code == 0 {
		t.Errorf("chown without it: %s", r)
	}
}

// TestManyAtOnce: launches at the same moment get ids of their own.
func TestManyAtOnce(t *testing.T) {
	const launches = 32
	before := take(t)
	shared := t.TempDir() // one launch's use of it must not look like the host's to another
	// All containers read the same pipe and end when it does.
	gate, open, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Close()
	defer open.Close()
	var all []*started
	for range launches {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		s := &started{
			Cmd: exec.Command(here.bin, "--rm", "-i", "-m", "32m", "-v", shared+":/shared", "busybox", "sh", "-c", "cat /proc/self/uid_map /proc/self/gid_map; echo ready; cat"),
			out: r,
		}
		s.Stdin, s.Stdout, s.Stderr = gate, w, os.Stderr
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		t.Cleanup(func() { r.Close(); _ = s.Process.Kill() })
		all = append(all, s)
	}
	var uids, gids []ids
	for _, s := range all {
		s.until(t, "ready")
		maps := lines(s.seen.String())
		uids, gids = append(uids, idRange(t, maps[0])), append(gids, idRange(t, maps[1]))
	}
	open.Close()
	for _, s := range all {
		if code := s.code(t); code != 0 {
			t.Errorf("a launch beside others: exit %d", code)
		}
	}
	for _, ranges := range [][]ids{uids, gids} {
		for i, a := range ranges {
			for _, b := range ranges[:i] {
				if a.first < b.first+b.size && b.first < a.first+a.size {
					t.Errorf("ranges overlap: %v and %v", a, b)
				}
			}
		}
	}
	settle(t, before)
}

// helper builds testdata/helper and gives the directory it lies in.
func helper(t *testing.T) (dir string) {
	t.Helper()
	dir = tempDir(t)
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "helper"), "./testdata/helper")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the helper: %v\n%s", err, out)
	}
	return dir
}

// TestFileCapabilities: CAP_SETFCAP gives no file of the host a capability.
func TestFileCapabilities(t *testing.T) {
	bin, dir := helper(t), tempDir(t)
	file := writeFile(t, filepath.Join(dir, "file"), "", 0o755)
	const denied = "setxattr: operation not permitted\nlsetxattr: operation not permitted\nfsetxattr: operation not permitted\n"
	const allowed = "setxattr: <nil>\nlsetxattr: <nil>\nfsetxattr: <nil>\n"
	before := take(t)
	for _, c := range []struct {
		name  string
		flags []string
		path  string
		want  string
	}{
		{"in a bind", []string{"--cap-add", "SETFCAP", "-v", dir + ":/src"}, "/src/file", denied},
		{"in a bind with exec", []string{"--cap-add", "SETFCAP", "-v", dir + ":/src:exec"}, "/src/file", denied},
		{"of a file", []string{"--cap-add", "SETFCAP", "-v", file + ":/src/file"}, "/src/file", denied},
		{"beside a bind", []string{"--cap-add", "SETFCAP", "-v", dir + ":/src"}, "/tmp/file", denied},
		{"with no bind to write to", []string{"--cap-add", "SETFCAP"}, "/tmp/file", allowed},
		{"without the capability", nil, "/tmp/file", denied},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := sh(": >>"+c.path+"; exec /helper/helper setxattr security.capability "+c.path, append(c.flags, "-v", bin+":/helper:ro,exec")...)
			if r.code != 0 || r.stdout != c.want {
				t.Errorf("wanted %q, got %s", c.want, r)
			}
			if n, err := unix.Getxattr(file, "security.capability", nil); err == nil {
				t.Errorf("the host's file has capabilities, %d bytes", n)
			}
		})
	}
	same(t, before, take(t))
}
