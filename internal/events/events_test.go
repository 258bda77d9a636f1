package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func journal(t testing.TB) Journal { return Journal{Dir: filepath.Join(t.TempDir(), "run", "events")} }

func all(t testing.TB, j Journal, q Query) (got []Event) {
	t.Helper()
	if err := j.Read(context.Background(), q, func(e Event) error { got = append(got, e); return nil }); err != nil {
		t.Fatal(err)
	}
	return got
}

func ids(l []Event) (ids []string) {
	for _, e := range l {
		ids = append(ids, e.ID)
	}
	return ids
}

func TestRead(t *testing.T) {
	j := journal(t)
	if got := all(t, j, Query{}); got != nil {
		t.Fatal(got)
	}
	start := time.Now().Add(-time.Hour)
	for i, a := range []string{"create", "start", "die", "destroy"} {
		e := Event{Time: start.Add(time.Duration(i) * time.Minute), Type: "container", Action: a, ID: fmt.Sprint(i), Attributes: map[string]string{"name": "a\n\x1b[31m\xff"}}
		if err := j.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		q    Query
		want string
	}{
		"all":    {Query{}, "0 1 2 3"},
		"since":  {Query{Since: start.Add(time.Minute)}, "1 2 3"},
		"until":  {Query{Until: start.Add(time.Minute)}, "0 1"},
		"both":   {Query{Since: start.Add(time.Second), Until: start.Add(2 * time.Minute)}, "1 2"},
		"match":  {Query{Match: func(e Event) bool { return e.Action == "die" }}, "2"},
		"future": {Query{Since: time.Now().Add(time.Hour)}, ""},
		"ended":  {Query{Follow: true, Until: start.Add(time.Minute)}, "0 1"},
	} {
		if got := strings.Join(ids(all(t, j, c.q)), " "); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
	e := all(t, j, Query{})[0]
	if !e.Time.Equal(start) || e.Attributes["name"] != "a\n\x1b[31m\ufffd" {
		t.Error(e)
	}
	stop := errors.New("enough")
	if err := j.Read(context.Background(), Query{Follow: true}, func(Event) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	if st, err := os.Stat(j.Dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Error(st.Mode(), err)
	}
}

func TestLinesThatAreNotEvents(t *testing.T) {
	j := journal(t)
	_ = j.Add(Event{Type: "image", Action: "pull", ID: "1"})
	f, err := os.OpenFile(j.current(), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(f, "\n{}\nnull\n[1]\n{\"time\":3}\n\x00\x01\n%s\n{\"torn", strings.Repeat("x", 1<<20))
	fmt.Fprint(f, "\n")
	f.Close()
	_ = j.Add(Event{Type: "image", Action: "tag", ID: "2"})
	if got := ids(all(t, j, Query{})); !slices.Equal(got, []string{"1", "2"}) {
		t.Fatal(got)
	}
}

func TestLineFits(t *testing.T) {
	long := strings.Repeat("\x01é", 50_000)
	hostile := Event{Type: long, Action: long, ID: long, Attributes: map[string]string{"name": long, "image": long, "exitCode": "137", long: long}}
	for i := range 5000 {
		hostile.Attributes[fmt.Sprint("label", i)] = long
	}
	id := strings.Repeat("f", 64)
	command := Event{Type: "container", Action: "exec_create: " + strings.Repeat("y", 900), ID: id, Attributes: map[string]string{"image": strings.Repeat("r", 200)}}
	labels := Event{Type: "container", Action: "start", ID: id, Attributes: map[string]string{"name": "web", "label": strings.Repeat("v", 3000)}}
	for name, e := range map[string]Event{"hostile": hostile, "command": command, "labels": labels} {
		l, err := line(e)
		if err != nil || len(l) > lineMax || bytes.IndexByte(l, '\n') != len(l)-1 {
			t.Fatal(name, len(l), err)
		}
		var got Event
		if err := json.Unmarshal(l, &got); err != nil {
			t.Fatal(err)
		}
		switch name {
		case "hostile":
			if got.Attributes["exitCode"] != "137" || got.Attributes["name"] == "" {
				t.Error(got)
			}
		case "command":
			if got.Action != e.Action || got.Attributes["image"] != e.Attributes["image"] {
				t.Error(got)
			}
		case "labels":
			if got.Attributes["name"] != "web" || got.ID != id {
				t.Error(got)
			}
		}
	}
}

// TestWriters: processes that write at once, over several changes of files,
// with a reader that follows: no event is lost, doubled, or mixed with another.
func TestWriters(t *testing.T) {
	const writers, each = 4, 5000
	if dir := os.Getenv("EVENTS_DIR"); dir != "" {
		for i := range each {
			e := Event{Type: "container", Action: "start", ID: fmt.Sprintf("%s-%d", os.Getenv("EVENTS_WRITER"), i), Attributes: map[string]string{"pad": strings.Repeat("p", 1000)}}
			if err := (Journal{dir}).Add(e); err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Microsecond) // a reader follows within two files, 8 MiB
		}
		return
	}
	j := journal(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	next := map[string]int{}
	read := make(chan error, 1)
	go func() {
		n := 0
		read <- j.Read(ctx, Query{Follow: true}, func(e Event) error {
			w, i, _ := strings.Cut(e.ID, "-")
			if i != fmt.Sprint(next[w]) {
				return fmt.Errorf("%s after %d", e.ID, next[w])
			}
			next[w]++
			if n++; n == writers*each {
				cancel()
			}
			return nil
		})
	}()
	var wg sync.WaitGroup
	for w := range writers {
		c := exec.Command("/proc/self/exe", "-test.run=^TestWriters$")
		c.Env = append(os.Environ(), "EVENTS_DIR="+j.Dir, fmt.Sprint("EVENTS_WRITER=", w))
		wg.Go(func() {
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
	if err := <-read; err != nil || len(next) != writers {
		t.Error(err, next)
	}
	for w, n := range next {
		if n != each {
			t.Errorf("writer %s: %d events", w, n)
		}
	}
	for _, f := range []string{j.current(), j.previous()} {
		if st, err := os.Stat(f); err != nil || st.Size() > fileMax {
			t.Error(f, err)
		}
	}
	if l, _ := os.ReadDir(j.Dir); len(l) != 2 {
		t.Error(l)
	}
}

func TestStoppedHolder(t *testing.T) {
	j := journal(t)
	_ = j.Add(Event{Type: "image", Action: "pull"})
	f, err := os.Open(j.current())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := j.Add(Event{Type: "image", Action: "tag"}); err == nil {
		t.Error("added under the lock of another")
	}
	if d := time.Since(start); d < lockWait || d > 5*lockWait {
		t.Error(d)
	}
}

// TestFollow: what is added later is seen soon, also if there was no journal
// when the reader began; and nothing is left of a reader.
func TestFollow(t *testing.T) {
	j := journal(t)
	ctx, cancel := context.WithCancel(context.Background())
	got, done := make(chan string), make(chan error)
	go func() {
		done <- j.Read(ctx, Query{Since: time.Now().Add(-time.Second), Follow: true}, func(e Event) error { got <- e.ID; return nil })
	}()
	time.Sleep(2 * poll)
	for i := range 5 {
		if i == 3 { // as between the change of files and the next event
			if err := os.Rename(j.current(), j.previous()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * poll)
		}
		_ = j.Add(Event{Type: "network", Action: "create", ID: fmt.Sprint(i)})
		select {
		case id := <-got:
			if id != fmt.Sprint(i) {
				t.Fatal(id)
			}
		case <-time.After(2 * time.Second):
			t.Fatal("not seen: ", i)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	// A limit in the future is waited for.
	start := time.Now()
	if err := j.Read(context.Background(), Query{Follow: true, Until: start.Add(200 * time.Millisecond)}, func(Event) error { return nil }); err != nil || time.Since(start) < 200*time.Millisecond {
		t.Error(err, time.Since(start))
	}
}

func BenchmarkAdd(b *testing.B) {
	j := journal(b)
	e := Event{Type: "container", Action: "start", ID: strings.Repeat("a", 64), Attributes: map[string]string{"name": "web", "image": "docker.io/library/busybox:latest"}}
	for b.Loop() {
		if err := j.Add(e); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("{\"time\":\"2026-01-02T03:04:05Z\",\"type\":\"image\",\"action\":\"pull\"}\n{}\n"), uint16(3))
	f.Fuzz(func(t *testing.T, b []byte, n uint16) {
		count := func(parts ...[]byte) (c int) {
			r := reader{emit: func(Event) error { c++; return nil }}
			for _, p := range parts {
				if err := r.lines(p); err != nil {
					t.Fatal(err)
				}
			}
			return c
		}
		at := min(int(n), len(b))
		if whole, split := count(b), count(b[:at], b[at:]); whole != split {
			t.Fatal(whole, split)
		}
	})
}
