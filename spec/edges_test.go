package spec

import (
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/profiles"
)

// TestContainerID: 64 hex digits in lower case.
func TestContainerID(t *testing.T) {
	good := strings.Repeat("0123456789abcdef", 4)
	for id, want := range map[string]bool{good: true, "": false, good[1:]: false, good + "0": false, strings.ToUpper(good): false} {
		if isID(id) != want {
			t.Errorf("%q: want %v", id, want)
		}
	}
	for c := range 256 {
		b := byte(c)
		if isID(good[:63]+string([]byte{b})) != strings.ContainsRune("0123456789abcdef", rune(b)) {
			t.Errorf("%q", b)
		}
	}
}

// TestIDBlocks: at least 1024 ids, and neither the host's root nor the two at
// the end that mean "none" (2^32-1, and 2^16-1's large sibling 2^32-2).
func TestIDBlocks(t *testing.T) {
	for _, c := range []struct {
		block IDBlock
		want  bool
	}{
		{IDBlock{1, 1, 1024}, true},
		{IDBlock{1, 1, 1023}, false},
		{IDBlock{0, 1, 1024}, false},
		{IDBlock{1, 0, 1024}, false},
		{IDBlock{1<<32 - 2 - 1024, 1, 1024}, true},
		{IDBlock{1<<32 - 1 - 1024, 1, 1024}, false},
		{IDBlock{1, 1<<32 - 2 - 1024, 1024}, true},
		{IDBlock{1, 1<<32 - 1 - 1024, 1024}, false},
		{IDBlock{1 << 31, 1 << 31, math.MaxUint32}, false},
	} {
		if c.block.valid() != c.want {
			t.Errorf("%+v: want %v", c.block, c.want)
		}
	}
	uids, gids := mappings(IDBlock{HostUID: 10, HostGID: 20, Size: 30})
	if len(uids) != 1 || uids[0] != (specs.LinuxIDMapping{HostID: 10, Size: 30}) || len(gids) != 1 || gids[0] != (specs.LinuxIDMapping{HostID: 20, Size: 30}) {
		t.Errorf("%v %v", uids, gids)
	}
}

// TestFilterOptions: all that a filter depends on is passed on.
func TestFilterOptions(t *testing.T) {
	host := Features{Arch: "amd64", Kernel: [2]int{6, 1}}
	for network, onHost := range map[networkMode]bool{ownNetwork: false, hostNetwork: true, joinedNetwork: false} {
		for _, writable := range []bool{true, false} {
			o := filterOptions(host, []string{"CAP_CHOWN"}, writable, network)
			want := profiles.Options{Arch: "amd64", Kernel: [2]int{6, 1}, Capabilities: []string{"CAP_CHOWN"}, WritableBind: writable, HostNetwork: onHost}
			if o.Arch != want.Arch || o.Kernel != want.Kernel || !slices.Equal(o.Capabilities, want.Capabilities) || o.WritableBind != writable || o.HostNetwork != onHost {
				t.Errorf("%+v, want %+v", o, want)
			}
		}
	}
}

