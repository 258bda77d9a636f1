package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
)

func TestFilters(t *testing.T) {
	labels := map[string]string{"a": "1", "b": ""}
	for _, c := range []struct {
		words []string
		fits  bool
	}{
		{nil, true},
		{[]string{"label=a"}, true},
		{[]string{"label=a=1", "label=b"}, true},
		{[]string{"label=a=2"}, false},
		{[]string{"label=a", "label=c"}, false},
		{[]string{"label!=c"}, true},
		{[]string{"label!=a"}, false},
		{[]string{"label!=a=2"}, true},
	} {
		by, err := filtersOf(c.words, "label", "label!")
		if err != nil || by.labelled(labels) != c.fits {
			t.Errorf("%q: %v, %v", c.words, by, err)
		}
	}
	for _, bad := range []string{"label", "bogus=1", "", "=", "=x"} {
		if _, err := filtersOf([]string{bad}, "label"); err == nil || fail.KindOf(err) != fail.Usage {
			t.Errorf("%q: %v", bad, err)
		}
	}
	by := filters{"name": {"x", "y"}, "dangling": {"false"}}
	if !by.has("name", func(v string) bool { return v == "y" }) || by.has("name", func(string) bool { return false }) || !by.has("id", nil) {
		t.Error("of one key any value suffices")
	}
	if ok, err := by.is("dangling", true); ok || err != nil {
		t.Error(ok, err)
	}
	if _, err := (filters{"dangling": {"maybe"}}).is("dangling", true); err == nil {
		t.Error("maybe is an answer")
	}
}

func TestUntil(t *testing.T) {
	now := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	for v, want := range map[string]time.Time{
		"24h": now.Add(-24 * time.Hour), "2024-01-02": time.Date(2024, 1, 2, 0, 0, 0, 0, time.Local),
		"2024-01-02T03:04:05Z": time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC), "1700000000": time.Unix(1700000000, 0),
	} {
		got, err := filters{"until": {v}}.until(now)
		if err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", v, got, err)
		}
	}
	if _, err := (filters{"until": {"soon"}}).until(now); err == nil {
		t.Error("soon is a time")
	}
}

func TestListing(t *testing.T) {
	rows := []struct{ Name, Size string }{{"a", "1B"}, {"b\x1b[2J", "2B"}}
	heads := headings{"Name": "NAME", "Size": "SIZE"}
	for format, want := range map[string]string{
		"":                           "NAME          SIZE\na             1B\nb\ufffd[2J        2B\n",
		"{{.Name}}":                  "a\nb\ufffd[2J\n",
		`table {{.Size}}\t{{.Name}}`: "SIZE      NAME\n1B        a\n2B        b\ufffd[2J\n",
		"json":                       "{\"Name\":\"a\",\"Size\":\"1B\"}\n{\"Name\":\"b\\u001b[2J\",\"Size\":\"2B\"}\n",
		`{{.Name}}\t{{.Size}}`:       "a\t1B\nb\ufffd[2J\t2B\n",
	} {
		var b bytes.Buffer
		if err := renderTable(&b, listing(format, `{{.Name}}\t{{.Size}}`), heads, rows); err != nil {
			t.Errorf("%s: %v", format, err)
		}
		if format == "" {
			if !bytes.HasPrefix(b.Bytes(), []byte("NAME")) || bytes.ContainsRune(b.Bytes(), 0x1b) {
				t.Errorf("%q", b.String())
			}
			continue
		}
		if b.String() != want {
			t.Errorf("%s: %q", format, b.String())
		}
	}
	if err := renderTable(&bytes.Buffer{}, "{{.Nope}}", heads, rows); err == nil {
		t.Error("a field that is none is printed")
	}
}
