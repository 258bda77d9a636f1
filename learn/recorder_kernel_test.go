package learn

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRecorderCapabilities has one container for each way a capability is
// asked for.
func TestRecorderCapabilities(t *testing.T) {
	for _, tc := range []struct {
		name string
		c    container
		want []string // of Everything; those granted are not in Denials
	}{
		{"chown refused", container{Script: "busybox chown 5 /mnt/file"}, []string{"CAP_CHOWN refused chown"}},
		{"chown granted", container{Script: "busybox chown 5 /mnt/file", Keep: []uint{unix.CAP_CHOWN}}, []string{"CAP_CHOWN granted chown"}},
		{"device", container{Script: "busybox mknod /mnt/d c 1 3"}, []string{"CAP_MKNOD host mknodat"}},
		{"device with the capability", container{Script: "busybox mknod /mnt/d c 1 3", Keep: []uint{unix.CAP_MKNOD}}, []string{"CAP_MKNOD host mknodat"}},
		{
			"raw socket",
			container{Script: "busybox ip link set lo up; busybox ping -c 1 -W 1 127.0.0.1"},
			[]string{"CAP_NET_ADMIN refused ioctl", "CAP_NET_RAW refused socket"},
		},
		{"port 80", container{Script: "busybox httpd -f -p 127.0.0.1:80"}, []string{"CAP_NET_BIND_SERVICE refused bind"}},
		{
			"host's user namespace",
			container{Script: "busybox chown 5 /mnt/file; busybox hostname x; busybox mknod /mnt/d c 1 3", Host: true, Keep: []uint{unix.CAP_CHOWN, unix.CAP_SYS_ADMIN}},
			[]string{"CAP_CHOWN granted chown", "CAP_MKNOD refused mknodat", "CAP_SYS_ADMIN granted sethostname"},
		},
		{"netlink message", container{Script: "busybox ip link add d0 type dummy; busybox ip link show"}, []string{"CAP_NET_ADMIN refused sendmsg"}},
		{"host name", container{Script: "busybox hostname x"}, []string{"CAP_SYS_ADMIN refused sethostname"}},
		{"nothing", container{Script: "for i in 1 2 3; do busybox true; done; exec busybox true"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := caps(record(t, Everything, tc.c)); !slices.Equal(got, tc.want) {
				t.Errorf("recorded %q, want %q", got, tc.want)
			}
			rec := record(t, Denials, tc.c)
			want := slices.DeleteFunc(slices.Clone(tc.want), func(s string) bool { return strings.Contains(s, " granted ") })
			if got := caps(rec); !slices.Equal(got, want) {
				t.Errorf("denials are %q, want %q", got, want)
			}
			if len(rec.Syscalls) > 0 {
				t.Errorf("denials with %d system calls", len(rec.Syscalls))
			}
		})
	}
}

func paths(r Recording) (list []string) {
	for _, p := range r.Paths {
		if p.Syscall == "execve" && p.Errno == 0 {
			continue
		}
		verdict := "done"
		if p.Errno != 0 {
			verdict = unix.ErrnoName(p.Errno)
		}
		if !p.Write {
			verdict += " read"
		}
		s := fmt.Sprintf("%s %s %s", p.Path, p.Syscall, verdict)
		if len(p.Capabilities) > 0 {
			s += " " + strings.Join(p.Capabilities, ",")
		}
		if len(list) == 0 || list[len(list)-1] != s {
			list = append(list, s)
		}
	}
	return list
}

