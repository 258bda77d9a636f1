package spec

import (
	"path"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/internal/fail"
)

const (
	// cgroupRoot is the cgroup all containers are below, except those of
	// systemd units.
	cgroupRoot = "/safe-run"
	// unitCgroupPrefix begins the name of a container's cgroup below the one
	// of its unit: names systemd itself makes there never begin so.
	unitCgroupPrefix = "safe-run-"
)

const nameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"

// CgroupPath is the cgroup of a container, below the root of each hierarchy.
// unit is the cgroup of the systemd unit delegated to us, "" for none; then
// asked is --cgroup-parent, a place below our own root. id is 64 hex digits.
// Errors have kind Conflict (both are given), Refused (asked) or HostCannot
// (unit).
func CgroupPath(unit, asked, id string) (string, error) {
	if !isID(id) {
		return "", fail.New(fail.Internal, "container id %.80q is not 64 hex digits", id)
	}
	switch {
	case unit != "" && asked != "":
		return "", fail.New(fail.Conflict, "--cgroup-parent %.128q: the cgroup of the systemd unit is the parent", asked).
			Hint("leave it out, or take Delegate= out of the unit")
	case unit != "":
		if !unitCgroup(unit) {
			return "", fail.New(fail.HostCannot, "the cgroup %.256q of the systemd unit cannot hold a container", unit).
				Hint("give the unit a name of letters, digits and any of @_.-")
		}
		return unit + "/" + unitCgroupPrefix + id, nil
	case asked == "":
		return path.Join(cgroupRoot, id), nil
	}
	parent := strings.TrimPrefix(asked, cgroupRoot+"/")
	if len(parent) > 255 || strings.HasPrefix(parent, "/") {
		return "", fail.New(fail.Refused, "--cgroup-parent %.128q is not below %s", asked, cgroupRoot).
			Hint("give a name without a leading slash")
	}
	for word := range strings.SplitSeq(parent, "/") {
		if word == "" || strings.HasPrefix(word, ".") || strings.Trim(word, nameCharacters) != "" {
			return "", fail.New(fail.Refused, "--cgroup-parent %.128q: names of letters, digits, dots and dashes only", asked)
		}
	}
	return path.Join(cgroupRoot, parent, id), nil
}

// unitCgroup checks the cgroup of a unit: clean, absolute, not the root, not
// of our own tree, and made of what systemd makes names of. A colon would
// make it another thing for the runtime (SLICE:PREFIX:NAME).
func unitCgroup(p string) bool {
	if len(p) > 2048 || !strings.HasPrefix(p, "/") || path.Clean(p) != p || p == "/" || within(p, cgroupRoot) {
		return false
	}
	return !slices.ContainsFunc(strings.Split(p[1:], "/"), func(word string) bool {
		return len(word) > 255 || strings.HasPrefix(word, ".") || strings.Trim(word, nameCharacters+`@\`) != ""
	})
}

// cgroupPath is the container's. A unit's subtree is delegated with cgroup v2
// only: in v1 the controllers are not safe to hand out (cgroups(7)).
func cgroupPath(in Input) (string, error) {
	if in.CgroupParent != "" && !in.Host.CgroupV2 {
		return "", fail.New(fail.Internal, "a unit's cgroup is given on a host without cgroup v2")
	}
	return CgroupPath(in.CgroupParent, in.Workload.CgroupParent, in.ID)
}

// verifiedCgroup: below our own root, or exactly the one below the unit's.
func verifiedCgroup(p string, v VerifyInput) bool {
	if path.Clean(p) != p || strings.ContainsAny(p, ":\x00") {
		return false
	}
	if v.CgroupParent != "" {
		id, below := strings.CutPrefix(p, v.CgroupParent+"/"+unitCgroupPrefix)
		return below && id == v.ID && isID(id) && unitCgroup(v.CgroupParent) && v.Host.CgroupV2
	}
	return strings.HasPrefix(p, cgroupRoot+"/") && path.Base(p) == v.ID
}
