package cli

import "github.com/safe-run/safe-run/spec"

func limitFlags() []Flag {
	return []Flag{
		{Long: "memory", Short: "m", Type: Bytes, Group: groupLimits, Arg: "SIZE", Default: "512m", Usage: "Memory limit", Disposition: PolicyChecked, set: sizeTo(func(w *spec.Workload) **int64 { return &w.Resources.Memory })},
		{Long: "memory-reservation", Type: Bytes, Group: groupLimits, Arg: "SIZE", Usage: "Soft memory limit", set: sizeTo(func(w *spec.Workload) **int64 { return &w.Resources.MemoryReservation })},
		{Long: "memory-swap", Type: Bytes, Group: groupLimits, Arg: "SIZE", Default: "equal to --memory", Usage: "Limit of memory and swap together, -1 for none", Disposition: PolicyChecked, set: (*parser).setMemorySwap},
		{Long: "memory-swappiness", Type: Int64, Group: groupLimits, Arg: "N", Default: "-1", Usage: "Swappiness, 0 to 100", set: (*parser).setSwappiness},
		{Long: "pids-limit", Type: Int64, Group: groupLimits, Arg: "N", Default: "256", Usage: "Number of processes and threads", Disposition: PolicyChecked, set: int64To(func(w *spec.Workload) **int64 { return &w.Resources.PidsLimit }, minInt64, maxInt64)},
		{Long: "cpus", Type: Decimal, Group: groupLimits, Arg: "N", Usage: "Number of CPUs", set: (*parser).setCPUs},
		{Long: "cpu-shares", Short: "c", Type: Int64, Group: groupLimits, Arg: "N", Usage: "Relative weight", set: int64To(func(w *spec.Workload) **int64 { return &w.Resources.CPUShares }, 0, maxInt64)},
		{Long: "cpu-period", Type: Int64, Group: groupLimits, Arg: "MICROSECONDS", Usage: "CFS period, 1000 to 1000000", set: int64To(func(w *spec.Workload) **int64 { return &w.Resources.CPUPeriod }, 0, maxInt64)},
		{Long: "cpu-quota", Type: Int64, Group: groupLimits, Arg: "MICROSECONDS", Usage: "CFS quota", set: int64To(func(w *spec.Workload) **int64 { return &w.Resources.CPUQuota }, minInt64, maxInt64)},
		{Long: "cpu-rt-period", Type: Int64, Group: groupLimits, Arg: "MICROSECONDS", Usage: "Real-time period", Disposition: PolicyChecked, set: int64To(func(w *spec.Workload) **int64 { return &w.Resources.CPURTPeriod }, 0, maxInt64)},
		{Long: "cpu-rt-runtime", Type: Int64, Group: groupLimits, Arg: "MICROSECONDS", Usage: "Real-time runtime", Disposition: PolicyChecked, set: int64To(func(w *spec.Workload) **int64 { return &w.Resources.CPURTRuntime }, 0, maxInt64)},
		{Long: "cpuset-cpus", Type: String, Group: groupLimits, Arg: "LIST", Usage: "CPUs to run on, such as 0-3,5", set: strTo(func(w *spec.Workload) *string { return &w.Resources.CPUSetCPUs }, checkCPUList)},
		{Long: "cpuset-mems", Type: String, Group: groupLimits, Arg: "LIST", Usage: "Memory nodes to use, such as 0,1", set: strTo(func(w *spec.Workload) *string { return &w.Resources.CPUSetMems }, checkCPUList)},
		{Long: "blkio-weight", Type: Uint16, Group: groupLimits, Arg: "N", Usage: "Block IO weight, 10 to 1000", set: (*parser).setBlkioWeight},
		{Long: "blkio-weight-device", Type: List, Group: groupLimits, Arg: "DEVICE:N", Usage: "Block IO weight of a device", set: (*parser).setWeightDevice},
		{Long: "device-read-bps", Type: List, Group: groupLimits, Arg: "DEVICE:SIZE", Usage: "Bytes read per second from a device", set: throttleTo(func(w *spec.Workload) *[]spec.Throttle { return &w.Resources.ReadBPS }, parseRateBytes)},
		{Long: "device-write-bps", Type: List, Group: groupLimits, Arg: "DEVICE:SIZE", Usage: "Bytes written per second to a device", set: throttleTo(func(w *spec.Workload) *[]spec.Throttle { return &w.Resources.WriteBPS }, parseRateBytes)},
		{Long: "device-read-iops", Type: List, Group: groupLimits, Arg: "DEVICE:N", Usage: "Reads per second from a device", set: throttleTo(func(w *spec.Workload) *[]spec.Throttle { return &w.Resources.ReadIOPS }, parseRateCount)},
		{Long: "device-write-iops", Type: List, Group: groupLimits, Arg: "DEVICE:N", Usage: "Writes per second to a device", set: throttleTo(func(w *spec.Workload) *[]spec.Throttle { return &w.Resources.WriteIOPS }, parseRateCount)},
		{Long: "ulimit", Type: Ulimit, Group: groupLimits, Arg: "NAME=SOFT[:HARD]", Usage: "Resource limit of the process, -1 for none", Disposition: PolicyChecked, set: (*parser).setUlimit},
		{Long: "oom-score-adj", Type: Int, Group: groupLimits, Arg: "N", Usage: "OOM preference, -1000 to 1000", Disposition: PolicyChecked, set: (*parser).setOOMScoreAdj},
		{Long: "oom-kill-disable", Type: Bool, Group: groupSecurity, Usage: "Turn the OOM killer off", Disposition: PolicyChecked, set: boolTo(func(w *spec.Workload) *bool { return &w.OOMKillDisable })},
		{Long: "kernel-memory", Type: Bytes, Visibility: Deprecated, Group: groupLimits, Arg: "SIZE", Usage: "Without effect in docker too", Disposition: NoEffect, Why: "and no longer supported by the kernel", set: func(_ *parser, v string) error { _, err := parseSize(v); return err }},
		{Long: "cpu-count", Type: Int64, Visibility: Windows, Group: groupWindows, Arg: "N", Usage: "Number of CPUs", Disposition: Unsupported, Why: whyWindows, set: checkedInt(64)},
		{Long: "cpu-percent", Type: Int64, Visibility: Windows, Group: groupWindows, Arg: "N", Usage: "Percent of CPU", Disposition: Unsupported, Why: whyWindows, set: checkedInt(64)},
		{Long: "io-maxbandwidth", Type: Bytes, Visibility: Windows, Group: groupWindows, Arg: "SIZE", Usage: "Disk bandwidth", Disposition: Unsupported, Why: whyWindows, set: (*parser).setWindowsSize},
		{Long: "io-maxiops", Type: Uint64, Visibility: Windows, Group: groupWindows, Arg: "N", Usage: "Disk operations per second", Disposition: Unsupported, Why: whyWindows, set: checkedUint(64)},
		{Long: "isolation", Type: String, Group: groupWindows, Arg: "default", Usage: "Isolation technology", Disposition: Unsupported, Why: whyWindows, set: (*parser).setIsolation},
	}
}

