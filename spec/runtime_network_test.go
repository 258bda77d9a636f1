package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// created makes a container that waits for its start and gives its init.
func created(t *testing.T, dir string, s *specs.Spec) (pid int) {
	t.Helper()
	runc, state := runtimeBinary(t), t.TempDir()
	writeSpec(t, dir, s)
	id := filepath.Base(s.Linux.CgroupsPath)
	pidFile := filepath.Join(t.TempDir(), "pid")
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	must(t, err)
	defer log.Close()
	c := exec.Command(runc, "--root", state, "create", "--bundle", dir, "--pid-file", pidFile, id)
	c.Stdout, c.Stderr = log, log
	err = c.Run()
	t.Cleanup(func() { _ = exec.Command(runc, "--root", state, "delete", "-f", id).Run() })
	if err != nil {
		out, _ := os.ReadFile(log.Name())
		t.Fatalf("%v %s", err, out)
	}
	p, err := os.ReadFile(pidFile)
	must(t, err)
	pid, err = strconv.Atoi(string(p))
	must(t, err)
	return pid
}

// inNetwork runs f on a thread of its own in the network namespace of a
// process.
func inNetwork(t *testing.T, pid int, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with f
		done <- func() error {
			fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
				return err
			}
			return f()
		}()
	}()
	must(t, <-done)
}

