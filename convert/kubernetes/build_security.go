package kubernetes

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/signal"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/internal/unit"
	"github.com/safe-run/safe-run/spec"
)

// seccompDir is where filters are looked for, below the kubelet's own directory
// (--root-dir, /var/lib/kubelet) and its seccomp.
const seccompDir = "safe-run/"

func (b *builder) seccompKey() string { return b.c.Name + ".json" }

// unconfined says that there is no seccomp filter.
func (b *builder) unconfined() bool {
	return slices.ContainsFunc(b.w.SecurityOpts, func(o string) bool {
		return strings.HasPrefix(o, "seccomp") && strings.HasSuffix(o, "unconfined")
	})
}

// installs says whether nodes need the filter.
func (b *builder) installs() bool { return !b.o.RuntimeDefaultSeccomp && !b.unconfined() }

// security writes the security context. All that Kubernetes has a word for is
// written out, also where it would be so anyway on some clusters.
func (b *builder) security() {
	w, s := b.w, &b.pod.Spec
	sc := &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		ReadOnlyRootFilesystem:   new(w.ReadOnly == nil || *w.ReadOnly),
	}
	b.one.SecurityContext = sc
	for _, c := range w.CapAdd {
		sc.Capabilities.Add = append(sc.Capabilities.Add, corev1.Capability(c))
	}
	b.user(sc)
	b.seccomp(sc)
	for _, typed := range w.SecurityOpts {
		b.option(sc, typed)
	}
	if w.PIDMode == "host" {
		s.HostPID = true
	}
	if w.IPCMode == "host" {
		s.HostIPC = true
	}
	switch host := s.HostPID || s.HostIPC || b.onHost(); {
	case w.UserNSMode == "host":
		s.HostUsers = new(true)
	case !host: // the API refuses both together
		s.HostUsers = new(false)
	}
	if len(w.Sysctls) > 0 || len(w.GroupAdd) > 0 {
		s.SecurityContext = &corev1.PodSecurityContext{}
	}
	for _, k := range slices.Sorted(maps.Keys(w.Sysctls)) {
		s.SecurityContext.Sysctls = append(s.SecurityContext.Sysctls, corev1.Sysctl{Name: k, Value: w.Sysctls[k]})
	}
	for _, g := range w.GroupAdd {
		if id, ok := canonical(g); ok {
			s.SecurityContext.SupplementalGroups = append(s.SecurityContext.SupplementalGroups, id)
		}
	}
}

// canonical reads an id that is written as Read would write it.
func canonical(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 32)
	return n, err == nil && n >= 0 && strconv.FormatInt(n, 10) == s
}

// user writes numbers. A name is for the image to resolve, which Kubernetes
// does not do: then it must not start as root instead.
func (b *builder) user(sc *corev1.SecurityContext) {
	if b.w.User == "" {
		return
	}
	user, group, both := strings.Cut(b.w.User, ":")
	uid, numeric := canonical(user)
	gid, numericGroup := canonical(group)
	exact := numeric && (!both || numericGroup)
	if !exact && !b.keys["user"] {
		return
	}
	if numeric {
		sc.RunAsUser = &uid
	}
	if both && numericGroup {
		sc.RunAsGroup = &gid
		// A group that is given is the only one: nothing of the image's
		// /etc/group is added.
		if b.pod.Spec.SecurityContext == nil {
			b.pod.Spec.SecurityContext = &corev1.PodSecurityContext{}
		}
		b.pod.Spec.SecurityContext.SupplementalGroupsPolicy = new(corev1.SupplementalGroupsPolicyStrict)
	}
	if root := numeric && uid == 0 || user == "root"; !root {
		sc.RunAsNonRoot = new(true)
	}
}

