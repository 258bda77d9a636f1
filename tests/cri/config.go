package cri

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// usernsLength is the least, and usual, number of ids a kubelet gives a Pod
// (userNamespaces.idsPerPod).
const usernsLength = 65536

// place is what the node decides about one Pod.
type place struct {
	uid     string
	firstID uint32 // of its user namespace, on the host
	logs    string // directory
	cgroup  string // parent of its containers
	seccomp string // directory of Localhost profiles
}

// Paths a kubelet hands to the runtime for procMount: Default
// (defaultMaskedPaths and defaultReadonlyPaths in Kubernetes'
// pkg/securitycontext/util.go); those of thermal_throttle, one for each
// processor, are left out.
var (
	maskedPaths = []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// sandbox is what RunPodSandbox is asked for.
func sandbox(pod *corev1.Pod, p place) *runtimeapi.PodSandboxConfig {
	sc := podSecurity(pod)
	c := &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: pod.Name, Namespace: namespace(pod), Uid: p.uid},
		Hostname:     first(pod.Spec.Hostname, pod.Name),
		LogDirectory: p.logs,
		// A cluster's own name server, which is not there.
		DnsConfig:   &runtimeapi.DNSConfig{Servers: []string{"10.96.0.10"}, Options: []string{"ndots:5"}},
		Labels:      pod.Labels,
		Annotations: pod.Annotations,
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent: p.cgroup,
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
				NamespaceOptions:   namespaces(pod, p),
				RunAsUser:          number(sc.RunAsUser),
				RunAsGroup:         number(sc.RunAsGroup),
				SupplementalGroups: groups(sc),
				Seccomp:            &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault},
			},
			Sysctls: map[string]string{},
		},
	}
	for _, s := range sc.Sysctls {
		c.Linux.Sysctls[s.Name] = s.Value
	}
	for _, ctr := range pod.Spec.Containers {
		for _, port := range ctr.Ports {
			c.PortMappings = append(c.PortMappings, &runtimeapi.PortMapping{
				Protocol:      runtimeapi.Protocol(runtimeapi.Protocol_value[first(string(port.Protocol), "TCP")]),
				ContainerPort: port.ContainerPort, HostPort: port.HostPort, HostIp: port.HostIP,
			})
		}
	}
	return c
}

// container is what CreateContainer is asked for.
func container(o Objects, c *corev1.Container, p place, mounts []*runtimeapi.Mount) (*runtimeapi.ContainerConfig, error) {
	pod := o.Pod
	security, err := containerSecurity(pod, c, p)
	if err != nil {
		return nil, err
	}
	of := &runtimeapi.ContainerConfig{
		Metadata:   &runtimeapi.ContainerMetadata{Name: c.Name},
		Image:      &runtimeapi.ImageSpec{Image: c.Image},
		WorkingDir: c.WorkingDir,
		LogPath:    c.Name + ".log",
		Stdin:      c.Stdin, StdinOnce: c.StdinOnce, Tty: c.TTY,
		Mounts: mounts,
		Linux:  &runtimeapi.LinuxContainerConfig{Resources: resources(pod, c), SecurityContext: security},
	}
	env := map[string]string{}
	for _, e := range c.Env {
		env[e.Name] = expand(e.Value, env)
		if e.ValueFrom != nil {
			if env[e.Name], err = o.value(e.ValueFrom); err != nil {
				return nil, fmt.Errorf("env %s: %w", e.Name, err)
			}
		}
		of.Envs = append(of.Envs, &runtimeapi.KeyValue{Key: e.Name, Value: []byte(env[e.Name])})
	}
	for _, w := range c.Command {
		of.Command = append(of.Command, expand(w, env))
	}
	for _, w := range c.Args {
		of.Args = append(of.Args, expand(w, env))
	}
	if u := security.NamespaceOptions.UsernsOptions; u != nil {
		// As the kubelet has it: on every mount.
		for _, m := range mounts {
			m.UidMappings, m.GidMappings = u.Uids, u.Gids
		}
	}
	return of, nil
}

