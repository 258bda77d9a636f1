package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/google/nftables"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	containers "github.com/safe-run/safe-run/internal/engine"
	"github.com/safe-run/safe-run/internal/host"
	"github.com/safe-run/safe-run/internal/idmap"
	"github.com/safe-run/safe-run/learn"
)

// Query says where to look.
type Query struct {
	Engine containers.Request // the containerd that a launch would use
	Root   string             // of safe-run's state that stays
	State  string             // of the state that goes with a reboot
	Init   string             // path of the program for --init, "" if there is none
	Parser string             // path of apparmor_parser, "" if there is none
	Policy error              // of reading the site's policy
	Old    bool               // the policy says allow-old-runtime
	// Ask asks a running containerd for its version, and for the capabilities
	// of its snapshotter.
	Ask func(ctx context.Context, address string) (version string, snapshotter []string, err error)
}

// Gather asks the host. It changes nothing and starts nothing but, for a
// moment, processes of its own; what cannot be had is in the facts.
func Gather(ctx context.Context, q Query) Facts {
	f := Facts{
		Features: host.Probe(), Release: release(), Root: os.Geteuid() == 0 && hostIDs(line("/proc/self/uid_map")), Init: q.Init,
		Systemd: exists("/run/systemd/system"), Policy: text(q.Policy), Sysctls: map[string]string{},
	}
	for _, name := range []string{"kernel.unprivileged_bpf_disabled", "dev.tty.legacy_tiocsti", "kernel.dmesg_restrict"} {
		f.Sysctls[name] = line("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	}
	f.Engine = askEngine(ctx, q)
	f.Storage = storageOf(f.Root, q.Root, q.State)
	f.Users = usersOf()
	f.LSM = LSM{Parser: q.Parser}
	if f.Features.SELinux {
		f.LSM.SELinux = map[string]string{"1": "enforcing"}[line("/sys/fs/selinux/enforce")]
		if f.LSM.SELinux == "" {
			f.LSM.SELinux = "permissive"
		}
	}
	f.Net = networkOf(f.Features.IPv6)
	f.Learn.BTF = exists("/sys/kernel/btf/vmlinux")
	if f.Root {
		if r, err := learn.Open(learn.Denials); err != nil {
			f.Learn.Recorder = err.Error()
		} else if err := r.Close(); err != nil {
			f.Learn.Recorder = err.Error()
		}
	} else {
		f.Learn.Recorder = "only root can load it"
	}
	f.Dirs = dirsOf(q, f.Engine)
	return f
}

func askEngine(ctx context.Context, q Query) Engine {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	e := Engine{AllowOld: q.Old}
	t, running, err := containers.Look(ctx, q.Engine)
	if err != nil {
		e.Problem = err.Error()
		return e
	}
	e.Address, e.Running, e.Own = t.Address, running, t.Engine != nil
	if running {
		v, capabilities, err := q.Ask(ctx, t.Address)
		if err != nil {
			e.Problem = fmt.Sprintf("containerd at %s: %v", t.Address, err)
			return e
		}
		e.Version = "containerd " + v
		e.Old = text(containers.CheckContainerd(v))
		e.Remap = "no"
		if slices.Contains(capabilities, "remap-ids") {
			e.Remap = "yes"
		}
	}
	if e.Runtime, err = t.Runtime("runc"); err != nil {
		e.TooOld = err.Error()
		return e
	}
	e.TooOld = text(containers.CheckRuntime(ctx, e.Runtime))
	return e
}

// pseudo are file systems nobody binds.
var pseudo = []string{
	"proc", "sysfs", "cgroup", "cgroup2", "devpts", "devtmpfs", "mqueue", "debugfs", "tracefs", "securityfs", "bpf", "bpf_fs", "pstore",
	"efivarfs", "configfs", "fusectl", "hugetlbfs", "nsfs", "rpc_pipefs", "binfmt_misc", "autofs", "ramfs", "selinuxfs", "rootfs", "overlay",
}

func storageOf(root bool, dirs ...string) (s Storage) {
	for l := range strings.Lines(head("/proc/filesystems")) {
		s.Overlay = s.Overlay || strings.TrimSpace(strings.TrimPrefix(l, "nodev")) == "overlay"
	}
	// A module that nothing has asked for yet is not in that list.
	s.Overlay = s.Overlay || exists("/lib/modules/"+release()+"/kernel/fs/overlayfs")
	for _, d := range dirs {
		for ; !exists(d) && d != "/"; d = filepath.Dir(d) {
		}
		var st unix.Statfs_t
		if unix.Statfs(d, &st) != nil {
			continue
		}
		s.Space = append(s.Space, Space{Path: d, Bytes: st.Bavail * uint64(st.Bsize), Inodes: st.Ffree, Total: st.Files})
	}
	if root {
		s.Idmap = idmaps()
	}
	return s
}

// idmaps tries, on a copy of a mount that is attached nowhere, what a launch
// does with a bind: for one mount of each type.
func idmaps() (out []Filesystem) {
	ids := fmt.Sprintf("0:%d:%d", 1<<24, idmap.BlockSize)
	userns, err := mount.GetUsernsFD(ids, ids)
	if err != nil {
		return []Filesystem{{Path: "/", Type: "any", Error: err.Error()}}
	}
	defer userns.Close()
	all, err := mountinfo.GetMounts(nil)
	if err != nil {
		return []Filesystem{{Path: "/", Type: "any", Error: err.Error()}}
	}
	for _, m := range bindable(all) {
		out = append(out, Filesystem{Path: m.Mountpoint, Type: m.FSType, Error: text(tryIdmap(m.Mountpoint, userns))})
	}
	return out
}

// bindable are some mounts of types that people bind, the first of each.
func bindable(all []*mountinfo.Info) (some []*mountinfo.Info) {
	seen := map[string]bool{}
	for _, m := range all {
		if !seen[m.FSType] && !slices.Contains(pseudo, m.FSType) && len(some) < 32 {
			seen[m.FSType] = true
			some = append(some, m)
		}
	}
	return some
}

func tryIdmap(path string, userns *os.File) error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_NO_AUTOMOUNT)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userns.Fd())})
}

