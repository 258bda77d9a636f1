//go:build measure

package spec

import (
	"os"
	"os/exec"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// TestRuntimeCreateCost prints what the parts of a spec cost `runc create`,
// which is on the way of every launch. It measures only when asked to:
// go test -tags measure -run CreateCost -v ./spec
func TestRuntimeCreateCost(t *testing.T) {
	in := hostInput(t)
	in.ID = testID(t)
	in.Workload.Args = []string{"true"}
	dir := bundle(t, in)
	drop := func(targets ...string) func(*specs.Spec) {
		return func(s *specs.Spec) {
			var kept []specs.Mount
			for _, m := range s.Mounts {
				found := false
				for _, d := range targets {
					found = found || m.Destination == d
				}
				if !found {
					kept = append(kept, m)
				}
			}
			s.Mounts = kept
		}
	}
	cases := []struct {
		name   string
		change func(*specs.Spec)
	}{
		{"all", func(*specs.Spec) {}},
		{"without seccomp", func(s *specs.Spec) { s.Linux.Seccomp = nil }},
		{"ioctl without its 17 rules", func(s *specs.Spec) {
			var kept []specs.LinuxSyscall
			for _, r := range s.Linux.Seccomp.Syscalls {
				if r.Names[0] != "ioctl" {
					kept = append(kept, r)
				}
			}
			s.Linux.Seccomp.Syscalls = kept
			s.Linux.Seccomp.Syscalls[0].Names = append(s.Linux.Seccomp.Syscalls[0].Names, "ioctl")
		}},
		{"three architectures", func(s *specs.Spec) {
			s.Linux.Seccomp.Architectures = []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}
		}},
		{"without masked paths", func(s *specs.Spec) { s.Linux.MaskedPaths = nil }},
		{"without read-only paths", func(s *specs.Spec) { s.Linux.ReadonlyPaths = nil }},
		{"without /sys/fs/cgroup", drop("/sys/fs/cgroup")},
		{"without the default tmpfs", drop("/tmp", "/run", "/var/tmp")},
		{"without those against redirects", func(s *specs.Spec) {
			for _, name := range routeSysctls(in.Host) {
				delete(s.Linux.Sysctl, name)
			}
		}},
		{"without sysctls", func(s *specs.Spec) { s.Linux.Sysctl = nil }},
		{"without user namespace", func(s *specs.Spec) {
			dropNamespace(s, specs.UserNamespace)
			s.Linux.UIDMappings, s.Linux.GIDMappings = nil, nil
			delete(s.Linux.Sysctl, nestedUserNS)
		}},
		{"with a time namespace", func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
		}},
		{"without network namespace", func(s *specs.Spec) {
			dropNamespace(s, specs.NetworkNamespace)
			drop("/sys", "/sys/fs/cgroup")(s)
			s.Linux.MaskedPaths = nil
			s.Linux.ReadonlyPaths = nil
			for name := range s.Linux.Sysctl {
				if strings.HasPrefix(name, "net.") {
					delete(s.Linux.Sysctl, name)
				}
			}
		}},
		{"without resource limits", func(s *specs.Spec) {
			s.Linux.Resources.Memory, s.Linux.Resources.Pids = nil, nil
		}},
		{"without device rules", func(s *specs.Spec) { s.Linux.Resources.Devices = s.Linux.Resources.Devices[:1] }},
	}
	runc := runtimeBinary(t)
	state := t.TempDir()
	times := make([][]time.Duration, len(cases))
	for round := range 15 {
		for i, c := range cases {
			s := deepCopy(t, buildVerified(t, in))
			c.change(s)
			writeSpec(t, dir, s)
			id := "measure" + strconv.Itoa(round*100+i)
			cmd := exec.Command(runc, "--root", state, "create", "--bundle", dir, id)
			null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
			must(t, err)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = null, null, null
			start := time.Now()
			err = cmd.Run()
			times[i] = append(times[i], time.Since(start))
			null.Close()
			out, _ := exec.Command(runc, "--root", state, "delete", "-f", id).CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v %s", c.name, err, out)
			}
		}
	}
	var whole time.Duration
	for i, c := range cases {
		sort.Slice(times[i], func(a, b int) bool { return times[i][a] < times[i][b] })
		median := times[i][len(times[i])/2]
		if i == 0 {
			whole = median
		}
		t.Logf("%-30s %6.1f ms (%+.1f)", c.name, ms(median), ms(median-whole))
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
