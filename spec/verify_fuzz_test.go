package spec

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// FuzzVerify: no spec makes the last gate panic, and one it lets through has
// none of the holes that a second look, which knows nothing of its rules,
// finds. The specs are a good one with pieces taken out, put in, or moved.
func FuzzVerify(f *testing.F) {
	in := testInput()
	in.Mounts = []ResolvedMount{
		{Mount: Mount{Origin: "-v", Type: MountBind, Target: "/data"}, HostPath: "/run/safe-run/io/x/mount0", Mapped: true},
		{Mount: Mount{Origin: "-v", Type: MountVolume, Target: "/state"}, HostPath: "/var/lib/safe-run/volumes/a/_data"},
		{Mount: Mount{Origin: "--tmpfs", Type: MountTmpfs, Target: "/scratch"}},
	}
	in.Workload.User = "1000"
	in.User = User{UID: 1000, GID: 1000, Additional: []uint32{5}}
	good, err := Build(in)
	if err != nil {
		f.Fatal(err)
	}
	text, err := json.Marshal(good)
	if err != nil {
		f.Fatal(err)
	}
	// JSON does not tell an empty set of capabilities from none.
	read := func(text []byte) *specs.Spec {
		s := new(specs.Spec)
		if json.Unmarshal(text, s) != nil {
			return nil
		}
		if s.Process != nil && s.Process.Capabilities != nil {
			c := s.Process.Capabilities
			for _, set := range []*[]string{&c.Bounding, &c.Effective, &c.Permitted, &c.Inheritable, &c.Ambient} {
				if *set == nil {
					*set = []string{}
				}
			}
		}
		return s
	}
	if s := read(text); Verify(s, VerifyFor(in)) != nil || holes(s, good, in) != nil {
		f.Fatal(Verify(s, VerifyFor(in)), holes(s, good, in))
	}
	f.Add([]byte{})
	for i := range byte(30) {
		f.Add([]byte{0, i, i * 3, i * 7, i / 2, i})
		f.Add([]byte{0, i, 200, i, 4, i, 1, 2, i})
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var tree any
		if err := json.Unmarshal(text, &tree); err != nil {
			t.Fatal(err)
		}
		b := &bytesSource{data}
		for range 1 + b.next()%3 {
			tree = b.changed(tree)
		}
		changed, err := json.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		s := read(changed)
		if s == nil || Verify(s, VerifyFor(in)) != nil {
			return
		}
		for _, hole := range holes(s, good, in) {
			t.Errorf("let through: %s\n%s", hole, changed)
		}
	})
}

// pieces are put into a spec: fields by name, or values.
func pieces() []string {
	return []string{
		`null`, `""`, `0`, `-1`, `4294967295`, `9223372036854775807`, `true`, `false`, `[]`, `{}`, `"/"`, `"/etc"`, `"/proc/1/ns/net"`, `"host"`, `"unconfined"`,
		`"bind"`, `"rbind"`, `"rshared"`, `"rw"`, `"exec"`, `"suid"`, `"dev"`, `"ro"`, `"size=0"`, `"size=1g"`, `"tmpfs"`, `"overlay"`, `"CAP_SYS_ADMIN"`, `"CAP_CHOWN"`,
		`"SCMP_ACT_ALLOW"`, `"SCMP_ACT_LOG"`, `"SCMP_ACT_TRACE"`, `"time"`, `"a\u0000b"`, `"rwm"`, `"c"`, `"RLIMIT_MEMLOCK"`, `"..//x"`, `"/sys/fs/cgroup"`,
		`{"type":"time","path":"/proc/1/ns/time"}`, `{"type":"network","path":"/proc/1/ns/net"}`, `{"type":"x"}`,
		`{"destination":"/x","type":"bind","source":"/etc","options":["rbind","rro","rnosuid","rnodev","rnoexec"]}`,
		`{"destination":"/x","type":"overlay","source":"overlay","options":["lowerdir=/:/etc","ro","nosuid","nodev","noexec"]}`,
		`{"destination":"/x","type":"none","source":"/etc","options":["bind","ro","nosuid","nodev","noexec"]}`,
		`{"allow":true,"type":"a","access":"rwm"}`, `{"allow":true,"type":"b","major":8,"minor":0,"access":"rwm"}`, `{"names":["bpf","keyctl"],"action":"SCMP_ACT_ALLOW"}`,
		`{"containerID":0,"hostID":0,"size":65536}`, `{"type":"RLIMIT_CORE","soft":1,"hard":18446744073709551615}`,
	}
}

