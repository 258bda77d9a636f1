package spec

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/internal/fail"
)

func build(t testing.TB, f func(*Input)) *specs.Spec {
	t.Helper()
	return buildVerified(t, with(f))
}

func TestArgs(t *testing.T) {
	img := Image{Entrypoint: []string{"/entry", "-x"}, Cmd: []string{"a", "b"}}
	for _, tc := range []struct {
		name string
		w    Workload
		img  Image
		want string // words with blanks, or the error
	}{
		{"image alone", Workload{}, img, "/entry -x a b"},
		{"words replace CMD", Workload{Args: []string{"c"}}, img, "/entry -x c"},
		{"entrypoint drops CMD", Workload{Entrypoint: new("/e")}, img, "/e"},
		{"entrypoint and words", Workload{Entrypoint: new("/e"), Args: []string{"c"}}, img, "/e c"},
		{"cleared", Workload{Entrypoint: new("")}, img, "no command specified"},
		{"cleared with words", Workload{Entrypoint: new(""), Args: []string{"c"}}, img, "c"},
		{"nothing", Workload{}, Image{}, "no command specified"},
		{"empty image entrypoint", Workload{}, Image{Entrypoint: []string{""}, Cmd: []string{"c"}}, "c"},
		{"NUL", Workload{}, Image{Cmd: []string{"a\x00b"}}, `NUL byte in the command word "a\x00b"`},
	} {
		args, err := Args(tc.w, tc.img)
		got := strings.Join(args, " ")
		if err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	s := build(t, func(in *Input) {
		in.Image.Env = []string{"PATH=/img", "A=1", "B=", "NOTIFY_SOCKET=@x", "LISTEN_FDS=3", "C=x=y"}
		in.Workload.Env = []EnvVar{{"A", new("2")}, {"D", new("4")}, {"A", new("3")}, {"C", nil}, {"E", nil}, {"LISTEN_FDS", new("1")}}
	})
	want := []string{"PATH=/img", "HOSTNAME=0123456789ab", "A=3", "B=", "D=4", "LISTEN_FDS=1"}
	if !slices.Equal(s.Process.Env, want) {
		t.Errorf("%q", s.Process.Env)
	}
	s = build(t, func(in *Input) {
		in.Image.Env = nil
		in.Workload.TTY = true
		in.Workload.Hostname = "box"
		in.Workload.Env = []EnvVar{{"PATH", nil}}
	})
	if want := []string{"HOSTNAME=box", "TERM=xterm"}; !slices.Equal(s.Process.Env, want) {
		t.Errorf("%q", s.Process.Env)
	}
}

// Each of these is refused or impossible; the message is for people.
func TestBuildErrors(t *testing.T) {
	mounted := func(m ResolvedMount) func(*Input) { return func(in *Input) { in.Mounts = []ResolvedMount{m} } }
	tmpfs := func(target string, o TmpfsOptions) func(*Input) {
		return mounted(ResolvedMount{Mount: Mount{Type: MountTmpfs, Target: target, Tmpfs: o}})
	}
	bindAt := func(target string) func(*Input) {
		return mounted(ResolvedMount{Mount: Mount{Type: MountBind, Target: target}, HostPath: "/proc/1/fd/3"})
	}
	for _, tc := range []struct {
		name string
		f    func(*Input)
		kind fail.Kind
		text string
	}{
		{"privileged", func(in *Input) { in.Workload.Privileged = true }, fail.Refused, "--privileged"},
		{"cap not granted", func(in *Input) { in.Workload.CapAdd = []string{"SYS_ADMIN"} }, fail.Refused, "CAP_SYS_ADMIN"},
		{"cap ALL", func(in *Input) { in.Workload.CapAdd = []string{"all"} }, fail.Usage, `"all"`},
		{"no cap", func(in *Input) { in.Workload.CapAdd = []string{"x\x1b"} }, fail.Usage, `"x\x1b"`},
		{"pid host", func(in *Input) { in.Workload.PIDMode = "HOST" }, fail.Refused, "--pid"},
		{"ipc container", func(in *Input) { in.Workload.IPCMode = "container:x" }, fail.Refused, "--ipc"},
		{"cgroupns host", func(in *Input) { in.Workload.CgroupNSMode = "host" }, fail.Refused, "--cgroupns"},
		{"network host", func(in *Input) { in.Workload.Networks = networks("host") }, fail.Refused, "--network"},
		{"workdir of proc", func(in *Input) { in.Workload.Workdir = "/proc/self/fd/8" }, fail.Refused, "/proc"},
		{"workdir of dev", func(in *Input) { in.Image.Workdir = "/a/../dev/fd/8" }, fail.Refused, "WORKDIR"},
		{"workdir relative", func(in *Input) { in.Workload.Workdir = "a" }, fail.Usage, "not absolute"},
		{"env without value", func(in *Input) { in.Image.Env = []string{"SECRET"} }, fail.Usage, `"SECRET"`},
		{"env of nothing", func(in *Input) { in.Image.Env = []string{"=x"} }, fail.Usage, "NAME=value"},
		{"hostname", func(in *Input) { in.Workload.Hostname = "a\n6.6.6.6 bank" }, fail.Usage, `"a\n6.6.6.6 bank"`},
		{"long hostname", func(in *Input) { in.Workload.Hostname = strings.Repeat("a", 65) }, fail.Usage, "64"},
		{"uid outside", func(in *Input) { in.User.UID = 65536 }, fail.HostCannot, "65535"},
		{"ulimit unlimited core", func(in *Input) { in.Workload.Ulimits = []Ulimit{{"core", -1, -1}} }, fail.Refused, "core"},
		{"ulimit swapped", func(in *Input) { in.Workload.Ulimits = []Ulimit{{"nofile", 3, 2}} }, fail.Usage, "soft"},
		{"ulimit unknown", func(in *Input) { in.Workload.Ulimits = []Ulimit{{"x", 3, 3}} }, fail.Usage, `"x"`},
		{"ulimit above the host's", func(in *Input) {
			in.Host.NofileHard, in.Host.HasResource = 1000, false
			in.Workload.Ulimits = []Ulimit{{"nofile", 2000, 2000}}
		}, fail.HostCannot, "1000"},
		{"memory 5m", func(in *Input) { in.Workload.Resources.Memory = new(int64(5 << 20)) }, fail.Usage, "6 MiB"},
		{"memory unlimited", func(in *Input) { in.Workload.Resources.Memory = new(int64(0)) }, fail.Refused, "unlimited"},
		{"memory above", func(in *Input) { in.Limits.MaxMemory = 1 << 30; in.Workload.Resources.Memory = new(int64(2 << 30)) }, fail.Refused, "maximum"},
		{"swap unlimited", func(in *Input) { in.Workload.Resources.MemorySwap = new(int64(-1)) }, fail.Refused, "-1"},
		{"swap below memory", func(in *Input) { in.Workload.Resources.MemorySwap = new(int64(7 << 20)) }, fail.Usage, "below"},
		{"no swap limit", func(in *Input) { in.Host.SwapLimit = false }, fail.HostCannot, "swap"},
		{"no memory controller", func(in *Input) { delete(in.Host.Controllers, "memory") }, fail.HostCannot, "memory"},
		{"no pids controller", func(in *Input) { delete(in.Host.Controllers, "pids") }, fail.HostCannot, "pids"},
		{"v1 without devices", func(in *Input) { in.Host.CgroupV2 = false }, fail.HostCannot, "devices"},
		{"pids unlimited", func(in *Input) { in.Workload.Resources.PidsLimit = new(int64(-1)) }, fail.Refused, "unlimited"},
		{"cpus", func(in *Input) { in.Workload.Resources.NanoCPUs = new(int64(5e9)) }, fail.HostCannot, "4"},
		{"cpus and quota", func(in *Input) {
			in.Workload.Resources.NanoCPUs, in.Workload.Resources.CPUQuota = new(int64(1e9)), new(int64(5000))
		}, fail.Conflict, "excludes"},
		{"cpuset", func(in *Input) { in.Workload.Resources.CPUSetCPUs = "0-9" }, fail.HostCannot, "0-3"},
		{"cpuset words", func(in *Input) { in.Workload.Resources.CPUSetCPUs = "0\n1" }, fail.Usage, `"0\n1"`},
		{"real time", func(in *Input) { in.Workload.Resources.CPURTRuntime = new(int64(1)) }, fail.Refused, "real-time"},
		{"weight", func(in *Input) { in.Workload.Resources.BlkioWeight = new(uint16(5)) }, fail.Usage, "10"},
		{"throttle of nothing", func(in *Input) { in.Workload.Resources.ReadBPS = []Throttle{{"/dev/x", 1}} }, fail.NotFound, "/dev/x"},
		{"oom kill", func(in *Input) { in.Workload.OOMKillDisable = true }, fail.Refused, "oom"},
		{"oom score", func(in *Input) { in.Workload.OOMScoreAdj = new(-1) }, fail.Refused, "-1"},
		{"sysctl of the host", func(in *Input) { in.Workload.Sysctls = map[string]string{"kernel.core_pattern": "x"} }, fail.Refused, "core_pattern"},
		{"sysctl of user namespaces", func(in *Input) { in.Workload.Sysctls = map[string]string{nestedUserNS: "9"} }, fail.Refused, nestedUserNS},
		{"sysctl with slashes", func(in *Input) { in.Workload.Sysctls = map[string]string{"net/ipv4/../../kernel/x": "x"} }, fail.Usage, "sysctl"},
		{"sysctl newline", func(in *Input) { in.Workload.Sysctls = map[string]string{"net.a": "1\n2"} }, fail.Usage, "value"},
		{"cgroup parent up", func(in *Input) { in.Workload.CgroupParent = "a/../../b" }, fail.Refused, "cgroup-parent"},
		{"cgroup parent root", func(in *Input) { in.Workload.CgroupParent = "/" }, fail.Refused, "cgroup-parent"},
		{"cgroup parent elsewhere", func(in *Input) { in.Workload.CgroupParent = "/system.slice" }, fail.Refused, "cgroup-parent"},
		{"annotation", func(in *Input) { in.Workload.Annotations = map[string]string{"run.oci.x": "y"} }, fail.Refused, "run.oci.x"},
		{"seccomp unconfined", func(in *Input) { in.Workload.SecurityOpts = []string{"seccomp:unconfined"} }, fail.Refused, "seccomp"},
		{"system paths", func(in *Input) { in.Workload.SecurityOpts = []string{"systempaths=unconfined"} }, fail.Refused, "systempaths"},
		{"unknown option", func(in *Input) { in.Workload.SecurityOpts = []string{"mask=x"} }, fail.Refused, "mask"},
		{"new privileges", func(in *Input) { in.Workload.SecurityOpts = []string{"no-new-privileges=FALSE"} }, fail.Refused, "no-new-privileges"},
		{"seccomp empty file", func(in *Input) {
			in.Workload.SecurityOpts = []string{"seccomp=/x"}
			in.Workload.Seccomp = &SeccompFile{JSON: []byte("{}")}
		}, fail.Usage, "defaultAction"},
		{"seccomp allows", func(in *Input) {
			in.Workload.SecurityOpts = []string{"seccomp=/x"}
			in.Workload.Seccomp = &SeccompFile{JSON: []byte(`{"defaultAction":"SCMP_ACT_ALLOW"}`)}
		}, fail.Refused, "SCMP_ACT_ALLOW"},
		{"no AppArmor profile", func(in *Input) { in.Host.AppArmor = true }, fail.HostCannot, "AppArmor"},
		{"no SELinux label", func(in *Input) { in.Host.SELinux = true }, fail.HostCannot, "SELinux"},
		{"no seccomp", func(in *Input) { in.Host.Seccomp = false }, fail.HostCannot, "seccomp"},
		{"no init", func(in *Input) { in.Workload.Init = new(true); in.Files.Init = "" }, fail.HostCannot, "--init"},
		{"over root", bindAt("/"), fail.Refused, "root"},
		{"over proc", bindAt("/proc"), fail.Refused, "/proc"},
		{"over proc sys", bindAt("/proc/sys"), fail.Refused, "/proc/sys"},
		{"over dev null", bindAt("/dev/null"), fail.Refused, "/dev/null"},
		{"over cgroup", bindAt("/sys/fs/cgroup"), fail.Refused, "cgroup"},
		{"target not clean", bindAt("/a/../proc"), fail.Usage, "clean"},
		{"target relative", bindAt("a"), fail.Usage, "absolute"},
		{"target control", bindAt("/a\nb"), fail.Usage, `"/a\nb"`},
		{"init hidden", func(in *Input) { bindAt("/sbin")(in); in.Workload.Init = new(true) }, fail.Conflict, "init"},
		{"shared", mounted(ResolvedMount{Mount: Mount{Type: MountBind, Target: "/a", Propagation: "rshared"}, HostPath: "/proc/1/fd/3"}), fail.Refused, "rshared"},
		{"slave", mounted(ResolvedMount{Mount: Mount{Type: MountBind, Target: "/a", Propagation: "slave"}, HostPath: "/proc/1/fd/3"}), fail.Refused, "slave"},
		{"chown", mounted(ResolvedMount{Mount: Mount{Type: MountBind, Target: "/a", Chown: true}, HostPath: "/proc/1/fd/3"}), fail.Refused, ":U"},
		{"no source", mounted(ResolvedMount{Mount: Mount{Type: MountBind, Target: "/a"}}), fail.Internal, "source"},
		{"tmpfs suid", tmpfs("/a", TmpfsOptions{Flags: []string{"suid"}}), fail.Refused, "suid"},
		{"tmpfs dev", tmpfs("/a", TmpfsOptions{Flags: []string{"dev"}}), fail.Refused, "dev"},
		{"tmpfs unknown", tmpfs("/a", TmpfsOptions{Flags: []string{"size=0,exec"}}), fail.Usage, "invalid tmpfs option"},
		{"tmpfs smuggled", tmpfs("/a", TmpfsOptions{Flags: []string{"mpol=bind:0,suid"}}), fail.Usage, "invalid tmpfs option"},
		{"tmpfs above", func(in *Input) { tmpfs("/a", TmpfsOptions{Size: 2 << 30})(in); in.Limits.MaxTmpfs = 1 << 30 }, fail.Refused, "maximum"},
		{"tmpfs uid", tmpfs("/a", TmpfsOptions{UID: new(uint32(70000))}), fail.HostCannot, "uid"},
		{"shm above", func(in *Input) { in.Workload.ShmSize = new(int64(2 << 30)); in.Limits.MaxShm = 1 << 30 }, fail.Refused, "maximum"},
		{"device over null", func(in *Input) {
			in.Workload.Devices = []Device{{}}
			in.Grants.Devices = []specs.LinuxDevice{{Path: "/dev/null", Type: "c"}}
			in.DeviceSources = map[string]string{"/dev/null": "/proc/1/fd/3"}
		}, fail.Refused, "/dev/null"},
		{"device outside dev", func(in *Input) {
			in.Workload.Devices = []Device{{}}
			in.Grants.Devices = []specs.LinuxDevice{{Path: "/etc/shadow", Type: "c"}}
		}, fail.Refused, "/etc/shadow"},
		{"disk", func(in *Input) {
			in.Workload.Devices = []Device{{}}
			in.Grants.Devices = []specs.LinuxDevice{{Path: "/dev/sda", Type: "b"}}
		}, fail.Refused, "character"},
		{"device not granted", func(in *Input) { in.Workload.Devices = []Device{{}} }, fail.Refused, "granted"},
		{"block of host root", func(in *Input) { in.IDs.HostUID = 0 }, fail.Internal, "block"},
		{"block to the end", func(in *Input) { in.IDs.HostGID = 1<<32 - 65536 }, fail.Internal, "block"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Build(with(tc.f))
			if err == nil {
				t.Fatal("built")
			}
			if fail.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("kind %d: %v", fail.KindOf(err), err)
			}
			if strings.ContainsAny(err.Error(), "\x00\x1b\n") {
				t.Errorf("raw control character in %q", err)
			}
		})
	}
}

