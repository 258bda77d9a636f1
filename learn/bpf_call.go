package learn

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Results of calls that are told apart.
const (
	eperm       = int32(unix.EPERM)
	eacces      = int32(unix.EACCES)
	erofs       = int32(unix.EROFS)
	enosys      = int32(unix.ENOSYS)
	enospc      = int32(unix.ENOSPC)
	einprogress = int32(unix.EINPROGRESS)
	refusedConn = int32(unix.ECONNREFUSED) // as the egress list does
	maxErrno    = 4095
)

// callEnd looks at every system call when it returns: a call refused by a
// seccomp filter is not seen anywhere else. Arguments: registers, result.
func (p *programs) callEnd() asm.Instructions {
	const key = -16
	a := &assembler{}
	a.move(asm.R6, asm.R1)
	a.load(asm.R7, asm.R6, 8)
	a.call(asm.FnGetCurrentPidTgid)
	a.move(asm.R8, asm.R0)
	if p.mode == Denials {
		for _, e := range []int32{eperm, eacces, erofs, enosys, enospc, refusedConn} {
			a.add(asm.JEq.Imm(asm.R7, -e, "look"))
		}
		// What was asked for in a call that did not fail is of no interest, but
		// for a netlink message's: its refusal comes as another message.
		p.isMaybe(a, asm.R8, 0, "out")
		a.store32(asm.RFP, key, asm.R8)
		a.hash(asm.FnMapLookupElem, p.maps.asked, asm.RFP, key) // without a lock
		a.add(asm.JEq.Imm(asm.R0, 0, "out"))
		a.load(asm.R1, asm.R0, askedRefused)
		a.add(asm.JSet.Imm(asm.R1, 1<<unix.CAP_NET_ADMIN, "look"))
		a.hash(asm.FnMapDeleteElem, p.maps.asked, asm.RFP, key)
		a.mark("out")
		a.leave()
		a.mark("look")
	}
	p.isCounted(a, asm.R8, key, "end")
	a.move(asm.R9, asm.R0)
	a.add(asm.StoreImm(asm.RFP, key, 0, asm.Word))
	a.hash(asm.FnMapLookupElem, p.maps.area, asm.RFP, key)
	a.add(asm.JEq.Imm(asm.R0, 0, "end"))
	a.load(asm.R3, asm.R6, 0)
	a.move(asm.R6, asm.R0)
	copyWords(a, asm.R6, areaWho, asm.R9, 0, whoSize)
	a.store(asm.R6, areaRet, asm.R7)
	a.address(asm.R1, asm.R6, areaRegs)
	a.add(asm.Mov.Imm(asm.R2, int32(p.regsLen)), asm.Add.Imm(asm.R3, int32(p.regsLow)))
	a.call(asm.FnProbeReadKernel)

	p.takeAsked(a, key)
	a.load32(asm.R9, asm.R6, areaRegs+p.l.regNr-p.regsLow)
	a.add(asm.LoadImm(asm.R1, 0xffffffff, asm.DWord), asm.JEq.Reg(asm.R9, asm.R1, "end")) // return from a signal handler
	a.call(asm.FnGetCurrentTask)
	a.peek(asm.R1, asm.R0, p.l.taskCompat, asm.Word)
	a.add(asm.JSet.Imm(asm.R1, p.l.compatMask, "lost")) // other numbers: a 32-bit program

	a.store32(asm.R6, areaKey+keyNr, asm.R9)
	a.add(asm.StoreImm(asm.R6, areaKey+keyErrno, 0, asm.Word), store64(asm.R6, areaKey+keyArg, 0))
	a.address(asm.R1, asm.R6, areaKey+keyComm)
	a.add(asm.Mov.Imm(asm.R2, commSize))
	a.call(asm.FnGetCurrentComm)
	a.add(store64(asm.R6, areaDesc, 0))
	a.hash(asm.FnMapLookupElem, p.maps.shape, asm.R6, areaKey+keyNr)
	a.add(asm.JEq.Imm(asm.R0, 0, "plain"))
	a.load(asm.R9, asm.R0, 0)
	a.add(asm.JEq.Imm(asm.R9, 0, "plain"))
	a.store(asm.R6, areaDesc, asm.R9)
	for i, off := range p.l.regArgs {
		a.load(asm.R1, asm.R6, areaRegs+off-p.regsLow)
		a.store(asm.R6, areaArgs+8*i, asm.R1)
	}
	p.bits(a, asm.R1)
	a.add(asm.JSet.Imm(asm.R1, shapeForks, "forks"), asm.Ja.Label("parent"))
	a.mark("forks")
	a.add(asm.JEq.Imm(asm.R7, 0, "end")) // in the child; its parent's return tells
	a.mark("parent")
	p.argument(a, asm.R1, 5)
	a.store(asm.R6, areaKey+keyArg, asm.R1)

	a.mark("plain")
	// R8 becomes the error, 0 if there is none.
	a.add(asm.Mov.Imm(asm.R8, 0), asm.JSGE.Imm(asm.R7, 0, "good"), asm.JSLT.Imm(asm.R7, -maxErrno, "good"))
	a.add(asm.Sub.Reg(asm.R8, asm.R7))
	a.mark("good")
	p.countCaps(a)
	p.countCall(a)
	p.event(a)
	a.mark("end")
	a.leave()
	a.mark("lost")
	a.bump(p.maps.stats, statLost)
	a.leave()
	p.path(a, asm.FnProbeReadUserStr)
	return a.ins
}