func TestRecorderPaths(t *testing.T) {
	for _, tc := range []struct {
		name    string
		c       container
		want    []string
		denials []string
	}{
		{"written", container{Script: "echo >/mnt/new; busybox cat /mnt/file"}, []string{"/mnt/new openat done"}, nil},
		{
			"read-only",
			container{Script: "echo >/mnt/new; busybox mkdir /mnt/deep/x; busybox rm -f /mnt/file", Read: true},
			[]string{"/mnt/deep/x mkdir EROFS", "/mnt/file unlink EROFS", "/mnt/new openat EROFS"},
			[]string{"/mnt/deep/x mkdir EROFS", "/mnt/file unlink EROFS", "/mnt/new openat EROFS"},
		},
		{
			"relative",
			container{Script: "cd /mnt/deep; echo >down/../down/f; cd down; echo >../../g; cd /mnt/inner; echo >./h; cd /; busybox mkdir mnt/i"},
			[]string{"/mnt/deep/down/f openat done", "/mnt/g openat done", "/mnt/i mkdir done", "/mnt/inner/h openat done"},
			nil,
		},
		{
			"full",
			container{Script: "cd /mnt/little; busybox dd if=/dev/zero of=f bs=8k count=1"},
			[]string{"/mnt/little/f openat done", "/mnt/little/f write ENOSPC"},
			[]string{"/mnt/little/f write ENOSPC"},
		},
		{
			"renamed",
			container{Script: "cd /mnt/inner; echo >a; busybox mv a b; busybox ln -s ../file s; busybox ln b c"},
			[]string{
				"/mnt/inner/a openat done", "/mnt/inner/a rename done", "/mnt/inner/b link done", "/mnt/inner/b rename done",
				"/mnt/inner/c link done", "/mnt/inner/s symlink done",
			},
			nil,
		},
		{
			"not a program",
			container{Script: "cd /mnt; ./file; /mnt/file"},
			[]string{"/mnt/file execve EACCES read"},
			[]string{"/mnt/file execve EACCES read"},
		},
		{
			"foreign file",
			container{Script: "echo >>/etc/passwd; busybox chmod 700 /etc"},
			[]string{"/etc chmod EPERM", "/etc/passwd openat EACCES CAP_DAC_OVERRIDE"},
			[]string{"/etc chmod EPERM", "/etc/passwd openat EACCES CAP_DAC_OVERRIDE"},
		},
		{
			"file of another user",
			container{Script: "echo >/mnt/f; busybox chown 7 /mnt/f; busybox chmod 600 /mnt/f; busybox cat /mnt/f", Keep: []uint{unix.CAP_CHOWN}},
			[]string{"/mnt/f chown done", "/mnt/f openat done", "/mnt/f chmod EPERM CAP_FOWNER"},
			[]string{"/mnt/f chmod EPERM CAP_FOWNER"},
		},
		{
			"changed root",
			container{
				Script: "busybox cp /bin/busybox /mnt/bin/; cd /mnt; busybox chroot /mnt /bin/busybox sh -c 'echo >/inner/x; cd /inner; echo >y; echo >/../deep/z'",
				Keep:   []uint{unix.CAP_SYS_CHROOT},
			},
			[]string{"/mnt/bin/busybox openat done", "/mnt/deep/z openat done", "/mnt/inner/x openat done", "/mnt/inner/y openat done"},
			nil,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.c.Script = "exec 2>/dev/null; " + tc.c.Script
			drop := func(list []string) []string { // what every script does
				return slices.DeleteFunc(list, func(s string) bool { return strings.HasPrefix(s, "/dev/null ") })
			}
			if got := drop(paths(record(t, Everything, tc.c))); !slices.Equal(got, tc.want) {
				t.Errorf("recorded %q, want %q", got, tc.want)
			}
			if got := drop(paths(record(t, Denials, tc.c))); !slices.Equal(got, tc.denials) {
				t.Errorf("denials are %q, want %q", got, tc.denials)
			}
		})
	}
}

