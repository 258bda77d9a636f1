package spec

import (
	"encoding/json"
	"fmt"
	"path"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestImageFromConfig(t *testing.T) {
	const config = `{
		"created": "2024-05-01T12:00:00Z", "architecture": "amd64", "os": "linux",
		"config": {
			"User": "app:wheel", "Env": ["PATH=/bin", "A="], "Entrypoint": ["/e"], "Cmd": ["c"],
			"WorkingDir": "/w/", "Volumes": {"/data/": {}, "rel": {}, "/data": {}}, "StopSignal": "SIGINT",
			"ExposedPorts": {"80/tcp": {}, "90-99/UDP": {}}, "Labels": {"a": "b"},
			"Healthcheck": {"Test": ["CMD", "x"], "Interval": 1000000000, "StartInterval": 2000000, "Retries": 4},
			"Shell": ["/bin/ash", "-c"], "ArgsEscaped": true
		},
		"rootfs": {"type": "layers", "diff_ids": []}, "history": [{}]
	}`
	img, err := ImageFromConfig([]byte(config))
	must(t, err)
	if img.Created.Year() != 2024 {
		t.Error(img.Created)
	}
	img.Created = Image{}.Created
	want := Image{
		OS: "linux", Arch: "amd64", User: "app:wheel", Env: []string{"PATH=/bin", "A="},
		Entrypoint: []string{"/e"}, Cmd: []string{"c"}, Workdir: "/w/", Volumes: []string{"/data", "/rel"},
		StopSignal: "SIGINT", Exposed: []PortRange{{80, 80, TCP}, {90, 99, UDP}}, Labels: map[string]string{"a": "b"},
		Health: Healthcheck{Test: []string{"CMD", "x"}, Interval: time.Second, StartInterval: 2 * time.Millisecond, Retries: 4},
		Shell:  []string{"/bin/ash", "-c"},
	}
	if !reflect.DeepEqual(img, want) {
		t.Errorf("%+v", img)
	}
}

func TestImageFromConfigHostile(t *testing.T) {
	config := func(field string, value any) string {
		data, err := json.Marshal(map[string]any{"os": "linux", "architecture": "amd64", "config": map[string]any{field: value}})
		must(t, err)
		return string(data)
	}
	set := func(keys ...string) map[string]any {
		m := map[string]any{}
		for _, k := range keys {
			m[k] = map[string]any{}
		}
		return m
	}
	many := func(n int) []string {
		words := make([]string, n)
		for i := range words {
			words[i] = fmt.Sprintf("A%d=", i)
		}
		return words
	}
	for name, data := range map[string]string{
		"empty":               "",
		"health form":         config("Healthcheck", map[string]any{"Test": []string{"HTTP", "x"}}),
		"health NUL":          config("Healthcheck", map[string]any{"Test": []string{"CMD", "a\x00"}}),
		"health no command":   config("Healthcheck", map[string]any{"Test": []string{"CMD"}}),
		"health empty":        config("Healthcheck", map[string]any{"Test": []string{"CMD-SHELL", ""}}),
		"health words":        config("Healthcheck", map[string]any{"Test": append([]string{"CMD"}, many(5000)...)}),
		"health long word":    config("Healthcheck", map[string]any{"Test": []string{"CMD-SHELL", strings.Repeat("a", 1<<18)}}),
		"health negative":     config("Healthcheck", map[string]any{"Interval": -1}),
		"health too short":    config("Healthcheck", map[string]any{"Timeout": 1000}),
		"health too long":     config("Healthcheck", map[string]any{"StartPeriod": int64(1) << 62}),
		"health overflow":     config("Healthcheck", map[string]any{"StartInterval": 1e30}),
		"health retries":      config("Healthcheck", map[string]any{"Retries": -1}),
		"health many retries": config("Healthcheck", map[string]any{"Retries": 1 << 40}),
		"health type":         config("Healthcheck", "x"),
		"shell NUL":           config("Shell", []string{"a\x00"}),
		"not JSON":            "{\x1b",
		"a list":              "[]",
		"too large":           strings.Repeat(" ", maxConfigBytes+1),
		"NUL in entrypoint":   config("Entrypoint", []string{"/bin/sh\x00x"}),
		"NUL in cmd":          config("Cmd", []string{"a\x00"}),
		"NUL in env":          config("Env", []string{"A=\x00"}),
		"env without =":       config("Env", []string{"AWS_SECRET_ACCESS_KEY"}),
		"env wildcard":        config("Env", []string{"*"}),
		"env without name":    config("Env", []string{"=x"}),
		"empty env":           config("Env", []string{""}),
		"many env":            config("Env", many(maxWords+1)),
		"long word":           config("Cmd", []string{strings.Repeat("a", maxWordBytes+1)}),
		"much":                config("Cmd", []string{strings.Repeat("a", maxWordBytes-1), strings.Repeat("a", maxWordBytes-1), strings.Repeat("a", maxWordBytes-1), strings.Repeat("a", maxWordBytes-1), strings.Repeat("a", maxWordBytes-1), strings.Repeat("a", maxWordBytes-1), strings.Repeat("a", maxWordBytes-1), strings.Repeat("a", maxWordBytes-1), strings.Repeat("a", maxWordBytes-1)}),
		"relative workdir":    config("WorkingDir", "a"),
		"control in workdir":  config("WorkingDir", "/a\x1b[2J"),
		"control in user":     config("User", "a\nb"),
		"signal 999":          config("StopSignal", "999"),
		"signal 0":            config("StopSignal", "0"),
		"signal of nobody":    config("StopSignal", "SIGFOO"),
		"signal with command": config("StopSignal", "9; rm"),
		"volume proc":         config("Volumes", set("/proc")),
		"volume proc self":    config("Volumes", set("/proc/self")),
		"volume sys":          config("Volumes", set("/sys")),
		"volume dev":          config("Volumes", set("/dev")),
		"volume root":         config("Volumes", set("/")),
		"volume dot":          config("Volumes", set(".")),
		"volume dots":         config("Volumes", set("..")),
		"volume //proc":       config("Volumes", set("//proc")),
		"volume x/../proc":    config("Volumes", set("/x/../proc")),
		"volume newline":      config("Volumes", set("/a\nb")),
		"port 0":              config("ExposedPorts", set("0/tcp")),
		"port 65536":          config("ExposedPorts", set("65536")),
		"port backwards":      config("ExposedPorts", set("9-8/tcp")),
		"port of icmp":        config("ExposedPorts", set("1/icmp")),
		"many labels": config("Labels", func() map[string]string {
			m := map[string]string{}
			for i := range maxWords + 1 {
				m[fmt.Sprint(i)] = ""
			}
			return m
		}()),
		"wrong type": config("Env", "A=B"),
	} {
		if img, err := ImageFromConfig([]byte(data)); err == nil {
			t.Errorf("%s: accepted: %+v", name, img)
		} else if strings.ContainsAny(err.Error(), "\x00\x1b\n") || len(err.Error()) > 1000 {
			t.Errorf("%s: raw or long message %q", name, err)
		}
	}
}

func FuzzImageConfig(f *testing.F) {
	f.Add([]byte(`{"config":{"Volumes":{"/a":{}},"Env":["A=b"],"StopSignal":"9","ExposedPorts":{"80":{}}}}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"config":{"Volumes":{"//proc/../proc":{}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		img, err := ImageFromConfig(data)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\x00\x1b\n\r") {
				t.Errorf("raw control character in %q", err)
			}
			return
		}
		for _, v := range img.Volumes {
			if path.Clean(v) != v || !path.IsAbs(v) || v == "/" || kernelPath(v) || hasControl(v) {
				t.Errorf("volume %q", v)
			}
		}
		for _, e := range img.Env {
			if strings.Index(e, "=") < 1 || strings.ContainsRune(e, 0) {
				t.Errorf("env %q", e)
			}
		}
		// What was read can be built, or is an error; never a panic.
		in := testInput()
		in.Image = img
		if s, err := Build(in); err == nil {
			if err := Verify(s, VerifyFor(in)); err != nil {
				t.Errorf("%s: %v", data, err)
			}
		}
	})
}
