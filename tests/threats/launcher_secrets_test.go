package threats

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/tests/harness"
	"github.com/safe-run/safe-run/tests/imagekit"
	"github.com/safe-run/safe-run/tests/imagekit/registry"
)

func TestL6(t *testing.T) {
	row(t, "L6")
	img := busyboxNamed(t, "l6")
	img.Layers = append(img.Layers, imagekit.Layer{Entries: []imagekit.Entry{imagekit.File("l6", 0o644, t.TempDir())}}) // nothing that is there already
	built, err := imagekit.Build(img)
	must(t, err)
	depot := func(auth, user, password string) *registry.Registry {
		r := registry.New(t, false)
		r.Auth, r.User, r.Password = auth, user, password
		r.Push("1", built)
		return r
	}
	elsewhere, d := depot("", "", ""), depot("basic", "l6-user", "l6-password")
	d.Redirect = strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1)
	dir := t.TempDir()
	marks := filepath.Join(dir, "marks")
	config := func(content any) {
		b, err := json.Marshal(content)
		must(t, err, os.WriteFile(filepath.Join(dir, "config.json"), b, 0o600))
	}
	config(map[string]any{"auths": map[string]any{d.Host(): map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(d.User + ":" + d.Password))}}})
	t.Setenv("DOCKER_CONFIG", dir)
	name := d.Host() + "/l6/image:1"
	if a := here.Run("pull", name); a.Code != 0 {
		t.Fatalf("%s\n%s", a, d.Log())
	}
	t.Cleanup(func() { here.Run("rmi", "-f", name) })
	if len(d.Headers("Authorization")) == 0 || !strings.Contains(strings.Join(elsewhere.Log(), "\n"), "/blobs/") {
		t.Errorf("no credentials, or no redirect: %s\n%s", d.Log(), elsewhere.Log())
	}
	if sent := elsewhere.Headers("Authorization"); len(sent) > 0 {
		t.Errorf("credentials went to where blobs are: %q", sent)
	}
	// Another registry asks for credentials and gets none.
	thief := depot("basic", "l6-thief", "x")
	if a := here.Run("pull", thief.Host()+"/l6/image:1"); a.Code == 0 || len(thief.Headers("Authorization")) > 0 || strings.Contains(a.String(), "l6-password") {
		t.Errorf("%s\n%q", a, thief.Headers("Authorization"))
	}
	// Plain http is for this host alone.
	must(t, exec.Command("ip", "addr", "add", "192.0.2.77/32", "dev", "lo").Run())
	defer func() { must(t, exec.Command("ip", "addr", "del", "192.0.2.77/32", "dev", "lo").Run()) }()
	far := httptest.NewUnstartedServer(d)
	must(t, far.Listener.Close())
	far.Listener = listenTCP(t, "192.0.2.77:0")
	far.Start()
	defer far.Close()
	before := len(d.Log())
	if a := here.Run("pull", strings.TrimPrefix(far.URL, "http://")+"/l6/image:1"); a.Code == 0 || len(d.Log()) != before {
		t.Errorf("asked without TLS: %s", a)
	}
	// A helper is a program of the caller's choice: through sudo it is none.
	must(t, os.WriteFile(filepath.Join(dir, "docker-credential-l6"), []byte("#!"+busyboxPath(t)+" sh\necho ran >>"+marks+"\nexit 1\n"), 0o755))
	config(map[string]any{"credsStore": "l6"})
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	underSudo(t, someUser)
	if a := here.Run("pull", d.Host()+"/l6/other:1"); a.Code == 0 {
		t.Errorf("credentials of somebody: %s", a)
	}
	if b, err := os.ReadFile(marks); err == nil {
		t.Errorf("the helper ran with root's rights: %q", b)
	}
}

