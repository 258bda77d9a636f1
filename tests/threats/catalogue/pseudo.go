package catalogue

// procfs, sysfs, cgroups, devices.
func pseudo() []Row {
	return []Row{
		{
			ID:      "P1",
			Threat:  "A pipe handler in /proc/sys/kernel/core_pattern runs as root of the host",
			Defence: "/proc/sys is read-only, and the container's root is another user",
		},
		{
			ID:      "P2",
			Threat:  "modprobe, hotplug, uevent_helper, poweroff_cmd, binfmt_misc name programs the kernel runs",
			Defence: "as P1; binfmt_misc is never mounted",
		},
	}
}