func destinations(s *specs.Spec) string {
	var d []string
	for _, m := range s.Mounts {
		d = append(d, m.Destination)
	}
	return strings.Join(d, " ")
}

func TestMountOrder(t *testing.T) {
	volume := func(target, origin string) ResolvedMount {
		return ResolvedMount{Mount: Mount{Origin: origin, Type: MountVolume, Target: target}, HostPath: "/var/lib/safe-run/volumes/" + strings.ReplaceAll(target[1:], "/", "_")}
	}
	const kernel = "/proc /dev /dev/pts /dev/shm /dev/mqueue /sys /sys/fs/cgroup "
	for _, tc := range []struct {
		name   string
		mounts []ResolvedMount
		want   string
	}{
		{"none", nil, kernel + "/tmp /run /var/tmp /etc/hosts /etc/hostname /etc/resolv.conf"},
		{
			"parents first",
			[]ResolvedMount{volume("/a/b/c", "-v"), volume("/a", "-v"), volume("/a/b", "-v"), volume("/run/x", "-v")},
			kernel + "/tmp /run /var/tmp /a /a/b /run/x /etc/hosts /etc/hostname /etc/resolv.conf /a/b/c",
		},
		{
			"user's own win",
			[]ResolvedMount{volume("/var", "-v"), volume("/tmp", "-v"), volume("/etc/hosts", "-v")},
			kernel + "/run /var /tmp /etc/hosts /etc/hostname /etc/resolv.conf",
		},
		{
			"flag over image",
			[]ResolvedMount{volume("/data", "-v"), volume("/data", imageVolume)},
			kernel + "/tmp /run /var/tmp /data /etc/hosts /etc/hostname /etc/resolv.conf",
		},
		{
			"own shm",
			[]ResolvedMount{{Mount: Mount{Type: MountTmpfs, Target: "/dev/shm"}}},
			"/proc /dev /dev/pts /dev/mqueue /sys /sys/fs/cgroup /tmp /run /var/tmp /dev/shm /etc/hosts /etc/hostname /etc/resolv.conf",
		},
	} {
		got := destinations(build(t, func(in *Input) { in.Mounts = tc.mounts }))
		if got != tc.want {
			t.Errorf("%s:\n%s\nwant\n%s", tc.name, got, tc.want)
		}
	}
	s := build(t, func(in *Input) {
		in.Mounts = []ResolvedMount{{Mount: Mount{Type: MountBind, Target: "/etc"}, HostPath: "/proc/1/fd/3"}}
	})
	if strings.Contains(destinations(s), "/etc/") {
		t.Errorf("mount points would be made in a host directory: %s", destinations(s))
	}
	s = build(t, func(in *Input) { in.Workload.IPCMode = "none" })
	if strings.Contains(destinations(s), "/dev/shm") {
		t.Error("--ipc none has /dev/shm")
	}
	_, err := Build(with(func(in *Input) { in.Mounts = []ResolvedMount{volume("/a", "-v"), volume("/a", "--mount")} }))
	if fail.KindOf(err) != fail.Conflict {
		t.Errorf("two mounts at one place: %v", err)
	}
}

