package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

const firstID = 1876000000 // of a block no other test uses

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// tools gives the runtime and a static busybox, or skips.
func tools(tb testing.TB) (runc, busybox string) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Fatal("needs root")
	}
	runc, err := filepath.Abs("../build/engine/runc")
	must(tb, err)
	if _, err := os.Stat(runc); err != nil {
		tb.Fatal("no engine: run make engine")
	}
	busybox, err = exec.LookPath("busybox")
	if err != nil {
		tb.Fatal("no static busybox; run make deps")
	}
	return runc, busybox
}

// bundle makes a root filesystem and a directory to bind, in a directory a
// container's root can reach.
func bundle(tb testing.TB) (dir, bind string) {
	tb.Helper()
	_, busybox := tools(tb)
	dir, err := os.MkdirTemp("", "audit")
	must(tb, err)
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(tb, os.Chmod(dir, 0o755))
	root := filepath.Join(dir, "rootfs")
	for _, d := range []string{"bin", "proc", "sys", "dev", "tmp", "run", "data", "tree", "etc"} {
		must(tb, os.MkdirAll(filepath.Join(root, d), 0o755))
	}
	must(tb, os.Symlink("run", filepath.Join(root, "varrun")))
	b, err := os.ReadFile(busybox)
	must(tb, err)
	must(tb, os.WriteFile(filepath.Join(root, "bin/busybox"), b, 0o755))
	must(tb, filepath.Walk(root, func(p string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(p, firstID, firstID)
	}))
	bind = filepath.Join(dir, "bind")
	must(tb, os.MkdirAll(filepath.Join(bind, "sub"), 0o755))
	must(tb, os.MkdirAll(filepath.Join(bind, "other"), 0o755))
	return dir, bind
}

func ref[T any](v T) *T { return &v }

// hardened is a spec like those this project makes.
func hardened(bind string, args ...string) *specs.Spec {
	maps := []specs.LinuxIDMapping{{ContainerID: 0, HostID: firstID, Size: 65536}}
	caps := []string{"CAP_CHOWN", "CAP_NET_BIND_SERVICE"}
	return &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: "rootfs", Readonly: true},
		Process: &specs.Process{
			Args: args,
			Cwd:  "/",
			User: specs.User{UID: 0, GID: 0, AdditionalGids: []uint32{10, 20}},
			Capabilities: &specs.LinuxCapabilities{
				Bounding: caps, Effective: caps, Permitted: caps, Inheritable: []string{}, Ambient: []string{},
			},
			NoNewPrivileges: true,
			Rlimits:         []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}, {Type: "RLIMIT_CORE"}},
			OOMScoreAdj:     ref(77),
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "strictatime", "mode=755", "size=64k", "nr_inodes=1024"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=67108864", "nr_inodes=65536"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
			{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "noexec", "mode=1777", "size=1000000", "nr_inodes=500"}},
			{Destination: "/varrun", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "noexec", "mode=755", "size=1m"}},
			{
				Destination: "/data", Type: "bind", Source: bind + "/other", Options: []string{"bind", "rprivate", "nosuid", "nodev", "noexec", "idmap"},
				UIDMappings: maps, GIDMappings: maps,
			},
			{
				Destination: "/tree", Type: "bind", Source: bind, Options: []string{"rbind", "rprivate", "rnosuid", "rnodev", "rnoexec", "rro", "ridmap"},
				UIDMappings: maps, GIDMappings: maps,
			},
		},
		Linux: &specs.Linux{
			UIDMappings: maps,
			GIDMappings: maps,
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace},
				{Type: specs.NetworkNamespace},
				{Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace},
				{Type: specs.MountNamespace},
				{Type: specs.UserNamespace},
				{Type: specs.CgroupNamespace},
			},
			Resources: &specs.LinuxResources{
				Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
				Memory:  &specs.LinuxMemory{Limit: ref(int64(64<<20 + 5)), Swap: ref(int64(64<<20 + 5)), Reservation: ref(int64(32 << 20))},
				Pids:    &specs.LinuxPids{Limit: ref(int64(50))},
				CPU:     &specs.LinuxCPU{Shares: ref(uint64(512)), Quota: ref(int64(50000)), Period: ref(uint64(100000)), Cpus: "0", Mems: "0"},
			},
			Seccomp: &specs.LinuxSeccomp{
				DefaultAction: specs.ActAllow,
				Syscalls:      []specs.LinuxSyscall{{Names: []string{"reboot"}, Action: specs.ActErrno}},
			},
			MaskedPaths:   []string{"/proc/kcore", "/proc/keys", "/proc/keys", "/proc/acpi", "/proc/nothing", "/sys/firmware", "/proc/timer_list"},
			ReadonlyPaths: []string{cgroupTmpfs, "/proc/bus", "/proc/sys", "/proc/sysrq-trigger", "/proc/nothing"},
		},
	}
}

