package learn

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// programs writes the recorder's programs.
type programs struct {
	mode    Mode
	maps    *recorderMaps
	l       kernelLayout
	execNr  int
	regsLow int // offset of the first register that is copied
	regsLen int
}

// isCounted loads what is known of the process whose number is the upper half
// of pidTgid into R0, and jumps to no if it is not counted. It uses 4 bytes of
// the stack at key.
func (p *programs) isCounted(a *assembler, pidTgid asm.Register, key int, no string) {
	p.isMaybe(a, pidTgid, 32, no)
	a.move(asm.R1, pidTgid)
	a.add(asm.RSh.Imm(asm.R1, 32))
	a.store32(asm.RFP, key, asm.R1)
	a.hash(asm.FnMapLookupElem, p.maps.counted, asm.RFP, key)
	a.add(asm.JEq.Imm(asm.R0, 0, no))
}

// isMaybe jumps to no if number>>shift is not marked in the map maybe.
func (p *programs) isMaybe(a *assembler, number asm.Register, shift int32, no string) {
	p.maybeByte(a, number, shift)
	a.add(asm.LoadMem(asm.R1, asm.R1, 0, asm.Byte), asm.JEq.Imm(asm.R1, 0, no))
}

func (p *programs) markMaybe(a *assembler, number asm.Register, shift int32) {
	p.maybeByte(a, number, shift)
	a.add(asm.StoreImm(asm.R1, 0, 1, asm.Byte))
}

// maybeByte sets R1 to the byte of number>>shift; it spoils R2.
func (p *programs) maybeByte(a *assembler, number asm.Register, shift int32) {
	a.move(asm.R2, number)
	if shift != 0 {
		a.add(asm.RSh.Imm(asm.R2, shift))
	}
	a.add(asm.And.Imm(asm.R2, maybeEntries-1))
	a.add(asm.LoadMapValue(asm.R1, p.maps.maybe.FD(), 0), asm.Add.Reg(asm.R1, asm.R2))
}

// keep puts the process of a number, which is at key on the stack as well,
// among those that are counted, with what is at who there. Then it goes on at
// done, or, if there is no room, behind, that being counted as a loss.
func (p *programs) keep(a *assembler, number asm.Register, who, key int, done string) {
	p.markMaybe(a, number, 0)
	a.address(asm.R3, asm.RFP, who)
	a.add(asm.Mov.Imm(asm.R4, int32(ebpf.UpdateAny)))
	a.hash(asm.FnMapUpdateElem, p.maps.counted, asm.RFP, key)
	a.add(asm.JEq.Imm(asm.R0, 0, done))
	a.bump(p.maps.stats, statLost)
}

