package main

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
)

// Socket families by number, as in the kernel's include/linux/socket.h.
const (
	afUnix, afInet, afInet6, afNetlink = 1, 2, 10, 16
	afKey, afPacket                    = 15, 17
	afRxrpc, afAlg, afVsock            = 33, 38, 40
	afLast                             = 46
)

var allowedFamilies = []int{afUnix, afInet, afInet6, afNetlink}

func closeIf(fd uintptr, e syscall.Errno) error {
	if e != 0 {
		return e
	}
	return syscall.Close(int(fd))
}

func closePair(fds [2]int32, e syscall.Errno) error {
	if e != 0 {
		return e
	}
	_ = syscall.Close(int(fds[0]))
	return syscall.Close(int(fds[1]))
}

// familyOutcome asks for every socket type of a family by every call there
// is. A kernel without the family says EAFNOSUPPORT to any type; with it,
// at least one type gives another answer.
func familyOutcome(family int) outcome {
	var all []outcome
	for _, call := range socketCalls {
		for _, typ := range []int{syscall.SOCK_STREAM, syscall.SOCK_DGRAM, syscall.SOCK_RAW, syscall.SOCK_SEQPACKET} {
			all = append(all, byErrno(call(family, typ, 0), syscall.EAFNOSUPPORT))
		}
	}
	return worst(all)
}

func family(n int) func() outcome {
	return func() outcome { return familyOutcome(n) }
}

// families walks all numbers and folds them into one outcome.
func families(skip []int, of func(int) outcome) outcome {
	count := map[verdict]int{}
	var all []outcome
	var opened []string
	for n := range afLast + 1 {
		if slices.Contains(skip, n) {
			continue
		}
		o := of(n)
		count[o.verdict]++
		if o.verdict == open {
			opened = append(opened, fmt.Sprintf("%d (%s)", n, errnoName(o.errno)))
		}
		all = append(all, o)
	}
	w := worst(all)
	w.note = fmt.Sprintf("%d blocked, %d absent", count[blocked], count[absent])
	if len(opened) > 0 {
		w.note += ", OPEN: " + strings.Join(opened, " ")
	}
	return w
}

func otherFamilies() outcome {
	return families(allowedFamilies, familyOutcome)
}

// pairFamilies: socketpair(2) makes two sockets of the family before it asks
// whether the family has pairs, so it reaches the same code as socket(2).
func pairFamilies() outcome {
	return families(allowedFamilies, func(n int) outcome {
		return byErrno(socketpair(n, syscall.SOCK_STREAM), syscall.EAFNOSUPPORT)
	})
}

// rawInet needs CAP_NET_RAW in the network namespace's owner.
func rawInet() outcome {
	var all []outcome
	for _, call := range socketCalls {
		all = append(all, byErrno(call(afInet, syscall.SOCK_RAW, syscall.IPPROTO_ICMP), syscall.EAFNOSUPPORT))
	}
	return worst(all)
}

// netlinkOthers: only NETLINK_ROUTE (0) is needed to read addresses and
// routes. XFRM, NETFILTER, CRYPTO and the rest were the way into several
// kernel holes.
func netlinkOthers() outcome {
	count := map[verdict]int{}
	var all []outcome
	var opened []string
	for proto := 1; proto <= 31; proto++ {
		for _, call := range socketCalls {
			o := byErrno(call(afNetlink, syscall.SOCK_RAW, proto), syscall.EPROTONOSUPPORT)
			count[o.verdict]++
			if o.verdict == open {
				opened = append(opened, fmt.Sprint(proto))
			}
			all = append(all, o)
		}
	}
	w := worst(all)
	w.note = fmt.Sprintf("%d blocked, %d absent", count[blocked], count[absent])
	if len(opened) > 0 {
		w.note += ", OPEN: protocols " + strings.Join(opened, " ")
	}
	return w
}

func socketAttempts() []attempt {
	const g = "sockets"
	rows := []attempt{
		{"socket-families", g, "families 0..46 but UNIX, INET, INET6, NETLINK", otherFamilies},
		{"socketpair-families", g, "the same through socketpair", pairFamilies},
		{"netlink-protocols", g, "netlink protocols but ROUTE (XFRM, NETFILTER, ...)", netlinkOthers},
		{"socket-packet", g, "AF_PACKET: read and forge the network's frames", family(afPacket)},
		{"socket-raw", g, "raw ICMP socket", rawInet},
		{"socket-vsock", g, "AF_VSOCK: talk to the hypervisor", family(afVsock)},
		{"socket-alg", g, "AF_ALG: kernel crypto, page cache writes", family(afAlg)},
		{"socket-key", g, "AF_KEY: IPsec keys", family(afKey)},
		{"socket-rxrpc", g, "AF_RXRPC", family(afRxrpc)},
	}
	return rows
}