// groups lets a user that is not root write to claims, whose files belong to
// root: the kubelet gives them to the user's group.
func (b *builder) groups() {
	sc := b.one.SecurityContext
	if len(b.claims) == 0 || sc.RunAsUser == nil || *sc.RunAsUser == 0 {
		return
	}
	if b.pod.Spec.SecurityContext == nil {
		b.pod.Spec.SecurityContext = &corev1.PodSecurityContext{}
	}
	gid := *sc.RunAsUser
	if sc.RunAsGroup != nil {
		gid = *sc.RunAsGroup
	}
	b.pod.Spec.SecurityContext.FSGroup = &gid
	b.pod.Spec.SecurityContext.FSGroupChangePolicy = new(corev1.FSGroupChangeOnRootMismatch)
}

// nonRoot is a user that is known not to be root.
func (b *builder) nonRoot() bool {
	user, _, _ := strings.Cut(b.w.User, ":")
	return user != "" && user != "0" && user != "root"
}

func (b *builder) seccomp(sc *corev1.SecurityContext) {
	profile := &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
	sc.SeccompProfile = profile
	switch {
	case b.unconfined():
		profile.Type = corev1.SeccompProfileTypeUnconfined
		return
	case !b.o.RuntimeDefaultSeccomp:
		profile.Type = corev1.SeccompProfileTypeLocalhost
		profile.LocalhostProfile = new(seccompDir + b.seccompKey())
		from := "it is key " + b.seccompKey() + " of the ConfigMap " + b.c.Name + "-seccomp"
		if b.o.Files {
			from += ", and " + convert.SeccompName(b.c.Name)
		}
		b.step("install its seccomp filter on every node as /var/lib/kubelet/seccomp/" + seccompDir + b.seccompKey() + " (" + from + "); without it the container is not created")
	case b.w.Seccomp == nil:
		b.lose("seccomp", "the filter of the nodes' runtime is in force, which is wider than safe-run's")
		return
	default:
		b.lose("--security-opt=seccomp", "the filter of the nodes' runtime is in force; that of the container is in the ConfigMap "+b.c.Name+"-seccomp alone")
	}
	m := &corev1.ConfigMap{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: b.meta(b.c.Name + "-seccomp"),
		Data: map[string]string{b.seccompKey(): string(b.c.Filter)},
	}
	if b.w.Seccomp == nil {
		m.Annotations = map[string]string{builtInKey: digest(string(b.c.Filter))}
	}
	b.others = append(b.others, m)
}

// digest is what is known of a filter without repeating it.
func digest(filter string) string {
	sum := sha256.Sum256([]byte(filter))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// option writes one --security-opt in the spelling Read gives, others are kept.
func (b *builder) option(sc *corev1.SecurityContext, typed string) {
	key, value, _ := strings.Cut(typed, "=")
	switch {
	case key == "apparmor" && b.w.AppArmorProfile() == value && sc.AppArmorProfile == nil:
		sc.AppArmorProfile = &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}
		if value != "unconfined" {
			sc.AppArmorProfile = &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: &value}
		}
	case typed == "no-new-privileges=false":
		sc.AllowPrivilegeEscalation = new(true)
	case typed == "systempaths=unconfined":
		sc.ProcMount = new(corev1.UnmaskedProcMount)
	case key == "label":
		if sc.SELinuxOptions == nil {
			sc.SELinuxOptions = &corev1.SELinuxOptions{}
		}
		what, value, _ := strings.Cut(value, ":")
		if to := seLinux(sc.SELinuxOptions)[what]; to != nil && *to == "" && value != "" {
			*to = value
		}
		if (*sc.SELinuxOptions == corev1.SELinuxOptions{}) {
			sc.SELinuxOptions = nil
		}
	}
}

// seLinux are the parts of a label by their names in --security-opt label.
func seLinux(o *corev1.SELinuxOptions) map[string]*string {
	return map[string]*string{"user": &o.User, "role": &o.Role, "type": &o.Type, "level": &o.Level}
}