// bits loads the shape's bits.
func (p *programs) bits(a *assembler, dst asm.Register) {
	a.add(asm.LoadMem(dst, asm.R6, areaDesc+7, asm.Byte))
}

// argument sets dst to the argument that byte n of the shape names, 0 if it
// names none. It spoils R1.
func (p *programs) argument(a *assembler, dst asm.Register, n int) {
	none, done := a.unique("none"), a.unique("argument")
	a.add(asm.LoadMem(asm.R1, asm.R6, int16(areaDesc+n), asm.Byte), asm.And.Imm(asm.R1, ^byPointer&0xff), asm.Sub.Imm(asm.R1, 1))
	a.add(asm.JGT.Imm(asm.R1, 5, none), asm.LSh.Imm(asm.R1, 3), asm.Add.Reg(asm.R1, asm.R6))
	a.load(dst, asm.R1, areaArgs)
	a.add(asm.Ja.Label(done))
	a.mark(none)
	a.add(asm.Mov.Imm(dst, 0))
	a.mark(done)
}

// takeAsked moves what the thread R8 asked for into the key of capabilities.
func (p *programs) takeAsked(a *assembler, key int) {
	none, done := a.unique("none"), a.unique("taken")
	a.store32(asm.RFP, key, asm.R8)
	a.hash(asm.FnMapLookupElem, p.maps.asked, asm.RFP, key)
	a.add(asm.JEq.Imm(asm.R0, 0, none))
	copyWords(a, asm.R6, areaCaps+capsGranted, asm.R0, askedGranted, askedSize)
	a.hash(asm.FnMapDeleteElem, p.maps.asked, asm.RFP, key)
	a.add(asm.Ja.Label(done))
	a.mark(none)
	a.zero(asm.R6, areaCaps+capsGranted, askedSize)
	a.mark(done)
}

