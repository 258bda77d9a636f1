package catalogue

// What can be used up.
func exhaustion() []Row {
	return []Row{
		{
			ID:      "E1",
			Threat:  "A fork bomb takes all process ids of the host",
			Defence: "256 processes unless the command line says another number; none at all, 0 and -1 are the site's to grant",
		},
		{
			ID:      "E2",
			Threat:  "A program takes all memory of the host",
			Defence: "512 MiB unless the command line says another size; what goes beyond is killed, and inspect says so",
		},
		{
			ID:      "E3",
			Threat:  "With memory alone limited, a container goes on in the swap; some hosts cannot limit it, and engines only warn",
			Defence: "no swap beyond the memory limit; on a host that cannot limit it nothing is started",
		},
		{
			ID:      "E4",
			Threat:  "A controller is missing or not delegated, and its limits are silently not there",
			Defence: "a limit whose controller is missing is an error; all limits are read back from the kernel before the program starts",
		},
		{
			ID:      "E5",
			Threat:  "Memory file systems, shared memory and message queues take memory past the limit",
			Defence: "each has a size, which a site can bound, and all of them count as the container's memory",
		},
		{
			ID:       "E6",
			Threat:   "Millions of empty files use up the inodes of the host's file system, or the memory behind a tmpfs",
			Defence:  "65536 inodes for each tmpfs, and a read-only root",
			Accepted: "volumes, binds and a granted writable root have the inodes of the file system they lie on; its quotas apply.",
		},
		{
			ID:       "E7",
			Threat:   "The layer of the container, a core dump, or a volume fills the host's disk",
			Defence:  "nothing a plain container can write to is on a disk; no core dumps; output is bounded (E8)",
			Accepted: "volumes, binds and a granted writable root can be filled; put them on a file system with a quota.",
		},
		{
			ID:      "E8",
			Threat:  "Output without end fills the disk",
			Defence: "three files of 10 MiB; other numbers can be asked for up to the site's maximum, none cannot; 4 KiB are kept of a health check, nothing of an exec",
		},
		{
			ID:      "E9",
			Threat:  "Output that nobody reads, or a line that never ends, grows in the launcher's memory",
			Defence: "the launcher copies through buffers of a fixed size, and the kernel's pipe holds the program up",
		},
		{
			ID:       "E10",
			Threat:   "One container takes all CPU time or disk bandwidth",
			Defence:  "all containers are below one cgroup, which gets the share of one service; --cpus and --device-* bound a single one; a site's maximum of CPUs holds also for those who ask for none",
			Accepted: "without a maximum of the site's a container may use CPUs and disks that are idle, and competes by weight.",
		},
		{
			ID:       "E11",
			Threat:   "Counts that the kernel keeps for each user (inotify instances and watches, queued signals and timers, message queues) are shared by all containers and root of the host, also through user namespaces: one container stops the others, and services of the host",
			Defence:  "a container has a part of them: 32 inotify instances, 16384 watches, 1024 queued signals and timers, half of the bytes of message queues; nested namespaces and keys it has none",
			Accepted: "the parts add up: some containers together, or one with CAP_SETUID, which can be many users, can still use up what root has; raise fs.inotify.max_user_instances on hosts with many containers.",
		},
		{
			ID:       "E12",
			Threat:   "Tables of the whole host fill up: tracked connections, neighbours",
			Defence:  "a container's neighbour entries on the host are fixed, its connections are forgotten when it goes; --egress none and lists keep floods inside",
			Accepted: "while it runs a container may track as many connections as the host has room for; the kernel drops unanswered ones first when it is full.",
		},
		{
			ID:      "E13",
			Threat:  "When memory is short the kernel kills services of the host before the container; one that has its shim's score is spared, as containerd's own unit asks for -999",
			Defence: "a score of 100 in any case, lower than 0 is refused; all of a container is killed together (cgroup v2)",
		},
		{
			ID:      "E14",
			Threat:  "A program that crashes at once is restarted without end, with new addresses and ids each time",
			Defence: "twice as long a pause after each crash, up to a minute; ids and addresses are those of the container, and go with it",
		},
		{
			ID:      "E15",
			Threat:  "A program that ignores SIGTERM, or is frozen, cannot be stopped",
			Defence: "after the time it has, all processes of the container are killed by their cgroup, paused or not",
		},
		{
			ID:       "E16",
			Threat:   "The launcher or the shim is killed: the container goes on without limits, or as an orphan nobody knows",
			Defence:  "limits are the kernel's and stay; the next command ends a container without a launcher and gives one in the background a new supervisor; in a unit a guard ends it at once; without a shim it is ended",
			Accepted: "outside a unit, a container in the foreground whose launcher was killed with SIGKILL runs on, within its limits, until the next command.",
		},
	}
}
