package audit

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

const goodStatus = "Name:\tx\nState:\tS (sleeping)\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10\n" +
	"CapInh:\t0\nCapPrm:\t1\nCapEff:\t3\nCapBnd:\t1ffffffffff\nCapAmb:\t0\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n"

func TestParseStatus(t *testing.T) {
	s, err := parseStatus([]byte(goodStatus))
	if err != nil || s.state != 'S' || s.uid != [4]uint32{1, 2, 3, 4} || s.gid[1] != 6 || !slices.Equal(s.groups, []uint32{9, 10}) ||
		s.caps.eff != 3 || s.caps.bnd != 1<<41-1 || !s.noNewPrivs || s.seccomp != 2 || s.filters != 3 {
		t.Errorf("%+v, %v", s, err)
	}
	for _, bad := range []string{"", "Uid:\t1\n", strings.Replace(goodStatus, "1\t2\t3\t4", "1\t2\t3", 1), strings.Replace(goodStatus, "1ff", "1xg", 1)} {
		if _, err := parseStatus([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if got := capNames(1<<0 | 1<<21 | 1<<60); !slices.Equal(got, []string{"CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_60"}) {
		t.Errorf("%v", got)
	}
}

func TestParseSocket(t *testing.T) {
	const rest = " 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 4711 1 0000 100 0 0 10 0"
	for _, tc := range []struct {
		protocol, state, line string
		want                  string
	}{
		{"tcp", tcpListen, "0: 0100007F:1F90" + rest, "tcp 127.0.0.1:8080"},
		{"tcp6", tcpListen, "0: 00000000000000000000000000000000:0050" + rest, "tcp [::]:80"},
		{"tcp6", tcpListen, "0: 0000000000000000FFFF00000100007F:0050" + rest, "tcp 127.0.0.1:80"},
		{"tcp", udpUnbound, "0: 0100007F:1F90" + rest, ""},
		{"tcp", tcpListen, "0: 0100007F:0000" + rest, ""},
		{"tcp", tcpListen, "0: 0100007:1F90" + rest, ""},
		{"tcp", tcpListen, "sl local_address rem_address st", ""},
	} {
		p, inode, ok := parseSocket(tc.protocol, tc.state, tc.line)
		if ok != (tc.want != "") || ok && (p.String() != tc.want || inode != "4711") {
			t.Errorf("%q: %v, %q, %v", tc.line, p, inode, ok)
		}
	}
	for line, want := range map[string]string{
		"0000: 00000002 00000000 00010000 0001 01 4711 @/containerd-shim/x.sock@": "@/containerd-shim/x.sock@",
		"0000: 00000002 00000000 00000000 0001 03 4711 @/x":                       "",
		"0000: 00000002 00000000 00010000 0001 01 4711 /run/x":                    "",
		"0000: 00000002 00000000 00010000 0001 01 4711":                           "",
	} {
		if got, _ := abstractName(line); got != want {
			t.Errorf("%q: %q", line, got)
		}
	}
}

func TestParseCgroups(t *testing.T) {
	v1, v2, err := parseCgroups("9:name=systemd:/a\n4:cpu,cpuacct:/b\n3:pids:/../c\n0::/d:e\n")
	if err != nil || v2 != "/d:e" || v1["cpu"] != "/b" || v1["cpuacct"] != "/b" || v1["pids"] != "" || v1["name=systemd"] != "/a" {
		t.Errorf("%v %q %v", v1, v2, err)
	}
	for _, bad := range []string{"x\n", "0:\n", "0::d\n"} {
		if _, _, err := parseCgroups(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	for text, want := range map[string]int64{"max": -1, "-1": -1, "9223372036854771712": -1, "4096": 4096, "0": 0} {
		if got, ok := amount(text); !ok || got != want {
			t.Errorf("%s: %d", text, got)
		}
	}
	for text, want := range map[string]float64{"50000 100000": 0.5, "max 100000": 0, "-1 100000": 0, "1 0": 0, "": 0} {
		if got, _ := cpus(text); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"/a b": "/a b", "\x1b[2J": `\x1b[2J`, "ä": `\xc3\xa4`, "\u202e": `\xe2\x80\xae`, "\xff": `\xff`, "a\nb": `a\x0ab`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
	if got := printable(strings.Repeat("x", 1<<20)); len(got) > maxText+3 {
		t.Errorf("%d bytes", len(got))
	}
	for in, want := range map[string][2]string{
		"docker-default (enforce)": {"docker-default", "enforce"}, "unconfined": {"unconfined", "unconfined"},
		"a//&b (complain)": {"a//&b", "complain"}, "": {"", "unconfined"},
	} {
		if label, mode := appArmorLabel(in); label != want[0] || mode != want[1] {
			t.Errorf("%q: %q, %q", in, label, mode)
		}
	}
}

// endless gives n times the same line.
type endless struct {
	line []byte
	n    int
}

func (e *endless) Read(b []byte) (int, error) {
	if e.n == 0 {
		return 0, io.EOF
	}
	e.n--
	return copy(b, e.line), nil
}

func TestScanLines(t *testing.T) {
	n := 0
	complete, err := scanLines(&endless{[]byte("x\n"), 100000}, func([]byte) bool { n++; return true })
	if !complete || err != nil || n != 100000 {
		t.Errorf("%v, %v, %d", complete, err, n)
	}
	long := append(bytes.Repeat([]byte("y"), 3*maxLine), "\nz\nlast"...)
	var got []string
	complete, err = scanLines(bytes.NewReader(long), func(b []byte) bool { got = append(got, string(b)); return true })
	if complete || err != nil || !slices.Equal(got, []string{"z", "last"}) {
		t.Errorf("%v, %v, %q", complete, err, got)
	}
	if complete, _ = scanLines(strings.NewReader("a\nb\n"), func([]byte) bool { return false }); complete {
		t.Error("stopped, and complete")
	}
}

// A container with more mounts than anybody needs costs little, and is told.
func TestManyMounts(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "mountinfo"))
	must(t, err)
	fmt.Fprintln(f, "1 0 0:1 / / ro - tmpfs x rw")
	for i := range 100000 {
		fmt.Fprintf(f, "%d 1 0:%d / /m/%d\\033[2J rw shared:%d - tmpfs x rw\n", i+2, i, i, i)
	}
	must(t, f.Close())
	must(t, os.Symlink(t.TempDir(), filepath.Join(dir, "root")))
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	v, err := viewOf(fd)
	must(t, err)
	defer v.close()
	in := lookInside(v, nil, readHostMounts())
	runtime.ReadMemStats(&after)
	must(t, in.err)
	if in.f.Mounts.Count != 100001 || !in.f.drift.truncated || len(in.unread) == 0 || len(in.f.Mounts.WritableExecutable) != maxListed {
		t.Errorf("%d mounts, %v, %d listed", in.f.Mounts.Count, in.unread, len(in.f.Mounts.WritableExecutable))
	}
	if strings.ContainsRune(strings.Join(in.f.Mounts.WritableExecutable, ""), 0x1b) {
		t.Error("an escape got through")
	}
	if used := after.HeapAlloc - min(before.HeapAlloc, after.HeapAlloc); used > 64<<20 {
		t.Errorf("%d bytes in use", used)
	}
}

func TestRunFilter(t *testing.T) {
	op := func(code uint16, k uint32, jump ...uint8) unix.SockFilter {
		f := unix.SockFilter{Code: code, K: k}
		if len(jump) == 2 {
			f.Jt, f.Jf = jump[0], jump[1]
		}
		return f
	}
	const load, ret, jeq = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_RET | unix.BPF_K, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	data := seccompData(165, unix.AUDIT_ARCH_X86_64, [6]uint64{unix.CLONE_NEWUSER})
	for _, tc := range []struct {
		name string
		prog []unix.SockFilter
		want uint32
		bad  bool
	}{
		{"constant", []unix.SockFilter{op(ret, 7)}, 7, false},
		{"number", []unix.SockFilter{op(load, 0), op(jeq, 165, 0, 1), op(ret, 1), op(ret, 2)}, 1, false},
		{"architecture", []unix.SockFilter{op(load, 4), op(jeq, auditI386, 0, 1), op(ret, 1), op(ret, 2)}, 2, false},
		{"argument", []unix.SockFilter{
			op(load, 16), op(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, unix.CLONE_NEWUSER), op(unix.BPF_MISC|unix.BPF_TAX, 0), op(unix.BPF_LD|unix.BPF_IMM, 0),
			op(unix.BPF_JMP|unix.BPF_JGT|unix.BPF_X, 0, 0, 1), op(ret, 1), op(ret, 2),
		}, 2, false},
		{"memory", []unix.SockFilter{op(load, 0), op(unix.BPF_ST, 15), op(unix.BPF_LD|unix.BPF_IMM, 9), op(unix.BPF_LD|unix.BPF_MEM, 15), op(unix.BPF_RET|unix.BPF_A, 0)}, 165, false},
		{"forward", []unix.SockFilter{op(unix.BPF_JMP|unix.BPF_JA, 1), op(ret, 1), op(ret, 2)}, 2, false},
		{"no end", []unix.SockFilter{op(load, 0)}, 0, true},
		{"outside", []unix.SockFilter{op(load, 64), op(ret, 1)}, 0, true},
		{"far", []unix.SockFilter{op(unix.BPF_JMP|unix.BPF_JA, 1<<31), op(ret, 1)}, 0, true},
		{"unknown", []unix.SockFilter{op(0xffff, 0), op(ret, 1)}, 0, true},
	} {
		got, err := runFilter(tc.prog, data)
		if got != tc.want || (err != nil) != tc.bad {
			t.Errorf("%s: %d, %v", tc.name, got, err)
		}
	}
	allow, deny, kill, log := []unix.SockFilter{op(ret, actionAllow)}, []unix.SockFilter{op(ret, 0x50001)}, []unix.SockFilter{op(ret, 0x80000000)}, []unix.SockFilter{op(ret, actionLog)}
	for _, tc := range []struct {
		chain [][]unix.SockFilter
		want  string
	}{
		{[][]unix.SockFilter{allow}, "allowed"},
		{[][]unix.SockFilter{allow, deny}, "blocked"},
		{[][]unix.SockFilter{kill, allow}, "blocked"},
		{[][]unix.SockFilter{log, allow}, "allowed"},
		{[][]unix.SockFilter{{op(ret, actionNotify)}}, "supervised"},
	} {
		if got, err := runFilters(tc.chain, data); got != tc.want || err != nil {
			t.Errorf("%v: %s, %v", tc.chain, got, err)
		}
	}
}

// A program as runc writes it, loaded, attached and read back from the kernel.
func TestDevicePrograms(t *testing.T) {
	// Allowed is what is like (type, major, minor) and asks for no more than
	// access.
	program := func(kind, access, major, minor int32) asm.Instructions {
		return asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), asm.And.Imm32(asm.R2, 0xffff),
			asm.LoadMem(asm.R3, asm.R1, 0, asm.Word), asm.RSh.Imm32(asm.R3, 16),
			asm.LoadMem(asm.R4, asm.R1, 4, asm.Word), asm.LoadMem(asm.R5, asm.R1, 8, asm.Word),
			asm.JNE.Imm(asm.R2, kind, "no"),
			asm.Mov.Reg32(asm.R1, asm.R3), asm.And.Imm32(asm.R1, access), asm.JNE.Reg(asm.R1, asm.R3, "no"),
			asm.JNE.Imm(asm.R4, major, "no"), asm.JNE.Imm(asm.R5, minor, "no"),
			asm.Mov.Imm32(asm.R0, 1), asm.Return(),
			asm.Mov.Imm32(asm.R0, 0).WithSymbol("no"), asm.Return(),
		}
	}
	load := func(ins asm.Instructions) asm.Instructions {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.CGroupDevice, License: "MIT", Instructions: ins})
		must(t, err)
		t.Cleanup(func() { _ = p.Close() })
		info, err := p.Info()
		must(t, err)
		id, _ := info.ID()
		back, err := instructionsOf(id)
		must(t, err)
		return back
	}
	all := load(asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()})
	fuse := load(program(devChar, 7, 10, 229))
	for _, tc := range []struct {
		programs []asm.Instructions
		rules    string
		allowed  []string
	}{
		{nil, "all", nil},
		{[]asm.Instructions{all}, "all", nil},
		{[]asm.Instructions{fuse}, "listed", []string{"c 10:229 rw"}},
		{[]asm.Instructions{all, fuse}, "listed", []string{"c 10:229 rw"}},
		{[]asm.Instructions{load(program(devChar, 2, 10, 229))}, "listed", []string{}},
		{[]asm.Instructions{load(program(devBlock, 7, 8, 0)), fuse}, "listed", []string{}},
		{[]asm.Instructions{{asm.FnGetCurrentTask.Call(), asm.Return()}}, "unknown", []string{}},
		{[]asm.Instructions{{asm.Ja.Label("")}}, "unknown", []string{}},
	} {
		rules, allowed := judgeDevicePrograms(tc.programs)
		if rules != tc.rules || tc.allowed != nil && !slices.Equal(allowed, tc.allowed) {
			t.Errorf("%v: %s %v", tc.programs, rules, allowed)
		}
	}

	// As a cgroup of v2 has them.
	root := cgroupRoot
	var st unix.Statfs_t
	if must(t, unix.Statfs(root, &st)); st.Type != unix.CGROUP2_SUPER_MAGIC {
		root += "/unified"
	}
	dir, err := os.MkdirTemp(root, "audit-test")
	must(t, err)
	defer os.Remove(dir)
	cg := cgroupPlaces{v2: hierarchy{root, "/" + filepath.Base(dir)}}
	l := &looker{attestation: &attestation{}, f: &Facts{Devices: Devices{Rules: "unknown"}}}
	must(t, l.lookDeviceRules(cg))
	before := l.f.Devices.Rules // "all", if no cgroup above has a program
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.CGroupDevice, License: "MIT", Instructions: program(devBlock, 7, 8, 0)})
	must(t, err)
	defer p.Close()
	k, err := link.AttachCgroup(link.CgroupOptions{Path: dir, Attach: ebpf.AttachCGroupDevice, Program: p})
	must(t, err)
	defer k.Close()
	must(t, l.lookDeviceRules(cg))
	if d := l.f.Devices; d.Rules != "listed" || before == "all" && !slices.Equal(d.Allowed, []string{"b 8:0 rw"}) {
		t.Errorf("before %s, then %+v", before, d)
	}
}

