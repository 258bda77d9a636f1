package threats

import (
	"debug/elf"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/tests/harness"
	"github.com/safe-run/safe-run/tests/imagekit"
)

func TestI1(t *testing.T) {
	row(t, "I1")
	hostileImages(t, "labels:", "words: fields of a container")
	keep(t, "i1-plain")
	keep(t, "i1-steering", configured(func(c *imagekit.Config) {
		c.Labels = map[string]string{
			"run": "docker run --privileged -v /:/host IMAGE", "RUN": "--privileged", "io.containers.capabilities": "SYS_ADMIN,NET_ADMIN",
			"io.containers.seccomp.profile": `{"defaultAction":"SCMP_ACT_ALLOW"}`, "io.containers.autoupdate": "registry", "safe-run": "--privileged",
			"safe-run.cap-add": "ALL", "safe-run/profile": "any", "profile": "/etc/passwd", "com.docker.security.privileged": "true", "mcp.volumes": "/:/host", "usage": "-v /:/x",
		}
	}))
	plan := func(image string) (s map[string]any) {
		a := here.Run("run", "--rm", "--dry-run", "--name", "i1-container", "--hostname", "h", image, "true")
		if err := json.Unmarshal([]byte(a.Stdout), &s); err != nil || a.Code != 0 {
			t.Fatalf("%v: %s", err, a)
		}
		delete(s, "annotations")
		return s
	}
	ids := regexp.MustCompile("[0-9a-f]{64}")
	plain, steering := plan("i1-plain"), plan("i1-steering")
	for _, key := range []string{"process", "root", "mounts", "hostname", "linux", "hooks"} {
		if key != "hooks" && plain[key] == nil {
			t.Errorf("no %s at all", key)
		}
		a, _ := json.Marshal(plain[key])
		b, _ := json.Marshal(steering[key])
		if a, b := ids.ReplaceAllString(string(a), "ID"), ids.ReplaceAllString(string(b), "ID"); a != b {
			t.Errorf("labels change %s:\n%s\n%s", key, a, b)
		}
	}
	if a := here.Run("run", "--rm", "i1-steering", "sh", "-c", "ls -d /host /x 2>/dev/null; grep -c 'Cap.*:.0000000000000000' /proc/self/status"); a.Stdout != "5\n" {
		t.Errorf("%s", a)
	}
}

func TestI2(t *testing.T) {
	row(t, "I2")
	hostileImages(t, "environment: for somebody's loader", "environment: of the runtime")
	const word = "i2-marker-in-the-environment"
	keep(t, "i2-image",
		configured(func(c *imagekit.Config) {
			c.Env = []string{"LD_PRELOAD=/evil.so", "LD_AUDIT=/evil.so", "I2=" + word, "PATH=/evil:/bin", "BASH_ENV=/evil/sh", "GODEBUG=" + word}
			c.Healthcheck = &imagekit.Healthcheck{Test: []string{"CMD-SHELL", "true"}, Interval: 100 * time.Millisecond}
		}),
		withFiles(imagekit.Dir("evil", 0o755), imagekit.File("evil.so", 0o755, "no library"), imagekit.File("evil/tini", 0o755, "#!/bin/sh\necho EVIL\n"),
			imagekit.File("evil/docker-init", 0o755, "#!/bin/sh\necho EVIL\n"), imagekit.File("evil/init", 0o755, "#!/bin/sh\necho EVIL\n")))
	id := detached(t, "i2-container", "--init", "i2-image", "/bin/sh", "-c", "sleep 1000; true")
	patient(t, func() error {
		if a := here.Run("inspect", "--format", "{{.State.Health.Status}}", "i2-container"); a.Stdout != "healthy\n" {
			return fmt.Errorf("no health check yet: %s", a)
		}
		return nil
	})
	inside, outside := 0, 0
	envs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range envs {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // ended meanwhile
		}
		groups, _ := os.ReadFile(filepath.Dir(file) + "/cgroup")
		switch has := strings.Contains(string(b), word); {
		case strings.Contains(string(groups), id):
			inside++
		case has:
			args, _ := os.ReadFile(filepath.Dir(file) + "/cmdline")
			t.Errorf("a process of the host has the image's environment: %q", args)
		default:
			outside++
		}
	}
	if inside < 2 || outside < 3 {
		t.Errorf("%d processes inside and %d outside", inside, outside)
	}
	// What is put inside is a static program, by its path, that cannot be replaced.
	f, err := elf.Open(filepath.Join(here.Repo, "build/engine/tini"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the init has a loader, which LD_PRELOAD steers")
		}
	}
	s, _ := drySpec(t, "--init")
	at := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == s.Process.Args[0] })
	if at < 0 || !filepath.IsAbs(s.Process.Args[0]) || !slices.Contains(s.Mounts[at].Options, "ro") {
		t.Errorf("the init %q is on no read-only mount: %+v", s.Process.Args, s.Mounts)
	}
	if a := here.Run("logs", "i2-container"); strings.Contains(a.Stdout+a.Stderr, "EVIL") {
		t.Errorf("the image's own init ran: %s", a)
	}
}

