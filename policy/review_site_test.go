package policy

import (
	"strings"
	"testing"

	"github.com/safe-run/safe-run/spec"
)

func TestSiteRules(t *testing.T) {
	for _, c := range []struct {
		file string
		with func(*Request)
		want string
	}{
		{"registries: [quay.io]", nil, "registry"},
		{"registries: [docker.io]", nil, ""},
		{"registries: ['localhost:5000', docker.io]", nil, ""},
		{"require-digest: true", nil, "require-digest"},
		{"require-digest: true", work(func(w *spec.Workload) { w.Image = "busybox@sha256:" + strings.Repeat("b", 64) }), ""},
		{"require-lsm: true", nil, ""},
		{"require-lsm: true", func(r *Request) { r.Host.AppArmor = false }, "require-lsm"},
		{"require-lsm: true", func(r *Request) { r.Host.AppArmor, r.Host.SELinux = false, true }, ""},
		{"limits: {max: {memory: 256m}}", res(func(r *spec.Resources) { r.Memory = ptr(int64(512 << 20)) }), "limit-over-maximum"},
		{"limits: {max: {memory: 256m}}", res(func(r *spec.Resources) { r.Memory = ptr(int64(256 << 20)) }), ""},
		{"limits: {max: {pids: 10}}", res(func(r *spec.Resources) { r.PidsLimit = ptr(int64(11)) }), "limit-over-maximum"},
		{"limits: {max: {cpus: 1.5}}", res(func(r *spec.Resources) { r.NanoCPUs = ptr(int64(2e9)) }), "limit-over-maximum"},
		{"limits: {max: {cpus: 1.5}}", res(func(r *spec.Resources) { r.CPUQuota = ptr(int64(200000)) }), "limit-over-maximum"},
		{"limits: {max: {cpus: 1.5}}", res(func(r *spec.Resources) { r.NanoCPUs = ptr(int64(15e8)) }), ""},
		{"limits: {max: {nofile: 1024}}", ulim("nofile", 1024, 2048), "ulimit"},
		{"limits: {max: {tmpfs: 16m}}", tmpfs(spec.TmpfsOptions{Size: 17 << 20}), "tmpfs-size"},
		{"", logs("max-size", "100m"), ""},
		{"", logs("max-size", "200m", "max-file", "6"), "limit-over-maximum"},
		{"", logs("max-size", "1g"), "limit-over-maximum"},
		{"", logs("max-size", "8e18", "max-file", "9000000000000000000"), "limit-over-maximum"},
		{"", logs("max-file", "9000000000000000000"), "limit-over-maximum"},
		{"", logs("max-size", "-1"), "limit-over-maximum"},
		{"", logs("max-size", "unlimited"), "limit-over-maximum"},
		{"", logs("max-file", "0"), "limit-over-maximum"},
		{"", logs("tag", "x"), ""},
		{"limits: {max: {log: 30m}}", nil, ""},
		{"limits: {max: {log: 30m}}", logs("max-size", "11m"), "limit-over-maximum"},
		{"limits: {max: {log: 2g}}", logs("max-size", "500m", "max-file", "4"), ""},
		{"limits: {max: {log: 30m}}", func(r *Request) {
			logs("max-size", "11m")(r)
			r.Workload.LogDriver = "journald"
		}, ""},
		{"limits: {max: {shm: 16m}}", work(func(w *spec.Workload) { w.ShmSize = ptr(int64(17 << 20)) }), "shm-size"},
	} {
		site, err := ParseSite([]byte("version: 1\n"+c.file), "t")
		if err != nil {
			t.Fatalf("%s: %v", c.file, err)
		}
		r := request(func(r *Request) { r.Site = site })
		if c.with != nil {
			c.with(&r)
		}
		_, refusals := Review(r)
		if got := strings.Join(ids(refusals), " "); got != c.want {
			t.Errorf("%s: %q, want %q: %+v", c.file, got, c.want, refusals)
		}
	}
}