// cgroupTmpfs is read-only through the read-only paths: with cgroup v1 the
// runtime mounts a writable tmpfs there, whatever the options say.
const cgroupTmpfs = "/sys/fs/cgroup"

// container is one that waits for its start.
type container struct {
	runc, state, id string
	pid             int
	spec            *specs.Spec
}

func create(tb testing.TB, dir string, s *specs.Spec, args ...string) *container {
	tb.Helper()
	runc, _ := tools(tb)
	id := fmt.Sprintf("audit%d-%d", os.Getpid(), time.Now().UnixNano())
	s.Linux.CgroupsPath = "/safe-run-test/" + id
	b, err := json.Marshal(s)
	must(tb, err)
	must(tb, os.WriteFile(filepath.Join(dir, "config.json"), b, 0o600))
	c := &container{runc: runc, state: filepath.Join(dir, "state"), id: id, spec: s}
	log, err := os.Create(filepath.Join(dir, "log"))
	must(tb, err)
	defer func() { _ = log.Close() }()
	pidFile := filepath.Join(dir, "pid")
	args = slices.Concat([]string{"--root", c.state, "create", "--bundle", dir, "--pid-file", pidFile}, args, []string{id})
	cmd := exec.Command(runc, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		out, _ := os.ReadFile(log.Name())
		tb.Fatalf("runc create: %v\n%s", err, out)
	}
	tb.Cleanup(c.remove)
	p, err := os.ReadFile(pidFile)
	must(tb, err)
	c.pid, err = strconv.Atoi(string(p))
	must(tb, err)
	return c
}

func (c *container) remove() {
	_ = exec.Command(c.runc, "--root", c.state, "delete", "--force", c.id).Run()
	// The runtime leaves the parent it made; the kernel keeps it if it is in use.
	parents, _ := filepath.Glob(cgroupTmpfs + "/*/safe-run-test")
	for _, p := range append(parents, cgroupTmpfs+"/safe-run-test") {
		_ = unix.Rmdir(p)
	}
}

func (c *container) start(tb testing.TB) {
	tb.Helper()
	if out, err := exec.Command(c.runc, "--root", c.state, "start", c.id).CombinedOutput(); err != nil {
		tb.Fatalf("runc start: %v\n%s", err, out)
	}
}

// copyOf a spec, deep.
func copyOf(tb testing.TB, s *specs.Spec) *specs.Spec {
	tb.Helper()
	b, err := json.Marshal(s)
	must(tb, err)
	var out specs.Spec
	must(tb, json.Unmarshal(b, &out))
	return &out
}

func differences(tb testing.TB, err error) []Difference {
	tb.Helper()
	var m *Mismatch
	if !errors.As(err, &m) {
		tb.Fatalf("no mismatch but %v", err)
	}
	if fail.KindOf(err) != fail.HostCannot {
		tb.Errorf("kind %v", fail.KindOf(err))
	}
	return m.Differences
}

