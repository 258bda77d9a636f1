package policy

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

const fullFile = `# everything the format has
version: 1
limits:
  default: {memory: 256m, pids: 100, nofile: 4096, shm: 32m, tmpfs: 16m}
  max: {memory: 8g, pids: 4096, nofile: 1048576, shm: 1g, tmpfs: 1.5GiB, cpus: 4, log: 100m}
registries: [docker.io, "registry.example:5000"]
require-digest: true
publish-address: 127.0.0.1
require-lsm: true
allow-old-runtime: true
networks: [front, back]
grants:
  - image: quay.io/vendor/vpn
    profile: vpn
    capabilities: [NET_ADMIN]
    devices: [{path: /dev/net/tun, permissions: rw}]
    binds: [{source: /etc/vpn, readonly: true}]
    sysctls: [net.ipv4.ip_forward]
    annotations: [com.example.note]
    allow: [writable-rootfs]
  - image: docker.io/library/nginx@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    allow: [new-privileges]
  - image: quay.io/tools/*
    allow: [pids-unlimited]
`

func TestFullFile(t *testing.T) {
	s, err := ParseSite([]byte(fullFile), "/p.yaml")
	if err != nil {
		t.Fatal(err)
	}
	l := s.Limits()
	want := spec.Limits{
		Memory: 256 << 20, MaxMemory: 8 << 30, Pids: 100, MaxPids: 4096, Nofile: 4096, MaxNofile: 1 << 20,
		Shm: 32 << 20, MaxShm: 1 << 30, Tmpfs: 16 << 20, MaxTmpfs: 3 << 29, TmpfsInodes: spec.DefaultLimits().TmpfsInodes, MaxCPUs: 4,
		MaxLog: 100 << 20,
	}
	if l != want {
		t.Errorf("limits %+v", l)
	}
	g := s.Grants
	if len(g) != 3 || g[0].Capabilities[0] != "CAP_NET_ADMIN" || g[0].Devices[0] != (DeviceGrant{"/dev/net/tun", "rw"}) ||
		g[0].Binds[0] != (BindGrant{"/etc/vpn", true}) || g[0].Profile != "vpn" {
		t.Errorf("grants %+v", g)
	}
	if !s.RequireDigest || !s.RequireLSM || !s.AllowOldRuntime || s.PublishAddress != "127.0.0.1" || len(s.Networks) != 2 || len(s.Registries) != 2 || s.Path() != "/p.yaml" {
		t.Errorf("%+v", s)
	}
	var b bytes.Buffer
	if err := s.WriteShow(&b); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"/p.yaml", "256MiB", "quay.io/vendor/vpn", "CAP_NET_ADMIN", "/dev/net/tun:rw", "/etc/vpn:ro", "writable-rootfs", "privileged", "never", "127.0.0.1"} {
		if !strings.Contains(b.String(), text) {
			t.Errorf("show has no %q:\n%s", text, b.String())
		}
	}
}

