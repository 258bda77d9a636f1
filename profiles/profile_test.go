package profiles

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
)

// everything has all there is in the format, in its long and short forms.
const everything = `# a comment
version: 1
name: web
description: "A server: of pages"
image: docker.io/library/web@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
for: [web, web-alpine]
capabilities:
  - CHOWN
  - name: cap_setuid
    why: workers change to their user
    evidence: {count: 3, process: web, call: setuid, proof: "the check failed: exit code 7"}
seccomp:
  allow: [read, write, close]
apparmor:
  files:
    - {path: /etc/web/**, access: r}
writable:
  - /run
  - path: /var/cache/web
    size: 16m
    mode: 0755
    uid: 33
    gid: 33
    exec: true
  - {path: /var/lib/web, volume: data}
  - {path: /var/lib/exec, volume: data2, exec: true}
  - {path: /var/spool/web, volume: anonymous}
binds:
  - {source: "/srv/a, b", target: /srv/www}
  - {source: /srv/up, target: /srv/up, writable: true}
devices:
  - /dev/fuse
  - {path: /dev/net/tun, permissions: rw}
  - {path: /dev/dri/card0, target: /dev/dri/card1, permissions: r}
ports: [80, "127.0.0.1:8080:80", "53:53/udp"]
network: front
egress:
  - db.example:5432
  - "[2001:db8::/32]:443/tcp"
sysctls:
  - {name: net.ipv4.ip_unprivileged_port_start, value: 0}
user: "33:33"
userns: host
limits: {memory: 512m, pids: 100, nofile: 4096, shm: 32m, cpus: 1.5}
health: {command: "curl -fsS localhost", interval: 5s, timeout: 1s, start-period: 1m30s, retries: 2}
stop-signal: SIGQUIT
stop-timeout: 0
recorded:
  - {date: 2026-11-22T10:00:00Z, tool: safe-run 1, kernel: 6.18.0, image: web@sha256:00, check: curl, proved: true, lost: 2}
`

func TestEverything(t *testing.T) {
	p, err := Parse([]byte(everything), "t.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"--cap-add=CHOWN", "--cap-add=SETUID",
		"--tmpfs=/run", "--tmpfs=/var/cache/web:size=16m,mode=0755,uid=33,gid=33,exec", "--volume=data:/var/lib/web",
		"--mount=type=volume,src=data2,dst=/var/lib/exec,exec", "--volume=/var/spool/web",
		`--mount=type=bind,"src=/srv/a, b",dst=/srv/www,readonly`, "--mount=type=bind,src=/srv/up,dst=/srv/up",
		"--device=/dev/fuse", "--device=/dev/net/tun:/dev/net/tun:rw", "--device=/dev/dri/card0:/dev/dri/card1:r",
		"--expose=80", "--publish=127.0.0.1:8080:80", "--publish=53:53/udp", "--network=front",
		"--egress=db.example:5432", "--egress=[2001:db8::/32]:443/tcp", "--sysctl=net.ipv4.ip_unprivileged_port_start=0",
		"--user=33:33", "--userns=host", "--memory=512m", "--pids-limit=100", "--ulimit=nofile=4096:4096", "--shm-size=32m", "--cpus=1.5",
		"--health-cmd=curl -fsS localhost", "--health-interval=5s", "--health-timeout=1s", "--health-start-period=1m30s", "--health-retries=2",
		"--stop-signal=SIGQUIT", "--stop-timeout=0",
	}
	if got := p.Flags(); !slices.Equal(got, want) {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if e := p.Capabilities[1].Evidence; e == nil || e.Count != 3 || e.Proof != "the check failed: exit code 7" {
		t.Errorf("%+v", e)
	}
	if d := p.Recorded[0].Date; !d.Equal(time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)) {
		t.Error(d)
	}
	roundTrip(t, p)
	everyFieldSet(t, reflect.ValueOf(p), "profile")
	text, _ := p.YAML()
	for _, line := range []string{"for: [web, web-alpine]", "  - CHOWN", "  - name: SETUID", "    mode: \"0755\"", "    size: 16m", "  cpus: 1.5"} {
		if !strings.Contains(string(text), "\n"+line+"\n") {
			t.Errorf("no line %q in\n%s", line, text)
		}
	}
}