func TestMountOptions(t *testing.T) {
	options := func(m ResolvedMount) string {
		s := build(t, func(in *Input) { in.Mounts = []ResolvedMount{m} })
		return strings.Join(mountAt(t, s, m.Target).Options, ",")
	}
	const held = "/proc/1/fd/3"
	for _, tc := range []struct {
		m    ResolvedMount
		want string
	}{
		{ResolvedMount{Mount: Mount{Type: MountBind, Target: "/a"}, HostPath: held}, "rbind,rprivate,rnosuid,rnodev,rnoexec,ridmap"},
		{ResolvedMount{Mount: Mount{Type: MountBind, Target: "/a", ReadOnly: true, Exec: true}, HostPath: held}, "rbind,rprivate,rnosuid,rnodev,rro,ridmap"},
		{ResolvedMount{Mount: Mount{Type: MountBind, Target: "/a", NonRecursive: true, ReadOnly: true}, HostPath: held}, "bind,rprivate,nosuid,nodev,noexec,ro,idmap"},
		{ResolvedMount{Mount: Mount{Type: MountVolume, Target: "/a"}, HostPath: "/v"}, "rbind,rprivate,rnosuid,rnodev,rnoexec,ridmap"},
		{ResolvedMount{Mount: Mount{Type: MountImage, Target: "/a"}, HostPath: "/i"}, "rbind,rprivate,rnosuid,rnodev,rro"},
		{ResolvedMount{Mount: Mount{Type: MountTmpfs, Target: "/a"}}, "nosuid,nodev,noexec,mode=1777,size=67108864,nr_inodes=65536"},
		{ResolvedMount{Mount: Mount{Type: MountTmpfs, Target: "/a", Tmpfs: TmpfsOptions{SizePct: 50, Mode: new(uint32(0o4700)), Inodes: 9, Flags: []string{"exec", "noatime", "mpol=prefer:1"}}}}, "nosuid,nodev,noatime,mpol=prefer:1,mode=700,size=268435450,nr_inodes=9"},
		{ResolvedMount{Mount: Mount{Type: MountTmpfs, Target: "/a", Tmpfs: TmpfsOptions{Flags: []string{"exec", "noexec", "ro", "nr_blocks=2"}}}}, "nosuid,nodev,noexec,ro,mode=1777,size=8192,nr_inodes=65536"},
	} {
		if got := options(tc.m); got != tc.want {
			t.Errorf("%+v:\n%s, want\n%s", tc.m.Mount, got, tc.want)
		}
	}
}