func TestI3(t *testing.T) {
	row(t, "I3")
	keep(t, "i3-image", configured(func(c *imagekit.Config) {
		c.Env = []string{"NOTIFY_SOCKET=@i3", "WATCHDOG_PID=1", "WATCHDOG_USEC=1", "LISTEN_FDS=3", "LISTEN_PID=1", "LISTEN_FDNAMES=x", "PATH=/bin", "OWN=1"}
	}))
	const script = "env | grep -E 'NOTIFY|WATCHDOG|LISTEN|OWN'"
	if a := here.Run("run", "--rm", "i3-image", "sh", "-c", script); a.Stdout != "OWN=1\n" {
		t.Errorf("variables of the image: %s", a)
	}
	d := here.Run("run", "-d", "--name", "i3-container", "i3-image", "sleep", "1000")
	defer here.Run("rm", "-f", "i3-container")
	if a := here.Run("exec", "i3-container", "sh", "-c", script); d.Code != 0 || a.Stdout != "OWN=1\n" {
		t.Errorf("in an exec: %s %s", d, a)
	}
	// Nor are those of the launcher's own service handed on, or its sockets.
	for k, v := range map[string]string{"SSH_AUTH_SOCK": "/tmp/i3-agent", "DOCKER_HOST": "unix:///tmp/i3", "CONTAINERD_NAMESPACE_X": "i3", "AWS_SECRET_ACCESS_KEY": "i3"} {
		t.Setenv(k, v)
	}
	inModes(t, nil, "env | grep -c i3; true", prints("0\n"))
}

