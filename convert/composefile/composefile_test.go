package composefile_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/composefile"
	"github.com/safe-run/safe-run/convert/converttest"
	"github.com/safe-run/safe-run/convert/internal/formattest"
	"github.com/safe-run/safe-run/internal/argv/argvtest"
)

func refused() []string {
	return []string{"no rules; nothing could run", "no command line says", "which YAML is"}
}

func TestEverything(t *testing.T) {
	formattest.Everything(t, composefile.Format(), refused()...)
}

// TestText: what is written for a container with a bit of everything.
func TestText(t *testing.T) {
	o := converttest.Options()
	c := converttest.Container(t, "web", o, "--name=web", "--network=app", "--network-alias=www", "-v", "data:/d", "-v", "/etc:/x:ro,exec", "--health-exec=[\"curl\",\"-f\"]", "--secret=tls=/etc/key",
		"-e", "A=$x", "--egress=none", "--ulimit=nproc=5", "img:1", "sh")
	p := formattest.Project(c)
	p.Networks = []convert.Network{{Name: "app", Internal: true}}
	files, losses, err := formattest.Export(t, composefile.Format(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	text := string(files[0].Data)
	_, body, _ := strings.Cut(text, "\nname:")
	want := ` web
services:
  web:
    image: "img:1"
    command:
      - sh
    container_name: web
    environment:
      - "A=$$x"
    cap_drop:
      - ALL
    security_opt:
      - "no-new-privileges:true"
      - "seccomp=./web.seccomp.json"
    read_only: true
    tmpfs:
      - "/tmp:size=64m,noexec,nosuid,nodev,nr_inodes=65536"
      - "/run:size=64m,noexec,nosuid,nodev,nr_inodes=65536,mode=0755"
      - "/var/tmp:size=64m,noexec,nosuid,nodev,nr_inodes=65536"
    shm_size: "64m"
    mem_limit: "512m"
    memswap_limit: "512m"
    pids_limit: 256
    ipc: private
    cgroup: private
    ulimits:
      nproc:
        soft: 5
        hard: 5
      core:
        soft: 0
        hard: 0
      nofile:
        soft: 65536
        hard: 65536
    logging:
      driver: json-file
      options:
        max-size: "10m"
        max-file: "3"
    healthcheck:
      test:
        - CMD
        - curl
        - "-f"
    networks:
      app:
        aliases:
          - www
    volumes:
      - type: volume
        source: data
        target: /d
      - type: bind
        source: /etc
        target: /x
        read_only: true
        bind:
          create_host_path: false
    secrets:
      - source: web_tls
        target: tls
    x-safe-run:
      flags:
        - "--mount=type=bind,source=/etc,target=/x,readonly,exec"
        - "--egress=none"
networks:
  app:
    name: app
    internal: true
volumes:
  data:
    name: data
secrets:
  web_tls:
    file: /etc/key
`
	if body != want {
		t.Errorf("%s", body)
	}
	if len(losses) < 5 {
		t.Errorf("%q", losses)
	}
}

// TestRead: compose files of others, in the caller's directory and from
// elsewhere.
func TestRead(t *testing.T) {
	text := "services:\n  web:\n    image: nginx:1\n    cap_drop: [ALL]\n    cap_add: [CHOWN]\n    environment:\n      A: ${X:-y}\n      B: $Y\n    volumes:\n      - ./data:/data:ro\n    depends_on: [db]\n    ports: ['80:80']\n  db:\n    image: redis:1\n    networks: {default: {}}\n"
	o := formattest.Options()
	o.Context.Cwd = t.TempDir()
	o.LookupEnv = func(name string) (string, bool) { return "from me", name == "X" }
	if err := os.Mkdir(filepath.Join(o.Context.Cwd, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := convert.File{Name: "compose.yaml", Data: []byte(text)}
	if _, _, err := composefile.Format().Read([]convert.File{file}, o); err == nil || strings.Contains(err.Error(), "safe-run-import") {
		t.Errorf("without its directory: %v", err)
	}
	if err := os.WriteFile(filepath.Join(o.Context.Cwd, "compose.yaml"), file.Data, 0o600); err != nil {
		t.Fatal(err)
	}
	file.Path = filepath.Join(o.Context.Cwd, file.Name)
	found, losses, err := composefile.Format().Read([]convert.File{file}, o)
	if err != nil || len(found) != 2 || found[0].Name != "db" || found[1].Name != "web" {
		t.Fatal(err, losses, found)
	}
	web := found[1]
	for _, want := range []string{"--cap-add=CHOWN", "--env=A=from me", "--volume=" + o.Context.Cwd + "/data:/data:ro", "--publish=80:80"} {
		if !slices.Contains(web.Flags, want) {
			t.Errorf("no %s in %q", want, web.Flags)
		}
	}
	if slices.ContainsFunc(web.Flags, func(f string) bool { return strings.Contains(f, "com.docker.compose") }) || web.Line != 2 || !slices.Equal(web.DependsOn, []convert.Dependency{{Name: "db", Condition: "started"}}) {
		t.Errorf("%+v", web)
	}
	if !slices.ContainsFunc(losses, func(l convert.Loss) bool { return strings.Contains(l.What, "compose.yaml:8") }) || !slices.ContainsFunc(losses, func(l convert.Loss) bool { return strings.HasPrefix(l.What, "network ") }) {
		t.Errorf("%q", losses)
	}
	for _, bad := range []string{"", "a: [", "services: {}", "services: {a: {image: x, frob: 1}}", "services:\n  a:\n    image: &x y\n    command: *x\n    frob: 1", "services:\n  a:\n    build: .\n"} {
		if found, _, err := composefile.Format().Read([]convert.File{{Name: "x.yaml", Data: []byte(bad)}}, o); err == nil {
			t.Errorf("%q: %+v", bad, found)
		}
	}
}

// TestChanged: an exported file that somebody wrote into is read as any other,
// with the flags that are kept.
func TestChanged(t *testing.T) {
	o := converttest.Options()
	o.Context.Cwd = t.TempDir()
	files, _, err := convert.Export(composefile.Format(), formattest.Project(converttest.Container(t, "web", o, "--egress=none", "img:1")), o)
	if err != nil {
		t.Fatal(err)
	}
	files[0].Data = []byte(strings.Replace(string(files[0].Data), "    read_only:", "    deploy: {resources: {limits: {cpus: '2'}}}\n    read_only:", 1))
	p := formattest.Import(t, composefile.Format(), files, o)
	w := p.Containers[0].Workload
	if w.Resources.NanoCPUs == nil || *w.Resources.NanoCPUs != 2e9 || w.Egress.Mode != "none" {
		t.Errorf("%+v", w)
	}
}

// FuzzRead: any text is containers or an error.
func FuzzRead(f *testing.F) {
	for _, s := range []string{
		"services:\n  a:\n    image: b\n", "name: x\nservices: {a: {image: \"b$$\", x-safe-run: {flags: [--egress=none]}, network_mode: none, volumes: [{type: bind, source: /, target: /x}]}}",
		"services: {a: {image: b, x-safe-run: {flags: []}, networks: {n: {gw_priority: 2}, m: }, secrets: [{source: s}], ulimits: {core: 0}, depends_on: {b: {condition: x}}}}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if strings.Contains(string(data), "include") || strings.Contains(string(data), "file") {
			return // files of this host
		}
		formattest.Reads(t, composefile.Format(), "x.yaml", data)
	})
}

// FuzzLine: any command line that is taken is written and comes back.
func FuzzLine(f *testing.F) {
	for _, l := range argvtest.Lines() {
		f.Add(strings.ReplaceAll(strings.ReplaceAll(l, " ", "\x00"), "~", " "))
	}
	f.Fuzz(func(t *testing.T, text string) { formattest.Comes(t, composefile.Format(), text, refused()...) })
}
