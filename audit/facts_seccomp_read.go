package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// seccompArch is the architecture of this machine's programs as filters see it.
func seccompArch() (uint32, bool) {
	switch runtime.GOARCH {
	case "amd64":
		return unix.AUDIT_ARCH_X86_64, true
	case "arm64":
		return unix.AUDIT_ARCH_AARCH64, true
	}
	return 0, false
}

const (
	maxFilters   = 16   // of one process
	maxInsns     = 4096 // BPF_MAXINSNS
	filterRecord = 8 + 8*maxInsns
)

// readFilters gives the seccomp filters of the process whose directory in
// procfs dir is, the last one first. A filter the kernel has no copy of is
// empty.
//
// ptrace could read them too (PTRACE_SECCOMP_GET_FILTER), but must stop the
// process for that, and some of its system calls would then fail. This reads
// them out of the kernel by a small program that runs here, once, and finds
// the process by the descriptor, so that it cannot be another's.
func readFilters(dir int) ([][]unix.SockFilter, error) {
	l, err := seccompLayoutOf()
	if err != nil {
		return nil, err
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "sr_filters", Type: ebpf.Array, KeySize: 4, ValueSize: filterRecord, MaxEntries: maxFilters})
	if err != nil {
		return nil, fmt.Errorf("the kernel does not let its filters be read: %w", withoutErrno(err))
	}
	defer func() { _ = m.Close() }()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "sr_filters", Type: ebpf.Syscall, Flags: unix.BPF_F_SLEEPABLE, License: "GPL", Instructions: l.program(m, dir),
	})
	if err != nil {
		return nil, fmt.Errorf("the kernel does not let its filters be read: %w", withoutErrno(err))
	}
	defer func() { _ = prog.Close() }()
	if _, err := prog.Run(&ebpf.RunOptions{}); err != nil {
		return nil, fmt.Errorf("the kernel does not let its filters be read: %w", withoutErrno(err))
	}
	var out [][]unix.SockFilter
	for i := range uint32(maxFilters) {
		record, err := m.LookupBytes(i)
		if err != nil {
			return nil, fmt.Errorf("reading filters: %w", withoutErrno(err))
		}
		if len(record) < filterRecord || binary.NativeEndian.Uint32(record[4:]) == 0 {
			return out, nil
		}
		out = append(out, filterOf(record))
	}
	return nil, fmt.Errorf("there are more than %d filters", maxFilters-1)
}

func filterOf(record []byte) []unix.SockFilter {
	n := min(binary.NativeEndian.Uint32(record), maxInsns)
	f := make([]unix.SockFilter, n)
	for i := range f {
		b := record[8+8*i:]
		f[i] = unix.SockFilter{
			Code: binary.NativeEndian.Uint16(b), Jt: b[2], Jf: b[3], K: binary.NativeEndian.Uint32(b[4:]),
		}
	}
	return f
}

// seccompLayout is where the kernel keeps what leads to a filter, in bytes.
type seccompLayout struct {
	taskFiles, filesFdt, fdtFd, fileInode  int
	procInode, procPid, pidTasks, taskPids int
	taskFilter, filterPrev, filterProg     int
	progOrig, origLen, origFilter          int
}

func seccompLayoutOf() (l seccompLayout, err error) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return l, errors.New("the kernel does not say how its data lie (CONFIG_DEBUG_INFO_BTF)")
	}
	for _, m := range []struct {
		into         *int
		name, member string
	}{
		{&l.taskFiles, "task_struct", "files"},
		{&l.filesFdt, "files_struct", "fdt"},
		{&l.fdtFd, "fdtable", "fd"},
		{&l.fileInode, "file", "f_inode"},
		{&l.procInode, "proc_inode", "vfs_inode"},
		{&l.procPid, "proc_inode", "pid"},
		{&l.pidTasks, "pid", "tasks"},
		{&l.taskPids, "task_struct", "pid_links"},
		{&l.taskFilter, "task_struct", "seccomp.filter"},
		{&l.filterPrev, "seccomp_filter", "prev"},
		{&l.filterProg, "seccomp_filter", "prog"},
		{&l.progOrig, "bpf_prog", "orig_prog"},
		{&l.origLen, "sock_fprog_kern", "len"},
		{&l.origFilter, "sock_fprog_kern", "filter"},
	} {
		var s *btf.Struct
		if err := spec.TypeByName(m.name, &s); err != nil {
			return l, fmt.Errorf("this kernel has no struct %s", m.name)
		}
		off, ok := memberOf(s.Members, strings.Split(m.member, "."))
		if !ok {
			return l, fmt.Errorf("this kernel has no %s.%s", m.name, m.member)
		}
		*m.into = off
	}
	return l, nil
}

