package main

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/safe-run/safe-run/internal/plain"
)

func TestPrefixed(t *testing.T) {
	for _, c := range []struct {
		writes []string
		clean  bool
		want   string
	}{
		{[]string{"a\nb\n"}, false, "w | a\nw | b\n"},
		{[]string{"a", "b\nc"}, false, "w | ab\nw | c\n"},
		{[]string{"\x1b[31mred\x1b[0m\r\n"}, false, "w | \x1b[31mred\x1b[0m\r\n"},
		{[]string{"\x1b[31mred\x1b[0m\r\n"}, true, "w | red\n"},
		{[]string{"over\rwritten \x1b[2K\x1b]0;t\x07\n"}, true, "w | over�written �[2K�]0;t�\n"},
		{[]string{"\n\n"}, true, "w | \nw | \n"},
		{[]string{"\xff\n"}, true, "w | �\n"},
	} {
		var b bytes.Buffer
		p := &prefixed{to: &b, mu: &sync.Mutex{}, prefix: "w | ", clean: c.clean}
		for _, w := range c.writes {
			if n, err := p.Write([]byte(w)); n != len(w) || err != nil {
				t.Error(n, err)
			}
		}
		p.close()
		if b.String() != c.want {
			t.Errorf("%q: %q, want %q", c.writes, b.String(), c.want)
		}
	}
}

// A line without an end is not kept for ever.
func TestPrefixedBounded(t *testing.T) {
	var b bytes.Buffer
	p := &prefixed{to: &b, mu: &sync.Mutex{}, prefix: "w | "}
	for range 100 {
		_, _ = p.Write(bytes.Repeat([]byte("x"), 10_000))
		if cap(p.rest) > 2*lineMax {
			t.Fatalf("%d bytes are kept", cap(p.rest))
		}
	}
	p.close()
	if n := strings.Count(b.String(), "x"); n != 1_000_000 {
		t.Errorf("%d bytes came out", n)
	}
}

func FuzzPrefixed(f *testing.F) {
	f.Add("a\nb", 1)
	f.Add("\x1b[31mx\x1b[0m\r\nü", 2)
	f.Fuzz(func(t *testing.T, text string, cut int) {
		var b bytes.Buffer
		p := &prefixed{to: &b, mu: &sync.Mutex{}, prefix: "> ", clean: true}
		cut = min(max(cut, 0), len(text))
		_, _ = p.Write([]byte(text[:cut]))
		_, _ = p.Write([]byte(text[cut:]))
		p.close()
		out := b.String()
		if !utf8.ValidString(out) {
			t.Errorf("%q", out)
		}
		for l := range strings.Lines(out) {
			rest, named := strings.CutPrefix(l, "> ")
			if !named || strings.ContainsFunc(strings.TrimSuffix(rest, "\n"), plain.Hidden) {
				t.Errorf("%q", l)
			}
		}
		if want := strings.Count(text, "\n"); len(text) < lineMax && strings.Count(out, "\n")-want > 1 {
			t.Errorf("%q became %q", text, out)
		}
	})
}
