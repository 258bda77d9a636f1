package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
)

type handler = func(context.Context, Request, *Conn) Reply

// serve runs a server for the time of a test.
func serve(t testing.TB, h handler, set ...func(*Server)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "control")
	s, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range set {
		f(s)
	}
	run(t, s, h)
	return path
}

func run(t testing.TB, s *Server, h handler) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { s.Serve(ctx, h); close(done) }()
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Error("Serve does not end")
		}
		s.Close()
	})
}

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestCall(t *testing.T) {
	path := serve(t, func(_ context.Context, rq Request, _ *Conn) Reply {
		switch rq.Op {
		case "refuse":
			return Failed(fail.New(fail.Conflict, "name %q is taken", rq.Name).Hint("take another"))
		case "foreign":
			return Failed(io.ErrNoProgress)
		case "big":
			b, _ := json.Marshal(strings.Repeat("x", 2<<20))
			return Reply{Data: b}
		}
		b, _ := json.Marshal(rq)
		return Reply{Code: 7, Data: b}
	})
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatal(st.Mode(), err)
	}
	never := -1
	r, err := Call(bounded(t), path, Request{Op: "echo", Signal: 15, Timeout: &never, Name: "a\x00\n"})
	if err != nil || r.Code != 7 {
		t.Fatal(r, err)
	}
	var got Request
	if err := json.Unmarshal(r.Data, &got); err != nil || *got.Timeout != -1 || got.Name != "a\x00\n" || got.Signal != 15 {
		t.Fatal(string(r.Data), err)
	}
	for _, c := range []struct {
		rq   Request
		kind fail.Kind
		text string
		next string
	}{
		{Request{Op: "refuse", Name: "web"}, fail.Conflict, `name "web" is taken`, "take another"},
		{Request{Op: "foreign"}, fail.Internal, io.ErrNoProgress.Error(), ""},
		{Request{Op: "big"}, fail.Internal, "bytes, more than", ""},
		{Request{Op: "echo", Name: strings.Repeat("x", 65<<10)}, fail.Internal, "bytes, more than", ""},
	} {
		_, err := Call(bounded(t), path, c.rq)
		var e *fail.Error
		if !errors.As(err, &e) || e.Kind != c.kind || !strings.Contains(err.Error(), c.text) || e.Next != c.next || NotThere(err) {
			t.Errorf("%s: %v", c.rq.Op, err)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	dying := serve(t, func(_ context.Context, _ Request, c *Conn) Reply { c.u.Close(); return Reply{} })
	for _, p := range []string{filepath.Join(dir, "none"), filepath.Join(dir, "no", "dir"), stale, dying} {
		if _, err := Call(bounded(t), p, Request{Op: "x"}); !NotThere(err) || fail.KindOf(err) != fail.HostCannot {
			t.Errorf("%s: %v", p, err)
		}
		if _, _, err := Attach(bounded(t), p, Request{Op: "x"}, nil, io.Discard, io.Discard); !NotThere(err) {
			t.Errorf("%s: attach: %v", p, err)
		}
	}
	if NotThere(nil) || NotThere(io.EOF) {
		t.Error("NotThere of other errors")
	}
}

func TestLongPathAndSuccessor(t *testing.T) {
	dir := t.TempDir()
	for range 4 {
		dir = filepath.Join(dir, strings.Repeat("d", 60))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "control")
	answer := func(code int) handler {
		return func(context.Context, Request, *Conn) Reply { return Reply{Code: code} }
	}
	first, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	run(t, first, answer(1))
	second, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	run(t, second, answer(2))
	first.Close() // must not take the other's socket away
	if r, err := Call(bounded(t), path, Request{}); err != nil || r.Code != 2 {
		t.Fatal(r, err)
	}
	second.Close()
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Fatal(left)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil {
		t.Fatal("listens where anyone could replace the socket")
	}
}

// TestOtherUser: with the socket's mode out of the way, the peer's uid is
// still checked.
func TestOtherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root")
	}
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	s, err := Listen(filepath.Join(dir, "control"))
	if err != nil {
		t.Fatal(err)
	}
	called := false
	run(t, s, func(context.Context, Request, *Conn) Reply { called = true; return Reply{} })
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(s.path, 0o666)); err != nil {
		t.Fatal(err)
	}
	// By a descriptor: the other user may not be able to reach the directory of the test's binary.
	c := exec.Command("/proc/self/exe", "-test.run=^TestAsNobody$")
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	c.Path, c.ExtraFiles = "/proc/self/fd/3", []*os.File{exe}
	c.Dir = "/"
	c.Env = append(os.Environ(), "CONTROL_SOCKET="+s.path)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "turned away") || called {
		t.Fatalf("%v, called %v: %s", err, called, out)
	}
}

