package policy

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/spec"
)

// TestRules has, for every rule, what it refuses and what is near to it and
// must pass (want "").
func TestRules(t *testing.T) {
	block := chr(8, 0, "/dev/sda")
	block.Mode = fs.ModeDevice | 0o660
	alias := block
	alias.Asked, alias.Real = "/dev/null2", "/dev/null2"
	dir := chr(0, 0, "/dev")
	dir.Mode = fs.ModeDir | 0o755
	gone := spec.Source{Asked: "/dev/nope", Err: "does not exist", NotExist: true}
	fuse := chr(10, 229, "/dev/fuse")

	for _, c := range []struct {
		name string
		with func(*Request)
		want string // ids, joined by blanks
	}{
		{"nothing", func(*Request) {}, ""},
		{"privileged", work(func(w *spec.Workload) { w.Privileged = true }), "privileged"},
		{"api socket", work(func(w *spec.Workload) { w.UseAPISocket = true }), "use-api-socket"},
		{"writable root", work(func(w *spec.Workload) { w.ReadOnly = ptr(false) }), "writable-rootfs"},
		{"read-only root", work(func(w *spec.Workload) { w.ReadOnly = ptr(true) }), ""},

		{"cap ALL", capAdd("ALL"), "cap-all"},
		{"cap all", capAdd("all"), "cap-all"},
		{"cap cap_all", capAdd("cap_all"), "cap-all"},
		{"cap blank ALL", capAdd(" All "), "cap-all"},
		{"cap SYS_ADMIN", capAdd("SYS_ADMIN"), "capability"},
		{"cap CAP_SYS_ADMIN", capAdd("CAP_SYS_ADMIN"), "capability"},
		{"cap sys_admin", capAdd("sys_admin"), "capability"},
		{"cap blank", capAdd(" SYS_ADMIN"), "capability"},
		{"cap NET_ADMIN", capAdd("NET_ADMIN"), "capability"},
		{"cap added and dropped", work(func(w *spec.Workload) { w.CapAdd, w.CapDrop = []string{"SYS_PTRACE"}, []string{"ALL"} }), "capability"},
		{"cap SYS_TIME", capAdd("SYS_TIME"), "cap-host-only userns-host"},
		{"cap SYS_MODULE", capAdd("cap_sys_module"), "cap-host-only userns-host"},
		{"cap MKNOD", capAdd("MKNOD"), "cap-host-only userns-host"},
		{"cap two in one", capAdd("CHOWN,SYS_ADMIN"), "cap-unknown"},
		{"cap empty", capAdd(""), "cap-unknown"},
		{"cap of no kernel", capAdd("SUPER"), "cap-unknown"},
		{"cap drop of no kernel", work(func(w *spec.Workload) { w.CapDrop = []string{"SUPER"} }), "cap-unknown"},
		{"cap drop all", work(func(w *spec.Workload) { w.CapDrop = []string{"all", "CAP_CHOWN"} }), ""},
		{"cap free", capAdd("CHOWN", "cap_net_bind_service", "NET_RAW", "SETUID"), ""},

		{"pid host", work(func(w *spec.Workload) { w.PIDMode = "host" }), "pid-host"},
		{"pid HOST", work(func(w *spec.Workload) { w.PIDMode = "HOST" }), "pid-host"},
		{"pid join", work(func(w *spec.Workload) { w.PIDMode = "container:x" }), "pid-join"},
		{"pid private", work(func(w *spec.Workload) { w.PIDMode = "private" }), ""},
		{"ipc host", work(func(w *spec.Workload) { w.IPCMode = "host" }), "ipc-host"},
		{"ipc join", work(func(w *spec.Workload) { w.IPCMode = "container:x" }), "ipc-join"},
		{"ipc shareable", work(func(w *spec.Workload) { w.IPCMode = "shareable" }), ""},
		{"ipc none", work(func(w *spec.Workload) { w.IPCMode = "none" }), ""},
		{"uts host", work(func(w *spec.Workload) { w.UTSMode = "host" }), "uts-host"},
		{"uts ns", work(func(w *spec.Workload) { w.UTSMode = "ns:/proc/1/ns/uts" }), "uts-join"},
		{"userns host", work(func(w *spec.Workload) { w.UserNSMode = "host" }), "userns-host"},
		{"userns keep-id", work(func(w *spec.Workload) { w.UserNSMode = "keep-id" }), "userns-join"},
		{"cgroupns host", work(func(w *spec.Workload) { w.CgroupNSMode = "host" }), "cgroupns-host"},
		{"cgroupns private", work(func(w *spec.Workload) { w.CgroupNSMode = "private" }), ""},

		{"seccomp unconfined", secOpt("seccomp=unconfined"), "seccomp-unconfined"},
		{"seccomp colon", secOpt("seccomp:unconfined"), "seccomp-unconfined"},
		{"seccomp case", secOpt("Seccomp=UNCONFINED"), "seccomp-unconfined"},
		{"seccomp blank", secOpt(" seccomp = unconfined "), "seccomp-unconfined"},
		{"seccomp last wins", secOpt("seccomp=unconfined", "seccomp=builtin"), "seccomp-unconfined"},
		{"seccomp builtin", secOpt("seccomp=builtin"), ""},
		{"seccomp no file", secOpt("seccomp="), "seccomp-profile"},
		{"seccomp unread", secOpt("seccomp=/p.json"), "seccomp-profile"},
		{"seccomp bad", func(r *Request) {
			secOpt("seccomp=/p.json")(r)
			r.Workload.Seccomp = &spec.SeccompFile{Path: "/p.json", JSON: []byte("{}")}
			r.CheckSeccomp = func([]byte) error { return errors.New("empty\x1b[31m") }
		}, "seccomp-profile"},
		{"seccomp good", func(r *Request) {
			secOpt("seccomp=/p.json")(r)
			r.Workload.Seccomp = &spec.SeccompFile{Path: "/p.json", JSON: []byte("{}")}
			r.CheckSeccomp = func([]byte) error { return nil }
		}, ""},
		{"apparmor unconfined", secOpt("apparmor=unconfined"), "apparmor-unconfined"},
		{"apparmor colon case", secOpt("APPARMOR:Unconfined"), "apparmor-unconfined"},
		{"apparmor other", secOpt("apparmor=mine"), "apparmor-profile"},
		{"apparmor own", secOpt("apparmor=docker-default"), ""},
		{"label disable", secOpt("label=disable"), "label-disable"},
		{"label:disable", secOpt("label:disable"), "label-disable"},
		{"bare disable", secOpt("disable"), "label-disable"},
		{"label type", secOpt("label=type:spc_t"), "label"},
		{"systempaths", secOpt("systempaths=unconfined"), "systempaths-unconfined"},
		{"systempaths case", secOpt("SystemPaths:Unconfined"), "systempaths-unconfined"},
		{"unmask", secOpt("unmask=ALL"), "systempaths-unconfined"},
		{"nnp false", secOpt("no-new-privileges=false"), "new-privileges"},
		{"nnp 0", secOpt("no-new-privileges:0"), "new-privileges"},
		{"nnp F", secOpt("no-new-privileges=F"), "new-privileges"},
		{"nnp false then true", secOpt("no-new-privileges=false", "no-new-privileges"), "new-privileges"},
		{"nnp", secOpt("no-new-privileges"), ""},
		{"nnp true", secOpt("no-new-privileges=true"), ""},
		{"nnp maybe", secOpt("no-new-privileges=maybe"), "security-opt-unknown"},
		{"cgroups", secOpt("writable-cgroups"), "writable-cgroups"},
		{"cgroups true", secOpt("writable-cgroups=true"), "writable-cgroups"},
		{"cgroups false", secOpt("writable-cgroups=false"), ""},
		{"unknown", secOpt("proc-opts=hidepid=2"), "security-opt-unknown"},
		{"unknown empty", secOpt(""), "security-opt-unknown"},
		{"odd spelling", secOpt("AppArmor=docker-default"), "security-opt-unknown"},
		{"privileged without devices", secOpt("privileged-without-host-devices"), "security-opt-unknown"},

		{"device", device(fuse, "/dev/fuse", "rwm"), "device"},
		{"device block", device(block, "/dev/sda", "r"), "device-forbidden"},
		{"device block by another name", device(alias, "/dev/null2", "r"), "device-forbidden"},
		{"device mem", device(chr(1, 1, "/dev/harmless"), "/dev/harmless", "r"), "device-forbidden"},
		{"device directory", device(dir, "/dev/x", "r"), "device-forbidden"},
		{"device missing", device(gone, "/dev/nope", "r"), "device-forbidden"},
		{"device at null", device(fuse, "/dev/null", "r"), "device-forbidden"},
		{"device in proc", device(fuse, "/proc/x", "r"), "device-forbidden"},
		{"device dots", device(fuse, "/dev/../proc/x", "r"), "device-forbidden"},
		{"device perms", device(fuse, "/dev/fuse", "rx"), "device-forbidden"},
		{"device nobody looked at", work(func(w *spec.Workload) { w.Devices = []spec.Device{{Raw: "/dev/x", Host: "/dev/x"}} }), "device-forbidden"},
		{"device cdi", work(func(w *spec.Workload) { w.Devices = []spec.Device{{Raw: "nvidia.com/gpu=all", CDI: true}} }), "device-cdi"},
		{"device rule", work(func(w *spec.Workload) { w.DeviceCgroupRules = []string{"a *:* rwm"} }), "device-cgroup-rule"},
		{"gpus", work(func(w *spec.Workload) { w.GPUs = "all" }), "gpus"},

		{"volume", volume(func(*spec.Mount) {}), ""},
		{"volume rshared", volume(func(m *spec.Mount) { m.Propagation = "rshared" }), "mount-propagation"},
		{"volume slave", volume(func(m *spec.Mount) { m.Propagation = "slave" }), "mount-propagation"},
		{"volume RSHARED", volume(func(m *spec.Mount) { m.Propagation = " RShared" }), "mount-propagation"},
		{"volume rprivate", volume(func(m *spec.Mount) { m.Propagation = "rprivate" }), ""},
		{"volume Z", func(r *Request) { volume(func(m *spec.Mount) { m.Relabel = "Z" })(r); r.Host.SELinux = true }, ""},
		{"volume U", volume(func(m *spec.Mount) { m.Chown = true }), "mount-chown"},
		{"volume driver", volume(func(m *spec.Mount) { m.Driver = "nfs" }), "volume-driver"},
		{"volume local driver", volume(func(m *spec.Mount) { m.Driver = "local" }), ""},
		{"volume opts", volume(func(m *spec.Mount) {
			m.Driver, m.DriverOpts = "local", map[string]string{"type": "none", "o": "bind", "device": "/"}
		}), "volume-driver"},
		{"volume driver flag", work(func(w *spec.Workload) { w.VolumeDriver = "rexray" }), "volume-driver"},
		{"volumes from", work(func(w *spec.Workload) { w.VolumesFrom = []string{"other:ro"} }), "volumes-from"},

		{"tmpfs", tmpfs(spec.TmpfsOptions{Size: 64 << 20, Flags: []string{"exec", "noatime"}}), ""},
		{"tmpfs suid", tmpfs(spec.TmpfsOptions{Flags: []string{"suid"}}), "tmpfs-flags"},
		{"tmpfs dev", tmpfs(spec.TmpfsOptions{Flags: []string{"Dev"}}), "tmpfs-flags"},
		{"tmpfs nosuid", tmpfs(spec.TmpfsOptions{Flags: []string{"nosuid", "nodev"}}), ""},
		{"tmpfs large", tmpfs(spec.TmpfsOptions{Size: 1 << 30}), "tmpfs-size"},
		{"tmpfs blocks", tmpfs(spec.TmpfsOptions{Flags: []string{"nr_blocks=1m"}}), "tmpfs-size"},
		{"tmpfs blocks overflow", tmpfs(spec.TmpfsOptions{Flags: []string{"nr_blocks=4503599627370496"}}), "tmpfs-size"},
		{"tmpfs no bound", tmpfs(spec.TmpfsOptions{Flags: []string{"nr_blocks=0"}}), "tmpfs-size"},
		{"tmpfs no inode bound", tmpfs(spec.TmpfsOptions{Flags: []string{"nr_inodes=0"}}), "tmpfs-size"},
		{"tmpfs few blocks", tmpfs(spec.TmpfsOptions{Flags: []string{"nr_blocks=1k"}}), ""},
		{"tmpfs percent", tmpfs(spec.TmpfsOptions{SizePct: 50}), ""},
		{"tmpfs large with memory", func(r *Request) {
			tmpfs(spec.TmpfsOptions{Size: 1 << 30})(r)
			r.Workload.Resources.Memory = ptr(int64(2 << 30))
		}, ""},
		{"shm", work(func(w *spec.Workload) { w.ShmSize = ptr(int64(128 << 20)) }), ""},
		{"shm large", work(func(w *spec.Workload) { w.ShmSize = ptr(int64(1 << 40)) }), "shm-size"},

		{"ulimit core", ulim("core", -1, -1), "ulimit"},
		{"ulimit core 0", ulim("core", 0, 0), ""},
		{"ulimit CORE", ulim("CORE", -1, -1), "ulimit"},
		{"ulimit memlock", ulim("memlock", -1, -1), "ulimit"},
		{"ulimit memlock small", ulim("memlock", 1<<20, 1<<20), ""},
		{"ulimit nofile", ulim("nofile", 1024, 2<<20), "ulimit"},
		{"ulimit nofile unlimited", ulim("nofile", 1024, -1), "ulimit"},
		{"ulimit nofile ok", ulim("nofile", 1024, 1<<20), ""},
		{"ulimit nproc", ulim("nproc", -1, -1), "ulimit"},
		{"ulimit nproc ok", ulim("nproc", 100, 100), ""},
		{"ulimit rtprio", ulim("rtprio", 1, 1), "ulimit"},
		{"ulimit nice", ulim("nice", 40, 40), "ulimit"},
		{"ulimit nice 0", ulim("nice", 20, 20), ""},
		{"ulimit stack", ulim("stack", -1, -1), ""},
		{"ulimit data", ulim("data", 1<<40, 1<<40), ""},

		{"memory 0", res(func(r *spec.Resources) { r.Memory = ptr(int64(0)) }), "memory-unlimited"},
		{"memory -1", res(func(r *spec.Resources) { r.Memory = ptr(int64(-1)) }), "memory-unlimited"},
		{"memory 1g", res(func(r *spec.Resources) { r.Memory = ptr(int64(1 << 30)) }), ""},
		{"swap -1", res(func(r *spec.Resources) { r.Memory, r.MemorySwap = ptr(int64(1<<30)), ptr(int64(-1)) }), "memory-unlimited"},
		{"swap 0", res(func(r *spec.Resources) { r.Memory, r.MemorySwap = ptr(int64(1<<30)), ptr(int64(0)) }), ""},
		{"pids 0", res(func(r *spec.Resources) { r.PidsLimit = ptr(int64(0)) }), "pids-unlimited"},
		{"pids -1", res(func(r *spec.Resources) { r.PidsLimit = ptr(int64(-1)) }), "pids-unlimited"},
		{"pids 1000", res(func(r *spec.Resources) { r.PidsLimit = ptr(int64(1000)) }), ""},
		{"rt", res(func(r *spec.Resources) { r.CPURTRuntime = ptr(int64(1)) }), "cpu-rt"},
		{"rt 0", res(func(r *spec.Resources) { r.CPURTPeriod = ptr(int64(0)) }), ""},
		{"oom kill", work(func(w *spec.Workload) { w.OOMKillDisable = true }), "oom-kill-disable"},
		{"oom adj", work(func(w *spec.Workload) { w.OOMScoreAdj = ptr(-1) }), "oom-score-adj"},
		{"oom adj 0", work(func(w *spec.Workload) { w.OOMScoreAdj = ptr(0) }), ""},

		{"sysctl core_pattern", sysctl("kernel.core_pattern", "|/x"), "sysctl-host"},
		{"sysctl slashes", sysctl("kernel/core_pattern", "|/x"), "sysctl-host"},
		{"sysctl mixed", sysctl("net/../kernel.core_pattern", "|/x"), "sysctl-host"},
		{"sysctl dots in a row", sysctl("net...kernel.core_pattern", "|/x"), "sysctl-host"},
		{"sysctl dotted slashes", sysctl("net./../kernel/core_pattern", "|/x"), "sysctl-host"},
		{"sysctl vm", sysctl("vm.overcommit_memory", "1"), "sysctl-host"},
		{"sysctl fs", sysctl("fs.file-max", "1"), "sysctl-host"},
		{"sysctl no name", sysctl("", "1"), "sysctl-host"},
		{"sysctl newline", sysctl("kernel.shmmax", "1\n2"), "sysctl-host"},
		{"sysctl shm", sysctl("kernel.shmmax", "1"), ""},
		{"sysctl shm slashes", sysctl("kernel/shm_rmid_forced", "1"), ""},
		{"sysctl mqueue", sysctl("fs.mqueue.msg_max", "1"), ""},
		{"sysctl net", sysctl("net.core.somaxconn", "1"), ""},
		{"sysctl net dotted device", sysctl("net/ipv4/conf/eth0.1/forwarding", "1"), ""},
		{"sysctl net on host", func(r *Request) { sysctl("net.core.somaxconn", "1")(r); network("host")(r) }, "network-host sysctl-host"},
		{"sysctl ipc on host", func(r *Request) {
			sysctl("kernel.sem", "1")(r)
			r.Workload.IPCMode = "host"
		}, "ipc-host sysctl-host"},
		{"sysctl user", sysctl("user.max_user_namespaces", "10"), "sysctl"},

		{"annotation crun", work(func(w *spec.Workload) { w.Annotations = map[string]string{"run.oci.keep_original_groups": "1"} }), "annotation"},
		{"annotation systemd", work(func(w *spec.Workload) {
			w.Annotations = map[string]string{"org.systemd.property.TasksMax": "uint64 9"}
		}), "annotation"},
		{"annotation image", work(func(w *spec.Workload) {
			w.Annotations = map[string]string{"org.opencontainers.image.title": "x"}
		}), ""},
		{"runtime", work(func(w *spec.Workload) { w.Runtime = "/tmp/evil" }), "runtime"},
		{"runtime kata", work(func(w *spec.Workload) { w.Runtime = "io.containerd.kata.v2" }), "runtime"},
		{"runtime runc", work(func(w *spec.Workload) { w.Runtime = "runc" }), ""},
		{"cgroup parent /", work(func(w *spec.Workload) { w.CgroupParent = "/" }), "cgroup-parent"},
		{"cgroup parent ..", work(func(w *spec.Workload) { w.CgroupParent = "a/../../b" }), "cgroup-parent"},
		{"cgroup parent slice", work(func(w *spec.Workload) { w.CgroupParent = "system.slice" }), "cgroup-parent"},
		{"cgroup parent absolute", work(func(w *spec.Workload) { w.CgroupParent = "/user" }), "cgroup-parent"},
		{"cgroup parent name", work(func(w *spec.Workload) { w.CgroupParent = "batch/night_1" }), ""},
		{"env *", work(func(w *spec.Workload) { w.Env = []spec.EnvVar{{Name: "*"}} }), "env-wildcard"},
		{"env prefix", work(func(w *spec.Workload) { w.Env = []spec.EnvVar{{Name: "AWS_*"}} }), "env-wildcard"},
		{"env value", work(func(w *spec.Workload) { w.Env = []spec.EnvVar{{Name: "GLOB", Value: ptr("*")}, {Name: "HOME"}} }), ""},

		{"volume proc", image(func(i *spec.Image) { i.Volumes = []string{"/proc"} }), "image-volume"},
		{"volume proc/self", image(func(i *spec.Image) { i.Volumes = []string{"/proc/self"} }), "image-volume"},
		{"volume //proc", image(func(i *spec.Image) { i.Volumes = []string{"//proc"} }), "image-volume"},
		{"volume dots", image(func(i *spec.Image) { i.Volumes = []string{"/x/../proc"} }), "image-volume"},
		{"volume .", image(func(i *spec.Image) { i.Volumes = []string{"."} }), "image-volume"},
		{"volume ..", image(func(i *spec.Image) { i.Volumes = []string{".."} }), "image-volume"},
		{"volume /", image(func(i *spec.Image) { i.Volumes = []string{"/"} }), "image-volume"},
		{"volume /dev", image(func(i *spec.Image) { i.Volumes = []string{"/dev"} }), "image-volume"},
		{"volume /sys", image(func(i *spec.Image) { i.Volumes = []string{"/sys"} }), "image-volume"},
		{"volume data", image(func(i *spec.Image) { i.Volumes = []string{"/data", "/processes"} }), ""},
		{"workdir proc", work(func(w *spec.Workload) { w.Workdir = "/proc/self/fd/7" }), "workdir"},
		{"workdir dev fd", work(func(w *spec.Workload) { w.Workdir = "/dev/fd/7" }), "workdir"},
		{"workdir image", image(func(i *spec.Image) { i.Workdir = "/x/../proc/1/cwd" }), "workdir"},
		{"workdir relative", image(func(i *spec.Image) { i.Workdir = "a" }), "workdir"},
		{"workdir overridden", func(r *Request) { r.Image.Workdir, r.Workload.Workdir = "/proc", "/app" }, ""},
		{"workdir root", work(func(w *spec.Workload) { w.Workdir = "//" }), ""},
		{"workdir app", image(func(i *spec.Image) { i.Workdir = "/usr/src/app" }), ""},
		{"stop signal", image(func(i *spec.Image) { i.StopSignal = "9; rm" }), "stop-signal"},
		{"stop signal 999", image(func(i *spec.Image) { i.StopSignal = "999" }), "stop-signal"},
		{"stop signal name", image(func(i *spec.Image) { i.StopSignal = "SIGFOO" }), "stop-signal"},
		{"stop signal ok", image(func(i *spec.Image) { i.StopSignal = "SIGRTMIN+3" }), ""},
		{"stop signal 15", work(func(w *spec.Workload) { w.StopSignal = "15" }), ""},
		{"env bare", image(func(i *spec.Image) { i.Env = []string{"AWS_SECRET_ACCESS_KEY"} }), "image-env"},
		{"env star", image(func(i *spec.Image) { i.Env = []string{"*"} }), "image-env"},
		{"env no name", image(func(i *spec.Image) { i.Env = []string{"=x"} }), "image-env"},
		{"env empty", image(func(i *spec.Image) { i.Env = []string{""} }), "image-env"},
		{"env fine", image(func(i *spec.Image) { i.Env = []string{"A=", "B=c=d", "C=*"} }), ""},
		{"group add", work(func(w *spec.Workload) { w.GroupAdd = []string{"-1"} }), "group-add"},
		{"group add ok", work(func(w *spec.Workload) { w.GroupAdd = []string{"audio", "27"} }), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, refusals := Review(request(c.with))
			if got := strings.Join(ids(refusals), " "); got != c.want {
				t.Errorf("refused by %q, want %q\n%+v", got, c.want, refusals)
			}
		})
	}
}

