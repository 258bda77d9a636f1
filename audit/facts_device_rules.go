package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// lookDeviceRules: cgroup v1 lists what a cgroup may open. In v2 programs
// decide; without any, from the cgroup to the root, everything may be opened.
func (l *looker) lookDeviceRules(c cgroupPlaces) error {
	d := &l.f.Devices
	if h, ok := c.v1["devices"]; ok {
		if h.path == "" {
			return nil
		}
		text, err := l.cgroupFile(h.dir(), "devices.list")
		if err != nil {
			return nil //nolint:nilerr // it is left unknown
		}
		d.Rules, d.Allowed = "listed", deviceRulesBeyond(text)
		l.mayOpen = func(x Device) bool {
			return slices.ContainsFunc(strings.Split(text, "\n"), func(rule string) bool {
				kind, _, _ := strings.Cut(rule, " ")
				if kind == "a" { // of both kinds
					rule = x.kind() + rule[1:]
				}
				return covers(rule, x.rule("r")) || covers(rule, x.rule("w"))
			})
		}
		if slices.Contains(d.Allowed, "a *:* rwm") {
			d.Rules = "all"
		}
		return nil
	}
	if c.v2.path == "" {
		return nil
	}
	f, err := os.Open(c.v2.dir())
	if errors.Is(err, fs.ErrNotExist) {
		return errGone
	}
	if err != nil {
		return nil //nolint:nilerr // it is left unknown
	}
	defer func() { _ = f.Close() }()
	// The programs of the cgroups above count as well (BPF_F_QUERY_EFFECTIVE,
	// linux/bpf.h).
	const effective = 1
	q, err := link.QueryPrograms(link.QueryOptions{Target: int(f.Fd()), Attach: ebpf.AttachCGroupDevice, QueryFlags: effective})
	if err != nil {
		return nil //nolint:nilerr // it is left unknown
	}
	var programs []asm.Instructions
	for _, p := range q.Programs {
		ins, err := instructionsOf(p.ID)
		if err != nil {
			return nil //nolint:nilerr // it is left unknown
		}
		programs = append(programs, ins)
	}
	d.Rules, d.Allowed = judgeDevicePrograms(programs)
	l.mayOpen = func(x Device) bool { return mayOpen(programs, x) }
	return nil
}

// mayOpen says whether all programs consent to some access. Of one that is not
// understood nothing is known.
func mayOpen(programs []asm.Instructions, x Device) bool {
	for _, access := range []uint32{accRead, accWrite} {
		yes := true
		for _, p := range programs {
			ctx := deviceAccess{x.Type == "block", x.Major, x.Minor}.context()
			ctx[0] = access<<16 | ctx[0]&0xffff
			r, err := runDeviceProgram(p, ctx)
			yes = yes && (err != nil || r != 0)
		}
		if yes {
			return true
		}
	}
	return false
}

// denied notes the devices the cgroup's rules keep from being opened.
func (l *looker) denied() {
	for i := range l.f.Devices.Nodes {
		if d := &l.f.Devices.Nodes[i]; l.mayOpen != nil && !l.mayOpen(*d) {
			d.Denied = true
		}
	}
}

func (d Device) kind() string { return d.Type[:1] }

// rule is the rule of cgroup v1 for one device.
func (d Device) rule(access string) string {
	return fmt.Sprintf("%s %d:%d %s", d.kind(), d.Major, d.Minor, access)
}

// deviceRulesBeyond gives the rules runtimes do not make for every container.
func deviceRulesBeyond(text string) []string {
	out := []string{}
	usual := append(slices.Clone(runtimeDevices), "c 5:1 rwm") // containerd and docker allow the console's number
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !slices.ContainsFunc(usual, func(rule string) bool { return covers(rule, line) }) {
			list(&out, line)
		}
	}
	return out
}

func instructionsOf(id ebpf.ProgramID) (asm.Instructions, error) {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return nil, err
	}
	defer func() { _ = p.Close() }()
	info, err := p.Info()
	if err != nil {
		return nil, err
	}
	return info.Instructions()
}

// deviceAccess is what such a program is asked (struct bpf_cgroup_dev_ctx in
// linux/bpf.h).
type deviceAccess struct {
	block        bool
	major, minor uint32
}

const (
	devBlock, devChar = 1, 2
	accRead, accWrite = 2, 4
	accReadWrite      = accRead | accWrite
)

func (d deviceAccess) context() [3]uint32 {
	kind := uint32(devChar)
	if d.block {
		kind = devBlock
	}
	return [3]uint32{accReadWrite<<16 | kind, d.major, d.minor}
}

// askedDevices are those a container is given only on purpose.
func askedDevices() []deviceAccess {
	return []deviceAccess{
		{true, 8, 0},
		{true, 253, 0},
		{true, 254, 0},
		{true, 259, 0},
		{true, 7, 0},
		{false, 1, 1},
		{false, 1, 4},
		{false, 1, 11},
		{false, 4, 1},
		{false, 10, 229},
		{false, 10, 232},
		{false, 10, 236},
		{false, 10, 237},
		{false, 10, 223},
		{false, 13, 64},
		{false, 21, 0},
		{false, 226, 128},
		{false, 195, 0},
	}
}

