package threats

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/tests/harness"
	"github.com/safe-run/safe-run/tests/imagekit"
)

// attempts are command lines by the refusal they must meet: an id of the
// catalogue, several with "|" between them, or "" for an error of another kind.
type attempts map[string][][]string

// refusedEach is refused for many ids, with one look at what is left.
func refusedEach(t *testing.T, all attempts) {
	t.Helper()
	before := here.Inventory(t)
	for id, lines := range all {
		for _, flags := range someOf(lines) {
			turnedDown(t, id, flags...)
		}
	}
	harness.Same(t, before, here.Inventory(t))
}

// turnedDown wants one command line to be refused with one of the ids.
func turnedDown(t *testing.T, id string, flags ...string) harness.Answer {
	t.Helper()
	args := slices.Concat([]string{"--rm", "--refusals=json"}, flags)
	if !slices.Contains(flags, "busybox") && !slices.Contains(flags, denImage) {
		args = append(args, "busybox", "sh", "-c", "echo RAN")
	}
	a := here.Run(args...)
	text := a.Stdout + a.Stderr
	switch {
	case a.Code != 125 || strings.Contains(a.Stdout, "RAN"):
		t.Errorf("%q: wanted exit 125, got %s", flags, a)
	case strings.TrimSpace(text) == "" || strings.ContainsAny(text, "\x1b\x00"):
		t.Errorf("%q: the message is %q", flags, text)
	case id == "" && strings.Contains(text, `"refused"`):
		t.Errorf("%q: an error was wanted, not a refusal: %s", flags, a)
	case id != "" && !slices.ContainsFunc(strings.Split(id, "|"), func(id string) bool { return strings.Contains(text, `"id": "`+id+`"`) }):
		t.Errorf("%q: no refusal %q: %s", flags, id, a)
	}
	return a
}

// runs wants a command line to be carried out: what is refused next to it is
// refused for its own sake.
func runs(t *testing.T, flags ...string) string {
	t.Helper()
	a := here.Run(slices.Concat([]string{"--rm"}, flags)...)
	if a.Code != 0 {
		t.Errorf("%q: %s", flags, a)
	}
	return a.Stdout
}

// planned is the specification safe-run would give to the runtime.
func planned(t *testing.T, flags ...string) *specs.Spec {
	t.Helper()
	out := runs(t, slices.Concat([]string{"--dry-run"}, flags)...)
	s := &specs.Spec{}
	if err := json.Unmarshal([]byte(out), s); err != nil {
		t.Fatalf("%q: no specification: %v: %.200q", flags, err, out)
	}
	return s
}

func lineOf(words ...string) []string { return words }

func TestF1(t *testing.T) {
	row(t, "F1")
	refusedEach(t, attempts{"privileged": {
		lineOf("--privileged"), lineOf("--privileged=true"), lineOf("--privileged=1"), lineOf("--privileged=T"),
		lineOf("--privileged=false", "--privileged"), lineOf("--privileged", "--cap-drop", "ALL", "--read-only"),
	}, "": {lineOf("--privileged=yes"), lineOf("--Privileged")}})
	if a := here.Run("--rm", "--privileged", "busybox", "true"); !strings.Contains(a.Stderr, "--cap-add") || !strings.Contains(a.Stderr, "--device") {
		t.Errorf("it does not say what would do instead: %s", a)
	}
	if out := runs(t, "--privileged=false", "busybox", "grep", "CapBnd", "/proc/self/status"); !strings.HasSuffix(out, "\t0000000000000000\n") {
		t.Errorf("not asked for, and capabilities are there: %q", out)
	}
}

