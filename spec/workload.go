package spec

// Workload is what somebody asked for, after parsing and before any decision:
// the command line of safe-run, field by field. It is plain data; nothing in
// it has been checked against the host, the image or the site's policy.
//
// A nil pointer or empty slice means "not given", so defaults are applied in
// one place only (Build).
type Workload struct {
	Image    string   // reference as typed
	Args     []string // words after the image
	Platform string   // os[/arch[/variant]], empty: the host's
	Pull     string   // "always", "missing" or "never"
	Quiet    bool     // no pull progress

	Name        string
	Hostname    string
	Domainname  string
	Labels      map[string]string
	Annotations map[string]string

	Entrypoint *string // nil: the image's; "" clears it
	Workdir    string
	Env        []EnvVar // env files first, then -e; a later entry of a name wins
	User       string   // name|uid[:group|gid]
	GroupAdd   []string
	Init       *bool

	Interactive bool
	TTY         bool
	Attach      []string // lower case: stdin, stdout, stderr
	DetachKeys  *string
	SigProxy    bool
	Detach      bool

	Remove      bool
	CIDFile     string
	StopSignal  string
	StopTimeout *int // seconds; -1 waits for ever

	Mounts       []Mount // -v, --mount, --tmpfs, in the order given
	VolumesFrom  []string
	VolumeDriver string
	StorageOpts  map[string]string
	ReadOnly     *bool
	ShmSize      *int64 // bytes

	Privileged        bool
	CapAdd            []string // as typed
	CapDrop           []string
	SecurityOpts      []string     // as typed, KEY[=VALUE] or KEY:VALUE
	Seccomp           *SeccompFile // content of a seccomp=FILE option
	AppArmor          *AppArmorRules
	Devices           []Device
	DeviceCgroupRules []string
	GPUs              string
	Sysctls           map[string]string
	Runtime           string
	UseAPISocket      bool

	PIDMode      string // "", "host", "container:ID"
	IPCMode      string
	UTSMode      string
	UserNSMode   string
	CgroupNSMode string
	CgroupParent string

	Networks   []NetworkUse // the command line always gives one; empty is none
	NetworkSet bool         // --network was given
	AddHosts   []string     // NAME:IP, or NAME:host-gateway
	DNS        []string     // addresses
	DNSSearch  []string
	DNSOptions []string
	Publish    []Publish
	PublishAll bool
	Expose     []PortRange
	Egress     Egress

	Ulimits   []Ulimit
	Resources Resources

	OOMKillDisable bool
	OOMScoreAdj    *int

	Restart         RestartPolicy
	Health          Healthcheck // fields given replace the image's
	HealthOnFailure string      // "" is OnFailureNone
	LogDriver       string      // "", json-file, journald, none or passthrough
	LogOpts         map[string]string
	SDNotify        string // "" is NotifyStarted
	Secrets         []Secret

	// Profile is the name of the embedded or the site's profile it comes from,
	// for the site's grants; "" if there is none, or it is a file of the caller's.
	Profile string
}

// EnvVar is one -e or env-file entry. A nil Value removes the variable.
type EnvVar struct {
	Name  string
	Value *string
}

// AppArmorProfile is the AppArmor profile that the last of the security options
// names, "unconfined" among them; "" if none does.
func (w Workload) AppArmorProfile() (name string) {
	for _, typed := range w.SecurityOpts {
		if key, value := cutOption(typed); key == "apparmor" {
			name = value
		}
	}
	return name
}

// MountType says where the content of a Mount comes from.
type MountType string

// The mount types docker's --mount knows and this project honours.
const (
	MountBind   MountType = "bind"
	MountVolume MountType = "volume"
	MountTmpfs  MountType = "tmpfs"
	MountImage  MountType = "image"
)

// Mount is one mount as asked for, in whatever spelling (Origin).
type Mount struct {
	Origin string // "-v", "--mount", "--tmpfs", "image VOLUME", "default": where it was spelled, for messages
	Type   MountType
	Source string // bind: absolute host path; volume: name ("" = anonymous); image: reference; tmpfs: ""
	Target string // absolute path inside, cleaned

	ReadOnly     bool
	Exec         bool   // the mount said "exec"
	NonRecursive bool   // bind-recursive=disabled
	Propagation  string // as typed: "", "rprivate", "shared", ...
	Relabel      string // "", "z" or "Z"
	Chown        bool   // podman's :U, :O and friends are kept as typed in Unknown; Chown is :U
	NoCopy       bool
	Subpath      string // volume-subpath, image-subpath
	Driver       string
	DriverOpts   map[string]string
	Labels       map[string]string

	Tmpfs TmpfsOptions
}

// TmpfsOptions are the options of a tmpfs mount; zero values mean not given.
type TmpfsOptions struct {
	Size    int64   // bytes, 0: default
	SizePct int     // size=N% of memory as typed, 0: not given
	Mode    *uint32 // permission bits incl. sticky
	UID     *uint32
	GID     *uint32
	Inodes  int64    // nr_inodes
	Flags   []string // remaining mount flags as typed, in order: exec, suid, dev, rw, ro, noatime, mpol=..., nr_blocks=...
}

// Device is one --device value.
type Device struct {
	Raw         string
	Host        string // path on the host, or CDI name
	Container   string // path inside, absolute
	Permissions string // subset of rwm
	CDI         bool
}

// SeccompFile is a user's seccomp profile in docker's JSON, read by the
// command line with the caller's rights.
type SeccompFile struct {
	Path string
	JSON []byte
}

// AppArmorRules narrow the built-in AppArmor profile to some files, and to the
// capabilities the container has.
type AppArmorRules struct {
	Files []AppArmorFile // instead of all files
}

// AppArmorFile is a path with * and **, and a subset of the letters rwklmix of
// apparmor.d(5).
type AppArmorFile struct{ Path, Access string }

// Ulimit is one --ulimit. -1 is unlimited. Name is docker's ("nofile").
type Ulimit struct {
	Name       string
	Soft, Hard int64
}

// Throttle is DEVICE:RATE of --device-read-bps and its three siblings.
type Throttle struct {
	Path string
	Rate uint64 // bytes or operations per second
}

// WeightDevice is DEVICE:WEIGHT of --blkio-weight-device.
type WeightDevice struct {
	Path   string
	Weight uint16
}

// Resources are the cgroup limits asked for. Sizes are bytes, times are
// microseconds. A nil pointer means not given.
type Resources struct {
	Memory                                 *int64
	MemoryReservation                      *int64
	MemorySwap                             *int64 // memory plus swap; -1 unlimited
	MemorySwappiness                       *int64
	KernelMemory                           *int64
	PidsLimit                              *int64
	NanoCPUs                               *int64 // --cpus in 1e-9 CPUs
	CPUShares                              *int64
	CPUPeriod                              *int64
	CPUQuota                               *int64
	CPURTPeriod                            *int64
	CPURTRuntime                           *int64
	CPUSetCPUs                             string
	CPUSetMems                             string
	BlkioWeight                            *uint16
	BlkioWeightDevice                      []WeightDevice
	ReadBPS, WriteBPS, ReadIOPS, WriteIOPS []Throttle
}
