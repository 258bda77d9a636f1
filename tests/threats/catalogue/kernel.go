package catalogue

// Capabilities, system calls and sockets: what of the kernel can be reached.
func kernel() []Row {
	return []Row{
		{
			ID:      "K1",
			Threat:  "open_by_handle_at opens any file of the file system behind a bind by its number, as the program shocker did (needs CAP_DAC_READ_SEARCH)",
			Defence: "no capability, a filter on the call, and a user namespace, in which the capability does not reach the host's file systems even if a site grants it",
		},
		{
			ID:      "K2",
			Threat:  "The default set of capabilities of container engines: fourteen of them, for programs that need none",
			Defence: "all five sets are empty; what is added by name is all there is",
		},
		{
			ID:      "K3",
			Threat:  "Without a capabilities object in the specification it is the runtime's choice what the process has; some keep everything",
			Defence: "the object is always written, the last look at a specification wants it, and the sets are read back from the kernel before the program starts",
		},
		{
			ID:      "K4",
			Threat:  "A setuid program, or one with file capabilities, in the image gives its caller back what was taken away",
			Defence: "no_new_privs for every process of the container; to lift it is the site's to grant",
		},
		{
			ID:      "K5",
			Threat:  "An added capability has no effect for a user that is not root, so people run as root instead",
			Defence: "for a user that is not root, added capabilities are ambient too, and so survive the exec",
		},
		{
			ID:      "K6",
			Threat:  "CAP_MKNOD: a node of the host's disk or memory, made in the container and read",
			Defence: "the capability cannot be had, the user namespace refuses nodes, the device cgroup permits named harmless devices only",
		},
		{
			ID:      "K7",
			Threat:  "CAP_NET_RAW by default: forged ARP, DNS and router advertisements (CVE-2020-13401), and the code behind AF_PACKET (CVE-2020-14386)",
			Defence: "not given; ping works without it; where it is added, raw IP sockets are opened and packet sockets still are not",
		},
		{
			ID:      "K8",
			Threat:  "A nested user namespace gives all capabilities over code of the kernel that was written for root (CVE-2022-0185, CVE-2022-0492, CVE-2024-1086)",
			Defence: "the filter refuses new namespaces by unshare, setns and clone, and says of clone3 that it does not exist; the limit of user namespaces is 0 as well, which holds without the filter",
		},
		{
			ID:      "K9",
			Threat:  "AF_ALG with splice writes into the page cache of files that can only be read, of other containers' image layers too (CVE-2026-31431)",
			Defence: "sockets of four families only: UNIX, INET, INET6, NETLINK; the list says what is let through, not what is not",
		},
		{
			ID:      "K10",
			Threat:  "Another table of system calls (int 0x80, socketcall, x32) past a filter that was written for the native one",
			Defence: "the filter knows the native architecture alone, and kills at the first call of another",
		},
		{
			ID:      "K11",
			Threat:  "A rule whose action is the filter's default is left out by the runtime, so a denial that relies on it is not there",
			Defence: "the built-in filter only ever permits; in a user's file rules of one call that contradict each other are an error, and conditions are joined with the built-in ones",
		},
		{
			ID:      "K12",
			Threat:  "NETLINK_XFRM, AF_KEY, AF_RXRPC and keys, which need no privilege, lead into code for IPsec and AFS (CVE-2026-43284, CVE-2026-43500, CVE-2026-46300)",
			Defence: "of the netlink protocols only ROUTE; the families are not on the list",
		},
		{
			ID:      "K13",
			Threat:  "AF_VSOCK talks to the hypervisor and to services of the host, whatever the network namespace",
			Defence: "the family is not on the list",
		},
		{
			ID:      "K14",
			Threat:  "io_uring does its operations where no filter sees them, and has had many holes",
			Defence: "its three calls are refused, and no profile can bring them back",
		},
		{
			ID:      "K15",
			Threat:  "userfaultfd stops the kernel in the middle of a copy, which wins races for exploits",
			Defence: "the call is refused, and there is no /dev/userfaultfd",
		},
		{
			ID:      "K16",
			Threat:  "bpf and perf_event_open, where the host's settings are lax or a capability was given",
			Defence: "both are refused, and so are the capabilities, which ask the host's user namespace",
		},
		{
			ID:      "K17",
			Threat:  "Keyrings belong to users and not to containers: keys of the caller leak, and the quota is shared",
			Defence: "add_key, keyctl, request_key are refused; a session keyring for each container; ids nobody else has; /proc/keys is masked",
		},
		{
			ID:       "K18",
			Threat:   "ptrace, process_vm_readv and pidfd_getfd: the memory and descriptors of other processes",
			Defence:  "refused without CAP_SYS_PTRACE, which the site grants; a pid namespace of its own always, none can be joined",
			Accepted: "processes of one user in one container reach each other's memory by /proc/PID/mem, as everywhere; separate what must not by containers or users",
		},
		{
			ID:      "K19",
			Threat:  "Mounting by the old or the new interface, pivot_root, chroot: away with the masks, or another root",
			Defence: "the filter refuses them, and no capability permits them",
		},
		{
			ID:      "K20",
			Threat:  "Calls no container has a use for (kexec, modules, reboot, clocks, swap, accounting, quota, I/O ports, LDTs, obsolete ones), which a copied or recorded profile lets through",
			Defence: "a list of calls that is in no filter, whoever wrote it; a file that permits one is refused",
		},
		{
			ID:      "K21",
			Threat:  "TIOCSTI and TIOCLINUX type into the terminal safe-run was started from (CVE-2017-5226), with bits above the 32nd set if need be (CVE-2019-10063)",
			Defence: "a container has pipes or a terminal of its own, never the caller's; the two requests are refused, whatever their upper bits",
		},
		{
			ID:       "K22",
			Threat:   "What a container prints steers the terminal it is shown on: title, clipboard, answers typed as if by the operator",
			Defence:  "what safe-run itself says of names and values is escaped; files and pipes get a container's output byte by byte",
			Accepted: "a container's output on a terminal is its own, as with every container engine: programs draw and colour with the same codes. To look at output of a container that is not trusted: pipe safe-run logs NAME into less",
		},
		{
			ID:       "K23",
			Threat:   "splice, tee and vmsplice put pages of files into pipes: half of several holes that write to the page cache (CVE-2022-0847)",
			Defence:  "a recorded profile permits them only if they were used; the other half, AF_ALG, is closed",
			Accepted: "the built-in filter permits them, since proxies, servers and coreutils use them",
		},
		{
			ID:      "K24",
			Threat:  "System calls newer than the filter: let through by filters that deny by name, or failing in a way libraries have no answer to",
			Defence: "what the filter does not know does not exist (ENOSYS), in the built-in filter and in a user's; what it knows and does not permit is EPERM",
		},
	}
}