// mutations change a spec so that the running container no longer fits it, as
// if the runtime had not done what the changed spec says.
var mutations = []struct {
	name string
	what string // part of Difference.What
	do   func(*specs.Spec)
}{
	{"caps nil", "CapEff", func(s *specs.Spec) { s.Process.Capabilities = nil }},
	{"effective", "CapEff", func(s *specs.Spec) { s.Process.Capabilities.Effective = nil }},
	{"permitted", "CapPrm", func(s *specs.Spec) { s.Process.Capabilities.Permitted = []string{"CAP_CHOWN"} }},
	{"bounding", "CapBnd", func(s *specs.Spec) { s.Process.Capabilities.Bounding = nil }},
	{"inheritable", "CapInh", func(s *specs.Spec) { s.Process.Capabilities.Inheritable = []string{"CAP_CHOWN"} }},
	{"ambient", "CapAmb", func(s *specs.Spec) { s.Process.Capabilities.Ambient = []string{"CAP_CHOWN"} }},
	{"unknown capability", "capability", func(s *specs.Spec) { s.Process.Capabilities.Bounding = []string{"CAP_X"} }},
	{"uid", "Uid", func(s *specs.Spec) { s.Process.User.UID = 1000 }},
	{"uid not mapped", "Uid", func(s *specs.Spec) { s.Process.User.UID = 70000 }},
	{"gid", "Gid", func(s *specs.Spec) { s.Process.User.GID = 1 }},
	{"group missing", "Groups", func(s *specs.Spec) { s.Process.User.AdditionalGids = []uint32{10, 20, 30} }},
	{"group too many", "Groups", func(s *specs.Spec) { s.Process.User.AdditionalGids = []uint32{10} }},
	{"uid map start", "uid_map", func(s *specs.Spec) { s.Linux.UIDMappings[0].HostID++ }},
	{"uid map size", "uid_map", func(s *specs.Spec) { s.Linux.UIDMappings[0].Size-- }},
	{"gid map", "gid_map", func(s *specs.Spec) {
		s.Linux.GIDMappings = append(s.Linux.GIDMappings, specs.LinuxIDMapping{ContainerID: 65536, HostID: 1, Size: 1})
	}},
	{"time namespace", "ns/time", func(s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
	}},
	{"joined namespace", "ns/net", func(s *specs.Spec) { s.Linux.Namespaces[1].Path = "/proc/self/ns/net" }},
	{"unknown namespace", "namespace", func(s *specs.Spec) { s.Linux.Namespaces[1].Type = "x" }},
	{"nofile", "RLIMIT_NOFILE", func(s *specs.Spec) { s.Process.Rlimits[0].Soft = 99 }},
	{"core", "RLIMIT_CORE", func(s *specs.Spec) { s.Process.Rlimits[1].Hard = 1 }},
	{"unknown rlimit", "RLIMIT_X", func(s *specs.Spec) { s.Process.Rlimits[1].Type = "RLIMIT_X" }},
	{"oom score", "oom_score_adj", func(s *specs.Spec) { s.Process.OOMScoreAdj = ref(78) }},
	{"cgroup path", "cgroup", func(s *specs.Spec) { s.Linux.CgroupsPath = "/safe-run-test/other" }},
	{"cgroup path from elsewhere", "cgroup", func(s *specs.Spec) { s.Linux.CgroupsPath = "/" + filepath.Base(s.Linux.CgroupsPath) }},
	{"systemd cgroup path", "cgroup", func(s *specs.Spec) { s.Linux.CgroupsPath = "safe.slice:run:other" }},
	{"memory", "memory.", func(s *specs.Spec) { s.Linux.Resources.Memory.Limit = ref(int64(32 << 20)) }},
	{"memory unlimited", "memory.", func(s *specs.Spec) { s.Linux.Resources.Memory.Limit = ref(int64(-1)) }},
	{"swap", "memory.", func(s *specs.Spec) { s.Linux.Resources.Memory.Swap = ref(int64(128 << 20)) }},
	{"reservation", "memory.", func(s *specs.Spec) { s.Linux.Resources.Memory.Reservation = ref(int64(1 << 20)) }},
	{"pids", "pids.max", func(s *specs.Spec) { s.Linux.Resources.Pids.Limit = ref(int64(51)) }},
	{"pids unlimited", "pids.max", func(s *specs.Spec) { s.Linux.Resources.Pids.Limit = ref(int64(-1)) }},
	{"shares", "cpu.", func(s *specs.Spec) { s.Linux.Resources.CPU.Shares = ref(uint64(2000)) }},
	{"quota", "cpu.", func(s *specs.Spec) { s.Linux.Resources.CPU.Quota = ref(int64(60000)) }},
	{"period", "cpu.", func(s *specs.Spec) { s.Linux.Resources.CPU.Period = ref(uint64(90000)) }},
	{"cpus", "cpuset.cpus", func(s *specs.Spec) { s.Linux.Resources.CPU.Cpus = "1" }},
	{"mems", "cpuset.mems", func(s *specs.Spec) { s.Linux.Resources.CPU.Mems = "1" }},
	{"read rate", "", func(s *specs.Spec) {
		d := specs.LinuxThrottleDevice{Rate: 1000}
		d.Major, d.Minor = 254, 0
		s.Linux.Resources.BlockIO = &specs.LinuxBlockIO{ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{d}}
	}},
	{"cgroup nobody made read-only", `mount "/sys/fs/cgroup"`, func(s *specs.Spec) { s.Linux.ReadonlyPaths = s.Linux.ReadonlyPaths[1:] }},
	{"mount missing", `mount "/etc"`, func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/etc", Type: "tmpfs"})
	}},
	{"mount point missing", `mount "/nowhere"`, func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/nowhere", Type: "tmpfs"})
	}},
	{"mount too many", `mount "/tmp"`, func(s *specs.Spec) {
		s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/tmp" })
	}},
	{"tree too many", `mount "/tree/sub"`, func(s *specs.Spec) { at(s, "/tree").Options[0] = "bind" }},
	{"filesystem", `mount "/tmp"`, func(s *specs.Spec) { at(s, "/tmp").Type = "ramfs" }},
	{"tmpfs ro", `mount "/tmp"`, func(s *specs.Spec) { add(s, "/tmp", "ro") }},
	{"dev nodev", `mount "/dev"`, func(s *specs.Spec) { add(s, "/dev", "nodev") }},
	{"data ro", `mount "/data"`, func(s *specs.Spec) { add(s, "/data", "ro") }},
	{"tmpfs size", `mount "/tmp"`, func(s *specs.Spec) { at(s, "/tmp").Options[4] = "size=900000" }},
	{"tmpfs inodes", `mount "/tmp"`, func(s *specs.Spec) { at(s, "/tmp").Options[5] = "nr_inodes=501" }},
	{"tmpfs mode", `mount "/tmp"`, func(s *specs.Spec) { at(s, "/tmp").Options[3] = "mode=777" }},
	{"tmpfs mode 755", `mount "/varrun"`, func(s *specs.Spec) { at(s, "/varrun").Options[3] = "mode=1777" }},
	{"bind source", `mount "/data" source`, func(s *specs.Spec) { at(s, "/data").Source = "/etc" }},
	{"bind source gone", `mount "/data"`, func(s *specs.Spec) { at(s, "/data").Source = "/nowhere" }},
	{"not idmapped", `mount "/tmp"`, func(s *specs.Spec) { add(s, "/tmp", "idmap") }},
	{"not masked", `masked "/proc/version"`, func(s *specs.Spec) { s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/proc/version") }},
	{"directory not masked", `masked "/proc/fs"`, func(s *specs.Spec) { s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/proc/fs") }},
	{"writable mount instead of a mask", `masked "/tmp"`, func(s *specs.Spec) { s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/tmp") }},
	{"mask nobody wanted", `mount "/proc/timer_list"`, func(s *specs.Spec) {
		s.Linux.MaskedPaths = slices.DeleteFunc(s.Linux.MaskedPaths, func(p string) bool { return p == "/proc/timer_list" })
	}},
	{"not read-only", `read-only "/proc/fs"`, func(s *specs.Spec) { s.Linux.ReadonlyPaths = append(s.Linux.ReadonlyPaths, "/proc/fs") }},
	{"device", `device "/dev/fuse"`, func(s *specs.Spec) {
		s.Linux.Devices = append(s.Linux.Devices, specs.LinuxDevice{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229})
	}},
	{"device number", `device "/dev/ptmx"`, func(s *specs.Spec) {
		s.Linux.Devices = append(s.Linux.Devices, specs.LinuxDevice{Path: "/dev/ptmx", Type: "c", Major: 1, Minor: 1})
	}},
	{"terminal", "/dev/console", func(s *specs.Spec) { s.Process.Terminal = true }},
}

func at(s *specs.Spec, destination string) *specs.Mount {
	return &s.Mounts[slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == destination })]
}

func add(s *specs.Spec, destination, option string) {
	m := at(s, destination)
	m.Options = append(m.Options, option)
}

func TestHardened(t *testing.T) {
	dir, bind := bundle(t)
	// A mount below the source of the recursive bind.
	must(t, unix.Mount("tmpfs", bind+"/sub", "tmpfs", 0, "size=64k"))
	t.Cleanup(func() { _ = unix.Unmount(bind+"/sub", unix.MNT_DETACH) })
	c := create(t, dir, hardened(bind, "/bin/busybox", "sleep", "60"))

	if err := Attest(c.pid, c.spec, Want{Phase: Created}); err != nil {
		t.Fatalf("created: %v", err)
	}
	for _, m := range mutations {
		s := copyOf(t, c.spec)
		m.do(s)
		err := Attest(c.pid, s, Want{Phase: Created})
		if err == nil {
			t.Errorf("%s: not noticed", m.name)
			continue
		}
		d := differences(t, err)
		if !slices.ContainsFunc(d, func(d Difference) bool { return strings.Contains(d.What, m.what) }) {
			t.Errorf("%s: noticed only %v", m.name, d)
		}
	}

	c.start(t)
	if err := Attest(c.pid, c.spec, Want{Phase: Started}); err != nil {
		t.Fatalf("started: %v", err)
	}
	for _, m := range []struct {
		what string
		do   func(*specs.Spec)
	}{
		{"CapEff", func(s *specs.Spec) { s.Process.Capabilities = nil }},
		{"Uid", func(s *specs.Spec) { s.Linux.UIDMappings[0].HostID += 65536 }},
		{"AppArmor profile", func(s *specs.Spec) { s.Process.ApparmorProfile = "no-such-profile" }},
		{"SELinux label", func(s *specs.Spec) { s.Process.SelinuxLabel = "system_u:system_r:container_t:s0:c1,c2" }},
		{"oom_score_adj", func(s *specs.Spec) { s.Process.OOMScoreAdj = ref(78) }},
		{"pids.max", func(s *specs.Spec) { s.Linux.Resources.Pids.Limit = ref(int64(51)) }},
	} {
		s := copyOf(t, c.spec)
		m.do(s)
		err := Attest(c.pid, s, Want{Phase: Started})
		if err == nil || !slices.ContainsFunc(differences(t, err), func(d Difference) bool { return d.What == m.what }) {
			t.Errorf("started, %s: %v", m.what, err)
		}
	}
}

// A runtime that does less than the spec says: the container is made from a
// weaker spec than the one it is compared with.
func TestWeakerThanAsked(t *testing.T) {
	for _, tc := range []struct {
		name   string
		weaken func(*specs.Spec)
		whats  []string
	}{
		{"no seccomp", func(s *specs.Spec) { s.Linux.Seccomp = nil }, []string{"Seccomp"}},
		{"new privileges", func(s *specs.Spec) { s.Process.NoNewPrivileges = false }, []string{"NoNewPrivs"}},
		{"writable root", func(s *specs.Spec) { s.Root.Readonly = false }, []string{"mount /"}},
		{"host network", func(s *specs.Spec) {
			s.Linux.Namespaces = slices.Delete(s.Linux.Namespaces, 1, 2)
			at(s, "/sys").Type, at(s, "/sys").Source, at(s, "/sys").Options = "bind", "/sys", []string{"rbind", "rprivate", "rro", "rnosuid", "rnodev", "rnoexec"}
			s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/sys/fs/cgroup" })
			s.Linux.MaskedPaths = nil
		}, []string{"ns/net", `masked "/proc/keys"`, `masked "/sys/firmware"`}},
		{"not recursive", func(s *specs.Spec) {
			at(s, "/tree").Options = []string{"rbind", "rprivate", "nosuid", "nodev", "noexec", "ro", "idmap"}
		}, []string{`mount "/tree/sub"`}},
		{"shared", func(s *specs.Spec) {
			at(s, "/tree").Options[1] = "rshared"
			s.Linux.RootfsPropagation = "rshared"
		}, []string{`mount "/tree"`}},
		{"all devices", func(s *specs.Spec) {
			s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}, {Allow: true, Type: "c", Major: ref(int64(10)), Minor: ref(int64(229)), Access: "rw"}}
		}, []string{"devices.list"}},
		{"no user namespace", func(s *specs.Spec) {
			s.Linux.Namespaces = slices.Delete(s.Linux.Namespaces, 5, 6)
			s.Linux.UIDMappings, s.Linux.GIDMappings = nil, nil
			for _, d := range []string{"/tree", "/data"} {
				m := at(s, d)
				m.UIDMappings, m.GIDMappings = nil, nil
				m.Options = slices.DeleteFunc(m.Options, func(o string) bool { return strings.HasSuffix(o, "idmap") })
			}
		}, []string{"ns/user", "Uid", "Gid", "uid_map", `mount "/data"`, `mount "/tree"`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, bind := bundle(t)
			must(t, unix.Mount("tmpfs", bind+"/sub", "tmpfs", 0, "size=64k"))
			t.Cleanup(func() { _ = unix.Unmount(bind+"/sub", unix.MNT_DETACH) })
			strict := hardened(bind, "/bin/busybox", "sleep", "60")
			weak := copyOf(t, strict)
			tc.weaken(weak)
			c := create(t, dir, weak)
			strict.Linux.CgroupsPath = weak.Linux.CgroupsPath
			if tc.whats[0] == "devices.list" {
				if _, err := os.Stat(cgroupRoot + "/devices"); err != nil {
					t.Skip("cgroup v2 does not show device rules")
				}
			}
			// What is shared is never accepted, whatever the spec says of its root.
			if err := Attest(c.pid, weak, Want{}); err != nil && tc.name != "shared" {
				t.Errorf("against its own spec: %v", err)
			}
			d := differences(t, Attest(c.pid, strict, Want{}))
			for _, what := range tc.whats {
				if !slices.ContainsFunc(d, func(d Difference) bool { return d.What == what }) {
					t.Errorf("%q was not noticed: %v", what, d)
				}
			}
		})
	}
}

// A mount made behind the runtime's back, and the null device over a path.
func TestChangedFromOutside(t *testing.T) {
	dir, bind := bundle(t)
	c := create(t, dir, hardened(bind, "/bin/busybox", "sleep", "60"))
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		t.Fatal("no nsenter; it comes with util-linux")
	}
	enter := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(nsenter, append([]string{"-t", strconv.Itoa(c.pid), "-m", "-p", "--"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	must(t, Attest(c.pid, c.spec, Want{}))
	enter("/bin/busybox", "mount", "-t", "tmpfs", "none", "/etc")
	enter("/bin/busybox", "mount", "-t", "tmpfs", "-o", "nosuid,nodev,noexec,size=1000000,nr_inodes=500", "none", "/tmp")
	enter("/bin/busybox", "umount", "/proc/keys")
	enter("/bin/busybox", "mount", "-o", "remount,bind,rw", "/proc/sys")
	d := differences(t, Attest(c.pid, c.spec, Want{}))
	for _, what := range []string{`mount "/etc"`, `mount "/tmp"`, `masked "/proc/keys"`, `read-only "/proc/sys"`} {
		if !slices.ContainsFunc(d, func(d Difference) bool { return d.What == what }) {
			t.Errorf("%s was not noticed: %v", what, d)
		}
	}
}

// A user that is not root has its capabilities in all five sets.
func TestNonRoot(t *testing.T) {
	dir, bind := bundle(t)
	s := hardened(bind, "/bin/busybox", "sleep", "60")
	s.Process.User = specs.User{UID: 1000, GID: 2000}
	s.Process.Capabilities.Inheritable = s.Process.Capabilities.Bounding
	s.Process.Capabilities.Ambient = s.Process.Capabilities.Bounding
	c := create(t, dir, s)
	must(t, Attest(c.pid, c.spec, Want{}))
	c.start(t)
	must(t, Attest(c.pid, c.spec, Want{Phase: Started}))
}

func TestTerminalAndDevice(t *testing.T) {
	dir, bind := bundle(t)
	s := hardened(bind, "/bin/busybox", "sleep", "60")
	s.Process.Terminal = true
	name := "/dev/kmsg"
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		t.Fatal(err)
	}
	s.Linux.Devices = []specs.LinuxDevice{{Path: name, Type: "c", Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev))}}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "console.sock"), Net: "unix"})
	must(t, err)
	defer func() { _ = l.Close() }()
	go func() {
		// Whoever takes the connection keeps the terminal's master open.
		if c, err := l.AcceptUnix(); err == nil {
			_, _, _, _, _ = c.ReadMsgUnix(make([]byte, 256), make([]byte, 256))
		}
	}()
	c := create(t, dir, s, "--console-socket", l.Addr().String())
	must(t, Attest(c.pid, c.spec, Want{}))
	c.start(t)
	must(t, Attest(c.pid, c.spec, Want{Phase: Started}))
}

