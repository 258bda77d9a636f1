package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// project is a directory with a compose file, and what `safe-run compose` makes
// of it; its name is the directory's.
type project struct {
	dir, name string
}

// composed writes the files of a project. The end of the test takes it down, and
// nothing may be left.
func composed(t *testing.T, files map[string]string) *project {
	t.Helper()
	dir := tempDir(t)
	p := &project{dir, filepath.Base(dir)}
	p.write(t, files)
	t.Cleanup(func() {
		if r := p.compose("-p", p.name, "down", "-v", "--remove-orphans", "-t", "0"); r.code != 0 {
			t.Errorf("down: %s", r)
		}
		p.gone(t)
	})
	return p
}

func (p *project) write(t *testing.T, files map[string]string) {
	t.Helper()
	for name, content := range files {
		writeFile(t, filepath.Join(p.dir, name), content, 0o644)
	}
}

func (p *project) compose(args ...string) answer {
	return call(request{args: append([]string{"compose"}, args...), dir: p.dir, timeout: time.Minute})
}

// must is compose that has to work.
func (p *project) must(t *testing.T, args ...string) answer {
	t.Helper()
	r := p.compose(args...)
	if r.code != 0 {
		t.Fatalf("%q: %s", args, r)
	}
	return r
}

// ids are those of the project's containers, by service.
func (p *project) ids() map[string]string {
	of := map[string]string{}
	for _, l := range lines(run("ps", "-a", "--no-trunc", "--filter", "label=com.docker.compose.project="+p.name, "--format", `{{.Label "com.docker.compose.service"}} {{.ID}}`).stdout) {
		if service, id, ok := strings.Cut(l, " "); ok {
			of[service] = id
		}
	}
	return of
}

func (p *project) container(service string) string { return p.name + "-" + service + "-1" }

// gone: no container and no network of the project is left.
func (p *project) gone(t *testing.T) {
	t.Helper()
	if ids := p.ids(); len(ids) > 0 {
		t.Errorf("containers are left: %v", ids)
	}
	for what, r := range map[string]answer{
		"networks": run("network", "ls", "-q", "--filter", "label=com.docker.compose.project="+p.name),
		"volumes":  run("volume", "ls", "-q", "--filter", "name="+p.name),
	} {
		if r.code != 0 || r.stdout != "" {
			t.Errorf("%s: %s", what, r)
		}
	}
	if left, _ := filepath.Glob(here.root + "-compose/" + p.name + "*"); len(left) > 0 {
		t.Errorf("files are left: %q", left)
	}
}

const threeServices = `
services:
  web:
    image: busybox
    command: httpd -f -p 8080 -h /etc
    init: true
    cap_drop: [ALL]
    healthcheck: {test: wget -qO /dev/null http://127.0.0.1:8080/passwd, interval: 200ms}
    depends_on:
      init: {condition: service_completed_successfully}
  init:
    image: busybox
    command: [sh, -c, "echo made ready; sleep 0.3"]
  client:
    image: busybox
    init: true
    command: [sh, -c, "wget -qO- http://web:8080/passwd | head -n1; sleep 1000"]
    depends_on:
      web: {condition: service_healthy}
`

