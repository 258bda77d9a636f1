package audit

import (
	"encoding/binary"
	"errors"
	"slices"

	"golang.org/x/sys/unix"
)

// blockedCall is a system call no container needs, with arguments that make
// it harmful.
type blockedCall struct {
	name string
	nr   int
	args [6]uint64
	i386 int // its number for 32-bit programs on x86, 0: not asked
}

func blockedCalls() []blockedCall {
	newUser := [6]uint64{unix.CLONE_NEWUSER}
	return []blockedCall{
		{name: "acct", nr: unix.SYS_ACCT},
		{name: "add_key", nr: unix.SYS_ADD_KEY, i386: 286},
		{name: "bpf", nr: unix.SYS_BPF, i386: 357},
		{name: "clock_settime", nr: unix.SYS_CLOCK_SETTIME},
		{name: "clone(CLONE_NEWUSER)", nr: unix.SYS_CLONE, args: newUser, i386: 120},
		{name: "delete_module", nr: unix.SYS_DELETE_MODULE},
		{name: "finit_module", nr: unix.SYS_FINIT_MODULE},
		{name: "fsopen", nr: unix.SYS_FSOPEN},
		{name: "init_module", nr: unix.SYS_INIT_MODULE, i386: 128},
		{name: "io_uring_setup", nr: unix.SYS_IO_URING_SETUP},
		{name: "kexec_file_load", nr: unix.SYS_KEXEC_FILE_LOAD},
		{name: "kexec_load", nr: unix.SYS_KEXEC_LOAD, i386: 283},
		{name: "keyctl", nr: unix.SYS_KEYCTL, i386: 288},
		{name: "mount", nr: unix.SYS_MOUNT, i386: 21},
		{name: "move_mount", nr: unix.SYS_MOVE_MOUNT},
		{name: "open_by_handle_at", nr: unix.SYS_OPEN_BY_HANDLE_AT},
		{name: "open_tree", nr: unix.SYS_OPEN_TREE},
		{name: "perf_event_open", nr: unix.SYS_PERF_EVENT_OPEN, i386: 336},
		{name: "pivot_root", nr: unix.SYS_PIVOT_ROOT},
		{name: "reboot", nr: unix.SYS_REBOOT, i386: 88},
		{name: "request_key", nr: unix.SYS_REQUEST_KEY},
		{name: "setns", nr: unix.SYS_SETNS},
		{name: "swapon", nr: unix.SYS_SWAPON},
		{name: "umount2", nr: unix.SYS_UMOUNT2},
		{name: "unshare(CLONE_NEWUSER)", nr: unix.SYS_UNSHARE, args: newUser, i386: 310},
		{name: "userfaultfd", nr: unix.SYS_USERFAULTFD},
	}
}

// Architectures as seccomp names them (linux/audit.h), and the actions of
// filters (linux/seccomp.h).
const (
	auditI386    = 0x40000003
	actionMask   = 0xffff0000
	actionNotify = 0x7fc00000
	actionTrace  = 0x7ff00000
	actionLog    = 0x7ffc0000
	actionAllow  = 0x7fff0000
)

// judgeCalls runs the filters on each call that should be blocked. In a chain
// of filters the most severe action counts; as signed numbers, the least.
func judgeCalls(filters [][]unix.SockFilter, arch uint32) (map[string]string, error) {
	out := map[string]string{}
	for _, c := range blockedCalls() {
		data := seccompData(uint32(c.nr), arch, c.args)
		verdict, err := runFilters(filters, data)
		if err != nil {
			return nil, err
		}
		out[c.name] = verdict
		if arch == unix.AUDIT_ARCH_X86_64 && c.i386 != 0 {
			if verdict, err = runFilters(filters, seccompData(uint32(c.i386), auditI386, c.args)); err != nil {
				return nil, err
			}
			out["i386/"+c.name] = verdict
		}
	}
	return out, nil
}

func runFilters(filters [][]unix.SockFilter, data [64]byte) (string, error) {
	least := int32(actionAllow)
	for _, f := range filters {
		r, err := runFilter(f, data)
		if err != nil {
			return "", err
		}
		least = min(least, int32(r&actionMask))
	}
	switch {
	case least >= actionLog:
		return "allowed", nil
	case least == actionNotify, least == actionTrace:
		return "supervised", nil // another program answers, perhaps one in the container
	}
	return "blocked", nil
}

// seccompData is struct seccomp_data of a call.
func seccompData(nr, arch uint32, args [6]uint64) (b [64]byte) {
	binary.NativeEndian.PutUint32(b[0:], nr)
	binary.NativeEndian.PutUint32(b[4:], arch)
	for i, a := range args {
		binary.NativeEndian.PutUint64(b[16+8*i:], a)
	}
	return b
}

