package audit

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf/asm"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// devtmpfs mounts the host's devices, of which a kernel has one file system,
// and makes a directory with a disk and the usual null device in it.
func devtmpfs(t *testing.T) (dir string) {
	t.Helper()
	all := t.TempDir()
	must(t, unix.Mount("x", all, "devtmpfs", 0, ""))
	t.Cleanup(func() { _ = unix.Unmount(all, unix.MNT_DETACH) })
	dir, err := os.MkdirTemp(all, "audit-test")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Mkdir(dir+"/deep", 0o755))
	must(t, unix.Mknod(dir+"/deep/disk", unix.S_IFBLK|0o600, int(unix.Mkdev(8, 0))))
	must(t, unix.Mknod(dir+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	return dir
}

// TestDeviceMounts: devices of the host are found wherever they are mounted:
// a directory of them, a single node of any file system, and what something
// else is mounted upon.
func TestDeviceMounts(t *testing.T) {
	host := devtmpfs(t)
	own := filepath.Join(t.TempDir(), "mem")
	must(t, unix.Mknod(own, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 1))))
	all := []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	for name, tc := range map[string]struct {
		rules []specs.LinuxDeviceCgroup
		s     Severity
		also  string
	}{
		"allowed": {all, Critical, ""},
		"denied":  {[]specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}, Low, ", which may not be opened"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, bind := bundle(t)
			s := strict(bind, "/bin/busybox", "sleep", "100")
			hostUsers(s)
			s.Linux.Resources.Devices = tc.rules
			for _, b := range []struct{ from, to string }{
				{host, "/data"}, {own, "/node"}, {host + "/null", "/nothing"}, {host + "/deep/disk", "/covered"}, {own, "/covered"},
			} {
				bindOf(b.from, b.to)(s)
			}
			f := looked(t, running(t, dir, s).pid)
			found, _ := Grade(f, nil, nil)
			for _, want := range []Finding{
				{ID: "devices", Severity: tc.s, Fact: "a disk" + tc.also + ": /covered (8:0), /data/deep/disk (8:0)"},
				{ID: "devices", Severity: tc.s, Fact: "the host's memory" + tc.also + ": /covered (1:1), /node (1:1)"},
				{ID: "host-files", Severity: Critical, Fact: " of the host is at /data"},
			} {
				if !slices.ContainsFunc(found, func(x Finding) bool {
					return x.ID == want.ID && x.Severity == want.Severity && strings.Contains(x.Fact, want.Fact)
				}) {
					t.Errorf("no %s %s: %s", want.Severity, want.ID, want.Fact)
				}
			}
			if len(f.Devices.Nodes) != 4 || len(f.Unread) > 0 {
				t.Errorf("%+v, unread %q", f.Devices.Nodes, f.Unread)
			}
			if t.Failed() {
				for _, x := range found {
					if x.ID == "devices" || x.ID == "host-files" || x.ID == "device-rules" {
						t.Logf("%s: %s: %s", x.Severity, x.ID, x.Fact)
					}
				}
			}
		})
	}
}

// TestManyDeviceMounts: what is looked at is bounded, and what is not is told.
func TestManyDeviceMounts(t *testing.T) {
	var entries []*mountEntry
	for range 2 * maxDeviceMounts {
		entries = append(entries, &mountEntry{fs: "tmpfs", root: "/x", point: "/x"})
	}
	in := inside{}
	in.mountedDevices(&walker{mountTable: &mountTable{root: -1}}, entries)
	if len(in.unread) != 1 || in.deviceMounts != maxDeviceMounts+1 {
		t.Errorf("%d, %q", in.deviceMounts, in.unread)
	}
}

// TestMayOpen: either access opens a device, and a program nobody understands
// keeps nothing from being opened.
func TestMayOpen(t *testing.T) {
	reads := asm.Instructions{ // access >> 16 & read
		asm.LoadMem(asm.R0, asm.R1, 0, asm.Word), asm.RSh.Imm32(asm.R0, 16), asm.And.Imm32(asm.R0, accRead), asm.Return(),
	}
	none := asm.Instructions{asm.Mov.Imm32(asm.R0, 0), asm.Return()}
	strange := asm.Instructions{asm.FnGetCurrentTask.Call(), asm.Return()}
	for _, tc := range []struct {
		programs []asm.Instructions
		want     bool
	}{
		{nil, true},
		{[]asm.Instructions{reads}, true},
		{[]asm.Instructions{none}, false},
		{[]asm.Instructions{reads, none}, false},
		{[]asm.Instructions{strange}, true},
		{[]asm.Instructions{strange, none}, false},
	} {
		if got := mayOpen(tc.programs, Device{Type: "block", Major: 8}); got != tc.want {
			t.Errorf("%v: %v", tc.programs, got)
		}
	}
}
