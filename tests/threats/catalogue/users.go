package catalogue

// Users, namespaces, container against container.
func users() []Row {
	return []Row{
		{
			ID:      "U1",
			Threat:  "Root of the container is root of the host: what gets out of the container has won",
			Defence: "always a user namespace; root inside is a user of the host that owns nothing",
		},
		{
			ID:      "U2",
			Threat:  "All containers share one range of ids, so what gets out of one reaches the files and processes of the others",
			Defence: "65536 uids and gids for each container alone; claims are exclusive, survive a crash, and go with the container",
		},
		{
			ID:      "U3",
			Threat:  "A range that overlaps a user's, another tool's, or wraps around, through a wrong or hostile /etc/subuid",
			Defence: "strict reading of subuid, subgid, passwd and group: what others have is left out, a wrong line of ours is an error, never a guess",
		},
		{
			ID:      "U4",
			Threat:  "Without idmapped mounts an engine changes the owner of every file, or leaves the user namespace out without a word",
			Defence: "the launch fails and says which file system cannot be idmapped; there is no other way to start",
		},
		{
			ID:       "U5",
			Threat:   "An image that says nothing of its user, or says root in an unusual way, runs as root",
			Defence:  "ids are resolved to numbers before anything starts and shown by --dry-run; other spellings of 0 are refused; root inside has no capability and owns nothing outside",
			Accepted: "a site cannot forbid uid 0 inside, which with empty capability sets and ids of its own is a user like any other.",
		},
		{
			ID:      "U6",
			Threat:  "Supplementary groups of the launcher (disk, docker, shadow), or root's group, stay with the program",
			Defence: "the list of groups is always written, from the image's files and --group-add alone",
		},
		{
			ID:      "U7",
			Threat:  "Shared memory, semaphores and message queues of the host or of another container",
			Defence: "an IPC namespace, a /dev/shm and a /dev/mqueue of its own; joining another's is refused",
		},
		{
			ID:       "U8",
			Threat:   "In a shared network namespace the neighbour's services on localhost and its abstract sockets are open",
			Defence:  "a network namespace of its own; joining one by path is refused, by container only what the command line names, without capabilities, ports or settings",
			Accepted: "the container that is joined is not asked: who may start containers may connect two of them.",
		},
		{
			ID:      "U9",
			Threat:  "Containers on one bridge reach each other's ports, published or not",
			Defence: "bridge ports are isolated, in both families; only a network made with --icc connects its containers",
		},
		{
			ID:       "U10",
			Threat:   "Containers share the cached pages of a common layer: a kernel bug that writes to them (CVE-2022-0847, CVE-2026-31431) writes to the neighbour's programs",
			Defence:  "the root file system is read-only, and the socket families and calls those bugs came in by are closed",
			Accepted: "the pages stay shared; against a kernel bug not known yet only a kernel for each container helps.",
		},
		{
			ID:       "U11",
			Threat:   "The next container of a name, address or range of ids finds what the last one left: files, logs, connections",
			Defence:  "volumes without a name, memory file systems and logs go with the container, connections of an address are forgotten, ids move on; no file on disk carries them",
			Accepted: "a volume with a name is kept, and given to whoever names it.",
		},
		{
			ID:      "U12",
			Threat:  "A user of the host whose ids are the container's, or who knows a path, gets at its files from outside",
			Defence: "the directories of the store are root's alone, and its files open to nobody else; files on disk never have the ids of a range",
		},
	}
}
