package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// du is the size of the files below a directory, in bytes.
func du(dir string) (n int64) {
	_ = filepath.Walk(dir, func(_ string, st os.FileInfo, err error) error {
		if err == nil && st.Mode().IsRegular() {
			n += st.Size()
		}
		return nil
	})
	return n
}

// TestFlood: a container that writes without end costs the disk its log's
// bound and the supervisor no memory.
func TestFlood(t *testing.T) {
	t.Parallel()
	const name = "e2e-flood"
	amount := "200000000"
	if slowness > 1 {
		amount = "1073741824"
	}
	id := detach(t, "--name", name, "busybox", "sh", "-c", "yes 0123456789012345678901234567890123456789 | head -c "+amount+"; touch /tmp/done; sleep 1000")
	removed(t, name)
	pid := supervisor(t, id)
	logs := filepath.Join(here.root, "containers", id, "log")
	most, size := 0, int64(0)
	eventually(t, 120*time.Second, "the end of the output", func() bool {
		most, size = max(most, dirty(t, pid)), max(size, du(logs))
		return run("exec", name, "test", "-e", "/tmp/done").code == 0
	})
	if most > 40<<10 {
		t.Errorf("the supervisor took %d KiB", most)
	}
	if limit := int64(3*10<<20 + 1<<20); size > limit {
		t.Errorf("the log took %d bytes", size)
	}
	settled(t, pid, busy)
	r := call(request{bin: "/bin/sh", args: []string{"-c", here.bin + " logs -f " + name + " | head -1"}})
	if r.code != 0 || !strings.HasPrefix("0123456789012345678901234567890123456789\n", strings.TrimRight(r.stdout, "\n")) && r.stdout == "" || r.took > patient(5*time.Second) {
		t.Errorf("logs -f | head -1 after %s: %s", r.took, r)
	}
}

// counting is a program that writes numbers, and how far it is to /tmp/n.
const counting = `i=0; while :; do i=$((i+1)); echo $i; [ $((i%500)) = 0 ] && echo $i > /tmp/n; done`

// progress is how far counting is.
func progress(name string) int {
	n, _ := strconv.Atoi(strings.TrimSpace(run("exec", name, "cat", "/tmp/n").stdout))
	return n
}

// TestStuckClient: an attached client that stops reading holds the container
// up for ten seconds at most, and no memory.
func TestStuckClient(t *testing.T) {
	t.Parallel()
	const name = "e2e-stuck"
	id := detach(t, "--name", name, "busybox", "sh", "-c", counting)
	removed(t, name)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	client := exec.Command(here.bin, "attach", "--no-stdin", name)
	client.Stdout = w
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() { _ = client.Process.Kill(); _ = client.Wait() })
	if _, err := r.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	_ = client.Process.Signal(syscall.SIGSTOP)
	before := progress(name)
	// What fits into the sockets and pipes is less than this many lines.
	eventually(t, 30*time.Second, "the container goes on", func() bool { return progress(name) > before+200000 })
	settled(t, supervisor(t, id), busy)
	_ = client.Process.Signal(syscall.SIGCONT)
}

// TestFloodAdopted: a container that floods while nobody supervises it waits,
// and goes on once it is adopted; its log stays readable.
func TestFloodAdopted(t *testing.T) {
	t.Parallel()
	const name = "e2e-flood-adopted"
	id := detach(t, "--name", name, "busybox", "sh", "-c", counting)
	removed(t, name)
	for range 3 {
		eventually(t, 20*time.Second, "progress", func() bool { return progress(name) > 0 })
		_ = syscall.Kill(supervisor(t, id), syscall.SIGKILL)
		before := progress(name)
		eventually(t, 20*time.Second, "progress after an adoption", func() bool { return progress(name) > before+5000 })
		single(t, id)
	}
	r := run("logs", name)
	if r.code != 0 {
		t.Fatal(clip(r.stderr))
	}
	last, odd := 0, 0
	for _, l := range lines(r.stdout) {
		if n, err := strconv.Atoi(l); err == nil && n > last {
			last = n
		} else {
			odd++
		}
	}
	// At each death a part of a line may be lost.
	if odd > 6 || last < 15000 {
		t.Errorf("%d lines that make no sense, the last number is %d", odd, last)
	}
}
