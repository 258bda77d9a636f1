package spec

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

func TestHealthOf(t *testing.T) {
	defaults := func(test ...string) Healthcheck {
		return Healthcheck{Test: test, Interval: 30 * time.Second, Timeout: 30 * time.Second, StartInterval: 5 * time.Second, Retries: 3}
	}
	image := Healthcheck{Test: []string{"CMD", "a"}, Interval: time.Second, StartPeriod: time.Minute, Retries: 9}
	for _, tc := range []struct {
		name         string
		flags, image Healthcheck
		want         Healthcheck
		is           bool
	}{
		{"nothing", Healthcheck{}, Healthcheck{}, Healthcheck{}, false},
		{"times alone", Healthcheck{Interval: 1}, Healthcheck{Interval: 1}, Healthcheck{}, false},
		{"off", Healthcheck{Test: []string{"NONE"}}, image, Healthcheck{}, false},
		{"off in the image", Healthcheck{}, Healthcheck{Test: []string{"NONE"}}, Healthcheck{}, false},
		{"flag over none", Healthcheck{Test: []string{"CMD-SHELL", "x"}}, Healthcheck{Test: []string{"NONE"}}, defaults("CMD-SHELL", "x"), true},
		{"image", Healthcheck{}, image, Healthcheck{
			Test: []string{"CMD", "a"}, Interval: time.Second, Timeout: 30 * time.Second, StartPeriod: time.Minute, StartInterval: 5 * time.Second, Retries: 9,
		}, true},
		{"field by field", Healthcheck{Test: []string{"CMD-SHELL", "x"}, Timeout: 2 * time.Second, Retries: 1}, image, Healthcheck{
			Test: []string{"CMD-SHELL", "x"}, Interval: time.Second, Timeout: 2 * time.Second, StartPeriod: time.Minute, StartInterval: 5 * time.Second, Retries: 1,
		}, true},
		{"an image in a hurry", Healthcheck{}, Healthcheck{Test: []string{"CMD", "a"}, Interval: time.Millisecond, StartInterval: time.Millisecond}, Healthcheck{
			Test: []string{"CMD", "a"}, Interval: time.Second, Timeout: 30 * time.Second, StartInterval: time.Second, Retries: 3,
		}, true},
		{"a user in a hurry", Healthcheck{Test: []string{"CMD-SHELL", "x"}, Interval: time.Millisecond}, image, Healthcheck{
			Test: []string{"CMD-SHELL", "x"}, Interval: time.Millisecond, Timeout: 30 * time.Second, StartPeriod: time.Minute, StartInterval: 5 * time.Second, Retries: 9,
		}, true},
	} {
		got, is := HealthOf(Workload{Health: tc.flags}, Image{Health: tc.image})
		if is != tc.is || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %v %+v", tc.name, is, got)
		}
	}
}

func TestHealthArgs(t *testing.T) {
	for _, tc := range []struct {
		test, shell, want []string
	}{
		{[]string{"CMD", "a", "b c"}, nil, []string{"a", "b c"}},
		{[]string{"CMD-SHELL", "a | b"}, nil, []string{"/bin/sh", "-c", "a | b"}},
		{[]string{"CMD-SHELL", "a | b"}, []string{"/bin/bash", "-ec"}, []string{"/bin/bash", "-ec", "a | b"}},
		{[]string{"NONE"}, nil, nil},
		{nil, nil, nil},
		{[]string{"X", "a"}, nil, nil},
	} {
		if got := (Healthcheck{Test: tc.test}).Args(tc.shell); !slices.Equal(got, tc.want) {
			t.Errorf("%q: %q", tc.test, got)
		}
	}
}

func TestImageHealthForms(t *testing.T) {
	for data, want := range map[string][]string{
		`{}`:                                              nil,
		`{"Healthcheck": null}`:                           nil,
		`{"Healthcheck": {"Test": []}}`:                   nil,
		`{"Healthcheck": {"Test": [""]}}`:                 nil,
		`{"Healthcheck": {"Test": ["NONE"]}}`:             {"NONE"},
		`{"Healthcheck": {"Test": ["CMD-SHELL", "a b"]}}`: {"CMD-SHELL", "a b"},
		`{"Healthcheck": {"Test": ["CMD", "a", ""]}}`:     {"CMD", "a", ""},
	} {
		img, err := ImageFromConfig([]byte(`{"os": "linux", "architecture": "amd64", "config": ` + data + `}`))
		if err != nil || !slices.Equal(img.Health.Test, want) {
			t.Errorf("%s: %q %v", data, img.Health.Test, err)
		}
	}
}