// join makes an input share the network of a container that runs: its
// namespace is held, and a sysfs of it mounted where only the host sees it.
func join(t *testing.T, in *Input, pid int) {
	t.Helper()
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	must(t, err)
	t.Cleanup(func() { ns.Close() })
	dir := t.TempDir()
	must(t, unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	must(t, unix.Mount("", dir, "", unix.MS_PRIVATE, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	sys := filepath.Join(dir, "sys")
	must(t, os.Mkdir(sys, 0o700))
	inNetwork(t, pid, func() error {
		return unix.Mount("sysfs", sys, "sysfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	})
	in.Workload.Networks = networks("container:web")
	in.JoinNetwork = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd())
	in.JoinSysfs = sys
}

func TestRuntimeJoinedNetwork(t *testing.T) {
	first := hostInput(t)
	first.ID = testID(t)
	first.Workload.Args = []string{"sleep", "60"}
	firstSpec := buildVerified(t, first)
	pid := created(t, bundle(t, first), firstSpec)
	inNetwork(t, pid, func() error {
		out, err := exec.Command("ip", "link", "add", "joined0", "type", "veth", "peer", "name", "joined1").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w %s", err, out)
		}
		return nil
	})

	in := hostInput(t)
	in.ID = strings.Repeat("7", 8) + testID(t)[8:]
	in.IDs.HostUID, in.IDs.HostGID = 20_000_000, 20_000_000
	join(t, &in, pid)
	in.Workload.Args = []string{"sh", "-c", `
ls -l /proc/self/ns/net; ls /sys/class/net; ls /sys/kernel/debug | wc -l; touch /sys/x 2>&1
grep ' /sys ' /proc/self/mountinfo; grep -c ' /sys/' /proc/self/mountinfo
mount -t sysfs none /tmp; cat /proc/net/dev`}
	out, code := run(t, bundle(t, in), buildVerified(t, in))
	t.Logf("exit %d\n%s", code, out)
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	must(t, err)
	for _, want := range []string{ns, "joined0\njoined1\nlo\n", "\n0\n", "/sys/x: Read-only file system", "ro,nosuid,nodev,noexec", "joined0:"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q", want)
		}
	}
}

// A user namespace that does not own the network cannot have a sysfs of it:
// what JoinSysfs is for.
func TestRuntimeJoinedNetworkNeedsSysfs(t *testing.T) {
	first := hostInput(t)
	first.ID = testID(t)
	pid := created(t, bundle(t, first), buildVerified(t, first))
	in := hostInput(t)
	in.ID = strings.Repeat("7", 8) + testID(t)[8:]
	in.IDs.HostUID, in.IDs.HostGID = 20_000_000, 20_000_000
	join(t, &in, pid)
	in.Workload.Args = []string{"true"}
	s := buildVerified(t, in)
	*mountAt(t, s, "/sys") = sysMount(Input{}, namespacesOf{user: true})
	if out, code := run(t, bundle(t, in), s); code == 0 || !strings.Contains(out, "operation not permitted") {
		t.Errorf("exit %d: %s", code, out)
	}
}

// The settings are there before the interfaces are, and those made later have
// them.
func TestRuntimeNetworkSysctls(t *testing.T) {
	in := hostInput(t)
	in.ID = testID(t)
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		in.Host.IPv6 = false
	}
	in.Workload.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "80"}
	s := buildVerified(t, in)
	pid := created(t, bundle(t, in), s)
	inNetwork(t, pid, func() error {
		if out, err := exec.Command("ip", "link", "add", "late0", "type", "veth", "peer", "name", "late1").CombinedOutput(); err != nil {
			return fmt.Errorf("%w %s", err, out)
		}
		for name, want := range s.Linux.Sysctl {
			if !strings.HasPrefix(name, "net.") || name == pingGroups { // ids are the reader's
				continue
			}
			for _, name := range []string{name, strings.Replace(name, ".default.", ".late0.", 1)} {
				got, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
				if err != nil {
					return err
				}
				if g := strings.Join(strings.Fields(string(got)), " "); g != want {
					t.Errorf("%s is %s, not %s", name, g, want)
				}
			}
		}
		return nil
	})
}

// On the host's network the host's abstract sockets are there and out of
// reach, by a pair of datagram sockets too.
func TestRuntimeHostNetworkSockets(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the numbers are amd64's")
	}
	name := fmt.Sprintf("@safe-run-test-%d", os.Getpid())
	for _, network := range []string{"unix", "unixgram"} {
		if network == "unix" {
			l, err := net.Listen(network, name)
			must(t, err)
			defer l.Close()
			continue
		}
		c, err := net.ListenUnixgram(network, &net.UnixAddr{Name: name + "g", Net: network})
		must(t, err)
		defer c.Close()
	}
	const denied, ok = "operation-not-permitted", "ok"
	calls := map[string]string{
		fmt.Sprintf("%d,1,1,0", unix.SYS_SOCKET):           denied,
		fmt.Sprintf("%d,1,2,0", unix.SYS_SOCKET):           denied,
		fmt.Sprintf("%d,1,0x80005,0", unix.SYS_SOCKET):     denied,
		fmt.Sprintf("%d,0x100000001,1,0", unix.SYS_SOCKET): denied,
		fmt.Sprintf("%d,1,2,0,0", unix.SYS_SOCKETPAIR):     denied,
		fmt.Sprintf("%d,1,3,0,0", unix.SYS_SOCKETPAIR):     denied,
		fmt.Sprintf("%d,1,0x80002,0", unix.SYS_SOCKETPAIR): denied,
		fmt.Sprintf("%d,1,1,0,0", unix.SYS_SOCKETPAIR):     "bad-address",
		fmt.Sprintf("%d,1,0x80005,0", unix.SYS_SOCKETPAIR): "bad-address",
		fmt.Sprintf("%d,2,1,0", unix.SYS_SOCKET):           ok,
		fmt.Sprintf("%d,16,3,0", unix.SYS_SOCKET):          ok,
	}
	in := hostInput(t)
	in.ID = testID(t)
	onHost(&in)
	in.Workload.Args = []string{"sh", "-c", `grep -c ` + name + ` /proc/net/unix; exec calls-amd64 "$@"`, "sh"}
	for c := range calls {
		in.Workload.Args = append(in.Workload.Args, c)
	}
	out, code := run(t, bundle(t, in, callsProgram(t, "amd64")), buildVerified(t, in))
	if code != 0 || !strings.HasPrefix(out, "2\n") {
		t.Fatalf("exit %d: %s", code, out)
	}
	for c, want := range calls {
		if !strings.Contains(out, c+" "+want) {
			t.Errorf("%s: want %s in\n%s", c, want, out)
		}
	}
}

// The spec in JSON is what the runtime gets: the path of the namespace must
// be in it, and not an empty one with networks of its own.
func TestNamespacePathInJSON(t *testing.T) {
	own, err := json.Marshal(build(t, func(*Input) {}).Linux.Namespaces)
	must(t, err)
	joined, err := json.Marshal(build(t, joins).Linux.Namespaces)
	must(t, err)
	if bytes.Contains(own, []byte("path")) || !bytes.Contains(joined, []byte(`{"type":"network","path":"`+heldNS+`"}`)) {
		t.Errorf("%s\n%s", own, joined)
	}
}