// countCaps counts the capabilities of the call. Those refused count only if
// the call failed for want of a right: the kernel also asks where it would
// merely like to know, as for each mmap whether memory may be overcommitted.
// It asks that even outside of calls (page faults), for CAP_SYS_ADMIN in the
// host's user namespace, and so that one counts only for calls that have
// another reason to want it.
func (p *programs) countCaps(a *assembler) {
	const (
		granted = areaCaps + capsGranted
		refused = areaCaps + capsRefused
		foreign = areaCaps + capsForeign
		admin   = 1 << unix.CAP_SYS_ADMIN
	)
	p.bits(a, asm.R2)
	a.add(asm.JSet.Imm(asm.R2, shapeRoot, "caps.admin"))
	a.load(asm.R1, asm.R6, foreign)
	a.add(asm.And.Imm(asm.R1, ^admin))
	a.store(asm.R6, foreign, asm.R1)
	a.load32(asm.R1, asm.R6, areaWho+whoUserns)
	a.add(asm.LoadImm(asm.R2, hostUserNamespace, asm.DWord), asm.JNE.Reg(asm.R1, asm.R2, "caps.admin"))
	for _, mask := range []int{granted, refused} {
		a.load(asm.R1, asm.R6, mask)
		a.add(asm.And.Imm(asm.R1, ^admin))
		a.store(asm.R6, mask, asm.R1)
	}
	a.mark("caps.admin")
	a.add(asm.JEq.Imm(asm.R8, eperm, "caps.denied"), asm.JEq.Imm(asm.R8, eacces, "caps.denied"))
	p.bits(a, asm.R2)
	a.load(asm.R1, asm.R6, refused)
	a.add(asm.And.Imm(asm.R1, 1<<unix.CAP_NET_ADMIN))
	a.zero(asm.R6, refused, 16)
	a.add(asm.JSet.Imm(asm.R2, shapeAnswered, "caps.answered"), asm.Ja.Label("caps.known"))
	a.mark("caps.answered")
	a.store(asm.R6, refused, asm.R1)
	a.add(asm.Ja.Label("caps.known"))
	a.mark("caps.denied")
	a.load(asm.R2, asm.R6, granted)
	a.add(asm.Xor.Imm(asm.R2, -1))
	a.load(asm.R1, asm.R6, refused)
	a.add(asm.And.Reg(asm.R1, asm.R2))
	a.store(asm.R6, refused, asm.R1)
	a.load(asm.R1, asm.R6, foreign)
	a.add(asm.And.Reg(asm.R1, asm.R2))
	a.store(asm.R6, foreign, asm.R1)
	a.mark("caps.known")
	if p.mode == Denials {
		a.zero(asm.R6, granted, 8)
	}
	a.load(asm.R1, asm.R6, granted)
	a.load(asm.R2, asm.R6, refused)
	a.add(asm.Or.Reg(asm.R1, asm.R2))
	a.load(asm.R2, asm.R6, foreign)
	a.add(asm.Or.Reg(asm.R1, asm.R2), asm.JEq.Imm(asm.R1, 0, "caps.done"))
	a.load32(asm.R1, asm.R6, areaKey+keyNr)
	a.store(asm.R6, areaCaps+capsNr, asm.R1)
	copyWords(a, asm.R6, areaCaps+capsComm, asm.R6, areaKey+keyComm, commSize)
	p.tally(a, p.maps.caps, p.maps.capsReserve, areaCaps, capsComm)
	a.mark("caps.done")
}

// tally counts a key. If the map is full the process's name is left out and
// the reserve used: a name is the process's choice, and there are many.
func (p *programs) tally(a *assembler, m, reserve *ebpf.Map, key, comm int) {
	full, gone, done := a.unique("full"), a.unique("gone"), a.unique("tallied")
	a.count(m, asm.R6, key, full)
	a.add(asm.Ja.Label(done))
	a.mark(full)
	a.zero(asm.R6, key+comm, commSize)
	a.count(reserve, asm.R6, key, gone)
	a.add(asm.Ja.Label(done))
	a.mark(gone)
	if m == p.maps.calls {
		a.hash(asm.FnMapLookupElem, p.maps.plain, asm.R6, key+keyNr)
		none := a.unique("none")
		a.add(asm.JEq.Imm(asm.R0, 0, none), asm.Mov.Imm(asm.R1, 1), asm.StoreXAdd(asm.R0, asm.R1, asm.DWord), asm.Ja.Label(done))
		a.mark(none)
	}
	a.bump(p.maps.stats, statLost)
	a.mark(done)
}

