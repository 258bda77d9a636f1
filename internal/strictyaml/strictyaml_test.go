package strictyaml

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

type entry struct {
	Name string  `yaml:"name,short"`
	Size *uint32 `yaml:"size,omitempty"`
	Sub  *nested `yaml:"sub,omitempty"`
}

type nested struct {
	On    bool     `yaml:"on,omitempty"`
	Words []string `yaml:"words,omitempty"`
}

type file struct {
	Version int       `yaml:"version"`
	Text    string    `yaml:"text,omitempty"`
	Number  float64   `yaml:"number,omitempty"`
	List    []entry   `yaml:"list,omitempty"`
	Nested  nested    `yaml:"nested,omitempty"`
	When    time.Time `yaml:"when,omitempty"`
}

func read(text string) (f file, err error) {
	d, err := Parse([]byte(text), 1<<18)
	if err == nil {
		err = d.Decode(&f)
	}
	return f, err
}

func TestDecode(t *testing.T) {
	got, err := read("version: 1\ntext: 0755\nnumber: 1.0e1\nwhen: 2026-01-02\nlist: [a, {name: b, size: 7, sub: {on: true, words: [x, 1]}}]\nnested:\n  words: []\n")
	seven := uint32(7)
	want := file{
		Version: 1, Text: "0755", Number: 10, When: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC),
		List: []entry{{Name: "a"}, {"b", &seven, &nested{true, []string{"x", "1"}}}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v", got, err)
	}
}

func TestWrong(t *testing.T) {
	for _, c := range []struct {
		text, says string
		line       int
	}{
		{"", "empty", 0},
		{"version: 1\nhidden: x", "unknown field", 2},
		{"version: 1\nversion: 1", "", 2},
		{"version: 1.5", "whole number", 1},
		{"version: 0x1", "whole number", 1},
		{"version: 1_0", "whole number", 1},
		{"version: '1'", "whole number", 1},
		{"version: 99999999999999999999", "whole number", 1},
		{"version: 1\nlist:\n- name: a\n  size: 4294967296", "whole number from 0", 4},
		{"version: 1\nnumber: .inf", "a number", 2},
		{"version: 1\nnested: {on: 1}", "true or false", 2},
		{"version: 1\ntext:\n  - a", "single value", 3},
		{"version: 1\n? [a]\n: b", "invalid key", 3},
		{"version: 1\n" + strings.Repeat("#\n", maxLines), "lines", maxLines + 1},
		{"version: 1\nwhen: 2026-13-01", "a date", 2},
		{"version: 1\ntext: \"a\xc3\"", "UTF-8", 2},
		{"version: 1\nlist:\n" + strings.Repeat("- a\n", 513), "more than 512", 515},
	} {
		_, err := read(c.text)
		e := (*Error)(nil)
		if !errors.As(err, &e) || e.Line != c.line || !strings.Contains(e.Msg, c.says) {
			t.Errorf("%.40q: %d %v", c.text, e.Line, err)
		}
	}
}

func TestLine(t *testing.T) {
	d, err := Parse([]byte("# c\nversion: 1\nlist:\n  - a\n  - name: b\n    sub:\n      on: true\nnested: {words: [x,\n  y]}\n"), 1<<10)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want int
		path []any
	}{
		{2, nil},
		{2, []any{"version"}},
		{2, []any{"none"}},
		{3, []any{"list"}},
		{3, []any{"list", 9}},
		{4, []any{"list", 0}},
		{4, []any{"list", 0, "name"}},
		{5, []any{"list", 1}},
		{6, []any{"list", 1, "sub"}},
		{7, []any{"list", 1, "sub", "on"}},
		{9, []any{"nested", "words", 1}},
	} {
		if got := d.Line(c.path...); got != c.want {
			t.Errorf("%v: %d, want %d", c.path, got, c.want)
		}
	}
	for name, want := range map[string]string{"a.yaml": "a.yaml:3", "a b": `"a b":3`, "a\x1b": `"a\x1b":3`, "": `"":3`} {
		if got := At(name, 3); got != want {
			t.Errorf("%q: %s", name, got)
		}
	}
}

// What costs the parser much is bounded before, so that a file cannot hold up
// who reads it.
func TestHostileCost(t *testing.T) {
	const size = 1 << 18
	for name, unit := range map[string]string{
		"keys": "a: 1\n", "items": "- a\n", "comments": "#\n", "quotes": "\"\" ", "open quotes": "'", "lines": "\n", "colons": ":",
		"dashes": "-\n", "brackets": "[]", "long": "aaaaaaaaaaaaaa: b\n", "wide": "- aaaaaaaaaaaa\n", "CR": "-\r", "anchors": "&a ", "percent": "%\n", "documents": "---\n", "block": "a: |\n x\n", "tabs": "\t", "commas": ",",
		"braces": "{},", "flow": "[a]\n", "questions": "? a\n", "words": "a ",
	} {
		for _, n := range []int{maxLines, size / len(unit)} {
			start := time.Now()
			_, err := read(strings.Repeat(unit, min(n, size/len(unit))))
			if d := time.Since(start); err == nil || d > 10*time.Second {
				t.Errorf("%s: %v after %v", name, err, d)
			}
		}
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Add("a: b", "- x", "null", 1.5, uint32(3))
	f.Add("", "~", "0x10", 0.0, uint32(0))
	f.Add("1m", "a #b", "2001-01-01", 1e9, uint32(9))
	f.Add("=", "<<", "a, b", 1.0, uint32(9))
	f.Fuzz(func(t *testing.T, a, b, c string, n float64, u uint32) {
		for _, s := range []string{a, b, c} {
			for _, r := range s {
				if r < ' ' || r == 0x7f || r == 0xfffd || r == 0xfeff || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0x85 {
					return // not taken by those who use it
				}
			}
		}
		if n != n || n > 1e300 || n < -1e300 {
			return
		}
		in := file{1, a, n, []entry{{Name: a}, {b, &u, nil}, {c, nil, &nested{true, []string{a, b, c}}}}, nested{Words: []string{c}}, time.Time{}}
		text, err := Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		out, err := read(string(text))
		if depth := new(*Error); errors.As(err, depth) && strings.Contains((*depth).Msg, "deeply") {
			return // brackets in strings count as well
		}
		if err != nil || !reflect.DeepEqual(in, out) {
			t.Fatalf("%v\n%s\n%+v\n%+v", err, text, in, out)
		}
	})
}