// TestAsNobody is the other process of TestOtherUser.
func TestAsNobody(t *testing.T) {
	path := os.Getenv("CONTROL_SOCKET")
	if path == "" {
		return
	}
	u, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	_ = writeJSON(u, frameRequest, Request{Op: "stop"})
	b, _ := io.ReadAll(u)
	if len(b) == 0 {
		os.Stdout.WriteString("turned away\n")
	}
}

func TestHostileHeaders(t *testing.T) {
	path := serve(t, func(context.Context, Request, *Conn) Reply { return Reply{Code: 3} },
		func(s *Server) { s.within = 200 * time.Millisecond })
	for name, c := range map[string]struct{ sent, want string }{
		"nothing":       {"", "i/o timeout"},
		"half a header": {"\x01\x00", "i/o timeout"},
		"half a body":   {"\x01\x00\x00\x00\x09{", "i/o timeout"},
		"too long":      {"\x01\x00\x01\x00\x01", "not a frame"},
		"huge":          {"\x01\xff\xff\xff\xff", "not a frame"},
		"other type":    {"\x07\x00\x00\x00\x00", "type 7"},
		"not json":      {"\x01\x00\x00\x00\x01{", "JSON"},
		"wrong json":    {"\x01\x00\x00\x00\x0a{\"op\":3  }", "json"},
	} {
		u, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(u, c.sent); err != nil {
			t.Fatal(err)
		}
		var r Reply
		if err := readJSON(u, frameReply, &r); err != nil || r.Error == nil || !strings.Contains(r.Error.Msg, c.want) {
			t.Errorf("%s: %v %v", name, r.Error, err)
		}
		u.Close()
	}
	if r, err := Call(bounded(t), path, Request{}); err != nil || r.Code != 3 {
		t.Fatal(r, err)
	}
}

func TestClientGoesAway(t *testing.T) {
	entered, left := make(chan struct{}), make(chan struct{})
	path := serve(t, func(ctx context.Context, rq Request, _ *Conn) Reply {
		if rq.Op == "quick" {
			return Reply{}
		}
		entered <- struct{}{}
		<-ctx.Done()
		left <- struct{}{}
		return Reply{}
	})
	ctx, cancel := context.WithCancel(bounded(t))
	go func() { <-entered; cancel() }()
	if _, err := Call(ctx, path, Request{Op: "wait"}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	select {
	case <-left:
	case <-time.After(5 * time.Second):
		t.Fatal("the handler does not learn of it")
	}
}

func TestTooMany(t *testing.T) {
	entered := make(chan struct{}, connsMax)
	path := serve(t, func(ctx context.Context, _ Request, _ *Conn) Reply {
		entered <- struct{}{}
		<-ctx.Done()
		return Reply{}
	})
	ctx, cancel := context.WithCancel(bounded(t))
	var wg sync.WaitGroup
	for range connsMax {
		wg.Go(func() { _, _ = Call(ctx, path, Request{Op: "wait"}) })
	}
	for range connsMax {
		<-entered
	}
	for range 20 {
		if _, err := Call(bounded(t), path, Request{Op: "stop"}); fail.KindOf(err) != fail.Conflict {
			t.Fatal(err)
		}
	}
	cancel()
	wg.Wait()
	again, stop := context.WithTimeout(bounded(t), 300*time.Millisecond)
	defer stop()
	for range 50 { // the places are free soon
		if _, err := Call(again, path, Request{Op: "wait"}); errors.Is(err, context.DeadlineExceeded) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("no place")
}

// TestRepliesAtTheEnd: what is being served when the supervisor ends still
// gets its reply.
func TestRepliesAtTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control")
	s, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(bounded(t))
	silent, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	got := make(chan Reply, 1)
	go func() {
		r, _ := Call(context.Background(), path, Request{Op: "wait"})
		got <- r
	}()
	s.Serve(ctx, func(ctx context.Context, _ Request, _ *Conn) Reply {
		cancel()
		<-ctx.Done()
		return Reply{Code: 137}
	})
	if r := <-got; r.Code != 137 {
		t.Fatal(r)
	}
}

func stacks() string {
	b := make([]byte, 1<<20)
	return string(bytes.TrimSpace(b[:runtime.Stack(b, true)]))
}
