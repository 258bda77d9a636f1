package policy

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/source"
	"github.com/safe-run/safe-run/spec"
)

// dirSource is an ordinary directory on a disk.
func dirSource(p string) spec.Source {
	return spec.Source{Asked: p, Real: p, Runtime: "/proc/1/fd/3", Mode: fs.ModeDir | 0o755, FS: "ext4", Magic: 0xef53, Aliases: []string{p}}
}

func bindOf(s spec.Source, readonly bool) func(*Request) {
	return func(r *Request) {
		if r.Sources == nil {
			r.Sources = map[int]spec.Source{}
		}
		r.Sources[len(r.Workload.Mounts)] = s
		mnt(spec.Mount{Origin: "-v", Type: spec.MountBind, Source: s.Asked, Target: "/data", ReadOnly: readonly})(r)
	}
}

func bind(p string, readonly bool) func(*Request) { return bindOf(dirSource(p), readonly) }

// TestSources: what is refused writable and read-only ("" is allowed).
func TestSources(t *testing.T) {
	for _, c := range []struct{ path, rw, ro string }{
		{"/", "bind-root", "bind-root"},
		{"/etc", "bind-system", "bind-system"},
		{"/usr", "bind-system", "bind-system"},
		{"/usr/bin", "bind-system", "bind-system"},
		{"/bin", "bind-system", "bind-system"},
		{"/lib64", "bind-system", "bind-system"},
		{"/boot", "bind-system", "bind-system"},
		{"/boot/grub", "bind-system", "bind-system"},
		{"/var", "bind-system", "bind-system"},
		{"/var/lib", "bind-system", "bind-system"},
		{"/run", "bind-system", "bind-system"},
		{"/run/systemd/journal", "bind-system", "bind-system"},
		{"/run/user/1000", "bind-system", "bind-system"},
		{"/tmp", "bind-system", "bind-system"},
		{"/opt", "bind-system", "bind-system"},
		{"/home", "bind-home", "bind-home"},
		{"/root", "bind-home", "bind-home"},
		{"/home/ann", "bind-home", "bind-home"},
		{"/proc", "bind-kernel", "bind-kernel"},
		{"/proc/sys", "bind-kernel", "bind-kernel"},
		{"/sys/fs/bpf", "bind-kernel", "bind-kernel"},
		{"/dev", "bind-kernel", "bind-kernel"},
		{"/dev/shm", "bind-kernel", "bind-kernel"},
		{"/var/lib/docker", "bind-container-store", "bind-container-store"},
		{"/var/lib/docker/volumes/x", "bind-container-store", "bind-container-store"},
		{"/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs", "bind-container-store", "bind-container-store"},
		{"/var/lib/kubelet", "bind-container-store", "bind-container-store"},
		{"/run/containerd", "bind-container-store", "bind-container-store"},
		{"/home/ann/.local/share/docker/x", "bind-container-store", "bind-container-store"},
		{"/etc/shadow", "bind-secret", "bind-secret"},
		{"/etc/ssh", "bind-secret", "bind-secret"},
		{"/etc/ssh/ssh_host_ed25519_key", "bind-secret", "bind-secret"},
		{"/etc/ssl/private", "bind-secret", "bind-secret"},
		{"/etc/ssl", "bind-secret", "bind-secret"}, // holds private
		{"/etc/letsencrypt/live/x", "bind-secret", "bind-secret"},
		{"/etc/pki", "bind-secret", "bind-secret"},
		{"/etc/pki/nss/private", "bind-secret", "bind-secret"},
		{"/root/.ssh", "bind-secret", "bind-secret"},
		{"/root/.docker/config.json", "bind-secret", "bind-secret"},
		{"/root/.config", "bind-secret", "bind-secret"},
		{"/home/ann/.ssh/id_ed25519", "bind-secret", "bind-secret"},
		{"/home/ann/.gnupg", "bind-secret", "bind-secret"},
		{"/home/ann/.kube/config", "bind-secret", "bind-secret"},
		{"/home/ann/.aws", "bind-secret", "bind-secret"},
		{"/srv/homes/bob/.ssh", "bind-secret", "bind-secret"},
		{"/var/spool/cron", "bind-secret", "bind-secret"},
		{"/home/ann/.bashrc", "bind-startup", ""},
		{"/root/.config/systemd/user", "bind-startup", ""},
		{"/home/ann/.local/bin", "bind-startup", ""},
		{"/etc/localtime", "bind-system", ""},
		{"/etc/timezone", "bind-system", ""},
		{"/etc/machine-id", "bind-system", ""},
		{"/etc/passwd", "bind-system", ""},
		{"/etc/ssl/certs", "bind-system", ""},
		{"/etc/ssl/certs/ca-certificates.crt", "bind-system", ""},
		{"/etc/nginx", "bind-system", ""},
		{"/etc/myapp/config.yaml", "bind-system", ""},
		{"/usr/share/zoneinfo", "bind-system", ""},
		{"/usr/share/ca-certificates", "bind-system", ""},
		{"/usr/local/share/app", "bind-system", ""},
		{"/lib/modules", "bind-system", ""},
		{"/var/log", "bind-system", ""},
		{"/srv", "bind-system", ""},
		{"/mnt", "bind-system", ""},
		{"/home/ann/project", "", ""},
		{"/home/ann/project/.git", "", ""},
		{"/home/ann/.cache/pip", "", ""},
		{"/home/ann/.m2/repository", "", ""},
		{"/root/work", "", ""},
		{"/srv/www", "", ""},
		{"/opt/app", "", ""},
		{"/mnt/data", "", ""},
		{"/tmp/x", "", ""},
		{"/var/tmp/x", "", ""},
		{"/var/log/nginx", "", ""},
		{"/var/lib/mysql", "", ""},
		{"/var/www", "", ""},
		{"/run/myapp", "", ""},
		{"/data", "", ""},
		{"/workspace", "", ""},
		{"/etcetera", "", ""},
		{"/rooted", "", ""},
	} {
		for _, ro := range []bool{false, true} {
			want := c.rw
			if ro {
				want = c.ro
			}
			_, refusals := Review(request(bind(c.path, ro)))
			if got := strings.Join(ids(refusals), " "); got != want {
				t.Errorf("%s readonly=%v: %q, want %q: %+v", c.path, ro, got, want, refusals)
			}
		}
	}
}

