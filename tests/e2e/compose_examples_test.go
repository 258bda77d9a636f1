//go:build !guest

// The images of the examples are not in the virtual machine.

package e2e

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/safe-run/safe-run/tests/harness"
)

// example is one of packaging/examples/compose, in a directory of its own, with
// the images it needs.
func example(t *testing.T, name string, images ...string) *project {
	t.Helper()
	p := composed(t, nil)
	dir := filepath.Join(here.repo, "packaging/examples/compose", name)
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		p.write(t, map[string]string{f.Name(): string(b)})
	}
	loaded(t, images...)
	return p
}

func loaded(t *testing.T, images ...string) {
	t.Helper()
	for _, i := range images {
		if r := run("load", "--quiet", "-i", filepath.Join(here.repo, "build/images", i+".tar")); r.code != 0 {
			t.Fatalf("load %s (make servers): %s", i, r)
		}
	}
}

// unchanged: a second up leaves all as it is.
func (p *project) unchanged(t *testing.T) {
	t.Helper()
	before := p.ids()
	r := p.must(t, "up", "-d")
	for _, w := range []string{"Created", "Started", "Recreated", "Removed"} {
		if strings.Contains(r.stderr, w) {
			t.Errorf("a second up: %s", r)
		}
	}
	for service, id := range p.ids() {
		if before[service] != id {
			t.Errorf("%s was made anew: %s", service, r)
		}
	}
}

// down leaves nothing.
func (p *project) down(t *testing.T) {
	t.Helper()
	p.must(t, "down", "-v", "-t", "2")
	p.gone(t)
}

func TestComposeExampleWeb(t *testing.T) {
	p := example(t, "web", "nginx")
	p.must(t, "up", "-d")
	eventually(t, 10*time.Second, "the page", func() bool {
		page, err := harness.Get("http://127.0.0.1:8080/", nil)
		return err == nil && strings.Contains(page, "served by nginx")
	})
	// CHOWN, SETGID, SETUID, NET_BIND_SERVICE, and no other.
	if got := field(p.container("web"), "{{.SafeRun.Capabilities}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Memory}}"); !strings.HasSuffix(got, " true 134217728") {
		t.Errorf("it has %s", got)
	}
	if status := processStatus(t, p.container("web")); !strings.Contains(status, "CapBnd:\t00000000000004c1\n") || !strings.Contains(status, "NoNewPrivs:\t1\n") {
		t.Errorf("it has %s", status)
	}
	p.unchanged(t)
	p.down(t)
}

// processStatus is what the kernel says of the first process of a container.
func processStatus(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + field(name, "{{.State.Pid}}") + "/status")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestComposeExampleNode(t *testing.T) {
	p := example(t, "node", "node")
	p.must(t, "up", "-d", "--wait")
	if r := p.must(t, "ps"); !strings.Contains(r.stdout, "(healthy)") {
		t.Error(r)
	}
	if page, err := harness.Get("http://127.0.0.1:3000/", nil); err != nil || !strings.Contains(page, "served by node") {
		t.Errorf("%q %v", page, err)
	}
	if got := field(p.container("app"), "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}"); got != "unless-stopped 268435456 128" {
		t.Errorf("it has %s", got)
	}
	p.unchanged(t)
	p.down(t)
}

