package profiles

import "time"

// Profile is what an application asks for: the content of a profile file. It
// grants nothing by itself: it stands for flags of the command line
// (see Flags), which the site's policy judges like typed ones.
//
// An entry of a list of which only the field marked short is given may be
// written as that alone: capabilities: [CHOWN].
type Profile struct {
	Version     int    `yaml:"version"` // of the format: 1
	Name        string `yaml:"name,omitempty"`
	Description string `yaml:"description,omitempty"`
	// Image is the repository, or REPOSITORY@sha256:DIGEST, the profile is for;
	// with another image it is refused. "": any.
	Image string `yaml:"image,omitempty"`
	// For are the last parts of repository names ("nginx") for which a hint
	// names this profile. Nothing is ever applied because of it.
	For []string `yaml:"for,omitempty"`

	Capabilities []Capability `yaml:"capabilities,omitempty"`
	Seccomp      *SeccompUse  `yaml:"seccomp,omitempty"`
	AppArmor     *AppArmorUse `yaml:"apparmor,omitempty"`
	Writable     []Writable   `yaml:"writable,omitempty"`
	Binds        []Bind       `yaml:"binds,omitempty"`
	Devices      []Device     `yaml:"devices,omitempty"`
	Ports        []Port       `yaml:"ports,omitempty"`
	Network      string       `yaml:"network,omitempty"` // as --network
	Egress       []Egress     `yaml:"egress,omitempty"`  // as --egress; one entry "none" closes it
	Sysctls      []Sysctl     `yaml:"sysctls,omitempty"`
	User         string       `yaml:"user,omitempty"`   // as --user
	UserNS       string       `yaml:"userns,omitempty"` // "host", which needs the site's grant
	Limits       Limits       `yaml:"limits,omitempty"`
	Health       *Health      `yaml:"health,omitempty"`
	StopSignal   string       `yaml:"stop-signal,omitempty"`
	StopTimeout  *int         `yaml:"stop-timeout,omitempty"` // seconds

	Recorded []Recorded `yaml:"recorded,omitempty"` // where it comes from
}

// Evidence says how a right is known to be needed. It is for people; nothing
// is decided by it.
type Evidence struct {
	Count   uint64 `yaml:"count,omitempty"`   // times it was seen used
	Process string `yaml:"process,omitempty"` // command name of the process
	Call    string `yaml:"call,omitempty"`    // system call, and path if it has one
	Proof   string `yaml:"proof,omitempty"`   // what happened without the right; "" was not tried
}

// Capability is one capability, CHOWN or CAP_CHOWN.
type Capability struct {
	Name     string    `yaml:"name,short"`
	Why      string    `yaml:"why,omitempty"`
	Evidence *Evidence `yaml:"evidence,omitempty"`
}

// SeccompUse is a narrower filter: a file in docker's JSON beside the profile, or
// the names of the permitted system calls. It never permits what the built-in
// filter does not.
type SeccompUse struct {
	File  string   `yaml:"file,omitempty"` // relative to the profile's directory
	Allow []string `yaml:"allow,omitempty"`
	Why   string   `yaml:"why,omitempty"`
}

// AppArmorUse is a narrower AppArmor profile: the name of one the site has
// loaded, or rules that replace "any file" and "any capability" of the
// built-in one.
type AppArmorUse struct {
	Name  string         `yaml:"name,omitempty"`
	Files []AppArmorFile `yaml:"files,omitempty"`
	Why   string         `yaml:"why,omitempty"`
}

// AppArmorFile is one rule on files: a path, in which * stands for any name,
// ** for any path, and the letters of apparmor.d(5), a subset of rwklmix.
type AppArmorFile struct {
	Path   string `yaml:"path"`
	Access string `yaml:"access"`
}

// Writable is a directory the application writes to.
type Writable struct {
	Path string `yaml:"path,short"`
	// Volume is the name of a volume; "anonymous" is one without a name. "" is
	// a tmpfs.
	Volume   string    `yaml:"volume,omitempty"`
	Size     string    `yaml:"size,omitempty"` // of a tmpfs, as --tmpfs size=
	Mode     string    `yaml:"mode,omitempty"` // of a tmpfs, octal
	UID      *uint32   `yaml:"uid,omitempty"`  // of a tmpfs
	GID      *uint32   `yaml:"gid,omitempty"`
	Exec     bool      `yaml:"exec,omitempty"` // what is written may be executed
	Why      string    `yaml:"why,omitempty"`
	Evidence *Evidence `yaml:"evidence,omitempty"`
}

// Bind is a path of the host. It is read-only unless said otherwise.
type Bind struct {
	Source   string `yaml:"source"`
	Target   string `yaml:"target"`
	Writable bool   `yaml:"writable,omitempty"`
	Why      string `yaml:"why,omitempty"`
}

// Device is a character device.
type Device struct {
	Path        string `yaml:"path,short"`
	Target      string `yaml:"target,omitempty"`
	Permissions string `yaml:"permissions,omitempty"` // subset of rwm
	Why         string `yaml:"why,omitempty"`
}

// Port is a port the application listens on: PORT[/PROTO] is exposed,
// [ADDRESS:]HOSTPORT:PORT[/PROTO] is published, as with -p.
type Port struct {
	Port     string    `yaml:"port,short"`
	Why      string    `yaml:"why,omitempty"`
	Evidence *Evidence `yaml:"evidence,omitempty"`
}

// Egress is one HOST:PORT[/PROTO] of --egress, or the word none.
type Egress struct {
	To  string `yaml:"to,short"`
	Why string `yaml:"why,omitempty"`
}

// Sysctl is one --sysctl.
type Sysctl struct {
	Name  string `yaml:"name"`
	Value string `yaml:"value"`
	Why   string `yaml:"why,omitempty"`
}

// Limits are the resources the application needs; "" and 0 are the defaults.
type Limits struct {
	Memory string  `yaml:"memory,omitempty"` // as --memory
	Pids   int64   `yaml:"pids,omitempty"`
	Nofile int64   `yaml:"nofile,omitempty"`
	Shm    string  `yaml:"shm,omitempty"` // as --shm-size
	CPUs   float64 `yaml:"cpus,omitempty"`
	Why    string  `yaml:"why,omitempty"`
}

// Health is the health check, docker's flags.
type Health struct {
	Command     string `yaml:"command"` // as --health-cmd
	Interval    string `yaml:"interval,omitempty"`
	Timeout     string `yaml:"timeout,omitempty"`
	StartPeriod string `yaml:"start-period,omitempty"`
	Retries     int    `yaml:"retries,omitempty"`
}

// Recorded says where a learned profile comes from.
type Recorded struct {
	Date   time.Time `yaml:"date"`
	Tool   string    `yaml:"tool,omitempty"`   // name and version
	Kernel string    `yaml:"kernel,omitempty"` // release
	Image  string    `yaml:"image,omitempty"`  // reference with digest
	Check  string    `yaml:"check,omitempty"`  // command that had to succeed
	Proved bool      `yaml:"proved,omitempty"` // each right was taken away in turn
	Lost   uint64    `yaml:"lost,omitempty"`   // events the recorder could not keep
}
