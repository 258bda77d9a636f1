package logs

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

// What is written between head and tail is what encoding/json writes.
func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "plain text of some length", "\"\\<>&", "\x00\x1f\x7f\x80\xff", "é日😀\u2028", "12345678\n", "\xe6\x97"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		want, err := json.Marshal(string(p))
		if err != nil {
			t.Fatal(err)
		}
		got := appendEscaped([]byte{'"'}, p)
		if got = append(got, '"'); !bytes.Equal(got, want) {
			t.Fatalf("%q: %s, want %s", p, got, want)
		}
		text, rest, ok := appendUnescaped(nil, append(got[1:], "rest"...))
		if !ok || string(rest) != "rest" || string(text) != strings.ToValidUTF8(string(p), "\uFFFD") && utf8.Valid(p) {
			t.Fatalf("%q: %q %q %v", p, text, rest, ok)
		}
	})
}

// However output is cut into chunks, its lines are entries: as written down
// here with encoding/json.
func FuzzSplit(f *testing.F) {
	f.Add([]byte("one\ntwo\nrest"), uint16(1), uint16(3))
	f.Add([]byte("\n\nééé\xff\n"), uint16(2), uint16(700))
	f.Fuzz(func(t *testing.T, p []byte, size, times uint16) {
		p = bytes.Repeat(p, 1+int(times)%1000)
		if p = p[:min(len(p), 100<<10)]; len(p) == 0 {
			return
		}
		c := Config{Driver: JSONFile, MaxSize: 1 << 30, MaxFile: 1, Dir: t.TempDir()}
		l, err := Open(c, Meta{})
		if err != nil {
			t.Fatal(err)
		}
		for rest := p; len(rest) > 0; {
			n := min(len(rest), 1+int(size))
			_ = l.Write(Stdout, rest[:n])
			rest = rest[n:]
		}
		l.Close()
		file, err := os.Open(c.File())
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		d := json.NewDecoder(file)
		for want := p; len(want) > 0; {
			var e struct{ Log, Stream, Time string }
			if err := d.Decode(&e); err != nil {
				t.Fatal(err)
			}
			line, _, _ := bytes.Cut(want, []byte{'\n'})
			n := len(line) + 1
			if len(line) > maxLine {
				n = cut(line[:maxLine])
			}
			n = min(n, len(want))
			if b, _ := json.Marshal(string(want[:n])); string(b) != marshal(e.Log) {
				t.Fatalf("entry %.80q, want %.80q", e.Log, want[:n])
			}
			want = want[n:]
		}
		if d.More() {
			t.Fatal("more entries than lines")
		}
	})
}

func marshal(s string) string {
	b, _ := json.Marshal(s)
	return strings.ReplaceAll(string(b), "\uFFFD", `\ufffd`)
}

// Whatever is in the files, it is read in bounded memory, and what decodes is
// what encoding/json makes of it.
func FuzzRead(f *testing.F) {
	good := `{"log":"a\n","stream":"stdout","time":"2026-01-02T03:04:05.6Z"}` + "\n"
	for _, s := range []string{good, good[:30] + "\n" + good, `{"log":"\ud83d\ude00\ud800","stream":"stderr","attrs":{"a":"b"},"time":"2026-01-02T03:04:05Z"}`, "\n\n{}", strings.Repeat("x", 300<<10) + "\n" + good} {
		f.Add([]byte(s), []byte(good), 3)
	}
	f.Fuzz(func(t *testing.T, older, newest []byte, tail int) {
		c := Config{Driver: JSONFile, MaxSize: 1 << 20, MaxFile: 2, Dir: t.TempDir()}
		for i, b := range [][]byte{newest, older} {
			if err := os.WriteFile(c.file(i), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		q := everything()
		q.Timestamps, q.Details = true, true
		var all, last bytes.Buffer
		if err := Read(t.Context(), c, q, nil, &all, io.Discard); err != nil {
			t.Fatal(err)
		}
		if q.Tail = tail; tail >= 0 {
			if err := Read(t.Context(), c, q, nil, &last, io.Discard); err != nil {
				t.Fatal(err)
			}
		}
		for line := range bytes.Lines(older) {
			var e entry
			if line = bytes.TrimSuffix(line, []byte{'\n'}); !e.decode(line) {
				continue
			}
			var want struct{ Log, Stream string }
			if len(e.attrs) == 0 && utf8.Valid(line) && json.Unmarshal(line, &want) == nil && (want.Log != string(e.text) || (want.Stream == "stderr") != (e.stream == Stderr)) {
				t.Fatalf("%q: %q %d", line, e.text, e.stream)
			}
		}
	})
}