func TestComposeExampleAPI(t *testing.T) {
	p := example(t, "api", "python", "redis")
	r := p.must(t, "up", "-d", "--wait")
	if healthy, started := strings.Index(r.stderr, "db-1  Healthy"), strings.Index(r.stderr, "api-1  Started"); healthy < 0 || started < healthy {
		t.Errorf("the database is not waited for: %s", r)
	}
	get := func(token string) string {
		rq, err := http.NewRequest(http.MethodGet, "http://127.0.0.1:8000/hits", nil)
		if err != nil {
			t.Fatal(err)
		}
		rq.Header.Set("Authorization", "Bearer "+token)
		res, err := (&http.Client{Timeout: patient(5 * time.Second), Transport: &http.Transport{DisableKeepAlives: true}}).Do(rq)
		if err != nil {
			return err.Error()
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(io.LimitReader(res.Body, 1<<16))
		return res.Status + " " + string(b)
	}
	token, err := os.ReadFile(filepath.Join(p.dir, "api_token.txt"))
	if err != nil {
		t.Fatal(err)
	}
	right := strings.TrimSpace(string(token))
	for _, c := range [][2]string{{"wrong", "401"}, {right, "hits 1\n"}, {right, "hits 2\n"}} {
		if got := get(c[0]); !strings.Contains(got, c[1]) {
			t.Errorf("%q: %s", c[0], got)
		}
	}
	// The network of the database has no way out; that of the API has.
	world := "http://" + net.JoinHostPort(harness.LanAddr, "80") + "/"
	for network, leads := range map[string]bool{"back": false, "front": true} {
		r := sh("timeout 3 wget -q -O - "+world, "--network", p.name+"_"+network)
		if (r.code == 0) != leads {
			t.Errorf("%s: %s", network, r)
		}
	}
	for network, reached := range map[string]bool{"back": true, "front": false} {
		if r := sh("(echo PING; sleep 0.5) | timeout 3 nc db 6379", "--network", p.name+"_"+network); strings.Contains(r.stdout, "PONG") != reached {
			t.Errorf("the database, from %s: %s", network, r)
		}
	}
	if got := field(p.container("api"), "{{.Config.User}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}"); got != "1000:1000 500000000 64" {
		t.Errorf("it has %s", got)
	}
	if s := processStatus(t, p.container("api")); !strings.Contains(s, "CapBnd:\t0000000000000000\n") {
		t.Error(s)
	}
	if r := p.compose("exec", "-T", "api", "python3", "-c", "open('/tmp/x','w').write('#!/usr/bin/python3'); import os; os.chmod('/tmp/x',0o700); os.execv('/tmp/x',['x'])"); r.code == 0 || !strings.Contains(r.stderr, "Permission denied") {
		t.Errorf("/tmp: %s", r)
	}
	p.unchanged(t)
	// What is in the named volume outlives the containers.
	p.must(t, "down", "-t", "2")
	p.must(t, "up", "-d", "--wait")
	if got := get(right); !strings.Contains(got, "hits 3\n") {
		t.Error(got)
	}
	p.down(t)
}

// TestComposeExampleTools: both tools are refused with the grant they need, and
// run with that grant in the site's policy. It is another engine with a policy of
// its own, in a mount namespace of its own. chronyd runs with -x: it leaves the
// clock of this machine alone.
func TestComposeExampleTools(t *testing.T) {
	p := example(t, "tools", "tcpdump", "chrony")
	p.write(t, map[string]string{"test.yaml": `
services:
  tcpdump: {ports: ["127.0.0.1:9999:9999/udp"]}
  chrony: {command: [chronyd, -x, -U, -d, -f, /etc/chrony/chrony.conf]}
`})
	if err := os.MkdirAll("/etc/safe-run", 0o755); err != nil {
		t.Fatal(err)
	}
	const script = `
mount -t tmpfs -o mode=755 none /etc/safe-run || exit 9
"$SR" engine start >/dev/null || exit 9
for i in tcpdump chrony; do "$SR" load -q -i "$R/build/images/$i.tar" >/dev/null || exit 9; done
up() { "$SR" compose -f compose.yaml -f test.yaml --profile clock "$@"; }
up up -d 2>refusal; echo "refused $?"
cat refusal >&2
[ -z "$("$SR" ps -aq; "$SR" network ls -q)" ] && echo nothing made
# The policy file is what the refusal says.
sed -n '/^The smallest grant/,/^[A-Z]/{s/^  //p}' refusal >/etc/safe-run/policy.yaml
chmod 644 /etc/safe-run/policy.yaml
"$SR" policy check /etc/safe-run/policy.yaml >&2 || exit 9
up up -d; echo "granted $?"
for i in $(seq 100); do
	echo hello >/dev/udp/127.0.0.1/9999
	up logs tcpdump | grep -q '\.9999: UDP' && echo packets seen && break
	sleep 0.1
done
for i in $(seq 100); do up exec -T chrony chronyc -n tracking 2>/dev/null | grep 'Leap status' && break; sleep 0.1; done
up down -v -t 2; echo "down $?"
[ -z "$("$SR" ps -aq; "$SR" network ls -q; "$SR" volume ls -q)" ] && echo nothing left
"$SR" engine stop`
	r := call(request{
		bin: "/usr/bin/unshare", args: []string{"--mount", "bash", "-c", patiently(script)}, timeout: 90 * time.Second, dir: p.dir,
		env: []string{"SR=" + here.bin, "R=" + here.repo, "SAFE_RUN_ROOT=" + p.dir + "/root", "SAFE_RUN_STATE=" + p.dir + "/state"},
	})
	for _, w := range []string{"refused 125", "nothing made", "granted 0", "packets seen", "Leap status", "down 0", "nothing left"} {
		if !strings.Contains(r.stdout, w) {
			t.Errorf("no %q", w)
		}
	}
	for _, w := range []string{
		"compose.yaml:13: services.tcpdump.cap_add[1]: --cap-add NET_ADMIN   [capability]", "services.chrony.cap_add[0]: --cap-add SYS_TIME   [cap-host-only]",
		"compose.yaml:26: services.chrony.userns_mode",
	} {
		if !strings.Contains(r.stderr, w) {
			t.Errorf("no %q", w)
		}
	}
	if r.code != 0 || t.Failed() {
		t.Error(r)
	}
}
