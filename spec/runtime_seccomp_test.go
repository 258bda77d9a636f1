package spec

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// callsProgram builds testdata/calls for an architecture.
func callsProgram(t testing.TB, arch string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "calls-"+arch)
	c := exec.Command("go", "build", "-o", out, "./testdata/calls")
	c.Env = append(os.Environ(), "GOARCH="+arch, "CGO_ENABLED=0")
	if msg, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	return out
}

// TestRuntimeSeccomp asks the kernel itself, with the filter as runc and
// libseccomp make it.
func TestRuntimeSeccomp(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the numbers are amd64's")
	}
	runtimeBinary(t)
	const denied, missing, ok = "operation-not-permitted", "function-not-implemented", "ok"
	calls := []struct {
		call  string
		want  string // or one of several, by blanks
		about string
	}{
		{"9999", missing, "a number nobody knows"},
		{fmt.Sprint(unix.SYS_CLONE3), missing, "clone3"},
		{fmt.Sprint(unix.SYS_IO_URING_SETUP), denied, "io_uring_setup"},
		{fmt.Sprint(unix.SYS_KEYCTL), denied, "keyctl"},
		{fmt.Sprint(unix.SYS_ADD_KEY), denied, "add_key"},
		{fmt.Sprint(unix.SYS_BPF), denied, "bpf"},
		{fmt.Sprint(unix.SYS_PERF_EVENT_OPEN), denied, "perf_event_open"},
		{fmt.Sprint(unix.SYS_USERFAULTFD), denied, "userfaultfd"},
		{fmt.Sprint(unix.SYS_OPEN_BY_HANDLE_AT), denied, "open_by_handle_at"},
		{fmt.Sprint(unix.SYS_PTRACE), denied, "ptrace"},
		{fmt.Sprint(unix.SYS_PROCESS_VM_READV), denied, "process_vm_readv"},
		{fmt.Sprint(unix.SYS_KCMP), denied, "kcmp"},
		{fmt.Sprint(unix.SYS_PIDFD_GETFD), denied, "pidfd_getfd"},
		{fmt.Sprint(unix.SYS_MODIFY_LDT), denied, "modify_ldt"},
		{fmt.Sprint(unix.SYS_FSOPEN), denied, "fsopen"},
		{fmt.Sprint(unix.SYS_OPEN_TREE), denied, "open_tree"},
		{fmt.Sprint(unix.SYS_MOUNT), denied, "mount"},
		{fmt.Sprint(unix.SYS_PIVOT_ROOT), denied, "pivot_root"},
		{fmt.Sprint(unix.SYS_CHROOT), denied, "chroot"},
		{fmt.Sprint(unix.SYS_SETNS), denied, "setns"},
		{fmt.Sprint(unix.SYS_KEXEC_LOAD), denied, "kexec_load"},
		{fmt.Sprintf("%d,0x10000000", unix.SYS_UNSHARE), denied, "unshare"},
		{fmt.Sprintf("%d,0x10000011", unix.SYS_CLONE), denied, "clone with a user namespace"},
		{fmt.Sprintf("%d,0xffffffff", unix.SYS_PERSONALITY), ok, "personality, query"},
		{fmt.Sprintf("%d,0x40000", unix.SYS_PERSONALITY), denied, "personality without randomisation"},
		{fmt.Sprintf("%d,0,0x5412,0", unix.SYS_IOCTL), denied, "TIOCSTI"},
		{fmt.Sprintf("%d,0,0x100005412,0", unix.SYS_IOCTL), denied, "TIOCSTI with an upper half"},
		{fmt.Sprintf("%d,0,0x541c,0", unix.SYS_IOCTL), denied, "TIOCLINUX"},
		{fmt.Sprintf("%d,0,0x5401,0", unix.SYS_IOCTL), "inappropriate-ioctl-for-device bad-address", "TCGETS"},
		{fmt.Sprintf("%d,0,0x5413,0", unix.SYS_IOCTL), "inappropriate-ioctl-for-device bad-address", "TIOCGWINSZ"},
		{fmt.Sprintf("%d,30,1,0", unix.SYS_SOCKETPAIR), denied, "a pair of TIPC sockets"},
		{fmt.Sprintf("%d,16,3,0", unix.SYS_SOCKET), ok, "NETLINK_ROUTE"},
		{fmt.Sprintf("%d,16,3,6", unix.SYS_SOCKET), denied, "NETLINK_XFRM"},
		{fmt.Sprintf("%d,16,3,12", unix.SYS_SOCKET), denied, "NETLINK_NETFILTER"},
		{fmt.Sprintf("%d,2,3,1", unix.SYS_SOCKET), denied, "raw ICMP"},
	}
	for family := range 47 {
		want := denied
		if family == unix.AF_UNIX || family == unix.AF_INET || family == unix.AF_INET6 {
			want = "ok address-family-not-supported-by-protocol"
		}
		if family != unix.AF_NETLINK {
			calls = append(calls, struct{ call, want, about string }{fmt.Sprintf("%d,%d,1,0", unix.SYS_SOCKET, family), want, "socket family " + fmt.Sprint(family)})
		}
	}
	in := hostInput(t)
	in.ID = testID(t)
	in.Workload.Args = []string{"/bin/calls-amd64"}
	for _, c := range calls {
		in.Workload.Args = append(in.Workload.Args, c.call)
	}
	dir := bundle(t, in, callsProgram(t, "amd64"), callsProgram(t, "386"))
	out, code := run(t, dir, buildVerified(t, in))
	if code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	got := map[string]string{}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) >= 2 {
			got[f[0]] = f[1]
		}
	}
	for _, c := range calls {
		if g := got[c.call]; g == "" || !strings.Contains(" "+c.want+" ", " "+g+" ") {
			t.Errorf("%s (%s): %q, want %q", c.about, c.call, g, c.want)
		}
	}

	// A 32-bit program could reach every family by socketcall; its thread is
	// killed at its first call. So is that of an x32 call, where the other
	// threads of a Go program would wait for ever.
	for name, call := range map[string]string{
		"386": "calls-386 102,1,0",
		"x32": fmt.Sprintf("calls-amd64 %#x", 1<<30|unix.SYS_GETPID),
	} {
		in.Workload.Args = []string{"sh", "-c", "timeout -s KILL 1 " + call + "; echo status $?"}
		out, _ := run(t, dir, buildVerified(t, in))
		if strings.Contains(out, " ok") || !strings.Contains(out, "status 159") && !strings.Contains(out, "status 137") {
			t.Errorf("%s: %s", name, out)
		}
		t.Logf("%s: %s", name, strings.TrimSpace(out))
	}
}
