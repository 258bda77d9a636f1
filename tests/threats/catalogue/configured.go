package catalogue

// What is configured but not in force.
func configured() []Row {
	return []Row{
		{
			ID:      "C1",
			Threat:  "A seccomp file that is empty, of another form, or half understood: the runtime starts the container without a filter, and says nothing",
			Defence: "a strict reader: unknown keys, trailing bytes, an empty list are errors; that a filter is on is read back from the kernel",
		},
		{
			ID:      "C2",
			Threat:  "A seccomp file that permits by default: the kernel says that a filter is on, and it filters nothing",
			Defence: "only files that deny by default are taken, and only the calls the built-in filter permits come through",
		},
		{
			ID:      "C3",
			Threat:  "A seccomp file for other architectures: the real one is missing, or a second one opens another door",
			Defence: "the filter is always for the native architecture and for it alone, whatever the file lists",
		},
		{
			ID:      "C4",
			Threat:  "The AppArmor profile that was asked for is not loaded, only complains, or is lost on the way: the process runs without",
			Defence: "where the kernel has AppArmor the profile is loaded and enforced or nothing is run; the label is read back; a site can require an LSM",
		},
		{
			ID:      "C5",
			Threat:  "Path based rules of AppArmor are got round by other names for the same file",
			Defence: "AppArmor is a second layer: nothing relies on it, and all holds on hosts without it",
		},
		{
			ID:      "C6",
			Threat:  "A SELinux label that is switched off, changed, or put on the host's files for good",
			Defence: "label=disable needs a grant, other labels and the relabelling of binds on such hosts are refused; a specification without a label is not started there",
		},
		{
			ID:      "C7",
			Threat:  "A runtime ignores a field of the specification it does not know, or fails to apply one, without a word",
			Defence: "what the kernel has is compared with what was asked for before the program starts, and the container is killed if they differ",
		},
		{
			ID:       "C8",
			Threat:   "Limits, mount options and sysctls that got lost, or were written elsewhere (CVE-2025-52881): nr_inodes, noexec, read-only, rlimits, memory",
			Defence:  "as C7: mounts, limits, cgroups and the sysctls of the network and IPC namespaces are read back, each one",
			Accepted: "user.max_user_namespaces can only be read from inside; the filter refuses nested user namespaces without it",
		},
		{
			ID:      "C9",
			Threat:  "An exec or a health check has more than the container: capabilities, no filter, another cgroup, no limits",
			Defence: "its process is a copy of the container's own; the two are compared before, and the kernel asked after",
		},
		{
			ID:      "C10",
			Threat:  "A stopped container is started again after the policy changed, by the rules of the day it was made",
			Defence: "every start is judged anew, with the policy and the bind sources of that moment",
		},
		{
			ID:      "C11",
			Threat:  "docker update lifts the limits of a running container",
			Defence: "there is no such command, nor is its name taken for an image",
		},
		{
			ID:       "C12",
			Threat:   "Other clients of containerd change a container, or start processes in it",
			Defence:  "a namespace of containerd's own, a socket for root alone, an engine without the API of Kubernetes",
			Accepted: "who may talk to containerd is root: it can do to a container what root can",
		},
		{
			ID:       "C13",
			Threat:   "Plugins of the host (NRI, CDI) add mounts, devices or hooks after the specification was checked",
			Defence:  "the engine that comes along has neither; with another one, a mount, a device, a limit or a right that was added is found before the program starts",
			Accepted: "arguments, environment and hooks that root's own plugin adds are not found: it could run anything itself; with cgroup v2 the rules for devices are a program that cannot be read back, so a device that was added is found, a rule that was widened is not",
		},
		{
			ID:      "C14",
			Threat:  "containerd's restart monitor starts a container by its labels, past the policy, before the host's LSM profiles are loaded",
			Defence: "no such label is ever set, an image's are not copied, and the engine that comes along has no such monitor; restarts are the supervisor's",
		},
	}
}
