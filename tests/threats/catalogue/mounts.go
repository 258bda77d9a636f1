package catalogue

// Mounts: their sources, destinations, and options.
func mounts() []Row {
	return []Row{
		{
			ID:       "M1",
			Threat:   "A bind source that is a link, made by whoever can write to a directory on the way",
			Defence:  "all links are followed once and the result is judged; a link must be of root, the caller, or the owner of what it leads to; under sudo the caller's rights open it",
			Accepted: "directories on the way may belong to anybody, as those of users and services do: nobody can put a directory of somebody else's into them. What lies below a source is not opened one by one: root of the container reads what root owns there",
		},
		{
			ID:      "M2",
			Threat:  "The source is exchanged between the check and the mount",
			Defence: "it is opened once; the mount is cloned from that descriptor, and compared after the start",
		},
		{
			ID:      "M3",
			Threat:  "Magic links of procfs, and the kernel's file systems, as sources, also mounted elsewhere or below",
			Defence: "openat2 without magic links; the type of file system decides, not the path, for all that is mounted below as well",
		},
		{
			ID:       "M4",
			Threat:   "A source in the store of an engine or of another container: layers, volumes, control files",
			Defence:  "stores are refused by place, by identity and by being part of a mounted overlay",
			Accepted: "a named volume is had by whoever may start containers and knows its name, as with docker; it is nosuid, nodev and noexec for all",
		},
		{
			ID:      "M5",
			Threat:  "A destination over /proc, /sys, /dev, the preload file or the init, spelled with dots or reached by a link of the image",
			Defence: "judged after cleaning, and again on the finished specification and after links of the image; the kernel's trees are mounted first",
		},
		{
			ID:      "M6",
			Threat:  "A read-only bind leaves what is mounted below its source writable",
			Defence: "read-only is set on the whole cloned tree (mount_setattr, recursive); there is no way to ask for less",
		},
		{
			ID:      "M7",
			Threat:  "Mounts that travel between container and host",
			Defence: "all mounts are private; shared and slave are refused",
		},
		{
			ID:      "M8",
			Threat:  "Root of the container leaves a setuid program or a device node in a bind or volume for users of the host",
			Defence: "nosuid and nodev on all mounts; mknod and the setting of set-id bits are denied by the filter",
		},
		{
			ID:      "M9",
			Threat:  "A tmpfs of half of the memory, or with endless files; --tmpfs with suid, dev, or no bound",
			Defence: "each has a size and a number of files, nosuid, nodev, noexec; larger than the limits and without bounds is refused",
		},
		{
			ID:      "M10",
			Threat:  "The mounts every container has (/run, /dev, /dev/shm, /tmp) can be executed from",
			Defence: "all of them are noexec; /dev is, too",
		},
		{
			ID:      "M11",
			Threat:  "The root is read-only, and a volume beside it is writable and executable",
			Defence: "no mount is both, unless it says exec; verified on the specification and here in the running container",
		},
		{
			ID:      "M12",
			Threat:  "A program that is broken into replaces itself on a writable root file system",
			Defence: "read-only for everybody; --read-only=false needs a grant",
		},
		{
			ID:      "M13",
			Threat:  "A mistyped source is created on the host as root",
			Defence: "a missing source is an error, and nothing is created",
		},
		{
			ID:      "M14",
			Threat:  "Filling a volume from the image follows its links, or keeps set-id bits, devices and file capabilities",
			Defence: "both trees are walked below held descriptors without following links; what has power is left behind",
		},
		{
			ID:       "M15",
			Threat:   "An idmapped mount maps root of the host, so that root inside writes as root outside",
			Defence:  "no flag chooses a mapping; set-id bits, devices and execution are off, ids beyond 65535 do not exist, and under sudo a writable bind needs the caller's right to write",
			Accepted: "files of a bind keep their owners, so root inside owns root's files in the one directory that was bound, as with docker: otherwise every data directory would have to be changed",
		},
		{
			ID:      "M16",
			Threat:  "Mount options that change the host: U (owners, recursively), z and Z (labels), O (overlay)",
			Defence: "U and O do not exist here; z and Z are refused where they would change labels, and never reach what may not be bound",
		},
		{
			ID:       "M17",
			Threat:   "A source on a dead network or FUSE server hangs the launcher; an automount is set off as root",
			Defence:  "sources are opened as paths only, within three seconds; automount points are refused, servers are not asked",
			Accepted: "where another process already hangs in that directory, Linux lets no second one be killed: the refusal is printed, and the launcher ends with that other wait",
		},
		{
			ID:      "M18",
			Threat:  "A secret that was written to a file of the host stays after the launcher was killed",
			Defence: "secrets are on a file system in memory, mode 0400; the next command takes it away with the container",
		},
	}
}