// exec starts counting a process that executes a program in a container, and
// with Everything tells which program. Arguments: task, old pid, binprm.
func (p *programs) exec() asm.Instructions {
	const who, key = -40, -16
	a := &assembler{}
	a.move(asm.R6, asm.R1)
	// A thread that executes a program takes over the number of its process.
	a.load(asm.R1, asm.R6, 8)
	a.store32(asm.RFP, key, asm.R1)
	a.hash(asm.FnMapDeleteElem, p.maps.asked, asm.RFP, key)
	a.call(asm.FnGetCurrentPidTgid)
	a.move(asm.R8, asm.R0)
	a.add(asm.RSh.Imm(asm.R8, 32))
	a.store32(asm.RFP, key, asm.R8)
	a.hash(asm.FnMapLookupElem, p.maps.counted, asm.RFP, key)
	a.add(asm.JNE.Imm(asm.R0, 0, "event"))

	a.call(asm.FnGetCurrentTask)
	a.move(asm.R7, asm.R0)
	a.follow(asm.R9, asm.R7, p.l.taskThreadPid)
	a.peek(asm.R1, asm.R9, p.l.pidLevel, asm.Word)
	a.add(asm.And.Imm(asm.R1, 63), asm.Mul.Imm(asm.R1, int32(p.l.upidSize)))
	a.move(asm.R3, asm.R9)
	a.add(asm.Add.Reg(asm.R3, asm.R1))
	a.follow(asm.R3, asm.R3, p.l.pidNumbers+p.l.upidNs)
	a.peek(asm.R1, asm.R3, p.l.pidnsInum, asm.Word)
	a.store32(asm.RFP, key, asm.R1)
	a.hash(asm.FnMapLookupElem, p.maps.targets, asm.RFP, key)
	a.add(asm.JEq.Imm(asm.R0, 0, "out"))
	a.move(asm.R9, asm.R0)
	a.load32(asm.R2, asm.R9, targetCgroup)
	a.add(asm.LoadImm(asm.R1, noCgroup, asm.DWord), asm.JEq.Reg(asm.R2, asm.R1, "within"))
	a.add(asm.LoadMapPtr(asm.R1, p.maps.cgroups.FD()))
	a.call(asm.FnCurrentTaskUnderCgroup)
	a.add(asm.JNE.Imm(asm.R0, 1, "out"))
	a.mark("within")
	a.load(asm.R1, asm.R9, targetUserns) // and the number behind it
	a.store(asm.RFP, who+whoUserns, asm.R1)
	a.follow(asm.R9, asm.R7, p.l.taskFs)
	a.follow(asm.R1, asm.R9, p.l.fsRootMnt)
	a.store(asm.RFP, who+whoRootMnt, asm.R1)
	a.follow(asm.R1, asm.R9, p.l.fsRootDentry)
	a.store(asm.RFP, who+whoRootDentry, asm.R1)
	a.store32(asm.RFP, key, asm.R8)
	p.keep(a, asm.R8, who, key, "event")
	a.mark("out")
	a.leave()

	a.mark("event")
	a.bump(p.maps.stats, statExecs)
	if p.mode == Everything {
		a.add(asm.StoreImm(asm.RFP, key, 0, asm.Word))
		a.hash(asm.FnMapLookupElem, p.maps.area2, asm.RFP, key)
		a.add(asm.JEq.Imm(asm.R0, 0, "out"))
		a.move(asm.R9, asm.R0)
		a.store32(asm.RFP, key, asm.R8)
		a.hash(asm.FnMapLookupElem, p.maps.counted, asm.RFP, key)
		a.add(asm.JEq.Imm(asm.R0, 0, "out"))
		copyWords(a, asm.R9, areaWho, asm.R0, 0, whoSize)
		a.zero(asm.R9, areaEvent, eventData)
		a.add(asm.StoreImm(asm.R9, areaEvent+eventNr, int64(p.execNr), asm.Word))
		a.address(asm.R1, asm.R9, areaEvent+eventComm)
		a.add(asm.Mov.Imm(asm.R2, commSize))
		a.call(asm.FnGetCurrentComm)
		a.load32(asm.R1, asm.R9, areaWho+whoTarget)
		a.store32(asm.R9, areaEvent+eventTarget, asm.R1)
		a.call(asm.FnGetCurrentTask)
		a.follow(asm.R3, asm.R0, p.l.taskCred)
		a.peek(asm.R1, asm.R3, p.l.credFsuid, asm.Word)
		a.store32(asm.R9, areaEvent+eventUID, asm.R1)
		a.load(asm.R3, asm.R6, 16)
		a.follow(asm.R1, asm.R3, p.l.bprmFilename)
		a.store(asm.R9, areaPath, asm.R1)
		a.add(store64(asm.R9, areaDir, atCwd))
		a.move(asm.R1, asm.R9)
		a.add(asm.Call.Label("path"))
	}
	a.leave()
	if p.mode == Everything {
		p.path(a, asm.FnProbeReadKernelStr)
	}
	return a.ins
}

// fork counts the children of counted processes. Arguments: parent, child.
func (p *programs) fork() asm.Instructions {
	const key, child, who = -16, -12, -40
	a := &assembler{}
	a.move(asm.R6, asm.R1)
	a.call(asm.FnGetCurrentPidTgid)
	a.move(asm.R7, asm.R0)
	p.isCounted(a, asm.R7, key, "out")
	copyWords(a, asm.RFP, who, asm.R0, 0, whoSize)
	a.load(asm.R8, asm.R6, 8)
	a.peek(asm.R9, asm.R8, p.l.taskTgid, asm.Word)
	a.add(asm.RSh.Imm(asm.R7, 32))
	a.add(asm.JEq.Reg(asm.R7, asm.R9, "out")) // a thread
	a.store32(asm.RFP, child, asm.R9)
	p.keep(a, asm.R9, who, child, "out")
	a.mark("out")
	a.leave()
	return a.ins
}