// The lists of what every container is denied or has, written a second time:
// whoever takes one out of the code is asked why.
func TestLists(t *testing.T) {
	devices := map[[2]int64]bool{}
	for _, d := range defaultDevices {
		devices[d] = true
	}
	if want := map[[2]int64]bool{
		{1, 3}: true, {1, 5}: true, {1, 7}: true, {1, 8}: true, {1, 9}: true, {5, 0}: true, {5, 1}: true, {5, 2}: true, {136, -1}: true,
	}; !maps.Equal(devices, want) {
		t.Errorf("devices %v", devices)
	}
	for what, c := range map[string]struct {
		got   []string
		want  string
		wider bool // a longer list gives more
	}{
		"free capabilities": {freeCapabilities, "CAP_AUDIT_WRITE CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_NET_BIND_SERVICE CAP_NET_RAW CAP_SETFCAP " +
			"CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SYS_CHROOT", true},
		"masked paths": {maskedPaths, "/proc/acpi /proc/asound /proc/interrupts /proc/kallsyms /proc/kcore /proc/key-users /proc/keys /proc/kmsg /proc/latency_stats " +
			"/proc/sched_debug /proc/scsi /proc/timer_list /proc/timer_stats /sys/dev/block /sys/devices/virtual/powercap /sys/firmware /sys/fs/selinux", false},
		"masked paths of the host's sysfs": {hostSysMaskedPaths, "/sys/fs/bpf /sys/fs/pstore /sys/kernel/config /sys/kernel/debug /sys/kernel/security /sys/kernel/tracing", false},
		"read-only paths":                  {readonlyPaths, "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger", false},
		"sysctls of IPC":                   {ipcSysctls, "kernel.msgmax kernel.msgmnb kernel.msgmni kernel.sem kernel.shmall kernel.shmmax kernel.shmmni kernel.shm_rmid_forced", true},
		"sysctls of routes": {slices.Concat(routeSysctls4, routeSysctls6), "net.ipv4.conf.all.accept_redirects net.ipv4.conf.default.accept_redirects " +
			"net.ipv4.conf.all.send_redirects net.ipv4.conf.default.send_redirects net.ipv6.conf.default.accept_ra net.ipv6.conf.default.accept_redirects", false},
		"sources that are never bound": {forbiddenSources, "/ /bin /boot/ /dev/ /etc /home /lib /lib64 /mnt /opt /proc/ /root /run /sbin /srv /sys/ /tmp /usr /var /var/lib /var/run " +
			"/etc/shadow /etc/sudoers /etc/ssh/ /root/.ssh/ /run/containerd/ /run/docker.sock /var/run/docker.sock /run/podman/ /run/crio/ " +
			"/var/lib/docker/ /var/lib/containerd/ /var/lib/containers/ /var/lib/kubelet/ /run/systemd/ /run/dbus/ /run/user/", false},
		"harmless options": {slices.Collect(maps.Keys(harmless)), "relatime strictatime noatime nodiratime atime diratime sync async dirsync newinstance", true},
	} {
		want := strings.Fields(c.want)
		for _, name := range want {
			if !slices.Contains(c.got, name) {
				t.Errorf("%s: %s is missing", what, name)
			}
		}
		for _, name := range c.got {
			if c.wider && !slices.Contains(want, name) {
				t.Errorf("%s: %s is one too many", what, name)
			}
		}
	}
	for option, is := range harmless {
		if !is {
			t.Errorf("option %s", option)
		}
	}
	if got := readonly(Features{CgroupV2: true}); slices.Contains(got, cgroupTmpfs) || len(got) != len(readonlyPaths) {
		t.Errorf("cgroup v2: %q", got)
	}
	if got := readonly(Features{}); !slices.Contains(got, cgroupTmpfs) {
		t.Errorf("cgroup v1: %q", got)
	}
}

// TestSysctlWords: names, and whose settings they are.
func TestSysctlWords(t *testing.T) {
	for name, want := range map[string]bool{
		"net.core.somaxconn": true, "a": true, "A.z-0_9": true, "": false, ".a": false, "a.": false, "a..b": false,
		strings.Repeat("a", 128): true, strings.Repeat("a", 129): false,
	} {
		if sysctlName(name) != want {
			t.Errorf("%q: want %v", name, want)
		}
	}
	for c := range 256 {
		b := byte(c)
		want := strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.", rune(b)) && b < 0x80
		if sysctlName("a"+string([]byte{b})+"b") != want {
			t.Errorf("%q: want %v", b, want)
		}
	}
	for _, c := range []struct {
		name         string
		ipc, network bool
		want         bool
	}{
		{"kernel.sem", true, false, true},
		{"kernel.sem", false, true, false},
		{"fs.mqueue.msg_max", true, false, true},
		{"fs.mqueue.msg_max", false, true, false},
		{"fs.mqueues", true, true, false},
		{"net.x", false, true, true},
		{"net.x", true, false, false},
		{"network.x", true, true, false},
		{"kernel.core_pattern", true, true, false},
	} {
		if NamespacedSysctl(c.name, c.ipc, c.network) != c.want {
			t.Errorf("%+v", c)
		}
	}
	given := Grants{Sysctls: []string{"user.a", "kernel.a"}}
	for _, c := range []struct {
		name string
		own  bool
		want bool
	}{{"user.a", true, true}, {"user.a", false, false}, {"user.b", true, false}, {"kernel.a", true, false}} {
		if grantedSysctl(c.name, given, c.own) != c.want {
			t.Errorf("%+v", c)
		}
	}
	if devicePerms(Grants{DevicePerms: map[string]string{"/dev/x": "r"}}, "/dev/x") != "r" || devicePerms(Grants{}, "/dev/x") != "rw" {
		t.Error("permissions of a device")
	}
}

