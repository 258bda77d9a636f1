package learn

import (
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// assembler writes a program for the kernel's BPF machine. R0 to R5 are lost
// with every call; R6 to R9 are kept.
type assembler struct {
	ins   asm.Instructions
	label string // of the next instruction
	fresh int
}

func (a *assembler) add(list ...asm.Instruction) {
	for _, i := range list {
		if a.label != "" {
			i = i.WithSymbol(a.label)
			a.label = ""
		}
		a.ins = append(a.ins, i)
	}
}

// mark names the next instruction.
func (a *assembler) mark(label string) {
	if a.label != "" { // two names for one place
		a.add(asm.Ja.Label(label))
	}
	a.label = label
}

// unique gives a label nobody else has.
func (a *assembler) unique(what string) string {
	a.fresh++
	return what + "." + strconv.Itoa(a.fresh)
}

func (a *assembler) call(fn asm.BuiltinFunc) { a.add(fn.Call()) }

// leave ends the program.
func (a *assembler) leave() { a.add(asm.Mov.Imm(asm.R0, 0), asm.Return()) }

func (a *assembler) move(dst, src asm.Register) { a.add(asm.Mov.Reg(dst, src)) }

// load and store are of 64 bits, load32 and store32 of 32.
func (a *assembler) load(dst, base asm.Register, off int) {
	a.add(asm.LoadMem(dst, base, int16(off), asm.DWord))
}

func (a *assembler) load32(dst, base asm.Register, off int) {
	a.add(asm.LoadMem(dst, base, int16(off), asm.Word))
}

func (a *assembler) store(base asm.Register, off int, src asm.Register) {
	a.add(asm.StoreMem(base, int16(off), src, asm.DWord))
}

func (a *assembler) store32(base asm.Register, off int, src asm.Register) {
	a.add(asm.StoreMem(base, int16(off), src, asm.Word))
}

// store64 stores a constant; the package asm has it for smaller ones only.
func store64(base asm.Register, off int16, value int32) asm.Instruction {
	return asm.Instruction{OpCode: asm.StoreImmOp(asm.DWord), Dst: base, Offset: off, Constant: int64(value)}
}

// zero clears n bytes, a multiple of 8.
func (a *assembler) zero(base asm.Register, off, n int) {
	for i := 0; i < n; i += 8 {
		a.add(store64(base, int16(off+i), 0))
	}
}

// address sets dst to base+off.
func (a *assembler) address(dst, base asm.Register, off int) {
	a.add(asm.Mov.Reg(dst, base), asm.Add.Imm(dst, int32(off)))
}

// slot is the place on the stack that peek reads into.
const slot = -8

// peek sets dst to the size bytes the kernel has at base+off, 0 if they cannot
// be read.
func (a *assembler) peek(dst, base asm.Register, off int, size asm.Size) {
	if base != asm.R3 {
		a.move(asm.R3, base)
	}
	a.add(asm.Add.Imm(asm.R3, int32(off)))
	a.address(asm.R1, asm.RFP, slot)
	a.add(asm.Mov.Imm(asm.R2, int32(size.Sizeof())))
	a.call(asm.FnProbeReadKernel)
	a.add(asm.LoadMem(dst, asm.RFP, slot, size))
}

// follow is peek of a pointer.
func (a *assembler) follow(dst, base asm.Register, off int) { a.peek(dst, base, off, asm.DWord) }

// hash calls a function of a map whose key is at base+off.
func (a *assembler) hash(fn asm.BuiltinFunc, m *ebpf.Map, base asm.Register, off int) {
	a.address(asm.R2, base, off)
	a.add(asm.LoadMapPtr(asm.R1, m.FD()))
	a.call(fn)
}

// bump adds 1 to the value at off in a map of one value. It spoils R1 and R2.
func (a *assembler) bump(m *ebpf.Map, off int) {
	a.add(asm.LoadMapValue(asm.R1, m.FD(), uint32(off)), asm.Mov.Imm(asm.R2, 1), asm.StoreXAdd(asm.R1, asm.R2, asm.DWord))
}

// count adds 1 to the counter whose key is at base+off, a register that calls
// keep. If it is new and the map is full it jumps to full.
func (a *assembler) count(m *ebpf.Map, base asm.Register, off int, full string) {
	there, done := a.unique("there"), a.unique("done")
	a.hash(asm.FnMapLookupElem, m, base, off)
	a.add(asm.JNE.Imm(asm.R0, 0, there))
	a.add(store64(asm.RFP, slot, 1))
	a.address(asm.R3, asm.RFP, slot)
	a.add(asm.Mov.Imm(asm.R4, int32(ebpf.UpdateNoExist)))
	a.hash(asm.FnMapUpdateElem, m, base, off)
	a.add(asm.JEq.Imm(asm.R0, 0, done))
	// Another processor may have been first.
	a.hash(asm.FnMapLookupElem, m, base, off)
	a.add(asm.JEq.Imm(asm.R0, 0, full))
	a.mark(there)
	a.add(asm.Mov.Imm(asm.R1, 1), asm.StoreXAdd(asm.R0, asm.R1, asm.DWord))
	a.mark(done)
}
