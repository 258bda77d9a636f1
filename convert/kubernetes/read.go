package kubernetes

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/internal/plain"
	"github.com/safe-run/safe-run/spec"
)

// maxLosses bounds what is told of one document.
const maxLosses = 1000

// reader makes flags of objects. What it has understood of an object it takes
// out of it: what is left in the end is told, so that nothing is dropped
// without a word.
type reader struct {
	*stream
	found    []convert.Found
	names    map[string]bool
	services []*corev1.Service
	policies []*networkingv1.NetworkPolicy
	maps     map[string]*corev1.ConfigMap
	secrets  map[string]*corev1.Secret
	claims   map[string]*corev1.PersistentVolumeClaim
	used     map[string]bool // KIND/NAME/KEY of maps and secrets, KIND/NAME of all else
}

// Read gives the containers of all Pods in a stream. Each object is decoded
// strictly; errors are of kind Usage and name the line.
func (f format) Read(files []convert.File, _ convert.Options) ([]convert.Found, []convert.Loss, error) {
	s, err := readStream(files)
	if err != nil {
		return nil, nil, err
	}
	r := &reader{
		stream: s, names: map[string]bool{}, used: map[string]bool{},
		maps: map[string]*corev1.ConfigMap{}, secrets: map[string]*corev1.Secret{}, claims: map[string]*corev1.PersistentVolumeClaim{},
	}
	for _, d := range s.docs {
		switch o := d.object.(type) {
		case *corev1.ConfigMap:
			r.maps[o.Name] = o
		case *corev1.Secret:
			r.secrets[o.Name] = o
		case *corev1.PersistentVolumeClaim:
			r.claims[o.Name] = o
		case *corev1.Service:
			r.services = append(r.services, o)
		case *networkingv1.NetworkPolicy:
			r.policies = append(r.policies, o)
		}
	}
	for i := range s.docs {
		if t := templateOf(s.docs[i].object); t != nil {
			if err := r.workload(&s.docs[i], t); err != nil {
				return nil, nil, err
			}
		}
	}
	r.rest()
	return r.found, r.losses, nil
}

// take gives a value and leaves none.
func take[T any](p *T) T {
	v := *p
	*p = *new(T)
	return v
}

func (r *reader) lose(container, what, why string) {
	if len(r.losses) < maxLosses {
		r.losses = append(r.losses, convert.Loss{Container: container, What: bounded(what), Why: why})
	}
}

func shownText(s string) string { return plain.Line(s) }

// native is a flag as objects say it, and what it is about (see keysOf).
type native struct{ key, word string }

// podReader makes flags of one Pod.
type podReader struct {
	*reader
	name  string
	t     *template
	kind  string
	own   bool // written by us
	kept  []string
	keys  map[string]bool
	stays convert.Found // of the container that is being read
	flags []native
	first string // name of the first container, if there are several
	// grouped says that every container has a group of its own.
	grouped bool
	claims  []string // names of volumes that are made of templates

	set     labels.Set                 // labels of the Pod
	shared  *corev1.PodSecurityContext // as it was before it was read
	volumes map[string]corev1.Volume
	users   map[string]int // how many mounts a volume has
}

func (p *podReader) add(flag, value string) {
	p.flags = append(p.flags, native{flag, word(flag, value)})
}

func (p *podReader) addKey(key, w string) { p.flags = append(p.flags, native{key, w}) }

func (p *podReader) lose(what, why string) { p.reader.lose(p.stays.Name, what, why) }

// workload reads the Pods of one object.
func (r *reader) workload(d *doc, t *template) error {
	p := &podReader{reader: r, t: t, kind: d.kind}
	p.name = r.nameOf(d)
	p.stays = convert.Found{Name: p.name, Line: d.line}
	if err := p.annotations(); err != nil {
		return err
	}
	p.set = labels.Set(maps.Clone(t.meta.Labels))
	restart := p.controller(d.object)
	containers := t.spec.Containers
	p.grouped = t.spec.SecurityContext != nil && t.spec.SecurityContext.RunAsGroup != nil || !slices.ContainsFunc(containers, func(c corev1.Container) bool {
		return c.SecurityContext == nil || c.SecurityContext.RunAsGroup == nil
	})
	if set, is := d.object.(*appsv1.StatefulSet); is {
		for _, c := range set.Spec.VolumeClaimTemplates {
			p.claims = append(p.claims, c.Name)
		}
	}
	p.pod()
	p.labels()
	networks := p.network()
	shared := take(&p.flags)
	for i := range containers {
		p.flags = slices.Clone(shared)
		p.stays = convert.Found{Name: p.name, Line: d.line}
		if len(containers) > 1 {
			p.stays.Name = r.free(p.name + "-" + containers[i].Name)
			p.add("name", p.stays.Name)
			if i == 0 {
				p.first = p.stays.Name
			} else {
				p.flags = slices.DeleteFunc(p.flags, func(n native) bool { return ofNetwork(n.key) })
				p.add("network", "container:"+p.first)
			}
		}
		if i == 0 {
			p.flags = append(p.flags, networks...)
		}
		if restart != "" {
			p.add("restart", restart)
		}
		p.container(&containers[i], len(containers))
		p.finish(i == 0)
	}
	if len(containers) > 1 {
		p.stays.Name = p.name
		p.lose("containers", "those of one Pod become containers of their own, which share the network of the first")
	}
	return nil
}

