package audit

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/capability"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// status compares /proc/PID/status.
func (a *attestation) status() error {
	b, err := a.read("status")
	if err != nil {
		return err
	}
	field := map[string]string{}
	for line := range bytes.Lines(b) {
		k, v, ok := bytes.Cut(line, []byte{':'})
		if ok && wanted[string(k)] {
			field[string(k)] = string(bytes.TrimSpace(v))
		}
	}
	if s := field["State"]; s == "" || s[0] == 'Z' || s[0] == 'X' {
		return errGone
	}
	p := a.spec.Process

	caps := p.Capabilities
	if caps == nil {
		caps = &specs.LinuxCapabilities{}
	}
	most := capMask(caps.Bounding) | capMask(caps.Permitted)
	for _, c := range []struct {
		field string
		names []string
	}{
		{"CapInh", caps.Inheritable},
		{"CapPrm", caps.Permitted},
		{"CapEff", caps.Effective},
		{"CapBnd", caps.Bounding},
		{"CapAmb", caps.Ambient},
	} {
		want := capMask(c.names)
		got, err := strconv.ParseUint(field[c.field], 16, 64)
		switch {
		case err != nil:
			a.differ(c.field, hex(want), field[c.field])
		case a.phase == Created && got != want:
			a.differ(c.field, hex(want), hex(got))
		case a.phase == Started && got&^most != 0:
			a.differ(c.field, "within "+hex(most), hex(got))
		}
	}
	for _, n := range slices.Concat(caps.Inheritable, caps.Permitted, caps.Effective, caps.Bounding, caps.Ambient) {
		if capBit(n) < 0 {
			a.differ("capability", n, "unknown to this kernel")
		}
	}

	if p.NoNewPrivileges {
		a.equal("NoNewPrivs", "1", field["NoNewPrivs"])
	}
	if a.spec.Linux.Seccomp != nil {
		// A program the filter has just killed shows SECCOMP_MODE_DEAD, 3, on
		// its way out (Linux >= 5.18, kernel/seccomp.c).
		if a.phase == Created || field["Seccomp"] != "3" {
			a.equal("Seccomp", "2", field["Seccomp"])
		}
		// Linux >= 5.9 counts the filters.
		if n, ok := field["Seccomp_filters"]; ok && n == "0" {
			a.differ("Seccomp_filters", "at least 1", n)
		}
	}
	a.ids("Uid", a.spec.Linux.UIDMappings, []uint32{p.User.UID, p.User.UID, p.User.UID, p.User.UID}, field["Uid"])
	a.ids("Gid", a.spec.Linux.GIDMappings, []uint32{p.User.GID, p.User.GID, p.User.GID, p.User.GID}, field["Gid"])
	a.ids("Groups", a.spec.Linux.GIDMappings, p.User.AdditionalGids, field["Groups"])
	return nil
}

var wanted = map[string]bool{
	"State": true, "Uid": true, "Gid": true, "Groups": true, "CapInh": true, "CapPrm": true, "CapEff": true,
	"CapBnd": true, "CapAmb": true, "NoNewPrivs": true, "Seccomp": true, "Seccomp_filters": true,
}

func hex(v uint64) string { return fmt.Sprintf("%016x", v) }

// capBit gives the number of CAP_NAME, -1 if there is none of that name.
func capBit(name string) int {
	for _, c := range capability.ListKnown() {
		if strings.EqualFold("CAP_"+c.String(), name) {
			return int(c)
		}
	}
	return -1
}

func capMask(names []string) (mask uint64) {
	for _, n := range names {
		if b := capBit(n); b >= 0 {
			mask |= 1 << b
		}
	}
	return mask
}