func TestBuiltIn(t *testing.T) {
	s, err := LoadSite(filepath.Join(t.TempDir(), "none.yaml"))
	if err != nil || s.Path() != "" || s.Limits() != spec.DefaultLimits() || len(s.Grants) > 0 {
		t.Errorf("%+v %v", s, err)
	}
	if s, err = LoadSite(filepath.Join(t.TempDir(), "no/such/dir.yaml")); err != nil || s.Path() != "" {
		t.Errorf("%+v %v", s, err)
	}
	var b bytes.Buffer
	if err := s.WriteShow(&b); err != nil || !strings.Contains(b.String(), "built-in") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

func TestLowerMaximumLowersTheBuiltInDefault(t *testing.T) {
	s, err := ParseSite([]byte("version: 1\nlimits: {max: {memory: 128m, shm: 16m}}"), "t")
	if err != nil || s.Limits().Memory != 128<<20 || s.Limits().Shm != 16<<20 {
		t.Errorf("%+v %v", s.Limits(), err)
	}
}

func TestFilesThatAreWrong(t *testing.T) {
	deepFlow := "version: 1\nregistries: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	deepBlock := "version: 1\nregistries:\n" + strings.Repeat("- ", 100000) + "x"
	lines := []string{"version: 1", "registries:"}
	for i := range 1000 {
		lines = append(lines, strings.Repeat(" ", i)+"-")
	}
	bomb := "version: 1\na: &a [x,x,x,x,x,x,x,x,x]\n"
	for _, c := range []string{"b", "c", "d", "e", "f", "g", "h", "i"} {
		bomb += c + ": &" + c + " [" + strings.Repeat("*"+string(c[0]-1)+",", 9) + "]\n"
	}
	grant := func(text string) string { return "version: 1\ngrants:\n- image: busybox\n  " + text }

	for _, c := range []struct{ name, file, says string }{
		{"empty", "", "empty"},
		{"comment", "# nothing\n", "empty"},
		{"no version", "require-lsm: true", "version"},
		{"version 2", "version: 2", "version"},
		{"version as text", "version: one", ":1"},
		{"list", "- version: 1", "keys"},
		{"scalar", "hello", "keys"},
		{"unknown key", "version: 1\nrequire-lms: true", ":2: unknown field \"require-lms\""},
		{"unknown key in a grant", grant("caps: [NET_ADMIN]"), ":4: unknown field \"caps\""},
		{"unknown limit", "version: 1\nlimits: {max: {mem: 1g}}", "unknown field"},
		{"case", "Version: 1", "unknown field"},
		{"twice", "version: 1\nrequire-lsm: true\nrequire-lsm: false", ":3"},
		{"twice in a grant", grant("allow: [pid-host]\n  allow: []"), ":5"},
		{"anchor", "version: &v 1", "anchors"},
		{"alias bomb", bomb, "anchors"},
		{"merge", "version: 1\nlimits:\n  <<: {max: {pids: 1}}", "anchors"},
		{"tag", "version: !!int 1", "tags"},
		{"binary", "version: 1\nregistries: [!!binary aGk=]", "tags"},
		{"null", "version: 1\ngrants:\n", "without a value"},
		{"null item", "version: 1\nregistries: [~]", "without a value"},
		{"two documents", "version: 1\n---\nversion: 1\n", "second document"},
		{"deep flow", deepFlow, "deeply"},
		{"deep block", deepBlock, "deeply"},
		{"deep lines", strings.Join(lines, "\n"), "deeply"},
		{"huge", "version: 1\n#" + strings.Repeat("x", maxFile), "1 MiB"},
		{"broken", "version: [1", ""},
		{"tab", "version:\n\t1", ""},
		{"not text", "\x00\xff\xfe", ""},
		{"escape", "version: 1\n\"\\e[31mred\": 1", "unknown field"},

		{"size", "version: 1\nlimits: {max: {memory: lots}}", "not a size"},
		{"negative size", "version: 1\nlimits: {max: {memory: -1}}", "not a size"},
		{"tiny memory", "version: 1\nlimits: {default: {memory: 1m}}", "6m"},
		{"zero pids", "version: 1\nlimits: {default: {pids: 0}}", "more than 0"},
		{"default over maximum", "version: 1\nlimits: {default: {pids: 9}, max: {pids: 8}}", "more than the maximum"},
		{"default cpus", "version: 1\nlimits: {default: {cpus: 1}}", "no default"},
		{"nan cpus", "version: 1\nlimits: {max: {cpus: .nan}}", "cpus"},
		{"registry", "version: 1\nregistries: [docker.io/library]", "not a host name"},
		{"address", "version: 1\npublish-address: localhost", "not an IP"},
		{"address with a zone", "version: 1\npublish-address: 'fe80::1%eth0'", "not an IP"},
		{"address of many", "version: 1\npublish-address: 224.0.0.1", "not an IP"},
		{"address in capitals", "version: 1\npublish-address: Required", "not an IP"},
		{"address with a port", "version: 1\npublish-address: '127.0.0.1:80'", "not an IP"},
		{"default network", "version: 1\nnetworks: [default]", "called bridge"},
		{"network of a container", "version: 1\nnetworks: ['container:x']", "not the name"},
		{"network in a path", "version: 1\nnetworks: [../x]", "not the name"},
		{"network", "version: 1\nnetworks: [host]", "not the name"},

		{"no image", "version: 1\ngrants: [{allow: [pid-host]}]", "image: missing"},
		{"all images", "version: 1\ngrants: [{image: '*', allow: [pid-host]}]", "not a repository"},
		{"tag in grant", "version: 1\ngrants: [{image: 'busybox:latest'}]", "tag"},
		{"digest and wildcard", "version: 1\ngrants: [{image: 'busybox@sha256:" + strings.Repeat("a", 64) + "/*'}]", "wildcard"},
		{"short digest", "version: 1\ngrants: [{image: 'busybox@sha256:aa'}]", "not a repository"},
		{"cap ALL", grant("capabilities: [ALL]"), "never granted"},
		{"cap all", grant("capabilities: [cap_all]"), "never granted"},
		{"no cap", grant("capabilities: [ROOT]"), "not a capability"},
		{"cap for nothing", grant("capabilities: [SYS_TIME]"), "userns-host"},
		{"privileged", grant("allow: [privileged]"), "never granted"},
		{"bind-root", grant("allow: [bind-root]"), "never granted"},
		{"engine socket id", grant("allow: [engine-socket]"), "never granted"},
		{"systempaths", grant("allow: [systempaths-unconfined]"), "never granted"},
		{"wrong key", grant("allow: [capability]"), "granted by capabilities"},
		{"no id", grant("allow: [everything]"), "not an id"},
		{"bind /", grant("binds: [{source: /}]"), "never granted"},
		{"bind socket", grant("binds: [{source: /run/docker.sock}]"), "never granted"},
		{"bind dots", grant("binds: [{source: /etc/../}]"), "absolute path"},
		{"bind relative", grant("binds: [{source: etc}]"), "absolute path"},
		{"device", grant("devices: [{path: /etc/passwd}]"), "below /dev"},
		{"device perms", grant("devices: [{path: /dev/fuse, permissions: rwx}]"), "permissions"},
		{"sysctl", grant("sysctls: [kernel.core_pattern]"), "whole host"},
		{"sysctl slashes", grant("sysctls: [kernel/core_pattern]"), "whole host"},
		{"annotation", grant("annotations: [org.systemd.property.TasksMax]"), "never granted"},
		{"profile", grant("profile: ../x"), "profile"},
	} {
		start := time.Now()
		s, err := ParseSite([]byte(c.file), "/p.yaml")
		if err == nil {
			t.Errorf("%s: accepted: %+v", c.name, s)
			continue
		}
		if !strings.Contains(err.Error(), c.says) || fail.KindOf(err) != fail.Refused {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
		if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' }) {
			t.Errorf("%s: control characters: %q", c.name, err)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("%s: took %v", c.name, d)
		}
	}
}

// All errors of meaning come at once.
func TestAllErrorsOfAFile(t *testing.T) {
	_, err := ParseSite([]byte("version: 2\npublish-address: x\ngrants: [{image: b, capabilities: [ALL], allow: [privileged]}]"), "t")
	for _, text := range []string{"version", "publish-address", "capabilities", "privileged"} {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("no %q in %v", text, err)
		}
	}
}

