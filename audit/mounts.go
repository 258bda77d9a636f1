package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// mountEntry is a line of /proc/PID/mountinfo (proc_pid_mountinfo(5)).
type mountEntry struct {
	id      uint64
	dev     string // major:minor of the filesystem
	root    string // what of the filesystem is mounted
	point   string
	options []string // of this mount: ro, nosuid, idmapped
	shared  bool
	slave   bool
	peers   string // the group it shares mounts with
	fs      string
	super   []string // of the filesystem: size=, nr_inodes=
}

func (e *mountEntry) has(o string) bool { return slices.Contains(e.options, o) }

func parseMountinfo(b []byte) ([]mountEntry, error) {
	out := make([]mountEntry, 0, 64)
	for line := range bytes.Lines(b) {
		e, err := parseMount(string(line))
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

func parseMount(line string) (mountEntry, error) {
	// The kernel escapes no other space than blank, tab and newline: a path
	// with one in it would be taken for more than one field.
	f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
	dash := 6
	for dash < len(f) && f[dash] != "-" {
		dash++
	}
	if len(f) < dash+4 {
		return mountEntry{}, fmt.Errorf("mountinfo: %.100q is not a mount", line)
	}
	id, err := strconv.ParseUint(f[0], 10, 64)
	if err != nil {
		return mountEntry{}, fmt.Errorf("mountinfo: %.100q is not the id of a mount", f[0])
	}
	e := mountEntry{
		id: id, dev: f[2], root: unescape(f[3]), point: unescape(f[4]), options: strings.Split(f[5], ","),
		fs: f[dash+1], super: strings.Split(f[dash+3], ","),
	}
	for _, o := range f[6:dash] {
		if group, ok := strings.CutPrefix(o, "shared:"); ok {
			e.shared, e.peers = true, group
		}
		e.slave = e.slave || strings.HasPrefix(o, "master:")
	}
	return e, nil
}

// unescape undoes the kernel's octal escapes of space, tab, newline and
// backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// mountTable is what a container has mounted, and what of it is accounted for.
type mountTable struct {
	root    int // its root directory
	entries []mountEntry
	byID    map[uint64]*mountEntry
	claims  map[string]int // mount point -> number of mounts that may be there
}

// place is a path inside the container as the kernel resolves it.
type place struct {
	stat  unix.Statx_t
	entry *mountEntry // the mount the path leads to
}

// at says whether the path is the root of its mount, not something in it.
func (p *place) at() bool { return p.stat.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 }

func (p *place) rdev(major, minor uint32) bool {
	return p.stat.Mode&unix.S_IFMT == unix.S_IFCHR && p.stat.Rdev_major == major && p.stat.Rdev_minor == minor
}

func (p *place) dir() bool { return p.stat.Mode&unix.S_IFMT == unix.S_IFDIR }

// look resolves a path as the container's processes would, and never leaves
// its root.
func (t *mountTable) look(p string) (*place, error) {
	fd, err := unix.Openat2(t.root, p, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, withoutErrnoUnless(err, unix.ENOENT, unix.ENOTDIR)
	}
	defer func() { _ = unix.Close(fd) }()
	return t.lookFD(fd)
}

func (t *mountTable) lookFD(fd int) (*place, error) {
	var out place
	// Without asking a file server (FUSE, NFS) that may never answer.
	const mask = unix.STATX_TYPE | unix.STATX_MODE | unix.STATX_INO | unix.STATX_MNT_ID
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, mask, &out.stat); err != nil {
		return nil, withoutErrno(err)
	}
	if out.stat.Mask&unix.STATX_MNT_ID == 0 || out.stat.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return nil, errors.New("this kernel does not tell the mount of a path (Linux >= 5.8 does)")
	}
	out.entry = t.byID[out.stat.Mnt_id]
	if out.entry == nil {
		return nil, errors.New("the path leads to a mount that is not in mountinfo")
	}
	return &out, nil
}

// withoutErrnoUnless keeps the error numbers the caller looks for.
func withoutErrnoUnless(err error, keep ...unix.Errno) error {
	for _, k := range keep {
		if errors.Is(err, k) {
			return err
		}
	}
	return withoutErrno(err)
}

func absent(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) }

// mounts compares what is mounted: all that the spec asks for is there, with
// its flags and from its source, and nothing else is.
func (a *attestation) mounts() error {
	if !a.private(specs.MountNamespace) {
		a.differ("mount namespace", "one of the container's own", "not in the spec")
		return nil
	}
	b, err := a.read("mountinfo")
	if err != nil {
		return err
	}
	t := &mountTable{claims: map[string]int{}}
	if t.entries, err = parseMountinfo(b); err != nil {
		return err
	}
	t.byID = make(map[uint64]*mountEntry, len(t.entries))
	for i := range t.entries {
		t.byID[t.entries[i].id] = &t.entries[i]
	}
	t.root, err = unix.Openat(a.dir, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return pathError("root", err)
	}
	defer func() { _ = unix.Close(t.root) }()

	a.rootMount(t)
	trees := a.specMounts(t)
	a.masked(t)
	a.readonly(t)
	a.devices(t)
	a.unexpected(t, trees)
	return nil
}