// TestComposeUp: services start in order, reach each other by name, and are left
// alone or made anew as their file says.
func TestComposeUp(t *testing.T) {
	t.Parallel()
	p := composed(t, map[string]string{"compose.yaml": threeServices})
	r := p.must(t, "up", "-d")
	order := []string{"init-1  Started", "init-1  Exited", "web-1  Started", "web-1  Healthy", "client-1  Started"}
	at := -1
	for _, w := range order {
		next := strings.Index(r.stderr, w)
		if next < at || next < 0 {
			t.Errorf("%q is not where it should be: %s", w, r)
		}
		at = next
	}
	if r.stdout != "" {
		t.Errorf("it prints %q", r.stdout)
	}
	eventually(t, 10*time.Second, "the page", func() bool {
		return strings.Contains(p.compose("logs", "client").stdout, "client-1 | root:x:0:0:")
	})
	if r := p.must(t, "logs", "--no-log-prefix", "-n", "1", "init"); r.stdout != "made ready\n" {
		t.Error(r)
	}
	before := p.ids()
	if r := p.must(t, "up", "-d", "--wait", "web", "client"); !strings.Contains(r.stderr, "client-1  Running") {
		t.Error(r)
	}
	if after := p.ids(); after["web"] != before["web"] || after["client"] != before["client"] {
		t.Errorf("a second up changes %v to %v", before, after)
	}
	if r := p.must(t, "exec", "-T", "web", "cat", "/proc/self/status"); !strings.Contains(r.stdout, "CapEff:\t0000000000000000") {
		t.Error(r)
	}
	if r := p.compose("exec", "-T", "web", "sh", "-c", "exit 7"); r.code != 7 {
		t.Error(r)
	}
	// A container of its own is on the network, and in nobody's place.
	if r := p.must(t, "run", "--rm", "-T", "client", "sh", "-c", "hostname; wget -qO- http://web:8080/passwd"); !strings.Contains(r.stdout, "root:x:0:0:") || len(p.ids()) != 3 {
		t.Error(r)
	}
	if r := p.compose("run", "--rm", "--no-deps", "-e", "A=b", "--entrypoint", "sh", "client", "-c", `[ "$A" = b ] && exit 9`); r.code != 9 {
		t.Error(r)
	}
	p.must(t, "pause", "web")
	if got := field(p.container("web"), "{{.State.Status}}"); got != "paused" {
		t.Errorf("web is %s", got)
	}
	p.must(t, "unpause")
	if got := lines(p.must(t, "ps", "--services").stdout); !slices.Equal(got, []string{"client", "web"}) {
		t.Errorf("they run: %q", got)
	}
	if r := p.must(t, "ps", "-a", "--format", "json"); !strings.Contains(r.stdout, `"Service":"init","State":"exited"`) {
		t.Error(r)
	}

	// One that changed is made anew, and no other.
	p.write(t, map[string]string{"compose.yaml": strings.Replace(threeServices, "sleep 1000", "sleep 2000", 1)})
	p.must(t, "up", "-d", "-t", "0")
	after := p.ids()
	if after["web"] != before["web"] || after["client"] == before["client"] {
		t.Errorf("%v, before the change %v", after, before)
	}
	// One that is stopped is started, as it is.
	p.must(t, "stop", "-t", "0", "client")
	if r := p.must(t, "ps", "--services"); r.stdout != "web\n" {
		t.Error(r)
	}
	p.must(t, "up", "-d")
	if now := p.ids(); now["client"] != after["client"] || field(now["client"], "{{.State.Status}}") != "running" {
		t.Errorf("%v, before the stop %v", now, after)
	}
	p.must(t, "up", "-d", "--force-recreate", "--no-deps", "-t", "0", "web")
	if now := p.ids(); now["web"] == after["web"] || now["client"] != after["client"] {
		t.Errorf("%v, before it was forced %v", now, after)
	}
	// One that is gone from the file.
	p.write(t, map[string]string{"compose.yaml": strings.Split(threeServices, "  client:")[0]})
	if r := p.must(t, "up", "-d"); !strings.Contains(r.stderr, p.container("client")) || p.ids()["client"] == "" {
		t.Error(r)
	}
	if p.must(t, "up", "-d", "--remove-orphans", "-t", "0"); p.ids()["client"] != "" {
		t.Error("it is still there")
	}
	// With the name, without the file.
	if err := os.Remove(filepath.Join(p.dir, "compose.yaml")); err != nil {
		t.Fatal(err)
	}
	if r := p.compose("down"); r.code != 125 {
		t.Error(r)
	}
	p.must(t, "-p", p.name, "down", "-t", "0")
	p.gone(t)
}

