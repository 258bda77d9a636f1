package kubernetes

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/internal/argv"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// builder makes the objects of one container.
type builder struct {
	p    *convert.Project
	c    *convert.Container
	w    spec.Workload
	o    convert.Options
	kind string

	// flags are what stands in the annotation: words that are kept because
	// they were lost, and before them those that are said in a way that cannot
	// be read back. keys is what they are about.
	flags []string
	keys  map[string]bool

	pod    corev1.PodTemplateSpec
	one    *corev1.Container // its container
	names  map[string]bool   // of its volumes
	files  *corev1.ConfigMap // content of files of the host; nil: none
	hidden *corev1.Secret    // the same, of those with keys in them
	claims []*corev1.PersistentVolumeClaim
	others []any    // further objects, in their order
	steps  []string // what has to be done before it can start
	losses []convert.Loss
}

func build(p *convert.Project, c *convert.Container, kind string, o convert.Options) (*builder, error) {
	words, err := argv.Flags(c.Workload)
	if err != nil {
		return nil, err
	}
	for _, w := range words {
		if !utf8.ValidString(w) {
			return nil, fail.New(fail.Usage, "%.80q is not valid UTF-8, which no object of Kubernetes can hold", w)
		}
	}
	b := &builder{p: p, c: c, w: c.Workload, o: o, kind: kind, names: map[string]bool{}}
	if b.keys, err = keys(c.Kept); err != nil {
		return nil, err
	}
	if b.kind == "" {
		b.kind = b.chosen()
	}
	b.pod.Spec.Containers = make([]corev1.Container, 1)
	b.one = &b.pod.Spec.Containers[0]
	b.one.Name = c.Name
	b.one.Image = b.w.Image
	b.metadata()
	b.process()
	b.environment()
	b.security()
	b.resources()
	b.mounts()
	b.groups()
	b.secrets()
	b.network()
	b.health()
	b.restart()
	if b.flags = append(b.flags, c.Kept...); len(b.flags) > 0 {
		text, err := flagsText(b.flags)
		if err != nil {
			return nil, fail.Wrap(fail.Internal, err, "writing flags")
		}
		b.pod.Annotations = map[string]string{flagsKey: text}
	}
	return b, nil
}

// chosen is the kind that fits.
func (b *builder) chosen() string {
	w := b.w
	switch {
	case w.Restart.Name == spec.RestartOnFailure:
		return kindJob
	case w.Restart.Restarts(), len(w.Publish)+len(w.Expose) > 0, w.PublishAll, len(w.Health.Test) > 1:
		return kindDeployment
	}
	return kindPod
}

// carry has a flag come back by the annotation: the objects say it too, and
// nothing is lost.
func (b *builder) carry(name, value string) { b.carryWord(word(name, value)) }

func (b *builder) carryWord(w string) {
	if w == "" || slices.Contains(b.c.Kept, w) || slices.Contains(b.flags, w) {
		return
	}
	b.flags = append(b.flags, w)
	more, err := keys([]string{w})
	if err != nil {
		return // argv wrote it
	}
	maps.Copy(b.keys, more)
}

// lose notes a default of safe-run, or a part of a flag, that is not said.
func (b *builder) lose(what, why string) {
	b.losses = append(b.losses, convert.Loss{Container: b.c.Name, What: what, Why: why})
}

func (b *builder) step(text string) { b.steps = append(b.steps, b.c.Name+": "+text) }

func (b *builder) selector() map[string]string { return map[string]string{nameLabel: b.c.Name} }

func (b *builder) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Labels: map[string]string{appLabel: b.c.Name, managedLabel: managedBy}}
}

func (b *builder) metadata() {
	b.pod.Labels = map[string]string{nameLabel: b.c.Name, appLabel: b.c.Name}
	for _, key := range slices.Sorted(maps.Keys(b.w.Labels)) {
		value := b.w.Labels[key]
		switch {
		case strings.HasPrefix(key, ownPrefix) || strings.HasPrefix(key, networkLabel) || !validLabel(key, value):
			// kept
		case key == appLabel && value == b.c.Name, key == managedLabel && value == managedBy:
			b.carry("label", key+"="+value)
		default:
			b.pod.Labels[key] = value
		}
	}
	if b.w.Name != "" {
		b.carry("name", b.w.Name)
	}
	s := &b.pod.Spec
	s.AutomountServiceAccountToken = new(false)
	s.EnableServiceLinks = new(false)
	if validHostname(b.w.Hostname) {
		s.Hostname = b.w.Hostname
	}
	if os, arch, ok := strings.Cut(b.w.Platform, "/"); ok && os == "linux" && arch != "" && !strings.Contains(arch, "/") && validLabel("x", arch) {
		s.NodeSelector = map[string]string{corev1.LabelOSStable: os, corev1.LabelArchStable: arch}
	}
	b.one.ImagePullPolicy = pullPolicies()[b.w.Pull]
}

// pullPolicies are the words of --pull.
func pullPolicies() map[string]corev1.PullPolicy {
	return map[string]corev1.PullPolicy{
		"": corev1.PullIfNotPresent, "missing": corev1.PullIfNotPresent, "always": corev1.PullAlways, "never": corev1.PullNever,
	}
}