func TestEngineOwn(t *testing.T) {
	for _, tc := range []struct {
		point, from, concern string
		want                 bool
	}{
		{"/etc/hosts", "/var/lib/docker/containers/abc/hosts", "bind-container-store", true},
		{"/data", "/var/lib/docker/volumes/v/_data", "bind-container-store", true},
		{"/data", "/var/lib/docker/volumes/v/_data/sub", "bind-container-store", true},
		{"/data", "/var/lib/docker/volumes", "bind-container-store", false},
		{"/data", "/var/lib/docker/overlay2/x/merged", "bind-container-store", false},
		{"/etc/hosts", "/etc/shadow", "bind-secret", false},
		{"/etc/resolv.conf", "/run/docker.sock", "engine-socket", false},
		{"/var/run/secrets/kubernetes.io/serviceaccount", "/var/lib/kubelet/pods/u/volumes/kubernetes.io~projected/t", "bind-container-store", true},
		{"/data", "/home/x/work", "", false},
	} {
		if got := engineOwn(bound{point: tc.point, from: tc.from}, tc.concern); got != tc.want {
			t.Errorf("%+v: %v", tc, got)
		}
	}
}

func FuzzFacts(f *testing.F) {
	f.Add([]byte(goodStatus))
	f.Add([]byte("0 1000 65536\n"))
	f.Add([]byte("4:cpu,cpuacct:/b\n0::/x\n"))
	f.Add([]byte("0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 4711"))
	f.Add([]byte("Max open files 100 unlimited files\n"))
	f.Add([]byte("c 10:229 rwm\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := string(b)
		_, _ = parseStatus(b)
		_, _ = parseIDMap(b)
		_, _, _ = parseCgroups(s)
		_, _ = parseMount(s)
		_, _, _ = parseSocket("tcp", tcpListen, s)
		_, _ = abstractName(s)
		_ = parseRlimits(b)
		_ = deviceRulesBeyond(s)
		_, _ = cpus(s)
		_, _ = amount(s)
		label, mode := appArmorLabel(s)
		for _, out := range []string{printable(s), label, mode, oneLine(s)} {
			if strings.ContainsFunc(out, func(r rune) bool { return r < ' ' || r == 0x7f }) || len(out) > 3*600 {
				t.Fatalf("%q", out)
			}
		}
		_, _ = scanLines(bytes.NewReader(b), func(line []byte) bool { return len(line) < 1000 })
	})
}

func FuzzRunFilter(f *testing.F) {
	f.Add([]byte{0x20, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		record := append([]byte{byte(len(b) / 8), byte(len(b) / 8 >> 8), 0, 0, 1, 0, 0, 0}, b...)
		if len(b)/8 > maxInsns {
			return
		}
		_, _ = runFilters([][]unix.SockFilter{filterOf(record)}, seccompData(1, unix.AUDIT_ARCH_X86_64, [6]uint64{}))
	})
}

func FuzzDeviceProgram(f *testing.F) {
	f.Add([]byte{0x61, 0x12, 0, 0, 0, 0, 0, 0, 0xb7, 0, 0, 0, 1, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var ins asm.Instructions
		for i := 0; i+8 <= len(b) && len(ins) < 1000; i += 8 {
			ins = append(ins, asm.Instruction{
				OpCode: asm.OpCode(b[i]), Dst: asm.Register(b[i+1] & 15), Src: asm.Register(b[i+1] >> 4),
				Offset: int16(b[i+2]) | int16(b[i+3])<<8, Constant: int64(int8(b[i+4])),
			})
		}
		_, _ = runDeviceProgram(ins, deviceAccess{true, 8, 0}.context())
	})
}
