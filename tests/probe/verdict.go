package main

import (
	"errors"
	"slices"
	"syscall"
)

// A verdict is what came of one attempt.
type verdict string

const (
	blocked verdict = "blocked" // somebody said no: filter, capability check, mount flag, mask
	open    verdict = "OPEN"    // the attempt worked, or got past every check to the code behind them
	absent  verdict = "absent"  // this kernel or machine has no such thing to protect
)

// attempt is one thing a contained program must not be able to do. Every
// attempt is harmless where it succeeds: wrong arguments, opens without
// writes, changes to the probe itself.
type attempt struct {
	id    string // stable name for machines
	group string // heading for humans
	what  string // what is tried, in a few words
	try   func() outcome
}

// outcome is the answer of one attempt.
type outcome struct {
	verdict verdict
	errno   syscall.Errno // 0 if there was none
	note    string        // what was seen, for humans
}

// policyErrnos are what a filter, a capability check or a mount says.
var policyErrnos = []syscall.Errno{syscall.EPERM, syscall.EACCES, syscall.ENOSYS, syscall.EROFS}

// byErrno judges a plain attempt: a policy errno is blocked, one of gone is
// absent, and everything else is OPEN: an EINVAL or EFAULT means the kernel's
// code behind the checks was reached.
func byErrno(err error, gone ...syscall.Errno) outcome {
	if err == nil {
		return outcome{verdict: open, note: "it worked"}
	}
	var e syscall.Errno
	if !errors.As(err, &e) {
		return outcome{verdict: open, note: err.Error()}
	}
	switch {
	case slices.Contains(policyErrnos, e):
		return outcome{verdict: blocked, errno: e}
	case slices.Contains(gone, e):
		return outcome{verdict: absent, errno: e}
	case e == 0:
		return outcome{verdict: open, note: "it worked"}
	}
	return outcome{verdict: open, errno: e, note: "reached the kernel's code"}
}

// errnoNames are the errnos the probe expects to print.
var errnoNames = map[syscall.Errno]string{
	syscall.EPERM: "EPERM", syscall.EACCES: "EACCES", syscall.ENOSYS: "ENOSYS", syscall.EROFS: "EROFS",
	syscall.EINVAL: "EINVAL", syscall.ENOENT: "ENOENT", syscall.ENODEV: "ENODEV", syscall.ENXIO: "ENXIO",
	syscall.EAFNOSUPPORT: "EAFNOSUPPORT", syscall.EPROTONOSUPPORT: "EPROTONOSUPPORT",
	syscall.ESOCKTNOSUPPORT: "ESOCKTNOSUPPORT", syscall.EOPNOTSUPP: "EOPNOTSUPP", syscall.ENOTTY: "ENOTTY",
	syscall.EBADF: "EBADF", syscall.EFAULT: "EFAULT", syscall.EIO: "EIO", syscall.ENOSPC: "ENOSPC",
	syscall.EBUSY: "EBUSY", syscall.ESRCH: "ESRCH", syscall.EEXIST: "EEXIST", syscall.ENOTDIR: "ENOTDIR",
	syscall.EISDIR: "EISDIR", syscall.EOVERFLOW: "EOVERFLOW", syscall.EMFILE: "EMFILE", syscall.ENOTBLK: "ENOTBLK",
}

func errnoName(e syscall.Errno) string {
	if n, ok := errnoNames[e]; ok {
		return n
	}
	if e == 0 {
		return ""
	}
	return e.Error()
}

// worst folds several outcomes of one row: OPEN beats blocked beats absent.
func worst(all []outcome) outcome {
	rank := map[verdict]int{absent: 0, blocked: 1, open: 2}
	if len(all) == 0 {
		return outcome{verdict: absent}
	}
	w := all[0]
	for _, o := range all[1:] {
		if rank[o.verdict] > rank[w.verdict] {
			w = o
		}
	}
	return w
}
