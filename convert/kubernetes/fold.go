package kubernetes

import (
	"slices"
	"strings"

	"github.com/safe-run/safe-run/spec"
)

// Fold gives a workload what its image says and Kubernetes does not look at: the
// ports it exposes, its volumes, its health check, and its user if that is a
// number, which a Pod has to name to be known not to be root. What flags say
// stays. Entrypoint, variables, working directory and stop signal of the image
// hold in a cluster as they do here.
func Fold(w spec.Workload, image spec.Image) spec.Workload {
	user, group, both := strings.Cut(image.User, ":")
	_, numeric := canonical(user)
	if _, ok := canonical(group); w.User == "" && numeric && (!both || ok) {
		w.User = image.User
	}
	w.Expose = slices.Clone(w.Expose)
	for _, p := range image.Exposed {
		if !slices.Contains(w.Expose, p) {
			w.Expose = append(w.Expose, p)
		}
	}
	w.Mounts = slices.Clone(w.Mounts)
	for _, target := range image.Volumes {
		if !slices.ContainsFunc(w.Mounts, func(m spec.Mount) bool { return m.Target == target }) {
			w.Mounts = append(w.Mounts, spec.Mount{Origin: "--mount", Type: spec.MountVolume, Target: target})
		}
	}
	if h, has := spec.HealthOf(w, image); has {
		if h.Test[0] == "CMD-SHELL" && len(image.Shell) > 0 {
			h.Test = append([]string{"CMD"}, h.Args(image.Shell)...)
		}
		w.Health = withoutDefaults(h)
	}
	return w
}

// withoutDefaults leaves out what holds without being said.
func withoutDefaults(h spec.Healthcheck) spec.Healthcheck {
	if h.Interval == healthInterval {
		h.Interval = 0
	}
	if h.Timeout == healthTimeout {
		h.Timeout = 0
	}
	if h.StartInterval == healthStartInterval {
		h.StartInterval = 0
	}
	if h.Retries == healthRetries {
		h.Retries = 0
	}
	return h
}
