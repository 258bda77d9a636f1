package audit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// TestHidden: the first process goes where it sees less than others of its
// container, or has less. What the container has is found all the same.
func TestHidden(t *testing.T) {
	admin := func(s *specs.Spec) {
		hostUsers(s)
		caps("CAP_SYS_ADMIN", "CAP_SYS_CHROOT")(s)
		s.Linux.Seccomp = nil
	}
	etc := func(f *Facts, all []Finding) bool {
		return slices.ContainsFunc(all, func(x Finding) bool {
			return x.ID == "host-files" && x.Severity == Critical && strings.Contains(x.Fact, "/etc of the host is at /data")
		})
	}
	for _, tc := range []struct {
		name   string
		script string
		weaken func(*specs.Spec)
		until  func(pid int) bool
		found  func(*Facts, []Finding) bool
	}{
		{
			"another root", "exec /bin/busybox chroot /jail /busybox sleep 100", admin,
			func(pid int) bool {
				r, _ := os.Readlink(fmt.Sprintf("/proc/%d/root", pid))
				return strings.HasSuffix(r, "/jail")
			}, etc,
		},
		{
			"other mounts", "/bin/busybox sleep 100 & exec /bin/busybox unshare -m /bin/busybox sh -c '/bin/busybox umount /data && exec /bin/busybox sleep 99'",
			admin, command("sleep\x0099"), etc,
		},
		{
			"other mounts and another root",
			"/bin/busybox unshare -m /bin/busybox chroot /jail /busybox sleep 98 & /bin/busybox sleep 1; /bin/busybox umount /data; exec /bin/busybox sleep 99",
			admin, command("sleep\x0099"), etc,
		},
		{
			"something mounted upon it", "/bin/busybox mount -t tmpfs x /data && exec /bin/busybox sleep 99", admin, command("sleep\x0099"), etc,
		},
		{
			"a user namespace", "/bin/busybox sleep 100 & exec /bin/busybox unshare -U /bin/busybox sleep 99", admin, command("sleep\x0099"),
			func(f *Facts, all []Finding) bool {
				g := grader{f: f}
				return f.Namespaces["user"] == "own" && !g.apart() && etc(f, all) && slices.ContainsFunc(all, func(x Finding) bool {
					return x.ID == "other-processes" && x.Severity == Critical && strings.Contains(x.Fact, "outside of the user namespace")
				})
			},
		},
		{
			"another network", "/bin/busybox sleep 100 & exec /bin/busybox unshare -n /bin/busybox sleep 99", func(s *specs.Spec) { admin(s); hostNetwork(s) },
			command("sleep\x0099"),
			func(f *Facts, all []Finding) bool {
				return f.Namespaces["network"] == "own" && slices.ContainsFunc(all, func(x Finding) bool {
					return x.ID == "other-processes" && x.Severity >= High && strings.Contains(x.Fact, "the host's network namespace")
				})
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, bind := bundle(t)
			jail := filepath.Join(dir, "rootfs/jail")
			must(t, os.Mkdir(jail, 0o755))
			_, busybox := tools(t)
			b, err := os.ReadFile(busybox)
			must(t, err)
			must(t, os.WriteFile(filepath.Join(jail, "busybox"), b, 0o755))
			s := strict(bind, "/bin/busybox", "sh", "-c", tc.script)
			bindOf("/etc", "/data")(s)
			tc.weaken(s)
			c := create(t, dir, s)
			c.start(t)
			until(t, tc.name, func() bool { return tc.until(c.pid) })
			f := looked(t, c.pid)
			all, score := Grade(f, nil, nil)
			if !tc.found(f, all) || score > mostCritical {
				t.Errorf("score %d", score)
				for _, x := range all {
					if x.Severity > Info {
						t.Logf("%s: %s: %s", x.Severity, x.ID, x.Fact)
					}
				}
			}
		})
	}
}

// init plays a program whose first thread ends and whose others run on.
func init() {
	if os.Getenv("AUDIT_TEST_LEADERLESS") == "" {
		return
	}
	go func() {
		for {
			time.Sleep(time.Second)
		}
	}()
	time.Sleep(100 * time.Millisecond) // the other thread is there
	_, _, _ = unix.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
}

// TestLeaderless: a process whose first thread has ended looks like a zombie,
// and is looked at all the same.
func TestLeaderless(t *testing.T) {
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), "AUDIT_TEST_LEADERLESS=1")
	must(t, c.Start())
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	until(t, "its first thread has ended", func() bool {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Process.Pid))
		return strings.Contains(string(b), ") Z ")
	})
	f := looked(t, c.Process.Pid)
	if f.Namespaces["mount"] != "host" || f.Limits.OpenFiles == nil || f.PID != c.Process.Pid {
		t.Errorf("%+v", f)
	}
	must(t, c.Process.Kill())
	_ = c.Wait()
	if _, err := Look(c.Process.Pid); fail.KindOf(err) != fail.NotFound {
		t.Errorf("it has ended: %v", err)
	}
}

