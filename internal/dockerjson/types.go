// Package dockerjson says what is known of a container in the words of
// docker's API (version 1.48): the field names that scripts read. It is pure:
// what is on disk comes in, a value to print goes out.
package dockerjson

// The structs here have the Go names and tags of docker's own, so that a
// template written for docker finds its fields. They are not imported: of the
// module that has them only versions without the fields of 1.48 are made
// (NetworkSettings.IPAddress and its kin).

// Container is a container as `docker inspect` prints it. Times are RFC 3339
// in UTC; one that has not come yet is year 1.
type Container struct {
	ID              string `json:"Id"`
	Created         string
	Path            string   // of the program; Args are its arguments
	Args            []string // never null
	State           *State
	Image           string // digest of the manifest that is run
	ResolvConfPath  string
	HostnamePath    string
	HostsPath       string
	LogPath         string
	Name            string // with a slash before it
	RestartCount    int
	Driver          string
	Platform        string
	MountLabel      string
	ProcessLabel    string
	AppArmorProfile string
	ExecIDs         []string
	HostConfig      *HostConfig
	SizeRw          *int64 `json:",omitempty"` // bytes, only if asked for
	SizeRootFs      *int64 `json:",omitempty"`
	Mounts          []MountPoint
	Config          *Config
	NetworkSettings *NetworkSettings
	SafeRun         *SafeRun // not docker's
}

// State is how a container is.
type State struct {
	Status     string // created, running, paused, restarting, exited or dead
	Running    bool   // also while paused, or between two runs
	Paused     bool
	Restarting bool
	OOMKilled  bool
	Dead       bool
	Pid        int // on the host, 0 while it does not run
	ExitCode   int
	Error      string
	StartedAt  string
	FinishedAt string
	Health     *Health `json:",omitempty"`
}

// Health is what the health checks found.
type Health struct {
	Status        string
	FailingStreak int
	Log           []HealthResult
}

// HealthResult is one check.
type HealthResult struct {
	Start    string
	End      string
	ExitCode int
	Output   string
}

// Config is what the container's program was made from.
type Config struct {
	Hostname     string
	Domainname   string
	User         string
	AttachStdin  bool
	AttachStdout bool
	AttachStderr bool
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Tty          bool
	OpenStdin    bool
	StdinOnce    bool
	Env          []string
	Cmd          []string
	Healthcheck  *Healthcheck `json:",omitempty"`
	Image        string       // as it was typed
	Volumes      map[string]struct{}
	WorkingDir   string
	Entrypoint   []string
	OnBuild      []string
	Labels       map[string]string
	StopSignal   string `json:",omitempty"`
	StopTimeout  *int   `json:",omitempty"` // seconds
}

// Healthcheck is how the health is checked. Times are nanoseconds.
type Healthcheck struct {
	Test          []string `json:",omitempty"`
	Interval      int64    `json:",omitempty"`
	Timeout       int64    `json:",omitempty"`
	StartPeriod   int64    `json:",omitempty"`
	StartInterval int64    `json:",omitempty"`
	Retries       int      `json:",omitempty"`
}

// MountPoint is one mount inside the container.
type MountPoint struct {
	Type        string
	Name        string `json:",omitempty"` // of a volume
	Source      string
	Destination string
	Driver      string `json:",omitempty"`
	Mode        string
	RW          bool
	Propagation string
}

// SafeRun is what docker has no word for.
type SafeRun struct {
	Capabilities  []string // all the program can ever have
	UserNamespace *IDBlock // nil: the host's, by a grant
	Cgroup        string   // below each hierarchy's root
	Egress        *Egress  // nil: anywhere
	Unit          string   // systemd's, that the container runs in
	OnUnhealthy   string
	Notify        string   // when systemd is told that it is ready
	Secrets       []string // their names; the content is nowhere
	Removed       bool     // at its end (--rm)
	Stopped       bool     // by a user, so its policy does not start it again
}

// IDBlock is where the ids of the container lie on the host.
type IDBlock struct {
	HostUID uint32
	HostGID uint32
	Size    uint32
}

// Egress is what a container may connect to.
type Egress struct {
	Mode  string   // none or list
	Allow []string // HOST:PORT/PROTO
}

// NetworkSettings are the addresses and ports of a container. The fields
// before Networks are those of the network its ports are published to.
type NetworkSettings struct {
	Bridge                 string
	SandboxID              string
	SandboxKey             string
	Ports                  map[string][]PortBinding // "80/tcp"; null: exposed, not published
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	SecondaryIPAddresses   []string
	SecondaryIPv6Addresses []string
	EndpointID             string
	Gateway                string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	IPAddress              string
	IPPrefixLen            int
	IPv6Gateway            string
	MacAddress             string
	Networks               map[string]*EndpointSettings
}

// PortBinding is one address and port of the host.
type PortBinding struct {
	HostIP   string `json:"HostIp"`
	HostPort string
}

// EndpointSettings are what a container has of one network.
type EndpointSettings struct {
	IPAMConfig          *EndpointIPAMConfig
	Links               []string
	Aliases             []string
	MacAddress          string
	DriverOpts          map[string]string
	GwPriority          int
	NetworkID           string
	EndpointID          string
	Gateway             string
	IPAddress           string
	IPPrefixLen         int
	IPv6Gateway         string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	DNSNames            []string
}

// EndpointIPAMConfig are the addresses that were asked for.
type EndpointIPAMConfig struct {
	IPv4Address  string   `json:",omitempty"`
	IPv6Address  string   `json:",omitempty"`
	LinkLocalIPs []string `json:",omitempty"`
}
