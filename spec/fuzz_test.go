package spec

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

// bytesSource makes values of a fuzzer's bytes; it never runs dry.
type bytesSource struct{ data []byte }

func (b *bytesSource) next() byte {
	if len(b.data) == 0 {
		return 0
	}
	c := b.data[0]
	b.data = b.data[1:]
	return c
}

func (b *bytesSource) bool() bool { return b.next()&1 == 1 }

func (b *bytesSource) int64() int64 {
	if b.bool() {
		return int64(b.next()) << (b.next() % 48)
	}
	var w [8]byte
	n := copy(w[:], b.data)
	b.data = b.data[n:]
	return int64(binary.LittleEndian.Uint64(w[:]))
}

// word is one of the usual strings, or anything.
func (b *bytesSource) word(usual ...string) string {
	if i := int(b.next()); i < len(usual)*8 {
		return usual[i%len(usual)]
	}
	n := min(int(b.next()%24), len(b.data))
	s := string(b.data[:n])
	b.data = b.data[n:]
	return s
}

func (b *bytesSource) words(most int, usual ...string) (out []string) {
	for range int(b.next()) % (most + 1) {
		out = append(out, b.word(usual...))
	}
	return out
}

func (b *bytesSource) number() *int64 {
	if b.bool() {
		return nil
	}
	return new(b.int64())
}

func (b *bytesSource) mount() ResolvedMount {
	m := ResolvedMount{Mount: Mount{
		Origin: b.word("-v", "--mount", imageVolume),
		Type:   MountType(b.word("bind", "volume", "tmpfs", "image")),
		Target: b.word("/data", "/tmp", "/var", "/etc", "/etc/hosts", "/proc", "/dev/shm", "/dev/shm/x", "/run", "/run/secrets", "/", "/a/../b", "/run/x", "/sbin", "/sys/fs/cgroup"),
	}}
	m.ReadOnly, m.Exec, m.NonRecursive = b.bool(), b.bool(), b.bool()
	m.Propagation = b.word("", "rprivate", "private", "shared", "rslave")
	switch m.Type {
	case MountTmpfs:
	case MountBind:
		m.HostPath, m.Mapped = "/run/safe-run/io/x/mount0", b.bool()
	default:
		m.HostPath = "/var/lib/safe-run/volumes/a/_data"
	}
	m.Tmpfs = TmpfsOptions{
		Size: b.int64() % (1 << 40), SizePct: int(b.next()), Inodes: b.int64() % (1 << 30),
		Flags: b.words(4, "exec", "noexec", "suid", "dev", "rw", "ro", "noatime", "mpol=local", "nr_blocks=7", "size=9", "rshared"),
	}
	if b.bool() {
		m.Tmpfs.Mode, m.Tmpfs.UID = new(uint32(b.int64())), new(uint32(b.int64()))
	}
	return m
}

// input sets a few of the things somebody can ask for, and grants a part of
// them: with all at once nearly every input would be an error.
func (b *bytesSource) input() Input {
	in := testInput()
	grant := b.next()
	in.Grants = Grants{
		HostUserNS: grant&1 > 0, HostPID: grant&2 > 0, HostNetwork: grant&4 > 0, HostIPC: grant&8 > 0,
		UnconfinedSeccomp: grant&16 > 0, WritableRootfs: grant&32 > 0, UnlimitedMemory: grant&64 > 0, NewPrivileges: grant&128 > 0,
	}
	if b.bool() {
		in.Grants.Capabilities = []string{"CAP_NET_ADMIN", "CAP_SYS_PTRACE"}
		in.Grants.Annotations = []string{"a.b"}
	}
	in.Host.CgroupV2, in.Host.HasResource = b.bool(), b.bool()
	in.Host.Controllers["devices"], in.Host.Controllers["blkio"] = true, true
	if b.bool() {
		in.Limits.MaxMemory, in.Limits.MaxTmpfs, in.Limits.MaxShm, in.Limits.MaxPids = 1<<30, 1<<20, 1<<20, 100
	}
	asks := asks()
	for range b.next() % 6 {
		asks[int(b.next())%len(asks)](b, &in)
	}
	return in
}

