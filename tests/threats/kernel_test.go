package threats

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/spec"
	"github.com/safe-run/safe-run/tests/harness"
	"github.com/safe-run/safe-run/tests/imagekit"
)

func TestK1(t *testing.T) {
	row(t, "K1")
	stopped(t, "open_by_handle_at", "shocker")
	// With the capability and the call, which a site can grant, it is a
	// capability of the container's namespace: the host's files stay closed.
	granted(t, "capabilities: [DAC_READ_SEARCH]")
	dir := filepath.Join(here.Dir, "k1-src")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for _, mode := range []string{"", ":ro"} {
		flags := []string{"--cap-add", "DAC_READ_SEARCH", "-v", dir + ":/src" + mode}
		of := verdicts(t, flags...)
		verdictIs(t, "with the capability", of, "blocked", "open_by_handle_at", "shocker")
		verdictIs(t, "with the capability", of, "OPEN", "capabilities") // it was there
	}
}

var capabilitySets = []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}

// capabilityLines is what /proc/self/status shows of a process with these
// masks, in the order of capabilitySets.
func capabilityLines(masks ...uint64) string {
	var b strings.Builder
	for i, set := range capabilitySets {
		mask := uint64(0)
		if len(masks) > 0 {
			mask = masks[i]
		}
		fmt.Fprintf(&b, "%s:\t%016x\n", set, mask)
	}
	return b.String()
}

func TestK2(t *testing.T) {
	row(t, "K2")
	const show = "grep Cap /proc/self/status"
	inModes(t, nil, show, prints(capabilityLines()))
	inModes(t, []string{"-u", "1000"}, show, prints(capabilityLines()))
	probed(t, "capabilities")
	// What is added is all there is.
	const chown = 1
	inModes(t, []string{"--cap-add", "CHOWN"}, show, prints(capabilityLines(0, chown, chown, chown, 0)))
	refused(t, "cap-all", []string{"--cap-add", "ALL"}, []string{"--cap-add=all"}, []string{"--cap-add", "cap_all"})
	refused(t, "capability", []string{"--cap-add", "SYS_ADMIN"}, []string{"--cap-add", "cap_net_admin"}, []string{"--cap-add", "Sys_Ptrace"})
	refused(t, "cap-host-only", []string{"--cap-add", "SYS_MODULE"}, []string{"--cap-add", "sys_rawio"})
}

func TestK3(t *testing.T) {
	row(t, "K3")
	for _, flags := range [][]string{nil, {"-u", "1000"}, {"--cap-add", "CHOWN"}, {"--cap-add", "CHOWN", "--cap-drop", "ALL"}, {"--cap-drop", "CHOWN"}} {
		s, text := drySpec(t, flags...)
		if s.Process.Capabilities == nil || !strings.Contains(text, `"capabilities": {`) {
			t.Errorf("%q: no capabilities object: the runtime decides", flags)
		}
		broken := func() []string {
			err := spec.Verify(&s, spec.VerifyInput{})
			var of []string
			for line := range strings.Lines(fmt.Sprint(err)) {
				if strings.Contains(line, "capabilities: ") {
					of = append(of, line)
				}
			}
			return of
		}
		s.Process.Capabilities = nil
		if len(broken()) == 0 {
			t.Errorf("%q: the last look at the specification lets one without the object pass", flags)
		}
	}
}

// fileCapability is the extended attribute for one permitted and effective
// capability (struct vfs_cap_data, revision 2).
func fileCapability(bit uint) string {
	b := make([]byte, 20)
	b[0], b[3] = 1, 2 // VFS_CAP_FLAGS_EFFECTIVE, VFS_CAP_REVISION_2
	b[4+bit/8] = 1 << (bit % 8)
	return string(b)
}

