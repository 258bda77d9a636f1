package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// config is a json-file log in a directory of its own.
func config(t testing.TB, opts map[string]string) Config {
	t.Helper()
	c, err := Parse("", opts)
	if err != nil {
		t.Fatal(err)
	}
	c.Dir = filepath.Join(t.TempDir(), "log")
	return c
}

func open(t testing.TB, c Config, m Meta) *Log {
	t.Helper()
	l, err := Open(c, m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// written is a closed log with this output.
func written(t testing.TB, c Config, m Meta, stdout ...string) {
	t.Helper()
	l := open(t, c, m)
	for _, s := range stdout {
		if err := l.Write(Stdout, []byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
}

func everything() Query { return Query{Tail: -1, Stdout: true, Stderr: true} }

func read(t testing.TB, c Config, q Query) (stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	if err := Read(t.Context(), c, q, nil, &out, &err); err != nil {
		t.Fatal(err)
	}
	return out.String(), err.String()
}

func TestRoundTrip(t *testing.T) {
	long := strings.Repeat("é", 30<<10)
	for name, chunks := range map[string][]string{
		"lines":     {"one\ntwo\n", "three\n"},
		"parts":     {"on", "e\ntw", "o", "\n"},
		"no end":    {"one\nprompt> "},
		"empty":     {"\n\n", "\n"},
		"special":   {"\x1b[1m\t\"\\<&>\u2028\x7f\b\f\r\x00\x1f é日😀\n"},
		"long":      {long + "\n", "x", long[:200], long, long, "\nend\n"},
		"exact":     {strings.Repeat("a", maxLine) + "\n" + strings.Repeat("b", maxLine), "\n"},
		"one byte":  strings.Split(long[:4000]+"\n", ""),
		"odd chunk": {"x" + long[:maxLine], long[maxLine : 3*maxLine], "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			c := config(t, nil)
			written(t, c, Meta{}, chunks...)
			got, _ := read(t, c, everything())
			if want := strings.Join(chunks, ""); got != want {
				t.Errorf("read %d bytes %.100q, want %d %.100q", len(got), got, len(want), want)
			}
		})
	}
}

func TestFormat(t *testing.T) {
	c := config(t, map[string]string{"tag": "{{.Name}}/{{ .ID }}", "labels": "a,none", "env-regex": "^V"})
	m := Meta{ID: strings.Repeat("0123456789abcdef", 4), Name: "web", Labels: map[string]string{"a": "1 2", "b": "3"}, Env: []string{"V=x=y", "W=z"}}
	l := open(t, c, m)
	if _, err := os.Stat(c.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("something was made before the first output")
	}
	before := time.Now()
	_ = l.Write(Stdout, []byte("out\n"))
	_ = l.Write(Stderr, []byte("err"))
	l.Close()
	if err := l.Write(Stdout, []byte("x")); !errors.Is(err, fs.ErrClosed) {
		t.Error("written after Close:", err)
	}
	b, err := os.ReadFile(c.File())
	if err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(string(b), "\n")
	for i, want := range []string{
		`{"log":"out\n","stream":"stdout","attrs":{"V":"x=y","a":"1 2","tag":"web/0123456789ab"},"time":"`,
		`{"log":"err","stream":"stderr","attrs":{"V":"x=y","a":"1 2","tag":"web/0123456789ab"},"time":"`,
	} {
		var e struct{ Time time.Time }
		if err := json.Unmarshal([]byte(rows[i]), &e); err != nil || !strings.HasPrefix(rows[i], want) {
			t.Errorf("%s: %v", rows[i], err)
		}
		if e.Time.Before(before) || time.Since(e.Time) > time.Minute || !strings.HasSuffix(rows[i], `Z"}`) {
			t.Error("time", e.Time)
		}
	}
	for name, mode := range map[string]fs.FileMode{c.File(): 0o600, c.Dir: 0o700 | fs.ModeDir} {
		if st, err := os.Lstat(name); err != nil || st.Mode() != mode {
			t.Error(name, st.Mode(), err)
		}
	}
	q := everything()
	q.Details = true
	if out, stderr := read(t, c, q); out != "V=x%3Dy,a=1+2,tag=web%2F0123456789ab out\n" || stderr != "V=x%3Dy,a=1+2,tag=web%2F0123456789ab err" {
		t.Errorf("%q %q", out, stderr)
	}
}

// putAt writes entries at given seconds, into files of two entries each.
func putAt(t *testing.T, c Config, n int) {
	t.Helper()
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		f, err := os.OpenFile(c.file((n-1-i)/2), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(f, `{"log":"%d\n","stream":"%s","time":"%s"}`+"\n", i, []string{"stdout", "stderr"}[i%2], time.Unix(int64(i), 5).UTC().Format(time.RFC3339Nano))
		f.Close()
	}
}

func TestQueries(t *testing.T) {
	c := config(t, nil)
	putAt(t, c, 6)
	for name, row := range map[string]struct {
		change      func(q *Query)
		out, stderr string
	}{
		"all":        {func(*Query) {}, "0 2 4 ", "1 3 5 "},
		"stdout":     {func(q *Query) { q.Stderr = false }, "0 2 4 ", ""},
		"tail 0":     {func(q *Query) { q.Tail = 0 }, "", ""},
		"tail 1":     {func(q *Query) { q.Tail = 1 }, "", "5 "},
		"tail 2":     {func(q *Query) { q.Tail = 2 }, "4 ", "5 "},
		"tail 3":     {func(q *Query) { q.Tail = 3 }, "4 ", "3 5 "},
		"tail 6":     {func(q *Query) { q.Tail = 6 }, "0 2 4 ", "1 3 5 "},
		"tail 99":    {func(q *Query) { q.Tail = 99 }, "0 2 4 ", "1 3 5 "},
		"since":      {func(q *Query) { q.Since = time.Unix(3, 5) }, "4 ", "3 5 "},
		"until":      {func(q *Query) { q.Until = time.Unix(3, 5) }, "0 2 ", "1 3 "},
		"span":       {func(q *Query) { q.Since, q.Until = time.Unix(1, 6), time.Unix(4, 0) }, "2 ", "3 "},
		"tail since": {func(q *Query) { q.Tail, q.Since = 3, time.Unix(4, 0) }, "4 ", "5 "},
		"times":      {func(q *Query) { q.Tail, q.Timestamps = 1, true }, "", "1970-01-01T00:00:05.000000005Z 5 "},
	} {
		t.Run(name, func(t *testing.T) {
			q := everything()
			row.change(&q)
			out, stderr := read(t, c, q)
			if strings.ReplaceAll(out, "\n", " ") != row.out || strings.ReplaceAll(stderr, "\n", " ") != row.stderr {
				t.Errorf("%q %q", out, stderr)
			}
		})
	}
}

func TestTimestampsOncePerLine(t *testing.T) {
	c := config(t, nil)
	written(t, c, Meta{}, strings.Repeat("x", 40<<10)+"\nshort\n")
	q := everything()
	q.Timestamps = true
	out, _ := read(t, c, q)
	for i, line := range strings.SplitAfter(strings.TrimSuffix(out, "\n"), "\n") {
		stamp, text, _ := strings.Cut(line, " ")
		if _, err := time.Parse(fixedNano, stamp); err != nil || len(stamp) != 30 || strings.Trim(text, "x\n") != []string{"", "short"}[i] {
			t.Errorf("%.60q", line)
		}
	}
}

// After a crash in the middle of an entry that entry is lost, and no other.
func TestTorn(t *testing.T) {
	c := config(t, nil)
	written(t, c, Meta{}, "one\ntwo\n")
	b, _ := os.ReadFile(c.File())
	for n := len(b) - 1; n > len(b)/2; n-- {
		if err := os.WriteFile(c.File(), b[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if out, _ := read(t, c, everything()); out != "one\n" {
			t.Fatalf("cut at %d, before: %q", n, out)
		}
		written(t, c, Meta{}, "three\n")
		out, _ := read(t, c, everything())
		if want := "one\nthree\n"; out != want && (n < len(b)-1 || out != "one\ntwo\nthree\n") {
			t.Fatalf("cut at %d: %q", n, out)
		}
		q := everything()
		q.Tail = 1
		if out, _ := read(t, c, q); out != "three\n" {
			t.Fatalf("cut at %d, tail: %q", n, out)
		}
	}
}

func onDisk(c Config) (sum int64) {
	all, _ := os.ReadDir(c.Dir)
	for _, e := range all {
		if st, err := e.Info(); err == nil {
			sum += st.Size()
		}
	}
	return sum
}

func TestBoundOnDisk(t *testing.T) {
	for name, chunk := range map[string][]byte{
		"short":  bytes.Repeat([]byte("y\n"), 32<<10),
		"long":   bytes.Repeat(append(bytes.Repeat([]byte("long "), 5000), '\n'), 3),
		"binary": bytes.Repeat([]byte{0}, 64<<10),
	} {
		for _, files := range []string{"1", "3"} {
			t.Run(name+files, func(t *testing.T) {
				c := config(t, map[string]string{"max-size": "300k", "max-file": files})
				l := open(t, c, Meta{})
				var wg sync.WaitGroup
				for _, stream := range []byte{Stdout, Stderr} {
					wg.Go(func() {
						for range 80 {
							_ = l.Write(stream, chunk)
							if n := onDisk(c); n > c.MaxSize*int64(c.MaxFile) {
								t.Errorf("%d bytes on disk", n)
							}
						}
					})
				}
				wg.Wait()
				if n := onDisk(c); n < (c.MaxSize-entrySize)*int64(c.MaxFile-1) {
					t.Errorf("only %d bytes are kept", n)
				}
				if all, _ := os.ReadDir(c.Dir); len(all) != c.MaxFile || l.Dropped() != 0 {
					t.Error(all, l.Dropped())
				}
			})
		}
	}
}

// The default bound holds for 200 MiB of output in lines of 41 bytes, and what
// is kept is the end of it without a gap.
func TestFlood(t *testing.T) {
	c := config(t, nil)
	l := open(t, c, Meta{})
	var b []byte
	n := 0
	for total := 0; total < 200<<20; total += len(b) {
		for b = b[:0]; len(b) < 60<<10; n++ {
			b = fmt.Appendf(b, "%040d\n", n)
		}
		_ = l.Write(Stdout, b)
	}
	l.Close()
	if sum := onDisk(c); sum > DefaultMaxFile*DefaultMaxSize || sum < (DefaultMaxFile-1)*DefaultMaxSize {
		t.Error(sum, "bytes on disk")
	}
	out, _ := read(t, c, everything())
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	for i, line := range lines {
		if want := fmt.Sprintf("%040d", n-len(lines)+i); line != want {
			t.Fatalf("line %d of %d is %q, want %q", i, len(lines), line, want)
		}
	}
}

func TestWriteAllocatesNothing(t *testing.T) {
	l := open(t, config(t, nil), Meta{})
	chunk := []byte(strings.Repeat("one \"line\"\nand\n", 500) + "rest")
	_ = l.Write(Stdout, chunk)
	if n := testing.AllocsPerRun(100, func() { _ = l.Write(Stdout, chunk) }); n > 0 {
		t.Errorf("%v allocations for a chunk", n)
	}
}

// What does not fit on a full disk is dropped and told once; afterwards the
// log goes on.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	c := config(t, nil)
	c.Dir = filepath.Join(dir, "log")
	var told []error
	l := open(t, c, Meta{Notice: func(err error) { told = append(told, err) }})
	line := strings.Repeat("x", 99) + "\n"
	for range 100 {
		if err := l.Write(Stdout, []byte(strings.Repeat(line, 50))); err != nil {
			t.Fatal(err)
		}
	}
	if len(told) != 1 || !errors.Is(told[0], unix.ENOSPC) || l.Dropped() == 0 {
		t.Fatal(told, l.Dropped())
	}
	out, _ := read(t, c, everything())
	if got := strings.Count(out, line); uint64(got)+l.Dropped() != 5000 || got == 0 {
		t.Errorf("%d lines kept, %d dropped", got, l.Dropped())
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=1m"); err != nil {
		t.Fatal(err)
	}
	_ = l.Write(Stdout, []byte("again\n"))
	if after, _ := read(t, c, everything()); after != out+"again\n" {
		t.Errorf("%.200q", strings.TrimPrefix(after, out))
	}
}

// Someone put something else in the file's place.
func TestNoRegularFile(t *testing.T) {
	victim := filepath.Join(t.TempDir(), "victim")
	for name, put := range map[string]func(string) error{
		"link": func(p string) error { return os.Symlink(victim, p) },
		"fifo": func(p string) error { return unix.Mkfifo(p, 0o600) },
		"dir":  func(p string) error { return os.Mkdir(p, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			c := config(t, nil)
			_ = os.Mkdir(c.Dir, 0o700)
			if err := put(c.File()); err != nil {
				t.Fatal(err)
			}
			told := 0
			l := open(t, c, Meta{Notice: func(error) { told++ }})
			_ = l.Write(Stdout, []byte("x\ny\n"))
			if told != 1 || l.Dropped() != 2 {
				t.Error(told, l.Dropped())
			}
			if err := Read(t.Context(), c, everything(), nil, io.Discard, io.Discard); err == nil {
				t.Error("it was read")
			}
		})
	}
	if _, err := os.Lstat(victim); err == nil {
		t.Error("written through the link")
	}
}

func TestNoReading(t *testing.T) {
	for _, driver := range []string{None, Passthrough} {
		c, err := Parse(driver, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.Unit = "web.service"
		l := open(t, c, Meta{})
		_ = l.Write(Stdout, []byte("x\n"))
		err = Read(context.Background(), c, everything(), nil, io.Discard, io.Discard)
		var e *fail.Error
		if !errors.As(err, &e) || e.Msg != "configured logging driver does not support reading" || strings.Contains(e.Next, "journalctl -u web.service") != (driver == Passthrough) {
			t.Errorf("%s: %v", driver, err)
		}
	}
}