func TestF2(t *testing.T) {
	row(t, "F2")
	all := attempts{
		"network-host":  {lineOf("--network", "host"), lineOf("--net=host"), lineOf("--network=HOST"), lineOf("--network", "name=host")},
		"network-join":  {lineOf("--network=ns:/proc/1/ns/net"), lineOf("--net", "ns:/proc/self/ns/net")},
		"cgroupns-host": {lineOf("--cgroupns=host"), lineOf("--cgroupns", "host")}, "pid-join": {lineOf("--pid=container:x"), lineOf("--pid=ns:/proc/1/ns/pid")},
		"ipc-join": {lineOf("--ipc", "container:x")},
		"": {
			lineOf("--pid=HOST"), lineOf("--pid= host"), lineOf("--userns=keep-id"), lineOf("--userns=auto"), lineOf("--ipc=shareable"), lineOf("--uts=private"),
			lineOf("--network", "none", "--network", "host"), lineOf("--network=container:no-such-container"), lineOf("--pid", "container:"),
		},
	}
	for _, ns := range []string{"pid", "ipc", "uts", "userns"} {
		all[ns+"-host"] = [][]string{{"--" + ns, "host"}, {"--" + ns + "=host"}, {"--" + ns + "=", "--" + ns + "=host"}}
	}
	refusedEach(t, all)
	// And without any of them each namespace is another than the host's.
	kinds := []string{"pid", "ipc", "uts", "user", "cgroup", "net", "mnt"}
	inModes(t, nil, "for k in "+strings.Join(kinds, " ")+"; do readlink /proc/self/ns/$k; done", func(t *testing.T, _, out string) {
		got := lines(out)
		if len(got) != len(kinds) {
			t.Fatalf("%q", out)
		}
		for i, kind := range kinds {
			if host, err := os.Readlink("/proc/self/ns/" + kind); err != nil || host == got[i] {
				t.Errorf("%s is the host's: %s %v", kind, got[i], err)
			}
		}
	})
}

func TestF3(t *testing.T) {
	row(t, "F3")
	opt := func(all ...string) (out [][]string) {
		for _, o := range all {
			out = append(out, []string{"--security-opt", o}, []string{"--security-opt=" + o})
		}
		return out
	}
	last := func(a, b string) []string { return []string{"--security-opt", a, "--security-opt", b} }
	refusedEach(t, attempts{
		"seccomp-unconfined":  opt("seccomp=unconfined", "seccomp:unconfined"),
		"apparmor-unconfined": append(opt("apparmor=unconfined", "apparmor:unconfined"), last("apparmor=docker-default", "apparmor=unconfined")),
		"new-privileges": append(opt("no-new-privileges=false", "no-new-privileges:false", "no-new-privileges=0"),
			last("no-new-privileges=true", "no-new-privileges=false"), last("no-new-privileges=false", "no-new-privileges")),
		"security-opt-unknown": opt("no-new-privileges=maybe"),
		"label-disable":        opt("label=disable", "label:disable"), "label": opt("label=type:unconfined_t", "label=level:s0"),
		"systempaths-unconfined": opt("systempaths=unconfined"), "writable-cgroups": opt("writable-cgroups=true"),
		"": append(opt("SECCOMP=unconfined", "seccomp=Unconfined", "seccomp= unconfined", "seccomp=", "mask=/x", "unmask=ALL", "proc-opts=hidepid=0",
			"nonsense", "nonsense=1", "writable-cgroups", " seccomp=unconfined", "=", ""),
			last("seccomp=unconfined", "seccomp=builtin"), last("seccomp=builtin", "seccomp=unconfined")),
	})
	inModes(t, nil, "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status", prints("NoNewPrivs:\t1\nSeccomp:\t2\n"))
}

func TestF4(t *testing.T) {
	row(t, "F4")
	add := func(all ...string) (out [][]string) {
		for _, c := range all {
			out = append(out, []string{"--cap-add", c})
		}
		return out
	}
	refusedEach(t, attempts{
		"cap-all": append(add("ALL", "all", "cap_all", "CAP_ALL"), lineOf("--cap-add=ALL", "--cap-drop=ALL"), lineOf("--cap-drop", "ALL", "--cap-add", "ALL")),
		"capability|cap-host-only": append(add("SYS_ADMIN", "CAP_SYS_ADMIN", "sys_admin", "cap_sys_admin", " SYS_ADMIN", "SYS_ADMIN\u00a0", "SYS_MODULE", "SYS_RAWIO", "SYS_PTRACE",
			"DAC_READ_SEARCH", "BPF", "PERFMON", "SYS_BOOT", "MAC_ADMIN", "MAC_OVERRIDE", "CHECKPOINT_RESTORE", "SYSLOG", "SYS_TIME", "NET_ADMIN"),
			lineOf("--cap-add", "SYS_ADMIN", "--cap-drop", "SYS_ADMIN"), lineOf("--cap-drop", "SYS_ADMIN", "--cap-add", "SYS_ADMIN"), lineOf("--cap-add", "CHOWN", "--cap-add", "SYS_ADMIN")),
		"cap-unknown": add("NO_SUCH", "21", "CHOWN,SYS_ADMIN", "CAP_CAP_CHOWN"),
		"":            add(""),
	})
	inModes(t, nil, "grep ^Cap /proc/self/status | cut -f2 | sort -u", prints("0000000000000000\n"))
	if out := runs(t, "--cap-add", "cap_chown", "busybox", "grep", "CapEff", "/proc/self/status"); out != "CapEff:\t0000000000000001\n" {
		t.Errorf("one was asked for, and is free: %q", out)
	}
}

