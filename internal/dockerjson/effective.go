package dockerjson

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/policy"
	"github.com/safe-run/safe-run/spec"
)

// usersOf is the user namespace: a capability can ask for the host's as well.
func usersOf(w spec.Workload) string {
	if policy.NeedsHostUsers(w) {
		return "host"
	}
	return or(w.UserNSMode, "private")
}

// hostConfig is how the container is confined, with the defaults that hold
// where nothing was asked for.
func hostConfig(s Source, a store.Asked) *HostConfig {
	w, l, r := a.Workload, s.Limits, s.Record
	h := &HostConfig{
		ContainerIDFile: w.CIDFile, LogConfig: LogConfig{Type: r.LogDriver, Config: w.LogOpts},
		NetworkMode: "none", PortBindings: bindings(w.Publish),
		RestartPolicy: RestartPolicy{Name: r.Restart.Name, MaximumRetryCount: r.Restart.Max},
		AutoRemove:    !r.Keep, VolumeDriver: w.VolumeDriver, VolumesFrom: w.VolumesFrom,
		Annotations: w.Annotations, CapAdd: capabilities(w), CapDrop: []string{"ALL"}, CgroupnsMode: "private",
		Dns: list(w.DNS), DnsOptions: list(w.DNSOptions), DnsSearch: list(w.DNSSearch), ExtraHosts: list(w.AddHosts), GroupAdd: w.GroupAdd,
		IpcMode: or(w.IPCMode, "private"), PidMode: w.PIDMode, UTSMode: w.UTSMode, UsernsMode: usersOf(w),
		PublishAllPorts: w.PublishAll, ReadonlyRootfs: w.ReadOnly == nil || *w.ReadOnly,
		SecurityOpt: securityOpts(w.SecurityOpts), StorageOpt: w.StorageOpts, ShmSize: value(w.ShmSize, l.Shm), Sysctls: w.Sysctls,
		Runtime: or(w.Runtime, "runc"), CgroupParent: w.CgroupParent,
		Devices: []DeviceMapping{}, DeviceCgroupRules: w.DeviceCgroupRules, Ulimits: ulimits(w.Ulimits, l), Init: w.Init,
	}
	if h.LogConfig.Type == "" {
		h.LogConfig.Type = or(w.LogDriver, "json-file")
	}
	if h.LogConfig.Config == nil {
		h.LogConfig.Config = map[string]string{}
	}
	if h.RestartPolicy.Name == "" {
		h.RestartPolicy.Name = or(w.Restart.Name, spec.RestartNo)
	}
	if len(w.Networks) > 0 {
		h.NetworkMode = w.Networks[0].Name
	}
	h.OomScoreAdj = spec.DefaultOOMScoreAdj
	if w.OOMScoreAdj != nil {
		h.OomScoreAdj = *w.OOMScoreAdj
	}
	for _, d := range w.Devices {
		h.Devices = append(h.Devices, DeviceMapping{d.Host, d.Container, d.Permissions})
	}
	h.limits(w.Resources, l)
	h.mounts(w, r.Anonymous, l)
	return h
}

func (h *HostConfig) limits(r spec.Resources, l spec.Limits) {
	h.Memory = value(r.Memory, l.Memory)
	h.MemorySwap = h.Memory
	if r.MemorySwap != nil && *r.MemorySwap != 0 {
		h.MemorySwap = *r.MemorySwap
	}
	pids := value(r.PidsLimit, l.Pids)
	h.PidsLimit = &pids
	h.MemoryReservation, h.MemorySwappiness = value(r.MemoryReservation, 0), r.MemorySwappiness
	h.NanoCPUs, h.CPUShares = value(r.NanoCPUs, 0), value(r.CPUShares, 0)
	h.CPUPeriod, h.CPUQuota = value(r.CPUPeriod, 0), value(r.CPUQuota, 0)
	h.CpusetCpus, h.CpusetMems = r.CPUSetCPUs, r.CPUSetMems
	if r.BlkioWeight != nil {
		h.BlkioWeight = *r.BlkioWeight
	}
	h.BlkioWeightDevice = []WeightDevice{}
	for _, d := range r.BlkioWeightDevice {
		h.BlkioWeightDevice = append(h.BlkioWeightDevice, WeightDevice(d))
	}
	for _, t := range []struct {
		asked []spec.Throttle
		out   *[]ThrottleDevice
	}{
		{r.ReadBPS, &h.BlkioDeviceReadBps},
		{r.WriteBPS, &h.BlkioDeviceWriteBps},
		{r.ReadIOPS, &h.BlkioDeviceReadIOps},
		{r.WriteIOPS, &h.BlkioDeviceWriteIOps},
	} {
		*t.out = []ThrottleDevice{}
		for _, d := range t.asked {
			*t.out = append(*t.out, ThrottleDevice(d))
		}
	}
}

// capabilities are those the container has: there are none but what was asked
// for, and it would not have started had one of them been refused.
func capabilities(w spec.Workload) []string {
	set := map[string]bool{}
	for _, c := range w.CapAdd {
		if name, err := spec.Capability(c); err == nil {
			set[name] = true
		}
	}
	for _, c := range w.CapDrop {
		if name, err := spec.Capability(c); err == nil {
			delete(set, name)
		}
	}
	return append([]string{}, slices.Sorted(maps.Keys(set))...)
}

// securityOpts are those asked for, and no-new-privileges, which holds unless
// it was asked for otherwise.
func securityOpts(asked []string) []string {
	out := append([]string{}, asked...)
	for _, o := range asked {
		if strings.HasPrefix(o, "no-new-privileges") {
			return out
		}
	}
	return append(out, "no-new-privileges")
}

// ulimits are those asked for over the defaults: a number of open files, and
// no core dumps.
func ulimits(asked []spec.Ulimit, l spec.Limits) []Ulimit {
	set := map[string]Ulimit{"core": {Name: "core"}, "nofile": {Name: "nofile", Soft: l.Nofile, Hard: l.Nofile}}
	for _, u := range asked {
		set[u.Name] = Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard}
	}
	out := make([]Ulimit, 0, len(set))
	for _, name := range slices.Sorted(maps.Keys(set)) {
		out = append(out, set[name])
	}
	return out
}

// bindings are the published ports as asked for; a range is shown as its
// ports if both sides have as many.
func bindings(published []spec.Publish) map[string][]PortBinding {
	out := map[string][]PortBinding{}
	left := maxPorts
	for _, p := range published {
		ip := ""
		if p.HostIP.IsValid() {
			ip = p.HostIP.String()
		}
		n := int(p.Ports.Last) - int(p.Ports.First) + 1
		if left -= n; left < 0 {
			break
		}
		for i := range n {
			b := PortBinding{HostIP: ip}
			switch same := int(p.HostLast)-int(p.HostFirst)+1 == n; {
			case p.HostFirst == 0:
			case same:
				b.HostPort = strconv.Itoa(int(p.HostFirst) + i)
			default:
				b.HostPort = strconv.Itoa(int(p.HostFirst)) + "-" + strconv.Itoa(int(p.HostLast))
			}
			key := portName(uint16(int(p.Ports.First)+i), p.Ports.Proto)
			out[key] = append(out[key], b)
		}
	}
	return out
}

func value(p *int64, otherwise int64) int64 {
	if p != nil {
		return *p
	}
	return otherwise
}

func or(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}

// list is never null, as docker's are not.
func list(s []string) []string { return append([]string{}, s...) }