func fields() []string {
	return []string{
		`"hooks":{"createRuntime":[{"path":"/bin/sh"}]}`, `"hooks":{}`, `"annotations":{"a":"b"}`, `"rootfsPropagation":"shared"`, `"devices":[{"path":"/dev/sda","type":"b","major":8,"minor":0}]`,
		`"personality":{"domain":"LINUX32"}`, `"intelRdt":{"closID":"x"}`, `"netDevices":{"eth0":{}}`, `"memoryPolicy":{"mode":"MPOL_BIND"}`, `"timeOffsets":{"boottime":{"secs":1}}`,
		`"scheduler":{"policy":"SCHED_FIFO"}`, `"ioPriority":{"class":"IOPRIO_CLASS_RT"}`, `"execCPUAffinity":{"initial":"0"}`, `"mountLabel":"system_u:object_r:x"`,
		`"listenerPath":"/run/x"`, `"listenerMetadata":"x"`, `"flags":["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]`, `"architectures":["SCMP_ARCH_X86","SCMP_ARCH_PPC"]`, `"unified":{"memory.max":"max"}`, `"rdma":{"a":{}}`,
		`"hugepageLimits":[{"pageSize":"2MB","limit":1}]`, `"network":{"classID":1}`, `"umask":0`, `"username":"root"`, `"additionalGids":[0,65536]`, `"windows":{}`, `"vm":{}`,
		`"uidMappings":[{"containerID":0,"hostID":0,"size":1}]`, `"apparmorProfile":"unconfined"`, `"selinuxLabel":"x"`, `"noNewPrivileges":false`, `"oomScoreAdj":-1000`,
		`"disableOOMKiller":true`, `"limit":-1`, `"swap":-1`, `"realtimeRuntime":1`, `"quota":-1`, `"path":"/proc/1/ns/pid"`, `"kernel.core_pattern":"|/x"`, `"net.ipv4.ip_forward":"1"`, `"readonly":false`,
	}
}

// changed gives a tree with one thing in it changed.
func (b *bytesSource) changed(tree any) any {
	value := func() (v any) {
		all := pieces()
		_ = json.Unmarshal([]byte(all[int(b.next())%len(all)]), &v)
		return v
	}
	switch n := tree.(type) {
	case map[string]any:
		keys := slices.Sorted(maps.Keys(n))
		how := b.next() % 8
		switch {
		case how == 0 && len(keys) > 0:
			delete(n, keys[int(b.next())%len(keys)])
		case how == 1:
			all := fields()
			_ = json.Unmarshal([]byte("{"+all[int(b.next())%len(all)]+"}"), &n)
		case how == 2:
			return value()
		case len(keys) > 0:
			k := keys[int(b.next())%len(keys)]
			n[k] = b.changed(n[k])
		}
		return n
	case []any:
		if len(n) == 0 {
			return append(n, value())
		}
		i := int(b.next()) % len(n)
		switch b.next() % 8 {
		case 0:
			return slices.Delete(n, i, i+1)
		case 1:
			return slices.Insert(n, i, value())
		case 2:
			return append(n, n[i])
		case 3:
			j := int(b.next()) % len(n)
			n[i], n[j] = n[j], n[i]
		default:
			n[i] = b.changed(n[i])
		}
		return n
	}
	return value()
}

// holes are what no spec without grants may have, said again and otherwise.
func holes(s, good *specs.Spec, in Input) (found []string) {
	say := func(bad bool, format string, args ...any) {
		if bad {
			found = append(found, fmt.Sprintf(format, args...))
		}
	}
	p, l := s.Process, s.Linux
	say(!s.Root.Readonly || s.Root.Path != good.Root.Path, "root %+v", s.Root)
	say(!p.NoNewPrivileges, "no_new_privs")
	say(s.Hooks != nil || len(s.Annotations) > 0, "hooks or annotations")
	say(s.Windows != nil || s.VM != nil || s.Solaris != nil || p.Scheduler != nil || p.IOPriority != nil || p.ExecCPUAffinity != nil, "a field")
	say(l.RootfsPropagation != "" || len(l.Devices)+len(l.NetDevices)+len(l.TimeOffsets) > 0 || l.IntelRdt != nil || l.Personality != nil || l.MemoryPolicy != nil, "a field of linux")
	say(l.MountLabel != good.Linux.MountLabel || p.SelinuxLabel != "" || p.ApparmorProfile != good.Process.ApparmorProfile, "labels %q %q %q", l.MountLabel, p.SelinuxLabel, p.ApparmorProfile)
	say(l.CgroupsPath != good.Linux.CgroupsPath, "cgroup %q", l.CgroupsPath)
	say(fmt.Sprint(l.UIDMappings, l.GIDMappings) != fmt.Sprint(good.Linux.UIDMappings, good.Linux.GIDMappings), "mappings %v", l.UIDMappings)
	say(p.User.UID >= 65536 || p.User.GID >= 65536 || slices.ContainsFunc(p.User.AdditionalGids, func(g uint32) bool { return g >= 65536 }), "user %+v", p.User)
	say(p.OOMScoreAdj == nil || *p.OOMScoreAdj < 0, "OOM score")
	for _, set := range [][]string{p.Capabilities.Bounding, p.Capabilities.Effective, p.Capabilities.Permitted, p.Capabilities.Inheritable, p.Capabilities.Ambient} {
		for _, c := range set {
			say(!FreeCapability(c), "capability %s", c)
		}
	}
	types := map[specs.LinuxNamespaceType]int{}
	for _, n := range l.Namespaces {
		types[n.Type]++
		say(n.Path != "", "namespace %+v", n)
	}
	for _, n := range good.Linux.Namespaces {
		say(types[n.Type] != 1, "%d %s namespaces", types[n.Type], n.Type)
	}
	say(len(types) != len(good.Linux.Namespaces), "namespaces %v", types)
	holesInKernel(s, good, say)
	own := append(VerifyFor(in).OwnSources, VerifyFor(in).HostSources...)
	for _, m := range s.Mounts {
		has := func(names ...string) bool {
			return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(m.Options, n) })
		}
		isBind := m.Type == "bind" || has("bind", "rbind")
		say(isBind && !slices.Contains(own, m.Source), "%+v", m)
		say(!isBind && !slices.Contains([]string{"proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup"}, m.Type), "%+v", m)
		say(has("shared", "rshared", "slave", "rslave", "private", "unbindable", "suid", "rsuid", "rdev", "dev", "exec", "rexec", "rw", "rrw", "tmpcopyup"), "%+v", m)
		say(!has("nosuid", "rnosuid"), "%+v", m)
		say(!has("noexec", "rnoexec") && !has("ro", "rro"), "%+v", m)
		if m.Destination != "/dev" && m.Destination != "/dev/pts" {
			say(!has("nodev", "rnodev"), "%+v", m)
		}
		if m.Type == "cgroup" || m.Type == "sysfs" {
			say(!has("ro"), "%+v", m)
		}
		if m.Type == "tmpfs" {
			say(!slices.ContainsFunc(m.Options, func(o string) bool { return strings.HasPrefix(o, "size=") && o != "size=0" && o != "size=" }), "%+v", m)
		}
	}
	return found
}