// countCall counts the call: as refused if it was not for want of a
// capability, else as made. A call that may not be made without a path telling
// why may be both.
func (p *programs) countCall(a *assembler) {
	a.load(asm.R1, asm.R6, areaCaps+capsRefused)
	a.load(asm.R2, asm.R6, areaCaps+capsForeign)
	a.add(asm.Or.Reg(asm.R1, asm.R2))
	a.add(asm.JEq.Imm(asm.R8, enosys, "call.refused"))
	a.add(asm.JNE.Imm(asm.R1, 0, "call.made"))
	a.add(asm.JEq.Imm(asm.R8, eperm, "call.refused"))
	a.add(asm.JNE.Imm(asm.R8, eacces, "call.made"))
	a.add(asm.LoadMem(asm.R1, asm.R6, areaDesc, asm.Byte), asm.JNE.Imm(asm.R1, 0, "call.made"))
	a.mark("call.refused")
	a.store32(asm.R6, areaKey+keyErrno, asm.R8)
	p.tally(a, p.maps.refused, p.maps.refusedReserve, areaKey, keyComm)
	a.add(asm.StoreImm(asm.R6, areaKey+keyErrno, 0, asm.Word))
	a.add(asm.JNE.Imm(asm.R8, eacces, "call.done"))
	a.mark("call.made")
	if p.mode == Everything {
		p.tally(a, p.maps.calls, p.maps.callsReserve, areaKey, keyComm)
	}
	a.mark("call.done")
}

// event sends the path or the address of the call, if it is of interest.
func (p *programs) event(a *assembler) {
	const header = areaEvent
	a.add(asm.LoadMem(asm.R9, asm.R6, areaDesc, asm.Byte), asm.JEq.Imm(asm.R9, 0, "end"))
	// Flags of open.
	a.add(store64(asm.R6, header+eventArg, 0))
	a.add(asm.LoadMem(asm.R1, asm.R6, areaDesc+6, asm.Byte), asm.JEq.Imm(asm.R1, 0, "event.flags"))
	p.argument(a, asm.R3, 6)
	a.store(asm.R6, header+eventArg, asm.R3)
	a.add(asm.LoadMem(asm.R1, asm.R6, areaDesc+6, asm.Byte), asm.And.Imm(asm.R1, byPointer), asm.JEq.Imm(asm.R1, 0, "event.flags"))
	a.address(asm.R1, asm.R6, header+eventArg)
	a.add(asm.Mov.Imm(asm.R2, 8))
	a.call(asm.FnProbeReadUser)
	a.mark("event.flags")
	p.bits(a, asm.R1)
	a.add(asm.JEq.Imm(asm.R8, erofs, "event.send"), asm.JEq.Imm(asm.R8, enospc, "event.room"), asm.JEq.Imm(asm.R8, refusedConn, "event.connect"))
	a.add(asm.JEq.Imm(asm.R8, eperm, "event.denied"), asm.JEq.Imm(asm.R8, eacces, "event.denied"))
	if p.mode == Everything {
		a.add(asm.JEq.Imm(asm.R9, kindSocket, "event.socket"), asm.JSLT.Imm(asm.R7, 0, "end"))
		a.add(asm.JSet.Imm(asm.R1, shapeWrites, "event.send"))
		a.add(asm.LoadMem(asm.R2, asm.R6, header+eventArg, asm.Word))
		a.add(asm.JSet.Imm(asm.R2, openWrites, "event.send"))
	}
	a.add(asm.Ja.Label("end"))
	a.mark("event.room")
	a.add(asm.JEq.Imm(asm.R9, kindPath, "event.send"), asm.Ja.Label("end"))
	a.mark("event.connect")
	a.add(asm.JEq.Imm(asm.R9, kindSocket, "event.send"), asm.Ja.Label("end"))
	a.mark("event.denied")
	a.add(asm.JSet.Imm(asm.R1, shapeProbe, "end"), asm.Ja.Label("event.send"))
	if p.mode == Everything {
		a.mark("event.socket")
		a.add(asm.JSGE.Imm(asm.R7, 0, "event.send"), asm.JNE.Imm(asm.R8, einprogress, "end"), asm.Mov.Imm(asm.R8, 0))
	}
	a.mark("event.send")
	a.load32(asm.R1, asm.R6, areaKey+keyNr)
	a.store32(asm.R6, header+eventNr, asm.R1)
	a.store32(asm.R6, header+eventErrno, asm.R8)
	copyWords(a, asm.R6, header+eventRefused, asm.R6, areaCaps+capsRefused, 16)
	a.load32(asm.R1, asm.R6, areaWho+whoTarget)
	a.store32(asm.R6, header+eventTarget, asm.R1)
	a.address(asm.R1, asm.R6, header+eventComm)
	a.add(asm.Mov.Imm(asm.R2, commSize))
	a.call(asm.FnGetCurrentComm)
	a.call(asm.FnGetCurrentTask)
	a.move(asm.R8, asm.R0)
	a.follow(asm.R3, asm.R8, p.l.taskCred)
	a.peek(asm.R1, asm.R3, p.l.credFsuid, asm.Word)
	a.store32(asm.R6, header+eventUID, asm.R1)
	a.add(asm.JEq.Imm(asm.R9, kindSocket, "event.address"))
	p.sendPath(a, 1)
	a.add(asm.LoadMem(asm.R1, asm.R6, areaDesc+3, asm.Byte), asm.JEq.Imm(asm.R1, 0, "end"))
	p.sendPath(a, 3)
	a.add(asm.Ja.Label("end"))
	a.mark("event.address")
	p.sendAddress(a)
}

