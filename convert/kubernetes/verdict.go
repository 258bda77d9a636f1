package kubernetes

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/internal/fail"
)

// Judgement is what the Pod Security Standards say of the Pods of an object.
type Judgement struct {
	Object string `json:"object"` // KIND/NAME
	// Level is the strictest that it passes by the newest version of the
	// standards known here: restricted, baseline or privileged.
	Level string `json:"level"`
	// Reasons are what keeps it from restricted, each with the flag of run it
	// comes from.
	Reasons []string `json:"reasons,omitempty"`
	// Before is the level in clusters before Kubernetes 1.35, or where a
	// namespace asks for such a version: they have no exception for Pods with a
	// user namespace of their own, in which root is not root of the node.
	Before string `json:"before"`
	// BeforeReasons are those that hold there only.
	BeforeReasons []string `json:"beforeReasons,omitempty"`
}

// lastStrict is the last version without that exception.
func lastStrict() api.Version { return api.MajorMinorVersion(1, 34) }

// Verdict judges all objects with Pods in a document, in their order. The
// document is read strictly.
func Verdict(files []convert.File) ([]Judgement, error) {
	s, err := readStream(files)
	if err != nil {
		return nil, err
	}
	var objects []any
	for _, d := range s.docs {
		objects = append(objects, d.object)
	}
	return judge(objects)
}

func judge(objects []any) (out []Judgement, err error) {
	for _, o := range objects {
		if t := templateOf(o); t != nil {
			v, err := judgePod(t)
			if err != nil {
				return nil, err
			}
			v.Object = title(o)
			out = append(out, v)
		}
	}
	return out, nil
}

func judgePod(t *template) (Judgement, error) {
	e, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return Judgement{}, fail.Wrap(fail.Internal, err, "the Pod Security Standards")
	}
	level := func(v api.Version) string {
		for _, l := range []api.Level{api.LevelRestricted, api.LevelBaseline} {
			if policy.AggregateCheckResults(e.EvaluatePod(api.LevelVersion{Level: l, Version: v}, t.meta, t.spec)).Allowed {
				return string(l)
			}
		}
		return string(api.LevelPrivileged)
	}
	v := Judgement{Level: level(api.LatestVersion()), Before: level(lastStrict())}
	v.Reasons = reasons(t.meta, t.spec, api.LatestVersion())
	for _, r := range reasons(t.meta, t.spec, lastStrict()) {
		if !slices.Contains(v.Reasons, r) {
			v.BeforeReasons = append(v.BeforeReasons, r)
		}
	}
	return v, nil
}

// reasons are what each check of restricted has against a Pod. Of two checks of
// the same (capabilities), that of restricted says all.
func reasons(meta *metav1.ObjectMeta, pod *corev1.PodSpec, version api.Version) (out []string) {
	checks := policy.DefaultChecks()
	overridden := map[policy.CheckID]bool{}
	inForce := func(c policy.Check) (last policy.VersionedCheck) {
		for _, v := range c.Versions {
			if version.Latest() || !version.Older(v.MinimumVersion) {
				last = v
			}
		}
		return last
	}
	for _, c := range checks {
		for _, id := range inForce(c).OverrideCheckIDs {
			overridden[id] = true
		}
	}
	told := ruleReasons()
	for _, c := range checks {
		check := inForce(c)
		if overridden[c.ID] || check.CheckPod == nil {
			continue
		}
		result := check.CheckPod(meta, pod)
		if result.Allowed {
			continue
		}
		text := result.ForbiddenReason
		if result.ForbiddenDetail != "" {
			text += ": " + result.ForbiddenDetail
		}
		if say := told[c.ID]; say != nil {
			if flagged := say(pod, result.ForbiddenDetail); flagged != "" {
				text = flagged
			}
		}
		out = append(out, text)
	}
	return out
}

// freeCapability is the one that restricted lets a container add.
const freeCapability = "NET_BIND_SERVICE"