func containerSecurity(pod *corev1.Pod, c *corev1.Container, p place) (*runtimeapi.LinuxContainerSecurityContext, error) {
	sc, ofPod := effective(pod, c), podSecurity(pod)
	of := &runtimeapi.LinuxContainerSecurityContext{
		NamespaceOptions:   namespaces(pod, p),
		Privileged:         is(sc.Privileged),
		RunAsUser:          number(sc.RunAsUser),
		RunAsGroup:         number(sc.RunAsGroup),
		ReadonlyRootfs:     is(sc.ReadOnlyRootFilesystem),
		SupplementalGroups: groups(ofPod),
		NoNewPrivs:         sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation,
		MaskedPaths:        maskedPaths,
		ReadonlyPaths:      readonlyPaths,
	}
	if ofPod.SupplementalGroupsPolicy != nil && *ofPod.SupplementalGroupsPolicy == corev1.SupplementalGroupsPolicyStrict {
		of.SupplementalGroupsPolicy = runtimeapi.SupplementalGroupsPolicy_Strict
	}
	if sc.ProcMount != nil && *sc.ProcMount == corev1.UnmaskedProcMount {
		of.MaskedPaths, of.ReadonlyPaths = []string{}, []string{}
	}
	if k := sc.Capabilities; k != nil {
		of.Capabilities = &runtimeapi.Capability{}
		for _, name := range k.Add {
			of.Capabilities.AddCapabilities = append(of.Capabilities.AddCapabilities, string(name))
		}
		for _, name := range k.Drop {
			of.Capabilities.DropCapabilities = append(of.Capabilities.DropCapabilities, string(name))
		}
	}
	if is(sc.RunAsNonRoot) && sc.RunAsUser == nil {
		return nil, fmt.Errorf("container %s: runAsNonRoot without runAsUser asks the image, which is not known here", c.Name)
	}
	if is(sc.RunAsNonRoot) && *sc.RunAsUser == 0 {
		return nil, fmt.Errorf("container %s: runAsUser 0 breaks runAsNonRoot", c.Name)
	}
	var err error
	if of.Apparmor, err = apparmorProfile(sc.AppArmorProfile); err == nil {
		of.Seccomp, err = seccompProfile(sc.SeccompProfile, p.seccomp)
	}
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", c.Name, err)
	}
	return of, nil
}

// apparmorProfile: without one, a runtime takes its default where the node has
// AppArmor. Any but Unconfined makes kubelet and containerd refuse the Pod
// where it has not.
func apparmorProfile(a *corev1.AppArmorProfile) (*runtimeapi.SecurityProfile, error) {
	if a == nil {
		return nil, nil
	}
	switch a.Type {
	case corev1.AppArmorProfileTypeRuntimeDefault:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}, nil
	case corev1.AppArmorProfileTypeUnconfined:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}, nil
	case corev1.AppArmorProfileTypeLocalhost:
		if a.LocalhostProfile == nil {
			return nil, errors.New("appArmorProfile: a localhostProfile is needed")
		}
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: *a.LocalhostProfile}, nil
	}
	return nil, fmt.Errorf("appArmorProfile: type %q is not known", a.Type)
}

// seccompProfile: without one a container is unconfined, if the kubelet is
// not told otherwise (seccompDefault).
func seccompProfile(s *corev1.SeccompProfile, dir string) (*runtimeapi.SecurityProfile, error) {
	if s == nil {
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}, nil
	}
	switch s.Type {
	case corev1.SeccompProfileTypeRuntimeDefault:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}, nil
	case corev1.SeccompProfileTypeUnconfined:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}, nil
	case corev1.SeccompProfileTypeLocalhost:
		// The API server takes relative paths without "..".
		if s.LocalhostProfile == nil || !filepath.IsLocal(*s.LocalhostProfile) {
			return nil, fmt.Errorf("seccompProfile: a localhostProfile below the kubelet's directory is needed")
		}
		return &runtimeapi.SecurityProfile{
			ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: filepath.Join(dir, *s.LocalhostProfile),
		}, nil
	}
	return nil, fmt.Errorf("seccompProfile: type %q is not known", s.Type)
}