// openWrites are the flags of an open that may change something.
const openWrites = unix.O_WRONLY | unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC

// sendPath sends the event with the path whose argument is in byte n of the
// shape, and its directory's in the next.
func (p *programs) sendPath(a *assembler, n int) {
	dir := a.unique("dir")
	p.argument(a, asm.R2, n)
	a.store(asm.R6, areaPath, asm.R2)
	a.add(store64(asm.R6, areaDir, atCwd))
	a.add(asm.LoadMem(asm.R1, asm.R6, int16(areaDesc+n+1), asm.Byte), asm.JEq.Imm(asm.R1, 0, dir))
	p.argument(a, asm.R2, n+1)
	a.store(asm.R6, areaDir, asm.R2)
	a.mark(dir)
	a.move(asm.R1, asm.R6)
	a.add(asm.Call.Label("path"))
}

// sendAddress sends the event with a socket address. R8 is the current task.
func (p *programs) sendAddress(a *assembler) {
	a.load32(asm.R1, asm.R6, areaArgs)
	p.file(a, asm.R8, asm.R1, "end")
	a.follow(asm.R8, asm.R8, p.l.filePrivate)
	a.peek(asm.R9, asm.R8, p.l.socketType, asm.Half)
	a.follow(asm.R8, asm.R8, p.l.socketSk)
	a.peek(asm.R1, asm.R8, p.l.sockProtocol, asm.Half)
	a.add(asm.LSh.Imm(asm.R1, 32), asm.Or.Reg(asm.R1, asm.R9))
	a.store(asm.R6, areaEvent+eventArg, asm.R1)
	a.add(asm.StoreImm(asm.R6, areaEvent+eventNames, 0, asm.Word))
	a.load32(asm.R2, asm.R6, areaArgs+16)
	a.add(asm.JLE.Imm(asm.R2, maxAddress, "address.fits"), asm.Mov.Imm(asm.R2, maxAddress))
	a.mark("address.fits")
	a.add(asm.JLT.Imm(asm.R2, 2, "end"))
	a.store32(asm.R6, areaEvent+eventLength, asm.R2)
	a.load(asm.R3, asm.R6, areaArgs+8)
	a.address(asm.R1, asm.R6, areaEvent+eventData)
	a.call(asm.FnProbeReadUser)
	a.add(asm.JNE.Imm(asm.R0, 0, "lost"))
	a.load32(asm.R3, asm.R6, areaEvent+eventLength)
	p.send(a)
}
