package threats

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/host"
	"github.com/safe-run/safe-run/policy"
	"github.com/safe-run/safe-run/profiles"
	"github.com/safe-run/safe-run/spec"
)

func TestC1(t *testing.T) {
	row(t, "C1")
	const some = `"syscalls":[{"names":["read","write","exit_group","execve"],"action":"SCMP_ACT_ALLOW"}]`
	var flags [][]string
	for i, text := range []string{
		"", " ", "{}", "null", "[]", "[{}]", "true", `""`, "0", "{",
		`{"defaultAction":""}`, `{"defaultAction":"","syscalls":[]}`, `{` + some + `}`,
		`{"defaultAction":"SCMP_ACT_ERRNO"}`, `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":null}`, `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[]}`,
		`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":[],"action":"SCMP_ACT_ALLOW"}]}`,
		`{"defaultAction":"SCMP_ACT_ERRNO","unknown":1,` + some + `}`,
		`{"defaultAction":"SCMP_ACT_ERRNO","defaultAction":"SCMP_ACT_ALLOW",` + some + `}`,
		`{"DefaultAction":"SCMP_ACT_ERRNO",` + some + `}`,
		`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"name":"read","action":"allow"}]}`,
		`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":{"names":["read"]}}`,
		`{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":0,` + some + `}`,
		`{"default_action":"SCMP_ACT_ERRNO",` + some + `}`,
		"\xef\xbb\xbf" + `{"defaultAction":"SCMP_ACT_ERRNO",` + some + `}`,
		`{"defaultAction":"SCMP_ACT_ERRNO",` + some + `} {}`,
		`{"defaultAction":"SCMP_ACT_ERRNO",` + some + `} trailing`,
		`{"defaultAction":"SCMP_ACT_ERRNO",` + some + "}\x00",
		`{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ERRNO",` + some + `}}}`,
		strings.Repeat("[", 100_000),
	} {
		flags = append(flags, []string{"--security-opt", "seccomp=" + wrote(t, fmt.Sprintf("c1-%d.json", i), text)})
	}
	flags = append(flags, []string{"--security-opt", "seccomp="}, []string{"--security-opt", "seccomp=/nonexistent"}, []string{"--security-opt", "seccomp=/dev/null"},
		[]string{"--security-opt", "seccomp=" + here.Dir}, []string{"--security-opt", "seccomp=builtin", "--security-opt", "seccomp=unconfined"},
		[]string{"--security-opt", "Seccomp=unconfined"}, []string{"--security-opt", "seccomp=Unconfined"})
	refused(t, "", flags...)
	refused(t, "seccomp-unconfined", []string{"--security-opt", "seccomp=unconfined"}, []string{"--security-opt", "seccomp:unconfined"})
	inModes(t, nil, "grep Seccomp: /proc/self/status", prints("Seccomp:\t2\n"))
	// One that is whole is taken, and is what is on.
	file := seccompFile(t, nil)
	a := here.Run("run", "--rm", "--security-opt", "seccomp="+file, denImage, "grep", "Seccomp:", "/proc/self/status")
	if a.Stdout != "Seccomp:\t2\n" {
		t.Error(a)
	}
}

func TestC2(t *testing.T) {
	row(t, "C2")
	var flags [][]string
	for _, action := range []string{"SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY", "scmp_act_errno", "ALLOW"} {
		text := `{"defaultAction":"` + action + `","syscalls":[{"names":["reboot"],"action":"SCMP_ACT_ERRNO"},{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}`
		flags = append(flags, []string{"--security-opt", "seccomp=" + wrote(t, "c2.json", text)})
	}
	refused(t, "seccomp-profile", flags...)
	for _, action := range []string{"SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY"} {
		text := `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read","mount"],"action":"` + action + `"}]}`
		refused(t, "", []string{"--security-opt", "seccomp=" + wrote(t, "c2.json", text)})
	}
	listener := `{"defaultAction":"SCMP_ACT_ERRNO","listenerPath":"/run/x","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}`
	refused(t, "", []string{"--security-opt", "seccomp=" + wrote(t, "c2.json", listener)})
	// A filter is on, and it filters: what it is for is tried.
	probed(t, "seccomp", "bpf", "unshare-user", "io_uring", "keyctl", "socket-alg")
}

