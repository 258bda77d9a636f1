package cri

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	runtimespec "github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"
)

// workload is a container, as it is asked of safe-run.
type workload struct {
	flags []string
	image string
	args  []string
}

func (w workload) words(before ...string) []string {
	words := append(before, w.flags...)
	return append(append(words, w.image), w.args...)
}

// probing is the probe with these flags.
func probing(flags ...string) workload { return workload{flags, probeImage, []string{"--json"}} }

// TestSameRights: in the exported Pod the kernel grants what it grants in
// safe-run's own container, and refuses what it refuses there.
func TestSameRights(t *testing.T) {
	for name, c := range map[string]struct {
		w    workload
		want map[string]string // facts and verdicts that show the flags had an effect
	}{
		"default": {probing(), map[string]string{"UID": "0", "CapEff": "0", "memory": "536870912"}},
		"four capabilities": {
			probing("--cap-drop=ALL", "--cap-add=CHOWN", "--cap-add=SETGID", "--cap-add=SETUID", "--cap-add=NET_BIND_SERVICE"),
			map[string]string{"CapEff": "4c1", "CapBnd": "4c1", "CapAmb": "0"},
		},
		"a user":                  {probing("--user=1000"), map[string]string{"UID": "1000", "CapBnd": "0"}},
		"a user with a privilege": {probing("--user=1000:1000", "--cap-add=NET_BIND_SERVICE"), map[string]string{"UID": "1000", "CapEff": "400", "CapAmb": "400"}},
		"every system call":       {probing("--cap-add=SYS_CHROOT"), map[string]string{"chroot": "OPEN"}},
		"a list of system calls":  {probing("--cap-add=SYS_CHROOT", "--security-opt=seccomp="+narrowed(t, "chroot")), map[string]string{"chroot": "blocked"}},
		"read-only, tmpfs":        {probing("--read-only", "--tmpfs=/scratch:size=4m"), nil},
		"limits":                  {probing("--memory=128m", "--cpus=0.5"), map[string]string{"memory": "134217728"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := exported(t, c.w, "Pod")
			ours := inContainer(t, c.w)
			for k, want := range c.want {
				if got := ours.value(k); got != want {
					t.Errorf("in safe-run's container %s is %s, wanted %s", k, got, want)
				}
			}
			if d := differences(ours, inPod(t, o), cgroupV1(), volumeDirs(o)); len(d) > 0 {
				t.Errorf("the Pod is another:\n%s", strings.Join(d, "\n"))
			}
		})
	}
}

// value is a fact, or the verdict of an attempt.
func (r report) value(name string) string {
	if name == "UID" {
		return strconv.Itoa(r.Facts.UID)
	}
	if v, ok := r.Facts.Limits[name]; ok {
		return v
	}
	if mask, ok := r.Facts.Capabilities[name]; ok {
		return first(strings.TrimLeft(mask, "0"), "0")
	}
	i := slices.IndexFunc(r.Results, func(x result) bool { return x.ID == name })
	if i < 0 {
		return ""
	}
	return r.Results[i].Verdict
}

// TestNoticed: a Pod that lacks one of its words is told apart, by the facts
// named.
func TestNoticed(t *testing.T) {
	w := probing("--cap-add=CHOWN")
	ours := inContainer(t, w)
	for name, c := range map[string]struct {
		change func(*corev1.Pod, *corev1.SecurityContext)
		want   []string
	}{
		"hostUsers":                {func(p *corev1.Pod, _ *corev1.SecurityContext) { p.Spec.HostUsers = nil }, []string{"shape of uid_map", "shape of gid_map"}},
		"capabilities.drop":        {func(_ *corev1.Pod, s *corev1.SecurityContext) { s.Capabilities.Drop = nil }, []string{"CapBnd", "CapEff", "CapPrm"}},
		"capabilities.add":         {func(_ *corev1.Pod, s *corev1.SecurityContext) { s.Capabilities.Add = nil }, []string{"CapBnd", "CapEff", "CapPrm"}},
		"allowPrivilegeEscalation": {func(_ *corev1.Pod, s *corev1.SecurityContext) { s.AllowPrivilegeEscalation = nil }, []string{"no_new_privs"}},
		"readOnlyRootFilesystem":   {func(_ *corev1.Pod, s *corev1.SecurityContext) { s.ReadOnlyRootFilesystem = nil }, []string{"the root file system is read-only"}},
		"seccompProfile":           {func(_ *corev1.Pod, s *corev1.SecurityContext) { s.SeccompProfile = nil }, []string{"seccomp: 2, in the Pod 0", "io_uring"}},
		"seccompProfile.type": {func(_ *corev1.Pod, s *corev1.SecurityContext) {
			s.SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
		}, []string{"abi-int80", "modify_ldt"}},
		"procMount": {func(_ *corev1.Pod, s *corev1.SecurityContext) { s.ProcMount = new(corev1.UnmaskedProcMount) }, []string{"masked-paths"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := exported(t, w, "Pod")
			c.change(o.Pod, o.Pod.Spec.Containers[0].SecurityContext)
			d := strings.Join(differences(ours, inPod(t, o), cgroupV1(), volumeDirs(o)), "\n")
			for _, words := range c.want {
				if !strings.Contains(d, words) {
					t.Errorf("%q is not among the differences:\n%s", words, d)
				}
			}
		})
	}
}

// inContainer runs the probe in safe-run's own container.
func inContainer(t *testing.T, w workload) report {
	t.Helper()
	a := here.Run(w.words("run", "--rm")...)
	var r report
	if err := json.Unmarshal([]byte(a.Stdout), &r); err != nil {
		t.Fatalf("%v: %s", err, a)
	}
	return r
}

// inPod runs it in the Pod.
func inPod(t *testing.T, o Objects) report {
	t.Helper()
	e := onNode(t, o)
	var r report
	if err := json.Unmarshal([]byte(e.Stdout), &r); err != nil {
		t.Fatalf("%v: %+v", err, e)
	}
	return r
}

// onNode runs a Pod of one container.
func onNode(t *testing.T, o Objects) Ended {
	t.Helper()
	if node == nil {
		t.Fatal("the node did not start")
	}
	all, err := node.Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return all[o.Pod.Spec.Containers[0].Name]
}

func volumeDirs(o Objects) []string {
	var dirs []string
	for _, m := range o.Pod.Spec.Containers[0].VolumeMounts {
		dirs = append(dirs, m.MountPath)
	}
	return dirs
}

func cgroupV1() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err != nil
}

// specOf is what safe-run runs for a workload.
func specOf(t *testing.T, w workload) runtimespec.Spec {
	t.Helper()
	a := here.Run(w.words("--dry-run")...)
	var s runtimespec.Spec
	if err := json.Unmarshal([]byte(a.Stdout), &s); err != nil {
		t.Fatalf("%v: %s", err, a)
	}
	return s
}

// narrowed is a file with the calls of the built-in list, but for one.
func narrowed(t *testing.T, name string) string {
	t.Helper()
	var names []string
	for _, s := range specOf(t, probing("--cap-add=SYS_CHROOT")).Linux.Seccomp.Syscalls {
		if s.Action == runtimespec.ActAllow {
			names = append(names, s.Names...)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	i, found := slices.BinarySearch(names, name)
	if !found {
		t.Fatalf("the built-in list has no %s", name)
	}
	b, err := json.Marshal(runtimespec.LinuxSeccomp{
		DefaultAction: runtimespec.ActErrno,
		Syscalls:      []runtimespec.LinuxSyscall{{Names: slices.Delete(names, i, i+1), Action: runtimespec.ActAllow}},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "list.json")
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}