// process writes the command. Kubernetes' command is the entrypoint, and leaves
// out the image's words as --entrypoint does.
func (b *builder) process() {
	w := b.w
	args := make([]string, 0, len(w.Args))
	for _, a := range w.Args {
		args = append(args, escape(a))
	}
	switch {
	case w.Entrypoint == nil:
		b.one.Args = args
	case *w.Entrypoint == "":
		b.carry("entrypoint", "")
		b.one.Command = args
	default:
		b.one.Command, b.one.Args = []string{escape(*w.Entrypoint)}, args
	}
	b.one.WorkingDir = w.Workdir
	b.one.Stdin, b.one.TTY = w.Interactive, w.TTY
	b.stop()
}

// defaultStop is the stop timeout of a container in seconds, docker's.
const defaultStop = 10

// forEver is as long as the API takes, for a container that is waited for.
const forEver = math.MaxInt32

func (b *builder) stop() {
	seconds := int64(defaultStop)
	if t := b.w.StopTimeout; t != nil {
		switch {
		case *t >= 0:
			if seconds = int64(*t); seconds == defaultStop {
				b.carry("stop-timeout", strconv.Itoa(*t))
			}
		case b.keys["stop-timeout"]:
			seconds = forEver
		}
	}
	b.pod.Spec.TerminationGracePeriodSeconds = &seconds
	s, ok := signalName(b.w.StopSignal)
	if !ok {
		return
	}
	if s != b.w.StopSignal {
		b.carry("stop-signal", b.w.StopSignal)
	}
	b.one.Lifecycle = &corev1.Lifecycle{StopSignal: new(corev1.Signal(s))}
	b.pod.Spec.OS = &corev1.PodOS{Name: corev1.Linux}
	b.lose(word("stop-signal", b.w.StopSignal), "lifecycle.stopSignal is read where the feature ContainerStopSignals is on (Kubernetes 1.33 or later); elsewhere it is the image's")
}

// restart says when it is started again.
func (b *builder) restart() {
	asked := b.w.Restart
	if asked.Name == "" {
		asked.Name = spec.RestartNo
	}
	if got := restartOf(b.kind, b.restartPolicy(), b.backoff()); got != asked {
		value := asked.Name
		if asked.Max > 0 {
			value += ":" + strconv.Itoa(asked.Max)
		}
		b.carry("restart", value)
		if asked.Name == spec.RestartUnlessStopped && got.Name == spec.RestartAlways {
			return // what is scaled to 0 stays stopped
		}
		b.lose(word("restart", value), map[string]string{
			kindDeployment: "a Deployment starts it again whenever it ends",
			kindJob:        "a Job starts it again until it has succeeded once",
			kindPod:        "a Pod alone is started again without a count, and not on another node",
		}[b.kind])
	}
}

func (b *builder) restartPolicy() corev1.RestartPolicy {
	switch r := b.w.Restart; {
	case b.kind == kindDeployment:
		return corev1.RestartPolicyAlways
	case !r.Restarts():
		return corev1.RestartPolicyNever
	case b.kind == kindJob || r.Name == spec.RestartOnFailure:
		return corev1.RestartPolicyOnFailure
	}
	return corev1.RestartPolicyAlways
}

// backoff is how often a Job tries again.
func (b *builder) backoff() *int32 {
	r := b.w.Restart
	switch {
	case b.kind != kindJob:
		return nil
	case !r.Restarts():
		return new(int32(0))
	case r.Max > 0 && r.Max < math.MaxInt32:
		return new(int32(r.Max))
	}
	return new(int32(math.MaxInt32))
}

// defaultBackoff is how often a Job tries again that does not say.
const defaultBackoff = 6

// restartOf is the restart policy that an object says.
func restartOf(kind string, policy corev1.RestartPolicy, backoff *int32) spec.RestartPolicy {
	switch {
	case kind == kindJob:
		n := defaultBackoff
		if backoff != nil {
			n = int(*backoff)
		}
		switch n {
		case 0:
			return spec.RestartPolicy{Name: spec.RestartNo}
		case math.MaxInt32:
			return spec.RestartPolicy{Name: spec.RestartOnFailure}
		}
		return spec.RestartPolicy{Name: spec.RestartOnFailure, Max: n}
	case policy == corev1.RestartPolicyNever:
		return spec.RestartPolicy{Name: spec.RestartNo}
	case policy == corev1.RestartPolicyOnFailure:
		return spec.RestartPolicy{Name: spec.RestartOnFailure}
	}
	return spec.RestartPolicy{Name: spec.RestartAlways}
}

// objects are all of a container, what has to be there first before the rest.
func (b *builder) objects() []any {
	out := slices.Clone(b.others)
	meta := b.meta(b.c.Name)
	template := b.pod
	template.Spec.RestartPolicy = b.restartPolicy()
	selector := &metav1.LabelSelector{MatchLabels: b.selector()}
	switch b.kind {
	case kindDeployment:
		template.Spec.RestartPolicy = ""
		d := &appsv1.Deployment{
			TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: kindDeployment}, ObjectMeta: meta,
			Spec: appsv1.DeploymentSpec{Replicas: new(int32(1)), Selector: selector, Template: template},
		}
		if len(b.claims) > 0 {
			// Two of them would want the same volume for a moment.
			d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType
		}
		return append(out, d)
	case kindJob:
		return append(out, &batchv1.Job{
			TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: kindJob}, ObjectMeta: meta,
			Spec: batchv1.JobSpec{BackoffLimit: b.backoff(), Template: template},
		})
	}
	pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: kindPod}, ObjectMeta: template.ObjectMeta, Spec: template.Spec}
	pod.Name = meta.Name
	pod.Labels = maps.Clone(template.Labels)
	if pod.Labels[managedLabel] == "" {
		pod.Labels[managedLabel] = managedBy
	}
	return append(out, pod)
}
