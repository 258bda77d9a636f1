package catalogue

// Flags that give the host away.
func flags() []Row {
	return []Row{
		{
			ID:      "F1",
			Threat:  "--privileged: all capabilities, all devices, no filter",
			Defence: "always refused; the answer names the single rights to ask for instead",
		},
		{
			ID:      "F2",
			Threat:  "Namespaces of the host, or of another container: --pid, --ipc, --uts, --userns, --cgroupns, --network",
			Defence: "host namespaces need a grant of the site, joined ones are refused but for another container's network; odd spellings are errors",
		},
		{
			ID:      "F3",
			Threat:  "--security-opt takes a protection away: the filter, AppArmor, labels, no_new_privs, masks, read-only cgroups",
			Defence: "each is refused or needs a grant, wherever it stands among repeated options; an unknown word is an error, not a warning",
		},
		{
			ID:      "F4",
			Threat:  "--cap-add of a capability that is root by another name, in any spelling",
			Defence: "a short free list; others need a grant, ALL is never given; dropping it again on the same line does not help",
		},
		{
			ID:      "F5",
			Threat:  "--device: disks, memory and drivers, by links and nodes of harmless names; rules for whole classes; CDI names",
			Defence: "judged by type and number of what the path leads to; disks and memory never, other character devices by grant, rules and CDI names never",
		},
		{
			ID:      "F6",
			Threat:  "The root of the host or a system directory as a bind, by any of its names",
			Defence: "the source is opened, and its inode, its file system and all other mounts of that decide, so a link or a second mount is the thing itself",
		},
		{
			ID:       "F7",
			Threat:   "A socket that takes orders (engines, systemd, D-Bus, agents), itself or by a directory above it",
			Defence:  "sockets, FIFOs and devices are refused as sources, and so are directories with a socket below, found in the kernel's table and by a search",
			Accepted: "the search ends at 20000 entries and ten levels, where sockets of other network namespaces could lie deeper; a socket made after the start is not seen",
		},
		{
			ID:      "F8",
			Threat:  "The check knows one spelling, and the mount is asked for by another: --mount, profiles, driver options (CVE-2026-6406)",
			Defence: "all spellings become one list before they are judged, and the finished specification is verified once more without regard to flags",
		},
		{
			ID:      "F9",
			Threat:  "Mounts or namespaces taken over from a container that has more",
			Defence: "--volumes-from and joins are refused; volumes are named one by one",
		},
		{
			ID:      "F10",
			Threat:  "Another runtime, or annotations that steer one (systemd properties, hooks, hypervisors), from flags or the image",
			Defence: "runc alone; annotations need a grant by key, and none is read from an image",
		},
		{
			ID:      "F11",
			Threat:  "--cgroup-parent leaves the own tree, and with it every limit; raw cgroup files; real-time time",
			Defence: "plain names below the own cgroup only; no flag writes a cgroup file by name; real-time time is refused",
		},
		{
			ID:      "F12",
			Threat:  "--sysctl of the whole host, by dots, slashes, dots in the path, or a newline",
			Defence: "settings of the container's own namespaces only; names are parsed, not joined to a path",
		},
		{
			ID:      "F13",
			Threat:  "Limits without a bound, core dumps (which the host's handler takes), precedence over the host's services for memory",
			Defence: "unlimited and oversized values are refused, core is 0, a negative oom_score_adj is refused and cannot be set inside",
		},
		{
			ID:       "F14",
			Threat:   "--group-add of a group that means something on the host: disk, docker, shadow",
			Defence:  "the group is one of the container's own block; device nodes and sockets it would open are not there",
			Accepted: "in a bind owners and groups are those on disk, so a group counts there; what may be bound is judged before, and under sudo with the caller's rights",
		},
		{
			ID:      "F15",
			Threat:  "The caller's environment, secrets in it, by a pattern or as a whole",
			Defence: "variables by exact name only; patterns are refused, and mean nothing in files",
		},
	}
}
