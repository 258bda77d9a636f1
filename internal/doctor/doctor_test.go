package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"

	"github.com/safe-run/safe-run/internal/host"
	"github.com/safe-run/safe-run/spec"
)

// good is a host with everything.
func good() Facts {
	return Facts{
		Features: spec.Features{
			Kernel: [2]int{6, 12}, Seccomp: true, HasResource: true, NofileHard: 1 << 20, CgroupV2: true, SwapLimit: true, AppArmor: true, IPv6: true,
			Controllers: map[string]bool{"memory": true, "pids": true, "devices": true, "cpu": true, "cpuset": true, "io": true},
		},
		Release: "6.12.0", Root: true, Systemd: true, Init: "/usr/bin/tini",
		Engine: Engine{Address: "/run/containerd/containerd.sock", Running: true, Version: "containerd v2.4.2", Runtime: "/usr/bin/runc", Remap: "yes"},
		Storage: Storage{
			Overlay: true, Idmap: []Filesystem{{Path: "/", Type: "ext4"}},
			Space: []Space{{Path: "/var/lib/safe-run", Bytes: 10 << 30, Inodes: 1e6, Total: 2e6}},
		},
		Users: Users{MaxUserNS: "1000", Entry: true, Blocks: 1000},
		LSM:   LSM{Parser: "/sbin/apparmor_parser"},
		Net:   Net{IPv6: true, Forward4: "1", Forward6: "1"},
		Learn: Learn{BTF: true},
		Dirs:  []Dir{{Path: "/var/lib/safe-run"}},
	}
}

// TestJudge: nothing is said against a good host, and each thing that is
// missing is said once, with its level and with what to do.
func TestJudge(t *testing.T) {
	if all := Judge(good()); Worst(all) != OK {
		t.Errorf("%+v", all)
	}
	for name, c := range map[string]struct {
		spoil func(*Facts)
		id    string
		level Level
	}{
		"old kernel":           {func(f *Facts) { f.Features.Kernel = [2]int{5, 18} }, "kernel-version", Fail},
		"no seccomp":           {func(f *Facts) { f.Features.Seccomp = false }, "seccomp", Fail},
		"not root":             {func(f *Facts) { f.Root = false }, "root", Warn},
		"few files":            {func(f *Facts) { f.Features.NofileHard = 256 }, "nofile", Warn},
		"bpf for all":          {func(f *Facts) { f.Sysctls = map[string]string{"kernel.unprivileged_bpf_disabled": "0"} }, "kernel.unprivileged_bpf_disabled", Note},
		"cgroup v1":            {func(f *Facts) { f.Features.CgroupV2 = false; f.Features.Controllers["blkio"] = true }, "cgroup-version", Warn},
		"no memory controller": {func(f *Facts) { delete(f.Features.Controllers, "memory") }, "cgroup-memory", Fail},
		"no cpuset":            {func(f *Facts) { delete(f.Features.Controllers, "cpuset") }, "cgroup-cpuset", Note},
		"no io":                {func(f *Facts) { delete(f.Features.Controllers, "io") }, "cgroup-io", Note},
		"swap":                 {func(f *Facts) { f.Features.SwapLimit = false }, "swap-limit", Fail},
		"no user namespaces":   {func(f *Facts) { f.Users.MaxUserNS = "0" }, "user-namespaces", Fail},
		"no ids":               {func(f *Facts) { f.Users.Error = "none is free" }, "subordinate-ids", Fail},
		"no overlay":           {func(f *Facts) { f.Storage.Overlay = false }, "overlayfs", Fail},
		"nfs":                  {func(f *Facts) { f.Storage.Idmap[0] = Filesystem{"/home", "nfs4", "invalid argument"} }, "idmap", Note},
		"full":                 {func(f *Facts) { f.Storage.Space[0].Bytes = 1 << 20 }, "space", Fail},
		"nearly full":          {func(f *Facts) { f.Storage.Space[0].Bytes = 1 << 29 }, "space", Warn},
		"no inodes":            {func(f *Facts) { f.Storage.Space[0].Inodes = 3 }, "space", Fail},
		"few inodes":           {func(f *Facts) { f.Storage.Space[0].Inodes = 1000 }, "space", Warn},
		"no containerd":        {func(f *Facts) { f.Engine = Engine{Problem: "there is no containerd"} }, "containerd", Fail},
		"old containerd":       {func(f *Facts) { f.Engine.Old = "containerd 1.7" }, "containerd", Fail},
		"old and allowed":      {func(f *Facts) { f.Engine.Old, f.Engine.AllowOld = "containerd 1.7", true }, "containerd", Warn},
		"old runc":             {func(f *Facts) { f.Engine.TooOld = "runc 1.1" }, "runtime", Fail},
		"copies":               {func(f *Facts) { f.Engine.Remap = "no" }, "snapshotter", Warn},
		"no init":              {func(f *Facts) { f.Init = "" }, "init", Note},
		"no parser":            {func(f *Facts) { f.LSM.Parser = "" }, "lsm", Fail},
		"permissive":           {func(f *Facts) { f.Features.AppArmor, f.LSM.SELinux = false, "permissive" }, "lsm", Warn},
		"no LSM":               {func(f *Facts) { f.Features.AppArmor = false }, "lsm", Warn},
		"no nftables":          {func(f *Facts) { f.Net.NFTables = "protocol not supported" }, "nftables", Fail},
		"may not ask":          {func(f *Facts) { f.Net.NFTables, f.Net.Denied = "operation not permitted", true }, "nftables", Fail},
		"ufw":                  {func(f *Facts) { f.Net.Cut = []string{"filter FORWARD"} }, "firewall", Note},
		"legacy iptables":      {func(f *Facts) { f.Net.Legacy = true }, "firewall", Note},
		"no IPv6":              {func(f *Facts) { f.Net.IPv6 = false }, "ipv6", Note},
		"open directory":       {func(f *Facts) { f.Dirs[0].Problem = "mode 0777" }, "directory", Fail},
		"no BTF":               {func(f *Facts) { f.Learn = Learn{Recorder: "no types"} }, "recorder", Warn},
		"no BPF":               {func(f *Facts) { f.Learn.Recorder = "operation not permitted" }, "recorder", Warn},
		"bad policy":           {func(f *Facts) { f.Policy = "line 3: unknown key" }, "policy", Fail},
		"no systemd":           {func(f *Facts) { f.Systemd = false }, "systemd", Note},
	} {
		f := good()
		c.spoil(&f)
		var found []Check
		for _, x := range Judge(f) {
			if x.Level != OK {
				found = append(found, x)
			}
		}
		if len(found) != 1 || found[0].ID != c.id || found[0].Level != c.level || found[0].Fix == "" || found[0].Found == "" {
			t.Errorf("%s: %+v", name, found)
		}
	}
}

