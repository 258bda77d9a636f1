package compose

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/policy"
)

// words are the flags of a service but compose's own labels, D for the directory.
func words(s Service, d string) []string {
	var out []string
	for _, f := range s.Flags {
		if !strings.HasPrefix(f.Word, "--label="+reserved) {
			out = append(out, strings.ReplaceAll(f.Word, d, "D"))
		}
	}
	return out
}

func service(t testing.TB, p *Project, name string) Service {
	t.Helper()
	i := slices.IndexFunc(p.Services, func(s Service) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("there is no service %s", name)
	}
	return p.Services[i]
}

// TestFlags are services, from image: on, and exactly the flags they become.
func TestFlags(t *testing.T) {
	d := dir(t, map[string]string{
		"f": "x", "seccomp.json": "{}", "one.env": "A=1\nB=${A}2\nC=\"three $SET\"\n", "two.env": "A=2\nraw=${A} 'x'\n", "data/x": "",
	})
	for _, c := range []struct{ name, body, want string }{
		{"nothing", "", "--name=p-a-1 --network=p_default --network-alias=a"},
		{"name", "container_name: web", "--name=web --network=p_default --network-alias=a"},
		{"capabilities", "cap_drop: [ALL]; cap_add: [CHOWN, SETUID]", "--name=p-a-1 --cap-add=CHOWN --cap-add=SETUID --cap-drop=ALL --network=p_default --network-alias=a"},
		{
			"ports", "ports: ['80', '8080:80', '127.0.0.1:9000-9001:9000-9001/udp', '[::1]:5:5', '7000-7002:7000', {target: 443, published: '8443', host_ip: 10.0.0.1, protocol: tcp}, {target: 5, host_ip: 10.0.0.1}]; network_mode: bridge",
			"--name=p-a-1 --network=bridge --publish=80 --publish=8080:80 --publish=127.0.0.1:9000:9000/udp --publish=127.0.0.1:9001:9001/udp --publish=[::1]:5:5 --publish=7000-7002:7000 --publish=10.0.0.1:8443:443 --publish=10.0.0.1::5",
		},
		{
			"tmpfs", "tmpfs: ['/run:size=64m,mode=1777,uid=5,gid=6', /tmp]; volumes: [{type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 0700}}]; network_mode: none",
			"--name=p-a-1 --tmpfs=/run:size=64m,mode=1777,uid=5,gid=6 --tmpfs=/tmp --network=none --tmpfs=/t:size=1048576,mode=0700",
		},
		{
			"volumes", "volumes: ['./data:/d:ro', 'vol:/v', /anon, {type: bind, source: ./data, target: /e, read_only: true, bind: {propagation: rslave}}, {type: volume, source: vol, target: /w, volume: {nocopy: true}}, {type: volume, source: vol, target: /x, volume: {subpath: s}}, {type: bind, source: ./data, target: '/with:colon'}]; network_mode: none",
			"--name=p-a-1 --network=none --volume=D/data:/d:ro --volume=p_vol:/v --volume=/anon --volume=D/data:/e:ro,rslave --volume=p_vol:/w:nocopy --mount=type=volume,source=p_vol,target=/x,volume-subpath=s --mount=type=bind,source=D/data,target=/with:colon",
		},
		{
			"security", "security_opt: ['no-new-privileges:true', 'seccomp:seccomp.json', 'apparmor=x', 'label:disable', 'seccomp=unconfined']; network_mode: none",
			"--name=p-a-1 --security-opt=no-new-privileges=true --security-opt=seccomp=D/seccomp.json --security-opt=apparmor=x --security-opt=label=disable --security-opt=seccomp=unconfined --network=none",
		},
		{
			"dangerous", "privileged: true; network_mode: host; pid: host; ipc: host; userns_mode: host; volumes: ['/:/host', '/var/run/docker.sock:/s']",
			"--name=p-a-1 --userns=host --pid=host --ipc=host --privileged=true --network=host --volume=/:/host --volume=/var/run/docker.sock:/s",
		},
		{
			"limits", "deploy: {resources: {limits: {cpus: '0.50', memory: 512M, pids: 9}, reservations: {memory: 256M}}}; network_mode: none",
			"--name=p-a-1 --memory=536870912 --memory-reservation=268435456 --pids-limit=9 --cpus=0.5 --network=none",
		},
		{
			"limits at both places", "pids_limit: 100; mem_limit: 1g; deploy: {resources: {limits: {cpus: '2'}}}; network_mode: none",
			"--name=p-a-1 --memory=1073741824 --pids-limit=100 --cpus=2 --network=none",
		},
		{
			"limits of old", "mem_limit: 64m; memswap_limit: 64m; mem_reservation: 32m; cpus: 1.5; cpu_shares: 5; cpuset: 0,1; pids_limit: 5; shm_size: 1m; ulimits: {nproc: 5, nofile: {soft: 1, hard: 2}}; network_mode: none",
			"--name=p-a-1 --cpuset-cpus=0,1 --memory=67108864 --memory-swap=67108864 --memory-reservation=33554432 --pids-limit=5 --cpu-shares=5 --shm-size=1048576 --cpus=1.5 --ulimit=nofile=1:2 --ulimit=nproc=5 --network=none",
		},
		{
			"health", "healthcheck: {test: [CMD, curl, -f, 'http://x?a&b'], interval: 1m30s, timeout: 10s, retries: 3, start_period: 40s}; network_mode: none",
			`--name=p-a-1 --network=none --health-exec=["curl","-f","http://x?a&b"] --health-interval=1m30s --health-timeout=10s --health-start-period=40s --health-retries=3`,
		},
		{"health in a shell", "healthcheck: {test: wget -q x || exit 1}; network_mode: none", "--name=p-a-1 --network=none --health-cmd=wget -q x || exit 1"},
		{"health CMD-SHELL", "healthcheck: {test: [CMD-SHELL, wget]}; network_mode: none", "--name=p-a-1 --network=none --health-cmd=wget"},
		{"health NONE", "healthcheck: {test: [NONE]}; network_mode: none", "--name=p-a-1 --network=none --no-healthcheck=true"},
		{
			"environment", "env_file: [one.env, {path: two.env, format: raw}, {path: none.env, required: false}]; environment: {A: over, SET: , UNSET: }; network_mode: none",
			"--name=p-a-1 --env=A=over --env=B=12 --env=C=three value --env=SET=value --env=UNSET --env=raw=${A} 'x' --network=none",
		},
		{
			"words", "hostname: h; domainname: d; user: 1:2; working_dir: /w; stop_signal: INT; stop_grace_period: 1m; init: true; tty: true; stdin_open: true; platform: linux/amd64; group_add: [5]; read_only: true; network_mode: none",
			"--name=p-a-1 --hostname=h --domainname=d --user=1:2 --workdir=/w --platform=linux/amd64 --stop-signal=INT --tty=true --interactive=true --read-only=true --init=true --stop-timeout=60 --group-add=5 --network=none",
		},
		{
			"secrets", "secrets: [s, {source: s, target: other, uid: '5', gid: '6', mode: 0440}, {source: s, target: /run/secrets/third}, {source: s, target: /etc/s}, e]; network_mode: none",
			"--name=p-a-1 --network=none --secret=id=s,src=D/f --secret=id=other,src=D/f,uid=5,gid=6,mode=0440 --secret=id=third,src=D/f --volume=D/f:/etc/s:ro --secret=id=e,src=/content/secret-e",
		},
		{"configs", "configs: [c, {source: i, target: /etc/i}]; network_mode: none", "--name=p-a-1 --network=none --volume=D/f:/c:ro --volume=/content/config-i:/etc/i:ro"},
		{"networks", "networks: {net: {aliases: [x, a], ipv4_address: 10.0.0.9}, in: {}}", "--name=p-a-1 --network=name=p_in,alias=a --network=name=p_net,alias=a,alias=x,ip=10.0.0.9"},
		{"one network", "networks: {ext: {aliases: [x], ipv4_address: 10.0.0.9, mac_address: '02:42:ac:11:65:43'}}", "--name=p-a-1 --network=Out --network-alias=a --network-alias=x --ip=10.0.0.9 --mac-address=02:42:ac:11:65:43"},
		{"joins", "network_mode: service:b; pid: service:b; ipc: service:b; volumes_from: ['b:ro', 'container:z']", "--name=p-a-1 --pid=container:p-b-1 --ipc=container:p-b-1 --volumes-from=p-b-1:ro --volumes-from=z --network=container:p-b-1"},
		{"restart", "restart: on-failure:3; network_mode: none", "--name=p-a-1 --restart=on-failure:3 --network=none"},
		{"restart of deploy", "deploy: {restart_policy: {condition: on-failure, max_attempts: 3, delay: 5s}}; restart: always; network_mode: none", "--name=p-a-1 --restart=on-failure:3 --network=none"},
		{"build", "build: .; network_mode: none", "--name=p-a-1 --pull=never --network=none"},
		{"pull", "pull_policy: if_not_present; network_mode: none", "--name=p-a-1 --pull=missing --network=none"},
		{"dollars", "hostname: ${NAME:-x$$y}; domainname: '$SET'; network_mode: none", "--name=p-a-1 --hostname=x$y --domainname=value --network=none"},
		{"labels", "labels: {b: '2', a: '1'}; annotations: {k: v}; sysctls: {net.core.somaxconn: 9}; network_mode: none", "--name=p-a-1 --annotation=k=v --sysctl=net.core.somaxconn=9 --label=a=1 --label=b=2 --network=none"},
		{"names", "dns: [1.1.1.1]; dns_search: x.org; dns_opt: [ndots:2]; extra_hosts: ['h:10.0.0.1', 'six=::1']; expose: ['80']; networks: [net]", "--name=p-a-1 --dns=1.1.1.1 --dns-search=x.org --dns-option=ndots:2 --expose=80 --add-host=h:10.0.0.1 --add-host=six:::1 --network=p_net --network-alias=a"},
		{"logging", "logging: {driver: json-file, options: {max-size: 10m}}; network_mode: none", "--name=p-a-1 --log-driver=json-file --log-opt=max-size=10m --network=none"},
		{"devices", "devices: ['/dev/fuse:/dev/x:rw']; device_cgroup_rules: ['c 1:3 r']; gpus: all; network_mode: none", "--name=p-a-1 --device-cgroup-rule=c 1:3 r --device=/dev/fuse:/dev/x:rw --gpus=count=all --network=none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := "networks: {net: {}, in: {internal: true}, ext: {external: true, name: Out}}\nvolumes: {vol: }\nsecrets: {s: {file: f}, e: {environment: SET}}\nconfigs: {c: {file: f}, i: {content: hello}}\n" +
				"services:\n  b: {image: y}\n  a:\n    image: x\n    " + strings.ReplaceAll(c.body, "; ", "\n    ") + "\n"
			if err := os.WriteFile(filepath.Join(d, "compose.yaml"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			p, err := load(t, d)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(words(service(t, p, "a"), d), " "); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestCommands(t *testing.T) {
	for _, c := range []struct {
		body string
		flag string
		args []string
	}{
		{"command: sh -c 'echo hi'", "", []string{"sh", "-c", "echo hi"}},
		{"command: [a, 'b c']", "", []string{"a", "b c"}},
		{"entrypoint: [/e, x]\n    command: [y]", "--entrypoint=/e", []string{"x", "y"}},
		{"entrypoint: /e --flag", "--entrypoint=/e", []string{"--flag"}},
		{"entrypoint: ''\n    command: [y]", "--entrypoint=", []string{"y"}},
		{"command: echo $$HOME $SET", "", []string{"echo", "$HOME", "value"}},
	} {
		p, err := load(t, dir(t, map[string]string{"compose.yml": "services:\n  a:\n    image: x\n    " + c.body + "\n"}))
		if err != nil {
			t.Fatal(err)
		}
		s := p.Services[0]
		flag := ""
		for _, f := range s.Flags {
			if strings.HasPrefix(f.Word, "--entrypoint") {
				flag = f.Word
			}
		}
		if flag != c.flag || !slices.Equal(s.Args, c.args) {
			t.Errorf("%s: %q %q", c.body, flag, s.Args)
		}
	}
}

// TestPlaces finds lines through merges, overrides, extends and includes.
func TestPlaces(t *testing.T) {
	d := dir(t, map[string]string{
		"compose.yaml":                "include: [sub/inc.yaml]\nx-c: &c\n  cap_drop: [ALL]\n  cap_add:\n    - CHOWN\nservices:\n  web:\n    <<: *c\n    extends:\n      file: base.yaml\n      service: base\n    image: x\n    ports: ['80:80']\n",
		"docker-compose.yaml":         "services: {wrong: {image: x}}\n",
		"compose.override.yaml":       "services:\n  web:\n    cap_add:\n      - SETUID\n    hostname: over\n",
		"base.yaml":                   "services:\n  base:\n    extends: deeper\n    user: '5'\n  deeper:\n    pid: host\n",
		"sub/inc.yaml":                "services:\n  inc:\n    image: y\n    privileged: true\n    env_file: e.env\n",
		"sub/e.env":                   "A=1\n",
		"sub/.env":                    "",
		"deep/below/compose.nope":     "",
		"docker-compose.override.yml": "services: {web: {user: nobody}}\n",
	})
	p, err := Load(t.Context(), Options{Dir: filepath.Join(d, "deep/below"), ProjectName: "p"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"--cap-add=CHOWN":   "compose.yaml:5 services.web.cap_add[0]",
		"--cap-add=SETUID":  "compose.override.yaml:4 services.web.cap_add[0]",
		"--cap-drop=ALL":    "compose.yaml:3 services.web.cap_drop[0]",
		"--hostname=over":   "compose.override.yaml:5 services.web.hostname",
		"--user=5":          "base.yaml:4 services.web.user",
		"--pid=host":        "base.yaml:6 services.web.pid",
		"--publish=80:80":   "compose.yaml:13 services.web.ports[0]",
		"--privileged=true": "sub/inc.yaml:4 services.inc.privileged",
		"--env=A=1":         "sub/inc.yaml:5 services.inc.env_file",
	}
	for _, s := range p.Services {
		for _, f := range s.Flags {
			if w, ok := want[f.Word]; ok {
				delete(want, f.Word)
				if got := relative(d, f.Place.File) + ":" + strings.TrimPrefix(f.Place.String(), f.Place.File+":") + " " + f.Key; got != w {
					t.Errorf("%s: %s, want %s", f.Word, got, w)
				}
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("not there: %v", want)
	}
	if len(p.Files) != 4 || p.Dir != d {
		t.Errorf("files %v, directory %s", p.Files, p.Dir)
	}
}

func TestProject(t *testing.T) {
	d := dir(t, map[string]string{
		"compose.yaml": "name: shop\nservices:\n  web: {image: w, depends_on: {api: {condition: service_healthy}}, networks: [front]}\n  api: {image: a, links: ['db:sql'], networks: [front, back], volumes: ['data:/d']}\n" +
			"  db: {image: d, networks: [back], profiles: ['']}\n  debug: {image: x, profiles: [debug]}\n" +
			"networks: {front: {}, back: {internal: true, enable_ipv6: true, labels: {a: b}, ipam: {config: [{subnet: 10.9.0.0/24}]}}, unused: {driver: overlay}, old: {external: true}}\nvolumes: {data: {}, more: {}}\n",
	})
	if _, err := Load(t.Context(), Options{Dir: d}); err == nil { // an empty profile is no profile of anybody's
		t.Fatal("db is off and needed")
	}
	file := filepath.Join(d, "compose.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), ", profiles: ['']", "", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := Load(t.Context(), Options{Dir: d})
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, s := range p.Services {
		order = append(order, s.Name)
	}
	if !slices.Equal(order, []string{"db", "api", "web"}) || p.Name != "shop" {
		t.Errorf("%s %v", p.Name, order)
	}
	if len(p.Networks) != 2 || len(p.Volumes) != 1 || p.Volumes[0].Name != "shop_data" {
		t.Errorf("%+v %+v", p.Networks, p.Volumes)
	}
	back := p.Networks[0]
	if back.Name != "shop_back" || !back.Internal || !back.IPv6 || !slices.Equal(back.Subnets, []string{"10.9.0.0/24"}) || back.Labels["a"] != "b" || back.Labels[reserved+"network"] != "back" {
		t.Errorf("%+v", back)
	}
	db := service(t, p, "db")
	if !slices.Contains(words(db, d), "--network-alias=sql") || !slices.Contains(words(db, d), "--network-alias=db") {
		t.Errorf("a link is no alias: %q", words(db, d))
	}
	if web := service(t, p, "web"); !reflect.DeepEqual(web.DependsOn, []Dependency{{"api", "service_healthy", true, false}}) || !slices.Equal(web.Networks, []string{"shop_front"}) {
		t.Errorf("%+v", web)
	}
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var again Project
	if err := json.Unmarshal(data, &again); err != nil || !reflect.DeepEqual(*p, again) {
		t.Errorf("JSON loses something: %v", err)
	}
	on, err := Load(t.Context(), Options{Dir: d, Profiles: []string{"debug"}})
	if err != nil || len(on.Services) != 4 {
		t.Errorf("profile debug: %v", err)
	}
	if !strings.Contains(string(p.Config), "shop_back") {
		t.Errorf("%s", p.Config)
	}
}

// TestHash: what decides how a service runs changes it, and nothing else.
func TestHash(t *testing.T) {
	d := dir(t, map[string]string{"f": "1"})
	hash := func(text string) string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(d, "compose.yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		p, err := load(t, d)
		if err != nil {
			t.Fatal(err)
		}
		s := service(t, p, "a")
		if !slices.ContainsFunc(s.Flags, func(f Flag) bool { return f.Word == "--label=com.docker.compose.config-hash="+s.Hash }) || len(s.Hash) != 64 {
			t.Errorf("no label has the hash %q", s.Hash)
		}
		return s.Hash
	}
	base := "configs: {c: {file: f}}\nservices:\n  a: {image: x, configs: [c]}\n"
	first := hash(base)
	if hash("# comment\n"+base) != first || hash(base+"  b: {image: y}\n") != first {
		t.Error("it changes with what is none of its own")
	}
	if hash(strings.Replace(base, "image: x", "image: y", 1)) == first || hash(strings.Replace(base, "image: x", "image: x, command: y", 1)) == first {
		t.Error("it does not change")
	}
	if err := os.WriteFile(filepath.Join(d, "f"), []byte("2"), 0o644); err != nil {
		t.Fatal(err)
	}
	if hash(base) == first {
		t.Error("it does not change with the file of a config")
	}
}

func TestJudge(t *testing.T) {
	d := dir(t, map[string]string{"compose.yaml": `services:
  web:
    image: nginx
    privileged: true
    cap_add:
      - CHOWN
      - SYS_TIME
      - NET_ADMIN
    volumes:
      - /:/host
      - /var/run/docker.sock:/s
    pid: host
  ok:
    image: nginx
    cap_add: [NET_BIND_SERVICE]
`})
	p, err := load(t, d)
	if err != nil {
		t.Fatal(err)
	}
	refused, err := Judge(p, policy.Site{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range refused {
		got = append(got, r.Service+" "+r.Place.String()+" "+r.Key+" "+r.ID)
	}
	slices.Sort(got)
	for _, want := range []string{
		"web compose.yaml:4 services.web.privileged privileged", "web compose.yaml:8 services.web.cap_add[2] capability",
		"web compose.yaml:10 services.web.volumes[0] bind-root", "web compose.yaml:11 services.web.volumes[1] engine-socket", "web compose.yaml:12 services.web.pid pid-host",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("not refused: %s", want)
		}
	}
	for _, g := range got {
		if strings.HasPrefix(g, "ok ") || !strings.Contains(g, "services.web.") {
			t.Error(g)
		}
	}
}

// TestJudgeReads: what run could not read is an error with its line.
func TestJudgeReads(t *testing.T) {
	p, err := load(t, dir(t, map[string]string{"compose.yaml": "services:\n  a:\n    image: x\n    restart: sometimes\n    user: 'a:b:c'\n    tmpfs:\n      - /ok\n      - relative\n"}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Judge(p, policy.Site{})
	if fail.KindOf(err) != fail.Usage {
		t.Fatalf("%v", err)
	}
	var ps Problems
	errors.As(err, &ps)
	var at []string
	for _, p := range ps {
		at = append(at, p.Place.String()+" "+p.Key)
	}
	if want := []string{"compose.yaml:4 services.a.restart", "compose.yaml:5 services.a.user", "compose.yaml:8 services.a.tmpfs[1]"}; !slices.Equal(at, want) {
		t.Errorf("%q", at)
	}
}
