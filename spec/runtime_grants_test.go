package spec

import (
	"os"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A grant has to work for real with the runtime and the kernel.
func TestRuntimeGrants(t *testing.T) {
	runtimeBinary(t)
	for _, tc := range []struct {
		name   string
		change func(*Input)
		script string
		want   string
	}{
		{"network", func(in *Input) {
			in.Workload.Networks = networks("host")
			in.Grants.HostNetwork = true
		}, `ls /sys/class/net; touch /sys/x; ls /sys/kernel/debug | wc -l`, "/sys/x: "},
		{"pid", func(in *Input) {
			in.Workload.PIDMode = "host"
			in.Grants.HostPID = true
		}, `test $$ != 1 && echo pid of the host; cat /proc/kcore`, "pid of the host"},
		{"ipc", func(in *Input) {
			in.Workload.IPCMode = "host"
			in.Grants.HostIPC = true
		}, `grep -c mqueue /proc/self/mountinfo`, "1"},
		{"user namespace", func(in *Input) {
			in.Workload.UserNSMode = "host"
			in.Grants.HostUserNS = true
		}, `cat /proc/self/uid_map`, "4294967295"},
		{"writable root", func(in *Input) {
			in.Workload.ReadOnly = new(false)
			in.Grants.WritableRootfs = true
		}, `touch /x && echo written`, "written"},
		{"capability", func(in *Input) {
			in.Workload.CapAdd = []string{"SYS_ADMIN"}
			in.Grants.Capabilities = []string{"CAP_SYS_ADMIN"}
		}, `mount -t tmpfs none /tmp && echo mounted >&2; unshare -U true`, "mounted\nunshare: unshare(0x10000000): Operation not permitted"},
		{"device", func(in *Input) {
			in.Workload.Devices = []Device{{Host: "/dev/zero", Container: "/dev/nought"}}
			in.Grants.Devices = []specs.LinuxDevice{{Path: "/dev/nought", Type: "c", Major: 1, Minor: 5}}
			in.DeviceSources = map[string]string{"/dev/nought": "/dev/zero"}
		}, `head -c 5 /dev/nought | wc -c`, "5"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := hostInput(t)
			in.ID = testID(t)
			tc.change(&in)
			if tc.name == "ipc" {
				hostMqueue(t)
			}
			in.Workload.Args = []string{"sh", "-c", tc.script}
			s, err := Build(in)
			must(t, err)
			v := VerifyFor(in)
			if tc.name != "device" { // its source is a plain path here, which Verify refuses
				must(t, Verify(s, v))
			} else if Verify(s, v) == nil {
				t.Error("a path below /dev is accepted as a source")
			}
			dir := bundle(t, in)
			out, code := run(t, dir, s)
			if !strings.Contains(out, tc.want) {
				t.Errorf("exit %d, lacks %q: %s", code, tc.want, out)
			}
			if _, err := os.Stat("/sys/x"); err == nil {
				t.Error("written to the host's /sys")
			}
		})
	}
}

// hostMqueue makes sure that the host has its message queues mounted, as
// every system with systemd has.
func hostMqueue(t *testing.T) {
	t.Helper()
	const dir = "/dev/mqueue"
	if unix.Access(dir, unix.F_OK) == nil {
		return
	}
	must(t, os.Mkdir(dir, 0o755))
	t.Cleanup(func() { _ = os.Remove(dir) })
	must(t, unix.Mount("mqueue", dir, "mqueue", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""))
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}
