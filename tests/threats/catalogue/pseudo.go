package catalogue

// procfs, sysfs, cgroups, devices.
func pseudo() []Row {
	return []Row{
		{
			ID:      "P1",
			Threat:  "A pipe handler in /proc/sys/kernel/core_pattern runs as root of the host",
			Defence: "/proc/sys is read-only, the container's root is another user, and --sysctl takes no setting of the host",
		},
		{
			ID:      "P2",
			Threat:  "modprobe, hotplug, uevent_helper, poweroff_cmd, binfmt_misc name programs the kernel runs",
			Defence: "as P1; /sys is read-only, binfmt_misc is never mounted",
		},
		{
			ID:      "P3",
			Threat:  "sysrq-trigger reboots, kills, or shows the host's memory",
			Defence: "read-only, and another user's",
		},
		{
			ID:      "P4",
			Threat:  "Files that show the kernel's memory, log, addresses, keys, timers or hardware",
			Defence: "masked: all that moby, containerd and podman mask, together with kmsg and kallsyms; the flags to unmask are refused",
		},
		{
			ID:       "P5",
			Threat:   "Side channels: interrupt counts, thermal throttling, energy meters",
			Defence:  "/proc/interrupts, each CPU's thermal_throttle and powercap are masked",
			Accepted: "/proc/stat, /proc/softirqs and the clock itself tell what the machine does, more coarsely; programs need them",
		},
		{
			ID:      "P6",
			Threat:  "A writable cgroup: limits lifted, neighbours frozen, release_agent run by the host",
			Defence: "a cgroup namespace, its file system read-only, in both versions; --cgroupns host and writable-cgroups are refused",
		},
		{
			ID:      "P7",
			Threat:  "Files of sysfs that suspend the machine, rescan its buses, tune its memory",
			Defence: "/sys is read-only, with nothing below it that is not, and no flag changes that",
		},
		{
			ID:      "P8",
			Threat:  "/proc shows processes of others, with their environment and a way to their root",
			Defence: "a pid namespace of its own; the host's needs a grant, another container's cannot be joined",
		},
		{
			ID:       "P9",
			Threat:   "What the container can read of the host: paths in mountinfo, the kernel's command line and version, the machine's model",
			Defence:  "none of these paths leads anywhere in the container; serial numbers are root's alone; of the host's mounts only the container's own are seen",
			Accepted: "the paths of the container's own layers, /proc/cmdline, /proc/version, /proc/cpuinfo and the model below /sys/class/dmi are to be read, as with every container engine: no secret belongs on a kernel's command line",
		},
		{
			ID:       "P10",
			Threat:   "Devices by wildcards of the device cgroup, by what the runtime adds, by what /dev had",
			Defence:  "all is denied and nine kinds permitted; /dev is made anew with six nodes; disks and memory cannot be granted",
			Accepted: "runc adds rules of its own, to make nodes of any kind and to use /dev/net/tun: without a node, which the user namespace keeps one from making, they open nothing",
		},
		{
			ID:      "P11",
			Threat:  "debugfs, tracefs, bpffs, securityfs, efivarfs, pstore and configfs, mounted below /sys or bound from there",
			Defence: "the container's own sysfs has nothing mounted in it; a bind of theirs is refused, whatever it is called",
		},
		{
			ID:      "P12",
			Threat:  "/dev/shm and System V memory: shared with others by --ipc, or memory nobody counts",
			Defence: "an IPC namespace of its own; 64 MiB unless asked for, and counted by the memory limit",
		},
		{
			ID:      "P13",
			Threat:  "The clock of the host, by calls or by the device of the hardware clock",
			Defence: "no capability, a filter on the calls, no such device; a clock's device can only be given by the site",
		},
	}
}