func TestI4(t *testing.T) {
	row(t, "I4")
	hostileImages(t, "command:", "environment: NUL", "environment: a control", "labels: NUL", "user: \"\\x1b", "user: \"user\\n", "stop signal:", "port:", "health check: escape", "document: annotations", "document: a digest of escape", "document: layer type", "document: platform", "index: for others", "archive: docker, a name", "archive: escape", "layer: names of escape")
	// What may be in an image is shown by many a command.
	const esc = "\x1b]0;i4\x07\x1b[2J\u009b31m\r\n"
	keep(t, "i4-image", configured(func(c *imagekit.Config) {
		c.Labels = map[string]string{"i4" + esc: esc, "maintainer": esc}
		c.Env = []string{"I4=" + esc, "PATH=/bin"}
		c.Cmd = []string{"sleep", "1000", esc}
		c.Entrypoint = []string{"/bin/busybox"}
	}))
	a := here.Run("run", "-d", "--name", "i4-container", "--health-cmd", "printf '"+esc+"'; exit 1", "--health-interval", "100ms", "i4-image", "sh", "-c", "sleep 1000; echo '"+esc+"'")
	defer here.Run("rm", "-f", "i4-container")
	commands := [][]string{{"images"}, {"images", "--digests", "--no-trunc"}, {"inspect", "i4-image"}, {"image", "inspect", "i4-image"}, {"history", "i4-image"}, {"system", "df", "-v"}, {"run", "--rm", "--dry-run=summary", "i4-image"}, {"run", "--rm", "--dry-run", "i4-image"}, {"audit", "--all"}}
	if a.Code == 0 {
		patient(t, func() error {
			if a := here.Run("inspect", "--format", "{{len .State.Health.Log}}", "i4-container"); strings.HasPrefix(a.Stdout, "0") {
				return fmt.Errorf("no health check yet: %s", a)
			}
			return nil
		})
		commands = append(commands, [][]string{{"ps", "-a", "--no-trunc"}, {"inspect", "i4-container"}, {"top", "i4-container"}, {"ps", "--format", "{{.Labels}} {{.Command}}"}, {"inspect", "--format", "{{json .Config}}", "i4-container"}, {"events", "--since", "1m", "--until", "0s"}}...)
	} else if strings.TrimSpace(a.Stderr) == "" {
		t.Errorf("%s", a)
	}
	for _, c := range commands {
		if a := here.Run(c...); strings.ContainsAny(a.Stdout+a.Stderr, "\x1b\x07\u009b\r") {
			t.Errorf("%q prints control characters: %q %q", c, a.Stdout, a.Stderr)
		}
	}
}

func TestI5(t *testing.T) {
	row(t, "I5")
	hostileImages(t, "passwd:", "group:")
	// A passwd that is a link within the image is one; the host's is never read.
	keep(t, "i5-image", configured(func(c *imagekit.Config) { c.User = "linked" }),
		withFiles(imagekit.Symlink("etc/passwd", "../usr/share/passwd"), imagekit.Dir("usr/share", 0o755), imagekit.File("usr/share/passwd", 0o644, "linked:x:4321:10::/:/bin/sh\n")))
	if a := here.Run("run", "--rm", "i5-image", "id", "-u"); a.Stdout != "4321\n" {
		t.Errorf("a link within the image: %s", a)
	}
	keep(t, "i5-absolute", configured(func(c *imagekit.Config) { c.User = "linked" }),
		withFiles(imagekit.Symlink("etc/passwd", "/usr/share/passwd"), imagekit.Dir("usr/share", 0o755), imagekit.File("usr/share/passwd", 0o644, "linked:x:4322:10::/:/bin/sh\n")))
	if a := here.Run("run", "--rm", "i5-absolute", "id", "-u"); a.Stdout != "4322\n" {
		t.Errorf("an absolute link within the image: %s", a)
	}
}

func TestI6(t *testing.T) {
	row(t, "I6")
	hostileImages(t, "files:", "layer:")
	// The node of a device that is there, for a user who could read it.
	null, err := os.Stat("/dev/null")
	if err != nil || null.Mode()&os.ModeDevice == 0 {
		t.Fatalf("%v %v", null, err)
	}
	keep(t, "i6-image", withFiles(imagekit.Device("kmsg", 'c', 1, 11, 0o666), imagekit.Device("mem", 'c', 1, 1, 0o666)))
	for _, flags := range [][]string{nil, {"-u", "1000"}, {"--cap-add", "DAC_OVERRIDE", "--cap-add", "FOWNER"}} {
		a := here.Run(slices.Concat([]string{"run", "--rm"}, flags, []string{"i6-image", "sh", "-c", "stat -c %t:%T /kmsg; dd if=/kmsg bs=1 count=1 2>&1; dd if=/mem bs=1 count=1 2>&1; true"})...)
		if strings.Count(a.Stdout, "Operation not permitted")+strings.Count(a.Stdout, "Permission denied") != 2 || !strings.HasPrefix(a.Stdout, "1:b\n") {
			t.Errorf("%q: %s", flags, a)
		}
	}
}