func TestUsers(t *testing.T) {
	for _, bad := range []string{
		"2147483648", "4294967296", "4294967295:0", "-1", "0x0", "1e1", " 0", "+0", "00", "65536", "0:65536", "0:", ":0", "a:b:c",
		"99999999999999999999", "root\n", "a b", "007", strings.Repeat("u", 300),
	} {
		for where, with := range map[string]func(*Request){
			"flag":  work(func(w *spec.Workload) { w.User = bad }),
			"image": image(func(i *spec.Image) { i.User = bad }),
		} {
			if _, refusals := Review(request(with)); !slices.Equal(ids(refusals), []string{"user"}) {
				t.Errorf("%s %q: %+v", where, bad, refusals)
			}
		}
	}
	for _, good := range []string{"", "0", "0:0", "1000", "65535:65535", "nobody", "www-data:www-data", "_apt", "app.user:10"} {
		if _, refusals := Review(request(image(func(i *spec.Image) { i.User = good }))); len(refusals) > 0 {
			t.Errorf("%q: %+v", good, refusals)
		}
	}
	_, refusals := Review(request(func(r *Request) { r.Image.User, r.Workload.User = "00", "1000" }))
	if len(refusals) > 0 {
		t.Errorf("the image's user is not used: %+v", refusals)
	}
}

