package learn

import (
	"math"

	"github.com/cilium/ebpf"
)

// The area a processor's running program works in, offsets in bytes. An event
// is put together at its end and sent from there.
const (
	areaRegs     = 0   // a copy of the registers the call was made with
	areaRegsSize = 344 // as much as any machine's
	areaArgs     = 344
	areaDesc     = 392 // the call's shape
	areaPath     = 400 // pointer to a path
	areaDir      = 408 // descriptor it starts at
	areaMnt      = 416 // where the walk is
	areaParent   = 424
	areaCursor   = 432 // bytes of the event's data in use
	areaWho      = 440 // whoXxx, a copy
	areaKey      = 472 // callKey
	areaCaps     = 504 // capsKey
	areaRet      = 552
	areaEvent    = 560
	areaSize     = areaEvent + eventData + maxData
)

// What is kept of each counted process.
const (
	whoUserns     = 0 // inode of the container's user namespace, 32 bits
	whoTarget     = 4 // number of the container
	whoRootMnt    = 8 // root directory of the container
	whoRootDentry = 16
	whoSize       = 24
)

// What is known of each container that is followed, by its pid namespace.
const (
	targetUserns = 0
	targetNumber = 4
	targetCgroup = 8 // slot in the array of cgroups, noCgroup: not compared
	targetSize   = 16
	noCgroup     = math.MaxUint32
)

// Capabilities asked for in the call a thread is in, as masks.
const (
	askedGranted = 0
	askedRefused = 8
	askedForeign = 16
	askedSize    = 24
)

// Keys of counters.
const (
	keyNr    = 0
	keyErrno = 4
	keyArg   = 8
	keyComm  = 16
	keySize  = 32

	capsNr      = 0
	capsGranted = 8
	capsRefused = 16
	capsForeign = 24
	capsComm    = 32
	capsSize    = 48

	commSize = 16
)

// An event.
const (
	eventNr      = 0
	eventErrno   = 4
	eventRefused = 8
	eventForeign = 16
	eventUID     = 24
	eventTarget  = 28
	eventComm    = 32
	eventArg     = 48 // flags of open; type and protocol<<32 of a socket
	eventLength  = 56 // of the path with its 0 byte, or of the socket address
	eventNames   = 60 // 16 bits: how many names follow, from the innermost directory out
	eventWalk    = 62 // 16 bits: walkXxx
	eventData    = 64

	maxPath    = 512 // read of a path
	maxName    = 256
	maxNames   = 3072 // bytes of names after which the walk ends
	maxData    = maxNames + maxName
	maxAddress = 128
	maxSteps   = 48 // directories and mounts

	walkNone  = 0 // not needed
	walkDone  = 1 // the names lead to the container's root
	walkShort = 2 // they do not
)

// Counters in the map of one value.
const (
	statLost  = 0
	statExecs = 8
	statSize  = 16
)

// Sizes of maps, in entries. All are allocated at once: no allocation within
// a system call can fail or wait.
const (
	maxTargets   = 256
	maxCounted   = 1 << 15
	maxAsking    = 1 << 14
	maxCounters  = 1 << 13
	maxReserve   = 1 << 11
	ringSize     = 4 << 20
	ringNotice   = 256 << 10 // unread bytes that wake the reader at once
	maybeEntries = 1 << 16
)

// recorderMaps are the maps all programs share.
type recorderMaps struct {
	targets *ebpf.Map // pid namespace -> targetXxx
	cgroups *ebpf.Map
	counted *ebpf.Map // process -> whoXxx
	// maybe has a byte for the lowest 16 bits of a process's or thread's number:
	// 0 says without a look-up that it is not of interest. It is never cleared.
	maybe *ebpf.Map
	asked *ebpf.Map // thread -> askedXxx
	shape *ebpf.Map // system call -> callShape
	area  *ebpf.Map
	area2 *ebpf.Map // of the program at exec, which is no system call's end

	calls, callsReserve     *ebpf.Map
	refused, refusedReserve *ebpf.Map
	caps, capsReserve       *ebpf.Map
	plain                   *ebpf.Map // calls by number alone: never full
	stats                   *ebpf.Map
	ring                    *ebpf.Map
}

func newRecorderMaps(mode Mode) (m *recorderMaps, err error) {
	m = &recorderMaps{}
	counters := func(n int) int {
		if mode == Denials {
			return n / 8
		}
		return n
	}
	for _, d := range []struct {
		to              **ebpf.Map
		kind            ebpf.MapType
		name            string
		key, value, max int
	}{
		{&m.targets, ebpf.Hash, "targets", 4, targetSize, maxTargets},
		{&m.cgroups, ebpf.CGroupArray, "cgroups", 4, 4, maxTargets},
		{&m.counted, ebpf.Hash, "counted", 4, whoSize, maxCounted},
		{&m.maybe, ebpf.Array, "maybe", 4, maybeEntries, 1},
		{&m.asked, ebpf.Hash, "asked", 4, askedSize, maxAsking},
		{&m.shape, ebpf.Array, "shape", 4, 8, maxCalls},
		{&m.area, ebpf.PerCPUArray, "area", 4, areaSize, 1},
		{&m.area2, ebpf.PerCPUArray, "area2", 4, areaSize, 1},
		{&m.calls, ebpf.Hash, "calls", keySize, 8, counters(maxCounters)},
		{&m.callsReserve, ebpf.Hash, "calls2", keySize, 8, counters(maxReserve)},
		{&m.refused, ebpf.Hash, "refused", keySize, 8, counters(maxCounters)},
		{&m.refusedReserve, ebpf.Hash, "refused2", keySize, 8, counters(maxReserve)},
		{&m.caps, ebpf.Hash, "caps", capsSize, 8, counters(maxCounters)},
		{&m.capsReserve, ebpf.Hash, "caps2", capsSize, 8, counters(maxReserve)},
		{&m.plain, ebpf.Array, "plain", 4, 8, maxCalls},
		{&m.stats, ebpf.Array, "stats", 4, statSize, 1},
		{&m.ring, ebpf.RingBuf, "ring", 0, 0, ringSize},
	} {
		*d.to, err = ebpf.NewMap(&ebpf.MapSpec{
			Name: "saferun_" + d.name, Type: d.kind, KeySize: uint32(d.key), ValueSize: uint32(d.value), MaxEntries: uint32(d.max),
		})
		if err != nil {
			m.Close()
			return nil, err
		}
	}
	return m, nil
}

// Close gives the maps back.
func (m *recorderMaps) Close() {
	for _, p := range []*ebpf.Map{
		m.targets, m.cgroups, m.counted, m.maybe, m.asked, m.shape, m.area, m.area2, m.calls, m.callsReserve,
		m.refused, m.refusedReserve, m.caps, m.capsReserve, m.plain, m.stats, m.ring,
	} {
		if p != nil {
			_ = p.Close()
		}
	}
}
