package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// TestMain lets the test binary be a launcher of its own: one that starts the
// engine and ends.
func TestMain(m *testing.M) {
	if root := os.Getenv("ENGINE_TEST_ROOT"); root != "" {
		e, err := New(os.Getenv("ENGINE_TEST_BIN"), root+"/r", root+"/s")
		if err == nil {
			var started bool
			started, err = e.Start(context.Background())
			fmt.Println(started)
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// binDir is the engine built by "make engine".
func binDir(tb testing.TB) string {
	tb.Helper()
	dir, err := filepath.Abs("../../build/engine")
	if err != nil {
		tb.Fatal(err)
	}
	if m := missing(dir); m != "" {
		tb.Fatalf("%s has no %s: run make engine", dir, m)
	}
	if os.Geteuid() != 0 {
		tb.Fatal("needs root")
	}
	return dir
}

// shortDir is a temporary directory with a path short enough for sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func newEngine(t *testing.T) (*Engine, string) {
	t.Helper()
	dir := shortDir(t)
	e, err := New(binDir(t), dir+"/r", dir+"/s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := e.Stop(context.Background(), true); err != nil {
			t.Error(err)
		}
	})
	return e, dir
}

func TestStartStatusStop(t *testing.T) {
	ctx := context.Background()
	e, _ := newEngine(t)
	if s := e.Status(ctx); s.Running || s.Answers {
		t.Fatalf("before the start: %+v", s)
	}
	if stopped, err := e.Stop(ctx, false); stopped || err != nil {
		t.Fatalf("stopping nothing: %v, %v", stopped, err)
	}

	// An inherited descriptor, a strange umask, ignored signals, small limits
	// and the caller's environment must not reach the engine.
	signal.Ignore(unix.SIGHUP, unix.SIGUSR1)
	defer signal.Reset(unix.SIGHUP, unix.SIGUSR1)
	var files unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1 << 40, Max: unix.RLIM_INFINITY}, &files); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Prlimit(0, unix.RLIMIT_FSIZE, &files, nil) }()
	fd, err := unix.Open("/etc/hostname", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	t.Setenv("LD_PRELOAD_MARK", "secret")
	old := unix.Umask(0o077)
	started, err := e.Start(ctx)
	unix.Umask(old)
	if err != nil || !started {
		t.Fatalf("start: %v, %v", started, err)
	}
	if started, err := e.Start(ctx); err != nil || started {
		t.Fatalf("second start: %v, %v", started, err)
	}
	s := e.Status(ctx)
	if !s.Running || !s.Answers || s.PID == 0 || time.Since(s.Since) > time.Minute {
		t.Fatalf("status: %+v", s)
	}

	proc := "/proc/" + strconv.Itoa(s.PID)
	env, err := os.ReadFile(proc + "/environ")
	if err != nil || strings.Count(string(env), "\x00") != 2 || !strings.HasPrefix(string(env), "PATH="+e.bin+":/usr/sbin") || !strings.HasSuffix(string(env), "\x00TMPDIR="+e.Temp()+"\x00") {
		t.Errorf("environment %q, %v", env, err)
	}
	fds, err := os.ReadDir(proc + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fds {
		if l, _ := os.Readlink(proc + "/fd/" + f.Name()); l == "/etc/hostname" || strings.HasPrefix(l, "/dev/pts") || strings.HasPrefix(l, "/dev/tty") {
			t.Errorf("the engine has %s open as %s", l, f.Name())
		}
	}
	status, err := os.ReadFile(proc + "/status")
	_, after, _ := strings.Cut(string(status), "SigIgn:\t")
	word, _, _ := strings.Cut(after, "\n")
	// 32 and 33 belong to C libraries; no program sends them to another, and Go
	// cannot change them.
	if ignored, perr := strconv.ParseUint(word, 16, 64); err != nil || perr != nil || ignored&^(1<<31|1<<32) != 0 {
		t.Errorf("the engine ignores signals: %q, %v", word, err)
	}
	var size unix.Rlimit
	if err := unix.Prlimit(s.PID, unix.RLIMIT_FSIZE, nil, &size); err != nil || size.Cur != unix.RLIM_INFINITY {
		t.Errorf("largest file %d, %v", size.Cur, err)
	}
	if sid, err := unix.Getsid(s.PID); err != nil || sid != s.PID {
		t.Errorf("session %d, want its own", sid)
	}
	if cwd, _ := os.Readlink(proc + "/cwd"); cwd != "/" {
		t.Errorf("working directory %q", cwd)
	}
	for path, want := range map[string]os.FileMode{
		e.root: 0o700, e.state: 0o711, e.state + "/s": 0o700, e.Address(): 0o660, e.Address() + ".ttrpc": 0o660,
		e.LogPath(): 0o600, e.configPath(): 0o600, e.state + "/io.containerd.runtime.v2.task": 0o711,
	} {
		st, err := os.Stat(path)
		if err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: mode %v, want %v (%v)", path, st.Mode().Perm(), want, err)
		}
	}
	if b, _ := os.ReadFile(e.LogPath()); bytes.Contains(b, []byte("level=error")) {
		t.Errorf("the engine complains:\n%s", b)
	}

	// The plugins that are needed, and none of those that are not.
	out, err := exec.Command(filepath.Join(e.bin, "ctr"), "-a", e.Address(), "plugins", "ls").CombinedOutput()
	if err != nil {
		t.Fatalf("ctr: %v\n%s", err, out)
	}
	have := map[string]string{}
	for l := range strings.Lines(string(out)) {
		if f := strings.Fields(l); len(f) == 4 {
			have[f[0]+"."+f[1]] = f[3]
		}
	}
	for _, p := range []string{
		"io.containerd.snapshotter.v1.overlayfs", "io.containerd.snapshotter.v1.native", "io.containerd.transfer.v1.local",
		"io.containerd.grpc.v1.transfer", "io.containerd.grpc.v1.tasks", "io.containerd.grpc.v1.streaming", "io.containerd.runtime.v2.task",
		"io.containerd.gc.v1.scheduler", "io.containerd.grpc.v1.leases", "io.containerd.differ.v1.walking", "io.containerd.grpc.v1.events",
	} {
		if have[p] != "ok" {
			t.Errorf("plugin %s is %q", p, have[p])
		}
	}
	for _, p := range disabled {
		if s, ok := have[p]; ok {
			t.Errorf("plugin %s is there (%s)", p, s)
		}
	}

	bundle := e.state + "/io.containerd.runtime.v2.task/ns/c1"
	if err := os.MkdirAll(bundle, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Stop(ctx, false); fail.KindOf(err) != fail.Conflict || !strings.Contains(err.Error(), "ns/c1") {
		t.Errorf("stop with a container: %v", err)
	}
	if err := os.RemoveAll(filepath.Dir(bundle)); err != nil {
		t.Fatal(err)
	}
	if stopped, err := e.Stop(ctx, false); err != nil || !stopped {
		t.Errorf("stop: %v, %v", stopped, err)
	}
	if s := e.Status(ctx); s.Running || s.Answers {
		t.Errorf("after the stop: %+v", s)
	}
	if started, err := e.Start(ctx); err != nil || !started {
		t.Errorf("start after stop: %v, %v", started, err)
	}
}

// Many launches at once on a fresh host start one engine, which outlives them.
func TestStartFromManyProcesses(t *testing.T) {
	e, dir := newEngine(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	started := 0
	for range 8 {
		wg.Go(func() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "ENGINE_TEST_ROOT="+dir, "ENGINE_TEST_BIN="+e.bin)
			out, err := cmd.CombinedOutput()
			mu.Lock()
			defer mu.Unlock()
			switch strings.TrimSpace(string(out)) {
			case "true":
				started++
			case "false":
			default:
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
	if started != 1 {
		t.Errorf("started %d times", started)
	}
	if s := e.Status(context.Background()); !s.Running || !s.Answers {
		t.Errorf("status after the launchers are gone: %+v", s)
	}
}

// A starter killed before the engine answers leaves one that the next finds.
func TestStartFindsOneThatComesUp(t *testing.T) {
	e, _ := newEngine(t)
	if err := e.prepare(); err != nil {
		t.Fatal(err)
	}
	exited, err := e.spawn()
	if err != nil {
		t.Fatal(err)
	}
	started, err := e.Start(context.Background())
	if err != nil || started {
		t.Errorf("start: %v, %v", started, err)
	}
	select {
	case err := <-exited:
		t.Errorf("the first engine ended: %v", err)
	default:
	}
}

func TestStartFails(t *testing.T) {
	bin := t.TempDir()
	for _, b := range binaries {
		if err := os.WriteFile(filepath.Join(bin, b), []byte("#!/bin/sh\nprintf 'no \\033[2J luck\\n' >&2; exit 7\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := shortDir(t)
	e, err := New(bin, dir+"/r", dir+"/s")
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.Start(context.Background())
	if fail.KindOf(err) != fail.HostCannot || !strings.Contains(err.Error(), `no \x1b[2J luck`) || !strings.Contains(err.Error(), "exit status 7") {
		t.Errorf("error %q", err)
	}
}

func TestForeignDirectoryIsRefused(t *testing.T) {
	for _, mode := range []os.FileMode{0o777, 0o770} {
		dir := shortDir(t)
		if err := os.MkdirAll(dir+"/s/engine", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir+"/s/engine", mode); err != nil {
			t.Fatal(err)
		}
		e, err := New(binDir(t), dir+"/r", dir+"/s")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Start(context.Background()); fail.KindOf(err) != fail.HostCannot || !strings.Contains(err.Error(), "writable for root alone") {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
	dir := shortDir(t)
	if err := os.Symlink("/etc", dir+"/s"); err != nil {
		t.Fatal(err)
	}
	e, err := New(binDir(t), dir+"/r", dir+"/s")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Start(context.Background()); fail.KindOf(err) != fail.HostCannot {
		t.Errorf("symbolic link: %v", err)
	}
}

// The container's root must get through to its rootfs.
func TestClosedDirectoryIsRefused(t *testing.T) {
	dir := shortDir(t)
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	e, err := New(binDir(t), dir+"/r", dir+"/s")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Start(context.Background()); fail.KindOf(err) != fail.HostCannot || !strings.Contains(err.Error(), "mode 0700") {
		t.Errorf("error %v", err)
	}
}

// In a mount namespace where the state is another directory of the same name,
// the engine that runs outside is somebody else's.
func TestAnotherNamespaceIsAnotherEngine(t *testing.T) {
	e, _ := newEngine(t)
	if _, err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p, ok := e.find(); !ok {
		t.Error("not found")
	} else {
		p.close()
	}
	found := make(chan bool)
	go func() {
		runtime.LockOSThread() // and the thread ends with the goroutine
		err := errors.Join(unix.Unshare(unix.CLONE_NEWNS|unix.CLONE_FS),
			unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("none", e.state, "tmpfs", 0, ""))
		if err != nil {
			t.Error(err)
		}
		_, ok := e.find()
		found <- ok
	}()
	if <-found {
		t.Error("taken for the own one")
	}
}

func TestConnect(t *testing.T) {
	ctx := context.Background()
	e, dir := newEngine(t)
	none := dir + "/none.sock"
	var notice bytes.Buffer
	base := Request{Root: dir + "/r", State: dir + "/s", Bin: e.bin, System: none, Notice: &notice}

	r := base
	r.Bin = dir
	if _, err := Connect(ctx, r); fail.KindOf(err) != fail.HostCannot || !strings.Contains(err.Error(), "there is no containerd") {
		t.Errorf("without any: %v", err)
	}
	got, err := Connect(ctx, base)
	if err != nil || !got.Started || got.Engine == nil || got.Address != e.Address() || got.PID == 0 {
		t.Fatalf("embedded: %+v, %v", got, err)
	}
	if n := notice.String(); strings.Count(n, "\n") != 1 || !strings.HasPrefix(n, "safe-run: started its own containerd") {
		t.Errorf("notice %q", n)
	}
	if p, err := got.Runtime("runc"); err != nil || p != e.bin+"/runc" {
		t.Errorf("runtime %q, %v", p, err)
	}
	notice.Reset()
	if got, err := Connect(ctx, base); err != nil || got.Started || notice.Len() > 0 {
		t.Errorf("second: %+v, %v, %q", got, err, notice.String())
	}
	// From here on the running engine plays the system's containerd.
	r = base
	r.System, r.Bin = e.Address(), dir
	got, err = Connect(ctx, r)
	if err != nil || got.Engine != nil || got.Address != e.Address() {
		t.Errorf("system: %+v, %v", got, err)
	}
	if p, err := got.Runtime("runc"); err != nil || p != e.bin+"/runc" {
		t.Errorf("runtime by containerd's PATH: %q, %v", p, err)
	}
	env := func(kv ...string) func(string) string {
		return func(k string) string {
			for i := 0; i < len(kv); i += 2 {
				if kv[i] == k {
					return kv[i+1]
				}
			}
			return ""
		}
	}
	for name, tc := range map[string]struct {
		flag string
		env  func(string) string
		want string // "" is an error
	}{
		"flag":               {"unix://" + e.Address(), env("CONTAINERD_ADDRESS", none), e.Address()},
		"flag, dead":         {none, nil, ""},
		"flag, relative":     {"x.sock", nil, ""},
		"env":                {"", env("CONTAINERD_ADDRESS", e.Address()), e.Address()},
		"env, dead":          {"", env("CONTAINERD_ADDRESS", none), ""},
		"env, sudo":          {"", env("CONTAINERD_ADDRESS", none, "SUDO_UID", "1000"), e.Address()},
		"flag, under sudo":   {e.Address(), env("SUDO_UID", "1000"), e.Address()},
		"flag, tcp":          {"tcp://1.2.3.4:5", nil, ""},
		"flag, dead in sudo": {none, env("SUDO_UID", "1000"), ""},
	} {
		r := base
		r.Flag, r.Getenv = tc.flag, tc.env
		got, err := Connect(ctx, r)
		if got.Address != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestNewRefusesPaths(t *testing.T) {
	for _, p := range []string{"relative", "/a/../b", "/a'b", "/a\nb", "/" + strings.Repeat("x", 90), ""} {
		if _, err := New("/bin", "/root", p); fail.KindOf(err) != fail.Usage {
			t.Errorf("%q: %v", p, err)
		}
	}
}

func TestLogIsBounded(t *testing.T) {
	dir := shortDir(t)
	e, err := New("/bin", dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.prepare(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := os.WriteFile(e.LogPath(), bytes.Repeat([]byte("x"), 3*maxLog), 0o600); err != nil {
			t.Fatal(err)
		}
		e.trimLog()
	}
	a, errA := os.Stat(e.LogPath())
	b, errB := os.Stat(e.LogPath() + ".1")
	if errA != nil || errB != nil || a.Size() != 0 || b.Size() != maxLog/2 {
		t.Errorf("sizes %v, %v", a, b)
	}
}

func TestLocate(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct{ exe, engine string }{
		{"build/safe-run", "build/engine"},
		{"usr/bin/safe-run", "usr/lib/safe-run/engine"},
	} {
		exe := filepath.Join(dir, tc.exe)
		if err := os.MkdirAll(filepath.Dir(exe), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(exe, nil, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := locate(exe); fail.KindOf(err) != fail.NotFound {
			t.Errorf("%s: %v", tc.exe, err)
		}
		for _, b := range binaries {
			p := filepath.Join(dir, tc.engine, b)
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p, nil, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		link := filepath.Join(dir, "docker")
		_ = os.Remove(link)
		if err := os.Symlink(exe, link); err != nil {
			t.Fatal(err)
		}
		if got, err := locate(link); err != nil || got != filepath.Join(dir, tc.engine) {
			t.Errorf("%s: %q, %v", tc.exe, got, err)
		}
	}
}

// A containerd of somebody else's is not talked to, and its PATH chooses no
// program: under sudo the address is the caller's word.
func TestForeignContainerd(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root to become somebody else")
	}
	p := filepath.Join(shortDir(t), "c.sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }() // the test is over
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: p}); err != nil {
		t.Fatal(err)
	}
	listen := func(uid uintptr) {
		t.Helper()
		done := make(chan error)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with its user id
			if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); e != 0 {
				done <- e
				return
			}
			done <- unix.Listen(fd, 8)
		}()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	listen(65534)
	if _, err := Connect(context.Background(), Request{Flag: p}); fail.KindOf(err) != fail.Refused {
		t.Errorf("Connect: %v", err)
	}
	if c, err := Dial(context.Background(), "unix://"+p); fail.KindOf(err) != fail.Refused || c != nil {
		t.Errorf("Dial: %v", err)
	}
	listen(0)
	target, err := Connect(context.Background(), Request{Flag: p})
	if err != nil || target.PID != os.Getpid() {
		t.Errorf("root's own: %+v, %v", target, err)
	}
}
