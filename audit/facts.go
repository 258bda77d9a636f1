package audit

import (
	"strings"
	"time"
)

// Facts are what the kernel says about a live container, read from the host.
// Ids are those of the host, sizes are bytes, and a limit that is nil is no
// limit. Names and paths from inside are cut to a bounded length, and what
// cannot be printed in them is escaped.
type Facts struct {
	PID             int               `json:"pid"`
	User            User              `json:"user"`
	Capabilities    Capabilities      `json:"capabilities"`
	NoNewPrivileges bool              `json:"no_new_privileges"`
	Seccomp         Seccomp           `json:"seccomp"`
	LSM             LSM               `json:"lsm"`
	Namespaces      map[string]string `json:"namespaces"` // pid, network, ...: "own" or "host"
	Processes       Processes         `json:"processes"`
	Root            Root              `json:"root"`
	Mounts          Mounts            `json:"mounts"`
	AbstractSockets []string          `json:"abstract_sockets"` // of the host's services; only with the host's network
	Devices         Devices           `json:"devices"`
	Limits          Limits            `json:"limits"`
	OOMScoreAdj     int               `json:"oom_score_adj"`
	Ports           []Port            `json:"ports"`
	CgroupVersion   string            `json:"cgroup_version"` // v1, v2 or hybrid: limits by v1, processes by v2
	// Unread is what could not be read, or was too much, each with the reason.
	Unread []string `json:"unread"`
	// MountsUnread: some mounts, or what lies behind them, are not known.
	MountsUnread bool `json:"mounts_unread,omitempty"`
	// Started is when the first process began, since the host's boot, to
	// hundredths of seconds.
	Started time.Duration `json:"started"`

	userNS string // user:[4026531837]
	drift  driftFacts
}

// User says who the container's processes are on the host.
type User struct {
	UID       uint32    `json:"uid"` // of the first process, effective
	GID       uint32    `json:"gid"`
	Groups    []uint32  `json:"groups"`
	InsideUID int64     `json:"inside_uid"` // the same uid as the container sees it; -1 if it has none
	UIDMap    []IDRange `json:"uid_map"`
	GIDMap    []IDRange `json:"gid_map"`
	// RootIsHostRoot: some id of the container is uid 0 of the host.
	RootIsHostRoot bool `json:"root_is_host_root"`
}

// IDRange is a line of uid_map or gid_map (user_namespaces(7)).
type IDRange struct {
	Inside uint64 `json:"inside"`
	Host   uint64 `json:"host"`
	Count  uint64 `json:"count"`
}

// Capabilities are the five sets of a process, as CAP_ names in the kernel's
// order.
type Capabilities struct {
	Bounding    []string `json:"bounding"`
	Effective   []string `json:"effective"`
	Permitted   []string `json:"permitted"`
	Inheritable []string `json:"inheritable"`
	Ambient     []string `json:"ambient"`
}

// Seccomp is the filter of system calls.
type Seccomp struct {
	Mode    string `json:"mode"` // "disabled", "strict", "filter"
	Filters int    `json:"filters"`
	// Calls says of calls no container needs what the filter does with them:
	// "blocked" or "allowed", by name; "i386/NAME" is the 32-bit call. Empty
	// if the filter could not be read; Unknown says why.
	Calls   map[string]string `json:"calls,omitempty"`
	Unknown string            `json:"unknown,omitempty"`
}

// LSM is the label of a security module.
type LSM struct {
	Module string `json:"module"` // "apparmor", "selinux", "": this host has none
	Label  string `json:"label"`  // the profile, or the SELinux context
	Mode   string `json:"mode"`   // "enforce", "complain", "unconfined", ...; "" without a module
}

// Processes are those of the container's cgroup, and of its pid and mount
// namespaces.
type Processes struct {
	Count int `json:"count"`
	// Wider have more than the first process: an exec with privileges, or a
	// process somebody put into the container.
	Wider []WiderProcess `json:"wider"`
}

// WiderProcess is a process with more rights than the first one.
type WiderProcess struct {
	PID          int      `json:"pid"`
	Command      string   `json:"command"`
	Capabilities []string `json:"capabilities"` // those the first process cannot have
	Lacks        []string `json:"lacks"`        // protections the first process has: "seccomp", "no_new_privileges", "user_namespace", "network_namespace", ...
}

// Root is the root file system.
type Root struct {
	ReadOnly   bool   `json:"read_only"`
	FileSystem string `json:"file_system"`
	HostPath   string `json:"host_path,omitempty"` // if it is the root of the host: "/"
}

