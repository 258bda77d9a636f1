package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// posture is what these tests read of a report.
type posture struct {
	Subject struct {
		Engine, Namespace, ID, Name, Image string
		PID                                int
	}
	Time   time.Time
	Kernel string
	Facts  struct {
		User struct {
			UID            int
			UIDMap         []struct{ Inside, Host, Count int64 } `json:"uid_map"`
			RootIsHostRoot bool                                  `json:"root_is_host_root"`
		}
		Capabilities    map[string][]string
		NoNewPrivileges bool `json:"no_new_privileges"`
		Seccomp         struct {
			Mode    string
			Filters int
		}
		Namespaces  map[string]string
		OOMScoreAdj int `json:"oom_score_adj"`
		Ports       []struct {
			Protocol, Address string
			Port              int
		}
		Unread []string
	}
	Findings []struct {
		ID, Title, Severity, Fact, Fix string
		Drift                          bool
	}
	Score int
}

// weaknesses are the ids of what is worse than a note.
func (p posture) weaknesses() (ids []string) {
	for _, f := range p.Findings {
		if f.Severity != "ok" && f.Severity != "info" {
			ids = append(ids, f.ID)
		}
	}
	return ids
}

// audited gives the reports of audit --json.
func audited(t *testing.T, args ...string) (all []posture) {
	t.Helper()
	r := run(append([]string{"audit", "--json"}, args...)...)
	if r.code != 0 {
		t.Fatalf("audit %s: %s", strings.Join(args, " "), r)
	}
	if err := json.Unmarshal([]byte(r.stdout), &all); err != nil {
		t.Fatalf("audit %s: %v: %s", strings.Join(args, " "), err, r)
	}
	return all
}

// audits gives the one report of a container.
func audits(t *testing.T, args ...string) posture {
	t.Helper()
	all := audited(t, args...)
	if len(all) != 1 {
		t.Fatalf("audit %s: %d reports", strings.Join(args, " "), len(all))
	}
	return all[0]
}