func (a *attestation) rootMount(t *mountTable) {
	p, err := t.lookFD(t.root)
	if err != nil {
		a.differ("mount /", "there", err.Error())
		return
	}
	if p.entry.point != "/" || !p.at() {
		a.differ("mount /", "the root of a mount of its own", p.entry.point)
	}
	if a.spec.Root.Readonly && !p.entry.has("ro") {
		a.differ("mount /", "ro", strings.Join(p.entry.options, ","))
	}
	t.claims["/"]++
}

// tree is a mount below which others are expected.
type tree struct {
	point string
	flags flags
	fs    string // only mounts of filesystems that begin so
}

// flags is what the options of a mount in the spec come to. The last of a
// pair counts, as for the runtime.
type flags struct {
	want      map[string]bool // options mountinfo must show
	sub       map[string]bool // the same for mounts below a recursive bind
	bind, rec bool
	private   bool
	share     bool // shared or slave on request
	data      map[string]string
}

// optionPairs: what each flag of a mount turns on or off in mountinfo.
var optionPairs = map[string]struct {
	shown string
	on    bool
}{
	"ro": {"ro", true}, "rw": {"ro", false},
	"nosuid": {"nosuid", true}, "suid": {"nosuid", false},
	"nodev": {"nodev", true}, "dev": {"nodev", false},
	"noexec": {"noexec", true}, "exec": {"noexec", false},
	"nosymfollow": {"nosymfollow", true}, "symfollow": {"nosymfollow", false},
}

func flagsOf(m specs.Mount) flags {
	f := flags{want: map[string]bool{}, sub: map[string]bool{}, data: map[string]string{}, bind: m.Type == "bind"}
	for _, o := range m.Options {
		if p, ok := optionPairs[o]; ok {
			f.want[p.shown] = p.on
			continue
		}
		if p, ok := optionPairs[strings.TrimPrefix(o, "r")]; ok && strings.HasPrefix(o, "r") {
			f.want[p.shown], f.sub[p.shown] = p.on, p.on
			continue
		}
		switch o {
		case "bind":
			f.bind = true
		case "rbind":
			f.bind, f.rec = true, true
		case "private", "rprivate":
			f.private = true
		case "shared", "rshared", "slave", "rslave":
			f.share = true
		case "idmap":
			f.want["idmapped"] = true
		case "ridmap":
			f.want["idmapped"], f.sub["idmapped"] = true, true
		default:
			if k, v, ok := strings.Cut(o, "="); ok {
				f.data[k] = v
			}
		}
	}
	if len(m.UIDMappings) > 0 || len(m.GIDMappings) > 0 {
		f.want["idmapped"] = true
	}
	return f
}

// specMounts compares each mount of the spec and gives those that may have
// others below them.
func (a *attestation) specMounts(t *mountTable) []tree {
	var trees []tree
	for _, m := range a.spec.Mounts {
		what := fmt.Sprintf("mount %.200q", m.Destination)
		p, err := t.look(m.Destination)
		if err != nil {
			a.differ(what, "there", err.Error())
			continue
		}
		if !p.at() {
			a.differ(what, "a mount", fmt.Sprintf("nothing is mounted there, it is part of %.200q", p.entry.point))
			continue
		}
		t.claims[p.entry.point]++
		f := flagsOf(m)
		if slices.Contains(a.mapped, m.Source) {
			f.want["idmapped"] = true
			if f.rec {
				f.sub["idmapped"] = true
			}
		}
		a.flags(what, f, p.entry)
		switch {
		case f.bind:
			a.source(what, m, p)
			if path.Clean(m.Destination) == "/sys" {
				a.sysfs(what, p)
			}
			if f.rec {
				trees = append(trees, tree{point: p.entry.point, flags: flags{want: f.sub, private: f.private, share: f.share}})
			}
		case m.Type == "cgroup" || m.Type == "cgroup2":
			// With cgroup v1 it is a tmpfs with one mount for each controller.
			if !slices.Contains([]string{"cgroup", "cgroup2", "tmpfs"}, p.entry.fs) {
				a.differ(what, m.Type, p.entry.fs)
			}
			if p.entry.fs == "tmpfs" {
				trees = append(trees, tree{point: p.entry.point, fs: "cgroup", flags: f})
			}
		default:
			a.equal(what, m.Type, p.entry.fs)
		}
		if m.Type == "tmpfs" {
			a.tmpfs(what, f, p.entry)
		}
	}
	return trees
}

