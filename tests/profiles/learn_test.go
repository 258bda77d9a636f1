package profiles

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/safe-run/safe-run/learn"
	"github.com/safe-run/safe-run/profiles"
	"github.com/safe-run/safe-run/tests/harness"
)

// learned is an application whose rights are found out.
type learned struct {
	image        string
	flags        []string
	command      []string
	check        string // SAFE_RUN is this program
	capabilities []string
	writable     []string
	calls        []string // some of the list of system calls
}

func lessons() []learned {
	return []learned{
		{
			image: "nginx", flags: []string{"-p", "127.0.0.1:30080:80"}, check: "curl -fsS http://127.0.0.1:30080/",
			capabilities: []string{"CHOWN", "NET_BIND_SERVICE", "SETGID", "SETUID"}, calls: []string{"accept4", "sendfile", "setgroups"},
		},
		{
			image: "redis", flags: []string{"-p", "127.0.0.1:30081:6379"}, check: `bash -c 'exec 3<>/dev/tcp/127.0.0.1/30081; echo set a b >&3; read -t 5 <&3; [[ $REPLY = +OK* ]]'`,
			calls: []string{"epoll_wait", "accept4"},
		},
		{
			image: "postgres", flags: []string{"-e", "POSTGRES_PASSWORD=secret", "-e", "POSTGRES_INITDB_ARGS=--no-sync"},
			check: `"$SAFE_RUN" exec "$SAFE_RUN_CONTAINER" psql -qAt -U postgres -c 'select 1'`,
			// DAC_OVERRIDE is for the second start, with the data there.
			capabilities: []string{"CHOWN", "DAC_OVERRIDE", "SETGID", "SETUID"}, calls: []string{"shmget", "accept"},
		},
		{
			image: "haproxy", flags: []string{"-p", "127.0.0.1:30082:80"}, check: "curl -sS -o /dev/null http://127.0.0.1:30082/",
			capabilities: []string{"NET_BIND_SERVICE"}, calls: []string{"listen"},
		},
		{
			image: "tcpdump", flags: []string{"-p", "127.0.0.1:30083:9999/udp"},
			check:        `bash -c 'echo hello > /dev/udp/127.0.0.1/30083'; "$SAFE_RUN" logs "$SAFE_RUN_CONTAINER" 2>&1 | grep -q 9999`,
			capabilities: []string{"NET_ADMIN", "NET_RAW", "SETGID", "SETUID"}, calls: []string{"setsockopt"},
		},
		{
			image:        "busybox",
			command:      []string{"sh", "-ec", "echo x > /opt/file; mkdir /opt/dir; touch /tmp/f; chown 5 /tmp/f; nc -l -p 80 & sleep 0.2; kill $!"},
			capabilities: []string{"CHOWN", "NET_BIND_SERVICE"}, writable: []string{"/opt"}, calls: []string{"chown", "mkdir"},
		},
	}
}

// TestLearn: what is learned of real software is what it needs, and no more.
func TestLearn(t *testing.T) {
	for _, l := range lessons() {
		t.Run(l.image, func(t *testing.T) {
			t.Parallel()
			l.learn(t)
		})
	}
}

func (l learned) learn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "learned.yaml")
	args := []string{"learn", "-o", file}
	if l.check != "" {
		args = append(args, "--check", "SAFE_RUN="+here.Bin+"; "+l.check)
	}
	args = append(append(append(args, l.flags...), l.image), l.command...)
	start := time.Now()
	a := harness.Call(4*time.Minute, here.Bin, args...)
	if a.Code != 0 {
		t.Fatalf("learn: %s", a)
	}
	t.Logf("learned in %v", time.Since(start).Round(time.Millisecond))
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p, err := profiles.Parse(data, file)
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	var names, writable []string
	for _, c := range p.Capabilities {
		names = append(names, c.Name)
		if c.Evidence == nil || c.Evidence.Count == 0 || c.Evidence.Process == "" || c.Evidence.Call == "" || c.Evidence.Proof == "" {
			t.Errorf("%s: evidence %+v", c.Name, c.Evidence)
		}
	}
	for _, w := range p.Writable {
		writable = append(writable, w.Path)
		if w.Evidence == nil || w.Evidence.Proof == "" {
			t.Errorf("%s: evidence %+v", w.Path, w.Evidence)
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, l.capabilities) {
		t.Errorf("capabilities %q, wanted %q\n%s", names, l.capabilities, a.Stderr)
	}
	if !slices.Equal(writable, l.writable) {
		t.Errorf("writable %q, wanted %q\n%s", writable, l.writable, a.Stderr)
	}
	if p.Seccomp == nil || len(p.Recorded) != 1 || !p.Recorded[0].Proved || p.Recorded[0].Lost != 0 {
		t.Fatalf("no list of system calls, or not proved:\n%s", data)
	}
	t.Logf("system calls: %s", strings.Join(p.Seccomp.Allow, " "))
	for _, call := range l.calls {
		if !slices.Contains(p.Seccomp.Allow, call) {
			t.Errorf("%s is not in %q", call, p.Seccomp.Allow)
		}
	}
	for _, call := range []string{"mount", "ptrace", "bpf", "io_uring_setup", "unshare", "splice", "vmsplice", "tee"} {
		if slices.Contains(p.Seccomp.Allow, call) {
			t.Errorf("%s is in the list", call)
		}
	}
	if text := string(data); strings.Contains(text, "SETPCAP") || strings.Contains(text, "SYS_ADMIN") || strings.Contains(text, "MKNOD") {
		t.Errorf("the runtime's own start is blamed on the application:\n%s", text)
	}
}

