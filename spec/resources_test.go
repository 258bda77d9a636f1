package spec

import (
	"maps"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// TestDefaultShares: what a container takes of the host if it asks for
// nothing.
func TestDefaultShares(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Input)
		quota  int64 // 0: none
		period uint64
	}{
		"no maximum":               {func(*Input) {}, 0, 0},
		"a maximum":                {func(in *Input) { in.Limits.MaxCPUs = 1.5 }, 150_000, 100_000},
		"all there are":            {func(in *Input) { in.Limits.MaxCPUs = 4 }, 0, 0},
		"the least":                {func(in *Input) { in.Limits.MaxCPUs = 0.001 }, 1000, 100_000},
		"unknown number":           {func(in *Input) { in.Limits.MaxCPUs, in.Host.CPUs = 8, 0 }, 800_000, 100_000},
		"a period alone":           {func(in *Input) { in.Limits.MaxCPUs, in.Workload.Resources.CPUPeriod = 2, new(int64(10_000)) }, 20_000, 10_000},
		"no quota, in so many":     {func(in *Input) { in.Limits.MaxCPUs, in.Workload.Resources.CPUQuota = 1, new(int64(-1)) }, 100_000, 100_000},
		"less":                     {func(in *Input) { in.Limits.MaxCPUs, in.Workload.Resources.NanoCPUs = 2, new(int64(5e8)) }, 50_000, 100_000},
		"shares take nothing away": {func(in *Input) { in.Limits.MaxCPUs, in.Workload.Resources.CPUShares = 2, new(int64(9)) }, 200_000, 100_000},
	} {
		t.Run(name, func(t *testing.T) {
			var quota int64
			var period uint64
			if c2 := build(t, c.change).Linux.Resources.CPU; c2 != nil {
				if c2.Quota != nil {
					quota = *c2.Quota
				}
				if c2.Period != nil {
					period = *c2.Period
				}
			}
			if quota != c.quota || period != c.period {
				t.Errorf("%d of %d, wanted %d of %d", quota, period, c.quota, c.period)
			}
		})
	}
}

// TestKilledTogether: when memory is short it is the container, and all of it.
func TestKilledTogether(t *testing.T) {
	s := build(t, func(*Input) {})
	if s.Process.OOMScoreAdj == nil || *s.Process.OOMScoreAdj != DefaultOOMScoreAdj {
		t.Errorf("oom_score_adj %v", s.Process.OOMScoreAdj)
	}
	if !maps.Equal(s.Linux.Resources.Unified, map[string]string{"memory.oom.group": "1"}) {
		t.Errorf("cgroup v2: %v", s.Linux.Resources.Unified)
	}
	s = build(t, func(in *Input) {
		in.Host.CgroupV2, in.Workload.OOMScoreAdj = false, new(0)
		in.Host.Controllers["devices"], in.Host.Controllers["blkio"] = true, true
	})
	if high := build(t, func(in *Input) { in.Host.OOMScoreAdj = 900 }); *high.Process.OOMScoreAdj != 900 {
		t.Errorf("below a launcher that cannot lower its own: %d", *high.Process.OOMScoreAdj)
	}
	if *s.Process.OOMScoreAdj != 0 || s.Linux.Resources.Unified != nil {
		t.Errorf("cgroup v1, oom_score_adj 0: %v, %v", *s.Process.OOMScoreAdj, s.Linux.Resources.Unified)
	}
}

// TestSharedCounts: a part of what all containers and root have together.
func TestSharedCounts(t *testing.T) {
	s := build(t, func(in *Input) { in.Workload.Ulimits = []Ulimit{{Name: "sigpending", Soft: 5, Hard: 6}} })
	if s.Linux.Sysctl["user.max_inotify_instances"] != "32" || s.Linux.Sysctl["user.max_inotify_watches"] != "16384" {
		t.Errorf("%v", s.Linux.Sysctl)
	}
	for _, want := range []specs.POSIXRlimit{
		{Type: "RLIMIT_SIGPENDING", Soft: 5, Hard: 6},
		{Type: "RLIMIT_MSGQUEUE", Soft: msgqueue, Hard: msgqueue},
	} {
		if !slices.Contains(s.Process.Rlimits, want) {
			t.Errorf("no %v in %v", want, s.Process.Rlimits)
		}
	}
}