func TestCapabilities(t *testing.T) {
	s := build(t, func(in *Input) {
		in.Workload.CapAdd = []string{"chown", "CAP_KILL", "chown"}
		in.Workload.CapDrop = []string{"all", "kill"}
	})
	if c := s.Process.Capabilities; !slices.Equal(c.Bounding, []string{"CAP_CHOWN"}) || c.Ambient == nil || len(c.Ambient) > 0 {
		t.Errorf("root: %+v", c)
	}
	s = build(t, func(in *Input) { in.User.UID = 7; in.Workload.CapAdd = []string{"net_bind_service"} })
	if c := s.Process.Capabilities; len(c.Ambient) != 1 || len(c.Inheritable) != 1 {
		t.Errorf("not root: %+v", c)
	}
	for _, name := range freeCapabilities {
		if _, err := Capability(name); err != nil {
			t.Error(err)
		}
	}
}

func TestLimits(t *testing.T) {
	s := build(t, func(in *Input) {
		in.Limits.MaxMemory, in.Limits.MaxPids, in.Limits.MaxShm, in.Limits.MaxTmpfs = 64<<20, 100, 1<<20, 2<<20
		in.Workload.Resources.NanoCPUs = new(int64(15e8))
		in.Workload.Resources.CPUSetCPUs = "0,2-3"
	})
	r := s.Linux.Resources
	if *r.Memory.Limit != 64<<20 || *r.Memory.Swap != 64<<20 || *r.Pids.Limit != 100 || *r.CPU.Quota != 150000 || *r.CPU.Period != 100000 {
		t.Errorf("%+v", r)
	}
	if o := optionsOf(*mountAt(t, s, "/dev/shm")); o.size != 1<<20 {
		t.Errorf("shm %d", o.size)
	}
	if o := optionsOf(*mountAt(t, s, "/tmp")); o.size != 2<<20 {
		t.Errorf("tmp %d", o.size)
	}
}

