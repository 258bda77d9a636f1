package spec

import (
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/fail"
)

// service makes a container one of a systemd unit, with all that can be had.
func service(in Input) Input {
	in.Workload.Secrets = []Secret{{ID: "db"}, {ID: "tls.key", UID: 7, GID: 7, Owned: true, Mode: 0o440}}
	in.Workload.SDNotify = NotifyContainer
	in.Files.Secrets = "/run/safe-run/io/x/secrets"
	in.Files.Notify = "/run/safe-run/io/x/notify"
	in.Files.Activate = "/usr/local/lib/safe-run/engine/activate"
	in.Files.ActivateSocket = "/run/safe-run/io/x/activate.sock"
	return in
}

func TestService(t *testing.T) {
	for name, in := range map[string]Input{"usual": service(testInput()), "rich": service(rich()), "below the unit": service(with(func(in *Input) {
		in.CgroupParent = "/system.slice/web@a.service"
	}))} {
		t.Run(name, func(t *testing.T) {
			in.Image.Env = append(in.Image.Env, "NOTIFY_SOCKET=/image", "LISTEN_FDS=9")
			in.Workload.Env = []EnvVar{{Name: "LISTEN_PID", Value: new("1")}, {Name: "NOTIFY_SOCKET", Value: new("/mine")}}
			s, err := Build(in)
			must(t, err)
			must(t, Verify(s, VerifyFor(in)))
			for _, e := range s.Process.Env {
				if n, v, _ := strings.Cut(e, "="); ServiceVariable(n) && (n != "NOTIFY_SOCKET" || v != NotifySocket) {
					t.Errorf("variable %s", e)
				}
			}
			i := slices.Index(s.Process.Args, ActivatePath)
			if i != 0 && (i != 2 || s.Process.Args[0] != initPath) {
				t.Errorf("args %q", s.Process.Args)
			}
			for target, exec := range map[string]bool{SecretsDir: false, NotifySocket: false, ActivatePath: true, ActivateSocket: false} {
				o := optionsOf(*mountAt(t, s, target))
				if !o.readonly || !o.nosuid || !o.nodev || o.noexec == exec {
					t.Errorf("%s: %+v", target, o)
				}
			}
			none := in
			none.Files = HostFiles{}
			if Verify(s, VerifyFor(none)) == nil {
				t.Error("Verify accepts files nobody made")
			}
		})
	}
}

// Without files of the launcher nothing of a service is there, and a variable
// somebody wrote is his.
func TestServiceVariables(t *testing.T) {
	s, err := Build(with(func(in *Input) {
		in.Image.Env = append(in.Image.Env, "LISTEN_FDS=9", "WATCHDOG_USEC=1")
		in.Workload.Env = []EnvVar{{Name: "NOTIFY_SOCKET", Value: new("@x")}}
	}))
	must(t, err)
	if got := strings.Join(s.Process.Env, " "); !strings.Contains(got, "NOTIFY_SOCKET=@x") || strings.Contains(got, "LISTEN") || strings.Contains(got, "WATCHDOG") {
		t.Error(got)
	}
}

