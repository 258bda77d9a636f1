//go:build guest

package systemd

// Tests for a machine, a virtual one, that systemd runs with cgroup v2. The
// test program runs itself as a service and says what it finds.

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// found is what the service says.
type found struct {
	Unit       *Unit
	Err        string
	Cgroup     string        // after Enter
	Subtree    string        // cgroup.subtree_control of the unit
	Unmoved    string        // cgroup.procs of the unit
	Enter      time.Duration // the first call
	Again      time.Duration // the second
	Child      string        // what became of a cgroup beside the leaf
	Secret     string
	Listeners  []string
	ListenErr  string
	AgainEqual bool // Detect after Enter gives the same
}

func TestMain(m *testing.M) {
	if act := os.Getenv("ACT"); act != "" {
		serviceMain(act, os.Getenv("OUT"))
		return
	}
	os.Exit(m.Run())
}

func serviceMain(act, out string) {
	u, err := Detect(os.Getenv)
	f := found{Unit: u, Err: fmt.Sprint(err)}
	defer func() {
		b, _ := json.Marshal(f)
		_ = os.WriteFile(out+".new", b, 0o600)
		_ = os.Rename(out+".new", out)
		serve(act, u)
	}()
	if u == nil || act == "detect" {
		return
	}
	if b, err := u.Credential("key"); err == nil {
		f.Secret = string(b)
	}
	_, f.Listeners, err = u.Listeners()
	f.ListenErr = fmt.Sprint(err)
	if act == "listen" || act == "post" {
		return
	}
	start := time.Now()
	err = u.Enter()
	f.Enter = time.Since(start)
	start = time.Now()
	if e := u.Enter(); err == nil {
		err = e
	}
	f.Again, f.Err = time.Since(start), fmt.Sprint(err)
	g, _ := readGroups("/", "self")
	f.Cgroup, f.Subtree, f.Unmoved = g.v2, readLine(u.file("cgroup.subtree_control")), readLine(u.file("cgroup.procs"))
	again, err := Detect(os.Getenv)
	f.AgainEqual = err == nil && again != nil && again.Name == u.Name && again.Cgroup == u.Cgroup && again.Delegated == u.Delegated
	f.Child = "ok"
	child := u.file("box")
	if err := os.Mkdir(child, 0o755); err != nil && !os.IsExist(err) {
		f.Child = err.Error()
	}
	for _, limit := range []string{"memory.max=100000000", "pids.max=50", "cpu.max=50000 100000"} {
		name, value, _ := strings.Cut(limit, "=")
		if err := write(filepath.Join(child, name), value); err != nil {
			f.Child = err.Error()
		}
	}
	c := exec.Command("sleep", "1000")
	c.Env = Clean(os.Environ())
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		f.Child = err.Error()
		return
	}
	if act == "out" {
		if err := MoveOut(c.Process.Pid); err != nil {
			f.Child = err.Error()
		}
	} else if err := move(child, c.Process.Pid); err != nil {
		f.Child = err.Error()
	}
	_ = os.WriteFile(out+".pid", []byte(itoa(c.Process.Pid)), 0o600)
}

func serve(act string, u *Unit) {
	switch act {
	case "notify":
		n := u.Notifier()
		_ = n.ExtendTimeout(time.Minute)
		_ = n.Ready("all is\nwell")
		start := time.Now()
		n.Watch(context.Background(), u.WatchdogInterval, func() bool { return time.Since(start) < 8*time.Second })
	case "listen":
		l, err := net.FileListener(u.Listen[0])
		if err != nil {
			return
		}
		if c, err := l.Accept(); err == nil {
			_, _ = c.Write([]byte("hello"))
			_ = c.Close()
		}
	case "stay":
		time.Sleep(time.Hour)
	case "fail":
		os.Exit(3)
	}
}

// service runs this program as a transient unit; what comes back is what it
// wrote and the pid of the process it started.
func service(t *testing.T, act string, args ...string) (f found, pid string) {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	return run(t, act, append(args, "--", exe)...)
}

func run(t *testing.T, act string, args ...string) (f found, pid string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	begin(t, act, out, args...)
	return result(t, out)
}