// judgeDevicePrograms runs the programs of a cgroup on the devices a container
// is given only on purpose. An access needs the consent of all programs.
func judgeDevicePrograms(programs []asm.Instructions) (rules string, allowed []string) {
	allowed = []string{}
	for _, d := range askedDevices() {
		yes := true
		for _, p := range programs {
			r, err := runDeviceProgram(p, d.context())
			if err != nil {
				return "unknown", []string{}
			}
			yes = yes && r != 0
		}
		if yes {
			kind := "c"
			if d.block {
				kind = "b"
			}
			allowed = append(allowed, fmt.Sprintf("%s %d:%d rw", kind, d.major, d.minor))
		}
	}
	if len(allowed) == len(askedDevices()) {
		return "all", allowed
	}
	return "listed", allowed
}

var errProgram = errors.New("a program of another kind than runtimes write")

// runDeviceProgram is as much of the machine of BPF as runc, crun and systemd
// use for device rules: loads from the context, arithmetic, jumps.
func runDeviceProgram(prog asm.Instructions, ctx [3]uint32) (uint64, error) {
	for _, i := range prog {
		if i.OpCode.IsDWordLoad() { // it takes two places, so jumps would miss theirs
			return 0, errProgram
		}
	}
	var reg [11]uint64
	const context = 1 << 40 // stands for the pointer the program starts with
	reg[1] = context
	for pc, steps := 0, 0; pc >= 0 && pc < len(prog); pc++ {
		if steps++; steps > 1<<16 {
			return 0, errProgram
		}
		i := prog[pc]
		if i.Dst > 10 || i.Src > 10 {
			return 0, errProgram
		}
		class := i.OpCode.Class()
		switch {
		case class == asm.LdXClass && i.OpCode.Mode() == asm.MemMode:
			v, err := loadContext(reg[i.Src], context, int(i.Offset), i.OpCode.Size(), ctx)
			if err != nil {
				return 0, err
			}
			reg[i.Dst] = v
		case class == asm.ALU64Class || class == asm.ALUClass:
			v := uint64(i.Constant)
			if i.OpCode.Source() == asm.RegSource {
				v = reg[i.Src]
			}
			r, err := arithmetic(i.OpCode.ALUOp(), reg[i.Dst], v, class == asm.ALUClass)
			if err != nil {
				return 0, err
			}
			reg[i.Dst] = r
		case class == asm.JumpClass || class == asm.Jump32Class:
			if i.OpCode.JumpOp() == asm.Exit {
				return reg[0] & 0xffffffff, nil
			}
			a, v := reg[i.Dst], uint64(i.Constant)
			if i.OpCode.Source() == asm.RegSource {
				v = reg[i.Src]
			}
			if class == asm.Jump32Class {
				a, v = a&0xffffffff, v&0xffffffff
			}
			yes, err := jumps(i.OpCode.JumpOp(), a, v)
			if err != nil || i.OpCode.JumpOp() == asm.Ja && class == asm.Jump32Class {
				return 0, errProgram
			}
			if yes {
				pc += int(i.Offset)
			}
		default:
			return 0, errProgram
		}
	}
	return 0, errProgram
}

func loadContext(base, context uint64, off int, size asm.Size, ctx [3]uint32) (uint64, error) {
	at := int64(base) - int64(context) + int64(off)
	if at < 0 || at > 8 {
		return 0, errProgram
	}
	word := ctx[at/4]
	switch {
	case size == asm.Word && at%4 == 0:
		return uint64(word), nil
	case size == asm.Half && at%2 == 0:
		return uint64(word >> (8 * (at % 4)) & 0xffff), nil
	case size == asm.Byte:
		return uint64(word >> (8 * (at % 4)) & 0xff), nil
	}
	return 0, errProgram
}

func arithmetic(op asm.ALUOp, a, v uint64, short bool) (uint64, error) {
	bits := uint64(63)
	if short {
		a, v, bits = a&0xffffffff, v&0xffffffff, 31
	}
	switch op {
	case asm.Mov:
		a = v
	case asm.And:
		a &= v
	case asm.Or:
		a |= v
	case asm.Xor:
		a ^= v
	case asm.Add:
		a += v
	case asm.Sub:
		a -= v
	case asm.LSh:
		a <<= v & bits
	case asm.RSh:
		a >>= v & bits
	default:
		return 0, errProgram
	}
	if short {
		a &= 0xffffffff
	}
	return a, nil
}

func jumps(op asm.JumpOp, a, v uint64) (bool, error) {
	switch op {
	case asm.Ja:
		return true, nil
	case asm.JEq:
		return a == v, nil
	case asm.JNE:
		return a != v, nil
	case asm.JGT:
		return a > v, nil
	case asm.JGE:
		return a >= v, nil
	case asm.JLT:
		return a < v, nil
	case asm.JLE:
		return a <= v, nil
	case asm.JSet:
		return a&v != 0, nil
	}
	return false, errProgram
}