func TestC3(t *testing.T) {
	row(t, "C3")
	const some = `"syscalls":[{"names":["read","write","execve","exit_group","mmap","mprotect","arch_prctl","set_tid_address","brk"],"action":"SCMP_ACT_ALLOW"}]`
	native, _ := drySpec(t)
	for _, arches := range []string{
		`"architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32"],`,
		`"architectures":["SCMP_ARCH_ARM"],`,
		`"architectures":["SCMP_ARCH_X86"],`,
		`"architectures":[],`,
		`"archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86","SCMP_ARCH_X32"]},{"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]}],`,
		``,
	} {
		file := wrote(t, "c3.json", `{"defaultAction":"SCMP_ACT_ERRNO",`+arches+some+`}`)
		a := here.Run("run", "--rm", "--dry-run", "--security-opt", "seccomp="+file, denImage, "true")
		if a.Code == 125 && strings.Contains(a.Stderr, "seccomp") {
			continue // not taken at all
		}
		s, _ := drySpec(t, "--security-opt", "seccomp="+file)
		if got, want := fmt.Sprint(s.Linux.Seccomp.Architectures), fmt.Sprint(native.Linux.Seccomp.Architectures); got != want {
			t.Errorf("%s makes a filter for %s, not %s", arches, got, want)
		}
	}
	refused(t, "", []string{"--security-opt", "seccomp=" + wrote(t, "c3.json", `{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_NONSENSE"],`+some+`}`)})
	// A 32 bit program under such a file.
	file := seccompFile(t, func(f *specs.LinuxSeccomp) {
		f.Architectures = append(f.Architectures, "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")
	})
	a := here.Run("run", "--rm", "--security-opt", "seccomp="+file, denImage, "/probe32", "splice")
	if a.Code != 159 && (a.Code != 126 || foreign32(t)) {
		t.Errorf("a 32 bit program: %s", a)
	}
}