// ids compares ids of the container with the host's ids in a line of status.
// Groups are a set. In a started container a process may have changed them,
// but only to others of its namespace.
func (a *attestation) ids(what string, maps []specs.LinuxIDMapping, want []uint32, line string) {
	var got []uint64
	for f := range strings.FieldsSeq(line) {
		n, err := strconv.ParseUint(f, 10, 32)
		if err != nil {
			a.differ(what, fmt.Sprint(want), line)
			return
		}
		got = append(got, n)
	}
	if !a.private(specs.UserNamespace) {
		maps = []specs.LinuxIDMapping{{Size: math.MaxUint32}}
	}
	if a.phase == Started {
		for _, g := range got {
			if !slices.ContainsFunc(maps, func(m specs.LinuxIDMapping) bool {
				return g >= uint64(m.HostID) && g-uint64(m.HostID) < uint64(m.Size)
			}) {
				a.differ(what, "ids of the container's user namespace", line)
				return
			}
		}
		return
	}
	host := make([]uint64, 0, len(want))
	for _, id := range want {
		i := slices.IndexFunc(maps, func(m specs.LinuxIDMapping) bool { return id >= m.ContainerID && id-m.ContainerID < m.Size })
		if i < 0 {
			a.differ(what, fmt.Sprintf("%d inside", id), "an id that is not mapped")
			return
		}
		host = append(host, uint64(maps[i].HostID)+uint64(id-maps[i].ContainerID))
	}
	if what == "Groups" {
		slices.Sort(host)
		slices.Sort(got)
		host, got = slices.Compact(host), slices.Compact(got)
	}
	if !slices.Equal(host, got) {
		a.differ(what, fmt.Sprint(host), fmt.Sprint(got))
	}
}

// idMaps compares uid_map and gid_map, exactly.
func (a *attestation) idMaps() error {
	if !a.private(specs.UserNamespace) {
		return nil
	}
	for _, m := range []struct {
		file string
		want []specs.LinuxIDMapping
	}{
		{"uid_map", a.spec.Linux.UIDMappings},
		{"gid_map", a.spec.Linux.GIDMappings},
	} {
		b, err := a.read(m.file)
		if err != nil {
			return err
		}
		var got []specs.LinuxIDMapping
		for line := range bytes.Lines(b) {
			var v specs.LinuxIDMapping
			if n, err := fmt.Sscan(string(line), &v.ContainerID, &v.HostID, &v.Size); n != 3 || err != nil {
				return fmt.Errorf("%s: %.60q is not a mapping", m.file, line)
			}
			got = append(got, v)
		}
		order := func(a, b specs.LinuxIDMapping) int { return cmp.Compare(a.ContainerID, b.ContainerID) }
		want := slices.SortedFunc(slices.Values(m.want), order)
		slices.SortFunc(got, order)
		if !slices.Equal(want, got) {
			a.differ(m.file, fmt.Sprint(want), fmt.Sprint(got))
		}
	}
	return nil
}

// nsFiles are the names of the namespaces in /proc/PID/ns.
var nsFiles = []struct {
	kind specs.LinuxNamespaceType
	file string
}{
	{specs.CgroupNamespace, "cgroup"},
	{specs.IPCNamespace, "ipc"},
	{specs.MountNamespace, "mnt"},
	{specs.NetworkNamespace, "net"},
	{specs.PIDNamespace, "pid"},
	{specs.UserNamespace, "user"},
	{specs.UTSNamespace, "uts"},
	{specs.TimeNamespace, "time"},
}

