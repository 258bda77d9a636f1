package audit

import (
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/internal/source"
	"github.com/safe-run/safe-run/policy"
	"github.com/safe-run/safe-run/spec"
)

// judged is what the policy says of a bind.
type judged struct{ id, why string }

// sourceRefusals are the rules about what is bound, the worst first.
var sourceRefusals = []string{
	"bind-root", "engine-socket", "bind-device", "bind-kernel", "bind-container-store", "bind-secret", "bind-home", "bind-startup",
	"bind-system", "socket", "bind-fifo",
}

// rankOf is the place of a refusal among them; one that is none comes last.
func rankOf(id string) int {
	if i := slices.Index(sourceRefusals, id); i >= 0 {
		return i
	}
	return len(sourceRefusals)
}

// judgeBind asks the policy as if somebody had typed the bind.
func judgeBind(b bound, known source.KnownPaths, late bool) (judged, error) {
	m := spec.Mount{Origin: "-v", Type: spec.MountBind, Source: b.from, Target: b.point, ReadOnly: !b.writable}
	s := policy.Spelled(b.from)
	s.FS = b.fs
	var problem error
	switch {
	case late:
		problem = errUnjudged
	case remote(b.fs):
		// A program answers for it, perhaps one in the container: by its name alone.
	default:
		set, err := source.Gather([]spec.Mount{m}, nil, known)
		if err != nil {
			return judged{}, err
		}
		defer func() { _ = set.Close() }()
		// One that cannot be looked at any more is judged by its name.
		if got := set.Sources[0]; got.Err == "" {
			s = got
		} else if !got.NotExist {
			problem = errors.New(got.Err)
		}
	}
	_, refusals := policy.Review(policy.Request{
		Workload: spec.Workload{Mounts: []spec.Mount{m}},
		Sources:  map[int]spec.Source{0: s}, Provisional: true,
	})
	best, rank := judged{}, len(sourceRefusals)
	for _, r := range refusals {
		if i := slices.Index(sourceRefusals, r.ID); i >= 0 && i < rank {
			best, rank = judged{r.ID, r.GivesAway}, i
		}
	}
	return best, problem
}

// engineOwn says whether a bind is the engine's doing: the files every
// container gets, and the volumes made for it. They lie in the engine's
// store, and are the container's own.
func engineOwn(b bound, concern string) bool {
	if concern != "" && concern != "bind-container-store" && concern != "bind-system" {
		return false
	}
	if engineFile(b) {
		return true
	}
	if concern != "bind-container-store" {
		return false
	}
	for _, pattern := range []string{
		"/var/lib/docker/volumes/*/_data", "/var/lib/docker/containers/*/mounts/shm", "/var/lib/docker/containers/*/mounts/secrets",
		"/var/lib/containers/storage/volumes/*/_data", "/var/lib/containers/storage/overlay-containers/*/userdata/*",
		"/var/lib/nerdctl/*/volumes/*/*/_data", "/var/lib/nerdctl/*/containers/*/*/*",
		"/var/lib/safe-run/volumes/*/_data", "/run/safe-run/containers/*/*", "/run/safe-run/*/containers/*/*",
		"/var/lib/kubelet/pods/*/volumes/*/*", "/var/lib/kubelet/pods/*/volume-subpaths/*/*/*",
		"/var/lib/kubelet/pods/*/containers/*/*", "/var/lib/kubelet/pods/*/etc-hosts",
		"/run/containerd/io.containerd.grpc.v1.cri/sandboxes/*/*", "/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/*/*",
		"/run/containers/storage/overlay-containers/*/userdata/*",
	} {
		if matches(b.from, pattern) {
			return true
		}
	}
	return false
}

// engineFile: a file engines make for each container, at its usual place.
func engineFile(b bound) bool {
	name, ok := map[string]string{
		"/etc/hosts": "hosts", "/etc/hostname": "hostname", "/etc/resolv.conf": "resolv.conf", "/dev/shm": "shm",
		"/run/.containerenv": ".containerenv", "/sbin/docker-init": "docker-init", "/dev/init": "catatonit",
	}[b.point]
	if b.point == "/dev/termination-log" { // of the kubelet, wherever it has its pods
		dirs := strings.Split(b.from, "/")
		n := len(dirs)
		return n > 5 && dirs[n-5] == "pods" && dirs[n-3] == "containers"
	}
	if !ok {
		return false
	}
	for _, store := range []string{"/var/lib/", "/run/", "/usr/bin/", "/usr/libexec/", "/usr/lib/"} {
		if strings.HasPrefix(b.from, store) && strings.Contains(path.Base(b.from), name) {
			return true
		}
	}
	return false
}

// matches says whether a path is, or lies in, what a pattern names; "*" is any
// one name.
func matches(p, pattern string) bool {
	a, b := strings.Split(p, "/"), strings.Split(pattern, "/")
	if len(a) < len(b) {
		return false
	}
	for i := range b {
		if b[i] != "*" && b[i] != a[i] {
			return false
		}
	}
	return true
}