// Mounts are what is mounted inside, as far as it matters.
type Mounts struct {
	Count              int         `json:"count"`
	WritableExecutable []string    `json:"writable_executable"` // mount points, without the root
	Host               []HostMount `json:"host"`                // parts of the host's file systems
	Shared             []string    `json:"shared"`              // mounts made there appear on the host
	Receiving          []string    `json:"receiving"`           // mounts of the host appear there
	WritableKernel     []string    `json:"writable_kernel"`     // files of the kernel that change the host
	Unmasked           []string    `json:"unmasked"`            // files of the kernel that tell about the host
}

// HostMount is a file or directory of the host inside a container.
type HostMount struct {
	Target    string `json:"target"`
	Source    string `json:"source"` // path on the host
	Writable  bool   `json:"writable"`
	IDMapped  bool   `json:"id_mapped"`
	Concern   string `json:"concern,omitempty"` // id of the refusal safe-run has for it: "bind-root", "engine-socket"
	GivesAway string `json:"gives_away,omitempty"`
}

// Devices are the device nodes beyond those every container has, and what the
// kernel lets the container do with them.
type Devices struct {
	Nodes []Device `json:"nodes"`
	// Rules is "all" (every device of the host may be opened), "listed", or
	// "unknown".
	Rules string `json:"rules"`
	// Allowed are the rules of cgroup v1 beyond what runtimes always allow, as
	// "c 10:229 rwm".
	Allowed []string `json:"allowed"`
}

// Device is a device node.
type Device struct {
	Path  string `json:"path"`
	Type  string `json:"type"` // "char", "block"
	Major uint32 `json:"major"`
	Minor uint32 `json:"minor"`
	// Denied: the node is there, and the cgroup's rules or the mount (nodev)
	// keep it from being opened.
	Denied bool `json:"denied,omitempty"`
}

// Limits are those in force: of the container's cgroup and those above it,
// the smallest; and of the first process.
type Limits struct {
	Memory    *int64   `json:"memory_bytes"`
	Swap      *int64   `json:"swap_bytes"` // beyond memory
	Pids      *int64   `json:"pids"`
	CPUs      *float64 `json:"cpus"`
	OpenFiles *int64   `json:"open_files"` // hard limit, as the next
	Core      *int64   `json:"core_bytes"`
	// Unknown names those that could not be read: "memory", "swap", ...
	Unknown []string `json:"unknown,omitempty"`
}

// Port is a socket that waits for connections or packets.
type Port struct {
	Protocol string `json:"protocol"` // tcp, tcp6, udp, udp6
	Address  string `json:"address"`
	Port     uint16 `json:"port"`
}

// driftFacts are what only the comparison with a spec needs.
type driftFacts struct {
	caps      capSets
	mounts    map[string]mountEntry // what is on top at each mount point
	truncated bool                  // there are more mounts than that
	paths     map[string]pathState
	rlimits   map[string]rlimit
	unified   bool             // memory is limited by cgroup v2
	ownLimits map[string]int64 // of the container's own cgroup: memory, swap, pids
	// noController: its cgroup has no files for memory or pids.
	noController bool
}

// pathState is how a path of the kernel's can be reached inside.
type pathState int

const (
	pathUnknown pathState = iota
	pathAbsent
	pathHidden
	pathReadOnly
	pathWritable
)

// Neighbour is another live container, for what must not be shared. The
// zero UIDMap is one that is not known; LookNeighbour finds it out.
type Neighbour struct {
	ID     string
	PID    int
	UIDMap []IDRange
	UserNS string // the user namespace, as "user:[4026531837]"
}

// Neighbour gives what others must know of this container.
func (f *Facts) Neighbour(id string) Neighbour {
	return Neighbour{ID: id, PID: f.PID, UIDMap: f.User.UIDMap, UserNS: f.userNS}
}

// maxText bounds a name or path from inside a container.
const maxText = 256

// printable makes a string from inside safe to print, and bounds it.
func printable(s string) string {
	var b strings.Builder
	for i, r := range s {
		if i >= maxText {
			b.WriteString("...")
			break
		}
		if r >= ' ' && r < 0x7f {
			b.WriteRune(r)
			continue
		}
		// Letters of other scripts are kept out too: some turn the direction
		// of what follows, some look like others.
		for _, c := range []byte(s[i:min(len(s), i+runeLen(s[i:]))]) {
			b.WriteString(`\x`)
			b.WriteByte("0123456789abcdef"[c>>4])
			b.WriteByte("0123456789abcdef"[c&15])
		}
	}
	return b.String()
}

func runeLen(s string) int {
	for i := range s {
		if i > 0 {
			return i
		}
	}
	return len(s)
}
