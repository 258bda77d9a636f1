package audit

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// join makes a spec share the network of a process: its namespace by a held
// descriptor, and a sysfs of it.
func join(t *testing.T, s *specs.Spec, pid int) {
	t.Helper()
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	must(t, err)
	t.Cleanup(func() { _ = ns.Close() })
	dir := t.TempDir()
	must(t, unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	must(t, unix.Mount("", dir, "", unix.MS_PRIVATE, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755))
	}
	sys := filepath.Join(dir, "sys")
	must(t, os.Mkdir(sys, 0o755))
	done := make(chan error)
	go func() {
		// Never unlocked: the thread ends here. If it is the first one of the
		// process, it stays, and /proc/self is in that namespace from now on.
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- unix.Mount("sysfs", sys, "sysfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	}()
	must(t, <-done)
	network(s).Path = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd())
	*at(s, "/sys") = specs.Mount{Destination: "/sys", Type: "bind", Source: sys, Options: []string{"bind", "rprivate", "nosuid", "noexec", "nodev", "ro"}}
}

func network(s *specs.Spec) *specs.LinuxNamespace {
	for i := range s.Linux.Namespaces {
		if s.Linux.Namespaces[i].Type == specs.NetworkNamespace {
			return &s.Linux.Namespaces[i]
		}
	}
	return nil
}

func TestJoinedNetwork(t *testing.T) {
	firstDir, firstBind := bundle(t)
	first := create(t, firstDir, hardened(firstBind, "/bin/busybox", "sleep", "100"))
	dir, bind := bundle(t)
	s := hardened(bind, "/bin/busybox", "sleep", "100")
	join(t, s, first.pid)
	c := create(t, dir, s)
	must(t, Attest(c.pid, s, Want{}))

	other, err := os.Open("/proc/thread-self/ns/net")
	must(t, err)
	defer other.Close()
	for _, tc := range []struct {
		what string
		do   func(*specs.Spec)
	}{
		{"ns/net", func(s *specs.Spec) { network(s).Path = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), other.Fd()) }},
		{"ns/net", func(s *specs.Spec) { network(s).Path = "/proc/1/fd/99999" }},
		{`mount "/sys"`, func(s *specs.Spec) { at(s, "/sys").Source = "/sys" }},
		{`mount "/sys"`, func(s *specs.Spec) { at(s, "/sys").Type, at(s, "/sys").Options = "proc", nil }},
	} {
		changed := copyOf(t, s)
		tc.do(changed)
		found := false
		for _, d := range differences(t, Attest(c.pid, changed, Want{})) {
			found = found || strings.HasPrefix(d.What, tc.what)
		}
		if !found {
			t.Errorf("%s is not noticed", tc.what)
		}
	}
	c.start(t)
	must(t, Attest(c.pid, s, Want{Phase: Started}))
}

// A container in the host's network, or with the host's sysfs, whatever its
// spec says: the runtime or the one who wrote the spec was led astray.
func TestJoinedHostNetwork(t *testing.T) {
	dir, bind := bundle(t)
	s := hardened(bind, "/bin/busybox", "sleep", "100")
	ns, err := os.Open("/proc/thread-self/ns/net")
	must(t, err)
	defer ns.Close()
	network(s).Path = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd())
	*at(s, "/sys") = specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys", Options: []string{"rbind", "rprivate", "rnosuid", "rnoexec", "rnodev", "rro"}}
	c := create(t, dir, s)
	noticed := map[string]bool{}
	for _, d := range differences(t, Attest(c.pid, s, Want{})) {
		noticed[d.What] = noticed[d.What] || d.Want == "not the host's"
	}
	if !noticed["ns/net"] || !noticed[`mount "/sys"`] {
		t.Errorf("noticed %v", noticed)
	}
}