// What counts is what a source is, whatever it is called.
func TestSourcesByFacts(t *testing.T) {
	with := func(change func(*spec.Source)) spec.Source {
		s := dirSource("/srv/x")
		change(&s)
		return s
	}
	for _, c := range []struct {
		name string
		s    spec.Source
		want string
	}{
		{"plain", with(func(*spec.Source) {}), ""},
		{"copy of the root", with(func(s *spec.Source) { s.Aliases = append(s.Aliases, "/") }), "bind-root"},
		{"same inode as the root", with(func(s *spec.Source) { s.Above = []string{"/"} }), "bind-root"},
		{"copy of etc", with(func(s *spec.Source) { s.Aliases = append(s.Aliases, "/etc") }), "bind-system"},
		{"hard link to shadow", with(func(s *spec.Source) { s.Above = []string{"/etc/shadow"} }), "bind-secret"},
		{"volume of a store elsewhere", with(func(s *spec.Source) { s.Aliases = append(s.Aliases, "/var/lib/docker/volumes/x") }), "bind-container-store"},
		{"layer", with(func(s *spec.Source) { s.Overlay = "/run/c/1/rootfs" }), "bind-container-store"},
		{"engine socket inside", with(func(s *spec.Source) { s.Sockets = []string{"/srv/x/a", "/run/docker.sock"} }), "engine-socket"},
		{"engine socket copied", with(func(s *spec.Source) { s.Sockets = []string{"/srv/x/docker.sock"} }), "engine-socket"},
		{"shim socket", with(func(s *spec.Source) { s.Sockets = []string{"/run/containerd/s/0af"} }), "engine-socket"},
		{"engine socket itself", with(func(s *spec.Source) {
			s.Mode, s.Real, s.Sockets = fs.ModeSocket, "/run/docker.sock", []string{"/run/docker.sock"}
		}), "engine-socket"},
		{"socket", with(func(s *spec.Source) { s.Sockets = []string{"/srv/x/app.sock"} }), "socket"},
		{"device", with(func(s *spec.Source) { s.Mode = fs.ModeDevice | fs.ModeCharDevice }), "bind-device"},
		{"disk", with(func(s *spec.Source) { s.Mode = fs.ModeDevice }), "bind-device"},
		{"fifo", with(func(s *spec.Source) { s.Mode = fs.ModeNamedPipe }), "bind-fifo"},
		{"proc by magic", with(func(s *spec.Source) { s.Magic = 0x9fa0 }), "bind-kernel"},
		{"tracefs by name", with(func(s *spec.Source) { s.FS, s.Magic = "tracefs", 0 }), "bind-kernel"},
		{"bpffs", with(func(s *spec.Source) { s.FS, s.Magic = "bpf", 0xcafe4a11 }), "bind-kernel"},
		{"nfs", with(func(s *spec.Source) { s.FS, s.Magic = "nfs4", 0x6969 }), ""},
		{"autofs", with(func(s *spec.Source) { s.FS, s.Magic = "autofs", 0x0187 }), "bind-unreadable"},
		{"missing", spec.Source{Asked: "/no", Err: "does not exist", NotExist: true}, "bind-missing"},
		{"hangs", spec.Source{Asked: "/no", Err: "does not answer"}, "bind-unreadable"},
		{"magic link", with(func(s *spec.Source) { s.MagicLink, s.Err, s.Runtime = true, "magic", "" }), "bind-magic-link"},
		{"magic link to the root", with(func(s *spec.Source) {
			s.MagicLink, s.Err, s.Runtime, s.Real, s.Aliases = true, "magic", "", "/", []string{"/"}
		}), "bind-root"},
		{"deleted", with(func(s *spec.Source) { s.Err = "deleted" }), "bind-unreadable"},
		{"proc mounted below", with(func(s *spec.Source) {
			s.Submounts = []spec.Submount{{Path: "/srv/x/proc", FS: "proc", Aliases: []string{"/srv/x/proc"}, Mounted: true}}
		}), "bind-kernel"},
		{"etc mounted below", with(func(s *spec.Source) {
			s.Submounts = []spec.Submount{{Path: "/srv/x/e", FS: "ext4", Aliases: []string{"/srv/x/e", "/etc"}, Mounted: true}}
		}), "bind-system"},
		{"root mounted below", with(func(s *spec.Source) {
			s.Submounts = []spec.Submount{{Path: "/srv/x/r", FS: "ext4", Aliases: []string{"/srv/x/r", "/"}, Mounted: true}}
		}), "bind-root"},
		{"root of the host is a part", with(func(s *spec.Source) {
			s.Submounts = []spec.Submount{{Path: "/srv/x/@", FS: "btrfs", Aliases: []string{"/"}}}
		}), "bind-root"},
		{"data mounted below", with(func(s *spec.Source) {
			s.Submounts = []spec.Submount{{Path: "/srv/x/d", FS: "xfs", Aliases: []string{"/srv/x/d"}, Mounted: true}}
		}), ""},
	} {
		_, refusals := Review(request(bindOf(c.s, false)))
		if got := strings.Join(ids(refusals), " "); got != c.want {
			t.Errorf("%s: %q, want %q: %+v", c.name, got, c.want, refusals)
		}
	}
	// A bind that is not recursive leaves submounts out, but not parts.
	for _, mounted := range []bool{true, false} {
		s := with(func(s *spec.Source) {
			s.Submounts = []spec.Submount{{Path: "/srv/x/e", FS: "ext4", Aliases: []string{"/etc"}, Mounted: mounted}}
		})
		r := request(bindOf(s, true))
		r.Workload.Mounts[0].NonRecursive = true
		if _, refusals := Review(r); (len(refusals) > 0) == mounted {
			t.Errorf("mounted=%v: %+v", mounted, refusals)
		}
	}
	// Nobody looked at it.
	r := request(bind("/srv/x", true))
	r.Sources = nil
	if _, refusals := Review(r); !slices.Equal(ids(refusals), []string{"bind-unreadable"}) {
		t.Errorf("%+v", refusals)
	}
}