func TestSummary(t *testing.T) {
	in := rich()
	got := Summary(in, buildVerified(t, in))
	for _, want := range []string{
		"ids           0-65535 inside are 10000000-10065535 on the host",
		"capabilities  NET_ADMIN NET_BIND_SERVICE",
		"root files    read-only",
		"exec          /cache 1MiB: writable and executable",
		"memory 512MiB without swap, 256 processes", "open files (docker: none of these)\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	in = service(in)
	in.Workload.Detach, in.Workload.Restart = true, RestartPolicy{Name: RestartOnFailure, Max: 3}
	in.Workload.HealthOnFailure, in.Workload.LogOpts = OnFailureKill, map[string]string{"max-size": "1m"}
	in.Image.Health = Healthcheck{Test: []string{"CMD", "curl", "\x1b[2J"}, StartPeriod: time.Second}
	got = Summary(in, buildVerified(t, in))
	for _, want := range []string{
		"detached      runs in", "restart       after a failure, at most 3 times", `health        "curl \x1b[2J" every 30s, for at most 30s; unhealthy after 3 failures, none of which count for 1s; then it is killed`,
		"systemd       the program", "sockets       the listening", "logs          json-file, rotated, max-size=1m (docker:", "secrets       db, tls.key, files in /run/secrets",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	in = with(func(in *Input) {
		in.Mounts = []ResolvedMount{{Mount: Mount{Type: MountVolume, Target: "/\u202eevil"}, HostPath: "/v"}}
	})
	if got := Summary(in, buildVerified(t, in)); strings.Contains(got, "\u202e") {
		t.Errorf("raw direction mark: %q", got)
	}
}

// The spec is what the engine stores for each container.
func TestSpecSize(t *testing.T) {
	data, err := json.Marshal(build(t, func(*Input) {}))
	must(t, err)
	if len(data) > 24<<10 {
		t.Errorf("%d bytes", len(data))
	}
	t.Logf("%d bytes", len(data))
}

func BenchmarkBuild(b *testing.B) {
	in := rich()
	for b.Loop() {
		if _, err := Build(in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	in := rich()
	s, err := Build(in)
	must(b, err)
	v := VerifyFor(in)
	for b.Loop() {
		must(b, Verify(s, v))
	}
}
