package cri

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/safe-run/safe-run/tests/harness"
)

// Objects is a Pod and what it names.
type Objects struct {
	Pod        *corev1.Pod
	ConfigMaps map[string]*corev1.ConfigMap
	Secrets    map[string]*corev1.Secret
	Seccomp    map[string][]byte // profiles of the node, by localhostProfile
}

// Ended is what came of a container.
type Ended struct {
	Code           int32
	Stdout, Stderr string
}

// Run starts a Pod, waits until all its containers have ended by themselves, at
// most a minute, and takes it away. The result is by the containers' names.
func (n *Node) Run(ctx context.Context, o Objects) (ended map[string]Ended, err error) {
	ctx, cancel := context.WithTimeout(ctx, harness.Patient(time.Minute))
	defer cancel()
	r, err := n.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Remove()) }()
	return r.Wait(ctx)
}

// Running is a Pod on the node.
type Running struct {
	IP      string // its address, in the network of the node
	node    *Node
	objects Objects
	place   place
	dir     string
	volumes map[string]volume
	sandbox string // id, "" until there is one
	config  *runtimeapi.PodSandboxConfig
	ids     map[string]string // of the containers, by name
	ended   map[string]Ended  // those of initContainers
}

// Start starts a Pod's containers, those of initContainers one after the other
// before. What came of an error is taken away.
func (n *Node) Start(ctx context.Context, o Objects) (*Running, error) {
	if err := known(o.Pod); err != nil {
		return nil, err
	}
	n.blocks++
	p := place{
		uid: fmt.Sprintf("pod-%d", n.blocks),
		// Above all that safe-run gives; kubelets have multiples of the length.
		firstID: 1<<31 - usernsLength*(n.blocks+1),
		cgroup:  fmt.Sprintf("/%s/pod-%d", n.cgroup, n.blocks), seccomp: n.seccomp(),
	}
	r := &Running{node: n, objects: o, place: p, dir: filepath.Join(n.pods(), p.uid), ids: map[string]string{}, ended: map[string]Ended{}}
	r.place.logs = filepath.Join(r.dir, "logs")
	if err := r.start(ctx); err != nil {
		return nil, errors.Join(err, r.Remove())
	}
	return r, nil
}

func (r *Running) start(ctx context.Context) error {
	if err := os.MkdirAll(r.place.logs, 0o755); err != nil {
		return err
	}
	for name, profile := range r.objects.Seccomp {
		file := filepath.Join(r.node.seccomp(), name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, profile, 0o644)); err != nil {
			return err
		}
	}
	var err error
	if r.volumes, err = r.node.volumes(r.objects, r.dir); err != nil {
		return err
	}
	r.config = sandbox(r.objects.Pod, r.place)
	made, err := r.node.runtime.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: r.config})
	if err != nil {
		return fmt.Errorf("RunPodSandbox: %w\n%s", err, r.node.said())
	}
	r.sandbox = made.GetPodSandboxId()
	status, err := r.node.runtime.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: r.sandbox})
	if err != nil {
		return err
	}
	r.IP = status.GetStatus().GetNetwork().GetIp()
	spec := r.objects.Pod.Spec
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		id, err := r.startContainer(ctx, c)
		if err != nil {
			return err
		}
		e, err := r.wait(ctx, id, c.Name)
		if err != nil {
			return err
		}
		if r.ended[c.Name] = e; e.Code != 0 {
			return fmt.Errorf("init container %s ended with %d: %s%s", c.Name, e.Code, e.Stdout, e.Stderr)
		}
	}
	for i := range spec.Containers {
		c := &spec.Containers[i]
		if r.ids[c.Name], err = r.startContainer(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// Wait gives what came of all containers, when they have ended.
func (r *Running) Wait(ctx context.Context) (map[string]Ended, error) {
	for name, id := range r.ids {
		e, err := r.wait(ctx, id, name)
		if err != nil {
			return nil, err
		}
		r.ended[name] = e
	}
	return r.ended, nil
}

// Remove ends what still runs, and takes the Pod away.
func (r *Running) Remove() error {
	// It has to work when the time of the others is up, too.
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patient(30*time.Second))
	defer cancel()
	var err error
	if r.sandbox != "" {
		_, stopped := r.node.runtime.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: r.sandbox})
		_, removed := r.node.runtime.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: r.sandbox})
		err = errors.Join(stopped, removed)
	}
	// The Pod's cgroup is the kubelet's to remove; that fails if a container's is still in it.
	return errors.Join(err, unmountAll(r.objects.Pod, r.dir), removeCgroup(r.place.cgroup))
}

func (r *Running) startContainer(ctx context.Context, c *corev1.Container) (id string, err error) {
	m, err := mounts(c, r.volumes, r.dir)
	if err != nil {
		return "", err
	}
	config, err := container(r.objects, c, r.place, m)
	if err != nil {
		return "", err
	}
	rt := r.node.runtime
	made, err := rt.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: r.sandbox, Config: config, SandboxConfig: r.config})
	if err != nil {
		return "", fmt.Errorf("CreateContainer %s: %w\n%s", c.Name, err, r.node.said())
	}
	if _, err := rt.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: made.GetContainerId()}); err != nil {
		return "", fmt.Errorf("StartContainer %s: %w\n%s", c.Name, err, r.node.said())
	}
	return made.GetContainerId(), nil
}