func TestK4(t *testing.T) {
	row(t, "K4")
	probe, err := os.ReadFile(filepath.Join(here.Repo, "build/probe"))
	if err != nil {
		t.Fatal(err)
	}
	const netRaw = 13
	img := imagekit.Image{Name: "k4-raise:latest", Layers: []imagekit.Layer{{Entries: []imagekit.Entry{
		{Path: "plain", Mode: 0o755, Body: probe},
		{Path: "setuid", Mode: 0o4755, Body: probe},
		{Path: "setgid", Mode: 0o2755, Body: probe},
		{Path: "capable", Mode: 0o755, Body: probe, Xattrs: map[string]string{"security.capability": fileCapability(netRaw)}},
	}}}}
	if a, err := load(here.Dir, img); err != nil || a.Code != 0 {
		t.Fatal(err, a)
	}
	defer here.Run("rmi", "k4-raise")
	raise := func(file string, flags ...string) string {
		t.Helper()
		a := here.Run(append(append([]string{"run", "--rm", "-u", "1000:1000"}, flags...), "k4-raise", "/"+file, "ids")...)
		return a.Stdout + a.Stderr
	}
	const none = "0000000000000000"
	const own = "1000 1000 " + none + " " + none + "\n"
	for _, file := range []string{"plain", "setuid", "setgid"} {
		if got := raise(file); got != own {
			t.Errorf("%s made of uid 1000: %q", file, got)
		}
	}
	// The exec of a program fails that says it must have what cannot be had.
	if got := raise("capable"); got != own && !strings.Contains(got, "operation not permitted") {
		t.Errorf("a file's capability: %q", got)
	}
	for _, caps := range [][]string{{"--cap-add", "NET_RAW"}, {"--cap-add", "SETUID", "--cap-add", "SETGID"}} {
		for _, file := range []string{"setuid", "setgid"} {
			if got := raise(file, caps...); !strings.HasPrefix(got, "1000 1000 ") {
				t.Errorf("%s with %v made of uid 1000: %q", file, caps, got)
			}
		}
	}
	inModes(t, nil, "grep NoNewPrivs /proc/self/status", prints("NoNewPrivs:\t1\n"))
	// These files do raise where a site lets them.
	inForce(t, "grants:\n  - {image: docker.io/library/k4-raise, allow: [new-privileges]}\n")
	if got := raise("setuid", "--security-opt", "no-new-privileges=false"); !strings.HasPrefix(got, "0 1000 ") {
		t.Errorf("the test's own setuid program does nothing: %q", got)
	}
}

func TestK5(t *testing.T) {
	row(t, "K5")
	const netBind = 1 << 10
	// Processes of one container listen one after another, each on a port of its own.
	const listen = `p=$((80 + $$ % 900)); httpd -p $p -h /tmp; echo $?; killall httpd 2>/dev/null; true`
	user := []string{"-u", "1000"}
	inModes(t, user, listen, prints("httpd: bind: Permission denied\n1\n"))
	able := []string{"-u", "1000", "--cap-add", "NET_BIND_SERVICE"}
	// An ambient capability has to be inheritable as well (capabilities(7)).
	inModes(t, able, "grep Cap /proc/self/status; "+listen, prints(capabilityLines(netBind, netBind, netBind, netBind, netBind)+"0\n"))
}

func TestK6(t *testing.T) {
	row(t, "K6")
	stopped(t, "mknod-block", "mknod-mem")
	inModes(t, nil, "mknod /tmp/x b 8 0; mknod /tmp/y c 1 1; mknod /dev/z b 8 0; ls /tmp/x /tmp/y /dev/z 2>/dev/null; true", func(t *testing.T, _, out string) {
		if strings.Count(out, "Operation not permitted") != 3 || len(lines(out)) != 3 {
			t.Errorf("mknod: %q", out)
		}
	})
	refused(t, "cap-host-only", []string{"--cap-add", "MKNOD"}, []string{"--cap-add", "cap_mknod"})
	s, _ := drySpec(t)
	rules := s.Linux.Resources.Devices
	if len(rules) == 0 || rules[0].Allow || rules[0].Access != "rwm" || rules[0].Major != nil {
		t.Fatalf("the first device rule does not deny all: %+v", rules)
	}
	for _, r := range rules {
		if r.Allow && (r.Type != "c" || r.Major == nil || *r.Major == 1 && (r.Minor == nil || *r.Minor < 3 || *r.Minor == 4)) {
			t.Errorf("device rule %+v", r)
		}
	}
}