func begin(t *testing.T, act, out string, args ...string) {
	t.Helper()
	b, err := exec.Command("systemd-run", append([]string{"-q", "-E", "ACT=" + act, "-E", "OUT=" + out}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("systemd-run: %v: %s", err, b)
	}
}

func result(t *testing.T, out string) (f found, pid string) {
	t.Helper()
	wait(t, "the service to say what it found", func() bool { _, err := os.Stat(out); return err == nil })
	b, err := os.ReadFile(out)
	must(t, err)
	must(t, json.Unmarshal(b, &f))
	p, _ := os.ReadFile(out + ".pid")
	return f, string(p)
}

func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for stop := time.Now().Add(60 * time.Second); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(stop) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func show(t *testing.T, unit, property string) string {
	t.Helper()
	b, err := exec.Command("systemctl", "show", unit, "-p", property, "--value").Output()
	must(t, err)
	return strings.TrimSpace(string(b))
}

func alive(pid string) bool {
	b, err := os.ReadFile("/proc/" + pid + "/comm")
	return err == nil && strings.TrimSpace(string(b)) == "sleep"
}

func TestGuestEnter(t *testing.T) {
	f, pid := service(t, "stay", "--unit=enter", "-p", "Delegate=yes", "-p", "SetCredential=key:secret", "-p", "LimitNOFILE=4096")
	if u := f.Unit; u == nil || u.Name != "enter.service" || u.Cgroup != "/system.slice/enter.service" || !u.Delegated || !u.Main || u.Journal != [2]bool{true, true} {
		t.Fatalf("found %+v", u)
	}
	t.Logf("Enter took %v, again %v; controllers %q", f.Enter, f.Again, f.Subtree)
	if f.Err != "<nil>" || f.Cgroup != "/system.slice/enter.service/supervisor" || f.Unmoved != "" || f.Child != "ok" || !f.AgainEqual || f.Secret != "secret" {
		t.Errorf("found %+v", f)
	}
	for _, c := range []string{"memory", "pids", "cpu"} {
		if !strings.Contains(f.Subtree, c) {
			t.Errorf("controller %s is missing: %q", c, f.Subtree)
		}
	}
	// What runs below it ends with it.
	if !alive(pid) {
		t.Fatal("the process in the other cgroup does not run")
	}
	must(t, exec.Command("systemctl", "kill", "--kill-whom=main", "-s", "KILL", "enter").Run())
	wait(t, "the end of the process in the other cgroup", func() bool { return !alive(pid) })
	wait(t, "the unit's cgroup to go", func() bool { _, err := os.Stat("/sys/fs/cgroup/system.slice/enter.service"); return err != nil })
}

func TestGuestOthersAreMoved(t *testing.T) {
	exe, _ := os.Executable()
	f, _ := run(t, "stay", "--unit=others", "-p", "Delegate=yes", "--", "/bin/sh", "-c", "sleep 500 & sleep 500 & exec "+exe)
	if f.Unit == nil || f.Err != "<nil>" || f.Unmoved != "" || !f.Unit.Main {
		t.Errorf("found %+v %+v", f.Unit, f)
	}
	_ = exec.Command("systemctl", "stop", "others").Run()
}

func TestGuestNotDelegated(t *testing.T) {
	f, _ := service(t, "stay", "--unit=plain")
	if f.Unit == nil || f.Unit.Delegated || !strings.Contains(f.Err, "not delegated") {
		t.Errorf("found %+v, %s", f.Unit, f.Err)
	}
	_ = exec.Command("systemctl", "stop", "plain").Run()
	f, _ = service(t, "detect", "-p", "Delegate=memory", "--unit=part")
	if f.Unit == nil || !f.Unit.Main {
		t.Errorf("found %+v", f.Unit)
	}
	t.Logf("Delegate=memory: %v %v", f.Unit.Delegated, f.Unit.Controllers)
}

func TestGuestNoService(t *testing.T) {
	exe, _ := os.Executable()
	for name, args := range map[string][]string{
		"of a script": {"--", "/bin/sh", "-c", exe + "; true"},
		"a scope":     {"--scope", "--", exe},
	} {
		if f, _ := run(t, "detect", args...); f.Unit != nil || f.Err != "<nil>" {
			t.Errorf("%s: found %+v, %s", name, f.Unit, f.Err)
		}
	}
	if f, _ := service(t, "detect", "--pipe", "--wait"); f.Unit == nil || f.Unit.Journal != [2]bool{} {
		t.Errorf("with other output: %+v", f.Unit)
	}
}

func TestGuestControlProcess(t *testing.T) {
	exe, _ := os.Executable()
	out := filepath.Join(t.TempDir(), "out")
	begin(t, "post", out, "--unit=post", "-p", "Delegate=yes", "-p", "ExecStartPost="+exe, "--", "sleep", "500")
	if f, _ := result(t, out); f.Unit == nil || f.Unit.Main || f.Unit.Cgroup != "/system.slice/post.service" {
		t.Errorf("found %+v", f.Unit)
	}
	_ = exec.Command("systemctl", "stop", "post").Run()
}

func TestGuestNotify(t *testing.T) {
	f, _ := service(t, "notify", "--unit=notify", "-p", "Delegate=yes", "-p", "Type=notify", "-p", "WatchdogSec=4", "-p", "WatchdogSignal=SIGKILL")
	if f.Unit.WatchdogInterval != 4*time.Second {
		t.Errorf("watchdog %v", f.Unit.WatchdogInterval)
	}
	if s := show(t, "notify", "ActiveState") + " " + show(t, "notify", "StatusText"); s != "active all is well" {
		t.Errorf("state: %s", s)
	}
	time.Sleep(6 * time.Second)
	if s := show(t, "notify", "ActiveState"); s != "active" {
		t.Errorf("fed, but %s", s)
	}
	wait(t, "the watchdog", func() bool { return show(t, "notify", "Result") == "watchdog" })
	_ = exec.Command("systemctl", "reset-failed", "notify").Run()
}

func TestGuestSockets(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	exe, _ := os.Executable()
	begin(t, "listen", out, "--unit=act", "--socket-property=ListenStream=127.0.0.1:7777", "--socket-property=FileDescriptorName=web", "--", exe)
	c, err := net.Dial("tcp", "127.0.0.1:7777")
	must(t, err)
	if b, _ := io.ReadAll(c); string(b) != "hello" {
		t.Errorf("got %q", b)
	}
	f, _ := result(t, out)
	if f.Unit == nil || f.ListenErr != "<nil>" || len(f.Listeners) != 1 || f.Listeners[0] != "web" {
		t.Errorf("found %+v %+v", f.Unit, f)
	}
	_ = exec.Command("systemctl", "stop", "act.socket").Run()
	// A FIFO of the host is not for a container.
	out += "2"
	begin(t, "listen", out, "--unit=fifo", "--socket-property=ListenFIFO=/run/test-fifo", "--", exe)
	p, err := os.OpenFile("/run/test-fifo", os.O_RDWR, 0)
	must(t, err)
	_, _ = p.Write([]byte("x"))
	if f, _ := result(t, out); !strings.Contains(f.ListenErr, "not a socket") {
		t.Errorf("found %+v", f)
	}
	_ = exec.Command("systemctl", "stop", "fifo.socket").Run()
}

func TestGuestMoveOut(t *testing.T) {
	f, pid := service(t, "out", "--unit=out", "-p", "Delegate=yes")
	if f.Child != "ok" {
		t.Fatalf("found %+v", f)
	}
	wait(t, "the unit's end", func() bool { return show(t, "out", "ActiveState") == "inactive" })
	time.Sleep(2 * time.Second)
	if !alive(pid) {
		t.Fatal("it ended with the unit")
	}
	g, err := readGroups("/", pid)
	must(t, err)
	if g.v2 != "/"+Away {
		t.Errorf("it is in %q", g.v2)
	}
	n := 0
	_, _ = fmt.Sscan(pid, &n)
	_ = syscall.Kill(n, syscall.SIGKILL)
}

// A unit started again while cgroups of the last run are there.
func TestGuestRestart(t *testing.T) {
	exe, _ := os.Executable()
	out := filepath.Join(t.TempDir(), "out")
	begin(t, "fail", out, "--unit=again", "-p", "Delegate=yes", "-p", "Restart=on-failure", "-p", "RestartSec=100ms", "-p", "StartLimitIntervalSec=0", "--", exe)
	wait(t, "three restarts", func() bool { n := 0; _, _ = fmt.Sscan(show(t, "again", "NRestarts"), &n); return n >= 3 })
	f, _ := result(t, out)
	_ = exec.Command("systemctl", "stop", "again").Run()
	if f.Err != "<nil>" || f.Child != "ok" || f.Cgroup != "/system.slice/again.service/supervisor" {
		t.Errorf("found %+v", f)
	}
	if s := show(t, "again", "ExecMainStatus"); s != "3" && s != "0" {
		t.Errorf("status %s", s)
	}
}
