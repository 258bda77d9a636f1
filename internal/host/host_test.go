package host

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"testing"
)

// tree makes files below a directory and gives the directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for p, content := range files {
		p = filepath.Join(dir, p)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func join(ms ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range ms {
		maps.Copy(out, m)
	}
	return out
}

var base = map[string]string{
	"proc/sys/kernel/osrelease":             "6.1.0-33-amd64\n",
	"sys/devices/system/cpu/online":         "0-2,4\n",
	"sys/devices/system/cpu/possible":       "0-7\n",
	"sys/devices/system/node/online":        "0-1\n",
	"proc/sys/kernel/seccomp/actions_avail": "kill_process errno\n",
	"proc/self/ns/time":                     "",
	"proc/swaps":                            "",
	"proc/sys/net/ipv6/conf/all/accept_ra":  "1\n",
}

func TestUnified(t *testing.T) {
	v2 := map[string]string{
		"sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma misc\n",
		"proc/self/cgroup":                 "0::/user.slice/user-0.slice/session-1.scope\n",
	}
	own := "sys/fs/cgroup/user.slice/user-0.slice/session-1.scope/"
	all := []string{"cpu", "cpuset", "devices", "io", "memory", "pids"}
	for name, tc := range map[string]struct {
		files map[string]string
		swap  bool
		ctrls []string
	}{
		"own cgroup":           {map[string]string{own + "memory.max": "", own + "memory.swap.max": ""}, true, all},
		"own, without swap":    {map[string]string{own + "memory.max": ""}, false, all},
		"parent":               {map[string]string{"sys/fs/cgroup/user.slice/memory.max": "", "sys/fs/cgroup/user.slice/memory.swap.max": ""}, true, all},
		"a slice of systemd's": {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/system.slice/memory.max": ""}, false, all},
		"nothing to look at":   {map[string]string{"proc/self/cgroup": "0::/\n"}, true, all},
		"switched off":         {map[string]string{"proc/self/cgroup": "0::/\n", "proc/cmdline": "quiet swapaccount=0\n"}, false, all},
		"outside of ours":      {map[string]string{"proc/self/cgroup": "0::/../../x\n"}, true, all},
		"no memory controller": {map[string]string{"sys/fs/cgroup/cgroup.controllers": "cpu pids\n"}, false, []string{"cpu", "devices", "pids"}},
	} {
		f := At(tree(t, join(base, v2, tc.files)))
		var got []string
		for c, ok := range f.Controllers {
			if ok {
				got = append(got, c)
			}
		}
		slices.Sort(got)
		if !f.CgroupV2 || f.SwapLimit != tc.swap || !slices.Equal(got, tc.ctrls) {
			t.Errorf("%s: v2 %v, swap %v, controllers %v; want swap %v, %v", name, f.CgroupV2, f.SwapLimit, got, tc.swap, tc.ctrls)
		}
	}
}

func TestLegacy(t *testing.T) {
	v1 := map[string]string{
		"proc/self/cgroup":                           "4:memory:/\n3:cpu,cpuacct:/\n2:pids:/x\n1:name=systemd:/\n0::/\n",
		"sys/fs/cgroup/memory/cgroup.procs":          "",
		"sys/fs/cgroup/memory/memory.limit_in_bytes": "",
		"sys/fs/cgroup/cpu/cgroup.procs":             "",
		"sys/fs/cgroup/blkio/cgroup.procs":           "",
		"sys/fs/cgroup/unified/cgroup.controllers":   "",
		"sys/fs/selinux/enforce":                     "1",
		"sys/module/apparmor/parameters/enabled":     "N\n",
	}
	f := At(tree(t, join(base, v1)))
	want := map[string]bool{"memory": true, "cpu": true, "pids": false, "blkio": false, "cpuset": false, "devices": false}
	if f.CgroupV2 || f.SwapLimit || !maps.Equal(f.Controllers, want) {
		t.Errorf("v2 %v, swap %v, %v", f.CgroupV2, f.SwapLimit, f.Controllers)
	}
	if !f.SELinux || f.AppArmor {
		t.Errorf("SELinux %v, AppArmor %v", f.SELinux, f.AppArmor)
	}
	v1["sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"] = ""
	v1["sys/module/apparmor/parameters/enabled"] = "Y\n"
	if f := At(tree(t, join(base, v1))); !f.SwapLimit || !f.AppArmor {
		t.Errorf("swap %v, AppArmor %v", f.SwapLimit, f.AppArmor)
	}
}

func TestBasics(t *testing.T) {
	therm := map[string]string{
		"sys/devices/system/cpu/cpu0/thermal_throttle/x": "",
		"sys/devices/system/cpu/cpu4/thermal_throttle/x": "",
	}
	f := At(tree(t, join(base, therm)))
	if f.Kernel != [2]int{6, 1} || f.CPUs != 4 || f.CPUSet != "0-2,4" || f.MemSet != "0-1" || !f.Seccomp || !f.TimeNS || !f.IPv6 || f.Arch != runtime.GOARCH {
		t.Errorf("%+v", f)
	}
	if want := []string{"/sys/devices/system/cpu/cpu0/thermal_throttle", "/sys/devices/system/cpu/cpu4/thermal_throttle"}; !slices.Equal(f.MaskPaths, want) {
		t.Errorf("mask %v, want %v", f.MaskPaths, want)
	}
	empty := At(t.TempDir())
	if empty.Seccomp || empty.AppArmor || empty.IPv6 || empty.CgroupV2 || empty.SwapLimit || empty.Controllers["memory"] || empty.CPUs < 1 || empty.MemSet != "0" {
		t.Errorf("an empty host can %+v", empty)
	}
}

func TestList(t *testing.T) {
	for s, want := range map[string][]int{
		"0": {0}, "0-2,5": {0, 1, 2, 5}, "": nil, "3-1": nil, "a": nil, "0-": nil, "0-99999999": nil, "-1": nil, "1,,2": nil,
		"0-65535,0-65535": nil,
	} {
		if got := List(s); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

func TestKernel(t *testing.T) {
	for s, want := range map[string][2]int{"6.18.5": {6, 18}, "5.19-rc1": {5, 19}, "7": {7, 0}, "": {}, "x": {}} {
		if got := kernel(s); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}

// What this very host has, as far as any Linux must have it.
func TestProbe(t *testing.T) {
	f := Probe()
	if f.Kernel[0] < 4 || !f.Seccomp || f.NofileHard < 256 || f.CPUs < 1 || f.CPUs > 1<<14 {
		t.Errorf("%+v", f)
	}
	t.Logf("%+v", f)
}

func BenchmarkProbe(b *testing.B) {
	for b.Loop() {
		Probe()
	}
}