// No file of the site's opens what is never given.
func TestNeverGranted(t *testing.T) {
	site := Site{Grants: []Grant{{
		Image: "busybox", Binds: []BindGrant{{Source: "/"}}, Capabilities: []string{"CAP_ALL", "ALL"},
		Allow: []string{"privileged", "cap-all", "bind-root", "engine-socket", "systempaths-unconfined"},
	}}}
	sock := dirSource("/srv/x")
	sock.Sockets = []string{"/run/docker.sock"}
	for _, with := range []func(*Request){
		work(func(w *spec.Workload) { w.Privileged = true }), capAdd("ALL"), secOpt("systempaths=unconfined"), bind("/", true), bindOf(sock, true),
	} {
		r := request(with, func(r *Request) { r.Site = site })
		if _, refusals := Review(r); len(refusals) != 1 || refusals[0].Grant != "" {
			t.Errorf("%+v", refusals)
		}
	}
}

func TestTargets(t *testing.T) {
	for target, want := range map[string]string{
		"/": "mount-target", "/proc": "mount-target", "/proc/sys": "mount-target", "/sys/fs/cgroup": "mount-target", "/dev": "mount-target",
		"/dev/null": "mount-target", "/dev/pts": "mount-target", "/a/../proc": "mount-target", "//proc": "mount-target", "/proc/": "mount-target",
		"relative": "mount-target", "": "mount-target", "/x\ny": "mount-target", "/etc/ld.so.preload": "mount-target", "/sbin/docker-init": "mount-target",
		"/dev/shm": "", "/dev/shm/x": "", "/data": "", "/etc/hosts": "", "/etc/passwd": "", "/processes": "", "/devel": "", "/run/secrets": "", "/tmp": "",
	} {
		for _, m := range []spec.Mount{
			{Origin: "-v", Type: spec.MountVolume, Source: "v"},
			{Origin: "--mount", Type: spec.MountImage, Source: "busybox"},
			{Origin: "--tmpfs", Type: spec.MountTmpfs},
			{Origin: "--mount", Type: spec.MountBind, Source: "/srv/x"},
		} {
			m.Target = target
			r := request(mnt(m))
			r.Sources = map[int]spec.Source{0: dirSource("/srv/x")}
			_, refusals := Review(r)
			if got := strings.Join(ids(refusals), " "); got != want {
				t.Errorf("%s at %q: %q, want %q", m.Type, target, got, want)
			}
		}
	}
}

