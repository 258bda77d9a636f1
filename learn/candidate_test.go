package learn

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/profiles"
)

// nginx is what a web server with workers leaves behind.
func nginx() Recording {
	return Recording{
		Capabilities: []CapabilityUse{
			{Name: "CAP_CHOWN", Syscall: "chown", Process: "nginx", Count: 5},
			{Name: "CAP_SETUID", Syscall: "setuid", Process: "nginx", Count: 2},
			{Name: "CAP_NET_BIND_SERVICE", Syscall: "bind", Process: "nginx", Count: 1},
			{Name: "CAP_MKNOD", Host: true, Refused: true, Syscall: "mknod", Process: "nginx", Count: 1},
			{Name: "CAP_SYS_ADMIN", Refused: true, Syscall: "mmap", Process: "nginx", Count: 9},
			{Name: "CAP_EVIL\n", Syscall: "read", Count: 1},
		},
		Syscalls: []SyscallUse{{Name: "read", Count: 1}, {Name: "accept4", Count: 1}},
		Paths: []PathUse{
			{Path: "/var/lib/nginx/body", Syscall: "mkdir", Write: true, Process: "nginx", Count: 1},
			{Path: "/var/lib/nginx/body", Syscall: "chown", Write: true, Process: "nginx", Count: 1},
			{Path: "/var/lib/nginx/body/1", Syscall: "openat", Write: true, UID: 33, Process: "nginx", Count: 7},
			{Path: "/var/log/nginx/access.log", Syscall: "openat", Write: true, Process: "nginx", Count: 1},
		},
		Sockets: []SocketUse{
			{Bind: true, Proto: "tcp", Address: "0.0.0.0:80", Port: 80, Process: "nginx", Count: 1},
			{Bind: true, Proto: "tcp", Address: "[::]:8443", Port: 8443, Process: "nginx", Count: 1},
			{Bind: true, Proto: "tcp", Address: "127.0.0.1:9000", Port: 9000, Process: "nginx", Count: 1},
			{Bind: true, Proto: "udp", Address: "0.0.0.0:0", Process: "nginx", Count: 1},
			{Proto: "tcp", Address: "192.0.2.1:443", Port: 443, Process: "nginx", Count: 2},
		},
		Written: []Written{
			{Path: "/etc/resolv.conf", New: true, Parent: "/etc", ParentMode: 0o755, ParentHolds: true},
			{Path: "/run/nginx.pid", New: true, Parent: "/run", Bytes: 4096},
			{Path: "/var/lib/nginx/body", Dir: true, New: true, Bytes: 300 << 10, Parent: "/var/lib/nginx", ParentMode: 0o755},
			{Path: "/var/log/nginx/access.log", New: true, Bytes: 4096, Parent: "/var/log/nginx", ParentMode: 0o755, ParentGID: 4},
		},
		Peak: Peak{Memory: 11 << 20, Pids: 5},
	}
}

func rights(p profiles.Profile) (lines []string) {
	for _, c := range p.Capabilities {
		lines = append(lines, "cap "+c.Name)
	}
	for _, w := range p.Writable {
		s := "write " + w.Path
		if w.Volume != "" {
			s += " volume=" + w.Volume
		} else {
			s += " size=" + w.Size + " mode=" + w.Mode
		}
		if w.UID != nil {
			s += fmt.Sprint(" uid=", *w.UID)
		}
		if w.GID != nil {
			s += fmt.Sprint(" gid=", *w.GID)
		}
		if w.Exec {
			s += " exec"
		}
		lines = append(lines, s)
	}
	for _, x := range p.Ports {
		lines = append(lines, "port "+x.Port)
	}
	return lines
}

func TestCandidate(t *testing.T) {
	base := profiles.Profile{
		Version: 1, Name: "web",
		Capabilities: []profiles.Capability{{Name: "KILL"}, {Name: "CHOWN", Why: "mine"}},
		Ports:        []profiles.Port{{Port: "8080:80"}},
	}
	r := Candidate(nginx(), base, Options{})
	want := []string{
		"cap CHOWN", "cap NET_BIND_SERVICE", "cap SETUID",
		"write /var/lib/nginx size=16m mode=0755",
		"write /var/log/nginx size=16m mode=0755 gid=4",
		"port 8080:80", "port 8443/tcp",
	}
	if got := rights(r.Profile); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	p := r.Profile
	if c := p.Capabilities[0]; c.Why != "mine" || c.Evidence.Count != 5 || c.Evidence.Process != "nginx" || c.Evidence.Call != "chown /var/lib/nginx/body" {
		t.Errorf("evidence of CHOWN: %+v %+v", c, c.Evidence)
	}
	if e := p.Capabilities[1].Evidence; e.Call != "bind port 80" {
		t.Errorf("evidence of NET_BIND_SERVICE: %+v", e)
	}
	if p.Limits.Memory != "64m" || p.Limits.Pids != 64 || !strings.Contains(p.Limits.Why, "11m of memory, 5 processes") {
		t.Errorf("limits %+v", p.Limits)
	}
	if len(r.Unmet) != 1 || !strings.Contains(r.Unmet[0].String(), "--cap-add KILL: it was never used") {
		t.Errorf("unmet %v", r.Unmet)
	}
	if len(r.Seen) != 1 || !strings.Contains(r.Seen[0], "192.0.2.1:443 over tcp (2 times, nginx)") {
		t.Errorf("seen %q", r.Seen)
	}
	if !slices.Contains(p.Seccomp.Allow, "accept4") || slices.Contains(p.Seccomp.Allow, "chown") {
		t.Errorf("seccomp %q", p.Seccomp.Allow)
	}
	text, err := p.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := profiles.Parse(text, "candidate"); err != nil {
		t.Errorf("a candidate is no profile: %v\n%s", err, text)
	}
}

