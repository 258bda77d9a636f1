package cli

import "github.com/safe-run/safe-run/spec"

// Disposition says what becomes of a flag. There is none for "ignored".
type Disposition int

const (
	// Honoured flags do what docker's do.
	Honoured Disposition = iota
	// PolicyChecked flags are parsed into the Workload; at least one of
	// their values is a privilege, which the policy bounds, refuses or grants.
	PolicyChecked
	// Unsupported flags are checked for form, then an error; Flag.Why says
	// the reason.
	Unsupported
	// NoEffect flags are without effect in docker itself. They are accepted
	// with docker's own notice.
	NoEffect
)

// String gives the word used in tables and tests.
func (d Disposition) String() string {
	return [...]string{"honoured", "policy", "unsupported", "no effect"}[d]
}

// Type is the type of a flag's value, in docker's words.
type Type string

// The types of docker run's flags. A list appends per use and never splits on
// commas, a map keeps the last value of a key, ulimit the last of a name; of
// all others the last one given counts.
const (
	Bool     Type = "bool"
	Bytes    Type = "bytes"
	Decimal  Type = "decimal"
	Duration Type = "duration"
	GPUs     Type = "gpu-request"
	Int      Type = "int"
	Int64    Type = "int64"
	IP       Type = "ip"
	List     Type = "list"
	Map      Type = "map"
	Mounts   Type = "mount"
	Network  Type = "network"
	String   Type = "string"
	Uint16   Type = "uint16"
	Uint64   Type = "uint64"
	Ulimit   Type = "ulimit"
)

// Visibility says where a flag is shown.
type Visibility string

// Where a flag is shown: help lists the public ones.
const (
	Public     Visibility = "public"
	Hidden     Visibility = "hidden"
	Deprecated Visibility = "deprecated"
	Windows    Visibility = "windows"
)

// Flag is one long name of the command line.
type Flag struct {
	Long       string
	Short      string // one letter, or ""
	Type       Type
	Repeatable bool
	Visibility Visibility
	Group      string // heading in the help
	Default    string // as shown; "" means none, or the image's
	Arg        string // name of the value in the help; "" for booleans
	Usage      string
	AliasOf    string // long name of the flag this is another spelling of
	Disposition
	Why string // why it is unsupported or has no effect

	optional string // value of a bare --flag that may also take one
	secret   bool   // messages do not repeat the value
	set      setter
}

// setter checks a value and puts it into the workload.
type setter func(p *parser, v string) error

// The groups of the help, in its order.
const (
	groupOurs      = "Only in safe-run"
	groupContainer = "Container"
	groupProcess   = "Process"
	groupTerminal  = "Terminal and signals"
	groupImage     = "Image"
	groupFiles     = "Files and volumes"
	groupLimits    = "Limits"
	groupSecurity  = "Security (bounded by the policy)"
	groupNetwork   = "Network"
	groupHealth    = "Health"
	groupWindows   = "Windows"
)

// Reasons that several flags share.
const (
	whyLink      = "it is docker's old way and opens one container to another; put both on a network made with safe-run network create --icc, where they find each other by name"
	whyLinkLocal = "link-local addresses, where clouds have their metadata services, are closed to containers; use --ip or --ip6"
	whyDriverOpt = "networks here have no drivers; use --sysctl for settings of the container's own network"
	whyWindows   = "it is for Windows containers, and this is Linux"
)

// Table returns every long name of docker run with what becomes of it.
func Table() []Flag {
	return concat(containerFlags(), processFlags(), fileFlags(), limitFlags(), securityFlags(), networkFlags(), superviseFlags())
}

// Own returns the flags docker does not have.
func Own() []Flag {
	return concat([]Flag{
		{
			Long: "dry-run", Type: String, Group: groupOurs, Arg: "json|summary", optional: "json",
			Usage: "Print the final OCI spec, or what differs from docker's defaults, and touch nothing", set: oneOf(func(p *parser) *string { return &p.inv.DryRun }, "json", "summary"),
		},
		{
			Long: "refusals", Type: String, Group: groupOurs, Arg: "text|json", Default: "text",
			Usage: "How refusals are printed", set: oneOf(func(p *parser) *string { return &p.inv.Refusals }, "text", "json"),
		},
		{
			Long: "egress", Type: List, Group: groupOurs, Arg: "none|all|HOST:PORT,...", Default: "all",
			Usage: "Where it may connect to; HOST is a name, an address or ADDRESS/LENGTH, PORT a number, N-M or *, then /udp or /sctp", set: (*parser).setEgress,
		},
		{
			Long: "address", Type: String, Group: groupOurs, Arg: "SOCKET",
			Usage: "Socket of the containerd to use", set: (*parser).setAddress,
		},
		{
			Long: "namespace", Type: String, Group: groupOurs, Arg: "NAME",
			Usage: "containerd namespace to use", set: (*parser).setNamespace,
		},
	}, profileFlags(), ownSuperviseFlags())
}