func TestRecorderSockets(t *testing.T) {
	c := container{Script: `busybox ip link set lo up
busybox httpd -f -p 127.0.0.1:80
busybox httpd -f -p 127.0.0.1:8080 & until busybox grep -q 0100007F:1F90 /proc/net/tcp; do :; done
busybox timeout 5 busybox nslookup x 127.0.0.1
busybox cp /bin/busybox /mnt/bin/; busybox mkdir -m 500 /mnt/dev; busybox chroot /mnt /bin/busybox syslogd -n`, Keep: []uint{unix.CAP_NET_ADMIN, unix.CAP_SYS_CHROOT}}
	var got []string
	rec := record(t, Everything, c)
	for _, s := range rec.Sockets {
		got = append(got, fmt.Sprint(s.Bind, " ", s.Proto, " ", s.Address, " ", s.Port, " ", int(s.Errno)))
	}
	for _, want := range []string{"true tcp 127.0.0.1:80 80 13", "true tcp 127.0.0.1:8080 8080 0", "false udp 127.0.0.1:53 53 0", "true unix /dev/log 0 13"} {
		if !slices.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	for _, s := range rec.Syscalls {
		if s.Name == "socket" && s.Arg != unix.AF_INET && s.Arg != unix.AF_INET6 && s.Arg != unix.AF_UNIX {
			t.Errorf("socket of family %d", s.Arg)
		}
	}
	for _, s := range record(t, Denials, c).Sockets {
		if s.Errno != unix.EACCES {
			t.Errorf("denials have %+v", s)
		}
	}
}

// TestRecorderFilter has calls a seccomp filter refuses.
func TestRecorderFilter(t *testing.T) {
	c := container{Script: "busybox sync; busybox mkdir /mnt/x", Filter: []uint32{unix.SYS_SYNC, unix.SYS_GETPPID}}
	for _, mode := range []Mode{Everything, Denials} {
		rec := record(t, mode, c)
		var got []string
		for _, r := range rec.Refused {
			got = append(got, r.Name+" "+unix.ErrnoName(r.Errno))
		}
		slices.Sort(got)
		if got = slices.Compact(got); !slices.Equal(got, []string{"getppid EPERM", "sync EPERM"}) {
			t.Errorf("refused %q", got)
		}
		for _, s := range rec.Syscalls {
			if s.Name == "sync" || s.Name == "getppid" {
				t.Errorf("%s is said to be used", s.Name)
			}
		}
	}
}

func calls(r Recording, name string) (n uint64) {
	for _, s := range r.Syscalls {
		if s.Name == name {
			n += s.Count
		}
	}
	return n
}

// TestRecorderForks has a script that starts very many processes.
func TestRecorderForks(t *testing.T) {
	const n, programs = 10000, 300
	rec := record(t, Everything, container{Script: fmt.Sprintf(
		"i=%d; while [ $i -gt 0 ]; do (:); i=$((i-1)); done; i=%d; while [ $i -gt 0 ]; do /bin/busybox true; i=$((i-1)); done; exit 0",
		n-programs, programs)})
	forks := calls(rec, "clone") + calls(rec, "fork") + calls(rec, "vfork")
	if execs := calls(rec, "execve"); rec.Lost == 0 && (forks != n || execs != programs+1) {
		t.Errorf("%d forks and %d programs, and nothing said to be lost", forks, execs)
	}
	t.Logf("lost %d", rec.Lost)
}

// TestRecorderOthers has two containers with a recorder each, and the host.
func TestRecorderOthers(t *testing.T) {
	one, two := open(t, Everything), open(t, Everything)
	a, b := start(t, container{Script: "echo >/mnt/one"}), start(t, container{Script: "echo >/mnt/two; busybox chown 5 /mnt/file"})
	if err := one.Follow(a.cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if err := two.Follow(b.cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	b.run(t)
	if err := exec.Command("/bin/busybox", "touch", filepath.Join(t.TempDir(), "host")).Run(); err != nil {
		t.Fatal(err)
	}
	a.run(t)
	for _, tc := range []struct {
		r    *Recorder
		want string
		caps int
	}{{one, "/mnt/one openat done", 0}, {two, "/mnt/two openat done", 1}} {
		rec, err := tc.r.Read()
		if err != nil {
			t.Fatal(err)
		}
		got := slices.DeleteFunc(paths(rec), func(s string) bool { return strings.HasPrefix(s, "/mnt/file ") })
		if !slices.Equal(got, []string{tc.want}) || len(rec.Capabilities) != tc.caps {
			t.Errorf("recorded %q and %+v, want %q", got, rec.Capabilities, tc.want)
		}
	}
}

// TestRecorderLives has one recorder for two containers, one after the other.
func TestRecorderLives(t *testing.T) {
	r := open(t, Denials)
	for _, p := range []string{"/mnt/a", "/mnt/b"} {
		s := start(t, container{Script: "echo >" + p, Read: true})
		if err := r.Follow(s.cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
		s.run(t)
	}
	rec, err := r.Read()
	if err != nil {
		t.Fatal(err)
	}
	if got := paths(rec); !slices.Equal(got, []string{"/mnt/a openat EROFS", "/mnt/b openat EROFS"}) {
		t.Errorf("recorded %q", got)
	}
	if rec.Ended.IsZero() || !rec.Ended.After(rec.Started) {
		t.Errorf("from %v to %v", rec.Started, rec.Ended)
	}
}

// TestRecorderNames has a process that fills the counters with names.
func TestRecorderNames(t *testing.T) {
	rec := record(t, Everything, container{Program: []string{
		"/bin/busybox", "sh", "-c",
		`i=0; while [ $i -lt 12000 ]; do echo n$i >/proc/self/comm; i=$((i+1)); done; busybox sync; echo >/mnt/last`,
	}})
	if calls(rec, "sync") == 0 {
		t.Error("the call after the names is not in the list")
	}
	if got := calls(rec, "write"); got < 12000 {
		t.Errorf("%d writes, lost %d", got, rec.Lost)
	}
	if !slices.Contains(paths(rec), "/mnt/last openat done") {
		t.Error("the path after the names is not in the list")
	}
}

// TestRecorderCgroup has a container in a cgroup of its own, and one that
// leaves it before its program is executed: that one is another's.
func TestRecorderCgroup(t *testing.T) {
	root := "/sys/fs/cgroup"
	var fs unix.Statfs_t
	if err := unix.Statfs(root, &fs); err != nil {
		t.Fatal(err)
	}
	if fs.Type != unix.CGROUP2_SUPER_MAGIC {
		root += "/unified"
	}
	for _, leaves := range []bool{false, true} {
		dir, err := os.MkdirTemp(root, "recorder-test-")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.Remove(dir) }()
		inner := filepath.Join(dir, "inner")
		if err := os.Mkdir(inner, 0o755); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.Remove(inner) }()
		r, s := open(t, Everything), start(t, container{Script: "echo >/mnt/new"})
		move := func(to string) {
			if err := os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte(strconv.Itoa(s.cmd.Process.Pid)), 0); err != nil {
				t.Fatal(err)
			}
		}
		move(dir)
		if err := r.Follow(s.cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
		if leaves {
			move(root)
		} else {
			move(inner)
		}
		s.run(t)
		rec, err := r.Read()
		if err != nil {
			t.Fatal(err)
		}
		if got := paths(rec); slices.Contains(got, "/mnt/new openat done") == leaves {
			t.Errorf("leaves %v: recorded %q", leaves, got)
		}
	}
}
