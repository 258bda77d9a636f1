package learn

import (
	"cmp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// callKey and capsKey are the keys of the programs' counters.
type callKey struct {
	Nr, Errno uint32
	Arg       uint64
	Comm      [commSize]byte
}

type capsKey struct {
	Nr                        uint64
	Granted, Refused, Foreign uint64
	Comm                      [commSize]byte
}

// counters are the programs' counters at one moment.
type counters struct {
	calls, refused map[callKey]uint64
	caps           map[capsKey]uint64
	plain          []uint64 // by number, without argument and process
	execs          uint64
	everything     bool
}

func (r *Recorder) readCounters(execs uint64) (counters, error) {
	c := counters{
		calls: map[callKey]uint64{}, refused: map[callKey]uint64{}, caps: map[capsKey]uint64{},
		plain: make([]uint64, maxCalls), execs: execs, everything: r.mode == Everything,
	}
	if err := cmp.Or(
		readCounter(r.maps.calls, c.calls), readCounter(r.maps.callsReserve, c.calls),
		readCounter(r.maps.refused, c.refused), readCounter(r.maps.refusedReserve, c.refused),
		readCounter(r.maps.caps, c.caps), readCounter(r.maps.capsReserve, c.caps),
	); err != nil {
		return c, err
	}
	for nr := range c.plain {
		if !c.everything || r.calls.names[nr] == "" {
			continue
		}
		if err := r.maps.plain.Lookup(uint32(nr), &c.plain[nr]); err != nil {
			return c, err
		}
	}
	return c, nil
}

// put adds the counters to a recording that has its events, in order.
func (c *counters) put(out *Recording, t *callTable, explained map[[2]uint32]bool) {
	caps := map[CapabilityUse]uint64{}
	for k, n := range c.caps {
		for _, v := range []struct {
			mask          uint64
			refused, host bool
		}{{k.Granted, false, false}, {k.Refused, true, false}, {k.Foreign &^ k.Refused, true, true}} {
			for _, name := range capNames(v.mask) {
				u := CapabilityUse{Name: name, Refused: v.refused, Host: v.host, Syscall: t.name(uint32(k.Nr)), Process: text(k.Comm[:])}
				caps[u] += n
			}
		}
	}
	for u, n := range caps {
		u.Count = n
		out.Capabilities = append(out.Capabilities, u)
	}
	for k, n := range c.refused {
		if explained[[2]uint32{k.Nr, k.Errno}] {
			continue
		}
		out.Refused = append(out.Refused, RefusedCall{
			Name: t.name(k.Nr), Arg: k.Arg, Errno: unix.Errno(k.Errno), Process: text(k.Comm[:]), Count: n,
		})
	}
	c.putCalls(out, t)
	sortRecording(out)
}

func (c *counters) putCalls(out *Recording, t *callTable) {
	seen := map[string]bool{}
	add := func(u SyscallUse) {
		seen[u.Name] = true
		out.Syscalls = append(out.Syscalls, u)
	}
	for k, n := range c.calls {
		add(SyscallUse{Name: t.name(k.Nr), Arg: k.Arg, Process: text(k.Comm[:]), Count: n})
	}
	for nr, n := range c.plain {
		if n > 0 {
			add(SyscallUse{Name: t.name(uint32(nr)), Count: n})
		}
	}
	if c.execs == 0 || !c.everything {
		return
	}
	// These do not return, or not as themselves.
	for _, name := range []string{"execve", "exit", "exit_group", "rt_sigreturn"} {
		if !seen[name] {
			add(SyscallUse{Name: name, Count: c.execs})
		}
	}
}

func sortRecording(r *Recording) {
	yes := func(a, b bool) int {
		switch {
		case a == b:
			return 0
		case b:
			return -1
		}
		return 1
	}
	slices.SortFunc(r.Capabilities, func(a, b CapabilityUse) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), yes(a.Refused, b.Refused), yes(a.Host, b.Host),
			cmp.Compare(a.Syscall, b.Syscall), cmp.Compare(a.Process, b.Process))
	})
	slices.SortFunc(r.Syscalls, func(a, b SyscallUse) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Arg, b.Arg), cmp.Compare(a.Process, b.Process), cmp.Compare(a.Count, b.Count))
	})
	slices.SortFunc(r.Refused, func(a, b RefusedCall) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Arg, b.Arg), cmp.Compare(a.Errno, b.Errno), cmp.Compare(a.Process, b.Process))
	})
	slices.SortFunc(r.Paths, func(a, b PathUse) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Errno, b.Errno), cmp.Compare(a.Syscall, b.Syscall), yes(a.Write, b.Write),
			cmp.Compare(a.UID, b.UID), cmp.Compare(a.Process, b.Process), slices.CompareFunc(a.Capabilities, b.Capabilities, strings.Compare))
	})
	slices.SortFunc(r.Sockets, func(a, b SocketUse) int {
		return cmp.Or(yes(a.Bind, b.Bind), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Address, b.Address), cmp.Compare(a.Errno, b.Errno),
			cmp.Compare(a.Process, b.Process))
	})
}
