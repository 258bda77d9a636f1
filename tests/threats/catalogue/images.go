package catalogue

// What an image says and holds.
func images() []Row {
	return []Row{
		{
			ID:      "I1",
			Threat:  "A label of the image is read as options of the launcher: mounts, capabilities, a filter (CVE-2026-55887)",
			Defence: "labels are data; the specification is the same with and without them",
		},
		{
			ID:       "I2",
			Threat:   "The image's LD_PRELOAD, PATH and their like steer programs that are run beside the container's",
			Defence:  "no program on the host gets the container's environment; the init inside is static, by absolute path, on a read-only mount",
			Accepted: "the init and health checks inside the container have its environment, as the program has: they have its rights and no more.",
		},
		{
			ID:      "I3",
			Threat:  "The image sets variables that stand for trust: NOTIFY_SOCKET, LISTEN_FDS, WATCHDOG_PID",
			Defence: "those are taken from an image never, and the launcher's own have the last word",
		},
		{
			ID:      "I4",
			Threat:  "NUL, line ends and escape codes in what an image says, for the terminal or the log of who looks at it",
			Defence: "NUL and control characters are refused where they mean something, and never printed raw",
		},
		{
			ID:      "I5",
			Threat:  "passwd or group of the image is a link to the host, a FIFO, a device, or endless",
			Defence: "opened inside the image's root without waiting, regular files up to 10 MiB only",
		},
		{
			ID:      "I6",
			Threat:  "Layers with links and paths that lead out, device nodes, setuid programs, file capabilities, attributes of overlayfs",
			Defence: "unpacked by containerd inside a root; the root file system is mounted nodev, setuid and capabilities have no effect with no_new_privs and an empty bounding set",
		},
		{
			ID:      "I7",
			Threat:  "Small layers that unpack to more than the disk holds, in bytes or in files",
			Defence: "each layer is read once before it is unpacked: bytes, files, depth and the ratio to what is stored are bounded, the free space and inodes asked; what was stored goes",
		},
		{
			ID:      "I8",
			Threat:  "Documents that nest, loop, lie about size, digest or type, or read as two kinds",
			Defence: "lists of known types, sizes and digests verified, depth 2, what reads as two kinds refused; the same for pull and load",
		},
		{
			ID:      "I9",
			Threat:  "An image for another system or architecture, or with nothing in it",
			Defence: "refused by what its configuration says, before anything is made",
		},
		{
			ID:      "I10",
			Threat:  "The registry answers another digest at the second question for a tag: one is checked, another is run",
			Defence: "a tag is asked for once; all else goes by digest, which is kept with the container",
		},
		{
			ID:       "I11",
			Threat:   "Another image has been put under a name in the local store, by another archive or another program",
			Defence:  "a name with a digest is that digest or nothing; a site can want digests for all images; no archive can give a name that reads as a digest",
			Accepted: "signatures are not verified: a digest in a profile, a unit or the policy is what is offered instead.",
		},
		{
			ID:      "I12",
			Threat:  "Layers that are file systems, so that the kernel parses what the image wrote (erofs, squashfs)",
			Defence: "their media types are refused",
		},
		{
			ID:      "I13",
			Threat:  "The health check of an image runs with more rights or without limits, floods, or never ends",
			Defence: "it has the user, filter, capabilities and limits of the container; 4 KiB of its output are kept, and it is killed at its timeout",
		},
		{
			ID:      "I14",
			Threat:  "Stop signals, ports and other fields with values that are none",
			Defence: "a signal the kernel has, ports from 1 to 65535, or the image is refused",
		},
	}
}