func TestCandidateWritable(t *testing.T) {
	file := func(path, parent string, holds bool) Written {
		return Written{Path: path, Bytes: 4096, New: true, Parent: parent, ParentMode: 0o755, ParentHolds: holds}
	}
	dir := func(path, parent string, holds bool) Written {
		w := file(path, parent, holds)
		w.Dir = true
		return w
	}
	by := func(uid uint32, path string) PathUse {
		return PathUse{Path: path, Syscall: "openat", Write: true, UID: uid, Process: "x", Count: 1}
	}
	exec := PathUse{Path: "/opt/p/tool", Syscall: "execve", Count: 1}
	for _, c := range []struct {
		name    string
		written []Written
		uses    []PathUse
		own     []string
		want    []string
		unmet   string
	}{
		{"default tmpfs", []Written{file("/tmp/x", "/tmp", false), file("/run/a/b", "/run", false), file("/dev/shm/x", "/dev/shm", false)}, nil, nil, nil, ""},
		{"covered", []Written{file("/data/x", "/data", true)}, nil, []string{"/data"}, nil, ""},
		{"mount point made by the runtime", []Written{{Path: "/data", Dir: true, New: true, Parent: "/", ParentHolds: true}}, nil, []string{"/data/sub"}, nil, ""},
		{"empty and made by the program", []Written{{Path: "/data", Dir: true, New: true, Parent: "/", ParentHolds: true}}, []PathUse{{Path: "/data", Syscall: "mkdir", Write: true}}, nil, []string{"write /data size=16m mode=0755"}, ""},
		{"empty directory of the image", []Written{file("/srv/x", "/srv", false)}, nil, nil, []string{"write /srv size=16m mode=0755"}, ""},
		{"new below one with files", []Written{dir("/opt/p/cache", "/opt/p", true), dir("/opt/p/cache/a", "/opt/p", true)}, nil, nil, []string{"write /opt/p/cache size=16m mode=0755"}, ""},
		{"topmost new", []Written{dir("/opt/p/a/b", "/opt/p", true)}, nil, nil, []string{"write /opt/p/a size=16m mode=0755"}, ""},
		{"files of the image", []Written{file("/opt/p/x", "/opt/p", true)}, nil, nil, []string{"write /opt/p volume=anonymous"}, ""},
		{"executed there", []Written{file("/opt/p/x", "/opt/p", true)}, []PathUse{exec}, nil, []string{"write /opt/p volume=anonymous exec"}, ""},
		{"one within another", []Written{file("/opt/p/x", "/opt/p", true), dir("/opt/p/a", "/opt/p", true)}, nil, nil, []string{"write /opt/p volume=anonymous"}, ""},
		{"the writer", []Written{file("/srv/x", "/srv", false)}, []PathUse{by(33, "/srv/x")}, nil, []string{"write /srv size=16m mode=0755 uid=33"}, ""},
		{"several writers", []Written{file("/srv/x", "/srv", false)}, []PathUse{by(33, "/srv/x"), by(0, "/srv/y")}, nil, []string{"write /srv size=16m mode=1777"}, ""},
		{"a writer deeper", []Written{file("/srv/x", "/srv", false)}, []PathUse{by(0, "/srv/x"), by(33, "/srv/y/z")}, nil, []string{"write /srv size=16m mode=0755"}, ""},
		{"of the application below /usr", []Written{file("/usr/src/app/x", "/usr/src/app", true)}, nil, nil, []string{"write /usr/src/app volume=anonymous"}, ""},
		{"root", []Written{file("/x", "/", true)}, nil, nil, nil, "the root of the file system"},
		{"etc", []Written{file("/etc/passwd", "/etc", true)}, nil, nil, nil, "the system's own files"},
		{"conf in etc", []Written{file("/etc/x/conf", "/etc/x", true)}, nil, nil, nil, "the system's own files"},
		{"lib", []Written{file("/usr/lib64/x/y", "/usr/lib64/x", true)}, nil, nil, nil, "the system's own files"},
		{"new below etc", []Written{dir("/etc/x", "/etc", true)}, nil, nil, []string{"write /etc/x size=16m mode=0755"}, ""},
		{"kernel", []Written{file("/dev/x", "/dev", false)}, nil, nil, nil, "the kernel's"},
		{"an option in a name", []Written{dir("/a:rw,exec", "/", true)}, nil, nil, nil, "such characters"},
		{"a terminal in a name", []Written{dir("/\x1b[2J", "/", true)}, nil, nil, nil, "such characters"},
	} {
		r := Candidate(Recording{Written: c.written, Paths: c.uses}, profiles.Profile{}, Options{Covered: c.own})
		if got := rights(r.Profile); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
		unmet := fmt.Sprint(r.Unmet)
		if c.unmet == "" && len(r.Unmet) > 0 || !strings.Contains(unmet, c.unmet) || strings.Contains(unmet, "\x1b") {
			t.Errorf("%s: unmet %q, want %q", c.name, unmet, c.unmet)
		}
	}
}

