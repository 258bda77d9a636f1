package policy

import (
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/safe-run/safe-run/spec"
)

// kernelFS are the filesystems whose files are the kernel, not data (statfs
// f_type of linux/magic.h, and the names the mount table uses).
func kernelFS() map[string]int64 {
	return map[string]int64{
		"proc": 0x9fa0, "sysfs": 0x62656572, "devpts": 0x1cd1, "cgroup": 0x27e0eb, "cgroup2": 0x63677270,
		"nsfs": 0x6e736673, "tracefs": 0x74726163, "debugfs": 0x64626720, "bpf": 0xcafe4a11, "securityfs": 0x73636673,
		"pstore": 0x6165676c, "efivarfs": 0xde5e81e4, "configfs": 0x62656570, "selinuxfs": 0xf97cff8c, "smackfs": 0x43415d53,
		"binfmt_misc": 0x42494e4d, "fusectl": 0x65735543, "rpc_pipefs": 0x67596969, "nfsd": 0x6e667364, "xenfs": 0xabba1974,
		"resctrl": 0x7655821, "sockfs": 0x534f434b, "pipefs": 0x50495045, "anon_inodefs": 0x09041934, "devtmpfs": -1,
		"mqueue": 0x19800202, "functionfs": -1, "binder": 0x6c6f6f70, "openpromfs": 0x9fa1, "autofs": 0x0187,
	}
}

func isKernelFS(name string, magic int64) bool {
	for fsName, m := range kernelFS() {
		if name == fsName || magic == m {
			return true
		}
	}
	return false
}

// concern is one thing wrong with a bind source.
type concern struct {
	rule string
	why  string // in place of the rule's words
	note string // after them
}

// sourceConcern judges one bind source: the most serious thing there is to say
// about it, so that every spelling of a source gives the same answer.
func sourceConcern(table []guard, m spec.Mount, s spec.Source) (concern, bool) {
	writable := !m.ReadOnly
	names := namesOf(s)
	if slices.Contains(names, "/") {
		return concern{rule: "bind-root"}, true
	}
	for _, sock := range s.Sockets {
		if isEngineSocket(sock, s) {
			return concern{rule: "engine-socket", why: "the control socket " + shown(sock) + ": who can connect is root of the host"}, true
		}
	}
	if s.Real == "" {
		if s.NotExist {
			return concern{rule: "bind-missing", why: "nothing: " + sanitized(s.Err)}, true
		}
		return concern{rule: "bind-unreadable", why: "it cannot be told what it is: " + sanitized(s.Err)}, true
	}
	if c, hit := kindConcern(s); hit {
		return c, true
	}
	if s.Overlay != "" {
		return concern{rule: "bind-container-store", why: "the writable layer of the overlay mounted at " + shown(s.Overlay)}, true
	}
	if c, hit := nameConcern(table, names, writable); hit {
		return c, true
	}
	if c, hit := submountConcern(table, m, s); hit {
		return c, true
	}
	if len(s.Sockets) > 0 {
		return concern{rule: "socket", why: "the service that listens on " + shown(s.Sockets[0]) + ", which trusts local callers"}, true
	}
	switch {
	case s.MagicLink:
		return concern{rule: "bind-magic-link"}, true
	case s.Err != "":
		return concern{rule: "bind-unreadable", why: "it cannot be told what it is: " + sanitized(s.Err)}, true
	}
	return concern{}, false
}

// linkConcern judges the links on the way. Who owns one chooses what is bound:
// that may be root, the caller, and who has what it leads to anyway. Who owns
// the directories does not matter then, as no other object of somebody else's
// can be put into them.
func linkConcern(s spec.Source, caller uint32) concern {
	for _, l := range s.Links {
		if l.UID != 0 && l.UID != caller && l.UID != s.UID {
			return concern{rule: "bind-link", why: "the choice of what is bound to uid " + uid(l.UID) + ", who owns the link " + shown(l.Path)}
		}
	}
	return concern{}
}

func uid(id uint32) string { return strconv.FormatUint(uint64(id), 10) }

// namesOf are all names by which the table is asked. A known path that lies
// below a name is found by the table itself; one that does not is a hard link
// to it or a part of the source mounted elsewhere.
func namesOf(s spec.Source) []string {
	names := appendNew(slices.Clone(s.Aliases), s.Real)
	by := len(names)
	for _, known := range s.Above {
		below := slices.ContainsFunc(names[:by], func(n string) bool { return relate(known, n) == inside })
		if !below {
			names = appendNew(names, known)
		}
	}
	return names
}

// isEngineSocket knows the sockets by name and place, and by the names they
// have in other places.
func isEngineSocket(sock string, s spec.Source) bool {
	if slices.Contains(engineSockets(), sock) {
		return true
	}
	base := sock[strings.LastIndexByte(sock, '/')+1:]
	for _, known := range engineSockets() {
		// "unix.socket" and "kubelet.sock" say too little by themselves.
		if base == known[strings.LastIndexByte(known, '/')+1:] && base != "unix.socket" && base != "metrics.sock" && base != "debug.sock" {
			return true
		}
	}
	for _, alias := range s.Aliases {
		if slices.Contains(engineSockets(), alias) {
			return true
		}
	}
	return strings.HasPrefix(sock, "/run/containerd/s/") // sockets of the shims
}

