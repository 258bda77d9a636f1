package logs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// shared is a buffer for a reader that is watched.
type shared struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *shared) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func within(t *testing.T, d time.Duration, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", d, what)
		}
	}
}

// following reads in the background until alive is false.
func following(t *testing.T, c Config, q Query, to io.Writer) (alive *atomic.Bool, done chan error) {
	alive, done = new(atomic.Bool), make(chan error, 1)
	alive.Store(true)
	q.Follow = true
	go func() { done <- Read(t.Context(), c, q, alive.Load, to, io.Discard) }()
	t.Cleanup(func() { alive.Store(false) })
	return alive, done
}

func ends(t *testing.T, done chan error) {
	t.Helper()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(3 * time.Second): // 200 ms on a machine that is not busy
		t.Fatal("the reader does not end")
	}
}

func TestFollow(t *testing.T) {
	c := config(t, nil)
	var out shared
	alive, done := following(t, c, everything(), &out)
	time.Sleep(20 * time.Millisecond) // the directory is not there yet
	l := open(t, c, Meta{})
	want := ""
	for i := range 5 {
		line := fmt.Sprintf("%d\n", i)
		want += line
		_ = l.Write(Stdout, []byte(line))
		within(t, 2*time.Second, line, func() bool { return out.String() == want })
	}
	_ = l.Write(Stdout, []byte("last"))
	l.Close()
	alive.Store(false)
	ends(t, done)
	if out.String() != want+"last" {
		t.Errorf("%q", out.String())
	}
}

func TestFollowTail(t *testing.T) {
	c := config(t, nil)
	written(t, c, Meta{}, "1\n2\n3\n")
	q := everything()
	q.Tail = 1
	var out shared
	alive, done := following(t, c, q, &out)
	within(t, 2*time.Second, "tail", func() bool { return out.String() == "3\n" })
	written(t, c, Meta{}, "4\n")
	within(t, 2*time.Second, "more", func() bool { return out.String() == "3\n4\n" })
	alive.Store(false)
	ends(t, done)
}

// A reader that keeps up loses nothing and repeats nothing over many rotations.
func TestFollowAcrossRotation(t *testing.T) {
	for _, files := range []string{"1", "3"} {
		t.Run(files, func(t *testing.T) {
			c := config(t, map[string]string{"max-size": "20k", "max-file": files})
			var out shared
			alive, done := following(t, c, everything(), &out)
			l := open(t, c, Meta{})
			var want strings.Builder
			for i := range 3000 {
				line := fmt.Sprintf("line %d\n", i)
				want.WriteString(line)
				_ = l.Write(Stdout, []byte(line))
				if i%50 == 0 {
					within(t, 3*time.Second, line, func() bool { return strings.HasSuffix(out.String(), line) })
				}
			}
			l.Close()
			alive.Store(false)
			ends(t, done)
			if out.String() != want.String() {
				t.Errorf("%d bytes of %d", len(out.String()), want.Len())
			}
		})
	}
}

// A reader slower than the writer skips, and never goes back.
func TestFollowFlood(t *testing.T) {
	c := config(t, map[string]string{"max-size": "200k", "max-file": "2"})
	var out shared
	alive, done := following(t, c, everything(), &out)
	l := open(t, c, Meta{})
	var b []byte
	n := 0
	for range 200 {
		for b = b[:0]; len(b) < 30<<10; n++ {
			b = fmt.Appendf(b, "%010d\n", n)
		}
		_ = l.Write(Stdout, b)
	}
	l.Close()
	alive.Store(false)
	ends(t, done)
	last := ""
	for line := range strings.Lines(out.String()) {
		if len(line) != 11 || line <= last {
			t.Fatalf("%q after %q", line, last)
		}
		last = line
	}
	if last != fmt.Sprintf("%010d\n", n-1) {
		t.Errorf("the last line is %q", last)
	}
}

// Without following, a container that prints without end does not hold logs.
func TestReadUnderFlood(t *testing.T) {
	c := config(t, map[string]string{"max-size": "1m", "max-file": "2"})
	l := open(t, c, Meta{})
	chunk := bytes.Repeat([]byte("flood\n"), 10000)
	_ = l.Write(Stdout, chunk)
	stop, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = l.Write(Stdout, chunk)
			}
		}
	}()
	for range 5 {
		if out, _ := read(t, c, everything()); !strings.HasPrefix(out, "flood\n") || len(out) > 4<<20 {
			t.Errorf("%d bytes", len(out))
		}
	}
	close(stop)
	<-stopped
}

// logs -f | head -1 ends when the pipe's reader is gone, although the
// container prints nothing more.
func TestHangUp(t *testing.T) {
	c := config(t, nil)
	written(t, c, Meta{}, "one\n")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_, done := following(t, c, everything(), w)
	var b [4]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		t.Fatal(err)
	}
	r.Close()
	ends(t, done)
	w.Close()
}

func TestFollowEnds(t *testing.T) {
	c := config(t, nil)
	written(t, c, Meta{}, "one\n")
	q := everything()
	q.Until = time.Now().Add(200 * time.Millisecond)
	_, done := following(t, c, q, io.Discard)
	ends(t, done)

	ctx, cancel := context.WithCancel(t.Context())
	finished := make(chan error, 1)
	q = everything()
	q.Follow = true
	go func() { finished <- Read(ctx, c, q, func() bool { return true }, io.Discard, io.Discard) }()
	time.Sleep(10 * time.Millisecond)
	cancel()
	ends(t, finished)
}

// Someone empties the file under the reader.
func TestEmptied(t *testing.T) {
	c := config(t, nil)
	l := open(t, c, Meta{})
	_ = l.Write(Stdout, []byte("first of all\n"))
	var out shared
	alive, done := following(t, c, everything(), &out)
	within(t, 2*time.Second, "first", func() bool { return out.String() != "" })
	if err := os.Truncate(c.File(), 0); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * poll)
	_ = l.Write(Stdout, []byte("2\n"))
	within(t, 2*time.Second, "second", func() bool { return strings.HasSuffix(out.String(), "\n2\n") })
	alive.Store(false)
	ends(t, done)
}