func TestI7(t *testing.T) {
	row(t, "I7")
	before := contents(t)
	var st, now unix.Statfs_t
	if err := unix.Statfs(here.Dir, &st); err != nil {
		t.Fatal(err)
	}
	hostileImages(t, "bomb:", "archive: 60 GiB", "archive: 5 GiB", "layer: a thousand directories", "layer: a path of 5000")
	patient(t, func() error {
		for _, c := range contents(t) {
			if !slices.Contains(before, c) {
				return fmt.Errorf("left behind: %s", c)
			}
		}
		return nil
	})
	if err := unix.Statfs(here.Dir, &now); err == nil && int64(st.Bfree-now.Bfree)*st.Bsize > 4<<30 {
		t.Errorf("%d bytes of the disk are gone", int64(st.Bfree-now.Bfree)*st.Bsize)
	}
	// A disk that is nearly full, and one with few inodes.
	small, err := os.MkdirTemp("", "sr-i7-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(small)
	if err := unix.Mount("i7", small, "tmpfs", 0, "size=64m,nr_inodes=4000"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(small, unix.MNT_DETACH) }()
	t.Setenv("SAFE_RUN_ROOT", small+"/root")
	t.Setenv("SAFE_RUN_STATE", small+"/state")
	if a := here.Run("engine", "start"); a.Code != 0 {
		t.Fatal(a)
	}
	defer func() {
		if a := here.Run("engine", "stop"); a.Code != 0 {
			t.Error(a)
		}
	}()
	readyCorpus(t)
	var many []imagekit.Entry
	for i := range 8000 {
		many = append(many, imagekit.File(fmt.Sprint("f", i), 0o644, ""))
	}
	for what, c := range map[string]struct {
		says string
		edit func(*imagekit.Image)
	}{
		"nothing":   {"", func(*imagekit.Image) {}},
		"bytes":     {"left", withLayer(imagekit.Layer{Compression: "zstd", Entries: []imagekit.Entry{{Path: "zeros", Mode: 0o644, Zeros: 200 << 20}}})},
		"files":     {"inodes", withLayer(imagekit.Layer{Compression: "gzip", Entries: many})},
		"the store": {"left", withLayer(imagekit.Layer{Entries: []imagekit.Entry{{Path: "zeros", Mode: 0o644, Zeros: 100 << 20}}})},
	} {
		img := tried.good
		img.Name = "i7-image:latest"
		img.Layers = slices.Clone(tried.good.Layers)
		c.edit(&img)
		a, err := load(here.Dir, img)
		if err != nil {
			t.Fatal(err)
		}
		if c.says == "" && a.Code != 0 || c.says != "" && (a.Code != 1 || !strings.Contains(a.Stderr, c.says)) {
			t.Errorf("too much of %s: %s", what, a)
		}
		here.Run("rmi", "i7-image")
	}
	var full unix.Statfs_t
	patient(t, func() error {
		if err := unix.Statfs(small, &full); err != nil || int64(full.Bfree)*full.Bsize < 40<<20 || full.Ffree < 3000 {
			return fmt.Errorf("the space has not come back: %d bytes, %d inodes free (%v)", int64(full.Bfree)*full.Bsize, full.Ffree, err)
		}
		return nil
	})
}

func withLayer(l imagekit.Layer) func(*imagekit.Image) {
	return func(img *imagekit.Image) { img.Layers = append(img.Layers, l) }
}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestI9(t *testing.T) {
	row(t, "I9")
	before := here.Inventory(t)
	hostileImages(t, "document: platform", "document: config, empty object", "document: config, null", "document: no layers", "document: no config", "document: config, no root", "index: for others", "root: no directories")
	harness.Same(t, before, here.Inventory(t))
	refused(t, "", []string{"--platform", "linux/s390x"}, []string{"--platform", "windows/amd64"}, []string{"--platform", "\x1b[2J/x"})
}

func TestI12(t *testing.T) {
	row(t, "I12")
	hostileImages(t, `document: layer type "application/vnd.erofs`, `document: layer type "application/vnd.oci.image.layer.v1.squashfs`)
	// In a docker archive there are no types, only bytes: a file system is no tar.
	readyCorpus(t)
	super := []byte(strings.Repeat("x", 64<<10))
	copy(super[1024:], "\xe2\xe1\xf5\xe0") // EROFS_SUPER_MAGIC_V1
	for name, raw := range map[string][]byte{"erofs": super, "squashfs": append([]byte("hsqs"), make([]byte, 64<<10)...)} {
		img := tried.good
		img.Name = "i12-image:latest"
		img.Layers = append(slices.Clone(tried.good.Layers), imagekit.Layer{Raw: raw})
		a, err := load(here.Dir, img)
		if err != nil || a.Code != 1 || unclear(a.Stderr) != "" {
			t.Errorf("%s: %v %s", name, err, a)
			here.Run("rmi", "i12-image")
		}
	}
}

func TestI13(t *testing.T) {
	row(t, "I13")
	hostileImages(t, "health check:")
	for name, c := range map[string]struct{ check, says string }{
		"flood": {"yes", ""},
		"slow":  {"sleep 1001", ""},
		"root":  {"id -u; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; cat /proc/self/cgroup | grep -v ':/$'; touch /x 2>&1", "1000\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\ntouch: /x: Read-only file system\n"},
	} {
		image := "i13-" + name
		timeout := harness.Patient(time.Second)
		if c.says != "" {
			timeout *= 20
		}
		keep(t, image, configured(func(cfg *imagekit.Config) {
			cfg.User = "1000"
			cfg.Healthcheck = &imagekit.Healthcheck{Test: []string{"CMD-SHELL", c.check}, Interval: 50 * time.Millisecond, Timeout: timeout, Retries: 1000}
		}))
		id := detached(t, image+"-container", "--init", image, "sleep", "1000")
		var log []struct {
			ExitCode int
			Output   string
		}
		patient(t, func() error {
			a := here.Run("inspect", "--format", "{{json .State.Health.Log}}", id)
			if err := json.Unmarshal([]byte(a.Stdout), &log); err != nil || len(log) < 2 {
				return fmt.Errorf("%d checks: %v %s", len(log), err, a)
			}
			return nil
		})
		switch l := log[0]; {
		case len(l.Output) > 5000:
			t.Errorf("%s: %d bytes are kept", name, len(l.Output))
		case c.says == "" && l.ExitCode != -1:
			t.Errorf("%s: not killed at its timeout: %+v", name, l)
		case c.says != "" && l.Output != c.says:
			t.Errorf("%s: %q, wanted %q", name, l.Output, c.says)
		}
		if n := strings.Count(here.Run("top", id).Stdout, c.check); n > 2 {
			t.Errorf("%s: %d checks go on", name, n)
		}
		here.Run("rm", "-f", id)
	}
}

func TestI14(t *testing.T) {
	row(t, "I14")
	hostileImages(t, "stop signal:", "port:", "words:")
	// The values that are some.
	keep(t, "i14-image", configured(func(c *imagekit.Config) {
		c.StopSignal = "SIGRTMIN+3"
		c.ExposedPorts = imagekit.Set("80/tcp", "53/udp", "8000-8010", "65535")
	}))
	if a := here.Run("run", "--rm", "i14-image", "echo", "RAN"); a.Stdout != "RAN\n" {
		t.Errorf("%s", a)
	}
	refused(t, "", []string{"--stop-signal", "999"}, []string{"--stop-signal", "SIGFOO"}, []string{"--stop-signal", "9; rm"}, []string{"--expose", "0"}, []string{"--expose", "65536"})
}
