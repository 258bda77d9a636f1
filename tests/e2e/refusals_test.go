package e2e

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestRefusals: what would give the host away ends with 125 and a reason,
// and nothing is made.
func TestRefusals(t *testing.T) {
	dir := tempDir(t)
	toRoot := filepath.Join(dir, "to-root")
	if err := os.Symlink("/", toRoot); err != nil {
		t.Fatal(err)
	}
	toEtc := filepath.Join(dir, "to-etc")
	if err := os.Symlink("to-root/etc", toEtc); err != nil {
		t.Fatal(err)
	}
	// A copy of / under another name, and the same one level down.
	copied := filepath.Join(dir, "copied")
	if err := os.Mkdir(copied, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("/", copied, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(copied, syscall.MNT_DETACH) })
	// A directory that holds an engine's socket, some levels down.
	sockets := filepath.Join(dir, "sockets")
	if err := os.MkdirAll(filepath.Join(sockets, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(sockets, "a/b/docker.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	clean := filepath.Join(dir, "clean")
	if err := os.Mkdir(clean, 0o755); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(dir, "disk")
	if err := syscall.Mknod(disk, syscall.S_IFBLK|0o600, 8<<8); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}

	sources := []string{
		"/", "//", "/.", "/../", "/etc", "/etc/shadow", "/root", "/boot", "/dev", "/proc", "/sys", "/run", "/var/run", "/var/lib", "/var", "/usr",
		"/proc/self/root", "/proc/1/root", "/proc/self/cwd", "/proc/self/root/etc", "/proc/sys/kernel", "/dev/null", "/sys/fs/cgroup",
		toRoot, toRoot + "/etc", toEtc, copied, copied + "/etc", sockets, filepath.Dir(socket), socket, disk, fifo,
		here.root, here.state, here.socket,
	}
	var cases [][]string
	for _, s := range sources {
		cases = append(cases,
			[]string{"-v", s + ":/x"},
			[]string{"-v", s + ":/x:ro"},
			[]string{"--mount", "type=bind,source=" + s + ",target=/x"},
			[]string{"--mount", "type=bind,src=" + s + ",dst=/x,readonly"},
		)
	}
	for _, target := range []string{"/", "/proc", "/proc/sys", "/sys", "/sys/fs/cgroup", "/dev", "/dev/null", "/dev/pts", "/a/../proc", "/etc/ld.so.preload", "/sbin/docker-init"} {
		cases = append(cases, []string{"-v", clean + ":" + target}, []string{"-v", "some-volume:" + target}, []string{"--tmpfs", target})
	}
	cases = append(cases, [][]string{
		{"--privileged"},
		{"--privileged=true"},
		{"--cap-add", "ALL"},
		{"--cap-add", "all"},
		{"--cap-add", "SYS_ADMIN"},
		{"--cap-add", "cap_sys_admin"},
		{"--cap-add", "SYS_MODULE"},
		{"--cap-add", "SYS_PTRACE"},
		{"--cap-add", "DAC_READ_SEARCH"},
		{"--cap-add", "NET_ADMIN"},
		{"--cap-add", "NO_SUCH_CAP"},
		{"--pid", "host"},
		{"--pid=host"},
		{"--ipc", "host"},
		{"--uts", "host"},
		{"--userns", "host"},
		{"--cgroupns", "host"},
		{"--network", "host"},
		{"--net=host"},
		{"--network", "ns:/proc/1/ns/net"},
		{"--pid", "container:x"},
		{"--security-opt", "seccomp=unconfined"},
		{"--security-opt", "seccomp:unconfined"},
		{"--security-opt", "apparmor=unconfined"},
		{"--security-opt", "label=disable"},
		{"--security-opt", "systempaths=unconfined"},
		{"--security-opt", "no-new-privileges=false"},
		{"--security-opt", "no-new-privileges:false"},
		{"--security-opt", "writable-cgroups=true"},
		{"--security-opt", "nonsense=1"},
		{"--security-opt", "seccomp=" + writeFile(t, filepath.Join(dir, "empty.json"), "{}", 0o644)},
		{"--security-opt", "seccomp=" + writeFile(t, filepath.Join(dir, "allow.json"), `{"defaultAction":"SCMP_ACT_ALLOW"}`, 0o644)},
		{"--security-opt", "seccomp=" + writeFile(t, filepath.Join(dir, "null.json"), "null", 0o644)},
		{"--device", "/dev/mem"},
		{"--device", "/dev/kmsg"},
		{"--device", disk},
		{"--device-cgroup-rule", "a *:* rwm"},
		{"--gpus", "all"},
		{"--runtime", "/bin/sh"},
		{"--annotation", "org.systemd.property.TasksMax='uint64 99999'"},
		{"--annotation", "run.oci.handler=x"},
		{"--cgroup-parent", "/"},
		{"--cgroup-parent", "system.slice"},
		{"--cgroup-parent", "a/../../b"},
		{"--sysctl", "kernel.core_pattern=|/bin/sh"},
		{"--sysctl", "kernel.modprobe=/bin/sh"},
		{"--sysctl", "net.ipv4.ip_forward=1\nx"},
		{"--ulimit", "core=-1"},
		{"--oom-score-adj", "-1000"},
		{"--oom-kill-disable"},
		{"--memory", "0"},
		{"--memory-swap", "-1", "--memory", "64m"},
		{"--pids-limit", "-1"},
		{"--pids-limit", "0"},
		{"--use-api-socket"},
		{"--volumes-from", "other"},
		{"--mount", "type=volume,source=v,target=/x,volume-opt=type=none,volume-opt=o=bind,volume-opt=device=/"},
		{"-v", clean + ":/x:rshared"},
		{"-v", clean + ":/x:U"},
		{"--mount", "type=bind,source=" + clean + ",target=/x,bind-propagation=shared"},
		{"-w", "/proc/self/fd/7"},
		{"-w", "/dev/fd/7"},
		{"-w", "relative"},
		{"-u", "4294967296"},
		{"-u", "2147483648"},
		{"-u", "99999999999999999999"},
		{"-u", "-1"},
		{"-u", "no-such-user"},
		{"--hostname", "a\n6.6.6.6 bank"},
		{"--add-host", "a\n6.6.6.6 bank:1.2.3.4"},
		{"--add-host", "bank:not-an-address"},
		{"-e", "=x"},
		{"--env-file", fifo},
		{"--env-file", "/dev/zero"},
	}...)

	before := take(t)
	for _, flags := range cases {
		t.Run(strings.ReplaceAll(strings.Join(flags, " "), "/", "_"), func(t *testing.T) {
			r := sh("echo RAN", flags...)
			if r.code != 125 || r.stdout != "" {
				t.Errorf("wanted exit 125 and silence, got %s", r)
			}
			if strings.TrimSpace(r.stderr) == "" {
				t.Error("refused without a word")
			}
			if strings.ContainsAny(r.stderr, "\x1b\x00") {
				t.Errorf("control characters in the message: %q", r.stderr)
			}
		})
	}
	same(t, before, take(t))
}

// TestRefusalsAtOnce: one answer names everything that is wrong, and machines
// get it as JSON.
func TestRefusalsAtOnce(t *testing.T) {
	r := run("--rm", "--refusals=json", "--privileged", "--pid", "host", "-v", "/:/host", "--cap-add", "ALL", "busybox", "true")
	if r.code != 125 {
		t.Fatal(r)
	}
	var found any
	for _, text := range []string{r.stdout, r.stderr} {
		if json.Unmarshal([]byte(text), &found) == nil {
			break
		}
	}
	text, _ := json.Marshal(found)
	for _, id := range []string{"privileged", "pid-host", "cap-all", "bind-root"} {
		if !strings.Contains(string(text), `"`+id+`"`) {
			t.Errorf("no refusal %q in %s", id, r)
		}
	}
}

// TestDryRun prints the specification and touches nothing.
func TestDryRun(t *testing.T) {
	before := take(t)
	r := run("--rm", "--dry-run", "-m", "64m", "busybox", "true")
	var spec struct {
		Process struct {
			Args            []string
			NoNewPrivileges bool
		}
		Linux struct {
			Resources struct{ Memory struct{ Limit int64 } }
		}
		Hooks any
	}
	if err := json.Unmarshal([]byte(r.stdout), &spec); err != nil || r.code != 0 {
		t.Fatalf("%v: %s", err, r)
	}
	if !spec.Process.NoNewPrivileges || spec.Linux.Resources.Memory.Limit != 64<<20 || spec.Hooks != nil ||
		strings.Join(spec.Process.Args, " ") != "true" {
		t.Errorf("not the specification that was asked for: %s", r)
	}
	if r := run("--rm", "--dry-run=summary", "busybox", "true"); r.code != 0 || len(r.stdout) < 200 {
		t.Errorf("summary: %s", r)
	}
	if r := run("--rm", "--dry-run", "--privileged", "busybox", "true"); r.code != 125 {
		t.Errorf("a dry run of what is refused: %s", r)
	}
	same(t, before, take(t))
}

// TestDryRunOfAbsentImage: a dry run fetches nothing, whatever --pull says.
func TestDryRunOfAbsentImage(t *testing.T) {
	before := take(t)
	for _, flags := range [][]string{{"--dry-run"}, {"--dry-run=summary"}, {"--dry-run", "--pull", "missing"}, {"--dry-run", "--pull", "always"}} {
		// Nobody listens there: an attempt would be one at that address.
		r := run(append(flags, "127.0.0.1:1/absent:1", "true")...)
		if r.code != 125 || r.stdout != "" || !strings.Contains(r.stderr, "No such image") ||
			strings.Contains(r.stderr, "Unable to find image") || strings.Contains(r.stderr, "refused") {
			t.Errorf("%v: %s", flags, r)
		}
	}
	for _, flags := range [][]string{{}, {"--name", "e2e-dry", "-v", "/data", "-v", "e2e-dry-volume:/v", "--init"}} {
		if r := run(append(append([]string{"--rm", "--dry-run"}, flags...), "busybox", "true")...); r.code != 0 || r.stdout == "" {
			t.Errorf("%v: a dry run: %s", flags, r)
		}
	}
	same(t, before, take(t))
}

// TestVerbsOfTheCompanion: its verbs are not taken for images, and what is
// wrong with their words is told as of any other.
func TestVerbsOfTheCompanion(t *testing.T) {
	before := take(t)
	for line, want := range map[string]string{
		"export x":                                 "there is no format",
		"export kubernetes":                        "IMAGE",
		"export docker --privileged img":           "privileged",
		"import /absent.yaml":                      "/absent.yaml",
		"import docker pull x":                     "no docker run",
		"compose -f /absent.yaml up":               "/absent.yaml",
		"compose build":                            "build",
		"export compose --strict --egress=none im": "--strict",
	} {
		r := run(strings.Fields(line)...)
		if r.code != 125 || r.stdout != "" || strings.Contains(r.stderr, "Unable to find image") || !strings.Contains(r.stderr, want) {
			t.Errorf("safe-run %s: %s", line, r)
		}
	}
	same(t, before, take(t))
}