// A directory on the way belongs to everyone (/tmp).
func TestUntrustedPlace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(file, []byte("version: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadSite(file); err == nil || !strings.Contains(err.Error(), "others than root can change it") {
		t.Errorf("below %s: %v", os.TempDir(), err)
	}
}

func TestText(t *testing.T) {
	r := request(
		capAdd("SYS_ADMIN", "NET_ADMIN", "ALL"), bind("/etc/app conf", false), bind("/etc/nginx", false), bind("/etc/\x1b[2J", true), bind("/boot/\x1b[2J", true),
		work(func(w *spec.Workload) { w.ReadOnly = ptr(false) }), secOpt("seccomp=unconfined"),
		work(func(w *spec.Workload) { w.VolumesFrom = []string{"a\x1b]0;x\x07\nb"} }),
		ulim("nofile", 1, 2<<20),
	)
	_, refusals := Review(r)
	var b bytes.Buffer
	if err := WriteText(&b, refusals); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' && c != '\n' }) {
		t.Errorf("control characters: %q", text)
	}
	for _, want := range []string{"--cap-add SYS_ADMIN   [capability]", "--read-only=false", "none can be given", "[volumes-from]"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	// The grant that is offered is a valid file, and permits what it says.
	site, err := ParseSite([]byte(Stanza(refusals)), "t")
	if err != nil {
		t.Fatalf("%v\n%s", err, Stanza(refusals))
	}
	r.Site = site
	_, left := Review(r)
	if got := strings.Join(ids(left), " "); got != "bind-system cap-all volumes-from" {
		t.Errorf("left: %q: %+v\n%s", got, left, Stanza(refusals))
	}

	b.Reset()
	if err := WriteText(&b, nil); err != nil || b.Len() > 0 {
		t.Errorf("without refusals: %q %v", b.String(), err)
	}
}

