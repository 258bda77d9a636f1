package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/spec"
)

const second = time.Second

// trace runs a monitor on a clock of its own. probe gets the time since the
// start; each call of Changed is a word "TIME STATUS/STREAK", with ! if the
// status turned.
func trace(t *testing.T, c spec.Healthcheck, length time.Duration, probe func(ctx context.Context, at time.Duration) (int, error), paused func(at time.Duration) bool) (got []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), length)
		defer cancel()
		m := Monitor{
			Check: c,
			Probe: func(ctx context.Context) (int, []byte, error) {
				code, err := probe(ctx, time.Since(started))
				return code, nil, err
			},
			Changed: func(h store.Health, turned bool) {
				word := fmt.Sprintf("%v %s/%d", time.Since(started), h.Status, h.FailingStreak)
				if turned {
					word += "!"
				}
				got = append(got, word)
			},
		}
		if paused != nil {
			m.Paused = func() bool { return paused(time.Since(started)) }
		}
		m.Run(ctx, started)
	})
	return got
}

func TestRun(t *testing.T) {
	codes := func(codes ...int) func(context.Context, time.Duration) (int, error) {
		return func(context.Context, time.Duration) (int, error) {
			code := codes[0]
			if len(codes) > 1 {
				codes = codes[1:]
			}
			return code, nil
		}
	}
	never := func(ctx context.Context, _ time.Duration) (int, error) {
		<-ctx.Done()
		return 137, ctx.Err()
	}
	for _, tc := range []struct {
		name   string
		check  spec.Healthcheck
		length time.Duration
		probe  func(context.Context, time.Duration) (int, error)
		paused func(time.Duration) bool
		want   []string
	}{
		{
			"defaults",
			spec.Healthcheck{},
			95 * second, codes(0), nil,
			[]string{"0s starting/0", "30s healthy/0!", "1m0s healthy/0", "1m30s healthy/0"},
		},
		{
			"three failures",
			spec.Healthcheck{Interval: second},
			5*second + 1, codes(1, 1, 2, 1, 0), nil,
			[]string{"0s starting/0", "1s starting/1", "2s starting/2", "3s unhealthy/3!", "4s unhealthy/4", "5s healthy/0!"},
		},
		{
			"streaks are of failures in a row",
			spec.Healthcheck{Interval: second, Retries: 2},
			5*second + 1, codes(0, 1, 0, 1, 1), nil,
			[]string{"0s starting/0", "1s healthy/0!", "2s healthy/1", "3s healthy/0", "4s healthy/1", "5s unhealthy/2!"},
		},
		{
			"start period forgives",
			spec.Healthcheck{Interval: 10 * second, StartPeriod: 5 * second, StartInterval: 2 * second, Retries: 1},
			17 * second, codes(1), nil,
			[]string{"0s starting/0", "2s starting/0", "4s starting/0", "6s unhealthy/1!", "16s unhealthy/2"},
		},
		{
			"a success ends the start period",
			spec.Healthcheck{Interval: 10 * second, StartPeriod: time.Minute, StartInterval: second, Retries: 1},
			13 * second, codes(1, 0, 1), nil,
			[]string{"0s starting/0", "1s starting/0", "2s healthy/0!", "12s unhealthy/1!"},
		},
		{
			"the interval counts from the end",
			spec.Healthcheck{Interval: 2 * second, Timeout: second},
			7 * second, never, nil,
			[]string{"0s starting/0", "3s starting/1", "6s starting/2"},
		},
		{
			"not while paused",
			spec.Healthcheck{Interval: second},
			5500 * time.Millisecond, codes(1, 0), func(at time.Duration) bool { return at > 1500*time.Millisecond && at < 4500*time.Millisecond },
			[]string{"0s starting/0", "1s starting/1", "5s healthy/0!"},
		},
		{
			"paused in between",
			spec.Healthcheck{Interval: second, Timeout: second},
			5 * second, never, func(at time.Duration) bool { return at == 2*second },
			[]string{"0s starting/0", "4s starting/1"},
		},
		{
			"cannot be run",
			spec.Healthcheck{Interval: second, Retries: 1},
			1500 * time.Millisecond, func(context.Context, time.Duration) (int, error) { return 0, errors.New("no exec") }, nil,
			[]string{"0s starting/0", "1s unhealthy/1!"},
		},
		{
			"ended while checking",
			spec.Healthcheck{Interval: second, Timeout: 9 * second},
			2 * second, never, nil,
			[]string{"0s starting/0"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := trace(t, tc.check, tc.length, tc.probe, tc.paused); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("%q\nwant\n%q", got, tc.want)
			}
		})
	}
}

// TestClock: a start in the future, as a clock that was set back leaves it, does
// not make the start period longer; one long ago ends it.
func TestClock(t *testing.T) {
	for _, tc := range []struct {
		off  time.Duration
		want string
	}{
		{10 * 365 * 24 * time.Hour, "unhealthy"},
		{-10 * 365 * 24 * time.Hour, "unhealthy"},
		{0, "unhealthy"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var last store.Health
			m := Monitor{
				Check:   spec.Healthcheck{Test: []string{"CMD", "false"}, Interval: second, Timeout: second, StartPeriod: 5 * second, Retries: 2},
				Probe:   func(context.Context) (int, []byte, error) { return 1, nil, nil },
				Changed: func(h store.Health, _ bool) { last = h },
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*second)
			defer cancel()
			m.Run(ctx, time.Now().Add(tc.off).Round(0))
			if last.Status != tc.want {
				t.Errorf("started %v from now: %s", tc.off, last.Status)
			}
		})
	}
}

func TestResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		n := 0
		var all []store.Health
		m := Monitor{
			Check: spec.Healthcheck{Interval: 10 * second, Timeout: 3 * second},
			Probe: func(ctx context.Context) (int, []byte, error) {
				n++
				switch n {
				case 1:
					<-ctx.Done()
					return 0, nil, ctx.Err()
				case 2:
					<-ctx.Done()
					return 137, []byte("half \xff done"), ctx.Err()
				case 3:
					return 3, nil, errors.New("engine:\x80 " + strings.Repeat("x", MaxOutput))
				case 4:
					return 1, []byte("bad"), nil
				}
				time.Sleep(second)
				return 0, []byte{byte('0' + n%10)}, nil
			},
			Changed: func(h store.Health, _ bool) { all = append(all, h) },
		}
		m.Run(ctx, time.Now())
		five := all[5].Log
		for i, want := range []struct {
			code   int
			output string
			took   time.Duration
		}{
			{-1, "Health check exceeded timeout (3s)", 3 * second},
			{-1, "Health check exceeded timeout (3s): half \ufffd done", 3 * second},
			{-1, "engine:\ufffd " + strings.Repeat("x", MaxOutput-11) + "...", 0},
			{1, "bad", 0},
			{0, "5", second},
		} {
			r := five[i]
			if want.code != r.ExitCode || want.took != r.End.Sub(r.Start) || (i != 2 && want.output != r.Output) {
				t.Errorf("%d: %+v", i, r)
			}
			if i == 2 && (!strings.HasPrefix(r.Output, "engine:\ufffd xxx") || !strings.HasSuffix(r.Output, "x...") || len(r.Output) != MaxOutput+3) {
				t.Errorf("%d bytes: %.20q", len(r.Output), r.Output)
			}
		}
		for _, h := range all {
			if len(h.Log) > maxResults || cap(h.Log) > maxResults+1 {
				t.Fatalf("%d results kept in %d", len(h.Log), cap(h.Log))
			}
		}
		if h := all[len(all)-1]; len(h.Log) != maxResults || h.Status != store.HealthHealthy || len(all) < 300 {
			t.Errorf("%d: %+v", len(all), h)
		}
		if all[5].Log[0].Output != "Health check exceeded timeout (3s)" {
			t.Error("an older value was changed")
		}
	})
}

// A supervisor that takes over goes on where the last one was.
func TestBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 31*second)
		defer cancel()
		var last store.Health
		m := Monitor{
			Probe:   func(context.Context) (int, []byte, error) { return 1, nil, nil },
			Changed: func(h store.Health, _ bool) { last = h },
			Before:  store.Health{Status: store.HealthHealthy, FailingStreak: 2, Log: make([]store.HealthResult, 1000)},
		}
		m.Run(ctx, time.Now().Add(-time.Hour))
		if last.Status != store.HealthUnhealthy || last.FailingStreak != 3 || len(last.Log) != maxResults {
			t.Errorf("%s %d %d", last.Status, last.FailingStreak, len(last.Log))
		}
	})
}

func TestText(t *testing.T) {
	for _, b := range [][]byte{
		nil, []byte("ok\n"),
		bytes.Repeat([]byte{0xff}, 1<<16),
		bytes.Repeat([]byte("a\xff"), 1<<16),
		bytes.Repeat([]byte("a\xff"), MaxOutput/2),
		bytes.Repeat([]byte("\u20ac"), MaxOutput),
		bytes.Repeat([]byte("x"), MaxOutput),
		bytes.Repeat([]byte("x"), MaxOutput+1),
	} {
		got := text(b)
		if !utf8.ValidString(got) || len(got) > MaxOutput+3 {
			t.Errorf("%d bytes of %.10q: %d bytes", len(b), b, len(got))
		}
		if want := len(b) > MaxOutput; want && !strings.HasSuffix(got, "...") {
			t.Errorf("%d bytes of %.10q are not marked as cut", len(b), b)
		}
		if len(b) <= MaxOutput && utf8.Valid(b) && got != string(b) {
			t.Errorf("%.20q", got)
		}
	}
}

func TestComplete(t *testing.T) {
	given := spec.Healthcheck{Test: []string{"CMD", "x"}, Interval: 1, Timeout: 2, StartPeriod: 3, StartInterval: 4, Retries: 5}
	if got := Complete(given); !reflect.DeepEqual(got, given) {
		t.Errorf("%+v", got)
	}
	if got := Complete(spec.Healthcheck{}); got.Interval != 30*second || got.Timeout != 30*second || got.StartPeriod != 0 || got.StartInterval != 5*second || got.Retries != 3 {
		t.Errorf("%+v", got)
	}
	for _, tc := range []struct {
		test []string
		want bool
	}{{nil, false}, {[]string{"NONE"}, false}, {[]string{"CMD"}, false}, {[]string{"CMD", "x"}, true}, {[]string{"CMD-SHELL", "x"}, true}, {[]string{"x", "y"}, false}} {
		if got := Enabled(spec.Healthcheck{Test: tc.test}); got != tc.want {
			t.Errorf("%q: %v", tc.test, got)
		}
	}
}