func TestF5(t *testing.T) {
	row(t, "F5")
	dir := groundDir(t)
	node := func(name string, kind uint32, major, minor uint32) string {
		p := filepath.Join(dir, name)
		makeNode(t, p, kind, major, minor)
		return p
	}
	disk := node("harmless", blockNode, 8, 0)
	link := linkTo(t, filepath.Join(dir, "link-to-disk"), disk)
	mem := node("null", charNode, 1, 1)     // /dev/mem by another name
	alias := node("tun", charNode, 10, 229) // fuse
	refusedEach(t, attempts{
		"device-forbidden": {
			lineOf("--device", disk), lineOf("--device", disk+":/dev/null"), lineOf("--device", link), lineOf("--device", mem), lineOf("--device", mem+":/dev/x:r"),
			lineOf("--device", "/dev"), lineOf("--device", "/dev/mem"), lineOf("--device", "/dev/no-such-device"), lineOf("--device=/dev/../dev/mem"),
			lineOf("--device", "/etc/passwd"),
		},
		"device|device-forbidden": {lineOf("--device", alias), lineOf("--device", "/dev/kmsg"), lineOf("--device", "/dev/kvm"), lineOf("--device", "/dev/fuse"), lineOf("--device", "/dev/net/tun"), lineOf("--device", "/dev/vda")},
		"device-cdi":              {lineOf("--device", "vendor.example/gpu=all"), lineOf("--device", "nvidia.com/gpu=0")},
		"device-cgroup-rule":      {lineOf("--device-cgroup-rule", "a *:* rwm"), lineOf("--device-cgroup-rule=c 1:1 r")},
		"gpus":                    {lineOf("--gpus", "all")},
	})
	// What is there is harmless, and nothing else can be made.
	inModes(t, nil, `cd /dev; for d in *; do [ -b $d ] && echo "$d"; [ -c $d ] && stat -L -c '%t:%T' $d; done | sort -u; mknod /tmp/n b 8 0 && echo MADE; mknod /dev/n c 1 1 && echo MADE; true`,
		func(t *testing.T, _, out string) {
			if strings.Contains(out, "MADE") {
				t.Error(out)
			}
			for _, l := range lines(out) {
				if !slices.Contains([]string{"1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:2"}, l) && !strings.HasPrefix(l, "mknod: ") {
					t.Errorf("there is a device %s", l)
				}
			}
		})
}

func TestF9(t *testing.T) {
	row(t, "F9")
	d := denOf(t, nil)
	refusedEach(t, attempts{
		"volumes-from": {lineOf("--volumes-from", d.name), lineOf("--volumes-from=" + d.name + ":ro"), lineOf("--volumes-from", "no-such"), lineOf("--volumes-from", d.name, "-v", "/x")},
		"pid-join":     {lineOf("--pid", "container:"+d.name)}, "ipc-join": {lineOf("--ipc", "container:"+d.name)},
	})
}

