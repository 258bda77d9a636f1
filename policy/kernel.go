package policy

import (
	"maps"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/spec"
)

// ipcSysctls belong to the IPC namespace (runc,
// libcontainer/configs/validate; the same list as docker's).
func ipcSysctls() []string {
	return []string{
		"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
		"kernel.shmmni", "kernel.shm_rmid_forced",
	}
}

// sysctlScope says which namespace a setting belongs to.
type sysctlScope int

const (
	scopeHost  sysctlScope = iota // the whole host, or nobody knows
	scopeIPC                      // free
	scopeNet                      // free
	scopeOther                    // UTS and user namespace: the site's to give
)

// sysctlName brings a key to dots. sysctl(8): the first separator in the key
// decides which of the two it is; the other then stands for the first.
func sysctlName(key string) string {
	i := strings.IndexAny(key, "./")
	if i < 0 || key[i] == '.' {
		return key
	}
	return strings.NewReplacer("/", ".", ".", "/").Replace(key)
}

func scopeOf(name string) sysctlScope {
	// A name is a path below /proc/sys, where a slash in a dotted name is a dot.
	for seg := range strings.SplitSeq(name, ".") {
		if seg == "" || strings.HasPrefix(seg, "/") || strings.HasSuffix(seg, "/") || strings.Contains(seg, "//") {
			return scopeHost
		}
		for _, c := range seg {
			if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/:@", c) {
				return scopeHost
			}
		}
	}
	switch {
	case slices.Contains(ipcSysctls(), name), strings.HasPrefix(name, "fs.mqueue."):
		return scopeIPC
	case strings.HasPrefix(name, "net."):
		return scopeNet
	case strings.HasPrefix(name, "user."):
		return scopeOther
	}
	return scopeHost
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f })
}

// freeAnnotation says whether a key is one no runtime, shim or hook acts on.
func freeAnnotation(key string) bool {
	return strings.HasPrefix(key, "org.opencontainers.image.") && plain(key)
}

// runtimes are the names --runtime takes: all mean runc behind its shim.
func runtimes() []string { return []string{"", "runc", "io.containerd.runc.v2"} }

func kernelRules() []Rule {
	return []Rule{
		{
			ID: "sysctl-host", Title: "Kernel settings of the whole host",
			GivesAway: "a setting of the host's kernel, for everything that runs on it",
			SaferWay:  "set it on the host, if it is right for the host: sysctl.d(5)",
			Check: eachSysctl(func(r *Request, name, value string) (Finding, bool) {
				scope := scopeOf(name)
				switch {
				case hasControl(value) || len(value) > 4096:
					return Finding{Why: "the value has control characters or is too long"}, true
				case scope == scopeNet && hostNetwork(r):
					return Finding{Why: "a setting of the host's network, which the container shares"}, true
				case scope == scopeNet && joinedNetwork(r):
					return Finding{
						Why:   "a setting of the other container's network: it belongs to the user namespace of that container, and this one cannot write it",
						Safer: "give it to the container whose network it is",
					}, true
				case scope == scopeIPC && mode(r.Workload.IPCMode) == "host":
					return Finding{Why: "a setting of the host's shared memory, which the container shares"}, true
				}
				return Finding{}, scope == scopeHost
			}),
		},
		{
			ID: "sysctl", Title: "Kernel settings beyond network and IPC", Grant: "sysctls",
			GivesAway: "limits of the container's own namespaces, nested user namespaces among them",
			SaferWay:  "leave it out",
			Check: eachSysctl(func(_ *Request, name, value string) (Finding, bool) {
				f := Finding{Need: Need{Key: "sysctls", Value: name}}
				if spec.GuardedSysctl(name) && value != "0" {
					f.Why = "others on the container's network could then change its routes"
					return f, !hasControl(value)
				}
				return f, scopeOf(name) == scopeOther && !hasControl(value)
			}),
		},
		{
			ID: "annotation", Title: "Annotations runtimes act on", Grant: "annotations",
			GivesAway: "switches of the runtime, of its shim and of hooks: some change limits, some run programs",
			SaferWay:  "use --label for notes of your own",
			Check: func(r *Request) (found []Finding) {
				for _, key := range slices.Sorted(maps.Keys(r.Workload.Annotations)) {
					if freeAnnotation(key) {
						continue
					}
					f := Finding{Flag: "--annotation " + shown(key)}
					if grantableAnnotation(key) {
						f.Need = Need{Key: "annotations", Value: key}
					}
					found = append(found, f)
				}
				return found
			},
		},
		{
			ID: "runtime", Title: "Other runtimes",
			GivesAway: "all confinement, if that program does not do it: a runtime runs as root of the host",
			SaferWay:  "leave it out, or write --runtime runc",
			Check: func(r *Request) []Finding {
				return when(!slices.Contains(runtimes(), r.Workload.Runtime), Finding{Flag: "--runtime " + shown(r.Workload.Runtime)})
			},
		},
		{
			ID: "cgroup-parent", Title: "A control group of another tree",
			GivesAway: "the limits of the group this program was started in, or those of another tenant",
			SaferWay:  "give a plain name (letters a-z, digits, _ and -, joined by /): it is put below this program's own group",
			Check: func(r *Request) []Finding {
				p := r.Workload.CgroupParent
				return when(p != "" && !cgroupName(p), Finding{Flag: "--cgroup-parent " + shown(p)})
			},
		},
		{
			ID: "env-wildcard", Title: "Environment by pattern",
			GivesAway: "variables of the caller nobody meant to give, tokens among them",
			SaferWay:  "name each variable: -e NAME",
			Check: func(r *Request) (found []Finding) {
				for _, e := range r.Workload.Env {
					// A whole NAME=VALUE takes nothing from the caller.
					found = append(found, when(e.Value == nil && strings.ContainsAny(e.Name, "*?["), Finding{Flag: "-e " + shown(e.Name)})...)
				}
				return found
			},
		},
	}
}

func eachSysctl(judge func(r *Request, name, value string) (Finding, bool)) func(*Request) []Finding {
	return func(r *Request) (found []Finding) {
		for _, key := range slices.Sorted(maps.Keys(r.Workload.Sysctls)) {
			value := r.Workload.Sysctls[key]
			if f, hit := judge(r, sysctlName(key), value); hit {
				f.Flag = "--sysctl " + shown(key+"="+value)
				found = append(found, f)
			}
		}
		return found
	}
}

// grantableAnnotation: runc turns org.systemd.property.* into properties of the
// unit, which undoes limits; the others belong to this program and the engine.
func grantableAnnotation(key string) bool {
	for _, p := range []string{"org.systemd.property.", "safe-run/", "containerd.io/", "io.containerd.", "io.kubernetes.cri"} {
		if strings.HasPrefix(strings.ToLower(key), p) {
			return false
		}
	}
	return plain(key)
}

// cgroupName: relative, plain, short.
func cgroupName(p string) bool {
	if len(p) > 255 {
		return false
	}
	for seg := range strings.SplitSeq(p, "/") {
		if seg == "" || strings.Trim(seg, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
			return false
		}
	}
	return true
}