func roundTrip(t *testing.T, p Profile) {
	t.Helper()
	text, err := p.YAML()
	if err != nil {
		t.Fatalf("%v\n%+v", err, p)
	}
	again, err := Parse(text, "again")
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if !reflect.DeepEqual(p, again) {
		t.Fatalf("%+v\nis not\n%+v\n%s", again, p, text)
	}
}

// everyFieldSet holds the example to be of all there is. What excludes others
// is left out.
func everyFieldSet(t *testing.T, v reflect.Value, at string) {
	switch v.Kind() {
	case reflect.Pointer:
		everyFieldSet(t, v.Elem(), at)
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && v.Field(i).IsZero() && v.Type().Name() == "Profile" {
				t.Errorf("the example has no %s.%s", at, f.Name)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	bomb := "version: 1\na: &a [x,x,x,x,x,x,x,x,x]\n"
	for _, c := range []string{"b", "c", "d", "e", "f", "g", "h", "i"} {
		bomb += c + ": &" + c + " [" + strings.Repeat("*"+string(c[0]-1)+",", 9) + "]\n"
	}
	long := "version: 1\nseccomp:\n  allow:\n" + strings.Repeat("    - read\n", 600)
	for _, c := range []struct{ name, file, says string }{
		{"empty", "", "t.yaml: empty"},
		{"version", "name: x", "t.yaml:1: version"},
		{"version 2", "# c\nversion: 2", "t.yaml:2: version"},
		{"text for a version", `version: "1"`, "t.yaml:1: version: takes a whole number"},
		{"unknown key", "version: 1\ncaps: [CHOWN]", `t.yaml:2: unknown field "caps"`},
		{"unknown key below", "version: 1\nlimits:\n  memory: 1g\n  mem: 1g", `t.yaml:4: unknown field "mem"`},
		{"twice", "version: 1\nuser: a\nuser: b", "t.yaml:3"},
		{"twice in quotes", "version: 1\nuser: a\n\"user\": b", "t.yaml:3"},
		{"twice below", "version: 1\ncapabilities:\n- name: CHOWN\n  name: KILL", "t.yaml:4"},
		{"bomb", bomb, "t.yaml:2: anchors"},
		{"alias", "version: 1\nname: &n a\nuser: *n", "t.yaml:2: anchors"},
		{"merge", "version: 1\nlimits:\n  <<: {pids: 1}", "t.yaml:3: anchors"},
		{"tag", "version: 1\nname: !!str x", "t.yaml:2: tags"},
		{"null", "version: 1\ncapabilities:\n", "t.yaml:2: a key without"},
		{"two documents", "version: 1\n---\nversion: 1", "t.yaml:3: a second document"},
		{"huge", "version: 1\n#" + strings.Repeat("x", MaxFile), "larger than 256 KiB"},
		{"deep", "version: 1\nfor: " + strings.Repeat("[", 4000), "t.yaml:2: nested"},
		{"deep in lines", "version: 1\nfor:\n" + strings.Repeat("- ", 9000), "t.yaml:3: nested"},
		{"long list", long, "t.yaml:516: allow: more than 512"},
		{"long text", "version: 1\ndescription: " + strings.Repeat("x", 2000), "t.yaml:2: description: longer"},
		{"control", "version: 1\ndescription: \"a\\e[2Jb\"", "t.yaml:2: description: the character U+001B"},
		{"control in a path", "version: 1\nwritable: [/run, \"/a\\nb\"]", "t.yaml:2: path: the character U+000A"},
		{"C1", "version: 1\nuser: \"a\\u009b\"", "t.yaml:2: user: the character U+009B"},
		{"bidi", "version: 1\ncapabilities:\n- name: CHOWN\n  why: \"\\u202eabc\"", "t.yaml:4: why: the character U+202E"},
		{"invisible", "version: 1\ndescription: \"a\\u200bb\"", "t.yaml:2: description: the character U+200B"},
		{"control in a key", "version: 1\n\"\\e[31m\": 1", "t.yaml:2: unknown field"},
		{"lines", "version: 1\ndescription: |\n  a\n  b\n", "description: the character U+000A"},
		{"not UTF-8", "version: 1\ndescription: \"a\xff\"", "t.yaml"},
		{"a list for a word", "version: 1\nuser: [a]", "t.yaml:2: user: takes a single value"},
		{"a word for a list", "version: 1\ncapabilities: CHOWN", "t.yaml:2: capabilities: takes a list"},
		{"a word for keys", "version: 1\nlimits: 1g", "t.yaml:2: limits: takes keys"},
		{"a word without a short form", "version: 1\nbinds: [/srv]", "t.yaml:2: binds: takes keys"},
		{"yes is a word", "version: 1\nwritable:\n- path: /a\n  exec: yes", "t.yaml:4: exec: takes true or false"},
		{"negative", "version: 1\nwritable:\n- {path: /a, uid: -1}", "t.yaml:3: uid"},

		{"name", "version: 1\nname: ../x", "t.yaml:2: name"},
		{"name with capitals", "version: 1\nname: Web", "t.yaml:2: name"},
		{"image", "version: 1\nimage: 'UPPER x'", "t.yaml:2: image"},
		{"tag of an image", "version: 1\nimage: nginx:1.25", "t.yaml:2: image: a tag"},
		{"short digest", "version: 1\nimage: nginx@sha256:aa", "t.yaml:2: image"},
		{"for", "version: 1\nfor: [library/nginx]", "t.yaml:2: for"},
		{"ALL", "version: 1\ncapabilities:\n- CHOWN\n- ALL", "t.yaml:4: capabilities: ALL is never granted"},
		{"cap_all", "version: 1\ncapabilities:\n- name: cap_all", "t.yaml:3: capabilities: ALL is never granted"},
		{"no capability", "version: 1\ncapabilities: [ROOT]", "t.yaml:2: capabilities: \"ROOT\" is not"},
		{"capability twice", "version: 1\ncapabilities:\n- CHOWN\n- CAP_CHOWN", "t.yaml:4: capabilities: \"CHOWN\" is there twice"},
		{"privileged", "version: 1\nprivileged: true", "t.yaml:2: unknown field"},
		{"kexec", "version: 1\nseccomp:\n  allow: [read,\n    kexec_load]", "t.yaml:4: seccomp: kexec_load is a system call no"},
		{"io_uring", "version: 1\nseccomp: {allow: [io_uring_setup]}", "t.yaml:2: seccomp: io_uring_setup"},
		{"mount without", "version: 1\nseccomp: {allow: [mount]}", "without CAP_SYS_ADMIN"},
		{"seccomp file", "version: 1\nseccomp:\n  file: ../../etc/shadow", "t.yaml:3: seccomp"},
		{"absolute seccomp file", "version: 1\nseccomp:\n  file: /etc/shadow", "t.yaml:3: seccomp"},
		{"seccomp of nothing", "version: 1\nseccomp: {why: because}", "t.yaml:2: seccomp: takes a file or"},
		{"both seccomp", "version: 1\nseccomp: {file: a, allow: [read]}", "not both"},
		{"unconfined", "version: 1\napparmor:\n  name: unconfined", "t.yaml:3: apparmor"},
		{"apparmor rule", "version: 1\napparmor:\n  files:\n  - {path: '/a\", /** rw, \"', access: r}", "t.yaml:4"},
		{"apparmor access", "version: 1\napparmor:\n  files:\n  - {path: /a, access: ux}", "t.yaml:4"},
		{"writable /", "version: 1\nwritable: [/]", "t.yaml:2: writable: / is the image's"},
		{"writable /proc", "version: 1\nwritable: [/tmp, /proc/sys]", "belongs to the kernel"},
		{"writable /dev", "version: 1\nwritable:\n- path: /tmp\n- path: /dev/x", "t.yaml:4: writable"},
		{"writable ..", "version: 1\nwritable: [/a/../proc]", "t.yaml:2: writable: "},
		{"options in a path", "version: 1\nwritable: ['/a:exec,suid']", "t.yaml:2: writable: "},
		{"size", "version: 1\nwritable: [{path: /a, size: lots}]", "not a size"},
		{"size with options", "version: 1\nwritable: [{path: /a, size: '1m,suid'}]", "not a size"},
		{"mode", "version: 1\nwritable: [{path: /a, mode: 999}]", "not a mode"},
		{"size of a volume", "version: 1\nwritable: [{path: /a, volume: data, size: 1m}]", "this is a volume"},
		{"volume", "version: 1\nwritable: [{path: /a, volume: ../x}]", "name of a volume"},
		{"volume that is a path", "version: 1\nwritable: [{path: /a, volume: /etc}]", "name of a volume"},
		{"bind /", "version: 1\nbinds:\n- source: /\n  target: /host", "t.yaml:3: binds: / is never"},
		{"bind socket", "version: 1\nbinds:\n- source: /var/run/docker.sock\n  target: /s", "t.yaml:3: binds: the control socket"},
		{"bind ..", "version: 1\nbinds:\n- source: /srv/../\n  target: /s", "t.yaml:3: binds"},
		{"bind relative", "version: 1\nbinds:\n- {source: ./x, target: /s}", "t.yaml:3: binds"},
		{"bind on /", "version: 1\nbinds:\n- source: /srv\n  target: /", "t.yaml:4: binds"},
		{"bind on /sys", "version: 1\nbinds:\n- source: /srv\n  target: /sys/x", "t.yaml:4: binds"},
		{"bind without a target", "version: 1\nbinds:\n- source: /srv", "a path is missing"},
		{"two mounts at one place", "version: 1\nwritable: [/a]\nbinds:\n- {source: /srv, target: /a}", "another mount"},
		{"memory", "version: 1\ndevices: [/dev/mem]", "t.yaml:2: devices: /dev/mem"},
		{"device", "version: 1\ndevices: [/etc/passwd]", "not the path of a device"},
		{"CDI", "version: 1\ndevices: ['vendor.com/class=x']", "not the path of a device"},
		{"device permissions", "version: 1\ndevices: [{path: /dev/fuse, permissions: rx}]", "permissions"},
		{"port", "version: 1\nports: [http]", "t.yaml:2: ports"},
		{"port with flags", "version: 1\nports: ['80 --privileged']", "t.yaml:2: ports"},
		{"network", "version: 1\nnetwork: 'a,driver-opt=x'", "t.yaml:2: network"},
		{"network by path", "version: 1\nnetwork: ns:/proc/1/ns/net", "t.yaml:2: network"},
		{"egress", "version: 1\negress: [none, 'a:1']", "none stands alone"},
		{"egress to all", "version: 1\negress: [all]", "t.yaml:2: egress"},
		{"sysctl", "version: 1\nsysctls: [{name: 'a=b', value: 1}]", "t.yaml:2: sysctls"},
		{"user", "version: 1\nuser: 'a:b:c'", "t.yaml:2: user"},
		{"userns", "version: 1\nuserns: private", "t.yaml:2: userns"},
		{"limit", "version: 1\nlimits: {memory: -1}", "t.yaml:2: limits"},
		{"small memory", "version: 1\nlimits: {memory: 1m}", "too small"},
		{"pids", "version: 1\nlimits: {pids: -1}", "t.yaml:2: limits: pids"},
		{"cpus", "version: 1\nlimits: {cpus: .nan}", "cpus: takes a number"},
		{"cpus inf", "version: 1\nlimits: {cpus: .inf}", "cpus: takes a number"},
		{"health", "version: 1\nhealth: {interval: 5s}", "takes a command"},
		{"duration", "version: 1\nhealth: {command: x, interval: 5}", "not a duration"},
		{"signal", "version: 1\nstop-signal: SIGFOO", "not a signal"},
		{"timeout", "version: 1\nstop-timeout: -2", "stop-timeout"},
		{"date", "version: 1\nrecorded: [{date: yesterday}]", "date: takes a date"},
		{"no date", "version: 1\nrecorded: [{tool: x}]", "takes a date"},
	} {
		start := time.Now()
		p, err := Parse([]byte(c.file), "t.yaml")
		switch {
		case err == nil:
			t.Errorf("%s: taken: %+v", c.name, p)
		case !strings.Contains(err.Error(), c.says) || fail.KindOf(err) != fail.Refused:
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		case printableText(err.Error(), 1<<16) != "":
			t.Errorf("%s: %q", c.name, err)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("%s: took %v", c.name, d)
		}
	}
}

// All errors of meaning are told, each with its line.
func TestAllErrors(t *testing.T) {
	_, err := Parse([]byte("version: 1\ncapabilities: [ALL]\nwritable: [/]\nuser: ''\nstop-signal: x\n"), "a b\x1b.yaml")
	if err == nil || !strings.Contains(err.Error(), `"a b\x1b.yaml":2: cap`) || !strings.Contains(err.Error(), ":3: writable") || !strings.Contains(err.Error(), ":5: stop") {
		t.Error(err)
	}
	_, err = Parse([]byte("version: 1\ncapabilities: ["+strings.Repeat("X,", 300)+"X]"), "t")
	if err == nil || len(err.Error()) > 2000 || !strings.Contains(err.Error(), "more") {
		t.Error(err)
	}
}

func TestSeccompJSON(t *testing.T) {
	read := func(path string, most int64) ([]byte, error) { return []byte(path), nil }
	none, err := Profile{}.SeccompJSON("/d", read)
	if none != nil || err != nil {
		t.Errorf("%s %v", none, err)
	}
	file, err := Profile{Seccomp: &SeccompUse{File: "sub/f.json"}}.SeccompJSON("/d", read)
	if err != nil || string(file) != "/d/sub/f.json" {
		t.Errorf("%s %v", file, err)
	}
	for _, p := range []struct{ dir, file string }{{"", "f"}, {"/d", "../f"}, {"/d", "/f"}} {
		if _, err := (Profile{Seccomp: &SeccompUse{File: p.file}}).SeccompJSON(p.dir, read); fail.KindOf(err) != fail.Refused {
			t.Errorf("%v: %v", p, err)
		}
	}
	list, err := Profile{Seccomp: &SeccompUse{Allow: []string{"read", "write", "clone", "socket"}}}.SeccompJSON("", nil)
	if err != nil || !json.Valid(list) {
		t.Fatalf("%s %v", list, err)
	}
	o := Options{Arch: "amd64"}
	f, err := ParseSeccomp(list, o)
	if err != nil {
		t.Fatal(err)
	}
	if bad := Lint(f, o); len(bad) > 0 {
		t.Error(bad)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(everything))
	for _, name := range Embedded() {
		data, err := embedded.ReadFile("embedded/" + name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, s := range []string{
		"version: 1\ndescription: 'a: b #c'", "version: 1\ndescription: >-\n  a\n  b", "version: 1\nhealth: {command: '-'}",
		"version: 1\nsysctls: [{name: a.b, value: 0x10}]", "version: 1\nlimits: {cpus: 1e2}", "{version: 1, for: [a, b]}",
		"version: 1\nwritable: [{path: '/~'}, /a b]", "version: 1\nhealth: {command: 'null'}", "version: 1\nhealth: {command: \"\\\"\\\\\"}",
		"? version\n: 1", "version: 1\nrecorded: [2026-01-01]", "version: 1\nrecorded: [{date: 0001-01-01}]", "version: 1\nlimits: {}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse(data, "t.yaml")
		if err != nil {
			if fail.KindOf(err) != fail.Refused || printableText(err.Error(), 1<<16) != "" {
				t.Errorf("%q", err)
			}
			return
		}
		roundTrip(t, p)
		for _, flag := range p.Flags() {
			if !strings.HasPrefix(flag, "--") || !strings.Contains(flag, "=") {
				t.Errorf("%q", flag)
			}
		}
	})
}
