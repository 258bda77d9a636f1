package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestComposeVolumes: what is in them outlives containers, and only down -v
// removes them, but no external ones.
func TestComposeVolumes(t *testing.T) {
	t.Parallel()
	p := composed(t, nil)
	outside, config := p.name+"-outside", "from the compose file\n"
	if r := run("volume", "create", outside); r.code != 0 {
		t.Fatal(r)
	}
	t.Cleanup(func() { run("volume", "rm", "-f", outside) })
	file := `
services:
  app:
    image: busybox
    init: true
    command: sleep 1000
    labels: {round: "one"}
    volumes:
      - named:/named
      - /anonymous
      - outside:/outside
    configs: [{source: greeting, target: /etc/greeting}]
    secrets: [token]
volumes:
  named:
  outside: {external: true, name: ` + outside + `}
configs:
  greeting: {content: "` + strings.TrimSpace(config) + `\n"}
secrets:
  token: {environment: TOKEN}
`
	t.Cleanup(func() { p.compose("-p", p.name, "down", "-v", "-t", "0") }) // before that volume goes
	p.write(t, map[string]string{"compose.yaml": file, ".env": "TOKEN=hidden\n"})
	p.must(t, "up", "-d")
	const write = "for d in named anonymous outside; do echo kept >/$d/file; done; cat /etc/greeting /run/secrets/token; echo"
	if r := p.must(t, "exec", "-T", "app", "sh", "-c", write); r.stdout != config+"hidden\n" {
		t.Error(r)
	}
	if out := run("inspect", p.container("app")).stdout; strings.Contains(out, "hidden") {
		t.Error("the secret is in the record")
	}
	p.write(t, map[string]string{"compose.yaml": strings.Replace(file, "one", "two", 1)})
	if r := p.must(t, "up", "-d", "-t", "0"); !strings.Contains(r.stderr, "Recreated") {
		t.Error(r)
	}
	const read = "cat /named/file /anonymous/file /outside/file"
	if r := p.must(t, "exec", "-T", "app", "sh", "-c", read); r.stdout != "kept\nkept\nkept\n" {
		t.Error(r)
	}
	anonymous := lines(field(p.container("app"), `{{range .Mounts}}{{if eq .Destination "/anonymous"}}{{.Name}}{{end}}{{end}}`))
	p.must(t, "down", "-t", "0")
	p.must(t, "up", "-d")
	if r := p.compose("exec", "-T", "app", "sh", "-c", read); r.stdout != "kept\nkept\n" {
		t.Errorf("after down: %s", r)
	}
	p.must(t, "down", "-v", "-t", "0")
	if r := run("volume", "inspect", outside); r.code != 0 {
		t.Errorf("the external volume: %s", r)
	}
	// down without -v leaves the anonymous one, as with docker.
	if len(anonymous) == 1 {
		run("volume", "rm", anonymous[0])
	}
}

// TestComposeChangedImage: a container is made anew when the name of its image
// stands for another one, and its variables are in no command line.
func TestComposeChangedImage(t *testing.T) {
	t.Parallel()
	p := composed(t, nil)
	image := "changed-" + p.name + ":1"
	t.Cleanup(func() { run("rmi", "-f", image) })
	t.Cleanup(func() { p.compose("-p", p.name, "down", "-v", "-t", "0") })
	p.write(t, map[string]string{"compose.yaml": "services: {web: {image: '" + image + "', environment: {PASSWORD: \"pass'word\", LINES: \"a\\nb\"}, entrypoint: [/bin/sleep], command: ['1000'], init: true}}"})
	tag := func(of string) {
		if r := run("tag", of, image); r.code != 0 {
			t.Fatal(r)
		}
	}
	tag("busybox")
	p.must(t, "up", "-d", "--pull", "never")
	if got := field(p.container("web"), "{{range .Config.Env}}[{{.}}]{{end}}"); !strings.Contains(got, "[PASSWORD=pass'word]") || !strings.Contains(got, "[LINES=a") {
		t.Errorf("variables %q", got)
	}
	before := p.ids()["web"]
	p.must(t, "up", "-d")
	if p.ids()["web"] != before {
		t.Error("the same image, and it was made anew")
	}
	tag("safe-run-probe")
	r := p.compose("up", "-d", "-t", "0") // that image has no sleep
	if p.ids()["web"] == before || !strings.Contains(r.stderr, "web") {
		t.Errorf("another image: %s", r)
	}
	if left, _ := filepath.Glob(here.root + "-compose/.env-*"); len(left) > 0 {
		t.Errorf("files of variables are left: %q", left)
	}
}
