package profiles

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// TestNoRecorder: nothing is loaded into the kernel for a run nobody asked to
// be watched, and what is loaded for another goes with its launcher, however
// that ends. Recorders of others may be at work on the machine, so what counts
// are the launcher's own.
func TestNoRecorder(t *testing.T) {
	t.Run("plain", func(t *testing.T) {
		r := recorded(t)
		if held := r.held(t); len(held) != 0 {
			t.Errorf("the launcher holds %q", held)
		}
		r.end(t, syscall.SIGTERM)
	})
	for _, flag := range []string{"--explain", "--complain"} {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
			t.Run(flag+" "+sig.String(), func(t *testing.T) {
				r := recorded(t, flag)
				programs := r.programs(t)
				if held := r.held(t); len(held) == 0 || len(programs) == 0 {
					t.Fatalf("the launcher holds %q, programs %d", held, programs)
				}
				for _, id := range programs {
					if !loaded(t, id) {
						t.Errorf("program %d is not loaded", id)
					}
				}
				r.end(t, sig)
				deadline := time.Now().Add(20 * time.Second) // the kernel frees them when nobody can be running them
				for slices.ContainsFunc(programs, func(id ebpf.ProgramID) bool { return loaded(t, id) }) {
					if time.Now().After(deadline) {
						t.Fatalf("some of the programs %d are still loaded", programs)
					}
					time.Sleep(20 * time.Millisecond)
				}
			})
		}
	}
}

// launcher is a safe-run whose container runs.
type launcher struct{ cmd *exec.Cmd }

func recorded(t *testing.T, flags ...string) launcher {
	t.Helper()
	args := append([]string{"run", "--rm", "--network", "none", "--init"}, flags...)
	cmd := exec.Command(here.Bin, append(args, "busybox", "sh", "-c", "echo ready; exec sleep 600")...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l := launcher{cmd}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			l.end(t, syscall.SIGKILL)
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		_ = cmd.Wait()
		t.Fatalf("%q, %v: %s", line, err, errs.String())
	}
	return l
}

// end waits for the end, and has the container of a killed launcher removed.
func (l launcher) end(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := l.cmd.Process.Signal(sig); err != nil {
		t.Error(err)
	}
	_ = l.cmd.Wait()
	if a := here.Run("images", "-q"); a.Code != 0 {
		t.Error(a)
	}
}

// held are the descriptors the launcher has of BPF objects.
func (l launcher) held(t *testing.T) (all []string) {
	t.Helper()
	for _, fd := range l.descriptors(t, "fd") {
		// One may be closed while we look.
		if to, err := os.Readlink(fd); err == nil && strings.Contains(to, "bpf") {
			all = append(all, to)
		}
	}
	return all
}

// programs are the ids of the launcher's programs.
func (l launcher) programs(t *testing.T) (ids []ebpf.ProgramID) {
	t.Helper()
	for _, file := range l.descriptors(t, "fdinfo") {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			value, ok := strings.CutPrefix(line, "prog_id:")
			if !ok {
				continue
			}
			id, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, ebpf.ProgramID(id))
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func (l launcher) descriptors(t *testing.T, of string) []string {
	t.Helper()
	all, err := filepath.Glob(fmt.Sprintf("/proc/%d/%s/*", l.cmd.Process.Pid, of))
	if err != nil || len(all) == 0 {
		t.Fatalf("descriptors of the launcher: %d, %v", len(all), err)
	}
	return all
}

func loaded(t *testing.T, id ebpf.ProgramID) bool {
	t.Helper()
	p, err := ebpf.NewProgramFromID(id)
	if err == nil {
		_ = p.Close()
		return true
	}
	if !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return false
}
