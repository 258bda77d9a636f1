package threats

import (
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/host"
)

// lost is what a runtime may forget or do differently: an edit of the
// specification by sed, and what the message names.
type lost struct {
	edit, what string
	flags      []string
}

func TestC7(t *testing.T) {
	row(t, "C7")
	u := withUnfaithful(t)
	// Faithful, it runs.
	if a := u.ground.Run("run", "--rm", "busybox", "echo", "RAN"); a.Stdout != "RAN\n" {
		t.Fatal(a)
	}
	before := u.ground.Inventory(t)
	// A key the runtime does not know is one it ignores.
	for _, l := range someOf([]lost{
		{`s/"noNewPrivileges":true/"unknown":true/`, "NoNewPrivs", nil},
		{`s/"seccomp":{/"unknown":{/`, "Seccomp", nil},
		{`s/"readonly":true/"unknown":true/`, "mount /", nil},
		{`s/"maskedPaths":/"unknown":/`, "/proc/", nil},
		{`s/"readonlyPaths":/"unknown":/`, "/proc/", nil},
		{`s/"rlimits":/"unknown":/`, "RLIMIT_", nil},
		{`s/"uidMappings":\[[^]]*\]/"uidMappings":[{"containerID":0,"hostID":1900000000,"size":65536}]/`, "", nil},
		{`s/{"type":"network"}/{"type":"network","path":"\/proc\/1\/ns\/net"}/`, "", nil},
		{`s/"memory":{/"unknown":{/`, "memory", nil},
		{`s/"pids":{/"unknown":{/`, "pids", nil},
		{`s/"cgroupsPath":"[^"]*"/"cgroupsPath":"\/c7-elsewhere"/`, "cgroup", nil},
		// Rights nobody asked for.
		{`s/"capabilities":{[^}]*}/"capabilities":{"bounding":["CAP_SYS_ADMIN"],"effective":["CAP_SYS_ADMIN"],"permitted":["CAP_SYS_ADMIN"]}/`, "Cap", nil},
		{`s/"capabilities":{[^}]*}/"capabilities":{"bounding":["CAP_CHOWN"]}/`, "CapBnd", nil},
		{`s/"capabilities":{[^}]*}/"capabilities":{}/`, "Cap", []string{"--cap-add", "CHOWN"}},
		{`s/"uid":1000/"uid":0/`, "Uid", []string{"-u", "1000"}},
		{`s/"additionalGids":\[[^]]*\]/"additionalGids":[0,10]/`, "Groups", nil},
	}) {
		if l.what == "" {
			u.stopped(t, l.edit, l.flags...)
			continue
		}
		u.found(t, l.edit, l.what, l.flags...)
	}
	if host.Probe().AppArmor {
		// The label is set at the moment of execution, and read right after.
		u.does(t, `s/"apparmorProfile":/"unknown":/`)
		if a := u.ground.Run("run", "--rm", "busybox", "sleep", "600"); a.Code != 125 || !strings.Contains(a.Stderr, "AppArmor") {
			t.Errorf("without its AppArmor profile: %s", a)
		}
	}
	// A capabilities object that got lost (K3): then it has none, or is killed.
	u.does(t, `s/"capabilities":{/"unknown":{/`)
	if a := u.ground.Run("run", "--rm", "busybox", "grep", "Cap", "/proc/self/status"); a.Code != 125 && a.Stdout != capabilityLines() {
		t.Errorf("without the capabilities object: %s", a)
	}
	// The runtime of the day it is started again counts.
	u.does(t, "")
	if a := u.ground.Run("run", "--name", "c7-again", "busybox", "echo", "RAN"); a.Code != 0 {
		t.Fatal(a)
	}
	u.does(t, `s/"noNewPrivileges":true/"unknown":true/`)
	if a := u.ground.Run("start", "-a", "c7-again"); a.Code == 0 || strings.Contains(a.Stdout, "RAN") {
		t.Errorf("started again: %s", a)
	}
	if a := u.ground.Run("rm", "-f", "c7-again"); a.Code != 0 {
		t.Error(a)
	}
	patient(t, func() error { return u.same(t, before) })
}