func asks() []func(*bytesSource, *Input) {
	return []func(*bytesSource, *Input){
		func(b *bytesSource, in *Input) { in.Mounts = append(in.Mounts, b.mount()) },
		func(b *bytesSource, in *Input) { in.Mounts = append(in.Mounts, b.mount()) },
		func(b *bytesSource, in *Input) { in.Mounts = append(in.Mounts, b.mount(), b.mount()) },
		func(b *bytesSource, in *Input) {
			in.CgroupParent = b.word("/system.slice/a.service", "/", "/a/..", "/a:b:c")
		},
		func(b *bytesSource, in *Input) { *in = service(*in) },
		func(b *bytesSource, in *Input) {
			in.Workload.Secrets = []Secret{{ID: b.word("a", ".."), UID: uint32(b.int64()), Owned: b.bool(), Mode: uint32(b.int64())}}
			in.Files.Secrets = b.word("/run/safe-run/io/x/secrets", "")
		},
		func(b *bytesSource, in *Input) { in.Workload.Args = b.words(3, "sh", "-c") },
		func(b *bytesSource, in *Input) { in.Workload.Hostname = b.word("", "box") },
		func(b *bytesSource, in *Input) { in.Workload.Domainname = b.word("", "example.org") },
		func(b *bytesSource, in *Input) {
			in.Workload.Workdir = b.word("", "/", "/src", "/proc/self/fd/3", "/dev")
		},
		func(b *bytesSource, in *Input) {
			v := EnvVar{Name: b.word("PATH", "A", "LD_PRELOAD")}
			if b.bool() {
				v.Value = new(b.word("x"))
			}
			in.Workload.Env = append(in.Workload.Env, v)
		},
		func(b *bytesSource, in *Input) { in.Workload.Entrypoint = new(b.word("", "/e")) },
		func(b *bytesSource, in *Input) { in.Workload.Init = new(b.bool()) },
		func(b *bytesSource, in *Input) { in.Workload.Privileged = b.bool() },
		func(b *bytesSource, in *Input) { in.Workload.OOMKillDisable = b.bool() },
		func(b *bytesSource, in *Input) { in.Workload.ReadOnly = new(b.bool()) },
		func(b *bytesSource, in *Input) { in.Workload.OOMScoreAdj = new(int(b.int64())) },
		func(b *bytesSource, in *Input) { in.Workload.ShmSize = b.number() },
		func(b *bytesSource, in *Input) {
			in.Workload.CapAdd = b.words(3, "CHOWN", "NET_ADMIN", "SYS_ADMIN", "ALL", "net_raw", "CAP_SYS_PTRACE")
		},
		func(b *bytesSource, in *Input) { in.Workload.CapDrop = b.words(2, "ALL", "CHOWN") },
		func(b *bytesSource, in *Input) {
			in.Workload.SecurityOpts = b.words(3, "seccomp=unconfined", "no-new-privileges=false", "label=disable", "apparmor=unconfined", "seccomp=/p", "no-new-privileges", "systempaths=unconfined")
		},
		func(b *bytesSource, in *Input) {
			in.Workload.SecurityOpts = []string{"seccomp=/p"}
			in.Workload.Seccomp = &SeccompFile{JSON: []byte(b.word(`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read","socket","clone"],"action":"SCMP_ACT_ALLOW"}]}`, "{}"))}
		},
		func(b *bytesSource, in *Input) { in.Workload.PIDMode = b.word("", "host") },
		func(b *bytesSource, in *Input) { in.Workload.IPCMode = b.word("", "host", "none") },
		func(b *bytesSource, in *Input) { in.Workload.UTSMode = b.word("", "host") },
		func(b *bytesSource, in *Input) { in.Workload.UserNSMode = b.word("", "host") },
		func(b *bytesSource, in *Input) { in.Workload.CgroupNSMode = b.word("", "host") },
		func(b *bytesSource, in *Input) {
			in.Workload.CgroupParent = b.word("", "a/b", "/", "..", "/safe-run/x")
		},
		func(b *bytesSource, in *Input) {
			in.Workload.Networks = networks(b.words(2, "host", "none", "bridge", "container:x")...)
		},
		func(b *bytesSource, in *Input) {
			in.Workload.Networks = networks("container:" + b.word("x"))
			in.JoinNetwork, in.JoinSysfs = b.word("/proc/7/fd/8", "/proc/1/ns/net", ""), b.word("/run/x/sys", "/sys", "/proc/7/fd/9")
		},
		func(b *bytesSource, in *Input) {
			p := Publish{HostFirst: uint16(b.next()), Ports: PortRange{First: uint16(b.next()), Proto: b.word(TCP)}}
			p.HostIP, _ = netip.ParseAddr(b.word("127.0.0.1", "::", "fe80::1%x"))
			in.Workload.Publish, in.Workload.PublishAll = []Publish{p}, b.bool()
			in.Workload.Egress = Egress{Mode: EgressMode(b.word("", "none", "list")), Allow: []EgressRule{{Name: b.word("a.b", "")}}}
		},
		func(b *bytesSource, in *Input) {
			in.Workload.Sysctls = map[string]string{b.word("net.core.somaxconn", "net.ipv6.conf.default.accept_ra", "kernel.shmmax", "kernel.core_pattern", nestedUserNS): b.word("1", "0")}
		},
		func(b *bytesSource, in *Input) {
			in.Workload.Annotations = map[string]string{b.word("a.b", "org.systemd.property.TasksMax"): b.word("1")}
		},
		func(b *bytesSource, in *Input) {
			in.Workload.Ulimits = append(in.Workload.Ulimits, Ulimit{b.word("nofile", "core", "memlock", "x"), b.int64(), b.int64()})
		},
		func(b *bytesSource, in *Input) { in.Workload.Resources.Memory = b.number() },
		func(b *bytesSource, in *Input) { in.Workload.Resources.MemorySwap = b.number() },
		func(b *bytesSource, in *Input) { in.Workload.Resources.PidsLimit = b.number() },
		func(b *bytesSource, in *Input) { in.Workload.Resources.NanoCPUs = b.number() },
		func(b *bytesSource, in *Input) {
			r := &in.Workload.Resources
			r.MemoryReservation, r.MemorySwappiness, r.CPUShares = b.number(), b.number(), b.number()
			r.CPUPeriod, r.CPUQuota, r.CPUSetCPUs = b.number(), b.number(), b.word("", "0", "0-3", "9")
		},
		func(b *bytesSource, in *Input) { in.Image.Env = b.words(2, "A=b", "PATH=/x", "SECRET") },
		func(b *bytesSource, in *Input) { in.Image.Workdir = b.word("", "/w", "/proc/1/cwd") },
		func(b *bytesSource, in *Input) { in.User = User{UID: uint32(b.int64()), GID: uint32(b.next())} },
	}
}

