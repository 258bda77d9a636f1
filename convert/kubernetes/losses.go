package kubernetes

import (
	"strings"

	"github.com/safe-run/safe-run/convert"
)

// lost gives what a container of safe-run has by default that a Pod cannot
// promise, and what was noted on the way.
func (b *builder) lost() []convert.Loss {
	all := b.losses
	b.losses = nil
	if b.w.UserNSMode != "host" && b.pod.Spec.HostUsers != nil {
		b.lose("user namespace", "hostUsers: false needs Kubernetes 1.33 and, on each node, a runtime and file systems that know idmapped mounts; older clusters leave it out without a word")
	} else if b.w.UserNSMode != "host" {
		b.lose("user namespace", "a Pod in a namespace of the host has no user namespace of its own")
	}
	if b.w.Resources.PidsLimit == nil {
		b.lose("--pids-limit", "no field says it: the limit is podPidsLimit of each kubelet, which is none unless it is set")
	}
	b.lose("noexec on what can be written", "an emptyDir or claim can hold programs: bindMountOptions, which forbids it, is in Kubernetes 1.37 and off there")
	b.lose("--ulimit", "open files and core dumps are limited as the nodes' runtime is")
	if b.nonRoot() && len(b.w.CapAdd) > 0 {
		b.lose(word("cap-add", strings.Join(b.w.CapAdd, ",")), "Kubernetes gives an added capability to root alone: without ambient capabilities it does not reach the user "+b.w.User)
	}
	if b.w.AppArmorProfile() == "" {
		b.lose("AppArmor", "where nodes have it, the profile is the runtime's default one")
	}
	b.lose("attestation", "nobody compares what the kernel enforces with what is asked for here")
	for _, d := range b.c.DependsOn {
		b.lose("depends_on "+d.Name, "Pods are started in any order: it has to try again until the other is there")
	}
	return append(all, b.losses...)
}

const (
	whyNoField = "a Pod has no field for it"
	whyNode    = "it is a setting of the node's runtime, which no field of a Pod reaches"
	whyLogs    = "the kubelet keeps the output, by its own limits (containerLogMaxSize, containerLogMaxFiles)"
	whyHealth  = "a probe counts in whole seconds"
	whyName    = "the API takes no such name"
	whyBlkio   = "there are no limits for block devices in a Pod"
	whyCPU     = "CPU is a limit in thousandths and a request, no more"
)

// whys are the reasons for which a flag is kept and not written, by its name.
func whys() map[string]string {
	return map[string]string{
		"domainname": "the domain of a Pod is that of the cluster",
		"hostname":   "the host name of a Pod is one label of small letters, digits and dashes",
		"label":      "it is no label of Kubernetes: keys and values have at most 63 letters, digits, -, _ and .", "annotation": "annotations of a Pod are not those of its OCI spec",
		"platform": "nodes are chosen by operating system and architecture alone",
		"env":      "a variable can be set to a value, not removed, and its name is of letters, digits, _, - and .",
		"user":     "a Pod takes numbers: write the user's id into runAsUser", "group-add": "a Pod takes numbers: write the group's id into supplementalGroups",
		"init": "no Pod has an init of its own; bring one with the image", "stop-signal": "the API has no such signal", "stop-timeout": "a Pod is killed in the end",
		"tmpfs": "an emptyDir has a size, but no owner, mode or mount options", "mount": "a volume of a Pod has a source, a path, and can be read-only", "volume": "a volume of a Pod has a source, a path, and can be read-only",
		"volumes-from": "volumes are named by each Pod that uses them", "volume-driver": "the storage class of the claim decides that", "storage-opt": whyNoField, "read-only": whyNoField, "shm-size": whyNoField,
		"privileged":   "what drops all confinement is not exported",
		"security-opt": "a Pod has no field for this option", "device": "devices come from a device plugin of the cluster (resources.limits)", "device-cgroup-rule": "devices come from a device plugin of the cluster",
		"gpus": "GPUs come from a device plugin of the cluster (resources.limits)", "sysctl": whyName, "runtime": "the cluster has runtime classes of its own", "use-api-socket": "what gives the engine away is not exported",
		"pid": "containers that share processes are containers of one Pod", "ipc": "containers that share memory are containers of one Pod", "uts": whyNoField, "cgroupns": whyNode, "cgroup-parent": "the kubelet places it",
		"network": "containers of one network namespace are containers of one Pod: write them into one", "network-alias": "a Pod is found by names of Services, which are for networks of a project here, and of one container each", "ip": "the cluster gives addresses",
		"ip6": "the cluster gives addresses", "mac-address": "the cluster gives addresses", "add-host": "hostAliases takes an address of its own and a DNS name",
		"dns": "a Pod has at most three name servers", "dns-search": "it is no search domain a Pod can have", "dns-option": whyNoField,
		"publish": "a Service has an address of its own, and one port for each port: no address of the host, no ranges", "publish-all": whyNoField, "expose": whyNoField,
		"egress": "a NetworkPolicy knows addresses alone, and never those of metadata services: nothing is let through for it", "ulimit": whyNode,
		"memory": "a Pod without a limit has none; nothing is written", "memory-reservation": whyNoField, "memory-swap": "swap is a setting of the kubelet (memorySwap.swapBehavior)", "memory-swappiness": whyNode,
		"pids-limit": "it is a setting of the kubelet (podPidsLimit), for all Pods alike", "cpus": whyCPU, "cpu-shares": whyCPU, "cpu-period": whyCPU, "cpu-quota": whyCPU, "cpu-rt-period": whyCPU, "cpu-rt-runtime": whyCPU,
		"cpuset-cpus": "the CPU manager of the kubelet gives whole CPUs, and chooses which", "cpuset-mems": "the memory manager of the kubelet chooses",
		"blkio-weight": whyBlkio, "blkio-weight-device": whyBlkio, "device-read-bps": whyBlkio, "device-write-bps": whyBlkio, "device-read-iops": whyBlkio, "device-write-iops": whyBlkio,
		"oom-score-adj": "the kubelet sets it by the quality of service", "oom-kill-disable": whyNoField,
		"health-cmd": "a probe has a command and nothing else", "health-exec": "a probe has a command and nothing else", "health-interval": whyHealth, "health-timeout": whyHealth,
		"health-start-period": "there is no probe it could be of: the check is the image's, which Kubernetes does not look at", "health-start-interval": whyHealth, "health-retries": "there is no probe it could be of: the check is the image's, which Kubernetes does not look at",
		"health-on-failure": "what becomes of it is decided by the restart policy", "log-driver": whyLogs, "log-opt": whyLogs, "sdnotify": "there is no systemd to tell",
		"secret": "the content is not exported", "cidfile": "there is no such file",
	}
}

// Why says why there is no field for a flag.
func (f format) Why(flag string) string {
	if why := whys()[flag]; why != "" {
		return why
	}
	return whyNoField
}