// holesInKernel: the filter, limits and what is hidden of the kernel.
func holesInKernel(s, good *specs.Spec, say func(bool, string, ...any)) {
	l, r := s.Linux, s.Linux.Resources
	if sc := l.Seccomp; sc == nil {
		say(true, "no filter")
	} else {
		say(sc.DefaultAction != specs.ActErrno && sc.DefaultAction != specs.ActKillProcess && sc.DefaultAction != specs.ActKill && sc.DefaultAction != specs.ActKillThread, "default action %s", sc.DefaultAction)
		say(sc.ListenerPath != "" || sc.ListenerMetadata != "" || slices.Contains(sc.Flags, specs.LinuxSeccompFlagSpecAllow), "filter %s %s %v", sc.ListenerPath, sc.ListenerMetadata, sc.Flags)
		for _, rule := range sc.Syscalls {
			say(rule.Action == specs.ActAllow && len(rule.Args) == 0 && (slices.Contains(rule.Names, "bpf") || slices.Contains(rule.Names, "keyctl") || slices.Contains(rule.Names, "mount") || slices.Contains(rule.Names, "unshare")), "rule %v", rule.Names)
			say(rule.Action == specs.ActNotify || rule.Action == specs.ActTrace, "rule %v", rule)
		}
	}
	for i, d := range r.Devices {
		say(i == 0 && (d.Allow || d.Access != "rwm" || d.Major != nil || d.Minor != nil) || d.Allow && (d.Type != "c" || d.Major == nil || *d.Major > 5 && *d.Major != 136), "device %+v", d)
	}
	say(len(r.Devices) == 0, "no device rules")
	g := good.Linux.Resources
	say(r.Memory == nil || r.Memory.Limit == nil || *r.Memory.Limit <= 0 || r.Memory.Swap == nil || *r.Memory.Swap < *r.Memory.Limit, "memory %+v", r.Memory)
	say(r.Memory != nil && r.Memory.DisableOOMKiller != nil && *r.Memory.DisableOOMKiller, "OOM killer")
	say(r.Pids == nil || r.Pids.Limit == nil || *r.Pids.Limit <= 0, "pids")
	say(r.CPU != nil && (r.CPU.RealtimeRuntime != nil || r.CPU.RealtimePeriod != nil), "real time")
	say(r.Network != nil || len(r.Rdma)+len(r.HugepageLimits) > 0, "resources")
	say(!subset(slices.Collect(maps.Keys(r.Unified)), slices.Collect(maps.Keys(g.Unified))) && len(r.Unified) > 1, "unified %v", r.Unified)
	say(!subset(good.Linux.MaskedPaths, l.MaskedPaths) || !subset(good.Linux.ReadonlyPaths, l.ReadonlyPaths), "a path is not masked")
	for k := range l.Sysctl {
		say(!strings.HasPrefix(k, "net.") && good.Linux.Sysctl[k] == "", "sysctl %s", k)
	}
	for k, v := range good.Linux.Sysctl {
		say(l.Sysctl[k] != v && !strings.HasPrefix(k, "net.ipv4.ping") && !strings.HasPrefix(k, "net.ipv4.ip_unpriv"), "sysctl %s=%s", k, l.Sysctl[k])
	}
	core := false
	for _, u := range s.Process.Rlimits {
		core = core || u.Type == "RLIMIT_CORE"
	}
	say(!core, "core dumps")
}

func subset(a, b []string) bool {
	return !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(b, s) })
}
