package profiles

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
)

func (p *Profile) checkFiles(no bad) {
	for i, w := range p.Writable {
		if why := badTarget(w.Path); why != "" {
			no("writable: "+why, "writable", i, "path")
		}
		if w.Volume != "" {
			if !plainName().MatchString(w.Volume) {
				no(fmt.Sprintf("writable: %.80q is not the name of a volume", w.Volume), "writable", i, "volume")
			}
			if w.Size != "" || w.Mode != "" || w.UID != nil || w.GID != nil {
				no("writable: size, mode, uid and gid are those of a tmpfs, and this is a volume", "writable", i)
			}
			continue
		}
		if w.Size != "" {
			if n, ok := bytesOf(w.Size); !ok || n <= 0 {
				no(fmt.Sprintf("writable: %.40q is not a size; write 16m, 1g", w.Size), "writable", i, "size")
			}
		}
		if w.Mode != "" && !modeWord().MatchString(w.Mode) {
			no(fmt.Sprintf("writable: %.40q is not a mode: it takes an octal number up to 7777", w.Mode), "writable", i, "mode")
		}
		for key, id := range map[string]*uint32{"uid": w.UID, "gid": w.GID} {
			if id != nil && *id > math.MaxInt32 {
				no("writable: an id is a number from 0 to 2147483647", "writable", i, key)
			}
		}
	}
	for i, b := range p.Binds {
		switch why := badPath(b.Source); {
		case why != "":
			no("binds: "+why, "binds", i, "source")
		case b.Source == "/":
			no("binds: / is never granted", "binds", i, "source")
		case engineSocket(b.Source):
			no("binds: the control socket of a container engine is never granted", "binds", i, "source")
		}
		if why := badTarget(b.Target); why != "" {
			no("binds: "+why, "binds", i, "target")
		}
	}
	seen := map[string]bool{}
	for i, w := range p.Writable {
		if seen[w.Path] {
			no(fmt.Sprintf("writable: %.80q is there twice", w.Path), "writable", i, "path")
		}
		seen[w.Path] = true
	}
	for i, b := range p.Binds {
		if seen[b.Target] {
			no(fmt.Sprintf("binds: %.80q has another mount already", b.Target), "binds", i, "target")
		}
		seen[b.Target] = true
	}
}

// badPath says why a path is not one of a profile.
func badPath(s string) string {
	switch {
	case s == "":
		return "a path is missing"
	case !path.IsAbs(s) || path.Clean(s) != s:
		return fmt.Sprintf("%.80q is not an absolute path without . and ..", s)
	}
	return ""
}

// badTarget says why a path inside the container cannot be mounted at: the
// obvious ones; the policy has the last word.
func badTarget(s string) string {
	if why := badPath(s); why != "" {
		return why
	}
	switch {
	case s == "/":
		return "/ is the image's; name the directory that is needed"
	case s == "/dev/shm":
	case below(s, "/proc"), below(s, "/sys"), below(s, "/dev"):
		return fmt.Sprintf("%.80q belongs to the kernel, and nothing is ever mounted there", s)
	case strings.Contains(s, ":"):
		return fmt.Sprintf("%.80q has a colon, which mounts cannot have", s)
	}
	return ""
}

func below(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

// engineSocket tells the sockets everybody has heard of. What a bind really is
// the policy finds out.
func engineSocket(p string) bool {
	for _, dir := range []string{"/run/", "/var/run/"} {
		if rest, ok := strings.CutPrefix(p, dir); ok && slices.Contains([]string{
			"docker.sock", "containerd/containerd.sock", "podman/podman.sock", "crio/crio.sock", "k3s/containerd/containerd.sock",
			"buildkit/buildkitd.sock", "safe-run/engine/containerd.sock",
		}, rest) {
			return true
		}
	}
	return false
}
