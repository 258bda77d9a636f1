package profiles

import (
	"reflect"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/fail"
)

func fileOf(t *testing.T, text string) Profile {
	t.Helper()
	p, err := Parse([]byte("version: 1\n"+text), "t.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestMerge(t *testing.T) {
	for _, c := range []struct{ name, a, b, want string }{
		{"nothing", "", "", ""},
		{"one side", "capabilities: [CHOWN]", "", "capabilities: [CHOWN]"},
		{
			"counts", "capabilities: [{name: CHOWN, why: a, evidence: {count: 2, process: x}}]", "capabilities: [KILL, {name: CHOWN, evidence: {count: 3, call: chown}}]",
			"capabilities: [{name: CHOWN, why: a, evidence: {count: 5, process: x, call: chown}}, KILL]",
		},
		{"filters", "seccomp: {allow: [write, read]}\negress: ['a:1']", "seccomp: {allow: [close, read]}\negress: [none]", "seccomp: {allow: [close, read, write]}\negress: ['a:1']"},
		{"no filter is wider", "seccomp: {allow: [read]}\napparmor: {name: x1}\negress: [none]", "", ""},
		{"apparmor", "apparmor: {files: [{path: /a, access: r}]}", "apparmor: {files: [{path: /a, access: wk}, {path: /b, access: ix}]}", "apparmor: {files: [{path: /a, access: rwk}, {path: /b, access: ix}]}"},
		{"tmpfs", "writable: [{path: /a, size: 1m}]", "writable: [/b, {path: /a, size: 1500k, exec: true}]", "writable: [{path: /a, size: 1500k, exec: true}, /b]"},
		{"binds", "binds: [{source: /s, target: /t}]", "binds: [{source: /s, target: /t, writable: true}]", "binds: [{source: /s, target: /t, writable: true}]"},
		{"devices", "devices: [{path: /dev/a, permissions: r}]", "devices: [{path: /dev/a, permissions: w}]", "devices: [{path: /dev/a, permissions: rw}]"},
		{"all permissions", "devices: [{path: /dev/a, permissions: r}]", "devices: [/dev/a]", "devices: [/dev/a]"},
		{"ports", "ports: [80/tcp, '53/udp']", "ports: ['8080:80', 53]", "ports: ['53/udp', '8080:80', 53]"},
		{"limits", "limits: {memory: 1g, pids: 5}", "limits: {memory: 512m, pids: 9, cpus: 2}", "limits: {memory: 1g, pids: 9, cpus: 2}"},
		{"for ever", "stop-timeout: -1", "stop-timeout: 100", "stop-timeout: -1"},
		{"digests", "image: a@sha256:" + strings.Repeat("a", 64), "image: a@sha256:" + strings.Repeat("b", 64), "image: docker.io/library/a"},
		{"provenance", "recorded: [{date: 2026-01-01, tool: x}]", "recorded: [{date: 2026-01-01, tool: x}, {date: 2026-01-02}]", "recorded: [{date: 2026-01-01, tool: x}, {date: 2026-01-02}]"},
	} {
		a, b := fileOf(t, c.a), fileOf(t, c.b)
		got, err := Merge(a, b)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if want := fileOf(t, c.want); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, want)
		}
		roundTrip(t, got)
		for _, from := range []Profile{a, b} {
			for _, change := range Diff(from, got) {
				if change.Effect == Narrower {
					t.Errorf("%s: the union is narrower: %+v", c.name, change)
				}
			}
		}
	}
}

func TestMergeConflicts(t *testing.T) {
	for _, c := range []struct{ a, b, says string }{
		{"name: a", "name: b", `name: "a" and "b"`},
		{"image: a", "image: b", "image"},
		{"network: a", "network: b", "network"},
		{"user: a", "user: b", "user"},
		{"stop-signal: SIGINT", "stop-signal: SIGTERM", "stop-signal"},
		{"health: {command: a}", "health: {command: b}", "health"},
		{"writable: [/a]", "writable: [{path: /a, volume: data}]", `writable /a: "tmpfs" and "data"`},
		{"writable: [{path: /a, uid: 1}]", "writable: [{path: /a, uid: 2}]", "uid"},
		{"writable: [/a]", "binds: [{source: /s, target: /a}]", "mount at /a"},
		{"binds: [{source: /s, target: /t}]", "binds: [{source: /r, target: /t}]", "bind on /t"},
		{"seccomp: {file: a}", "seccomp: {allow: [read]}", "seccomp"},
		{"apparmor: {name: aa}", "apparmor: {name: bb}", "apparmor"},
		{"sysctls: [{name: a.b, value: 1}]", "sysctls: [{name: a.b, value: 2}]", "sysctl a.b"},
	} {
		if _, err := Merge(fileOf(t, c.a), fileOf(t, c.b)); fail.KindOf(err) != fail.Conflict || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s / %s: %v", c.a, c.b, err)
		}
	}
}

func TestDiff(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want []Change
	}{
		{"", "", nil},
		{"description: a\ncapabilities: [{name: CHOWN, why: a}]", "capabilities: [CHOWN]", nil},
		{"capabilities: [CHOWN]", "capabilities: [KILL]", []Change{{"capabilities CHOWN", "given", "", Narrower}, {"capabilities KILL", "", "given", Wider}}},
		{"", "seccomp: {allow: [read]}", []Change{{"seccomp", "", "a list", Narrower}}},
		{"seccomp: {allow: [read]}", "", []Change{{"seccomp", "a list", "", Wider}}},
		{"seccomp: {allow: [read]}", "seccomp: {allow: [read, write]}", []Change{{"seccomp write", "", "allowed", Wider}}},
		{"egress: [none]", "egress: ['a:1']", []Change{{"egress a:1", "", "allowed", Wider}}},
		{"writable: [{path: /a, size: 1m}]", "writable: [{path: /a, size: 2m}]", []Change{{"writable /a", "tmpfs size=1m", "tmpfs size=2m", Wider}}},
		{"writable: [{path: /a, exec: true}]", "writable: [{path: /a, size: 1g}]", []Change{{"writable /a", "tmpfs exec", "tmpfs size=1g", Narrower}}},
		{"binds: [{source: /s, target: /t, writable: true}]", "binds: [{source: /s, target: /t}]", []Change{{"binds /t", "/s (writable)", "/s (read-only)", Narrower}}},
		{"limits: {pids: 5}", "limits: {memory: 1g, pids: 4}", []Change{{"limits pids", "5", "4", Narrower}, {"limits memory", "", "1g", Other}}},
		{"user: a", "user: b", []Change{{"user", "a", "b", Other}}},
		{"", "userns: host", []Change{{"userns", "", "host", Wider}}},
	} {
		if got := Diff(fileOf(t, c.a), fileOf(t, c.b)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s / %s: %+v, want %+v", c.a, c.b, got, c.want)
		}
	}
	p := fileOf(t, strings.TrimPrefix(everything, "# a comment\nversion: 1\n"))
	if d := Diff(p, p); len(d) > 0 {
		t.Error(d)
	}
	if n := len(Diff(Profile{}, p)); n < 30 {
		t.Errorf("only %d rights", n)
	}
}