// stranger starts a container of busybox without safe-run, in a namespace of
// containerd.
func stranger(t *testing.T, namespace, id string, flags ...string) {
	t.Helper()
	ctr := func(args ...string) error {
		cmd := exec.Command(here.ctr, append([]string{"--address", here.socket, "--namespace", namespace}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("ctr %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	const image = "docker.io/library/busybox:latest"
	if err := ctr("images", "import", filepath.Join(here.repo, "build/images/busybox.tar")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, args := range [][]string{{"tasks", "kill", "--signal", "SIGKILL", id}, {"tasks", "rm", "--force", id}, {"containers", "rm", id}} {
			_ = ctr(args...) // it may have ended
		}
		_ = ctr("images", "rm", "--sync", image)
	})
	if err := ctr(slices.Concat([]string{"run", "--detach"}, flags, []string{image, id, "sleep", "1000"})...); err != nil {
		t.Fatal(err)
	}
}

// status reads a line of /proc/PID/status.
func status(t *testing.T, pid int, field string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(l, field+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	t.Fatalf("no %s in the status of %d", field, pid)
	return ""
}

// agrees compares the facts of a report with what /proc says to this test.
func agrees(t *testing.T, p posture) {
	t.Helper()
	pid, f := p.Subject.PID, p.Facts
	for set, field := range map[string]string{"bounding": "CapBnd", "effective": "CapEff", "permitted": "CapPrm", "inheritable": "CapInh", "ambient": "CapAmb"} {
		mask, err := strconv.ParseUint(status(t, pid, field), 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for ; mask != 0; mask &= mask - 1 {
			count++
		}
		if len(f.Capabilities[set]) != count {
			t.Errorf("%s: %v, the kernel has %d", set, f.Capabilities[set], count)
		}
	}
	if want := status(t, pid, "NoNewPrivs") == "1"; f.NoNewPrivileges != want {
		t.Errorf("no_new_privileges: %v", f.NoNewPrivileges)
	}
	if want := map[string]string{"0": "disabled", "1": "strict", "2": "filter"}[status(t, pid, "Seccomp")]; f.Seccomp.Mode != want {
		t.Errorf("seccomp: %q, the kernel has %q", f.Seccomp.Mode, want)
	}
	if got := strings.Fields(status(t, pid, "Uid"))[1]; got != strconv.Itoa(f.User.UID) {
		t.Errorf("uid %d, the kernel has %s", f.User.UID, got)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", pid))
	if err != nil {
		t.Fatal(err)
	}
	var maps []int64
	for _, m := range f.User.UIDMap {
		maps = append(maps, m.Inside, m.Host, m.Count)
	}
	if got := strings.Trim(fmt.Sprint(maps), "[]"); got != strings.Join(strings.Fields(string(b)), " ") {
		t.Errorf("uid_map: %s, the kernel has %s", got, b)
	}
	for kind, file := range map[string]string{"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "mount": "mnt", "user": "user", "cgroup": "cgroup"} {
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, file))
		if err != nil {
			t.Fatal(err)
		}
		// By a program: a thread of this one may be elsewhere, for the neighbour.
		own, err := exec.Command("readlink", "/proc/self/ns/"+file).Output()
		if err != nil {
			t.Fatal(err)
		}
		want := "own"
		if theirs == strings.TrimSpace(string(own)) {
			want = "host"
		}
		if f.Namespaces[kind] != want {
			t.Errorf("%s namespace: %q, the kernel has %s, the host %s", kind, f.Namespaces[kind], theirs, own)
		}
	}
	b, err = os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	if err != nil || strings.TrimSpace(string(b)) != strconv.Itoa(f.OOMScoreAdj) {
		t.Errorf("oom_score_adj %d, the kernel has %s (%v)", f.OOMScoreAdj, b, err)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil || unix.ByteSliceToString(u.Release[:]) != p.Kernel {
		t.Errorf("kernel %q", p.Kernel)
	}
	if age := time.Since(p.Time); age < 0 || age > patient(time.Minute) {
		t.Errorf("made at %s", p.Time)
	}
	if len(f.Unread) > 0 {
		t.Errorf("not read: %q", f.Unread)
	}
}

// What safe-run starts has no weakness.
func TestAuditOwn(t *testing.T) {
	id := detach(t, append([]string{"--name", "audit-own"}, lasting...)...)
	t.Cleanup(func() { run("rm", "-f", id) })
	p := audits(t, "audit-own")
	if got := p.weaknesses(); len(got) > 0 || p.Score != 100 {
		t.Errorf("score %d, weaknesses %q: %+v", p.Score, got, p.Findings)
	}
	if len(p.Findings) < 10 {
		t.Errorf("only %d things were looked at", len(p.Findings))
	}
	agrees(t, p)
	if want := field(id, "{{.State.Pid}}"); strconv.Itoa(p.Subject.PID) != want || p.Subject.ID != id || p.Subject.Name != "audit-own" || p.Subject.Namespace != "safe-run" {
		t.Errorf("subject %+v, process %s", p.Subject, want)
	}
	if r := run("audit", "--fail-on", "low", "--min-score", "100", id[:12]); r.code != 0 || !strings.Contains(r.stdout, "100/100") {
		t.Errorf("--fail-on low: %s", r)
	}
	if strings.Contains(run("audit", id).stdout, " ok  ") || !strings.Contains(run("audit", "-v", id).stdout, " ok  ") {
		t.Error("what is right is shown with --verbose, and only then")
	}
}

// What others start is found and judged as well, with all it has too much.
func TestAuditPrivileged(t *testing.T) {
	shared := fmt.Sprintf("/proc/%d/ns/", os.Getpid())
	stranger(t, "moby", "audit-wide", "--privileged", "--net-host", "--with-ns", "pid:"+shared+"pid", "--with-ns", "ipc:"+shared+"ipc", "--with-ns", "uts:"+shared+"uts",
		"--mount", "type=bind,src=/,dst=/host,options=rbind:rw", "--mount", "type=bind,src="+here.socket+",dst=/run/engine.sock,options=bind:rw")
	beside := detach(t, append([]string{"--name", "audit-beside"}, lasting...)...)
	t.Cleanup(func() { run("rm", "-f", beside) })
	p := audits(t, "audit-wide")
	agrees(t, p)
	if own := audits(t, "audit-beside"); own.Score != 100 || len(own.weaknesses()) > 0 {
		t.Errorf("a weakness of another is held against safe-run's: score %d, %+v", own.Score, own.Findings)
	}
	if p.Score > 5 {
		t.Errorf("score %d: %+v", p.Score, p.Findings)
	}
	if !p.Facts.User.RootIsHostRoot || len(p.Facts.Capabilities["effective"]) < 38 {
		t.Errorf("facts %+v", p.Facts)
	}
	weak := p.weaknesses()
	for _, id := range []string{
		"capabilities", "control-sockets", "device-rules", "devices", "host-files", "kernel-files", "kernel-masks", "memory-limit",
		"namespace-cgroup", "namespace-ipc", "namespace-network", "namespace-pid", "namespace-uts", "pids-limit", "root-filesystem", "seccomp",
		"user", "user-namespace", "write-execute",
	} {
		if !slices.Contains(weak, id) {
			t.Errorf("no finding of %s among %q", id, weak)
		}
	}
	for _, f := range p.Findings {
		if f.Severity == "ok" && f.Fix != "" || f.Severity != "ok" && f.Severity != "info" && f.Fix == "" {
			t.Errorf("a fix belongs to what is wrong: %+v", f)
		}
		if f.Drift {
			t.Errorf("it is just what was asked for: %+v", f)
		}
	}
	for _, c := range []struct {
		flags []string
		code  int
	}{
		{nil, 0},
		{[]string{"--fail-on", "critical"}, 3},
		{[]string{"--fail-on", "low"}, 3},
		{[]string{"--min-score", "50"}, 3},
		{[]string{"--min-score", "0"}, 0},
		{[]string{"--fail-on", "nonsense"}, 1},
		{[]string{"--fail-on", "low", "no-such-container"}, 1},
		{[]string{"--fail-on", "low", "--json"}, 3},
		{[]string{"--fail-on", "low", "--sarif"}, 3},
	} {
		r := run(append(append([]string{"audit"}, c.flags...), "audit-wide")...)
		if r.code != c.code {
			t.Errorf("%q: %s", c.flags, r)
		}
	}
	r := run("audit", "--sarif", "audit-wide")
	var sarif struct {
		Version string
		Runs    []struct {
			Results []struct{ RuleID, Level string }
		}
	}
	if err := json.Unmarshal([]byte(r.stdout), &sarif); err != nil || sarif.Version != "2.1.0" || len(sarif.Runs) != 1 || len(sarif.Runs[0].Results) != len(weak) {
		t.Errorf("--sarif: %v: %s", err, r)
	}
	if r := run("audit", "--format", "{{.Subject.ID}} {{.Score}}", "audit-wide"); r.stdout != fmt.Sprintf("audit-wide %d\n", p.Score) {
		t.Errorf("--format: %s", r)
	}
	// The same by its process, which tells whose it is.
	if by := audits(t, "--pid", strconv.Itoa(p.Subject.PID)); by.Subject != p.Subject || by.Score != p.Score {
		t.Errorf("--pid: %+v, wanted %+v", by.Subject, p.Subject)
	}
}

// An ordinary container of another tool lies between, and is not said to
// differ from what it was asked to be.
func TestAuditOrdinary(t *testing.T) {
	stranger(t, "default", "audit-plain", "--label", "nerdctl/name=audit-named")
	p := audits(t, "audit-named")
	agrees(t, p)
	if p.Subject.ID != "audit-plain" || p.Subject.Namespace != "default" || p.Subject.Engine != here.socket {
		t.Errorf("subject %+v", p.Subject)
	}
	if p.Score < 15 || p.Score > 65 {
		t.Errorf("score %d: %+v", p.Score, p.Findings)
	}
	for _, f := range p.Findings {
		if f.Drift {
			t.Errorf("%+v", f)
		}
	}
}

func TestAuditNames(t *testing.T) {
	stranger(t, "moby", "audit-twin")
	stranger(t, "k8s.io", "audit-twin", "--label", "io.kubernetes.pod.name=pod", "--label", "io.kubernetes.pod.namespace=shop", "--label", "io.kubernetes.container.name=audit-c")
	ended := run("run", "-d", "--name", "audit-ended", "busybox", "true")
	if ended.code != 0 {
		t.Fatal(ended)
	}
	t.Cleanup(func() { run("rm", "-f", "audit-ended") })
	eventually(t, 10*time.Second, "its end", func() bool { return field("audit-ended", "{{.State.Status}}") == "exited" })
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"audit-twin"}, 1, "namespace k8s.io"},
		{[]string{"--namespace", "moby", "audit-tw"}, 0, "audit-twin"},
		{[]string{"--namespace", "k8s.io", "audit-tw"}, 0, "shop/pod/audit-c"},
		{[]string{"shop/pod/audit-c"}, 0, "audit-twin"},
		{[]string{"audit-ended"}, 1, "not running"},
		{[]string{"audit-nosuch"}, 1, "No such container"},
		{[]string{"--pid", "999999999"}, 1, "no process"},
		{[]string{"--address", here.dir + "/nosuch", "audit-twin"}, 1, "nosuch"},
		{[]string{"--namespace", "moby"}, 0, "audit-twin"},
		{[]string{"--all"}, 0, "CONTAINER"},
	} {
		r := run(append([]string{"audit"}, c.args...)...)
		if r.code != c.code || !strings.Contains(r.stdout+r.stderr, c.want) {
			t.Errorf("%q: %s", c.args, r)
		}
	}
	all := audited(t)
	var seen []string
	for _, p := range all {
		seen = append(seen, p.Subject.Namespace+"/"+p.Subject.ID)
	}
	for _, want := range []string{"moby/audit-twin", "k8s.io/audit-twin"} {
		if !slices.Contains(seen, want) {
			t.Errorf("%s is not among %q", want, seen)
		}
	}
}

// Nothing is started or made to answer, and an engine that hangs is passed.
func TestAuditLeavesNothing(t *testing.T) {
	dir := tempDir(t)
	env := []string{"SAFE_RUN_ROOT=" + dir + "/root", "SAFE_RUN_STATE=" + dir + "/state"}
	if r := call(request{args: []string{"audit"}, env: env}); r.code != 0 || r.stdout != "" || !strings.Contains(r.stderr, "no container") {
		t.Errorf("without an engine: %s", r)
	}
	if made, err := os.ReadDir(dir); err != nil || len(made) > 0 {
		t.Errorf("it made %v (%v)", made, err)
	}
	mute, err := net.Listen("unix", dir+"/mute.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	env = append(env, "CONTAINERD_ADDRESS="+dir+"/mute.sock")
	gate := make(chan answer, 1) // beside the other: both wait
	go func() { gate <- call(request{args: []string{"audit", "--fail-on", "high"}, env: env}) }()
	if r := call(request{args: []string{"audit", "--json"}, env: env}); r.code != 0 || strings.TrimSpace(r.stdout) != "[]" || !strings.Contains(r.stderr, "mute.sock") {
		t.Errorf("with one that does not answer: %s", r)
	}
	if r := <-gate; r.code != 1 {
		t.Errorf("a verdict on containers nobody saw: %s", r)
	}
}