func TestF10(t *testing.T) {
	row(t, "F10")
	note := func(all ...string) (out [][]string) {
		for _, a := range all {
			out = append(out, []string{"--annotation", a})
		}
		return out
	}
	refusedEach(t, attempts{
		"runtime": {lineOf("--runtime", "/bin/sh"), lineOf("--runtime=runsc"), lineOf("--runtime", "../../tmp/evil"), lineOf("--runtime", "io.containerd.kata.v2"), lineOf("--runtime", "/usr/bin/runc")},
		"annotation": note("org.systemd.property.TasksMax='uint64 99999'", "org.systemd.property.MemoryMax='uint64 1'", "run.oci.handler=x", "run.oci.hooks.stdout=/etc/x",
			"io.katacontainers.config.hypervisor.path=/bin/sh", "dev.gvisor.spec.mount.x=y", "io.kubernetes.cri.container-type=sandbox", "cdi.k8s.io/x=vendor.example/gpu=0", "example.org/note=x"),
	})
	runs(t, "--runtime", "runc", "busybox", "true")
	// Nor does an image bring any, in its labels or its manifest.
	greedy := map[string]string{"org.systemd.property.TasksMax": "uint64 99999", "run.oci.handler": "x", "io.katacontainers.config": "y", "example.org/note": "z"}
	img := busyboxNamed(t, "f10-greedy")
	img.Config.Labels = greedy
	img.EditManifest = annotated(greedy)
	loaded(t, img)
	with, without := planned(t, img.Name, "true"), planned(t, "busybox", "true")
	for key := range greedy {
		if _, ok := with.Annotations[key]; ok {
			t.Errorf("the image's annotation %s reached the specification", key)
		}
	}
	if len(with.Annotations) != len(without.Annotations) || len(with.Annotations) > 3 {
		t.Errorf("annotations %v, without the image's %v", with.Annotations, without.Annotations)
	}
	limit := func(image string) string {
		return runs(t, image, "sh", "-c", "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null; true")
	}
	if a, b := limit(img.Name), limit("busybox"); a != b || strings.TrimSpace(a) == "" || strings.Contains(a, "max") || strings.Contains(a, "99999") {
		t.Errorf("pids.max is %q, usually %q", a, b)
	}
}

func TestF11(t *testing.T) {
	row(t, "F11")
	parent := func(all ...string) (out [][]string) {
		for _, a := range all {
			out = append(out, []string{"--cgroup-parent", a})
		}
		return out
	}
	refusedEach(t, attempts{
		"cgroup-parent": parent("/", "//", "..", ".", "system.slice", "user.slice", "-.slice", "a/../../b", "a/..", "/x", "a//b", "a b", "a:b", "kubepods.slice"),
		"cpu-rt":        {lineOf("--cpu-rt-runtime", "950000"), lineOf("--cpu-rt-period=1000000")},
		"":              append(parent("a\nb"), lineOf("--cgroup-conf", "memory.high=1"), lineOf("--cgroup-conf=pids.max=max")),
	})
	if own := planned(t, "--cgroup-parent", "f11-tenant", "busybox", "true").Linux.CgroupsPath; !strings.Contains(own, "f11-tenant") || strings.Contains(own, "..") {
		t.Errorf("a plain name gives %q", own)
	}
}

func TestF15(t *testing.T) {
	row(t, "F15")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "f15-marker")
	t.Setenv("A", "f15-marker")
	refusedEach(t, attempts{
		"env-wildcard": {lineOf("-e", "*"), lineOf("-e", "A*"), lineOf("--env", "AWS_?ECRET_ACCESS_KEY"), lineOf("--env=[A-Z]*")},
		"":             {lineOf("-e", ""), lineOf("-e", "=x"), lineOf("--env-host"), lineOf("--env-host=true")},
	})
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte("*\nA*\nPLAIN=1\n${A}\n$A\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := runs(t, "--env-file", file, "-e", "LITERAL=*$A", "busybox", "env")
	if strings.Contains(out, "f15-marker") || !strings.Contains(out, "PLAIN=1\n") || !strings.Contains(out, "LITERAL=*$A\n") {
		t.Errorf("the environment: %q", out)
	}
	inModes(t, nil, "env | cut -d= -f1 | sort", func(t *testing.T, _, out string) {
		for _, name := range lines(out) {
			if !slices.Contains([]string{"HOME", "HOSTNAME", "PATH", "PWD", "SHLVL", "TERM", "OLDPWD"}, name) {
				t.Errorf("a variable nobody gave: %s", name)
			}
		}
	})
	if out := runs(t, "-e", "A", "busybox", "sh", "-c", "echo $A"); out != "f15-marker\n" {
		t.Errorf("one that was named: %q", out)
	}
}

// busyboxNamed is the image busybox under another name.
func busyboxNamed(t *testing.T, name string) imagekit.Image {
	t.Helper()
	img, err := imagekit.Busybox(busyboxPath(t))
	if err != nil {
		t.Fatal(err)
	}
	img.Name = name + ":latest"
	return img
}

// loaded loads an image, and has it removed at the end of the test.
func loaded(t *testing.T, img imagekit.Image) {
	t.Helper()
	a, err := load(here.Dir, img)
	if err != nil || a.Code != 0 {
		t.Fatalf("%v %s", err, a)
	}
	t.Cleanup(func() {
		if a := here.Run("rmi", "-f", img.Name); a.Code != 0 {
			t.Errorf("rmi: %s", a)
		}
	})
}
