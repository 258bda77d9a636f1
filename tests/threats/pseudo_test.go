package threats

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/host"
)

// denied wants a script that writes to files to be refused for each of them.
func denied(files ...string) (script string, check func(t *testing.T, mode, out string)) {
	script = "for f in " + strings.Join(files, " ") + "; do echo x >$f && echo WROTE $f; done; true"
	return script, func(t *testing.T, _, out string) {
		t.Helper()
		if strings.Contains(out, "WROTE") || len(lines(out)) != len(files) {
			t.Errorf("printed %q", out)
		}
		for _, l := range lines(out) {
			if !strings.Contains(l, "Read-only file system") && !strings.Contains(l, "ermission denied") && !strings.Contains(l, "nonexistent directory") && !strings.Contains(l, "No such file") {
				t.Errorf("the reason: %q", l)
			}
		}
	}
}

func TestP1(t *testing.T) {
	row(t, "P1")
	stopped(t, "core_pattern")
	before, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil {
		t.Fatal(err)
	}
	inModes(t, nil, "echo '|/x' >/proc/sys/kernel/core_pattern || echo no",
		prints("sh: can't create /proc/sys/kernel/core_pattern: Read-only file system\nno\n"))
	refused(t, "sysctl-host", []string{"--sysctl", "kernel.core_pattern=|/x"}, []string{"--sysctl", "kernel/core_pattern=|/x"})
	refused(t, "", []string{"--sysctl", "net.ipv4.conf/../../kernel/core_pattern=|/x"}, []string{"--sysctl", "net..kernel.core_pattern=|/x"})
	if after, err := os.ReadFile("/proc/sys/kernel/core_pattern"); err != nil || string(after) != string(before) {
		t.Errorf("the host's core_pattern was %q and is %q (%v)", before, after, err)
	}
	probed(t, "core-dumps")
}

func TestP2(t *testing.T) {
	row(t, "P2")
	stopped(t, "modprobe", "hotplug", "poweroff_cmd", "uevent_helper", "binfmt_misc")
	script, check := denied("/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug", "/proc/sys/kernel/poweroff_cmd", "/sys/kernel/uevent_helper",
		"/proc/sys/fs/binfmt_misc/register", "/proc/sys/kernel/usermodehelper/bset", "/proc/sys/kernel/sysrq", "/proc/sys/vm/drop_caches")
	inModes(t, nil, script, check)
	// Not even an empty one is mounted, in which a namespace could register its own.
	inModes(t, nil, "grep -c binfmt_misc /proc/self/mountinfo; ls -A /proc/sys/fs/binfmt_misc 2>/dev/null; true", prints("0\n"))
	refused(t, "sysctl-host", []string{"--sysctl", "kernel.modprobe=/x"}, []string{"--sysctl", "kernel.hotplug=/x"}, []string{"--sysctl", "kernel.poweroff_cmd=/x"})
}

func TestP3(t *testing.T) {
	row(t, "P3")
	// The file is opened, and nothing ever written to it.
	kept(t, "sysrq-trigger")
	s, _ := drySpec(t)
	if !slices.Contains(s.Linux.ReadonlyPaths, "/proc/sysrq-trigger") {
		t.Error("the specification does not make it read-only")
	}
	refused(t, "systempaths-unconfined", []string{"--security-opt", "systempaths=unconfined"}, []string{"--security-opt", "systempaths:unconfined"})
}

// telling are files and directories that must show nothing: the lists of moby,
// containerd and podman, and more.
var telling = []string{
	"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kallsyms", "/proc/kcore", "/proc/key-users", "/proc/keys", "/proc/kmsg",
	"/proc/kpagecount", "/proc/kpageflags", "/proc/kpagecgroup", "/proc/latency_stats", "/proc/mtrr", "/proc/sched_debug", "/proc/scsi",
	"/proc/slabinfo", "/proc/timer_list", "/proc/timer_stats", "/proc/vmallocinfo",
	"/sys/dev/block", "/sys/devices/virtual/powercap", "/sys/firmware", "/sys/fs/bpf", "/sys/fs/pstore", "/sys/fs/selinux",
	"/sys/kernel/config", "/sys/kernel/debug", "/sys/kernel/security", "/sys/kernel/tracing",
	"/dev/mem", "/dev/kmem", "/dev/kmsg", "/dev/port",
}

// shows prints those of the files that have a first byte, and those of the
// directories that have an entry.
func shows(files []string) string {
	return "for f in " + strings.Join(files, " ") + `; do if [ -d $f ]; then n=$(ls -A $f 2>/dev/null | wc -l); elif [ -e $f ]; then n=$(timeout 5 head -c1 $f 2>/dev/null | wc -c); else n=0; fi
[ $n = 0 ] || echo $f; done`
}

func TestP4(t *testing.T) {
	row(t, "P4")
	stopped(t, "masked-paths", "syslog", "dev-kmsg")
	inModes(t, nil, shows(telling), prints(""))
	// Outside most of them show something.
	if a := onHost(t, "sh", "-c", shows(telling)); len(lines(a.Stdout)) < 5 {
		t.Errorf("outside only %q show something", lines(a.Stdout))
	}
	// Addresses of the kernel are hidden in the files that stay.
	inModes(t, nil, "grep -v '^ *0*-0* : ' /proc/iomem | head -n 3", prints(""))
	refused(t, "", []string{"--security-opt", "unmask=all"}, []string{"--security-opt", "unmask=/proc/kcore"}, []string{"--security-opt", "mask=/x"})
}

