package logs

import (
	"strings"
	"testing"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
)

func TestParse(t *testing.T) {
	for _, row := range []struct {
		driver, opts string // opts: k=v;k=v
		wrong        string // part of the error
	}{
		{"", "", ""},
		{"json-file", "max-size=10m;max-file=5;compress=false;mode=blocking;tag={{.Name}}", ""},
		{"json-file", "labels=a,b;env=C;labels-regex=^x;env-regex=y$", ""},
		{"journald", "tag={{.ImageName}}/{{.Name}};labels=a", ""},
		{"none", "", ""},
		{"passthrough", "", ""},
		{"none", "tag=x", "invalid logging opts for driver none"},
		{"passthrough", "max-size=1m", "invalid logging opts"},
		{"journald", "max-size=1m", `unknown log opt "max-size" for journald log driver`},
		{"json-file", "max-sise=1m", `unknown log opt "max-sise" for json-file log driver`},
		{"json-file", "max-size=-1", "fills the host's disk"},
		{"json-file", "max-size=0", "positive"},
		{"json-file", "max-size=lots", "invalid size"},
		{"json-file", "max-file=0", "less than 1"},
		{"json-file", "max-file=100000", "more than 200"},
		{"json-file", "max-file=x", "not a number"},
		{"json-file", "compress=true", "not compressed"},
		{"json-file", "mode=non-blocking", "blocking"},
		{"json-file", "max-buffer-size=4m", "non-blocking"},
		{"json-file", "tag={{.Secret}}", "a tag takes"},
		{"json-file", "tag={{.ID", "a tag takes"},
		{"json-file", "env-regex=(", "missing closing"},
		{"json-file", "tag=" + strings.Repeat("x", optionSize+1), "longer than"},
		{"local", "", "not supported"},
		{"syslog", "", "not supported"},
	} {
		opts := map[string]string{}
		for _, kv := range strings.Split(row.opts, ";") {
			if k, v, ok := strings.Cut(kv, "="); ok {
				opts[k] = v
			}
		}
		c, err := Parse(row.driver, opts)
		switch {
		case row.wrong == "" && err != nil:
			t.Errorf("%s %s: %v", row.driver, row.opts, err)
		case row.wrong != "" && (err == nil || !strings.Contains(err.Error(), row.wrong) || fail.KindOf(err) != fail.Usage):
			t.Errorf("%s %.50s: %v, want %s", row.driver, row.opts, err, row.wrong)
		case row.wrong == "" && c.Driver == JSONFile && (c.MaxSize < 10_000_000 || c.MaxFile < 3):
			t.Error(c)
		}
	}
}

func TestAttributesAreBounded(t *testing.T) {
	c := config(t, map[string]string{"labels-regex": "."})
	_, err := Open(c, Meta{Labels: map[string]string{"a": strings.Repeat("\x01", 4000)}})
	if fail.KindOf(err) != fail.Usage {
		t.Error(err)
	}
}

func TestParseTime(t *testing.T) {
	zone := time.FixedZone("", 2*3600)
	now := time.Date(2026, 3, 4, 5, 6, 7, 8, zone)
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for in, want := range map[string]time.Time{
		"": {}, "0": {},
		"10m":                            at("2026-03-04T04:56:07+02:00"),
		"1h30m":                          at("2026-03-04T03:36:07+02:00"),
		"-1h":                            at("2026-03-04T06:06:07+02:00"),
		"2013-01-02":                     at("2013-01-02T00:00:00+02:00"),
		"2013-01-02Z":                    at("2013-01-02T00:00:00Z"),
		"2013-01-02T13":                  at("2013-01-02T13:00:00+02:00"),
		"2013-01-02T13:23":               at("2013-01-02T13:23:00+02:00"),
		"2013-01-02T13:23:37":            at("2013-01-02T13:23:37+02:00"),
		"2013-01-02T13:23:37.5":          at("2013-01-02T13:23:37.5+02:00"),
		"2013-01-02T13Z":                 at("2013-01-02T13:00:00Z"),
		"2013-01-02T13:23+01:00":         at("2013-01-02T13:23:00+01:00"),
		"2013-01-02T13:23:37-01:00":      at("2013-01-02T13:23:37-01:00"),
		"2013-01-02T13:23:37.000000001Z": at("2013-01-02T13:23:37.000000001Z"),
		"1136073600":                     time.Unix(1136073600, 0),
		"1136073600.000000001":           time.Unix(1136073600, 1),
		"1136073600.5":                   time.Unix(1136073600, 500000000),
		"1136073600.0000000019":          time.Unix(1136073600, 1),
	} {
		got, err := ParseTime(in, now)
		if err != nil || !got.Equal(want) {
			t.Errorf("%q: %v %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"foo", "2013-13-02", "T", "2013-01-02T", "1.x", "1.-5", "2013-01-02T13:23:37Zjunk"} {
		if got, err := ParseTime(in, now); fail.KindOf(err) != fail.NoStatus {
			t.Errorf("%q: %v %v", in, got, err)
		}
	}
}
