package catalogue

// The runtime and containerd.
func runtime() []Row {
	return []Row{
		{
			ID:      "R1",
			Threat:  "Through /proc/self/exe a container overwrites the runtime's program, which root of the host executes next (CVE-2019-5736)",
			Defence: "root of a container is no user of the host, in an exec neither; runtimes older than a fixed version are refused",
		},
		{
			ID:      "R2",
			Threat:  "A working directory that is a descriptor the runtime left open leads to the host's file system (CVE-2024-21626)",
			Defence: "working directories in /proc, /sys and /dev are refused however they are spelled or linked; nothing of ours is left open; a floor for the runtime",
		},
		{
			ID:      "R3",
			Threat:  "With a symbolic link in place of /dev/null, masking a path of /proc mounts a kernel file writable instead (CVE-2025-31133)",
			Defence: "nothing can be mounted at or below /dev, /proc and /sys; files of the kernel belong to a root the container has not; what is masked is read back",
		},
		{
			ID:      "R4",
			Threat:  "The console is mounted from a name that was swapped for a link meanwhile (CVE-2025-52565)",
			Defence: "as R3; /dev is the container's own and nobody shares it, the terminal comes as a descriptor",
		},
		{
			ID:      "R5",
			Threat:  "Writes of a security label or a setting go to a file that was put in the way, and are not in force (CVE-2025-52881)",
			Defence: "after creation and after the start, ids, capabilities, filter, label, mounts and limits are read from the kernel; any difference kills the container",
		},
		{
			ID:      "R6",
			Threat:  "An image has a link at /dev, /proc or another place where mounts go, so files are made elsewhere on the host (CVE-2026-41579)",
			Defence: "these places are looked at inside the image before anything is made; a link there is refused; a floor for the runtime",
		},
		{
			ID:      "R7",
			Threat:  "A VOLUME or a link at /proc covers it, and security labels are written into the void (CVE-2019-16884, CVE-2019-19921, CVE-2023-27561, CVE-2023-28642)",
			Defence: "as R6; volumes of an image at the root or a system path are refused, cleaned of dots and slashes first",
		},
		{
			ID:      "R8",
			Threat:  "A neighbour with the same volume swaps a directory for a link while a mount is made below it (CVE-2021-30465, CVE-2024-45310)",
			Defence: "a runtime that looks paths up inside the root (the floor), sources that are held descriptors, mounts compared with what was wanted",
		},
		{
			ID:      "R9",
			Threat:  "Capabilities in the inheritable set, which programs with file capabilities make use of (CVE-2022-24769, CVE-2022-29162)",
			Defence: "the inheritable set is always empty, and read back",
		},
		{
			ID:      "R10",
			Threat:  "A control group file system that can be written to (CVE-2023-25809)",
			Defence: "a cgroup namespace of its own, read-only; that of the host and writable ones are refused",
		},
		{
			ID:      "R11",
			Threat:  "containerd's shims listen on abstract sockets, which belong to the network namespace (CVE-2020-15257)",
			Defence: "no network of the host without the site's grant; with it, containerd and shims have sockets in directories of root only",
		},
		{
			ID:      "R12",
			Threat:  "Filling a volume with the image's content follows a link of the image and copies files of the host (CVE-2022-23648)",
			Defence: "both trees are walked below held descriptors, no link is followed",
		},
		{
			ID:      "R13",
			Threat:  "A USER beyond 32 bits, or spelled oddly, becomes uid 0 (CVE-2024-40635)",
			Defence: "ids are plain decimal digits in the range the container has, everything else is refused",
		},
		{
			ID:      "R14",
			Threat:  "A number too large for an id is looked up as a name, for which the image's passwd says 0 (CVE-2026-46680)",
			Defence: "what is all digits is never a name",
		},
		{
			ID:      "R15",
			Threat:  "Labels of an image become labels containerd acts on, such as a program to run for logs (CVE-2026-53488)",
			Defence: "no label or annotation of an image becomes one of a container, a snapshot or an image record; nothing of containerd's restart monitor is used",
		},
		{
			ID:      "R16",
			Threat:  "Images of checkpoints bring devices, links and tags of their own into a restore (CVE-2026-50195, CVE-2026-53489, CVE-2026-53492)",
			Defence: "there is no restore, and their media types are refused",
		},
		{
			ID:      "R17",
			Threat:  "Documents of an image that exhaust the memory of containerd (CVE-2026-47262)",
			Defence: "size, depth, number of values, layers and entries are bounded before anything is decoded or handed on",
		},
		{
			ID:      "R18",
			Threat:  "Races and links while layers are unpacked (CVE-2021-32760, CVE-2025-47290)",
			Defence: "a floor for containerd, and not the one release that had the second; asked at each start of containerd",
		},
		{
			ID:      "R19",
			Threat:  "Users of the host reach into containerd's directories and run setuid programs of images (CVE-2024-25621)",
			Defence: "directories of root only; those a container's ids must pass through cannot be listed; doctor looks at a system's containerd",
		},
		{
			ID:      "R20",
			Threat:  "Each attach to a container leaves memory behind in containerd (CVE-2025-64329)",
			Defence: "an attach is a connection to the container's supervisor, which ends with it; containerd does not learn of it",
		},
		{
			ID:      "R21",
			Threat:  "Importing an archive without limits fills memory or disk (CVE-2023-25153)",
			Defence: "number, names, sizes, and how much larger than stored it may be are bounded, and the free space asked, while it is read",
		},
		{
			ID:      "R22",
			Threat:  "cp follows links a container swaps, or executes what the container brings (CVE-2018-15664, CVE-2019-14271, CVE-2026-41567, CVE-2026-42306)",
			Defence: "this program copies from inside the container's root with the container's ids; nothing of the container is executed",
		},
		{
			ID:      "R23",
			Threat:  "A missing WORKDIR behind a link is made on the host (CVE-2026-55686)",
			Defence: "only the runtime makes it, inside the container's root; its path is looked up in the image first",
		},
		{
			ID:      "R24",
			Threat:  "An entry of the image's environment without a value is looked up in the caller's (CVE-2026-57231)",
			Defence: "entries of an image are NAME=VALUE or refused; the caller's environment is read for names on the command line only, never by pattern",
		},
		{
			ID:      "R25",
			Threat:  "Hooks run on the host in an environment the container gives, so LD_PRELOAD is root's (CVE-2024-0132, CVE-2025-23266, CVE-2026-24260)",
			Defence: "no hooks; GPU requests, CDI devices, other runtimes and annotations are refused",
		},
		{
			ID:      "R26",
			Threat:  "A runtime ignores fields it does not know, and with them the protection they stand for",
			Defence: "a runtime that does not name the features needed, or itself, is refused; the kernel is read back",
		},
	}
}