func TestL7(t *testing.T) {
	row(t, "L7")
	const secret, variable, name = "l7-marker-of-a-secret", "l7-marker-of-a-variable", "l7-den"
	file := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(file, []byte(secret), 0o600))
	flags := []string{"--secret", "token=" + file, "-e", "L7_PASSWORD=" + variable}
	if a := here.Run(slices.Concat([]string{"run", "-d", "--name", name}, flags, []string{"busybox", "sleep", "600"})...); a.Code != 0 {
		t.Fatal(a)
	}
	defer here.Run("rm", "-f", name)
	if a := here.Run("exec", name, "sh", "-c", "cat /run/secrets/token; echo $L7_PASSWORD"); a.Stdout != secret+variable+"\n" {
		t.Fatalf("it is not there at all: %s", a)
	}
	id := strings.TrimSpace(here.Run("inspect", "-f", "{{.Id}}", name).Stdout)
	for what, text := range map[string]string{
		"inspect": here.Run("inspect", name).String(), "containerd": here.Ctr(t, "containers", "info", id), "logs": here.Run("logs", name).String(),
		"dry run":  here.Run(slices.Concat([]string{"--rm", "--dry-run"}, flags, []string{"busybox", "true"})...).Stdout,
		"unit":     here.Run(slices.Concat([]string{"generate", "systemd", "--name", "l7"}, flags[:2], []string{"busybox", "true"})...).String(),
		"ps":       here.Run("ps", "-a", "--no-trunc").String(),
		"events":   here.Run("events", "--since", "10m", "--until", "0s").String(),
		"on disk":  harness.Call(60e9, "grep", "-rlsF", "--exclude-dir=io.containerd.snapshotter.v1.overlayfs", "--devices=skip", secret, here.Root).Stdout,
		"top":      here.Run("top", name).String(),
		"of a run": here.Run("system", "info").String(),
	} {
		if strings.Contains(text, secret) || what == "on disk" && text != "" {
			t.Errorf("%s shows the secret: %.300s", what, text)
		}
		if !slices.Contains([]string{"inspect", "containerd", "dry run"}, what) && strings.Contains(text, variable) {
			t.Errorf("%s shows the variable: %.300s", what, text)
		}
	}
	// Anybody can read the arguments of processes.
	dirs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	for _, p := range dirs {
		if b, err := os.ReadFile(p); err == nil && (strings.Contains(string(b), secret) || strings.Contains(string(b), variable)) {
			t.Errorf("in the arguments of %s", p)
		}
	}
	// A variable is on disk, for root alone.
	for _, p := range lines(harness.Call(60e9, "grep", "-rlsF", "--devices=skip", variable, here.Root, here.State).Stdout) {
		if st, err := os.Stat(p); err == nil && st.Mode().Perm()&0o077 != 0 && reachable(p) {
			t.Errorf("%s has mode %v", p, st.Mode())
		}
	}
	if a := fails(t, "generate", "systemd", "--name", "l7", "-e", "L7_PASSWORD="+variable, "busybox", "true"); strings.Contains(a.String(), variable) {
		t.Error("a unit, which everybody can read, would have it")
	}
}

// reachable says whether others can pass all directories above a file.
func reachable(p string) bool {
	for dir := filepath.Dir(p); dir != "/"; dir = filepath.Dir(dir) {
		if st, err := os.Stat(dir); err == nil && st.Mode().Perm()&0o001 == 0 {
			return false
		}
	}
	return true
}

func TestL15(t *testing.T) {
	row(t, "L15")
	dir := groundDir(t)
	n := 0
	profile := func(text string) []string {
		n++
		return []string{"--profile", put(t, filepath.Join(dir, fmt.Sprintf("p%d.yaml", n)), text)}
	}
	v1 := func(text string) []string { return profile("version: 1\n" + text + "\n") }
	refusedEach(t, attempts{
		"capability|cap-host-only": {v1("capabilities: [SYS_ADMIN]"), v1("capabilities: [CHOWN, NET_ADMIN]"), v1("capabilities: [SYS_MODULE]")},
		"network-host":             {v1("network: host")}, "userns-host": {v1("userns: host")},
		"bind-system|bind-secret": {v1("binds: [{source: /etc, target: /x}]"), v1("binds: [{source: /etc/shadow, target: /x}]")},
		"device|device-forbidden": {v1("devices: [{path: /dev/kmsg, permissions: rw}]")},
		"sysctl-host":             {v1("sysctls: [{name: kernel.core_pattern, value: x}]")},
		"": {
			v1("capabilities: [ALL]"), v1("binds: [{source: /, target: /x}]"), v1("privileged: true"), v1("devices: [{path: /dev/mem, permissions: r}]"), v1("seccomp: unconfined"), v1("seccomp: {allow: [kexec_load]}"), v1("pid: host"), v1("flags: [--privileged]"),
			profile("version: 2\n"), profile("capabilities: [CHOWN]\n"), v1("capabilities: [CHOWN]\ncapabilities: [CHOWN]"), v1("writable: [/proc]"), v1("writable: [/a/../proc]"),
			// Made for another image.
			v1("image: docker.io/library/other"), v1("image: docker.io/library/busybox@sha256:" + strings.Repeat("0", 64)), v1("image: docker.io/library/busybox:latest"),
		},
	})
	// Many rights: all that is too much is said, nothing is clipped in silence.
	a := turnedDown(t, "capability", profile("version: 1\ncapabilities: [SYS_ADMIN, CHOWN]\nnetwork: host\nbinds: [{source: /etc, target: /x}]\n")...)
	for _, id := range []string{"capability", "network-host", "bind-system"} {
		if !strings.Contains(a.Stderr, `"`+id+`"`) {
			t.Errorf("%s is not named: %s", id, a)
		}
	}
	if out := runs(t, append(v1("image: docker.io/library/busybox\ncapabilities: [CHOWN]"), "busybox", "grep", "CapEff", "/proc/self/status")...); out != "CapEff:\t0000000000000001\n" {
		t.Errorf("%q", out)
	}
}