func concat(parts ...[]Flag) []Flag {
	var all []Flag
	for _, p := range parts {
		for _, f := range p {
			if f.Visibility == "" {
				f.Visibility = Public
			}
			f.Repeatable = f.Repeatable || f.Type == List || f.Type == Map || f.Type == Mounts || f.Type == Ulimit
			all = append(all, f)
		}
	}
	return all
}

func containerFlags() []Flag {
	return []Flag{
		{Long: "rm", Type: Bool, Group: groupContainer, Usage: "Remove the container and its anonymous volumes when it ends", set: boolTo(func(w *spec.Workload) *bool { return &w.Remove })},
		{Long: "name", Type: String, Group: groupContainer, Arg: "NAME", Usage: "Name of the container", set: strTo(func(w *spec.Workload) *string { return &w.Name }, checkName)},
		{Long: "hostname", Short: "h", Type: String, Group: groupContainer, Arg: "NAME", Default: "first 12 digits of the ID", Usage: "Host name inside", set: strTo(func(w *spec.Workload) *string { return &w.Hostname }, checkHostname)},
		{Long: "domainname", Type: String, Group: groupContainer, Arg: "NAME", Usage: "Domain name inside", set: strTo(func(w *spec.Workload) *string { return &w.Domainname }, checkHostname)},
		{Long: "label", Short: "l", Type: List, Group: groupContainer, Arg: "KEY[=VALUE]", Usage: "Label of the container", set: (*parser).setLabel},
		{Long: "label-file", Type: List, Group: groupContainer, Arg: "FILE", Usage: "Read labels from a file, KEY=VALUE lines", set: listVal(func(p *parser) *[]string { return &p.labelFiles }, cleanWord)},
		{Long: "annotation", Type: Map, Group: groupSecurity, Arg: "KEY=VALUE", Usage: "Annotation in the OCI spec", Disposition: PolicyChecked, set: (*parser).setAnnotation},
		{Long: "cidfile", Type: String, Group: groupContainer, Arg: "FILE", Usage: "Write the container's ID to a new file", set: strTo(func(w *spec.Workload) *string { return &w.CIDFile }, clean)},
		{Long: "help", Type: Bool, Group: groupContainer, Usage: "Print this help", set: func(p *parser, v string) error { return parseBool(v, &p.inv.Help) }},
		{Long: "platform", Type: String, Group: groupImage, Arg: "OS[/ARCH[/VARIANT]]", Default: "the host's, or DOCKER_DEFAULT_PLATFORM", Usage: "Platform of the image", set: (*parser).setPlatform},
		{Long: "pull", Type: String, Group: groupImage, Arg: "always|missing|never", Default: "missing", Usage: "When to pull the image", set: (*parser).setPull},
		{Long: "quiet", Short: "q", Type: Bool, Group: groupImage, Usage: "No pull progress", set: boolTo(func(w *spec.Workload) *bool { return &w.Quiet })},
		{Long: "disable-content-trust", Type: Bool, Visibility: Deprecated, Group: groupImage, Default: "true", Usage: "Without effect in docker too", Disposition: NoEffect, Why: "support for docker content trust was removed", set: func(p *parser, v string) error { return parseBool(v, new(bool)) }},
	}
}

