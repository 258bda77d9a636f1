package launcher

import (
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func files(t *testing.T, content map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range content {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestUsage(t *testing.T) {
	var u Usage
	u.unified(files(t, map[string]string{
		"cpu.stat": "usage_usec 1500000\nuser_usec 1\n", "memory.current": "1000\n", "memory.max": "4096\n",
		"memory.stat": "anon 1\ninactive_file 300\nactive_file 9\n", "pids.current": "7\n",
		"io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=99 dios=0\n8:16 rbytes=1 wbytes=2 rios=1 wios=1\n",
	}))
	want := Usage{CPU: 1500 * time.Millisecond, Memory: 700, MemoryLimit: 4096, PIDs: 7, BlockRead: 11, BlockWrite: 22}
	if u != want {
		t.Errorf("v2: %+v", u)
	}
	u = Usage{}
	u.hierarchies(files(t, map[string]string{
		"cpuacct/c/cpuacct.usage": "1500000000\n", "memory/c/memory.usage_in_bytes": "1000\n", "memory/c/memory.limit_in_bytes": "4096\n",
		"memory/c/memory.stat": "inactive_file 1\ntotal_inactive_file 300\n", "pids/c/pids.current": "7\n",
		"blkio/c/blkio.throttle.io_service_bytes_recursive": "8:0 Read 11\n8:0 Write 22\n8:0 Total 33\nTotal 33\n",
	}), "c")
	if u != want {
		t.Errorf("v1: %+v", u)
	}
	u = Usage{}
	u.unified(files(t, map[string]string{"memory.current": "5", "memory.stat": "inactive_file 9", "memory.max": "max\n"}))
	if want := (Usage{MemoryLimit: math.MaxUint64}); u != want {
		t.Errorf("without a limit: %+v", u)
	}
}

func TestInterfaces(t *testing.T) {
	var u Usage
	u.interfaces("Inter-|   Receive |  Transmit\n face |bytes    packets errs\n" +
		"    lo:     5       1    0    0    0     0          0         0       5       1    0    0    0     0       0          0\n" +
		"  eth0:    10       1    0    0    0     0          0         0      20       1    0    0    0     0       0          0\n" +
		"  eth1:1       1    0    0    0     0          0         0      2       1    0    0    0     0       0          0\nbroken: 1\n")
	if u.NetReceived != 11 || u.NetSent != 22 {
		t.Errorf("%+v", u)
	}
}

// Numbers of no container are never given.
func TestProcessesOfNothing(t *testing.T) {
	for _, cgroup := range []string{"", "/", "/safe-run/../", "/safe-run/none", "relative"} {
		if pids := Processes(cgroup); pids != nil {
			t.Errorf("%q: %v", cgroup, pids)
		}
		if _, ok := Measure(cgroup); ok {
			t.Errorf("%q is measured", cgroup)
		}
	}
}