func TestK7(t *testing.T) {
	row(t, "K7")
	stopped(t, "socket-packet", "socket-raw")
	for _, flags := range [][]string{nil, {"-u", "1000"}} {
		inModes(t, flags, "/probe ping 127.0.0.1", prints("pong\n"))
	}
	// The capability is free, but of raw sockets it opens those of IP alone.
	of := verdicts(t, "--cap-add", "NET_RAW")
	verdictIs(t, "with NET_RAW", of, "OPEN", "socket-raw")
	verdictIs(t, "with NET_RAW", of, "blocked", "socket-packet", "socket-families", "netlink-protocols")
}

func TestK8(t *testing.T) {
	row(t, "K8")
	var ids []string
	for _, ns := range []string{"user", "mount", "net", "pid", "ipc", "uts", "cgroup"} {
		ids = append(ids, "clone-"+ns, "unshare-"+ns)
	}
	stopped(t, append(ids, "unshare-time", "setns-net", "setns-user", "clone3", "max_user_namespaces")...)
	probed(t, ids...)
	const try = "cat /proc/sys/user/max_user_namespaces; unshare -U true"
	inModes(t, nil, try, prints("0\nunshare: unshare(0x10000000): Operation not permitted\n"))
	// The limit is a lock of its own: it holds without the filter.
	granted(t, "allow: [seccomp-unconfined]")
	inModes(t, []string{"--security-opt", "seccomp=unconfined"}, try,
		prints("0\nunshare: unshare(0x10000000): No space left on device\n"))
}

func TestK9(t *testing.T) {
	row(t, "K9")
	stopped(t, "socket-families", "socketpair-families", "socket-alg")
	// With capabilities, other users, and a filter of the user's the families are the same.
	for _, flags := range [][]string{{"-u", "1000"}, {"--cap-add", "NET_RAW", "--cap-add", "SETUID"}, {"--network", "none"}} {
		verdictIs(t, fmt.Sprint(flags), verdicts(t, flags...), "blocked", "socket-families", "socketpair-families", "socket-alg")
	}
}

// foreign32 is whether this kernel runs 32 bit programs at all.
func foreign32(t *testing.T) bool {
	t.Helper()
	a := harness.Call(minute, "unshare", "--mount", "--net", filepath.Join(here.Repo, "build/probe32"), "splice")
	return a.Code == 0
}

func TestK10(t *testing.T) {
	row(t, "K10")
	stopped(t, "abi-int80", "abi-x32")
	runs := foreign32(t)
	inModes(t, nil, "/probe32 --json >/tmp/k10; echo $?; cat /tmp/k10", func(t *testing.T, _, out string) {
		// Killed by SIGSYS before it could say a word, or not even begun.
		code := lines(out)[len(lines(out))-1]
		if code != "159" && (runs || code != "126") {
			t.Errorf("a 32 bit program: %q", out)
		}
	})
	for _, flags := range [][]string{nil, {"--cap-add", "NET_RAW"}, {"--profile", "nginx"}, {"--profile", "redis"}} {
		s, _ := drySpec(t, flags...)
		if n := len(s.Linux.Seccomp.Architectures); n != 1 {
			t.Errorf("%q: %d architectures in the filter", flags, n)
		}
		for _, r := range s.Linux.Seccomp.Syscalls {
			if strings.Contains(strings.Join(r.Names, " ")+" ", "socketcall ") {
				t.Errorf("%q: socketcall in a rule %s", flags, r.Action)
			}
		}
	}
}
