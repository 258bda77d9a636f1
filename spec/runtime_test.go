package spec

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The tests in this file run the specs with the real runc as root. They are
// skipped where there is neither the engine of `make engine` nor a runc.

func runtimeBinary(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("needs root")
	}
	for _, p := range []string{"../build/engine/runc", "/usr/local/lib/safe-run/engine/runc"} {
		if p, err := filepath.Abs(p); err == nil {
			if _, err := os.Stat(p); err == nil {
				return p
			}
		}
	}
	t.Fatal("no engine; run make engine")
	return ""
}

// hostInput is a test input for the machine the test runs on.
func hostInput(t testing.TB) Input {
	t.Helper()
	in := testInput()
	in.Host.Arch = runtime.GOARCH
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	in.Host.CgroupV2 = err == nil
	for _, c := range []string{"memory", "pids", "cpu", "cpuset", "blkio", "io", "devices"} {
		in.Host.Controllers[c] = true
	}
	var files unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &files))
	in.Host.NofileHard, in.Host.HasResource = files.Max, false
	in.Host.CPUs = runtime.NumCPU()
	in.Host.CPUSet = "0-" + strconv.Itoa(runtime.NumCPU()-1)
	in.Files = HostFiles{}
	return in
}

// bundle makes a bundle with a root filesystem of busybox and the programs
// given, owned by the container's root.
func bundle(t testing.TB, in Input, programs ...string) string {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal("no static busybox; run make deps")
	}
	dir := t.TempDir()
	// The runtime, as the container's root, has to reach the bundle.
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755))
	}
	root := filepath.Join(dir, "rootfs")
	for _, d := range []string{"bin", "etc", "tmp"} {
		must(t, os.MkdirAll(filepath.Join(root, d), 0o755))
	}
	copyProgram(t, busybox, filepath.Join(root, "bin/busybox"))
	for _, applet := range []string{"sh", "cat", "ls", "touch", "grep", "id", "mkdir", "chmod", "stat", "head", "wc", "sleep", "true", "cp", "ulimit", "mount", "unshare", "chroot", "dd", "timeout"} {
		must(t, os.Symlink("busybox", filepath.Join(root, "bin", applet)))
	}
	for _, p := range programs {
		copyProgram(t, p, filepath.Join(root, "bin", filepath.Base(p)))
	}
	must(t, filepath.Walk(root, func(p string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(p, int(in.IDs.HostUID), int(in.IDs.HostGID))
	}))
	return dir
}

func copyProgram(t testing.TB, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, data, 0o755))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func writeSpec(t testing.TB, dir string, s *specs.Spec) {
	t.Helper()
	data, err := json.Marshal(s)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600))
}

// private mounts what a held descriptor stands for at a path nobody else can
// change. The path of the descriptor itself, /proc/PID/fd/N, cannot be a
// source: runc opens sources in the container's mount namespace already, and
// the kernel binds nothing from another one (EINVAL).
//
// What is left out with bind-recursive=disabled has to be left out here: for
// the container's user namespace the mounts below a source are locked, and a
// bind without them fails too.
func private(t testing.TB, held *os.File, recursive uint) string {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	must(t, unix.Mount("", dir, "", unix.MS_PRIVATE, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	tree, err := unix.OpenTree(int(held.Fd()), "", unix.AT_EMPTY_PATH|recursive|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	must(t, err)
	defer unix.Close(tree)
	p := filepath.Join(dir, "bind0")
	must(t, os.Mkdir(p, 0o700))
	must(t, unix.MoveMount(tree, "", unix.AT_FDCWD, p, unix.MOVE_MOUNT_F_EMPTY_PATH))
	return p
}

// testID differs between tests and runs: the cgroup has that name.
func testID(t testing.TB) string {
	h := []byte(strings.Repeat("0", 64))
	for i, c := range []byte(t.Name() + strconv.Itoa(os.Getpid())) {
		h[i%64] = "0123456789abcdef"[(uint(h[i%64])+uint(c)+uint(i))%16]
	}
	return string(h)
}

// run runs a spec to its end and gives both outputs and the exit code.
func run(t testing.TB, dir string, s *specs.Spec) (string, int) {
	t.Helper()
	runc := runtimeBinary(t)
	writeSpec(t, dir, s)
	state := t.TempDir()
	id := filepath.Base(s.Linux.CgroupsPath)
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, runc, "--root", state, "run", "--bundle", dir, id)
	c.WaitDelay = time.Second
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	_ = exec.Command(runc, "--root", state, "delete", "-f", id).Run()
	if err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), c.ProcessState.ExitCode()
}

// buildVerified is Build with the last gate behind it.
func buildVerified(t testing.TB, in Input) *specs.Spec {
	t.Helper()
	s, err := Build(in)
	must(t, err)
	must(t, Verify(s, VerifyFor(in)))
	return s
}

func TestRuntimeDefaults(t *testing.T) {
	in := hostInput(t)
	in.ID = testID(t)
	in.Workload.Args = []string{"sh", "-c", `
grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status
cat /proc/self/uid_map /proc/self/cgroup
touch /sys/fs/cgroup/x; touch /x; touch /proc/sys/kernel/core_pattern
echo max_user_namespaces $(cat /proc/sys/user/max_user_namespaces) ping $(cat /proc/sys/net/ipv4/ping_group_range)
ulimit -c; ulimit -n
id
cat /proc/kcore | wc -c; ls /sys/firmware | wc -l
unshare -U true
chroot / true
cat /proc/self/mountinfo
ls -la /dev
`}
	dir := bundle(t, in)
	out, code := run(t, dir, buildVerified(t, in))
	t.Logf("exit %d\n%s", code, out)
	for _, want := range []string{
		"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000",
		"NoNewPrivs:\t1", "Seccomp:\t2", "/sys/fs/cgroup/x: Read-only file system", "10000000      65536",
		"/x: Read-only file system", "core_pattern: Read-only file system",
		"max_user_namespaces 0 ping 0 65535",
		"uid=0 gid=0", "unshare(0x10000000): Operation not permitted",
		"chroot: can't change root directory to '/': Operation not permitted",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q", want)
		}
	}
	for line := range strings.Lines(out) {
		// 22 21 0:20 / /proc rw,... of mountinfo
		f := strings.Fields(line)
		if len(f) < 7 || !strings.HasPrefix(f[4], "/") || f[4] == "/" || !strings.Contains(f[5], "relatime") && !strings.Contains(f[5], "noatime") && !strings.Contains(f[5], "nosuid") {
			continue
		}
		if strings.Contains(line, "shared:") {
			t.Errorf("shared mount: %s", line)
		}
		if !strings.Contains(f[5], "nosuid") && f[3] != "/null" && !strings.HasPrefix(f[4], "/dev/") && !strings.Contains(f[5], "ro,") {
			t.Errorf("mount without nosuid: %s", line)
		}
	}
}