func TestRelabel(t *testing.T) {
	for _, c := range []struct {
		label   string
		selinux bool
		want    string
	}{{"z", false, ""}, {"Z", false, ""}, {"z", true, "mount-relabel"}, {"Z", true, "mount-relabel"}, {"zz", false, "mount-relabel"}} {
		r := request(bind("/srv/x", false))
		r.Workload.Mounts[0].Relabel, r.Host.SELinux = c.label, c.selinux
		_, refusals := Review(r)
		if got := strings.Join(ids(refusals), " "); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

// The real thing: all spellings of a dangerous source on this machine give the
// same answer, in each way to write a mount.
func TestSpellingsOfOneSource(t *testing.T) {
	dir := t.TempDir()
	link := func(name, to string) string {
		p := filepath.Join(dir, name)
		if err := os.Symlink(to, p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, c := range []struct {
		spellings []string
		want      string
	}{
		{[]string{"/", "//", "/.", "/../", "/etc/..", "/proc/self/root", link("root", "/"), link("chain", "root"), link("magic", "/proc/self/root")}, "bind-root"},
		{[]string{"/etc", "/etc/", "//etc", "/etc/.", "/usr/../etc", "/proc/self/root/etc", link("etc", "/etc"), link("rel", "../../../../../etc")}, "bind-system"},
		{[]string{"/etc/ssh", link("ssh", "/etc/ssh"), dir + "/etc/ssh", dir + "/root/etc/ssh"}, "bind-secret"},
		{[]string{"/proc", "/proc/sys", "/proc/1", link("proc", "/proc")}, "bind-kernel"},
		{[]string{"/sys", "/sys/kernel", "/dev/pts", link("dev", "/dev")}, "bind-kernel"},
		{[]string{"/dev/null", "/dev/zero", link("null", "/dev/null")}, "bind-device"},
		{[]string{dir + "/none", link("dangling", "none"), "/etc/passwd/x"}, "bind-missing"},
		{[]string{dir, "/etc/../" + dir, link("own", dir)}, ""},
	} {
		for _, p := range c.spellings {
			if c.want == "bind-secret" {
				if _, err := os.Stat(p); err != nil {
					continue // no ssh here
				}
			}
			for _, origin := range []string{"-v", "--mount"} {
				mounts := []spec.Mount{{Origin: origin, Type: spec.MountBind, Source: p, Target: "/x", ReadOnly: origin == "-v"}}
				set, err := source.Gather(mounts, nil, KnownPaths())
				if err != nil {
					t.Fatal(err)
				}
				r := request(func(r *Request) { r.Workload.Mounts, r.Sources = mounts, set.Sources })
				_, refusals := Review(r)
				if got := strings.Join(ids(refusals), " "); got != c.want {
					t.Errorf("%s %s: %q, want %q\n%+v", origin, p, got, c.want, set.Sources[0])
				}
				if err := set.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

func TestRelate(t *testing.T) {
	for _, c := range []struct {
		path, pattern string
		want          relation
	}{
		{"/etc", "/etc", same},
		{"/etc/x", "/etc", inside},
		{"/", "/etc", above},
		{"/etcx", "/etc", apart},
		{"/x", "/", inside},
		{"/", "/", same},
		{"/home/a", "/home/*", same},
		{"/home/a/.ssh", "/home/*/.ssh", same},
		{"/home/a", "/home/*/.ssh", above},
		{"/home/a/b", "/home/*/.ssh", apart},
	} {
		if got := relate(c.path, c.pattern); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// The table is patterns in the one form relate understands.
func TestGuards(t *testing.T) {
	rules := map[string]bool{}
	for _, r := range Catalogue() {
		rules[r.ID] = true
	}
	for _, g := range guards() {
		if filepath.Clean(g.pattern) != g.pattern || !filepath.IsAbs(g.pattern) || !rules[g.rule] || g.at == open {
			t.Errorf("%+v", g)
		}
	}
	for _, p := range engineSockets() {
		if filepath.Clean(p) != p || !filepath.IsAbs(p) {
			t.Errorf("%s", p)
		}
	}
}

func BenchmarkReview(b *testing.B) {
	r := request(bind("/srv/x", false), bind("/etc/localtime", true))
	for b.Loop() {
		if _, refusals := Review(r); len(refusals) != 1 {
			continue
		}
	}
}

func BenchmarkGatherKnown(b *testing.B) {
	mounts := []spec.Mount{{Type: spec.MountBind, Source: b.TempDir()}}
	for b.Loop() {
		set, err := source.Gather(mounts, nil, KnownPaths())
		if err != nil {
			b.Fatal(err)
		}
		set.Close()
	}
}