// flags compares the flags and the propagation of a mount.
func (a *attestation) flags(what string, f flags, e *mountEntry) {
	for o, on := range f.want {
		// A filesystem can be read-only as a whole; a bind of it only as a
		// mount, for the filesystem may become writable again.
		if on && !e.has(o) && (f.bind || !slices.Contains(e.super, o)) {
			a.differ(what, o, strings.Join(e.options, ","))
		}
	}
	if e.shared && !f.share {
		a.differ(what, "private", "shared with other mounts")
	}
	if e.slave && f.private {
		a.differ(what, "private", "receives mounts of others")
	}
}

// source: what is bound is the very object the spec names. Between the check
// of a source and its mount somebody may have put another in its place.
func (a *attestation) source(what string, m specs.Mount, p *place) {
	if !path.IsAbs(m.Source) {
		return // relative to the bundle, which is not known here
	}
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, m.Source, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE|unix.STATX_INO, &st)
	if err != nil {
		a.differ(what, "the object at "+m.Source, "that one cannot be looked at: "+err.Error())
		return
	}
	object := func(s *unix.Statx_t) string { return fmt.Sprintf("%d:%d inode %d", s.Dev_major, s.Dev_minor, s.Ino) }
	a.equal(what+" source", object(&st), object(&p.stat))
}

// sysfs: a bound one is a sysfs, and with a joined network namespace not the
// one that shows the host's devices.
func (a *attestation) sysfs(what string, p *place) {
	a.equal(what, "sysfs", p.entry.fs)
	if !slices.ContainsFunc(a.spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace && n.Path != "" }) {
		return
	}
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, "/sys", unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st); err != nil {
		a.differ(what, "not the host's", "that one cannot be looked at: "+err.Error())
		return
	}
	if st.Dev_major == p.stat.Dev_major && st.Dev_minor == p.stat.Dev_minor {
		a.differ(what, "not the host's", "the host's")
	}
}

// tmpfs compares the bounds of a tmpfs.
func (a *attestation) tmpfs(what string, f flags, e *mountEntry) {
	got := map[string]string{}
	for _, o := range e.super {
		if k, v, ok := strings.Cut(o, "="); ok {
			got[k] = v
		}
	}
	if v, ok := f.data["size"]; ok {
		if strings.HasSuffix(v, "%") {
			if got["size"] == "" {
				a.differ(what, "size="+v, "no size")
			}
		} else if want, ok := size(v); !ok || pages(want) != pages(sizeOrZero(got["size"])) {
			a.differ(what, "size="+v, "size="+got["size"])
		}
	}
	if v, ok := f.data["nr_inodes"]; ok {
		want, okWant := size(v)
		have, okHave := size(got["nr_inodes"])
		if !okWant || !okHave || want != have {
			a.differ(what, "nr_inodes="+v, "nr_inodes="+got["nr_inodes"])
		}
	}
	if v, ok := f.data["mode"]; ok {
		want, err := strconv.ParseUint(v, 8, 32)
		have := uint64(0o1777) // the kernel leaves its default out
		if m, ok := got["mode"]; ok {
			have, _ = strconv.ParseUint(m, 8, 32)
		}
		if err != nil || want&0o7777 != have {
			a.differ(what, "mode="+v, fmt.Sprintf("mode=%o", have))
		}
	}
}

// size parses a number with the suffixes the kernel's memparse takes.
func size(s string) (uint64, bool) {
	shift := 0
	if s != "" {
		if i := strings.IndexByte("kmgt", s[len(s)-1]|0x20); i >= 0 {
			shift, s = 10*(i+1), s[:len(s)-1]
		}
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n << shift, err == nil && n<<shift>>shift == n
}

func sizeOrZero(s string) uint64 {
	n, _ := size(s)
	return n
}

// pages rounds up, as tmpfs does.
func pages(n uint64) uint64 {
	page := uint64(os.Getpagesize())
	return (n + page - 1) / page
}

// unexpected: what nothing of the spec accounts for should not be there.
func (a *attestation) unexpected(t *mountTable, trees []tree) {
	there := map[string]int{}
	for i := range t.entries {
		there[t.entries[i].point]++
	}
	for i := range t.entries {
		e := &t.entries[i]
		what := fmt.Sprintf("mount %.200q", e.point)
		if e.shared && t.claims[e.point] == 0 {
			a.differ(what, "private", "shared with other mounts")
		}
		if there[e.point] <= t.claims[e.point] {
			continue
		}
		// The innermost of the trees it is in decides.
		in := -1
		for k, tr := range trees {
			if strings.HasPrefix(e.point, strings.TrimSuffix(tr.point, "/")+"/") && strings.HasPrefix(e.fs, tr.fs) &&
				(in < 0 || len(tr.point) > len(trees[in].point)) {
				in = k
			}
		}
		switch {
		case in < 0:
			a.differ(what, "nothing mounted by others", fmt.Sprintf("%s %s", e.fs, strings.Join(e.options, ",")))
		case t.claims[e.point] == 0:
			a.flags(what, trees[in].flags, e)
		}
		// Else a mount of the spec covers one of the tree's: what can be
		// reached was compared with the spec's.
	}
}
