package spec

import (
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// minMemory is docker's least --memory, 6 MiB.
const minMemory = 6 << 20

// controllerOf are the cgroup controllers' names, v1 and v2.
var controllerOf = map[string][2]string{
	"memory": {"memory", "memory"},
	"pids":   {"pids", "pids"},
	"cpu":    {"cpu", "cpu"},
	"cpuset": {"cpuset", "cpuset"},
	"io":     {"blkio", "io"},
}

// need says that a limit cannot be had here; a limit that is not enforced
// would be worse than none.
func need(host Features, controller, limit string) error {
	name := controllerOf[controller][0]
	if host.CgroupV2 {
		name = controllerOf[controller][1]
	}
	if host.Controllers[name] {
		return nil
	}
	return fail.New(fail.HostCannot, "%s needs the cgroup controller %q, which cannot be used here", limit, name).
		Hint("enable it for the cgroup safe-run runs in (Delegate=yes of a systemd unit, or the kernel's command line)")
}

// resources are the cgroup's limits: memory without swap and a number of
// processes in any case, the others as asked.
func resources(in Input) (*specs.LinuxResources, error) {
	r := &specs.LinuxResources{Devices: deviceRules(in.Grants)}
	if !in.Host.CgroupV2 && !in.Host.Controllers["devices"] {
		return nil, fail.New(fail.HostCannot, "the list of devices needs the cgroup controller \"devices\", which cannot be used here")
	}
	var err error
	if r.Memory, err = memoryResources(in); err != nil {
		return nil, err
	}
	if r.Pids, err = pidsResources(in); err != nil {
		return nil, err
	}
	if r.CPU, err = cpuResources(in); err != nil {
		return nil, err
	}
	if r.BlockIO, err = blockResources(in); err != nil {
		return nil, err
	}
	if in.Host.CgroupV2 && r.Memory != nil {
		r.Unified = map[string]string{oomGroup: "1"}
	}
	return r, nil
}

// oomGroup is the file of a cgroup (v2) by which all its processes are killed
// when one must be for lack of memory: what is left of a container would run
// on in a state nobody has thought of.
const oomGroup = "memory.oom.group"

// memoryLimit in bytes; 0 is unlimited, which takes a grant.
func memoryLimit(in Input) (int64, error) {
	asked := in.Workload.Resources.Memory
	switch {
	case asked == nil:
		return in.Limits.Memory, nil
	case *asked == 0:
		if !in.Grants.UnlimitedMemory {
			return 0, fail.New(fail.Refused, "--memory 0 (unlimited) is not granted").Hint("give the size that is needed")
		}
		return 0, nil
	case *asked < minMemory:
		return 0, fail.New(fail.Usage, "--memory %d: the minimum is 6 MiB", *asked)
	case in.Limits.MaxMemory > 0 && *asked > in.Limits.MaxMemory:
		return 0, fail.New(fail.Refused, "--memory %d is above the maximum of %d bytes", *asked, in.Limits.MaxMemory)
	}
	return *asked, nil
}

func memoryResources(in Input) (*specs.LinuxMemory, error) {
	w := in.Workload.Resources
	if in.Workload.OOMKillDisable {
		return nil, fail.New(fail.Refused, "--oom-kill-disable would let a full container block the host's memory for ever")
	}
	if w.KernelMemory != nil {
		return nil, fail.New(fail.Usage, "--kernel-memory is not supported by current kernels").Hint("--memory counts kernel memory too")
	}
	limit, err := memoryLimit(in)
	if err != nil {
		return nil, err
	}
	if limit == 0 {
		if w.MemorySwap != nil || w.MemoryReservation != nil {
			return nil, fail.New(fail.Usage, "--memory-swap and --memory-reservation need a --memory limit")
		}
		return nil, nil
	}
	if err := need(in.Host, "memory", "the memory limit"); err != nil {
		return nil, err
	}
	if !in.Host.SwapLimit {
		return nil, fail.New(fail.HostCannot, "this host cannot limit swap, so a memory limit would not hold").
			Hint("boot with swapaccount=1, or use cgroup v2")
	}
	swap := limit
	if s := w.MemorySwap; s != nil && *s != 0 {
		switch {
		case *s < 0:
			return nil, fail.New(fail.Refused, "--memory-swap -1 (unlimited swap) is not given").Hint("give the sum of memory and swap")
		case *s < limit:
			return nil, fail.New(fail.Usage, "--memory-swap %d is memory plus swap and must not be below the memory limit of %d", *s, limit)
		case in.Limits.MaxMemory > 0 && *s > in.Limits.MaxMemory:
			return nil, fail.New(fail.Refused, "--memory-swap %d is above the maximum of %d bytes", *s, in.Limits.MaxMemory)
		}
		swap = *s
	}
	m := &specs.LinuxMemory{Limit: &limit, Swap: &swap}
	if v := w.MemoryReservation; v != nil && *v != 0 {
		if *v < minMemory || *v > limit {
			return nil, fail.New(fail.Usage, "--memory-reservation %d must be between 6 MiB and the memory limit of %d", *v, limit)
		}
		m.Reservation = v
	}
	if v := w.MemorySwappiness; v != nil && *v != -1 {
		if *v < 0 || *v > 100 {
			return nil, fail.New(fail.Usage, "--memory-swappiness %d must be between 0 and 100", *v)
		}
		if in.Host.CgroupV2 {
			return nil, fail.New(fail.HostCannot, "--memory-swappiness does not exist with cgroup v2")
		}
		s := uint64(*v)
		m.Swappiness = &s
	}
	return m, nil
}

func pidsResources(in Input) (*specs.LinuxPids, error) {
	limit := in.Limits.Pids
	if asked := in.Workload.Resources.PidsLimit; asked != nil {
		limit = *asked
	}
	if limit <= 0 {
		if !in.Grants.UnlimitedPids {
			return nil, fail.New(fail.Refused, "--pids-limit %d (unlimited) is not granted", limit).Hint("give the number that is needed")
		}
		return nil, nil
	}
	if most := in.Limits.MaxPids; most > 0 && limit > most {
		return nil, fail.New(fail.Refused, "--pids-limit %d is above the maximum of %d", limit, most)
	}
	if err := need(in.Host, "pids", "the limit of processes"); err != nil {
		return nil, err
	}
	return &specs.LinuxPids{Limit: &limit}, nil
}

// cpuPeriod is what --cpus is a share of, in microseconds; docker's.
const cpuPeriod = 100_000

// leastQuota is the kernel's least share of a period, in microseconds.
const leastQuota = 1000

func cpuResources(in Input) (*specs.LinuxCPU, error) {
	w := in.Workload.Resources
	cpu := specs.LinuxCPU{Cpus: w.CPUSetCPUs, Mems: w.CPUSetMems}
	if v := w.NanoCPUs; v != nil && *v != 0 {
		if w.CPUPeriod != nil && *w.CPUPeriod != 0 || w.CPUQuota != nil && *w.CPUQuota != 0 {
			return nil, fail.New(fail.Conflict, "--cpus excludes --cpu-period and --cpu-quota")
		}
		if *v < 0 || in.Host.CPUs > 0 && *v > int64(in.Host.CPUs)*1e9 {
			return nil, fail.New(fail.HostCannot, "--cpus %g: this host has %d", float64(*v)/1e9, in.Host.CPUs)
		}
		if most := in.Limits.MaxCPUs; most > 0 && float64(*v) > most*1e9 {
			return nil, fail.New(fail.Refused, "--cpus %g is above the maximum of %g", float64(*v)/1e9, most)
		}
		quota := *v / (1e9 / cpuPeriod)
		if quota < leastQuota {
			return nil, fail.New(fail.Usage, "--cpus %g: the minimum is 0.01", float64(*v)/1e9)
		}
		cpu.Period, cpu.Quota = new(uint64(cpuPeriod)), &quota
	} else if err := cpuQuota(in, &cpu); err != nil {
		return nil, err
	}
	// Who asks for no share gets the most that may be asked for.
	if most := in.Limits.MaxCPUs; most > 0 && cpu.Quota == nil && (in.Host.CPUs == 0 || most < float64(in.Host.CPUs)) {
		if cpu.Period == nil {
			cpu.Period = new(uint64(cpuPeriod))
		}
		cpu.Quota = new(max(int64(most*float64(*cpu.Period)), leastQuota))
	}
	if v := w.CPUShares; v != nil && *v != 0 {
		if *v < 0 {
			return nil, fail.New(fail.Usage, "--cpu-shares %d is negative", *v)
		}
		cpu.Shares = new(uint64(max(*v, 2))) // 2 is the kernel's least
	}
	if v := w.CPURTPeriod; v != nil && *v != 0 {
		return nil, realTime("--cpu-rt-period")
	}
	if v := w.CPURTRuntime; v != nil && *v != 0 {
		return nil, realTime("--cpu-rt-runtime")
	}
	for _, set := range []struct{ flag, asked, have string }{
		{"--cpuset-cpus", cpu.Cpus, in.Host.CPUSet},
		{"--cpuset-mems", cpu.Mems, in.Host.MemSet},
	} {
		if set.asked == "" {
			continue
		}
		asked, err := parseList(set.asked)
		if err != nil {
			return nil, fail.New(fail.Usage, "%s %.64q is not a list like 0-2,4", set.flag, set.asked)
		}
		have, err := parseList(set.have)
		if err != nil || !asked.inside(have) {
			return nil, fail.New(fail.HostCannot, "%s %s: this host has %s", set.flag, set.asked, set.have)
		}
		if err := need(in.Host, "cpuset", set.flag); err != nil {
			return nil, err
		}
	}
	if cpu.Shares != nil || cpu.Quota != nil || cpu.Period != nil {
		if err := need(in.Host, "cpu", "the CPU limit"); err != nil {
			return nil, err
		}
	}
	if cpu == (specs.LinuxCPU{}) {
		return nil, nil
	}
	return &cpu, nil
}

func realTime(flag string) error {
	return fail.New(fail.Refused, "%s: real-time scheduling can keep every other program of the host from running", flag)
}

func cpuQuota(in Input, cpu *specs.LinuxCPU) error {
	w := in.Workload.Resources
	if v := w.CPUPeriod; v != nil && *v != 0 {
		if *v < 1000 || *v > 1_000_000 {
			return fail.New(fail.Usage, "--cpu-period %d must be between 1000 and 1000000 microseconds", *v)
		}
		cpu.Period = new(uint64(*v))
	}
	v := w.CPUQuota
	if v == nil || *v == 0 || *v == -1 {
		return nil
	}
	if *v < leastQuota {
		return fail.New(fail.Usage, "--cpu-quota %d must be at least 1000 microseconds", *v)
	}
	period := uint64(cpuPeriod)
	if cpu.Period != nil {
		period = *cpu.Period
	}
	if most := in.Limits.MaxCPUs; most > 0 && float64(*v) > most*float64(period) {
		return fail.New(fail.Refused, "--cpu-quota %d of %d is above the maximum of %g CPUs", *v, period, most)
	}
	cpu.Quota = v
	return nil
}

// numberList is a set in the kernel's list form.
type numberList [][2]uint64

func parseList(s string) (numberList, error) {
	var l numberList
	if len(s) > 4096 {
		return nil, strconv.ErrRange
	}
	for part := range strings.SplitSeq(s, ",") {
		from, to, ranged := strings.Cut(part, "-")
		if !ranged {
			to = from
		}
		a, err := strconv.ParseUint(from, 10, 16)
		if err != nil {
			return nil, err
		}
		b, err := strconv.ParseUint(to, 10, 16)
		if err != nil {
			return nil, err
		}
		if b < a {
			return nil, strconv.ErrRange
		}
		l = append(l, [2]uint64{a, b})
	}
	return l, nil
}

func (l numberList) inside(have numberList) bool {
	for _, r := range l {
		for n := r[0]; n <= r[1]; n++ {
			if !have.has(n) {
				return false
			}
		}
	}
	return true
}

func (l numberList) has(n uint64) bool {
	for _, r := range l {
		if r[0] <= n && n <= r[1] {
			return true
		}
	}
	return false
}

func blockResources(in Input) (*specs.LinuxBlockIO, error) {
	w := in.Workload.Resources
	b := &specs.LinuxBlockIO{}
	asked := false
	if v := w.BlkioWeight; v != nil && *v != 0 {
		if *v < 10 || *v > 1000 {
			return nil, fail.New(fail.Usage, "--blkio-weight %d must be between 10 and 1000", *v)
		}
		b.Weight, asked = v, true
	}
	for _, d := range w.BlkioWeightDevice {
		if d.Weight != 0 && (d.Weight < 10 || d.Weight > 1000) {
			return nil, fail.New(fail.Usage, "--blkio-weight-device %.64q: weight %d must be between 10 and 1000", d.Path, d.Weight)
		}
		major, minor, err := blockDevice(in, d.Path)
		if err != nil {
			return nil, err
		}
		o := specs.LinuxWeightDevice{Weight: new(d.Weight)}
		o.Major, o.Minor = major, minor
		b.WeightDevice, asked = append(b.WeightDevice, o), true
	}
	for _, t := range []struct {
		asked []Throttle
		out   *[]specs.LinuxThrottleDevice
	}{
		{w.ReadBPS, &b.ThrottleReadBpsDevice},
		{w.WriteBPS, &b.ThrottleWriteBpsDevice},
		{w.ReadIOPS, &b.ThrottleReadIOPSDevice},
		{w.WriteIOPS, &b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range t.asked {
			major, minor, err := blockDevice(in, d.Path)
			if err != nil {
				return nil, err
			}
			o := specs.LinuxThrottleDevice{Rate: d.Rate}
			o.Major, o.Minor = major, minor
			*t.out, asked = append(*t.out, o), true
		}
	}
	if !asked {
		return nil, nil
	}
	return b, need(in.Host, "io", "the limit of block devices")
}

func blockDevice(in Input, p string) (major, minor int64, err error) {
	rdev, ok := in.BlockDevices[p]
	if !ok {
		return 0, 0, fail.New(fail.NotFound, "%.128q is not a block device of this host", p)
	}
	return int64(unix.Major(rdev)), int64(unix.Minor(rdev)), nil
}