// kindConcern judges by file type and filesystem.
func kindConcern(s spec.Source) (concern, bool) {
	switch {
	case s.FS == "autofs":
		return concern{rule: "bind-unreadable", why: "an automount point that is not mounted; look into it once (ls) and try again"}, true
	case s.Mode&fs.ModeDevice != 0:
		return concern{rule: "bind-device"}, true
	case s.Mode&fs.ModeNamedPipe != 0:
		return concern{rule: "bind-fifo"}, true
	case isKernelFS(s.FS, s.Magic):
		return concern{rule: "bind-kernel", why: "the kernel's own files (" + shown(s.FS) + "), which change or reveal the host"}, true
	}
	return concern{}, false
}

// nameConcern judges all names of a source by the table and gives the most
// serious answer.
func nameConcern(table []guard, names []string, writable bool) (concern, bool) {
	best, found := verdict{}, false
	for _, name := range names {
		if v, _ := judgeName(table, name, writable); v.before(best) { // as nothing found does not
			best, found = v, true
		}
	}
	if !found {
		return concern{}, false
	}
	c := concern{rule: best.rule}
	switch {
	case best.rel == above:
		c.note = "it holds " + best.pattern
	case best.rel == inside && best.access == write:
		c.note = "writable, in " + best.pattern
	case best.rel == inside:
		c.note = "it lies in " + best.pattern
	case best.access == write:
		c.note = "writable: " + best.pattern
	default:
		c.note = "it is " + best.pattern
	}
	return c, true
}

// submountConcern judges what else comes along.
func submountConcern(table []guard, m spec.Mount, s spec.Source) (concern, bool) {
	for _, sub := range s.Submounts {
		if sub.Mounted && m.NonRecursive {
			continue
		}
		if slices.Contains(sub.Aliases, "/") {
			return concern{rule: "bind-root", why: "the root of the host, which is also at " + shown(sub.Path)}, true
		}
		if isKernelFS(sub.FS, 0) && sub.FS != "autofs" {
			return concern{rule: "bind-kernel", why: "the kernel's own files (" + shown(sub.FS) + "), mounted below it at " + shown(sub.Path)}, true
		}
		if c, hit := nameConcern(table, sub.Aliases, !m.ReadOnly); hit {
			c.note += ", which comes along at " + shown(sub.Path)
			return c, true
		}
	}
	return concern{}, false
}

// bindSources makes the check of a rule: it reports the sources that are its
// concern.
func bindSources(rule Rule) func(*Request) []Finding {
	return func(r *Request) (found []Finding) {
		for i, c := range r.sourceConcerns() {
			m, s := r.Workload.Mounts[i], r.Sources[i]
			if c.rule != rule.ID || s.Denied && !r.Site.forRequest(r).permits(deniedNeed(m, s)) {
				continue
			}
			f := Finding{Flag: mountFlag(m), Why: either(c.why, rule.GivesAway)}
			if c.note != "" {
				f.Why += " (" + c.note + ")"
			}
			if rule.Grant != "" && s.Err == "" && cleanPath(s.Real) {
				f.Need = Need{Key: "binds", Value: s.Real, ReadOnly: m.ReadOnly}
			}
			found = append(found, f)
		}
		return found
	}
}

// deniedSources are the binds the caller has no right to. Without a grant that
// is all there is to say of them: what lies behind closed doors, and whether
// anything does, is not for the caller.
func deniedSources(r *Request) (found []Finding) {
	for i, m := range r.Workload.Mounts {
		if s := r.Sources[i]; m.Type == spec.MountBind && s.Denied {
			found = append(found, Finding{
				Flag: mountFlag(m),
				Why:  "what uid " + uid(r.Caller) + ", who called sudo, may not " + deniedAccess(m),
				Need: deniedNeed(m, s),
			})
		}
	}
	return found
}

func deniedAccess(m spec.Mount) string {
	if m.ReadOnly {
		return "read"
	}
	return "read and write"
}

func deniedNeed(m spec.Mount, s spec.Source) Need {
	p := path.Clean(s.Asked)
	if !cleanPath(p) || p == "/" {
		return Need{}
	}
	// Where a link leads that the caller cannot see is not said, and not granted.
	return Need{Key: "binds", Value: p, ReadOnly: m.ReadOnly, Void: s.Real != "" && s.Real != p}
}