// Every rule is tripped by something in TestRules or TestSources, has its
// texts, and one id.
func TestCatalogueIsComplete(t *testing.T) {
	seen := map[string]bool{}
	grants := map[string]bool{"": true, "allow": true, "capabilities": true, "devices": true, "binds": true, "sysctls": true, "annotations": true, "limits": true}
	for _, r := range Catalogue() {
		if r.ID == "" || seen[r.ID] || r.Title == "" || r.GivesAway == "" || r.SaferWay == "" || r.Check == nil || !grants[r.Grant] {
			t.Errorf("incomplete: %+v", r)
		}
		if r.Grant == "allow" && allowIDs()[r.ID] == nil {
			t.Errorf("%s cannot stand in allow", r.ID)
		}
		seen[r.ID] = true
	}
	for id := range allowIDs() {
		if !seen[id] {
			t.Errorf("allow takes %s, which is no rule", id)
		}
	}
	for _, id := range []string{"privileged", "cap-all", "bind-root", "engine-socket", "systempaths-unconfined", "use-api-socket"} {
		if !seen[id] {
			t.Errorf("no rule %s", id)
		}
		for _, r := range Catalogue() {
			if r.ID == id && r.Grant != "" {
				t.Errorf("%s can be granted", id)
			}
		}
	}
}

func TestAllRefusalsAtOnce(t *testing.T) {
	r := request(
		work(func(w *spec.Workload) { w.Privileged, w.PIDMode, w.VolumesFrom = true, "host", []string{"x"} }),
		capAdd("ALL", "SYS_ADMIN"), secOpt("seccomp=unconfined", "label=disable"), network("host"),
	)
	_, refusals := Review(r)
	want := []string{"cap-all", "capability", "label-disable", "network-host", "pid-host", "privileged", "seccomp-unconfined", "volumes-from"}
	if got := ids(refusals); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
