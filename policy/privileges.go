package policy

import (
	"slices"
	"strconv"
	"strings"

	"github.com/safe-run/safe-run/spec"
)

func privilegeRules() []Rule {
	return []Rule{
		{
			ID: "privileged", Title: "Privileged containers",
			GivesAway: "all capabilities, all devices of the host, and no filter: root of the container is root of the host",
			SaferWay:  "leave it out, run it, and add the one thing that is denied (--cap-add NAME, --device PATH, -v PATH)",
			Check: func(r *Request) []Finding {
				return when(r.Workload.Privileged, Finding{Flag: "--privileged"})
			},
		},
		{
			ID: "use-api-socket", Title: "The engine's own socket and registry logins inside",
			GivesAway: "full control of the container engine, which is root of the host, and the registry logins of the caller",
			SaferWay:  "let a program outside the container talk to the engine",
			Check: func(r *Request) []Finding {
				return when(r.Workload.UseAPISocket, Finding{Flag: "--use-api-socket"})
			},
		},
		{
			ID: "writable-rootfs", Title: "Writable root filesystem", Grant: "allow",
			GivesAway: "the program can replace its own code and keep the change: what was written can be executed",
			SaferWay:  "name the directories that must be written: --tmpfs /DIR, or -v NAME:/DIR to keep the data",
			Check: func(r *Request) []Finding {
				ro := r.Workload.ReadOnly
				return when(ro != nil && !*ro, Finding{Flag: "--read-only=false", Need: allow("writable-rootfs")})
			},
		},
	}
}

func when(is bool, f Finding) []Finding {
	if is {
		return []Finding{f}
	}
	return nil
}

func allow(id string) Need { return Need{Key: "allow", Value: id} }

// capability says what adding one does to a container that has its own user,
// network and pid namespaces.
type capability struct {
	name  string
	class capClass
	why   string // what it gives away
}

type capClass int

const (
	capFree    capClass = iota // harmless in namespaces of one's own
	capGranted                 // needs the site's grant
	capHost                    // checked against the initial user namespace: no effect without --userns=host
)

// capabilities lists all there are (capabilities(7), linux/capability.h). The
// class capHost is from the kernel's callers of capable(), which asks the
// initial user namespace, in contrast to ns_capable().
func capabilities() []capability {
	return []capability{
		{"AUDIT_CONTROL", capHost, "the rules of the host's audit"},
		{"AUDIT_READ", capHost, "reading the host's audit log"},
		{"AUDIT_WRITE", capFree, ""},
		{"BLOCK_SUSPEND", capHost, "keeping the host from suspending"},
		{"BPF", capHost, "loading programs into the kernel"},
		{"CHECKPOINT_RESTORE", capGranted, "choosing the ids of processes, and reading /proc links of others"},
		{"CHOWN", capFree, ""},
		{"DAC_OVERRIDE", capFree, ""},
		{"DAC_READ_SEARCH", capGranted, "opening files by handle, past the paths a container is confined to"},
		{"FOWNER", capFree, ""},
		{"FSETID", capFree, ""},
		{"IPC_LOCK", capGranted, "locking memory without bounds, so that it cannot be reclaimed"},
		{"IPC_OWNER", capGranted, "access to all System V IPC objects of its namespace"},
		{"KILL", capFree, ""},
		{"LEASE", capHost, "leases on files of others"},
		{"LINUX_IMMUTABLE", capHost, "the immutable and append-only marks of files"},
		{"MAC_ADMIN", capHost, "the mandatory access control of the host"},
		{"MAC_OVERRIDE", capHost, "getting past the mandatory access control of the host"},
		{"MKNOD", capHost, "device nodes"},
		{"NET_ADMIN", capGranted, "the whole network stack's configuration code in the kernel (netfilter, tc, tunnels), a frequent way out"},
		{"NET_BIND_SERVICE", capFree, ""},
		{"NET_BROADCAST", capGranted, "nothing the kernel uses"},
		{"NET_RAW", capFree, ""},
		{"PERFMON", capHost, "performance counters and traces of the whole host"},
		{"SETFCAP", capFree, ""},
		{"SETGID", capFree, ""},
		{"SETPCAP", capFree, ""},
		{"SETUID", capFree, ""},
		{"SYSLOG", capHost, "the kernel's log and addresses"},
		{"SYS_ADMIN", capGranted, "mounting, namespaces and many drivers' ioctls: most kernel escapes start here"},
		{"SYS_BOOT", capHost, "rebooting the host or loading another kernel"},
		{"SYS_CHROOT", capFree, ""},
		{"SYS_MODULE", capHost, "loading code into the kernel"},
		{"SYS_NICE", capGranted, "taking CPU time from others through priorities and scheduling classes"},
		{"SYS_PACCT", capHost, "the host's process accounting"},
		{"SYS_PTRACE", capGranted, "reading and changing every process of the container, whatever user it runs as"},
		{"SYS_RAWIO", capHost, "raw memory and I/O ports"},
		{"SYS_RESOURCE", capGranted, "getting past resource limits and quotas"},
		{"SYS_TIME", capHost, "the clock of the host"},
		{"SYS_TTY_CONFIG", capHost, "the host's virtual terminals"},
		{"WAKE_ALARM", capHost, "waking the host from sleep"},
	}
}

// FreeCapabilities are the capabilities --cap-add takes without a grant, as
// CAP_ names.
func FreeCapabilities() []string {
	var free []string
	for _, c := range capabilities() {
		if c.class == capFree {
			free = append(free, "CAP_"+c.name)
		}
	}
	return free
}