func securityFlags() []Flag {
	return []Flag{
		{Long: "cap-add", Type: List, Group: groupSecurity, Arg: "CAP", Usage: "Add a capability; there are none by default", Disposition: PolicyChecked, set: listTo(func(w *spec.Workload) *[]string { return &w.CapAdd }, cleanWord)},
		{Long: "cap-drop", Type: List, Group: groupSecurity, Arg: "CAP", Usage: "Drop a capability", set: listTo(func(w *spec.Workload) *[]string { return &w.CapDrop }, cleanWord)},
		{Long: "security-opt", Type: List, Group: groupSecurity, Arg: "KEY=VALUE", Usage: "Security option: seccomp, apparmor, label, no-new-privileges, ...", Disposition: PolicyChecked, set: (*parser).setSecurityOpt},
		{Long: "privileged", Type: Bool, Group: groupSecurity, Usage: "Drop all confinement", Disposition: PolicyChecked, set: boolTo(func(w *spec.Workload) *bool { return &w.Privileged })},
		{Long: "device", Type: List, Group: groupSecurity, Arg: "HOST[:PATH][:rwm]", Usage: "Give a device of the host", Disposition: PolicyChecked, set: (*parser).setDevice},
		{Long: "device-cgroup-rule", Type: List, Group: groupSecurity, Arg: "RULE", Usage: "Allow a class of devices", Disposition: PolicyChecked, set: (*parser).setDeviceRule},
		{Long: "gpus", Type: GPUs, Repeatable: true, Group: groupSecurity, Arg: "REQUEST", Usage: "Give GPUs", Disposition: PolicyChecked, set: (*parser).setGPUs},
		{Long: "sysctl", Type: Map, Group: groupSecurity, Arg: "KEY=VALUE", Usage: "Kernel setting of the container's namespaces", Disposition: PolicyChecked, set: (*parser).setSysctl},
		{Long: "runtime", Type: String, Group: groupSecurity, Arg: "NAME", Usage: "OCI runtime", Disposition: PolicyChecked, set: strTo(func(w *spec.Workload) *string { return &w.Runtime }, clean)},
		{Long: "use-api-socket", Type: Bool, Group: groupSecurity, Usage: "Give the engine's socket", Disposition: PolicyChecked, set: boolTo(func(w *spec.Workload) *bool { return &w.UseAPISocket })},
		{Long: "pid", Type: String, Group: groupSecurity, Arg: "MODE", Default: "private", Usage: "PID namespace", Disposition: PolicyChecked, set: nsTo(func(w *spec.Workload) *string { return &w.PIDMode }, "host")},
		{Long: "ipc", Type: String, Group: groupSecurity, Arg: "MODE", Default: "private", Usage: "IPC namespace: none, private", Disposition: PolicyChecked, set: (*parser).setIPC},
		{Long: "uts", Type: String, Group: groupSecurity, Arg: "MODE", Default: "private", Usage: "UTS namespace", Disposition: PolicyChecked, set: nsTo(func(w *spec.Workload) *string { return &w.UTSMode }, "host")},
		{Long: "userns", Type: String, Group: groupSecurity, Arg: "MODE", Default: "own range", Usage: "User namespace", Disposition: PolicyChecked, set: nsTo(func(w *spec.Workload) *string { return &w.UserNSMode }, "host")},
		{Long: "cgroupns", Type: String, Group: groupSecurity, Arg: "MODE", Default: "private", Usage: "cgroup namespace", Disposition: PolicyChecked, set: nsTo(func(w *spec.Workload) *string { return &w.CgroupNSMode }, "host", "private")},
		{Long: "cgroup-parent", Type: String, Group: groupSecurity, Arg: "CGROUP", Usage: "Parent cgroup", Disposition: PolicyChecked, set: strTo(func(w *spec.Workload) *string { return &w.CgroupParent }, clean)},
	}
}
