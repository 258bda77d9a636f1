package audit

import (
	"fmt"
	"math"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// hierarchy is where the cgroup of a process is in one mounted hierarchy.
type hierarchy struct {
	root string // where it is mounted
	path string // of the process in it; "" if it is not found there
}

func (h hierarchy) dir() string { return filepath.Join(h.root, h.path) }

// cgroupPlaces are the cgroups of a process.
type cgroupPlaces struct {
	version string
	v1      map[string]hierarchy // by controller
	v2      hierarchy
}

// of gives the hierarchy that has a controller, and whether it is v2's.
func (c cgroupPlaces) of(controller string) (h hierarchy, unified bool) {
	if h, ok := c.v1[controller]; ok {
		return h, false
	}
	return c.v2, true
}

// parseCgroups reads /proc/PID/cgroup (cgroups(7)).
func parseCgroups(text string) (v1 map[string]string, v2 string, err error) {
	v1 = map[string]string{}
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 || !strings.HasPrefix(f[2], "/") {
			return nil, "", fmt.Errorf("cgroup: %.100q is not a cgroup", line)
		}
		// A process outside of the reader's cgroup namespace has "/..".
		p := f[2]
		if slices.Contains(strings.Split(p, "/"), "..") {
			p = ""
		}
		if f[0] == "0" {
			v2 = p
			continue
		}
		for name := range strings.SplitSeq(f[1], ",") {
			if name != "" && !strings.Contains(name, "/") {
				v1[name] = p
			}
		}
	}
	return v1, v2, nil
}

// places finds the directories of the process's cgroups. One is taken only if
// it names the process: the hierarchy may be mounted elsewhere.
func (l *looker) places(text string) (cgroupPlaces, error) {
	v1, v2, err := parseCgroups(text)
	if err != nil {
		return cgroupPlaces{}, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &st); err != nil {
		return cgroupPlaces{}, fmt.Errorf("%s: %w", cgroupRoot, withoutErrno(err))
	}
	at := func(root, p string) hierarchy {
		h := hierarchy{root: root}
		if p == "" {
			return h
		}
		// A cgroup of threads has no list of processes, and one of v1 has tasks.
		for _, list := range []string{"cgroup.procs", "cgroup.threads", "tasks"} {
			procs, err := l.file(filepath.Join(root, p, list))
			if err == nil && slices.Contains(strings.Fields(procs), strconv.Itoa(l.pid)) {
				h.path = p
				break
			}
		}
		return h
	}
	c := cgroupPlaces{version: "v2", v1: map[string]hierarchy{}}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		c.v2 = at(cgroupRoot, v2)
		return c, nil
	}
	c.version = "v1"
	if v2 != "" {
		if unix.Statfs(cgroupRoot+"/unified", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			c.v2, c.version = at(cgroupRoot+"/unified", v2), "hybrid"
		}
	}
	for name, p := range v1 {
		if name = strings.TrimPrefix(name, "name="); filepath.IsLocal(name) {
			c.v1[name] = at(filepath.Join(cgroupRoot, name), p)
		}
	}
	return c, nil
}

func (l *looker) lookCgroups() error {
	b, err := l.read("cgroup")
	if err != nil {
		return err
	}
	c, err := l.places(string(b))
	if err != nil {
		return err
	}
	l.groups, l.f.CgroupVersion = c, c.version
	lim := &l.f.Limits
	d := &l.f.drift
	d.ownLimits = map[string]int64{}
	for _, k := range []struct {
		name, controller, v1, v2 string
		into                     **int64
	}{
		{"memory", "memory", "memory.limit_in_bytes", "memory.max", &lim.Memory},
		{"swap", "memory", "memory.memsw.limit_in_bytes", "memory.swap.max", &lim.Swap},
		{"pids", "pids", "pids.max", "pids.max", &lim.Pids},
	} {
		h, unified := c.of(k.controller)
		file := k.v1
		if unified {
			file = k.v2
		}
		least, own, ok := l.smallest(h, file)
		if !ok {
			lim.Unknown = append(lim.Unknown, k.name)
			d.noController = d.noController || h.path != "" && k.name != "swap"
			continue
		}
		if own >= 0 {
			d.ownLimits[k.name] = own
		} else {
			d.ownLimits[k.name] = math.MaxInt64
		}
		d.unified = d.unified || unified && k.controller == "memory"
		if least >= 0 {
			*k.into = &least
		}
	}
	// In v1 swap is counted together with memory.
	if _, unified := c.of("memory"); !unified && lim.Swap != nil && lim.Memory != nil {
		v := max(*lim.Swap-*lim.Memory, 0)
		lim.Swap = &v
	}
	l.lookCPU(c)
	return l.lookDeviceRules(c)
}

// smallest gives the least value of a file from the container's cgroup up to
// the root, and the cgroup's own; -1 is none.
func (l *looker) smallest(h hierarchy, file string) (least, own int64, ok bool) {
	least, own = -1, -1
	if h.path == "" {
		return -1, -1, false
	}
	for p := path.Clean(h.path); ; p = path.Dir(p) {
		text, err := l.cgroupFile(filepath.Join(h.root, p), file)
		switch {
		case err == nil:
			if v, good := amount(text); good {
				if !ok {
					own = v
				}
				ok = true
				if v >= 0 && (least < 0 || v < least) {
					least = v
				}
			}
		case p == "/":
			// The root has no limits and no files for them.
		case !ok && h.path == p:
			return -1, -1, false
		}
		if p == "/" {
			// In the root itself there is nothing above and no limit.
			return least, own, ok || h.path == "/"
		}
	}
}

// amount reads a limit: -1 for none, which v1 writes as a number near the
// largest there is.
func amount(text string) (int64, bool) {
	if text == "max" || text == "-1" {
		return -1, true
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, false
	}
	if n >= 1<<62 {
		return -1, true
	}
	return int64(n), true
}

func (l *looker) lookCPU(c cgroupPlaces) {
	h, unified := c.of("cpu")
	if h.path == "" {
		l.f.Limits.Unknown = append(l.f.Limits.Unknown, "cpus")
		return
	}
	for p := path.Clean(h.path); ; p = path.Dir(p) {
		dir := filepath.Join(h.root, p)
		var text string
		if unified {
			text, _ = l.cgroupFile(dir, "cpu.max")
		} else {
			quota, _ := l.cgroupFile(dir, "cpu.cfs_quota_us")
			period, _ := l.cgroupFile(dir, "cpu.cfs_period_us")
			text = quota + " " + period
		}
		if v, ok := cpus(text); ok && (l.f.Limits.CPUs == nil || v < *l.f.Limits.CPUs) {
			l.f.Limits.CPUs = &v
		}
		if p == "/" {
			return
		}
	}
}

// cpus reads "QUOTA PERIOD".
func cpus(text string) (float64, bool) {
	f := strings.Fields(text)
	if len(f) != 2 {
		return 0, false
	}
	quota, err1 := strconv.ParseInt(f[0], 10, 64)
	period, err2 := strconv.ParseInt(f[1], 10, 64)
	if err1 != nil || err2 != nil || quota <= 0 || period <= 0 {
		return 0, false
	}
	return math.Round(1000*float64(quota)/float64(period)) / 1000, true
}