// capName brings a capability as typed to its plain upper-case name without
// CAP_: all spellings are one name here.
func capName(typed string) string {
	return strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(typed)), "CAP_")
}

func findCapability(name string) (capability, bool) {
	all := capabilities()
	i := slices.IndexFunc(all, func(c capability) bool { return c.name == name })
	if i < 0 {
		return capability{}, false
	}
	return all[i], true
}

func capabilityRules() []Rule {
	// each runs judge over the --cap-add options. A name that is no capability
	// has the class of the free ones: a rule of its own refuses it.
	each := func(judge func(r *Request, flag, name string, c capability) []Finding) func(*Request) []Finding {
		return func(r *Request) (found []Finding) {
			for _, typed := range r.Workload.CapAdd {
				name := capName(typed)
				c, _ := findCapability(name)
				found = append(found, judge(r, "--cap-add "+shown(typed), name, c)...)
			}
			return found
		}
	}
	return []Rule{
		{
			ID: "cap-all", Title: "All capabilities",
			GivesAway: "every privilege root has in its namespaces, mounting and the whole of netfilter among them",
			SaferWay:  "add the ones that are needed by name; most programs need none",
			Check: each(func(_ *Request, flag, name string, _ capability) []Finding {
				return when(name == "ALL", Finding{Flag: flag})
			}),
		},
		{
			ID: "cap-unknown", Title: "Names that are no capability",
			GivesAway: "nothing that is known: there is no capability of this name",
			SaferWay:  "write one name per option, as in capabilities(7), with or without CAP_",
			Check: func(r *Request) (found []Finding) {
				for _, list := range []struct {
					flag  string
					typed []string
				}{{"--cap-add ", r.Workload.CapAdd}, {"--cap-drop ", r.Workload.CapDrop}} {
					for _, typed := range list.typed {
						name := capName(typed)
						_, known := findCapability(name)
						found = append(found, when(!known && name != "ALL", Finding{Flag: list.flag + shown(typed)})...)
					}
				}
				return found
			},
		},
		{
			ID: "capability", Title: "Capabilities outside the free list", Grant: "capabilities",
			GivesAway: "a part of root's power beyond what is harmless in a user and network namespace of one's own",
			SaferWay:  "run it without first; a denial names the capability that is really needed",
			Check: each(func(r *Request, flag, name string, c capability) []Finding {
				return when(c.class == capGranted && !ofSharedNetwork(r, name), Finding{
					Flag: flag, Why: c.why, Need: Need{Key: "capabilities", Value: "CAP_" + name},
				})
			}),
		},
		{
			ID: "cap-host-only", Title: "Capabilities that mean nothing in a user namespace", Grant: "capabilities",
			GivesAway: "power over the host itself",
			SaferWay:  "leave it out: programs that ask for it out of habit run without",
			Check: each(func(r *Request, flag, name string, c capability) []Finding {
				if c.class != capHost {
					return nil
				}
				return []Finding{{Flag: flag, Why: c.why, Need: Need{Key: "capabilities", Value: "CAP_" + name}}}
			}),
		},
		{
			ID: "cap-network", Title: "Capabilities over a network that is not the container's own", Grant: "capabilities",
			GivesAway: "power over a network that others use as well",
			SaferWay:  "leave it out, or give the container a network of its own; a port below 1024 is published with -p instead",
			Check: each(func(r *Request, flag, name string, _ capability) []Finding {
				if !ofSharedNetwork(r, name) {
					return nil
				}
				if hostNetwork(r) {
					return []Finding{{Flag: flag, Why: "power over the host's network", Need: Need{Key: "capabilities", Value: "CAP_" + name}}}
				}
				f := Finding{
					Flag: flag,
					Why: "power over the other container's network: the kernel asks for it in the user namespace that network belongs to, " +
						"so in the container's own it would have no effect",
				}
				if mode(r.Workload.UserNSMode) == "host" {
					f.Why = "power over the other container's network"
					f.Need = Need{Key: "capabilities", Value: "CAP_" + name}
				}
				return []Finding{f}
			}),
		},
	}
}

// NeedsHostUsers says whether a workload asks for a capability that the kernel
// looks for in the host's user namespace alone, and so to run in that.
func NeedsHostUsers(w spec.Workload) bool {
	_, _, needs := needsHostUsers(&Request{Workload: w})
	return needs
}

// needsHostUsers is the first of the capabilities asked for that the kernel
// looks for in the host's user namespace: who asks for it asks to run there, as
// docker's containers do.
func needsHostUsers(r *Request) (flag, name string, needs bool) {
	for _, typed := range r.Workload.CapAdd {
		name := capName(typed)
		c, known := findCapability(name)
		if known && c.class == capHost || hostNetwork(r) && ofSharedNetwork(r, name) {
			return "--cap-add " + shown(typed), name, true
		}
	}
	return "", "", false
}

// ofSharedNetwork says whether a capability is asked for in the user namespace
// of the network (capabilities(7), network_namespaces(7)), and the network is
// the host's or another container's.
func ofSharedNetwork(r *Request, name string) bool {
	return slices.Contains([]string{"NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW"}, name) && (hostNetwork(r) || joinedNetwork(r))
}

// shown makes a string of the user's safe to print; plain ones stay as typed.
func shown(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "..."
	}
	if plain(s) {
		return s
	}
	return strconv.Quote(s)
}

func plain(s string) bool {
	if s == "" {
		return false
	}
	for _, c := range s {
		if c <= ' ' || c == '"' || c == '\\' || !strconv.IsPrint(c) {
			return false
		}
	}
	return true
}