// ofNetwork says whether a flag is for who has the network of its own.
func ofNetwork(flag string) bool {
	return slices.Contains([]string{"hostname", "dns", "dns-search", "dns-option", "add-host", "network"}, flag)
}

// nameOf is the name of an object as a container can have it.
func (r *reader) nameOf(d *doc) string {
	_, name, _ := strings.Cut(title(d.object), "/")
	if name = plainLabel(name); name == "" {
		name = "pod"
	}
	return r.free(name)
}

// free makes a name that no other container has.
func (r *reader) free(name string) string {
	name = slug(name, 60)
	out := name
	for i := 2; r.names[out]; i++ {
		out = name + "-" + strconv.Itoa(i)
	}
	r.names[out] = true
	return out
}

// annotations reads the flags that are kept.
func (p *podReader) annotations() (err error) {
	text, has := p.t.meta.Annotations[flagsKey]
	if !has {
		p.keys = map[string]bool{}
		return nil
	}
	delete(p.t.meta.Annotations, flagsKey)
	if p.kept, err = readFlags(text); err != nil {
		return fmt.Errorf("line %d: %w", p.stays.Line, err)
	}
	p.keys, err = keys(p.kept)
	return err
}

// controller reads what an object says besides its Pods, and when it starts them
// again.
func (p *podReader) controller(object any) string {
	policy := take(&p.t.spec.RestartPolicy)
	kind := p.kind
	var backoff *int32
	switch o := object.(type) {
	case *appsv1.Deployment:
		if o.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType && o.Spec.Strategy.RollingUpdate == nil {
			o.Spec.Strategy.Type = ""
		}
		one(&o.Spec.Replicas)
		o.Spec.Selector = nil
	case *appsv1.ReplicaSet:
		one(&o.Spec.Replicas)
		o.Spec.Selector = nil
	case *appsv1.StatefulSet:
		one(&o.Spec.Replicas)
		o.Spec.Selector = nil
		o.Spec.ServiceName = ""
	case *appsv1.DaemonSet:
		o.Spec.Selector = nil
	case *corev1.ReplicationController:
		one(&o.Spec.Replicas)
		o.Spec.Selector = nil
	case *batchv1.Job:
		backoff = take(&o.Spec.BackoffLimit)
	case *batchv1.CronJob:
		kind = kindJob
		backoff = take(&o.Spec.JobTemplate.Spec.BackoffLimit)
	}
	if policy != "" && policy != corev1.RestartPolicyAlways && policy != corev1.RestartPolicyOnFailure && policy != corev1.RestartPolicyNever {
		p.lose("restartPolicy "+string(policy), "there is no such policy")
	}
	again := restartOf(kind, policy, backoff)
	if again.Max > 0 {
		return again.Name + ":" + strconv.Itoa(again.Max)
	}
	if again.Name == spec.RestartNo {
		return ""
	}
	return again.Name
}

// one takes out what is so anyway.
func one(n **int32) {
	if *n != nil && **n == 1 {
		*n = nil
	}
}

// finish puts together what was found of a container: what is kept stands for
// what objects say of the same.
func (p *podReader) finish(first bool) {
	f := &p.stays
	for _, n := range p.flags {
		if !p.keys[n.key] {
			f.Flags = append(f.Flags, n.word)
		}
	}
	if first {
		f.Flags = append(f.Flags, p.kept...)
	}
	if f.Image == "" {
		p.lose("image", "there is none: name one")
	}
	p.found = append(p.found, *f)
}
