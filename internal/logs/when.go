package logs

import (
	"strconv"
	"strings"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
)

// ParseTime reads the time of --since and --until as docker does (moby,
// api/types/time): a Go duration back from now, RFC 3339 with parts left out,
// in now's zone if it names none, or seconds since 1970 with a fraction. ""
// and "0" are the zero time. Errors are fail.NoStatus.
func ParseTime(value string, now time.Time) (time.Time, error) {
	if value == "" || value == "0" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(value); err == nil {
		return now.Add(-d).Truncate(time.Second), nil
	}
	zoned := strings.ContainsAny(value, "zZ+") || strings.Count(value, "-") == 3
	layout := "2006-01-02"
	if date, clock, has := strings.Cut(value, "T"); has && date != "" {
		if zoned {
			clock, _, _ = strings.Cut(strings.NewReplacer("Z", "+", "z", "+", "-", "+").Replace(clock), "+")
		}
		layout += [...]string{"T15", "T15:04", "T15:04:05"}[min(2, strings.Count(clock, ":"))]
	}
	var t time.Time
	var err error
	if zoned {
		t, err = time.Parse(layout+"Z07:00", value)
	} else {
		t, err = time.ParseInLocation(layout, value, now.Location())
	}
	if err == nil {
		return t, nil
	}
	if t, ok := unixTime(value); ok {
		return t, nil
	}
	return time.Time{}, fail.New(fail.NoStatus, "failed to parse value as time or duration: %.80q", value)
}

// unixTime reads seconds since 1970, with up to nine digits of a fraction that count.
func unixTime(value string) (time.Time, bool) {
	s, frac, _ := strings.Cut(value, ".")
	sec, err := strconv.ParseInt(s, 10, 64)
	if err != nil || strings.Trim(frac, "0123456789") != "" {
		return time.Time{}, false
	}
	nano, err := strconv.Atoi((frac + "000000000")[:9])
	return time.Unix(sec, int64(nano)), err == nil
}
