package control

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
)

// cat is a handler that gives the client its input back.
func cat(code int) handler {
	return func(ctx context.Context, _ Request, c *Conn) Reply {
		r, w := io.Pipe()
		k := c.Attached(w, func() { w.Close() })
		go func() {
			b := make([]byte, 100_000)
			for {
				n, err := r.Read(b)
				if n > 0 && k.Write(Stdout, b[:n]) != nil {
					return
				}
				if err != nil {
					_ = k.Write(Stderr, []byte("that is all\n"))
					k.End(code)
					return
				}
			}
		}()
		<-ctx.Done()
		r.Close()
		return Reply{}
	}
}

func TestAttach(t *testing.T) {
	path := serve(t, cat(42))
	sent := strings.Repeat("all work and no play\n", 200_000) // more than all buffers
	var out, errs bytes.Buffer
	code, ended, err := Attach(bounded(t), path, Request{Op: "attach"}, strings.NewReader(sent), &out, &errs)
	if code != 42 || !ended || err != nil {
		t.Fatal(code, ended, err)
	}
	if out.String() != sent || errs.String() != "that is all\n" {
		t.Fatal(out.Len(), errs.String())
	}
}

// TestAttachEnds: each way a session may end.
func TestAttachEnds(t *testing.T) {
	forEver, _, err := os.Pipe() // a terminal at which nobody types
	if err != nil {
		t.Fatal(err)
	}
	keys := errors.New("detach keys")
	path := serve(t, func(ctx context.Context, rq Request, c *Conn) Reply {
		switch rq.Op {
		case "plain":
			return Reply{Code: 4}
		case "refused":
			return Reply{Code: 126, Error: Failed(fail.New(fail.CmdNotExec, "no")).Error}
		}
		k := c.Attached(nil, nil)
		switch rq.Op {
		case "exit":
			_ = k.Write(Stdout, []byte("bye"))
			k.End(-1)
			k.End(2)
			if k.Write(Stdout, []byte("more")) == nil {
				t.Error("Write after End")
			}
		case "fails":
			return Failed(fail.New(fail.HostCannot, "broken"))
		case "stream":
			for k.Write(Stdout, []byte("y\n")) == nil {
			}
		case "stays":
			<-ctx.Done()
		}
		return Reply{}
	})
	soon := func() context.Context {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	for _, c := range []struct {
		op    string
		ctx   context.Context
		in    io.Reader
		out   io.Writer
		code  int
		ended bool
		err   error
		kind  fail.Kind
	}{
		{op: "plain", code: 4, ended: true},
		{op: "refused", code: 126, kind: fail.CmdNotExec},
		{op: "exit", in: forEver, code: -1, ended: true},
		{op: "exit", in: strings.NewReader("unread"), code: -1, ended: true},
		{op: "dies", in: forEver},
		{op: "fails", kind: fail.HostCannot},
		{op: "stays", ctx: soon(), in: forEver},
		{op: "stays", in: io.MultiReader(strings.NewReader("x"), failing{keys}), err: keys},
		{op: "stream", out: failing{io.ErrClosedPipe}, err: io.ErrClosedPipe},
	} {
		if c.ctx == nil {
			c.ctx = bounded(t)
		}
		if c.out == nil {
			c.out = io.Discard
		}
		code, ended, err := Attach(c.ctx, path, Request{Op: c.op}, c.in, c.out, io.Discard)
		if code != c.code || ended != c.ended || (c.err == nil) != (err == nil || c.kind != 0) ||
			c.err != nil && !errors.Is(err, c.err) || c.kind != 0 && fail.KindOf(err) != c.kind {
			t.Errorf("%s: %d %v %v", c.op, code, ended, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

// TestStuckReader: a client that stops reading is cut off, one that is slow is
// not.
func TestStuckReader(t *testing.T) {
	cut := make(chan time.Duration, 1)
	path := serve(t, func(_ context.Context, _ Request, c *Conn) Reply {
		k := c.Attached(nil, nil)
		var all Clients
		all.Add(k)
		b := make([]byte, 8<<10)
		start := time.Now()
		for range 200 {
			if all.Write(Stdout, b); all.Len() == 0 {
				cut <- time.Since(start)
				return Reply{}
			}
		}
		all.End(0)
		return Reply{}
	}, func(s *Server) { s.patience = 500 * time.Millisecond })
	read, write := io.Pipe()
	go func() { _, _, _ = Attach(bounded(t), path, Request{}, nil, write, io.Discard) }()
	select {
	case d := <-cut:
		if d < 400*time.Millisecond || d > 3*time.Second {
			t.Error(d)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("not cut off")
	}
	read.Close()

	slow := writer(func(p []byte) (int, error) { time.Sleep(20 * time.Millisecond); return len(p), nil })
	if _, ended, err := Attach(bounded(t), path, Request{}, nil, slow, io.Discard); !ended || err != nil {
		t.Fatal("a slow client was cut off: ", err)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// TestManySessions: what many sessions leave behind, also those whose input
// the container never takes.
func TestManySessions(t *testing.T) {
	_, full, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = full.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	_, _ = full.Write(make([]byte, 1<<20))
	_ = full.SetWriteDeadline(time.Time{})
	defer full.Close()
	stdin := NewInput(full)
	var all Clients
	path := serve(t, func(ctx context.Context, _ Request, c *Conn) Reply {
		k := c.Attached(stdin, nil)
		all.Add(k)
		defer all.Remove(k)
		<-ctx.Done()
		return Reply{}
	})
	pumping := make(chan struct{})
	defer close(pumping)
	go func() {
		for {
			select {
			case <-pumping:
				return
			default:
				all.Write(Stdout, []byte("tick\n"))
				time.Sleep(time.Millisecond)
			}
		}
	}()
	once := func(n int) {
		for i := range n {
			ctx, cancel := context.WithCancel(bounded(t))
			first := writer(func(p []byte) (int, error) { cancel(); return len(p), nil })
			var in io.Reader
			if i%2 == 0 {
				in = strings.NewReader("typed ahead")
			}
			if _, ended, err := Attach(ctx, path, Request{}, in, first, io.Discard); ended || err != nil {
				t.Fatal(ended, err)
			}
		}
		for range 200 { // the handlers follow
			if all.Len() == 0 {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(20 * time.Millisecond)
	}
	once(10)
	before, files := runtime.NumGoroutine(), descriptors(t)
	once(500)
	if n := runtime.NumGoroutine(); n > before+2 {
		t.Errorf("%d goroutines, %d before:\n%s", n, before, stacks())
	}
	if n := descriptors(t); n > files+2 {
		t.Errorf("%d descriptors, %d before", n, files)
	}
}

func descriptors(t *testing.T) int {
	l, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(l)
}

func TestClientsEnd(t *testing.T) {
	var all Clients
	path := serve(t, func(ctx context.Context, _ Request, c *Conn) Reply {
		all.Add(c.Attached(nil, nil))
		<-ctx.Done()
		return Reply{}
	})
	codes := make(chan int, 5)
	for range 5 {
		go func() {
			code, _, _ := Attach(bounded(t), path, Request{}, nil, io.Discard, io.Discard)
			codes <- code
		}()
	}
	for all.Len() < 5 {
		time.Sleep(time.Millisecond)
	}
	nobody := []byte("x")
	all.End(9)
	for range 5 {
		if c := <-codes; c != 9 {
			t.Error(c)
		}
	}
	if n := testing.AllocsPerRun(100, func() { all.Write(Stdout, nobody) }); n != 0 || all.Len() != 0 {
		t.Error(n, all.Len())
	}
}

// BenchmarkWrite is what an attached client costs the output pump.
func BenchmarkWrite(b *testing.B) {
	done := make(chan struct{})
	path := serve(b, func(_ context.Context, _ Request, c *Conn) Reply {
		defer close(done)
		k := c.Attached(nil, nil)
		p := make([]byte, 32<<10)
		b.SetBytes(int64(len(p)))
		b.ReportAllocs()
		for b.Loop() {
			if err := k.Write(Stdout, p); err != nil {
				b.Error(err)
				break
			}
		}
		k.End(0)
		return Reply{}
	})
	_, _, _ = Attach(context.Background(), path, Request{}, nil, io.Discard, io.Discard)
	<-done
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x0d{\"op\":\"stop\"}"))
	f.Add([]byte("\x02\x00\x00\x00\x02{}\x04\x00\x00\x00\x01x\x06\x00\x00\x00\x04\x00\x00\x00\x01"))
	f.Add([]byte("\x07\x00\x00\x7f\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var rq Request
		if readJSON(bytes.NewReader(b), frameRequest, &rq) == nil {
			var again bytes.Buffer
			if err := writeJSON(&again, frameRequest, rq); err != nil && len(b) < requestMax/8 {
				t.Fatal(err)
			}
		}
		taken := make(chan bool, 1)
		var out bytes.Buffer
		_, _, _ = receive(bufio.NewReader(bytes.NewReader(b)), &out, &out, taken)
		if out.Len() > len(b) {
			t.Fatal("more came out than went in")
		}
	})
}
