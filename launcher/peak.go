package launcher

import (
	"os"
	"path/filepath"
)

// Peak is the most a container with a cgroup (store.Record.Cgroup) has used at
// once so far: bytes of memory, and processes with their threads. pids is what
// there is now where the kernel keeps no peak (before 6.1, and cgroup v1).
func Peak(cgroup string) (memory, pids uint64) {
	read := func(file string) uint64 {
		b, _ := os.ReadFile(filepath.Join(cgroupfs, file))
		return number(string(b))
	}
	if exists(filepath.Join(cgroupfs, "cgroup.controllers")) {
		// Of both, memory.peak is there since 5.19 and pids.peak since 6.1.
		memory = max(read(cgroup+"/memory.peak"), read(cgroup+"/memory.current"))
		return memory, max(read(cgroup+"/pids.peak"), read(cgroup+"/pids.current"))
	}
	return read("memory/" + cgroup + "/memory.max_usage_in_bytes"), read("pids/" + cgroup + "/pids.current")
}

// PidsReached says whether a fork was refused in a cgroup for its limit.
func PidsReached(cgroup string) bool {
	for _, root := range []string{cgroupfs, filepath.Join(cgroupfs, "pids")} {
		if b, err := os.ReadFile(filepath.Join(root, cgroup, "pids.events")); err == nil {
			return keyed(string(b), "max") > 0
		}
	}
	return false
}
