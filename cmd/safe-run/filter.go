package main

import (
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
)

// filters are the values of --filter by their key. Of one key any value
// suffices, of several keys each must fit.
type filters map[string][]string

// filtersOf reads KEY=VALUE words, and "label!=..." under the key "label!".
func filtersOf(words []string, known ...string) (filters, error) {
	by := filters{}
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		if key = strings.ToLower(strings.TrimSpace(key)); !ok || !slices.Contains(known, key) {
			return nil, fail.New(fail.Usage, "invalid filter %.80q", w).Hint("the filters are: %s", strings.Join(known, ", "))
		}
		by[key] = append(by[key], strings.TrimSpace(value))
	}
	return by, nil
}

// is says whether a yes or no question, as dangling, fits the answer yes.
func (f filters) is(key string, yes bool) (bool, error) {
	for _, v := range f[key] {
		want, err := strconv.ParseBool(v)
		if err != nil {
			return false, fail.New(fail.Usage, "invalid filter %.80q", key+"="+v).Hint("it takes true or false")
		}
		if want != yes {
			return false, nil
		}
	}
	return true, nil
}

// has says whether any value of a key fits.
func (f filters) has(key string, fits func(value string) bool) bool {
	return len(f[key]) == 0 || slices.ContainsFunc(f[key], fits)
}

// labelled says whether labels fit label= and label!=. Of these all must.
func (f filters) labelled(labels map[string]string) bool {
	carries := func(v string) bool {
		key, want, valued := strings.Cut(v, "=")
		got, ok := labels[key]
		return ok && (!valued || got == want)
	}
	for _, v := range f["label"] {
		if !carries(v) {
			return false
		}
	}
	return !slices.ContainsFunc(f["label!"], carries)
}

// until gives the time of until=: nothing younger is meant. It is a moment, or
// a time before now; the zero time is no limit.
func (f filters) until(now time.Time) (time.Time, error) {
	var limit time.Time
	for _, v := range f["until"] {
		t, err := moment(v, now)
		if err != nil {
			return limit, err
		}
		if limit.IsZero() || t.Before(limit) {
			limit = t
		}
	}
	return limit, nil
}

func moment(v string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(v); err == nil {
		return now.Add(-d), nil
	}
	if s, err := strconv.ParseFloat(v, 64); err == nil && s >= 0 && s < 1<<40 {
		return time.UnixMicro(int64(s * 1e6)), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", time.DateOnly, "2006-01-02Z07:00"} {
		if t, err := time.ParseInLocation(layout, v, time.Local); err == nil {
			return t, nil
		}
	}
	return now, fail.New(fail.Usage, "invalid time %.40q", v).Hint("it takes a duration such as 24h, or a time such as 2006-01-02T15:04:05")
}

// like says whether any of some names fits a pattern as of a shell.
func like(pattern string, names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		ok, _ := path.Match(pattern, n)
		return ok
	})
}
