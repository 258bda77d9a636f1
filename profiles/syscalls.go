package profiles

// The syscall tables of the built-in seccomp profile. The list of ordinary
// syscalls is moby's default profile, taken from its module so that it grows
// with it; the tables here say where this project is tighter.

// never are syscalls no profile may permit, whoever wrote it: they change the
// kernel or the machine, load code into it, read other processes' memory or
// keys, or run operations that a syscall filter cannot see. The value is the
// capability that must have been granted for an exception, "" for none.
var never = map[string]string{
	"_sysctl":           "",
	"acct":              "CAP_SYS_PACCT",
	"add_key":           "",
	"bpf":               "CAP_BPF",
	"clock_settime":     "CAP_SYS_TIME",
	"clone3":            "", // its flags are in memory, out of a filter's sight
	"create_module":     "",
	"delete_module":     "CAP_SYS_MODULE",
	"finit_module":      "CAP_SYS_MODULE",
	"fsconfig":          "CAP_SYS_ADMIN",
	"fsmount":           "CAP_SYS_ADMIN",
	"fsopen":            "CAP_SYS_ADMIN",
	"fspick":            "CAP_SYS_ADMIN",
	"get_kernel_syms":   "",
	"init_module":       "CAP_SYS_MODULE",
	"io_uring_enter":    "", // the ring's operations are out of a filter's sight
	"io_uring_register": "",
	"io_uring_setup":    "",
	"ioperm":            "CAP_SYS_RAWIO",
	"iopl":              "CAP_SYS_RAWIO",
	"kexec_file_load":   "",
	"kexec_load":        "",
	"keyctl":            "",
	"lookup_dcookie":    "",
	"mount":             "CAP_SYS_ADMIN",
	"mount_setattr":     "CAP_SYS_ADMIN",
	"move_mount":        "CAP_SYS_ADMIN",
	"nfsservctl":        "",
	"open_by_handle_at": "CAP_DAC_READ_SEARCH",
	"open_tree":         "CAP_SYS_ADMIN",
	"open_tree_attr":    "CAP_SYS_ADMIN",
	"perf_event_open":   "CAP_PERFMON",
	"pivot_root":        "",
	"query_module":      "",
	"quotactl":          "",
	"quotactl_fd":       "",
	"reboot":            "CAP_SYS_BOOT",
	"request_key":       "",
	"setns":             "CAP_SYS_ADMIN",
	"settimeofday":      "CAP_SYS_TIME",
	"stime":             "CAP_SYS_TIME",
	"swapoff":           "",
	"swapon":            "",
	"sysfs":             "",
	"syslog":            "CAP_SYSLOG",
	"umount":            "CAP_SYS_ADMIN",
	"umount2":           "CAP_SYS_ADMIN",
	"unshare":           "CAP_SYS_ADMIN",
	"uselib":            "",
	"userfaultfd":       "",
	"ustat":             "",
	"vm86":              "",
	"vm86old":           "",
}

// dropped are syscalls moby's default permits and the built-in profile does
// not. A user's profile file that lists one is narrowed without an error,
// because files derived from docker's default list them all.
var dropped = map[string]string{
	"fanotify_init":     "CAP_SYS_ADMIN",
	"kcmp":              "CAP_SYS_PTRACE",
	"modify_ldt":        "",
	"pidfd_getfd":       "CAP_SYS_PTRACE",
	"process_madvise":   "CAP_SYS_PTRACE",
	"process_vm_readv":  "CAP_SYS_PTRACE",
	"process_vm_writev": "CAP_SYS_PTRACE",
	"ptrace":            "CAP_SYS_PTRACE",
	"socketcall":        "", // reaches every socket family past a filter on socket
}

// attributeSetters are the syscalls that give a file its capabilities. On an
// idmapped bind these hold for the host's users as well, and which attribute
// is set is in memory, out of a filter's sight.
var attributeSetters = []string{"fsetxattr", "lsetxattr", "setxattr", "setxattrat"}

// foreign32 are syscalls of moby's list that exist on 32-bit architectures
// only. The filter is for the native 64-bit one, so they would only cost the
// runtime look-ups at each launch.
var foreign32 = map[string]bool{
	"_llseek": true, "_newselect": true, "chown32": true, "clock_adjtime64": true,
	"clock_getres_time64": true, "clock_gettime64": true, "clock_nanosleep_time64": true,
	"clock_settime64": true, "fadvise64_64": true, "fchown32": true, "fcntl64": true,
	"fstat64": true, "fstatat64": true, "fstatfs64": true, "ftruncate64": true,
	"futex_time64": true, "getegid32": true, "geteuid32": true, "getgid32": true,
	"getgroups32": true, "getresgid32": true, "getresuid32": true, "getuid32": true,
	"io_pgetevents_time64": true, "ipc": true, "lchown32": true, "lstat64": true,
	"mmap2": true, "mq_timedreceive_time64": true, "mq_timedsend_time64": true,
	"ppoll_time64": true, "pselect6_time64": true, "recv": true, "recvmmsg_time64": true,
	"rt_sigtimedwait_time64": true, "sched_rr_get_interval_time64": true,
	"semtimedop_time64": true, "send": true, "sendfile64": true, "setfsgid32": true,
	"setfsuid32": true, "setgid32": true, "setgroups32": true, "setregid32": true,
	"setresgid32": true, "setresuid32": true, "setreuid32": true, "setuid32": true,
	"sigprocmask": true, "sigreturn": true, "stat64": true, "statfs64": true,
	"timer_gettime64": true, "timer_settime64": true, "timerfd_gettime64": true,
	"timerfd_settime64": true, "truncate64": true, "ugetrlimit": true,
	"utimensat_time64": true, "waitpid": true, "stime": true,
}
