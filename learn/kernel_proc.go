package learn

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// idMap is a /proc/PID/uid_map.
type idMap []idRange

type idRange struct{ inside, outside, count uint32 }

// overflowID is what the kernel shows for an id that is not mapped.
const overflowID = 65534

// inside gives the id inside of one outside.
func (m idMap) inside(id uint32) uint32 {
	for _, r := range m {
		if id >= r.outside && id-r.outside < r.count {
			return r.inside + (id - r.outside)
		}
	}
	return overflowID
}

func readIDMap(proc int) (idMap, error) {
	b, err := procFile(proc, "uid_map")
	if err != nil {
		return nil, err
	}
	return parseIDMap(b), nil
}

func parseIDMap(b []byte) (m idMap) {
	s := bufio.NewScanner(bytes.NewReader(b))
	for s.Scan() {
		f := strings.Fields(s.Text())
		if len(f) != 3 {
			continue
		}
		var n [3]uint32
		for i := range n {
			v, err := strconv.ParseUint(f[i], 10, 32)
			if err != nil {
				return m
			}
			n[i] = uint32(v)
		}
		m = append(m, idRange{n[0], n[1], n[2]})
	}
	return m
}

// unifiedCgroup gives the path of a process in the hierarchy of cgroup version
// 2, "" if there is none.
func unifiedCgroup(proc int) (string, error) {
	b, err := procFile(proc, "cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if p, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return p, nil
		}
	}
	return "", nil
}

// procFile reads a file of a process whose directory in /proc is held.
func procFile(proc int, name string) ([]byte, error) {
	fd, err := unix.Openat(proc, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, 1<<20))
}

// readCounter adds a map of counters to another.
func readCounter[K comparable](m *ebpf.Map, to map[K]uint64) error {
	var k K
	var n uint64
	seen := map[K]uint64{} // the walk may pass a key twice
	it := m.Iterate()
	for it.Next(&k, &n) {
		seen[k] = n
	}
	for k, n := range seen {
		to[k] += n
	}
	return it.Err()
}