func TestServiceErrors(t *testing.T) {
	mount := func(typ MountType, target string, ro bool) func(*Input) {
		return func(in *Input) {
			m := ResolvedMount{Mount: Mount{Origin: "-v", Type: typ, Target: target, ReadOnly: ro}, HostPath: "/var/lib/safe-run/volumes/a/_data"}
			if typ == MountTmpfs {
				m.HostPath = ""
			}
			in.Mounts = []ResolvedMount{m}
		}
	}
	for _, tc := range []struct {
		name   string
		change func(*Input)
		kind   fail.Kind
		good   bool
	}{
		{"over the secrets", mount(MountTmpfs, "/run/secrets", false), fail.Conflict, false},
		{"below the secrets", mount(MountVolume, "/run/secrets/x", false), fail.Conflict, false},
		{"over the sockets", mount(MountVolume, "/run/safe-run", false), fail.Conflict, false},
		{"a bind above", mount(MountBind, "/run", false), fail.Conflict, false},
		{"a read-only volume above", mount(MountVolume, "/run", true), fail.Conflict, false},
		{"a volume above", mount(MountVolume, "/run", false), 0, true},
		{"a tmpfs above", mount(MountTmpfs, "/run", false), 0, true},
		{"beside", mount(MountVolume, "/run/secrets2", false), 0, true},
		{"no directory", func(in *Input) { in.Files.Secrets = "" }, fail.Internal, false},
		{"a directory without secrets", func(in *Input) { in.Workload.Secrets = nil }, fail.Internal, false},
		{"nobody asked for the socket", func(in *Input) { in.Workload.SDNotify = NotifyHealthy }, fail.Internal, false},
		{"half an activation", func(in *Input) { in.Files.Activate = "" }, fail.Internal, false},
		{"path as ID", func(in *Input) { in.Workload.Secrets[0].ID = "../x" }, fail.Usage, false},
		{"dots as ID", func(in *Input) { in.Workload.Secrets[0].ID = ".." }, fail.Usage, false},
		{"twice", func(in *Input) { in.Workload.Secrets[0].ID = "tls.key" }, fail.Usage, false},
		{"owner outside", func(in *Input) { in.Workload.Secrets[1].UID = 65536 }, fail.HostCannot, false},
		{"set-user-ID", func(in *Input) { in.Workload.Secrets[1].Mode = 0o4755 }, fail.Usage, false},
		{"relative source", func(in *Input) { in.Files.Notify = "notify" }, fail.Internal, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := service(testInput())
			tc.change(&in)
			s, err := Build(in)
			if tc.good {
				must(t, err)
				must(t, Verify(s, VerifyFor(in)))
				return
			}
			if err == nil || fail.KindOf(err) != tc.kind {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestCgroupPath(t *testing.T) {
	id := strings.Repeat("ab", 32)
	for _, tc := range []struct {
		unit, asked, want string
		kind              fail.Kind
	}{
		{"", "", "/safe-run/" + id, 0},
		{"", "a/b", "/safe-run/a/b/" + id, 0},
		{"", "/safe-run/a", "/safe-run/a/" + id, 0},
		{"", "/system.slice", "", fail.Refused},
		{"", "../a", "", fail.Refused},
		{"/system.slice/web.service", "", "/system.slice/web.service/safe-run-" + id, 0},
		{`/user.slice/user-1.slice/user@1.service/app.slice/a\x2db.service`, "", `/user.slice/user-1.slice/user@1.service/app.slice/a\x2db.service/safe-run-` + id, 0},
		{"/system.slice/web.service", "a", "", fail.Conflict},
		{"/", "", "", fail.HostCannot},
		{"/system.slice/../..", "", "", fail.HostCannot},
		{"/system.slice/", "", "", fail.HostCannot},
		{"system.slice", "", "", fail.HostCannot},
		{"/a:b:c", "", "", fail.HostCannot},
		{"/a\nb", "", "", fail.HostCannot},
		{"/safe-run/x", "", "", fail.HostCannot},
		{"/" + strings.Repeat("a", 256), "", "", fail.HostCannot},
	} {
		got, err := CgroupPath(tc.unit, tc.asked, id)
		if got != tc.want || (tc.want == "" && fail.KindOf(err) != tc.kind) {
			t.Errorf("%q %q: %q %v", tc.unit, tc.asked, got, err)
		}
	}
	if _, err := CgroupPath("", "", "../x"); err == nil {
		t.Error("an id that is none")
	}
}

// A unit's cgroup is exactly the one below the unit.
func TestVerifyUnitCgroup(t *testing.T) {
	in := with(func(in *Input) { in.CgroupParent = "/system.slice/web.service" })
	s, err := Build(in)
	must(t, err)
	v := VerifyFor(in)
	must(t, Verify(s, v))
	for _, p := range []string{
		"/safe-run/" + in.ID, "/system.slice/web.service", "/system.slice/web.service/" + in.ID, "/system.slice/web.service/safe-run-" + strings.Repeat("0", 64),
		"/system.slice/other.service/safe-run-" + in.ID, "/system.slice/web.service/x/safe-run-" + in.ID, "/system.slice/web.service/safe-run-" + in.ID + "/..",
	} {
		s.Linux.CgroupsPath = p
		if Verify(s, v) == nil {
			t.Errorf("%s is accepted", p)
		}
	}
	in.Host.CgroupV2 = false
	if _, err := Build(in); err == nil {
		t.Error("a unit's cgroup with cgroup v1")
	}
}
