package learn

import (
	"runtime"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/profiles"
)

// runtimeCalls are the system calls that every list needs, whatever was
// recorded. Sorted.
//
// Part of it is what the runtime does between loading the filter and executing
// the program. For runc 1.5.2 that was found by taking each name out of a
// list in turn and starting a program of one instruction: it closes its
// pipes, opens the FIFO and its own list of descriptors by way of a checked
// /proc (openat2; openat and readlinkat where openat2 is denied), and closes
// the rest. It is a Go program, so its scheduler and collector may run at any
// of these steps, and what they need is there too. crun does less: it
// closes descriptors and executes.
//
// The rest is what no recording can be trusted to show: calls that do not
// return; those that depend on chance, such as the size of the heap, a lock
// that another thread holds, a signal in the middle of a sleep, or abort(3); and
// those that are no system calls (vdso(7)) unless the machine's clock source
// cannot be read by programs, which differs by machine and may change on one.
func runtimeCalls() []string {
	names := []string{
		// runc, measured; fstat as libraries of other architectures spell it
		"close", "execve", "exit_group", "fcntl", "fstat", "fstatfs", "futex", "getdents64", "newfstatat",
		"openat", "openat2", "readlinkat", "rt_sigreturn", "statx", "write",
		// its language's runtime
		"clone", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "eventfd2", "getpid", "gettid", "getrandom", "madvise",
		"mmap", "mprotect", "munmap", "nanosleep", "read", "rseq", "rt_sigaction", "rt_sigprocmask", "sched_getaffinity",
		"sched_yield", "set_robust_list", "sigaltstack", "tgkill",
		// crun
		"close_range", "prctl",
		// never seen to return
		"exit", "restart_syscall",
		// malloc, sleep and abort of C libraries
		"brk", "clock_nanosleep", "mremap",
		// vDSO
		"clock_getres", "clock_gettime", "getcpu", "gettimeofday", "time",
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// permittedCalls gives, of some names of system calls, those that the built-in
// filter permits a container with these capabilities (CAP_ names), with or
// without conditions on arguments. Sorted; a name that is no system call is
// never in it.
func permittedCalls(names, capabilities []string) []string {
	permitted := builtinCalls(capabilities)
	var out []string
	for _, name := range names {
		if permitted[name] {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// newestKernel is above every condition on kernels in the built-in filter: a
// call an older kernel does not have costs nothing.
const newestKernel = 1 << 16

func builtinCalls(capabilities []string) map[string]bool {
	set := map[string]bool{}
	for name := range builtinRules(capabilities) {
		set[name] = true
	}
	return set
}

// builtinRules gives, by name, what the built-in filter permits: each rule's
// conditions, of which there are none if all calls are permitted.
func builtinRules(capabilities []string) map[string][][]specs.LinuxSeccompArg {
	rules := map[string][][]specs.LinuxSeccompArg{}
	f := profiles.Seccomp(profiles.Options{Arch: runtime.GOARCH, Kernel: [2]int{newestKernel, 0}, Capabilities: capabilities})
	if f == nil {
		return rules
	}
	for _, r := range f.Syscalls {
		for _, name := range r.Names {
			if r.Action == specs.ActAllow {
				rules[name] = append(rules[name], r.Args)
			}
		}
	}
	return rules
}