// Nothing but an image is ever fetched, and a profile in it is read there.
func TestL16(t *testing.T) {
	row(t, "L16")
	img := busyboxNamed(t, "l16-profiles")
	title := map[string]string{"org.opencontainers.image.title": "../../../../l16-x", "io.safe-run.profile": "/etc/passwd"}
	img.Config.Labels = title
	img.EditManifest = annotated(title)
	img.Layers = append(img.Layers, imagekit.Layer{Entries: []imagekit.Entry{
		imagekit.Dir("etc/safe-run", 0o755), imagekit.File("etc/safe-run/profile.yaml", 0o644, "version: 1\ncapabilities: [CHOWN]\n"),
		imagekit.Symlink("etc/safe-run/up.yaml", "../../../../../../../../etc/hostname"), imagekit.File("etc/safe-run/file.yaml", 0o644, "version: 1\nseccomp: {file: ../../../../etc/x.json}\n"),
		imagekit.File("etc/safe-run/huge.yaml", 0o644, "version: 1\n#"+strings.Repeat("x", 1<<20)+"\n"),
		imagekit.File("etc/safe-run/greedy.yaml", 0o644, "version: 1\ncapabilities: [SYS_ADMIN]\n"),
	}})
	loaded(t, img)
	before := listing(t, here.Dir)
	for ref, id := range map[string]string{
		"image:../../../../etc/passwd": "", "image:/etc/../etc/passwd": "", "image:relative": "", "image:/etc/safe-run/up.yaml": "", "image:/etc/safe-run/file.yaml": "", "image:/etc/safe-run/huge.yaml": "",
		"image:/etc/safe-run/none.yaml": "", "https://127.0.0.1:1/x.yaml": "", "oci://127.0.0.1:1/x": "", "git://x": "", "image:/etc/safe-run": "", "image:/etc/safe-run/greedy.yaml": "capability",
	} {
		turnedDown(t, id, "--profile", ref, img.Name, "true")
	}
	effective := func(flags ...string) string {
		return runs(t, slices.Concat(flags, []string{img.Name, "grep", "CapEff", "/proc/self/status"})...)
	}
	if out := effective("--profile", "image:"); out != "CapEff:\t0000000000000001\n" {
		t.Errorf("the image's profile: %q", out)
	}
	if out := effective(); out != "CapEff:\t0000000000000000\n" {
		t.Errorf("it was used without being named: %q", out)
	}
	if now := listing(t, here.Dir); !slices.Equal(now, before) {
		t.Errorf("files: %q, before %q", now, before)
	}
}

// Learning watches a container that is confined all the same.
func TestL17(t *testing.T) {
	row(t, "L17")
	out := filepath.Join(t.TempDir(), "profile.yaml")
	before := here.Inventory(t)
	for _, flags := range [][]string{{"--privileged"}, {"-v", "/:/x"}, {"--pid", "host"}, {"--cap-add", "ALL"}, {"-v", here.Socket + ":/x"}, {"--device", "/dev/mem"}} {
		fails(t, slices.Concat([]string{"learn", "-o", out}, flags, []string{denImage, "true"})...)
	}
	a := here.Run("learn", "-o", out, "-e", "L7=x", denImage, "/probe", "--json")
	if a.Code != 0 {
		t.Fatal(a)
	}
	report, _, _ := strings.Cut(a.Stdout[max(0, strings.Index(a.Stdout, "{")):], "\n}\n")
	var r struct{ Results []attempt }
	if err := json.NewDecoder(strings.NewReader(report + "\n}\n")).Decode(&r); err != nil {
		t.Fatalf("no report of the probe: %v: %.300q", err, a.Stdout)
	}
	open := map[string]attempt{}
	for _, x := range r.Results {
		if x.Verdict != "blocked" && x.Verdict != "absent" {
			open[x.ID] = x
		}
	}
	// For one run it may write its root, which is thrown away, and has the
	// capabilities anybody may ask for: within its own namespaces.
	for _, id := range []string{"capabilities", "socket-raw", "chroot", "rootfs-write", "exec-written", "wx-mounts", "nosuid-nodev", "setuid-bit"} {
		delete(open, id)
	}
	for id, x := range open {
		t.Errorf("%s is %s while learning: %s %s", id, x.Verdict, x.What, x.Note)
	}
	if len(r.Results) < 30 {
		t.Errorf("%d attempts", len(r.Results))
	}
	if st, err := os.Stat(out); err != nil || st.Size() == 0 {
		t.Errorf("no profile: %v", err)
	}
	harness.Same(t, before, here.Inventory(t))
}

