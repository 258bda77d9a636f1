package cri

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// podOf is a Pod with one container, which f changes.
func podOf(f func(*corev1.Pod, *corev1.Container)) *corev1.Pod {
	pod := &corev1.Pod{}
	pod.Name = "app"
	pod.Spec.Containers = []corev1.Container{{Name: "app", Image: busyboxImage, SecurityContext: &corev1.SecurityContext{}}}
	if f != nil {
		f(pod, &pod.Spec.Containers[0])
	}
	return pod
}

// TestSecurityContext: what is asked of the runtime for words of a Pod.
func TestSecurityContext(t *testing.T) {
	at := place{firstID: 131072, seccomp: "/kubelet/seccomp"}
	for name, c := range map[string]struct {
		change func(*corev1.Pod, *corev1.Container)
		right  func(*runtimeapi.LinuxContainerSecurityContext) bool
	}{
		"nothing": {nil, func(s *runtimeapi.LinuxContainerSecurityContext) bool {
			return !s.NoNewPrivs && !s.ReadonlyRootfs && s.NamespaceOptions.UsernsOptions == nil && slices.Contains(s.MaskedPaths, "/proc/kcore") &&
				s.Seccomp.ProfileType == runtimeapi.SecurityProfile_Unconfined
		}},
		"escalation is not said to be wanted": {
			func(_ *corev1.Pod, c *corev1.Container) { c.SecurityContext.AllowPrivilegeEscalation = new(false) },
			func(s *runtimeapi.LinuxContainerSecurityContext) bool { return s.NoNewPrivs },
		},
		"escalation": {
			func(_ *corev1.Pod, c *corev1.Container) { c.SecurityContext.AllowPrivilegeEscalation = new(true) },
			func(s *runtimeapi.LinuxContainerSecurityContext) bool { return !s.NoNewPrivs },
		},
		"user namespace": {
			func(p *corev1.Pod, _ *corev1.Container) { p.Spec.HostUsers = new(false) },
			func(s *runtimeapi.LinuxContainerSecurityContext) bool {
				u := s.NamespaceOptions.UsernsOptions
				return u.Mode == runtimeapi.NamespaceMode_POD && u.Uids[0].HostId == 131072 && u.Uids[0].Length == 65536 && u.Gids[0].HostId == 131072
			},
		},
		"the Pod's user and filter": {
			func(p *corev1.Pod, _ *corev1.Container) {
				p.Spec.SecurityContext = &corev1.PodSecurityContext{
					RunAsUser: new(int64(7)), RunAsGroup: new(int64(8)), FSGroup: new(int64(9)), SupplementalGroups: []int64{10},
					SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: new("a/b.json")},
				}
			},
			func(s *runtimeapi.LinuxContainerSecurityContext) bool {
				return s.RunAsUser.Value == 7 && s.RunAsGroup.Value == 8 && slices.Equal(s.SupplementalGroups, []int64{10, 9}) &&
					s.Seccomp.LocalhostRef == "/kubelet/seccomp/a/b.json"
			},
		},
		"the container's user wins": {
			func(p *corev1.Pod, c *corev1.Container) {
				p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(7))}
				c.SecurityContext.RunAsUser = new(int64(0))
			},
			func(s *runtimeapi.LinuxContainerSecurityContext) bool { return s.RunAsUser.Value == 0 },
		},
	} {
		pod := podOf(c.change)
		got, err := container(Objects{Pod: pod}, &pod.Spec.Containers[0], at, nil)
		if err != nil || !c.right(got.Linux.SecurityContext) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// TestUnknown: what these pages do not do is refused, never left out.
func TestUnknown(t *testing.T) {
	for want, change := range map[string]func(*corev1.Pod, *corev1.Container){
		`"hostNetwork":true`: func(p *corev1.Pod, _ *corev1.Container) { p.Spec.HostNetwork = true },
		`"hostPID":true`:     func(p *corev1.Pod, _ *corev1.Container) { p.Spec.HostPID = true },
		`"runtimeClassName"`: func(p *corev1.Pod, _ *corev1.Container) { p.Spec.RuntimeClassName = new("gvisor") },
		`"lifecycle"`: func(_ *corev1.Pod, c *corev1.Container) {
			c.Lifecycle = &corev1.Lifecycle{StopSignal: new(corev1.SIGINT), PreStop: &corev1.LifecycleHandler{}}
		},
		`"envFrom"`:          func(_ *corev1.Pod, c *corev1.Container) { c.EnvFrom = []corev1.EnvFromSource{{}} },
		`"seLinuxOptions"`:   func(_ *corev1.Pod, c *corev1.Container) { c.SecurityContext.SELinuxOptions = &corev1.SELinuxOptions{} },
		"without containers": func(p *corev1.Pod, _ *corev1.Container) { p.Spec.Containers = nil },
		`"seLinuxChangePolicy"`: func(p *corev1.Pod, _ *corev1.Container) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{SELinuxChangePolicy: new(corev1.SELinuxChangePolicyRecursive)}
		},
	} {
		if err := known(podOf(change)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error with %s: %v", want, err)
		}
	}
	if err := known(podOf(nil)); err != nil {
		t.Error(err)
	}
	if err := knownMount(corev1.VolumeMount{Name: "v", MountPath: "/v", SubPathExpr: "$(A)"}); err == nil || !strings.Contains(err.Error(), "subPathExpr") {
		t.Error(err)
	}
	if err := knownMount(corev1.VolumeMount{Name: "v", MountPath: "/v", ReadOnly: true, SubPath: "s"}); err != nil {
		t.Error(err)
	}
}

