package spec

import (
	"slices"
	"strings"

	"github.com/safe-run/safe-run/internal/fail"
)

// knownCapabilities are the kernel's capabilities, in its order.
var knownCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
	"CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER",
	"CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
	"CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// freeCapabilities need no grant: inside a user and network namespace of its
// own a container can only harm itself with them.
var freeCapabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID",
	"CAP_SYS_CHROOT",
}

// FreeCapability says whether --cap-add may give a capability (CAP_ name)
// without a grant.
func FreeCapability(name string) bool { return slices.Contains(freeCapabilities, name) }

// Capability gives the CAP_ name of a capability as typed: any case, with or
// without CAP_. It does not know ALL.
func Capability(typed string) (string, error) {
	name := strings.ToUpper(typed)
	if !strings.HasPrefix(name, "CAP_") {
		name = "CAP_" + name
	}
	if !slices.Contains(knownCapabilities, name) {
		return "", fail.New(fail.Usage, "%.64q is not a capability", typed)
	}
	return name, nil
}

// BoundingSet gives the capabilities (CAP_ names, sorted) that Build gives a
// container with these grants. Errors have kind Usage or Refused.
func BoundingSet(w Workload, g Grants) ([]string, error) { return capabilities(w, g) }

// capabilities are what the container gets: asked for, not dropped, and free
// or granted. Without --cap-add it is empty, so --cap-drop, also of ALL, can
// only take back an addition. Sorted.
func capabilities(w Workload, g Grants) ([]string, error) {
	out := []string{}
	for _, typed := range w.CapAdd {
		name, err := Capability(typed)
		if err != nil {
			return nil, err
		}
		if !FreeCapability(name) && !slices.Contains(g.Capabilities, name) {
			return nil, fail.New(fail.Refused, "--cap-add %s is not granted", name)
		}
		out = append(out, name)
	}
	for _, typed := range w.CapDrop {
		if strings.EqualFold(typed, "ALL") {
			// As with docker, a capability added by name survives
			// --cap-drop ALL.
			continue
		}
		name, err := Capability(typed)
		if err != nil {
			return nil, err
		}
		out = slices.DeleteFunc(out, func(c string) bool { return c == name })
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