// memberOf gives the offset of a member; those of unnamed structs and unions
// count as the outer one's.
func memberOf(members []btf.Member, path []string) (int, bool) {
	for _, m := range members {
		rest := path
		switch m.Name {
		case path[0]:
			rest = path[1:]
		case "":
		default:
			continue
		}
		if len(rest) == 0 {
			return int(m.Offset.Bytes()), true
		}
		var in []btf.Member
		switch t := btf.UnderlyingType(m.Type).(type) {
		case *btf.Struct:
			in = t.Members
		case *btf.Union:
			in = t.Members
		}
		if off, ok := memberOf(in, rest); ok {
			return int(m.Offset.Bytes()) + off, true
		}
	}
	return 0, false
}

// program follows this thread's descriptor to the process, and copies its
// filters to the map.
func (l seccompLayout) program(m *ebpf.Map, dir int) asm.Instructions {
	const slot, key = -8, -16
	var ins asm.Instructions
	add := func(list ...asm.Instruction) { ins = append(ins, list...) }
	// follow sets dst to the 8 bytes at base+off, 0 if they cannot be read.
	follow := func(dst, base asm.Register, off int) {
		add(
			asm.Mov.Reg(asm.R3, base), asm.Add.Imm(asm.R3, int32(off)),
			asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, slot), asm.Mov.Imm(asm.R2, 8),
			asm.FnProbeReadKernel.Call(),
			asm.LoadMem(dst, asm.RFP, slot, asm.DWord),
		)
	}
	add(asm.FnGetCurrentTask.Call(), asm.Mov.Reg(asm.R6, asm.R0))
	follow(asm.R6, asm.R6, l.taskFiles)
	follow(asm.R6, asm.R6, l.filesFdt)
	follow(asm.R6, asm.R6, l.fdtFd)
	follow(asm.R6, asm.R6, 8*dir)
	follow(asm.R6, asm.R6, l.fileInode)
	add(asm.JEq.Imm(asm.R6, 0, "done"))
	follow(asm.R6, asm.R6, l.procPid-l.procInode)
	add(asm.JEq.Imm(asm.R6, 0, "done"))
	follow(asm.R6, asm.R6, l.pidTasks) // of PIDTYPE_PID: the first thread
	add(asm.JEq.Imm(asm.R6, 0, "done"))
	follow(asm.R6, asm.R6, l.taskFilter-l.taskPids)
	for i := range int32(maxFilters) {
		add(
			asm.JEq.Imm(asm.R6, 0, "done"),
			asm.Mov.Imm(asm.R1, i), asm.StoreMem(asm.RFP, key, asm.R1, asm.Word),
			asm.LoadMapPtr(asm.R1, m.FD()), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, key),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "done"),
			asm.Mov.Reg(asm.R7, asm.R0),
			asm.Mov.Imm(asm.R1, 1), asm.StoreMem(asm.R7, 4, asm.R1, asm.Word),
		)
		follow(asm.R8, asm.R6, l.filterProg)
		follow(asm.R8, asm.R8, l.progOrig)
		follow(asm.R9, asm.R8, l.origFilter)
		follow(asm.R8, asm.R8, l.origLen)
		next := fmt.Sprintf("next%d", i)
		add(
			asm.And.Imm(asm.R8, 0xffff),
			asm.JEq.Imm(asm.R9, 0, next),
			asm.JGT.Imm(asm.R8, maxInsns, next),
			asm.StoreMem(asm.R7, 0, asm.R8, asm.Word),
			asm.Mov.Reg(asm.R2, asm.R8), asm.LSh.Imm(asm.R2, 3),
			asm.Mov.Reg(asm.R1, asm.R7), asm.Add.Imm(asm.R1, 8),
			asm.Mov.Reg(asm.R3, asm.R9),
			asm.FnProbeReadKernel.Call(),
		)
		at := len(ins)
		follow(asm.R6, asm.R6, l.filterPrev)
		ins[at] = ins[at].WithSymbol(next)
	}
	add(asm.Mov.Imm(asm.R0, 0).WithSymbol("done"), asm.Return())
	return ins
}