func (r *Running) wait(ctx context.Context, id, name string) (Ended, error) {
	var s *runtimeapi.ContainerStatus
	for {
		a, err := r.node.runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id})
		if err != nil {
			return Ended{}, fmt.Errorf("container %s: %w", name, err)
		}
		if s = a.GetStatus(); s.GetState() == runtimeapi.ContainerState_CONTAINER_EXITED {
			break
		}
		select {
		case <-ctx.Done():
			return Ended{}, fmt.Errorf("container %s is %s: %w", name, s.GetState(), ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	e := Ended{Code: s.GetExitCode()}
	var err error
	e.Stdout, e.Stderr, err = r.Log(name)
	return e, err
}

// Log is what a container wrote until now.
func (r *Running) Log(name string) (stdout, stderr string, err error) {
	b, err := os.ReadFile(filepath.Join(r.place.logs, name+".log"))
	if err != nil {
		return "", "", err
	}
	return parseLog(b)
}

// known refuses a Pod that says what these pages do not do: what a test
// does not hand on it must not seem to have tested. Left out on purpose, as it
// changes nothing of what a container may do: probes, restarts, signals, names of
// other hosts.
func known(pod *corev1.Pod) error {
	rest := pod.DeepCopy()
	rest.TypeMeta, rest.ObjectMeta, rest.Status = metav1.TypeMeta{}, metav1.ObjectMeta{}, corev1.PodStatus{}
	s := &rest.Spec
	if len(s.Containers) == 0 {
		return errors.New("a Pod without containers")
	}
	for _, c := range slices.Concat(s.InitContainers, s.Containers) {
		if c.RestartPolicy != nil {
			return fmt.Errorf("container %s: restartPolicy is not known here", c.Name)
		}
		if sc := c.SecurityContext; sc != nil {
			sc = sc.DeepCopy()
			sc.Capabilities, sc.Privileged, sc.RunAsUser, sc.RunAsGroup, sc.RunAsNonRoot = nil, nil, nil, nil, nil
			sc.ReadOnlyRootFilesystem, sc.AllowPrivilegeEscalation, sc.ProcMount, sc.SeccompProfile, sc.AppArmorProfile = nil, nil, nil, nil, nil
			c.SecurityContext = nil
			if err := nothing(sc, &corev1.SecurityContext{}); err != nil {
				return fmt.Errorf("container %s: %w", c.Name, err)
			}
		}
		c.Name, c.Image, c.ImagePullPolicy, c.Command, c.Args, c.WorkingDir = "", "", "", nil, nil, ""
		c.Ports, c.Env, c.Resources, c.VolumeMounts = nil, nil, corev1.ResourceRequirements{}, nil
		c.LivenessProbe, c.ReadinessProbe, c.StartupProbe = nil, nil, nil
		c.TerminationMessagePath, c.TerminationMessagePolicy = "", ""
		c.Stdin, c.StdinOnce, c.TTY = false, false, false
		if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
			c.Lifecycle = &corev1.Lifecycle{PostStart: c.Lifecycle.PostStart, PreStop: c.Lifecycle.PreStop}
			if *c.Lifecycle == (corev1.Lifecycle{}) {
				c.Lifecycle = nil
			}
		}
		if err := nothing(c, corev1.Container{}); err != nil {
			return err
		}
	}
	if sc := s.SecurityContext; sc != nil {
		sc.RunAsUser, sc.RunAsGroup, sc.RunAsNonRoot, sc.SeccompProfile, sc.Sysctls = nil, nil, nil, nil, nil
		sc.SupplementalGroups, sc.SupplementalGroupsPolicy, sc.FSGroup, sc.FSGroupChangePolicy, sc.AppArmorProfile = nil, nil, nil, nil, nil
		if err := nothing(sc, &corev1.PodSecurityContext{}); err != nil {
			return err
		}
	}
	s.InitContainers, s.Containers, s.Volumes, s.SecurityContext = nil, nil, nil, nil
	s.RestartPolicy, s.TerminationGracePeriodSeconds, s.EnableServiceLinks = "", nil, nil
	s.HostUsers, s.ShareProcessNamespace, s.Hostname, s.AutomountServiceAccountToken = nil, nil, "", nil
	s.NodeSelector, s.OS = nil, nil
	s.DNSPolicy, s.DNSConfig, s.HostAliases = "", nil, nil
	return nothing(rest, &corev1.Pod{})
}

// nothing is nil if a value whose known fields were taken away is empty.
func nothing(rest, empty any) error {
	have, err := json.Marshal(rest)
	if err != nil {
		return err
	}
	want, err := json.Marshal(empty)
	if err != nil {
		return err
	}
	if string(have) != string(want) {
		return fmt.Errorf("of the Pod this kubelet does not know %s", have)
	}
	return nil
}
