package policy

import (
	"strings"
	"testing"

	"github.com/safe-run/safe-run/spec"
)

// TestLogBounds: sizes of log files, at the bound and above.
func TestLogBounds(t *testing.T) {
	for _, c := range []struct {
		driver, size, files string
		most                int64
		flag, need          string // "" passes
	}{
		{"", "", "", 1, "", ""},
		{"", "1g", "", 0, "", ""},
		{"", "2", "1", 1, "--log-opt max-size=2 --log-opt max-file=1", "log: 2"},
		{"json-file", "1g", "", 1 << 30, "--log-opt max-size=1g", "log: 3221225472"},
		{"journald", "1g", "", 1, "", ""},
		{"", "", "2", 20 << 20, "", ""},
		{"", "", "2", 20<<20 - 1, "--log-opt max-file=2", "log: 20971520"},
		{"", "1m", "", 3 << 20, "", ""},
		{"", "1m", "", 3<<20 - 1, "--log-opt max-size=1m", "log: 3145728"},
		{"", "1", "1", 1 << 30, "", ""},
		{"", "0", "", 1 << 30, "--log-opt max-size=0", ""},
		{"", "x\n", "", 1 << 30, `--log-opt max-size="x\n"`, ""},
		{"", "", "0", 1 << 30, "--log-opt max-file=0", ""},
		{"", "", "99999999999999999999", 1 << 30, "--log-opt max-file=99999999999999999999", ""},
		{"", "4e18", "3", 1 << 30, "--log-opt max-size=4e18 --log-opt max-file=3", "log: 9223372036854775807"},
	} {
		w := spec.Workload{LogDriver: c.driver, LogOpts: map[string]string{}}
		for key, v := range map[string]string{"max-size": c.size, "max-file": c.files} {
			if v != "" {
				w.LogOpts[key] = v
			}
		}
		f, hit := checkLog(w, c.most)
		if hit != (c.flag != "") || f.Flag != c.flag || f.Need.Value != c.need {
			t.Errorf("%+v: %v %+v", c, hit, f)
		}
		if hit && (c.need == "") != strings.Contains(f.Why, "nothing bounds the log") {
			t.Errorf("%+v: %q", c, f.Why)
		}
	}
}

