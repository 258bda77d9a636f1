package audit

import (
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestParseMountinfo(t *testing.T) {
	in := `36 35 98:0 /mnt1 /mnt\0402 rw,noatime,idmapped master:1 shared:2 - ext3 /dev/root rw,errors=continue
37 36 0:5 / / ro - tmpfs a\134b rw,size=64k,nr_inodes=10
`
	got, err := parseMountinfo([]byte(in))
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	a, b := got[0], got[1]
	if a.id != 36 || a.point != "/mnt 2" || !a.shared || !a.slave || !a.has("idmapped") || a.fs != "ext3" {
		t.Errorf("%+v", a)
	}
	if b.point != "/" || b.shared || b.slave || !b.has("ro") || !slices.Contains(b.super, "size=64k") {
		t.Errorf("%+v", b)
	}
	for _, bad := range []string{"x\n", "36 35 98:0 / / rw -\n", "x 35 98:0 / / rw - a b c\n", "36 35 98:0 / / rw shared:1 a b c d\n"} {
		if _, err := parseMountinfo([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestUnifiedLimits(t *testing.T) {
	dev := specs.LinuxThrottleDevice{Rate: 1 << 20}
	dev.Major, dev.Minor = 8, 16
	r := &specs.LinuxResources{
		Memory:  &specs.LinuxMemory{Limit: ref(int64(64 << 20)), Swap: ref(int64(96 << 20)), Reservation: ref(int64(1 << 20))},
		Pids:    &specs.LinuxPids{Limit: ref(int64(9))},
		CPU:     &specs.LinuxCPU{Shares: ref(uint64(1024)), Quota: ref(int64(5000)), Cpus: "0-1,3", Mems: "0"},
		BlockIO: &specs.LinuxBlockIO{Weight: ref(uint16(500)), ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{dev}},
		Unified: map[string]string{"memory.oom.group": "1"},
	}
	good := map[string]string{
		"memory.max": "67108864\n", "memory.low": "1048576\n", "memory.swap.max": "33554432\n", "pids.max": "9\n",
		"cpu.max": "5000 100000\n", "cpu.weight": "100\n", "cpuset.cpus": "0-1,3\n", "cpuset.mems": "0\n",
		"io.bfq.weight": "default 500\n", "io.max": "8:0 rbps=max wbps=max riops=max wiops=max\n8:16 rbps=1048576 wbps=max riops=max wiops=max\n",
		"memory.oom.group": "1\n",
	}
	bad := map[string][]string{
		"memory.max": {"max\n", "67108865\n", ""}, "memory.low": {"0\n"}, "memory.swap.max": {"max\n", "0\n"}, "pids.max": {"max\n", "90\n"},
		"cpu.max": {"max 100000\n", "5000 1000\n"}, "cpu.weight": {"1000\n"}, "cpuset.cpus": {"0-3\n", "\n", "0\n"}, "cpuset.mems": {"0-1\n"},
		"io.bfq.weight": {"default 100\n"}, "io.max": {"8:16 rbps=max wbps=max\n", "8:1 rbps=1048576\n", ""}, "memory.oom.group": {"0\n"},
	}
	seen := map[string]bool{}
	for _, l := range limitsOf(r, true) {
		f := l.files[0]
		seen[f] = true
		if !l.match(good[f]) {
			t.Errorf("%s: %q is not %s", f, good[f], l.want)
		}
		for _, b := range bad[f] {
			if l.match(b) {
				t.Errorf("%s: %q is taken for %s", f, b, l.want)
			}
		}
	}
	for f := range good {
		if !seen[f] {
			t.Errorf("%s is not looked at", f)
		}
	}
	none := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ref(int64(-1)), Swap: ref(int64(-1))},
		Pids:   &specs.LinuxPids{Limit: ref(int64(-1))}, CPU: &specs.LinuxCPU{Quota: ref(int64(-1))},
	}
	for _, l := range limitsOf(none, true) {
		want := map[string]string{"cpu.max": "max 100000"}[l.files[0]]
		if want == "" {
			want = "max"
		}
		if !l.match(want) || l.match("5") {
			t.Errorf("%s: want %s", l.files[0], l.want)
		}
	}
	noSwap := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ref(int64(64 << 20)), Swap: ref(int64(64 << 20))}}
	if l := limitsOf(noSwap, true)[1]; l.files[0] != "memory.swap.max" || !l.match("0\n") || l.match("max\n") {
		t.Errorf("no swap: %+v", l)
	}
}

func TestCovers(t *testing.T) {
	for _, tc := range []struct {
		rule, line string
		want       bool
	}{
		{"c 1:3 rwm", "c 1:3 rw", true},
		{"c 1:3 rw", "c 1:3 rwm", false},
		{"c 136:* rwm", "c 136:4 rwm", true},
		{"c 136:4 rwm", "c 136:* rwm", false},
		{"c *:* m", "c 10:229 m", true},
		{"c *:* m", "c 10:229 rw", false},
		{"c *:* rwm", "a *:* rwm", false},
		{"b 8:0 r", "c 8:0 r", false},
	} {
		if got := covers(tc.rule, tc.line); got != tc.want {
			t.Errorf("%q covers %q: %v", tc.rule, tc.line, got)
		}
	}
}

func TestSize(t *testing.T) {
	for s, want := range map[string]uint64{"64k": 65536, "1M": 1 << 20, "2g": 2 << 30, "77": 77} {
		if got, ok := size(s); !ok || got != want {
			t.Errorf("%s: %d, %v", s, got, ok)
		}
	}
	for _, s := range []string{"", "k", "-1", "99999999999999999999", "18446744073709551615k", "1x"} {
		if got, ok := size(s); ok {
			t.Errorf("%q: %d", s, got)
		}
	}
}