// A program that ends at once is no error after the start, but one before.
func TestEnded(t *testing.T) {
	dir, bind := bundle(t)
	var c *container
	for range 5 {
		c = create(t, dir, hardened(bind, "/bin/busybox", "true"))
		must(t, Attest(c.pid, c.spec, Want{}))
		c.start(t)
		for range 100 {
			must(t, Attest(c.pid, c.spec, Want{Phase: Started}))
		}
		c.remove()
	}
	must(t, Attest(c.pid, c.spec, Want{Phase: Started}))
	d := differences(t, Attest(c.pid, c.spec, Want{Phase: Created}))
	if len(d) != 1 || d[0].What != "init process" {
		t.Errorf("differences %v", d)
	}
}

func TestNotAContainer(t *testing.T) {
	_, bind := bundle(t)
	s := hardened(bind, "x")
	s.Linux.CgroupsPath = "/safe-run-test/none"
	d := differences(t, Attest(os.Getpid(), s, Want{}))
	for _, what := range []string{"CapBnd", "NoNewPrivs", "Seccomp", "Uid", "uid_map", "ns/net", "ns/user", "ns/mnt", "mount /"} {
		if !slices.ContainsFunc(d, func(d Difference) bool { return d.What == what }) {
			t.Errorf("%s was not noticed", what)
		}
	}
	if text := Attest(os.Getpid(), s, Want{}).Error(); strings.ContainsRune(text, 0x1b) || len(text) > 16<<10 {
		t.Errorf("message of %d bytes", len(text))
	}
	if err := Attest(os.Getpid(), &specs.Spec{}, Want{}); fail.KindOf(err) != fail.Internal {
		t.Errorf("an incomplete spec: %v", err)
	}
}

func BenchmarkCreated(b *testing.B) {
	dir, bind := bundle(b)
	c := create(b, dir, hardened(bind, "/bin/busybox", "sleep", "60"))
	for b.Loop() {
		must(b, Attest(c.pid, c.spec, Want{}))
	}
}

func BenchmarkStarted(b *testing.B) {
	dir, bind := bundle(b)
	c := create(b, dir, hardened(bind, "/bin/busybox", "sleep", "60"))
	c.start(b)
	for b.Loop() {
		must(b, Attest(c.pid, c.spec, Want{Phase: Started}))
	}
}
