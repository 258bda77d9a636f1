package spec

import (
	"encoding/binary"
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
		Target: b.word("/data", "/tmp", "/var", "/etc", "/etc/hosts", "/proc", "/dev/shm", "/dev/shm/x", "/", "/a/../b", "/run/x", "/sbin", "/sys/fs/cgroup"),
	}}
	m.ReadOnly, m.Exec, m.NonRecursive = b.bool(), b.bool(), b.bool()
	m.Propagation = b.word("", "rprivate", "private", "shared", "rslave")
	if b.next() > 200 {
		m.HostPath = b.word("/", "/etc", "/proc/1/root", "/run/docker.sock")
	} else if m.Type != MountTmpfs {
		m.HostPath = b.word("/proc/1/fd/3", "/var/lib/safe-run/volumes/a/_data")
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

// input fills all that somebody can ask for, and grants a part of it.
func (b *bytesSource) input() Input {
	in := testInput()
	w := &in.Workload
	w.Args = b.words(3, "sh", "-c")
	w.Hostname, w.Domainname = b.word("", "box"), b.word("", "example.org")
	w.Workdir = b.word("", "/", "/src", "/proc/self/fd/3", "/dev")
	for range b.next() % 4 {
		v := EnvVar{Name: b.word("PATH", "A", "LD_PRELOAD")}
		if b.bool() {
			v.Value = new(b.word("x"))
		}
		w.Env = append(w.Env, v)
	}
	if b.bool() {
		w.Entrypoint = new(b.word("", "/e"))
	}
	if b.bool() {
		w.Init = new(b.bool())
	}
	w.TTY, w.Privileged, w.OOMKillDisable = b.bool(), b.next() > 250, b.next() > 250
	if b.bool() {
		w.ReadOnly = new(b.bool())
	}
	if b.bool() {
		w.OOMScoreAdj = new(int(b.int64()))
	}
	w.ShmSize = b.number()
	w.CapAdd = b.words(3, "CHOWN", "NET_ADMIN", "SYS_ADMIN", "ALL", "net_raw", "CAP_SYS_PTRACE")
	w.CapDrop = b.words(2, "ALL", "CHOWN")
	w.SecurityOpts = b.words(3, "seccomp=unconfined", "no-new-privileges=false", "label=disable", "apparmor=unconfined", "seccomp=/p", "no-new-privileges", "systempaths=unconfined")
	if b.bool() {
		w.Seccomp = &SeccompFile{JSON: []byte(b.word(`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read","socket","clone"],"action":"SCMP_ACT_ALLOW"}]}`, "{}"))}
	}
	w.PIDMode, w.IPCMode, w.UTSMode = b.word("", "host"), b.word("", "host", "none"), b.word("", "host")
	w.UserNSMode, w.CgroupNSMode = b.word("", "host"), b.word("", "host")
	w.CgroupParent = b.word("", "a/b", "/", "..", "/safe-run/x")
	w.Networks = b.words(2, "host", "none")
	for _, k := range b.words(2, "net.core.somaxconn", "kernel.shmmax", "kernel.core_pattern", nestedUserNS) {
		if w.Sysctls == nil {
			w.Sysctls = map[string]string{}
		}
		w.Sysctls[k] = b.word("1")
	}
	for _, k := range b.words(1, "a.b", "org.systemd.property.TasksMax") {
		w.Annotations = map[string]string{k: b.word("1")}
	}
	for range b.next() % 3 {
		w.Ulimits = append(w.Ulimits, Ulimit{b.word("nofile", "core", "memlock", "x"), b.int64(), b.int64()})
	}
	w.Resources = Resources{
		Memory: b.number(), MemorySwap: b.number(), MemoryReservation: b.number(), MemorySwappiness: b.number(),
		PidsLimit: b.number(), NanoCPUs: b.number(), CPUShares: b.number(), CPUPeriod: b.number(), CPUQuota: b.number(),
		CPUSetCPUs: b.word("", "0", "0-3", "9"),
	}
	in.Image.Env = b.words(2, "A=b", "PATH=/x", "SECRET")
	in.Image.Workdir = b.word("", "/w", "/proc/1/cwd")
	in.User = User{UID: uint32(b.int64()), GID: uint32(b.next())}
	for range b.next() % 4 {
		in.Mounts = append(in.Mounts, b.mount())
	}
	grant := b.next()
	in.Grants = Grants{
		HostUserNS: grant&1 > 0, HostPID: grant&2 > 0, HostNetwork: grant&4 > 0, HostIPC: grant&8 > 0,
		UnconfinedSeccomp: grant&16 > 0, WritableRootfs: grant&32 > 0, UnlimitedMemory: grant&64 > 0, NewPrivileges: grant&128 > 0,
	}
	if b.bool() {
		in.Grants.Capabilities = []string{"CAP_NET_ADMIN"}
		in.Grants.Annotations = []string{"a.b"}
	}
	in.Host.CgroupV2, in.Host.HasResource = b.bool(), b.bool()
	in.Host.Controllers["devices"], in.Host.Controllers["blkio"] = true, true
	if b.bool() {
		in.Limits.MaxMemory, in.Limits.MaxTmpfs, in.Limits.MaxShm, in.Limits.MaxPids = 1<<30, 1<<20, 1<<20, 100
	}
	return in
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