func TestRuntimeMountsAndUser(t *testing.T) {
	in := hostInput(t)
	in.ID = testID(t)
	host := t.TempDir()
	must(t, os.Chmod(filepath.Dir(host), 0o755))
	must(t, os.Chmod(host, 0o777))
	must(t, os.WriteFile(filepath.Join(host, "root-owned"), []byte("x"), 0o600))
	must(t, os.Mkdir(filepath.Join(host, "sub"), 0o755))
	must(t, unix.Mount("tmpfs", filepath.Join(host, "sub"), "tmpfs", 0, "mode=777"))
	defer func() { must(t, unix.Unmount(filepath.Join(host, "sub"), 0)) }()
	held, err := os.OpenFile(host, unix.O_PATH|unix.O_DIRECTORY, 0)
	must(t, err)
	defer held.Close()
	source := private(t, held, unix.AT_RECURSIVE)
	flat := private(t, held, 0)
	in.Mounts = []ResolvedMount{
		{Mount: Mount{Type: MountBind, Target: "/rw"}, HostPath: source},
		{Mount: Mount{Type: MountBind, Target: "/ro", ReadOnly: true}, HostPath: source},
		{Mount: Mount{Type: MountBind, Target: "/flat", ReadOnly: true, NonRecursive: true, Exec: true}, HostPath: flat},
		{Mount: Mount{Type: MountTmpfs, Target: "/cache", Tmpfs: TmpfsOptions{Size: 65536, Inodes: 10, Mode: new(uint32(0o700)), UID: new(uint32(1000)), Flags: []string{"exec", "noatime"}}}},
	}
	in.User = User{UID: 1000, GID: 1000, Additional: []uint32{20}}
	in.Workload.CapAdd = []string{"NET_BIND_SERVICE"}
	in.Workload.Args = []string{"sh", "-c", `
grep Cap /proc/self/status; id
touch /rw/made && stat -c 'inside %u:%g' /rw/made /rw/root-owned
touch /ro/no; touch /ro/sub/no; touch /flat/no; ls /flat/sub
cp /bin/busybox /rw/b; /rw/b true; cp /bin/busybox /tmp/b; /tmp/b true
chmod 4755 /rw/b; chmod 2755 /rw/b; chmod 755 /rw/b && echo chmod ok
cp -p /bin/busybox /rw/c && mkdir -m 755 /rw/d && echo create ok
mkdir -m 2755 /rw/setgid
dd if=/dev/zero of=/cache/big bs=1k count=100; for i in 1 2 3 4 5 6 7 8 9 10 11; do touch /cache/$i; done
grep -E ' /(rw|ro|flat|cache|tmp)' /proc/self/mountinfo`}
	dir := bundle(t, in)
	out, code := run(t, dir, buildVerified(t, in))
	t.Logf("exit %d\n%s", code, out)
	for _, want := range []string{
		"CapAmb:\t0000000000000400", "uid=1000 gid=1000 groups=20,1000", "inside 1000:1000\ninside 0:0",
		"/ro/no: Read-only file system", "/ro/sub/no: Read-only file system", "/flat/no: Read-only file system",
		"/rw/b: Permission denied", "/tmp/b: Permission denied",
		"chmod: /rw/b: Operation not permitted", "chmod ok", "create ok", "No space left on device",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q", want)
		}
	}
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(host, "made"), &st))
	if st.Uid != 1000 || st.Gid != 1000 {
		t.Errorf("made inside as 1000, on disk as %d:%d", st.Uid, st.Gid)
	}
	must(t, filepath.Walk(host, func(p string, fi os.FileInfo, err error) error {
		if err == nil && fi.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 {
			t.Errorf("set-ID bit on the host: %s %v", p, fi.Mode())
		}
		return err
	}))
}
