package learn

import "github.com/cilium/ebpf/asm"

// atCwd is AT_FDCWD.
const atCwd = -100

// path sends the event in the area R1 with the path at areaPath and the names
// of the directories it starts from: those of areaDir up to the container's
// root; for an absolute path those of a changed root, if it is one. It is a
// function of the program that read is the way of getting at the path in.
//
// What the verifier would have to keep track of (where the walk is, how much
// is filled) is in memory, so that the rounds of the loop look alike to it.
func (p *programs) path(a *assembler, read asm.BuiltinFunc) {
	const data = areaEvent + eventData
	l := p.l
	a.mark("path")
	a.move(asm.R6, asm.R1)
	a.add(asm.StoreImm(asm.R6, areaEvent+eventNames, 0, asm.Word)) // and walk
	a.add(asm.StoreImm(asm.R6, data, 0, asm.Byte))
	a.add(asm.Mov.Imm(asm.R7, 1))
	a.load(asm.R3, asm.R6, areaPath)
	a.add(asm.JEq.Imm(asm.R3, 0, "path.read")) // none: the descriptor's own file
	a.address(asm.R1, asm.R6, data)
	a.add(asm.Mov.Imm(asm.R2, maxPath))
	a.call(read)
	a.add(asm.JSGT.Imm(asm.R0, 0, "path.some"))
	// It cannot be read any more, or never was in memory: a filter refused the
	// call before anyone looked.
	a.load32(asm.R1, asm.R6, areaEvent+eventErrno)
	a.add(asm.JEq.Imm(asm.R1, eperm, "path.out"))
	a.bump(p.maps.stats, statLost)
	a.mark("path.out")
	a.leave()
	a.mark("path.some")
	a.move(asm.R7, asm.R0)
	a.mark("path.read")
	a.store(asm.R6, areaCursor, asm.R7)
	a.store32(asm.R6, areaEvent+eventLength, asm.R7)

	a.call(asm.FnGetCurrentTask)
	a.move(asm.R8, asm.R0)
	a.add(asm.LoadMem(asm.R1, asm.R6, data, asm.Byte))
	a.add(asm.JNE.Imm(asm.R1, '/', "path.relative"))
	a.follow(asm.R8, asm.R8, l.taskFs)
	a.follow(asm.R9, asm.R8, l.fsRootDentry)
	a.follow(asm.R1, asm.R8, l.fsRootMnt)
	a.store(asm.R6, areaMnt, asm.R1)
	a.load(asm.R2, asm.R6, areaWho+whoRootMnt)
	a.add(asm.JNE.Reg(asm.R1, asm.R2, "path.walk"))
	a.load(asm.R2, asm.R6, areaWho+whoRootDentry)
	a.add(asm.JNE.Reg(asm.R9, asm.R2, "path.walk"), asm.Ja.Label("path.send"))

	a.mark("path.relative")
	a.load32(asm.R1, asm.R6, areaDir)
	a.add(asm.JEq.Imm32(asm.R1, atCwd, "path.cwd"))
	p.file(a, asm.R8, asm.R1, "path.short")
	a.follow(asm.R9, asm.R8, l.fileDentry)
	a.follow(asm.R1, asm.R8, l.fileMnt)
	a.store(asm.R6, areaMnt, asm.R1)
	a.add(asm.Ja.Label("path.walk"))
	a.mark("path.cwd")
	a.follow(asm.R8, asm.R8, l.taskFs)
	a.follow(asm.R9, asm.R8, l.fsPwdDentry)
	a.follow(asm.R1, asm.R8, l.fsPwdMnt)
	a.store(asm.R6, areaMnt, asm.R1)

	a.mark("path.walk")
	a.add(asm.Mov.Imm(asm.R7, 0))
	a.mark("path.step")
	a.add(asm.Add.Imm(asm.R7, 1), asm.JGT.Imm(asm.R7, maxSteps, "path.short"))
	a.load(asm.R8, asm.R6, areaMnt)
	a.load(asm.R1, asm.R6, areaWho+whoRootDentry)
	a.add(asm.JNE.Reg(asm.R1, asm.R9, "path.below"))
	a.load(asm.R1, asm.R6, areaWho+whoRootMnt)
	a.add(asm.JEq.Reg(asm.R1, asm.R8, "path.done"))
	a.mark("path.below")
	a.follow(asm.R1, asm.R9, l.dentryParent)
	a.store(asm.R6, areaParent, asm.R1)
	a.add(asm.JEq.Reg(asm.R1, asm.R9, "path.mount"))
	a.follow(asm.R1, asm.R8, l.vfsmountRoot)
	a.add(asm.JEq.Reg(asm.R1, asm.R9, "path.mount"))
	a.follow(asm.R3, asm.R9, l.dentryName)
	a.load(asm.R1, asm.R6, areaCursor)
	a.add(asm.JGT.Imm(asm.R1, maxNames, "path.short"))
	a.add(asm.Add.Reg(asm.R1, asm.R6), asm.Add.Imm(asm.R1, data), asm.Mov.Imm(asm.R2, maxName))
	a.call(asm.FnProbeReadKernelStr)
	a.add(asm.JSLE.Imm(asm.R0, 1, "path.short"))
	a.load(asm.R1, asm.R6, areaCursor)
	a.add(asm.Add.Reg(asm.R1, asm.R0))
	a.store(asm.R6, areaCursor, asm.R1)
	a.add(asm.LoadMem(asm.R1, asm.R6, areaEvent+eventNames, asm.Half), asm.Add.Imm(asm.R1, 1))
	a.add(asm.StoreMem(asm.R6, areaEvent+eventNames, asm.R1, asm.Half))
	a.load(asm.R9, asm.R6, areaParent)
	a.add(asm.Ja.Label("path.step"))

	a.mark("path.mount") // on with the directory the file system is mounted on
	a.add(asm.Sub.Imm(asm.R8, int32(l.mountMnt)))
	a.follow(asm.R9, asm.R8, l.mountPoint)
	a.follow(asm.R1, asm.R8, l.mountParent)
	a.add(asm.JEq.Reg(asm.R1, asm.R8, "path.short"), asm.JEq.Imm(asm.R1, 0, "path.short"))
	a.add(asm.Add.Imm(asm.R1, int32(l.mountMnt)))
	a.store(asm.R6, areaMnt, asm.R1)
	a.add(asm.Ja.Label("path.step"))

	a.mark("path.done")
	a.add(asm.StoreImm(asm.R6, areaEvent+eventWalk, walkDone, asm.Half), asm.Ja.Label("path.send"))
	a.mark("path.short")
	a.add(asm.StoreImm(asm.R6, areaEvent+eventWalk, walkShort, asm.Half))
	a.mark("path.send")
	a.load(asm.R3, asm.R6, areaCursor)
	p.send(a)
	a.leave()
}