// sourceConcerns judges all mounts, once for all rules that ask. The zero
// concern is none.
func (r *Request) sourceConcerns() []concern {
	if r.concerns != nil || len(r.Workload.Mounts) == 0 {
		return r.concerns
	}
	r.concerns = make([]concern, len(r.Workload.Mounts))
	table := guards()
	for _, p := range r.Stores {
		table = append(table, guard{p, "bind-container-store", all, all})
	}
	for i, m := range r.Workload.Mounts {
		if m.Type != spec.MountBind {
			continue
		}
		s, ok := r.Sources[i]
		if !ok {
			s = spec.Source{Asked: m.Source, Err: "nobody looked at it"}
		}
		c, hit := sourceConcern(table, m, s)
		if !hit {
			c = linkConcern(s, r.Caller)
		}
		r.concerns[i] = c
	}
	return r.concerns
}

// mountFlag spells a mount as it was asked for.
func mountFlag(m spec.Mount) string {
	var s string
	switch m.Origin {
	case "--mount":
		s = "type=" + string(m.Type)
		if m.Source != "" {
			s += ",source=" + m.Source
		}
		s += ",target=" + m.Target
		if m.ReadOnly {
			s += ",readonly"
		}
	case "-v", "--volume":
		s = m.Target
		if m.Source != "" {
			s = m.Source + ":" + m.Target
		}
		if m.ReadOnly {
			s += ":ro"
		}
	default:
		s = m.Target
	}
	return either(m.Origin, "mount") + " " + shown(s)
}

func sourceRules() []Rule {
	rules := []Rule{
		{
			ID: "bind-root", Title: "The root of the host",
			GivesAway: "the whole host: every file, every secret, every other container",
			SaferWay:  "bind the one directory the program works on",
		},
		{
			ID: "engine-socket", Title: "Control sockets of container engines",
			GivesAway: "the container engine: who can connect is root of the host",
			SaferWay:  "let a program outside the container talk to the engine, and give the container its result",
		},
		{
			ID: "bind-missing", Title: "Sources that do not exist",
			GivesAway: "a directory nobody meant would be created on the host, as root",
			SaferWay:  "create it first (mkdir -p), or use a named volume: -v NAME:/DIR",
		},
		{
			ID: "bind-unreadable", Title: "Sources that cannot be judged",
			GivesAway: "it cannot be told what it is",
			SaferWay:  "name a file or directory on a local filesystem",
		},
		{
			ID: "bind-magic-link", Title: "Magic links of procfs",
			GivesAway: "whatever another process has as its root, directory or open file at that moment",
			SaferWay:  "write the real path",
		},
		{
			ID: "bind-link", Title: "Links of others", Grant: "binds",
			GivesAway: "the choice of what is bound to whoever owns the link",
			SaferWay:  "write the path it leads to, once you have looked: realpath(1) prints it",
		},
		{
			ID: "bind-device", Title: "Device nodes as files",
			GivesAway: "a device of the host, past the list of allowed devices",
			SaferWay:  "use --device; to hide a file, bind an empty one",
		},
		{
			ID: "bind-fifo", Title: "Named pipes", Grant: "binds",
			GivesAway: "a channel to the program at the other end",
			SaferWay:  "use standard input and output",
		},
		{
			ID: "bind-kernel", Title: "Files of the kernel", Grant: "binds",
			GivesAway: "the kernel's own files, which change or reveal the host",
			SaferWay:  "the container has its own /proc, /sys and /dev; run monitors of the host on the host",
		},
		{
			ID: "bind-container-store", Title: "State of engines and other containers", Grant: "binds",
			GivesAway: "the files of other containers, and of the engine that runs them",
			SaferWay:  "share data by a named volume: -v NAME:/DIR",
		},
		{
			ID: "bind-secret", Title: "Keys, passwords and tokens", Grant: "binds",
			GivesAway: "keys, passwords or tokens of the host",
			SaferWay:  "copy the one file the program needs to a directory of its own and bind that, read-only",
		},
		{
			ID: "bind-home", Title: "Whole home directories", Grant: "binds",
			GivesAway: "a whole home, with its keys and its login scripts",
			SaferWay:  "bind the project directory: -v \"$PWD\":/DIR",
		},
		{
			ID: "bind-startup", Title: "Files a login or a tool executes", Grant: "binds",
			GivesAway: "code that runs as that user at the next login",
			SaferWay:  "bind it read-only (:ro)",
		},
		{
			ID: "bind-system", Title: "System directories", Grant: "binds",
			GivesAway: "the programs and configuration of the host",
			SaferWay:  "bind the one file or directory below it that is needed, read-only (:ro)",
		},
		{
			ID: "socket", Title: "Sockets of other services", Grant: "binds",
			GivesAway: "a service of the host that trusts local callers",
			SaferWay:  "bind a directory without the socket, or remove it if nothing listens there any more",
		},
	}
	for i := range rules {
		rules[i].Check = bindSources(rules[i])
	}
	return append(rules, Rule{
		ID: "bind-caller", Title: "Files the caller has no right to", Grant: "binds",
		GivesAway: "what is closed to the user who called sudo",
		SaferWay:  "bind a directory of your own, read-only (:ro) if that is your right, or use a named volume: -v NAME:/DIR",
		Check:     deniedSources,
	})
}
