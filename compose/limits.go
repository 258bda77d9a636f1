package compose

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
)

func seconds(d types.Duration) float64 { return time.Duration(d).Seconds() }

// security is security_opt. The file of a seccomp filter is found from the
// directory of the project, as compose does.
func (m *maker) security() {
	for _, v := range m.s.SecurityOpt {
		word := v
		sep := strings.IndexAny(v, "=:")
		if sep > 0 {
			word = v[:sep] + "=" + v[sep+1:]
			if file := v[sep+1:]; v[:sep] == "seccomp" && file != "unconfined" && file != "builtin" && file != "" {
				file = within1(m.l.dir, file)
				if !exists(file) {
					m.wrong("there is no file "+quote(file), "relative paths start at the directory of the compose file", textIs(v), "security_opt")
					continue
				}
				word = "seccomp=" + file
				m.stamps = append(m.stamps, stamp(file))
			}
		}
		m.flag("security-opt", word, textIs(v), "security_opt")
	}
}

// limits are those of memory, CPUs, processes and the like. Of the two places
// compose has for some, the older counts; the loader refuses two values.
func (m *maker) limits() {
	s := &m.s
	var limits, reserved types.Resource
	if d := s.Deploy; d != nil {
		if r := d.Resources.Limits; r != nil {
			limits = *r
		}
		if r := d.Resources.Reservations; r != nil {
			reserved = *r
		}
		if d.Mode != "" && d.Mode != "replicated" && d.Mode != "global" {
			m.wrong("there is no mode "+quote(d.Mode), "a service that ends is one others wait for with service_completed_successfully", nil, "deploy", "mode")
		}
	}
	for _, n := range []struct {
		key, flag string
		value     int64
		said      bool
		deploy    int64 // what deploy.resources says
		deployKey string
	}{
		{"mem_limit", "memory", int64(s.MemLimit), s.MemLimit != 0, int64(limits.MemoryBytes), "limits.memory"},
		{"memswap_limit", "memory-swap", int64(s.MemSwapLimit), s.MemSwapLimit != 0, 0, ""},
		{"mem_reservation", "memory-reservation", int64(s.MemReservation), s.MemReservation != 0, int64(reserved.MemoryBytes), "reservations.memory"},
		{"mem_swappiness", "memory-swappiness", int64(s.MemSwappiness), m.has("mem_swappiness"), 0, ""},
		{"pids_limit", "pids-limit", s.PidsLimit, m.has("pids_limit"), limits.Pids, "limits.pids"},
		{"cpu_shares", "cpu-shares", s.CPUShares, s.CPUShares != 0, 0, ""},
		{"cpu_period", "cpu-period", s.CPUPeriod, s.CPUPeriod != 0, 0, ""},
		{"cpu_quota", "cpu-quota", s.CPUQuota, s.CPUQuota != 0, 0, ""},
		{"cpu_rt_period", "cpu-rt-period", s.CPURTPeriod, s.CPURTPeriod != 0, 0, ""},
		{"cpu_rt_runtime", "cpu-rt-runtime", s.CPURTRuntime, s.CPURTRuntime != 0, 0, ""},
		{"oom_score_adj", "oom-score-adj", s.OomScoreAdj, m.has("oom_score_adj"), 0, ""},
		{"shm_size", "shm-size", int64(s.ShmSize), s.ShmSize != 0, 0, ""},
	} {
		switch {
		case n.said:
			m.flag(n.flag, strconv.FormatInt(n.value, 10), nil, n.key)
		case n.deploy != 0:
			m.flag(n.flag, strconv.FormatInt(n.deploy, 10), nil, append([]string{"deploy", "resources"}, strings.Split(n.deployKey, ".")...)...)
		}
	}
	switch {
	case s.CPUS != 0:
		m.flag("cpus", float(s.CPUS), nil, "cpus")
	case limits.NanoCPUs != 0:
		m.flag("cpus", float(float32(limits.NanoCPUs)), nil, "deploy", "resources", "limits", "cpus")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Ulimits)) {
		u := s.Ulimits[name]
		word := name + "=" + strconv.Itoa(u.Single)
		if m.has("ulimits", name, "soft") || m.has("ulimits", name, "hard") {
			soft, hard := u.Soft, u.Hard
			switch { // docker takes the one for the other
			case !m.has("ulimits", name, "soft"):
				soft = hard
			case !m.has("ulimits", name, "hard"):
				hard = soft
			}
			word = name + "=" + strconv.Itoa(soft) + ":" + strconv.Itoa(hard)
		}
		m.flag("ulimit", word, nil, "ulimits", name)
	}
	for _, d := range reserved.Devices {
		m.flag("gpus", gpus(d), nil, "deploy", "resources", "reservations", "devices")
	}
	m.blkio()
	m.logging()
}

// float is a number of CPUs as it was written.
func float(f float32) string { return strconv.FormatFloat(float64(f), 'f', -1, 32) }

func (m *maker) blkio() {
	b := m.s.BlkioConfig
	if b == nil {
		return
	}
	if b.Weight != 0 {
		m.flag("blkio-weight", strconv.Itoa(int(b.Weight)), nil, "blkio_config", "weight")
	}
	for _, w := range b.WeightDevice {
		m.flag("blkio-weight-device", w.Path+":"+strconv.Itoa(int(w.Weight)), memberIs("path", w.Path), "blkio_config", "weight_device")
	}
	for _, t := range []struct {
		key  string
		devs []types.ThrottleDevice
	}{
		{"device_read_bps", b.DeviceReadBps},
		{"device_write_bps", b.DeviceWriteBps},
		{"device_read_iops", b.DeviceReadIOps},
		{"device_write_iops", b.DeviceWriteIOps},
	} {
		for _, d := range t.devs {
			m.flag(strings.ReplaceAll(t.key, "_", "-"), d.Path+":"+strconv.FormatInt(int64(d.Rate), 10), memberIs("path", d.Path), "blkio_config", t.key)
		}
	}
}

func (m *maker) logging() {
	g := m.s.Logging
	if g == nil {
		return
	}
	if g.Driver != "" {
		m.flag("log-driver", g.Driver, nil, "logging", "driver")
	}
	for _, k := range slices.Sorted(maps.Keys(g.Options)) {
		m.flag("log-opt", k+"="+g.Options[k], nil, "logging", "options", k)
	}
}

// short says whether paths are without a colon or a comma, as the short forms need it.
func short(paths ...string) bool {
	return !slices.ContainsFunc(paths, func(p string) bool { return strings.ContainsAny(p, ":,") || p == "" || filepath.Clean(p) == "/" })
}