// signalName is a signal as the API writes it.
func signalName(typed string) (string, bool) {
	if typed == "" {
		return "", false
	}
	n, err := signal.ParseSignal(typed)
	if err != nil {
		return "", false
	}
	var names []string
	for name, of := range signal.SignalMap {
		if of == n && !slices.Contains([]string{"CLD", "IOT", "POLL"}, name) {
			names = append(names, "SIG"+name)
		}
	}
	if len(names) == 0 {
		return "", false
	}
	return slices.Min(names), true
}

func validHostname(s string) bool { return s != "" && len(validation.IsDNS1123Label(s)) == 0 }

// environment writes variables. Values that look like secrets go to an object
// that not everybody reads who may read Pods.
func (b *builder) environment() {
	values := map[string]string{}
	for _, e := range b.w.Env {
		if e.Value == nil || !validEnv(e.Name) {
			continue // kept
		}
		v := corev1.EnvVar{Name: e.Name, Value: escape(*e.Value)}
		if unit.SecretLooking(e) && validKey(e.Name) {
			values[e.Name] = *e.Value
			v.Value = ""
			v.ValueFrom = &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: b.c.Name + "-env"}, Key: e.Name,
			}}
		}
		b.one.Env = append(b.one.Env, v)
	}
	if len(values) == 0 {
		return
	}
	b.others = append(b.others, &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: b.meta(b.c.Name + "-env"), StringData: values,
	})
	b.step("the Secret " + b.c.Name + "-env has values in clear text: keep this file as you would keep them")
}

// maxShares and the like: what the kubelet makes of a request for CPU
// (MilliCPUToShares).
const (
	sharesPerCPU = 1024
	milliPerCPU  = 1000
	nanoPerMilli = 1_000_000
)

func (b *builder) resources() {
	r := b.w.Resources
	limits, requests := corev1.ResourceList{}, corev1.ResourceList{}
	memory := b.o.Limits.Memory
	if r.Memory != nil {
		memory = *r.Memory
	}
	if memory > 0 {
		limits[corev1.ResourceMemory] = *resource.NewQuantity(memory, resource.BinarySI)
		// What may be used is what is asked for: a node is not promised twice,
		// and a Pod that stays within is not the first to be killed.
		requests[corev1.ResourceMemory] = limits[corev1.ResourceMemory]
	}
	if soft := r.MemoryReservation; soft != nil && *soft > 0 {
		requests[corev1.ResourceMemory] = *resource.NewQuantity(*soft, resource.BinarySI)
		if *soft == memory {
			b.carry("memory-reservation", strconv.FormatInt(*soft, 10))
		}
	}
	if n := r.NanoCPUs; n != nil && (*n%nanoPerMilli == 0 || b.keys["cpus"]) {
		limits[corev1.ResourceCPU] = *resource.NewMilliQuantity((*n+nanoPerMilli-1)/nanoPerMilli, resource.DecimalSI)
	}
	if n := r.CPUShares; n != nil {
		milli := (*n*milliPerCPU + sharesPerCPU - 1) / sharesPerCPU
		if milli > 0 && milli <= maxMilli && sharesOf(milli) == *n {
			requests[corev1.ResourceCPU] = *resource.NewMilliQuantity(milli, resource.DecimalSI)
		}
	}
	if len(limits) > 0 {
		b.one.Resources.Limits = limits
	}
	if len(requests) > 0 {
		b.one.Resources.Requests = requests
	}
}

// maxMilli bounds a request: more CPUs than there are.
const maxMilli = 1 << 31

func sharesOf(milli int64) int64 { return max(2, milli*sharesPerCPU/milliPerCPU) }

// shm is the size of /dev/shm in bytes.
func (b *builder) shm() int64 {
	if b.w.ShmSize != nil && *b.w.ShmSize > 0 {
		return *b.w.ShmSize
	}
	return b.o.Limits.Shm
}

// onHost says whether it is in the network of the host.
func (b *builder) onHost() bool {
	return slices.ContainsFunc(b.w.Networks, func(n spec.NetworkUse) bool { return n.Name == "host" })
}