// private says whether the spec asks for a namespace of that kind.
func (a *attestation) private(kind specs.LinuxNamespaceType) bool {
	return slices.ContainsFunc(a.spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
}

// namespaces: each one the spec asks for is not the host's, in which this
// process is, and is the very one of the path, where the spec has one.
func (a *attestation) namespaces() error {
	for _, n := range a.spec.Linux.Namespaces {
		i := slices.IndexFunc(nsFiles, func(f struct {
			kind specs.LinuxNamespaceType
			file string
		},
		) bool {
			return f.kind == n.Type
		})
		if i < 0 {
			a.differ("namespace", string(n.Type), "unknown")
			continue
		}
		file := "ns/" + nsFiles[i].file
		got, err := readlink(a.dir, file)
		if err != nil {
			return err
		}
		// Of this thread: the first one of the process, which self is, may have
		// been left in a container's network namespace by whoever wired it.
		own, err := readlink(unix.AT_FDCWD, "/proc/thread-self/"+file)
		if err != nil {
			return fmt.Errorf("own namespace: %w", withoutErrno(err))
		}
		if got == own {
			a.differ(file, "not the host's", got)
			continue
		}
		if n.Path == "" {
			continue
		}
		var st unix.Stat_t
		if err := unix.Stat(n.Path, &st); err != nil {
			a.differ(file, n.Path, err.Error())
			continue
		}
		a.equal(file, fmt.Sprintf("%s:[%d]", nsFiles[i].file, st.Ino), got)
	}
	return nil
}

// withoutErrno keeps an error about this process or the host from being taken
// for the end of the container's.
func withoutErrno(err error) error { return errors.New(err.Error()) }

// rlimitTitles are the names of the limits in /proc/PID/limits.
var rlimitTitles = map[string]string{
	"RLIMIT_CPU":        "Max cpu time",
	"RLIMIT_FSIZE":      "Max file size",
	"RLIMIT_DATA":       "Max data size",
	"RLIMIT_STACK":      "Max stack size",
	"RLIMIT_CORE":       "Max core file size",
	"RLIMIT_RSS":        "Max resident set",
	"RLIMIT_NPROC":      "Max processes",
	"RLIMIT_NOFILE":     "Max open files",
	"RLIMIT_MEMLOCK":    "Max locked memory",
	"RLIMIT_AS":         "Max address space",
	"RLIMIT_LOCKS":      "Max file locks",
	"RLIMIT_SIGPENDING": "Max pending signals",
	"RLIMIT_MSGQUEUE":   "Max msgqueue size",
	"RLIMIT_NICE":       "Max nice priority",
	"RLIMIT_RTPRIO":     "Max realtime priority",
	"RLIMIT_RTTIME":     "Max realtime timeout",
}

// limits compares the resource limits of the process.
func (a *attestation) limits() error {
	if len(a.spec.Process.Rlimits) == 0 {
		return nil
	}
	b, err := a.read("limits")
	if err != nil {
		return err
	}
	got := map[string]string{}
	for line := range strings.Lines(string(b)) {
		for _, title := range rlimitTitles {
			if rest, ok := strings.CutPrefix(line, title+" "); ok {
				if f := strings.Fields(rest); len(f) >= 2 {
					got[title] = f[0] + ":" + f[1]
				}
			}
		}
	}
	number := func(v uint64) string {
		if v == math.MaxUint64 {
			return "unlimited"
		}
		return strconv.FormatUint(v, 10)
	}
	for _, r := range a.spec.Process.Rlimits {
		a.equal(r.Type, number(r.Soft)+":"+number(r.Hard), got[rlimitTitles[r.Type]])
	}
	return nil
}

// oomScore: a process without privilege can raise its own score, not lower it.
func (a *attestation) oomScore() error {
	want := a.spec.Process.OOMScoreAdj
	if want == nil {
		return nil
	}
	b, err := a.read("oom_score_adj")
	if err != nil {
		return err
	}
	got, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil || got < *want || a.phase == Created && got != *want {
		a.differ("oom_score_adj", strconv.Itoa(*want), string(bytes.TrimSpace(b)))
	}
	return nil
}

// label compares the label of AppArmor or SELinux.
func (a *attestation) label() error {
	p := a.spec.Process
	if p.ApparmorProfile != "" {
		// Kernels with more than one LSM have a file for each.
		b, err := a.read("attr/apparmor/current")
		if errors.Is(err, unix.ENOENT) {
			b, err = a.read("attr/current")
		}
		got, err := labelText(b, err)
		if err != nil {
			return err
		}
		if p.ApparmorProfile == "unconfined" {
			a.equal("AppArmor profile", "unconfined", got)
		} else {
			a.equal("AppArmor profile", p.ApparmorProfile+" (enforce)", got)
		}
	}
	if p.SelinuxLabel != "" {
		b, err := a.read("attr/current")
		got, err := labelText(b, err)
		if err != nil {
			return err
		}
		a.equal("SELinux label", p.SelinuxLabel, got)
	}
	return nil
}

// labelText trims a label. A kernel without an LSM answers EINVAL: that is no
// label at all, not an unknown.
func labelText(b []byte, err error) (string, error) {
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return string(bytes.Trim(b, "\x00\n ")), nil
}

// capTable are the names of the capabilities by their numbers.
func capTable() []string {
	known := capability.ListKnown()
	names := make([]string, len(known))
	for i, c := range known {
		names[i] = "CAP_" + strings.ToUpper(c.String())
	}
	return names
}
