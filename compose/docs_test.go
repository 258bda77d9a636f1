package compose

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/policy"
)

// docTable is the table of keys as the documentation has it.
func docTable() string {
	var b strings.Builder
	for _, r := range rows() {
		var keys []string
		for k := range strings.FieldsSeq(r.keys) {
			k, _ = strings.CutSuffix(k, ".**")
			keys = append(keys, "`"+k+"`")
		}
		says := r.to
		if r.why != "" {
			says = r.why
		}
		under := "the file"
		if r.under != "" {
			under = "`" + r.under + "`"
		}
		b.WriteString("| " + under + " | " + strings.Join(keys, " ") + " | " + r.how.String() + " | " + strings.ReplaceAll(says, "|", "\\|") + " |\n")
	}
	return b.String()
}

func TestDocumentedKeys(t *testing.T) {
	const file, mark = "../docs/compose.md", "|---|---|---|---|\n"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), mark)
	table, after, _ := strings.Cut(rest, "\n\n")
	if ok && table+"\n" == docTable() {
		return
	}
	if os.Getenv("UPDATE_DOCS") != "" && ok {
		if err := os.WriteFile(file, []byte(before+mark+docTable()+"\n"+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("the keys in %s are not those of the code; run: UPDATE_DOCS=1 go test ./compose", file)
}

// TestDocumentedExamples: the YAML of the documentation loads, and nothing of
// it is refused.
func TestDocumentedExamples(t *testing.T) {
	data, err := os.ReadFile("../docs/compose.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(data), "```yaml\n")[1:]
	if len(blocks) == 0 {
		t.Fatal("no examples")
	}
	for _, block := range blocks {
		text, _, _ := strings.Cut(block, "```")
		p, err := load(t, dir(t, map[string]string{"compose.yaml": text, "site/x": "", "key.txt": ""}))
		if err != nil {
			t.Errorf("%v\n%s", err, text)
			continue
		}
		if refused, err := Judge(p, policy.Site{}); err != nil || len(refused) > 0 {
			t.Errorf("%v %v\n%s", refused, err, text)
		}
	}
}

// TestTypicalFiles are the four kinds of files tutorials have, as they write
// them: what is refused of them is what the text says is.
func TestTypicalFiles(t *testing.T) {
	for _, c := range []struct {
		name, text string
		flags      []string // some of them
		refused    []string // KEY ID GRANT
	}{
		{"web server", `version: "3.8"
services:
  web:
    image: nginx:alpine
    cap_drop:
      - ALL
    cap_add:
      - CHOWN
      - SETGID
      - SETUID
      - NET_BIND_SERVICE
    security_opt:
      - no-new-privileges:true
    read_only: true
    tmpfs:
      - /var/cache/nginx
      - /var/run
    ports:
      - "8080:80"
    restart: unless-stopped
`, []string{"--cap-drop=ALL", "--cap-add=NET_BIND_SERVICE", "--security-opt=no-new-privileges=true", "--read-only=true", "--tmpfs=/var/cache/nginx", "--publish=8080:80", "--restart=unless-stopped"}, nil},
		{"secure api", `services:
  api:
    image: example/api:1
    user: "1000:1000"
    read_only: true
    cap_drop: [ALL]
    tmpfs:
      - /tmp:size=64m,mode=1777,uid=1000,gid=1000,noexec
    pids_limit: 100
    deploy:
      resources:
        limits:
          cpus: '0.50'
          memory: 512M
        reservations:
          memory: 128M
    networks: [internal]
    secrets: [db_password]
    depends_on:
      db:
        condition: service_healthy
    healthcheck:
      test: ["CMD", "curl", "-f", "http://localhost:8080/health"]
      interval: 30s
      timeout: 10s
      retries: 3
      start_period: 40s
  db:
    image: redis:7
    networks: [internal]
    healthcheck: {test: redis-cli ping, interval: 5s}
networks:
  internal:
    internal: true
secrets:
  db_password:
    file: ./key.txt
`, []string{"--user=1000:1000", "--tmpfs=/tmp:size=64m,mode=1777,uid=1000,gid=1000,noexec", "--pids-limit=100", "--memory=536870912", "--cpus=0.5", "--memory-reservation=134217728", "--network=p_internal", "--network-alias=api", "--secret=id=db_password,src=D/key.txt", `--health-exec=["curl","-f","http://localhost:8080/health"]`}, nil},
		{"tools", `services:
  tcpdump:
    image: tcpdump
    cap_drop: [ALL]
    cap_add: [NET_RAW, NET_ADMIN]
    command: -i any -c 10
  chrony:
    image: chrony
    cap_add:
      - SYS_TIME
`, []string{"--cap-add=NET_RAW", "--cap-add=NET_ADMIN", "--cap-add=SYS_TIME"}, []string{
			"compose.yaml:10 services.chrony.cap_add[0]", "compose.yaml:10 services.chrony.cap_add[0]", "compose.yaml:5 services.tcpdump.cap_add[1]",
		}},
		{"node", `version: '3'
services:
  app:
    image: node:20
    working_dir: /app
    user: node
    environment:
      - NODE_ENV=production
    volumes:
      - ./site:/app:ro
    command: node server.js
    mem_limit: 256m
    cpus: 0.5
    ulimits:
      nofile: {soft: 1024, hard: 2048}
    restart: unless-stopped
    logging:
      driver: json-file
      options: {max-size: "10m", max-file: "3"}
`, []string{"--workdir=/app", "--user=node", "--env=NODE_ENV=production", "--volume=D/site:/app:ro", "--memory=268435456", "--cpus=0.5", "--ulimit=nofile=1024:2048", "--restart=unless-stopped", "--log-opt=max-file=3"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := dir(t, map[string]string{"compose.yaml": c.text, "key.txt": "k", "site/server.js": ""})
			p, err := load(t, d)
			if err != nil {
				t.Fatal(err)
			}
			var all []string
			for _, s := range p.Services {
				all = append(all, words(s, d)...)
			}
			for _, f := range c.flags {
				if !slices.Contains(all, f) {
					t.Errorf("no %s in %q", f, all)
				}
			}
			refused, err := Judge(p, policy.Site{})
			if err != nil {
				t.Fatal(err)
			}
			var at []string
			for _, r := range refused {
				at = append(at, r.Place.String()+" "+r.Key)
				if r.GivesAway == "" || r.Image == "" {
					t.Errorf("%+v", r)
				}
			}
			slices.Sort(at)
			if !slices.Equal(at, c.refused) {
				t.Errorf("refused %q, want %q", at, c.refused)
			}
		})
	}
}