// TestPathsAndNames: what paths and host names are made of.
func TestPathsAndNames(t *testing.T) {
	for _, c := range []struct {
		p, dir string
		want   bool
	}{
		{"/a", "/a", true},
		{"/a/b", "/a", true},
		{"/ab", "/a", false},
		{"/", "/a", false},
		{"/a", "/", true},
		{"/", "/", true},
	} {
		if within(c.p, c.dir) != c.want {
			t.Errorf("%+v", c)
		}
	}
	for n, want := range map[int]bool{4095: true, 4096: false} {
		if (cleanable("/"+strings.Repeat("a", n-1)) == nil) != want {
			t.Errorf("a path of %d bytes: want %v", n, want)
		}
	}
	for c := range rune(0x180) {
		if hasControl("a"+string(c)) != (c < ' ' || c >= 0x7f && c < 0xa0) {
			t.Errorf("%q", c)
		}
	}
	for n, want := range map[int]bool{1: true, 64: true, 65: false} {
		if (hostLabel("name", strings.Repeat("a", n)) == nil) != want {
			t.Errorf("a name of %d bytes: want %v", n, want)
		}
	}
	for c := range 256 {
		b := byte(c)
		letter := strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", rune(b)) && b < 0x80
		if (hostLabel("name", string([]byte{b})) == nil) != letter {
			t.Errorf("%q at the beginning", b)
		}
		if (hostLabel("name", "a"+string([]byte{b})) == nil) != (letter || b == '-' || b == '.' || b == '_') {
			t.Errorf("%q within", b)
		}
	}
	for name, want := range map[string]bool{
		"/a": true, "/a/b.slice": true, "/" + strings.Repeat("a", 255): true, "/" + strings.Repeat("a", 256): false, "/a/.b": false, "/.": false,
		strings.Repeat("/"+strings.Repeat("a", 127), 16): true, strings.Repeat("/"+strings.Repeat("a", 127), 16) + "a": false,
	} {
		if unitCgroup(name) != want {
			t.Errorf("%.40q of %d bytes: want %v", name, len(name), want)
		}
	}
}

// TestVerifiedCgroups: below our own tree with the container's id at the end,
// or exactly the place below the unit.
func TestVerifiedCgroups(t *testing.T) {
	id := strings.Repeat("ab", 32)
	unit := VerifyInput{ID: id, CgroupParent: "/system.slice/web.service", Host: Features{CgroupV2: true}}
	v1, own, odd := unit, VerifyInput{ID: id}, unit
	v1.Host.CgroupV2 = false
	odd.ID = "x"
	ours := unit
	ours.CgroupParent = "/safe-run/y"
	for _, c := range []struct {
		p    string
		v    VerifyInput
		want bool
	}{
		{"/safe-run/" + id, own, true},
		{"/safe-run/a/" + id, own, true},
		{"/safe-run/a/../" + id, own, false},
		{"/safe-run/a:b/" + id, own, false},
		{"/safe-run/a\x00b/" + id, own, false},
		{"/other/" + id, own, false},
		{"/safe-run/" + id + "/x", own, false},
		{"/system.slice/web.service/safe-run-" + id, own, false},
		{"/system.slice/web.service/safe-run-" + id, unit, true},
		{"/system.slice/web.service/safe-run-" + id, v1, false},
		{"/system.slice/web.service/safe-run-x", odd, false},
		{"/safe-run/y/safe-run-" + id, ours, false},
		{"/safe-run/" + id, unit, false},
		{id, unit, false},
	} {
		if verifiedCgroup(c.p, c.v) != c.want {
			t.Errorf("%.60q: want %v", c.p, c.want)
		}
	}
}