// TestNotRoot: what only root may ask is not known, and no failure.
func TestNotRoot(t *testing.T) {
	f := good()
	f.Root, f.Net.NFTables, f.Net.Denied, f.Learn.Recorder = false, "operation not permitted", true, "only root can load it"
	if all := Judge(f); Worst(all) != Warn {
		t.Errorf("%+v", all)
	}
	for text, want := range map[string]bool{
		"         0          0 4294967295": true, "0 0 1": false, "0 1000 1": false, "0 100000 65536": false, "": false, "0 0 4294967295\n1 1 1": false,
	} {
		if hostIDs(text) != want {
			t.Errorf("%q", text)
		}
	}
}

// TestGather looks at this host, which runs these tests, and so containers.
func TestGather(t *testing.T) {
	dir := t.TempDir()
	q := Query{Root: dir, State: dir, Ask: func(context.Context, string) (string, []string, error) {
		return "", nil, errors.New("nobody there")
	}}
	q.Engine.System, q.Engine.Bin = dir+"/no.sock", dir
	f := Gather(t.Context(), q)
	if !strings.Contains(f.Engine.Problem, "there is no containerd") {
		t.Errorf("engine: %+v", f.Engine)
	}
	if !f.Storage.Overlay || len(f.Storage.Idmap) == 0 || len(f.Storage.Space) != 2 || f.Storage.Space[0].Bytes == 0 {
		t.Errorf("storage: %+v", f.Storage)
	}
	if f.Users.Error != "" || f.Users.Blocks == 0 || f.Net.NFTables != "" || f.Release == "" || !f.Root {
		t.Errorf("%+v, %+v, %q", f.Users, f.Net, f.Release)
	}
	if f.Learn.Recorder != "" || !f.Learn.BTF {
		t.Errorf("learn: %+v", f.Learn)
	}
	if want := host.Probe(); f.Features.Kernel != want.Kernel {
		t.Errorf("kernel %v, wanted %v", f.Features.Kernel, want.Kernel)
	}
	b, err := json.Marshal(Judge(f))
	if err != nil || !strings.Contains(string(b), `"level":"fail"`) {
		t.Errorf("%s, %v", b, err)
	}
}

// TestBindable: of each type of file system that people bind the first mount,
// under its own name, which anybody may have chosen.
func TestBindable(t *testing.T) {
	const table = `22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 0:5 / /proc rw - proc proc rw
24 22 8:2 / /srv/my\040data\011\012x rw shared:7 master:1 - xfs /dev/sdb1 rw
25 22 8:3 / /mnt rw - ext4 /dev/sdc1 rw
26 22 0:40 / /home/u/\342\200\256m rw - fuse.sshfs u@h:/ rw
`
	all, err := mountinfo.GetMountsFromReader(strings.NewReader(table), nil)
	if err != nil {
		t.Fatal(err)
	}
	f, said := good(), ""
	f.Storage.Idmap = nil
	for _, m := range bindable(all) {
		f.Storage.Idmap = append(f.Storage.Idmap, Filesystem{Path: m.Mountpoint, Type: m.FSType})
	}
	for _, c := range Judge(f) {
		if c.ID == "idmap" {
			said += c.Found + "; "
		}
	}
	want := `binds of ext4 on / get the container's ids; ` +
		`binds of xfs on "/srv/my data\t\nx" get the container's ids; ` +
		`binds of fuse.sshfs on "/home/u/\u202em" get the container's ids; `
	if said != want {
		t.Errorf("%s\nwant %s", said, want)
	}
}
