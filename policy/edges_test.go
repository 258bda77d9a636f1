package policy

import (
	"strings"
	"testing"

	"github.com/safe-run/safe-run/spec"
)

// refused gives the ids of a launch's refusals.
func refused(change ...func(*Request)) string {
	_, refusals := Review(request(change...))
	return strings.Join(ids(refusals), " ")
}

// said gives the only refusal of a launch.
func said(t *testing.T, change ...func(*Request)) Refusal {
	t.Helper()
	_, refusals := Review(request(change...))
	if len(refusals) != 1 {
		t.Errorf("%d refusals: %+v", len(refusals), refusals)
		return Refusal{}
	}
	return refusals[0]
}

func sited(file string) func(*Request) {
	return func(r *Request) {
		s, err := ParseSite([]byte("version: 1\n"+file), "t")
		if err != nil {
			panic(file + ": " + err.Error())
		}
		r.Site = s
	}
}

func limited(l spec.Limits) func(*Request) { return func(r *Request) { r.Site.limits = l } }

// TestEdges has what is just inside a rule and just outside ("" passes).
func TestEdges(t *testing.T) {
	word := strings.Repeat
	fuse := func(inside string) func(*Request) { return device(chr(10, 229, "/dev/fuse"), inside, "rw") }
	for _, c := range []struct {
		name string
		with func(*Request)
		want string
	}{
		{"device mem", device(chr(1, 1, "/dev/x"), "/dev/x", "r"), "device-forbidden"},
		{"device kmem", device(chr(1, 2, "/dev/x"), "/dev/x", "r"), "device-forbidden"},
		{"device null by another name", device(chr(1, 3, "/dev/x"), "/dev/x", "r"), "device"},
		{"device port", device(chr(1, 4, "/dev/x"), "/dev/x", "r"), "device-forbidden"},
		{"device zero by another name", device(chr(1, 5, "/dev/x"), "/dev/x", "r"), "device"},
		{"device, the minor of mem", device(chr(2, 1, "/dev/x"), "/dev/x", "r"), "device"},
		{"device, the minor of kmem", device(chr(2, 2, "/dev/x"), "/dev/x", "r"), "device"},
		{"device, the minor of port", device(chr(2, 4, "/dev/x"), "/dev/x", "r"), "device"},
		{"device at a blank", fuse("/dev/a b"), "device-forbidden"},
		{"device deeper", fuse("/dev/x/y"), "device"},
		{"no permissions", device(chr(10, 229, "/dev/fuse"), "/dev/fuse", ""), "device"},

		{"workdir none", work(func(w *spec.Workload) { w.Workdir = "" }), ""},
		{"workdir /", work(func(w *spec.Workload) { w.Workdir = "/" }), ""},
		{"signal of the flag", func(r *Request) { r.Workload.StopSignal, r.Image.StopSignal = "15", "9; rm" }, ""},
		{"signal 1", work(func(w *spec.Workload) { w.StopSignal = "1" }), ""},
		{"signal 64", work(func(w *spec.Workload) { w.StopSignal = "64" }), ""},
		{"signal 65", work(func(w *spec.Workload) { w.StopSignal = "65" }), "stop-signal"},
		{"signal -5", work(func(w *spec.Workload) { w.StopSignal = "-5" }), "stop-signal"},
		{"ENV with an escape", image(func(i *spec.Image) { i.Env = []string{"A\x1b=b"} }), "image-env"},
		{"ENV with NUL", image(func(i *spec.Image) { i.Env = []string{"A=b\x00c"} }), "image-env"},
		{"long name", work(func(w *spec.Workload) { w.User = word("u", 256) }), ""},
		{"longer name", work(func(w *spec.Workload) { w.User = word("u", 257) }), "user"},

		{"sysctl 4096", sysctl("kernel.sem", word("1", 4096)), ""},
		{"sysctl 4097", sysctl("kernel.sem", word("1", 4097)), "sysctl-host"},
		{"sysctl DEL", sysctl("kernel.sem", "1\x7f"), "sysctl-host"},
		{"sysctl of users, newline", sysctl("user.max_user_namespaces", "1\n"), "sysctl-host"},
		{"sysctl of routes", sysctl("net.ipv4.conf.all.accept_redirects", "1"), "sysctl"},
		{"sysctl of routes off", sysctl("net.ipv4.conf.all.accept_redirects", "0"), ""},
		{"sysctl of routes, newline", sysctl("net.ipv4.conf.all.accept_redirects", "1\n"), "sysctl-host"},
		{"sysctl of IPC beside the host's network", with(network("host"), sysctl("kernel.sem", "1")), "network-host"},
		{"sysctl of the network beside the host's IPC", with(sysctl("net.core.somaxconn", "1"), work(func(w *spec.Workload) { w.IPCMode = "host" })), "ipc-host"},
		{"annotation of images with a blank", work(func(w *spec.Workload) { w.Annotations = map[string]string{"org.opencontainers.image.a b": "x"} }), "annotation"},
		{"runtime's long name", work(func(w *spec.Workload) { w.Runtime = "io.containerd.runc.v2" }), ""},
		{"pattern with a value", work(func(w *spec.Workload) { w.Env = []spec.EnvVar{{Name: "A*", Value: ptr("x")}} }), ""},
		{"cgroup of 255", work(func(w *spec.Workload) { w.CgroupParent = word("a", 255) }), ""},
		{"cgroup of 256", work(func(w *spec.Workload) { w.CgroupParent = word("a", 256) }), "cgroup-parent"},

		{"preload", volume(func(m *spec.Mount) { m.Target = "/etc/ld.so.preload" }), "mount-target"},
		{"below preload", volume(func(m *spec.Mount) { m.Target = "/etc/ld.so.preload/x" }), ""},
		{"init", volume(func(m *spec.Mount) { m.Target = "/sbin/docker-init" }), "mount-target"},
		{"below init", volume(func(m *spec.Mount) { m.Target = "/sbin/docker-init/x" }), ""},
		{"mark", volume(func(m *spec.Mount) { m.Target = "/.dockerenv" }), "mount-target"},
		{"below the mark", volume(func(m *spec.Mount) { m.Target = "/.dockerenv/x" }), ""},
		{"blank in a target", volume(func(m *spec.Mount) { m.Target = "/a b!" }), ""},
		{"DEL in a target", volume(func(m *spec.Mount) { m.Target = "/a\x7f" }), "mount-target"},
		{"private", volume(func(m *spec.Mount) { m.Propagation = "private" }), ""},
		{"volume driver local", work(func(w *spec.Workload) { w.VolumeDriver = "local" }), ""},
		{"one option", volume(func(m *spec.Mount) { m.DriverOpts = map[string]string{"o": "bind"} }), "volume-driver"},

		{"size of a volume", volume(func(m *spec.Mount) { m.Tmpfs = spec.TmpfsOptions{Size: 1 << 50, SizePct: 900} }), ""},
		{"tmpfs 100%", tmpfs(spec.TmpfsOptions{SizePct: 100}), ""},
		{"tmpfs 101%", tmpfs(spec.TmpfsOptions{SizePct: 101}), "tmpfs-size"},
		{"tmpfs -1%", tmpfs(spec.TmpfsOptions{SizePct: -1}), "tmpfs-size"},
		{"tmpfs -1 inodes", tmpfs(spec.TmpfsOptions{Inodes: -1}), "tmpfs-size"},
		{"tmpfs as large as memory", tmpfs(spec.TmpfsOptions{Size: 512 << 20}), ""},
		{"tmpfs larger", tmpfs(spec.TmpfsOptions{Size: 512<<20 + 1}), "tmpfs-size"},
		{"tmpfs flag size", tmpfs(spec.TmpfsOptions{Flags: []string{"size=513m"}}), "tmpfs-size"},
		{"tmpfs flag size in bounds", tmpfs(spec.TmpfsOptions{Flags: []string{"size=64m"}}), ""},
		{"tmpfs flag no size", tmpfs(spec.TmpfsOptions{Flags: []string{"size=lots"}}), "tmpfs-size"},
		{"tmpfs many inodes", tmpfs(spec.TmpfsOptions{Flags: []string{"nr_inodes=1g"}}), ""},
		{"tmpfs one inode", tmpfs(spec.TmpfsOptions{Flags: []string{"nr_inodes=1"}}), ""},
		{"tmpfs other flag", tmpfs(spec.TmpfsOptions{Flags: []string{"mode=0"}}), ""},
		{"tmpfs within the maximum", with(sited("limits: {max: {tmpfs: 64m}}"), tmpfs(spec.TmpfsOptions{Size: 64 << 20})), ""},
		{"tmpfs over the maximum", with(sited("limits: {max: {tmpfs: 64m}}"), tmpfs(spec.TmpfsOptions{Size: 64<<20 + 1})), "tmpfs-size"},
		{"tmpfs without a memory limit", with(tmpfs(spec.TmpfsOptions{Size: 1 << 40}), res(func(r *spec.Resources) { r.Memory = ptr(int64(0)) })), "memory-unlimited"},

		{"memlock as much as memory", ulim("memlock", 512<<20, 512<<20), ""},
		{"memlock more", ulim("memlock", 512<<20, 512<<20+1), "ulimit"},
		{"memlock without a memory limit", with(ulim("memlock", 1, 1<<40), res(func(r *spec.Resources) { r.Memory = ptr(int64(0)) })), "memory-unlimited"},
		{"memlock above", with(ulim("memlock", 1, 1<<40+1), res(func(r *spec.Resources) { r.Memory = ptr(int64(0)) })), "memory-unlimited ulimit"},
		{"nofile without a maximum", with(limited(spec.Limits{Memory: 1 << 30}), ulim("nofile", 1, 1<<20)), ""},
		{"nofile above", with(limited(spec.Limits{Memory: 1 << 30}), ulim("nofile", 1, 1<<20+1)), "ulimit"},
		{"nofile of a maximum of one", with(limited(spec.Limits{Memory: 1 << 30, MaxNofile: 1}), ulim("nofile", 1, 2)), "ulimit"},
		{"core", ulim("core", 0, 1<<30), ""},
		{"core above", ulim("core", 0, 1<<30+1), "ulimit"},
		{"nproc", ulim("nproc", 0, 1<<22), ""},
		{"nproc above", ulim("nproc", 0, 1<<22+1), "ulimit"},
		{"sigpending", ulim("sigpending", 0, 1<<20), ""},
		{"sigpending above", ulim("sigpending", 0, 1<<20+1), "ulimit"},
		{"msgqueue", ulim("msgqueue", 0, 1<<28), ""},
		{"msgqueue above", ulim("msgqueue", 0, 1<<28+1), "ulimit"},
		{"nice above", ulim("nice", 0, 21), "ulimit"},
		{"soft limit above", ulim("core", 1<<30+1, 0), "ulimit"},
		{"soft limit without end", ulim("core", -1, 0), "ulimit"},
		{"memory 1", res(func(r *spec.Resources) { r.Memory = ptr(int64(1)) }), ""},
		{"pids 1", res(func(r *spec.Resources) { r.PidsLimit = ptr(int64(1)) }), ""},
		{"real-time period", res(func(r *spec.Resources) { r.CPURTPeriod = ptr(int64(1)) }), "cpu-rt"},
		{"pids over one", with(limited(spec.Limits{MaxPids: 1}), res(func(r *spec.Resources) { r.PidsLimit = ptr(int64(2)) })), "limit-over-maximum"},
		{"reservation", with(sited("limits: {max: {memory: 1g}}"), res(func(r *spec.Resources) { r.MemoryReservation = ptr(int64(1<<30 + 1)) })), "limit-over-maximum"},
		{"swap", with(sited("limits: {max: {memory: 1g}}"), res(func(r *spec.Resources) { r.MemorySwap = ptr(int64(1<<30 + 1)) })), "limit-over-maximum"},
		{"CPUs without a maximum", res(func(r *spec.Resources) { r.NanoCPUs = ptr(int64(64e9)) }), ""},
		{"quota at the maximum", with(sited("limits: {max: {cpus: 1.5}}"), res(func(r *spec.Resources) { r.CPUQuota = ptr(int64(150000)) })), ""},
		{"quota above", with(sited("limits: {max: {cpus: 1.5}}"), res(func(r *spec.Resources) { r.CPUQuota = ptr(int64(150001)) })), "limit-over-maximum"},
		{"quota of a longer period", with(sited("limits: {max: {cpus: 1.5}}"), res(func(r *spec.Resources) { r.CPUQuota, r.CPUPeriod = ptr(int64(300000)), ptr(int64(200000)) })), ""},
		{"quota of a period of one", with(sited("limits: {max: {cpus: 1.5}}"), res(func(r *spec.Resources) { r.CPUQuota, r.CPUPeriod = ptr(int64(1000)), ptr(int64(1)) })), "limit-over-maximum"},
		{"quota of a negative period", with(sited("limits: {max: {cpus: 1.5}}"), res(func(r *spec.Resources) { r.CPUQuota, r.CPUPeriod = ptr(int64(200000)), ptr(int64(-5)) })), "limit-over-maximum"},
		{"no quota", with(sited("limits: {max: {cpus: 1.5}}"), res(func(r *spec.Resources) { r.CPUQuota = ptr(int64(-1)) })), ""},

		{"uts private", work(func(w *spec.Workload) { w.UTSMode = "private" }), ""},
		{"userns private", work(func(w *spec.Workload) { w.UserNSMode = "private" }), ""},
		{"ipc private", work(func(w *spec.Workload) { w.IPCMode = "private" }), ""},
		{"pid private", work(func(w *spec.Workload) { w.PIDMode = "private" }), ""},
		{"cgroupns private", work(func(w *spec.Workload) { w.CgroupNSMode = "private" }), ""},

		{"blank in a value", secOpt("apparmor=docker-default "), "security-opt-unknown"},
		{"another of our names", secOpt("apparmor=safe-run-default"), ""},
		{"disable of another key", secOpt("proc-opts=disable"), "security-opt-unknown"},
		{"blank before true", secOpt("no-new-privileges= true"), "security-opt-unknown"},
		{"neither true nor false", secOpt("writable-cgroups=maybe"), "security-opt-unknown"},
		{"no file, but a content", func(r *Request) {
			secOpt("seccomp=")(r)
			r.Workload.Seccomp, r.CheckSeccomp = &spec.SeccompFile{}, func([]byte) error { return nil }
		}, "seccomp-profile"},
		{"file not read", func(r *Request) { secOpt("seccomp=/p")(r); r.CheckSeccomp = func([]byte) error { return nil } }, "seccomp-profile"},
		{"nobody to judge the file", func(r *Request) { secOpt("seccomp=/p")(r); r.Workload.Seccomp = &spec.SeccompFile{} }, "seccomp-profile"},

		{"LSM not required", func(r *Request) { r.Host.AppArmor = false }, ""},
		{"registry of no image", func(r *Request) {
			r.Site.Registries, r.Workload.Image, r.Image.Name = []string{"docker.io"}, "UPPER/Case", ""
		}, "registry"},
		{"published everywhere", with(sited("publish-address: required\ngrants: [{image: busybox, allow: [publish-address]}]"), network("front"), work(func(w *spec.Workload) { w.PublishAll = true })), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := refused(c.with); got != c.want {
				t.Errorf("refused by %q, want %q", got, c.want)
			}
		})
	}
}