// An image that looks whether it is watched sees the same, and what it does
// then is in nobody's profile but as what it is.
func TestL18(t *testing.T) {
	row(t, "L18")
	out := filepath.Join(t.TempDir(), "profile.yaml")
	const look = "grep -E '^(TracerPid|Seccomp|Seccomp_filters|NoNewPrivs):' /proc/self/status; ls /proc/self/fd | wc -l; ls -d /sys/kernel/tracing/* 2>/dev/null | wc -l; env | grep -ci -e learn -e trace -e record; true"
	usual := runs(t, denImage, "sh", "-c", look)
	a := here.Run("learn", "-o", out, denImage, "sh", "-c", look+"; unshare -U true; /probe >/dev/null")
	if a.Code != 0 || !strings.HasPrefix(a.Stdout, usual) {
		t.Errorf("it can tell: usually %q, learning %s", usual, a)
	}
	text, err := os.ReadFile(out)
	must(t, err)
	// All it tried was denied, and is not asked for.
	for _, call := range []string{"bpf", "kexec_load", "add_key", "keyctl", "io_uring_setup", "userfaultfd", "perf_event_open", "init_module", "mount", "unshare", "setns", "open_by_handle_at"} {
		for _, word := range strings.FieldsFunc(string(text), func(r rune) bool { return strings.ContainsRune(" ,[]\n", r) }) {
			if word == call {
				t.Errorf("the profile asks for %s", call)
			}
		}
	}
	if a := here.Run("profile", "check", out); a.Code != 0 {
		t.Errorf("what was learned is not allowed: %s", a)
	}
	// One that was edited afterwards is refused by its words.
	for _, call := range []string{"bpf", "mount", "kexec_load", "add_key", "clone3", "unshare", "io_uring_setup", "init_module"} {
		p := put(t, out+".edited", "version: 1\nseccomp: {allow: [read, write, exit_group, "+call+"]}\n")
		if a := fails(t, "profile", "check", p); !strings.Contains(a.String(), call) {
			t.Errorf("%s: %s", call, a)
		}
		turnedDown(t, "", "--profile", p)
	}
}

// What a message says is no more than its reader could find out.
func TestL19(t *testing.T) {
	row(t, "L19")
	dir := groundDir(t)
	closed := owned(t, makeDir(t, filepath.Join(dir, "closed")), 0, 0o700)
	listen(t, filepath.Join(closed, "docker.sock"))
	put(t, filepath.Join(closed, "there"), "l19-content")
	linkTo(t, filepath.Join(closed, "link"), "/etc/shadow")
	linkTo(t, filepath.Join(closed, "to-root"), "/")
	makeDir(t, filepath.Join(closed, "dir"))
	makeNode(t, filepath.Join(closed, "disk"), blockNode, 8, 0)
	underSudo(t, someUser)
	says := func(flag, name string) string {
		p := filepath.Join(closed, name)
		a := turnedDown(t, "bind-caller", flag, p+":/x:ro")
		for _, word := range []string{"l19-content", "/etc/shadow", here.Root} {
			if strings.Contains(a.Stderr+a.Stdout, word) {
				t.Errorf("%s: %s", name, a)
			}
		}
		return strings.ReplaceAll(a.Stderr+a.Stdout, p, "PATH")
	}
	missing := says("-v", "none")
	for _, name := range []string{"there", "dir", "docker.sock", "disk", "none/deeper", "link", "to-root"} {
		if text := says("-v", name); text != missing {
			t.Errorf("%s can be told from what does not exist:\n%s\n%s", name, text, missing)
		}
	}
	for _, flags := range inputFiles(filepath.Join(closed, "there")) {
		a := turnedDown(t, "", flags...)
		b := turnedDown(t, "", slices.Concat(flags[:1], []string{strings.Replace(flags[1], "closed/there", "closed/none0", 1)})...)
		if strings.Contains(a.Stderr, "l19-content") || strings.ReplaceAll(a.Stderr, "closed/there", "") != strings.ReplaceAll(b.Stderr, "closed/none0", "") {
			t.Errorf("%q: %s\n%s", flags, a, b)
		}
	}
	// Nor does a crash: there is one way out, with a line.
	for _, args := range [][]string{{"--rm", "busybox", "\xff\xfe"}, {"exec", strings.Repeat("x", 5000), "true"}, {"inspect", "\x1b]0;x\x07"}, {"--rm", "--env-file", "\x1b[2J", "busybox"}} {
		if a := fails(t, args...); strings.Contains(a.Stderr, "goroutine ") || strings.Contains(a.Stderr, "panic") {
			t.Errorf("%q: %s", args, a)
		}
	}
}
