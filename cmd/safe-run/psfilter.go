package main

import (
	"regexp"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/internal/dockerjson"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/images"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/spec"
)

// expressions are the values of a filter that docker takes as regular
// expressions, found anywhere in a name.
type expressions []*regexp.Regexp

func patterns(values []string) (expressions, error) {
	var out expressions
	for _, v := range values {
		e, err := regexp.Compile(v)
		if err != nil {
			return nil, fail.Wrap(fail.Usage, err, "invalid filter")
		}
		out = append(out, e)
	}
	return out, nil
}

// match says whether one of them is in one of the names; no expression fits all.
func (x expressions) match(names ...string) bool {
	return len(x) == 0 || slices.ContainsFunc(x, func(e *regexp.Regexp) bool { return slices.ContainsFunc(names, e.MatchString) })
}

// portFilters gives the test for publish= (ports of the host) and expose=
// (ports inside): one of either suffices.
func portFilters(f filters) (func(psRow) bool, error) {
	var public, inside []spec.PortRange
	for key, to := range map[string]*[]spec.PortRange{"publish": &public, "expose": &inside} {
		for _, v := range f[key] {
			p, err := spec.ParsePortRange(v)
			if err != nil {
				return nil, fail.Wrap(fail.Usage, err, "invalid filter %s", key)
			}
			*to = append(*to, p)
		}
	}
	if len(public)+len(inside) == 0 {
		return func(psRow) bool { return true }, nil
	}
	overlaps := func(ranges []spec.PortRange, first, last uint16, proto string) bool {
		return slices.ContainsFunc(ranges, func(r spec.PortRange) bool {
			return r.Proto == proto && r.First <= last && first <= r.Last
		})
	}
	return func(r psRow) bool {
		if s := r.State(); s != dockerjson.Running && s != dockerjson.Paused {
			return false
		}
		for _, m := range r.settings().Ports {
			if overlaps(public, m.HostPort, m.HostPort, m.Proto) || overlaps(inside, m.Port, m.Port, m.Proto) {
				return true
			}
		}
		return slices.ContainsFunc(r.exposed(), func(e spec.PortRange) bool { return overlaps(inside, e.First, e.Last, e.Proto) })
	}, nil
}

// madeFrom says whether the container's image is called so, or has the id. Of
// the images that another one was built from nothing is known.
func (r psRow) madeFrom(ref string) bool {
	if name, err := images.Normalize(ref); err == nil && name == r.rec.Image {
		return true
	}
	// A name without a tag is any of its tags' with docker, too.
	if images.Familiar(r.rec.Image) == ref || strings.HasPrefix(r.rec.Image, ref+"@") {
		return true
	}
	id := strings.TrimPrefix(ref, "sha256:")
	if len(id) < 4 || strings.Trim(id, "0123456789abcdef") != "" {
		return false
	}
	return strings.HasPrefix(r.rec.Digest, "sha256:"+id) || strings.HasPrefix(r.asked().Image.Target, "sha256:"+id)
}

// on says whether the container is on a network, by its name or id.
func (r psRow) on(ref string) bool {
	if slices.Contains(r.networks(), ref) {
		return true
	}
	d, err := networks().Find(ref)
	return err == nil && slices.Contains(r.networks(), d.Name)
}

// mounts says whether a volume or path is mounted, or anything at that path
// inside.
func (r psRow) mounts(v string) bool {
	for _, m := range r.asked().Workload.Mounts {
		if m.Source == v || m.Target == v {
			return true
		}
	}
	return false
}

// stateOf gives docker's word for the state of a container.
func stateOf(st *store.Store, r store.Record) string {
	return dockerjson.StateOf(r, r.Phase != store.PhaseExited && st.Supervised(r.ID))
}

func or(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}