// Every refusal that names a grant is lifted by exactly that grant.
func TestOfferedGrantsWork(t *testing.T) {
	for _, with := range []func(*Request){
		capAdd("SYS_PTRACE"), secOpt("apparmor=unconfined", "label=disable", "no-new-privileges=false"), secOpt("apparmor=site-web"), network("host"),
		work(func(w *spec.Workload) { w.PIDMode, w.IPCMode, w.UTSMode = "host", "host", "host" }),
		func(r *Request) { capAdd("SYS_TIME", "MKNOD")(r); r.Workload.UserNSMode = "host" },
		device(chr(10, 229, "/dev/fuse"), "/dev/fuse", "rwm"), bind("/home/ann smith", true), bind("/etc/true", false),
		sysctl("user.max_user_namespaces", "1"), bind("/boot", true), bind("/dev/shm", false),
		work(func(w *spec.Workload) {
			w.Annotations = map[string]string{"run.oci.keep": "x", "true": "y", "a,b:c]": "z"}
		}),
		res(func(r *spec.Resources) { r.Memory, r.PidsLimit = ptr(int64(-1)), ptr(int64(-1)) }),
		func(r *Request) { r.Image.Name, r.Workload.CapAdd = "quay.io/a/b:1", []string{"NET_ADMIN"} },
	} {
		r := request(with)
		_, refusals := Review(r)
		if len(refusals) == 0 {
			t.Fatalf("not refused: %+v", r.Workload)
		}
		site, err := ParseSite([]byte(Stanza(refusals)), "t")
		if err != nil {
			t.Errorf("%v\n%s", err, Stanza(refusals))
			continue
		}
		r.Site = site
		if _, left := Review(r); len(left) > 0 {
			t.Errorf("left: %+v\n%s", left, Stanza(refusals))
		}
	}
}

func TestJSON(t *testing.T) {
	_, refusals := Review(request(capAdd("SYS_ADMIN", "<script>\x1b")))
	var b bytes.Buffer
	if err := WriteJSON(&b, refusals); err != nil {
		t.Fatal(err)
	}
	var back struct{ Refused []Refusal }
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || len(back.Refused) != 2 {
		t.Fatalf("%v %s", err, b.String())
	}
	if back.Refused[1].ID != "capability" || back.Refused[1].Grant != "capabilities: [SYS_ADMIN]" || bytes.ContainsRune(b.Bytes(), 0x1b) {
		t.Errorf("%s", b.String())
	}
	b.Reset()
	if err := WriteJSON(&b, nil); err != nil || !strings.Contains(b.String(), `"refused": []`) {
		t.Errorf("%q %v", b.String(), err)
	}
}

// No launch makes the review panic, print control characters, or give more
// than the site does.
func FuzzReview(f *testing.F) {
	f.Add("SYS_ADMIN", "seccomp=unconfined", "host", "/etc", "/proc", "kernel.x", "v", "0:0", "a=b")
	f.Fuzz(func(t *testing.T, capa, opt, mode, src, target, key, value, user, env string) {
		r := request(capAdd(capa), secOpt(opt), network(mode), sysctl(key, value), bind(src, false))
		r.Workload.Mounts[0].Target = target
		r.Workload.PIDMode, r.Workload.User, r.Workload.Runtime, r.Workload.CgroupParent = mode, user, capa, target
		r.Workload.Annotations = map[string]string{key: value}
		r.Image.Env, r.Image.Volumes, r.Image.User, r.Image.StopSignal = []string{env}, []string{target}, user, value
		g, refusals := Review(r)
		if len(g.Capabilities) > 0 || len(g.Binds) > 0 || len(g.IDs) > 0 || g.HostNetwork || g.HostPID {
			t.Errorf("given without a policy: %+v", g)
		}
		var b bytes.Buffer
		if err := WriteText(&b, refusals); err != nil {
			t.Error(err)
		}
		if strings.ContainsFunc(b.String(), func(c rune) bool { return c < ' ' && c != '\n' || c == 0x7f }) {
			t.Errorf("control characters: %q", b.String())
		}
	})
}