// TestRefusedByAKubelet: Pods that no kubelet would start.
func TestRefusedByAKubelet(t *testing.T) {
	localhost := func(path string) *corev1.SeccompProfile {
		return &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: &path}
	}
	for name, change := range map[string]func(*corev1.Pod, *corev1.Container){
		"root against runAsNonRoot": func(_ *corev1.Pod, c *corev1.Container) {
			c.SecurityContext.RunAsNonRoot, c.SecurityContext.RunAsUser = new(true), new(int64(0))
		},
		"profile outside":  func(_ *corev1.Pod, c *corev1.Container) { c.SecurityContext.SeccompProfile = localhost("../x") },
		"absolute profile": func(_ *corev1.Pod, c *corev1.Container) { c.SecurityContext.SeccompProfile = localhost("/x") },
		"no profile": func(_ *corev1.Pod, c *corev1.Container) {
			c.SecurityContext.SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost}
		},
	} {
		pod := podOf(change)
		if got, err := container(Objects{Pod: pod}, &pod.Spec.Containers[0], place{}, nil); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestResources(t *testing.T) {
	quantities := func(cpu, memory string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	}
	for name, c := range map[string]struct {
		of   corev1.ResourceRequirements
		want [5]int64 // shares, quota, memory, memory and swap, OOM score
	}{
		"none":       {corev1.ResourceRequirements{}, [5]int64{2, 0, 0, 0, 1000}},
		"limits":     {corev1.ResourceRequirements{Limits: quantities("500m", "512Mi")}, [5]int64{512, 50000, 512 << 20, 512 << 20, -997}},
		"requests":   {corev1.ResourceRequirements{Requests: quantities("1", "1Gi")}, [5]int64{1024, 0, 0, 0, 500}},
		"both":       {corev1.ResourceRequirements{Requests: quantities("100m", "1Mi"), Limits: quantities("2", "2Mi")}, [5]int64{102, 200000, 2 << 20, 2 << 20, 500}},
		"very small": {corev1.ResourceRequirements{Limits: quantities("1m", "1Mi")}, [5]int64{2, 1000, 1 << 20, 1 << 20, -997}},
	} {
		pod := podOf(func(_ *corev1.Pod, k *corev1.Container) { k.Resources = c.of })
		r := resources(pod, &pod.Spec.Containers[0])
		if got := [5]int64{r.CpuShares, r.CpuQuota, r.MemoryLimitInBytes, r.MemorySwapLimitInBytes, r.OomScoreAdj}; got != c.want {
			t.Errorf("%s: %v, wanted %v", name, got, c.want)
		}
	}
}

func TestExpand(t *testing.T) {
	env := map[string]string{"A": "1", "B": "$(A)"}
	for in, want := range map[string]string{
		"": "", "plain": "plain", "$(A)": "1", "x$(A)y$(A)": "x1y1", "$(B)": "$(A)", "$$(A)": "$(A)", "$(C)": "$(C)", "$A": "$A", "$(A": "$(A",
		"$": "$", "$$": "$", "$()": "$()", "$$$(A)": "$1",
	} {
		if got := expand(in, env); got != want {
			t.Errorf("%q: %q, wanted %q", in, got, want)
		}
	}
}

func TestParseLog(t *testing.T) {
	stdout, stderr, err := parseLog([]byte("2026-01-01T00:00:00Z stdout P one \n2026-01-01T00:00:00Z stderr F bad\n2026-01-01T00:00:00Z stdout F line\n2026-01-01T00:00:00Z stdout F \n"))
	if stdout != "one line\n\n" || stderr != "bad\n" || err != nil {
		t.Errorf("%q %q %v", stdout, stderr, err)
	}
	for _, bad := range []string{"x\n", "2026 stdin F x\n", "2026 stdout X x\n", "2026 stdout F\n"} {
		if _, _, err := parseLog([]byte(bad)); err == nil {
			t.Errorf("%q is a line", bad)
		}
	}
}