// file sets dst, the current task before, to the open file of the descriptor
// in fd (not R1 to R5 unless it is R1), and jumps to none if there is none. It
// uses areaParent.
func (p *programs) file(a *assembler, dst, fd asm.Register, none string) {
	a.store(asm.R6, areaParent, fd)
	a.follow(dst, dst, p.l.taskFiles)
	a.follow(dst, dst, p.l.filesFdt)
	a.peek(asm.R2, dst, p.l.fdtMax, asm.Word)
	a.load32(asm.R1, asm.R6, areaParent)
	a.add(asm.JGE.Reg(asm.R1, asm.R2, none))
	a.follow(dst, dst, p.l.fdtFd)
	a.load32(asm.R1, asm.R6, areaParent)
	a.add(asm.LSh.Imm(asm.R1, 3), asm.Add.Reg(dst, asm.R1))
	a.follow(dst, dst, 0)
	a.add(asm.JEq.Imm(dst, 0, none))
}

// send sends the event in the area R6 with R3 bytes of data. The reader is
// woken only when much is waiting: it looks by itself now and then.
func (p *programs) send(a *assembler) {
	const (
		availableData = 0
		noWakeup      = 1
		forceWakeup   = 2
	)
	ok, wake, lost := a.unique("sent"), a.unique("wake"), a.unique("big")
	a.add(asm.JGT.Imm(asm.R3, maxData, lost), asm.Add.Imm(asm.R3, eventData))
	a.store(asm.R6, areaCursor, asm.R3)
	a.add(asm.Mov.Imm(asm.R2, availableData), asm.LoadMapPtr(asm.R1, p.maps.ring.FD()))
	a.call(asm.FnRingbufQuery)
	a.add(asm.Mov.Imm(asm.R4, forceWakeup), asm.JGT.Imm(asm.R0, ringNotice, wake), asm.Mov.Imm(asm.R4, noWakeup))
	a.mark(wake)
	a.load(asm.R3, asm.R6, areaCursor)
	a.add(asm.JGT.Imm(asm.R3, maxData+eventData, lost))
	a.address(asm.R2, asm.R6, areaEvent)
	a.add(asm.LoadMapPtr(asm.R1, p.maps.ring.FD()))
	a.call(asm.FnRingbufOutput)
	a.add(asm.JEq.Imm(asm.R0, 0, ok))
	a.mark(lost)
	a.bump(p.maps.stats, statLost)
	a.mark(ok)
}