// TestFirstProcess: the program that takes the sockets of a unit, and whether
// it keeps what it becomes from connections.
func TestFirstProcess(t *testing.T) {
	initial := func(words ...string) []string { return append([]string{initPath, "--"}, words...) }
	for _, c := range []struct {
		args          []string
		first, fenced bool
	}{
		{nil, false, false},
		{[]string{initPath}, false, false},
		{initial(), false, false},
		{[]string{ActivatePath}, false, false},
		{initial(ActivatePath), false, false},
		{[]string{ActivatePath, "app"}, true, false},
		{initial(ActivatePath, "app"), true, false},
		{[]string{initPath, "-x", ActivatePath, "app"}, false, false},
		{[]string{"/x", "--", ActivatePath, "app"}, false, false},
		{[]string{initPath, "-x", ActivatePath, activateFenced, "app"}, false, false},
		{[]string{"/x", "--", ActivatePath, activateFenced, "app"}, false, false},
		{[]string{ActivatePath, activateFenced}, true, false},
		{[]string{ActivatePath, activateFenced, "app"}, true, true},
		{initial(ActivatePath, activateFenced, "app"), true, true},
		{[]string{ActivatePath, "app", "x"}, true, false},
		{[]string{"/x", activateFenced, "app"}, false, false},
	} {
		p := &specs.Process{Args: c.args}
		bad := activation(&specs.Spec{Process: p}, VerifyInput{Files: HostFiles{Activate: "/engine/activate"}})
		if (len(bad) == 0) != c.first {
			t.Errorf("%q: %q", c.args, bad)
		}
		if fencedProcess(p) != c.fenced {
			t.Errorf("%q: fenced, want %v", c.args, c.fenced)
		}
		if bad := activation(&specs.Spec{Process: p}, VerifyInput{}); len(bad) > 0 {
			t.Errorf("%q without sockets: %q", c.args, bad)
		}
	}
	if got := afterInit(initial()); len(got) != 0 {
		t.Errorf("%q", got)
	}
	unclean := activation(&specs.Spec{Process: &specs.Process{Args: []string{ActivatePath, "app"}}}, VerifyInput{Files: HostFiles{Activate: "/engine/../activate"}})
	if len(unclean) != 1 {
		t.Errorf("%q", unclean)
	}
}