// exit forgets threads, and processes with their last one.
func (p *programs) exit() asm.Instructions {
	const key = -16
	a := &assembler{}
	a.move(asm.R6, asm.R1)
	a.call(asm.FnGetCurrentPidTgid)
	a.move(asm.R7, asm.R0)
	p.isCounted(a, asm.R7, key, "out")
	a.store32(asm.RFP, key, asm.R7)
	a.hash(asm.FnMapDeleteElem, p.maps.asked, asm.RFP, key)
	a.load(asm.R6, asm.R6, 0)
	a.follow(asm.R6, asm.R6, p.l.taskSignal)
	a.peek(asm.R1, asm.R6, p.l.signalLive, asm.Word)
	a.add(asm.JNE.Imm(asm.R1, 0, "out"))
	a.add(asm.RSh.Imm(asm.R7, 32))
	a.store32(asm.RFP, key, asm.R7)
	a.hash(asm.FnMapDeleteElem, p.maps.counted, asm.RFP, key)
	a.mark("out")
	a.leave()
	return a.ins
}

// copyWords copies n bytes, a multiple of 8; it spoils R1.
func copyWords(a *assembler, dst asm.Register, to int, src asm.Register, from, n int) {
	for i := 0; i < n; i += 8 {
		a.load(asm.R1, src, from+i)
		a.store(dst, to+i, asm.R1)
	}
}

// capable notes the outcome of a check in what the thread asks for. The
// arguments' numbers differ by hook.
func (p *programs) capable(cred, target, capability, result int) asm.Instructions {
	const key, asked = -16, -40
	a := &assembler{}
	a.move(asm.R6, asm.R1)
	a.call(asm.FnGetCurrentPidTgid)
	a.move(asm.R7, asm.R0)
	p.isCounted(a, asm.R7, key, "out")
	a.load32(asm.R8, asm.R0, whoUserns)
	a.load(asm.R9, asm.R6, capability*8)
	a.add(asm.Mov.Reg32(asm.R9, asm.R9)) // an int; what is above it is not said
	a.add(asm.JGT.Imm(asm.R9, 63, "out"))
	// Credentials of others, which the kernel acts with for a moment (of whoever
	// mounted an overlay), say nothing of the container's.
	a.load(asm.R3, asm.R6, cred*8)
	a.follow(asm.R3, asm.R3, p.l.credUserns)
	a.peek(asm.R1, asm.R3, p.l.usernsInum, asm.Word)
	a.add(asm.JNE.Reg(asm.R1, asm.R8, "out"))
	a.load(asm.R3, asm.R6, target*8)
	a.peek(asm.R1, asm.R3, p.l.usernsInum, asm.Word)
	// R9 = mask, R8 = where it goes
	a.add(asm.Mov.Imm(asm.R2, 1), asm.LSh.Reg(asm.R2, asm.R9))
	a.move(asm.R9, asm.R2)
	a.load(asm.R2, asm.R6, result*8)
	a.add(asm.JEq.Imm32(asm.R2, 0, "granted"))
	a.add(asm.JEq.Reg(asm.R1, asm.R8, "own"))
	a.add(asm.Mov.Imm(asm.R8, askedForeign), asm.Ja.Label("known"))
	a.mark("own")
	a.add(asm.Mov.Imm(asm.R8, askedRefused), asm.Ja.Label("known"))
	a.mark("granted")
	a.add(asm.Mov.Imm(asm.R8, askedGranted))
	a.mark("known")
	a.store32(asm.RFP, key, asm.R7)
	a.hash(asm.FnMapLookupElem, p.maps.asked, asm.RFP, key)
	a.add(asm.JNE.Imm(asm.R0, 0, "there"))
	a.zero(asm.RFP, asked, askedSize)
	for _, at := range []int{askedGranted, askedRefused, askedForeign} {
		next := a.unique("next")
		a.add(asm.JNE.Imm(asm.R8, int32(at), next))
		a.store(asm.RFP, asked+at, asm.R9)
		a.mark(next)
	}
	p.markMaybe(a, asm.R7, 0)
	a.address(asm.R3, asm.RFP, asked)
	a.add(asm.Mov.Imm(asm.R4, int32(ebpf.UpdateAny)))
	a.hash(asm.FnMapUpdateElem, p.maps.asked, asm.RFP, key)
	a.add(asm.JEq.Imm(asm.R0, 0, "out"))
	a.bump(p.maps.stats, statLost)
	a.add(asm.Ja.Label("out"))
	a.mark("there") // only this thread writes here
	a.add(asm.Add.Reg(asm.R0, asm.R8))
	a.load(asm.R1, asm.R0, 0)
	a.add(asm.Or.Reg(asm.R1, asm.R9))
	a.store(asm.R0, 0, asm.R1)
	a.mark("out")
	a.leave()
	return a.ins
}