func TestC8(t *testing.T) {
	row(t, "C8")
	u := withUnfaithful(t)
	dir := t.TempDir()
	flags := []string{"-v", dir + ":/src:ro", "--tmpfs", "/scratch:size=1m", "--ulimit", "fsize=4096", "--cpus", "0.5", "-m", "512m", "--memory-swap", "1g", "--sysctl", "net.ipv4.tcp_keepalive_time=77", "--sysctl", "kernel.shmmni=123"}
	if a := u.ground.Run(append(append([]string{"run", "--rm"}, flags...), "busybox", "echo", "RAN")...); a.Stdout != "RAN\n" {
		t.Fatal(a)
	}
	for _, l := range someOf([]lost{
		{`s/,"nr_inodes=65536"//`, `"/dev/shm"`, nil},
		{`s/"size=67108864"/"size=0"/`, `"/dev/shm"`, nil},
		{`s/,"size=67108864"//2`, `"/tmp"`, nil},
		{`s/"nosuid","nodev","noexec","mode=1777"/"nosuid","nodev","mode=1777"/`, `"/tmp"`, nil},
		{`s/"destination":"\/scratch","type":"tmpfs"/"destination":"\/scratch","type":"ramfs"/`, `"/scratch"`, nil},
		{`s/"nodev","ro"\]/"nodev"]/`, `"/sys"`, nil},
		{`s/"rro"/"rw"/`, "", nil},
		{`s/"destination":"\/src"/"destination":"\/opt"/`, `"/src"`, nil},
		{`s/"RLIMIT_FSIZE","hard":4096/"RLIMIT_FSIZE","hard":8192/`, "RLIMIT_FSIZE", nil},
		{`s/"RLIMIT_CORE","hard":0,"soft":0/"RLIMIT_CORE","hard":1000,"soft":1000/`, "RLIMIT_CORE", nil},
		{`s/"quota":/"unknown":/`, "cpu", nil},
		{`s/"swap":/"unknown":/`, "memory.", nil},
		{`s/"limit":536870912/"limit":1073741824/`, "memory", nil},
		{`s/"oomScoreAdj":[0-9]*/"unknown":0/`, "oom_score_adj", []string{"--oom-score-adj", "500"}},
		{`s/"net.ipv4.tcp_keepalive_time":"77"/"net.ipv4.tcp_keepalive_time":"78"/`, "net.ipv4.tcp_keepalive_time", nil},
		{`s/"sysctl":/"unknown":/`, "net.ipv4.ping_group_range", nil},
		{`s/"kernel.shmmni":"123"/"kernel.shmmni":"124"/`, "kernel.shmmni", nil},
	}) {
		if l.what == "" {
			u.stopped(t, l.edit, append(flags, l.flags...)...)
			continue
		}
		u.found(t, l.edit, l.what, append(flags, l.flags...)...)
	}
}

func TestC13(t *testing.T) {
	row(t, "C13")
	u := withUnfaithful(t)
	for _, l := range []lost{
		{`s/"mounts":\[/"mounts":[{"destination":"\/opt","type":"bind","source":"\/","options":["rbind"]},/`, "/opt", nil},
		{`s/"mounts":\[/"mounts":[{"destination":"\/opt","type":"tmpfs","source":"tmpfs","options":["rw"]},/`, "/opt", nil},
		{`s/"mounts":\[/"mounts":[{"destination":"\/opt","type":"bind","source":"\/etc","options":["bind","ro"]},/`, "/opt", nil},
		{`s/\],"hostname"/],"hostname"/;s/\("destination":"\/etc\/hosts","type":"bind","source":\)"[^"]*"/\1"\/etc\/hosts"/`, "/etc/hosts", nil},
		{`s/"linux":{/"linux":{"devices":[{"path":"\/dev\/kmsg","type":"c","major":1,"minor":11,"fileMode":438,"uid":0,"gid":0}],/`, "/dev/kmsg", nil},
		{`s/"linux":{/"linux":{"devices":[{"path":"\/dev\/tty1","type":"c","major":4,"minor":1,"fileMode":438,"uid":0,"gid":0}],/`, "/dev/tty1", nil},
		{`s/"devices":\[{"allow":false,"access":"rwm"}/"devices":[{"allow":true,"access":"rwm"}/`, "device", nil},
	} {
		if l.what == "device" && host.Probe().CgroupV2 {
			continue // a program in the kernel, which cannot be read back
		}
		u.found(t, l.edit, l.what, l.flags...)
	}
	// The engine that comes along has no such plugins (see C12 too).
	for l := range strings.Lines(here.Ctr(t, "plugins", "ls")) {
		f := strings.Fields(l)
		if len(f) > 1 && f[len(f)-1] == "ok" && (strings.Contains(l, "nri") || strings.Contains(l, "cri")) {
			t.Errorf("the engine has the plugin %s", l)
		}
	}
	refused(t, "device-cdi", []string{"--device", "nvidia.com/gpu=all"})
	refused(t, "annotation", []string{"--annotation", "cdi.k8s.io/x=nvidia.com/gpu=0"})
}