// TestComposeDependencies: what a service waits for in vain is named, with what
// it said last, and nothing useless stays.
func TestComposeDependencies(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		db, condition string
		says          []string
		stays         bool // the other one
	}{
		"unhealthy": {
			`command: [sh, -c, "echo no room left; sleep 1000"], init: true, healthcheck: {test: "echo disk is full; exit 1", interval: 100ms, retries: 1}`,
			"service_healthy",
			[]string{"db-1 is unhealthy", "its health check: disk is full", "its last lines: no room left", "runs on"},
			true,
		},
		"ended": {
			`command: [sh, -c, "echo no config; exit 3"], healthcheck: {test: "true", interval: 5s}`, "service_healthy",
			[]string{"db-1 has ended with exit code 3", "its last lines: no config"},
			false,
		},
		"not completed": {
			`command: [sh, -c, "sleep 0.2; exit 4"]`, "service_completed_successfully", []string{"db-1 has ended with exit code 4"}, false,
		},
		"again and again": {
			`command: "false", restart: always, healthcheck: {test: "true"}`, "service_healthy", []string{"started again and again"}, true,
		},
		"no health check": {
			`command: sleep 1000, init: true`, "service_healthy", []string{"has no health check", "healthcheck:"}, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := composed(t, map[string]string{"compose.yaml": `
services:
  web: {image: busybox, command: sleep 1000, init: true, depends_on: {db: {condition: ` + c.condition + `}}}
  db: {image: busybox, ` + c.db + `}
`})
			r := p.compose("up", "-d")
			for _, w := range append(c.says, "compose.yaml:3: web is not started") {
				if !strings.Contains(r.stderr, w) {
					t.Errorf("no %q", w)
				}
			}
			ids := p.ids()
			if r.code != 125 || ids["web"] != "" || (ids["db"] != "") != c.stays {
				t.Errorf("%v: %s", ids, r)
			}
			if networks := run("network", "ls", "-q", "--filter", "label=com.docker.compose.project="+p.name).stdout; (networks != "") != c.stays {
				t.Errorf("networks %q", networks)
			}
		})
	}
}

// TestComposeRefused: what the policy refuses of any service is told of all, with
// file, line and key, before anything is made.
func TestComposeRefused(t *testing.T) {
	t.Parallel()
	p := composed(t, map[string]string{"compose.yaml": `
services:
  fine: {image: busybox, command: sleep 1000}
  bad:
    image: busybox
    privileged: true
    cap_add:
      - CHOWN
      - SYS_ADMIN
    volumes:
      - /:/host
    network_mode: host
`})
	r := p.compose("up", "-d")
	for _, w := range []string{
		"refused, for 4 reasons; nothing was created", "compose.yaml:6: services.bad.privileged: --privileged",
		"compose.yaml:9: services.bad.cap_add[1]: --cap-add SYS_ADMIN", "compose.yaml:11: services.bad.volumes[0]", "compose.yaml:12: services.bad.network_mode",
		"image: docker.io/library/busybox",
	} {
		if !strings.Contains(r.stderr, w) {
			t.Errorf("no %q", w)
		}
	}
	if r.code != 125 || t.Failed() {
		t.Error(r)
	}
	p.gone(t)
	p.write(t, map[string]string{"compose.yaml": "services:\n  web:\n    build: .\n  db:\n    image: busybox\n    nonsense: true\n"})
	if r := p.compose("up", "-d"); r.code != 125 || !strings.Contains(r.stderr, "compose.yaml:6") {
		t.Error(r)
	}
	p.write(t, map[string]string{"compose.yaml": "services:\n  web:\n    image: --privileged\n    command: [busybox]\n"})
	if r := p.compose("up", "-d"); r.code != 125 {
		t.Error(r)
	}
	for _, args := range [][]string{{"build"}, {"-p", "../x", "ps"}, {"-p", "a,b", "down"}, {"up", "--nonsense"}, {"ps", "nobody"}, {"-f", "-", "up"}} {
		if r := p.compose(args...); r.code != 125 || r.stderr == "" {
			t.Errorf("%q: %s", args, r)
		}
	}
	p.gone(t)
}