// TestSizesAreTold: what would permit a size, and what to write instead.
func TestSizesAreTold(t *testing.T) {
	for _, c := range []struct {
		with             func(*Request)
		flag, safer, per string
	}{
		{with(sited("limits: {max: {tmpfs: 1m}}"), tmpfs(spec.TmpfsOptions{Size: 2 << 20})), "--tmpfs /t (size=2MiB)", "", "limits: {max: {tmpfs: 2097152}}"},
		{with(sited("limits: {max: {tmpfs: 1m}}"), tmpfs(spec.TmpfsOptions{Flags: []string{"nr_blocks=1k"}})), "--tmpfs /t (size=4MiB)", "", "limits: {max: {tmpfs: 4194304}}"},
		{with(sited("limits: {max: {tmpfs: 1m}}"), tmpfs(spec.TmpfsOptions{Flags: []string{"nr_blocks=274877906944"}})), "", "", "limits: {max: {tmpfs: 1125899906842624}}"},
		{with(sited("limits: {max: {tmpfs: 1m}}"), tmpfs(spec.TmpfsOptions{Flags: []string{"nr_blocks=274877906945"}})), "", "", "limits: {max: {tmpfs: 1125899906842624}}"},
		{with(sited("limits: {max: {tmpfs: 1m}}"), tmpfs(spec.TmpfsOptions{Flags: []string{"size=1t"}})), "", "", "limits: {max: {tmpfs: 1099511627776}}"},
		{with(sited("limits: {max: {shm: 16m}}"), work(func(w *spec.Workload) { w.ShmSize = ptr(int64(17 << 20)) })), "--shm-size 17MiB", "", "limits: {max: {shm: 17825792}}"},
		{with(sited("limits: {max: {memory: 1g}}"), res(func(r *spec.Resources) { r.Memory = ptr(int64(2 << 30)) })), "--memory 2GiB", "", "limits: {max: {memory: 2147483648}}"},
		{with(sited("limits: {max: {cpus: 1}}"), res(func(r *spec.Resources) { r.NanoCPUs = ptr(int64(15e8)) })), "--cpus 1.5", "", "limits: {max: {cpus: 1.5}}"},
		{with(sited("limits: {max: {cpus: 1}}"), res(func(r *spec.Resources) { r.CPUQuota, r.CPUPeriod = ptr(int64(200000)), ptr(int64(0)) })), "--cpus 2", "", "limits: {max: {cpus: 2}}"},
		{tmpfs(spec.TmpfsOptions{SizePct: 101}), "--tmpfs /t (size=101%)", "", ""},
		{tmpfs(spec.TmpfsOptions{Inodes: -1}), "--tmpfs /t (nr_inodes)", "", ""},
		{tmpfs(spec.TmpfsOptions{Flags: []string{"nr_blocks=0"}}), "--tmpfs /t (nr_blocks=0)", "", ""},
		{tmpfs(spec.TmpfsOptions{Size: 600 << 20}), "", "--memory 600m", ""},
		{tmpfs(spec.TmpfsOptions{Size: 2 << 40}), "", "--memory 2t", ""},
		{ulim("nofile", 1, 2<<20), "--ulimit nofile=1:2097152", "up to 1048576", "limits: {max: {nofile: 2097152}}"},
		{ulim("nofile", 2<<20, 1), "", "", "limits: {max: {nofile: 2097152}}"},
		{ulim("nofile", 2<<20, 0), "", "", ""},
		{ulim("nofile", 1, -1), "", "", ""},
		{ulim("core", 1, 2<<30), "", "", ""},
		{res(func(r *spec.Resources) { r.Memory, r.MemorySwap = ptr(int64(1<<30)), ptr(int64(-1)) }), "--memory-swap -1", "--memory-swap 4g", "allow: [memory-unlimited]"},
		{work(func(w *spec.Workload) { w.CgroupNSMode = "host" }), "--cgroupns=host", "", ""},
		{sysctl("vm.x", "1"), "--sysctl vm.x=1", "", ""},
		{sysctl("net.ipv4.conf.all.accept_redirects", "1"), "", "", "sysctls: [net.ipv4.conf.all.accept_redirects]"},
		{secOpt("label=type:x"), "--security-opt label=type:x", "", ""},
		{bind("/var/mail", true), "-v /var/mail:/data:ro", "", "binds: [{source: /var/mail, readonly: true}]"},
		{bind("/var/mail", false), "-v /var/mail:/data", "", "binds: [{source: /var/mail}]"},
		{volume(func(m *spec.Mount) { m.Target = "/proc" }), "-v data:/proc", "", ""},
		{with(sited("networks: [front]"), network("back")), "--network back", "", ""},
		{with(sited("publish-address: required"), network("front"), work(func(w *spec.Workload) {
			w.Publish = []spec.Publish{{HostFirst: 1, HostLast: 1, Ports: spec.PortRange{First: 80, Last: 80, Proto: "tcp"}}}
		})), "-p 1:80", "", "allow: [publish-address]"},
		{with(sited("publish-address: required"), network("front"), work(func(w *spec.Workload) { w.PublishAll = true })), "-P", "127.0.0.1::PORT", "allow: [publish-address]"},
	} {
		r := said(t, c.with)
		if c.flag != "" && r.Flag != c.flag || !strings.Contains(r.Safer, c.safer) || r.Grant != c.per {
			t.Errorf("%+v, want flag %q, safer %q, grant %q", r, c.flag, c.safer, c.per)
		}
	}
	for size, want := range map[int64]string{2: "2b", 2 << 10: "2k", 2 << 20: "2m", 2 << 30: "2g", 2 << 40: "2t", 2 << 50: "2p"} {
		r := request(res(func(r *spec.Resources) { r.Memory = ptr(int64(1)) }))
		if f, bad := memorySize(&r, size, 0, "tmpfs"); !bad || !strings.HasSuffix(f.Safer, "--memory "+want) {
			t.Errorf("%d: %+v", size, f)
		}
	}
	r := request()
	if _, bad := memorySize(&r, 2, 1, "tmpfs"); !bad {
		t.Error("a maximum of one byte is none")
	}
}

// TestMemoryLimit: asked for, the site's, and none.
func TestMemoryLimit(t *testing.T) {
	asks := func(n int64) func(*Request) { return res(func(r *spec.Resources) { r.Memory = &n }) }
	for _, c := range []struct {
		with    func(*Request)
		limit   int64
		limited bool
	}{
		{func(*Request) {}, 512 << 20, true},
		{asks(-1), -1, false},
		{asks(0), 0, false},
		{asks(1), 1, true},
		{limited(spec.Limits{Pids: 1}), 0, false},
		{limited(spec.Limits{Memory: 1}), 1, true},
	} {
		r := request(c.with)
		if limit, limited := memoryLimit(&r); limit != c.limit || limited != c.limited {
			t.Errorf("%d %v, want %d %v", limit, limited, c.limit, c.limited)
		}
	}
}