// TestEngineFileIsNoDisguise: what is mounted where an engine has a file of its
// own is that file, and not the engine's store.
func TestEngineFileIsNoDisguise(t *testing.T) {
	for from, want := range map[string]bool{
		"/var/lib/docker": false, "/var/lib/kubelet": false, "/run/containerd": false,
		"/var/lib/kubelet/pods/u/containers/c/1234": true, "/var/lib/k0s/kubelet/pods/u/containers/c/1234": true,
	} {
		if got := engineOwn(bound{point: "/dev/termination-log", from: from}, "bind-container-store"); got != want {
			t.Errorf("%s: %v", from, got)
		}
	}
}

// TestSupervisedIsNotBlocked: a program may answer for its own filter.
func TestSupervisedIsNotBlocked(t *testing.T) {
	for _, action := range []uint32{actionNotify, actionTrace} {
		calls, err := judgeCalls([][]unix.SockFilter{{{Code: unix.BPF_RET | unix.BPF_K, K: action}}}, unix.AUDIT_ARCH_X86_64)
		must(t, err)
		g := grader{f: &Facts{Seccomp: Seccomp{Mode: "filter", Calls: calls}}}
		if all := g.seccompCalls(); all[0].Severity == OK {
			t.Errorf("%#x: %+v", action, all)
		}
	}
}

func command(part string) func(int) bool {
	return func(pid int) bool {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return string(b) == "/bin/busybox\x00"+part+"\x00" // unshare has the same words behind its own
	}
}

// TestServed: nothing is looked up in a file system that a program answers for,
// however a path gets there, and what is behind it is said not to be known.
func TestServed(t *testing.T) {
	dir := t.TempDir()
	must(t, unix.Mount("x", dir, "tmpfs", 0, ""))
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	must(t, os.MkdirAll(dir+"/mnt/served/dev", 0o755))
	must(t, unix.Mount("x", dir+"/mnt/served", "tmpfs", 0, ""))
	defer func() { _ = unix.Unmount(dir+"/mnt/served", unix.MNT_DETACH) }()
	must(t, os.MkdirAll(dir+"/mnt/served/dev", 0o755))
	must(t, os.Symlink("mnt/served/dev", dir+"/dev"))
	must(t, os.Symlink("../../mnt/../mnt/served", dir+"/proc"))
	must(t, os.Symlink("/loop", dir+"/loop"))
	must(t, os.Symlink("/mnt/./../mnt", dir+"/up"))

	self, err := unix.Open("/proc/thread-self", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(self)
	v, err := viewOf(self)
	must(t, err)
	defer v.close()
	var in inside
	table := &mountTable{byID: map[uint64]*mountEntry{}}
	must(t, in.table(v.table, table))
	w := &walker{mountTable: table}
	for i := range table.entries {
		e := &table.entries[i]
		table.byID[e.id] = e
		switch e.point {
		case dir:
			w.rootID = e.id
		case dir + "/mnt/served":
			e.fs = "fuse.x"
		}
	}
	table.root, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(table.root)
	for _, tc := range []struct {
		path string
		want func(error) bool
	}{
		{"/mnt", func(err error) bool { return err == nil }},
		{"/up", func(err error) bool { return err == nil }},
		{"/mnt/served", func(err error) bool { return err == nil }}, // the kernel knows its root
		{"/mnt/served/dev", func(err error) bool { return err == errServed }},
		{"/dev", func(err error) bool { return err == errServed }},
		{"/proc/sys", func(err error) bool { return err == errServed }},
		{"/nothing", absent},
		{"/loop", absent},
	} {
		h, err := w.walk(tc.path)
		if err == nil {
			h.close()
		}
		if !tc.want(err) {
			t.Errorf("%s: %v", tc.path, err)
		}
	}
	in.kernel(w)
	in.devices(w)
	if !in.served || len(in.unread) == 0 {
		t.Errorf("%v", in.unread)
	}
	f := &Facts{MountsUnread: true, Unread: in.unread, Namespaces: map[string]string{}}
	all, _ := Grade(f, nil, nil)
	for _, x := range all {
		switch x.ID {
		case "host-files", "control-sockets", "devices", "kernel-files", "kernel-masks", "write-execute":
			if x.Severity == OK {
				t.Errorf("%+v", x)
			}
		case "unread":
			if x.Severity != High {
				t.Errorf("%+v", x)
			}
		}
	}
	if fds, err := os.ReadDir("/proc/self/fd"); err != nil || len(fds) > 60 {
		t.Errorf("%d descriptors are open", len(fds))
	}
}

// TestDecoys: many harmless binds do not hide a bad one.
func TestDecoys(t *testing.T) {
	var binds []bound
	for i := range 5 * maxBinds {
		binds = append(binds, bound{point: fmt.Sprintf("/a%d", i), from: fmt.Sprintf("/srv/nothing/%d", i), fs: "ext4"})
	}
	binds = append(binds, bound{point: "/z", from: "/var/run/docker.sock", fs: "tmpfs"})
	l := &looker{f: &Facts{Namespaces: map[string]string{}}}
	l.judgeBinds(binds)
	if len(l.f.Unread) == 0 || len(l.f.Mounts.Host) != maxBinds ||
		!slices.ContainsFunc(l.f.Mounts.Host, func(m HostMount) bool { return m.Target == "/z" && m.Concern == "engine-socket" }) {
		t.Errorf("%v, %d", l.f.Unread, len(l.f.Mounts.Host))
	}
}
