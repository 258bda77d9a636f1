package catalogue

// The launcher's own inputs and files.
func launcher() []Row {
	return []Row{
		{
			ID:      "L1",
			Threat:  "Names that are paths, flags, control characters, look-alikes, or too long: containers, volumes, networks, secrets, profiles",
			Defence: "one short alphabet for all of them, a letter or digit first, checked before anything is touched",
		},
		{
			ID:      "L2",
			Threat:  "--cidfile overwrites a file as root, by a link, a FIFO or a device",
			Defence: "written with the caller's rights, never through a link, into a new file or an empty one of the caller's own",
		},
		{
			ID:      "L3",
			Threat:  "--env-file and its like read root's files for somebody who may use sudo, into the container or into a message",
			Defence: "opened with the rights of who called sudo; messages give the number of a line, never its content",
		},
		{
			ID:       "L4",
			Threat:   "A FIFO, terminal, endless or huge file as input hangs or fills memory",
			Defence:  "regular files only, looked at before they are opened, bounded in size and in the time they may make one wait",
			Accepted: "load reads an archive from a pipe for as long as somebody writes into it, as docker does",
		},
		{
			ID:      "L5",
			Threat:  "The environment that came through sudo chooses root's containerd, state, programs, certificates, proxies or credentials",
			Defence: "under sudo none of it is used; no program is taken from PATH, and the state is at its fixed place",
		},
		{
			ID:      "L6",
			Threat:  "Credentials of one registry go to another by a redirect, or in the clear; helpers run as root from the caller's PATH",
			Defence: "credentials belong to the host they were stored for; http is for loopback alone; under sudo helpers are root's own",
		},
		{
			ID:       "L7",
			Threat:   "Secrets are seen in inspect, the record, containerd, logs, units or the arguments of processes",
			Defence:  "--secret is a file in memory whose content is stored nowhere; detaching passes nothing by arguments; units with values that look secret are refused",
			Accepted: "a variable (-e) is in the specification, the record and inspect, readable by root alone, as with docker: use --secret",
		},
		{
			ID:      "L8",
			Threat:  "Lines added to resolv.conf by --dns, --dns-search, --dns-option",
			Defence: "addresses are parsed, names and options have an alphabet, and the file has the asked lines only",
		},
		{
			ID:      "L9",
			Threat:  "Lines added to hosts by --hostname, --domainname, --add-host (the runtime takes a newline in a host name)",
			Defence: "RFC 1123 and a length for names, parsed addresses",
		},
		{
			ID:      "L10",
			Threat:  "Directives or commands added to what is generated: units, JSON",
			Defence: "each word in the format's own quoting; tested by reading it back",
		},
		{
			ID:      "L11",
			Threat:  "A flag behind the image, or an image that looks like a flag, is taken for the other; files of arguments",
			Defence: "docker's grammar, compared with its flag package on ten thousand lines; no @file",
		},
		{
			ID:      "L12",
			Threat:  "Somebody makes the state directory first, as a link or with rights of his own, or reads it",
			Defence: "links and directories of others are refused; all of it is root's, and closed to others, the engine's socket as well",
		},
		{
			ID:      "L13",
			Threat:  "Who may run it: a setuid program, a group with a socket, a policy that others can write",
			Defence: "nothing is setuid, no daemon listens; a policy file or a directory above it that others can write stops every launch",
		},
		{
			ID:      "L14",
			Threat:  "A policy that is half read: links, duplicate and unknown keys, aliases that grow, cut off, too large",
			Defence: "read once through a descriptor that was judged; strict, bounded, without anchors; an error stops every launch",
		},
		{
			ID:      "L15",
			Threat:  "A vendor's profile asks for more than the site gives, or was made for another image or format",
			Defence: "it stands for flags, which the site's policy judges; all that is too much is named; image, digest and version must fit",
		},
		{
			ID:      "L16",
			Threat:  "A launch description that is fetched writes or reads outside of its place (CVE-2025-62725)",
			Defence: "nothing but images is fetched; a profile in one is a single file, read inside of it, and only if it is named",
		},
		{
			ID:       "L17",
			Threat:   "Learning runs the image with wide rights",
			Defence:  "the recorder is outside, in the kernel; the container has user namespace, filter, masks and limits as ever, and what the policy refuses is refused",
			Accepted: "the recorded run may write its root file system, which is thrown away, and has the capabilities anybody may ask for",
		},
		{
			ID:       "L18",
			Threat:   "An image behaves differently while it is watched, or puts rare system calls into its profile",
			Defence:  "inside nothing tells of the recorder; calls no container is given are in no profile, learned or edited",
			Accepted: "a profile holds what the image did: it is to be read before it is used elsewhere, and the site's policy still judges it",
		},
		{
			ID:      "L19",
			Threat:  "Messages tell a caller what is in, or whether there is, what he cannot look at",
			Defence: "what the caller may not open gets one answer, whatever is there; contents, links' targets and stacks are not printed",
		},
		{
			ID:      "L20",
			Threat:  "A refusal is taken for a failure of the application, or the other way round",
			Defence: "docker's exit codes; safe-run's own 125 comes with a line or JSON and without an id in --cidfile",
		},
	}
}
