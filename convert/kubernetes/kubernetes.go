// Package kubernetes writes workloads as objects of Kubernetes, and reads those
// of others.
//
// What no field says stands in the annotation safe-run/flags of the Pod, as
// flags of run. There are two sorts of them: what the objects do say, though not
// so that it could be read from them (which host port was free to choose), and
// what is lost. For the latter the objects have the nearest there is. Read takes
// the flag wherever there is one, and the objects for all else.
package kubernetes

import (
	"slices"
	"strings"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/internal/fail"
)

// Names of our own in objects.
const (
	flagsKey     = "safe-run/flags"    // annotation of a Pod: a JSON array of flags of run
	builtInKey   = "safe-run/built-in" // annotation of a ConfigMap: the digest of its seccomp filter, if it is the built-in one
	nameLabel    = "safe-run/name"     // of Pods, what selects them
	appLabel     = "app.kubernetes.io/name"
	managedLabel = "app.kubernetes.io/managed-by"
	managedBy    = "safe-run"
	networkLabel = "network.safe-run/" // and the network's name: of Pods that are on it
	ownPrefix    = "safe-run/"
)

// The kinds that Pods are written as.
const (
	kindDeployment = "Deployment"
	kindJob        = "Job"
	kindPod        = "Pod"
)

// Format is Kubernetes. kind is Deployment, Job or Pod, in any case, for all
// containers; "" decides for each: what --restart says (always and
// unless-stopped are a Deployment, on-failure is a Job); without it, what
// publishes or exposes a port or has a health check is a Deployment, all else a
// Pod.
func Format(kind string) convert.Format { return format{kind} }

type format struct{ kind string }

func (f format) Name() string { return "kubernetes" }

// kinds finds the kind that is asked for, "" for none.
func (f format) kinds() (string, error) {
	for _, k := range []string{"", kindDeployment, kindJob, kindPod} {
		if strings.EqualFold(k, f.kind) {
			return k, nil
		}
	}
	return "", fail.New(fail.Usage, "the kind %.40q is none a workload is written as", f.kind).Hint("it is deployment, job or pod")
}

// Write gives one stream of objects, and each seccomp filter as a file of its
// own, as nodes need it.
func (f format) Write(p convert.Project, losses []convert.Loss, o convert.Options) ([]convert.File, []convert.Loss, error) {
	kind, err := f.kinds()
	if err != nil {
		return nil, nil, err
	}
	var all []any
	var files []convert.File
	var more []convert.Loss
	var steps []string
	claims := map[string]bool{}
	for i := range p.Containers {
		b, err := build(&p, &p.Containers[i], kind, o)
		if err != nil {
			return nil, nil, fail.Wrap(fail.KindOf(err), err, "%s", p.Containers[i].Name)
		}
		for _, c := range b.claims {
			if !claims[c.Name] {
				claims[c.Name] = true
				all = append(all, c)
			}
		}
		all = append(all, b.objects()...)
		more = append(more, b.lost()...)
		steps = append(steps, b.steps...)
		if o.Files && b.installs() {
			files = append(files, convert.File{Name: convert.SeccompName(b.c.Name), Data: b.c.Filter, Also: true})
		}
	}
	more = together(more, len(p.Containers))
	name := "workloads"
	switch {
	case p.Name != "":
		name = slug(p.Name, 63)
	case len(p.Containers) == 1:
		name = p.Containers[0].Name
	}
	data, err := render(all, slices.Concat(losses, more), steps)
	if err != nil {
		return nil, nil, err
	}
	return append([]convert.File{{Name: name + ".yaml", Data: data}}, files...), more, nil
}

// together says once what is so for every one of several containers.
func together(losses []convert.Loss, containers int) (out []convert.Loss) {
	count := map[convert.Loss]int{}
	plain := func(l convert.Loss) convert.Loss { return convert.Loss{What: l.What, Why: l.Why} }
	for _, l := range losses {
		count[plain(l)]++
	}
	for _, l := range losses {
		n := count[plain(l)]
		switch {
		case containers > 1 && n == containers:
			out = append(out, plain(l))
			count[plain(l)] = 0
		case n > 0:
			out = append(out, l)
		}
	}
	return out
}
