package audit

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/fail"
)

// A process that came later with more rights is found, and its name does no
// harm.
func TestWiderProcess(t *testing.T) {
	dir, bind := bundle(t)
	name := "busybox\x1b[2J"
	must(t, os.Symlink("busybox", filepath.Join(dir, "rootfs/bin", name)))
	c := running(t, dir, strict(bind, "/bin/busybox", "sleep", "100"))
	cmd := exec.Command(c.runc, "--root", c.state, "exec", "--cap", "CAP_SYS_ADMIN", c.id, "/bin/"+name, "sleep", "100")
	must(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	var f *Facts
	until(t, "the second process is seen", func() bool {
		f = looked(t, c.pid)
		return slices.ContainsFunc(f.Processes.Wider, func(w WiderProcess) bool { return strings.HasPrefix(w.Command, "busybox") })
	})
	w := f.Processes.Wider[0]
	if !slices.Equal(w.Capabilities, []string{"CAP_SYS_ADMIN"}) || strings.ContainsRune(w.Command, 0x1b) || f.Processes.Count != 2 {
		t.Errorf("%+v", f.Processes)
	}
	findings, _ := Grade(f, c.spec, nil)
	if x := findings[0]; x.ID != "other-processes" || x.Severity != Medium || !strings.Contains(x.Fact, "CAP_SYS_ADMIN") {
		t.Errorf("%+v", x)
	}
}

// A host's listener is not the container's, in a network of its own or in the
// host's.
func TestPorts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	dir, bind := bundle(t)
	s := strict(bind, "/bin/busybox", "nc", "-l", "-p", "47632")
	hostNetwork(s)
	c := running(t, dir, s)
	var ports []Port
	until(t, "it listens", func() bool { ports = looked(t, c.pid).Ports; return len(ports) > 0 })
	if len(ports) != 1 || ports[0].Port != 47632 || !strings.HasPrefix(ports[0].Protocol, "tcp") {
		t.Errorf("%+v", ports)
	}
}

// This process is no container: everything is the host's.
func TestLookHost(t *testing.T) {
	findings, score := Grade(looked(t, os.Getpid()), nil, nil)
	if score != 0 || findings[0].Severity != Critical {
		t.Errorf("score %d, %+v", score, findings[0])
	}
}

func TestLookEnded(t *testing.T) {
	cmd := exec.Command("true")
	must(t, cmd.Start())
	pid := cmd.Process.Pid
	until(t, "it is a zombie", func() bool {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return strings.Contains(string(b), ") Z ")
	})
	if _, err := Look(pid); fail.KindOf(err) != fail.NotFound {
		t.Errorf("a zombie: %v", err)
	}
	must(t, cmd.Wait())
	if _, err := Look(pid); fail.KindOf(err) != fail.NotFound {
		t.Errorf("none: %v", err)
	}
	if _, err := LookNeighbour("x", pid); fail.KindOf(err) != fail.NotFound {
		t.Errorf("neighbour: %v", err)
	}
	n, err := LookNeighbour("x", os.Getpid())
	if err != nil || len(n.UIDMap) == 0 || !strings.HasPrefix(n.UserNS, "user:[") {
		t.Errorf("%+v, %v", n, err)
	}
}

func BenchmarkLook(b *testing.B) {
	dir, bind := bundle(b)
	c := running(b, dir, strict(bind, "/bin/busybox", "sleep", "100"))
	for b.Loop() {
		looked(b, c.pid)
	}
}