func processFlags() []Flag {
	return []Flag{
		{Long: "env", Short: "e", Type: List, Group: groupProcess, Arg: "NAME[=VALUE]", Usage: "Set a variable; NAME alone copies the caller's, or removes it", secret: true, set: (*parser).setEnv},
		{Long: "env-file", Type: List, Group: groupProcess, Arg: "FILE", Usage: "Read variables from a file, NAME[=VALUE] lines", set: listVal(func(p *parser) *[]string { return &p.envFiles }, cleanWord)},
		{Long: "entrypoint", Type: String, Group: groupProcess, Arg: "PROGRAM", Default: "the image's", Usage: "Program to run; empty clears the image's", set: ptrTo(func(w *spec.Workload) **string { return &w.Entrypoint }, clean)},
		{Long: "workdir", Short: "w", Type: String, Group: groupProcess, Arg: "DIR", Default: "the image's", Usage: "Working directory", set: (*parser).setWorkdir},
		{Long: "user", Short: "u", Type: String, Group: groupProcess, Arg: "USER[:GROUP]", Default: "the image's", Usage: "User and group, names or numbers", set: (*parser).setUser},
		{Long: "group-add", Type: List, Group: groupProcess, Arg: "GROUP", Usage: "Further group, name or number", set: listTo(func(w *spec.Workload) *[]string { return &w.GroupAdd }, checkGroup)},
		{Long: "init", Type: Bool, Group: groupProcess, Default: "false", Usage: "Run a small init as PID 1", set: boolPtrTo(func(w *spec.Workload) **bool { return &w.Init })},
		{Long: "interactive", Short: "i", Type: Bool, Group: groupTerminal, Usage: "Keep stdin open", set: boolTo(func(w *spec.Workload) *bool { return &w.Interactive })},
		{Long: "tty", Short: "t", Type: Bool, Group: groupTerminal, Usage: "Allocate a terminal", set: boolTo(func(w *spec.Workload) *bool { return &w.TTY })},
		{Long: "attach", Short: "a", Type: List, Group: groupTerminal, Arg: "STREAM", Default: "stdout and stderr", Usage: "Attach stdin, stdout or stderr", set: (*parser).setAttach},
		{Long: "detach-keys", Type: String, Group: groupTerminal, Arg: "KEYS", Default: "ctrl-p,ctrl-q", Usage: "Keys that leave the terminal", set: ptrTo(func(w *spec.Workload) **string { return &w.DetachKeys }, clean)},
		{Long: "sig-proxy", Type: Bool, Group: groupTerminal, Default: "true", Usage: "Pass signals on to the process", set: boolTo(func(w *spec.Workload) *bool { return &w.SigProxy })},
		{Long: "stop-signal", Type: String, Group: groupTerminal, Arg: "SIGNAL", Default: "the image's, or SIGTERM", Usage: "Signal that stops the container", set: strTo(func(w *spec.Workload) *string { return &w.StopSignal }, checkSignal)},
		{Long: "stop-timeout", Type: Int, Group: groupTerminal, Arg: "SECONDS", Default: "10", Usage: "Seconds until SIGKILL, -1 for ever", set: (*parser).setStopTimeout},
	}
}

func fileFlags() []Flag {
	return []Flag{
		{Long: "volume", Short: "v", Type: List, Group: groupFiles, Arg: "[SRC:]DST[:MODE]", Usage: "Bind a path or a volume; modes ro, rw, exec, nocopy, z, Z, propagation", Disposition: PolicyChecked, set: (*parser).setVolume},
		{Long: "mount", Type: Mounts, Group: groupFiles, Arg: "KEY=VALUE,...", Usage: "Mount of type bind, volume, tmpfs or image", Disposition: PolicyChecked, set: (*parser).setMount},
		{Long: "tmpfs", Type: List, Group: groupFiles, Arg: "DST[:OPTIONS]", Usage: "Mount a tmpfs; options size, mode, uid, gid, exec, ...", Disposition: PolicyChecked, set: (*parser).setTmpfs},
		{Long: "read-only", Type: Bool, Group: groupFiles, Default: "true", Usage: "Root file system read-only", Disposition: PolicyChecked, set: boolPtrTo(func(w *spec.Workload) **bool { return &w.ReadOnly })},
		{Long: "shm-size", Type: Bytes, Group: groupFiles, Arg: "SIZE", Default: "64m", Usage: "Size of /dev/shm", Disposition: PolicyChecked, set: (*parser).setShmSize},
		{Long: "volumes-from", Type: List, Group: groupSecurity, Arg: "CONTAINER[:MODE]", Usage: "Use the volumes of another container", Disposition: PolicyChecked, set: (*parser).setVolumesFrom},
		{Long: "volume-driver", Type: String, Group: groupFiles, Arg: "local", Default: "local", Usage: "Driver of new volumes", set: (*parser).setVolumeDriver},
		{Long: "storage-opt", Type: List, Group: groupFiles, Arg: "KEY=VALUE", Usage: "Storage driver option", Disposition: Unsupported, Why: "containerd's snapshotters keep no quota per container; the root file system is read-only here, and what can be written is bounded by --tmpfs DST:size=SIZE and --shm-size", set: (*parser).setStorageOpt},
	}
}