// The property of FuzzBuildVerify would hold for a Build that always fails.
func TestFuzzInputsAreBuilt(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	built := 0
	const tries = 2000
	for range tries {
		data := make([]byte, 128)
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		in := (&bytesSource{data}).input()
		s, err := Build(in)
		if err != nil {
			continue
		}
		built++
		if err := Verify(s, VerifyFor(in)); err != nil {
			t.Errorf("%v\n%+v", err, in)
		}
	}
	if built < tries/5 {
		t.Errorf("%d of %d inputs were built", built, tries)
	}
	t.Logf("%d of %d inputs were built", built, tries)
}

// FuzzBuildVerify: whatever is asked for is an error, or the spec holds every
// invariant.
func FuzzBuildVerify(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte(strings.Repeat("\x00\x01\x02\x03", 64)))
	f.Add([]byte(strings.Repeat("\x04\x05\x06\x07\x08\x09", 64)))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := &bytesSource{data}
		in := b.input()
		s, err := Build(in)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\x00\x1b\n\r") {
				t.Errorf("raw control character in %q", err)
			}
			return
		}
		if err := Verify(s, VerifyFor(in)); err != nil {
			t.Errorf("%v\n%+v", err, in)
		}
		if text := Summary(in, s); strings.ContainsAny(text, "\x00\x1b\r") {
			t.Errorf("raw control character in %q", text)
		}
	})
}