// TestExplain: what was refused is named with the flag that allows it, and
// with these flags it works.
func TestExplain(t *testing.T) {
	const script = `ok=0
touch /tmp/f; chown 5 /tmp/f || ok=1
(nc -l -p 80 & sleep 0.3; kill $! 2>/dev/null) || ok=1
mknod /tmp/n c 1 3
ping -c1 -w2 127.0.0.1 >/dev/null || ok=1
echo x > /opt/file || ok=1
exit $ok`
	a := here.Run("run", "--rm", "--explain", "busybox", "sh", "-c", script)
	if a.Code != 1 {
		t.Fatal(a)
	}
	for _, want := range []string{
		"--cap-add CHOWN", "--cap-add NET_BIND_SERVICE", "--cap-add NET_RAW", "--tmpfs /opt",
		"CAP_MKNOD was refused", "cannot be given",
	} {
		if !strings.Contains(a.Stderr, want) {
			t.Errorf("no %q in %s", want, a)
		}
	}
	for _, wrong := range []string{"SYS_ADMIN", "SETPCAP", "--cap-add MKNOD"} {
		if strings.Contains(a.Stderr, wrong) {
			t.Errorf("%q in %s", wrong, a)
		}
	}
	flags := []string{"--cap-add", "CHOWN", "--cap-add", "NET_BIND_SERVICE", "--cap-add", "NET_RAW", "--tmpfs", "/opt"}
	a = here.Run(append(append([]string{"run", "--rm", "--explain"}, flags...), "busybox", "sh", "-c", script)...)
	if a.Code != 0 {
		t.Errorf("with the flags that were advised: %s", a)
	}
	if a = here.Run("run", "--rm", "--complain", "busybox", "sh", "-c", script); a.Code != 0 {
		t.Errorf("--complain: %s", a)
	}
	for i := 0; i < len(flags); i += 2 {
		if want := strings.TrimSpace(flags[i+1]); !strings.Contains(a.Stderr, want) {
			t.Errorf("--complain does not name %s: %s", want, a)
		}
	}
}

// TestNothingIsLost: many short processes are all seen, or what was not kept
// is told.
func TestNothingIsLost(t *testing.T) {
	file := filepath.Join(t.TempDir(), "recording")
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	out.Close()
	a := harness.Call(4*time.Minute, "/bin/sh", "-c", fmt.Sprintf(
		`exec %s run --rm --complain --record-fd 9 busybox sh -c 'i=0; while [ $i -lt 10000 ]; do (:); i=$((i+1)); done' 9>%s`, here.Bin, file))
	if a.Code != 0 {
		t.Fatal(a)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	counts(t, data, 10000)
}

// counts looks for the forks in a recording.
func counts(t *testing.T, data []byte, forks uint64) {
	t.Helper()
	var rec learn.Recording
	if err := json.Unmarshal(data, &rec); err != nil {
		t.Fatalf("%v: %.500s", err, data)
	}
	var seen, ended uint64
	for _, s := range rec.Syscalls {
		switch s.Name {
		case "clone", "fork", "vfork":
			seen += s.Count
		case "exit_group":
			ended += s.Count
		}
	}
	// Each is counted where it returns: in the parent and in the child.
	if seen < forks && rec.Lost == 0 {
		t.Errorf("%d of %d forks were seen, and none is said to be lost", seen, forks)
	}
	t.Logf("forks %d, ends %d, lost %d", seen, ended, rec.Lost)
	for _, c := range rec.Capabilities {
		if !c.Refused && slices.Contains([]string{"CAP_SETPCAP", "CAP_SYS_ADMIN", "CAP_MKNOD"}, c.Name) {
			t.Errorf("recorded of the runtime: %+v", c)
		}
	}
}