// effective is the container's security context over the Pod's.
func effective(pod *corev1.Pod, c *corev1.Container) corev1.SecurityContext {
	ofPod := podSecurity(pod)
	var sc corev1.SecurityContext
	if c.SecurityContext != nil {
		sc = *c.SecurityContext
	}
	if sc.RunAsUser == nil {
		sc.RunAsUser = ofPod.RunAsUser
	}
	if sc.RunAsGroup == nil {
		sc.RunAsGroup = ofPod.RunAsGroup
	}
	if sc.RunAsNonRoot == nil {
		sc.RunAsNonRoot = ofPod.RunAsNonRoot
	}
	if sc.SeccompProfile == nil {
		sc.SeccompProfile = ofPod.SeccompProfile
	}
	if sc.AppArmorProfile == nil {
		sc.AppArmorProfile = ofPod.AppArmorProfile
	}
	return sc
}

func podSecurity(pod *corev1.Pod) corev1.PodSecurityContext {
	if pod.Spec.SecurityContext == nil {
		return corev1.PodSecurityContext{}
	}
	return *pod.Spec.SecurityContext
}

func namespaces(pod *corev1.Pod, p place) *runtimeapi.NamespaceOption {
	of := &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}
	if is(pod.Spec.ShareProcessNamespace) {
		of.Pid = runtimeapi.NamespaceMode_POD
	}
	if pod.Spec.HostUsers != nil && !*pod.Spec.HostUsers {
		ids := []*runtimeapi.IDMapping{{HostId: p.firstID, ContainerId: 0, Length: usernsLength}}
		of.UsernsOptions = &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_POD, Uids: ids, Gids: ids}
	}
	return of
}

func groups(sc corev1.PodSecurityContext) []int64 {
	all := slices.Clone(sc.SupplementalGroups)
	if sc.FSGroup != nil {
		all = append(all, *sc.FSGroup)
	}
	return all
}

// quotaPeriod is the kubelet's, in microseconds.
const quotaPeriod = 100_000

// resources are a container's limits in a kubelet's arithmetic
// (pkg/kubelet/kuberuntime/kuberuntime_container_linux.go).
func resources(pod *corev1.Pod, c *corev1.Container) *runtimeapi.LinuxContainerResources {
	limits, requests := c.Resources.Limits, c.Resources.Requests
	milli := requests.Cpu().MilliValue()
	if milli == 0 {
		milli = limits.Cpu().MilliValue() // the API server's default
	}
	r := &runtimeapi.LinuxContainerResources{
		CpuShares: max(2, milli*1024/1000), CpuPeriod: quotaPeriod,
		MemoryLimitInBytes: limits.Memory().Value(), MemorySwapLimitInBytes: limits.Memory().Value(),
		OomScoreAdj: oomScore(pod),
	}
	if l := limits.Cpu().MilliValue(); l > 0 {
		r.CpuQuota = max(1000, l*quotaPeriod/1000)
	}
	return r
}

// oomScore by quality of service; for one between the two it depends on the
// size of the node, here it is the mean.
func oomScore(pod *corev1.Pod) int64 {
	guaranteed, best := true, true
	for _, c := range pod.Spec.Containers {
		best = best && len(c.Resources.Limits) == 0 && len(c.Resources.Requests) == 0
		for _, of := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			limit, limited := c.Resources.Limits[of]
			request, asked := c.Resources.Requests[of]
			guaranteed = guaranteed && limited && (!asked || limit.Cmp(request) == 0)
		}
	}
	switch {
	case guaranteed:
		return -997
	case best:
		return 1000
	}
	return 500
}

func namespace(pod *corev1.Pod) string { return first(pod.Namespace, "default") }

func is(b *bool) bool { return b != nil && *b }

func number(n *int64) *runtimeapi.Int64Value {
	if n == nil {
		return nil
	}
	return &runtimeapi.Int64Value{Value: *n}
}

func first(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}