func TestC4(t *testing.T) {
	row(t, "C4")
	refused(t, "apparmor-unconfined", []string{"--security-opt", "apparmor=unconfined"}, []string{"--security-opt", "apparmor:unconfined"}, []string{"--security-opt", "apparmor=UNCONFINED"})
	refused(t, "apparmor-profile", []string{"--security-opt", "apparmor=c4-no-such-profile"}, []string{"--security-opt", "apparmor=/usr/bin/man"})
	refused(t, "", []string{"--security-opt", "apparmor="})
	ours := profiles.AppArmorName()
	s, _ := drySpec(t)
	for _, label := range []string{"", "unconfined", "another"} {
		s.Process.ApparmorProfile = label
		err := spec.Verify(&s, spec.VerifyInput{Host: spec.Features{AppArmor: true}, AppArmorProfile: ours})
		if !strings.Contains(fmt.Sprint(err), "lsm: ") {
			t.Errorf("the last look at the specification lets the label %q pass", label)
		}
	}
	if host.Probe().AppArmor {
		enforced(t, ours)
		return
	}
	// A kernel with AppArmor of which nothing can be had: nothing is run.
	if err := unix.Mount("modules", "/sys/module", "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount("/sys/module", unix.MNT_DETACH)
	if err := os.MkdirAll("/sys/module/apparmor/parameters", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/sys/module/apparmor/parameters/enabled", []byte("Y\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	a := here.Run("run", "--rm", denImage, "echo", "RAN")
	if a.Code != 125 || strings.Contains(a.Stdout, "RAN") || !strings.Contains(a.Stderr, "AppArmor") {
		t.Errorf("it ran without its profile: %s", a)
	}
	if err := unix.Unmount("/sys/module", unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	// A host without any, and a site that wants one.
	if !host.Probe().SELinux {
		inForce(t, "require-lsm: true\n")
		refused(t, "require-lsm", nil)
	}
}

// enforced is C4 where the kernel has AppArmor.
func enforced(t *testing.T, ours string) {
	t.Helper()
	const show = "cat /proc/self/attr/apparmor/current 2>/dev/null || cat /proc/self/attr/current"
	inModes(t, nil, show, prints(ours+" (enforce)\n"))
	// A profile that only complains. Other containers have it too, for that moment.
	parse := func(text string) {
		t.Helper()
		cmd := exec.Command("apparmor_parser", "-Kr")
		cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/sbin:/usr/bin:/bin")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("apparmor_parser: %v: %s", err, out)
		}
	}
	text := profiles.AppArmor(ours)
	parse(strings.Replace(text, "flags=(", "flags=(complain,", 1))
	a := here.Run("run", "--rm", denImage, "echo", "RAN")
	parse(text)
	if a.Code != 125 || strings.Contains(a.Stdout, "RAN") {
		t.Errorf("with a profile that complains: %s", a)
	}
	inModes(t, nil, show, prints(ours+" (enforce)\n"))
}

func TestC5(t *testing.T) {
	row(t, "C5")
	var flags []string
	if host.Probe().AppArmor {
		granted(t, "allow: [apparmor-unconfined]")
		flags = []string{"--security-opt", "apparmor=unconfined"}
	}
	for id, x := range verdicts(t, flags...) {
		if x.Verdict == "OPEN" {
			t.Errorf("without AppArmor: %s: %s %s", id, x.Errno, x.Note)
		}
	}
	// Names for one file that a rule on paths would not know.
	const aliases = `for p in /proc/self/root/proc/sysrq-trigger /proc/1/root/proc/sys/kernel/core_pattern /dev/fd/../../sys/kernel/core_pattern /proc/self/cwd/proc/sys/kernel/core_pattern /proc/thread-self/root/proc/kcore; do (: >>$p) 2>/dev/null && echo $p; done; true`
	inModes(t, nil, "cd /; "+strings.Replace(aliases, "(:", "[ -s $p ] || [ ! -c $p ] && (:", 1), prints(""))
}

func TestC6(t *testing.T) {
	row(t, "C6")
	refused(t, "label-disable", []string{"--security-opt", "label=disable"}, []string{"--security-opt", "label:disable"}, []string{"--security-opt", "label=DISABLE"})
	refused(t, "label", []string{"--security-opt", "label=type:spc_t"}, []string{"--security-opt", "label=level:s0"}, []string{"--security-opt", "label:user:system_u"})
	for _, c := range []struct {
		selinux bool
		relabel string
		bad     bool
	}{{true, "z", true}, {true, "Z", true}, {false, "Z", false}, {false, "zz", true}, {true, "", false}} {
		r := policy.Request{
			Host:     spec.Features{SELinux: c.selinux},
			Workload: spec.Workload{Mounts: []spec.Mount{{Type: spec.MountBind, Source: "/srv/c6", Target: "/x", Relabel: c.relabel}}},
			Sources:  map[int]spec.Source{0: {Asked: "/srv/c6", Real: "/srv/c6", Mode: os.ModeDir | 0o755}},
		}
		_, refusals := policy.Review(r)
		if got := strings.Contains(fmt.Sprint(refusals), "mount-relabel"); got != c.bad {
			t.Errorf("relabelling with %q where SELinux is %v: refused %v: %v", c.relabel, c.selinux, got, refusals)
		}
	}
	s, _ := drySpec(t)
	for _, label := range []string{"", "system_u:system_r:spc_t:s0"} {
		s.Process.SelinuxLabel = label
		err := spec.Verify(&s, spec.VerifyInput{Host: spec.Features{SELinux: true}, SELinuxLabel: "system_u:system_r:container_t:s0:c1,c2"})
		if !strings.Contains(fmt.Sprint(err), "lsm: ") {
			t.Errorf("the last look at the specification lets the label %q pass", label)
		}
	}
}

func TestC9(t *testing.T) {
	row(t, "C9")
	const show = `grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp|Seccomp_filters|Cpus_allowed_list|Mems_allowed_list):' /proc/self/status
cat /proc/self/cgroup /proc/self/uid_map | awk '{ print $1, $3 }'; ulimit -a; cat /proc/self/attr/current 2>/dev/null; cat /proc/self/oom_score_adj; env | grep -vE '^(HOSTNAME|PWD|OLDPWD|SHLVL|_)=' | sort
for ns in user pid net ipc uts mnt cgroup; do [ "$(readlink /proc/self/ns/$ns)" = "$(readlink /proc/1/ns/$ns)" ] || echo another $ns; done`
	for _, flags := range [][]string{nil, {"-u", "1000", "--cap-add", "NET_BIND_SERVICE"}} {
		first := ""
		inModes(t, flags, show, func(t *testing.T, mode, out string) {
			if mode == initProcess {
				first = out
			}
			if out != first || len(lines(out)) < 20 || !strings.Contains(out, "NoNewPrivs:\t1") {
				t.Errorf("%v: %s has\n%s\nand not\n%s", flags, mode, out, first)
			}
		})
	}
	detached(t, "c9-user", "-u", "1000", denImage, "sleep", "600")
	for _, user := range []string{"0", "0:0", "root", "1000", "65534"} {
		a := here.Run("exec", "-u", user, "c9-user", "grep", "-E", "Cap|NoNewPrivs|Seccomp:", "/proc/self/status")
		if a.Stdout != capabilityLines()+"NoNewPrivs:\t1\nSeccomp:\t2\n" {
			t.Errorf("exec -u %s: %s", user, a)
		}
	}
	for _, args := range [][]string{
		{"exec", "--privileged", "c9-user", "true"},
		{"exec", "-w", "/proc/self/fd/3", "c9-user", "true"},
		{"exec", "-u", "4294967296", "c9-user", "true"},
		{"exec", "--cap-add", "CHOWN", "c9-user", "true"},
	} {
		if a := here.Run(args...); a.Code == 0 {
			t.Errorf("%q: %s", args, a)
		}
	}
}

func TestC10(t *testing.T) {
	row(t, "C10")
	t.Cleanup(func() { here.Run("rm", "-f", "c10-plain", "c10-granted") })
	if a := here.Run("run", "--name", "c10-plain", denImage, "echo", "RAN"); a.Stdout != "RAN\n" {
		t.Fatal(a)
	}
	starts := func(name, refusal string) {
		t.Helper()
		for _, verb := range [][]string{{"start", "-a"}, {"restart"}} {
			a := here.Run(append(verb, name)...)
			if a.Code == 0 || strings.Contains(a.Stdout, "RAN") || !strings.Contains(a.Stderr, refusal) {
				t.Errorf("%q of what today's policy refuses: %s", verb, a)
			}
		}
	}
	t.Run("stricter", func(t *testing.T) {
		inForce(t, "require-digest: true\n")
		starts("c10-plain", "require-digest")
	})
	t.Run("other registries", func(t *testing.T) {
		inForce(t, "registries: [registry.example]\n")
		starts("c10-plain", "registry")
	})
	t.Run("not to be understood", func(t *testing.T) {
		inForce(t, "require-digset: true\n")
		starts("c10-plain", "policy")
	})
	t.Run("granted", func(t *testing.T) {
		granted(t, "capabilities: [SYS_PTRACE]")
		if a := here.Run("run", "--name", "c10-granted", "--cap-add", "SYS_PTRACE", denImage, "echo", "RAN"); a.Stdout != "RAN\n" {
			t.Fatal(a)
		}
	})
	starts("c10-granted", "capability")
	if a := here.Run("start", "-a", "c10-plain"); a.Stdout != "RAN\n" {
		t.Errorf("as the policy was: %s", a)
	}
}

func TestC11(t *testing.T) {
	row(t, "C11")
	const limits = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max 2>/dev/null"
	detached(t, "c11-limits", "-m", "64m", "--pids-limit", "20", denImage, "sleep", "600")
	show := func() string { return here.Run("exec", "c11-limits", "sh", "-c", limits).Stdout }
	before := show()
	if before != "67108864\n20\n" {
		t.Fatalf("limits %q", before)
	}
	for _, args := range [][]string{
		{"update", "c11-limits"},
		{"update", "--memory", "2g", "c11-limits"},
		{"update", "--pids-limit", "-1", "c11-limits"},
		{"container", "update", "--memory", "2g", "c11-limits"},
	} {
		a := here.Run(args...)
		if a.Code == 0 || strings.Contains(a.Stderr, "pull") || strings.Contains(a.Stderr, "locally") {
			t.Errorf("%q is taken for an image, or works: %s", args, a)
		}
	}
	if after := show(); after != before {
		t.Errorf("the limits were %q and are %q", before, after)
	}
	// Restarted, it has the limits it was made with.
	if a := here.Run("restart", "-t", "0", "c11-limits"); a.Code != 0 {
		t.Fatal(a)
	}
	if after := show(); after != before {
		t.Errorf("the limits were %q and are %q", before, after)
	}
}

func TestC12(t *testing.T) {
	row(t, "C12")
	detached(t, "c12-own", denImage, "sleep", "600")
	for _, ns := range []string{"default", "moby", "k8s.io"} {
		if out := here.Ctr(t, "--namespace", ns, "containers", "ls", "-q"); out != "" {
			t.Errorf("containers in the namespace %s: %q", ns, out)
		}
	}
	// Whoever is not root of the host does not get there.
	for _, try := range []string{"ls " + filepath.Dir(here.Socket), "cat <>" + here.Socket, "ls " + here.Root + "/containers"} {
		cmd := exec.Command("sh", "-c", try)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "ermission denied") {
			t.Errorf("%s as nobody: %v: %s", try, err, out)
		}
	}
	for l := range strings.Lines(here.Ctr(t, "plugins", "ls")) {
		f := strings.Fields(l)
		if len(f) > 1 && f[len(f)-1] == "ok" && (strings.Contains(l, "cri") || strings.Contains(l, ".nri") || strings.Contains(l, "grpc-tcp")) {
			t.Errorf("the engine has the plugin %s", l)
		}
	}
}

func TestC14(t *testing.T) {
	row(t, "C14")
	ids := map[string]string{}
	for i, restart := range []string{"always", "unless-stopped", "on-failure:3"} {
		name := fmt.Sprintf("c14-box%d", i)
		ids[name] = detached(t, name, "--restart", restart, "--label", "note=x", denImage, "sleep", "600")
	}
	for name, id := range ids {
		info := here.Ctr(t, "containers", "info", id)
		if !strings.Contains(info, id) || strings.Contains(info, "containerd.io/restart") {
			t.Errorf("%s: %s", name, info)
		}
	}
	// A label of the user's is noted by safe-run, never given to containerd.
	id := detached(t, "c14-label", "--label", "containerd.io/restart.status=running", "--label", "containerd.io/restart.policy=always",
		"--label", "containerd.io/restart.loguri=binary:///bin/touch?/tmp/c14", denImage, "sleep", "600")
	if info := here.Ctr(t, "containers", "info", id); strings.Contains(info, "restart.") {
		t.Errorf("labels of containerd's: %s", info)
	}
	for l := range strings.Lines(here.Ctr(t, "plugins", "ls")) {
		f := strings.Fields(l)
		if len(f) > 1 && f[len(f)-1] == "ok" && strings.Contains(l, "restart") {
			t.Errorf("the engine has a restart monitor: %s", l)
		}
	}
}
