package spec

import (
	"io/fs"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Image is what the configuration of the image asks for. All of it is hostile
// input; Build validates what it uses.
type Image struct {
	Name       string // normalised reference the user asked for
	Digest     string // digest of the manifest that is run
	Target     string // digest the name points to: an index, or the manifest itself
	ChainID    string // snapshot key of the unpacked layers
	OS, Arch   string
	User       string
	Env        []string
	Entrypoint []string
	Cmd        []string
	Workdir    string
	Volumes    []string
	StopSignal string
	Exposed    []PortRange
	Labels     map[string]string
	Created    time.Time
	Health     Healthcheck // HEALTHCHECK; the zero value if there is none
	Shell      []string    // SHELL, for the line of a health check; nil is /bin/sh -c
}

// Features is what this host can do, probed once. The code asks this value,
// never the kernel in passing.
type Features struct {
	Arch        string // GOARCH
	Kernel      [2]int // major, minor
	CgroupV2    bool
	Controllers map[string]bool // cgroup controllers that can be used: memory, pids, cpu, cpuset, blkio|io, devices
	SwapLimit   bool            // memory+swap can be limited
	AppArmor    bool
	SELinux     bool
	Seccomp     bool
	CPUs        int    // online CPUs
	CPUSet      string // online CPUs in list form, "0-3"
	MemSet      string // online memory nodes, "0"
	NofileHard  uint64 // hard RLIMIT_NOFILE of the launcher; a container cannot have more
	HasResource bool   // the launcher holds CAP_SYS_RESOURCE
	OOMScoreAdj int    // the launcher's oom_score_adj if it could not be lowered, without CAP_SYS_RESOURCE; else 0
	TimeNS      bool
	IPv6        bool     // the kernel has it, so that its settings can be written
	MaskPaths   []string // existing per-CPU thermal_throttle directories, added to the masked paths
}

// User is a USER or --user value resolved against the image's own passwd and
// group files.
type User struct {
	UID, GID   uint32
	Additional []uint32
	Home       string
	Name       string // user name, empty if only a number
}

// IDBlock is a container's own block of subordinate ids, uid and gid alike.
type IDBlock struct {
	HostUID uint32 // first host uid
	HostGID uint32 // first host gid
	Size    uint32 // number of ids, 65536
}

// Source says what a bind source (or device) on the host is, seen through a
// held O_PATH descriptor: facts, no verdict. The policy judges it.
type Source struct {
	Asked    string      // path as typed, absolute
	Real     string      // canonical path
	Runtime  string      // path the runtime must use: /proc/PID/fd/N of the held descriptor
	Mode     fs.FileMode // type and permission bits
	Dev      uint64
	Ino      uint64
	UID, GID uint32
	Rdev     uint64 // for device nodes
	FS       string // filesystem type, as in mountinfo
	Magic    int64  // statfs f_type
	// Aliases are all host paths under which the same object can be reached:
	// Real, and its spellings through other mounts of the same filesystem.
	Aliases []string
	// Above are the well-known sensitive paths that are this object or lie
	// below it, found by identity (device and inode), not by spelling.
	Above []string
	// Sockets are control sockets found at or below the object (bounded walk).
	Sockets []string
	// WalkTruncated: the bounded walk for sockets did not see everything.
	WalkTruncated bool
	Err           string // why the facts could not be had ("" if they could); the policy refuses
	NotExist      bool   // Err because the path does not exist
	// MagicLink: the path went through a magic link of procfs.
	MagicLink bool
	// Denied: the user on whose behalf it was opened may not open it, or may
	// not read or (for a writable bind) write it. All else here was then found
	// with the rights of this process.
	Denied bool
	// Links are the symbolic links on the way to it.
	Links []SourceLink
	// Submounts are the mounts below the object, which a recursive bind takes
	// along, and the parts of it that are mounted elsewhere on the host.
	Submounts []Submount
	// Overlay is the mount point of an overlay (another container's root,
	// usually) whose writable layer is this object, lies in it or holds it.
	Overlay string
}

// SourceLink is a symbolic link that was followed.
type SourceLink struct {
	Path string
	UID  uint32 // its owner, who chose where it leads
}

// Submount is a part of a Source that has other names on the host.
type Submount struct {
	Path    string   // where it is below the source
	FS      string   // filesystem type
	Aliases []string // host paths of the same object, or of parts of it
	Mounted bool     // a mount: only a recursive bind takes it along
}

// Grants are the privileges beyond the built-in defaults that the site's
// policy allowed for this workload. The zero value grants nothing.
type Grants struct {
	Capabilities       []string // CAP_ names outside the free list
	Devices            []specs.LinuxDevice
	DevicePerms        map[string]string // device path inside -> rwm
	HostUserNS         bool              // asked for, or needed by a capability that is
	HostNetwork        bool
	HostPID            bool
	HostIPC            bool
	HostUTS            bool
	UnconfinedSeccomp  bool
	UnconfinedAppArmor bool
	NamedAppArmor      bool // a profile the site has loaded, by --security-opt apparmor=NAME
	LabelDisable       bool
	NewPrivileges      bool
	WritableRootfs     bool
	Binds              []string // canonical sources allowed beyond the built-in rules
	Sysctls            []string
	Annotations        []string
	UnlimitedMemory    bool
	UnlimitedPids      bool
	IDs                []string // catalogue ids that were lifted, for --dry-run and labels
}

// Limits are the defaults and maxima in force (built-in, or the site's).
// Zero in a Max field means no maximum of the site's.
type Limits struct {
	Memory, MaxMemory int64 // bytes
	Pids, MaxPids     int64
	Nofile, MaxNofile int64
	Shm, MaxShm       int64 // bytes
	Tmpfs, MaxTmpfs   int64 // bytes, each tmpfs
	TmpfsInodes       int64 // each tmpfs
	MaxCPUs           float64
	MaxLog            int64 // bytes, all log files of a container
}

// DefaultLimits are the built-in limits of every container.
func DefaultLimits() Limits {
	return Limits{
		Memory: 512 << 20,
		Pids:   256, Nofile: 65536, MaxNofile: 1 << 20,
		Shm: 64 << 20, Tmpfs: 64 << 20, TmpfsInodes: 65536, MaxLog: 1 << 30,
	}
}

// HostFiles are the generated files bound into the container, as host paths.
type HostFiles struct {
	Hosts, Hostname, ResolvConf string
	Init                        string // static init for --init, or ""

	// Secrets is the directory of the files of Workload.Secrets, on a memory
	// file system, "" if there are none.
	Secrets string
	// Notify is a UNIX datagram socket that passes on what the program says to
	// systemd, with NotifyContainer only.
	Notify string
	// Activate is the static program, and ActivateSocket the UNIX stream
	// socket, by which the program gets the listening sockets of the unit;
	// both or neither.
	Activate, ActivateSocket string
	// ActivateFenced keeps the program from making connections of its own: with
	// a listening socket of the host it could reach the host's network.
	ActivateFenced bool
}

// ResolvedMount is a Mount whose content has a place on the host.
type ResolvedMount struct {
	Mount
	HostPath string // bind, volume, image: path for the runtime; "" for tmpfs
	IsFile   bool   // the source is not a directory
	// Mapped: the mount at HostPath is idmapped for the container already, so
	// the runtime need not (containerd would ask it for its features at each start).
	Mapped bool
}

// Input is all Build looks at. Build is pure: the same Input gives the same
// spec.
type Input struct {
	ID                              string // 64 hex digits
	Workload                        Workload
	Image                           Image
	User                            User
	IDs                             IDBlock
	Host                            Features
	Limits                          Limits
	Grants                          Grants
	Mounts                          []ResolvedMount // user mounts and image volumes, without the defaults
	Files                           HostFiles
	AppArmorProfile                 string // name of the loaded profile, "" where the kernel has no AppArmor
	SELinuxLabel, SELinuxMountLabel string

	// CgroupParent is the cgroup of the systemd unit delegated to us, as in
	// /proc/self/cgroup; "" is our own root. cgroup v2 only.
	CgroupParent string

	// JoinNetwork is the network namespace of the container:REF to join, as
	// /proc/PID/fd/N of a descriptor the caller holds until the container has
	// started. "" is one of its own, or the host's by grant.
	JoinNetwork string
	// JoinSysfs is the host path of a sysfs of that namespace, nothing mounted
	// below it: root of the host can mount one, being in that namespace; the
	// container, in its own user namespace, cannot.
	JoinSysfs string

	// DeviceSources gives for each granted device, by its path inside, the
	// host path for the runtime: /proc/PID/fd/N of a held descriptor.
	DeviceSources map[string]string
	// BlockDevices gives the device numbers (st_rdev) of the paths named by
	// --device-read-bps and its kin.
	BlockDevices map[string]uint64
}
