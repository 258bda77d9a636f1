package logs

import (
	"strings"
	"testing"
	"time"
)

func unprintable(err error) bool {
	return strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 }) || len(err.Error()) > 3*optionSize
}

// FuzzTime: a time is an error that can be printed, or the same time by its
// full name.
func FuzzTime(f *testing.F) {
	for _, s := range []string{"", "0", "10m", "-1h", "2026-01-02", "2026-01-02T03", "2026-01-02T03:04Z", "2026-01-02T03:04:05.678+01:00", "1.5", "1136073600.000000001", "9223372036854775807", "T", "--- ", "1e9"} {
		f.Add(s)
	}
	now := time.Date(2026, 7, 1, 12, 0, 0, 5, time.FixedZone("", 3600))
	f.Fuzz(func(t *testing.T, s string) {
		at, err := ParseTime(s, now)
		if err != nil {
			if unprintable(err) {
				t.Fatalf("%q", err)
			}
			return
		}
		if at.IsZero() || at.Year() < 1 || at.Year() > 9999 || at.Year() == 0 {
			return
		}
		full := at.UTC().Format(time.RFC3339Nano)
		if again, err := ParseTime(full, now); err != nil || !again.Equal(at) {
			t.Fatalf("%q is %s, which is %s, %v", s, full, again, err)
		}
	})
}

// FuzzOptions: a log has a bound whatever its options are.
func FuzzOptions(f *testing.F) {
	for _, o := range [][2]string{
		{"max-size", "10m"},
		{"max-size", "1e300"},
		{"max-size", "-1"},
		{"max-size", "0.4"},
		{"max-file", "3"},
		{"tag", "{{.ID}}/{{.Name}}"},
		{"tag", "{{template \"x\"}}"},
		{"labels-regex", "^(a|b)"},
		{"env-regex", "[\x1b"},
		{"mode", "blocking"},
		{"cache-max-size", "1"},
		{"compress", "false"},
	} {
		f.Add(JSONFile, o[0], o[1], "max-file", "2")
		f.Add(Journald, o[0], o[1], "", "")
	}
	f.Fuzz(func(t *testing.T, driver, key, value, key2, value2 string) {
		opts := map[string]string{}
		for _, o := range [][2]string{{key, value}, {key2, value2}} {
			if o[0] != "" {
				opts[o[0]] = o[1]
			}
		}
		c, err := Parse(driver, opts)
		if err != nil {
			if unprintable(err) {
				t.Fatalf("%q", err)
			}
			return
		}
		if c.Driver == JSONFile && (c.MaxSize <= 0 || c.MaxFile < 1 || c.MaxFile > mostFiles || c.MaxSize > 1<<62/mostFiles) {
			t.Fatalf("%q: %+v", opts, c)
		}
	})
}