func usersOf() (u Users) {
	u.MaxUserNS = line("/proc/sys/user/max_user_namespaces")
	var err error
	if u.Blocks, u.Entry, err = idmap.Look(idmap.DefaultFiles()); err != nil {
		u.Error = err.Error()
	}
	return u
}

func networkOf(ipv6 bool) Net {
	n := Net{
		IPv6: ipv6, Forward4: line("/proc/sys/net/ipv4/ip_forward"), Forward6: line("/proc/sys/net/ipv6/conf/all/forwarding"),
		Legacy: head("/proc/net/ip_tables_names") != "" || head("/proc/net/ip6_tables_names") != "",
	}
	c, err := nftables.New()
	if err != nil {
		n.NFTables = err.Error()
		return n
	}
	chains, err := c.ListChains()
	if err != nil {
		n.NFTables, n.Denied = err.Error(), errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
		return n
	}
	for _, ch := range chains {
		if ch.Hooknum != nil && *ch.Hooknum == *nftables.ChainHookForward && ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop {
			n.Cut = append(n.Cut, ch.Table.Name+" "+ch.Name)
		}
	}
	return n
}

// dirsOf looks at the directories through which others would reach the files
// of containers (CVE-2024-25621) or what safe-run keeps of them.
func dirsOf(q Query, e Engine) (out []Dir) {
	dirs := []string{q.Root, q.State}
	if !e.Own && e.Problem == "" {
		dirs = append(dirs, "/var/lib/containerd", filepath.Dir(e.Address))
	}
	for _, d := range dirs {
		var st unix.Stat_t
		switch err := unix.Lstat(d, &st); {
		case errors.Is(err, fs.ErrNotExist):
			continue // made by the first launch
		case err != nil:
			out = append(out, Dir{d, err.Error()})
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			out = append(out, Dir{d, "is no directory"})
		case st.Uid != 0:
			out = append(out, Dir{d, fmt.Sprintf("belongs to uid %d", st.Uid)})
		case st.Mode&0o022 != 0:
			out = append(out, Dir{d, fmt.Sprintf("mode %#o lets others write", st.Mode&0o7777)})
		case st.Mode&0o044 != 0 && !slices.Contains([]string{q.State, filepath.Dir(e.Address)}, d):
			out = append(out, Dir{d, fmt.Sprintf("mode %#o lets others look at the files of containers", st.Mode&0o7777)})
		default:
			out = append(out, Dir{Path: d})
		}
	}
	return out
}

// hostIDs says whether an id map is that of the host: root of a user namespace
// is not root of the host (user_namespaces(7)).
func hostIDs(uidMap string) bool {
	f := strings.Fields(uidMap)
	return len(f) == 3 && f[0] == "0" && f[1] == "0" && f[2] == "4294967295"
}

func release() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

func exists(p string) bool {
	_, err := os.Stat(p)
	return err == nil
}

// head is the beginning of a small file of procfs, "" if there is none.
func head(p string) string {
	f, err := os.Open(p)
	if err != nil {
		return ""
	}
	defer f.Close()
	buf := make([]byte, 64<<10)
	n, _ := f.Read(buf)
	return string(buf[:n])
}

func line(p string) string { return strings.TrimSpace(head(p)) }

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