// TestVerifyExecEdges: what is just not more than the container has.
func TestVerifyExecEdges(t *testing.T) {
	fenced := func(p, base *specs.Process) {
		base.Args = []string{ActivatePath, activateFenced, "app"}
		p.Args = []string{ActivatePath, activateFurther, "id"}
	}
	adj := func(of, is *int) func(p, base *specs.Process) {
		return func(p, base *specs.Process) { base.OOMScoreAdj, p.OOMScoreAdj = of, is }
	}
	for _, c := range []struct {
		name   string
		change func(p, base *specs.Process)
		good   bool
	}{
		{"nothing", func(_, _ *specs.Process) {}, true},
		{"fenced", fenced, true},
		{"fenced by another program", func(p, base *specs.Process) { fenced(p, base); p.Args[0] = "/x" }, false},
		{"fenced by nothing", func(p, base *specs.Process) { fenced(p, base); p.Args[1] = "id" }, false},
		{"NUL in the directory", func(p, _ *specs.Process) { p.Cwd = "/a\x00" }, false},
		{"variable without a name", func(p, _ *specs.Process) { p.Env = []string{"=x"} }, false},
		{"NUL in a variable", func(p, _ *specs.Process) { p.Env = []string{"A=b\x00"} }, false},
		{"container without sets", func(_, base *specs.Process) { base.Capabilities = nil }, false},
		{"same score", adj(new(7), new(7)), true},
		{"higher score", adj(new(7), new(8)), true},
		{"below nothing", adj(nil, new(-1)), false},
		{"none", adj(nil, nil), true},
		{"zero", adj(nil, new(0)), true},
		{"above nothing", adj(nil, new(1)), true},
		{"negative, but not lower", adj(new(-5), new(-3)), true},
	} {
		base := execBase()
		p, err := ExecProcess(base, Exec{Args: []string{"id"}})
		must(t, err)
		c.change(p, base)
		if err := VerifyExec(p, base); (err == nil) != c.good {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestVerifyFor: the last gate is told what was resolved, and of nothing else.
func TestVerifyFor(t *testing.T) {
	in := service(rich())
	in.Mounts[0].Mapped = true
	in.Mounts = append(in.Mounts, ResolvedMount{Mount: Mount{Type: MountVolume, Target: "/bin2", Exec: true}, HostPath: "/v"})
	in.DeviceSources = map[string]string{"/dev/fuse": "/proc/4711/fd/30"}
	in.JoinNetwork, in.JoinSysfs, in.CgroupParent = "/proc/1/fd/2", "/s", "/u"
	in.AppArmorProfile, in.SELinuxLabel, in.SELinuxMountLabel = "a", "l", "m"
	v := VerifyFor(in)
	for what, c := range map[string]struct{ got, want []string }{
		"of the host": {v.HostSources, []string{"/proc/4711/fd/9", "/proc/4711/fd/10", "/proc/4711/fd/11"}},
		"our own": {v.OwnSources, append([]string{
			"/var/lib/safe-run/volumes/data/_data", "/var/lib/safe-run/volumes/anon/_data", "/var/lib/safe-run/containers/x/image0", "/v",
			in.Files.Hosts, in.Files.Hostname, in.Files.ResolvConf, in.Files.Init, "/proc/4711/fd/30",
		}, in.Files.Secrets, in.Files.Notify, in.Files.Activate, in.Files.ActivateSocket)},
		"mapped":     {v.MappedSources, []string{"/proc/4711/fd/9"}},
		"executable": {v.ExecTargets, []string{"/opt/one", "/cache", "/bin2"}},
	} {
		if got, want := slices.Sorted(slices.Values(c.got)), slices.Sorted(slices.Values(c.want)); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	if v.ID != in.ID || v.Files != in.Files || v.IDs != in.IDs || v.Limits != in.Limits || v.Host.Arch != in.Host.Arch || !slices.Equal(v.Grants.Capabilities, in.Grants.Capabilities) ||
		v.JoinNetwork != in.JoinNetwork || v.JoinSysfs != in.JoinSysfs || v.CgroupParent != in.CgroupParent || v.AppArmorProfile != "a" || v.SELinuxLabel != "l" || v.SELinuxMountLabel != "m" {
		t.Errorf("%+v", v)
	}
	in.Files = HostFiles{}
	if got := VerifyFor(in).OwnSources; slices.Contains(got, "") {
		t.Errorf("a source without a name is ours: %q", got)
	}
}

// TestVerifyLooksBeforeItReads: none of the parts may be missing.
func TestVerifyLooksBeforeItReads(t *testing.T) {
	in := rich()
	for name, remove := range map[string]func(*specs.Spec){
		"process": func(s *specs.Spec) { s.Process = nil }, "root": func(s *specs.Spec) { s.Root = nil },
		"linux": func(s *specs.Spec) { s.Linux = nil }, "resources": func(s *specs.Spec) { s.Linux.Resources = nil },
	} {
		s, err := Build(in)
		must(t, err)
		remove(s)
		if err := Verify(s, VerifyFor(in)); err == nil || !strings.Contains(err.Error(), "incomplete") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