func TestSizes(t *testing.T) {
	const mib = 1 << 20
	for bytes, want := range map[int64]string{0: "16m", mib: "16m", 5 * mib: "32m", 16 * mib: "64m", 17 * mib: "", 32 * mib: "", 33 * mib: "128m", 500 * mib: "1024m"} {
		if got := tmpfsSize(bytes); got != want {
			t.Errorf("tmpfs of %d MiB: got %q, want %q", bytes/mib, got, want)
		}
	}
	for n, want := range map[int64]int64{0: 32, 33 * mib: 48, 49 * mib: 64, 65 * mib: 96, 300 * mib: 384, 1 << 62: 1 << 30} {
		if got := niceSize(n) / mib; got != want {
			t.Errorf("memory of %d MiB: got %d, want %d", n/mib, got, want)
		}
	}
	r := Candidate(Recording{Peak: Peak{Memory: 900 * mib, Pids: 200, Tmpfs: map[string]int64{"/tmp": 40 * mib}}, Limits: Reached{Tmpfs: []string{"/dev/shm"}}}, profiles.Profile{}, Options{})
	if l := r.Profile.Limits; l.Memory != "" || l.Pids != 0 || l.Shm != "128m" {
		t.Errorf("limits %+v", l)
	}
	if got := rights(r.Profile); !slices.Equal(got, []string{"write /tmp size=128m mode=1777"}) {
		t.Errorf("%q", got)
	}
	base := profiles.Profile{Limits: profiles.Limits{Memory: "4g", Pids: 1000}}
	r = Candidate(Recording{Peak: Peak{Memory: 900 * mib, Pids: 200}}, base, Options{})
	if l := r.Profile.Limits; l.Memory != "2048m" || l.Pids != 400 {
		t.Errorf("limits %+v", l)
	}
}

func TestCandidateCapabilities(t *testing.T) {
	refused := func(name string) CapabilityUse {
		return CapabilityUse{Name: name, Refused: true, Syscall: "openat", Process: "x", Count: 1}
	}
	rec := Recording{Capabilities: []CapabilityUse{refused("CAP_DAC_READ_SEARCH"), refused("CAP_DAC_OVERRIDE"), refused("CAP_NET_RAW"), refused("CAP_NET_ADMIN")}}
	for _, c := range []struct {
		o    Options
		want []string
	}{
		{Options{}, []string{"cap DAC_OVERRIDE", "cap NET_RAW"}},
		{Options{Held: []string{"CAP_NET_RAW"}}, []string{"cap DAC_OVERRIDE"}},
		{Options{Grantable: func(string) bool { return true }}, []string{"cap DAC_OVERRIDE", "cap NET_ADMIN", "cap NET_RAW"}},
	} {
		if got := rights(Candidate(rec, profiles.Profile{}, c.o).Profile); !slices.Equal(got, c.want) {
			t.Errorf("%+v: got %q, want %q", c.o, got, c.want)
		}
	}
}

func TestMerge(t *testing.T) {
	a, b := nginx(), nginx()
	b.Capabilities[0].Process = "other"
	b.Paths[0].Errno = unix.EROFS
	b.Peak = Peak{Memory: 5 << 20, Pids: 50, Tmpfs: map[string]int64{"/tmp": 7}}
	b.Lost, b.Exit = 3, 1
	m := Merge(a, b)
	if n := len(m.Capabilities); n != len(a.Capabilities)+1 {
		t.Errorf("%d capabilities", n)
	}
	for _, c := range m.Capabilities {
		if c.Name == "CAP_SETUID" && c.Count != 4 || c.Name == "CAP_CHOWN" && c.Count != 5 {
			t.Errorf("%+v", c)
		}
	}
	if len(m.Paths) != len(a.Paths)+1 || len(m.Written) != len(a.Written) || m.Peak.Memory != 11<<20 || m.Peak.Pids != 50 || m.Peak.Tmpfs["/tmp"] != 7 || m.Lost != 3 || m.Exit != 1 {
		t.Errorf("%+v", m)
	}
	if x, y := fmt.Sprint(Merge(a, b).Capabilities), fmt.Sprint(Merge(b, a).Capabilities); x != y {
		t.Errorf("the order counts:\n%s\n%s", x, y)
	}
}
