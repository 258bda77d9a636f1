package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// facts are what the kernel says of the probe itself.
type facts struct {
	UID, GID     int
	Groups       []int
	Capabilities map[string]string // set -> hex mask, as in /proc/self/status
	NoNewPrivs   string
	Seccomp      string // 0 off, 1 strict, 2 filter
	Filters      string // how many seccomp filters
	LSM          string
	UIDMap       [][3]uint64
	GIDMap       [][3]uint64
	Hostname     string
	Root         string   // options of the root mount
	Writable     []string // directories a file can be made in
	Mounts       int
	Limits       map[string]string // cgroup and rlimit values by name
}

// capabilitySets are the five sets, in the order people read them.
var capabilitySets = []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}

// statusFields reads Name:\tvalue lines.
func statusFields(text string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, ":"); ok {
			m[k] = strings.TrimSpace(v)
		}
	}
	return m
}

func idMap(path string) [][3]uint64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var all [][3]uint64
	for line := range strings.Lines(string(text)) {
		var l [3]uint64
		if n, _ := fmt.Sscan(line, &l[0], &l[1], &l[2]); n == 3 {
			all = append(all, l)
		}
	}
	return all
}

// limitFiles: what each limit is called in cgroup v2, or else in v1.
var limitFiles = map[string][]string{
	"memory":      {"memory.max", "memory/memory.limit_in_bytes"},
	"memory+swap": {"memory/memory.memsw.limit_in_bytes"},
	"swap":        {"memory.swap.max"},
	"pids":        {"pids.max", "pids/pids.max"},
	"cpu":         {"cpu.max", "cpu/cpu.cfs_quota_us"},
}

func firstFile(names []string) (string, bool) {
	for _, n := range names {
		if b, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", n)); err == nil {
			return strings.TrimSpace(string(b)), true
		}
	}
	return "", false
}

func gather() facts {
	text, _ := os.ReadFile("/proc/self/status")
	status := statusFields(string(text))
	f := facts{
		UID: os.Getuid(), GID: os.Getgid(), Capabilities: map[string]string{}, Limits: map[string]string{},
		NoNewPrivs: status["NoNewPrivs"], Seccomp: status["Seccomp"], Filters: status["Seccomp_filters"],
		UIDMap: idMap("/proc/self/uid_map"), GIDMap: idMap("/proc/self/gid_map"),
	}
	f.Groups, _ = os.Getgroups()
	f.Hostname, _ = os.Hostname()
	for _, s := range capabilitySets {
		f.Capabilities[s] = status[s]
	}
	if lsm, err := os.ReadFile("/proc/self/attr/current"); err == nil {
		f.LSM = strings.Trim(string(lsm), "\x00\n")
	}
	if f.LSM == "" {
		f.LSM = "none"
	}
	all := mounts()
	f.Mounts = len(all)
	for _, m := range all {
		if m.target == "/" {
			f.Root = strings.Join(m.options, ",")
		}
	}
	for _, m := range writableDirs() {
		f.Writable = append(f.Writable, m.target)
	}
	for name, files := range limitFiles {
		if v, ok := firstFile(files); ok {
			f.Limits[name] = v
		}
	}
	for name, r := range map[string]int{"nofile": syscall.RLIMIT_NOFILE, "core": syscall.RLIMIT_CORE} {
		var l syscall.Rlimit
		if syscall.Getrlimit(r, &l) == nil {
			f.Limits[name] = strconv.FormatUint(l.Cur, 10)
		}
	}
	return f
}

// postureAttempts judge the facts: what a contained program must not find.
func postureAttempts(f facts) []attempt {
	const g = "privileges held"
	judge := func(bad bool, note string) func() outcome {
		return func() outcome {
			if bad {
				return outcome{verdict: open, note: note}
			}
			return outcome{verdict: blocked, note: note}
		}
	}
	var held []string
	for _, s := range capabilitySets {
		if strings.Trim(f.Capabilities[s], "0") != "" || f.Capabilities[s] == "" {
			held = append(held, s+" "+f.Capabilities[s])
		}
	}
	caps := "five empty sets"
	if len(held) > 0 {
		caps = strings.Join(held, ", ")
	}
	return []attempt{
		{"capabilities", g, "any capability, in any set", judge(len(held) > 0, caps)},
		{"no_new_privs", g, "gain rights by a setuid program", judge(f.NoNewPrivs != "1", "no_new_privs "+f.NoNewPrivs)},
		{"seccomp", g, "run without a system call filter", judge(f.Seccomp != "2", "seccomp "+f.Seccomp)},
		{"host-ids", g, "be a user of the host", judge(mapsHost(f.UIDMap) || mapsHost(f.GIDMap), mapText(f.UIDMap))},
		{"no-memory-limit", g, "use all of the machine's memory", judge(unlimited(f.Limits["memory"]), f.Limits["memory"])},
		{"no-pids-limit", g, "fork without limit", judge(unlimited(f.Limits["pids"]), f.Limits["pids"])},
		{"core-dumps", g, "write core dumps", judge(f.Limits["core"] != "0", f.Limits["core"])},
	}
}

// mapsHost: a map that reaches below 65536 holds ids of the host's people
// and services; no map at all is as bad.
func mapsHost(m [][3]uint64) bool {
	for _, l := range m {
		if l[1] < 65536 {
			return true
		}
	}
	return len(m) == 0
}

func mapText(m [][3]uint64) string {
	var parts []string
	for _, l := range m {
		parts = append(parts, fmt.Sprintf("%d-%d is %d-%d on the host", l[0], l[0]+l[2]-1, l[1], l[1]+l[2]-1))
	}
	return strings.Join(parts, ", ")
}

// unlimited knows the words of both cgroup versions. In v1 "no limit" is the
// largest number of pages, near 2^63.
func unlimited(v string) bool {
	n, err := strconv.ParseUint(v, 10, 64)
	return err != nil || n == 0 || n > 1<<62
}