func TestP5(t *testing.T) {
	row(t, "P5")
	files := []string{"/proc/interrupts", "/sys/devices/virtual/powercap", "/sys/devices/system/cpu/cpu*/thermal_throttle"}
	inModes(t, nil, shows(files), prints(""))
	if a := onHost(t, "sh", "-c", shows(files[:1])); a.Stdout == "" {
		t.Error("/proc/interrupts shows nothing outside either")
	}
	s, _ := drySpec(t)
	for _, p := range files[:2] {
		if !slices.Contains(s.Linux.MaskedPaths, p) {
			t.Errorf("%s is not masked", p)
		}
	}
	// A machine that counts thermal events, for each of its processors.
	root := t.TempDir()
	for n := range 3 {
		if err := os.MkdirAll(filepath.Join(root, fmt.Sprintf("sys/devices/system/cpu/cpu%d/thermal_throttle", n)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "sys/devices/system/cpu/possible"), []byte("0-2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := host.At(root).MaskPaths; len(got) != 3 || got[2] != "/sys/devices/system/cpu/cpu2/thermal_throttle" {
		t.Errorf("of three processors these are masked: %q", got)
	}
	for _, p := range host.At("/").MaskPaths {
		if !slices.Contains(s.Linux.MaskedPaths, p) {
			t.Errorf("%s is not masked", p)
		}
	}
}

func TestP6(t *testing.T) {
	row(t, "P6")
	probed(t, "cgroup-mkdir", "cgroup-procs", "cgroup-limits")
	kept(t, "cgroup-release_agent", "cgroup-devices")
	const write = `find /sys/fs/cgroup -name 'cgroup.*' -o -name '*.max' -o -name '*limit_in_bytes' -o -name release_agent -o -name devices.allow -o -name tasks -o -name notify_on_release >/tmp/p6
n=0; while read f; do n=$((n+1)); (echo 0 >$f) 2>/dev/null && echo wrote $f; done </tmp/p6; [ $n -gt 3 ] || echo only $n files
for d in /sys/fs/cgroup /sys/fs/cgroup/*/; do mkdir $d/p6 2>/dev/null && echo made $d/p6; done
cut -d: -f3 /proc/self/cgroup | sort -u`
	inModes(t, nil, write, prints("/\n"))
	refused(t, "cgroupns-host", []string{"--cgroupns", "host"}, []string{"--cgroupns=host"})
	refused(t, "writable-cgroups", []string{"--security-opt", "writable-cgroups=true"}, []string{"--security-opt", "writable-cgroups"})
	refused(t, "cgroup-parent", []string{"--cgroup-parent", "/"}, []string{"--cgroup-parent", "../x"}, []string{"--cgroup-parent", "system.slice"})
}

// readonlyBelow prints what is mounted at or below a path and can be written,
// counting the last mount of each place.
func readonlyBelow(path string) string {
	return `awk '$5 == "` + path + `" || index($5, "` + path + `/") == 1 { o[$5] = $6; n++ } END { for (p in o) if (o[p] !~ /^ro(,|$)/) print p, o[p]; if (!n) print "nothing mounted" }' /proc/self/mountinfo`
}

func TestP7(t *testing.T) {
	row(t, "P7")
	stopped(t, "sys-writable", "sys-power")
	inModes(t, nil, readonlyBelow("/sys"), prints(""))
	script, check := denied("/sys/power/state", "/sys/bus/pci/rescan", "/sys/kernel/mm/ksm/run", "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/block/*/queue/scheduler")
	inModes(t, nil, strings.Replace(script, "/sys/block/*/queue/scheduler", "/sys/class/net/lo/ifalias", 1), check)
	// A tmpfs or a volume there would hide that.
	for _, target := range []string{"/sys", "/sys/power", "/sys/fs/cgroup", "/sys/kernel/mm"} {
		refused(t, "", []string{"--tmpfs", target}, []string{"-v", "p7-volume:" + target}, []string{"-v", "/sys:" + target})
	}
	// The one way to have the host's own /sys is its network, by a grant.
	granted(t, "allow: [network-host]")
	a := here.Run("run", "--rm", "--network", "host", denImage, "sh", "-c", readonlyBelow("/sys")+"; echo x >/sys/power/state")
	if a.Stdout != "" || !strings.Contains(a.Stderr, "Read-only") {
		t.Errorf("with the host's network: %s", a)
	}
}

func TestP8(t *testing.T) {
	row(t, "P8")
	probed(t, "processes", "pid1-root", "stray-fds")
	// Something of the host's to be found.
	t.Setenv("P8_SECRET", "of the host")
	detached(t, "p8-neighbour", "-e", "P8_SECRET=of a neighbour", denImage, "sleep", "600")
	const find = `grep -l P8_SECRET /proc/[0-9]*/environ 2>/dev/null; n=$(ls -d /proc/[0-9]* 2>/dev/null | wc -l); [ $n -lt 20 ] || echo $n processes; cat /proc/1/comm | grep -v '^sh$'`
	inModes(t, nil, find, prints(""))
	if a := onHost(t, "sh", "-c", "grep -l P8_SECRET /proc/[0-9]*/environ 2>/dev/null"); len(lines(a.Stdout)) < 2 {
		t.Errorf("outside %q have the variable", lines(a.Stdout))
	}
	refused(t, "pid-host", []string{"--pid", "host"})
	refused(t, "pid-join", []string{"--pid", "container:p8-neighbour"})
}