var errFilter = errors.New("the filter is not one the kernel takes")

// runFilter is the machine of classic BPF as far as seccomp has it
// (seccomp_check_filter in kernel/seccomp.c): every jump leads forward, so it
// always ends.
func runFilter(prog []unix.SockFilter, data [64]byte) (uint32, error) {
	var a, x uint32
	var mem [16]uint32
	for pc := 0; pc < len(prog); pc++ {
		i := prog[pc]
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			if i.K > 60 || i.K%4 != 0 {
				return 0, errFilter
			}
			a = binary.NativeEndian.Uint32(data[i.K:])
		case unix.BPF_LD | unix.BPF_W | unix.BPF_LEN:
			a = 64
		case unix.BPF_LDX | unix.BPF_W | unix.BPF_LEN:
			x = 64
		case unix.BPF_LD | unix.BPF_IMM:
			a = i.K
		case unix.BPF_LDX | unix.BPF_IMM:
			x = i.K
		case unix.BPF_LD | unix.BPF_MEM, unix.BPF_LDX | unix.BPF_MEM, unix.BPF_ST, unix.BPF_STX:
			if i.K >= 16 {
				return 0, errFilter
			}
			switch i.Code {
			case unix.BPF_LD | unix.BPF_MEM:
				a = mem[i.K]
			case unix.BPF_LDX | unix.BPF_MEM:
				x = mem[i.K]
			case unix.BPF_ST:
				mem[i.K] = a
			default:
				mem[i.K] = x
			}
		case unix.BPF_MISC | unix.BPF_TAX:
			x = a
		case unix.BPF_MISC | unix.BPF_TXA:
			a = x
		case unix.BPF_RET | unix.BPF_K:
			return i.K, nil
		case unix.BPF_RET | unix.BPF_A:
			return a, nil
		case unix.BPF_JMP | unix.BPF_JA:
			if i.K >= uint32(len(prog)) {
				return 0, errFilter
			}
			pc += int(i.K)
		default:
			v := i.K
			if i.Code&unix.BPF_X != 0 {
				v = x
			}
			switch i.Code & 7 {
			case unix.BPF_JMP:
				yes, ok := compare(i.Code&0xf0, a, v)
				if !ok {
					return 0, errFilter
				}
				if yes {
					pc += int(i.Jt)
				} else {
					pc += int(i.Jf)
				}
			case unix.BPF_ALU:
				var ok bool
				if a, ok = compute(i.Code&0xf0, a, v); !ok {
					return 0, errFilter
				}
			default:
				return 0, errFilter
			}
		}
	}
	return 0, errFilter
}

func compare(op uint16, a, v uint32) (yes, ok bool) {
	switch op {
	case unix.BPF_JEQ:
		return a == v, true
	case unix.BPF_JGT:
		return a > v, true
	case unix.BPF_JGE:
		return a >= v, true
	case unix.BPF_JSET:
		return a&v != 0, true
	}
	return false, false
}

func compute(op uint16, a, v uint32) (uint32, bool) {
	switch op {
	case unix.BPF_ADD:
		return a + v, true
	case unix.BPF_SUB:
		return a - v, true
	case unix.BPF_MUL:
		return a * v, true
	case unix.BPF_DIV:
		if v == 0 {
			return 0, true // the kernel returns 0 from the filter: no call is let through
		}
		return a / v, true
	case unix.BPF_OR:
		return a | v, true
	case unix.BPF_AND:
		return a & v, true
	case unix.BPF_XOR:
		return a ^ v, true
	case unix.BPF_LSH:
		return a << (v & 31), true
	case unix.BPF_RSH:
		return a >> (v & 31), true
	case unix.BPF_NEG:
		return -a, true
	}
	return 0, false
}

// lookFilters reads the seccomp filters and runs them here on the calls that
// should be blocked.
func (l *looker) lookFilters() error {
	s := &l.f.Seccomp
	if s.Mode != "filter" {
		return nil
	}
	arch, ok := seccompArch()
	if !ok {
		s.Unknown = "not known on this machine"
		return nil
	}
	filters, err := readFilters(l.dir)
	if err != nil {
		s.Unknown = printable(err.Error())
		return nil
	}
	if len(filters) == 0 || slices.ContainsFunc(filters, func(f []unix.SockFilter) bool { return len(f) == 0 }) {
		s.Unknown = "the kernel keeps no copy of the filter (CONFIG_CHECKPOINT_RESTORE)"
		return nil
	}
	if s.Calls, err = judgeCalls(filters, arch); err != nil {
		s.Unknown = err.Error()
	}
	return nil
}
