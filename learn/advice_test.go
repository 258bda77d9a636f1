package learn

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func usual() Context {
	return Context{
		Memory: 512 << 20, Pids: 256,
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc"},
			{Destination: "/tmp", Type: "tmpfs", Options: []string{"noexec", "size=67108864"}},
			{Destination: "/data", Type: "bind", Options: []string{"ro", "noexec"}},
			{Destination: "/etc/hosts", Type: "bind", Options: []string{"ro"}},
		},
		HostOnly: func(name string) (string, bool) { return "device nodes", name == "CAP_MKNOD" },
	}
}

// The script of the manual: chown, bind 80, mknod, ping, a write to /opt.
func TestExplain(t *testing.T) {
	rec := Recording{
		Capabilities: []CapabilityUse{
			{Name: "CAP_CHOWN", Refused: true, Syscall: "chown", Process: "chown", Count: 3},
			{Name: "CAP_NET_BIND_SERVICE", Refused: true, Syscall: "bind", Process: "nc", Count: 1},
			{Name: "CAP_MKNOD", Refused: true, Host: true, Syscall: "mknod", Process: "mknod", Count: 1},
			{Name: "CAP_NET_RAW", Refused: true, Syscall: "socket", Process: "ping", Count: 1},
			{Name: "CAP_CHOWN", Syscall: "chown", Process: "ok", Count: 1},
		},
		Paths: []PathUse{
			{Path: "/tmp/x", Errno: unix.EPERM, Syscall: "chown", Write: true, Capabilities: []string{"CAP_CHOWN"}, Process: "chown", Count: 3},
			{Path: "/tmp/null", Errno: unix.EPERM, Syscall: "mknod", Write: true, Capabilities: []string{"CAP_MKNOD"}, Process: "mknod", Count: 1},
			{Path: "/opt/x", Errno: unix.EROFS, Syscall: "openat", Write: true, Process: "sh", Count: 1},
			{Path: "/opt/y", Errno: unix.EROFS, Syscall: "openat", Write: true, Process: "touch", Count: 2},
		},
		Sockets: []SocketUse{{Bind: true, Proto: "tcp", Address: "0.0.0.0:80", Port: 80, Errno: unix.EACCES, Process: "nc", Count: 1}},
	}
	want := []string{
		"chown /tmp/x: CAP_CHOWN was refused (3 times, to chown): --cap-add CHOWN",
		"bind port 80: CAP_NET_BIND_SERVICE was refused (once, to nc): --cap-add NET_BIND_SERVICE",
		"socket: CAP_NET_RAW was refused (once, to ping): --cap-add NET_RAW",
		"openat /opt/x: the root file system is read-only (3 times, to sh, touch): --tmpfs /opt, or -v NAME:/opt to keep it, or if the image has files there",
		"mknod /tmp/null: CAP_MKNOD was refused (once, to mknod): it cannot be given: the kernel asks for it in the host's user namespace (device nodes); a device that exists is given with --device, which the site's policy must grant",
	}
	if got := Explain(rec, usual()); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestExplainOne(t *testing.T) {
	capability := func(name, call string) Recording {
		return Recording{Capabilities: []CapabilityUse{{Name: name, Refused: true, Syscall: call, Process: "x", Count: 1}}}
	}
	path := func(call, path string, errno unix.Errno) Recording {
		return Recording{Paths: []PathUse{{Path: path, Errno: errno, Syscall: call, UID: 5, Process: "x", Count: 1}}}
	}
	call := func(name string, arg uint64, errno unix.Errno) Recording {
		return Recording{Refused: []RefusedCall{{Name: name, Arg: arg, Errno: errno, Process: "x", Count: 1}}}
	}
	own := func(w *Context) { w.OwnSeccomp = true }
	for _, c := range []struct {
		rec  Recording
		with func(*Context)
		want string // in the first line; "": no line
	}{
		{Recording{}, nil, ""},
		{capability("CAP_NET_ADMIN", "ioctl"), nil, "--cap-add NET_ADMIN, which the site's policy must grant"},
		{capability("CAP_NET_ADMIN", "ioctl"), func(w *Context) { w.Granted = func(string) bool { return true } }, "--cap-add NET_ADMIN"},
		{capability("CAP_DAC_OVERRIDE", "openat"), nil, "--user with the owner of these files, or --cap-add DAC_OVERRIDE"},
		{capability("CAP_CHOWN", "chown"), func(w *Context) { w.Capabilities = []string{"CAP_CHOWN"} }, "had given it up"},
		{capability("CAP_SETUID", "setuid"), nil, "--cap-add SETUID, or start it as that user: --user"},
		{capability("CAP_BOGUS", "setuid"), nil, ""},
		{path("mkdir", "/data2", unix.EROFS), nil, "--tmpfs /data2"},
		{path("unlink", "/opt/x", unix.EROFS), nil, "-v /opt, or -v NAME:/opt"},
		{path("openat", "/x", unix.EROFS), nil, "let the application write elsewhere"},
		{path("openat", "/etc/passwd", unix.EROFS), nil, "let the application write elsewhere"},
		{path("openat", "/data/x", unix.EROFS), nil, "the mount at /data is read-only (once, to x): leave its ro out"},
		{path("openat", "/proc/sys/kernel/x", unix.EROFS), nil, "the setting kernel.x is the host's"},
		{path("openat", "/proc/sys/net/ipv4/ip_forward", unix.EROFS), nil, "--sysctl net.ipv4.ip_forward=VALUE"},
		{path("openat", "/proc/irq/x", unix.EROFS), nil, "it cannot be made writable"},
		{path("mount", "/mnt", unix.EPERM), nil, "mount: refused by the system call filter (once, to x): --cap-add SYS_ADMIN, which"},
		{path("execve", "/tmp/prog", unix.EACCES), nil, "--tmpfs /tmp:exec"},
		{path("execve", "/data/prog", unix.EACCES), nil, "-v SOURCE:/data:exec"},
		{path("execve", "/bin/data", unix.EACCES), nil, "it is not executable"},
		{path("openat", "/srv/secret", unix.EACCES), nil, "files that uid 5 may use"},
		{call("keyctl", 0, unix.EPERM), nil, "keyctl: refused by the system call filter (once, to x): it cannot be given"},
		{call("clone3", 0, unix.ENOSYS), nil, ""},
		{call("chown", 0, unix.EPERM), own, "add chown to the list"},
		{call("setpriority", 0, unix.EACCES), nil, "refused by the kernel"},
		{call("prlimit64", 0, unix.EPERM), nil, "--ulimit"},
		{Recording{Capabilities: []CapabilityUse{{Name: "CAP_SYS_RESOURCE", Refused: true, Host: true, Syscall: "prlimit64", Process: "x", Count: 1}}}, nil, "--ulimit NAME=NUMBER"},
		{call("epoll_ctl", 0, unix.EPERM), nil, ""},
		{call("sethostname", 0, unix.EPERM), nil, "--hostname NAME"},
		{call("chroot", 0, unix.EPERM), nil, "--cap-add SYS_CHROOT"},
		{call("clock_settime", 0, unix.EPERM), func(w *Context) { w.HostOnly = func(string) (string, bool) { return "the clock", true } }, "only --userns host has it"},
		{Recording{Paths: []PathUse{
			{Path: "/opt/x", Errno: unix.EROFS, Syscall: "unlink", Process: "rm", Count: 1}, {Path: "/opt/x", Errno: unix.EROFS, Syscall: "access", Process: "rm", Count: 1},
		}}, nil, "unlink /opt/x"},
		{call("unshare", unix.CLONE_NEWUSER, unix.EPERM), nil, "it cannot be given"},
		{call("clone", unix.CLONE_NEWNS, unix.EPERM), nil, "clone of new namespaces: refused by the system call filter (once, to x): --cap-add SYS_ADMIN, which"},
		{call("socket", unix.AF_VSOCK, unix.EPERM), nil, "socket AF_VSOCK: refused by the system call filter (once, to x): it cannot be given"},
		{call("socket", unix.AF_NETLINK, unix.EPERM), nil, "protocols other than ROUTE"},
		{call("mount", 0, unix.EPERM), nil, "--cap-add SYS_ADMIN, which"},
		{Recording{Limits: Reached{Memory: true}}, nil, "memory: a process was killed at the limit of 512m: -m 1024m"},
		{path("write", "/data/x", unix.ENOSPC), nil, "write /data/x: the file system at /data is full"},
		{path("write", "/tmp/x", unix.ENOSPC), nil, ""}, // among the limits
		{Recording{Unlisted: []string{"example.com"}}, nil, "lookup example.com: not on the list of connections: --egress example.com:PORT"},
		{
			Recording{Sockets: []SocketUse{{Proto: "tcp", Address: "192.0.2.1:80", Port: 80, Errno: unix.ECONNREFUSED, Process: "x", Count: 1}}},
			func(w *Context) { w.Egress = true }, "--egress 192.0.2.1:80",
		},
		{Recording{Sockets: []SocketUse{{Proto: "tcp", Address: "192.0.2.1:80", Port: 80, Errno: unix.ECONNREFUSED, Process: "x", Count: 1}}}, nil, ""},
		{Recording{Limits: Reached{Pids: true}}, nil, "--pids-limit 512"},
		{Recording{Limits: Reached{Tmpfs: []string{"/tmp"}}}, nil, "/tmp: the tmpfs of 64m is full: --tmpfs /tmp:size=128m"},
		{Recording{Limits: Reached{Tmpfs: []string{"/dev/shm"}}}, nil, "--shm-size 128m"},
	} {
		w := usual()
		if c.with != nil {
			c.with(&w)
		}
		got := Explain(c.rec, w)
		if c.want == "" && len(got) == 0 {
			continue
		}
		if len(got) != 1 || c.want == "" || !strings.Contains(got[0], c.want) {
			t.Errorf("%+v: got %q, want %q", c.rec, got, c.want)
		}
	}
}

// Whatever a container calls its files and processes, what is printed is
// short and has no control characters.
func TestExplainHostile(t *testing.T) {
	var rec Recording
	name := "\x1b]0;x\a\u202e\xff\n" + strings.Repeat("A", 5000)
	for i := range 300 {
		rec.Paths = append(rec.Paths, PathUse{Path: fmt.Sprintf("/d%d/%s/f", i, name), Errno: unix.EROFS, Syscall: name, Process: name, Count: 1 << 63})
		rec.Refused = append(rec.Refused, RefusedCall{Name: fmt.Sprint(i, name), Errno: unix.EPERM, Process: name, Count: 1})
	}
	rec.Paths = append(rec.Paths, PathUse{Path: "", Errno: unix.EROFS, Syscall: "openat"}, PathUse{Path: "relative", Errno: unix.EACCES, Syscall: "execve"})
	got := Explain(rec, usual())
	if len(got) != maxAdvice+1 || got[maxAdvice] != fmt.Sprintf("and %d more", 602-maxAdvice) {
		t.Errorf("%d lines, the last one %q", len(got), got[len(got)-1])
	}
	for _, line := range got {
		if len(line) > 4096 || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%.300q", line)
		}
	}
}

func TestFullTmpfs(t *testing.T) {
	rec := Recording{Had: Had{Mounts: usual().Mounts}, Paths: []PathUse{
		{Path: "/tmp/a/b", Errno: unix.ENOSPC}, {Path: "/tmp/c", Errno: unix.ENOSPC}, {Path: "/data/x", Errno: unix.ENOSPC}, {Path: "/run/x"},
	}}
	if got := FullTmpfs(rec, []string{"/run"}); !slices.Equal(got, []string{"/run", "/tmp"}) {
		t.Errorf("full: %q", got)
	}
}
