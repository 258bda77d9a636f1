// Package doctor says what this host can enforce on containers, and how to
// get what it cannot. Gather asks the host, Judge is pure.
package doctor

import (
	"fmt"

	"github.com/safe-run/safe-run/spec"
)

// Level is what a check means for launches.
type Level int

// From best to worst.
const (
	OK   Level = iota
	Note       // something is not there that few want
	Warn       // weaker than it could be, or a part of safe-run does not work
	Fail       // launches are refused
)

// String is "ok", "note", "warn" or "fail".
func (l Level) String() string { return [...]string{"ok", "note", "warn", "fail"}[l] }

// MarshalText is String.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Check is the verdict on one thing.
type Check struct {
	Area  string `json:"area"` // kernel, cgroups, users, ...
	ID    string `json:"id"`   // stable
	Level Level  `json:"level"`
	Found string `json:"found"`         // what there is, in one line
	Fix   string `json:"fix,omitempty"` // how to get what there is not; only if Level is not OK
}

// Facts are what Gather found. An error is a text, "" if there was none.
type Facts struct {
	Features spec.Features
	Release  string // of the kernel
	Root     bool   // this process is root of the host; without, half of the rest is unknown

	Engine  Engine
	Storage Storage
	Users   Users
	LSM     LSM
	Net     Net
	Learn   Learn
	Dirs    []Dir
	Policy  string // error of reading the site's policy
	Systemd bool   // systemd is the init of this host
	Init    string // path of the program for --init, "" if there is none
	Sysctls map[string]string
}

// Engine is containerd and the runtime below it.
type Engine struct {
	Address  string // of the containerd that a launch would use
	Running  bool
	Own      bool   // safe-run's own, started when it is needed
	Version  string // of containerd; "" if it does not run
	Old      string // error: containerd is below the floor
	Runtime  string // path of runc
	TooOld   string // error: runc is below the floor, or lacks features
	Problem  string // error: no containerd, or none that answers
	Remap    string // yes, no: the snapshotter idmaps layers; "" if unknown
	AllowOld bool   // the site's policy says allow-old-runtime
}

// Storage is where images, volumes and binds lie.
type Storage struct {
	Overlay bool         // the kernel has overlayfs
	Idmap   []Filesystem // the file systems of this host, each once
	Space   []Space
}

// Filesystem is one that is mounted, and whether a mount of it can be given
// the ids of a container (mount_setattr(2), MOUNT_ATTR_IDMAP).
type Filesystem struct {
	Path, Type string
	Error      string // "" if it can
}

// Space is how much is free where safe-run writes.
type Space struct {
	Path   string
	Bytes  uint64
	Inodes uint64 // 0 with Total 0: the file system has no fixed number
	Total  uint64 // inodes
}

// Users are the ids that containers get.
type Users struct {
	MaxUserNS string // /proc/sys/user/max_user_namespaces
	Entry     bool   // /etc/subuid and /etc/subgid have an entry for safe-run
	Blocks    int    // of 65536 ids that are free of other owners
	Error     string
}

// LSM is the state of AppArmor and SELinux.
type LSM struct {
	Parser  string // path of apparmor_parser, "" if there is none
	SELinux string // enforcing, permissive; "" if off
}

// Net is what containers' networks stand on.
type Net struct {
	NFTables string   // error of asking for the tables
	Denied   bool     // that error: this process may not ask
	Cut      []string // chains of others through which forwarded packets do not get
	Legacy   bool     // rules of the older iptables exist
	Forward4 string   // /proc/sys/net/ipv4/ip_forward
	Forward6 string   // the same of IPv6
	IPv6     bool
}

// Learn is what learn, --explain and --complain need.
type Learn struct {
	BTF      bool   // the kernel describes its types
	Recorder string // error of loading the recorder
}

// Dir is a directory that only root may change.
type Dir struct {
	Path    string
	Problem string // "" if nobody else gets in
}

// Judge makes the checks of the facts, in a fixed order.
func Judge(f Facts) []Check {
	var all []Check
	for _, part := range []func(Facts) []Check{
		kernel, cgroups, users, storage, engine, lsm, network, directories, learning, rest,
	} {
		all = append(all, part(f)...)
	}
	return all
}

// Worst is the highest level.
func Worst(checks []Check) Level {
	w := OK
	for _, c := range checks {
		w = max(w, c.Level)
	}
	return w
}

// list makes checks of one area.
type list struct {
	area string
	all  []Check
}

func (l *list) add(level Level, id, fix, format string, args ...any) {
	if level == OK {
		fix = ""
	}
	l.all = append(l.all, Check{Area: l.area, ID: id, Level: level, Found: fmt.Sprintf(format, args...), Fix: fix})
}

// either adds one of two: good if ok, and otherwise bad at the given level.
func (l *list) either(ok bool, level Level, id, good, bad, fix string) {
	if ok {
		l.add(OK, id, "", "%s", good)
		return
	}
	l.add(level, id, fix, "%s", bad)
}