// ruleReasons say by a check's id what flags of run it is about. They get what the
// check says is forbidden.
func ruleReasons() map[policy.CheckID]func(*corev1.PodSpec, string) string {
	capabilities := func(pod *corev1.PodSpec, _ string) string {
		var names, flags []string
		for _, c := range pod.Containers {
			if c.SecurityContext == nil || c.SecurityContext.Capabilities == nil {
				continue
			}
			for _, add := range c.SecurityContext.Capabilities.Add {
				if add != freeCapability && !slices.Contains(names, string(add)) {
					names = append(names, string(add))
					flags = append(flags, word("cap-add", string(add)))
				}
			}
		}
		return flagged("capabilities "+strings.Join(names, ", "), flags)
	}
	binds := func(pod *corev1.PodSpec, _ string) string {
		var paths, flags []string
		for _, v := range pod.Volumes {
			if v.HostPath == nil {
				continue
			}
			paths = append(paths, v.HostPath.Path)
			for _, c := range pod.Containers {
				for _, m := range c.VolumeMounts {
					if m.Name == v.Name {
						flags = append(flags, word("volume", v.HostPath.Path+":"+m.MountPath))
					}
				}
			}
		}
		return flagged("hostPath volumes "+strings.Join(paths, ", "), flags)
	}
	fixed := func(text string) func(*corev1.PodSpec, string) string {
		return func(*corev1.PodSpec, string) string { return text }
	}
	return map[policy.CheckID]func(*corev1.PodSpec, string) string{
		"capabilities_restricted": capabilities,
		"capabilities_baseline":   capabilities,
		"restrictedVolumes":       binds,
		"hostPathVolumes":         binds,
		"hostNamespaces": func(pod *corev1.PodSpec, _ string) string {
			var names, flags []string
			for _, n := range []struct {
				is         bool
				name, flag string
			}{{pod.HostNetwork, "hostNetwork", "--network=host"}, {pod.HostPID, "hostPID", "--pid=host"}, {pod.HostIPC, "hostIPC", "--ipc=host"}} {
				if n.is {
					names, flags = append(names, n.name), append(flags, n.flag)
				}
			}
			return flagged("host namespaces "+strings.Join(names, ", "), flags)
		},
		"sysctls": func(pod *corev1.PodSpec, forbidden string) string {
			if pod.SecurityContext == nil {
				return ""
			}
			var names, flags []string
			for _, s := range pod.SecurityContext.Sysctls {
				if slices.Contains(strings.Split(forbidden, ", "), s.Name) {
					names, flags = append(names, s.Name), append(flags, word("sysctl", s.Name+"="+s.Value))
				}
			}
			return flagged("sysctls "+strings.Join(names, ", "), flags)
		},
		"runAsNonRoot":             fixed("runAsNonRoot is not true (no --user=UID, so it may be root)"),
		"runAsUser":                fixed("runAsUser is 0 (--user=0)"),
		"privileged":               fixed("privileged (--privileged)"),
		"allowPrivilegeEscalation": fixed("allowPrivilegeEscalation is not false (--security-opt=no-new-privileges=false)"),
		"seccompProfile_baseline":  fixed("no seccomp filter (--security-opt=seccomp=unconfined)"),
		"appArmorProfile":          fixed("no AppArmor profile (--security-opt=apparmor=unconfined)"),
		"seLinuxOptions":           fixed("a SELinux label of its own (--security-opt=label=...)"),
		"procMount":                fixed("all of /proc (--security-opt=systempaths=unconfined)"),
		"procMount_restricted":     fixed("all of /proc (--security-opt=systempaths=unconfined)"),
	}
}

func flagged(text string, flags []string) string {
	if len(flags) == 0 {
		return "" // the check has its own words
	}
	return text + " (" + strings.Join(flags, " ") + ")"
}

// lines are a verdict for a comment.
func (v Judgement) lines() []string {
	line := fmt.Sprintf("Pod Security Standards: %s is %s", v.Object, v.Level)
	if len(v.Reasons) > 0 {
		line += "; not restricted: " + strings.Join(v.Reasons, "; ")
	}
	out := []string{line}
	if len(v.BeforeReasons) > 0 {
		before := "also not restricted in clusters before Kubernetes 1.35"
		if v.Before != v.Level {
			before = v.Before + " in clusters before Kubernetes 1.35"
		}
		out = append(out, "  "+before+": "+strings.Join(v.BeforeReasons, "; "))
	}
	return out
}
